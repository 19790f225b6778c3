"""The pages in a real headless Chromium: what runs, what leaves, what the keys do, what a reader without a mouse or
with little sight meets. Skipped where Chromium or playwright is not installed; axe-core's part needs
``LEAKHARNESS_NODE_MODULES``, a ``node_modules`` folder with ``axe-core`` (``npm install --ignore-scripts axe-core``).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from leakharness.model import Certificate, Excerpt, Family, Growth, Reading, Retainer, RunResult
from leakharness.printable import encodable
from leakharness.report.formats import render_documents
from leakharness.report.material import Material
from leakharness.report.trend import Budget, points_of, trend_of
from leakharness.report.trend_page import trend_page

playwright = pytest.importorskip("playwright.sync_api")
BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
AXE = Path(os.environ.get("LEAKHARNESS_NODE_MODULES", "")) / "axe-core" / "axe.min.js"
pytestmark = pytest.mark.skipif(not BROWSER, reason="no Chromium here")

ATTACK = "<img src=x onerror='window.hacked=1'></script><script>window.hacked=1</script>\"'`{{ 7*7 }}\x1b[31m\u202e"
"""A name that runs where a text is not escaped."""


def series(per_run: int) -> tuple[Reading, ...]:
    rows = (Reading(f"batch-{at}", 50 * at, {"objects": 9 + 50 * at * per_run, "fds": 3}) for at in range(1, 6))
    return (Reading("baseline", 0, {"objects": 9, "fds": 3}), *rows)


def result(name: str, per_run: int) -> RunResult:
    leaks = per_run > 0
    path = (f"sys.modules['{name}']", f"{name}.KEPT (list)[*]", "on_settled (app.py:2) closure cell 'kept'", name)
    growth = Growth("objects", float(per_run), leaks, f"{name}: rose", declared=0.5 if leaks else 0.0)
    return RunResult(
        scenario=name,
        mode=name,
        verdict="FAIL" if leaks else "PASS",
        must="FAIL" if leaks else "PASS",
        reason=name,
        reproduce=f"leakharness run {name}",
        runs=250,
        warmup_runs=100,
        duration_s=1.5,
        series=series(per_run),
        growth=(growth, Growth("fds", 0.0, False, "steady: stands still")),
        families=(Family(f"small {name}", 1.0, 48.0), Family("large", 9.0, 5.0)) if leaks else (),
        retainers=(Retainer(name, 250, 5000, path, f"fingerprint {name}", name, also=(name,)),) if leaks else (),
        blind={"fds": name},
        forgiven=(name,),
        notes=(name,),
        snapshots=("x.heapsnapshot",),
    )


def session(name: str) -> dict[str, Any]:
    row = {"nodeid": name, "verdict": "FAIL", "how": "full", "runs": 70, "seconds": 1.0, "what": name}
    file = {"file": name, "lane": name, "left": 4096, "by_import": 1, "objects": 2, "blocks": 3}
    return {
        "schema": "leakharness.session/1",
        "command": f"pytest {name}",
        "python": "3.12.1",
        "platform": name,
        "started": "2026-01-01T00:00:00Z",
        "duration_s": 2.0,
        "rows": [row, {**row, "verdict": "PASS", "how": "quick", "seconds": 2.0}],
        "more_rows": 1,
        "causes": [{"verdict": "FAIL", "what": name, "tests": [name, name], "result": 0}],
        "lanes": [{"lane": name, "files": 1, "peak": 4096, "total": 4096, "at": name}],
        "files": [file, {**file, "left": -4096}],
    }


def investigation(name: str) -> dict[str, Any]:
    family = {"type": name, "size_delta": 4096, "count_delta": 64, "class": "runtime-objects", "evidence": name}
    memory = session(name)
    return {
        "schema": "leakharness.investigation/1",
        "command": name,
        "lane": name,
        "pid": 7,
        "snapshots": 3,
        "before": name,
        "after": name,
        "nodes": [1, 2],
        "likely": "real leak",
        "families": [{**family, "path": ["root", name, name], "rose_in": [1, 2], "file": name, "sizes": [1, 5, 9]}],
        "imported": [{"package": name, "modules": 3}],
        "loaded_before": 0,
        "lanes": [name],
        "read": [name],
        "headline": name,
        "findings": [f"leak: `{name}`"],
        "advice": [name],
        "checked": [name],
        "memory": {"lanes": memory["lanes"], "files": memory["files"]},
    }


def proof(name: str) -> dict[str, Any]:
    leaky, clean = result(name, 2), result(name, 0)
    side = {"asked": [name], "commit": name, "source": name}
    held = leaky.retainers[0].document()
    return {
        "schema": "leakharness.prove/1",
        "scenario": name,
        "mode": name,
        "verdict": "PROVEN",
        "reason": name,
        "reproduce": name,
        "before": {**side, "arms": [leaky.document()] * 2},
        "after": {**side, "arms": [clean.document()] * 2},
        "controls": [leaky.document()],
        "paths": {"vanished": [held], "remaining": [], "new": [{**held, "fingerprint": "new"}]},
    }


def calibration(name: str) -> dict[str, Any]:
    row = {"planted": name, "repeats": 3, "found": 0, "not_judged": 0, "runs": 250, "seen": name}
    rows = [row, {**row, "found": 2, "not_judged": 1}]
    return {
        "schema": "leakharness.calibrate/1",
        "scenario": name,
        "false_alarm_rate": 0.0,
        "reason": name,
        "rows": rows,
    }


def material(name: str) -> Material:
    lines = (f"# {name}", f"def on_settled(): {name}")
    function = Excerpt("function", "app.py", 2, 1, lines, (2,), changed=True)
    bar = {"count": 3, "shallow_bytes": 10, "retained_bytes": 400}
    below = [{**bar, "type": name, "children": [{**bar, "type": "leaf", "retained_bytes": 300, "children": []}]}]
    second = {**bar, "type": "second", "retained_bytes": 100, "children": []}
    heap = {"reachable_bytes": 600, "rows": [{**bar, "type": "first", "children": below}, second]}
    excerpts = (function, replace(function, of="registration"))
    return Material(excerpts, {"x.heapsnapshot": heap}, {}, {name: calibration(name)})


def trend(name: str) -> str:
    def at(seconds: float) -> Any:
        return points_of({**result(name, 2).document(), "must": "PASS", "duration_s": seconds}, name, name, name, name)

    return trend_page(trend_of(at(1) + at(9), Budget({"duration_s": 1})))


PAGES: dict[str, Callable[[str], str]] = {
    "certificate": lambda name: render_documents(
        [Certificate(name, "CERTIFIED", name, (result(name, 0), result(name, 2)), (name,)).document()],
        "html",
        material(name),
    ),
    "fail": lambda name: render_documents([replace(result(name, 2), must="PASS").document()], "html", material(name)),
    "prove": lambda name: render_documents([proof(name)], "html", material(name)),
    "investigation": lambda name: render_documents([investigation(name)], "html"),
    "session": lambda name: render_documents([session(name), result(name, 2).document()], "html", material(name)),
    "calibration": lambda name: render_documents([calibration(name), calibration(name)], "html"),
    "trend": trend,
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as tools:
        chromium = tools.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens a page by its name; ends in a failure where anything was reported on its console, asked of the network, or
    run that came from a name."""
    contexts: list[Any] = []
    faults: list[str] = []

    def open_page(name: str, text: str = "Thing", **how: Any) -> Any:
        path = tmp_path / f"{name}.html"
        path.write_bytes(encodable(PAGES[name](text)).encode())
        context = browser.new_context(**{"viewport": {"width": 1100, "height": 800}, **how})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: faults.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: faults.append(f"error: {error}"))
        page.on("request", lambda asked: asked.url == path.as_uri() or faults.append(f"request: {asked.url}"))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            assert page.evaluate("window.hacked") is None
        context.close()
    assert faults == []


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_names_of_a_program_stay_text(opened: Callable[..., Any], name: str) -> None:
    """Wherever one stands: no element comes of it, nothing runs, nothing is asked for; what would turn the reading
    direction around is shown as what it is."""
    page = opened(name, ATTACK)
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == (0 if name == "trend" else 1)
    text = page.inner_text("body")
    assert "<img src=x" in text
    assert "{{ 7*7 }}" in text
    assert "\u202e" not in text


@pytest.mark.parametrize("name", PAGES)
def test_a_narrow_screen_scrolls_in_one_direction(opened: Callable[..., Any], name: str) -> None:
    """400 CSS pixels: what is wider scrolls by itself."""
    page = opened(name, "a_long_name_of_a_package." * 6, viewport={"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


@pytest.mark.slow
@pytest.mark.skipif(not AXE.is_file(), reason="LEAKHARNESS_NODE_MODULES names no folder with axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing(opened: Callable[..., Any], name: str, scheme: str) -> None:
    """Contrast, labels, order of headings, what the keyboard reaches; with everything unfolded."""
    page = opened(name, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true })")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run().then((found) => found.violations)")
    told = [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in found]
    assert told == []


def test_a_table_is_sorted_by_mouse_and_by_keyboard(opened: Callable[..., Any]) -> None:
    """Largest first, then smallest first, by value and not by text; the head says which."""
    page = opened("fail")
    table = page.locator("table.sortable").first
    head = table.locator("th").nth(1)

    def first() -> str:
        return str(table.locator("tbody tr td").first.inner_text())

    head.locator("button").click()
    assert (head.get_attribute("aria-sort"), first()) == ("descending", "large")
    page.keyboard.press("Enter")
    assert (head.get_attribute("aria-sort"), first()) == ("ascending", "small Thing")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") is None
    assert (table.locator("th").nth(2).get_attribute("aria-sort"), first()) == ("descending", "small Thing")


def test_the_retainers_open_and_close_as_a_tree(opened: Callable[..., Any]) -> None:
    """By the buttons, by a click, and by the arrows as in DevTools; the source of the closure is in it."""
    page = opened("fail")
    tree = page.locator(".tree[data-tools]")
    object_ = tree.locator("li.leafless b")
    assert object_.is_visible()
    assert tree.get_by_text("def on_settled(): Thing").first.is_visible()
    page.get_by_role("button", name="Close all").click()
    assert not object_.is_visible()
    page.get_by_role("button", name="Open all").click()
    assert object_.is_visible()
    root = tree.locator("summary").first
    root.click()
    assert not object_.is_visible()
    page.keyboard.press("ArrowRight")
    assert object_.is_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    assert not object_.is_visible()
    page.keyboard.press("ArrowLeft")  # of a closed one: to the one above
    assert root.evaluate("(summary) => summary === document.activeElement")


def test_the_dominators_are_entered_and_left(opened: Callable[..., Any]) -> None:
    """By a click, by the arrows and Enter; Escape shows everything again. One stop of the Tab key."""
    page = opened("fail")
    ice = page.locator("svg.ice")
    names = ["reachable", "smaller", "first", "Thing", "leaf", "second"]
    bars = {name: ice.locator("svg.cell").nth(at) for at, name in enumerate(names)}
    for name, bar in bars.items():
        assert name in bar.locator("text").text_content()
    assert bars["leaf"].get_attribute("width") == "50.0%"
    bars["Thing"].click()
    assert float(bars["leaf"].get_attribute("width").rstrip("%")) == pytest.approx(75, abs=0.01)
    assert not bars["second"].is_visible()
    assert (
        page.locator(f"#{ice.get_attribute('id')}-says").inner_text()
        == "×3 Thing 400 B, retained: 66.7 % of all, below first"
    )
    assert ice.locator("[tabindex='0']").count() == 1
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert bars["leaf"].get_attribute("width") == "100%"
    page.keyboard.press("Escape")
    assert bars["second"].is_visible()
    for key in ("ArrowDown", "ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("×3 first")


def test_the_command_is_copied(opened: Callable[..., Any]) -> None:
    """By mouse or keyboard; the button says so."""
    page = opened("fail")
    button = page.locator("button[data-copy]").first
    button.focus()
    page.keyboard.press("Enter")
    playwright.expect(button).to_have_text("Copied")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["certificate", "fail", "prove", "investigation", "session", "trend"])
def test_it_can_be_read_without_javascript_and_on_paper(opened: Callable[..., Any], browser: Any, name: str) -> None:
    """The plots are drawn, the tree is open, no button does nothing; printed, all of it is unfolded."""
    page = opened(name, java_script_enabled=False)
    assert page.locator("svg:visible polyline").count() > 0
    assert page.locator("button:visible").count() == 0
    if name in ("fail", "prove"):
        assert page.locator(".tree b").first.is_visible()
    page = opened(name)
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    assert page.locator("button[data-copy]:visible").count() == 0
