"""Writes the computed parts of README.md: the tables of checks and of commands.

python -m docs.generate          write them
python -m docs.generate --check  exit 1 where they are not current
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from audit_kit.catalog import load_checks
from audit_kit.cli import main as command_line

README = Path(__file__).resolve().parent.parent / "README.md"


def checks_table() -> str:
    rows = ["| check | severity at most | all is well when | parameters |", "|---|---|---|---|"]
    for check in load_checks():
        parameters = "<br>".join(f"`{name} = {value}`" for name, value in check.parameters.items())
        rows.append(f"| `{check.id}` | {check.severity} | {check.title} | {parameters} |")
    return "\n".join(rows)


def commands_table() -> str:
    rows = ["| command | what it does |", "|---|---|"]
    rows += [f"| `{name}` | {text} |" for name, text in _commands(command_line, "audit-kit")]
    return "\n".join(rows)


def _commands(group: click.Group, prefix: str) -> Iterator[tuple[str, str]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _commands(command, f"{prefix} {name}")
        elif command is not None:
            yield f"{prefix} {name}", command.get_short_help_str(limit=200)


def computed(text: str) -> str:
    """README's text with the parts between `<!-- begin: x -->` and `<!-- end: x -->` made anew."""
    for name, table in (("checks", checks_table()), ("commands", commands_table())):
        begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
        if begin not in text or end not in text:
            raise SystemExit(f"{README}: the marks {begin} and {end} are missing")
        text = re.sub(
            f"{re.escape(begin)}.*?{re.escape(end)}",
            lambda _, t=table, b=begin, e=end: f"{b}\n{t}\n{e}",
            text,
            flags=re.S,
        )
    return text


def main() -> None:
    now = README.read_text(encoding="utf-8")
    wanted = computed(now)
    if "--check" in sys.argv[1:]:
        if now != wanted:
            raise SystemExit(f"{README}: its tables are not current; run `make docs`")
    else:
        README.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main()
