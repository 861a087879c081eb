from datetime import timedelta

import pytest

from audit_kit.model import Period, Severity, State, Verdict
from tests.builders import LOG_ENDS, LOG_STARTS, at, event, log_bounds
from tests.checks.asking import ask_once, busy_hour, log_of

CHECK = "log_gap"
DAY = "2026-08-04"


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """09:00 to 12:00 of every day hold 12, 10 and 9 events each; some hours of three days are missing."""
    events = [
        *busy_hour(9, 12, without=[DAY, "2026-08-18", "2026-06-16"]),
        *busy_hour(10, 10, without=[DAY, "2026-08-25"]),
        *busy_hour(11, 9, without=[DAY, "2026-09-01"]),
    ]
    with log_of(tmp_path_factory.mktemp("gaps"), [*log_bounds(), *events]) as log:
        yield log


@pytest.fixture(scope="module")
def found(log):
    return {f.entity: f for f in log.ask(CHECK).findings}


def test_silent_hours_in_a_row_are_reported_as_one_gap(found, log):
    gap = found["log 2026-08-04 09:00 UTC"]
    assert (gap.severity, gap.state) == (Severity.MEDIUM, State.OPEN)
    assert gap.reason == (
        "No event of any kind for 2 hours, 2026-08-04 09:00 to 2026-08-04 11:00 UTC; "
        "the same hours of other weeks hold about 22 events"
    )
    assert (gap.first_at, gap.last_at) == (at("2026-08-04 09:00"), at("2026-08-04 11:00"))
    assert gap.details == {
        "hour_count": 2,
        "expected_event_count": 22,
        "last_event_before": "2026-08-03 11:08:00 UTC",
        "first_event_after": "2026-08-05 09:00:00 UTC",
    }
    assert gap.event_count == 0 == log.events_of(gap).height
    assert gap.sample_events == ()


def test_an_event_at_the_very_end_of_a_gap_comes_after_it(found):
    assert found["log 2026-08-18 09:00 UTC"].details["first_event_after"] == "2026-08-18 10:00:00 UTC"


def test_an_hour_that_usually_holds_ten_events_is_reported(found):
    assert found["log 2026-08-25 10:00 UTC"].reason.startswith("No event of any kind for 1 hour, ")


def test_an_hour_that_usually_holds_nine_events_is_ignored(found):
    assert set(found) == {f"log {d} UTC" for d in ("2026-08-04 09:00", "2026-08-18 09:00", "2026-08-25 10:00")}


def test_gaps_outside_the_period_are_ignored(log):
    june = log.ask(CHECK, Period(LOG_STARTS, at("2026-07-01"))).findings
    assert [f.entity for f in june] == ["log 2026-06-16 09:00 UTC"]


@pytest.mark.parametrize(
    ("starts", "ends", "number"),
    [
        ("2026-08-04 10:30", "2026-08-25 10:01", 3),
        ("2026-08-04 11:00", "2026-08-25 10:00", 1),
    ],
)
def test_a_gap_across_the_edge_of_the_period_is_reported(log, starts, ends, number):
    assert len(log.ask(CHECK, Period(at(starts), at(ends))).findings) == number


def test_how_long_a_gap_must_be_is_a_parameter(log):
    assert len(log.ask(CHECK, min_gap_hours=2).findings) == 1
    assert not log.ask(CHECK, min_gap_hours=3).findings


def test_a_log_that_is_never_silent_is_ignored(tmp_path):
    found = ask_once(tmp_path, CHECK, [*log_bounds(), *busy_hour()])
    assert found.verdict is Verdict.NOTHING_FOUND


def test_with_two_weeks_of_log_an_hour_is_compared_with_other_working_days(tmp_path):
    """A Monday is there three times and stands for itself; a Tuesday and a Saturday are there twice."""
    starts = at("2026-09-14")
    working_days = [e for e in busy_hour(without=["2026-09-22"]) if e["occurred_at"].weekday() < 5]
    mondays = [e for e in busy_hour(15, without=["2026-09-21"]) if e["occurred_at"].weekday() == 0]
    events = [e for e in (*working_days, *mondays) if e["occurred_at"] >= starts]
    bounds = [event(starts), event(LOG_ENDS - timedelta(seconds=1))]
    found = ask_once(tmp_path, CHECK, [*bounds, *events]).findings
    assert [f.entity for f in found] == ["log 2026-09-21 15:00 UTC", "log 2026-09-22 09:00 UTC"]


def test_fourteen_days_of_log_are_needed(tmp_path):
    ends = event(LOG_ENDS - timedelta(seconds=1))
    enough = ask_once(tmp_path, CHECK, [event(LOG_ENDS - timedelta(days=14)), ends])
    assert enough.verdict is Verdict.NOTHING_FOUND
    short = ask_once(tmp_path, CHECK, [event(LOG_ENDS - timedelta(days=13)), ends])
    assert short.could_not_judge == "the log covers 13 days of the period, and 14 are needed"


def test_a_period_without_events_could_not_judge(tmp_path):
    found = ask_once(tmp_path, CHECK, [event(LOG_STARTS)])
    assert found.could_not_judge == "the log holds no event in the period"
