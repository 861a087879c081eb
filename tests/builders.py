"""Canonical events for tests: each call states the difference, all else is usual.

Rows are inserted BY NAME into the real schema, so a typo in a column fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl

from audit_kit.audit import audit
from audit_kit.catalog import load_checks
from audit_kit.model import AuditResult, CheckResult, Finding, Period
from audit_kit.settings import Settings
from audit_kit.store import Store, open_store, scratch_connection, write_catalog, write_info, writing

ATTIO = "https://api.attio.com"
# A log of 120 days that ends on a Tuesday midnight; the default period is its newest 90 days.
LOG_STARTS = datetime(2026, 6, 1, tzinfo=UTC)  # a Monday
LOG_ENDS = datetime(2026, 9, 29, tzinfo=UTC)
PERIOD_STARTS = LOG_ENDS - timedelta(days=90)  # 2026-07-01
PERIOD = Period(PERIOD_STARTS, LOG_ENDS, "test")

_numbers = count(1)
Event = dict[str, Any]


def at(text: str) -> datetime:
    """`at("2026-07-01 08:00")`, UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def event(occurred_at: datetime | str, kind: str = "other", **different: Any) -> Event:
    number = next(_numbers)
    return {
        "event_uid": f"event-{number:06}",
        "occurred_at": at(occurred_at) if isinstance(occurred_at, str) else occurred_at,
        "kind": kind,
        "outcome": "success",
        "policy_names": [],
        "user_id": "ada",
        "application_id": "crm-agent",
        "application_name": "CRM Agent",
        "resource_id": ATTIO,
        "zone_id": "zone-1",
        "source": "test",
        "source_file": "test.jsonl",
        "source_row": number,
        "batch_id": 1,
        **different,
    }


def api_call(
    occurred_at: datetime | str, operation: str | None = "GET /v2/objects", status: int = 200, **different: Any
) -> Event:
    """A call of a catalogue operation; `operation=None` is a path that the catalogue does not know."""
    method, path = (operation or "GET /v2/unknown").split(" ", 1)
    outcome = "success" if status < 400 else "failure"
    usual = {
        "http_method": method,
        "http_path": path,
        "http_status": status,
        "operation": operation,
        "outcome": outcome,
    }
    return event(occurred_at, "api_call", **{**usual, **different})


def issue(occurred_at: datetime | str, scopes: str | None = "object_configuration:read", **different: Any) -> Event:
    """An allowed credential issue for scopes separated by blanks; None names no scopes."""
    listed = sorted(scopes.split()) if scopes is not None else None
    usual = {
        "requested_scopes": listed,
        "granted_scopes": listed,
        "decision": "allowed",
        "policy_names": ["default-user-grants"],
    }
    return event(occurred_at, "credential_issue", **{**usual, **different})


def denial(occurred_at: datetime | str, policies: Iterable[str] = (), **different: Any) -> Event:
    """A credential issue refused by the policies; none of them is a default deny."""
    usual = {"decision": "denied", "outcome": "failure", "policy_names": sorted(policies), "granted_scopes": None}
    return issue(occurred_at, **{**usual, **different})


def consent(occurred_at: datetime | str, scopes: str, **different: Any) -> Event:
    return event(
        occurred_at, "consent", **{"granted_scopes": sorted(scopes.split()), "decision": "allowed", **different}
    )


def revocation(occurred_at: datetime | str, scopes: str | None = None, **different: Any) -> Event:
    listed = sorted(scopes.split()) if scopes else None
    return event(occurred_at, "revocation", **{"granted_scopes": listed, "actor_user_id": "root", **different})


def log_bounds() -> list[Event]:
    """The first and the last event of the 120 days: they make the log as long as the usual one."""
    usual = {"user_id": "someone-else", "application_id": "elsewhere", "resource_id": None}
    return [event(LOG_STARTS, "sign_in", **usual), event(LOG_ENDS - timedelta(seconds=1), "sign_in", **usual)]


def daily(first: datetime, last: datetime, hour: int = 9) -> Iterator[datetime]:
    """Every day of [first, last) at the hour."""
    day = first.replace(hour=hour)
    while day < last:
        yield day
        day += timedelta(days=1)


@contextmanager
def store_of(folder: Path, events: Iterable[Event]) -> Iterator[Store]:
    """A real store that holds the events, opened for reading."""
    path = folder / "audit.duckdb"
    path.unlink(missing_ok=True)
    connection = scratch_connection()
    with writing(connection, path):
        write_catalog(connection, "attio")
        write_info(connection, mapping_hash="test", catalog_resource=ATTIO)
        rows = list(events)
        if rows:
            lines = folder / "events.jsonl"
            lines.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows), encoding="utf-8")
            columns = sorted({name for row in rows for name in row})
            typed = dict(
                connection.execute(
                    "SELECT column_name, data_type FROM duckdb_columns() "
                    "WHERE database_name = 'store' AND table_name = 'events'"
                ).fetchall()
            )
            shape = ", ".join(f"'{n}': '{typed[n]}'" for n in columns)
            connection.execute(f"INSERT INTO events BY NAME SELECT * FROM read_json('{lines}', columns = {{{shape}}})")
    connection.close()
    with open_store(path) as store:
        yield store


def run_checks(
    folder: Path, events: Iterable[Event], only: Iterable[str] = (), period: Period = PERIOD, **parameters: Any
) -> AuditResult:
    """Audits a store of these events; `parameters` override those of the one check in `only`."""
    only = tuple(only)
    settings = Settings(check_parameters={only[0]: parameters}) if parameters else Settings()
    with store_of(folder, events) as store:
        return audit(store, load_checks(), period, settings, only=only)


def run_check(
    folder: Path, check_id: str, events: Iterable[Event], period: Period = PERIOD, **parameters: Any
) -> CheckResult:
    (result,) = run_checks(folder, events, [check_id], period, **parameters).results
    return result


def events_of(folder: Path, finding: Finding) -> pl.DataFrame:
    """What the SQL that a finding carries lists, from the store that `run_check` left in the folder."""
    with open_store(folder / "audit.duckdb") as store:
        return store.query(finding.events_sql)
