"""SQL expressions that turn what a producer wrote into text, numbers, instants and lists.

A row is mostly ordinary, so each expression tests for the ordinary case first and leaves the rest to a later branch
of a CASE: DuckDB evaluates a branch for the rows that reach it, while the arguments of `coalesce` and `nullif` may be
computed for every row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from audit_kit.mapping.shapes import TEXT, Shape
from audit_kit.settings import ResourceScope


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def coalesce(expressions: list[str], otherwise: str) -> str:
    if not expressions:
        return otherwise
    return expressions[0] if len(expressions) == 1 else f"coalesce({', '.join(expressions)})"


def as_text(expression: str, kind: Shape) -> str:
    if kind == TEXT:
        return expression
    if _is_fraction(str(kind)):
        # A dataframe that met a null turns 7 into 7.0; the id is 7.
        return (
            f"CASE WHEN {expression} = trunc({expression}) AND abs({expression}) < 9e18 "
            f"THEN CAST(CAST({expression} AS BIGINT) AS VARCHAR) ELSE CAST({expression} AS VARCHAR) END"
        )
    return f"CAST({expression} AS VARCHAR)"


def usable_text(expression: str, kind: Shape) -> str:
    """Text, or NULL for what counts as absent: "", "-", "null", and JSON where a plain value was expected.

    The first three branches are the texts that begin with a letter, a digit or the like, by comparison alone.
    """
    text = as_text(expression, kind)
    if kind != TEXT:
        return text
    return (
        f"CASE WHEN {text} > '-' AND {text} < '[' THEN {text} WHEN {text} >= 'a' AND {text} < 'null' THEN {text} "
        f"WHEN {text} > 'null' AND {text} < '{{' THEN {text} "
        f"WHEN trim({text}) NOT IN ('', '-', 'null') AND NOT regexp_matches({text}, '^\\s*[\\[{{]') THEN {text} END"
    )


def integer(expression: str, kind: Shape) -> str:
    if _is_number(str(kind)):
        return expression if kind == "BIGINT" else f"TRY_CAST({expression} AS BIGINT)"
    text = as_text(expression, kind)
    return f"coalesce(TRY_CAST({text} AS BIGINT), TRY_CAST(TRY_CAST({text} AS DOUBLE) AS BIGINT))"


def enum(candidates: Sequence[tuple[str, Shape]], captions: str) -> str:
    """An id, or the id of a caption. Unknown (0) and Other (99) give way to any candidate that says more."""
    both: list[str] = []
    for expression, kind in candidates:
        both.append(integer(expression, kind))
        if not _is_number(str(kind)):
            both.append(f"CASE lower(trim({as_text(expression, kind)})) {captions} END")
    if len(both) < 2:
        return coalesce(both, "CAST(NULL AS BIGINT)")
    telling = [f"CASE WHEN {e} NOT IN (0, 99) THEN {e} END" for e in both[1:]]
    return f"CASE WHEN {both[0]} > 0 AND {both[0]} <> 99 THEN {both[0]} ELSE coalesce({', '.join(telling + both)}) END"


# Instants outside [1990, 2100) are no event times; the ranges of s, ms, µs and ns inside it do not overlap.
_FIRST_SECOND, _LAST_SECOND = 631_152_000, 4_102_444_800
_FIRST_INSTANT, _LAST_INSTANT = "TIMESTAMPTZ '1990-01-01 00:00:00+00'", "TIMESTAMPTZ '2100-01-01 00:00:00+00'"


def instant(expression: str, kind: Shape) -> str:
    text = str(kind)
    if text.startswith("TIMESTAMP") or text == "DATE":
        micros = "TIMESTAMPTZ" if "TIME ZONE" in text else "TIMESTAMP"
        return _plausible(f"TRY_CAST(TRY_CAST({expression} AS {micros}) AS TIMESTAMPTZ)")
    if _is_number(text):
        is_whole = not _is_fraction(text) or bool(re.fullmatch(r"DECIMAL\(\d+,0\)", text))
        return _scaled(f"TRY_CAST({expression} AS {'BIGINT' if is_whole else 'DOUBLE'})")
    text = as_text(expression, kind)
    return (
        f"CASE WHEN regexp_full_match({text}, '[0-9]{{1,19}}') THEN {_scaled(f'TRY_CAST({text} AS BIGINT)')} "
        f"WHEN regexp_full_match({text}, '[0-9]{{1,18}}\\.[0-9]+') THEN {_scaled(f'TRY_CAST({text} AS DOUBLE)')} "
        f"ELSE {_plausible(f'TRY_CAST({text} AS TIMESTAMPTZ)')} END"
    )


def words(expression: str, kind: Shape) -> str:
    """Sorted distinct words; NULL where there are none. A scope has no blank and no quote (RFC 6749, 3.3)."""
    if isinstance(kind, dict):
        return "CAST(NULL AS VARCHAR[])"
    text = as_text(expression, kind)
    if isinstance(kind, list):
        text = f"array_to_string(CAST({expression} AS VARCHAR[]), ' ')"
    ordinary = '[^\\s",\\[\\]{}-][^\\s",\\[\\]{}]*'  # a word without brackets, quotes, commas
    nothing = '[\\s",\\[\\]-]*(\\{.*)?'  # or an object, which has no words
    split = f"string_split({text}, ' ')"
    cleaned = f"string_split(translate(trim({text}, '[] '), '\",' || chr(9) || chr(10) || chr(13), '     '), ' ')"
    kept = f"list_filter({cleaned}, lambda w: w NOT IN ('', '-', 'null', '{{}}'))"
    return (
        f"CASE WHEN {text} = 'null' THEN NULL WHEN regexp_full_match({text}, '{ordinary}') THEN [{text}] "
        f"WHEN regexp_full_match({text}, '{ordinary}( {ordinary})+') THEN list_sort(list_distinct({split})) "
        f"WHEN NOT regexp_full_match({text}, '{nothing}', 's') THEN list_sort(list_distinct({kept})) END"
    )


def resource_in_scope(value: str, resources: tuple[ResourceScope, ...]) -> str:
    """The id of the resource that `value` means: its id or a URL below it, an alias, its name or its host."""
    text = f"lower(rtrim({value}, '/'))"
    same = " ".join(
        f"WHEN {value} = {literal(spelling)} THEN {literal(r.id)}" for r in resources for spelling in (r.id, *r.aliases)
    )
    branches = []
    for resource in resources:
        identifier = resource.id.rstrip("/").lower()
        names = {identifier, resource.name.lower(), *(a.rstrip("/").lower() for a in resource.aliases)} - {""}
        names |= {with_port for name in names if (with_port := _with_port(name))}
        if host := re.fullmatch(r"https?://([^/:?#]+)", identifier):
            names.add(host.group(1))  # a bare host name means the resource that is the whole host
        exact = f"{text} IN ({', '.join(literal(n) for n in sorted(names))})"
        prefixes = [n for n in sorted(names) if "://" in n]
        below = "".join(f" OR starts_with({text}, {literal(p + mark)})" for p in prefixes for mark in "/?#")
        branches.append(f"WHEN {exact}{below} THEN {literal(resource.id)}")
    return f"CASE {same} {' '.join(branches)} END" if branches else "CAST(NULL AS VARCHAR)"


def resource_on_host(host: str, resources: tuple[ResourceScope, ...]) -> str:
    """For events that name a host alone: the id of the one resource there, or the host where there are several."""
    hosts: dict[str, list[str]] = {}
    for resource in resources:
        if found := re.match(r"https?://([^/:?#]+)", resource.id.lower()):
            hosts.setdefault(found.group(1), []).append(resource.id)
    branches = "".join(
        f" WHEN {literal(name)} THEN {literal(ids[0]) if len(ids) == 1 else literal(name)}"
        for name, ids in sorted(hosts.items())
    )
    return f"CASE lower({host}){branches} END" if branches else "CAST(NULL AS VARCHAR)"


def operation_of(method: str, segments: str, operations: tuple[tuple[str, str], ...]) -> str:
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
                f"{segments}[{i}] <> ''" if segment.startswith("{") else f"{segments}[{i}] = {literal(segment)}"
                for i, segment in enumerate(parts, 1)
            ]
            inner.append(f"WHEN {' AND '.join(tests)} THEN {literal(name)}")
        branches.append(
            f"WHEN len({segments}) = {count} AND {method} = {literal(verb)} THEN CASE {' '.join(inner)} END"
        )
    return f"CASE {' '.join(branches)} END" if branches else "CAST(NULL AS VARCHAR)"


def _is_number(kind: str) -> bool:
    return kind.removeprefix("U") in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT") or _is_fraction(kind)


def _is_fraction(kind: str) -> bool:
    return kind in ("DOUBLE", "FLOAT") or kind.startswith("DECIMAL")


def _plausible(moment: str) -> str:
    return f"CASE WHEN {moment} >= {_FIRST_INSTANT} AND {moment} < {_LAST_INSTANT} THEN {moment} END"


def _scaled(number: str) -> str:
    """ms (OCSF's own), s, µs or ns since 1970 → instant, told apart by size; anything else NULL."""
    branches = " ".join(
        f"WHEN {number} >= {_FIRST_SECOND * per_second} AND {number} < {_LAST_SECOND * per_second} THEN {micros}"
        for per_second, micros in (
            (1_000, f"{number} * 1000"),
            (1, f"{number} * 1000000"),
            (1_000_000, number),
            (1_000_000_000, f"floor({number} / 1000)" if "DOUBLE" in number else f"{number} // 1000"),
        )
    )
    return f"CAST(make_timestamp(CAST(CASE {branches} END AS BIGINT)) AS TIMESTAMPTZ)"


def _with_port(url: str) -> str | None:
    """`https://host:443/path` for `https://host/path`: the same place, spelled out."""
    found = re.fullmatch(r"(https?)(://[^/:?#]+)([/?#].*)?", url)
    return f"{found[1]}{found[2]}:{'443' if found[1] == 'https' else '80'}{found[3] or ''}" if found else None
