from datetime import timedelta
from pathlib import Path

from audit_kit.model import Severity, State
from tests.builders import api_call, at, denial, event, events_of, issue, log_bounds, run_check

CHECK = "policy_denials_by_user"
START = at("2026-08-03 10:00")


def denials(number, **different):
    return [denial(START + timedelta(hours=n), **different) for n in range(number)]


def test_ten_denials_by_a_named_policy_are_reported(tmp_path: Path):
    found = run_check(tmp_path, CHECK, [*log_bounds(), *denials(10, policies=["forbid-writes"])])
    (finding,) = found.findings
    assert finding.entity == "ada × forbid-writes"
    assert (finding.severity, finding.state) == (Severity.MEDIUM, State.OPEN)
    assert finding.details["user_id"] == "ada"
    assert finding.event_count == 10
    assert events_of(tmp_path, finding).height == 10
    assert (finding.first_at, finding.last_at) == (START, START + timedelta(hours=9))


def test_nine_denials_are_ignored(tmp_path: Path):
    assert not run_check(tmp_path, CHECK, [*log_bounds(), *denials(9, policies=["forbid-writes"])]).findings


def test_the_number_is_a_parameter(tmp_path: Path):
    events = [*log_bounds(), *denials(3, policies=["forbid-writes"])]
    assert len(run_check(tmp_path, CHECK, events, min_denials=3).findings) == 1
    assert not run_check(tmp_path, CHECK, events, min_denials=4).findings


def test_a_denial_without_policy_is_a_default_deny_and_stands_apart(tmp_path: Path):
    events = [*log_bounds(), *denials(10), *denials(11, policies=["forbid-writes"])]
    found = run_check(tmp_path, CHECK, events)
    assert [(f.entity, f.event_count) for f in found.findings] == [
        ("ada × default deny", 10),
        ("ada × forbid-writes", 11),
    ]
    assert [events_of(tmp_path, f).height for f in found.findings] == [10, 11]


def test_users_are_counted_apart(tmp_path: Path):
    events = [*denials(6, policies=["p"]), *denials(6, policies=["p"], user_id="bob")]
    assert not run_check(tmp_path, CHECK, [*log_bounds(), *events]).findings


def test_an_application_without_a_user_is_the_subject_itself(tmp_path: Path):
    found = run_check(tmp_path, CHECK, [*log_bounds(), *denials(10, policies=["p"], user_id=None)])
    (finding,) = found.findings
    assert finding.entity == "crm-agent × p"
    assert events_of(tmp_path, finding).height == 10


def test_the_resources_own_403_is_no_policy_denial(tmp_path: Path):
    calls = [api_call(START + timedelta(hours=n), status=403, decision="denied") for n in range(20)]
    assert not run_check(tmp_path, CHECK, [*log_bounds(), *calls, issue(START)]).findings


def test_denials_outside_the_period_are_ignored(tmp_path: Path):
    early = [denial(at("2026-06-30 23:00"), ["p"]) for _ in range(10)]
    assert not run_check(tmp_path, CHECK, [*log_bounds(), *early, issue(START)]).findings
    edge = [denial(at("2026-07-01 00:00"), ["p"]) for _ in range(10)]
    assert run_check(tmp_path, CHECK, [*log_bounds(), *edge]).findings


def test_without_any_decision_it_could_not_judge(tmp_path: Path):
    found = run_check(tmp_path, CHECK, [*log_bounds(), event(START)])
    assert found.could_not_judge == "no event of the period states a policy decision"


def test_a_quote_in_a_name_stays_inside_the_sql(tmp_path: Path):
    hostile = "x' OR '1'='1"
    found = run_check(tmp_path, CHECK, [*log_bounds(), *denials(10, policies=[hostile], user_id=hostile), *denials(5)])
    (finding,) = found.findings
    assert events_of(tmp_path, finding).height == 10


def test_a_denied_call_that_names_its_policy_is_reported(tmp_path: Path):
    calls = [api_call(START + timedelta(hours=n), status=403, decision="denied", policy_names=["p"]) for n in range(10)]
    (finding,) = run_check(tmp_path, CHECK, [*log_bounds(), *calls]).findings
    assert finding.entity == "ada × p"
    assert events_of(tmp_path, finding).height == 10


def test_a_denial_whose_policies_are_not_told_is_a_default_deny(tmp_path: Path):
    (finding,) = run_check(tmp_path, CHECK, [*log_bounds(), *denials(5), *(denials(5, policy_names=None))]).findings
    assert finding.reason == (
        "10 denials of ada by default deny on 1 day, 2026-08-03 to 2026-08-03: no policy permits what was asked for"
    )
    assert events_of(tmp_path, finding).height == 10


def test_a_user_and_an_application_of_one_name_are_one_subject(tmp_path: Path):
    both = [*denials(10, policies=["p"]), *denials(10, policies=["p"], user_id=None, application_id="ada")]
    (finding,) = run_check(tmp_path, CHECK, [*log_bounds(), *both]).findings
    assert finding.event_count == 20 == events_of(tmp_path, finding).height


def test_denials_of_nobody_named_are_reported(tmp_path: Path):
    nobody = denials(10, policies=["p", "q"], user_id=None, application_id=None)
    (finding,) = run_check(tmp_path, CHECK, [*log_bounds(), *nobody, *denials(3, policies=["p", "q"])]).findings
    assert finding.entity == "nobody named × p, q"
    assert events_of(tmp_path, finding).height == 10


def test_what_was_asked_for_by_whom_is_told(tmp_path: Path):
    more = {
        "resource_id": None,
        "requested_scopes": ["note:read", "task:read"],
        "application_id": "other",
        "policy_set_version": "8",
    }
    events = [
        *denials(5, policies=["p"], policy_set_id="set", policy_set_version="7"),
        *denials(5, policies=["p"], **more),
    ]
    (finding,) = run_check(tmp_path, CHECK, [*log_bounds(), *events]).findings
    assert finding.details["application_ids"] == ["crm-agent", "other"]
    assert finding.details["requested_scopes"] == ["note:read", "object_configuration:read", "task:read"]
    assert finding.details["resource_ids"] == ["https://api.attio.com"]
    assert (finding.details["policy_set_id"], finding.details["policy_set_versions"]) == ("set", ["7", "8"])


def test_the_end_of_the_period_is_not_in_it(tmp_path: Path):
    late = [denial(at("2026-09-29 00:00"), ["p"]) for _ in range(10)]
    assert not run_check(tmp_path, CHECK, [*log_bounds(), *late, issue(START)]).findings


def test_the_sentence_names_the_first_and_the_last_day(tmp_path: Path):
    days = [denial(START + timedelta(days=n), ["p"], policy_set_id=f"set-{n}") for n in range(12)]
    (finding,) = run_check(tmp_path, CHECK, [*log_bounds(), *days]).findings
    assert finding.reason == "12 denials of ada by p on 12 days, 2026-08-03 to 2026-08-14"
    assert [e.event_uid for e in finding.sample_events] == [e["event_uid"] for e in days[:5]]
