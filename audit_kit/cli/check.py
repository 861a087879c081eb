"""`audit-kit check`, `report` and `run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audit_kit.cli.options import judging_options, period_options, settings_from, settings_options

if TYPE_CHECKING:
    from audit_kit.model import AuditResult
    from audit_kit.settings import Settings


@click.command()
@settings_options
@period_options
@judging_options
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.pass_context
def check(
    ctx: click.Context,
    config: Path | None,
    store: Path | None,
    period: str | None,
    starts: str | None,
    ends: str | None,
    only: tuple[str, ...],
    fail_on: str,
    strict: bool,
    form: str,
) -> None:
    """Run the checks and print the findings, gravest first.

    \b
    Example:  audit-kit check --period 2026-Q3 --fail-on medium
              audit-kit check --from 30d --format json > findings.json
    """
    from audit_kit.report import findings_csv, to_json

    result = _audited(settings_from(config, store), period, starts, ends, only)
    if form == "table":
        from audit_kit.cli.output import show_findings

        show_findings(result)
    else:
        sys.stdout.write(to_json(result) if form == "json" else findings_csv(result))
    ctx.exit(_exit_code(result, fail_on, strict=strict))


@click.command()
@settings_options
@period_options
@judging_options
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    show_default=True,
    help="Folder to write to.",
)
@click.pass_context
def report(
    ctx: click.Context,
    config: Path | None,
    store: Path | None,
    period: str | None,
    starts: str | None,
    ends: str | None,
    only: tuple[str, ...],
    fail_on: str,
    strict: bool,
    out: Path,
) -> None:
    """Run the checks and write report.html and report.md.

    \b
    Example:  audit-kit report --period 2026-Q3 --out reports-2026-Q3
    """
    result = _audited(settings_from(config, store), period, starts, ends, only)
    _write_reports(result, out)
    ctx.exit(_exit_code(result, fail_on, strict=strict))


@click.command()
@click.argument("paths", nargs=-1)
@settings_options
@period_options
@judging_options
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    show_default=True,
    help="Folder to write to.",
)
@click.pass_context
def run(
    ctx: click.Context,
    paths: tuple[str, ...],
    config: Path | None,
    store: Path | None,
    period: str | None,
    starts: str | None,
    ends: str | None,
    only: tuple[str, ...],
    fail_on: str,
    strict: bool,
    out: Path,
) -> None:
    """Collect, check and report in one go.

    \b
    Example:  audit-kit run exports/ --out reports
    """
    from audit_kit.cli.collect import collect_exit_code, run_collect
    from audit_kit.cli.output import show_findings

    settings = settings_from(config, store)
    collected = run_collect(settings, paths)
    collect_code = collect_exit_code(settings, collected, strict=strict)
    if collect_code == 4:
        ctx.exit(collect_code)
    result = _audited(settings, period, starts, ends, only)
    show_findings(result)
    _write_reports(result, out)
    ctx.exit(collect_code or _exit_code(result, fail_on, strict=strict))


def _audited(
    settings: Settings, period: str | None, starts: str | None, ends: str | None, only: tuple[str, ...]
) -> AuditResult:
    from audit_kit.audit import audit, newest_event_at
    from audit_kit.catalog import load_checks
    from audit_kit.errors import UsageError
    from audit_kit.mapping import load_mapping
    from audit_kit.period import resolve_period
    from audit_kit.store import open_store

    checks = load_checks()
    unknown = sorted(set(only) - {c.id for c in checks})
    if unknown:
        raise UsageError(f"--check {unknown[0]}: there is no such check; `audit-kit checks list` shows all")
    with open_store(settings.store) as store:
        resolved = resolve_period(period=period, starts=starts, ends=ends, newest=newest_event_at(store))
        result = audit(store, checks, resolved, settings, only=only)
    if result.mapping_hash != load_mapping(settings).hash:
        click.echo(
            "audit-kit: the store was read with another mapping, scope or catalogue than today's; "
            "`audit-kit remap` mends that",
            err=True,
        )
    return result


def _write_reports(result: AuditResult, out: Path) -> None:
    from audit_kit.errors import UsageError
    from audit_kit.report import render_html, render_markdown

    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in (("report.html", render_html(result)), ("report.md", render_markdown(result))):
            (out / name).write_text(text, encoding="utf-8", newline="\n")
            click.echo(f"{out / name}")
    except OSError as error:
        raise UsageError(f"{out}: the reports cannot be written: {error.strerror}") from None


def _exit_code(result: AuditResult, fail_on: str, *, strict: bool) -> int:
    from audit_kit.model import Severity, State

    is_whole = all(r.could_not_judge is None for r in result.results)
    is_whole = is_whole and not any(f.state is State.INCONCLUSIVE for f in result.findings)
    is_whole = is_whole and not any(f.reason or f.rejected_count for f in result.coverage.files)
    if strict and not is_whole:
        return 3
    if fail_on == "never":
        return 0
    level = Severity.parse(fail_on)
    return int(any(f.state is State.OPEN and f.severity >= level for f in result.findings))
