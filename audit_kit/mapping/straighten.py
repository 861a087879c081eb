"""Straightens events whose shape SQL cannot read: maps, key/value lists, dotted keys, JSON inside JSON."""

from __future__ import annotations

import json
from typing import Any

# Marks JSON that `from_json` would read differently from its meaning: a key with a dot, a key/value list, text that
# is itself JSON (also as a whole, or of a list joined by \x1e), a number not in its plain form (7.0, 1e3, NaN). A false
# alarm only costs the slower road.
ODD_JSON = (
    r'"[^"\\]*\.[^"\\]*"\s*:'
    r'|"(?i:key)"\s*:'
    r'|(?:^|\x1e)\s*"'
    r'|[:\[,]\s*"(?:\s|\\[nrt])*[\[{]'
    r"|:\s*-?(?:[0-9]+(?:\.[0-9]*0+|(?:\.[0-9]+)?[eE][+-]?[0-9]+)\s*[,}\]]|(?i:nan|inf))"
)


def normalise(value: Any) -> Any:
    """Straightens one decoded event: JSON text, key/value lists and dotted keys become plain objects.

    Nulls and empty values go; the result holds only what `json_shape` can meet. Half a surrogate pair, which no
    database holds, becomes U+FFFD, so that an event cannot hide behind one.
    """
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            return None
        return int(value) if value.is_integer() and abs(value) < 2**63 else value
    if isinstance(value, list):
        if value and all(isinstance(item, dict) and _is_pair(item) for item in value):
            return normalise({str(_get(item, "key")): _get(item, "value") for item in value})
        return [item for item in map(normalise, value) if not _is_empty(item)]
    if isinstance(value, dict):
        straight: dict[str, Any] = {}
        for key, item in value.items():
            plain = normalise(item)
            if not _is_empty(plain):
                _put(straight, _whole(str(key)).split("."), plain)
        return straight
    return value


def _text(text: str) -> Any:
    if text.lstrip()[:1] in ("{", "["):
        try:
            return normalise(json.loads(text))
        except (ValueError, RecursionError):
            pass  # text that only begins like JSON
    return _whole(text)


def _whole(text: str) -> str:
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _is_pair(item: dict[str, Any]) -> bool:
    return {str(k).lower() for k in item} in ({"key", "value"}, {"key"})


def _get(item: dict[str, Any], name: str) -> Any:
    return next((v for k, v in item.items() if str(k).lower() == name), None)


def _is_empty(value: Any) -> bool:
    return value is None or value in ("", {}, [])


def _put(node: dict[str, Any], steps: list[str], value: Any) -> None:
    """Sets a dotted key; two spellings of one object are merged, and a clash keeps what came first."""
    for step in steps[:-1]:
        below = node.setdefault(step, {})
        if not isinstance(below, dict):
            return
        node = below
    last = steps[-1]
    if isinstance(value, dict) and isinstance(node.get(last), dict):
        for key, item in value.items():
            _put(node[last], [key], item)
    else:
        node.setdefault(last, value)
