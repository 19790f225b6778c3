"""A logging filter added per run stays on a logger that never dies.

Why it leaks. Loggers are held by the logging module for as long as the process lives, and a logger holds its
handlers and filters. To put the request's id on each line, a handler adds a filter that closes over the
request, and removes it in its last line, which a failing request does not reach. The filter stays, and with
it the request; and every line that is logged from then on is passed through all of them.

Loggers made per request (``getLogger(f"request.{id}")``) leak in the same way without any filter: the name
itself is kept for ever, and the logger under it.

The fix: one filter, installed once, that reads a context variable; or ``LoggerAdapter``, which lives with the
request. Here: added and removed in one context manager, with the removal in ``finally``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from leakharness import Run, Scenario

scenario = Scenario("logging-filter", summary="a filter that closes over the request stays on the service's logger")

LOGGER = logging.getLogger("leakharness-gallery.service")
LOGGER.addHandler(logging.NullHandler())
LOGGER.propagate = False


class Request:
    """What the filter takes the id from, and so all of it."""

    def __init__(self, index: int, size: int) -> None:
        self.id = f"request-{index}"
        self.body = bytes(size)


class RequestFailed(Exception):
    """The request ends by an error."""


class AddId(logging.Filter):
    """Puts one request's id on each line: holds the id, not the request."""

    def __init__(self, request_id: str) -> None:
        super().__init__()
        self.request_id = request_id

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = self.request_id
        return True


@contextmanager
def filtered(add_id: logging.Filter) -> Iterator[None]:
    """``add_id`` is on the logger for the time of the block, however it ends."""
    LOGGER.addFilter(add_id)
    try:
        yield
    finally:
        LOGGER.removeFilter(add_id)


def refuse(request: Request) -> None:
    """The handler: it logs, and fails."""
    LOGGER.warning("refused %d bytes", len(request.body))
    raise RequestFailed


@scenario.mode("closure-extracted", must="PASS", default=True, abort="raise")
def closure_extracted(run: Run) -> None:
    """The shape of the fix: the filter leaves with the request."""
    request = run.track(Request(run.index, run.scope_bytes))
    with filtered(AddId(request.id)):
        refuse(request)


@scenario.mode("closure-inline", must="FAIL", abort="raise")
def closure_inline(run: Run) -> None:
    """The shape before the fix: the filter closes over the request, and its removal is not reached."""
    request = run.track(Request(run.index, run.scope_bytes))

    def add_request_id(record: logging.LogRecord) -> bool:
        record.request_id = request.id
        return True

    LOGGER.addFilter(add_request_id)
    refuse(request)
    LOGGER.removeFilter(add_request_id)
