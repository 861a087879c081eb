"""What a schema holds, and the way of a path through it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# A type is "VARCHAR", another leaf's SQL name, a dict (struct) or a list with one item (list).
Shape = str | dict[str, Any] | list[Any]
TEXT = "VARCHAR"


class OddShape(Exception):
    """This schema has something only `normalise` can read (a map, a blob, a key/value list, a dotted name)."""


def shape_of(columns: Iterable[tuple[str, Any]]) -> dict[str, Shape]:
    """DuckDB column types → Shape. Raises OddShape for what only the JSON road can read."""
    return {_plain_name(name): _shape(kind) for name, kind in columns}


def steps(path: str) -> list[str | int]:
    """`a.list[0].c` → ["a", "list", 0, "c"]."""
    found: list[str | int] = []
    for part in path.split("."):
        name, *indices = part.replace("]", "").split("[")
        found += [name, *map(int, indices)]
    return found


def plant(node: dict[str, Any], way: list[str | int], leaf: Shape) -> None:
    """Puts `leaf` at the end of `way`; where a path is both text and object it is text."""
    name, rest = str(way[0]), way[1:]
    if rest and isinstance(rest[0], int):
        item: Any = node.setdefault(name, [{}] if len(rest) > 1 else [leaf])
        if isinstance(item, list) and isinstance(item[0], dict) and len(rest) > 1:
            plant(item[0], rest[1:], leaf)
    elif rest:
        below = node.setdefault(name, {})
        if isinstance(below, dict):
            plant(below, rest, leaf)
    elif isinstance(leaf, list) and isinstance(node.get(name), list) and isinstance(node[name][0], dict):
        for key, item in leaf[0].items():  # two facts read elements of the same list
            node[name][0].setdefault(key, item)
    else:
        node[name] = leaf


def _shape(kind: Any) -> Shape:
    if kind.id == "struct":
        children = list(kind.children)
        if {name.lower() for name, _ in children} == {"key", "value"}:
            raise OddShape("a key/value list")
        return {_plain_name(name): _shape(child) for name, child in children}
    if kind.id in ("list", "array"):
        return [_shape(kind.children[0][1])]
    if kind.id in ("map", "union", "blob", "variant", "bit", "interval"):
        raise OddShape(f"a column of type {kind}")
    return TEXT if kind.id == "varchar" or str(kind) == "JSON" else str(kind)


def _plain_name(name: str) -> str:
    if "." in name:
        raise OddShape(f"a dotted name, {name!r}")
    return name
