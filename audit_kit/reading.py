"""Delivered files → mapped rows in a scratch table: what cannot be read is named, file by file and row by row.

Parquet files that share a schema go through one statement. A file with a shape that SQL cannot read goes alone,
event by event, through JSON; JSON files go that way from the start. All of them end in `staging`, with the columns
of events.sql; `source_file` there is the path of the kept delivery.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

import duckdb
import polars as pl

from audit_kit.errors import UnreadableDelivery
from audit_kit.mapping import ODD_JSON, EventMapping, OddShape, Shape, normalise, shape_of

_CHUNK = 20_000  # events parsed at a time on the JSON road
_LONGEST_LINE = 16 << 20  # bytes; a longer line is refused, so that a bomb cannot take the memory
_LARGEST_DOCUMENT = 256 << 20  # bytes of a .json file that is one document
_LONGEST_RAW = 1 << 20  # characters of a rejected event that are kept beside its reason
NOT_OCSF = "not an OCSF event"


@dataclass(frozen=True, slots=True)
class Reject:
    """An event that never reached the mapping, and why."""

    file: str
    row: int
    reason: str
    raw: str


@dataclass
class Staged:
    """What `stage` made of its files; the mapped rows are in the table `staging`."""

    row_counts: dict[str, int] = field(default_factory=dict)  # kept path → events read, rejected ones included
    skipped: dict[str, str] = field(default_factory=dict)  # kept path → reason
    rejects: list[Reject] = field(default_factory=list)


class Reader:
    """Holds a scratch connection with the mapping's macros."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, mapping: EventMapping) -> None:
        self.connection = connection
        self.mapping = mapping
        for macro in mapping.macros():
            connection.execute(macro)
        self._json_select = mapping.select(
            mapping.json_shape,
            f"(SELECT source_file, source_row, from_json(doc, '{json.dumps(mapping.json_shape)}') AS e FROM docs)",
            root="e",
        )
        connection.register("docs", _Capsule(_docs([])))
        connection.execute(f"CREATE TEMP TABLE staging AS {self._json_select} LIMIT 0")

    def stage(self, files: Sequence[tuple[Path, str | None]]) -> Staged:
        """Reads kept deliveries (path, format) into an emptied `staging`."""
        self.connection.execute("TRUNCATE staging")
        staged = Staged()
        groups: dict[str, tuple[dict[str, Shape], list[Path]]] = {}
        for path, form in files:
            staged.row_counts[str(path)] = 0
            try:
                if form == "parquet":
                    shape = self._parquet_shape(path)
                    groups.setdefault(json.dumps(shape), (shape, []))[1].append(path)
                elif form is None:
                    raise UnreadableDelivery(
                        "not a kind of file that deliveries come in (.parquet, .jsonl, .json, .jsonl.gz)"
                    )
                else:
                    self._stage_json(path, _events_in(path, form), staged)
            except OddShape:
                self._guarded(path, staged, lambda p: self._stage_json(p, self._parquet_as_json(p), staged))
            except UnreadableDelivery as error:
                self._skip(path, str(error), staged)
        for shape, paths in groups.values():
            self._stage_group(shape, paths, staged)
        self._collect_mapped_rejects(staged)
        return staged

    # ── Parquet ────────────────────────────────────────────────────────────────────────────────────────────

    def _parquet_shape(self, path: Path) -> dict[str, Shape]:
        _require_parquet(path)
        try:
            relation = self.connection.sql("SELECT * FROM read_parquet(?)", params=[str(path)])
            shape = shape_of(zip(relation.columns, relation.types, strict=True))
        except duckdb.Error as error:
            raise UnreadableDelivery(f"a Parquet file that cannot be read: {_first_line(error)}") from None
        if self.mapping.is_foreign(shape):
            columns = ", ".join(sorted(shape)[:6])
            raise UnreadableDelivery(f"not OCSF: no class_uid, type_uid or metadata among its columns ({columns}, …)")
        return shape

    def _stage_group(self, shape: dict[str, Shape], paths: list[Path], staged: Staged) -> None:
        """One statement for all files of a schema; where that fails, file by file, so that one bad file is one."""
        odd = self._with_odd_text(shape, paths)
        plain = [p for p in paths if p not in odd]
        try:
            self._stage_parquet(shape, plain, staged)
        except duckdb.Error:
            for path in plain:
                self._guarded(path, staged, lambda p: self._stage_parquet(shape, [p], staged))
        for path in odd:
            self._guarded(path, staged, lambda p: self._stage_json(p, self._parquet_as_json(p), staged))

    def _guarded(self, path: Path, staged: Staged, stage: Any) -> None:
        try:
            stage(path)
        except UnreadableDelivery as error:
            self._skip(path, str(error), staged)
        except duckdb.Error as error:
            self._skip(path, f"a Parquet file that cannot be read: {_first_line(error)}", staged)

    def _stage_parquet(self, shape: dict[str, Shape], paths: list[Path], staged: Staged) -> None:
        if not paths:
            return
        relation = (
            f"(SELECT *, audit_kit_file AS source_file, file_row_number + 1 AS source_row FROM {_read_parquet(paths)})"
        )
        self.connection.execute(f"INSERT INTO staging {self.mapping.select(shape, relation)}")
        for name, count in self.connection.execute(
            f"SELECT audit_kit_file, count(*) FROM {_read_parquet(paths)} GROUP BY 1"
        ).fetchall():
            staged.row_counts[name] = count

    def _with_odd_text(self, shape: dict[str, Shape], paths: list[Path]) -> list[Path]:
        """Files with text that `from_json` would misread; text columns are parsed in SQL only where that is exact."""
        columns = self.mapping.text_columns(shape)
        if not columns:
            return []
        tests = " OR ".join(f"regexp_matches({c}, '{_quoted(ODD_JSON)}')" for c in columns)
        try:
            found = self.connection.execute(
                f"SELECT DISTINCT audit_kit_file FROM {_read_parquet(paths)} WHERE {tests}"
            ).fetchall()
        except duckdb.Error:
            return []  # an unreadable file shows itself, by name, when it is staged
        return [Path(name) for (name,) in sorted(found)]

    def _parquet_as_json(self, path: Path) -> Iterator[tuple[int, str]]:
        """Every row as the text of a straightened JSON object."""
        relation = self.connection.sql("SELECT * FROM read_parquet(?)", params=[str(path)])
        blobs = [c for c, kind in zip(relation.columns, relation.types, strict=True) if kind.id == "blob"]
        replace = ", ".join(f'TRY(decode("{c}")) AS "{c}"' for c in blobs)
        rows = self.connection.cursor().execute(
            f"SELECT to_json(t)::VARCHAR FROM (SELECT * {f'REPLACE ({replace})' if replace else ''} "
            f"FROM read_parquet(?)) t",
            [str(path)],
        )
        number = 0
        while chunk := rows.fetchmany(2_000):
            for (text,) in chunk:
                number += 1
                yield number, json.dumps(normalise(json.loads(text)))

    # ── JSON ───────────────────────────────────────────────────────────────────────────────────────────────

    def _stage_json(self, path: Path, events: Iterable[tuple[int, str | Reject]], staged: Staged) -> None:
        name = str(path)
        rejects: list[Reject] = []
        count = 0
        stream = iter(events)
        try:
            while chunk := list(islice(stream, _CHUNK)):
                count += len(chunk)
                rejects += [Reject(name, row, item.reason, item.raw) for row, item in chunk if isinstance(item, Reject)]
                docs = [(row, item) for row, item in chunk if isinstance(item, str)]
                rejects += self._stage_docs(name, docs)
        except (OSError, EOFError, zlib.error) as error:
            raise UnreadableDelivery(f"damaged or cut short after {count} events: {error}") from None
        staged.row_counts[name] = count
        staged.rejects += rejects

    def _stage_docs(self, name: str, docs: list[tuple[int, str]]) -> list[Reject]:
        rejects: list[Reject] = []
        self.connection.register("docs", _Capsule(_docs(docs, name)))
        doubtful = self.connection.execute(
            "SELECT source_row, doc FROM docs WHERE NOT json_valid(doc) "
            "OR json_type(CASE WHEN json_valid(doc) THEN doc END) <> 'OBJECT' "
            f"OR regexp_matches(doc, '{_quoted(ODD_JSON)}')"
        ).fetchall()
        if doubtful:
            straight = dict(docs)
            for row, text in doubtful:
                try:
                    event = json.loads(text)
                    if not isinstance(event, dict):
                        raise ValueError(f"a JSON {_json_kind(event)}, not an object")
                    straight[row] = json.dumps(normalise(event))
                except (ValueError, RecursionError) as error:
                    del straight[row]
                    rejects.append(Reject(name, row, f"not a JSON object: {error}", text))
            self.connection.register("docs", _Capsule(_docs(list(straight.items()), name)))
            for row, text in self.connection.execute(
                "SELECT source_row, doc FROM docs WHERE NOT json_valid(doc)"
            ).fetchall():
                del straight[row]
                rejects.append(
                    Reject(name, row, "not a JSON object: it holds characters that are no Unicode text", text)
                )
            self.connection.register("docs", _Capsule(_docs(list(straight.items()), name)))
        self.connection.execute(f"INSERT INTO staging {self._json_select}")
        return rejects

    # ── afterwards ─────────────────────────────────────────────────────────────────────────────────────────

    def _skip(self, path: Path, reason: str, staged: Staged) -> None:
        """A file is used whole or not at all: a part of a damaged one would look complete later."""
        name = str(path)
        self.connection.execute("DELETE FROM staging WHERE source_file = ?", [name])
        staged.rejects = [r for r in staged.rejects if r.file != name]
        staged.skipped[name] = reason
        staged.row_counts[name] = 0

    def _collect_mapped_rejects(self, staged: Staged) -> None:
        refused: dict[str, dict[int, str]] = {}
        for name, row, reason in self.connection.execute(
            "SELECT source_file, source_row, rejected_because FROM staging WHERE rejected_because IS NOT NULL"
        ).fetchall():
            refused.setdefault(name, {})[row] = reason
        for name, rows in sorted(refused.items()):
            if len(rows) == staged.row_counts[name] and all(r.startswith(NOT_OCSF) for r in rows.values()):
                self._skip(
                    Path(name),
                    f"not OCSF: none of its {len(rows)} events has a class_uid, type_uid or metadata",
                    staged,
                )
                continue
            raw = dict(self._raw_events(Path(name), set(rows)))
            staged.rejects += [Reject(name, row, rows[row], raw.get(row, "")) for row in sorted(rows)]
        self.connection.execute("DELETE FROM staging WHERE rejected_because IS NOT NULL")
        staged.rejects = [Reject(r.file, r.row, r.reason, r.raw[:_LONGEST_RAW]) for r in staged.rejects]

    def _raw_events(self, path: Path, wanted: set[int]) -> Iterator[tuple[int, str]]:
        if path.suffix == ".parquet":
            rows = self.connection.execute(
                "SELECT file_row_number + 1, to_json(t)::VARCHAR FROM read_parquet(?, file_row_number = true) t "
                "WHERE list_contains(?, file_row_number + 1)",
                [str(path), sorted(wanted)],
            ).fetchall()
            yield from rows
        else:
            form = "jsonl.gz" if path.name.endswith(".jsonl.gz") else path.suffix[1:]
            yield from ((row, e) for row, e in _events_in(path, form) if row in wanted and isinstance(e, str))


class _Capsule:
    """Hands a Polars frame to DuckDB through the Arrow capsule; by itself DuckDB would ask for pyarrow."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.frame.__arrow_c_stream__(requested_schema)


def _docs(docs: list[tuple[int, str]], name: str = "") -> pl.DataFrame:
    return pl.DataFrame(
        {"source_row": [row for row, _ in docs], "doc": [text for _, text in docs]},
        schema={"source_row": pl.Int64, "doc": pl.String},
    ).with_columns(pl.lit(name).alias("source_file"))


def _read_parquet(paths: Sequence[Path]) -> str:
    listed = ", ".join(f"'{_quoted(str(p))}'" for p in paths)
    return f"read_parquet([{listed}], filename = 'audit_kit_file', file_row_number = true)"


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def _require_parquet(path: Path) -> None:
    """Says in words what is wrong with a file that is plainly not Parquet."""
    size = path.stat().st_size
    if size == 0:
        raise UnreadableDelivery("empty: 0 bytes")
    with path.open("rb") as file:
        head = file.read(64)
        file.seek(max(0, size - 4))
        tail = file.read(4)
    if head[:4] != b"PAR1":
        raise UnreadableDelivery(f"not Parquet: it begins with {_printable(head[:40])}")
    if tail != b"PAR1" or size < 12:
        raise UnreadableDelivery("truncated: the footer of the Parquet file is missing; fetch it again")


def _events_in(path: Path, form: str) -> Iterator[tuple[int, str | Reject]]:
    """(line or position from 1, JSON text) of every event; a Reject where a line cannot be decoded."""
    if path.stat().st_size == 0:
        raise UnreadableDelivery("empty: 0 bytes")
    if form == "jsonl.gz":
        with path.open("rb") as file:
            if (head := file.read(40))[:2] != b"\x1f\x8b":
                raise UnreadableDelivery(f"not gzip: it begins with {_printable(head)}")
        with gzip.open(path, "rb") as lines:
            yield from _lines(lines)
    elif form == "json":
        yield from _document(path)
    else:
        with path.open("rb") as lines:
            yield from _lines(lines)


def _lines(lines: IO[bytes] | gzip.GzipFile) -> Iterator[tuple[int, str | Reject]]:
    number = 0
    while line := lines.readline(_LONGEST_LINE + 1):
        number += 1
        if len(line) > _LONGEST_LINE and not line.endswith(b"\n"):
            start = line[:200].decode("utf-8", "backslashreplace")
            while (rest := lines.readline(_LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass
            yield number, Reject("", number, f"a line of more than {_LONGEST_LINE >> 20} MiB", start)
            continue
        line = line.removeprefix(b"\xef\xbb\xbf").strip()
        if not line:
            continue
        try:
            yield number, line.decode("utf-8")
        except UnicodeDecodeError as error:
            yield (
                number,
                Reject(
                    "",
                    number,
                    f"not UTF-8: {error.reason} at byte {error.start}",
                    line.decode("utf-8", "backslashreplace"),
                ),
            )


def _document(path: Path) -> Iterator[tuple[int, str | Reject]]:
    """A .json file: an array of events, one event, an object that wraps an array, or JSON lines by another name."""
    if path.stat().st_size > _LARGEST_DOCUMENT:
        raise UnreadableDelivery(f"a JSON document of more than {_LARGEST_DOCUMENT >> 20} MiB; deliver it as .jsonl")
    try:
        whole = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        with path.open("rb") as lines:
            yield from _lines(lines)
        return
    if isinstance(whole, dict):
        wrapped = [
            v for k, v in whole.items() if k.lower() in ("items", "events", "records", "data") and isinstance(v, list)
        ]
        whole = wrapped[0] if len(wrapped) == 1 else [whole]
    if not isinstance(whole, list):
        raise UnreadableDelivery(f"a JSON {_json_kind(whole)}, not events")
    for number, event in enumerate(whole, 1):
        yield number, json.dumps(event)


def _json_kind(value: Any) -> str:
    names = {
        list: "array",
        str: "string",
        bool: "boolean",
        int: "number",
        float: "number",
        type(None): "null",
    }
    return names.get(type(value), "object")


def _printable(data: bytes) -> str:
    return repr(data.decode("utf-8", "backslashreplace"))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
