"""Options that several commands share, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from audit_kit.settings import Settings

_F = TypeVar("_F", bound=Callable[..., Any])

SEVERITIES = ("low", "medium", "high", "critical", "never")


def settings_options(function: _F) -> _F:
    store = click.option(
        "--store",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The store [default: as in audit-kit.toml, or audit.duckdb].",
    )
    config = click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Settings file [default: ./audit-kit.toml if there is one].",
    )
    return store(config(function))


def period_options(function: _F) -> _F:
    period = click.option("--period", metavar="WORDS", help="2026-Q3, 2026-08, 2026-W33, 2026-08-12, 2026, or 90d.")
    starts = click.option(
        "--from", "starts", metavar="WHEN", help="Date, instant, or 90d before the end [default: 90d]."
    )
    ends = click.option("--to", "ends", metavar="WHEN", help="Date or instant, not included [default: end of the log].")
    return period(starts(ends(function)))


def judging_options(function: _F) -> _F:
    fail_on = click.option(
        "--fail-on",
        type=click.Choice(SEVERITIES),
        default="high",
        show_default=True,
        help="Exit 1 from this severity on.",
    )
    strict = click.option("--strict", is_flag=True, help="Exit 3 if something could not be read or judged.")
    only = click.option("--check", "only", multiple=True, metavar="ID", help="Run only this check (repeat for more).")
    return only(fail_on(strict(function)))


def settings_from(config: Path | None, store: Path | None) -> Settings:
    from audit_kit.settings import load_settings

    settings = load_settings(config)
    return replace(settings, store=store) if store else settings
