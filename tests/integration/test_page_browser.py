"""The page of a report in a real browser, where one is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from leakharness.model import Family, Growth, Reading, RunResult
from leakharness.report.formats import render_documents

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)


@pytest.mark.skipif(not BROWSER, reason="no Chromium here")
def test_the_page_runs_in_a_browser_and_no_name_of_the_program_does(tmp_path: Path) -> None:
    """Its script adds the copy and the sort buttons; a name that is markup stays text, and runs nothing."""
    attack = "<img src=x onerror=\"document.body.innerHTML=''\"></script><script>document.body.innerHTML=''</script>"
    result = RunResult(
        scenario=attack,
        mode=attack,
        verdict="FAIL",
        must="PASS",
        reason=attack,
        reproduce="leakharness run x",
        series=(Reading("baseline", 0, {"objects": 0}), Reading("batch-1", 250, {"objects": 250})),
        growth=(Growth("objects", 1.0, True, attack),),
        families=(Family(attack, 1.0, 48.0),),
    )
    page = tmp_path / "page.html"
    page.write_text(render_documents([result.document()], "html"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [BROWSER, *flags, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert '<button type="button" data-copy="leakharness run x">Copy</button>' in done.stdout
    assert '<button type="button">type</button>' in done.stdout
    assert "<img" not in done.stdout
    assert 'points="4.0,82.0 256.0,14.0"' in done.stdout
