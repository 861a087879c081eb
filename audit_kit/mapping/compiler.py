"""Walks the paths of a fact through one schema: path → SQL expression and its type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from audit_kit.mapping.expressions import literal
from audit_kit.mapping.shapes import TEXT, Shape, plant, steps


class Compiler:
    """One schema. Collects the text that must be read as JSON where an object was expected.

    `root` is the column that the event lies below (empty: its fields are columns), `wanted` the structure that such
    text is read into.
    """

    def __init__(self, shape: Mapping[str, Shape], root: str, wanted: dict[str, Any]) -> None:
        self.shape = shape
        self.root = root
        self.wanted = wanted
        self.parsed: dict[str, tuple[str, Shape]] = {}  # alias → (column of text, structure to read it into)
        self.texts_in_lists: list[str] = []

    @property
    def texts(self) -> list[str]:
        """Expressions for all text of this schema that is read as JSON."""
        return [source for source, _ in self.parsed.values()] + self.texts_in_lists

    def parse_columns(self) -> str:
        """`, from_json(…) AS parsed_0, …` for the innermost SELECT."""
        return "".join(f", {_parse(source, wanted)} AS {alias}" for alias, (source, wanted) in self.parsed.items())

    def walk(self, path: str) -> tuple[str, Shape] | None:
        return self._walk("", dict(self.shape), self.wanted, steps(path))

    def elements(self, path: str, fields: Mapping[str, tuple[str, ...]]) -> tuple[str, Shape] | None:
        """A list of flat structs, or None where the schema has none there.

        The first path of field `f` is `f_0` and so on; those that the schema lacks are left out.
        """
        found = self.walk(path)
        if found is None:
            return None
        expression, kind = found
        wanted: dict[str, Any] = {}
        for sub_path in (p for paths in fields.values() for p in paths):
            plant(wanted, steps(sub_path), TEXT)
        if kind == TEXT:
            expression, kind = self._parsed(expression, [wanted])
        if not isinstance(kind, list):
            return None
        inside = _InList(kind, wanted)
        if inside.kind is None:
            return None
        leaves = {
            f"{field}_{number}": leaf
            for field, sub_paths in fields.items()
            for number, sub_path in enumerate(sub_paths)
            if (leaf := inside.leaf(sub_path))
        }
        self.texts_in_lists += [
            f"array_to_string(list_transform({expression}, lambda r: {text}), chr(30))" for text in inside.texts
        ]
        if not leaves:
            return None
        cells = ", ".join(f"{name}: {leaf}" for name, (leaf, _) in leaves.items())
        return f"list_transform({expression}, lambda r: {{{cells}}})", [
            {name: leaf[1] for name, leaf in leaves.items()}
        ]

    def _walk(self, expression: str, kind: Shape, wanted: Any, way: list[str | int]) -> tuple[str, Shape] | None:
        is_parsed = False
        for position, step in enumerate(way):
            if kind == TEXT:
                if not isinstance(wanted, (dict, list)):
                    wanted = _planted(way[position:])
                if is_parsed:
                    expression, kind = _parse(expression, wanted), wanted
                else:
                    expression, kind = self._parsed(expression, wanted)
                is_parsed = True
            below = _below(expression or self.root, kind, step)
            if below is None:
                return None
            expression, kind = below
            wanted = _part(wanted, step)
        return expression, kind

    def _parsed(self, source: str, wanted: Shape) -> tuple[str, Shape]:
        """Text where an object was expected: read it once, in a column of its own, for all paths below it."""
        alias = next((a for a, known in self.parsed.items() if known == (source, wanted)), None)
        if alias is None:
            alias = f"parsed_{len(self.parsed)}"
            self.parsed[alias] = (source, wanted)
        return alias, wanted


class _InList:
    """Paths below the elements of one list, which a lambda calls `r`."""

    def __init__(self, kind: list[Any], wanted: dict[str, Any]) -> None:
        self.wanted = wanted
        self.texts: list[str] = []
        self.start = "r"
        self.kind: Shape | None = kind[0] if isinstance(kind[0], dict) else None
        if kind[0] == TEXT:
            self.texts.append("r")
            self.start, self.kind = _parse("r", wanted), wanted

    def leaf(self, path: str) -> tuple[str, Shape] | None:
        expression, kind, wanted = self.start, self.kind, self.wanted
        for step in steps(path):
            if kind == TEXT and isinstance(wanted, dict):
                self.texts.append(expression)
                expression, kind = _parse(expression, wanted), wanted
            below = _below(expression, kind, step)
            if below is None:
                return None
            expression, kind = below
            wanted = _part(wanted, step)
        return None if kind is None or isinstance(kind, (dict, list)) else (expression, kind)


def _below(prefix: str, kind: Shape | None, step: str | int) -> tuple[str, Shape] | None:
    if isinstance(step, int):
        return (f"{prefix}[{step + 1}]", kind[0]) if isinstance(kind, list) else None
    if not isinstance(kind, dict) or step not in kind:
        return None
    name = '"' + step.replace('"', '""') + '"'
    return (f"{prefix}.{name}" if prefix else name), kind[step]


def _part(wanted: Any, step: str | int) -> Any:
    if isinstance(step, int):
        return wanted[0] if isinstance(wanted, list) else None
    return wanted.get(step) if isinstance(wanted, dict) else None


def _planted(way: list[str | int]) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    plant(wanted, way, TEXT)
    return wanted


def _parse(source: str, wanted: Shape) -> str:
    return f"from_json(CASE WHEN json_valid({source}) THEN {source} END, {literal(json.dumps(wanted))})"
