"""What happens in the log day by day, and what was planted in it.

Ordinary work is laid out evenly and not left to luck: every membership has its sessions spread over its days, and every
session walks on through the application's repertoire. So whatever the seed, each scope that is asked for is used, and
nothing but the planted is out of the ordinary.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import floor
from typing import Any

from audit_kit.sample import company as firm
from audit_kit.sample.company import ATTIO, ATTIO_MCP, LINEAR, Company, Membership, Person
from audit_kit.sample.events import Event, Writer

LOG_STARTS = datetime(2026, 6, 1, tzinfo=UTC)  # a Monday
DAYS = 120
_HOUR = 3_600_000  # ms
_DAY = 24 * _HOUR
_CALLS_A_SESSION, _CALLS_A_REGULAR_SESSION, _CALLS_A_SYNC = 6, 3, 4
_WEEKEND = 0.1  # of a working day
_OFFICE_HOURS = (
    (7.5, 0.4),
    (8, 1.0),
    (9, 1.2),
    (10, 1.2),
    (11, 1.0),
    (12, 0.8),
    (13, 1.0),
    (14, 1.2),
    (15, 1.1),
    (16, 0.8),
)
# Part of all events, in calls or issues of their own.
_LINEAR_SHARE, _MCP_SHARE, _SECRET_SHARE, _SIGN_IN_SHARE = 0.04, 0.015, 0.005, 0.045
_FAILURES = ((0.010, 404), (0.013, 429), (0.015, 500), (0.0165, 401), (0.018, 403))
_MOST_FAILURES_AN_HOUR = 2  # of 401s or 403s, of one application or one person: less than any spike

_EXPIRED_SECRET = ("app_deal_sync", datetime(2026, 8, 18, 9, tzinfo=UTC), 150)  # minutes
_MISSING_SCOPE = ("app_meeting_notes", firm.ADD_NOTE, datetime(2026, 9, 3, 12, 30, tzinfo=UTC), 240)
_GAP = (datetime(2026, 8, 12, 13, tzinfo=UTC), datetime(2026, 8, 12, 17, tzinfo=UTC))  # a Wednesday
_SHARED_CREDENTIALS = {"cred_linear", "cred_mcp"}
_GAP_FROM_EVENTS = 60_000  # in a smaller log four silent hours are nothing unusual
_FORBIDDEN_FROM, _FORBIDDEN_DAYS, _FORBIDDEN_COUNT = datetime(2026, 8, 24, tzinfo=UTC), 21, 30
_UNPERMITTED_FROM, _UNPERMITTED_DAYS, _UNPERMITTED_COUNT = datetime(2026, 7, 20, tzinfo=UTC), 10, 18


@dataclass(frozen=True, slots=True)
class Planted:
    """One thing that is wrong, as truth.json tells it."""

    check: str
    match: dict[str, str]
    starts_at: datetime
    ends_at: datetime
    least_severity: str
    story: str


class Story:
    """The log of one company; `day(n)` gives the events of its n-th day, in order of time."""

    def __init__(self, events: int, seed: int, *, is_clean: bool, issues_only: bool) -> None:
        self.seed, self.is_clean, self.issues_only = seed, is_clean, issues_only
        rng = random.Random(f"{seed}:company")  # noqa: S311  # the seed is the point
        self.company: Company = firm.company(rng, events, is_clean=is_clean)
        self.starts_at = LOG_STARTS
        self.ends_at = LOG_STARTS + timedelta(days=DAYS)
        others = [m.person for m in self.company.memberships if not m.is_regular]
        self.forbidden_person, self.unpermitted_person = others[4], others[9]
        self.has_gap = not is_clean and events >= _GAP_FROM_EVENTS
        self.consent_at = {p.id: self._consent_at(p, rng) for p in self.company.people}
        self.sync_every = 1 if events >= 60_000 else 4 if events >= 20_000 else 24
        self._weights = [0.0]  # cumulated weight of the days: a weekend day counts a tenth
        for day in range(DAYS):
            self._weights.append(self._weights[-1] + (1.0 if self._is_workday(day) else _WEEKEND))
        self._sundries = {  # how many a whole log holds
            "linear": events * _LINEAR_SHARE / 4,
            "mcp": events * _MCP_SHARE,
            "secret": events * _SECRET_SHARE,
            "sign_in": events * _SIGN_IN_SHARE,
        }
        self._sessions = self._shared_sessions(events)
        self._phases = {m: rng.random() for m in self.company.memberships}
        self._cursors: Counter[Membership] = Counter()
        self._denials = self._denial_plan(rng)
        self._revoked = {p.id: LOG_STARTS + timedelta(days=n) for p, n in zip(others[11:13], (64, 81), strict=False)}

    # ── the plan ───────────────────────────────────────────────────────────────────────────────────────────

    def planted(self) -> list[Planted]:
        if self.is_clean:
            return []
        people = self.company.people
        found = []
        if not self.issues_only:
            window = (self.starts_at, self.ends_at)
            found.append(Planted(
                "over_broad_scopes", {"application_id": firm.PLANNER.id, "resource_id": ATTIO}, *window, "high",
                "Territory Planner asks for fourteen scopes, write access to records, people and webhooks among them, "
                "and reads lists.",
            ))  # fmt: skip
            for person, (_, _, unused) in zip(people, firm.UNUSED, strict=False):
                is_critical = "record_permission:read-write" in unused
                found.append(Planted(
                    "unused_read_write_grants", {"user_id": person.id, "resource_id": ATTIO},
                    _instant(self.consent_at[person.id]), self.ends_at, "high" if is_critical else "medium",
                    f"{person.name} consented to {' and '.join(unused)} and only ever reads.",
                ))  # fmt: skip
            application, start, minutes = _EXPIRED_SECRET
            found.append(Planted(
                "unauthorized_spike", {"application_id": application},
                start, start + timedelta(minutes=minutes), "high",
                "The OAuth secret of the Attio provider expired under Deal Sync; it was renewed before lunch.",
            ))  # fmt: skip
            application, _, start, minutes = _MISSING_SCOPE
            found.append(Planted(
                "forbidden_spike", {"application_id": application}, start, start + timedelta(minutes=minutes), "medium",
                "Somebody took note:read-write from the Attio app's settings; Keycard went on issuing it.",
            ))  # fmt: skip
        found.append(Planted(
            "policy_denials_by_user", {"user_id": self.forbidden_person.id, "policy": "forbid-attio-writes"},
            *self._span(self.forbidden_person), "medium",
            f"{self.forbidden_person.name} asks for write access against a forbid policy, for three weeks.",
        ))  # fmt: skip
        found.append(Planted(
            "policy_denials_by_user", {"user_id": self.unpermitted_person.id, "policy": "default deny"},
            *self._span(self.unpermitted_person), "medium",
            f"No policy permits what is asked for {self.unpermitted_person.name}: a default deny, again and again.",
        ))  # fmt: skip
        if self.has_gap and (not self.issues_only or self._sundries["sign_in"] >= 4_000):
            found.append(Planted(
                "log_gap", {}, *_GAP, "medium",
                "The export stood still for a Wednesday afternoon; those four hours were never delivered.",
            ))  # fmt: skip
        return found

    def _shared_sessions(self, events: int) -> dict[Membership, float]:
        """Sessions of each membership over the whole log: what is left when all fixed things have their events."""
        workdays = sum(self._is_workday(day) for day in range(DAYS))
        regular = [m for m in self.company.memberships if m.is_regular]
        shared = [m for m in self.company.memberships if not m.is_regular]
        fixed = len(regular) * (workdays - 10) * (1 + _CALLS_A_REGULAR_SESSION)
        fixed += DAYS * 24 // self.sync_every * (1 + _CALLS_A_SYNC)
        fixed += round(events * (_LINEAR_SHARE + _MCP_SHARE + _SECRET_SHARE + _SIGN_IN_SHARE)) + 3 * len(
            self.company.people
        )
        fixed += 0 if self.is_clean else _FORBIDDEN_COUNT + _UNPERMITTED_COUNT + 300
        total = max(len(shared) * 8.0, (events - fixed) / (1 + _CALLS_A_SESSION))
        members = Counter(m.application.id for m in shared)
        weights = {m: m.application.share / members[m.application.id] for m in shared}
        # Half by the application's share, half alike, so that nobody is left with too few.
        return {m: total * (0.5 * w / sum(weights.values()) + 0.5 / len(shared)) for m, w in weights.items()}

    def _consent_at(self, person: Person, rng: random.Random) -> int:
        day = rng.randrange(26)
        while not self._is_workday(day):
            day = rng.randrange(26)
        return (
            _ms(self.starts_at) + day * _DAY + round(rng.uniform(5.0 if self._is_early(person) else 8.0, 9.5) * _HOUR)
        )

    def _is_early(self, person: Person) -> bool:
        return person in self.company.people[: firm.EARLY_PEOPLE]

    def _is_workday(self, day: int) -> bool:
        return (LOG_STARTS + timedelta(days=day)).weekday() < 5

    def _denial_plan(
        self, rng: random.Random
    ) -> dict[int, list[tuple[int, Person, str, tuple[str, ...], tuple[str, ...]]]]:
        """Day → (instant, person, application, scopes asked for, policies that refused)."""
        plan: dict[int, list[tuple[int, Person, str, tuple[str, ...], tuple[str, ...]]]] = {}

        def add(at: int, person: Person, application: str, scopes: tuple[str, ...], policies: tuple[str, ...]) -> None:
            plan.setdefault((at - _ms(self.starts_at)) // _DAY, []).append((at, person, application, scopes, policies))

        def evenly(start: datetime, days: int, count: int) -> Iterator[int]:
            workdays = [n for n in range(days) if (start + timedelta(days=n)).weekday() < 5]
            for number in range(count):
                day = workdays[number * len(workdays) // count]
                yield _ms(start) + day * _DAY + round(rng.uniform(8.2, 16.8) * _HOUR)

        if not self.is_clean:
            wanted = ("object_configuration:read", "record_permission:read-write")
            for at in evenly(_FORBIDDEN_FROM, _FORBIDDEN_DAYS, _FORBIDDEN_COUNT):
                add(at, self.forbidden_person, "app_crm_desk", wanted, ("forbid-attio-writes",))
            for at in evenly(_UNPERMITTED_FROM, _UNPERMITTED_DAYS, _UNPERMITTED_COUNT):
                add(at, self.unpermitted_person, "app_people_finder", ("user_management:read-write",), ())
        for person in self.company.people[firm.EARLY_PEOPLE :: 2]:
            for _ in range(rng.randint(0, 2)):
                day = rng.choice([n for n in range(30, DAYS) if self._is_workday(n)])
                at = _ms(self.starts_at) + day * _DAY + round(rng.uniform(8.2, 16.8) * _HOUR)
                add(at, person, "app_research_agent", ("record_permission:read",), ("forbid-unmanaged-devices",))
        return plan

    def _span(self, person: Person) -> tuple[datetime, datetime]:
        planted = [
            at
            for entries in self._denials.values()
            for at, who, _, _, policies in entries
            if who is person and policies != ("forbid-unmanaged-devices",)
        ]
        return _instant(min(planted)), _instant(max(planted) + 1)

    # ── the days ───────────────────────────────────────────────────────────────────────────────────────────

    def day(self, day: int) -> list[Event]:
        rng = random.Random(f"{self.seed}:{day}")  # noqa: S311  # the seed is the point
        scene = _Scene(self, day, rng)
        events = [
            *scene.consents(),
            *scene.work(),
            *scene.sync(),
            *scene.sundries(),
            *scene.denials(),
            *scene.incidents(),
        ]
        if self.has_gap:
            first, last = map(_ms, _GAP)
            in_gap = [e for e in events if first <= e["time"] < last]
            # A session that began in the gap has no calls after it either: they would lack their issue.
            began = {e["unmapped"]["credential_id"] for e in in_gap if "granted_scopes" in e["unmapped"]}
            began -= _SHARED_CREDENTIALS
            events = [e for e in events if e["unmapped"].get("credential_id") not in began]
            events = [e for e in events if not first <= e["time"] < last]
        if self.issues_only:
            events = [e for e in events if e["unmapped"]["event"] != "resources:call"]
        return sorted(events, key=lambda e: (e["time"], e["metadata"]["uid"]))

    def share_of_day(self, day: int, total: float, phase: float, first_day: int = 0) -> int:
        """How many of `total`, spread evenly over the days from `first_day` on, fall on this day."""
        if day < first_day:
            return 0
        start, whole = self._weights[first_day], self._weights[-1] - self._weights[first_day]
        done, then = ((self._weights[n] - start) / whole * total + phase for n in (day, day + 1))
        return floor(then) - floor(done)

    def next_operations(self, membership: Membership, count: int) -> list[str]:
        """The next of the repertoire, in turn over the whole log."""
        at = self._cursors[membership]
        self._cursors[membership] += count
        return [membership.repertoire[(at + n) % len(membership.repertoire)] for n in range(count)]

    def consent_day(self, person: Person) -> int:
        return (self.consent_at[person.id] - _ms(self.starts_at)) // _DAY

    def sessions_of(self, membership: Membership, day: int) -> int:
        first = self.consent_day(membership.person) + 1
        if membership.is_regular:
            return int(day >= first and self._is_workday(day))
        return self.share_of_day(day, self._sessions[membership], self._phases[membership], first)

    def sundry_count(self, kind: str, day: int) -> int:
        return self.share_of_day(day, self._sundries[kind], 0.5)

    def onboarded(self, day: int) -> list[Person]:
        return [p for p in self.company.people[firm.EARLY_PEOPLE :] if self.consent_day(p) < day]

    def revoked_at(self, person: Person) -> datetime | None:
        return self._revoked.get(person.id)

    def denials_on(self, day: int) -> list[tuple[int, Person, str, tuple[str, ...], tuple[str, ...]]]:
        return self._denials.get(day, [])


class _Scene:
    """One day, with its own random numbers."""

    def __init__(self, story: Story, day: int, rng: random.Random) -> None:
        self.story, self.day, self.rng = story, day, rng
        self.write = Writer(rng)
        self.midnight = _ms(story.starts_at) + day * _DAY
        self.failures: Counter[tuple[str, int, int]] = Counter()

    def consents(self) -> Iterator[Event]:
        story = self.story
        for person in story.company.people:
            if story.consent_day(person) == self.day:
                at = story.consent_at[person.id]
                application = next(m.application for m in story.company.memberships if m.person is person)
                yield self.write.consent(at, person, application, ATTIO, story.company.consents[person.id])
                yield self.write.consent(at + 60_000, person, application, ATTIO_MCP, ())
                yield self.write.consent(at + 120_000, person, application, LINEAR, ("read",))
            revoked = story.revoked_at(person)
            if revoked is not None and (_ms(revoked) - _ms(story.starts_at)) // _DAY == self.day:
                desk = story.company.applications["app_crm_desk"]
                at = self.midnight + 9 * _HOUR
                yield self.write.revocation(at, person, desk, ATTIO_MCP, (), story.company.people[-1])

    def work(self) -> Iterator[Event]:
        for membership in self.story.company.memberships:
            for _ in range(self.story.sessions_of(membership, self.day)):
                count = _CALLS_A_REGULAR_SESSION if membership.is_regular else _CALLS_A_SESSION
                yield from self.session(
                    membership, self.start(membership.hours), self.story.next_operations(membership, count)
                )

    def session(
        self,
        membership: Membership,
        at: int,
        operations: Sequence[str],
        status: int | None = None,
        pause: int = 240_000,
    ) -> Iterator[Event]:
        """One credential issue and its calls, at most `pause` ms apart; `status` is that of every call, if given."""
        person, application = membership.person, membership.application
        credential = f"cred_{self.rng.getrandbits(64):016x}"
        yield self.write.credential_issue(at, person, application, ATTIO, membership.scopes, credential=credential)
        for operation in operations:
            at += self.rng.randint(2_000, pause)
            answer = status or self.status(at, application.id, person.id, operation)
            yield self.write.call(at, person, application, ATTIO, operation, answer, membership.scopes, credential)

    def sync(self) -> Iterator[Event]:
        scopes = firm.SYNC.scopes
        for hour in range(0, 24, self.story.sync_every):
            at = self.midnight + hour * _HOUR + self.rng.randint(60_000, 2_400_000)
            credential = f"cred_{self.rng.getrandbits(64):016x}"
            yield self.write.credential_issue(at, None, firm.SYNC, ATTIO, scopes, credential=credential)
            for operation in firm.SYNC.repertoire:
                at += self.rng.randint(2_000, 60_000)
                status = self.status(at, firm.SYNC.id, "", operation)
                yield self.write.call(at, None, firm.SYNC, ATTIO, operation, status, scopes, credential)

    def sundries(self) -> Iterator[Event]:
        story, rng = self.story, self.rng
        people = story.onboarded(self.day)
        if not people:
            return
        applications = {m.person.id: m.application for m in story.company.memberships}
        for _ in range(story.sundry_count("linear", self.day)):
            person, at = rng.choice(people), self.start((8, 17))
            application = applications[person.id]
            yield self.write.credential_issue(at, person, application, LINEAR, ("read",), credential="cred_linear")
            for _ in range(3):
                at += rng.randint(2_000, 240_000)
                yield self.write.call(at, person, application, LINEAR, "POST /graphql", 200, ("read",), "cred_linear")
        for _ in range(story.sundry_count("mcp", self.day)):
            person, at = rng.choice(people), self.start((8, 17))
            revoked = story.revoked_at(person)
            if revoked is None or at < _ms(revoked):
                yield self.write.credential_issue(
                    at, person, applications[person.id], ATTIO_MCP, (), credential="cred_mcp"
                )
        for _ in range(story.sundry_count("secret", self.day)):
            person = rng.choice(people)
            yield self.write.secret_read(self.start((8, 17)), person, applications[person.id])
        for _ in range(story.sundry_count("sign_in", self.day)):
            yield self.write.sign_in(self.start((7.5, 12)), rng.choice(people), is_success=rng.random() > 0.02)

    def denials(self) -> Iterator[Event]:
        for at, person, application, scopes, policies in self.story.denials_on(self.day):
            app = self.story.company.applications[application]
            yield self.write.credential_issue(at, person, app, ATTIO, scopes, denied_by=policies)

    def incidents(self) -> Iterator[Event]:
        """People try again while their application is refused: what makes a spike of it."""
        if self.story.is_clean:
            return
        application, start, minutes = _EXPIRED_SECRET
        yield from self._retries(application, start, minutes, 401, None, sessions=11)
        application, operation, start, minutes = _MISSING_SCOPE
        yield from self._retries(application, start, minutes, 403, operation, sessions=12)

    def _retries(
        self, application: str, start: datetime, minutes: int, status: int, operation: str | None, sessions: int
    ) -> Iterator[Event]:
        if not self.midnight <= _ms(start) < self.midnight + _DAY:
            return
        members = [m for m in self.story.company.memberships if m.application.id == application and not m.is_regular]
        for number in range(sessions):
            membership = members[number % len(members)]
            # Spread over the incident, and over before it is: a session takes less than half an hour.
            at = _ms(start) + round(number / sessions * (minutes - 28) * 60_000)
            operations = [operation] * 12 if operation else self.story.next_operations(membership, 12)
            yield from self.session(membership, at, operations, status, pause=130_000)

    def start(self, hours: tuple[float, float]) -> int:
        """An instant within the hours; busiest in the middle of the morning and of the afternoon."""
        first, last = hours
        if first >= 7:
            slots = [(h, w) for h, w in _OFFICE_HOURS if first <= h < last]
            first = self.rng.choices([h for h, _ in slots], [w for _, w in slots])[0]
            last = floor(first) + 1
        return self.midnight + round(self.rng.uniform(first, last - 0.01) * _HOUR)

    def status(self, at: int, application: str, person: str, operation: str) -> int:
        if not self.story.is_clean:
            if _is_during(at, application, _EXPIRED_SECRET[0], *_EXPIRED_SECRET[1:]):
                return 401
            if operation == _MISSING_SCOPE[1] and _is_during(at, application, _MISSING_SCOPE[0], *_MISSING_SCOPE[2:]):
                return 403
        draw = self.rng.random()
        status = next((s for limit, s in _FAILURES if draw < limit), 200)
        if status in (401, 403):
            keys = [(who, status, at // _HOUR) for who in (application, person) if who]
            if any(self.failures[key] >= _MOST_FAILURES_AN_HOUR for key in keys):
                return 200
            self.failures.update(keys)
        return status


def _is_during(at: int, application: str, whose: str, start: datetime, minutes: int) -> bool:
    return application == whose and 0 <= at - _ms(start) < minutes * 60_000


def _ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


def _instant(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def as_json(planted: Planted) -> dict[str, Any]:
    return {
        "check": planted.check,
        "match": planted.match,
        "from": _iso(planted.starts_at),
        "to": _iso(planted.ends_at),
        "least_severity": planted.least_severity,
        "story": planted.story,
    }


def _iso(instant: datetime) -> str:
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
