"""One log that several tests ask: a store is built once a module, and each question is a run of one check."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from audit_kit.audit import audit
from audit_kit.catalog import CHECKS, load_check
from audit_kit.model import CheckResult, Finding, Period
from audit_kit.settings import Settings
from audit_kit.store import Store
from tests.builders import LOG_ENDS, LOG_STARTS, PERIOD, Event, daily, event, store_of


@dataclass(frozen=True)
class Log:
    store: Store

    def ask(self, check_id: str, period: Period = PERIOD, **parameters: Any) -> CheckResult:
        settings = Settings(check_parameters={check_id: parameters}) if parameters else Settings()
        (result,) = audit(self.store, [load_check(CHECKS / f"{check_id}.sql")], period, settings).results
        return result

    def events_of(self, finding: Finding) -> pl.DataFrame:
        return self.store.query(finding.events_sql)


@contextmanager
def log_of(folder: Path, events: Iterable[Event]) -> Iterator[Log]:
    with store_of(folder, events) as store:
        yield Log(store)


def ask_once(folder: Path, check_id: str, events: Iterable[Event], period: Period = PERIOD) -> CheckResult:
    with log_of(folder, events) as log:
        return log.ask(check_id, period)


def busy_hour(hour: int = 9, number: int = 10, without: Iterable[str] = ()) -> list[Event]:
    """`number` events of others in that hour of every day of the log, but for the days `without`."""
    others = {"user_id": "someone-else", "application_id": "elsewhere", "resource_id": None}
    silent = set(without)
    return [
        event(instant + timedelta(minutes=minute), "sign_in", **others)
        for instant in daily(LOG_STARTS, LOG_ENDS, hour)
        if f"{instant:%Y-%m-%d}" not in silent
        for minute in range(number)
    ]
