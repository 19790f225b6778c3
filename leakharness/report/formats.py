"""Stored results in the formats of other tools: markdown, html, junit, sarif and GitHub's annotations. Pure, but for
reading the files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from leakharness.documents import CheckDocument, ProveDocument, RunDocument, read_document, validated
from leakharness.errors import OptionError, UsageError
from leakharness.page_documents import CalibrateDocument, InvestigationDocument
from leakharness.places import functions_in
from leakharness.printable import cell, fenced, one_line, printable, prose
from leakharness.report.material import Material, shown
from leakharness.report.proof_arms import arms_of_proof

__all__ = ["FORMATS", "read_documents", "read_results", "render", "render_documents"]

STORED = ("run.json", "certificate.json", "proof.json", "calibration.json")
SCHEMAS = {
    "leakharness.run/1": RunDocument,
    "leakharness.check/1": CheckDocument,
    "leakharness.prove/1": ProveDocument,
    "leakharness.calibrate/1": CalibrateDocument,
    "leakharness.investigation/1": InvestigationDocument,
}
WITHOUT_ARMS = ("leakharness.calibrate/1", "leakharness.investigation/1")
"""Documents that hold no result of a run: a page shows them, and no other format."""
SHOWN = 60
"""Characters of an unknown schema's name that an error repeats."""
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {"FAIL": "error", "NOT_JUDGED": "warning", "PASS": "none"}
"""SARIF 2.1.0, section 3.27.10."""

SARIF_RULES = {
    "leak": (
        "A mode did not give what it must",
        "Objects or memory grow with every run, or a control that must leak does not. The message names what grows and "
        "the retainer path; break the edge that the first retainer names, then run the command again.",
    ),
    "not-judged": (
        "A mode could not be measured",
        "There is no verdict: the run crashed, hung, did not end as declared, or was too noisy. The message says "
        "which.",
    ),
}
"""SARIF 2.1.0, section 3.49: what a rule is and what to do about it."""
RULE_LEVELS = {"leak": "error", "not-judged": "warning"}
HELP = "https://leakharness.github.io/leakharness/how-to/run-it-in-ci/"
TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
MOST_DIGITS = 10
Document = Mapping[str, Any]


def read_results(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The run documents in these files or report folders, the arms of certificates one by one. Raises UsageError."""
    return _arms(read_documents(paths))


def read_documents(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The stored documents themselves: results, certificates and proofs. Raises UsageError."""
    return [_document(path) for path in paths]


def render_documents(documents: Sequence[Document], name: str, material: Material | None = None) -> str:
    """The documents in the format ``name``; the page shows a certificate or a proof as a whole, and ``material``
    beside it, the other formats arm by arm. Raises OptionError for a format that is not there, UsageError for documents
    that are not as ours."""
    if name != "html":
        return render(_arms(documents), name, material)
    from leakharness.report.page import page

    try:
        return printable(page(documents, material))
    except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as exc:
        raise UsageError(f"a stored result is not as this version writes it: {one_line(repr(exc))}") from None


def _arms(documents: Sequence[Document]) -> list[dict[str, Any]]:
    """The run documents in these documents; those of a proof say which side they are of."""
    results: list[dict[str, Any]] = []
    for document in documents:
        if document.get("schema") in WITHOUT_ARMS:
            raise OptionError(f"{document['schema']}: it holds no result of a run, and is rendered with --format html")
        if "controls" in document:
            results += [{**arm, "mode": f"{role}: {arm['mode']}"} for role, arm in arms_of_proof(document)]
        else:
            results += document.get("arms", [dict(document)])
    return results


def render(results: Sequence[Document], name: str, material: Material | None = None) -> str:
    """All results in the format ``name``; an annotation stands where ``material`` says that the closure is registered.
    Raises OptionError for one that is not there."""
    if name not in (*FORMATS, "html"):
        raise OptionError(f"--format {name!r}: it is one of {', '.join((*FORMATS, 'html'))}")
    if name == "html":
        return render_documents(results, name)
    return printable(_github(results, material) if name == "github" else FORMATS[name](results))


def _document(path: Path) -> dict[str, Any]:
    if path.is_dir():
        stored = [path / name for name in STORED if (path / name).is_file()]
        if not stored:
            raise UsageError(
                f"{path}: no {' or '.join(STORED)} in it; report takes the folders that run and check write"
            )
        path = stored[0]
    document = read_document(path, "a stored result")
    schema = document.get("schema") if isinstance(document, dict) else None
    if not isinstance(schema, str) or schema not in SCHEMAS:
        raise UsageError(f"{path}: a document of schema {str(schema)[:SHOWN]!r}; report takes {' and '.join(SCHEMAS)}")
    kind: Any = SCHEMAS[schema]
    found: dict[str, Any] = validated(kind, document, f"{path}: not as {schema} is written")
    return found


def _bad(result: Document) -> bool:
    """Whether the mode did not give what it must."""
    must = result.get("must")
    return bool(result["verdict"] != must) if must else result["verdict"] != "PASS"


def _name(result: Document) -> str:
    return f"{result['scenario']} / {result['mode']}"


def _text(result: Document) -> str:
    lines = [result["reason"]]
    if result.get("must"):
        lines.append(f"gave {result['verdict']}, must give {result['must']}")
    lines += [
        f"grows: {row['counter']} {row['per_run']:+g} a run ({row['rule']})" for row in result["growth"] if row["grows"]
    ]
    for row in result["retainers"]:
        lines += [row.get("sentence") or f"{row['count']} {row['target']}", *(f"  {step}" for step in row["path"])]
    if result.get("reproduce"):
        lines.append(f"reproduce: {result['reproduce']}")
    return "\n".join(lines)


def _markdown(results: Sequence[Document]) -> str:
    rows = ["| scenario | mode | must | gave | retained |", "| --- | --- | --- | --- | --- |"]
    for result in results:
        tracked = result["tracked"]
        retained = f"{tracked['retained']}/{tracked['born']}"
        asked = f"{cell(result['scenario'])} | {cell(result['mode'])} | {result.get('must') or '-'}"
        rows.append(f"| {asked} | {result['verdict']} | {retained} |")
    parts = [f"## {prose(_name(result))}: {result['verdict']}\n\n{fenced(_text(result))}" for result in results]
    return "\n".join(rows) + "\n\n" + "\n\n".join(parts) + "\n"


def _junit(results: Sequence[Document]) -> str:
    cases = []
    failures = errors = 0
    for result in results:
        names = f"classname={quoteattr(result['scenario'])} name={quoteattr(result['mode'])}"
        attributes = f'{names} time="{result["duration_s"]:.3f}"'
        properties = _properties(result)
        if not _bad(result):
            cases.append(f"  <testcase {attributes}>{properties}</testcase>")
            continue
        tag = "error" if result["verdict"] == "NOT_JUDGED" else "failure"
        errors += tag == "error"
        failures += tag == "failure"
        body = f"<{tag} message={quoteattr(result['reason'])}>{escape(_text(result))}</{tag}>"
        cases.append(f"  <testcase {attributes}>{properties}{body}</testcase>")
    counts = f'tests="{len(results)}" failures="{failures}" errors="{errors}" skipped="0"'
    took = f'time="{sum(result["duration_s"] for result in results):.3f}"'
    began = min((text for result in results if TIMESTAMP.fullmatch(text := result.get("started", ""))), default="")
    stamp = f" timestamp={quoteattr(began.removesuffix('Z'))}" if began else ""
    head = f'<testsuite name="leakharness" {counts} {took}{stamp}>'
    return '<?xml version="1.0" encoding="utf-8"?>\n' + "\n".join([head, *cases, "</testsuite>"]) + "\n"


def _properties(result: Document) -> str:
    """What a result rests on, as properties of its test case: what a table of runs is made from."""
    tracked = result["tracked"]
    facts: dict[str, Any] = {
        "must": result.get("must"),
        "verdict": result["verdict"],
        "runs": result["runs"],
        "warmup_runs": result.get("warmup_runs"),
        "tracked_born": tracked["born"],
        "tracked_retained": tracked["retained"],
        "python": result.get("python"),
        "platform": result.get("platform"),
        "scenario_at": result.get("where"),
        "reproduce": result.get("reproduce"),
    }
    facts |= {f"grows.{row['counter']}": f"{row['per_run']:g}" for row in result["growth"] if row["grows"]}
    facts |= {f"detectable.{name}": value for name, value in (result.get("detectable") or {}).items()}
    rows = [
        f"<property name={quoteattr(str(name))} value={quoteattr(str(value))}/>"
        for name, value in facts.items()
        if value not in (None, "")
    ]
    return f"<properties>{''.join(rows)}</properties>"


def place_of(result: Document) -> tuple[str, int] | None:
    """(file, line) to look at: the last line that a retainer path names, which is the closure's, else where the
    retained objects are born, else the scenario's; None where the result names no line."""
    for row in result["retainers"]:
        for _, file, line in functions_in(reversed(row["path"])):
            return file, line
    for site in result.get("allocations", ()):
        return str(site["file"]), int(site["line"])
    file, _, line = result.get("where", "").rpartition(":")
    return (file, int(line)) if file and line.isdecimal() and len(line) < MOST_DIGITS else None


def _usual_place(result: Document) -> tuple[str, int]:
    """Where a scenario of that name stands by custom: for results of versions that did not store its place. Code
    scanning refuses a file with a result that has no location."""
    return f"scenarios/{result['scenario'].replace('-', '_')}.py", 1


def _location(place: tuple[str, int]) -> dict[str, Any]:
    file, line = place
    uri = quote(file.replace("\\", "/"), safe="/", errors="replace")
    uri = f"file://{uri}" if uri.startswith("/") else uri
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": max(1, line)}}}


def _sarif(results: Sequence[Document]) -> str:
    found = [
        {
            "ruleId": "leak" if result["verdict"] != "NOT_JUDGED" else "not-judged",
            "level": LEVELS[result["verdict"]] if result["verdict"] != "PASS" else "error",
            "message": {"text": f"{_name(result)}: {_text(result)}"},
            "locations": [_location(place_of(result) or _usual_place(result))],
            "partialFingerprints": {
                f"retainer/{number}": row["fingerprint"] for number, row in enumerate(result["retainers"], 1)
            },
        }
        for result in results
        if _bad(result)
    ]
    rules = [
        {
            "id": name,
            "name": "".join(word.capitalize() for word in name.split("-")),
            "shortDescription": {"text": short},
            "fullDescription": {"text": text},
            "help": {"text": text},
            "helpUri": HELP,
            "defaultConfiguration": {"level": RULE_LEVELS[name]},
        }
        for name, (short, text) in SARIF_RULES.items()
    ]
    run = {"tool": {"driver": {"name": "leakharness", "informationUri": HELP, "rules": rules}}, "results": found}
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _github(results: Sequence[Document], material: Material | None = None) -> str:
    """Workflow commands: ``::error title=…::message``, with the escapes that they ask for."""
    lines = []
    for result in results:
        kind = "notice" if not _bad(result) else "warning" if result["verdict"] == "NOT_JUDGED" else "error"
        place = place_of(result) if _bad(result) else None
        registered = shown(result, material or Material()).registrations.get(place) if place is not None else None
        if registered:  # the line that a mend changes
            place = registered[0].file, registered[0].hits[0]
        where = f"file={_property(place[0])},line={place[1]}," if place else ""
        message = _text(result) if _bad(result) else result["reason"]
        lines.append(f"::{kind} {where}title={_property(_name(result))}::{_escaped(message)}")
    return "\n".join(lines) + "\n" if lines else ""


def _property(text: str) -> str:
    """A property of a workflow command, which a comma or a colon would end."""
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


FORMATS: Mapping[str, Callable[[Sequence[Document]], str]] = {
    "markdown": _markdown,
    "junit": _junit,
    "sarif": _sarif,
    "github": _github,
}
