"""The command line as a user meets it: output, errors of one line, exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from audit_kit.cli import main
from audit_kit.model import Severity

SHAPES = Path(__file__).with_name("ocsf-1.7.0-shapes.jsonl")


def run(*arguments: object):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


def denied(number: int) -> str:
    """JSON lines: the sample's denial, `number` times, an hour apart."""
    event = json.loads(SHAPES.read_text().splitlines()[1])
    lines = []
    for n in range(number):
        event["metadata"]["uid"] = f"denial-{n}"
        event["time"] += 3_600_000
        lines.append(json.dumps(event))
    return "\n".join(lines) + "\n"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of the sample events and twelve denials of one user."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "shapes.jsonl").write_text(SHAPES.read_text())
    (tmp_path / "in" / "denials.jsonl").write_text(denied(12))
    path = tmp_path / "audit.duckdb"
    done = run("collect", tmp_path / "in", "--store", path)
    assert done.exit_code == 0, done.output
    return path


def test_collect_says_what_became_of_every_row(tmp_path: Path):
    source = tmp_path / "one.jsonl"
    source.write_text(SHAPES.read_text() + "{broken\n")
    done = run("collect", source, "--store", tmp_path / "a.duckdb")
    assert done.exit_code == 0
    assert (
        "1 new files (0 known): 16 events read = 15 kept + 1 rejected + 0 duplicate + 0 of other resources"
        in done.output
    )
    assert "1 of 16 events rejected: see rejected_events" in done.output
    again = run("collect", source, "--store", tmp_path / "a.duckdb")
    assert "0 new files (1 known)" in again.output


def test_collect_strict_exits_3_for_a_rejected_event(tmp_path: Path):
    source = tmp_path / "one.jsonl"
    source.write_text(SHAPES.read_text() + "{broken\n")
    assert run("collect", source, "--store", tmp_path / "a.duckdb", "--strict").exit_code == 3


def test_nothing_usable_exits_4_even_under_strict(tmp_path: Path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "empty.parquet").touch()
    done = run("collect", tmp_path / "in", "--store", tmp_path / "a.duckdb", "--strict")
    assert done.exit_code == 4
    assert "empty: 0 bytes" in done.output
    assert "nothing usable came out" in done.output


def test_a_scope_that_matches_nothing_is_said_loudly(tmp_path: Path):
    event = json.loads(SHAPES.read_text().splitlines()[0])
    event["resources"] = [{"uid": "https://api.linear.app", "name": "Linear"}]
    event["api"]["request"]["data"]["resource"] = "https://api.linear.app"
    (tmp_path / "linear.jsonl").write_text(json.dumps(event))
    done = run("collect", tmp_path / "linear.jsonl", "--store", tmp_path / "a.duckdb")
    assert done.exit_code == 4
    assert "NOTHING MATCHED" in done.output
    assert "https://api.linear.app (1)" in done.output


def test_a_missing_path_is_wrong_usage(tmp_path: Path):
    done = run("collect", tmp_path / "nowhere", "--store", tmp_path / "a.duckdb")
    assert done.exit_code == 2
    assert "there is no such file or folder" in done.output
    assert "Traceback" not in done.output


def test_collect_without_anything_to_collect_is_wrong_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    done = run("collect")
    assert done.exit_code == 2
    assert "[[sources]]" in done.output


def test_check_prints_period_findings_and_what_it_could_not_judge(store: Path):
    done = run("check", "--store", store)
    assert done.exit_code == 0, done.output  # medium is below the default level
    assert "Period 2026-07-09 00:00 UTC to 2026-10-07 00:00 UTC (90 days; newest 90 days)" in done.output
    assert "Partial: the log begins only at 2026-10-05 14:03 UTC" in done.output
    assert "policy_denials_by_user" in done.output
    assert "Could not judge: over_broad_scopes: the log covers 1 day of the period, and 30 are needed" in done.output


@pytest.mark.parametrize(("fail_on", "code"), [("low", 1), ("medium", 1), ("high", 0), ("critical", 0), ("never", 0)])
def test_fail_on(store: Path, fail_on: str, code: int):
    assert run("check", "--store", store, "--fail-on", fail_on).exit_code == code


def test_strict_goes_before_findings(store: Path):
    assert run("check", "--store", store, "--fail-on", "low", "--strict").exit_code == 3


def test_check_json_is_json_and_csv_is_csv(store: Path):
    done = run("check", "--store", store, "--format", "json")
    document = json.loads(done.stdout)
    findings = document["findings"]
    assert [(f["check"], f["severity"]) for f in findings] == [("policy_denials_by_user", "medium")]
    done = run("check", "--store", store, "--format", "csv")
    assert len(done.stdout.splitlines()) == 2


def test_check_only_one(store: Path):
    done = run("check", "--store", store, "--check", "log_gap", "--format", "json")
    assert json.loads(done.stdout)["findings"] == []
    wrong = run("check", "--store", store, "--check", "log_gaps")
    assert wrong.exit_code == 2


def test_report_writes_both_forms(store: Path, tmp_path: Path):
    done = run("report", "--store", store, "--out", tmp_path / "out")
    assert done.exit_code == 0
    assert (tmp_path / "out" / "report.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "out" / "report.md").read_text().startswith("# ")


def test_reports_are_the_same_bytes_whatever_zone_and_threads(store: Path, tmp_path: Path):
    seen = set()
    for number, (zone, threads) in enumerate((("UTC", "1"), ("Asia/Kathmandu", "2"), ("America/St_Johns", "7"))):
        out = tmp_path / f"out-{number}"
        environment = {**os.environ, "TZ": zone, "POLARS_MAX_THREADS": threads}
        command = [sys.executable, "-m", "audit_kit", "report", "--store", str(store), "--out", str(out)]
        subprocess.run(command, check=True, env=environment, capture_output=True)
        seen.add(((out / "report.html").read_bytes(), (out / "report.md").read_bytes()))
    assert len(seen) == 1


def test_a_missing_store_names_the_cure(tmp_path: Path):
    done = run("check", "--store", tmp_path / "none.duckdb")
    assert done.exit_code == 4
    assert "audit-kit collect" in done.output


def test_a_wrong_period_is_wrong_usage(store: Path):
    assert run("check", "--store", store, "--period", "2026-Q5").exit_code == 2


def test_a_wrong_setting_is_refused_with_its_line(store: Path, tmp_path: Path):
    settings = tmp_path / "audit-kit.toml"
    settings.write_text('organisation = "Kites"\norganization = "Kites"\n')
    done = run("check", "--store", store, "--config", settings)
    assert done.exit_code == 2
    assert "audit-kit.toml:2" in done.output


def test_an_unknown_check_parameter_is_refused(store: Path, tmp_path: Path):
    settings = tmp_path / "audit-kit.toml"
    settings.write_text("[checks.policy_denials_by_user]\nmin_denial = 3\n")
    done = run("check", "--store", store, "--config", settings)
    assert done.exit_code == 2
    assert "min_denials" in done.output


def test_a_parameter_from_the_settings_counts(store: Path, tmp_path: Path):
    settings = tmp_path / "audit-kit.toml"
    settings.write_text("[checks.policy_denials_by_user]\nmin_denials = 50\n")
    done = run("check", "--store", store, "--config", settings, "--format", "json")
    assert json.loads(done.stdout)["findings"] == []


def test_changed_scope_is_noticed_and_remap_mends_it(store: Path, tmp_path: Path):
    settings = tmp_path / "audit-kit.toml"
    settings.write_text('[[resources]]\nid = "https://api.linear.app"\nname = "Linear"\n')
    noticed = run("check", "--store", store, "--config", settings, "--fail-on", "never")
    assert "audit-kit remap" in noticed.output
    mended = run("remap", "--store", store, "--config", settings)
    assert mended.exit_code == 0
    assert "https://api.attio.com" in mended.output  # now another resource, left out by name
    assert "audit-kit remap" not in run("check", "--store", store, "--config", settings, "--fail-on", "never").output


def test_init_writes_settings_that_load_and_never_overwrites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert run("init").exit_code == 0
    assert run("check").exit_code == 4  # the settings load; there is no store yet
    assert run("init").exit_code == 2


def test_sql_answers_as_table_json_and_csv(store: Path):
    counted = "SELECT kind, count(*) AS n, list_sort(list(DISTINCT decision)) AS d FROM events GROUP BY kind"
    query = f"{counted} ORDER BY n DESC LIMIT 1"
    assert "credential_issue" in run("sql", query, "--store", store).output
    assert json.loads(run("sql", query, "--store", store, "--format", "json").stdout) == [
        {"kind": "credential_issue", "n": 16, "d": ["allowed", "denied"]}
    ]
    assert (
        run("sql", query, "--store", store, "--format", "csv").stdout
        == "kind,n,d\ncredential_issue,16,allowed denied\n"
    )


def test_sql_reads_a_file_with_variables_and_standard_input(store: Path, tmp_path: Path):
    file = tmp_path / "query.sql"
    file.write_text("-- a comment\nSET VARIABLE least = 3;\n\n/* another */ SELECT parameter('least') AS least;\n")
    assert json.loads(run("sql", file, "--store", store, "--format", "json").stdout) == [{"least": 3}]
    piped = CliRunner().invoke(main, ["sql", "-", "--store", str(store), "--format", "json"], input="SELECT 1 AS one")
    assert json.loads(piped.stdout) == [{"one": 1}]


def test_every_check_runs_as_a_file(store: Path):
    for check in sorted(Path("queries/checks").glob("*.sql")):
        assert run("sql", check, "--store", store).exit_code == 0, check


@pytest.mark.parametrize(
    "query",
    [
        "COPY events TO '/tmp/x.csv'",
        "ATTACH '/tmp/x.duckdb'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET threads = 1; SELECT 1",
        "SET enable_external_access = true; SELECT 1",
        "PRAGMA database_list",
        "EXPORT DATABASE '/tmp/x'",
        "DELETE FROM events",
        "CREATE TABLE x AS SELECT 1",
        "SELECT 1; DROP TABLE events",
        "DROP TABLE events; SELECT 1",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT getenv('HOME')",
        "SELECT * FROM statement",
        "CALL pragma_version()",
        "",
        "SELEC 1",
    ],
)
def test_sql_refuses(store: Path, query: str):
    done = run("sql", query, "--store", store)
    assert done.exit_code == 2
    assert "Traceback" not in done.output


def test_sql_leaves_the_store_as_it_was(store: Path):
    before = store.read_bytes()
    run("sql", "WITH gone AS (DELETE FROM events RETURNING *) SELECT count(*) FROM gone", "--store", store)
    assert store.read_bytes() == before


def test_checks_list_and_show():
    listed = run("checks", "list")
    assert "log_gap" in listed.output
    shown = run("checks", "show", "log_gap")
    assert "SET VARIABLE min_gap_hours = 1;" in shown.output
    assert run("checks", "show", "nothing").exit_code == 2


def test_store_info_shows_what_there_is(store: Path):
    shown = run("store", "info", "--store", store)
    assert "credential_issue" in shown.output
    assert "layout: 1" in shown.output


def commands(group=main, prefix=()):
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        yield from commands(command, (*prefix, name)) if hasattr(command, "list_commands") else [(*prefix, name)]


@pytest.mark.parametrize("command", [(), *commands()], ids=" ".join)
def test_every_command_has_help_with_an_example(command: tuple[str, ...]):
    shown = run(*command, "--help")
    assert shown.exit_code == 0
    assert "Example:" in shown.output or not command
    assert max(map(len, shown.output.splitlines())) <= 100


def test_help_does_not_import_what_is_slow():
    code = "import sys; from audit_kit.cli import main; main(['-h'], standalone_mode=False); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"duckdb", "polars", "jinja2", "rich"} & set(done.stdout.replace("'", "").strip("[]\n").split(", "))


def test_control_characters_from_the_log_do_not_reach_the_terminal(tmp_path: Path):
    hostile = denied(12).replace("usr_example_ada", "\\u001b[2Jada").replace("forbid-attio-writes", "a|b")
    (tmp_path / "in.jsonl").write_text(hostile)
    run("collect", tmp_path / "in.jsonl", "--store", tmp_path / "a.duckdb")
    done = run("check", "--store", tmp_path / "a.duckdb")
    assert "policy_denials_by_user" in done.output
    assert "\x1b" not in done.output


def test_severities_of_the_option_are_those_of_the_model():
    from audit_kit.cli.options import SEVERITIES

    assert list(SEVERITIES) == [*(str(s) for s in Severity), "never"]
