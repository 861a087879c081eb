"""OCSF events for tests of the ingest side: the published shapes, changed where a test says so."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import polars as pl

from audit_kit.mapping import load_mapping
from audit_kit.reading import Reader, Staged
from audit_kit.settings import Settings
from audit_kit.store import scratch_connection

Event = dict[str, Any]
SHAPES: list[Event] = [
    json.loads(line) for line in Path(__file__).with_name("ocsf-1.7.0-shapes.jsonl").read_text().splitlines()
]
ISSUE, DENIED, DEFAULT_DENY, APP_ALONE, CALL = range(5)
CONSENT, REVOCATION, SIGN_IN, FAILED_SIGN_IN, SECRET = range(10, 15)
GONE = object()


def event(shape: int = ISSUE, **changes: Any) -> Event:
    """A published shape; `a__b=1` sets `a.b`, `a__b=GONE` takes it out."""
    made = copy.deepcopy(SHAPES[shape])
    for path, value in changes.items():
        *way, last = path.split("__")
        node = made
        for step in way:
            node = node.setdefault(step, {})
        if value is GONE:
            node.pop(last, None)
        else:
            node[last] = value
    return made


def bare(**fields: Any) -> Event:
    """The least that can be placed: a class, a time and what the test gives."""
    return {"class_uid": 6003, "activity_id": 1, "time": 1791209007137, **fields}


def write_jsonl(path: Path, events: Iterable[Event | str]) -> Path:
    path.write_text("".join((e if isinstance(e, str) else json.dumps(e)) + "\n" for e in events))
    return path


def write_parquet(path: Path, events: Iterable[Event], select: str = "*") -> Path:
    """As DuckDB infers the schema: UUIDs and timestamps where text looks like them, structs, lists."""
    with TemporaryDirectory() as folder:
        lines = write_jsonl(Path(folder, "events.jsonl"), events)
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(
                f"COPY (SELECT {select} FROM read_json('{lines}', format = 'newline_delimited', sample_size = -1, "
                f"maximum_depth = -1)) TO '{path}' (FORMAT parquet, COMPRESSION snappy)"
            )
    return path


@cache
def _reader(settings: Settings | None) -> Reader:
    return Reader(scratch_connection(), load_mapping(settings or Settings()))


def stage(*paths: Path, settings: Settings | None = None) -> tuple[list[dict[str, Any]], Staged]:
    """The mapped rows of some files, in order, and what else became of them."""
    reader = _reader(None) if settings is None else Reader(scratch_connection(), load_mapping(settings))
    forms = {".parquet": "parquet", ".jsonl": "jsonl", ".gz": "jsonl.gz", ".json": "json"}
    staged = reader.stage([(path, forms.get(path.suffix)) for path in paths])
    frame = pl.DataFrame(reader.connection.sql("SELECT * FROM staging ORDER BY source_file, source_row"))
    return list(frame.iter_rows(named=True)), staged


def mapped(*events: Event, settings: Settings | None = None) -> list[dict[str, Any]]:
    """The canonical rows of some events, in their order."""
    with TemporaryDirectory() as folder:
        rows, _ = stage(write_jsonl(Path(folder, "events.jsonl"), events), settings=settings)
    return rows
