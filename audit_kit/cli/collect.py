"""`audit-kit collect` and `audit-kit remap`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from audit_kit.cli.options import settings_from, settings_options

if TYPE_CHECKING:
    from audit_kit.collect import Collected
    from audit_kit.settings import Settings


@click.command()
@click.argument("paths", nargs=-1)
@settings_options
@click.option("--strict", is_flag=True, help="Exit 3 if a file was skipped or an event rejected.")
@click.pass_context
def collect(ctx: click.Context, paths: tuple[str, ...], config: Path | None, store: Path | None, strict: bool) -> None:
    """Bring new deliveries into the store: files, folders or globs of .parquet, .jsonl, .json and .jsonl.gz.

    Without PATHS, the sources of audit-kit.toml. Running it again, or over the same files twice, changes nothing.

    \b
    Example:  audit-kit collect 'exports/*.parquet'
    """
    settings = settings_from(config, store)
    collected = run_collect(settings, paths)
    ctx.exit(collect_exit_code(settings, collected, strict=strict))


@click.command()
@settings_options
@click.option("--strict", is_flag=True, help="Exit 3 if a file was skipped or an event rejected.")
@click.pass_context
def remap(ctx: click.Context, config: Path | None, store: Path | None, strict: bool) -> None:
    """Derive all events again from the kept deliveries: after a change of mapping, scope or version.

    \b
    Example:  audit-kit remap
    """
    from audit_kit.cli.output import progress, show_collected
    from audit_kit.collect import remap as derive_again

    settings = settings_from(config, store)
    with progress("Reading kept deliveries") as advance:
        collected = derive_again(settings, advance)
    show_collected(collected)
    ctx.exit(collect_exit_code(settings, collected, strict=strict))


def run_collect(settings: Settings, paths: tuple[str, ...]) -> Collected:
    """Collects and says what came of it; `audit-kit run` uses it too."""
    from audit_kit.cli.output import progress, show_collected
    from audit_kit.collect import collect as bring_in
    from audit_kit.errors import UsageError
    from audit_kit.settings import Source

    sources = (Source("files", paths),) if paths else settings.sources
    if not sources:
        raise UsageError("nothing to collect: name files or folders, or [[sources]] in audit-kit.toml")
    with progress("Collecting") as advance:
        collected = bring_in(settings, sources, advance)
    show_collected(collected)
    return collected


def collect_exit_code(settings: Settings, collected: Collected, *, strict: bool) -> int:
    from audit_kit.store import open_store

    with open_store(settings.store) as opened:
        if opened.scalar("SELECT count(*) FROM events") == 0:
            click.echo("audit-kit: the store holds no events: nothing usable came out", err=True)
            return 4
    is_whole = not any(f.reason or f.rejected_count for f in collected.files)
    return 3 if strict and not is_whole else 0
