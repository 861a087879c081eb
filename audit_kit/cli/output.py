"""What the terminal shows: progress, tables, the sums of a run. Plain lines where it is not a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

    from audit_kit.collect import Collected
    from audit_kit.model import AuditResult

_FILES_SHOWN = 20


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, one line at the start otherwise; both on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        click.echo(f"{what} …", err=True)
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table in the style of all our tables."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return made


def show(*what: Any) -> None:
    from rich.console import Console

    console = Console(markup=False, highlight=False, emoji=False)
    for item in what:
        console.print(item)


def show_collected(collected: Collected) -> None:
    """What became of the rows of this run, then each file that was skipped or had rows rejected."""
    from audit_kit.report.text import one_line

    files = collected.files
    sums = {
        name: sum(getattr(f, f"{name}_count") for f in files)
        for name in ("read", "kept", "rejected", "duplicate", "other_resource")
    }
    click.echo(
        f"{len(files):,} new files ({collected.known_count:,} known): {sums['read']:,} events read = "
        f"{sums['kept']:,} kept + {sums['rejected']:,} rejected + {sums['duplicate']:,} duplicate + "
        f"{sums['other_resource']:,} of other resources"
    )
    if collected.other_resources:
        named = ", ".join(f"{one_line(name)} ({count:,})" for name, count in collected.other_resources[:5])
        more = len(collected.other_resources) - 5
        click.echo(f"left out as not in scope: {named}{f' and {more} more' if more > 0 else ''}")
    unwell = [f for f in files if f.reason or f.rejected_count]
    if unwell:
        shown = table("file", "what is wrong")
        for file in unwell[:_FILES_SHOWN]:
            rejected = f"{file.rejected_count:,} of {file.read_count:,} events rejected: see rejected_events"
            shown.add_row(one_line(file.name), one_line(f"skipped: {file.reason}") if file.reason else rejected)
        show(shown)
        if len(unwell) > _FILES_SHOWN:
            click.echo(
                f"… and {len(unwell) - _FILES_SHOWN} more: SELECT * FROM ingested_files WHERE reason IS NOT NULL"
            )
    if collected.nothing_matched:
        click.echo(
            "NOTHING MATCHED: every event names a resource that is not in scope. Compare [[resources]] in "
            "audit-kit.toml with the names above, then run audit-kit remap.",
            err=True,
        )


def show_findings(result: AuditResult) -> None:
    """The period, a line a finding, and what could not be judged."""
    from audit_kit.model import State, Verdict
    from audit_kit.period import describe
    from audit_kit.report.text import one_line

    click.echo(f"Period {describe(result.period)}")
    if result.coverage.partial_because:
        click.echo(f"Partial: {result.coverage.partial_because}")
    if result.findings:
        shown = table("severity", "finding")
        for finding in result.findings:
            lines = [f"{finding.check_id}  {finding.entity}  [{finding.id}]", finding.reason]
            if finding.inconclusive_because:
                lines.append(f"Inconclusive: {finding.inconclusive_because}")
            state = "" if finding.state is State.OPEN else "\n(inconclusive)"
            shown.add_row(f"{finding.severity}{state}", "\n".join(map(one_line, lines)))
        show(shown)
    clean = [r.check.id for r in result.results if r.verdict is Verdict.NOTHING_FOUND]
    if clean:
        click.echo("Found nothing: " + ", ".join(clean))
    for judged in result.results:
        if judged.could_not_judge is not None:
            click.echo(f"Could not judge: {judged.check.id}: {judged.could_not_judge}")


def frame_text(frame: pl.DataFrame, form: str) -> str | Table:
    """A query's answer as json, csv or a table."""
    if form == "csv":
        return _flat(frame).write_csv()
    if form == "json":
        import json

        return json.dumps([_jsonable(row) for row in frame.iter_rows(named=True)], indent=2, ensure_ascii=False) + "\n"
    from audit_kit.report.text import one_line

    numbers = tuple(n for n, kind in frame.schema.items() if kind.is_numeric())
    shown = table(*frame.columns, right=numbers)
    for row in frame.iter_rows():
        shown.add_row(*("" if cell is None else one_line(_cell(cell)) for cell in row))
    return shown


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """CSV has no lists: their words, with blanks between; instants as in every output of ours."""
    import polars as pl

    nested = [n for n, kind in frame.schema.items() if kind.is_nested() or isinstance(kind, pl.Datetime)]
    return frame.with_columns(
        pl.Series(name, [None if cell is None else _cell(cell) for cell in frame[name].to_list()], dtype=pl.String)
        for name in nested
    )


def _cell(cell: Any) -> str:
    plain = _jsonable(cell)
    if isinstance(plain, list):
        return " ".join(map(str, plain))
    return str(plain)


def _jsonable(value: Any) -> Any:
    from datetime import date, datetime

    if isinstance(value, datetime):
        text = value.isoformat(sep="T", timespec="milliseconds" if value.microsecond else "seconds")
        return text.replace("+00:00", "Z")
    if isinstance(value, dict):
        return {k: _jsonable(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(v) for v in value]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return value.isoformat() if isinstance(value, date) else str(value)
