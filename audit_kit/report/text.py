"""Turns values into words that are safe to print: no control characters, no locale, no clock."""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

NAME_LIMIT = 200  # what is shown of a name; JSON and CSV carry all of it
PROSE_LIMIT = 1200  # sentences by the authors of checks, which may run longer than a name
LIST_LIMIT = 20
NOTHING = "–"

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_ACRONYMS = {"api": "API", "id": "ID", "uid": "UID", "http": "HTTP", "ip": "IP", "url": "URL", "sql": "SQL"}
_UNITS = {"days": "days", "hours": "hours", "minutes": "minutes", "seconds": "seconds", "bytes": "bytes"}
# Numbers that name something are not amounts: no thousands separators.
_NAMING_NUMBER = re.compile(r"(^|_)(id|uid|year|port|status|code|version)$")
_PLAIN_ANCHOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def is_unsafe(character: str) -> bool:
    # Cf holds the bidirectional controls and the zero-width characters, which can make a name look like
    # another one; lone surrogates (Cs) cannot be written as UTF-8 at all.
    return unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}


def _named_if_unsafe(match: re.Match[str]) -> str:
    return f"⟨U+{ord(match.group()):04X}⟩" if is_unsafe(match.group()) else match.group()


def _visible(text: str) -> str:
    return re.sub(r"[^\x20-\x7e]", _named_if_unsafe, text)


def one_line(text: str) -> str:
    """All of the text on one line: white space is a blank, other invisible characters are named."""
    return _visible(re.sub(r"[\t\n\v\f\r\x85\u2028\u2029]+", " ", text)).strip()


def many_lines(text: str) -> str:
    """All of the text, line breaks kept: for SQL, where a break can end a comment."""
    lines = re.split(r"\r\n|[\n\r\v\f\x85\u2028\u2029]", text.replace("\t", "    "))
    return "\n".join(_visible(line).rstrip() for line in lines).strip("\n")


def display(text: str, limit: int = NAME_LIMIT) -> str:
    """What a reader sees of a name: one line, nothing invisible, cut at `limit`."""
    # Cut before cleaning too: a hostile name may be megabytes long.
    shown = one_line(text[: limit * 8])
    return shown if len(shown) <= limit and len(text) <= limit * 8 else shown[: limit - 1].rstrip() + "…"


def anchor(occurrence_id: str) -> str:
    """The in-page id of a finding: itself, or a hash where it holds odd characters."""
    if _PLAIN_ANCHOR.fullmatch(occurrence_id):
        return f"f-{occurrence_id}"
    return f"f-{hashlib.sha256(occurrence_id.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}"


def utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone; instants are aware everywhere in audit-kit")
    return moment.astimezone(UTC)


def instant(moment: datetime | None) -> str:
    return NOTHING if moment is None else f"{utc(moment):%Y-%m-%d %H:%M} UTC"


def instant_to_the_second(moment: datetime) -> str:
    """For single events, which are looked up by their time."""
    return f"{utc(moment):%Y-%m-%d %H:%M:%S} UTC"


def iso(moment: datetime | None) -> str | None:
    return None if moment is None else utc(moment).isoformat().replace("+00:00", "Z")


def short_day(moment: datetime, with_year: bool = False) -> str:
    """`3 Jul`, by our own month names: strftime's depend on the locale."""
    return f"{moment.day} {_MONTHS[moment.month - 1]}" + (f" {moment.year}" if with_year else "")


def number(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return NOTHING
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) < 0.01 or abs(value) >= 1e15:
        return f"{value:.3g}"
    return f"{value:,.2f}".rstrip("0").rstrip(".")


def count(value: int, noun: str, plural: str | None = None) -> str:
    """`1 event`, `2,000 events`."""
    return f"{number(value)} {noun if value == 1 else plural or noun + 's'}"


def short_hash(value: str) -> str:
    return value[:12] or NOTHING


def label(key: str) -> str:
    """`unused_days` → `Unused (days)`: column names in words."""
    words = [word for word in key.split("_") if word]
    unit = _UNITS.get(words[-1]) if len(words) > 1 else None
    if unit:
        words = words[:-1]
    if len(words) > 1 and words[-1] == "at":
        words = words[:-1]
    text = " ".join(_ACRONYMS.get(word, word) for word in words)
    return (text[:1].upper() + text[1:]) + (f" ({unit})" if unit else "")


def detail(key: str, value: Any) -> str:
    """One number, word or list behind a finding, as a reader wants it."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return instant(value)
    if isinstance(value, int) and _NAMING_NUMBER.search(key):
        return str(value)
    if isinstance(value, float) and key.endswith("share") and math.isfinite(value):
        return f"{number(round(value * 100, 1))}%"
    if isinstance(value, (int, float)):
        return number(value)
    if isinstance(value, (list, tuple)):
        shown = ", ".join(detail(key, each) for each in value[:LIST_LIMIT]) or "none"
        return shown if len(value) <= LIST_LIMIT else f"{shown} and {len(value) - LIST_LIMIT:,} more"
    if isinstance(value, Mapping):
        return ", ".join(f"{label(str(k))}: {detail(str(k), v)}" for k, v in value.items()) or "none"
    text = str(value)
    if key.endswith("_at"):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return display(text)
        return instant(moment) if moment.tzinfo is not None else display(text)
    return display(text)
