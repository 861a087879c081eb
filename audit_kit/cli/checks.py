"""`audit-kit checks`."""

from __future__ import annotations

import click


@click.group()
def checks() -> None:
    """List the checks, or show one.

    \b
    Example:  audit-kit checks list
    """


@checks.command("list")
def list_() -> None:
    """All checks with their severity, what they say when all is well, and their controls.

    \b
    Example:  audit-kit checks list
    """
    from audit_kit.catalog import load_checks
    from audit_kit.cli.output import show, table

    shown = table("check", "severity", "all is well when", "controls", right=("controls",))
    for check in load_checks():
        shown.add_row(check.id, str(check.severity), check.title, str(len(check.controls)))
    show(shown)


@checks.command()
@click.argument("check_id")
def show(check_id: str) -> None:
    """One check: what it asks, why it matters, what to do, its parameters, controls and SQL.

    \b
    Example:  audit-kit checks show log_gap
    """
    from audit_kit.catalog import load_checks
    from audit_kit.errors import UsageError

    found = [c for c in load_checks() if c.id == check_id]
    if not found:
        raise UsageError(f"{check_id}: there is no such check; `audit-kit checks list` shows all")
    check = found[0]
    click.echo(f"{check.id} ({check.severity})")
    for name, text in (
        ("all is well when", check.title),
        ("risk", check.risk),
        ("what to do", check.remediation),
        ("needs", ", ".join(check.needs)),
        ("controls", ", ".join(check.controls)),
        ("parameters", ", ".join(f"{k} = {v}" for k, v in check.parameters.items()) or "none"),
        ("file", str(check.path)),
    ):
        click.echo(f"\n{name}:\n  {text}")
    click.echo(f"\n{check.text}")
