"""Every application of `estate` is a case of its own; they share one log of 120 days."""

from datetime import timedelta

import duckdb
import pytest

from audit_kit.model import Period, Severity, State, Verdict
from audit_kit.store import open_store
from tests.builders import (
    ATTIO,
    LOG_ENDS,
    LOG_STARTS,
    PERIOD_STARTS,
    api_call,
    at,
    consent,
    daily,
    denial,
    issue,
    log_bounds,
    store_of,
)
from tests.checks.asking import Log, ask_once, busy_hour, log_of

CHECK = "over_broad_scopes"
SECOND = timedelta(seconds=1)
MCP = "https://mcp.attio.com/mcp"
OBJECTS, LISTS, THREADS, WEBHOOKS = "GET /v2/objects", "GET /v2/lists", "GET /v2/threads", "GET /v2/webhooks"
MEMBERS, NOTES, WRITE_OBJECTS = "GET /v2/workspace_members", "GET /v2/notes", "POST /v2/objects"
# Their scopes, one each: object_configuration, list_configuration, comment, webhook, user_management.
FOUR_SCOPES = "object_configuration:read list_configuration:read comment:read webhook:read"


def issued(application, scopes, days=90, starts=PERIOD_STARTS, **different):
    """One credential issue a day."""
    return [
        issue(
            t, scopes, **{"application_id": application, "application_name": None, "user_id": application, **different}
        )
        for t in daily(starts, starts + timedelta(days=days), 8)
    ]


def called(application, operation=OBJECTS, days=90, starts=PERIOD_STARTS, **different):
    """One call a day."""
    return [
        api_call(
            t,
            operation,
            **{"application_id": application, "application_name": None, "user_id": application, **different},
        )
        for t in daily(starts, starts + timedelta(days=days), 9)
    ]


def half_unused(application, **different):
    """An application that is reported: of two scopes it uses one."""
    return [*issued(application, "object_configuration:read note:read", **different), *called(application, **different)]


def estate():
    yield from log_bounds()
    yield from [*issued("modest", "object_configuration:read"), *called("modest")]
    yield from half_unused("greedy", application_name="Greedy Agent")
    yield from half_unused("o'brien' OR '1'='1")
    yield from half_unused("shared", user_id="ada")
    yield from half_unused("shared", user_id="bob")
    yield from half_unused("two-places")
    yield from half_unused("two-places", resource_id=MCP)

    # The index, at its edges.
    at_quarter = [*issued("at-quarter", FOUR_SCOPES), *called("at-quarter"), *called("at-quarter", LISTS)]
    yield from [*at_quarter, *called("at-quarter", THREADS)]
    yield from [*issued("below-quarter", FOUR_SCOPES + " user_management:read"), *called("below-quarter")]
    yield from [e for o in (LISTS, THREADS, MEMBERS) for e in called("below-quarter", o)]
    recordings = "object_configuration:read list_configuration:read comment:read call_recording:read"
    for application, scopes in (("critical-half", recordings), ("critical-less", recordings + " webhook:read")):
        yield from issued(application, scopes)
        yield from [e for o in (OBJECTS, LISTS, THREADS) for e in called(application, o)]
    yield from called("critical-less", WEBHOOKS)
    yield from [*issued("eraser", "object_configuration:read record_permission:read-write"), *called("eraser")]

    # What counts as use.
    yield from [*issued("writer", "object_configuration:read-write"), *called("writer", WRITE_OBJECTS)]
    yield from [*issued("reader", "object_configuration:read-write"), *called("reader")]
    for status in (302, 400, 401, 403, 404, 409, 410, 422, 429, 503):
        yield from issued(f"answered-{status}", "object_configuration:read-write")
        yield from called(f"answered-{status}", WRITE_OBJECTS, status=status)
    for outcome in ("success", "failure", "unknown"):
        yield from issued(f"untold-{outcome}", "object_configuration:read-write")
        yield from called(f"untold-{outcome}", WRITE_OBJECTS, http_status=None, outcome=outcome)
    yield from [*issued("borrower", "object_configuration:read note:read"), *called("borrower")]
    yield from called("lender", NOTES, user_id="borrower")

    # What counts as issued.
    yield from [*issued("refused", "object_configuration:read"), *called("refused")]
    yield from [
        denial(t, requested_scopes=["note:read"], application_id="refused", user_id="refused")
        for t in daily(PERIOD_STARTS, LOG_ENDS)
    ]
    yield from called("cut-down")
    yield from issued("cut-down", "object_configuration:read note:read", granted_scopes=["object_configuration:read"])
    yield from [*issued("collector", "object_configuration:read private_collection:read-write"), *called("collector")]
    yield from [
        *issued("collector-too", "object_configuration:read note:read private_collection:read"),
        *called("collector-too"),
    ]
    yield from [*half_unused("gone", starts=LOG_STARTS, days=30), *called("gone", starts=LOG_STARTS, days=30)]
    yield from [*issued("shrunk", "object_configuration:read note:read", starts=LOG_STARTS, days=30), *called("shrunk")]
    yield from issued("shrunk", "object_configuration:read")
    yield from issued(None, "object_configuration:read note:read", user_id="nobody")
    yield from half_unused("late-edge")
    yield issue(LOG_ENDS, "task:read", application_id="late-edge", user_id="late-edge")
    yield issue(PERIOD_STARTS - SECOND, "task:read", application_id="late-edge", user_id="late-edge")

    yield issue(PERIOD_STARTS, "object_configuration:read", application_id="late-edge", user_id="late-edge")
    yield from issued("collector-only", "private_collection:read")

    # What cannot be judged.
    yield from [*half_unused("untold-once"), *called("untold-once", days=1, http_status=None, outcome="unknown")]
    yield from issued("unheard", "object_configuration:read note:read")
    yield from issued("placeless", "object_configuration:read note:read", resource_id=None)
    for status in (200, 401, 403, 404):
        yield from half_unused(f"unmatched-{status}")
        yield from called(f"unmatched-{status}", None, 1, status=status)
    yield from half_unused("unmatched-untold")
    yield from called("unmatched-untold", None, 1, http_status=None, outcome="unknown")
    for days in (1, 9, 10, 19, 20):
        yield from [
            *issued(f"active-{days}", "object_configuration:read note:read"),
            *called(f"active-{days}", days=days),
        ]
    for application, steady, single in (
        ("varied-15", 17, 3),
        ("varied-20", 16, 4),
        ("varied-17", 15, 3),
        ("varied-5", 76, 4),
        ("varied-6", 62, 4),
    ):
        yield from [*issued(application, "object_configuration:read note:read"), *called(application, days=steady)]
        for operation in ("GET /v2/objects/{object}", LISTS, THREADS, WEBHOOKS)[:single]:
            yield from called(application, operation, 1)
    yield from [*issued("unnamed", "object_configuration:read"), *called("unnamed"), *issued("unnamed", None, 3)]
    yield from [
        *issued("unnamed-empty", "object_configuration:read", 1),
        *called("unnamed-empty"),
        *issued("unnamed-empty", ""),
    ]
    yield from [*issued("all-unnamed", None), *called("all-unnamed")]
    yield from [*half_unused("unnamed-too"), *issued("unnamed-too", None, 3)]
    yield from [*issued("unnamed-refused", "object_configuration:read"), *called("unnamed-refused")]
    yield denial(PERIOD_STARTS, requested_scopes=None, application_id="unnamed-refused", user_id="unnamed-refused")

    # What is too new, or rare.
    yield from [*issued("rare-quarter", FOUR_SCOPES), *called("rare-quarter"), *called("rare-quarter", LISTS)]
    yield from [*called("rare-quarter", THREADS), *called("rare-quarter", WEBHOOKS, 1, LOG_STARTS)]
    yield issue(LOG_STARTS, FOUR_SCOPES, application_id="rare-quarter", user_id="rare-quarter")
    for days in (400, 401):
        yield from half_unused(f"ancient-{days}")
        yield from called(f"ancient-{days}", NOTES, 1, PERIOD_STARTS - timedelta(days=days))
    yield from [*half_unused("once"), *called("once", NOTES, 1)]
    for name, first_at in (("seven-days", timedelta(days=7)), ("younger", timedelta(days=7) + SECOND)):
        yield from [*issued(name, "object_configuration:read"), *called(name)]
        yield issue(PERIOD_STARTS + first_at, "note:read", application_id=name, user_id=name, application_name=None)
    yield from [*half_unused("young-too"), *issued("young-too", "task:read", 1, LOG_ENDS - timedelta(days=3))]
    yield from [*issued("young-used", "object_configuration:read", 30, LOG_ENDS - timedelta(days=30))]
    yield from called("young-used", days=30, starts=LOG_ENDS - timedelta(days=30))
    yield from [*half_unused("yearly"), *called("yearly", NOTES, 1, at("2026-06-11"))]
    yield issue(at("2026-06-11"), "note:read", application_id="yearly", user_id="yearly")


def by_application(result):
    return {f.details["application_id"]: f for f in result.findings}


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    with log_of(tmp_path_factory.mktemp("estate"), estate()) as log:
        yield log


@pytest.fixture(scope="module")
def found(log):
    return by_application(log.ask(CHECK))


def test_an_unused_scope_is_reported(found, log):
    finding = found["greedy"]
    assert finding.entity == f"greedy × {ATTIO}"
    assert (finding.severity, finding.state) == (Severity.MEDIUM, State.OPEN)
    assert finding.reason == (
        "Greedy Agent is issued 2 privileges and used 1; unused: note read. Over-privilege index 0.50 of 1"
    )
    assert finding.details["unused_privileges"] == ["note read"]
    assert finding.details["used_privileges"] == ["object_configuration read"]
    assert (finding.details["issue_count"], finding.details["call_count"]) == (90, 90)
    assert finding.event_count == 180 == log.events_of(finding).height
    assert finding.first_at == PERIOD_STARTS + timedelta(hours=8)
    assert finding.last_at == LOG_ENDS - timedelta(hours=16)


def test_an_application_that_uses_all_is_ignored(found):
    assert "modest" not in found


def test_the_index_is_reported_from_a_quarter_on(found, log):
    assert found["at-quarter"].details["over_privilege_index"] == 0.25
    assert (found["at-quarter"].severity, found["at-quarter"].state) == (Severity.MEDIUM, State.OPEN)
    assert "below-quarter" not in found
    more = by_application(log.ask(CHECK, min_index=0.2))
    assert more["below-quarter"].details["over_privilege_index"] == 0.2
    assert "greedy" not in by_application(log.ask(CHECK, min_index=0.51))


def test_writing_weighs_three_and_critical_scopes_three_times_that(found):
    assert found["reader"].details["over_privilege_index"] == 0.75
    assert found["reader"].details["unweighted_index"] == 0.5
    assert found["eraser"].details["over_privilege_index"] == round(10 / 11, 3)
    assert found["eraser"].details["unweighted_index"] == round(2 / 3, 3)
    assert found["critical-half"].details["over_privilege_index"] == 0.5
    assert found["critical-less"].details["over_privilege_index"] == round(3 / 7, 3)


def test_mostly_unused_and_critical_is_high(found):
    assert found["eraser"].severity == found["critical-half"].severity == Severity.HIGH
    assert found["critical-less"].severity == found["reader"].severity == Severity.MEDIUM


def test_read_write_covers_read(found):
    assert "writer" not in found
    assert found["reader"].details["unused_privileges"] == ["object_configuration write"]


def test_a_redirect_is_a_use(found):
    assert "answered-302" not in found


@pytest.mark.parametrize("status", [400, 404, 409, 410, 422, 429, 503])
def test_an_attempt_keeps_reading_and_never_justifies_writing(found, status):
    assert found[f"answered-{status}"].details["used_privileges"] == ["object_configuration read"]


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_call_proves_nothing(found, status):
    finding = found[f"answered-{status}"]
    assert finding.details["used_privileges"] == []
    assert finding.reason.startswith(
        f"answered-{status} is issued 2 privileges and used 0; unused: object_configuration read,"
    )


def test_without_a_status_the_outcome_tells(found):
    assert "untold-success" not in found
    assert found["untold-failure"].details["used_privileges"] == ["object_configuration read"]
    assert found["untold-failure"].state is State.OPEN
    because = found["untold-unknown"].inconclusive_because
    assert because == "how 90 of its calls ended is not told: they may have used their scopes"
    assert found["untold-once"].inconclusive_because.startswith("how 1 of its calls ended is not told")


def test_the_use_of_another_application_does_not_count(found):
    assert found["borrower"].details["unused_privileges"] == ["note read"]


@pytest.mark.parametrize("application", ["refused", "cut-down", "shrunk", "gone", None])
def test_what_was_not_issued_in_the_period_is_ignored(found, application):
    assert application not in found


def test_an_issue_at_the_start_of_the_period_is_in_it_and_one_at_its_end_is_not(found, log):
    edge = found["late-edge"]
    assert edge.details["unused_privileges"] == ["note read"]
    assert edge.event_count == 181 == log.events_of(edge).height
    assert edge.first_at == PERIOD_STARTS
    assert [e.event_uid for e in edge.sample_events] == log.events_of(edge)["event_uid"].to_list()[:5]


def test_families_without_operations_are_named_and_not_judged(found):
    assert "collector" not in found
    assert "collector-only" not in found
    assert found["collector-too"].details["not_assessable_scopes"] == ["private_collection:read"]
    assert found["collector-too"].details["over_privilege_index"] == 0.5


def test_two_users_of_one_application_are_one_finding(found):
    assert found["shared"].event_count == 360


def test_resources_stand_apart(log):
    both = [f for f in log.ask(CHECK).findings if f.details["application_id"] == "two-places"]
    assert [(f.details["resource_id"], f.event_count) for f in both] == [(ATTIO, 180), (MCP, 180)]


def test_a_quote_in_a_name_stays_inside_the_sql(found, log):
    assert log.events_of(found["o'brien' OR '1'='1"]).height == 180


def test_no_call_at_all_is_inconclusive(found):
    because = "it had 90 credentials issued and no call of it is in the log: the log may not show all calls"
    assert found["unheard"].inconclusive_because == because
    assert found["unheard"].details["confidence"] == "low"
    assert (found["unheard"].details["active_day_count"], found["unheard"].details["unseen_mass"]) == (0, 1)


def test_issues_that_name_no_resource_are_inconclusive(found, log):
    finding = found["placeless"]
    assert finding.entity == "placeless × resource not named"
    assert finding.state is State.INCONCLUSIVE
    assert finding.event_count == 90 == log.events_of(finding).height
    assert finding.first_at == PERIOD_STARTS + timedelta(hours=8)
    assert len(finding.sample_events) == 5


@pytest.mark.parametrize("how", [200, 403, "untold"])
def test_a_call_that_matches_no_operation_is_inconclusive(found, how):
    because = "1 of its calls cannot be matched to a known operation and may have used any scope"
    assert found[f"unmatched-{how}"].inconclusive_because == because


@pytest.mark.parametrize("status", [401, 404])
def test_a_path_that_the_resource_does_not_know_changes_nothing(found, status):
    assert found[f"unmatched-{status}"].state is State.OPEN


def test_ten_active_days_are_needed(found, log):
    assert found["active-10"].state is State.OPEN
    assert found["active-9"].inconclusive_because == "it was active on 9 days; 10 are needed"
    assert found["active-1"].inconclusive_because == "it was active on 1 day; 10 are needed"
    asked = by_application(log.ask(CHECK, min_active_days=9))
    assert asked["active-9"].state is State.OPEN


def test_too_varied_use_is_inconclusive(found, log):
    assert found["varied-15"].state is State.OPEN
    assert found["varied-15"].details["unseen_mass"] == 0.15
    assert found["varied-17"].details["unseen_mass"] == 0.167
    assert found["varied-17"].state is State.INCONCLUSIVE
    assert found["varied-20"].inconclusive_because == (
        "its use is too varied to know it all: 20 % of what it does is probably not yet seen"
    )
    asked = by_application(log.ask(CHECK, max_unseen_mass=0.2))
    assert asked["varied-20"].state is State.OPEN


def test_confidence_needs_twenty_days_and_steady_use(found):
    confidence = {
        a: found[a].details["confidence"]
        for a in ("greedy", "active-20", "active-19", "varied-5", "varied-6", "active-9")
    }
    assert confidence == {
        "greedy": "high",
        "active-20": "high",
        "active-19": "medium",
        "varied-5": "high",
        "varied-6": "medium",
        "active-9": "low",
    }  # fmt: skip


def test_confidence_needs_ninety_days(log):
    shorter = Period(PERIOD_STARTS + timedelta(days=1), LOG_ENDS)
    asked = by_application(log.ask(CHECK, shorter))
    assert asked["greedy"].details["confidence"] == "medium"


def test_issues_that_name_no_scopes_are_inconclusive(found):
    assert (
        found["unnamed"].inconclusive_because
        == "3 of its credential issues named no scopes: what they opened is not known"
    )
    assert found["unnamed"].reason == "unnamed is issued 1 privilege and used 1"
    assert found["unnamed-empty"].inconclusive_because.startswith("90 of its credential issues named no scopes")
    assert found["all-unnamed"].reason == "all-unnamed is issued credentials whose scopes the log does not name"
    assert found["all-unnamed"].state is State.INCONCLUSIVE
    assert found["all-unnamed"].severity is Severity.LOW
    assert (found["all-unnamed"].details["unweighted_index"], found["all-unnamed"].details["over_privilege_index"]) == (
        0,
        0,
    )


def test_unnamed_scopes_excuse_no_unused_one(found):
    assert found["unnamed-too"].state is State.OPEN


def test_a_refused_issue_without_scopes_is_ignored(found):
    assert "unnamed-refused" not in found


def test_a_scope_first_issued_a_week_into_the_log_is_too_young(found, log):
    assert found["seven-days"].state is State.OPEN
    young = found["younger"]
    assert young.inconclusive_because.startswith("what it did not use is too new to be called unused")
    assert young.reason == "younger is issued 2 privileges and used 1; not used, and not yet to be judged: note read"
    assert young.details["too_young_to_judge_count"] == 1
    asked = by_application(log.ask(CHECK, max_age_gap_days=8))
    assert asked["younger"].state is State.OPEN


def test_young_scopes_stay_out_of_the_index(found):
    assert found["young-too"].state is State.OPEN
    assert found["young-too"].details["over_privilege_index"] == 0.5
    assert found["young-too"].details["undecided_privileges"] == ["task read"]
    assert found["young-too"].details["too_young_to_judge_count"] == 1
    assert "young-used" not in found


def test_rare_use_before_the_period_is_inconclusive(found, log):
    yearly = found["yearly"]
    assert yearly.details["undecided_privileges"] == ["note read"]
    assert yearly.state is State.INCONCLUSIVE
    assert by_application(log.ask(CHECK, look_back_days=20))["yearly"].state is State.INCONCLUSIVE
    assert by_application(log.ask(CHECK, look_back_days=19))["yearly"].state is State.OPEN


def test_rare_use_is_remembered_for_400_days(found):
    assert found["ancient-400"].state is State.INCONCLUSIVE
    assert found["ancient-401"].state is State.OPEN


def test_what_may_be_a_quarter_is_inconclusive_from_a_quarter_on(found):
    assert found["rare-quarter"].inconclusive_because.startswith("what it did not use is too new to be called unused")
    assert found["rare-quarter"].severity is Severity.LOW


def test_one_use_on_the_first_day_is_a_use(found):
    assert "once" not in found


def test_a_period_that_ends_at_noon_holds_the_calls_of_its_last_morning(log):
    starts, ends = at("2026-07-20 12:00"), LOG_ENDS - timedelta(hours=12)
    asked = by_application(log.ask(CHECK, Period(starts, ends)))
    assert asked["greedy"].details["active_day_count"] == 71


# ── gaps ────────────────────────────────────────────────────────────────────────────────────────────────────

GAP = "2026-08-05"  # a Wednesday, in which 09:00 to 11:00 is missing


@pytest.fixture(scope="module")
def gapped(tmp_path_factory):
    """`weekly` would have called in the gap 12 / 11.86 times, `less` 11 / 11.86 times, going by the other weeks."""
    wednesdays = [t for t in daily(PERIOD_STARTS, LOG_ENDS, 10) if t.isoweekday() == 3 and f"{t:%Y-%m-%d}" != GAP]
    events = [*busy_hour(9, without=[GAP]), *busy_hour(10, without=[GAP])]
    for application, hours in (("weekly", wednesdays), ("less", wednesdays[1:])):
        events += issued(application, "object_configuration:read note:read")
        events += [api_call(t, application_id=application, user_id=application) for t in hours]
    with log_of(tmp_path_factory.mktemp("gapped"), events) as log:
        yield log


def states(result):
    return {f.details["application_id"]: (f.state, f.details["expected_in_gaps"]) for f in result.findings}


def test_a_gap_is_inconclusive_where_a_call_could_be_expected_in_it(gapped):
    assert states(gapped.ask(CHECK)) == {"less": (State.OPEN, 0.93), "weekly": (State.INCONCLUSIVE, 1.02)}
    weekly = by_application(gapped.ask(CHECK))["weekly"]
    assert weekly.inconclusive_because == "the log has gaps in which about 1 of its calls could be expected"


def test_the_part_of_a_gap_that_lies_in_the_period_counts(gapped):
    half = gapped.ask(CHECK, Period(at(f"{GAP} 10:00"), LOG_ENDS))
    assert states(half)["weekly"] == (State.INCONCLUSIVE, 1.04)
    after = gapped.ask(CHECK, Period(at(f"{GAP} 11:00"), LOG_ENDS), min_active_days=1)
    assert states(after)["weekly"] == (State.OPEN, 0)


# ── by request: a log of issues alone ───────────────────────────────────────────────────────────────────────


def asking(application, granted, asked, granted_at=LOG_STARTS, **different):
    yield consent(granted_at, granted, application_id="console", user_id=application)
    yield from issued(application, asked, **different)


def requests():
    yield from log_bounds()
    yield from asking("modest", "note:read", "note:read")
    yield from asking("greedy", "note:read call_recording:read-write", "note:read")
    yield from asking("unnamed", "note:read task:read", "note:read")
    yield issue(PERIOD_STARTS, None, application_id="unnamed", user_id="unnamed")
    yield from asking("never-named", "note:read", None)
    yield issue(PERIOD_STARTS, None, application_id="unknown", user_id="nobody-consented")
    yield from asking("unnamed-modest", "note:read", "note:read")
    yield issue(PERIOD_STARTS, None, application_id="unnamed-modest", user_id="unnamed-modest")
    yield from asking("fresh", "note:read", "note:read")
    yield consent(PERIOD_STARTS + timedelta(days=8), "task:read", application_id="console", user_id="fresh")
    yield from asking("rare", "note:read task:read", "note:read")
    yield issue(at("2026-06-11"), "task:read", application_id="rare", user_id="rare")
    yield consent(LOG_STARTS, "note:read task:read", user_id="edge")
    yield issue(PERIOD_STARTS, "note:read", application_id="edge", user_id="edge")
    yield consent(LOG_STARTS, "webhook:read", user_id="late")
    yield issue(LOG_ENDS, "webhook:read", application_id="edge", user_id="late")
    yield from asking("gone", "note:read task:read", "note:read", starts=LOG_STARTS, days=30)


@pytest.fixture(scope="module")
def by_request(tmp_path_factory):
    with log_of(tmp_path_factory.mktemp("requests"), requests()) as log:
        yield log


@pytest.fixture(scope="module")
def requested(by_request):
    return by_application(by_request.ask(CHECK))


def test_without_calls_it_is_judged_by_request_and_low(requested, by_request):
    finding = requested["greedy"]
    assert finding.reason == (
        "greedy could ask for 3 privileges that its users granted and asked for 1 (by request: the log shows no "
        "calls); unused: call_recording read, call_recording write. Over-privilege index 0.92 of 1"
    )
    assert (finding.severity, finding.state) == (Severity.LOW, State.OPEN)
    assert (finding.details["evidence"], finding.details["confidence"]) == ("by request", "low")
    assert finding.event_count == 90 == by_request.events_of(finding).height


@pytest.mark.parametrize("application", ["modest", "unnamed-modest", "gone", "console"])
def test_by_request_an_application_that_asked_for_all_is_ignored(requested, application):
    assert application not in requested


def test_by_request_unnamed_scopes_are_inconclusive(requested):
    because = "1 of its credential issues named no scopes, and may have been for any"
    assert requested["unnamed"].inconclusive_because == because
    assert requested["never-named"].state is State.INCONCLUSIVE
    assert requested["unknown"].reason == "CRM Agent is issued credentials whose scopes the log does not name"


def test_by_request_new_grants_and_rare_requests_are_inconclusive(requested, by_request):
    assert requested["fresh"].details["undecided_privileges"] == ["task read"]
    assert requested["fresh"].state is State.INCONCLUSIVE
    assert requested["rare"].details["undecided_privileges"] == ["task read"]
    assert by_application(by_request.ask(CHECK, look_back_days=20))["rare"].state is State.INCONCLUSIVE
    asked = by_application(by_request.ask(CHECK, look_back_days=19))
    assert asked["rare"].state is State.OPEN


def test_by_request_the_users_of_the_period_count(requested):
    assert requested["edge"].details["unused_privileges"] == ["task read"]


def test_by_request_a_gap_is_inconclusive_where_an_issue_could_be_expected_in_it(tmp_path):
    events = [*busy_hour(8, without=[GAP]), *asking("greedy", "note:read task:read", "note:read")]
    kept = [e for e in events if not (e["user_id"] == "greedy" and f"{e['occurred_at']:%Y-%m-%d}" == GAP)]
    (finding,) = ask_once(tmp_path, CHECK, kept).findings
    assert (
        finding.inconclusive_because == "the log has gaps in which about 1 of its credential issues could be expected"
    )


# ── could not judge ─────────────────────────────────────────────────────────────────────────────────────────


def test_thirty_days_of_log_are_needed(tmp_path):
    starts = LOG_ENDS - timedelta(days=30)
    enough = [issue(starts, "note:read"), api_call(LOG_ENDS - SECOND)]
    assert ask_once(tmp_path, CHECK, enough).verdict is Verdict.FOUND
    short = [issue(starts + timedelta(days=1), "note:read"), api_call(LOG_ENDS - SECOND)]
    assert ask_once(tmp_path, CHECK, short).could_not_judge == (
        "the log covers 29 days of the period, and 30 are needed"
    )


def test_without_credential_issues_it_could_not_judge(tmp_path):
    found = ask_once(tmp_path, CHECK, [*log_bounds(), *called("greedy")])
    assert found.could_not_judge == "the log holds no credential issue in the period"


def test_access_that_no_operation_of_the_catalogue_needs_is_not_judged(tmp_path):
    events = [*log_bounds(), *issued("reader", "object_configuration:read-write"), *called("reader")]
    with store_of(tmp_path, events) as store:
        path = store.path
    with duckdb.connect(str(path)) as connection:
        connection.execute("DELETE FROM operations WHERE list_contains(scopes, 'object_configuration:read-write')")
    with open_store(path) as store:
        assert Log(store).ask(CHECK).verdict is Verdict.NOTHING_FOUND
