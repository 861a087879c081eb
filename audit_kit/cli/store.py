"""`audit-kit store`."""

from __future__ import annotations

from pathlib import Path

import click

from audit_kit.cli.options import settings_from, settings_options

_QUESTIONS = (
    "SELECT kind, count(*) AS events, min(occurred_at) AS first_at, max(occurred_at) AS last_at "
    "FROM events GROUP BY kind ORDER BY kind",
    "SELECT status, count(*) AS files, sum(read_count)::BIGINT AS read, sum(kept_count)::BIGINT AS kept, "
    "sum(rejected_count)::BIGINT AS rejected, sum(duplicate_count)::BIGINT AS duplicate, "
    "sum(other_resource_count)::BIGINT AS other_resource FROM ingested_files GROUP BY status ORDER BY status",
    "SELECT source_file AS skipped_file, reason FROM ingested_files WHERE status = 'skipped' "
    "ORDER BY source_file LIMIT 20",
    "SELECT reason AS rejected_because, count(*) AS events FROM rejected_events GROUP BY reason "
    "ORDER BY events DESC, reason LIMIT 20",
    "SELECT resource AS other_resource, sum(event_count)::BIGINT AS events FROM other_resources GROUP BY resource "
    "ORDER BY events DESC, resource LIMIT 20",
)


@click.group()
def store() -> None:
    """Look after the store.

    \b
    Example:  audit-kit store info
    """


@store.command()
@settings_options
def info(config: Path | None, store: Path | None) -> None:
    """What the store holds: events by kind, files, what was left out and why.

    \b
    Example:  audit-kit store info --store demo/audit.duckdb
    """
    from audit_kit.cli.output import frame_text, show
    from audit_kit.store import deliveries_folder, open_store

    path = settings_from(config, store).store
    with open_store(path) as opened:
        click.echo(f"{path}: {path.stat().st_size:,} bytes; deliveries as they came below {deliveries_folder(path)}")
        for name, value in opened.query("SELECT name, value FROM store_info ORDER BY name").iter_rows():
            click.echo(f"{name}: {value}")
        for query in _QUESTIONS:
            frame = opened.query(query)
            if not frame.is_empty():
                show(frame_text(frame, "table"))
