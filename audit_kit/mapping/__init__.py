"""OCSF events → canonical columns: compiles `queries/mapping/fields.toml` to SQL for the schema at hand.

Two kinds of input meet one compiler. A Parquet file brings its own nested schema; JSON text is first read into the
one structure that holds every path of the table (`json_shape`), and from there on is a schema like any other. What
neither can express (maps, key/value lists, dotted keys, JSON inside JSON) is `odd`: `normalise` straightens such an
event in Python, and it goes on as JSON text. So there is one set of rules, and every road gives the same rows.
"""

from __future__ import annotations

import csv
import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from audit_kit.errors import MappingError
from audit_kit.mapping import expressions
from audit_kit.mapping.compiler import Compiler
from audit_kit.mapping.expressions import coalesce, literal
from audit_kit.mapping.shapes import TEXT, OddShape, Shape, plant, shape_of, steps
from audit_kit.mapping.straighten import ODD_JSON, normalise
from audit_kit.paths import CATALOGS, QUERIES
from audit_kit.settings import ResourceScope, Settings

__all__ = ["ODD_JSON", "EventMapping", "Fact", "OddShape", "Shape", "load_mapping", "normalise", "shape_of"]


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
        compiled = self.select(self.json_shape, "docs")
        return hashlib.sha256("\n".join([compiled, *self.macros()]).encode()).hexdigest()

    @cached_property
    def json_shape(self) -> dict[str, Any]:
        """The structure that holds every path, for `from_json`; where a path is both text and object it is text."""
        root: dict[str, Any] = {}
        for fact in self.facts:
            for path in fact.paths:
                if fact.type == "elements":
                    item: dict[str, Any] = {}
                    for sub_path in (p for paths in fact.fields.values() for p in paths):
                        plant(item, steps(sub_path), TEXT)
                    plant(root, steps(path), [item])
                else:
                    plant(root, steps(path), TEXT)
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
        for name, body in (
            ("bare_policy(p)", "CASE WHEN contains(p, '::') THEN regexp_replace(p, '^.*::', '') ELSE p END"),
            ("resource_in_scope(r)", expressions.resource_in_scope("r", self.resources)),
            ("resource_on_host(h)", expressions.resource_on_host("h", self.resources)),
            ("catalog_resource()", literal(self.catalog_resource)),
            ("operation_of(method, segments)", expressions.operation_of("method", "segments", self.operations)),
        ):
            yield f"CREATE OR REPLACE TEMP MACRO {name} AS {body}"

    def select(self, shape: Mapping[str, Shape], relation: str, root: str = "") -> str:
        """The SELECT that turns `relation` into canonical rows.

        `relation` must have `source_file` and `source_row` beside the event's columns, which lie below `root`
        (empty: they are the relation's own columns) and have the types of `shape`. Raises OddShape.
        """
        return f"WITH facts AS ({self._facts_sql(shape, relation, root)}) {self._derived}"

    def is_foreign(self, shape: Mapping[str, Shape]) -> bool:
        """True where the schema has none of the places that make an event OCSF."""
        compiler = Compiler(shape, "", self.json_shape)
        markers = (f for f in self.facts if f.name in ("class_uid", "type_uid", "ocsf_version"))
        return not any(compiler.walk(path) for fact in markers for path in fact.paths)

    def text_columns(self, shape: Mapping[str, Shape]) -> list[str]:
        """Expressions for text of this schema that is read as JSON, because an object or a list was expected."""
        compiler = Compiler(shape, "", self.json_shape)
        for fact in self.facts:
            for path in fact.paths:
                _candidate(compiler, fact, path)
        return compiler.texts

    @cached_property
    def _derived(self) -> str:
        body = re.sub(r"/\*.*?\*/", "", self.events_sql, count=1, flags=re.S).strip()
        if not body.upper().startswith("WITH "):
            raise MappingError("queries/mapping/events.sql must open with a comment, then WITH")
        return ", " + body[len("WITH ") :]

    def _facts_sql(self, shape: Mapping[str, Shape], relation: str, root: str) -> str:
        compiler = Compiler(shape, root, self.json_shape)
        raw: list[str] = []  # stage 1: one column a candidate, so that no path is walked twice
        facts: list[str] = []  # stage 2: first usable candidate, typed
        for fact in self.facts:
            candidates = []
            for path in fact.paths:
                found = _candidate(compiler, fact, path)
                if found is None:
                    continue
                expression, kind = found
                alias = f"c{len(raw)}"
                raw.append(f"{expression} AS {alias}")
                candidates.append((alias, kind))
            facts.append(f"{_typed(fact, candidates)} AS {fact.name}")
        named = " ".join(
            f"WHEN lower(event_name) IN ({', '.join(literal(n.lower()) for n in names)}) THEN {literal(kind)}"
            for kind, names in self.kinds.items()
        )
        parsed = compiler.parse_columns()
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


def _candidate(compiler: Compiler, fact: Fact, path: str) -> tuple[str, Shape] | None:
    return compiler.elements(path, fact.fields) if fact.type == "elements" else compiler.walk(path)


def _typed(fact: Fact, candidates: list[tuple[str, Shape]]) -> str:
    if fact.type == "elements":
        return _elements(fact, candidates)
    if fact.type == "text_list":
        return coalesce([expressions.words(alias, kind) for alias, kind in candidates], "CAST(NULL AS VARCHAR[])")
    leaves = [(alias, kind) for alias, kind in candidates if not isinstance(kind, (dict, list))]
    if fact.type == "text":
        return coalesce([expressions.usable_text(*leaf) for leaf in leaves], "CAST(NULL AS VARCHAR)")
    if fact.type == "integer":
        return coalesce([expressions.integer(*leaf) for leaf in leaves], "CAST(NULL AS BIGINT)")
    if fact.type == "enum":
        captions = " ".join(f"WHEN {literal(text)} THEN {number}" for text, number in fact.captions.items())
        return expressions.enum(leaves, captions)
    if fact.type == "time":
        return coalesce([expressions.instant(*leaf) for leaf in leaves], "CAST(NULL AS TIMESTAMPTZ)")
    raise MappingError(f"queries/mapping/fields.toml: [{fact.name}] type = {fact.type!r} is not known")


def _elements(fact: Fact, candidates: list[tuple[str, Shape]]) -> str:
    """Reads texts in a second pass over flat structs: a lambda would walk a nested one once a comparison."""
    lists = []
    for alias, kind in candidates:
        assert isinstance(kind, list)  # noqa: S101 - Compiler.elements gives nothing else
        item = kind[0]
        cells = []
        for field, paths in fact.fields.items():
            names = [name for name in (f"{field}_{number}" for number in range(len(paths))) if name in item]
            texts = [expressions.usable_text(f"r.{name}", item[name]) for name in names]
            cells.append(f"'{field}': {coalesce(texts, 'CAST(NULL AS VARCHAR)')}")
        lists.append(f"coalesce(list_transform({alias}, lambda r: {{{', '.join(cells)}}}), [])")
    struct = "STRUCT(" + ", ".join(f'"{field}" VARCHAR' for field in fact.fields) + ")"
    return f"CAST({' || '.join(lists) or '[]'} AS {struct}[])"
