"""What scenario files declare, read in a fresh process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leakharness.errors import NotJudged, UsageError
from leakharness.measure.worker_process import WorkerProcess
from leakharness.options import DEFAULTS
from leakharness.scenario.find import ScenarioRef
from leakharness.worker.codec import plain
from leakharness.worker.protocol import DESCRIBE, Failure, FileFacts, ScenarioFacts

__all__ = ["declaration_of", "describe", "document_of"]


def describe(paths: Sequence[Path], python: str, *, timeout: float | None = None) -> dict[str, FileFacts]:
    """What each of the scenario files declares, by its resolved path. ``timeout``: seconds for all of them
    [the default of ``--timeout``]."""
    names = [str(path.resolve()) for path in paths]
    seconds = DEFAULTS["timeout"] if timeout is None else timeout
    try:
        with WorkerProcess(python, deadline=time.monotonic() + seconds) as worker:
            return worker.request(DESCRIBE, names, doing="reading the declarations").files
    except NotJudged as exc:
        if len(paths) > 1:  # one file ended the process: the others are read without it
            return {
                name: answer for path in paths for name, answer in describe([path], python, timeout=timeout).items()
            }
        return {names[0]: FileFacts(failure=Failure.of(exc))}


def declaration_of(
    found: ScenarioRef, python: str, *, timeout: float | None = None, worker: WorkerProcess | None = None
) -> ScenarioFacts:
    """The declaration of one scenario that was found, read in ``worker`` [a fresh process of ``python``].

    Raises UsageError for a scenario that is not there or is declared wrongly, NotJudged where its file cannot be read.
    """
    path = str(found.path.resolve())
    if worker is None:
        answer = describe([found.path], python, timeout=timeout)[path]
    else:
        answer = worker.request(DESCRIBE, [path], doing="reading the declarations").files[path]
    if answer.failure is not None:
        raise answer.failure.error()
    for scenario in answer.scenarios:
        if found.name is None or scenario.name == found.name:
            return scenario
    raise UsageError(f"{found.path}: no scenario {found.name!r}")


def document_of(scenario: ScenarioFacts) -> dict[str, Any]:
    """The declaration as JSON has it."""
    document: dict[str, Any] = plain(scenario)
    return document
