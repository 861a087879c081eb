"""Laws for all checks, found by looking into the folder; a new check obeys them without being named here."""

from __future__ import annotations

import ast
import csv
import re
from datetime import timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest

from audit_kit.audit import audit
from audit_kit.catalog import CHECKS, load_check, load_checks, refine_function
from audit_kit.model import Verdict
from audit_kit.paths import QUERIES
from audit_kit.settings import Settings
from audit_kit.store import open_store
from tests.builders import (
    LOG_ENDS,
    PERIOD,
    PERIOD_STARTS,
    api_call,
    consent,
    daily,
    denial,
    event,
    issue,
    log_bounds,
    store_of,
)
from tests.checks.asking import busy_hour
from tests.lint_sql import main as lint
from tests.lint_sql import problems

IDS = [check.id for check in load_checks()]
TESTS = Path(__file__).parent / "checks"
BURST = PERIOD_STARTS + timedelta(days=40, hours=10)


def a_log_in_which_every_check_finds_something():
    """Several users and applications, so that the order of rows has something to get wrong."""
    yield from log_bounds()
    yield from busy_hour(without=["2026-08-04", "2026-08-20"])
    for n, user in enumerate(("ada", "bob", "o'brien' OR '1'='1")):
        own = {"user_id": user, "application_id": f"agent of {user}"}
        yield consent(PERIOD_STARTS - timedelta(days=3), "note:read-write", **own)
        for day in daily(PERIOD_STARTS, LOG_ENDS, 12):
            yield issue(day, "note:read-write", **own)
            yield from (api_call(day + timedelta(seconds=s), **own) for s in range(3))
        yield from (denial(PERIOD_STARTS + timedelta(hours=s), ["no-writes"], **own) for s in range(12))
        for status in (401, 403):
            burst = BURST + timedelta(days=n, hours=status - 400)
            yield from (api_call(burst + timedelta(seconds=s), status=status, **own) for s in range(30))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("laws")
    with store_of(folder, a_log_in_which_every_check_finds_something()) as store:
        return store.path


@pytest.fixture(scope="module")
def findings(path):
    with open_store(path) as store:
        return {r.check.id: r.findings for r in audit(store, load_checks(), PERIOD, Settings()).results}


def verdicts(folder, events):
    with store_of(folder, events) as store:
        return {r.check.id: r.verdict for r in audit(store, load_checks(), PERIOD, Settings()).results}


def in_a_bare_shell(path: Path, text: str, threads: int = 2) -> pl.DataFrame:
    """What a user sees who opens the store in DuckDB and pastes the file, in whatever time zone."""
    with duckdb.connect(str(path), read_only=True) as connection:
        connection.execute("SET TimeZone = 'America/St_Johns'")
        connection.execute(f"SET threads = {threads}")
        *before, select = duckdb.extract_statements(text)
        for statement in before:
            connection.execute(statement)
        return pl.DataFrame(connection.sql(select.query))


def known_controls() -> set[str]:
    with (QUERIES / "controls.csv").open(encoding="utf-8", newline="") as lines:
        return {f"{row['framework']}:{row['id']}" for row in csv.DictReader(lines)}


def test_there_are_checks():
    assert IDS


def test_no_control_is_listed_twice():
    with (QUERIES / "controls.csv").open(encoding="utf-8", newline="") as lines:
        rows = [(row["framework"], row["id"]) for row in csv.DictReader(lines)]
    assert len(rows) == len(set(rows))


def test_every_test_and_every_refinement_belongs_to_a_check():
    named = {p.stem.removeprefix("test_") for p in TESTS.glob("test_*.py")} | {p.stem for p in CHECKS.glob("*.py")}
    assert named <= set(IDS)


@pytest.mark.parametrize("check_id", IDS)
def test_it_has_a_test_that_reports_and_one_that_ignores(check_id):
    file = TESTS / f"test_{check_id}.py"
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = [f.name for f in tree.body if isinstance(f, ast.FunctionDef) and f.name.startswith("test_")]
    assert any(name.endswith("_reported") or "_reported_" in name for name in names), file
    assert any(name.endswith("_ignored") or "_ignored_" in name for name in names), file


@pytest.mark.parametrize("check_id", IDS)
def test_its_header_reads_well(check_id):
    check = load_check(CHECKS / f"{check_id}.sql")
    assert not check.title.endswith(".")
    assert check.risk.endswith(".")
    assert check.remediation.endswith(".")
    for text in (check.title, check.risk, check.remediation):
        assert text[0].isupper()
        assert not re.search(r"\b(he|him|his|she|her)\b", text), "a user may be a service"
    assert check.needs, "a check that needs nothing calls an empty log clean"


@pytest.mark.parametrize("check_id", IDS)
def test_its_controls_are_known_and_named_once(check_id):
    controls = load_check(CHECKS / f"{check_id}.sql").controls
    assert set(controls) <= known_controls()
    assert len(set(controls)) == len(controls)


@pytest.mark.parametrize("check_id", IDS)
def test_it_needs_what_the_evidence_knows(check_id, path):
    with open_store(path) as store:
        assert set(load_check(CHECKS / f"{check_id}.sql").needs) <= set(store.query("FROM evidence")["need"])


@pytest.mark.parametrize("check_id", IDS)
def test_it_runs_as_it_is_in_a_bare_shell(check_id, path):
    check = load_check(CHECKS / f"{check_id}.sql")
    rows = in_a_bare_shell(path, check.text)
    if check.rows == "series":
        rows = refine_function(check)(rows)
    assert {"entity", "reason", "events_sql", "severity", "first_at", "last_at", "event_count"} <= set(rows.columns)
    assert rows.height >= 2
    assert rows["entity"].null_count() == rows["reason"].null_count() == rows["events_sql"].null_count() == 0


@pytest.mark.parametrize("check_id", IDS)
def test_the_shell_finds_what_the_audit_finds(check_id, path, findings):
    check = load_check(CHECKS / f"{check_id}.sql")
    rows = in_a_bare_shell(path, check.text)
    if check.rows == "series":
        rows = refine_function(check)(rows)
    shell = sorted(zip(rows["entity"], rows["reason"], strict=True))
    assert shell == sorted((f.entity, f.reason) for f in findings[check_id])


@pytest.mark.parametrize("check_id", IDS)
def test_its_rows_are_the_same_with_one_thread_and_two_and_again(check_id, path):
    text = load_check(CHECKS / f"{check_id}.sql").text
    once = in_a_bare_shell(path, text, 1)
    assert once.equals(in_a_bare_shell(path, text, 2))
    assert once.equals(in_a_bare_shell(path, text, 2))


@pytest.mark.parametrize("check_id", IDS)
def test_every_finding_leads_to_its_events(check_id, path, findings):
    assert len(findings[check_id]) >= 2
    with open_store(path) as store:
        for finding in findings[check_id]:
            listed = store.query(finding.events_sql)
            assert listed.height == finding.event_count
            assert {e.event_uid for e in finding.sample_events} <= set(listed["event_uid"])
            assert len(finding.sample_events) == min(5, finding.event_count)
            assert listed["occurred_at"].is_sorted()


@pytest.mark.parametrize("check_id", IDS)
def test_no_finding_is_above_the_ceiling(check_id, path):
    check = load_check(CHECKS / f"{check_id}.sql")
    rows = in_a_bare_shell(path, check.text)
    if check.rows == "series":
        rows = refine_function(check)(rows)
    order = ["low", "medium", "high", "critical"]
    assert max(order.index(s) for s in rows["severity"]) <= order.index(str(check.severity))


@pytest.mark.parametrize("check_id", IDS)
def test_its_details_are_numbers_texts_and_lists(check_id, findings):
    for finding in findings[check_id]:
        for name, value in finding.details.items():
            assert isinstance(value, (int, float, str, list)), name
            if name.endswith(("_count", "_index", "_in_gaps")):
                assert isinstance(value, (int, float)), name


@pytest.mark.parametrize("check_id", IDS)
def test_its_sentences_speak_of_no_he_and_no_1_days(check_id, findings):
    for finding in findings[check_id]:
        said = f"{finding.reason} {finding.inconclusive_because or ''}"
        assert not re.search(r"\b(he|him|his|she|her)\b|\b1 (days|calls|hours|issues|denials)\b", said), said


def test_an_empty_store_is_never_clean(tmp_path):
    assert set(verdicts(tmp_path, []).values()) == {Verdict.COULD_NOT_JUDGE}


def test_a_log_outside_the_period_is_never_clean(tmp_path):
    before = [api_call(PERIOD_STARTS - timedelta(days=n)) for n in range(1, 30)]
    assert set(verdicts(tmp_path, before).values()) == {Verdict.COULD_NOT_JUDGE}


def test_without_calls_no_check_that_needs_them_is_clean(tmp_path):
    needing = {c.id for c in load_checks() if "api_calls" in c.needs}
    got = verdicts(tmp_path, [*log_bounds(), *(issue(day) for day in daily(PERIOD_STARTS, LOG_ENDS))])
    assert needing
    assert {got[check_id] for check_id in needing} == {Verdict.COULD_NOT_JUDGE}


def test_without_issues_no_check_that_needs_them_is_clean(tmp_path):
    needing = {c.id for c in load_checks() if {"credential_issues", "decisions"} & set(c.needs)}
    got = verdicts(tmp_path, [*log_bounds(), *(api_call(day) for day in daily(PERIOD_STARTS, LOG_ENDS))])
    assert needing
    assert {got[check_id] for check_id in needing} == {Verdict.COULD_NOT_JUDGE}


def test_a_log_of_other_things_is_clean_of_gaps_alone(tmp_path):
    got = verdicts(tmp_path, [event(day) for day in daily(PERIOD_STARTS, LOG_ENDS)])
    assert {check_id for check_id, verdict in got.items() if verdict is not Verdict.COULD_NOT_JUDGE} <= {"log_gap"}


# ── the lint of queries/ ────────────────────────────────────────────────────────────────────────────────────

SMALL = "/*\ntitle = 'x'\n*/\nWITH a AS (SELECT 1)\n\nSELECT\n    b\nFROM a\nORDER BY b\n"


def test_the_queries_are_tidy(capsys):
    assert lint() == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        (SMALL.replace("    b", "\tb"), 7, "a tab"),
        (SMALL.replace("FROM a", "FROM a "), 8, "blanks at the end"),
        (SMALL.replace("    b", "    b" + 170 * "b"), 7, "175 columns"),
        (SMALL.replace("title", "/* title"), 2, "/* inside a comment"),
        (SMALL.replace("    b", "    a.*"), 7, "SELECT *"),
        (SMALL.replace("SELECT\n    b", "SELECT *"), 6, "SELECT *"),
        (SMALL.replace("ORDER BY b\n", ""), 8, "a check ends in ORDER BY"),
        (SMALL.replace("FROM a", "FROM {{ a }}"), 8, "braces"),
        (SMALL.replace("FROM a", "FROM {table}"), 8, "braces"),
        (SMALL.replace("FROM a", "FORM a b"), 8, "Parser Error"),
        (SMALL + "\n", 11, "a file ends in one line break"),
    ],
)
def test_the_lint_finds(text, line, what):
    found = [(number, said) for _, number, said in problems(CHECKS / "small.sql", text)]
    assert any(number == line and what in said for number, said in found), found


def test_the_lint_leaves_what_is_right():
    in_texts = SMALL.replace("    b", "    '/* no */ {} -- ' AS b  -- nor /* here")
    assert not list(problems(CHECKS / "small.sql", SMALL)) + list(problems(CHECKS / "small.sql", in_texts))
