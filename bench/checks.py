"""All checks against one full scan of `events` (a hash of every column), in one run.

python -m bench.checks [EVENTS]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from audit_kit.audit import audit, newest_event_at
from audit_kit.catalog import load_checks
from audit_kit.collect import collect
from audit_kit.period import resolve_period
from audit_kit.sample import DemoOptions, write_demo
from audit_kit.settings import Settings, Source
from audit_kit.store import Store, open_store

_ROUNDS = 3


def scan(store: Store) -> float:
    start = time.perf_counter()
    store.query("SELECT bit_xor(hash(e)) FROM events e")
    return time.perf_counter() - start


def main() -> None:
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    checks = load_checks()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made = write_demo(folder, DemoOptions(events=events))
        settings = replace(Settings(), store=folder / "audit.duckdb")
        collect(settings, [Source("bench", (str(made.deliveries),))])
        scans: list[float] = []
        taken: dict[str, list[float]] = {check.id: [] for check in checks}
        taken["all of them, with coverage"] = []
        with open_store(settings.store) as store:
            period = resolve_period(period=None, starts=None, ends=None, newest=newest_event_at(store))
            scan(store)  # warm
            for _ in range(_ROUNDS):
                scans.append(scan(store))
                for only in (*([c.id] for c in checks), []):
                    start = time.perf_counter()
                    audit(store, checks, period, settings, only=only)
                    taken[only[0] if only else "all of them, with coverage"].append(time.perf_counter() - start)
            count = store.scalar("SELECT count(*) FROM events")
    unit = statistics.median(scans)
    print(f"{count:,} events; one full scan takes {unit:.3f} s; medians of {_ROUNDS} runs")
    print(f"{'check (each with its frame: coverage, population, days)':56} {'seconds':>8} {'scans':>7}")
    for name, times in taken.items():
        print(f"{name:56} {statistics.median(times):8.3f} {statistics.median(times) / unit:7.1f}")


if __name__ == "__main__":
    main()
