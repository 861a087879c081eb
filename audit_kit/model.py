"""The nouns of audit-kit as frozen values. Nothing here reads, writes or decides.

All instants are timezone-aware UTC; a period is half-open, `[starts_at, ends_at)`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any


class Severity(IntEnum):
    """How much a finding matters, lowest first; compare with `<` and `>=`."""

    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4

    @classmethod
    def parse(cls, text: str) -> Severity:
        """`Severity.parse("high")`; ValueError for anything that is not one of the four words."""
        try:
            return cls[text.upper()]
        except KeyError:
            raise ValueError(f"{text!r} is not a severity; use low, medium, high or critical") from None

    def __str__(self) -> str:
        return self.name.lower()


class State(StrEnum):
    """A finding is `open`, or `inconclusive` where the log does not allow a verdict."""

    OPEN = "open"
    INCONCLUSIVE = "inconclusive"


class Verdict(StrEnum):
    """What a whole check came to."""

    FOUND = "found"
    NOTHING_FOUND = "nothing found"
    COULD_NOT_JUDGE = "could not judge"


@dataclass(frozen=True, slots=True)
class Period:
    """`[starts_at, ends_at)` in UTC, with the words it was asked for by (`2026-Q3`, `90d`, …)."""

    starts_at: datetime
    ends_at: datetime
    label: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One `queries/checks/<id>.sql` (and its `<id>.py`, where `rows` is `series`), read and validated."""

    id: str
    title: str
    severity: Severity  # the ceiling: no finding of this check is above it
    needs: tuple[str, ...]
    controls: tuple[str, ...]
    risk: str
    remediation: str
    rows: str  # "findings" or "series"
    parameters: Mapping[str, Any]
    select: str  # the SELECT alone
    text: str  # the whole file, as it runs in a DuckDB shell
    path: Path
    refine_path: Path | None = None


@dataclass(frozen=True, slots=True)
class SampleEvent:
    """An event named as evidence, with the place it was read from."""

    event_uid: str
    occurred_at: datetime
    summary: str
    source_file: str
    source_row: int


def finding_id(check_id: str, entity: str) -> str:
    """Stable across periods and stores: 12 hex digits of SHA-256 over check and entity."""
    return hashlib.sha256(f"{check_id}\x1f{entity}".encode("utf-8", "surrogatepass")).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of a check's answer.

    `id` names check and entity for good; `occurrence_id` adds the period (and, where one entity can have
    several in a period, the start of this one), so it is what links and anchors use.
    """

    id: str
    occurrence_id: str
    check_id: str
    entity: str
    state: State
    severity: Severity
    reason: str
    inconclusive_because: str | None
    details: Mapping[str, Any]  # the numbers behind it, JSON scalars and lists, in the check's order
    first_at: datetime | None
    last_at: datetime | None
    event_count: int
    events_sql: str  # lists every event behind the finding in any DuckDB shell
    sample_events: tuple[SampleEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A check with its findings, or with the reason why it could not judge."""

    check: Check
    findings: tuple[Finding, ...] = ()
    could_not_judge: str | None = None

    @property
    def verdict(self) -> Verdict:
        if self.could_not_judge is not None:
            return Verdict.COULD_NOT_JUDGE
        return Verdict.FOUND if self.findings else Verdict.NOTHING_FOUND


@dataclass(frozen=True, slots=True)
class DeliveredFile:
    """A row of the ledger: `read = kept + rejected + duplicate + other_resource`, always."""

    source: str
    name: str
    status: str  # "collected" or "skipped"
    reason: str | None
    sha256: str
    bytes: int
    read_count: int
    kept_count: int
    rejected_count: int
    duplicate_count: int
    other_resource_count: int
    first_event_at: datetime | None
    last_event_at: datetime | None
    kept_in_period_count: int = 0

    @property
    def adds_up(self) -> bool:
        return self.read_count == (
            self.kept_count + self.rejected_count + self.duplicate_count + self.other_resource_count
        )


@dataclass(frozen=True, slots=True)
class Gap:
    """Silent hours in which events were to be expected, `[starts_at, ends_at)`."""

    starts_at: datetime
    ends_at: datetime
    expected_event_count: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the log is known to hold for the period, and what it is known to lack."""

    first_event_at: datetime | None
    last_event_at: datetime | None
    event_count: int  # in the period
    partial_because: str | None  # set when the log does not span the whole period
    files: tuple[DeliveredFile, ...]
    gaps: tuple[Gap, ...]
    other_resources: tuple[tuple[str, int], ...]  # left out, by the name they gave
    rejected: tuple[tuple[str, int], ...]  # rejected events by reason
    unmatched_call_count: int  # API calls in the period that match no operation of the catalogue
    call_count: int


@dataclass(frozen=True, slots=True)
class DailyCount:
    """One UTC day of the chart."""

    day: str  # YYYY-MM-DD
    calls: int
    unauthorized: int  # 401
    forbidden: int  # 403
    denials: int  # policy said no


@dataclass(frozen=True, slots=True)
class AuditResult:
    """Everything a report needs; each report form is a function of this value alone."""

    period: Period
    as_of: datetime
    organisation: str
    zones: tuple[str, ...]
    resources: tuple[str, ...]
    tool_version: str
    checks_hash: str
    settings_hash: str
    mapping_hash: str
    population: Mapping[str, int]  # e.g. {"users": 60, "applications": 12, ...} in the period
    coverage: Coverage
    daily: tuple[DailyCount, ...]
    results: tuple[CheckResult, ...] = field(default=())

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, gravest first, then by check and entity: the order every output uses."""
        found = [f for result in self.results for f in result.findings]
        return tuple(sorted(found, key=_gravest_first))


def _gravest_first(finding: Finding) -> tuple[bool, int, str, str, str]:
    is_inconclusive = finding.state is State.INCONCLUSIVE
    return (is_inconclusive, -finding.severity, finding.check_id, finding.entity, finding.occurrence_id)
