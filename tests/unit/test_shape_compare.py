"""A drifted fixture is caught, with what the drift can do; a renamed one is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from leakharness.errors import OptionError, ScenarioError, UnknownScenario
from leakharness.scenario.outline import outlines_in
from leakharness.shape import check_shape
from leakharness.shape.compare import Comparison, compare
from leakharness.shape.model import Shape, shape_of_code
from leakharness.shape.read import module_shape, shape_of_source

ORIGINAL = """
async def attempt(provider, transcript, deadline):
    buffers = []
    sent = 0
    log = deadline
    def on_done(future):
        buffers.append((future, transcript))
        for part in buffers:
            loop.call_soon(on_progress)
    def on_progress():
        nonlocal sent
        sent += 1
    task = provider.start()
    await provider.ready()
    task.add_done_callback(on_done)
    provider.listeners.append(lambda event, log=log: (event, sent))
    try:
        with provider.lock:
            return await task
    except TimeoutError:
        raise
    finally:
        log = None
"""

FIXTURE = '''
from leakharness import Run, Scenario

scenario = Scenario("attempt", mimics="original:attempt")

def use(*objects: object) -> None:
    """Does nothing."""

def keep(*objects: object) -> None:
    KEPT.append(objects)

@scenario.mode("closure-extracted", default=True)
async def fixed(run: Run) -> None:
    pass

@scenario.mode("closure-inline", must="FAIL")
async def attempt(run: Run) -> None:
    provider = run.hold(Provider())
    transcript = run.track(Payload(run.scope_bytes), "transcript")
    deadline = None
    buffers = run.track(Payload(run.index), "buffers")
    sent = 0
    log = "log"
    task = run.wedged()
    def on_done(future):
        use(future, transcript, buffers)
        loop.call_soon(on_progress)
    def on_progress():
        use(sent, run)
    use(on_done, deadline)
    run.hold(on_progress)
    await asyncio.sleep(0)
    task.add_done_callback(on_done)
    provider.listeners.append(lambda event, log=log: use(event, sent))
    try:
        with provider:
            await task
    except OSError:
        raise
    finally:
        log = None
'''


def shape(text: str) -> Shape:
    return shape_of_source(text, module_shape(text).children[0].line)


def compared(tmp_path: Path, fixture: str, original: str = ORIGINAL) -> Comparison:
    (tmp_path / "original.py").write_text(original)
    (tmp_path / "scene.py").write_text(fixture)
    return check_shape(str(tmp_path / "scene.py"), root=tmp_path).comparison


def facts(comparison: Comparison) -> list[str]:
    return [f"{d.effect}: {d.where}: {d.what}" for d in comparison.differences if d.effect != "harmless"]


def test_the_same_shape_is_the_same(tmp_path: Path) -> None:
    """What the harness adds (track, hold, wedged, run itself, idle helpers) is no difference."""
    comparison = compared(tmp_path, FIXTURE)
    assert facts(comparison) == []
    assert comparison.verdict == "SAME"
    assert not comparison.can_hide
    assert comparison.names == ()


RENAMES = {
    "transcript": "payload",
    "buffers": "scratch",
    "on_done": "settled",
    "on_progress": "progressed",
    "sent": "count",
    "log": "journal",
    "task": "future_",
    "provider": "upstream",
    "deadline": "limit",
    "event": "happened",
}


def renamed(text: str) -> str:
    head, mark, body = text.partition("async def attempt(")
    for old, new in RENAMES.items():
        body = body.replace(old, new)
    return head + mark + body


def test_other_names_are_no_difference_and_are_mapped(tmp_path: Path) -> None:
    """Every variable, parameter and function renamed: SAME, and the map says what became what."""
    comparison = compared(tmp_path, renamed(FIXTURE))
    assert facts(comparison) == []
    assert dict(comparison.names).items() >= {
        ("transcript", "payload"),
        ("buffers", "scratch"),
        ("on_done", "settled"),
        ("on_progress", "progressed"),
        ("sent", "count"),
        ("log", "journal"),
    }


def test_what_the_harness_holds_is_taken_for_no_rename(tmp_path: Path) -> None:
    """A variable for an object of the harness stands for none of the original's that it does not share a
    name with.
    """
    comparison = compared(tmp_path, FIXTURE.replace("deadline", "slot").replace("slot = None", "slot = run.hold(1)"))
    assert comparison.names == ()
    assert comparison.verdict == "SAME"


MUTATIONS = {
    "capture dropped": (
        "use(future, transcript, buffers)",
        "use(future, buffers)",
        "hides: attempt.on_done: does not capture transcript",
    ),
    "capture added": (
        "use(sent, run)",
        "use(sent, run, deadline)",
        "fakes: attempt.on_progress: captures deadline, the original does not",
    ),
    "capture swapped": (
        "use(sent, run)",
        "use(deadline, run)",
        "hides: attempt.on_progress: does not capture sent",
    ),
    "registration moved before the await": (
        "    await asyncio.sleep(0)\n    task.add_done_callback(on_done)\n",
        "    task.add_done_callback(on_done)\n    await asyncio.sleep(0)\n",
        "hides: attempt: ",
    ),
    "registration dropped": (
        "    task.add_done_callback(on_done)\n",
        "",
        "hides: attempt: task.add_done_callback(on_done): missing",
    ),
    "registration added": (
        "    try:\n",
        "    provider.later(on_progress)\n    try:\n",
        "fakes: attempt: provider.later(on_progress): only in the fixture",
    ),
    "registered with another call": (
        "task.add_done_callback(on_done)",
        "task.add_listener(on_done)",
        "hides: attempt: task.add_done_callback(on_done): missing",
    ),
    "inner registration dropped": (
        "        loop.call_soon(on_progress)\n",
        "        on_progress()\n",
        "hides: attempt.on_done: loop.call_soon(on_progress): missing",
    ),
    "taken back": (
        "    finally:\n",
        "    finally:\n        task.remove_done_callback(on_done)\n",
        "hides: attempt: task.remove_done_callback(on_done): only in the fixture",
    ),
    "await dropped": ("            await task\n", "            task.done()\n", "hides: attempt: await: missing"),
    "await added": (
        "    use(on_done, deadline)\n",
        "    await run.wedged()\n",
        "hides: attempt: await: only in the fixture",
    ),
    "default value dropped": (
        "lambda event, log=log:",
        "lambda event, log=None:",
        "hides: attempt.<lambda>: the original keeps log by a default value, the fixture does not",
    ),
    "release dropped": ("        log = None\n", "        pass\n", "fakes: attempt: release log: missing"),
    "release added": (
        "    try:\n",
        "    del transcript\n    try:\n",
        "hides: attempt: release transcript: only in the fixture",
    ),
    "finally dropped": (
        "    finally:\n        log = None\n",
        "",
        "fakes: attempt: finally: missing",
    ),
    "with dropped": (
        "        with provider:\n            await task\n",
        "        await task\n",
        "fakes: attempt: with: missing",
    ),
    "except dropped": ("    except OSError:\n        raise\n", "", "hides: attempt: except TimeoutError: missing"),
    "function dropped": (
        "    provider.listeners.append(lambda event, log=log: use(event, sent))\n",
        "    provider.listeners.append(sent)\n",
        "hides: attempt: lambda(event, log) [sent] is missing",
    ),
    "function added": (
        "    try:\n",
        "    provider.listeners.append(lambda: transcript)\n    try:\n",
        "fakes: attempt: lambda() [transcript] is only in the fixture",
    ),
    "not async any more": (
        "    def on_progress():\n",
        "    async def on_progress():\n",
        "hides: attempt.on_progress: the original is a function, the fixture an async function",
    ),
}


@pytest.mark.parametrize("rename", [False, True], ids=["", "renamed"])
@pytest.mark.parametrize(("old", "new", "expected"), MUTATIONS.values(), ids=MUTATIONS.keys())
def test_each_drift_is_caught_with_its_effect(tmp_path: Path, old: str, new: str, expected: str, rename: bool) -> None:
    """One change of the fixture at a time, with the original's names and with others."""
    assert old in FIXTURE
    mutated = FIXTURE.replace(old, new)
    comparison = compared(tmp_path, renamed(mutated) if rename else mutated)
    assert comparison.verdict == "DRIFTED"
    found = facts(comparison)
    if rename:
        assert any(fact.startswith(expected.partition(":")[0]) for fact in found)
    else:
        assert any(fact.startswith(expected) for fact in found), found


HARMLESS = {
    "local added": ("    sent = 0\n", "    sent = 0\n    more = 1\n"),
    "local dropped": ("    deadline = None\n", "    use()\n"),
    "list comprehension added": ("    sent = 0\n", "    sent = 0\n    use([transcript for _ in ()])\n"),
    "uncaptured function added": ("    sent = 0\n", "    sent = 0\n    def helper(): return 1\n"),
    "underscore": ("    sent = 0\n", "    sent = 0\n    _ = (1, 2)\n"),
}


@pytest.mark.parametrize(("old", "new"), HARMLESS.values(), ids=HARMLESS.keys())
def test_what_no_closure_keeps_is_harmless(tmp_path: Path, old: str, new: str) -> None:
    """Differences that can neither hide nor fake a leak leave the verdict SAME."""
    text = FIXTURE.replace(old, new).replace("use(on_done, deadline)", "use(on_done)")
    assert facts(compared(tmp_path, text)) == []


def test_a_local_matters_where_the_frame_itself_is_kept() -> None:
    """A generator that is handed over keeps its whole frame: a local that is missing hides what it held."""
    original = "def f(keep):\n    def g():\n        big = 1\n        yield\n    keep(g())\n"
    fixture = "def f(keep):\n    def g():\n        yield\n    keep(g())\n"
    comparison = compare(shape(fixture), shape(original))
    assert facts(comparison) == ["hides: f.g: has no local for big"]


def test_code_without_source_is_compared_by_captures() -> None:
    """From a live code object: a missing capture is found, steps are not compared."""
    scope: dict[str, object] = {}
    exec("def f(a, b):\n    def g(): return a, b\n    keep(g)\n    return [x + a for x in b]\n", scope)
    live = shape_of_code(scope["f"].__code__)  # type: ignore[attr-defined]
    good = "def f(a, b):\n    def g(): return a, b\n"
    bad = "def f(a, b):\n    def g(): return a\n"
    assert facts(compare(shape(good), live)) == []
    assert facts(compare(shape(bad), live)) == ["hides: f.g: does not capture b"]


def test_rows_stand_side_by_side(tmp_path: Path) -> None:
    """Each row holds the original's line and the fixture's; what is missing on a side is empty and marked."""
    rows = compared(tmp_path, FIXTURE.replace("    task.add_done_callback(on_done)\n", "")).rows
    assert rows[0].suspect == "async def attempt(provider, transcript, deadline)"
    assert rows[0].fixture == "async def attempt()"
    (gone,) = [row for row in rows if not row.same]
    assert (gone.suspect, gone.fixture) == ("task.add_done_callback(on_done)", "")


def test_the_copy_may_stand_in_a_function_of_the_originals_name(tmp_path: Path) -> None:
    """A mode that calls a module level function named like the original has its shape there."""
    original = "def wrap(f):\n    def g(): return f\n    return g\n"
    fixture = (
        "scenario = Scenario('wrap', mimics='original:wrap')\n"
        "def wrap(run):\n    f = 1\n    def g(): return f\n    return g\n"
        "@scenario.mode('closure-inline')\ndef inline(run):\n    run.hold(wrap(run))\n"
    )
    assert facts(compared(tmp_path, fixture, original)) == []
    assert facts(compared(tmp_path, fixture.replace("g(): return f", "g(): return 1"), original))


def test_modes_and_targets_are_read_without_running_the_file(tmp_path: Path) -> None:
    """The declaration is found in the text; a file that would fail when imported is no obstacle."""
    (tmp_path / "scene.py").write_text("raise SystemExit\n" + FIXTURE)
    (declared,) = outlines_in(tmp_path / "scene.py")
    assert (declared.name, declared.mimics) == ("attempt", "original:attempt")
    assert declared.modes == {"closure-extracted": ("fixed", None), "closure-inline": ("attempt", "FAIL")}
    assert declared.mode_to_compare() == "closure-inline"


def test_mistakes_say_what_and_where(tmp_path: Path) -> None:
    """An unknown scenario, mode, target or an unreadable file: one line, exit code 2."""
    file = tmp_path / "scene.py"
    file.write_text(FIXTURE)
    (tmp_path / "original.py").write_text(ORIGINAL)
    name = str(file)
    with pytest.raises(UnknownScenario, match=r"no scenario 'nope'"):
        check_shape("nope", root=tmp_path)
    with pytest.raises(UnknownScenario, match=r"has no mode 'x'; it has closure-extracted, closure-inline"):
        check_shape(name, mode="x", root=tmp_path)
    with pytest.raises(UnknownScenario, match=r"no scenario file .*missing.py"):
        check_shape(str(tmp_path / "missing.py"), root=tmp_path)
    with pytest.raises(OptionError, match=r"defines no function 'nope'. Functions there: attempt"):
        check_shape(name, target="original:nope", root=tmp_path)
    file.write_text(FIXTURE.replace(', mimics="original:attempt"', ""))
    with pytest.raises(OptionError, match=r"does not say what it mimics"):
        check_shape(name, root=tmp_path)
    file.write_text("def f(:\n")
    with pytest.raises(ScenarioError, match=r"scene.py:1: invalid syntax"):
        check_shape(name, root=tmp_path)
    file.write_text(FIXTURE + FIXTURE.replace('"attempt"', '"other"'))
    with pytest.raises(
        ScenarioError, match=r"several scenarios here \(attempt, other\): say which with .*scene.py::NAME"
    ):
        check_shape(name, root=tmp_path)
