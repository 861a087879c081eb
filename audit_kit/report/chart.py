"""Lays out the chart of calls by day: a panel for calls, and three strips that share one smaller scale.

Only geometry is decided here; the template draws it. Failures are some hundred times fewer than calls, so a
shared axis would hide them and a double one would mislead.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from audit_kit.model import AuditResult
from audit_kit.report.text import count, instant, number, short_day, utc

WIDTH = 680
_LEFT, _RIGHT = 52, 8
_CALLS_TOP, _CALLS_HEIGHT = 22, 116
_STRIP_HEIGHT, _STRIP_SPACE = 30, 27
_MOST_BARS = 400
_DAY = timedelta(days=1)

SERIES = (
    ("calls", "API calls"),
    ("unauthorized", "401 unauthorized"),
    ("forbidden", "403 forbidden"),
    ("denials", "Policy denials"),
)


@dataclass(frozen=True, slots=True)
class Bar:
    x: str
    y: str
    width: str
    height: str


@dataclass(frozen=True, slots=True)
class Panel:
    key: str
    name: str
    total: str
    top: int
    height: int
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[str, str], ...]  # (y, words)

    @property
    def bottom(self) -> int:
        return self.top + self.height


@dataclass(frozen=True, slots=True)
class Hover:
    x: str
    width: str
    words: str


@dataclass(frozen=True, slots=True)
class Chart:
    width: int
    height: int
    left: int
    right: int
    title: str
    description: str
    unit: str  # what one bar is: "day" or "7 days"
    panels: tuple[Panel, ...]
    dates: tuple[tuple[str, str], ...]  # (x, words)
    gaps: tuple[tuple[str, str, str], ...]  # (x, width, words)
    hovers: tuple[Hover, ...]

    @property
    def bottom(self) -> int:
        return self.panels[-1].bottom


def _coordinate(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _round_maximum(value: int) -> int:
    """The next round number, as an axis wants it: 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, …"""
    step = 1
    while True:
        for tenths in (10, 15, 20, 30, 40, 50, 60, 80):
            if value * 10 <= tenths * step and tenths * step % 10 == 0:
                return tenths * step // 10
        step *= 10


def _short(value: int) -> str:
    if value >= 1_000_000:
        return f"{number(value / 1_000_000)}M"
    return f"{number(value / 1000)}k" if value >= 10_000 else number(value)


def chart_of(result: AuditResult) -> Chart | None:
    """None when no day holds anything to draw."""
    starts_at, ends_at = utc(result.period.starts_at), utc(result.period.ends_at)
    first_day = starts_at.replace(hour=0, minute=0, second=0, microsecond=0)
    day_count = max(1, -((first_day - ends_at) // _DAY))
    days_per_bar = next((n for n in (1, 7, 28) if day_count <= n * _MOST_BARS), 364)

    sums: dict[str, Counter[int]] = {key: Counter() for key, _ in SERIES}
    for each in result.daily:
        day = datetime.fromisoformat(each.day).replace(tzinfo=UTC)
        place = (day - first_day).days
        if 0 <= place < day_count:
            for key in sums:
                # Added even when zero: a day that was counted and held none is not a day without a row.
                sums[key][place // days_per_bar] += getattr(each, key)
    drawn = sorted(sums["calls"])
    if not drawn:
        return None

    plot = WIDTH - _LEFT - _RIGHT
    per_day = plot / day_count

    def x_of(moment: datetime) -> float:
        return _LEFT + min(max((moment - first_day) / _DAY, 0.0), float(day_count)) * per_day

    strips_most = max((n for key, _ in SERIES[1:] for n in sums[key].values()), default=0)
    panels = []
    top = _CALLS_TOP
    for key, name in SERIES:
        height = _CALLS_HEIGHT if key == "calls" else _STRIP_HEIGHT
        scale = _round_maximum(max(sums[key].values()) if key == "calls" else strips_most)
        ticks = (scale, scale // 2, 0) if key == "calls" and scale % 2 == 0 else (scale, 0)
        bars = []
        for place in drawn:
            value = sums[key][place]
            if value:
                x, width = _bar_place(place, days_per_bar, day_count, per_day)
                # A single failure must not vanish between two pixels.
                tall = max(value / scale * height, 1.5)
                bars.append(Bar(*map(_coordinate, (x, top + height - tall, width, tall))))
        panels.append(
            Panel(
                key=key,
                name=name,
                total=number(sums[key].total()),
                top=top,
                height=height,
                bars=tuple(bars),
                ticks=tuple((_coordinate(top + height - t / scale * height), _short(t)) for t in ticks),
            )
        )
        top += height + _STRIP_SPACE

    unit = "day" if days_per_bar == 1 else f"{days_per_bar} days"
    hovers = []
    for place in drawn:
        x, width = _bar_place(place, days_per_bar, day_count, per_day)
        day = first_day + place * days_per_bar * _DAY
        hovers.append(
            Hover(
                _coordinate(x),
                _coordinate(width),
                f"{'' if days_per_bar == 1 else f'{unit} from '}{day:%Y-%m-%d}: "
                f"{count(sums['calls'][place], 'call')}, {number(sums['unauthorized'][place])} × 401, "
                f"{number(sums['forbidden'][place])} × 403, {count(sums['denials'][place], 'denial')}",
            )
        )
    gaps = []
    for gap in sorted(result.coverage.gaps, key=lambda gap: (gap.starts_at, gap.ends_at)):
        x, end = x_of(utc(gap.starts_at)), x_of(utc(gap.ends_at))
        wide = max(end - x, 3.0)  # some hours among ninety days are less than a pixel
        words = f"Gap: {instant(gap.starts_at)} to {instant(gap.ends_at)}"
        gaps.append((_coordinate(min(x, WIDTH - _RIGHT - wide)), _coordinate(wide), words))

    totals = ", ".join(f"{panel.total} {panel.name}" for panel in panels)
    return Chart(
        width=WIDTH,
        height=top - _STRIP_SPACE + 26,
        left=_LEFT,
        right=WIDTH - _RIGHT,
        title=f"API calls by {unit}, with failures and denials",
        description=(
            f"{instant(starts_at)} to {instant(ends_at)}. In all: {totals}. "
            f"{count(len(gaps), 'gap')} in the log. The table below holds the same numbers by week."
        ),
        unit=unit,
        panels=tuple(panels),
        dates=tuple(_dates(first_day, day_count, per_day)),
        gaps=tuple(gaps),
        hovers=tuple(hovers),
    )


def _bar_place(place: int, days_per_bar: int, day_count: int, per_day: float) -> tuple[float, float]:
    first = place * days_per_bar
    width = (min(first + days_per_bar, day_count) - first) * per_day
    space = min(2.0, width * 0.2)
    return _LEFT + first * per_day + space / 2, min(width - space, 60.0)


def _dates(first_day: datetime, day_count: int, per_day: float) -> list[tuple[str, str]]:
    """About eight labels: months where the period is long, else every so many days."""
    days = [first_day + n * _DAY for n in range(day_count)]
    months = sum(day.day == 1 for day in days)
    if months >= 4:
        every = -(-months // 12)
        chosen = [d for d in days if d.day == 1 and (d.year * 12 + d.month - 1) % every == 0]
    else:
        step = next((n for n in (1, 2, 7, 14) if day_count <= n * 9), 28)
        chosen = days[::step]
    named = []
    year = None
    for day in chosen:
        x = _LEFT + (day - first_day) / _DAY * per_day
        named.append((_coordinate(x), short_day(day, with_year=day.year != year)))
        year = day.year
    return named
