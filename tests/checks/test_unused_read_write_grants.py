"""Every user of `estate` is a case of its own; they share one log of 120 days."""

from datetime import timedelta

import pytest

from audit_kit.model import Period, Severity, State, Verdict
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
    event,
    issue,
    log_bounds,
    revocation,
)
from tests.checks.asking import ask_once, busy_hour, log_of

CHECK = "unused_read_write_grants"
SECOND = timedelta(seconds=1)
OBJECTS, READ_NOTES, WRITE_NOTES = "GET /v2/objects", "GET /v2/notes", "POST /v2/notes"
GAP = "2026-08-05"  # a Wednesday, in which 09:00 to 11:00 is missing


def granted(user, scopes="note:read-write", when=LOG_STARTS, **different):
    return [consent(when, scopes, user_id=user, **different)]


def called(user, operation=OBJECTS, days=90, starts=PERIOD_STARTS, **different):
    """One call a day."""
    return [
        api_call(t, operation, **{"user_id": user, **different}) for t in daily(starts, starts + timedelta(days=days))
    ]


def issued(user, scopes="note:read-write", days=90, starts=PERIOD_STARTS, **different):
    """One credential issue a day."""
    return [issue(t, scopes, **{"user_id": user, **different}) for t in daily(starts, starts + timedelta(days=days), 8)]


def unused(user, **different):
    """A user who is reported: the grant is old, the calls are many, and none of them writes."""
    return [*granted(user, **different), *called(user, **different)]


def estate():
    yield from log_bounds()
    yield from [*unused("ada"), *issued("ada", "note:read-write", 1)]
    yield from unused("o'brien' OR '1'='1")
    yield from [*granted("eraser", "note:read-write record_permission:read-write"), *called("eraser")]
    yield from [*granted("elsewhere", resource_id="https://mcp.attio.com/mcp"), *called("elsewhere", WRITE_NOTES)]
    yield from [*granted("placeless", resource_id=None), *called("placeless")]
    yield from [*granted("reader", "note:read"), *called("reader")]
    yield from [*granted("collector", "private_collection:read-write"), *called("collector")]
    yield from [*granted("stranger", "unheard:read-write"), *called("stranger")]
    yield from unused(None)

    # What counts as writing.
    yield from [*granted("writer"), *called("writer"), *called("writer", WRITE_NOTES, 1)]
    yield from [
        *granted("by-another-application"),
        *called("by-another-application", WRITE_NOTES, application_id="other"),
    ]
    yield from [*granted("first-day"), *called("first-day"), api_call(PERIOD_STARTS, WRITE_NOTES, user_id="first-day")]
    yield from [*granted("last-day"), *called("last-day"), api_call(LOG_ENDS - SECOND, WRITE_NOTES, user_id="last-day")]
    yield from [*unused("day-after"), api_call(LOG_ENDS, WRITE_NOTES, user_id="day-after")]
    for status in (302, 400, 401, 403, 404, 409, 422, 429, 503):
        yield from [*granted(f"answered-{status}"), *called(f"answered-{status}", WRITE_NOTES, status=status)]
    for outcome in ("success", "failure", "unknown"):
        yield from granted(f"untold-{outcome}")
        yield from called(f"untold-{outcome}", WRITE_NOTES, http_status=None, outcome=outcome)
    yield from [*granted("half-used", "note:read-write task:read-write"), *called("half-used", WRITE_NOTES)]

    yield from [*granted("always"), *called("always", WRITE_NOTES, 120, LOG_STARTS)]
    yield from [*unused("untold-once"), *called("untold-once", days=1, http_status=None, outcome="unknown")]
    yield from [*granted("two-dates"), *granted("two-dates", "task:read-write", "2026-06-05"), *called("two-dates")]

    # What stands.
    yield from [*unused("edge", resource_id=ATTIO), *issued("edge", days=1, starts=LOG_STARTS)]
    for when in (PERIOD_STARTS, LOG_ENDS - SECOND, LOG_ENDS):
        yield from [issue(when, "note:read", user_id="edge"), api_call(when, user_id="edge")]
        yield issue(when, "note:read", user_id="edge", resource_id="elsewhere")
        yield event(when, "sign_in", user_id="edge")
    yield from [*granted("consents-later", when=LOG_ENDS), *called("consents-later")]
    yield from [issue(LOG_ENDS, "note:read-write", user_id="issued-later"), *called("issued-later")]
    yield from [*unused("revoked"), revocation("2026-08-01", user_id="revoked")]
    yield from [*unused("revoked-scope"), revocation("2026-08-01", "note:read-write", user_id="revoked-scope")]
    yield from [*unused("revoked-other"), revocation("2026-08-01", "task:read-write", user_id="revoked-other")]
    yield from [*unused("revoked-elsewhere"), revocation("2026-08-01", user_id="revoked-elsewhere", resource_id="mcp")]
    yield from [*unused("revoked-in-vain"), revocation("2026-08-01", user_id="revoked-in-vain", outcome="failure")]
    yield from [*unused("revoked-later"), revocation(LOG_ENDS, user_id="revoked-later")]
    yield from [
        *unused("regranted"),
        revocation("2026-06-10", user_id="regranted"),
        *granted("regranted", when="2026-06-20"),
    ]
    yield from [*unused("regranted-late"), revocation("2026-07-10", user_id="regranted-late")]
    yield from granted("regranted-late", when="2026-07-20")
    yield from [*unused("renewed"), *granted("renewed", when="2026-08-20")]
    yield from granted("refused", outcome="failure")
    yield from [*called("refused"), *issued("refused", "note:read")]
    for name, expires_at in (("expired", LOG_ENDS), ("expires-later", LOG_ENDS + SECOND)):
        yield from unused(name, grant_expires_at=expires_at)
    yield from [*unused("lapsed", grant_expires_at=at("2026-06-20")), *granted("lapsed", when="2026-07-20")]
    yield from [*unused("unlapsed", grant_expires_at=at("2026-07-20")), *granted("unlapsed", when="2026-07-19")]
    yield from [*unused("shortened"), *granted("shortened", when="2026-07-20", grant_expires_at=at("2026-08-20"))]

    # Known from issues alone.
    yield from [*issued("issued", starts=LOG_STARTS), *called("issued")]
    yield from [*issued("issued-revoked", starts=LOG_STARTS, days=30), *called("issued-revoked")]
    yield revocation("2026-08-01", user_id="issued-revoked")
    yield from [*issued("issued-other-revoked", starts=LOG_STARTS), *called("issued-other-revoked")]
    yield revocation("2026-06-15", "task:read-write", user_id="issued-other-revoked")
    yield from [*issued("issued-again", starts=LOG_STARTS), *called("issued-again")]
    yield revocation("2026-06-15", user_id="issued-again")
    yield from [
        *granted("issued-beside", "task:read"),
        *issued("issued-beside", starts=LOG_STARTS),
        *called("issued-beside"),
    ]
    yield from [*issued("issue-refused", starts=LOG_STARTS, decision="denied"), *called("issue-refused")]

    # What is too new, or rare.
    yield from [*granted("on-the-day", when=PERIOD_STARTS), *called("on-the-day")]
    yield from [*granted("second-later", when=PERIOD_STARTS + SECOND), *called("second-later")]
    yield from [
        *granted("new-beside-old"),
        *granted("new-beside-old", "task:read-write", "2026-09-01"),
        *called("new-beside-old"),
    ]
    for name, first_at in (("seven-days", timedelta(days=7)), ("younger", timedelta(days=7) + SECOND)):
        yield from [issue(PERIOD_STARTS + first_at, "note:read-write", user_id=name), *called(name)]
    yield from [*unused("yearly"), *called("yearly", WRITE_NOTES, 1, at("2026-06-11"))]
    yield from granted("rare-beside-unused", "note:read-write task:read-write")
    yield from [*called("rare-beside-unused"), *called("rare-beside-unused", WRITE_NOTES, 1, at("2026-06-11"))]

    for days in (400, 401):
        name = f"ancient-{days}"
        yield from [*unused(name), *called(name, WRITE_NOTES, 1, PERIOD_STARTS - timedelta(days=days))]
    yield from [*granted("twice-rare", "note:read-write task:read-write"), *called("twice-rare")]
    yield from called("twice-rare", WRITE_NOTES, 1, at("2026-06-11"))
    yield from called("twice-rare", "DELETE /v2/tasks/{task_id}", 1, at("2026-06-12"))

    # What cannot be judged.
    yield from [*granted("unheard-once"), issue(PERIOD_STARTS, "note:read", user_id="unheard-once")]
    yield from granted("idle")
    yield from [*granted("unheard"), *issued("unheard", "note:read", 3)]
    yield from [*granted("unheard-refused"), denial(PERIOD_STARTS, user_id="unheard-refused")]
    yield from [*granted("unheard-before"), *issued("unheard-before", "note:read", 30, LOG_STARTS)]
    for days in (1, 9, 10):
        yield from [*granted(f"active-{days}"), *called(f"active-{days}", days=days)]
    for status in (200, 401, 404):
        yield from [*unused(f"unmatched-{status}"), *called(f"unmatched-{status}", None, 1, status=status)]
    yield from [*unused("unmatched-before"), *called("unmatched-before", None, 1, LOG_STARTS)]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    with log_of(tmp_path_factory.mktemp("estate"), estate()) as log:
        yield log


def by_user(result):
    return {f.details["user_id"]: f for f in result.findings}


@pytest.fixture(scope="module")
def found(log):
    return by_user(log.ask(CHECK))


def test_a_grant_that_nobody_writes_with_is_reported(found, log):
    ada = found["ada"]
    assert ada.entity == f"ada × {ATTIO}"
    assert (ada.severity, ada.state) == (Severity.MEDIUM, State.OPEN)
    assert ada.reason == (
        "ada has granted note:read-write since 2026-06-01; "
        "none of 90 calls on 90 days wrote with it, in a log of 90 days"
    )
    assert ada.details["unused_scopes"] == ["note:read-write"]
    assert (ada.details["call_count"], ada.details["issue_count"]) == (90, 1)
    assert ada.event_count == 92 == log.events_of(ada).height
    assert (ada.first_at, ada.last_at) == (LOG_STARTS, PERIOD_STARTS + timedelta(hours=8))


@pytest.mark.parametrize(
    "user", ["writer", "always", "by-another-application", "first-day", "last-day", "answered-302", "untold-success"]
)
def test_a_grant_that_is_used_for_writing_is_ignored(found, user):
    assert user not in found


@pytest.mark.parametrize("user", ["reader", "collector", "stranger", None])
def test_what_is_not_known_to_write_is_ignored(found, user):
    assert user not in found


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 503])
def test_a_failed_write_never_justifies_writing(found, status):
    assert found[f"answered-{status}"].state is State.OPEN


def test_without_a_status_the_outcome_tells(found):
    assert found["untold-failure"].state is State.OPEN
    because = "how 90 of the calls for this user ended is not told: they may have written"
    assert found["untold-unknown"].inconclusive_because == because
    assert found["untold-once"].inconclusive_because.startswith("how 1 of the calls ")


def test_a_write_after_the_period_does_not_count(found):
    assert found["day-after"].state is State.OPEN
    assert found["day-after"].event_count == 91


def test_the_events_are_the_consents_and_what_the_period_holds(found, log):
    edge = found["edge"]
    listed = log.events_of(edge)
    assert edge.event_count == 1 + 90 + 4 == listed.height
    assert [e.event_uid for e in edge.sample_events] == listed["event_uid"].to_list()[:5]
    assert edge.last_at == LOG_ENDS - SECOND


def test_two_scopes_are_held_since_the_older(found):
    assert found["two-dates"].first_at == LOG_STARTS


def test_only_the_unused_scope_is_named(found):
    assert found["half-used"].details["unused_scopes"] == ["task:read-write"]


def test_resources_stand_apart(found):
    assert found["elsewhere"].details["resource_id"] == "https://mcp.attio.com/mcp"
    assert found["elsewhere"].reason.endswith("; not one call for this user is in the log of 90 days")


def test_critical_scopes_are_high(found):
    assert found["eraser"].severity is Severity.HIGH
    assert found["eraser"].details["unused_scopes"] == ["note:read-write", "record_permission:read-write"]
    assert " wrote with them, " in found["eraser"].reason


def test_a_quote_in_a_name_stays_inside_the_sql(found, log):
    finding = found["o'brien' OR '1'='1"]
    assert finding.event_count == 91 == log.events_of(finding).height


@pytest.mark.parametrize(
    "user",
    [
        "revoked",
        "revoked-scope",
        "expired",
        "shortened",
        "refused",
        "issued-revoked",
        "issue-refused",
        "issued-beside",
        "consents-later",
        "issued-later",
    ],
)
def test_a_grant_that_does_not_stand_is_ignored(found, user):
    assert user not in found


@pytest.mark.parametrize(
    "user",
    [
        "revoked-other", "revoked-elsewhere", "revoked-in-vain", "revoked-later", "regranted", "renewed", "unlapsed",
        "expires-later", "issued", "issued-other-revoked",
    ],
)  # fmt: skip
def test_a_grant_that_stands_for_the_whole_period_is_reported(found, user):
    assert found[user].state is State.OPEN


def test_a_grant_known_from_issues_is_at_least_that_old(found):
    assert found["issued"].reason.startswith("issued has granted note:read-write since before 2026-06-01;")
    assert found["issued"].details["grant_known_from"] == "derived from credential issues"
    assert found["ada"].details["grant_known_from"] == "derived from consent events"
    assert found["regranted"].first_at == at("2026-06-20")


@pytest.mark.parametrize("user", ["second-later", "regranted-late", "lapsed", "issued-again"])
def test_a_grant_younger_than_the_period_is_inconclusive(found, user):
    assert found[user].inconclusive_because == "first granted within the period: too new to be called unused"
    assert found[user].severity is Severity.LOW


def test_a_grant_as_old_as_the_period_is_judged(found):
    assert found["on-the-day"].state is State.OPEN


def test_a_grant_first_issued_a_week_into_the_log_is_too_young(found, log):
    assert found["seven-days"].state is State.OPEN
    assert found["younger"].state is State.INCONCLUSIVE
    assert by_user(log.ask(CHECK, max_age_gap_days=8))["younger"].state is State.OPEN


def test_new_and_rare_scopes_do_not_hide_the_unused_one(found):
    for user, shown, undecided in (
        ("new-beside-old", "note:read-write", "task:read-write"),
        ("rare-beside-unused", "task:read-write", "note:read-write"),
    ):
        assert found[user].state is State.OPEN
        assert found[user].details["unused_scopes"] == [shown]
        assert found[user].details["undecided_scopes"] == [undecided]


def test_rare_use_before_the_period_is_inconclusive(found, log):
    because = "last used for writing on 2026-06-11, before the period: rare use, ask the owner"
    assert found["yearly"].inconclusive_because == because
    assert by_user(log.ask(CHECK, look_back_days=20))["yearly"].state is State.INCONCLUSIVE
    assert by_user(log.ask(CHECK, look_back_days=19))["yearly"].state is State.OPEN


def test_rare_use_is_remembered_for_400_days_and_its_last_day_told(found):
    assert found["ancient-400"].state is State.INCONCLUSIVE
    assert found["ancient-401"].state is State.OPEN
    assert found["twice-rare"].inconclusive_because.startswith("last used for writing on 2026-06-12")


def test_a_user_without_any_call_is_reported(found):
    idle = found["idle"].details
    assert (idle["active_day_count"], idle["call_count"], idle["issue_count"]) == (0, 0, 0)
    assert found["idle"].state is State.OPEN
    assert found["unheard-before"].state is found["unheard-refused"].state is State.OPEN


def test_issues_without_a_call_are_inconclusive(found):
    because = "3 credentials had been issued for this user and no call is in the log: the log may not show all calls"
    assert found["unheard"].inconclusive_because == because


def test_one_issue_without_a_call_is_inconclusive(found):
    assert found["unheard-once"].inconclusive_because.startswith("1 credential had been issued for this user")
    assert found["unheard-once"].details["issue_count"] == 1


def test_a_grant_that_names_no_resource_is_inconclusive(found, log):
    because = "the log does not name the resource of this grant: what was done with it is not known"
    assert found["placeless"].inconclusive_because == because
    assert found["placeless"].event_count == 1 == log.events_of(found["placeless"]).height


def test_ten_active_days_are_needed(found, log):
    assert found["active-10"].state is State.OPEN
    assert found["active-9"].inconclusive_because == "this user was active on 9 days; 10 are needed"
    assert found["active-1"].inconclusive_because == "this user was active on 1 day; 10 are needed"
    assert by_user(log.ask(CHECK, min_active_days=9))["active-9"].state is State.OPEN


def test_a_call_that_matches_no_operation_is_inconclusive(found):
    because = "1 of the calls for this user cannot be matched to a known operation and may have used any scope"
    assert found["unmatched-200"].inconclusive_because == because


@pytest.mark.parametrize("how", [401, 404, "before"])
def test_a_path_that_the_resource_does_not_know_changes_nothing(found, how):
    assert found[f"unmatched-{how}"].state is State.OPEN


def test_a_period_that_ends_at_noon_holds_the_writes_of_its_last_morning(log):
    half = by_user(log.ask(CHECK, Period(PERIOD_STARTS, at("2026-07-01 12:00") + timedelta(days=60))))
    assert "answered-302" not in half
    assert half["ada"].details["active_day_count"] == 61


# ── gaps ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def gapped(tmp_path_factory):
    """`weekly` would have called in the gap 12 / 11.85 times, `less` 11 / 11.85 times, going by the other weeks."""
    wednesdays = [t for t in daily(PERIOD_STARTS, LOG_ENDS, 10) if t.isoweekday() == 3 and f"{t:%Y-%m-%d}" != GAP]
    events = [*busy_hour(9, without=[GAP]), *busy_hour(10, without=[GAP]), issue(PERIOD_STARTS, user_id="another")]
    for user, hours in (("weekly", wednesdays), ("less", wednesdays[1:])):
        events += [*granted(user), *(api_call(t, user_id=user) for t in hours)]
    with log_of(tmp_path_factory.mktemp("gapped"), events) as log:
        yield log


def test_a_gap_is_inconclusive_where_a_call_could_be_expected_in_it(gapped):
    found = by_user(gapped.ask(CHECK))
    because = "the log has gaps in which about 1 of the calls for this user could be expected"
    assert found["weekly"].inconclusive_because == because
    assert (found["less"].state, found["less"].details["expected_in_gaps"]) == (State.OPEN, 0.93)


# ── by request: a log of issues alone ───────────────────────────────────────────────────────────────────────


def requests():
    yield from log_bounds()
    yield from granted("idle")
    yield from [*issued("modest", starts=LOG_STARTS, days=20), *granted("unnamed-once")]
    yield issue(PERIOD_STARTS, None, user_id="unnamed-once")
    for user, asked in (("modest", "note:read-write"), ("greedy", "note:read"), ("unnamed", None)):
        yield from [*granted(user, "note:read-write"), *issued(user, asked)]
    yield from [*granted("eraser", "record_permission:read-write"), *issued("eraser", "note:read", 1)]
    yield from [*granted("refused"), denial(PERIOD_STARTS, requested_scopes=["note:read-write"], user_id="refused")]
    yield from [
        *granted("rare"),
        *issued("rare", "note:read"),
        issue(at("2026-06-11"), "note:read-write", user_id="rare"),
    ]
    yield from [*granted("later"), *issued("later", "note:read"), issue(LOG_ENDS, "note:read-write", user_id="later")]
    yield from [*granted("unnamed-refused"), denial(PERIOD_STARTS, requested_scopes=None, user_id="unnamed-refused")]


@pytest.fixture(scope="module")
def by_request(tmp_path_factory):
    with log_of(tmp_path_factory.mktemp("requests"), requests()) as log:
        yield log


@pytest.fixture(scope="module")
def requested(by_request):
    return by_user(by_request.ask(CHECK))


def test_without_calls_it_is_judged_by_request_and_low(requested, by_request):
    greedy = requested["greedy"]
    assert greedy.reason == (
        "greedy has granted note:read-write since 2026-06-01; none of 90 credential issues asked for it "
        "(by request: the log shows no calls)"
    )
    assert (greedy.severity, greedy.state, greedy.details["evidence"]) == (Severity.LOW, State.OPEN, "by request")
    assert greedy.event_count == 91 == by_request.events_of(greedy).height
    assert requested["eraser"].severity is Severity.LOW
    assert "none of 1 credential issue asked for it" in requested["eraser"].reason


@pytest.mark.parametrize("user", ["modest", "refused"])
def test_by_request_a_scope_that_was_asked_for_is_ignored(requested, user):
    assert user not in requested


def test_by_request_a_later_request_does_not_count(requested):
    assert requested["later"].state is State.OPEN


def test_by_request_unnamed_scopes_are_inconclusive(requested):
    because = "90 of the credential issues for this user named no scopes, and may have been for any"
    assert requested["unnamed"].inconclusive_because == because
    assert requested["unnamed-once"].state is State.INCONCLUSIVE
    assert requested["unnamed-refused"].state is requested["idle"].state is State.OPEN
    assert requested["idle"].details["issue_count"] == 0


def test_by_request_rare_requests_are_inconclusive(requested, by_request):
    because = "last asked for on 2026-06-11, before the period: rare use, ask the owner"
    assert requested["rare"].inconclusive_because == because
    assert by_user(by_request.ask(CHECK, look_back_days=20))["rare"].state is State.INCONCLUSIVE
    assert by_user(by_request.ask(CHECK, look_back_days=19))["rare"].state is State.OPEN


def test_by_request_a_gap_is_inconclusive_where_an_issue_could_be_expected_in_it(tmp_path):
    events = [*busy_hour(8, without=[GAP]), *granted("greedy"), *issued("greedy", "note:read")]
    kept = [e for e in events if not (e["user_id"] == "greedy" and f"{e['occurred_at']:%Y-%m-%d}" == GAP)]
    (finding,) = ask_once(tmp_path, CHECK, kept).findings
    because = "the log has gaps in which about 1 of the credential issues for this user could be expected"
    assert finding.inconclusive_because == because


def test_a_single_call_in_the_log_is_a_log_of_calls(tmp_path):
    events = [*log_bounds(), *granted("ada"), issue(PERIOD_STARTS, "note:read"), api_call(PERIOD_STARTS)]
    (finding,) = ask_once(tmp_path, CHECK, events).findings
    assert finding.details["evidence"] == "by use"


# ── could not judge ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_log_shorter_than_the_period_is_judged_from_thirty_days_on(tmp_path):
    starts = LOG_ENDS - timedelta(days=30)
    enough = [issue(starts, "note:read-write"), *called("ada", starts=starts, days=30), api_call(LOG_ENDS - SECOND)]
    (finding,) = ask_once(tmp_path, CHECK, enough).findings
    assert finding.state is State.OPEN
    assert finding.reason.endswith("in a log of 30 days")
    found = ask_once(tmp_path, CHECK, [e for e in enough if e["occurred_at"] >= starts + timedelta(days=1)])
    assert found.verdict is Verdict.COULD_NOT_JUDGE


@pytest.mark.parametrize(
    ("kept", "because"),
    [
        ("consent", "the log holds no credential issue in the period"),
        ("unnamed", "no consent and no credential issue in the log shows what users have granted"),
        ("short", "the log covers 29 days of the period, and 30 are needed"),
    ],
)
def test_it_says_what_it_lacks(tmp_path, kept, because):
    lacking = {
        "consent": [*log_bounds(), *granted("ada"), *called("ada")],
        "unnamed": [*log_bounds(), *issued("ada", None), *called("ada")],
        "short": [issue(LOG_ENDS - timedelta(days=29), "note:read-write"), api_call(LOG_ENDS - SECOND)],
    }
    assert ask_once(tmp_path, CHECK, lacking[kept]).could_not_judge == because


def test_where_all_grants_are_revoked_there_is_nothing_to_find(tmp_path):
    events = [
        *log_bounds(),
        *granted("ada"),
        revocation("2026-08-01"),
        issue("2026-07-02", "note:read-write"),
        api_call("2026-07-02"),
    ]
    assert ask_once(tmp_path, CHECK, events).verdict is Verdict.NOTHING_FOUND
