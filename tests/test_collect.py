"""Nothing lost, nothing twice: re-runs, overlaps, damage, crashes, and a mapping that changes."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit_kit import collect as module
from audit_kit.collect import Collected, collect, remap
from audit_kit.errors import StoreError, StoreMissing, UsageError
from audit_kit.model import DeliveredFile
from audit_kit.settings import ResourceScope, Settings, Source
from audit_kit.store import deliveries_folder, open_store
from tests.ingest import GONE, SHAPES, bare, event, write_jsonl, write_parquet

Rows = dict[str, list[tuple[Any, ...]]]
TABLES = {
    "events": "* EXCLUDE (batch_id)",
    "ingested_files": "* EXCLUDE (batch_id, ingested_at)",
    "rejected_events": "* EXCLUDE (batch_id)",
    "other_resources": "*",
}


def contents(store: Path) -> Rows:
    """All that collecting puts into a store, without the number of the run."""
    with open_store(store) as opened:
        return {
            table: sorted(opened.query(f"SELECT {columns} FROM {table}").rows(), key=repr)
            for table, columns in TABLES.items()
        }


def query(store: Path, sql: str) -> list[tuple[Any, ...]]:
    with open_store(store) as opened:
        return opened.query(sql).rows()


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def run(tmp_path: Path, inbox: Path) -> Callable[..., Collected]:
    def collected(*paths: Path, **changes: Any) -> Collected:
        wanted = tuple(map(str, paths)) or (str(inbox),)
        settings = replace(Settings(store=tmp_path / "audit.duckdb"), **changes)
        result = collect(settings, [Source("test", wanted)])
        for file in result.files:
            assert file.adds_up, file
        return result

    return collected


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "audit.duckdb"


def counts(result: Collected) -> dict[str, tuple[int, int, int, int, int]]:
    """Read, kept, rejected, duplicate and other-resource counts by file."""
    return {f.name: numbers(f) for f in result.files}


def numbers(f: DeliveredFile) -> tuple[int, int, int, int, int]:
    return (f.read_count, f.kept_count, f.rejected_count, f.duplicate_count, f.other_resource_count)


def named(*names: str, **changes: Any) -> list[dict[str, Any]]:
    return [bare(metadata={"uid": name}, **changes) for name in names]


# ── once and not twice ──────────────────────────────────────────────────────────────────────────────────────


def test_a_second_run_changes_nothing(run, inbox: Path, store: Path):
    write_jsonl(inbox / "a.jsonl", SHAPES)
    write_parquet(inbox / "b.parquet", named("x", "y"))
    assert counts(run()) == {"a.jsonl": (15, 15, 0, 0, 0), "b.parquet": (2, 2, 0, 0, 0)}
    before = contents(store)
    again = run()
    assert (again.files, again.known_count) == ((), 2)
    assert contents(store) == before


def test_a_touched_file_of_the_same_content_is_known(run, inbox: Path):
    os.utime(write_jsonl(inbox / "a.jsonl", SHAPES), (1, 1))
    run()
    os.utime(inbox / "a.jsonl", (2, 2))
    again = run()
    assert (again.files, again.known_count) == ((), 1)


def test_overlapping_deliveries_keep_each_event_once(run, inbox: Path, store: Path):
    write_jsonl(inbox / "1.jsonl", named("a", "b", "b"))
    write_parquet(inbox / "2.parquet", named("b", "c"))
    assert counts(run()) == {"1.jsonl": (3, 2, 0, 1, 0), "2.parquet": (2, 1, 0, 1, 0)}
    write_jsonl(inbox / "3.jsonl", named("c", "a", "d"))
    assert counts(run()) == {"3.jsonl": (3, 1, 0, 2, 0)}
    assert query(store, "SELECT event_uid, source_file FROM events ORDER BY ALL") == [
        ("a", "1.jsonl"), ("b", "1.jsonl"), ("c", "2.parquet"), ("d", "3.jsonl")
    ]  # fmt: skip


def test_a_renamed_copy_adds_nothing(run, inbox: Path):
    path = write_parquet(inbox / "a.parquet", named("x", "y"))
    (inbox / "b.parquet").write_bytes(path.read_bytes())
    assert counts(run()) == {"a.parquet": (2, 2, 0, 0, 0), "b.parquet": (2, 0, 0, 2, 0)}
    (inbox / "c.parquet").write_bytes(path.read_bytes())
    assert counts(run()) == {"c.parquet": (2, 0, 0, 2, 0)}


def test_a_file_overwritten_with_more_adds_what_is_new(run, inbox: Path):
    write_jsonl(inbox / "a.jsonl", named("x"))
    run()
    write_jsonl(inbox / "a.jsonl", named("x", "y"))
    assert counts(run()) == {"a.jsonl": (2, 1, 0, 1, 0)}
    assert run().files == ()


def test_the_same_uid_with_another_content_stays(run, inbox: Path, store: Path):
    write_jsonl(inbox / "a.jsonl", named("x") + named("x", message="other") + named("x", time=1791209009999))
    write_jsonl(inbox / "b.jsonl", named("x", message="third") + named("x", message="other"))
    assert counts(run()) == {"a.jsonl": (3, 3, 0, 0, 0), "b.jsonl": (2, 1, 0, 1, 0)}
    assert query(store, "SELECT count(*), count(DISTINCT event_uid) FROM events") == [(4, 1)]


def test_twins_without_a_uid_stay_and_their_redelivery_is_recognised(run, inbox: Path, store: Path):
    twins = [bare(message="same"), bare(message="same"), bare(message="else")]
    write_jsonl(inbox / "a.jsonl", twins)
    write_parquet(inbox / "b.parquet", twins)
    assert counts(run()) == {"a.jsonl": (3, 3, 0, 0, 0), "b.parquet": (3, 0, 0, 3, 0)}
    write_jsonl(inbox / "c.jsonl", [*twins, bare(message="same")])
    assert counts(run()) == {"c.jsonl": (4, 1, 0, 3, 0)}
    assert query(store, "SELECT count(DISTINCT event_uid) FROM events") == [(4,)]


def test_batches_make_no_difference(run, inbox: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for number in range(4):
        write_jsonl(inbox / f"{number}.jsonl", named(*(f"e{n}" for n in range(number, number + 4))))
    whole = run()
    monkeypatch.setattr(module, "_BATCH_FILES", 1)
    other = replace(Settings(), store=tmp_path / "other.duckdb")
    assert counts(collect(other, [Source("test", (str(inbox),))])) == counts(whole)
    assert contents(other.store) == contents(store)


def test_other_resources_are_left_out_and_counted_by_name(run, inbox: Path, store: Path):
    elsewhere = event(resources=[{"name": "Linear"}], api__request__data__resource=GONE)
    result = run(write_jsonl(inbox / "a.jsonl", [elsewhere, elsewhere, SHAPES[0]]))
    assert counts(result) == {"a.jsonl": (3, 1, 0, 0, 2)}
    assert result.other_resources == (("Linear", 2),)
    assert query(store, "SELECT * FROM other_resources") == [("test", "a.jsonl", "Linear", 2)]
    assert not result.nothing_matched


def test_it_is_told_where_nothing_matched(run, inbox: Path):
    write_jsonl(inbox / "a.jsonl", [SHAPES[0]])
    assert run(resources=(ResourceScope("https://x.example"),)).nothing_matched


def test_sources_are_kept_apart_and_their_order_makes_no_difference(tmp_path: Path):
    for name in "ab":
        write_jsonl(tmp_path / f"{name}.jsonl", named("same", name))
    sources = [Source(name, (str(tmp_path / f"{name}.jsonl"),)) for name in "ab"]
    stores = []
    for number, order in enumerate((sources, sources[::-1])):
        settings = Settings(store=tmp_path / f"{number}.duckdb")
        collect(settings, order)
        stores.append(contents(settings.store))
    assert stores[0] == stores[1]


# ── damage ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_bad_delivery_costs_only_what_is_bad(run, inbox: Path, store: Path, tmp_path: Path):
    good = write_parquet(tmp_path / "good.parquet", SHAPES).read_bytes()
    (inbox / "1-good.parquet").write_bytes(good)
    (inbox / "2-cut.parquet").write_bytes(good[:-100])
    (inbox / "3-empty.parquet").write_bytes(b"")
    (inbox / "4-error.parquet").write_text("<Error>AccessDenied</Error>")
    (inbox / "5-damaged.parquet").write_bytes(good[:100] + bytes(3000) + good[3100:])
    broken = event(time=GONE, time_dt=GONE, metadata__original_time=GONE)
    write_jsonl(inbox / "6-lines.jsonl", ['{"broken', "[1]", broken, *named("six")])
    (inbox / "7-cut.jsonl.gz").write_bytes(gzip.compress(random.Random(1).randbytes(9_000))[:5_000])
    write_parquet(inbox / "8-other.parquet", [{"customer": 1}])
    (inbox / "9-readme.txt").write_text("hello")
    (inbox / "A-nowhere.jsonl").symlink_to(tmp_path / "gone.jsonl")
    write_jsonl(inbox / "B-good.jsonl", named("last"))
    result = run()
    assert {f.name: f.reason for f in result.files if f.status == "collected"} == {
        "1-good.parquet": None, "6-lines.jsonl": None, "B-good.jsonl": None
    }  # fmt: skip
    reasons = {f.name[2:]: f.reason or "" for f in result.files if f.status == "skipped"}
    begins = {
        "cut.parquet": "truncated", "empty.parquet": "empty", "error.parquet": "not Parquet",
        "damaged.parquet": "a Parquet file that cannot be read", "cut.jsonl.gz": "damaged or cut short",
        "other.parquet": "not OCSF", "readme.txt": "not a kind of file", "nowhere.jsonl": "cannot be read: No such file",
    }  # fmt: skip
    assert {n for n, begin in begins.items() if reasons[n].startswith(begin)} == set(reasons) == set(begins)
    assert counts(result)["6-lines.jsonl"] == (4, 1, 3, 0, 0)
    assert query(store, "SELECT count(*) FROM events") == [(17,)]
    assert query(store, "SELECT source_row, raw FROM rejected_events ORDER BY ALL") == [
        (1, '{"broken'), (2, "[1]"), (3, json.dumps(broken))
    ]  # fmt: skip
    assert query(store, "SELECT count(*), count(reason) FROM ingested_files") == [(11, 8)]


def test_a_file_that_could_not_be_fetched_is_tried_again(run, inbox: Path, tmp_path: Path, store: Path):
    (inbox / "a.jsonl").symlink_to(tmp_path / "late.jsonl")
    assert [f.status for f in run().files] == ["skipped"]
    write_jsonl(tmp_path / "late.jsonl", named("x"))
    assert counts(run()) == {"a.jsonl": (1, 1, 0, 0, 0)}
    assert query(store, "SELECT status FROM ingested_files") == [("collected",)]


def test_all_files_bad_still_makes_a_store(run, inbox: Path, store: Path):
    (inbox / "a.parquet").write_bytes(b"")
    run()
    assert query(store, "SELECT count(*) FROM events") == [(0,)]


def test_a_source_that_is_not_there_is_a_usage_error(run, inbox: Path, store: Path):
    with pytest.raises(UsageError, match="no such file or folder"):
        run(inbox / "nowhere")
    assert not store.exists()


def test_deliveries_are_kept_as_they_came_for_the_owner_alone(run, inbox: Path, store: Path):
    path = write_jsonl(inbox / "a.jsonl", SHAPES)
    run()
    [(kept,)] = query(store, "SELECT delivery FROM ingested_files")
    copy = deliveries_folder(store) / kept
    assert copy.read_bytes() == path.read_bytes()
    everything = [store, deliveries_folder(store), copy.parent, copy]
    assert [oct(p.stat().st_mode & 0o077) for p in everything] == ["0o0"] * 4
    assert sorted(p.name for p in store.parent.iterdir()) == ["audit.deliveries", "audit.duckdb", "inbox"]


# ── a mapping that changes ──────────────────────────────────────────────────────────────────────────────────

MAPPED_OTHERWISE: dict[str, dict[str, Any]] = {
    "scope": {"resources": (ResourceScope("https://x.example", "X"),)},
    "mapping": {
        "mapping_columns": {"stated_user_id": ("unmapped.who",), "event_uid": ("unmapped.id",)},
        "mapping_kinds": {"secret_read": ("credentials:issue",)},
    },
}


@pytest.mark.parametrize("change", MAPPED_OTHERWISE)
def test_remap_gives_what_collecting_anew_gives(change: str, run, inbox: Path, store: Path, tmp_path: Path):
    own = [bare(unmapped={"id": f"u{n}", "who": "w", "resource": "https://x.example"}) for n in range(2)]
    write_jsonl(inbox / "m.jsonl", [*own, *named("late", "x"), "{"])
    run()
    write_jsonl(inbox / "a.jsonl", named("late", "y"))  # comes later, and first by its name
    write_parquet(inbox / "z.parquet", SHAPES)
    (inbox / "zz.parquet").write_bytes(b"broken")
    run()
    changes = MAPPED_OTHERWISE[change]
    result = remap(replace(Settings(store=store), **changes))
    assert {f.name for f in result.files} == {"a.jsonl", "m.jsonl", "z.parquet", "zz.parquet"}
    anew = replace(Settings(store=tmp_path / "anew.duckdb"), **changes)
    collect(anew, [Source("test", (str(inbox),))])
    assert contents(store) == contents(anew.store)
    assert run(**changes).files == ()


def test_remap_without_a_change_keeps_every_event(run, inbox: Path, store: Path):
    write_jsonl(inbox / "a.jsonl", [*SHAPES, *SHAPES])
    run()
    before = contents(store)
    remap(Settings(store=store))
    assert contents(store) == before


@pytest.mark.parametrize("harm", ["gone", "changed"])
def test_remap_without_a_delivery_refuses_and_changes_nothing(harm: str, run, inbox: Path, store: Path):
    write_jsonl(inbox / "a.jsonl", SHAPES)
    run()
    before = contents(store)
    [kept] = deliveries_folder(store).rglob("*.jsonl")
    if harm == "gone":
        kept.unlink()
    else:
        kept.write_text("{}")
    with pytest.raises(StoreError, match=r"a\.jsonl.*[Nn]othing was changed"):
        remap(Settings(store=store))
    assert contents(store) == before
    assert not list(store.parent.glob("*.remap*"))


def test_an_interrupted_remap_leaves_the_old_store(run, inbox: Path, store: Path):
    write_jsonl(inbox / "a.jsonl", SHAPES)
    run()
    before = contents(store)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        remap(Settings(store=store), stop)
    assert contents(store) == before
    stale = store.with_name(store.name + ".remap.wal")
    stale.write_bytes(b"left by a killed remap")
    remap(Settings(store=store))
    assert contents(store) == before
    assert not stale.exists()


def test_remap_of_nothing_says_that_there_is_no_store(store: Path):
    with pytest.raises(StoreMissing):
        remap(Settings(store=store))


# ── crashes ─────────────────────────────────────────────────────────────────────────────────────────────────

SMALL_BATCHES = (
    "import sys, audit_kit.collect as c; c._BATCH_FILES = 6; from audit_kit.cli import main; "
    "sys.argv[0] = 'audit-kit'; main()"
)


def start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SMALL_BATCHES, *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(processes: Iterable[subprocess.Popen[bytes]]) -> list[tuple[int, str]]:
    ended = []
    for process in processes:
        _, errors = process.communicate(timeout=60)
        ended.append((process.returncode, errors.decode()))
    return ended


def many_files(inbox: Path) -> None:
    for number in range(24):
        events = named(*(f"e{n}" for n in range(number * 3, number * 3 + 5)))
        if number % 6 == 0:
            write_parquet(inbox / f"{number:02}.parquet", events)
        else:
            write_jsonl(inbox / f"{number:02}.jsonl", [*events, "{", event(resources=[{"name": f"R{number}"}],
                        api__request__data__resource=GONE)])  # fmt: skip


def test_a_run_killed_at_any_moment_is_made_up_for(inbox: Path, tmp_path: Path):
    many_files(inbox)
    clean = Settings(store=tmp_path / "clean.duckdb")
    collect(clean, [Source("files", (str(inbox),))])
    store = tmp_path / "killed.duckdb"
    arguments = ["collect", str(inbox), "--store", str(store)]
    chance = random.Random(11)
    survived = 0
    for _ in range(5):
        process = start(arguments)
        began = time.monotonic()
        while not store.exists() and process.poll() is None and time.monotonic() - began < 20:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.6))
        process.send_signal(signal.SIGKILL)
        survived += finish([process])[0][0] != -signal.SIGKILL
    assert survived < 5  # at least one was killed in the middle
    [(code, errors)] = finish([start(arguments)])
    assert code == 0, errors
    assert contents(store) == contents(clean.store)
    assert not list(deliveries_folder(store).glob(".part*"))


def test_two_runs_at_the_same_time_keep_each_event_once(inbox: Path, tmp_path: Path, store: Path):
    many_files(inbox)
    arguments = ["collect", str(inbox), "--store", str(store)]
    ended = finish([start(arguments), start(arguments)])
    assert 0 in {code for code, _ in ended}
    for code, errors in ended:
        assert code == 0 or "another process" in errors
        assert "Traceback" not in errors
    assert query(store, "SELECT count(*), count(DISTINCT event_uid) FROM events") == [(74, 74)]
    assert query(store, "SELECT count(*), sum(read_count)::INT, sum(kept_count)::INT FROM ingested_files") == [
        (24, 160, 74)
    ]


def test_a_reader_sees_whole_batches_only(run, inbox: Path, store: Path, monkeypatch: pytest.MonkeyPatch):
    write_jsonl(inbox / "a.jsonl", named("a"))
    run()
    write_jsonl(inbox / "b.jsonl", named("b"))
    monkeypatch.setattr(module, "_accounts", lambda *_: (_ for _ in ()).throw(StoreError("stopped")))
    with pytest.raises(StoreError, match="stopped"):
        run()
    assert query(store, "SELECT event_uid FROM events") == [("a",)]
    monkeypatch.undo()
    assert counts(run()) == {"b.jsonl": (1, 1, 0, 0, 0)}


def test_counts_that_do_not_add_up_stop_the_batch(run, inbox: Path, monkeypatch: pytest.MonkeyPatch):
    write_jsonl(inbox / "a.jsonl", named("a", "b"))
    whole = module._stage

    def forgetful(*arguments: Any) -> Any:
        staged = whole(*arguments)
        staged.row_counts = {name: count + 1 for name, count in staged.row_counts.items()}
        return staged

    monkeypatch.setattr(module, "_stage", forgetful)
    with pytest.raises(StoreError, match="do not add up"):
        run()


def test_adding_reads_only_what_is_new(run, inbox: Path, monkeypatch: pytest.MonkeyPatch):
    write_jsonl(inbox / "a.jsonl", named("a"))
    run()
    looked_at: list[str] = []
    whole = module.fetch_file
    monkeypatch.setattr(
        module, "fetch_file", lambda item, folder: (looked_at.append(item.name), whole(item, folder))[1]
    )
    write_jsonl(inbox / "b.jsonl", named("b"))
    run()
    assert looked_at == ["b.jsonl"]
