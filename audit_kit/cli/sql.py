"""`audit-kit sql`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from audit_kit.cli.options import settings_from, settings_options


@click.command()
@click.argument("query")
@settings_options
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
def sql(query: str, config: Path | None, store: Path | None, form: str) -> None:
    """Ask the store a question: QUERY is SQL, a file that holds it, or - for standard input.

    The store is opened read-only, without access to files or network. SET VARIABLE lines may stand before the query,
    so that any file of queries/checks runs as it is.

    \b
    Example:  audit-kit sql "SELECT kind, count(*) FROM events GROUP BY kind"
    """
    from audit_kit.adhoc import run_query
    from audit_kit.cli.output import frame_text, show

    answer = frame_text(run_query(settings_from(config, store).store, _text_of(query)), form)
    if isinstance(answer, str):
        sys.stdout.write(answer)
    else:
        show(answer)


def _text_of(query: str) -> str:
    from audit_kit.errors import UsageError

    if query == "-":
        return sys.stdin.read()
    if query.endswith(".sql") and "\n" not in query:
        try:
            return Path(query).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{query}: it cannot be read: {error}") from None
    return query
