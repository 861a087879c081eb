"""The store: whose it is, who may open it, and what it says when it cannot be trusted."""

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from audit_kit.collect import collect
from audit_kit.errors import StoreBusy, StoreError, StoreMissing
from audit_kit.settings import Settings, Source
from audit_kit.store import (
    deliveries_folder,
    insert_rows,
    open_store,
    remove_leftovers,
    replacing,
    scratch_connection,
    settle_store,
    writing,
)
from tests.ingest import SHAPES, write_jsonl


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.duckdb"


@pytest.fixture
def connection():
    made = scratch_connection()
    yield made
    made.close()


def make(path: Path, connection: duckdb.DuckDBPyConnection) -> Path:
    with writing(connection, path):
        connection.execute("INSERT INTO store_info VALUES ('test', 'kept')")
    return path


def test_what_is_written_can_be_read(path: Path, connection):
    make(path, connection)
    with open_store(path) as store:
        assert store.scalar("SELECT value FROM store_info WHERE name = 'test'") == "kept"


def test_a_body_that_fails_leaves_nothing(path: Path, connection):
    make(path, connection)

    def spoil() -> None:
        with writing(connection, path):
            connection.execute("DELETE FROM store_info")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        spoil()
    with open_store(path) as store:
        assert store.scalar("SELECT count(*) FROM store_info WHERE name = 'test'") == 1


def test_a_store_is_its_owners_alone(path: Path, connection):
    old = os.umask(0o000)
    try:
        with writing(connection, path):
            connection.execute("INSERT INTO store_info VALUES ('test', 'kept')")
            modes = [p.stat().st_mode & 0o077 for p in path.parent.iterdir()]
        assert modes
        assert set(modes) == {0}
    finally:
        assert os.umask(old) == 0o000  # ours was put back
    assert path.stat().st_mode & 0o077 == 0


def test_a_store_can_be_opened_by_the_oldest_tools_we_promise(path: Path, connection):
    make(path, connection)
    connection.execute(f"ATTACH '{path}' AS looked_at (READ_ONLY)")
    [(tags,)] = connection.execute("SELECT tags FROM duckdb_databases() WHERE database_name = 'looked_at'").fetchall()
    assert tags["storage_version"].startswith("v1.5")


def test_a_missing_store_is_told(path: Path):
    with pytest.raises(StoreMissing, match="collect"), open_store(path):
        pass
    assert not path.exists()


@pytest.mark.parametrize("how", ["before its header", "before its tables"])
def test_a_store_left_by_a_killed_first_run_counts_as_none_and_is_filled(
    how: str, path: Path, connection, tmp_path: Path
):
    path.touch()
    if how == "before its tables":
        with pytest.raises(KeyboardInterrupt), writing(connection, path):
            raise KeyboardInterrupt
    with pytest.raises(StoreMissing), open_store(path):
        pass
    result = collect(Settings(store=path), [Source("t", (str(write_jsonl(tmp_path / "a.jsonl", SHAPES)),))])
    assert result.kept_count == 15


def foreign(path: Path) -> None:
    with duckdb.connect(str(path)) as other:
        other.execute("CREATE TABLE t (a INT)")


def of_another_layout(path: Path) -> None:
    made = scratch_connection()
    with writing(made, path):
        made.execute("UPDATE store_info SET value = '0' WHERE name = 'layout'")
    made.close()


WRONG = {
    "zero bytes": (lambda p: p.write_bytes(b""), "no store yet"),
    "text": (lambda p: p.write_text("not a database " * 1000), "cannot be opened as a store"),
    "another database": (foreign, "no layout of audit-kit"),
    "another layout": (of_another_layout, "layout 0"),
    "a folder": (lambda p: p.mkdir(), "folder|directory|no store yet"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_file_that_is_no_store_is_refused_by_name(what: str, path: Path, tmp_path: Path):
    spoil, reason = WRONG[what]
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError, match=reason) as reading, open_store(path):
        pass
    assert str(path) in str(reading.value)
    if what != "zero bytes":  # DuckDB takes an empty file for a new database, and so may collect
        with pytest.raises(StoreError):
            collect(Settings(store=path), [Source("t", (str(write_jsonl(tmp_path / "a.jsonl", SHAPES)),))])
        assert before is None or path.read_bytes() == before


def test_a_store_held_by_another_process_is_busy(path: Path, connection, monkeypatch: pytest.MonkeyPatch):
    make(path, connection)
    monkeypatch.setattr("audit_kit.store._BUSY_WAIT_SECONDS", 0.3)
    hold = f"import duckdb, sys; c = duckdb.connect({str(path)!r}); print('held', flush=True); sys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdin is not None
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(StoreBusy, match=f"{path}: another process has it open") as busy, open_store(path):
            pass
        assert str(other.pid) in str(busy.value)
        with pytest.raises(StoreBusy), writing(connection, path):
            pass
    finally:
        other.communicate(b"")
    with open_store(path) as store:
        assert store.scalar("SELECT 1") == 1


def test_a_replacement_takes_the_place_at_the_end_or_not_at_all(path: Path, connection):
    make(path, connection)

    def spoil() -> None:
        with replacing(path) as fresh:
            make(fresh, connection)
            raise StoreError("stopped")

    with pytest.raises(StoreError, match="stopped"):
        spoil()
    assert [p.name for p in path.parent.iterdir()] == ["audit.duckdb"]
    with replacing(path) as fresh, writing(connection, fresh):
        connection.execute("INSERT INTO store_info VALUES ('test', 'new')")
    with open_store(path) as store:
        assert store.scalar("SELECT value FROM store_info WHERE name = 'test'") == "new"


def test_settling_leaves_the_file_alone_as_the_store(path: Path, connection):
    make(path, connection)
    killed = (
        f"import duckdb, os; c = duckdb.connect({str(path)!r}); c.execute('SET checkpoint_threshold = ''1GB''');"
        "c.execute(\"INSERT INTO store_info VALUES ('late', 'kept')\"); os._exit(9)"
    ).replace("''1GB''", "\\'1GB\\'")
    subprocess.run([sys.executable, "-c", killed], check=False)
    assert path.with_name("audit.duckdb.wal").exists()
    settle_store(path)
    assert [p.name for p in path.parent.iterdir()] == ["audit.duckdb"]
    with open_store(path) as store:
        assert store.scalar("SELECT count(*) FROM store_info WHERE name IN ('late', 'test')") == 2


def test_leftovers_of_killed_processes_go_and_those_of_living_ones_stay(tmp_path: Path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / f".part-{ended.pid}").touch()
    (tmp_path / f".part-{ended.pid}-x").mkdir()
    (tmp_path / f".part-{os.getpid()}").touch()
    (tmp_path / ".part-of-another").touch()
    remove_leftovers(tmp_path, ".part-")
    assert {p.name for p in tmp_path.iterdir()} == {f".part-{os.getpid()}", ".part-of-another"}


def test_rows_go_in_whatever_they_lack(connection):
    connection.execute("CREATE TABLE t (a VARCHAR, b TIMESTAMPTZ, c BIGINT)")
    insert_rows(connection, "t", [("x", None, 1), (None, None, 2**40)])
    insert_rows(connection, "t", [])
    assert connection.execute("SELECT a, b::VARCHAR, c FROM t ORDER BY c").fetchall() == [
        ("x", None, 1),
        (None, None, 2**40),
    ]


def test_deliveries_lie_beside_the_store():
    assert deliveries_folder(Path("x/audit.duckdb")) == Path("x/audit.deliveries")
