"""The promises of collect, kept by the command line: nothing lost, nothing twice, killed or not."""

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from audit_kit.sample import DemoOptions, write_demo

KIT = [sys.executable, "-m", "audit_kit"]
SHAPES = Path(__file__).with_name("ocsf-1.7.0-shapes.jsonl")
# Small batches, so that a kill can fall between them.
SMALL_BATCHES = (
    "import sys; from audit_kit import collect; collect._BATCH_FILES = 6; "
    "from audit_kit.cli import main; main(sys.argv[1:])"
)


def kit(*arguments: object, code: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code] if code else KIT
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)


def content(store: Path) -> dict[str, list]:
    """All that a store says of events and files; not when and in which batch it was told."""
    connection = duckdb.connect(str(store), read_only=True)
    connection.execute("SET TimeZone = 'UTC'")
    tables = {
        "events": "* EXCLUDE (batch_id)",
        "ingested_files": "* EXCLUDE (batch_id, ingested_at, modified_ns)",
        "rejected_events": "* EXCLUDE (batch_id)",
        "other_resources": "*",
    }
    rows = {
        table: sorted(
            connection.execute(f"SELECT to_json(t)::VARCHAR FROM (SELECT {columns} FROM {table}) t").fetchall()
        )
        for table, columns in tables.items()
    }
    connection.close()
    return rows


@pytest.fixture(scope="module")
def delivery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few dozen files of a small company, and one with a bad line."""
    folder = tmp_path_factory.mktemp("delivery")
    made = write_demo(folder, DemoOptions(events=4_000, hours_per_file=72)).deliveries
    (made / "2026-07-01-00-00-00-bad.jsonl").write_text(SHAPES.read_text() + "{broken\n")
    return made


@pytest.fixture(scope="module")
def clean_run(delivery: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    store = tmp_path_factory.mktemp("clean") / "audit.duckdb"
    done = kit("collect", delivery, "--store", store)
    assert done.returncode == 0, done.stderr
    return content(store)


def test_killed_at_random_moments_and_run_again_gives_the_clean_store(delivery: Path, clean_run, tmp_path: Path):
    rng = random.Random(2)
    store = tmp_path / "audit.duckdb"
    survived = 0
    for _ in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", SMALL_BATCHES, "collect", str(delivery), "--store", str(store)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(timeout=rng.uniform(0.6, 4.0))
            survived += 1
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert survived < 12  # otherwise nothing was killed
    done = kit("collect", delivery, "--store", store)
    assert done.returncode == 0, done.stderr
    assert content(store) == clean_run


def test_running_again_and_renamed_copies_change_no_event(delivery: Path, clean_run, tmp_path: Path):
    source = tmp_path / "in"
    shutil.copytree(delivery, source)
    store = tmp_path / "audit.duckdb"
    for _ in range(2):
        assert kit("collect", source, "--store", store).returncode == 0
    assert content(store)["events"] == clean_run["events"]
    for number, file in enumerate(sorted(source.iterdir())[:5]):
        suffix = ".jsonl.gz" if file.name.endswith(".jsonl.gz") else file.suffix
        shutil.copy(file, source / f"zz-copy-{number}{suffix}")
    again = kit("collect", source, "--store", store)
    assert "5 new files" in again.stdout
    assert content(store)["events"] == clean_run["events"]


def test_two_collects_at_once_count_once(delivery: Path, clean_run, tmp_path: Path):
    store = tmp_path / "audit.duckdb"
    both = [
        subprocess.Popen([sys.executable, "-c", SMALL_BATCHES, "collect", str(delivery), "--store", str(store)])
        for _ in range(2)
    ]
    assert {process.wait() for process in both} <= {0, 4}
    assert kit("collect", delivery, "--store", store).returncode == 0
    assert content(store)["events"] == clean_run["events"]
    assert len(content(store)["ingested_files"]) == len(clean_run["ingested_files"])


def test_a_changed_mapping_and_remap_give_what_collecting_anew_gives(delivery: Path, tmp_path: Path):
    settings = tmp_path / "audit-kit.toml"
    old, new = tmp_path / "old.duckdb", tmp_path / "new.duckdb"
    # In two steps and out of order, as deliveries come.
    files = sorted(delivery.iterdir())
    for part in (files[20:], files):
        assert kit("collect", *part, "--store", old).returncode == 0
    settings.write_text(
        '[mapping.columns]\nstated_user_id = ["metadata.tenant_uid"]\nuser_agent = ["metadata.log_name"]\n'
        '[[resources]]\nid = "https://api.linear.app"\nname = "Linear"\n'
    )
    assert kit("remap", "--config", settings, "--store", old).returncode == 0
    assert kit("collect", *files, "--config", settings, "--store", new).returncode == 0
    mended, anew = content(old), content(new)
    assert mended == anew
    assert any('"user_agent":"audit"' in row for (row,) in mended["events"])


def test_a_hostile_delivery_is_named_file_by_file_and_the_rest_is_there(tmp_path: Path):
    source = tmp_path / "in"
    source.mkdir()
    good = SHAPES.read_text().splitlines()
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT * FROM read_json('{SHAPES}')) TO '{source}/good.parquet' (COMPRESSION snappy)"
        )
        connection.execute(f"COPY (SELECT 1 AS invoice, 'x' AS customer) TO '{source}/other-product.parquet'")
    (source / "truncated.parquet").write_bytes((source / "good.parquet").read_bytes()[:-500])
    (source / "empty.parquet").touch()
    (source / "error-page.parquet").write_text('<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>')
    event = json.loads(good[0])
    event["metadata"]["uid"] = "one-more"
    lines = [
        json.dumps(event),
        '{"time": ',
        "[1, 2]",
        json.dumps({"metadata": {"uid": "timeless", "version": "1.7.0"}}),
    ]
    (source / "three-bad-lines.jsonl").write_text("\n".join(lines) + "\n")
    (source / "cut.jsonl.gz").write_bytes(gzip.compress(SHAPES.read_bytes())[:-40])
    (source / "notes.txt").write_text("call Bob")
    store = tmp_path / "audit.duckdb"
    done = kit("collect", source, "--store", store)
    assert done.returncode == 0
    assert kit("collect", source, "--store", tmp_path / "strict.duckdb", "--strict").returncode == 3
    assert "Traceback" not in done.stdout + done.stderr
    said = " ".join(done.stdout.split())
    for name, words in {
        "truncated.parquet": "footer",
        "empty.parquet": "empty: 0 bytes",
        "error-page.parquet": "not Parquet",
        "other-product.parquet": "not OCSF",
        "cut.jsonl.gz": "cut short",
        "notes.txt": "not a kind of file",
        "three-bad-lines.jsonl": "3 of 4 events rejected",
    }.items():
        assert name in said
        assert words in said, name
    with duckdb.connect(str(store), read_only=True) as connection:
        [(events,)] = connection.execute("SELECT count(*) FROM events").fetchall()
        rejected = connection.execute("SELECT source_row, reason, raw FROM rejected_events ORDER BY ALL").fetchall()
    assert events == len(good) + 1
    assert [row for row, _, _ in rejected] == [2, 3, 4]
    assert [raw for _, _, raw in rejected] == lines[1:]
    assert len({reason for _, reason, _ in rejected}) == 3


def test_store_and_deliveries_are_for_their_owner_only(delivery: Path, tmp_path: Path):
    store = tmp_path / "new" / "audit.duckdb"
    store.parent.mkdir()
    kit("collect", sorted(delivery.iterdir())[0], "--store", store)
    for path in [store, *store.with_suffix(".deliveries").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_the_store_is_written_for_tools_from_1_5_on(delivery: Path, tmp_path: Path):
    store = tmp_path / "audit.duckdb"
    kit("collect", sorted(delivery.iterdir())[0], "--store", store)
    with duckdb.connect(str(store), read_only=True) as connection:
        [(tags,)] = connection.execute("SELECT tags FROM duckdb_databases() WHERE database_name = 'audit'").fetchall()
    assert tags["storage_version"].startswith("v1.5.0")


def test_a_store_held_by_another_process_is_named_and_nothing_is_lost(delivery: Path, tmp_path: Path):
    store = tmp_path / "audit.duckdb"
    files = sorted(delivery.iterdir())
    assert kit("collect", files[0], "--store", store).returncode == 0
    hold = f"import duckdb, time; c = duckdb.connect({str(store)!r}); print('held', flush=True); time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        busy = kit("collect", files[1], "--store", store)
        assert busy.returncode == 4
        assert "another process" in busy.stderr
        assert str(holder.pid) in busy.stderr
    finally:
        holder.kill()
        holder.communicate()
    assert kit("collect", files[1], "--store", store).returncode == 0


def test_hostile_names_are_text_in_every_output(tmp_path: Path):
    """A user, a policy and an application with names that are code elsewhere."""
    event = json.loads(SHAPES.read_text().splitlines()[1])
    event["actor"]["user"] |= {"uid": "<script>alert(1)</script>"}
    event["actor"] |= {"app_uid": "=cmd()", "app_name": "=cmd()"}
    event["actor"]["authorizations"][0]["policy"]["name"] = "a|b"
    event["unmapped"].pop("actor")
    lines = []
    for number in range(12):
        event["metadata"]["uid"] = f"denial-{number}"
        event["time"] += 3_600_000
        lines.append(json.dumps(event))
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    store = tmp_path / "audit.duckdb"
    done = kit("run", tmp_path / "in.jsonl", "--store", store, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    html, markdown = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<script>" not in markdown.replace("\\<script\\>", "").split("```")[0]
    csv = kit("check", "--store", store, "--format", "csv").stdout
    assert "<script>alert(1)</script> × a|b" in csv
    assert not [cell for line in csv.splitlines() for cell in line.split(",") if cell.startswith(("=", '"='))]


def test_environment_secrets_reach_no_output(delivery: Path, tmp_path: Path):
    store = tmp_path / "audit.duckdb"
    secret = {**os.environ, "KEYCARD_API_CLIENT_SECRET": "hunter2-very-secret"}
    command = [*KIT, "run", str(delivery), "--store", str(store), "--out", str(tmp_path)]
    done = subprocess.run(command, env=secret, capture_output=True, text=True)
    assert "hunter2" not in done.stdout + done.stderr
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and b"hunter2" in p.read_bytes()]
