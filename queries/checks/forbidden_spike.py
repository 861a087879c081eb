"""Finishes `forbidden_spike.sql`: hourly series → incidents of 403."""

import polars as pl

from audit_kit.spike_findings import spike_findings


def refine(rows: pl.DataFrame) -> pl.DataFrame:
    return spike_findings(rows, status=403)
