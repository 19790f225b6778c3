"""One self-contained HTML page of stored documents: no network, readable without JavaScript. Pure.

Every text of a document is escaped by jinja2; plots are inline SVG, whose coordinates are numbers of ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from leakharness.model import COUNTERS
from leakharness.places import functions_in
from leakharness.report.material import Material, Shown, shown
from leakharness.report.plots import counter_rows, detection, icicle, pace_of, scales, sparkline
from leakharness.report.proof_arms import arms_of_proof
from leakharness.report.retainer_tree import retainer_tree, vanished_edge
from leakharness.report.templating import templates
from leakharness.report.text import check_command
from leakharness.units import number, signed, signed_size, size

__all__ = ["page"]

Document = Mapping[str, Any]
ABSENT: Mapping[str, Any] = {
    "detectable": {},
    "forgiven": (),
    "notes": (),
    "opinions": (),
    "growing_containers": (),
    "held_by_c": (),
    "stays": (),
    "blind": {},
    "pid": 0,
    "python": "?",
    "warmup_runs": 0,
}
"""What a stored result may leave out."""
MOST_FAMILIES = 200
MOST_RETAINERS = 100
"""What one table or tree may list, so that a page stays small enough to open."""
GRADES = {
    **dict.fromkeys(("PASS", "CERTIFIED", "PROVEN", "KNOWN"), "good"),
    **dict.fromkeys(("FAIL", "LEAK", "NOT_FIXED", "INVALID", "NOT_REPRODUCED"), "bad"),
}
"""How a verdict is coloured; all others are open."""
UNCHECKED = ("NOT_CHECKED", "NOT_REPEATABLE")
"""Rows of tests that were not measured."""


def page(documents: Sequence[Document], material: Material | None = None) -> str:
    """The page of these documents: results of run, certificates, proofs, calibrations, investigations, a session of
    pytest before its results. ``material`` is what the files at hand add."""
    environment = templates()
    environment.filters.update(number=number, signed=signed, size=size, signed_size=signed_size)
    environment.filters.update(grade=lambda verdict: GRADES.get(verdict, "open"), places=_places, coded=_coded)
    template = environment.get_template("page.html.j2")
    known = material or Material()
    sections = [_section(document, known, f"s{at}") for at, document in enumerate(documents, 1)]
    listed = len(sections) > 1 and sections[0]["kind"] != "session"  # which names the others by their causes
    return template.render(sections=sections, listed=listed, no_source=Shown(), counters=COUNTERS)


def _places(text: str) -> list[tuple[str, int]]:
    """The (file, line) of each function that one step of a path names."""
    return [(file, line) for _, file, line in functions_in([text])]


def _section(document: Document, material: Material, anchor: str) -> dict[str, Any]:
    """One document as the template takes it."""
    kind = str(document["schema"]).partition("/")[0].removeprefix("leakharness.")
    if kind == "investigation":
        return {"anchor": anchor, "kind": kind, "title": f"lane {document['lane']}", **_investigation(document)}
    if kind == "calibrate":
        calibration = detection(document)
        return {"anchor": anchor, "kind": kind, "title": document["scenario"], "calibration": calibration}
    if kind == "session":
        return {"anchor": anchor, "kind": kind, "title": "leak checks of a test session", **_session(document)}
    return _measured(document, material, anchor)


def _session(document: Document) -> dict[str, Any]:
    """A session of pytest: its checks, the worst first, and how many came to what."""
    order = {"bad": 0, "open": 1, "good": 2}
    grades = [GRADES.get(row["verdict"], "open") for row in document["rows"]]
    rows = sorted(document["rows"], key=lambda row: order[GRADES.get(row["verdict"], "open")])
    judged = {verdict for row in rows if (verdict := row["verdict"]) not in UNCHECKED}
    verdict = "FAIL" if "bad" in grades else "NOT_JUDGED" if "NOT_JUDGED" in judged else "PASS" if judged else ""
    return {
        **document,
        "rows": rows,
        "verdict": verdict,
        "counts": Counter(row["verdict"] for row in rows),
        "quick": sum(row["how"] == "quick" for row in rows),
        "memory": _memory(document),
    }


def _measured(document: Document, material: Material, anchor: str) -> dict[str, Any]:
    """A result, a certificate or a proof: its verdict, and its arms with what each stands for."""
    proof = "controls" in document
    if "certificate" in document:
        verdict, arms = document["certificate"], [("", arm) for arm in document["arms"]]
    elif proof:
        verdict = document["verdict"]
        arms = arms_of_proof(document)
    else:
        verdict, arms = document["verdict"], [("", document)]
    scenario = document["scenario"]
    results = [arm for _, arm in arms]
    reproduce = document.get("reproduce") or check_command(results[0].get("reproduce", "") if arms else "", scenario)
    return {
        "anchor": anchor,
        "kind": "prove" if proof else "check" if "certificate" in document else "run",
        "title": scenario,
        "verdict": verdict,
        "reason": document.get("reason", ""),
        "notes": document.get("notes", ()) if "certificate" in document else (),
        "sides": _sides(document, material) if proof else {},
        "edges": _edges(document, material) if proof else {},
        "reproduce": reproduce,
        "digest": document.get("digest", ""),
        "packages": document.get("seal", {}).get("packages", {}),
        "controls_from": len(arms) - len(document["controls"]) if proof else len(arms),
        "counters": list(counter_rows([(_title(role, arm), arm) for role, arm in arms])),
        "still": [counter for counter, scale in scales(results).items() if not scale.moves],
        "calibration": detection(material.calibrations[scenario]) if scenario in material.calibrations else None,
        "arms": [_arm(role, arm, material, f"{anchor}a{at}") for at, (role, arm) in enumerate(arms, 1)],
    }


def _title(role: str, arm: Document) -> str:
    return f"{role}: {arm['mode']}" if role else str(arm["mode"])


def _arm(role: str, arm: Document, material: Material, anchor: str) -> dict[str, Any]:
    retainers = arm["retainers"][:MOST_RETAINERS]
    snapshot = next(iter(arm.get("snapshots", ())[-1:]), "")
    heap = material.heaps.get(snapshot)
    return {
        **ABSENT,
        **arm,
        "anchor": anchor,
        "title": _title(role, arm),
        "as_demanded": arm["verdict"] == arm["must"] if arm.get("must") else arm["verdict"] == "PASS",
        "grows": [
            {"counter": row["counter"], "pace": pace_of(row["counter"], row["per_run"])}
            for row in arm["growth"]
            if row["grows"]
        ],
        "families": arm["families"][:MOST_FAMILIES],
        "more_families": max(0, len(arm["families"]) - MOST_FAMILIES),
        "tree": retainer_tree(retainers),
        "shown": shown(arm, material),
        "more_retainers": max(0, len(arm["retainers"]) - MOST_RETAINERS),
        "snapshot": snapshot,
        "icicle": icicle(heap) if heap is not None else None,
        "heap_problem": material.heap_problems.get(snapshot, ""),
    }


def _sides(proof: Document, material: Material) -> list[dict[str, Any]]:
    """Before and after, each with what it was and what was held in it; of before the edges that are gone."""
    after = _paths_after(proof)
    became = {row["fingerprint"]: what for what, rows in proof.get("paths", {}).items() for row in rows}
    sides = []
    for name in ("before", "after"):
        side = proof[name]
        telling = _telling(side)
        rows = telling["retainers"][:MOST_RETAINERS]
        held: list[Document] = [{**row, "became": became.get(row["fingerprint"], "")} for row in rows]
        gone = [at for at, row in enumerate(held) if name == "before" and row["became"] == "vanished" and row["path"]]
        sides.append(
            {
                "name": name,
                **side,
                "asked": " ".join(side.get("asked", ())),
                "retained": [f"{arm['tracked']['retained']:,}/{arm['tracked']['born']:,}" for arm in side["arms"]],
                "tree": retainer_tree(held, {at: vanished_edge(held[at]["path"], after) for at in gone}),
                "shown": shown(telling, material),
                "told": [row["fingerprint"] for row in held],
            }
        )
    return sides


def _telling(side: Document) -> Document:
    """The first result of a side that says who holds something; without one, a result that says nothing."""
    return next((arm for arm in side["arms"] if arm["retainers"]), {"retainers": []})


def _paths_after(proof: Document) -> list[Sequence[str]]:
    return [row["path"] for key in ("remaining", "new") for row in proof.get("paths", {}).get(key, ())]


def _edges(proof: Document, material: Material) -> dict[str, list[dict[str, Any]]]:
    """The ways of being held, by what became of them, each with the edge that is gone where it vanished."""
    paths = proof.get("paths", {})
    after = _paths_after(proof)
    rows = {
        key: [_way(row, after if key == "vanished" else None) for row in paths.get(key, ())]
        for key in ("vanished", "remaining", "new")
    }
    sources = {key: shown(_telling(proof["before" if key == "vanished" else "after"]), material) for key in rows}
    return {key: [{**way, "shown": sources[key]} for way in ways] for key, ways in rows.items()}


def _way(row: Document, after: Sequence[Sequence[str]] | None) -> dict[str, Any]:
    """One way as a tree; where it vanished, with the two ends of the edge that none of ``after`` has, none where its
    path has one step alone."""
    path = row["path"]
    at = vanished_edge(path, after) if after is not None and path else None
    return {
        **row,
        "tree": retainer_tree([row], None if at is None else {0: at}),
        "edge": (path[at - 1], path[at]) if at else (),
    }


def _investigation(document: Document) -> dict[str, Any]:
    """An investigation of a lane: the families that grew, and who holds them."""
    groups = [
        {
            "target": row["type"],
            "count": max(0, row["count_delta"]),
            "retained_bytes": max(0, row["size_delta"]),
            "path": row["path"],
        }
        for row in document["families"]
        if row["path"] and len(row["path"]) > 1
    ]
    families = [{**row, "over_time": sparkline(row.get("sizes", ()))} for row in document["families"]]
    memory = _memory(document.get("memory", {}))
    return {
        **document,
        "families": families,
        "memory": memory,
        "verdict": document["likely"],
        "tree": retainer_tree(groups),
    }


def _memory(memory: Document) -> dict[str, Any]:
    """What test files left behind, each with its share of the most that one left."""
    files = memory.get("files", ())
    most = max((abs(row["left"]) for row in files), default=0) or 1
    shares = [{**row, "share": round(100 * max(0, row["left"]) / most, 1)} for row in files]
    return {"lanes": memory.get("lanes", ()), "files": shares}


def _coded(text: str) -> Any:
    """Text in which backticks stand around what is code, as markdown has it; escaped."""
    from markupsafe import Markup, escape

    parts = [
        Markup("<code>{}</code>").format(part) if at % 2 else escape(part) for at, part in enumerate(text.split("`"))
    ]
    return Markup("").join(parts)
