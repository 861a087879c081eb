"""Collect against the plain `CREATE TABLE AS` of the same flat columns from the same files, in one run.

    python -m bench.collect [EVENTS]

The peer is what one would write by hand for files of one known schema: no deduplication, no ledger, no rejected
events, no copies of the deliveries, no tolerance. The ratio is its time over ours: 1.0 would be no overhead.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import duckdb

from audit_kit.collect import collect
from audit_kit.sample import DemoOptions, write_demo
from audit_kit.settings import Settings, Source

_ROUNDS = 3
# The flat columns as a person who knows the demo's schema would select them.
_BY_HAND = """
    metadata.uid AS event_uid, make_timestamp(time * 1000)::TIMESTAMPTZ AS occurred_at,
    make_timestamp(metadata.logged_time * 1000)::TIMESTAMPTZ AS logged_at, metadata.event_code AS event_name,
    class_uid, activity_id, status_id, status_code, status_detail, action_id,
    list_transform(actor.authorizations, lambda a: a.policy.name) AS policy_names, policy.uid AS policy_set_id,
    coalesce("user".uid, actor."user".uid) AS user_id,
    coalesce("user".email_addr, actor."user".email_addr) AS user_email,
    actor.app_uid AS application_id, actor.app_name AS application_name, resources[1].uid AS resource_id,
    resources[1].name AS resource_name, string_split(api.request.data.scope, ' ') AS requested_scopes,
    string_split(api.response.data.scope, ' ') AS granted_scopes, http_request.http_method AS http_method,
    http_request.url.path AS http_path, http_response.code AS http_status, api.request.data.grant_type AS grant_type,
    session.uid AS session_id, metadata.correlation_uid AS correlation_id, src_endpoint.ip AS source_ip,
    http_request.user_agent AS user_agent, metadata.tenant_uid AS zone_id, message, entity.uid AS entity_id
"""


def by_hand(files: list[Path], database: Path) -> float:
    connection = duckdb.connect(str(database))
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET preserve_insertion_order = false")
    listed = ", ".join(f"'{f}'" for f in files)
    start = time.perf_counter()
    connection.execute(f"CREATE TABLE events AS SELECT {_BY_HAND} FROM read_parquet([{listed}])")
    connection.execute("CHECKPOINT")
    taken = time.perf_counter() - start
    connection.close()
    return taken


def ours(files: list[Path], store: Path) -> float:
    settings = replace(Settings(), store=store)
    start = time.perf_counter()
    collect(settings, [Source("bench", tuple(map(str, files)))])
    return time.perf_counter() - start


def main() -> None:
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made = write_demo(folder, DemoOptions(events=events))
        # One schema for the peer: the deliveries in Parquet whose `unmapped` is a struct.
        files = [f for f in sorted(made.deliveries.glob("*.parquet")) if _has_struct(f)]
        times: dict[str, list[float]] = {"by hand": [], "collect": []}
        for number in range(_ROUNDS):
            times["by hand"].append(by_hand(files, folder / f"hand-{number}.duckdb"))
            times["collect"].append(ours(files, folder / f"ours-{number}.duckdb"))
        counted = duckdb.connect(str(folder / "ours-0.duckdb"), read_only=True)
        [(read,)] = counted.execute("SELECT sum(read_count)::BIGINT FROM ingested_files").fetchall()
    hand, kit = (statistics.median(times[name]) for name in ("by hand", "collect"))
    print(f"{read:,} Parquet events in {len(files)} files, medians of {_ROUNDS} runs, taken in turn")
    print(f"CREATE TABLE AS by hand: {hand:6.2f} s   audit-kit collect: {kit:6.2f} s   speed ratio {hand / kit:.2f}")


def _has_struct(path: Path) -> bool:
    relation = duckdb.sql("SELECT unmapped FROM read_parquet(?)", params=[str(path)])
    return relation is not None and bool(relation.types[0].id == "struct")


if __name__ == "__main__":
    main()
