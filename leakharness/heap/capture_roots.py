"""The roots of a raw capture: what the harness holds is left out, and all that stays is reachable from a root
candidate."""

from __future__ import annotations

import numpy as np

from leakharness.heap.capture_labels import Labels, harness_code
from leakharness.heap.capture_tables import Bools, Broken, Edges, Ints, Tables
from leakharness.worker.capture.file import is_harness_module
from leakharness.worker.capture.type_plans import FAMILIES, INTERNAL, WEAK

__all__ = ["HELD_BY_C", "Flow", "harness_nodes", "roots_of", "shrink_finalizer_table"]

HELD_BY_C = "held by C or unknown"
_SEARCH_FUNCTION = "function search_function (encodings/"
NOT_IMPORTED = "module not in sys.modules"
HELD_BY_HARNESS = "harness: itself"
DECLARED = "harness: declared function"
_EMPTY_DICT_BYTES = 80
"""An empty dict with the collector's header, on 64 bits."""
_CYCLES = 2_000
"""Unreachable cycles that get one root edge each; beyond that every node of the rest gets its own."""


def harness_nodes(tables: Tables, hints: Edges, labels: Labels) -> Bools:
    """Which nodes are the harness's own."""
    code = harness_code(tables, labels)
    own = np.zeros(tables.count + 1, np.bool_)  # one more, for the -1 of what is no node
    for key in ("harness", "exclude"):
        own[tables.nodes_of(tables.words(key))] = True
    own_types = [address for address, name in tables.type_names.items() if is_harness_module(name)]
    own[tables.nodes_of(np.array(own_types, np.int64))] = True
    own[:-1] |= np.isin(tables.type_id, own_types)
    own[-1] = False
    is_function = tables.family[hints.source] == FAMILIES.index("function")
    globals_ = hints.take(is_function & (hints.name == tables.strings("__globals__")) & (hints.target >= 0))
    own[globals_.source[own[globals_.target]]] = True
    own[code] = True
    running = tables.nodes_of(tables.words("linecode"))
    own[tables.words("linesrc")[np.isin(running, code)]] = True
    bound = hints.take(
        np.isin(hints.name, [tables.strings("__self__"), tables.strings("__func__")]) & (hints.target >= 0)
    )
    bound = bound.take(tables.type_string[bound.source] == tables.strings("method"))
    own[bound.source[own[bound.target]]] = True
    finalizers = tables.nodes_of(tables.words("finalize")).reshape(-1, 5)
    own[finalizers[own[finalizers[:, 2]]]] = True
    return own[:-1]


def shrink_finalizer_table(tables: Tables, edges: Edges, harness: Bools) -> None:
    """``weakref.finalize`` has one dict for all: of its size, the share of the harness's entries is not the
    program's."""
    finalizers = np.unique(tables.nodes_of(tables.words("finalize")[::5]))
    finalizers = finalizers[finalizers >= 0]
    in_dict = tables.family[edges.source] == FAMILIES.index("dict")
    entries = edges.source[in_dict & np.isin(edges.target, finalizers)]
    own = edges.source[in_dict & np.isin(edges.target, finalizers[harness[finalizers]])]
    for table in np.unique(own).tolist():
        share = np.count_nonzero(own == table) / np.count_nonzero(entries == table)
        empty = min(_EMPTY_DICT_BYTES, int(tables.size[table]))
        tables.size[table] = empty + int((int(tables.size[table]) - empty) * (1 - share))


def roots_of(
    tables: Tables, labels: Labels, flow: Flow, edges: Edges, harness: Bools, targets: Ints
) -> list[tuple[str, int]]:
    """Root candidates (name, node): those that the capture names, then what is needed so that all is reachable."""
    names = [str(name) for name in tables.json("roots")]
    nodes = tables.nodes_of(tables.words("rootid"))
    if len(names) != len(nodes):
        raise Broken("roots do not add up")
    roots = [(name, node) for name, node in zip(names, nodes.tolist(), strict=True) if node >= 0 and not harness[node]]
    flow.reach(np.array([node for _, node in roots], np.int64))
    modules = np.flatnonzero(tables.is_family("module") & ~harness & ~flow.reached)
    roots += [(NOT_IMPORTED, node) for node in modules.tolist()]
    flow.reach(modules)
    registries = _codec_registries(tables, labels, edges, flow.reached | harness)
    roots += registries
    flow.reach(np.array([node for _, node in registries], np.int64))
    shadow = flow.only_through(harness)
    functions = _declared(tables, labels, edges, shadow, flow.reached)
    roots += [(DECLARED, node) for node in functions.tolist()]
    flow.reach(functions)
    plain = ~tables.is_family("other")
    # First what lies outside the harness, a cycle that waits for the collector, say: if that holds a target,
    # the reference that the harness has to it is not the answer.
    roots += [(HELD_BY_C, node) for node in flow.orphans(plain, ~shadow)]
    hidden = targets[(targets >= 0)]
    hidden = hidden[shadow[hidden] & ~flow.reached[hidden]]
    by_others = _held_by_others(tables, edges)
    roots += [(HELD_BY_HARNESS if by_others[node] else HELD_BY_C, node) for node in hidden.tolist()]
    flow.reach(hidden)
    flow.drop(shadow & ~flow.reached)
    return roots + [(HELD_BY_C, node) for node in flow.orphans(plain, np.ones_like(shadow))]


def _held_by_others(tables: Tables, edges: Edges) -> Bools:
    """Which nodes are held by more than what the capture itself was given: the list of its targets holds no object."""
    given = np.zeros(tables.count + 1, np.bool_)
    given[tables.nodes_of(tables.words("exclude"))] = True
    held = np.zeros(tables.count, np.bool_)
    held[edges.target[(edges.kind != WEAK) & ~given[edges.source]]] = True
    return held


def _codec_registries(tables: Tables, labels: Labels, edges: Edges, known: Bools) -> list[tuple[str, int]]:
    """The interpreter's list of search functions, dict of error handlers and dict of codecs that were found
    (Python/codecs.c), told by what is always in them. They hang on nothing that Python can reach."""
    search = [n for text, n in tables.strings.numbers.items() if text.startswith(_SEARCH_FUNCTION)]
    held = np.zeros(tables.count, np.bool_)
    held[edges.target[edges.kind != WEAK]] = True
    handlers = tables.nodes_of(tables.words("handler"))
    found: list[tuple[str, int]] = []
    for registry, family, holds in (
        ("search functions", "list", np.isin(labels.of_node[edges.target], search)),
        ("error handlers", "dict", np.isin(edges.target, handlers[handlers >= 0])),
        ("found codecs", "dict", tables.type_string[edges.target] == tables.strings("codecs.CodecInfo")),
    ):
        nodes = np.unique(edges.source[holds])
        nodes = nodes[(tables.family[nodes] == FAMILIES.index(family)) & ~held[nodes] & ~known[nodes]]
        found += [(f"registry codecs: {registry}", node) for node in nodes.tolist()]
    return found


def _declared(tables: Tables, labels: Labels, edges: Edges, shadow: Bools, reached: Bools) -> Ints:
    """Functions of the program that the harness was given, where nothing else leads to their module."""
    which = shadow[edges.source] & ~reached[edges.target] & (edges.kind == INTERNAL)
    which &= edges.name == tables.strings("__globals__")
    files = labels.texts.get("co_filename", {})
    made_up = [node for node, file in files.items() if file.startswith("<")]  # by namedtuple or dataclass
    compiled = edges.source[(edges.name == tables.strings("__code__")) & np.isin(edges.target, made_up)]
    return np.setdiff1d(edges.source[which], compiled)


class Flow:
    """What is reachable from where, along strong references, never through the harness."""

    def __init__(self, count: int, edges: Edges, harness: Bools) -> None:
        strong = edges.take(edges.kind != WEAK)
        self._start = np.zeros(count + 1, np.int64)
        np.cumsum(np.bincount(strong.source, minlength=count), out=self._start[1:])
        self._source, self._target = strong.source, strong.target
        self._harness = harness
        self._slot = np.zeros(count, np.int64)
        self._dropped = np.zeros(count, np.bool_)
        self.reached = np.zeros(count, np.bool_)

    def reach(self, nodes: Ints) -> None:
        """Mark ``nodes`` and all that they lead to."""
        self._spread(nodes, self.reached, self._harness | self._dropped)

    def only_through(self, harness: Bools) -> Bools:
        """What the harness leads to and nothing else has reached so far."""
        found = self.reached.copy()
        self._spread(np.flatnonzero(harness), found, np.zeros(len(found), np.bool_))
        return np.asarray(found & ~self.reached & ~harness)

    def drop(self, nodes: Bools) -> None:
        self._dropped |= nodes

    def kept(self, harness: Bools) -> Bools:
        return ~(harness | self._dropped)

    def orphans(self, plain: Bools, among: Bools) -> list[int]:
        """Nodes that, as roots, make the rest ``among`` all nodes reachable: those that nothing refers to, then
        one of each cycle, rather not a ``plain`` one."""
        gone = self._harness | self._dropped | ~among
        lonely = ~self.reached & ~gone
        held = np.zeros(len(lonely), np.bool_)
        held[self._target[lonely[self._source]]] = True
        first = np.flatnonzero(lonely & ~held)
        found: list[int] = first.tolist()
        self.reach(first)
        rest = np.flatnonzero(~self.reached & ~gone)
        rest = rest[np.argsort(plain[rest], kind="stable")]
        for node in rest.tolist():
            if not self.reached[node]:
                found.append(node)
                if len(found) - len(first) <= _CYCLES:
                    self.reach(np.array([node]))
        self.reach(rest)
        return found

    def _spread(self, nodes: Ints, marks: Bools, barred: Bools) -> None:
        front = self._once(nodes[~marks[nodes] & ~barred[nodes]])
        while len(front):
            marks[front] = True
            starts, lengths = self._start[front], self._start[front + 1] - self._start[front]
            total = int(lengths.sum())
            at = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(total)
            found = self._target[at]
            front = self._once(found[~marks[found] & ~barred[found]])

    def _once(self, nodes: Ints) -> Ints:
        """``nodes`` without repetitions: the last writer of a node's slot keeps it."""
        turn = np.arange(len(nodes))
        self._slot[nodes] = turn
        return np.compress(self._slot[nodes] == turn, nodes)
