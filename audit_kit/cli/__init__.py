"""The command line. Bodies parse, call and print; what a command does lives in the modules below.

Exit codes: 0 clean · 1 findings at or above --fail-on · 2 wrong usage or settings · 3 (only with --strict) something
could not be read or judged · 4 nothing usable came out. Where several apply, 4 goes before 2, 2 before 3, 3 before 1.
"""

from __future__ import annotations

import importlib
from typing import Any

import click

# Command → module that holds it. Modules are imported only for the command that runs, so that --help is quick.
_COMMANDS = {
    "demo": ("demo", "Make a delivery of an imaginary company, with its truth."),
    "init": ("setup", "Write a commented audit-kit.toml."),
    "collect": ("collect", "Bring new deliveries into the store."),
    "remap": ("collect", "Derive all events again from the kept deliveries."),
    "check": ("check", "Run the checks and print the findings."),
    "report": ("check", "Run the checks and write HTML and Markdown reports."),
    "run": ("check", "Collect, check and report in one go."),
    "sql": ("sql", "Ask the store a question in SQL."),
    "checks": ("checks", "List the checks, or show one."),
    "store": ("store", "Look after the store."),
}


class _Commands(click.Group):
    """Imports a command when it is called; shows a user's mistake as one line and its exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"audit_kit.cli.{_COMMANDS[name][0]}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        from audit_kit.errors import AuditKitError

        try:
            return super().invoke(ctx)
        except AuditKitError as error:
            click.echo(f"audit-kit: {error}", err=True)
            ctx.exit(error.exit_code)


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="audit-kit")
def main() -> None:
    """Compliance and audit analytics on token-exchange logs.

    Audit events of a Keycard zone go in once, are kept flat and typed in DuckDB, are asked questions by plain SQL, and
    come out as findings that can be traced back to the event.

    \b
    Start with:  audit-kit demo --out demo
                 audit-kit run --config demo/audit-kit.toml --out demo
    """
