"""Scenario files as pytest items: one for each mode, and one for the certificate.

Every item measures in fresh processes, so they spread over xdist's workers (and hosts) like any other test.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leakharness.errors import LeakFound, LeakHarnessError, NotJudged, UsageError
from leakharness.pytest_plugin.options import setting
from leakharness.pytest_plugin.session_page import carry
from leakharness.worker.protocol import ModeFacts, ScenarioFacts

__all__ = ["scenario_file"]

CERTIFICATE = "certificate"
_ARMS = pytest.StashKey[dict[str, Any]]()


def scenario_file(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A collector for ``path`` if it declares scenarios, else None."""
    if path.name.startswith("_") or b"leakharness" not in path.read_bytes():
        return None
    file: pytest.Collector = ScenarioFile.from_parent(parent, path=path)
    return file


class ScenarioFile(pytest.File):
    """One file, read in a fresh process: its scenarios."""

    def collect(self) -> Iterator[pytest.Collector]:
        from leakharness.measure.describe import describe

        answer = describe([self.path], sys.executable)[str(self.path.resolve())]
        if answer.failure is not None:
            raise self.CollectError(answer.failure.reason)
        for declared in answer.scenarios:
            yield ScenarioNode.from_parent(self, name=declared.name, declared=declared)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:  # type: ignore[override]
        if isinstance(excinfo.value, LeakHarnessError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)


class ScenarioNode(pytest.Collector):
    """One scenario: its modes, the synthetic leak and the certificate."""

    def __init__(self, *, declared: ScenarioFacts, **named: Any) -> None:
        super().__init__(**named)
        self.declared = declared
        self.stash[_ARMS] = {}

    def collect(self) -> Iterator[pytest.Item]:
        from leakharness.scenario.declare import SYNTHETIC_LEAK

        line = int(self.declared.where.rpartition(":")[2])
        for mode in self.declared.modes:
            where = int(mode.where.rpartition(":")[2])
            yield ModeItem.from_parent(self, name=mode.name, mode=mode, line=where)
        synthetic = ModeFacts(SYNTHETIC_LEAK, "FAIL")
        yield ModeItem.from_parent(self, name=SYNTHETIC_LEAK, mode=synthetic, line=line)
        yield CertificateItem.from_parent(self, name=CERTIFICATE, line=line)

    def settings(self) -> Any:
        """The options of pytest's command line and ini, as the commands take them."""
        from leakharness.measure.arm import Settings
        from leakharness.pytest_plugin.checks import common_options

        return Settings(
            common_options(self.config), setting(self.config, "leak_target"), defaults={"snapshots": "on-fail"}
        )

    def found(self) -> Any:
        from leakharness.scenario.find import ScenarioRef

        return ScenarioRef(self.declared.name, self.path, 0, "file")

    def measured(self, mode: ModeFacts) -> Any:
        """The mode's RunResult, measured once in this process."""
        from leakharness.measure.arm import run_found

        arms = self.stash[_ARMS]
        if mode.name not in arms:
            result = run_found(self.found(), mode.name, self.settings())
            arms[mode.name] = replace(result, must=mode.must)
        return arms[mode.name]


class _LeakItem(pytest.Item):
    """What the items have in common."""

    parent: ScenarioNode

    def __init__(self, *, line: int, **named: Any) -> None:
        super().__init__(**named)
        self._line = line
        self.add_marker("leakcheck")

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self._line - 1, f"{self.parent.name}::{self.name}"

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        error = excinfo.value
        if isinstance(error, (LeakFound, LeakHarnessError)):
            return str(error)
        return super().repr_failure(excinfo, style)

    def skip_without_target(self, mode: ModeFacts) -> bool:
        return mode.needs_target and not (setting(self.config, "leak_target") or self.parent.declared.target)

    def skip_what_cannot_be_measured(self) -> None:
        """As for ``check --all``."""
        from leakharness.proof.certify import lacks

        lacking = lacks(self.parent.declared)
        if lacking:
            pytest.skip(lacking)

    def skip_without_module(self, mode: ModeFacts) -> bool:
        """As for the certificate: not where it was asked for by naming a target."""
        asked = mode.needs_target and bool(setting(self.config, "leak_target"))
        return bool(mode.missing) and not mode.default and not asked


class ModeItem(_LeakItem):
    """Passes when the mode gives what it must."""

    def __init__(self, *, mode: ModeFacts, **named: Any) -> None:
        super().__init__(**named)
        self._mode = mode

    def runtest(self) -> None:
        from leakharness.report.text import run_block

        self.skip_what_cannot_be_measured()
        if self.skip_without_target(self._mode):
            pytest.skip("imports the real code: say which with --leak-target module:attribute")
        if self.skip_without_module(self._mode):
            module, hint = next(iter(self._mode.missing.items()))
            pytest.skip(f"{module} is not installed ({hint})")
        result = self.parent.measured(self._mode)
        carry(self.config, self.nodeid, result)
        if result.as_demanded:
            return
        text = run_block(result)
        if result.verdict == "FAIL":
            raise LeakFound(text)
        if result.verdict == "NOT_JUDGED":
            raise NotJudged(text)
        raise AssertionError(f"{self.name} must FAIL and passed: the detector or the scenario is blind\n\n{text}")


class CertificateItem(_LeakItem):
    """Passes when every arm gave what it must. Arms that were measured in this process already are not repeated."""

    def runtest(self) -> None:
        from leakharness.proof.certify import certify, check_found
        from leakharness.report.text import certificate_block

        self.skip_what_cannot_be_measured()
        measured = self.parent.stash[_ARMS]
        wanted = [
            mode
            for mode in self.parent.declared.modes
            if not self.skip_without_target(mode)
            and not self.skip_without_module(mode)
            and (mode.must is not None or mode.default)
        ]
        complete = all(mode.name in measured for mode in wanted) and "synthetic-leak" in measured
        if complete:
            arms = [measured[mode.name] for mode in wanted] + [measured["synthetic-leak"]]
            certificate = certify(self.parent.name, [replace(arm, must=arm.must or "PASS") for arm in arms])
        else:
            certificate = check_found(self.parent.found(), self.parent.settings())
        carry(self.config, self.nodeid, certificate)
        if certificate.exit_code == 0:
            return
        text = certificate_block(certificate)
        if certificate.verdict == "LEAK":
            raise LeakFound(text)
        if certificate.verdict == "NOT_JUDGED":
            raise NotJudged(text)
        raise UsageError(text)
