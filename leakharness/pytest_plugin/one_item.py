"""One test of a suite as the body of a scenario: collected and set up once, in the measured process, by the pytest that
is there, and run as often as the harness asks.

The session is the usual one up to the moment at which pytest would run its tests; that moment is ours.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leakharness.scenario.declare import Run
from leakharness.worker.runs import RunFailed

__all__ = ["OneItem"]

OPTIONS = ("--capture=no", "-p", "no:cacheprovider", "-p", "no:leakharness", "-p", "no:terminal", "-o", "addopts=")
"""What a project adds to every command line (workers, coverage, reports) has no place here."""


class OneItem:
    """The test ``node`` of the project at ``root``: its id, as pytest prints it."""

    def __init__(self, root: str, node: str) -> None:
        self._root = root
        self._node = node
        self._make: Any = None

    def set_up(self, run: Run) -> Iterator[None]:
        """Collect the test, set its fixtures up, and run it once; what follows the ``yield`` tears all of it down.
        Raises RunFailed for what is not one test, and what the test itself raises."""
        from _pytest.config import _prepareconfig
        from _pytest.main import Session

        from leakharness.pytest_plugin.item_body import TestBody

        os.chdir(self._root)
        file, _, rest = self._node.partition("::")
        config = _prepareconfig([*OPTIONS, f"--rootdir={self._root}", f"{Path(self._root, file)}::{rest}"])
        session = Session.from_config(config)
        with contextlib.ExitStack() as stack:
            stack.callback(config._ensure_unconfigure)
            config._do_configure()
            config.hook.pytest_sessionstart(session=session)
            stack.callback(config.hook.pytest_sessionfinish, session=session, exitstatus=0)
            config.hook.pytest_collection(session=session)
            if len(session.items) != 1:
                raise RunFailed(
                    f"{self._node} is {len(session.items)} tests: name one, as `pytest --collect-only` does"
                )
            item: Any = session.items[0]
            stack.callback(session._setupstate.teardown_exact, None)
            item.ihook.pytest_runtest_setup(item=item)
            body = stack.enter_context(TestBody(item, item.runtest, fresh=True))
            if not body.first():
                raise RunFailed(f"{self._node} failed in its first run: what fails by itself cannot be measured")
            self._make = body.maker(Run())
            yield

    def again(self) -> None:
        """One more run of it."""
        self._make(1)
