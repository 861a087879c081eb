"""Ad-hoc SQL on the store, safe by construction: read-only, no files, no network, configuration locked."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import polars as pl

from audit_kit.errors import QueryError
from audit_kit.store import open_store

_VARIABLE = re.compile(r"\s*set\s+variable\s", re.I)


def run_query(store: Path, text: str) -> pl.DataFrame:
    """Runs one query, which may follow `SET VARIABLE` lines, as in any of our files.

    Raises QueryError for anything else, and for what DuckDB refuses; StoreMissing or StoreBusy as `open_store`.
    """
    try:
        statements = duckdb.extract_statements(text)
    except duckdb.Error as error:
        raise QueryError(f"this is not SQL that DuckDB reads: {_words(error)}") from None
    if not statements:
        raise QueryError("there is no query in it")
    *settings, query = statements
    for statement in settings:
        if statement.type != duckdb.StatementType.SET or not _VARIABLE.match(_code(statement.query)):
            raise QueryError("before the query only SET VARIABLE lines may stand; run one query at a time")
    if query.type not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
        raise QueryError(
            "only a query can be run here (SELECT, FROM, DESCRIBE, SUMMARIZE, SHOW, EXPLAIN); the store is read-only"
        )
    with open_store(store) as opened:
        for lock in (
            "python_enable_replacements = false",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            opened.execute(f"SET {lock}")
        try:
            for statement in settings:
                opened.execute(statement.query)
            if query.type == duckdb.StatementType.EXPLAIN:
                rows = opened.connection.execute(query.query).fetchall()
                return pl.DataFrame({"plan": [row[-1] for row in rows]})
            return _frame(opened.connection.sql(query.query))
        except duckdb.Error as error:
            raise QueryError(_words(error)) from None


def _frame(relation: duckdb.DuckDBPyRelation) -> pl.DataFrame:
    # Polars has no type for a calendar interval; its text is better than an error.
    kinds = zip(relation.columns, relation.types, strict=True)
    columns = [f'"{n.replace(chr(34), chr(34) * 2)}"' + ("::VARCHAR" if k.id == "interval" else "") for n, k in kinds]
    if any(c.endswith("::VARCHAR") for c in columns):
        relation = relation.project(", ".join(columns))
    return pl.DataFrame(relation)


def _code(sql: str) -> str:
    """The statement without the comments in front of it."""
    return re.sub(r"\A(\s+|--[^\n]*(\n|\Z)|/\*.*?\*/)+", "", sql, flags=re.S)


def _words(error: duckdb.Error) -> str:
    return str(error).strip()
