"""The one module that opens DuckDB.

The store is one file, `audit.duckdb`, that any DuckDB tool from 1.5 on can open. Every connection here is an
in-memory database with the store attached under the name `store`, so that parsing and scratch tables never touch
the file, and its lock is held only while it is really read or written.
"""

from __future__ import annotations

import csv
import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from audit_kit.errors import StoreBusy, StoreError, StoreMissing
from audit_kit.paths import CATALOGS, QUERIES

LAYOUT = "1"
# The oldest line of tools that must be able to open the file, whichever version wrote it.
STORAGE_VERSION = "v1.5.0"
_BUSY_WAIT_SECONDS = 5.0


class Store:
    """An open store; `with open_store(path) as store: store.query("SELECT …")`."""

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection) -> None:
        self.path = path
        self.connection = connection

    def query(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> pl.DataFrame:
        """Runs one statement; instants come back as UTC datetimes."""
        # Through the Arrow capsule, which needs no pyarrow.
        return pl.DataFrame(self.connection.sql(sql, params=parameters))

    def scalar(self, sql: str) -> Any:
        return self.query(sql).item()

    def execute(self, sql: str, parameters: Sequence[Any] | None = None) -> None:
        self.connection.execute(sql, parameters)


def deliveries_folder(store: Path) -> Path:
    """Where the deliveries lie as they came: `audit.deliveries/` beside `audit.duckdb`."""
    return store.with_suffix(".deliveries")


def scratch_connection(spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    """An in-memory database in UTC, for parsing; large work spills to `spill`."""
    connection = duckdb.connect(":memory:")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET preserve_insertion_order = false")
    connection.execute("SET enable_progress_bar = false")
    if spill is not None:
        connection.execute("SET temp_directory = ?", [str(spill)])
    return connection


@contextmanager
def open_store(path: Path) -> Iterator[Store]:
    """Opens an existing store for reading. Raises StoreMissing where there is none, StoreBusy while one writes."""
    missing = StoreMissing(f"{path}: there is no store yet; `audit-kit collect` makes one")
    if not path.is_file() or path.stat().st_size == 0:  # empty: a collect was stopped as it began
        raise missing
    connection = scratch_connection()
    try:
        connection.execute("SET preserve_insertion_order = true")
        _attach(connection, path, read_only=True)
        if _is_empty(connection):  # made by a collect that was stopped before its first commit
            raise missing
        connection.execute("USE store")
        _check_layout(connection, path)
        yield Store(path, connection)
    finally:
        connection.close()


@contextmanager
def writing(connection: duckdb.DuckDBPyConnection, path: Path) -> Iterator[None]:
    """Attaches the store to a scratch connection for one transaction, which commits where the body ends well."""
    old_mask = os.umask(0o077)  # owner only: the log holds people's names and what they did
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stillborn(path)
        _attach(connection, path, read_only=False)
        try:
            connection.execute("USE store")
            connection.execute("BEGIN")
            if _is_empty(connection):
                _create_schema(connection)
            else:
                _check_layout(connection, path)
            yield
            connection.execute("COMMIT")
        except BaseException:
            # The first error is the one worth showing; a broken transaction may refuse to roll back.
            with suppress(duckdb.Error):
                connection.execute("ROLLBACK")
            raise
        finally:
            connection.execute("USE memory")
            connection.execute("DETACH store")
    finally:
        os.umask(old_mask)


def _remove_stillborn(path: Path) -> None:
    """A run that is stopped as it begins leaves an empty file, which DuckDB refuses; one that begins holds its lock."""
    with suppress(OSError):
        if path.stat().st_size == 0:
            with path.open("r+b") as file:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(file.fileno()).st_size == 0:
                    path.unlink()


def settle_store(path: Path) -> None:
    """Brings what a stopped run left in the write-ahead log into the file, so that the file alone is the store."""
    if path.is_file() and _wal(path).exists():
        connection = scratch_connection()
        try:
            _attach(connection, path, read_only=False)
            connection.execute("CHECKPOINT store")
        finally:
            connection.close()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives the path of a store to be made, which takes the place of `path` where the body ends well."""
    fresh = path.with_name(path.name + ".remap")
    _remove(fresh)
    try:
        yield fresh
        settle_store(fresh)
        fresh.replace(path)
    finally:
        _remove(fresh)


def _remove(store: Path) -> None:
    store.unlink(missing_ok=True)
    _wal(store).unlink(missing_ok=True)  # left behind, it would be replayed into the next file of that name


def _wal(store: Path) -> Path:
    return store.with_name(store.name + ".wal")


class ArrowFrame:
    """Hands a Polars frame to DuckDB through the Arrow capsule; by itself DuckDB would ask for pyarrow."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.frame.__arrow_c_stream__(requested_schema)


def remove_leftovers(folder: Path, prefix: str) -> None:
    """Takes away `<prefix><pid>…` of processes that were killed; they can hold what the log holds."""
    for path in folder.glob(f"{prefix}*"):
        pid = re.match(r"\d+", path.name.removeprefix(prefix))
        if pid is None or _is_alive(int(pid[0])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def insert_rows(connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Sequence[Any]]) -> None:
    """Many rows in one statement; one by one each would be planned anew."""
    if rows:
        frame = pl.DataFrame(rows, orient="row", infer_schema_length=None)
        # DuckDB does not take Arrow's type of columns that hold nothing at all.
        connection.register("rows_to_insert", ArrowFrame(frame.with_columns(pl.col(pl.Null).cast(pl.String))))
        connection.execute(f"INSERT INTO {table} SELECT * FROM temp.rows_to_insert")
        connection.unregister("rows_to_insert")


def write_catalog(connection: duckdb.DuckDBPyConnection, catalog: str) -> None:
    """Refreshes `operations` and `scopes` from the catalogue's files, inside the caller's transaction."""
    folder = CATALOGS / catalog
    with (folder / "operations.csv").open(encoding="utf-8", newline="") as lines:
        operations = [
            (
                f"{r['method']} {r['path_template']}",
                r["method"],
                r["path_template"],
                r["title"],
                sorted(r["scopes"].split()),
            )
            for r in csv.DictReader(lines)
        ]
    with (folder / "scopes.csv").open(encoding="utf-8", newline="") as lines:
        scopes = [
            (
                r["scope"],
                r["family"],
                r["access"],
                r["is_default"] == "true",
                r["sensitivity"],
                r["sensitivity_reason"],
            )
            for r in csv.DictReader(lines)
        ]
    connection.execute("DELETE FROM store.operations")
    insert_rows(connection, "store.operations", operations)
    connection.execute("DELETE FROM store.scopes")
    insert_rows(connection, "store.scopes", scopes)


def write_info(connection: duckdb.DuckDBPyConnection, **values: str) -> None:
    """Sets names of `store_info`, inside the caller's transaction."""
    for name, value in values.items():
        connection.execute("DELETE FROM store.store_info WHERE name = ?", [name])
        connection.execute("INSERT INTO store.store_info VALUES (?, ?)", [name, value])


def _create_schema(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute((QUERIES / "schema.sql").read_text(encoding="utf-8"))
    for view in sorted((QUERIES / "views").glob("*.sql")):
        connection.execute(view.read_text(encoding="utf-8"))
    connection.execute("INSERT INTO store_info VALUES ('layout', ?)", [LAYOUT])


def _is_empty(connection: duckdb.DuckDBPyConnection) -> bool:
    count = connection.execute("SELECT count(*) FROM duckdb_tables() WHERE database_name = 'store'").fetchall()
    return count == [(0,)]


def _check_layout(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    try:
        found = connection.execute("SELECT value FROM store.store_info WHERE name = 'layout'").fetchall()
    except duckdb.Error:
        found = []
    if found != [(LAYOUT,)]:
        stated = f"layout {found[0][0]}" if found else "no layout of audit-kit"
        raise StoreError(
            f"{path}: it has {stated}, this version reads layout {LAYOUT}; name another file with --store, "
            "or move this one away and collect again"
        )


def _attach(connection: duckdb.DuckDBPyConnection, path: Path, *, read_only: bool) -> None:
    """Attaches, waiting a few seconds for another process to finish."""
    target = str(path).replace("'", "''")
    options = "READ_ONLY" if read_only else f"STORAGE_VERSION '{STORAGE_VERSION}'"
    give_up_at = time.monotonic() + _BUSY_WAIT_SECONDS
    while True:
        try:
            connection.execute(f"ATTACH '{target}' AS store ({options})")
            return
        except duckdb.IOException as error:
            if "lock" not in str(error).lower():
                raise StoreError(f"{path}: it cannot be opened as a store: {_first_line(error)}") from None
            if time.monotonic() > give_up_at:
                raise StoreBusy(
                    f"{path}: another process has it open ({_first_line(error)}); close that one and run this again"
                ) from None
            time.sleep(0.2)
        except duckdb.Error as error:
            raise StoreError(f"{path}: it cannot be opened as a store: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
