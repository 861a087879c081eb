"""Events → deliveries as Keycard's export makes them: Snappy Parquet with nested columns, and some JSON lines."""

from __future__ import annotations

import gzip
import json
import random
import re
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from audit_kit.errors import UsageError
from audit_kit.sample.events import Event

DELIVERY_NAME = re.compile(r"\d{4}(-\d\d){5}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.(parquet|jsonl\.gz)")

_GROUP = 'STRUCT(uid VARCHAR, "name" VARCHAR)'
_EFFECT = "STRUCT(effect VARCHAR, policy_set_id VARCHAR, policy_set_version BIGINT)"
_POLICY = 'uid VARCHAR, "name" VARCHAR, version VARCHAR, "type" VARCHAR, is_applied BOOLEAN'
_AUTHORIZATION = f'STRUCT(decision VARCHAR, policy STRUCT({_POLICY}, "group" {_GROUP}, "data" {_EFFECT}))'
_USER = 'STRUCT(uid VARCHAR, "name" VARCHAR, email_addr VARCHAR, full_name VARCHAR, type_id INTEGER, "type" VARCHAR)'
_URL = "STRUCT(scheme VARCHAR, hostname VARCHAR, path VARCHAR, port INTEGER, url_string VARCHAR, query_string VARCHAR)"
_METADATA = (
    'version VARCHAR, uid VARCHAR, event_code VARCHAR, product STRUCT("name" VARCHAR, vendor_name VARCHAR), '
    "log_name VARCHAR, tenant_uid VARCHAR, correlation_uid VARCHAR, logged_time BIGINT, original_time VARCHAR, "
    "profiles VARCHAR[]"
)
_HELD = "STRUCT(resource VARCHAR, resource_id VARCHAR)"
_RESOURCE = (
    'uid VARCHAR, uid_alt VARCHAR, "name" VARCHAR, "type" VARCHAR, hostname VARCHAR, role_id INTEGER, "role" VARCHAR'
)
_REQUEST = 'STRUCT(uid VARCHAR, "data" STRUCT(grant_type VARCHAR, resource VARCHAR, "scope" VARCHAR))'
_ANSWER = 'STRUCT(credential_id VARCHAR, "scope" VARCHAR, token_type VARCHAR, expires_in INTEGER)'
_RESPONSE = f'STRUCT(code INTEGER, error VARCHAR, error_message VARCHAR, "data" {_ANSWER})'
_IDENTITY = 'STRUCT("type" VARCHAR, id VARCHAR, identifier VARCHAR)'
_UNMAPPED = (
    '"event" VARCHAR, organization_id VARCHAR, zone_id VARCHAR, '
    f'actor STRUCT("type" VARCHAR, identities {_IDENTITY}[]), '
    "requested_scopes VARCHAR[], granted_scopes VARCHAR[], credential_id VARCHAR, grant_id VARCHAR"
)
_COLUMNS = {
    "metadata": f"STRUCT({_METADATA})",
    "time": "BIGINT",
    **dict.fromkeys(("category_uid", "class_uid", "activity_id", "severity_id", "status_id"), "INTEGER"),
    "class_name": "VARCHAR",
    "activity_name": "VARCHAR",
    "type_uid": "BIGINT",
    **dict.fromkeys(("status", "status_code", "status_detail", "message", "action", "disposition"), "VARCHAR"),
    "action_id": "INTEGER",
    "disposition_id": "INTEGER",
    "actor": f'STRUCT(app_uid VARCHAR, app_name VARCHAR, "user" {_USER}, authorizations {_AUTHORIZATION}[])',
    "user": _USER,
    "session": "STRUCT(uid VARCHAR, issuer VARCHAR)",
    "service": 'STRUCT("name" VARCHAR, uid VARCHAR)',
    "is_mfa": "BOOLEAN",
    "entity": f'STRUCT(uid VARCHAR, "name" VARCHAR, "type" VARCHAR, type_id INTEGER, "data" {_HELD})',
    "privileges": "VARCHAR[]",
    "resources": f"STRUCT({_RESOURCE})[]",
    "src_endpoint": "STRUCT(ip VARCHAR)",
    "dst_endpoint": "STRUCT(hostname VARCHAR, svc_name VARCHAR, port INTEGER)",
    "api": 'STRUCT(operation VARCHAR, version VARCHAR, service STRUCT("name" VARCHAR), '
    f"request {_REQUEST}, response {_RESPONSE})",
    "http_request": f"STRUCT(http_method VARCHAR, user_agent VARCHAR, uid VARCHAR, url {_URL})",
    "http_response": "STRUCT(code INTEGER, latency INTEGER)",
    "policy": f"STRUCT({_POLICY})",
    "unmapped": f"STRUCT({_UNMAPPED})",
}


class DeliveryWriter:
    """Writes one delivery after another into a folder; the same events and seed give the same bytes."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.count = 0
        self._rng = random.Random(f"{seed}:deliveries")  # noqa: S311  # the seed is the point
        self._connection = duckdb.connect()
        self._connection.execute("SET threads = 1")  # the order of rows is that of time, always
        self._scratch = TemporaryDirectory(prefix="audit-kit-demo-")

    def close(self) -> None:
        self._connection.close()
        self._scratch.cleanup()

    def write(self, events: list[Event], slice_ends_at: datetime) -> None:
        """One delivery of a slice of the log, within the hour after its end."""
        delivered = slice_ends_at + timedelta(seconds=self._rng.randint(120, 3_300))
        name = f"{delivered.astimezone(UTC):%Y-%m-%d-%H-%M-%S}-{uuid.UUID(int=self._rng.getrandbits(128), version=4)}"
        lines = "".join(json.dumps(e, separators=(",", ":"), ensure_ascii=False) + "\n" for e in events).encode()
        self.count += 1
        if self.count % 9 == 4:  # nine and four slices a day have no common measure: every hour gets its turn
            (self.folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(lines, compresslevel=6, mtime=0))
            return
        scratch = Path(self._scratch.name) / "slice.jsonl"
        scratch.write_bytes(lines)
        # Some producers write the free-form part as JSON text.
        columns = {**_COLUMNS, "unmapped": "JSON"} if self.count % 5 == 0 else _COLUMNS
        shape = ", ".join(f"'{column}': '{kind}'" for column, kind in columns.items())
        self._connection.execute(
            f"COPY (SELECT * {'REPLACE (unmapped::VARCHAR AS unmapped)' if self.count % 5 == 0 else ''} "
            f"FROM read_json('{scratch}', format = 'newline_delimited', columns = {{{shape}}})) "
            f"TO '{str(self.folder / name).replace(chr(39), chr(39) * 2)}.parquet' (FORMAT parquet, COMPRESSION snappy)"
        )


def prepare_folder(folder: Path) -> None:
    """An empty folder for deliveries: those of an earlier run go, anything else in it is refused."""
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted(folder.iterdir())
    foreign = [path.name for path in found if not DELIVERY_NAME.fullmatch(path.name)]
    if foreign:
        raise UsageError(f"{folder}: it holds files that are not ours ({foreign[0]}); name another folder with --out")
    for path in found:
        path.unlink()
