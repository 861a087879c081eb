"""What holds for both spike checks: `test_unauthorized_spike.py` and `test_forbidden_spike.py` import these tests.

They share one log of 120 days, in which an application makes 20 calls at 10:00 of every day, and one burst of 40.
"""

from datetime import timedelta

import pytest

from audit_kit.model import Period, Severity, State, Verdict
from tests.builders import LOG_ENDS, LOG_STARTS, PERIOD_STARTS, api_call, at, daily, issue, log_bounds
from tests.checks.asking import ask_once, log_of

BURST = at("2026-08-12 10:00")
OTHER_STATUS = {401: 403, 403: 401}


def calls(when, number, **different):
    return [api_call(when + timedelta(seconds=n), **different) for n in range(number)]


def steady(application="crm-agent", without=(), **different):
    """20 calls in one hour of every day, by an application and a user of its own."""
    own = {"application_id": application, "application_name": None, "user_id": f"user of {application}", **different}
    for when in daily(LOG_STARTS, LOG_ENDS, 10):
        if when not in without:
            yield from calls(when, 20, **own)


def burst(status, failures, of, when=BURST, application="crm-agent", **different):
    """`failures` of `of` calls in one hour."""
    own = {"application_id": application, "application_name": None, "user_id": f"user of {application}", **different}
    yield from calls(when, failures, status=status, **own)
    yield from calls(when + timedelta(minutes=20), of - failures, **own)


@pytest.fixture(scope="module")
def log(tmp_path_factory, status):
    hostile = "o'brien' OR '1'='1"
    events = [
        *log_bounds(),
        *steady(without=[BURST]),
        *burst(status, 12, 40, application_name="CRM Agent", operation="GET /v2/notes"),
        *steady("other-status", without=[BURST]),
        *burst(OTHER_STATUS[status], 30, 40, application="other-status"),
        *steady("before", without=[at("2026-06-29 10:00")]),
        *burst(status, 30, 40, at("2026-06-29 10:00"), "before"),
        *steady(hostile, without=[BURST - timedelta(days=7)], resource_id="elsewhere"),
        *burst(status, 30, 40, BURST - timedelta(days=7), hostile, resource_id="elsewhere"),
    ]
    with log_of(tmp_path_factory.mktemp("spikes"), events) as log:
        yield log


def by_entity(result):
    return {f.entity: f for f in result.findings}


@pytest.fixture(scope="module")
def found(log, check):
    return by_entity(log.ask(check))


def test_a_burst_is_one_finding_of_the_application(found, log, status):
    spike = found["application crm-agent"]
    assert (spike.severity, spike.state) == (Severity.LOW, State.OPEN)
    assert spike.reason.startswith(
        f"Application CRM Agent (crm-agent) got 12 × {status} in 40 calls, 2026-08-12 10:00–11:00 UTC;"
    )
    assert (spike.first_at, spike.last_at) == (BURST, BURST + timedelta(hours=1))
    assert (spike.details["failure_count"], spike.details["call_count"], spike.details["user_count"]) == (12, 40, 1)
    assert spike.details["operations"] == ["12 × GET /v2/notes"]
    assert spike.event_count == 12 == log.events_of(spike).height
    assert {e.occurred_at for e in spike.sample_events} == {BURST + timedelta(seconds=n) for n in range(5)}


def test_user_and_resource_of_the_same_burst_are_folded_into_it(found):
    assert set(found) == {"application crm-agent", "application o'brien' OR '1'='1"}


def test_a_quote_in_a_name_stays_inside_the_sql(found, log):
    spike = found["application o'brien' OR '1'='1"]
    assert spike.event_count == 30 == log.events_of(spike).height


def test_the_other_status_is_ignored(found):
    assert "application other-status" not in found


def test_a_burst_before_the_period_is_ignored(found, log, check):
    assert "application before" not in found
    assert "application before" in by_entity(log.ask(check, Period(at("2026-06-20"), LOG_ENDS)))


@pytest.mark.parametrize(("name", "edge"), [("min_calls", 40), ("min_failures", 12)])
def test_counts_are_reported_from_the_parameter_on(log, check, name, edge):
    assert "application crm-agent" in by_entity(log.ask(check, **{name: edge}))
    assert "application crm-agent" not in by_entity(log.ask(check, **{name: edge + 1}))


@pytest.mark.parametrize(
    ("name", "edge"),
    [
        ("min_excess", lambda details: 12 - details["expected_failure_count"]),
        ("min_ratio", lambda details: details["ratio"]),
    ],
)
def test_the_guards_follow_their_parameter(log, check, found, name, edge):
    edge = edge(found["application crm-agent"].details)
    assert "application crm-agent" in by_entity(log.ask(check, **{name: edge - 0.1}))
    assert "application crm-agent" not in by_entity(log.ask(check, **{name: edge + 0.1}))


def test_the_rate_of_false_alarms_is_a_parameter(log, check):
    assert "application crm-agent" not in by_entity(log.ask(check, max_q=1e-30))


def test_how_far_back_the_baseline_looks_is_a_parameter(tmp_path, check, status):
    """Twelve days of many failures end ten days before the burst: no surprise to who remembers them."""
    bad = list(daily(at("2026-07-21"), at("2026-08-02"), 10))
    events = [*log_bounds(), *steady(without=[BURST, *bad]), *burst(status, 12, 40)]
    events += [e for when in bad for e in burst(status, 8, 20, when)]
    with log_of(tmp_path, events) as log:
        last_week = Period(at("2026-08-10"), at("2026-08-17"))
        assert by_entity(log.ask(check, last_week, baseline_days=7))
        assert not by_entity(log.ask(check, last_week))


@pytest.mark.parametrize(("failures", "severity"), [(12, Severity.LOW), (30, Severity.MEDIUM), (90, Severity.HIGH)])
def test_severity_follows_what_was_lost(tmp_path, check, status, failures, severity):
    events = [*log_bounds(), *steady(without=[BURST]), *burst(status, failures, 100)]
    (spike,) = ask_once(tmp_path, check, events).findings
    assert spike.severity is severity


def test_a_burst_in_the_first_days_of_a_log_has_a_low_baseline_and_is_never_high(tmp_path, check, status):
    events = [*log_bounds()[1:], *(e for e in steady() if at("2026-08-08") < e["occurred_at"] < BURST)]
    (spike,) = ask_once(tmp_path, check, [*events, *burst(status, 90, 100)]).findings
    assert spike.severity is Severity.MEDIUM
    assert "low baseline" in spike.reason


def test_a_user_through_many_applications_is_a_finding_of_the_user(tmp_path, check, status):
    events = [*log_bounds()]
    for name in (f"app-{n}" for n in range(8)):
        own = {"user_id": "ada", "resource_id": name}
        events += [*steady(name, without=[BURST], **own), *burst(status, 4, 20, application=name, **own)]
    with log_of(tmp_path, events) as log:
        (spike,) = log.ask(check).findings
        assert (spike.entity, spike.details["user_id"]) == ("user ada", "ada")
        assert spike.event_count == 32 == log.events_of(spike).height


def test_a_resource_that_fails_for_everybody_is_a_finding_of_the_resource(tmp_path, check, status):
    events = [*log_bounds()]
    for name in (f"app-{n}" for n in range(8)):
        events += [*steady(name, without=[BURST]), *burst(status, 4, 20, application=name)]
    with log_of(tmp_path, events) as log:
        (spike,) = log.ask(check).findings
        assert spike.entity == "resource https://api.attio.com"
        assert spike.event_count == 32 == log.events_of(spike).height


def test_two_bursts_a_few_hours_apart_list_only_their_own_events(tmp_path, check, status):
    again = BURST + timedelta(hours=4)
    between = calls(BURST + timedelta(hours=2), 1, status=status, user_id="user of crm-agent")
    events = [*log_bounds(), *steady(without=[BURST]), *burst(status, 30, 40), *burst(status, 30, 40, again), *between]
    with log_of(tmp_path, events) as log:
        (spike,) = log.ask(check).findings
        assert spike.details["hour_count"] == 2
        assert spike.event_count == 60 == log.events_of(spike).height


def test_the_end_of_the_period_is_not_in_it(tmp_path, check, status):
    with log_of(tmp_path, [*log_bounds(), *steady(without=[BURST]), *burst(status, 30, 40)]) as log:
        assert not log.ask(check, Period(PERIOD_STARTS, BURST)).findings
        assert log.ask(check, Period(PERIOD_STARTS, BURST + timedelta(hours=1))).findings
        assert log.ask(check, Period(BURST, LOG_ENDS)).findings
        assert not log.ask(check, Period(BURST + timedelta(hours=1), LOG_ENDS)).findings


def test_without_calls_it_could_not_judge(tmp_path, check):
    found = ask_once(tmp_path, check, [*log_bounds(), issue(PERIOD_STARTS)])
    assert found.verdict is Verdict.COULD_NOT_JUDGE
    assert found.could_not_judge.startswith("the log holds no API call in the period")
