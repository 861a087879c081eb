"""Sample data with a story and its truth: a seeded log of an imaginary company, as Keycard would deliver it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from audit_kit.sample.company import LINEAR
from audit_kit.sample.events import Event
from audit_kit.sample.story import DAYS, Story, as_json
from audit_kit.sample.write import DeliveryWriter, prepare_folder

__all__ = ["Demo", "DemoOptions", "write_demo"]


_SETTINGS = """\
# Settings of the demo; `audit-kit init` writes all that there are.
organisation = "Halyard Kites (imaginary)"
zone = "zone_halyard_01"
store = "audit.duckdb"

[[sources]]
name = "demo"
paths = ["deliveries"]
"""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """`events` is met within 3 % from 20,000 on; `hours_per_file` is the span of one delivery."""

    events: int = 120_000
    seed: int = 7
    issues_only: bool = False
    is_clean: bool = False
    hours_per_file: int = 6


@dataclass(frozen=True, slots=True)
class Demo:
    """What was written."""

    deliveries: Path
    truth: Path
    event_count: int
    file_count: int


def write_demo(out: Path, options: DemoOptions, progress: Callable[[int, int], None] | None = None) -> Demo:
    """Writes `out/deliveries/`, `out/truth.json` and `out/audit-kit.toml`, the same bytes for the same options.

    Deliveries of an earlier run are replaced; UsageError where the folder holds anything else.
    """
    deliveries = out / "deliveries"
    prepare_folder(deliveries)
    story = Story(options.events, options.seed, is_clean=options.is_clean, issues_only=options.issues_only)
    kinds: Counter[str] = Counter()
    others = 0
    writer = DeliveryWriter(deliveries, options.seed)
    try:
        pending: list[Event] = []
        slice_ends_at = story.starts_at
        for day in range(DAYS):
            pending += story.day(day)
            day_ends_at = story.starts_at + timedelta(days=day + 1)
            while slice_ends_at + timedelta(hours=options.hours_per_file) <= day_ends_at:
                slice_ends_at += timedelta(hours=options.hours_per_file)
                limit = round(slice_ends_at.timestamp() * 1000)
                done = [e for e in pending if e["time"] < limit]
                pending = pending[len(done) :]
                if done:
                    writer.write(done, slice_ends_at)
                kinds.update(e["unmapped"]["event"] for e in done)
                others += sum(e.get("resources", [{}])[0].get("uid") == LINEAR for e in done)
            if progress:
                progress(day + 1, DAYS)
        if pending:
            writer.write(pending, day_ends_at)
            kinds.update(e["unmapped"]["event"] for e in pending)
            others += sum(e.get("resources", [{}])[0].get("uid") == LINEAR for e in pending)
    finally:
        writer.close()
    truth = out / "truth.json"
    total = kinds.total()
    document = {
        "options": {
            "events": options.events,
            "seed": options.seed,
            "issues_only": options.issues_only,
            "is_clean": options.is_clean,
        },
        "from": story.starts_at.isoformat().replace("+00:00", "Z"),
        "to": story.ends_at.isoformat().replace("+00:00", "Z"),
        "event_count": total,
        "counts_by_kind": dict(sorted(kinds.items())),
        "in_scope_event_count": total - others,
        "other_resource_event_count": others,
        "planted": [as_json(p) for p in story.planted()],
    }
    (out / "audit-kit.toml").write_text(_SETTINGS, encoding="utf-8")
    truth.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return Demo(deliveries, truth, total, writer.count)
