"""A generated scenario has the shape it was made from, and is a file a person can go on with."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from leakharness.errors import OptionError
from leakharness.shape import check_shape, find_function
from leakharness.shape.scaffold import scaffold, write_scaffold

FUNCTIONS = {
    "async callback": """
async def f(provider, transcript):
    buffers = []
    def on_done(fut):
        buffers.append(transcript)
    task = provider.start()
    task.add_done_callback(on_done)
    try:
        await task
    finally:
        task = None
""",
    "sync registry": """
def f(self, bus):
    def handler(event):
        return self.handle(event)
    bus.listeners[handler] = lambda: handler
    bus.on_close = handler
""",
    "returned decorator": """
def f(func=None, *, key):
    if func is None:
        return lambda g: f(g, key=key)
    @functools.wraps(func)
    async def wrapper(*args, **kwargs):
        async with key:
            return await func(*args, **kwargs)
    return wrapper
""",
    "generator": """
def f(resource):
    def close():
        resource.close()
    atexit.register(close)
    try:
        yield close, resource
    finally:
        atexit.unregister(close)
""",
    "async generator": """
async def f(resource):
    async for row in resource:
        yield lambda: (resource, row)
""",
    "kept coroutine": """
async def f(queue, limit):
    async def worker(name, /, *, wait):
        while True:
            item = await queue.get()
            del item
    tasks = [asyncio.create_task(worker("a", wait=limit))]
    await asyncio.wait(tasks)
""",
    "class": """
def f(self, config):
    class Handler(Base):
        limit = config
        def __init__(self, x):
            super().__init__(x)
        def handle(handler):
            return self, config
    self.server.start(Handler(1))
""",
    "expressions": """
def f(rows, run, wedged):
    total = sum(r.size for r in rows)
    by_key = {k: [lambda: (k, v, run) for v in vs] for k, vs in rows}
    run.submit(partial(lambda x, y=wedged: x, rows), total)
""",
    "nothing handed over": """
def f(session, _private):
    def helper():
        return session, _private
    return helper()
""",
    "no closure at all": """
async def f(session):
    try:
        await session.run()
    except (ValueError, OSError):
        pass
    except asyncio.CancelledError:
        raise
    except BaseException:
        raise
    else:
        with session, session:
            await session.close()
""",
    "nothing": "def f(): pass\n",
    "same name twice": """
def f(a, loop):
    if a:
        def g(): return a
    else:
        def g(): return loop
    loop.call_soon(g)
""",
    "names that collide": """
async def f(asyncio, l, use, Payload, class_, _x):
    def keep(): return asyncio, l, use, Payload, _x
    asyncio.get_running_loop().call_later(1, keep, class_)
    await asyncio.sleep(1)
""",
}


def made(tmp_path: Path, text: str) -> Path:
    (tmp_path / "origin.py").write_text(text)
    return write_scaffold(find_function("origin:f", root=tmp_path), "scene-one", tmp_path / "scenarios")


@pytest.mark.parametrize("text", FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_the_file_has_the_shape_it_was_made_from(tmp_path: Path, text: str) -> None:
    """What ``new`` writes, ``shape`` accepts."""
    file = made(tmp_path, text)
    comparison = check_shape(str(file), root=tmp_path).comparison
    assert [d for d in comparison.differences if d.effect != "harmless"] == []


@pytest.mark.parametrize("text", FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_the_file_declares_three_modes_and_says_what_to_fill_in(tmp_path: Path, text: str) -> None:
    """closure-inline, closure-extracted and production, and marks for a person."""
    file = made(tmp_path, text)
    written = file.read_text()
    namespace: dict[str, object] = {"__name__": "scene"}
    exec(compile(written, str(file), "exec", dont_inherit=True), namespace)
    scenario = namespace["scenario"]
    scenario.validate()  # type: ignore[attr-defined]
    musts = {name: mode.must for name, mode in scenario.modes.items()}  # type: ignore[attr-defined]
    assert musts == {"closure-inline": "FAIL", "closure-extracted": "PASS", "production": "PASS"}
    assert scenario.target == "origin:f"  # type: ignore[attr-defined]
    assert written.count("FILL IN") >= 5


def test_what_the_closures_capture_is_tracked(tmp_path: Path) -> None:
    """Tracked are the captured variables, and only those."""
    tree = ast.parse(made(tmp_path, FUNCTIONS["async callback"]).read_text())
    (inline,) = [n for n in tree.body if isinstance(n, ast.AsyncFunctionDef) and n.name == "closure_inline"]
    tracked = [
        ast.unparse(node.args[1])
        for node in ast.walk(inline)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "run.track"
    ]
    assert tracked == ["'transcript'", "'buffers'"]


def test_a_revision_stays_in_what_it_mimics_and_not_in_what_it_imports(tmp_path: Path) -> None:
    """The shape to compare with is the old one, the function to import the installed one."""
    (tmp_path / "origin.py").write_text("def f(a): return lambda: a\n")
    suspect = find_function("origin:f", root=tmp_path)
    object.__setattr__(suspect.target, "rev", "v1.0")
    text = scaffold(suspect, "scene")
    assert 'mimics="origin:f@v1.0"' in text
    assert 'target="origin:f"' in text


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    """Only with force; the message says so."""
    file = made(tmp_path, FUNCTIONS["nothing"])
    file.write_text("mine\n")
    suspect = find_function("origin:f", root=tmp_path)
    with pytest.raises(OptionError, match=r"scene_one.py exists: choose another name, or .* --force"):
        write_scaffold(suspect, "scene-one", tmp_path / "scenarios")
    assert file.read_text() == "mine\n"
    write_scaffold(suspect, "scene-one", tmp_path / "scenarios", force=True)
    assert "Scenario(" in file.read_text()


def test_a_class_or_a_bad_name_is_refused(tmp_path: Path) -> None:
    """A scenario copies a function, and its name names a file."""
    (tmp_path / "origin.py").write_text("class C:\n    def m(self): pass\ndef f(): pass\n")
    with pytest.raises(OptionError, match=r"origin:C is a class: name the method that leaks, C.METHOD"):
        scaffold(find_function("origin:C", root=tmp_path), "scene")
    with pytest.raises(OptionError, match=r"'a/b' is no name for a scenario"):
        scaffold(find_function("origin:f", root=tmp_path), "a/b")
