"""Arranges a result the way both report forms tell it. Decides order, totals and cuts; knows no markup."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from typing import Any

from audit_kit.model import (
    AuditResult,
    Check,
    CheckResult,
    Coverage,
    DeliveredFile,
    Finding,
    SampleEvent,
    Severity,
    State,
    Verdict,
)
from audit_kit.report.chart import Chart, chart_of
from audit_kit.report.plain import checks_of_findings, files_in_order, results_in_order, samples_in_order
from audit_kit.report.text import count, number

FINDINGS_PER_CHECK = 200
FIRST_THINGS = 3
SAMPLE_EVENTS = 5
FILES_BEFORE_COLLAPSE = 50
MOST_FILES_IN_HTML = 2000


@dataclass(frozen=True, slots=True)
class FirstThing:
    """The gravest finding of a check, what to do about it, and how many more the check has."""

    finding: Finding
    check: Check
    more_count: int


@dataclass(frozen=True, slots=True)
class FindingGroup:
    """A run of findings of the same state, severity and check: what they share is said once."""

    check: Check
    state: State
    severity: Severity
    count: int
    shown: tuple[Finding, ...]

    @property
    def hidden_count(self) -> int:
        return self.count - len(self.shown)


@dataclass(frozen=True, slots=True)
class Week:
    """Monday to Sunday; the first and the last one may lie only partly in the period."""

    monday: str
    calls: int
    unauthorized: int
    forbidden: int
    denials: int


@dataclass(frozen=True, slots=True)
class Totals:
    read: int
    kept: int
    rejected: int
    duplicate: int
    other_resource: int
    kept_in_period: int


@dataclass(frozen=True, slots=True)
class Document:
    """What the templates read, next to the result itself."""

    open_by_severity: tuple[tuple[Severity, int], ...]  # gravest first, all four
    open_count: int
    inconclusive_count: int
    nothing_found: tuple[CheckResult, ...]
    could_not_judge: tuple[CheckResult, ...]
    check_count: int
    verdict: str
    reservation: str | None  # what the log lacks, said next to the verdict
    first_things: tuple[FirstThing, ...]
    groups: tuple[FindingGroup, ...]
    chart: Chart | None
    weeks: tuple[Week, ...]
    totals: Totals
    unexplained_count: int  # events in the period that no delivered file accounts for, or the other way
    skipped: tuple[DeliveredFile, ...]
    not_adding_up: tuple[DeliveredFile, ...]
    other_files: tuple[DeliveredFile, ...]
    parameters: tuple[tuple[str, str, Any], ...]  # (check id, parameter, value)

    @property
    def first_anchors(self) -> frozenset[str]:
        return frozenset(thing.finding.occurrence_id for thing in self.first_things)


def document_of(result: AuditResult) -> Document:
    findings = result.findings
    open_ones = [f for f in findings if f.state is State.OPEN]
    by_severity = Counter(f.severity for f in open_ones)
    severities = tuple((s, by_severity[s]) for s in sorted(Severity, reverse=True))
    in_order = results_in_order(result)
    nothing_found = tuple(r for r in in_order if r.verdict is Verdict.NOTHING_FOUND)
    could_not_judge = tuple(r for r in in_order if r.verdict is Verdict.COULD_NOT_JUDGE)
    files = files_in_order(result.coverage)
    totals = _totals(files)
    return Document(
        open_by_severity=severities,
        open_count=len(open_ones),
        inconclusive_count=len(findings) - len(open_ones),
        nothing_found=nothing_found,
        could_not_judge=could_not_judge,
        check_count=len(in_order),
        verdict=_verdict(severities, len(findings) - len(open_ones), nothing_found, could_not_judge),
        reservation=_reservation(result.coverage, files),
        first_things=_first_things(open_ones or findings, checks_of_findings(result)),
        groups=_groups(findings, checks_of_findings(result)),
        chart=chart_of(result),
        weeks=_weeks(result),
        totals=totals,
        unexplained_count=result.coverage.event_count - totals.kept_in_period,
        skipped=tuple(f for f in files if f.status == "skipped"),
        not_adding_up=tuple(f for f in files if not f.adds_up),
        other_files=tuple(f for f in files if f.adds_up and f.status != "skipped"),
        parameters=tuple(
            (r.check.id, name, value) for r in in_order for name, value in sorted(r.check.parameters.items())
        ),
    )


def samples_shown(finding: Finding) -> list[SampleEvent]:
    return samples_in_order(finding)[:SAMPLE_EVENTS]


def _verdict(
    severities: Iterable[tuple[Severity, int]],
    inconclusive_count: int,
    nothing_found: tuple[CheckResult, ...],
    could_not_judge: tuple[CheckResult, ...],
) -> str:
    parts = [f"{number(n)} {severity}" for severity, n in severities if n]
    open_count = sum(n for _, n in severities)
    words = count(open_count, "open finding") + (f" ({', '.join(parts)})" if parts else "")
    return (
        f"{words}, {number(inconclusive_count)} inconclusive; "
        f"{count(len(nothing_found), 'check')} found nothing, {number(len(could_not_judge))} could not judge."
    )


def _reservation(coverage: Coverage, files: list[DeliveredFile]) -> str | None:
    """Unknown is never clean, so the verdict is not printed without what the log lacks."""
    lacks = []
    if coverage.partial_because is not None:
        lacks.append("the log does not span the whole period")
    if coverage.event_count == 0:
        lacks.append("the log holds no events in it")
    if coverage.gaps:
        lacks.append(f"there {'is' if len(coverage.gaps) == 1 else 'are'} {count(len(coverage.gaps), 'gap')}")
    skipped = sum(file.status == "skipped" for file in files)
    if skipped:
        lacks.append(f"{count(skipped, 'file')} {'was' if skipped == 1 else 'were'} skipped")
    wrong = sum(not file.adds_up for file in files)
    if wrong:
        lacks.append(f"{count(wrong, 'file')} {'does' if wrong == 1 else 'do'} not add up")
    return f"Read this with a reservation: {', '.join(lacks)}." if lacks else None


def _first_things(findings: Iterable[Finding], checks: dict[str, Check]) -> tuple[FirstThing, ...]:
    """One per check: three findings of the same check would be the same advice three times."""
    of_check: dict[str, list[Finding]] = {}
    for finding in findings:
        of_check.setdefault(finding.check_id, []).append(finding)
    return tuple(
        FirstThing(found[0], checks[check_id], len(found) - 1)
        for check_id, found in list(of_check.items())[:FIRST_THINGS]
    )


def _groups(findings: Iterable[Finding], checks: dict[str, Check]) -> tuple[FindingGroup, ...]:
    groups = []
    shown_of_check: Counter[str] = Counter()
    for (state, severity, check_id), run in groupby(findings, lambda f: (f.state, f.severity, f.check_id)):
        members = tuple(run)
        shown = members[: FINDINGS_PER_CHECK - shown_of_check[check_id]]
        shown_of_check[check_id] += len(shown)
        groups.append(FindingGroup(checks[check_id], state, severity, len(members), shown))
    return tuple(groups)


def _weeks(result: AuditResult) -> tuple[Week, ...]:
    weeks: dict[date, Counter[str]] = {}
    for each in result.daily:
        day = date.fromisoformat(each.day)
        sums = weeks.setdefault(day - timedelta(days=day.weekday()), Counter())
        sums["calls"] += each.calls
        sums["unauthorized"] += each.unauthorized
        sums["forbidden"] += each.forbidden
        sums["denials"] += each.denials
    return tuple(
        Week(monday.isoformat(), sums["calls"], sums["unauthorized"], sums["forbidden"], sums["denials"])
        for monday, sums in sorted(weeks.items())
    )


def _totals(files: Iterable[DeliveredFile]) -> Totals:
    sums: Counter[str] = Counter()
    for file in files:
        sums["read"] += file.read_count
        sums["kept"] += file.kept_count
        sums["rejected"] += file.rejected_count
        sums["duplicate"] += file.duplicate_count
        sums["other_resource"] += file.other_resource_count
        sums["kept_in_period"] += file.kept_in_period_count
    return Totals(
        sums["read"],
        sums["kept"],
        sums["rejected"],
        sums["duplicate"],
        sums["other_resource"],
        sums["kept_in_period"],
    )
