"""Fills the templates of `reports/`. Escaping is the default here, not something a template must remember.

Every value a template prints passes `finalize`: text is cleaned and cut there, and for Markdown escaped too;
HTML is escaped by Jinja after that. Only what this module marks as ready is printed as it is.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from audit_kit.errors import AuditKitError
from audit_kit.model import AuditResult
from audit_kit.paths import REPORTS
from audit_kit.report import document
from audit_kit.report.method import METHOD
from audit_kit.report.plain import files_in_order, most_first
from audit_kit.report.text import (
    NOTHING,
    PROSE_LIMIT,
    anchor,
    count,
    detail,
    display,
    instant,
    instant_to_the_second,
    iso,
    label,
    many_lines,
    number,
    short_hash,
)


class _Ready(str):
    """Markdown that is escaped already. Joining it with other text gives a plain str, escaped again."""

    __slots__ = ()


def render_html(result: AuditResult) -> str:
    """One self-contained page: no script, nothing fetched, the style named by its hash in the CSP."""
    try:
        style = (REPORTS / "html" / "style.css").read_text(encoding="utf-8")
    except OSError as error:
        raise AuditKitError(f"{error.filename}: {error.strerror}; install audit-kit again") from error
    # The browser hashes the text between the tags, to the byte.
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    template = _html().get_template("report.html.j2")
    return template.render(**_shared(result), style=Markup(style), style_hash=f"sha256-{digest}") + "\n"  # noqa: S704


def render_markdown(result: AuditResult) -> str:
    """The same content as the page, in GitHub's Markdown."""
    text = _markdown().get_template("report.md.j2").render(**_shared(result))
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


def _shared(result: AuditResult) -> dict[str, Any]:
    return {
        "result": result,
        "coverage": result.coverage,
        "doc": document.document_of(result),
        "limits": document,
        "method": METHOD,
        "gaps": sorted(result.coverage.gaps, key=lambda gap: (gap.starts_at, gap.ends_at)),
        "rejected": most_first(result.coverage.rejected),
        "other_resources": most_first(result.coverage.other_resources),
        "population": sorted(result.population.items()),
        "file_count": len(files_in_order(result.coverage)),
    }


def _environment(folder: str, **options: Any) -> Environment:
    environment = Environment(  # noqa: S701 - each form names its own escaping
        loader=FileSystemLoader(REPORTS / folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
        **options,
    )
    environment.filters.update(
        anchor=anchor,
        count=count,
        detail=lambda pair: detail(*pair),
        instant=instant,
        iso=lambda moment: iso(moment) or "",
        label=label,
        number=number,
        samples=document.samples_shown,
        second=instant_to_the_second,
        short_hash=short_hash,
    )
    return environment


@lru_cache(maxsize=1)
def _html() -> Environment:
    # Jinja's own default would leave `*.html.j2` unescaped.
    escaping = select_autoescape(enabled_extensions=("html.j2",), default=True, default_for_string=True)
    environment = _environment("html", autoescape=escaping, finalize=_html_value)
    # Prose and SQL are cleaned to their own measure, then marked so that `finalize` does not cut them.
    environment.filters.update(
        prose=lambda text: Markup.escape(display(text, PROSE_LIMIT)),
        sql=lambda text: Markup.escape(many_lines(text)),
    )
    return environment


def _html_value(value: Any) -> Any:
    return _words(value) if not isinstance(value, Markup) else value


@lru_cache(maxsize=1)
def _markdown() -> Environment:
    environment = _environment("markdown", autoescape=False, finalize=_markdown_value)
    environment.filters.update(
        prose=lambda text: _Ready(_escape_markdown(display(text, PROSE_LIMIT))),
        fenced_sql=_fenced_sql,
        code=_code,
        ready=_Ready,
    )
    return environment


def _markdown_value(value: Any) -> Any:
    return value if isinstance(value, _Ready) else _escape_markdown(_words(value))


def _words(value: Any) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, (Mapping, list, tuple, set)):
        raise TypeError(f"a template prints a whole {type(value).__name__}; name what it should print")
    return display(str(value))


def _escape_markdown(text: str) -> str:
    """Plain text in any place of a line, a table cell or a heading."""
    # As entities, because not every reader of Markdown knows `\<`.
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_\[\]|~#$!{}])", r"\\\1", text)
    # GitHub turns bare addresses into links; a name in evidence should not be one.
    text = re.sub(r"(?i)\b(https?|ftp|mailto|xmpp)(:)", r"\1&#58;", text)
    text = re.sub(r"(?i)\bwww\.", "www&#46;", text).replace("@", "&#64;")
    # At the start of a line these open a list or a rule, or underline a heading.
    return re.sub(r"^([-+=]|\d+(?=[.)](?:\s|$)))", _escape_start, text)


def _escape_start(match: re.Match[str]) -> str:
    start = match.group()
    return f"\\{start}" if start in "-+=" else f"&#{ord(start[0])};{start[1:]}"


def _code(text: str) -> _Ready:
    """A code span where the text is plainly an id, else escaped text: `|` and backticks break spans."""
    shown = display(text)
    plain = re.fullmatch(r"[A-Za-z0-9_.:/ -]+", shown) and shown == shown.strip()
    return _Ready(f"`{shown}`" if plain else _escape_markdown(shown))


def _fenced_sql(text: str) -> _Ready:
    shown = many_lines(text)
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return _Ready(f"{fence}sql\n{shown}\n{fence}")
