"""Which keys of dicts a capture may name: those of namespaces, and those that stand in loaded code."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from leakharness.heap.ingest import load_capture
from leakharness.worker.capture.loaded_names import shown_thread_names
from tests.integration.test_capture_process import HELPERS, edge_names, nodes_named

HOLDERS = {
    "dict": "kept = {token: Payload()}",
    "dict of dicts": "kept = {'outer': {token: Payload()}}",
    "subclass": "class Table(dict): pass\nkept = Table({token: Payload()})",
    "defaultdict": "kept = collections.defaultdict(list, {token: Payload()})",
    "OrderedDict": "kept = collections.OrderedDict({token: Payload()})",
    "Counter": "kept = collections.Counter({token: 3})",
    "mappingproxy": "kept = types.MappingProxyType({token: Payload()})",
    "ChainMap": "kept = collections.ChainMap({token: Payload()})",
    "UserDict": "kept = collections.UserDict({token: Payload()})",
    "WeakValueDictionary": "held = Payload(); kept = weakref.WeakValueDictionary({token: held})",
    "set": "kept = {token}",
    "attribute named keywords": (
        "class Search:\n __slots__ = ('keywords', '__globals__')\n"
        "kept = Search(); kept.keywords = {token: Payload()}; kept.__globals__ = {token: Payload()}"
    ),
    "a value of an instance": "class Box: pass\nkept = Box(); kept.table = {token: Payload()}",
    "cached call": "kept = functools.lru_cache(lambda key: Payload()); kept(token)",
    "default of a function": "def kept(table={token: Payload()}): pass",
    "local of a generator": "def make(table):\n yield table\nkept = make({token: Payload()}); next(kept)",
    "positional of a partial": "kept = functools.partial(print, {token: Payload()})",
    "thread name": "kept = threading.Thread(target=threading.Event().wait, name=token, daemon=True); kept.start()",
    "thread name with a number": (
        "kept = threading.Thread(target=threading.Event().wait, name=token + '-1', daemon=True); kept.start()"
    ),
}


@pytest.mark.parametrize("fork", [True, False])
@pytest.mark.parametrize("token", ["AKIAIOSFODNN7EXAMPLE", "alice_smith", "alice.smith.example.org"])
def test_a_key_that_is_data_is_written_nowhere(token: str, fork: bool, tmp_path: Path) -> None:
    """In whatever holds it; all at once, for the time that a process takes."""
    lines = [
        f"token = unwritten('{number}')\n{code}\nkept{number} = kept" for number, code in enumerate(HOLDERS.values())
    ]
    assert _left(tmp_path, token, "\n".join(lines), len(HOLDERS), fork) == []


def _left(folder: Path, token: str, body: str, count: int, fork: bool) -> list[str]:
    """The holders whose token stands in the capture. ``unwritten(n)`` makes ``TOKENn`` of a text that comes from a
    file, so that no code has it."""
    (folder / "tokens.json").write_text(json.dumps({"token": token}))
    head = "import collections, functools, json, types\n"
    head += "class Payload: pass\n"
    head += "def unwritten(number): return json.load(open('tokens.json'))['token'] + 'n' + number + 'n'\n"
    (folder / "program.py").write_text(HELPERS + head + body + f"\ntaken('heap', fork={fork})\nos._exit(0)\n")
    done = subprocess.run([sys.executable, "program.py"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    raw = (folder / "heap").read_bytes()
    return [name for name, number in zip(HOLDERS, range(count), strict=True) if f"{token}n{number}n".encode() in raw]


NAMES = """
import functools, json, types, collections
class Payload: pass
def read(table): return table["session_id"], table.get("user.name"), ("nested_name", ("deeper_name",)), {"in_a_set"}
def written(text): return json.loads(json.dumps(text))
table = {written(key): Payload() for key in json.load(open("keys.json"))}
class Box: pass
box = Box()
setattr(box, written("attribute_of_data"), Payload())
def takes(**options):
    yield options
running = takes(**{written("keyword_of_data"): Payload()})
next(running)
part = functools.partial(print, **{written("partial_of_data"): Payload()})
space = {"__name__": "made", written("global_of_data"): Payload()}
exec("def of_space(): pass", space)
of_space = space.pop("of_space")
kind = type("Kind", (), {written("class_of_data"): Payload()})
module = types.ModuleType("made_module")
setattr(module, written("module_of_data"), Payload())
"""


@pytest.mark.parametrize("fork", [True, False])
def test_names_are_written(fork: bool, tmp_path: Path) -> None:
    """Keys that code names or has as a constant, however deep in it, and all keys of namespaces."""
    keys = ["session_id", "user.name", "nested_name", "deeper_name", "in_a_set", "not_in_code"]
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    (tmp_path / "program.py").write_text(
        HELPERS + textwrap.dedent(NAMES) + f"taken('heap', fork={fork})\nos._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    graph = load_capture(tmp_path / "heap").graph
    tables = [edge_names(graph, node) for node in nodes_named(graph, "dict")]
    (table,) = [names for names in tables if names.get("session_id") == "__main__.Payload"]
    assert set(table) == {*keys[:-1], "[*]", "<key>"}
    names = set(graph.strings)
    wanted = {"global", "class", "module", "partial"}
    if fork:  # stopped in place, nothing is read that would change an object: neither instance dicts nor locals
        wanted |= {"attribute", "keyword"}
    assert {f"{kind}_of_data" for kind in wanted} <= names
    assert "not_in_code" not in names


def test_a_name_of_one_namespace_does_not_show_the_same_key_of_a_dict(tmp_path: Path) -> None:
    """The same string object, interned, is an attribute here and data there."""
    (tmp_path / "tokens.json").write_text(json.dumps("alice_smith"))
    body = """
    import json
    class Payload: pass
    class Box: pass
    box, token = Box(), sys.intern(json.load(open("tokens.json")))
    setattr(box, token, 1)
    kept = {token: Payload()}
    taken("heap")
    os._exit(0)
    """
    (tmp_path / "program.py").write_text(HELPERS + textwrap.dedent(body))
    done = subprocess.run([sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    graph = load_capture(tmp_path / "heap").graph
    tables = [edge_names(graph, node) for node in nodes_named(graph, "dict")]
    (kept,) = [names for names in tables if "__main__.Payload" in names.values() and len(names) == 2]
    assert kept == {"[*]": "__main__.Payload", "<key>": "str"}
    assert "alice_smith" in edge_names(graph, nodes_named(graph, "__main__.Box")[0])


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("MainThread", "MainThread"),
        ("Thread-12 (work)", "Thread-12 (work)"),
        ("Thread-12 (alice)", "Thread-12 (*)"),
        ("ThreadPoolExecutor-0_3", "ThreadPoolExecutor-0_3"),
        ("worker 7", "worker 7"),
        ("sender-7", "sender-7"),
        ("alice-7", "*-7"),
        ("worker-alice", "*"),
        ("alice smith", "*"),
        ("worker-4711123", "*"),
        ("4711", "*"),
    ],
)
def test_the_name_of_a_thread_is_shown_as_far_as_code_has_it(name: str, shown: str) -> None:
    in_code = {"MainThread", "Thread-%d", "work", "ThreadPoolExecutor-%d", "worker ", "sender-{}", "worker"}
    assert shown_thread_names({"1": name}, in_code) == {"1": shown}
