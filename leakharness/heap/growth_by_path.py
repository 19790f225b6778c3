"""Growth by who holds it: of the families that grew, the objects that came and those that went, by retainer path.

V8's object ids stay the same for the life of an object, so in its files objects are matched by id before they are
matched by path: one that is merely reached by another way is no growth. Ids of ours are addresses, which are used
again (one in three in a run that allocates much), so there all objects of a family count, by path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from leakharness.heap.dominators import strong_edges
from leakharness.heap.families import Families, credited_sizes
from leakharness.heap.graph import HeapGraph
from leakharness.heap.path_groups import PathFamily, path_families
from leakharness.heap.paths import PathTree, path_tree
from leakharness.heap.v8_objects import objects_of

__all__ = ["FAMILIES", "PathGrowth", "growth_by_path", "holders_of"]

Ints = npt.NDArray[np.int64]
Key = tuple[str, str]

FAMILIES = 20  # families whose growth is explained by path
SAMPLE = 200_000  # objects of a family whose paths are grouped; the figures are scaled up to all of them
_IDS_IN_TABLE = 8  # times as many ids as there are objects: V8 counts in twos, and leaves out what has gone
_IDS_COMPARED = 5_000
SAME_SHARE = 0.5  # of the ids in both files that must be of one family for ids to be one process's


@dataclass
class PathGrowth:
    """What came, less what went, of one family by one path, or by ``ways`` of them. ``born`` and ``gone`` count
    objects."""

    key: Key
    path: list[str] = field(default_factory=list)
    owner: str = ""
    size: int = 0
    count: int = 0
    born: int = 0
    gone: int = 0
    ways: int = 0
    by_id: bool = False

    @property
    def in_place(self) -> bool:
        """Whether no object came: those that were there before have become larger."""
        return self.by_id and self.size > 0 and not self.born and not self.gone

    def add(self, other: PathGrowth) -> None:
        """Take in what another way adds."""
        self.size += other.size
        self.count += other.count
        self.born += other.born
        self.gone += other.gone
        self.ways += 1


def growth_by_path(
    wanted: Sequence[Key], graphs: tuple[HeapGraph, HeapGraph], families: tuple[Families, Families]
) -> dict[tuple[Key, str], PathGrowth]:
    """The growth of each of the ``wanted`` families (the first `FAMILIES`) by retainer fingerprint."""
    (old, new), (old_families, new_families) = graphs, families
    wanted = wanted[:FAMILIES]
    before, after = _members(old_families, wanted), _members(new_families, wanted)
    found: dict[tuple[Key, str], PathGrowth] = {}
    by_id = _same_process(old, new, old_families, new_families)
    plus: list[tuple[Ints, Ints]] = []
    minus: list[tuple[Ints, Ints]] = []
    old_sizes, new_sizes = credited_sizes(old), credited_sizes(new)
    for key in wanted:
        came, went = after[key], before[key]
        weight, lost = new_sizes[came], old_sizes[went]
        if by_id:
            _, at_new, at_old = np.intersect1d(new.node_id[came], old.node_id[went], return_indices=True)
            weight = weight.copy()
            weight[at_new] -= lost[at_old]
            stays = np.zeros(len(came), bool)
            stays[at_new] = True
            shown = ~stays | (weight != 0)
            gone = np.ones(len(went), bool)
            gone[at_old] = False
            # what stays and changed its size counts with its size alone
            plus.append((came[shown], np.stack([weight[shown], ~stays[shown]])))
            minus.append((went[gone], np.stack([lost[gone], np.ones(int(gone.sum()), np.int64)])))
        else:
            plus.append((came, np.stack([weight, np.ones(len(came), np.int64)])))
            minus.append((went, np.stack([lost, np.ones(len(went), np.int64)])))
    _add(found, new, wanted, plus, 1)
    if any(len(nodes) for nodes, _ in minus):
        _add(found, old, wanted, minus, -1)
    for row in found.values():
        row.by_id = by_id
    return found


def holders_of(graph: HeapGraph, families: Sequence[Sequence[int]]) -> list[list[PathFamily]]:
    """The nodes of each family by retainer path."""
    keep = strong_edges(graph)
    objects = objects_of(graph)
    if objects is not None:
        keep &= ~objects.repeated
    tree = _strings_as_wholes(graph, path_tree(graph, keep))
    return list(path_families(graph, tree, families))


_STRINGS = ("string", "concatenated string", "sliced string")


def _strings_as_wholes(graph: HeapGraph, tree: PathTree) -> PathTree:
    """The paths with every part of a string of V8 where the whole string is: a text that was put together of four is
    five nodes, one below the other, and says nothing by which of them it is."""
    if not graph.of_v8:
        return tree
    text = np.isin(graph.node_kind, [number for number, kind in enumerate(graph.node_kinds) if kind in _STRINGS])
    part = text & (tree.source >= 0) & text[tree.source]
    whole = np.where(part, tree.source, np.arange(graph.node_count))
    while not np.array_equal(above := whole[whole], whole):
        whole = above
    return PathTree(tree.edge[whole], tree.source[whole], tree.rank)


def _members(families: Families, wanted: Sequence[Key]) -> dict[Key, Ints]:
    looked_for = set(wanted)
    rows = {key: row for row, key in enumerate(families.all_keys()) if key in looked_for}
    none = np.empty(0, np.int64)
    return {key: np.flatnonzero(families.of_node == rows[key]) if key in rows else none for key in wanted}


def _same_process(old: HeapGraph, new: HeapGraph, before: Families, after: Families) -> bool:
    """Whether equal ids are the same object: V8's, and most of those that are in both files are of one family."""
    if not (old.of_v8 and new.of_v8):
        return False
    return same_process((old.node_id, new.node_id), (before, after)) is not None


def same_process(
    ids: tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]], families: tuple[Families, Families]
) -> int | None:
    """How many objects are in both of two files of V8, where equal ids are the same object: most of those that are in
    both are of one family then. None where they are of two processes."""
    at_new = _in_both(*ids)
    if not len(at_new):
        return None
    before, after = families
    new = at_new[:: -(-len(at_new) // _IDS_COMPARED)]
    old = np.flatnonzero(_marked(ids[0], ids[1][new]))
    new = new[np.argsort(ids[1][new], kind="stable")]
    old = old[np.argsort(ids[0][old], kind="stable")]
    rows = zip(before.of_node[old].tolist(), after.of_node[new].tolist(), strict=False)
    same = [before.key(old) == after.key(new) for old, new in rows]
    return len(at_new) if sum(same) >= SAME_SHARE * len(same) else None


def _in_both(old: npt.NDArray[np.uint64], new: npt.NDArray[np.uint64]) -> Ints:
    """Places in ``new`` of the ids that are in both columns."""
    return np.flatnonzero(_marked(new, old))


def _marked(ids: npt.NDArray[np.uint64], wanted: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which of ``ids`` are among the ``wanted``. V8 counts them up, so that a table of all is small; the few of native
    objects, which are hashes, are sorted."""
    limit = _IDS_IN_TABLE * max(len(ids), len(wanted), 1)
    table = np.zeros(limit + 1, bool)  # the last is that of all beyond it
    table[wanted[wanted < limit]] = True
    found: npt.NDArray[np.bool_] = table[np.minimum(ids, np.uint64(limit))]
    high = np.flatnonzero(ids >= limit)
    if len(high):
        found[high] = np.isin(ids[high], wanted[wanted >= limit])
    return found


def _add(
    found: dict[tuple[Key, str], PathGrowth],
    graph: HeapGraph,
    wanted: Sequence[Key],
    members: Sequence[tuple[Ints, Ints]],
    sign: int,
) -> None:
    # Evenly spread, so a sample of a family stands for it.
    places = [np.arange(0, len(nodes), max(1, -(-len(nodes) // SAMPLE))) for nodes, _ in members]
    samples = [nodes[place].tolist() for (nodes, _), place in zip(members, places, strict=True)]
    for key, (nodes, weights), place, groups in zip(wanted, members, places, holders_of(graph, samples), strict=True):
        scale = len(nodes) / max(1, len(place))
        weight = dict(zip(nodes[place].tolist(), weights[:, place].T.tolist(), strict=True))
        for group in groups:
            row = found.setdefault((key, group.fingerprint), PathGrowth(key))
            figures = np.array([weight[node] for node in group.members])
            size, count = round(float(figures[:, 0].sum()) * scale), round(float(figures[:, 1].sum()) * scale)
            row.size += sign * size
            row.count += sign * count
            if sign > 0:
                row.path, row.owner, row.born = group.path, group.owner, row.born + count
            else:
                row.path, row.owner, row.gone = row.path or group.path, row.owner or group.owner, row.gone + count
