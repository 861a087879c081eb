"""`--period`, `--from` and `--to` → a `Period`. Everything is UTC and half-open."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

from audit_kit.errors import UsageError
from audit_kit.model import Period

_DEFAULT = timedelta(days=90)
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(2201, 1, 1, tzinfo=UTC)  # may only be an end: periods are half-open

# [0-9], as \d also takes digits of other scripts.
_YEAR = re.compile(r"([0-9]{4})")
_QUARTER = re.compile(r"([0-9]{4})-Q([0-9])")
_MONTH = re.compile(r"([0-9]{4})-([0-9]{2})")
_WEEK = re.compile(r"([0-9]{4})-W([0-9]{2})")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DURATION = re.compile(r"([0-9]+)([hdw])")
_INSTANT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]"
    r"((?:[01][0-9]|2[0-3]):[0-5][0-9])"
    r"(?:(:[0-5][0-9])(?:\.([0-9]+))?)?"
    r"([Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])?"
)
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}

_PERIOD_FORMS = "2026, 2026-Q3, 2026-08, 2026-W33, 2026-08-12, or the newest 90d, 12h or 2w"
_BOUND_FORMS = "a date 2026-08-01, an instant 2026-08-01T12:00:00Z, or a duration 90d, 36h or 2w"


def resolve_period(*, period: str | None, starts: str | None, ends: str | None, newest: datetime | None) -> Period:
    """The period asked for; `newest` is the instant of the newest event, None where the store has none.

    Raises UsageError for anything that is not a period between 1970 and 2200.
    """
    if period is not None:
        if starts is not None or ends is not None:
            raise UsageError("--period cannot go together with --from or --to; give one or the other")
        return _named_period(period, newest)
    if starts is None and ends is None:
        end = _end_of_log(newest)
        start = _moved(end, -_DEFAULT, "the newest 90 days")
        return Period(start, end, "newest 90 days")
    start, end = _bounds(starts, ends, newest)
    return Period(start, end, f"{_short(start)} to {_short(end)}")


def describe(period: Period) -> str:
    """`2026-07-01 00:00 UTC to 2026-09-29 00:00 UTC (90 days; newest 90 days)`."""
    length = _length(period.ends_at - period.starts_at)
    note = f"{length}; {period.label}" if period.label else length
    return f"{_long(period.starts_at)} to {_long(period.ends_at)} ({note})"


def _named_period(text: str, newest: datetime | None) -> Period:
    if _DURATION.fullmatch(text):
        length = _duration(text, "--period")
        end = _end_of_log(newest)
        return Period(_moved(end, -length, f"--period {text}"), end, text)
    try:
        first, after = _days(text)
    except (ValueError, OverflowError):
        raise _nonsense("--period", text, _PERIOD_FORMS) from None
    start, end = _midnight(first), _midnight(after)
    if not _EARLIEST <= start < end <= _LATEST:
        raise _out_of_range(f"--period {text}")
    return Period(start, end, text)


def _days(text: str) -> tuple[date, date]:
    """First day and the day after the last; ValueError or OverflowError for what is no calendar period."""
    if match := _YEAR.fullmatch(text):
        year = int(match[1])
        return date(year, 1, 1), date(year + 1, 1, 1)
    if match := _QUARTER.fullmatch(text):
        first = date(int(match[1]), int(match[2]) * 3 - 2, 1)
        return first, _months_later(first, 3)
    if match := _MONTH.fullmatch(text):
        first = date(int(match[1]), int(match[2]), 1)
        return first, _months_later(first, 1)
    if match := _WEEK.fullmatch(text):
        first = date.fromisocalendar(int(match[1]), int(match[2]), 1)
        return first, first + timedelta(weeks=1)
    if _DATE.fullmatch(text):
        first = date.fromisoformat(text)
        return first, first + timedelta(days=1)
    raise ValueError(text)


def _months_later(first: date, months: int) -> date:
    years, month = divmod(first.month - 1 + months, 12)
    return date(first.year + years, month + 1, 1)


def _bounds(starts: str | None, ends: str | None, newest: datetime | None) -> tuple[datetime, datetime]:
    """A duration is counted from the other bound, so only one of the two can be one."""
    if ends is not None and _DURATION.fullmatch(ends):
        length = _duration(ends, "--to")
        if starts is None or _DURATION.fullmatch(starts):
            raise UsageError(
                f"--to {_quoted(ends)} is counted from --from, which must be a date or an instant then; "
                "give --from 2026-08-01, or --to as a date"
            )
        start = _instant(starts, "--from")
        return start, _moved(start, length, f"--to {ends}")

    # What was typed is read first, so that a slip is not hidden behind an empty store.
    asked: datetime | timedelta | None = None
    if starts is not None:
        counts_back = _DURATION.fullmatch(starts)
        asked = _duration(starts, "--from") if counts_back else _instant(starts, "--from")
    end = _end_of_log(newest) if ends is None else _instant(ends, "--to")
    if asked is None:
        start = _moved(end, -_DEFAULT, "the default --from, 90 days before --to,")
    elif isinstance(asked, timedelta):
        start = _moved(end, -asked, f"--from {starts}")
    else:
        start = asked
    if start >= end:
        if ends is None:
            after, cure = "the midnight after the newest event", "give an earlier --from, or --to as well"
        else:
            after, cure = "--to", "move one of them"
        raise UsageError(f"--from ({_long(start)}) must be before {after} ({_long(end)}); {cure}")
    return start, end


def _instant(text: str, option: str) -> datetime:
    try:
        if _DATE.fullmatch(text):
            found = _midnight(date.fromisoformat(text))
        elif match := _INSTANT.fullmatch(text):
            day, minute, second, fraction, zone = match.groups()
            # Finer than a microsecond is cut off: neither Python nor the store keeps it.
            micros = (fraction or "0")[:6].ljust(6, "0")
            clock = f"{minute}{second or ':00'}.{micros}"
            found = datetime.fromisoformat(f"{day}T{clock}{(zone or 'Z').upper()}")
        else:
            raise ValueError(text)
        found = found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _nonsense(option, text, _BOUND_FORMS) from None
    if not _EARLIEST <= found <= _LATEST:
        raise _out_of_range(f"{option} {text}")
    return found


def _duration(text: str, option: str) -> timedelta:
    digits, unit = text[:-1].lstrip("0"), text[-1]
    if not digits:
        raise UsageError(f"{option} {_quoted(text)} is no time at all; give at least 1{unit}")
    if len(digits) > 7:  # 9,999,999 h is over a thousand years, and int() refuses thousands of digits
        raise _out_of_range(f"{option} {text}")
    return int(digits) * _UNITS[unit]


def _moved(instant: datetime, by: timedelta, what: str) -> datetime:
    try:
        found = instant + by
    except OverflowError:
        raise _out_of_range(what) from None
    if not _EARLIEST <= found <= _LATEST:
        raise _out_of_range(what)
    return found


def _end_of_log(newest: datetime | None) -> datetime:
    """The midnight after the newest event, so that the event itself lies in the half-open period."""
    if newest is None:
        raise UsageError(
            "the store holds no events, so there is no newest one to count from; "
            "run audit-kit collect first, or give both --from and --to as dates"
        )
    aware = newest.replace(tzinfo=UTC) if newest.tzinfo is None else newest
    try:
        end = _midnight(aware.astimezone(UTC).date() + timedelta(days=1))
    except (ValueError, OverflowError):
        end = None
    if end is None or not _EARLIEST <= end <= _LATEST:
        # A single event from a broken clock must not keep the log from being audited.
        raise UsageError(
            f"the newest event claims to be from {newest.isoformat()}, outside the years 1970 to 2200; "
            "set the end yourself, as in --from 90d --to 2026-09-01"
        )
    return end


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)


# ── words ───────────────────────────────────────────────────────────────────────────────────────────────────


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")


def _nonsense(option: str, text: str, forms: str) -> UsageError:
    return UsageError(f"{option} {_quoted(text)} is not valid; give {forms}; years 1970 to 2200")


def _out_of_range(what: str) -> UsageError:
    shown = what if len(what) <= 60 else what[:60] + "…"
    return UsageError(f"{shown} leads outside the years 1970 to 2200; give a period within them")


def _short(instant: datetime) -> str:
    is_midnight = instant.time() == time.min
    return instant.date().isoformat() if is_midnight else _long(instant)


def _long(instant: datetime) -> str:
    fine = "minutes" if not instant.second and not instant.microsecond else "auto"
    return instant.replace(tzinfo=None).isoformat(" ", timespec=fine) + " UTC"


def _length(length: timedelta) -> str:
    """`90 days`, `1 day 12 hours`, `1.5 seconds`."""
    minutes, seconds = divmod(length.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    exact = str(seconds)
    if length.microseconds:
        exact = f"{seconds}.{length.microseconds:06}".rstrip("0")
    parts = [(str(length.days), "day"), (str(hours), "hour"), (str(minutes), "minute"), (exact, "second")]
    return " ".join(f"{n} {unit}" if n == "1" else f"{n} {unit}s" for n, unit in parts if n != "0")
