"""Checks over a store → one result that every report form is made of."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

import duckdb
import polars as pl

from audit_kit import __version__
from audit_kit.catalog import checks_hash, refine_function, set_statement
from audit_kit.errors import CheckError, SettingsError
from audit_kit.model import (
    AuditResult,
    Check,
    CheckResult,
    Coverage,
    DailyCount,
    DeliveredFile,
    Finding,
    Gap,
    Period,
    SampleEvent,
    Severity,
    State,
    finding_id,
)
from audit_kit.settings import Settings
from audit_kit.store import Store

_SAMPLE_SIZE = 5
_NEEDED_COLUMNS = ("entity", "reason", "events_sql")
# Columns with a meaning of their own; every other column is a number or fact to show with the finding.
_OWN_COLUMNS = frozenset(
    (
        *_NEEDED_COLUMNS,
        "severity",
        "inconclusive_because",
        "occurrence_key",
        "first_at",
        "last_at",
        "event_count",
        "event_uids",
    )
)


def newest_event_at(store: Store) -> datetime | None:
    """Instant (UTC) of the newest event, or None in an empty store."""
    newest = store.scalar("SELECT max(occurred_at) FROM events")
    return newest.astimezone(UTC) if newest is not None else None


def audit(
    store: Store, checks: Sequence[Check], period: Period, settings: Settings, only: Collection[str] = ()
) -> AuditResult:
    """Runs the checks (those of `only`, where it names some) for the period.

    Raises CheckError where a check breaks its contract, SettingsError where the settings name a check or parameter
    that does not exist.
    """
    _require_known_parameters(checks, settings)
    checks = [check for check in checks if not only or check.id in only]
    _set_period(store, period)
    evidence = {row["need"]: row for row in store.query("SELECT * FROM evidence").iter_rows(named=True)}
    results = tuple(
        _run(store, check, period, settings.check_parameters.get(check.id, {}), evidence) for check in checks
    )
    coverage = _coverage(store, period)
    ends = [period.ends_at, *([coverage.last_event_at] if coverage.last_event_at else [])]
    info = dict(store.query("SELECT name, value FROM store_info").iter_rows())
    return AuditResult(
        period=period,
        as_of=min(ends),
        organisation=settings.organisation,
        zones=_zones(store, settings),
        resources=tuple(r.id for r in settings.resources),
        tool_version=__version__,
        checks_hash=checks_hash(checks),
        settings_hash=settings.fingerprint,
        mapping_hash=info.get("mapping_hash", ""),
        population=_population(store),
        coverage=coverage,
        daily=_daily(store, period),
        results=results,
    )


# ── one check ───────────────────────────────────────────────────────────────────────────────────────────────


def _run(
    store: Store,
    check: Check,
    period: Period,
    overrides: Mapping[str, Any],
    evidence: Mapping[str, Mapping[str, Any]],
) -> CheckResult:
    for need in check.needs:
        if need not in evidence:
            raise CheckError(f"{check.path}: it needs {need!r}, which the view evidence does not know")
        if evidence[need]["row_count"] == 0:
            return CheckResult(check, could_not_judge=evidence[need]["absent_because"])
    for name, value in {**check.parameters, **overrides}.items():
        store.execute(set_statement(name, value))
    try:
        rows = store.query(check.select)
    except duckdb.Error as error:
        raise CheckError(f"{check.path}: {str(error).splitlines()[0]}") from None
    finally:
        for name in check.parameters:
            store.execute(f"RESET VARIABLE {name}")
    if check.rows == "series":
        rows = refine_function(check)(rows)
    missing = [c for c in _NEEDED_COLUMNS if c not in rows.columns]
    if missing:
        raise CheckError(f"{check.path}: its rows have no column {', '.join(missing)}")
    for name in _NEEDED_COLUMNS:
        if rows[name].null_count():
            raise CheckError(f"{check.path}: a row of it has no {name}")
    uids = [row.get("event_uids") for row in rows.iter_rows(named=True)]
    samples = _sample_events(store, {uid for listed in uids for uid in listed or ()})
    findings = [_finding(store, check, period, row, samples) for row in rows.iter_rows(named=True)]
    seen = {f.occurrence_id for f in findings}
    if len(seen) < len(findings):
        raise CheckError(f"{check.path}: two of its rows have the same entity (and occurrence_key)")
    return CheckResult(check, tuple(sorted(findings, key=lambda f: (f.entity, f.occurrence_id))))


def _finding(
    store: Store, check: Check, period: Period, row: Mapping[str, Any], samples: Mapping[str, SampleEvent]
) -> Finding:
    because = row.get("inconclusive_because")
    uids = row.get("event_uids")
    if uids is None:
        listed = store.query(
            f"SELECT event_uid FROM ({row['events_sql']}) ORDER BY occurred_at, event_uid LIMIT {_SAMPLE_SIZE}"
        )["event_uid"].to_list()
        samples = _sample_events(store, set(listed))
        uids = listed
    bounds = f"{period.starts_at.isoformat()}\x1f{period.ends_at.isoformat()}"
    occurrence = f"{row['entity']}\x1f{bounds}\x1f{row.get('occurrence_key') or ''}"
    try:
        severity = Severity.parse(row["severity"]) if row.get("severity") else check.severity
    except ValueError as error:
        raise CheckError(f"{check.path}: the row of {row['entity']}: {error}") from None
    return Finding(
        id=finding_id(check.id, row["entity"]),
        occurrence_id=sha256(f"{check.id}\x1f{occurrence}".encode("utf-8", "surrogatepass")).hexdigest()[:12],
        check_id=check.id,
        entity=row["entity"],
        state=State.OPEN if because is None else State.INCONCLUSIVE,
        severity=min(severity, check.severity),
        reason=row["reason"],
        inconclusive_because=because,
        details={name: _plain(value) for name, value in row.items() if name not in _OWN_COLUMNS and value is not None},
        first_at=_utc(row.get("first_at")),
        last_at=_utc(row.get("last_at")),
        event_count=int(row.get("event_count") or 0),
        events_sql=row["events_sql"],
        sample_events=tuple(samples[uid] for uid in uids if uid in samples),
    )


def _sample_events(store: Store, uids: set[str]) -> dict[str, SampleEvent]:
    if not uids:
        return {}
    rows = store.query(
        "SELECT event_uid, occurred_at, kind, http_method, http_path, http_status, decision, outcome, user_id, "
        "application_id, policy_names, granted_scopes, source_file, source_row FROM events "
        "WHERE list_contains($uids, event_uid) "
        "QUALIFY row_number() OVER (PARTITION BY event_uid ORDER BY source, source_file, source_row) = 1",
        {"uids": sorted(uids)},
    )
    return {
        row["event_uid"]: SampleEvent(
            row["event_uid"],
            row["occurred_at"].astimezone(UTC),
            _summary(row),
            row["source_file"],
            row["source_row"],
        )
        for row in rows.iter_rows(named=True)
    }


def _summary(row: Mapping[str, Any]) -> str:
    """An event in a few words: what, how it ended, who through what."""
    what = row["kind"].replace("_", " ")
    if row["kind"] == "api_call":
        what = f"{row['http_method'] or '?'} {row['http_path'] or '?'} → {row['http_status'] or row['outcome']}"
    elif row["decision"] == "denied":
        what += " denied by " + (", ".join(row["policy_names"] or []) or "default deny")
    elif row["kind"] in ("consent", "revocation"):
        what += " of " + " ".join(row["granted_scopes"] or ["?"])
    who = " through ".join(part for part in (row["user_id"], row["application_id"]) if part)
    return f"{what}, {who}" if who else what


# ── the frame of the result ─────────────────────────────────────────────────────────────────────────────────

_IN_PERIOD = "occurred_at >= starts_at AND occurred_at < ends_at"


def _set_period(store: Store, period: Period) -> None:
    for name, instant in (("period_starts_at", period.starts_at), ("period_ends_at", period.ends_at)):
        store.execute(f"SET VARIABLE {name} = TIMESTAMPTZ '{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00'")


def _coverage(store: Store, period: Period) -> Coverage:
    bounds = store.query("SELECT min(occurred_at) AS first, max(occurred_at) AS last FROM events").row(0, named=True)
    first, last = _utc(bounds["first"]), _utc(bounds["last"])
    calls = store.query(
        "SELECT count(*) AS calls, count(*) FILTER (operation IS NULL AND resource_id = "
        "(SELECT value FROM store_info WHERE name = 'catalog_resource')) AS unmatched "
        f"FROM events, period WHERE kind = 'api_call' AND {_IN_PERIOD}"
    ).row(0, named=True)
    files = store.query(
        "SELECT f.source, f.source_file, f.status, f.reason, f.sha256, f.bytes, f.read_count, f.kept_count, "
        "f.rejected_count, f.duplicate_count, f.other_resource_count, f.first_event_at, f.last_event_at, "
        "coalesce(e.event_count, 0) AS in_period FROM ingested_files f LEFT JOIN ("
        "SELECT source, source_file, batch_id, count(*) AS event_count FROM events, period "
        f"WHERE {_IN_PERIOD} GROUP BY ALL"
        ") e ON f.source = e.source AND f.source_file = e.source_file AND f.batch_id = e.batch_id "
        "ORDER BY f.source, f.source_file, f.sha256"
    )
    gaps = store.query(
        "SELECT g.starts_at, g.ends_at, expected_event_count FROM log_gaps g, period p "
        "WHERE g.ends_at > p.starts_at AND g.starts_at < p.ends_at ORDER BY g.starts_at"
    )
    return Coverage(
        first_event_at=first,
        last_event_at=last,
        event_count=store.scalar(f"SELECT count(*) FROM events, period WHERE {_IN_PERIOD}"),
        partial_because=_partial_because(period, first, last),
        files=tuple(_delivered_file(row) for row in files.iter_rows()),
        gaps=tuple(Gap(s.astimezone(UTC), e.astimezone(UTC), round(float(n), 1)) for s, e, n in gaps.iter_rows()),
        other_resources=_counts(store, "SELECT resource, sum(event_count)::BIGINT FROM other_resources GROUP BY 1"),
        rejected=_counts(store, "SELECT reason, count(*) FROM rejected_events GROUP BY 1"),
        unmatched_call_count=calls["unmatched"],
        call_count=calls["calls"],
    )


def _delivered_file(row: tuple[Any, ...]) -> DeliveredFile:
    *head, first, last, in_period = row
    return DeliveredFile(*head, _utc(first), _utc(last), in_period)  # type: ignore[call-arg]  # 11 columns, in order


def _partial_because(period: Period, first: datetime | None, last: datetime | None) -> str | None:
    """Set where the log leaves out more than a day of the period at either end."""
    if first is None or last is None:
        return "the log is empty"
    said = []
    if first > period.starts_at + timedelta(days=1):
        said.append(f"the log begins only at {first:%Y-%m-%d %H:%M} UTC")
    if last < period.ends_at - timedelta(days=1):
        said.append(f"the log ends already at {last:%Y-%m-%d %H:%M} UTC")
    return " and ".join(said) or None


def _zones(store: Store, settings: Settings) -> tuple[str, ...]:
    """The zones that the events name, else the one of the settings."""
    named = store.query(f"SELECT DISTINCT zone_id FROM events, period WHERE zone_id IS NOT NULL AND {_IN_PERIOD}")
    return tuple(sorted(named["zone_id"].to_list())) or ((settings.zone,) if settings.zone else ())


def _population(store: Store) -> dict[str, int]:
    row = store.query(
        "SELECT count(*) AS events, count(*) FILTER (kind = 'api_call') AS api_calls, "
        "count(*) FILTER (kind = 'credential_issue') AS credential_issues, count(DISTINCT user_id) AS users, "
        "count(DISTINCT application_id) AS applications, count(DISTINCT resource_id) AS resources "
        f"FROM events, period WHERE {_IN_PERIOD}"
    ).row(0, named=True)
    grants = store.scalar("SELECT count(*) FROM (SELECT DISTINCT user_id, resource_id FROM grants)")
    return {**row, "grants": grants}


def _daily(store: Store, period: Period) -> tuple[DailyCount, ...]:
    counted = store.query(
        "SELECT CAST(occurred_at AT TIME ZONE 'UTC' AS DATE) AS day, count(*) FILTER (kind = 'api_call') AS calls, "
        "count(*) FILTER (kind = 'api_call' AND http_status = 401) AS unauthorized, "
        "count(*) FILTER (kind = 'api_call' AND http_status = 403) AS forbidden, "
        "count(*) FILTER (decision = 'denied' AND (kind <> 'api_call' OR len(policy_names) > 0)) AS denials "
        f"FROM events, period WHERE {_IN_PERIOD} GROUP BY 1 ORDER BY 1"
    )
    if counted.is_empty():
        return ()
    days = {row["day"]: row for row in counted.iter_rows(named=True)}
    first, last = (
        period.starts_at.astimezone(UTC).date(),
        (period.ends_at - timedelta(microseconds=1)).astimezone(UTC).date(),
    )
    # The chart begins and ends with the log where that is shorter: a year of nothing is not a picture.
    first, last = max(first, min(days)), min(last, max(days))
    every: list[date] = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    nothing = {"calls": 0, "unauthorized": 0, "forbidden": 0, "denials": 0}
    return tuple(
        DailyCount(day.isoformat(), **{k: v for k, v in days.get(day, nothing).items() if k != "day"}) for day in every
    )


def _require_known_parameters(checks: Iterable[Check], settings: Settings) -> None:
    known = {check.id: check for check in checks}
    where = settings.path or "audit-kit.toml"
    for check_id, values in settings.check_parameters.items():
        if check_id not in known:
            raise SettingsError(
                f"{where}: [checks.{check_id}]: there is no such check; `audit-kit checks list` shows all"
            )
        for name, value in values.items():
            own = known[check_id].parameters
            if name not in own:
                raise SettingsError(
                    f"{where}: [checks.{check_id}] {name}: no such parameter; it has {', '.join(own) or 'none'}"
                )
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            wants_number = isinstance(own[name], (int, float)) and not isinstance(own[name], bool)
            if is_number != wants_number or (not is_number and type(value) is not type(own[name])):
                raise SettingsError(
                    f"{where}: [checks.{check_id}] {name}: its default is {own[name]!r}; give that kind of value"
                )


def _counts(store: Store, sql: str) -> tuple[tuple[str, int], ...]:
    rows = store.query(sql).rows()
    return tuple(sorted(((str(name), int(n)) for name, n in rows), key=lambda item: (-item[1], item[0])))


def _utc(instant: datetime | None) -> datetime | None:
    return None if instant is None else instant.astimezone(UTC)


def _plain(value: Any) -> Any:
    """A cell as JSON knows it."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, pl.Series):
        return [_plain(item) for item in value.to_list()]
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Decimal):  # what Polars makes of a HUGEINT, and DuckDB of a sum of integers
        value = float(value) if value % 1 else int(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    return value if isinstance(value, (str, int, bool)) or value is None else str(value)
