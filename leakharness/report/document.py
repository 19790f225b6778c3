"""JSON, the same bytes for the same result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from leakharness.printable import encodable

__all__ = ["to_json"]


def to_json(document: Any, *, indent: bool = False) -> bytes:
    """One JSON document, ending in a newline; keys in the order of the contract."""
    import orjson

    options = orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if indent else 0)
    try:
        return orjson.dumps(document, option=options)
    except TypeError:  # lone surrogates: no text that JSON in UTF-8 can hold
        return orjson.dumps(_encodable(document), option=options)


def _encodable(value: Any) -> Any:
    """``value`` with its texts as UTF-8 can hold them."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, Mapping):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encodable(item) for item in value]
    return value
