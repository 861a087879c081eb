"""OCSF events → canonical columns: compiles `queries/mapping/fields.toml` to SQL for the schema at hand.

Two kinds of input meet one compiler. A Parquet file brings its own nested schema; JSON text is first read into the
one structure that holds every path of the table (`JSON_SHAPE`), and from there on is a schema like any other. What
neither can express (maps, key/value lists, dotted keys, JSON inside JSON) is `odd`: `normalise` straightens such an
event in Python, and it goes on as JSON text. So there is one set of rules, and every road gives the same rows.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from audit_kit.errors import MappingError
from audit_kit.paths import CATALOGS, QUERIES
from audit_kit.settings import ResourceScope, Settings

# A type is "text", another leaf's SQL name, a dict (struct) or a list with one item (list).
Shape = str | dict[str, Any] | list[Any]
TEXT = "VARCHAR"

# Marks JSON that `from_json` would read differently from its meaning: a key with a dot, a key/value list, or text
# that is itself JSON. A false alarm only costs the slower road.
ODD_JSON = r'"[^"\\]*\.[^"\\]*"\s*:|"(?:key|Key|value|Value)"\s*:|:\s*"\s*[\[{]|[\[,]\s*"\s*[\[{]'


class OddShape(Exception):
    """This schema has something only `normalise` can read (a map, a blob, a key/value list, a dotted name)."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One entry of fields.toml."""

    name: str
    type: str
    paths: tuple[str, ...]
    captions: Mapping[str, int]
    fields: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class EventMapping:
    """fields.toml with a company's overrides, its resources in scope and the operations catalogue."""

    facts: tuple[Fact, ...]
    kinds: Mapping[str, tuple[str, ...]]
    resources: tuple[ResourceScope, ...]
    catalog_resource: str
    operations: tuple[tuple[str, str], ...]  # (method, path template)
    events_sql: str

    @cached_property
    def hash(self) -> str:
        """SHA-256 over everything that can change a row; kept with each file so that a change is seen."""
        text = repr((self.facts, self.kinds, self.resources, self.catalog_resource, self.operations, self.events_sql))
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def json_shape(self) -> dict[str, Any]:
        """The structure that holds every path, for `from_json`; where a path is both text and object it is text."""
        root: dict[str, Any] = {}
        for fact in self.facts:
            for path in fact.paths:
                if fact.type == "elements":
                    item: dict[str, Any] = {}
                    for sub_path in (p for paths in fact.fields.values() for p in paths):
                        _plant(item, _steps(sub_path), TEXT)
                    _plant(root, _steps(path), [item])
                else:
                    _plant(root, _steps(path), TEXT)
        return root

    def macros(self) -> Iterable[str]:
        """`CREATE TEMP MACRO` statements that events.sql calls; run once a connection."""
        yield (
            "CREATE OR REPLACE TEMP MACRO says_no(d) AS regexp_matches(lower(trim(d)), "
            "'^(den|forbid|reject|block|not |no$|false$)')"
        )
        yield (
            "CREATE OR REPLACE TEMP MACRO says_yes(d) AS regexp_matches(lower(trim(d)), "
            "'^(allow|permit|approve|grant|yes$|true$)')"
        )
        yield f"CREATE OR REPLACE TEMP MACRO resource_in_scope(r) AS {_scope_case('r', self.resources)}"
        yield f"CREATE OR REPLACE TEMP MACRO catalog_resource() AS {_literal(self.catalog_resource)}"
        yield (
            "CREATE OR REPLACE TEMP MACRO operation_of(method, segments) AS "
            f"{_operation_case('method', 'segments', self.operations)}"
        )

    def select(self, shape: Mapping[str, Shape], relation: str, root: str = "") -> str:
        """The SELECT that turns `relation` into canonical rows.

        `relation` must have `source_file` and `source_row` beside the event's columns, which lie below `root`
        (empty: they are the relation's own columns) and have the types of `shape`. Raises OddShape.
        """
        return f"WITH facts AS ({self._facts_sql(shape, relation, root)}) {self._derived}"

    def is_foreign(self, shape: Mapping[str, Shape]) -> bool:
        """True where the schema has none of the places that make an event OCSF."""
        compiler = _Compiler(shape, "", self.json_shape)
        markers = (f for f in self.facts if f.name in ("class_uid", "type_uid", "ocsf_version"))
        return not any(compiler.walk(path) for fact in markers for path in fact.paths)

    def text_columns(self, shape: Mapping[str, Shape]) -> list[str]:
        """Expressions of this schema that hold text where the table expects an object or a list."""
        compiler = _Compiler(shape, "", self.json_shape)
        for fact in self.facts:
            for path in fact.paths:
                compiler.walk(path)
        return [source for source, _ in compiler.parsed.values()]

    @cached_property
    def _derived(self) -> str:
        body = re.sub(r"/\*.*?\*/", "", self.events_sql, count=1, flags=re.S).strip()
        if not body.upper().startswith("WITH "):
            raise MappingError("queries/mapping/events.sql must open with a comment, then WITH")
        return ", " + body[len("WITH ") :]

    def _facts_sql(self, shape: Mapping[str, Shape], relation: str, root: str) -> str:
        compiler = _Compiler(shape, root, self.json_shape)
        raw: list[str] = []  # stage 1: one column a candidate, so that no path is walked twice
        facts: list[str] = []  # stage 2: first usable candidate, typed
        for fact in self.facts:
            candidates = []
            for path in fact.paths:
                found = compiler.elements(path, fact.fields) if fact.type == "elements" else compiler.walk(path)
                if found is None:
                    continue
                expression, kind = found
                alias = f"c{len(raw)}"
                raw.append(f"{expression} AS {alias}")
                candidates.append((alias, kind))
            facts.append(f"{_typed(fact, candidates)} AS {fact.name}")
        named = " ".join(
            f"WHEN lower(event_name) IN ({', '.join(_literal(n.lower()) for n in names)}) THEN {_literal(kind)}"
            for kind, names in self.kinds.items()
        )
        parsed = "".join(
            f", CASE WHEN json_valid({source}) THEN from_json({source}, {_literal(json.dumps(wanted))}) END AS {alias}"
            for alias, (source, wanted) in compiler.parsed.items()
        )
        candidates_sql = f"SELECT source_file, source_row{''.join(', ' + r for r in raw)} FROM "
        candidates_sql += f"(SELECT *{parsed} FROM {relation})" if parsed else relation
        return (
            f"SELECT *, CASE {named} END AS named_kind, "
            "class_uid IS NOT NULL OR type_uid IS NOT NULL OR ocsf_version IS NOT NULL AS looks_like_ocsf "
            f"FROM (SELECT source_file, source_row, {', '.join(facts)} FROM ({candidates_sql}))"
        )


def load_mapping(settings: Settings) -> EventMapping:
    """Reads fields.toml, events.sql and the catalogue, with the settings' overrides in front.

    Raises MappingError where an override names a column or kind that does not exist.
    """
    folder = QUERIES / "mapping"
    table = tomllib.loads((folder / "fields.toml").read_text(encoding="utf-8"))
    kinds = {kind: tuple(names) for kind, names in table.pop("kinds").items()}
    where = settings.path or Path("audit-kit.toml")
    for name, paths in settings.mapping_columns.items():
        if name not in table:
            raise MappingError(f"{where}: [mapping.columns] {name}: no such fact; there are {', '.join(sorted(table))}")
        table[name]["paths"] = [*paths, *table[name]["paths"]]
    for kind, names in settings.mapping_kinds.items():
        if kind not in kinds:
            raise MappingError(f"{where}: [mapping.kinds] {kind}: no such kind; there are {', '.join(sorted(kinds))}")
        # A name the company claims for one kind is no longer ours for another.
        kinds = {k: tuple(n for n in own if n not in names) for k, own in kinds.items()}
        kinds[kind] = (*names, *kinds[kind])
    facts = tuple(
        Fact(
            name,
            entry["type"],
            tuple(entry["paths"]),
            entry.get("captions", {}),
            {field: tuple(paths) for field, paths in entry.get("fields", {}).items()},
        )
        for name, entry in table.items()
    )
    catalog = CATALOGS / settings.catalog
    if not catalog.is_dir():
        known = ", ".join(sorted(p.name for p in CATALOGS.iterdir() if p.is_dir()))
        raise MappingError(f"{where}: catalog = {settings.catalog!r}: no such catalogue; there are {known}")
    with (catalog / "operations.csv").open(encoding="utf-8", newline="") as lines:
        operations = tuple((row["method"], row["path_template"]) for row in csv.DictReader(lines))
    return EventMapping(
        facts=facts,
        kinds=kinds,
        resources=settings.resources,
        catalog_resource=tomllib.loads((catalog / "catalog.toml").read_text(encoding="utf-8"))["resource"],
        operations=operations,
        events_sql=(folder / "events.sql").read_text(encoding="utf-8"),
    )


def shape_of(columns: Iterable[tuple[str, Any]]) -> dict[str, Shape]:
    """DuckDB column types → Shape. Raises OddShape for what only the JSON road can read."""
    return {_plain_name(name): _shape(kind) for name, kind in columns}


def normalise(value: Any) -> Any:
    """Straightens one decoded event: JSON text, key/value lists and dotted keys become plain objects.

    Nulls and empty values go; the result holds only what `json_shape` can meet.
    """
    if isinstance(value, str):
        text = value.strip()
        if text[:1] in ("{", "["):
            try:
                return normalise(json.loads(text))
            except (ValueError, RecursionError):
                return value
        return value
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            return None
        return int(value) if value.is_integer() and abs(value) < 2**63 else value
    if isinstance(value, list):
        if value and all(isinstance(item, dict) and _is_pair(item) for item in value):
            return normalise({_get(item, "key"): _get(item, "value") for item in value})
        return [item for item in map(normalise, value) if not _is_empty(item)]
    if isinstance(value, dict):
        straight: dict[str, Any] = {}
        for key, item in value.items():
            plain = normalise(item)
            if not _is_empty(plain):
                _put(straight, str(key).split("."), plain)
        return straight
    return value


# ── shapes ──────────────────────────────────────────────────────────────────────────────────────────────────


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
    if str(kind) == "JSON":
        return TEXT
    return TEXT if kind.id == "varchar" else str(kind)


def _plain_name(name: str) -> str:
    if "." in name:
        raise OddShape(f"a dotted name, {name!r}")
    return name


def _steps(path: str) -> list[str | int]:
    steps: list[str | int] = []
    for part in path.split("."):
        name, *indices = part.replace("]", "").split("[")
        steps += [name, *map(int, indices)]
    return steps


def _plant(node: dict[str, Any], steps: list[str | int], leaf: Shape) -> None:
    name, rest = str(steps[0]), steps[1:]
    if rest and isinstance(rest[0], int):
        item: Any = node.setdefault(name, [{}] if len(rest) > 1 else [leaf])
        if isinstance(item, list) and isinstance(item[0], dict) and len(rest) > 1:
            _plant(item[0], rest[1:], leaf)
    elif rest:
        below = node.setdefault(name, {})
        if isinstance(below, dict):
            _plant(below, rest, leaf)
    elif isinstance(leaf, list) and isinstance(node.get(name), list) and isinstance(node[name][0], dict):
        for key, item in leaf[0].items():  # two facts read elements of the same list
            node[name][0].setdefault(key, item)
    else:
        node[name] = leaf


class _Compiler:
    """Walks paths through one schema; collects the text columns that must be parsed first."""

    def __init__(self, shape: Mapping[str, Shape], root: str, json_shape: dict[str, Any]) -> None:
        self.shape = shape
        self.root = root
        self.json_shape = json_shape
        self.parsed: dict[str, tuple[str, Shape]] = {}  # alias → (source expression, structure to read)

    def walk(self, path: str) -> tuple[str, Shape] | None:
        return self._walk("", dict(self.shape), self.json_shape, _steps(path), is_top=True)

    def elements(self, path: str, fields: Mapping[str, tuple[str, ...]]) -> tuple[str, Shape] | None:
        """A list of structs with `fields`, all text, or None where the schema has no list there."""
        found = self.walk(path)
        if found is None:
            return None
        expression, kind = found
        wanted: dict[str, Any] = {}
        for sub_path in (p for paths in fields.values() for p in paths):
            _plant(wanted, _steps(sub_path), TEXT)
        if kind == TEXT:
            expression, kind = _parse(expression, [wanted]), [wanted]
        if not isinstance(kind, list):
            return None
        item = kind[0]
        inner = "r"
        if item == TEXT:
            inner, item = _parse("r", wanted), wanted
        if not isinstance(item, dict):
            return None
        cells = []
        for field, sub_paths in fields.items():
            found_fields = [self._walk(inner, item, wanted, _steps(p), is_top=False) for p in sub_paths]
            usable = [
                _clean(_as_text(*f)) for f in found_fields if f is not None and not isinstance(f[1], (dict, list))
            ]
            cells.append(f"'{field}': {_coalesce(usable, 'CAST(NULL AS VARCHAR)')}")
        return f"list_transform({expression}, lambda r: {{{', '.join(cells)}}})", [dict.fromkeys(fields, TEXT)]

    def _walk(
        self, expression: str, kind: Shape, wanted: Any, steps: list[str | int], *, is_top: bool
    ) -> tuple[str, Shape] | None:
        for position, step in enumerate(steps):
            if kind == TEXT:
                expression, kind = self._parsed(expression, wanted, steps[position:], is_top)
                is_top = False
            if isinstance(step, int):
                if not isinstance(kind, list):
                    return None
                expression, kind = f"{expression}[{step + 1}]", kind[0]
                wanted = wanted[0] if isinstance(wanted, list) else None
                continue
            if not isinstance(kind, dict) or step not in kind:
                return None
            name = '"' + step.replace('"', '""') + '"'
            prefix = expression or self.root
            expression, kind = (f"{prefix}.{name}" if prefix else name), kind[step]
            wanted = wanted.get(step) if isinstance(wanted, dict) else None
        return expression, kind

    def _parsed(self, source: str, wanted: Any, steps: list[str | int], is_top: bool) -> tuple[str, Shape]:
        """Text where an object was expected: read it once, in a column of its own, for all paths below it."""
        if not isinstance(wanted, (dict, list)):
            wanted = {}
            _plant(wanted, steps, TEXT)
            return _parse(source, wanted), wanted
        if not is_top:
            return _parse(source, wanted), wanted
        for alias, (known, _) in self.parsed.items():
            if known == source:
                return alias, wanted
        alias = f"parsed_{len(self.parsed)}"
        self.parsed[alias] = (source, wanted)
        return alias, wanted


# ── expressions ─────────────────────────────────────────────────────────────────────────────────────────────


def _parse(source: str, wanted: Shape) -> str:
    return f"from_json(CASE WHEN json_valid({source}) THEN {source} END, {_literal(json.dumps(wanted))})"


def _typed(fact: Fact, candidates: list[tuple[str, Shape]]) -> str:
    if fact.type == "elements":
        cells = ", ".join(f'"{f}" VARCHAR' for f in fact.fields)
        lists = [f"coalesce({alias}, [])" for alias, _ in candidates]
        return f"CAST({' || '.join(lists) or '[]'} AS STRUCT({cells})[])"
    if fact.type == "text_list":
        return _coalesce([_words(alias, kind) for alias, kind in candidates], "CAST(NULL AS VARCHAR[])")
    leaves = [(alias, kind) for alias, kind in candidates if not isinstance(kind, (dict, list))]
    if fact.type == "text":
        return _coalesce([_clean(_as_text(alias, kind)) for alias, kind in leaves], "CAST(NULL AS VARCHAR)")
    if fact.type == "integer":
        return _coalesce([_integer(alias, kind) for alias, kind in leaves], "CAST(NULL AS BIGINT)")
    if fact.type == "enum":
        captions = " ".join(f"WHEN {_literal(text)} THEN {number}" for text, number in fact.captions.items())
        both = [e for alias, kind in leaves for e in _enum(alias, kind, captions)]
        return _coalesce(both, "CAST(NULL AS BIGINT)")
    if fact.type == "time":
        return _coalesce([_instant(alias, kind) for alias, kind in leaves], "CAST(NULL AS TIMESTAMPTZ)")
    raise MappingError(f"queries/mapping/fields.toml: [{fact.name}] type = {fact.type!r} is not known")


def _coalesce(expressions: list[str], otherwise: str) -> str:
    if not expressions:
        return otherwise
    return expressions[0] if len(expressions) == 1 else f"coalesce({', '.join(expressions)})"


def _as_text(expression: str, kind: Shape) -> str:
    if kind == TEXT:
        return expression
    if kind in ("DOUBLE", "FLOAT") or str(kind).startswith("DECIMAL"):
        # A dataframe that met a null turns 7 into 7.0; the id is 7.
        return (
            f"CASE WHEN {expression} = trunc({expression}) AND abs({expression}) < 9e18 "
            f"THEN CAST(CAST({expression} AS BIGINT) AS VARCHAR) ELSE CAST({expression} AS VARCHAR) END"
        )
    return f"CAST({expression} AS VARCHAR)"


def _clean(text: str) -> str:
    return (
        f"CASE WHEN {text} NOT IN ('', '-', 'null') AND NOT starts_with({text}, '{{') AND NOT starts_with({text}, '[') "
        f"THEN {text} END"
    )


def _integer(expression: str, kind: Shape) -> str:
    if kind == TEXT:
        return f"coalesce(TRY_CAST({expression} AS BIGINT), TRY_CAST(TRY_CAST({expression} AS DOUBLE) AS BIGINT))"
    return f"TRY_CAST({expression} AS BIGINT)"


def _enum(expression: str, kind: Shape, captions: str) -> list[str]:
    number = _integer(expression, kind)
    return [number, f"CASE lower(trim({expression})) {captions} END"] if kind == TEXT else [number]


# Instants outside [1990, 2100) are no event times; the ranges of s, ms, µs and ns inside it do not overlap.
_FIRST_SECOND, _LAST_SECOND = 631_152_000, 4_102_444_800
_FIRST_INSTANT, _LAST_INSTANT = "TIMESTAMPTZ '1990-01-01 00:00:00+00'", "TIMESTAMPTZ '2100-01-01 00:00:00+00'"


def _instant(expression: str, kind: Shape) -> str:
    text = str(kind)
    if text.startswith("TIMESTAMP") or text == "DATE":
        return _plausible(f"CAST(CAST({expression} AS {_micro_type(text)}) AS TIMESTAMPTZ)")
    if kind == TEXT:
        return (
            f"CASE WHEN regexp_full_match({expression}, '[0-9]{{1,19}}') "
            f"THEN {_scaled(f'TRY_CAST({expression} AS BIGINT)')} "
            f"WHEN regexp_full_match({expression}, '[0-9]{{1,18}}\\.[0-9]+') "
            f"THEN {_scaled(f'TRY_CAST({expression} AS DOUBLE)')} "
            f"ELSE {_plausible(f'TRY_CAST({expression} AS TIMESTAMPTZ)')} END"
        )
    is_float = text in ("DOUBLE", "FLOAT") or text.startswith("DECIMAL")
    return _scaled(f"TRY_CAST({expression} AS {'DOUBLE' if is_float else 'BIGINT'})")


def _micro_type(timestamp: str) -> str:
    return "TIMESTAMPTZ" if "TIME ZONE" in timestamp else "TIMESTAMP"


def _plausible(instant: str) -> str:
    return f"CASE WHEN {instant} >= {_FIRST_INSTANT} AND {instant} < {_LAST_INSTANT} THEN {instant} END"


def _scaled(number: str) -> str:
    """s, ms, µs or ns since 1970 → instant, told apart by size; anything else NULL."""
    branches = " ".join(
        f"WHEN {number} >= {_FIRST_SECOND * per_second} AND {number} < {_LAST_SECOND * per_second} THEN {micros}"
        for per_second, micros in (
            (1, f"{number} * 1000000"),
            (1_000, f"{number} * 1000"),
            (1_000_000, number),
            (1_000_000_000, f"floor({number} / 1000)" if "DOUBLE" in number else f"{number} // 1000"),
        )
    )
    return f"CAST(make_timestamp(CAST(CASE {branches} END AS BIGINT)) AS TIMESTAMPTZ)"


def _words(expression: str, kind: Shape) -> str:
    """Sorted distinct words; NULL where there are none. A scope has no blank and no quote (RFC 6749, 3.3)."""
    if isinstance(kind, dict):
        return "CAST(NULL AS VARCHAR[])"
    text = f"array_to_string(CAST({expression} AS VARCHAR[]), ' ')" if isinstance(kind, list) else expression
    words = (
        f"list_sort(list_distinct(list_filter(string_split(translate(trim({_as_text(text, TEXT)}, '[] '), "
        f"'\",' || chr(9) || chr(10) || chr(13), '     '), ' '), lambda w: w NOT IN ('', '-', 'null', '{{}}'))))"
    )
    return f"CASE WHEN {text} NOT IN ('', '-', '[]', '{{}}') AND NOT starts_with({text}, '{{') THEN {words} END"


def _scope_case(value: str, resources: tuple[ResourceScope, ...]) -> str:
    text = f"lower(rtrim({value}, '/'))"
    branches = []
    for resource in resources:
        identifier = resource.id.rstrip("/").lower()
        names = {identifier, resource.name.lower(), *(a.rstrip("/").lower() for a in resource.aliases)} - {""}
        host = re.fullmatch(r"https?://([^/]+)", identifier)
        if host:
            names.add(host.group(1))  # a bare host name means the resource that is the whole host
        exact = f"{text} IN ({', '.join(_literal(n) for n in sorted(names))})"
        prefixes = [n for n in sorted(names) if "://" in n]
        below = "".join(f" OR starts_with({text}, {_literal(p + mark)})" for p in prefixes for mark in "/?#")
        branches.append(f"WHEN {exact}{below} THEN {_literal(resource.id)}")
    return f"CASE {' '.join(branches)} END" if branches else "CAST(NULL AS VARCHAR)"


def _operation_case(method: str, segments: str, operations: tuple[tuple[str, str], ...]) -> str:
    """An exact matcher as one CASE: by number of segments and method, literal segments before parameters."""
    by_shape: dict[tuple[int, str], list[tuple[list[str], str]]] = {}
    for verb, template in operations:
        parts = template.strip("/").split("/")
        by_shape.setdefault((len(parts), verb), []).append((parts, f"{verb} {template}"))
    branches = []
    for (count, verb), templates in sorted(by_shape.items()):
        templates.sort(key=lambda t: ([s.startswith("{") for s in t[0]], t[0]))
        inner = []
        for parts, name in templates:
            tests = [
                f"{segments}[{i}] <> ''" if segment.startswith("{") else f"{segments}[{i}] = {_literal(segment)}"
                for i, segment in enumerate(parts, 1)
            ]
            inner.append(f"WHEN {' AND '.join(tests)} THEN {_literal(name)}")
        branches.append(
            f"WHEN len({segments}) = {count} AND {method} = {_literal(verb)} THEN CASE {' '.join(inner)} END"
        )
    return f"CASE {' '.join(branches)} END"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


# ── odd events ──────────────────────────────────────────────────────────────────────────────────────────────


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
