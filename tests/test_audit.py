"""What surrounds the checks: identity, settings, coverage, population, the daily series, samples, order."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from audit_kit.audit import audit, newest_event_at
from audit_kit.catalog import load_check, load_checks
from audit_kit.errors import CheckError, SettingsError
from audit_kit.model import Period, Severity, State
from audit_kit.settings import ResourceScope, Settings
from audit_kit.store import open_store
from tests.builders import (
    ATTIO,
    LOG_ENDS,
    LOG_STARTS,
    PERIOD,
    PERIOD_STARTS,
    api_call,
    at,
    consent,
    daily,
    denial,
    event,
    issue,
    log_bounds,
    revocation,
    run_check,
    run_checks,
    store_of,
)
from tests.checks.asking import busy_hour

DENIALS = "policy_denials_by_user"
SECOND = timedelta(seconds=1)
USUAL = "SELECT 'e' AS entity, 'r' AS reason, 'FROM events' AS events_sql"


def refused(number=10, when=PERIOD_STARTS, **different):
    return [denial(when + timedelta(minutes=n), ["p"], **different) for n in range(number)]


def own_check(folder, select, rows="findings"):
    """A check of one's own, whose SELECT is the text."""
    header = "title = 't'\nseverity = 'medium'\nneeds = ['events']\ncontrols = ['soc2:CC6.1']\n"
    header += "risk = 'r'\nremediation = 'r'\n"
    path = folder / "own.sql"
    path.write_text(f"/*\n{header}rows = '{rows}'\n*/\n{select}\n", encoding="utf-8")
    return path


def run_own(folder, select, rows="findings"):
    check = load_check(own_check(folder, select, rows))
    with store_of(folder, log_bounds()) as store:
        return audit(store, [check], PERIOD, Settings())


# ── identity ────────────────────────────────────────────────────────────────────────────────────────────────


def test_ids_are_stable_across_periods_and_occurrences_are_not(tmp_path):
    events = [*log_bounds(), *refused(), *refused(when=LOG_ENDS - timedelta(days=5))]
    (early,) = run_check(tmp_path, DENIALS, events, Period(PERIOD_STARTS, at("2026-08-01"))).findings
    (late,) = run_check(tmp_path, DENIALS, events, Period(at("2026-08-01"), LOG_ENDS)).findings
    assert early.id == late.id
    assert early.occurrence_id != late.occurrence_id


def test_ids_say_check_and_entity_and_nothing_of_the_store(tmp_path):
    found = run_check(tmp_path, DENIALS, [*log_bounds(), *refused(), *refused(user_id="bob")]).findings
    again = run_check(tmp_path, DENIALS, [*refused(15, user_id="bob"), *log_bounds(), *refused(11)]).findings
    assert len({f.id for f in found}) == 2
    assert [f.id for f in found] == [f.id for f in again]
    assert [f.occurrence_id for f in found] == [f.occurrence_id for f in again]


def test_an_entity_may_have_several_occurrences_with_a_key(tmp_path):
    found = run_own(tmp_path, USUAL + ", k AS occurrence_key FROM (VALUES ('1'), ('2')) AS t (k)").findings
    assert len({f.id for f in found}) == 1
    assert len({f.occurrence_id for f in found}) == 2


# ── the contract of a check ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("select", "said"),
    [
        ("SELECT 'e' AS entity, 'FROM events' AS events_sql", "its rows have no column reason"),
        ("SELECT 'e' AS entity, NULL AS reason, 'FROM events' AS events_sql", "a row of it has no reason"),
        ("SELECT NULL AS entity, 'r' AS reason, 'FROM events' AS events_sql", "a row of it has no entity"),
        ("SELECT 'e' AS entity, 'r' AS reason, NULL AS events_sql", "a row of it has no events_sql"),
        (
            "SELECT 'e' AS entity, 'r' AS reason, 'FROM events' AS events_sql, 'grave' AS severity",
            "the row of e: 'grave' is not a severity",
        ),
        (
            "SELECT 'e' AS entity, 'r' AS reason, 'FROM events' AS events_sql FROM range(2)",
            "two of its rows have the same entity",
        ),
        ("SELECT nothing FROM events", "Binder Error"),
    ],
)
def test_a_check_that_breaks_its_contract_is_refused(tmp_path, select, said):
    with pytest.raises(CheckError, match=rf"own\.sql: {said}"):
        run_own(tmp_path, select)


def test_a_need_that_is_not_known_is_refused(tmp_path):
    path = own_check(tmp_path, "SELECT 1")
    path.write_text(path.read_text().replace("'events'", "'miracles'"))
    with store_of(tmp_path, []) as store, pytest.raises(CheckError, match="it needs 'miracles'"):
        audit(store, [load_check(path)], PERIOD, Settings())


def test_a_finding_is_never_above_the_ceiling_and_at_it_where_it_says_nothing(tmp_path):
    severities = [
        run_own(tmp_path, USUAL + more).findings[0].severity
        for more in (", 'critical' AS severity", ", 'low' AS severity", "")
    ]
    assert severities == [Severity.MEDIUM, Severity.LOW, Severity.MEDIUM]


def test_details_are_plain_and_keep_their_order(tmp_path):
    more = (
        "2.0 AS z, sum(range) AS a, 1.25 AS f, 0.5::DECIMAL(4, 2) AS d, DATE '2026-07-01' AS day, "
        "[DATE '2026-07-01'] AS days, TIMESTAMPTZ '2026-07-01 02:00:00+02' AS instant, NULL AS nothing, true AS yes"
    )
    (finding,) = run_own(tmp_path, f"{USUAL}, {more} FROM range(3)").findings
    assert list(finding.details.items()) == [
        ("z", 2), ("a", 3), ("f", 1.25), ("d", 0.5), ("day", "2026-07-01"), ("days", ["2026-07-01"]),
        ("instant", "2026-07-01T00:00:00Z"), ("yes", True),
    ]  # fmt: skip
    assert [type(finding.details[n]) for n in "zafd"] == [int, int, float, float]


# ── settings ────────────────────────────────────────────────────────────────────────────────────────────────


def test_settings_override_a_parameter_for_its_check_alone(tmp_path):
    events = [*log_bounds(), *refused(3)]
    assert len(run_check(tmp_path, DENIALS, events, min_denials=3).findings) == 1
    assert not run_check(tmp_path, DENIALS, events).findings


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"no_such_check": {"a": 1}}, r"\[checks.no_such_check\]: there is no such check"),
        ({DENIALS: {"most": 1}}, r"\[checks.policy_denials_by_user\] most: no such parameter; it has min_denials"),
        ({DENIALS: {"min_denials": "ten"}}, "min_denials: its default is 10; give that kind of value"),
        ({DENIALS: {"min_denials": True}}, "min_denials: its default is 10; give that kind of value"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, parameters, said):
    with store_of(tmp_path, []) as store, pytest.raises(SettingsError, match=said):
        audit(store, load_checks(), PERIOD, Settings(check_parameters=parameters))


def test_settings_of_checks_that_do_not_run_are_looked_at_too(tmp_path):
    with store_of(tmp_path, []) as store, pytest.raises(SettingsError):
        audit(store, load_checks(), PERIOD, Settings(check_parameters={DENIALS: {"most": 1}}), only=["log_gap"])


def test_only_runs_only(tmp_path):
    assert [r.check.id for r in run_checks(tmp_path, log_bounds(), ["log_gap"]).results] == ["log_gap"]
    assert len(run_checks(tmp_path, log_bounds()).results) == len(load_checks())


# ── coverage ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def covered(tmp_path_factory):
    """A log with files, gaps, unmatched calls, other resources and rejected events."""
    folder = tmp_path_factory.mktemp("coverage")
    calls = [api_call(PERIOD_STARTS, status=s) for s in (200, 401, 403)]
    unmatched = [api_call(PERIOD_STARTS, None), api_call(PERIOD_STARTS, None, resource_id="elsewhere")]
    outside = [api_call(LOG_STARTS, None), api_call(LOG_ENDS, source_file="b.jsonl")]
    with store_of(folder, [*log_bounds(), *busy_hour(without=["2026-08-04"]), *calls, *unmatched, *outside]) as store:
        path = store.path
    with duckdb.connect(str(path)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for file, status, numbers in (
            ("test.jsonl", "collected", (9, 5, 2, 1, 1)),
            ("b.jsonl", "skipped", (0, 0, 0, 0, 0)),
        ):
            connection.execute(
                "INSERT INTO ingested_files SELECT 'test', ?, 'sha', 7, NULL, 'jsonl', ?, 'r', ?, ?, ?, ?, ?, "
                "TIMESTAMPTZ '2026-06-01 00:00:00+00', NULL, 'm', 'd', 1, now()",
                [file, status, *numbers],
            )
        connection.execute(
            "INSERT INTO other_resources VALUES ('a', 'f', 'github', 2), ('b', 'f', 'github', 3), ('a', 'f', 'box', 9)"
        )
        connection.execute(
            "INSERT INTO rejected_events VALUES ('a', 'f', 1, 'no time', '', 1), ('a', 'f', 2, 'no time', '', 1)"
        )
    with open_store(path) as store:
        yield audit(store, load_checks(), PERIOD, Settings())


def test_coverage_lists_every_file_with_its_part_of_the_period(covered):
    skipped, collected = covered.coverage.files
    assert (collected.name, collected.status, collected.adds_up) == ("test.jsonl", "collected", True)
    counts = (collected.read_count, collected.kept_count, collected.rejected_count, collected.duplicate_count)
    assert (*counts, collected.other_resource_count) == (9, 5, 2, 1, 1)
    assert collected.first_event_at == datetime(2026, 6, 1, tzinfo=UTC)
    assert collected.kept_in_period_count == covered.coverage.event_count == 1 + 89 * 10 + 5
    assert (skipped.name, skipped.kept_in_period_count) == ("b.jsonl", 0)


def test_coverage_counts_what_is_left_out(covered):
    assert covered.coverage.other_resources == (("box", 9), ("github", 5))
    assert covered.coverage.rejected == (("no time", 2),)


def test_coverage_counts_unmatched_calls_of_the_resource_that_has_a_catalogue(covered):
    assert (covered.coverage.unmatched_call_count, covered.coverage.call_count) == (1, 5)


def test_coverage_shows_the_gaps_of_the_period(covered):
    (gap,) = covered.coverage.gaps
    assert (gap.starts_at, gap.ends_at) == (at("2026-08-04 09:00"), at("2026-08-04 10:00"))
    assert gap.expected_event_count == 10


@pytest.mark.parametrize(
    ("first", "last", "because"),
    [
        (PERIOD_STARTS + timedelta(days=1), LOG_ENDS - timedelta(days=1), None),
        (PERIOD_STARTS + timedelta(days=1) + SECOND, LOG_ENDS - SECOND, "the log begins only at 2026-07-02 00:00 UTC"),
        (LOG_STARTS, LOG_ENDS - timedelta(days=1) - SECOND, "the log ends already at 2026-09-27 23:59 UTC"),
        (
            at("2026-08-01"),
            at("2026-08-02"),
            "the log begins only at 2026-08-01 00:00 UTC and the log ends already at 2026-08-02 00:00 UTC",
        ),
    ],
)
def test_a_log_that_leaves_out_more_than_a_day_is_partial(tmp_path, first, last, because):
    assert run_checks(tmp_path, [event(first), event(last)], ["log_gap"]).coverage.partial_because == because


def test_an_empty_log_is_partial(tmp_path):
    result = run_checks(tmp_path, [])
    assert result.coverage.partial_because == "the log is empty"
    assert (result.coverage.event_count, result.daily, result.findings) == (0, (), ())
    assert result.as_of == PERIOD.ends_at


# ── the frame ───────────────────────────────────────────────────────────────────────────────────────────────


def test_as_of_is_the_end_of_the_period_or_of_the_log(tmp_path):
    assert run_checks(tmp_path, [event("2026-08-01 10:00")]).as_of == at("2026-08-01 10:00")
    assert run_checks(tmp_path, [event("2026-08-01"), event(LOG_ENDS + SECOND)]).as_of == LOG_ENDS


def test_the_newest_event(tmp_path):
    with store_of(tmp_path, [event("2026-08-01 10:00"), event("2026-07-01")]) as store:
        assert newest_event_at(store) == at("2026-08-01 10:00")
    with store_of(tmp_path, []) as store:
        assert newest_event_at(store) is None


def test_the_population_is_that_of_the_period(tmp_path):
    inside = [
        consent(LOG_STARTS, "note:read task:read", user_id="cy"),
        revocation(LOG_STARTS + SECOND, "note:read", user_id="cy"),
        issue(PERIOD_STARTS),
        issue(PERIOD_STARTS, user_id="bob", application_id="other"),
        api_call(PERIOD_STARTS, user_id=None),
        api_call(LOG_ENDS - SECOND, resource_id="elsewhere", zone_id="zone-2"),
    ]
    outside = [api_call(PERIOD_STARTS - SECOND, user_id="early", zone_id="zone-0"), api_call(LOG_ENDS, user_id="late")]
    result = run_checks(tmp_path, [*inside, *outside])
    assert result.population == {
        "events": 4,
        "api_calls": 2,
        "credential_issues": 2,
        "users": 2,
        "applications": 2,
        "resources": 2,
        "grants": 3,
    }
    assert result.zones == ("zone-1", "zone-2")


def test_the_result_says_what_it_was_made_with(tmp_path):
    settings = Settings(organisation="Acme", resources=(ResourceScope(ATTIO),))
    with store_of(tmp_path, []) as store:
        result = audit(store, load_checks(), PERIOD, settings)
    assert (result.organisation, result.resources, result.mapping_hash) == ("Acme", (ATTIO,), "test")
    assert result.settings_hash == settings.fingerprint
    assert len(result.checks_hash) == 64


def test_the_daily_series_is_dense_between_the_ends_of_the_log(tmp_path):
    events = [
        api_call("2026-08-01 23:59"),
        api_call("2026-08-01 10:00", status=401),
        api_call("2026-08-03 00:00", status=403),
        api_call("2026-08-03 10:00", status=403, decision="denied"),
        api_call("2026-08-03 11:00", status=403, decision="denied", policy_names=["p"]),
        denial("2026-08-04 10:00"),
    ]
    days = run_checks(tmp_path, events).daily
    assert [(d.day, d.calls, d.unauthorized, d.forbidden, d.denials) for d in days] == [
        ("2026-08-01", 2, 1, 0, 0),
        ("2026-08-02", 0, 0, 0, 0),
        ("2026-08-03", 3, 0, 3, 1),
        ("2026-08-04", 0, 0, 0, 1),
    ]


def test_the_daily_series_ends_with_the_period(tmp_path):
    days = run_checks(tmp_path, [event(day) for day in daily(LOG_STARTS, LOG_ENDS + timedelta(days=3))]).daily
    assert (days[0].day, days[-1].day, len(days)) == ("2026-07-01", "2026-09-28", 90)


# ── findings ────────────────────────────────────────────────────────────────────────────────────────────────


def test_sample_events_name_the_first_five_with_file_and_row(tmp_path):
    events = refused(12)
    (finding,) = run_check(tmp_path, DENIALS, [*log_bounds(), *events]).findings
    assert [(s.event_uid, s.source_row) for s in finding.sample_events] == [
        (e["event_uid"], e["source_row"]) for e in events[:5]
    ]
    first = finding.sample_events[0]
    assert (first.occurred_at, first.source_file) == (PERIOD_STARTS, "test.jsonl")
    assert first.summary == "credential issue denied by p, ada through crm-agent"


@pytest.mark.parametrize(
    ("one", "summary"),
    [
        (api_call(PERIOD_STARTS, "GET /v2/notes", 403), "GET /v2/notes → 403, ada through crm-agent"),
        (api_call(PERIOD_STARTS, http_status=None, http_path=None), "GET ? → success, ada through crm-agent"),
        (denial(PERIOD_STARTS, user_id=None), "credential issue denied by default deny, crm-agent"),
        (consent(PERIOD_STARTS, "note:read task:read"), "consent of note:read task:read, ada through crm-agent"),
        (revocation(PERIOD_STARTS, application_id=None), "revocation of ?, ada"),
        (event(PERIOD_STARTS, "sign_in", user_id=None, application_id=None), "sign in"),
    ],
)
def test_an_event_in_a_few_words(tmp_path, one, summary):
    rows = f"{USUAL}, ['{one['event_uid']}'] AS event_uids"
    check = load_check(own_check(tmp_path, rows))
    with store_of(tmp_path, [one]) as store:
        (finding,) = audit(store, [check], PERIOD, Settings()).findings
    assert [s.summary for s in finding.sample_events] == [summary]


def test_findings_come_gravest_first_and_the_inconclusive_last(tmp_path):
    rows = (
        "SELECT e AS entity, 'r' AS reason, 'FROM events' AS events_sql, s AS severity, i AS inconclusive_because "
        "FROM (VALUES ('d', 'low', NULL), ('c', 'medium', 'x'), ('b', 'medium', NULL), ('a', 'medium', NULL), "
        "('e', 'low', 'x')) AS t (e, s, i)"
    )
    found = run_own(tmp_path, rows).findings
    assert [f.entity for f in found] == ["a", "b", "d", "c", "e"]
    assert [f.state for f in found] == [State.OPEN] * 3 + [State.INCONCLUSIVE] * 2


ALL_OF_IT = """
import sys
from pathlib import Path
from audit_kit.audit import audit
from audit_kit.catalog import load_checks
from audit_kit.settings import Settings
from audit_kit.store import open_store
from tests.builders import PERIOD
with open_store(Path(sys.argv[1])) as store:
    store.execute(f"SET threads = {sys.argv[2]}")
    print(repr(audit(store, load_checks(), PERIOD, Settings())))
"""


def test_the_result_is_the_same_whatever_the_threads_and_the_time_zone(tmp_path):
    events = [*log_bounds(), *busy_hour(without=["2026-08-04"]), *refused(), *refused(user_id="bob")]
    for day in daily(LOG_STARTS, LOG_ENDS, 12):
        events += [issue(day, "note:read-write"), api_call(day), api_call(day, user_id="bob")]
    events += [api_call(at("2026-08-12 12:10") + timedelta(seconds=n), status=401) for n in range(40)]
    with store_of(tmp_path, events) as store:
        path = store.path
    said = {
        subprocess.run(
            [sys.executable, "-c", ALL_OF_IT, str(path), threads],
            env={**os.environ, "TZ": zone, "POLARS_MAX_THREADS": threads, "PYTHONHASHSEED": threads},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for threads, zone in (("1", "America/St_Johns"), ("2", "UTC"), ("2", "Pacific/Auckland"))
    }
    assert len(said) == 1
    assert said.pop().count("Finding(id=") >= 6
