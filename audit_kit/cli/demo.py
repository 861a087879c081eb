"""`audit-kit demo`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--events", type=click.IntRange(5_000), default=120_000, show_default=True, help="How many events, about."
)
@click.option("--seed", type=int, default=7, show_default=True, help="The same seed makes the same bytes.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default="demo",
    show_default=True,
    help="Folder to write to.",
)
@click.option("--issues-only", is_flag=True, help="The same log without downstream calls.")
@click.option("--clean", is_flag=True, help="Plant nothing: a company with nothing to find.")
def demo(events: int, seed: int, out: Path, issues_only: bool, clean: bool) -> None:
    """Make a 120-day OCSF delivery of an imaginary company, and truth.json that says what was planted in it.

    \b
    Example:  audit-kit demo --out demo
              audit-kit run --config demo/audit-kit.toml --out demo
    """
    from audit_kit.cli.output import progress
    from audit_kit.sample import DemoOptions, write_demo

    options = DemoOptions(events=events, seed=seed, issues_only=issues_only, is_clean=clean)
    with progress("Making deliveries") as advance:
        made = write_demo(out, options, advance)
    click.echo(
        f"{made.event_count:,} events in {made.file_count:,} files below {made.deliveries}; "
        f"what was planted in them: {made.truth}"
    )
