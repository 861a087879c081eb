"""Incidents of `audit_kit.spikes` → rows in the form that a check returns."""

from __future__ import annotations

from typing import Any

import polars as pl

from audit_kit.spikes import SpikeOptions, describe, find_incidents, fold_overlapping

_COLUMN = {"application": "application_id", "user": "user_id", "resource": "resource_id"}
_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("entity", "reason", "severity", "occurrence_key", "events_sql"), pl.String),
    **dict.fromkeys(("first_at", "last_at"), pl.Datetime("us", "UTC")),
    "event_count": pl.Int64,
    **dict.fromkeys(("application_id", "user_id", "resource_id"), pl.String),
    **dict.fromkeys(("failure_count", "call_count"), pl.Int64),
    **dict.fromkeys(("expected_failure_count", "ratio", "ratio_lower_95", "p_log10"), pl.Float64),
    **dict.fromkeys(("hour_count", "user_count"), pl.Int64),
    "operations": pl.List(pl.String),
}


def spike_findings(rows: pl.DataFrame, status: int) -> pl.DataFrame:
    """`rows` as `unauthorized_spike.sql` gives them: hourly series, shared failures, period and parameters."""
    if rows.is_empty():
        return pl.DataFrame(schema=_SCHEMA)
    first = rows.row(0, named=True)
    incidents = find_incidents(
        rows.filter(pl.col("dimension").is_in(list(_COLUMN))).select(
            "dimension", "entity", "hour", "call_count", "failure_count"
        ),
        starts_at=first["period_starts_at"],
        ends_at=first["period_ends_at"],
        log_starts_at=first["log_starts_at"],
        options=SpikeOptions(
            baseline_days=first["baseline_days"],
            min_calls=first["min_calls"],
            min_failures=first["min_failures"],
            min_excess=first["min_excess"],
            min_ratio=first["min_ratio"],
            max_q=first["max_q"],
        ),
    )
    incidents = fold_overlapping(
        incidents,
        by_application_and_user=_shared(rows, "user"),
        by_application_and_resource=_shared(rows, "resource"),
    )
    names = dict(rows.filter(pl.col("entity_name").is_not_null()).select("entity", "entity_name").unique().iter_rows())
    findings = [_finding(incident, status, rows, names) for incident in incidents.iter_rows(named=True)]
    return pl.DataFrame(findings, schema=_SCHEMA, orient="row")


def _shared(rows: pl.DataFrame, other: str) -> pl.DataFrame:
    pairs = rows.filter(pl.col("dimension") == f"application × {other}")
    return pairs.select(
        pl.col("entity").alias("application"), pl.col("counterpart").alias(other), "hour", "failure_count"
    )


def _finding(incident: dict[str, Any], status: int, rows: pl.DataFrame, names: dict[str, str]) -> dict[str, Any]:
    dimension, entity = incident["dimension"], incident["entity"]
    name = names.get(entity) if dimension == "application" else None
    hours = incident["flagged_hours"]
    own = (
        rows.filter((pl.col("entity") == entity) & pl.col("hour").is_in(hours))
        if dimension == "application"
        else rows.clear()
    )
    users = own.filter(pl.col("dimension") == "application × user", pl.col("counterpart").is_not_null())
    operations = (
        own.filter(pl.col("dimension") == "application × operation")
        .group_by("counterpart")
        .agg(pl.col("failure_count").sum())
        .sort(["failure_count", "counterpart"], descending=[True, False])
    )
    return {
        "entity": f"{dimension} {entity}",
        "reason": describe({**incident, "entity": f"{name} ({entity})" if name else entity}, status),
        "severity": _severity(incident),
        "occurrence_key": f"{incident['first_hour']:%Y-%m-%dT%H}",
        "events_sql": _events_sql(dimension, entity, status, incident),
        "first_at": incident["first_hour"],
        "last_at": incident["ends_at"],
        "event_count": incident["failure_count"],
        _COLUMN[dimension]: entity,
        "failure_count": incident["failure_count"],
        "call_count": incident["call_count"],
        "expected_failure_count": round(incident["expected_failure_count"], 2),
        "ratio": round(incident["ratio"], 1),
        "ratio_lower_95": round(incident["ratio_lower_95"], 1),
        "p_log10": round(incident["p_log10"], 1),
        "hour_count": incident["hour_count"],
        "user_count": users["counterpart"].n_unique() if dimension == "application" else None,
        "operations": [f"{n} × {operation}" for operation, n in operations.head(3).iter_rows()] or None,
    }


def _severity(incident: dict[str, Any]) -> str:
    """By how much was lost, and never by how improbable it was: a large surprise can be a small matter."""
    if incident["is_count_based"] or incident["excess"] < 15:
        return "low"
    is_grave = incident["excess"] >= 50 and incident["ratio_lower_95"] >= 3 and not incident["is_low_baseline"]
    return "high" if is_grave else "medium"


def _events_sql(dimension: str, entity: str, status: int, incident: dict[str, Any]) -> str:
    value = entity.replace("'", "''")
    hours = ""
    if incident["hour_count"] < len(_every_hour(incident)):
        listed = ", ".join(f"TIMESTAMP '{h:%Y-%m-%d %H:%M:%S}'" for h in incident["flagged_hours"])
        hours = f" AND date_trunc('hour', occurred_at AT TIME ZONE 'UTC') IN ({listed})"
    return (
        f"SELECT * FROM events WHERE kind = 'api_call' AND {_COLUMN[dimension]} = '{value}' "
        f"AND http_status = {status} AND occurred_at >= TIMESTAMPTZ '{incident['first_hour']:%Y-%m-%d %H:%M:%S}+00' "
        f"AND occurred_at < TIMESTAMPTZ '{incident['ends_at']:%Y-%m-%d %H:%M:%S}+00'{hours} "
        "ORDER BY occurred_at, event_uid"
    )


def _every_hour(incident: dict[str, Any]) -> list[Any]:
    return pl.datetime_range(incident["first_hour"], incident["ends_at"], "1h", closed="left", eager=True).to_list()
