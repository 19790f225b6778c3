"""Who holds the retained objects: all of them, grouped by what their retainer paths have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from leakharness.heap.arrays import distinct, packed
from leakharness.heap.chains import edges_to_cut, entries_of_their_own
from leakharness.heap.dominators import strong_edges
from leakharness.heap.graph import HeapGraph
from leakharness.heap.growing import GrowthOf, replacing
from leakharness.heap.names import Names
from leakharness.heap.path_groups import PathGroup, PathGroups
from leakharness.heap.paths import UNKNOWN, Links, PathTree, links, path_tree, ragged, reachable, root_rank
from leakharness.heap.v8_objects import edge_names, objects_of
from leakharness.heap.wording import sentence, shown_path

__all__ = ["RetainerGroup", "Way", "entry_edges", "explain", "harness_mask"]

HARNESS_KEY = "harness_nodes"  # in HeapGraph.meta: indices of nodes of the harness, which no path may use

_FURTHER_WAYS = 2  # independent further ways looked for
_EXACT_GROUPS = 8  # groups whose retained size and further ways are worked out; more are not read
_STRAYS = 0.05  # share of the targets up to which those that nothing known holds are left out
_EXACT_STEPS = 60_000_000  # nodes and edges walked for further ways and exact sizes in all, about two seconds


@dataclass(frozen=True)
class Way:
    """A further, independent way in which objects of a group are held: how many of them, and the path."""

    count: int
    path: list[str]
    fingerprint: str
    holding_edge: str


@dataclass(frozen=True)
class RetainerGroup:
    """Retained objects whose retainer paths have the same fingerprint.

    ``retained_bytes`` is what would be freed if the group's objects went, counted once (a lower bound where
    ``exact`` is False: very many groups in a very large heap). ``holding_edge`` names what to cut;
    ``holding_edges`` are those edges, one for each head, as indices into the graph's (-1 where unknown).
    ``also_held_by``: with the first way cut, these still hold; cutting the first alone frees nothing.
    ``links``: how all but ``heads`` of them hang on another of the group (a linked list, a tree); their holding edge
    is that of the one that heads them.
    """

    target: str
    count: int
    retained_bytes: int
    path: list[str]
    fingerprint: str
    holding_edge: str
    registered_in: str | None
    targets: Sequence[int] = field(repr=False)
    holding_edges: Sequence[int] = field(repr=False)
    also_held_by: tuple[Way, ...] = ()
    exact: bool = True
    heads: int = 0
    links: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """The group as it stands under ``retainers`` in JSON."""
        return {
            "target": self.target,
            "count": self.count,
            "retained_bytes": self.retained_bytes,
            "exact": self.exact,
            "path": self.path,
            "fingerprint": self.fingerprint,
            "holding_edge": self.holding_edge,
            "registered_in": self.registered_in,
            "heads": self.heads,
            "links": list(self.links),
            "also_held_by": [
                {
                    "count": way.count,
                    "path": way.path,
                    "fingerprint": way.fingerprint,
                    "holding_edge": way.holding_edge,
                }
                for way in self.also_held_by
            ],
            "sentence": sentence(self),
        }


def explain(
    graph: HeapGraph,
    targets: Sequence[int],
    labels: Sequence[str] | None = None,
    growth_of: GrowthOf | None = None,
) -> list[RetainerGroup]:
    """Every target with the way it is held, grouped by fingerprint; most retained bytes first.

    ``growth_of`` tells how many entries containers have gained: targets that only replace others in one are left out
    where there are others, and a target that is held elsewhere too is shown there.

    ``labels`` name the targets (one each; without them, their type does) and objects of different labels are
    never in one group. Weak edges hold nothing, and no path goes through the harness
    (``graph.meta["harness_nodes"]``).
    """
    nodes = packed(np.asarray(targets, np.int32))
    if not nodes:
        return []
    names = Names(graph)
    keep = strong_edges(graph)
    objects = objects_of(graph)
    if objects is not None:
        keep &= ~objects.repeated
    closed = harness_mask(graph)
    tree = path_tree(graph, keep, closed)
    called = list(labels) if labels is not None else names.shorts(nodes)
    grouped = PathGroups(names, tree).groups(nodes, called)
    if growth_of is not None:
        full = replacing(graph, tree, grouped, growth_of)
        if len(full):
            stays = keep.copy()
            stays[ragged(graph.edge_start, full)] = False
            alive = reachable(links(graph, stays), closed)
            came = [place for place, node in enumerate(nodes) if alive[node]]
            if came:
                keep, tree = stays, path_tree(graph, stays, closed)
                grouped = PathGroups(names, tree).groups([nodes[i] for i in came], [called[i] for i in came])
    sizes = _Sizes(graph, keep)
    budget = max(1, min(_EXACT_GROUPS, _EXACT_STEPS // (graph.node_count + graph.edge_count)))
    found = [
        _explained(names, tree, keep, closed, sizes, group, exact=index < budget) for index, group in enumerate(grouped)
    ]
    found = sorted(found, key=lambda group: (-group.retained_bytes, -group.count, group.fingerprint))
    known = [group for group in found if root_rank(group.path[0]) != UNKNOWN]
    few = _STRAYS * sum(group.count for group in found)
    # Beside what is held by something known, a few that nothing known holds came by the way.
    return [group for group in found if group in known or group.count > few] if known else found


def entry_edges(graph: HeapGraph, targets: Sequence[int]) -> tuple[int, ...]:
    """For each target the first edge of its retainer path that leads to something of its own, which no other target's
    path goes through: with it cut, all that came with this target goes."""
    tree = path_tree(graph, strong_edges(graph), harness_mask(graph))
    return tuple(entries_of_their_own(tree, targets))


def harness_mask(graph: HeapGraph) -> npt.NDArray[np.bool_] | None:
    """The harness's own nodes; None where the capture names none."""
    nodes = graph.meta.get(HARNESS_KEY)
    if not nodes:
        return None
    mask = np.zeros(graph.node_count, bool)
    mask[[int(node) for node in nodes]] = True
    mask[0] = False
    return mask


class _Sizes:
    """Retained sizes of sets: what is alive, less what stays alive without them."""

    def __init__(self, graph: HeapGraph, keep: npt.NDArray[np.bool_]) -> None:
        self.size = graph.self_size
        self.forward: Links = links(graph, keep)
        self.alive = reachable(self.forward)

    def retained(self, nodes: Sequence[int]) -> int:
        members = distinct(np.asarray(nodes, np.int32))
        alive = self.alive
        lost = members[~alive[members]]
        if len(lost):
            alive = alive | reachable(self.forward, seeds=lost)
        closed = np.zeros(len(alive), bool)
        closed[members] = True
        return int(self.size[alive & ~reachable(self.forward, closed)].sum())

    def shallow(self, nodes: Sequence[int]) -> int:
        return int(self.size[distinct(np.asarray(nodes, np.int32))].sum())


def _explained(
    names: Names,
    tree: PathTree,
    keep: npt.NDArray[np.bool_],
    closed: npt.NDArray[np.bool_] | None,
    sizes: _Sizes,
    group: PathGroup,
    *,
    exact: bool,
) -> RetainerGroup:
    members = group.members
    shown = shown_path(names, tree, group.heads)
    cuts = edges_to_cut(names, tree, group.heads)
    also = _further_ways(names, keep, closed, members, cuts) if exact else ()
    return RetainerGroup(
        target=group.name,
        count=len(members),
        retained_bytes=sizes.retained(members) if exact else sizes.shallow(members),
        path=shown.path,
        fingerprint=shown.fingerprint,
        holding_edge=shown.holding,
        registered_in=shown.registered_in,
        targets=members,
        holding_edges=cuts,
        also_held_by=also,
        exact=exact,
        heads=len(group.heads),
        links=group.links,
    )


def _further_ways(
    names: Names,
    keep: npt.NDArray[np.bool_],
    closed: npt.NDArray[np.bool_] | None,
    members: Sequence[int],
    cuts: Sequence[int],
) -> tuple[Way, ...]:
    """Ways that still hold members once the first is cut, one after the other, the most common first."""
    graph = names.graph
    left, members_at = keep.copy(), np.asarray(members, np.int32)
    ways: list[Way] = []
    for _ in range(_FURTHER_WAYS):
        _cut_alike(graph, left, np.asarray(cuts, np.int32))
        alive = reachable(links(graph, left), closed)
        held = members_at[alive[members_at]]
        if not len(held):
            break
        tree = path_tree(graph, left, closed)
        found = PathGroups(names, tree).groups(packed(held), [""] * len(held))
        shown = shown_path(names, tree, found[0].heads)
        if any(way.fingerprint == shown.fingerprint for way in ways):
            break
        ways.append(Way(len(found[0].members), shown.path, shown.fingerprint, shown.holding))
        cuts = edges_to_cut(names, tree, packed(np.concatenate([np.asarray(group.heads) for group in found])))
    return tuple(ways)


def _cut_alike(graph: HeapGraph, keep: npt.NDArray[np.bool_], edges: npt.NDArray[np.int32]) -> None:
    """Take away ``edges`` and those that only differ in their position: same source, same target, same
    kind.
    """
    cut = distinct(edges[edges >= 0])
    if not len(cut):
        return
    sources = distinct(np.searchsorted(graph.edge_start, cut, side="right").astype(np.int32) - 1)
    near = ragged(graph.edge_start, sources)
    columns = (
        np.repeat(sources, graph.edge_start[sources + 1] - graph.edge_start[sources]),
        graph.edge_to[near],
        graph.edge_kind[near],
        edge_names(graph, near),
    )
    alike = np.zeros(len(near), np.int64)
    for column in columns:
        low = column.astype(np.int64) - int(column.min())
        _, alike = np.unique(alike * (int(low.max()) + 1) + low, return_inverse=True)
        alike = alike.reshape(-1)
    keep[near[np.isin(alike, alike[np.isin(near, cut)])]] = False
