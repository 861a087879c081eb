"""Finishes `unauthorized_spike.sql`: hourly series → incidents of 401."""

import polars as pl

from audit_kit.spike_findings import spike_findings


def refine(rows: pl.DataFrame) -> pl.DataFrame:
    return spike_findings(rows, status=401)
