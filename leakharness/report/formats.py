"""Stored results in the formats of other tools: markdown, html, junit, sarif and GitHub's annotations. Pure, but for
reading the files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from leakharness.errors import OptionError, UsageError

__all__ = ["FORMATS", "read_results", "render"]

STORED = ("run.json", "certificate.json")
SCHEMAS = ("leakharness.run/1", "leakharness.check/1")
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {"FAIL": "error", "NOT_JUDGED": "warning", "PASS": "none"}
"""SARIF 2.1.0, section 3.27.10."""

Document = Mapping[str, Any]


def read_results(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """The run documents in these files or report folders, the arms of certificates one by one. Raises UsageError."""
    results: list[dict[str, Any]] = []
    for path in paths:
        results += _documents(path)
    return results


def render(results: Sequence[Document], name: str) -> str:
    """All results in the format ``name``. Raises OptionError for one that is not there."""
    if name not in FORMATS:
        raise OptionError(f"--format {name!r}: it is one of {', '.join(FORMATS)}")
    return FORMATS[name](results)


def _documents(path: Path) -> list[dict[str, Any]]:
    if path.is_dir():
        stored = [path / name for name in STORED if (path / name).is_file()]
        if not stored:
            raise UsageError(
                f"{path}: no {' or '.join(STORED)} in it; report takes the folders that run and check write"
            )
        path = stored[0]
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        schema = document["schema"]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise UsageError(f"{path}: not a stored result: {exc!r}") from None
    if schema not in SCHEMAS:
        raise UsageError(f"{path}: a document of schema {schema!r}; report takes {' and '.join(SCHEMAS)}")
    return list(document["arms"]) if schema == SCHEMAS[1] else [document]


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
        rows.append(
            f"| {result['scenario']} | {result['mode']} | {result.get('must') or '-'} | {result['verdict']} | "
            f"{tracked['retained']}/{tracked['born']} |"
        )
    parts = [f"## {_name(result)}: {result['verdict']}\n\n```\n{_text(result)}\n```" for result in results]
    return "\n".join(rows) + "\n\n" + "\n\n".join(parts) + "\n"


def _html(results: Sequence[Document]) -> str:
    parts = [
        f"<section><h2>{escape(_name(result))}: {escape(result['verdict'])}</h2>"
        f"<pre>{escape(_text(result))}</pre></section>"
        for result in results
    ]
    style = "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em}pre{overflow-x:auto}"
    head = f'<meta charset="utf-8"><title>leakharness</title><style>{style}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def _junit(results: Sequence[Document]) -> str:
    cases = []
    failures = errors = 0
    for result in results:
        names = f"classname={quoteattr(result['scenario'])} name={quoteattr(result['mode'])}"
        attributes = f'{names} time="{result["duration_s"]:.3f}"'
        if not _bad(result):
            cases.append(f"  <testcase {attributes}/>")
            continue
        tag = "error" if result["verdict"] == "NOT_JUDGED" else "failure"
        errors += tag == "error"
        failures += tag == "failure"
        body = f"<{tag} message={quoteattr(result['reason'])}>{escape(_text(result))}</{tag}>"
        cases.append(f"  <testcase {attributes}>{body}</testcase>")
    head = f'<testsuite name="leakharness" tests="{len(results)}" failures="{failures}" errors="{errors}">'
    return '<?xml version="1.0" encoding="utf-8"?>\n' + "\n".join([head, *cases, "</testsuite>"]) + "\n"


def _sarif(results: Sequence[Document]) -> str:
    found = [
        {
            "ruleId": "leak" if result["verdict"] != "NOT_JUDGED" else "not-judged",
            "level": LEVELS[result["verdict"]] if result["verdict"] != "PASS" else "error",
            "message": {"text": f"{_name(result)}: {_text(result)}"},
            "partialFingerprints": {
                f"retainer/{number}": row["fingerprint"] for number, row in enumerate(result["retainers"], 1)
            },
        }
        for result in results
        if _bad(result)
    ]
    rules = [{"id": "leak"}, {"id": "not-judged"}]
    run = {"tool": {"driver": {"name": "leakharness", "rules": rules}}, "results": found}
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2) + "\n"


def _github(results: Sequence[Document]) -> str:
    """Workflow commands: ``::error title=…::message``, with the escapes that they ask for."""
    lines = []
    for result in results:
        kind = "notice" if not _bad(result) else "warning" if result["verdict"] == "NOT_JUDGED" else "error"
        title = _escaped(_name(result)).replace(":", "%3A").replace(",", "%2C")
        lines.append(f"::{kind} title={title}::{_escaped(_text(result) if _bad(result) else result['reason'])}")
    return "\n".join(lines) + "\n" if lines else ""


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


FORMATS: Mapping[str, Callable[[Sequence[Document]], str]] = {
    "markdown": _markdown,
    "html": _html,
    "junit": _junit,
    "sarif": _sarif,
    "github": _github,
}
