"""JSON, the same bytes for the same result."""

from __future__ import annotations

from typing import Any

__all__ = ["to_json"]


def to_json(document: Any, *, indent: bool = False) -> bytes:
    """One JSON document, ending in a newline; keys in the order of the contract."""
    import orjson

    options = orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if indent else 0)
    return orjson.dumps(document, option=options)
