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
from pathlib import Path
from typing import IO, Any

import duckdb
import polars as pl

from audit_kit.errors import UnreadableDelivery
from audit_kit.mapping import ODD_JSON, EventMapping, OddShape, Shape, normalise, shape_of
from audit_kit.paths import QUERIES
from audit_kit.store import ArrowFrame

_CHUNK = 20_000  # events parsed at a time on the JSON road,
_CHUNK_SIZE = 64 << 20  # or fewer where they have this many characters together
_SMALL_FILE = 4_000  # events; of smaller Parquet files several are gathered before they are mapped
_LONGEST_LINE = 16 << 20  # bytes; a longer line is refused, so that a bomb cannot take the memory
_LARGEST_DOCUMENT = 256 << 20  # bytes of a .json file that is one document
_LONGEST_RAW = 1 << 20  # characters of a rejected event that are kept beside its reason
NOT_OCSF = "not an OCSF event"
# Not the delivery's fault: calling it unreadable would leave its events out for good.
_CANNOT_GO_ON = (duckdb.OutOfMemoryException, duckdb.FatalException)
# What DuckDB and its Python bindings raise over a damaged file: names and messages may hold bytes that are no text.
_STUMBLED = (duckdb.Error, UnicodeError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Reject:
    """An event that never reached the mapping, and why."""

    file: str
    row: int
    reason: str
    raw: str


_Doc = tuple[str, int, str]  # kept path, row, JSON text of one event


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
        self._queue: list[_Doc] = []
        self._queued = 0  # characters in it
        for macro in mapping.macros():
            connection.execute(macro)
        structure = _quoted(json.dumps(mapping.json_shape))
        self._json_select = mapping.select(
            mapping.json_shape,
            f"(SELECT source_file, source_row, from_json(doc, '{structure}') AS e FROM docs)",
            root="e",
        )
        # `staging` is `events` before it is known where a row goes; declared, because planning the SELECT takes long.
        connection.execute(connection.extract_statements((QUERIES / "schema.sql").read_text(encoding="utf-8"))[0])
        connection.execute(
            "CREATE TEMP TABLE staging AS SELECT * EXCLUDE (source, batch_id), "
            "CAST(NULL AS VARCHAR) AS other_resource, CAST(NULL AS VARCHAR) AS rejected_because FROM memory.events"
        )
        connection.execute("DROP TABLE memory.events")

    def stage(self, files: Sequence[tuple[Path, str | None]]) -> Staged:
        """Reads kept deliveries (path, format) into an emptied `staging`."""
        self.connection.execute("TRUNCATE staging")
        self._queue, self._queued = [], 0
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
                self._stage_row_by_row(path, staged)
            except UnreadableDelivery as error:
                self._skip(path, str(error), staged)
        for shape, paths in groups.values():
            self._stage_group(shape, paths, staged)
        self._stage_queue(staged)
        self._collect_mapped_rejects(staged)
        return staged

    # ── Parquet ────────────────────────────────────────────────────────────────────────────────────────────

    def _parquet_shape(self, path: Path) -> dict[str, Shape]:
        _require_parquet(path)
        try:
            relation = self.connection.sql("SELECT * FROM read_parquet(?)", params=[str(path)])
            shape = shape_of(zip(relation.columns, relation.types, strict=True))
        except _STUMBLED as error:
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
        except _CANNOT_GO_ON:
            raise
        except _STUMBLED:
            for path in plain:
                try:
                    self._stage_parquet(shape, [path], staged)
                except _CANNOT_GO_ON:
                    raise
                except _STUMBLED:  # a value that SQL stumbles over costs its event, not the file
                    self._stage_row_by_row(path, staged)
        for path in odd:
            self._stage_row_by_row(path, staged)

    def _stage_row_by_row(self, path: Path, staged: Staged) -> None:
        try:
            self._stage_json(path, self._parquet_as_json(path), staged)
        except _CANNOT_GO_ON:
            raise
        except UnreadableDelivery as error:
            self._skip(path, str(error), staged)
        except _STUMBLED as error:
            self._skip(path, f"a Parquet file that cannot be read: {_first_line(error)}", staged)

    def _stage_parquet(self, shape: dict[str, Shape], paths: list[Path], staged: Staged) -> None:
        if not paths:
            return
        counts = dict(
            self.connection.execute(
                f"SELECT audit_kit_file, count(*) FROM {_read_parquet(paths)} GROUP BY 1"
            ).fetchall()
        )
        # A delivered column of these names must not pass for ours.
        taken = ", ".join(_identifier(c) for c in shape if c.lower() in ("source_file", "source_row"))
        relation = (
            f"SELECT * {f'EXCLUDE ({taken})' if taken else ''}, audit_kit_file AS source_file, "
            f"file_row_number + 1 AS source_row FROM {_read_parquet(paths)}"
        )
        if sum(counts.values()) < _SMALL_FILE * len(counts):
            # Every file would go through the whole mapping in a chunk of its own.
            self.connection.execute(f"CREATE OR REPLACE TEMP TABLE delivered AS {relation}")
            relation = "FROM temp.delivered"
        self.connection.execute(f"INSERT INTO staging BY NAME {self.mapping.select(shape, f'({relation})')}")
        self.connection.execute("DROP TABLE IF EXISTS temp.delivered")
        staged.row_counts |= counts

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
        except _STUMBLED:
            return []  # an unreadable file shows itself, by name, when it is staged
        return [Path(name) for (name,) in sorted(found)]

    def _parquet_as_json(self, path: Path) -> Iterator[tuple[int, str | Reject]]:
        """Every row as the text of a straightened JSON object."""
        relation = self.connection.sql("SELECT * FROM read_parquet(?)", params=[str(path)])
        blobs = [c for c, kind in zip(relation.columns, relation.types, strict=True) if kind.id == "blob"]
        decoded = ", ".join(f"TRY(decode({_identifier(c)})) AS {_identifier(c)}" for c in blobs)
        rows = self.connection.cursor().execute(
            "SELECT audit_kit_row, to_json(e)::VARCHAR FROM ("
            f"SELECT file_row_number + 1 AS audit_kit_row, * {f'REPLACE ({decoded})' if decoded else ''} "
            "FROM read_parquet(?)) e",
            [str(path)],
        )
        while chunk := rows.fetchmany(2_000):
            for number, text in chunk:
                try:
                    event = json.loads(text)
                    del event["audit_kit_row"]
                    yield number, json.dumps(normalise(event))
                except (ValueError, RecursionError) as error:
                    yield number, Reject("", number, f"not a JSON object: {error}", text)

    # ── JSON ───────────────────────────────────────────────────────────────────────────────────────────────

    def _stage_json(self, path: Path, events: Iterable[tuple[int, str | Reject]], staged: Staged) -> None:
        """Queues the events: mapped together with those of other files, the statement is planned less often."""
        name = str(path)
        count = 0
        try:
            for row, item in events:
                count += 1
                if isinstance(item, Reject):
                    staged.rejects.append(Reject(name, row, item.reason, item.raw))
                    continue
                self._queue.append((name, row, item))
                self._queued += len(item)
                if len(self._queue) >= _CHUNK or self._queued >= _CHUNK_SIZE:
                    self._stage_queue(staged)
        except (OSError, EOFError, zlib.error) as error:
            raise UnreadableDelivery(f"damaged or cut short after {count} events: {error}") from None
        staged.row_counts[name] = count

    def _stage_queue(self, staged: Staged) -> None:
        docs, self._queue, self._queued = self._queue, [], 0
        if docs:
            self._stage_docs(self._straightened(docs, staged), staged)

    def _straightened(self, docs: list[_Doc], staged: Staged) -> list[_Doc]:
        """Texts of JSON objects that `from_json` reads as they are meant; what is none is rejected."""
        self._show(docs)
        doubtful = self.connection.execute(
            "SELECT place FROM docs WHERE NOT json_valid(doc) "
            "OR json_type(CASE WHEN json_valid(doc) THEN doc END) <> 'OBJECT' "
            f"OR regexp_matches(doc, '{_quoted(ODD_JSON)}')"
        ).fetchall()
        refused: set[int] = set()
        for (place,) in doubtful:
            name, row, text = docs[place]
            try:
                event = json.loads(text)
                if not isinstance(event, dict):
                    raise ValueError(f"a JSON {_json_kind(event)}, not an object")
                docs[place] = (name, row, json.dumps(normalise(event)))
            except (ValueError, RecursionError) as error:
                refused.add(place)
                staged.rejects.append(Reject(name, row, f"not a JSON object: {error}", text))
        return [doc for place, doc in enumerate(docs) if place not in refused] if refused else docs

    def _stage_docs(self, docs: list[_Doc], staged: Staged) -> None:
        """Maps the events; those that the statement stumbles over are found by halves and rejected."""
        self._show(docs)
        try:
            self.connection.execute(f"INSERT INTO staging BY NAME {self._json_select}")
        except _CANNOT_GO_ON:
            raise
        except _STUMBLED as error:
            if len(docs) == 1:
                [(name, row, text)] = docs
                staged.rejects.append(Reject(name, row, f"cannot be mapped: {_first_line(error)}", text))
                return
            middle = len(docs) // 2
            self._stage_docs(docs[:middle], staged)
            self._stage_docs(docs[middle:], staged)

    def _show(self, docs: list[_Doc]) -> None:
        """Makes the events the relation `docs`."""
        names, rows, texts = zip(*docs, strict=True) if docs else ((), (), ())
        frame = pl.DataFrame(
            {"place": range(len(docs)), "source_file": names, "source_row": rows, "doc": texts},
            schema={"place": pl.Int64, "source_file": pl.String, "source_row": pl.Int64, "doc": pl.String},
        )
        self.connection.register("docs", ArrowFrame(frame))

    # ── afterwards ─────────────────────────────────────────────────────────────────────────────────────────

    def _skip(self, path: Path, reason: str, staged: Staged) -> None:
        """A file is used whole or not at all: a part of a damaged one would look complete later."""
        name = str(path)
        self._queue = [doc for doc in self._queue if doc[0] != name]
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


def _read_parquet(paths: Sequence[Path]) -> str:
    listed = ", ".join(f"'{_quoted(str(p))}'" for p in paths)
    return f"read_parquet([{listed}], filename = 'audit_kit_file', file_row_number = true)"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


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
        line = line.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n")
        if not line.strip():
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
    if isinstance(whole, dict) and not {"class_uid", "type_uid", "metadata"} & whole.keys():
        wrapped = [
            v for k, v in whole.items() if k.lower() in ("items", "events", "records", "data") and isinstance(v, list)
        ]
        whole = wrapped[0] if len(wrapped) == 1 else whole
    if isinstance(whole, dict):
        whole = [whole]
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
    """What went wrong, in one printable line."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].encode("utf-8", "backslashreplace").decode("utf-8").translate(_UNPRINTABLE)


_UNPRINTABLE = dict.fromkeys((*range(32), *range(127, 160), 65533), "?")
