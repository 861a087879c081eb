"""`audit-kit init`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False), default="audit-kit.toml")
def init(path: Path) -> None:
    """Write a commented audit-kit.toml, with every setting and its default.

    \b
    Example:  audit-kit init
    """
    from audit_kit.errors import UsageError
    from audit_kit.settings import init_text

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(init_text())
    except FileExistsError:
        raise UsageError(f"{path}: it is there already; name another file, or move this one away") from None
    except OSError as error:
        raise UsageError(f"{path}: it cannot be written: {error.strerror}") from None
    click.echo(f"{path} written. Name your deliveries under [[sources]], then: audit-kit run")
