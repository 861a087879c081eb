"""Finds the files that are not Python: `queries/` and `reports/`, in a checkout or in an installed wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _data_folder(name: str) -> Path:
    packaged = _PACKAGE / "_data" / name
    return packaged if packaged.is_dir() else _PACKAGE.parent / name


QUERIES = _data_folder("queries")
REPORTS = _data_folder("reports")
CATALOGS = QUERIES / "catalogs"
