"""Source → store: reads what is new, keeps it as it came, and says what became of every row.

A file is known by source, name and content. What is new is copied into the deliveries folder, parsed outside the
store, and put into it in batches, one transaction each; so a run that is stopped at any moment leaves whole batches,
and the next one goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from audit_kit.errors import StoreError, StoreMissing, UnreadableDelivery
from audit_kit.mapping import EventMapping, load_mapping
from audit_kit.model import DeliveredFile
from audit_kit.reading import Reader, Staged
from audit_kit.settings import Settings, Source
from audit_kit.sources import PART, Listed, fetch_file, list_files
from audit_kit.store import (
    deliveries_folder,
    insert_rows,
    open_store,
    remove_leftovers,
    replacing,
    scratch_connection,
    settle_store,
    write_catalog,
    write_info,
    writing,
)

_BATCH_BYTES = 64 << 20
_BATCH_FILES = 500
_SPILL = ".audit-kit-"  # scratch space beside the store, by process
Progress = Callable[[int, int], None]  # files done, files in all


@dataclass(frozen=True, slots=True)
class Delivery:
    """A file that has been fetched: where it came from, and where it is kept."""

    source: str
    name: str
    format: str | None
    bytes: int
    modified_ns: int
    sha256: str
    kept: Path
    unreadable_because: str | None = None  # it could not even be fetched


@dataclass(frozen=True, slots=True)
class Collected:
    """What one run did; `files` are those looked at in this run, in the order of their names."""

    files: tuple[DeliveredFile, ...]
    known_count: int  # listed, and already in the ledger
    other_resources: tuple[tuple[str, int], ...]

    @property
    def kept_count(self) -> int:
        return sum(f.kept_count for f in self.files)

    @property
    def nothing_matched(self) -> bool:
        """Events were read and every one of them names another resource: the scope is probably wrong."""
        read = sum(f.read_count for f in self.files)
        return read > 0 and read == sum(f.other_resource_count for f in self.files)


def collect(settings: Settings, sources: Sequence[Source], progress: Progress | None = None) -> Collected:
    """Brings the store up to date with its sources.

    Raises UsageError for a source that is not there, StoreError or StoreBusy where the store cannot be written.
    Files that cannot be read are reported in the result and do not stop the run.
    """
    mapping = load_mapping(settings)
    # By name, whatever the order of the settings: of two copies of an event the first is kept, and remap must agree.
    listed = sorted(item for source in sources for item in list_files(source.name, source.paths))
    ledger = _Ledger.read(settings.store)
    new = [item for item in listed if not ledger.has_unchanged(item)]
    folder = deliveries_folder(settings.store)
    remove_leftovers(folder, PART)
    deliveries = (d for d in (_fetch(item, folder) for item in new) if not ledger.has_content(d))
    files, others = _ingest(settings, settings.store, mapping, deliveries, len(new), progress)
    return Collected(tuple(files), len(listed) - len(files), tuple(others))


def remap(settings: Settings, progress: Progress | None = None) -> Collected:
    """Derives the whole store again from the kept deliveries with today's mapping, scope and catalogue.

    The new store is made beside the old one and takes its place at the end, whole. Raises StoreError where a delivery
    is no longer kept or has changed.
    """
    mapping = load_mapping(settings)
    folder = deliveries_folder(settings.store)
    settle_store(settings.store)
    with open_store(settings.store) as store:  # held open to the end: nobody may add to what is about to be replaced
        rows = store.query(
            "SELECT source, source_file, bytes, modified_ns, sha256, delivery, reason FROM ingested_files "
            "ORDER BY source, source_file, ingested_at, sha256"
        ).rows()
        deliveries = [
            Delivery(source, name, Listed(source, name, folder, 0, 0).format, size, modified, sha256, folder / kept,
                     None if sha256 else reason)
            for source, name, size, modified, sha256, kept, reason in rows
        ]  # fmt: skip
        gone = [d.name for d in deliveries if d.sha256 and not d.kept.is_file()]
        if gone:
            raise StoreError(
                f"{folder}: {len(gone)} deliveries are no longer kept there (the first is {gone[0]}); "
                "without them the events cannot be derived again, so nothing was changed"
            )
        with replacing(settings.store) as fresh:
            unchanged = (_unchanged(delivery, folder) for delivery in deliveries)
            files, others = _ingest(settings, fresh, mapping, unchanged, len(deliveries), progress)
    return Collected(tuple(files), 0, tuple(others))


def _unchanged(delivery: Delivery, folder: Path) -> Delivery:
    if delivery.sha256:
        with delivery.kept.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != delivery.sha256:
            raise StoreError(
                f"{delivery.kept}: it is no longer the delivery {delivery.name} that was collected; "
                f"put the original back below {folder} and run this again. Nothing was changed"
            )
    return delivery


# ── what is new ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Ledger:
    """What the store has already seen."""

    unchanged: frozenset[tuple[str, str, int, int]]
    contents: frozenset[tuple[str, str, str]]

    @classmethod
    def read(cls, path: Path) -> _Ledger:
        try:
            with open_store(path) as store:
                rows = store.query("SELECT source, source_file, bytes, modified_ns, sha256 FROM ingested_files").rows()
        except StoreMissing:
            rows = []
        # A file that could not even be fetched has no hash, and is tried again every time.
        return cls(
            frozenset((source, name, size, modified) for source, name, size, modified, sha256 in rows if sha256),
            frozenset((source, name, sha256) for source, name, _, _, sha256 in rows if sha256),
        )

    def has_unchanged(self, item: Listed) -> bool:
        return (item.source, item.name, item.bytes, item.modified_ns) in self.unchanged

    def has_content(self, delivery: Delivery) -> bool:
        return (delivery.source, delivery.name, delivery.sha256) in self.contents


def _fetch(item: Listed, folder: Path) -> Delivery:
    try:
        sha256, kept = fetch_file(item, folder)
    except UnreadableDelivery as error:
        return Delivery(item.source, item.name, item.format, item.bytes, item.modified_ns, "", Path(), str(error))
    return Delivery(item.source, item.name, item.format, item.bytes, item.modified_ns, sha256, kept)


# ── into the store ──────────────────────────────────────────────────────────────────────────────────────────


def _ingest(
    settings: Settings,
    store: Path,
    mapping: EventMapping,
    deliveries: Iterator[Delivery],
    total: int,
    progress: Progress | None,
) -> tuple[list[DeliveredFile], list[tuple[str, int]]]:
    done: list[DeliveredFile] = []
    others: dict[str, int] = {}
    store.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(store.parent, _SPILL)
    with TemporaryDirectory(prefix=f"{_SPILL}{os.getpid()}-", dir=store.parent) as spill:
        connection = scratch_connection(Path(spill))
        try:
            reader = Reader(connection, mapping)
            wrote = False
            for batch in _batches(deliveries):
                staged = _stage(reader, batch)
                with writing(connection, store):
                    _write_once_a_run(connection, settings, mapping, wrote)
                    done += _write_batch(connection, batch, staged, mapping, deliveries_folder(settings.store))
                    for name, count in connection.execute(
                        "SELECT other_resource, count(*) FROM temp.staging JOIN temp.batch_files USING (source_file) "
                        "WHERE other_resource IS NOT NULL GROUP BY 1"
                    ).fetchall():
                        others[name] = others.get(name, 0) + count
                wrote = True
                if progress:
                    progress(len(done), total)
            if not wrote:
                with writing(connection, store):
                    _write_once_a_run(connection, settings, mapping, wrote)
        finally:
            connection.close()
    done.sort(key=lambda f: (f.source, f.name))
    return done, sorted(others.items(), key=lambda item: (-item[1], item[0]))


def _stage(reader: Reader, batch: Sequence[Delivery]) -> Staged:
    try:
        return reader.stage([(d.kept, d.format) for d in batch if d.unreadable_because is None])
    except duckdb.Error as error:
        text = str(error).strip().splitlines()[0]
        raise StoreError(
            f"DuckDB gave up on the {len(batch)} files from {batch[0].name} to {batch[-1].name}: {text}; "
            "what was read before them is kept. Free some memory, or take these files out one by one"
        ) from None


def _write_once_a_run(
    connection: duckdb.DuckDBPyConnection, settings: Settings, mapping: EventMapping, is_written: bool
) -> None:
    if not is_written:
        write_catalog(connection, settings.catalog)
        write_info(
            connection,
            mapping_hash=mapping.hash,
            resources=", ".join(r.id for r in settings.resources),
            catalog_resource=mapping.catalog_resource,
        )


def _batches(deliveries: Iterable[Delivery]) -> Iterator[list[Delivery]]:
    """A few hundred files or some tens of MiB; the same content twice never shares a batch (both are one kept file)."""
    batch: list[Delivery] = []
    contents: set[str] = set()
    size = 0
    for delivery in deliveries:
        if batch and (delivery.sha256 in contents or size > _BATCH_BYTES or len(batch) >= _BATCH_FILES):
            yield batch
            batch, contents, size = [], set(), 0
        batch.append(delivery)
        if delivery.sha256:
            contents.add(delivery.sha256)
        size += delivery.bytes
    if batch:
        yield batch


# All that makes an event what it is, as one text: two events are the same where uid and content are.
_CONTENT = """CAST(row(
    occurred_at, logged_at, kind, event_name, class_uid, activity_id, outcome, status_code, status_detail, error_code,
    decision, policy_names, policy_set_id, policy_set_version, user_id, user_email, user_name, actor_user_id,
    application_id, application_name, delegation_chain, resource_id, resource_name, entity_id, entity_name,
    requested_scopes, granted_scopes, http_method, http_path, http_status, grant_type, grant_id, grant_expires_at,
    credential_id, credential_lifetime_seconds, session_id, correlation_id, source_ip, user_agent, zone_id, message
) AS VARCHAR)"""


def _write_batch(
    connection: duckdb.DuckDBPyConnection,
    batch: Sequence[Delivery],
    staged: Staged,
    mapping: EventMapping,
    folder: Path,
) -> list[DeliveredFile]:
    run = connection.execute
    batch = _not_written_meanwhile(connection, batch)
    run("CREATE OR REPLACE TEMP TABLE batch_files (source_file VARCHAR, source VARCHAR, name VARCHAR, place INTEGER)")
    fetched = {str(d.kept): d for d in batch if d.unreadable_because is None}
    insert_rows(
        connection,
        "temp.batch_files",
        [(kept, d.source, d.name, place) for place, (kept, d) in enumerate(fetched.items())],
    )
    _name_nameless(connection)
    _mark_duplicates(connection)
    [(batch_id,)] = run("SELECT coalesce(max(batch_id), 0) + 1 FROM ingested_files").fetchall()
    run(
        "INSERT INTO events BY NAME SELECT s.* EXCLUDE (source_file, other_resource, rejected_because), "
        f"f.source, f.name AS source_file, {batch_id} AS batch_id "
        "FROM temp.staging s JOIN temp.batch_files f USING (source_file) "
        "ANTI JOIN temp.duplicates d ON s.source_file = d.source_file AND s.source_row = d.source_row "
        "WHERE s.other_resource IS NULL"
    )
    run(
        "INSERT INTO other_resources SELECT source, name, other_resource, count(*) "
        "FROM temp.staging JOIN temp.batch_files USING (source_file) "
        "WHERE other_resource IS NOT NULL GROUP BY ALL ORDER BY ALL"
    )
    rejects = [
        (fetched[r.file].source, fetched[r.file].name, r.row, r.reason, r.raw, batch_id)
        for r in staged.rejects
        if r.file in fetched
    ]
    insert_rows(connection, "rejected_events", sorted(rejects))
    files = _accounts(connection, batch, staged, batch_id)
    now = datetime.now(UTC)
    run(
        "DELETE FROM ingested_files WHERE sha256 = '' AND list_contains(?, source || chr(31) || source_file)",
        [[f"{d.source}\x1f{d.name}" for d in batch]],
    )
    insert_rows(
        connection,
        "ingested_files",
        [
            (
                d.source, d.name, d.sha256, d.bytes, d.modified_ns, d.format, f.status, f.reason, f.read_count,
                f.kept_count, f.rejected_count, f.duplicate_count, f.other_resource_count, f.first_event_at,
                f.last_event_at, mapping.hash, d.kept.relative_to(folder).as_posix() if d.sha256 else "", batch_id, now,
            )
            for d, f in zip(batch, files, strict=True)
        ],
    )  # fmt: skip
    return files


def _not_written_meanwhile(connection: duckdb.DuckDBPyConnection, batch: Sequence[Delivery]) -> list[Delivery]:
    """Drops what another collect has put into the store since we looked."""
    contents = {d.sha256 for d in batch if d.sha256}
    known = set(
        connection.execute(
            "SELECT source, source_file, sha256 FROM ingested_files WHERE list_contains(?, sha256)",
            [sorted(contents)],
        ).fetchall()
    )
    return [d for d in batch if (d.source, d.name, d.sha256) not in known]


def _name_nameless(connection: duckdb.DuckDBPyConnection) -> None:
    """Events without a uid get one: their content's hash and their number among equals in their file."""
    connection.execute(
        "UPDATE temp.staging SET event_uid = named.uid FROM ("
        "  SELECT source_file, source_row, content || '-' || row_number() OVER ("
        "    PARTITION BY source_file, content ORDER BY source_row) AS uid"
        f"  FROM (SELECT source_file, source_row, md5({_CONTENT}) AS content FROM temp.staging WHERE event_uid IS NULL)"
        ") named WHERE staging.source_file = named.source_file AND staging.source_row = named.source_row"
    )


def _mark_duplicates(connection: duckdb.DuckDBPyConnection) -> None:
    """Fills `duplicates`: rows whose uid and content came before, in this batch or in the store.

    Contents are compared only where uids meet, and in the store only within the batch's span of time, so adding to a
    large store costs what the batch costs.
    """
    run = connection.execute
    run("CREATE OR REPLACE TEMP TABLE duplicates (source_file VARCHAR, source_row BIGINT)")
    run(
        "CREATE OR REPLACE TEMP TABLE twins AS SELECT event_uid FROM temp.staging WHERE other_resource IS NULL "
        "GROUP BY event_uid HAVING count(*) > 1"
    )
    run(
        "INSERT INTO temp.duplicates SELECT source_file, source_row FROM ("
        "  SELECT source_file, source_row, row_number() OVER ("
        f"    PARTITION BY event_uid, {_CONTENT} ORDER BY place, source_row) AS twin"
        "  FROM temp.staging JOIN temp.batch_files USING (source_file)"
        "  WHERE other_resource IS NULL AND event_uid IN (FROM temp.twins)"
        ") WHERE twin > 1"
    )
    [(first, last)] = run("SELECT min(occurred_at)::VARCHAR, max(occurred_at)::VARCHAR FROM temp.staging").fetchall()
    if first is None:
        return
    run(
        "CREATE OR REPLACE TEMP TABLE met AS SELECT e.* FROM events e SEMI JOIN temp.staging s "
        "ON e.event_uid = s.event_uid WHERE e.occurred_at BETWEEN ?::TIMESTAMPTZ AND ?::TIMESTAMPTZ",
        [first, last],
    )
    run(
        "INSERT INTO temp.duplicates SELECT source_file, source_row FROM ("
        f"  SELECT source_file, source_row, event_uid, {_CONTENT} AS content FROM temp.staging"
        "  WHERE other_resource IS NULL AND event_uid IN (SELECT event_uid FROM temp.met)"
        f") s SEMI JOIN (SELECT event_uid, {_CONTENT} AS content FROM temp.met) m USING (event_uid, content) "
        "ANTI JOIN temp.duplicates d ON s.source_file = d.source_file AND s.source_row = d.source_row"
    )


def _accounts(
    connection: duckdb.DuckDBPyConnection, batch: Sequence[Delivery], staged: Staged, batch_id: int
) -> list[DeliveredFile]:
    """The ledger's rows; raises StoreError where counts do not add up, which rolls the batch back."""
    mapped = {
        file: rest
        for file, *rest in connection.execute(
            "SELECT source_file, count(*) FILTER (other_resource IS NOT NULL), "
            "epoch_us(min(occurred_at) FILTER (other_resource IS NULL)), "
            "epoch_us(max(occurred_at) FILTER (other_resource IS NULL)) FROM temp.staging GROUP BY source_file"
        ).fetchall()
    }
    duplicates = dict(
        connection.execute("SELECT source_file, count(*) FROM temp.duplicates GROUP BY source_file").fetchall()
    )
    # What is kept is counted where it is kept.
    kept = {
        (source, name): count
        for source, name, count in connection.execute(
            "SELECT source, source_file, count(*) FROM events WHERE batch_id = ? GROUP BY ALL", [batch_id]
        ).fetchall()
    }
    rejected = Counter(r.file for r in staged.rejects)
    files = []
    for delivery in batch:
        key = str(delivery.kept)
        reason = delivery.unreadable_because or staged.skipped.get(key)
        others, first_us, last_us = mapped.get(key, (0, None, None)) if reason is None else (0, None, None)
        file = DeliveredFile(
            source=delivery.source,
            name=delivery.name,
            status="collected" if reason is None else "skipped",
            reason=reason,
            sha256=delivery.sha256,
            bytes=delivery.bytes,
            read_count=staged.row_counts[key] if reason is None else 0,
            kept_count=kept.get((delivery.source, delivery.name), 0),
            rejected_count=rejected[key] if reason is None else 0,
            duplicate_count=duplicates.get(key, 0),
            other_resource_count=others,
            first_event_at=_instant(first_us),
            last_event_at=_instant(last_us),
        )
        if not file.adds_up:
            raise StoreError(f"{delivery.name}: its counts do not add up ({file}); nothing of this batch was kept")
        files.append(file)
    return files


def _instant(micros: int | None) -> datetime | None:
    return None if micros is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
