"""Spikes of 401 or 403: hours in which far more calls failed than an entity's own past predicts.

The model is a negative binomial on failures *per call*, which cancels the rhythm of the traffic, with a
baseline of the trailing 28 days, an allowance for weekly jobs, and a dispersion learnt from how well that
baseline has predicted so far (after Farrington et al. 1996 and Noufaily et al. 2013). Many hours are tested
at once, so flags are drawn by false discovery rate (Benjamini & Hochberg 1995). All functions are pure;
hours are naive UTC, and a run is for one status.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl


@dataclass(frozen=True, slots=True)
class SpikeOptions:
    """What counts as a spike. `min_*` are guards an hour must pass before its probability is looked at."""

    baseline_days: int = 28
    min_calls: int = 5
    min_failures: int = 5
    min_excess: float = 5  # failures above the expected
    min_ratio: float = 3  # failures over the expected
    max_q: float = 0.01  # false discovery rate per family of hours
    merge_hours: int = 6  # quiet hours that an incident may span


_ONE_HOUR = timedelta(hours=1)
_HOURS_A_DAY, _HOURS_A_WEEK = 24, 168

# Weights of the priors, in calls: how many an entity makes before its own rate outweighs the parent's.
_PARENT_CALLS, _OWN_CALLS, _SAME_HOUR_CALLS = 100, 200, 20
# The same for baselines on counts, whose exposure is hours. 20 hours would outweigh the 4 same hours of the
# week there can be, and no weekly job would ever be known; hence weights of their own.
_OWN_HOURS, _SAME_HOUR_HOURS = 24, 1
_COUNT_BASED_RATE = 0.5  # above it, three times the expected would be more failures than calls
_DISPERSION_PRIOR, _DISPERSION_WEIGHT = 6, 20
_DISPERSION_RANGE = (0.01, 5.0)

_GROWTH_PASSES = 6  # of an outage, each pass reveals an hour or two more

_ENTITIES_AT_ONCE = 100  # bounds the memory of the dense grid: about 100 MB for a quarter
_FAMILY = ("dimension", "is_in_period")
_BUCKET = ("dimension", "entity", "at")
_INCIDENT = ("dimension", "entity", "first_hour")
_SCORED = (
    *("dimension", "entity", "hour", "at", "is_in_period", "call_count", "failure_count"),
    *("expected", "dispersion", "score", "is_count_based", "history_hours"),
)

_INCIDENT_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("dimension", "entity"), pl.String),
    **dict.fromkeys(("first_hour", "last_hour", "ends_at"), pl.Datetime("us")),
    **dict.fromkeys(("hour_count", "failure_count", "call_count"), pl.Int64),
    **dict.fromkeys(("expected_failure_count", "ratio", "ratio_lower_95", "excess"), pl.Float64),
    **dict.fromkeys(("p_value", "p_log10", "q_value"), pl.Float64),
    **dict.fromkeys(("is_low_baseline", "is_count_based"), pl.Boolean),
    "history_days": pl.Int64,
    "flagged_hours": pl.List(pl.Datetime("us")),
}


def find_incidents(
    series: pl.DataFrame,
    *,
    starts_at: datetime,
    ends_at: datetime,
    log_starts_at: datetime,
    options: SpikeOptions = SpikeOptions(),
) -> pl.DataFrame:
    """Incidents in `[starts_at, ends_at)`, one row each, sorted by (dimension, entity, first_hour).

    `series` is sparse: dimension, entity, hour, call_count, failure_count, holding the baseline days before
    the period as well. Counts and the expected are sums over the flagged hours, which `flagged_hours` lists;
    quiet hours between them add nothing. `ratio_lower_95` is the lower end of a log-normal 95 % interval.
    `p_value` and `q_value` are the smallest of any flagged hour; p is e^-S, S half the negative-binomial
    deviance, an upper bound on the tail (and 0.0 where it underflows: `p_log10` does not).
    """
    judged = score_hours(series, starts_at=starts_at, ends_at=ends_at, log_starts_at=log_starts_at, options=options)
    runs = _runs(judged.filter("is_flagged", "is_in_period"), options.merge_hours)
    incidents = [_incident(rows) for rows in runs]
    return pl.DataFrame(incidents, schema=_INCIDENT_SCHEMA, orient="row")


def score_hours(
    series: pl.DataFrame,
    *,
    starts_at: datetime,
    ends_at: datetime,
    log_starts_at: datetime,
    options: SpikeOptions = SpikeOptions(),
    passes: int = 2,
    growth_passes: int = _GROWTH_PASSES,
) -> pl.DataFrame:
    """Every active hour of every entity that can be flagged, sorted by (dimension, entity, hour).

    Adds expected (failures), dispersion, score (nats), log_p and log_q (natural logarithms; 0 where a guard
    fails), is_flagged, is_in_period, is_count_based and history_hours. Each pass after the first leaves the
    hours flagged by the one before out of all baselines. The first hours of an incident raise the dispersion and
    so hide those that follow; further passes therefore let incidents grow, by hours within `merge_hours` of one
    that is flagged, and by no others: a weekly job stays known. Hours before the period are judged as a family of
    their own, so that last month's incident does not excuse this month's; they are never reported.
    """
    first = max(starts_at - timedelta(days=options.baseline_days), log_starts_at)
    first = first.replace(minute=0, second=0, microsecond=0)
    counts = _counts(series, first, starts_at, ends_at)
    tested = counts.filter(pl.max_horizontal("call_count", "failure_count") >= options.min_calls)
    families = tested.group_by(_FAMILY).agg(family_size=pl.len().cast(pl.Float64))
    left_out = counts.select(_BUCKET).clear()
    for _ in range(passes):
        judged = _flag_hours(_expect(counts, left_out, options), families, options)
        left_out = judged.filter("is_flagged").select(_BUCKET)
    for _ in range(growth_passes):
        known = left_out
        judged = _flag_hours(_expect(counts, known, options), families, options)
        judged = judged.with_columns(is_flagged=pl.col("is_flagged") & _is_near(judged, known, options.merge_hours))
        left_out = judged.filter("is_flagged").select(_BUCKET)
        if left_out.equals(known):
            break
    return judged.drop("at")


def _is_near(judged: pl.DataFrame, known: pl.DataFrame, merge_hours: int) -> pl.Series:
    """Whether a row lies within the hours that an incident may span of a known bucket of its entity."""
    marks = known.sort("at").select("dimension", "entity", "at", near=pl.col("at"))
    rows = judged.with_row_index("place").sort("at").select("place", "dimension", "entity", "at")
    entity = ["dimension", "entity"]
    met = rows.join_asof(
        marks, on="at", by=entity, strategy="nearest", tolerance=merge_hours + 1, check_sortedness=False
    )
    return met.sort("place").get_column("near").is_not_null()


def _counts(series: pl.DataFrame, first: datetime, starts_at: datetime, ends_at: datetime) -> pl.DataFrame:
    """One clean row per active bucket from `first` on, with its hour number `at`; sums are exact integers."""
    return (
        series.select(
            pl.col("dimension", "entity").cast(pl.String),
            pl.col("hour").cast(pl.Datetime("us")),
            pl.col("call_count", "failure_count").cast(pl.Int64).fill_null(0),
        )
        .filter((pl.col("hour") >= first) & (pl.col("hour") < ends_at))
        .group_by("dimension", "entity", "hour")
        .agg(pl.col("call_count").sum(), pl.col("failure_count").sum())
        .filter((pl.col("call_count") > 0) | (pl.col("failure_count") > 0))
        .sort("dimension", "entity", "hour")
        .with_columns(
            at=(pl.col("hour") - first).dt.total_hours().cast(pl.Int32),
            is_in_period=pl.col("hour") >= starts_at,
            # Failures without calls, or more of them than calls: there is no share to take.
            has_denominator=pl.col("call_count") >= pl.col("failure_count"),
        )
    )


def _trailing(column: str, hours: int) -> pl.Expr:
    """Sum over the `hours` rows before this one, which is left out. Rows must be one per hour, in order."""
    # A difference of running totals is exact for integers and, for floats, the same on every run.
    total = pl.col(column).cum_sum()
    return total.shift(1, fill_value=0) - total.shift(hours + 1, fill_value=0)


def _same_hours(column: str, hours: int) -> pl.Expr:
    """Sum over this hour of the week in the `hours` before this one; rows as above."""
    steps = range(_HOURS_A_WEEK, hours + 1, _HOURS_A_WEEK)
    return pl.sum_horizontal(pl.lit(0), *(pl.col(column).shift(step, fill_value=0) for step in steps))


def _expect(counts: pl.DataFrame, left_out: pl.DataFrame, options: SpikeOptions) -> pl.DataFrame:
    """`counts` of the entities that can be flagged, with expected, dispersion, score and history."""
    marks = left_out.with_columns(is_left_out=pl.lit(True))
    rows = counts.join(marks, on=_BUCKET, how="left").with_columns(pl.col("is_left_out").fill_null(False))
    # An hour in which nobody at all was heard is a gap in the log, not an hour without failures.
    heard = rows.select("at", is_heard=pl.lit(1, pl.Int64)).unique()
    clock = heard.select(pl.int_range(pl.col("at").max().fill_null(-1) + 1, dtype=pl.Int32).alias("at"))
    clock = clock.join(heard, on="at", how="left").fill_null(0)
    failing = rows.filter(pl.col("failure_count") >= options.min_failures)
    can_be_flagged = failing.select("dimension", "entity").unique().sort("dimension", "entity")
    window = options.baseline_days * _HOURS_A_DAY
    scored = []
    for dimension in can_be_flagged["dimension"].unique().sort().to_list() or [""]:
        of_dimension = rows.filter(pl.col("dimension") == dimension)
        hours = _with_parent(clock, of_dimension, window)
        names = can_be_flagged.filter(pl.col("dimension") == dimension).select("entity")
        for start in range(0, max(names.height, 1), _ENTITIES_AT_ONCE):
            grid = names.slice(start, _ENTITIES_AT_ONCE).join(hours, how="cross")
            grid = grid.join(of_dimension, on=["entity", "at"], how="left").sort("entity", "at")
            grid = grid.with_columns(
                pl.col("call_count", "failure_count").fill_null(0),
                pl.col("has_denominator").fill_null(True),
                pl.col("is_left_out").fill_null(False),
                is_active=pl.col("call_count").is_not_null(),
            )
            # Silent hours add nothing to any sum of calls or failures: from here on it is sparse again.
            scored.append(_score(grid, window).filter("is_active").select(_SCORED))
    return pl.concat(scored)


def _with_parent(clock: pl.DataFrame, rows: pl.DataFrame, window: int) -> pl.DataFrame:
    """`clock` with the failures per call, and per active entity-hour, of the whole dimension so far."""
    sums = (
        rows.filter(~pl.col("is_left_out"))
        .group_by("at")
        .agg(
            pl.col("call_count", "failure_count").filter("has_denominator").sum(),
            all_failure_count=pl.col("failure_count").sum(),
            hour_count=pl.len().cast(pl.Int64),
        )
    )
    names = ("failure_count", "call_count", "all_failure_count", "hour_count")
    k, n, failures, hours = (_trailing(name, window) for name in names)
    rates = {
        "parent_rate": (k + 1) / (n + _PARENT_CALLS),
        "parent_mean": (failures + 1) / (hours + _PARENT_CALLS),
    }
    return clock.join(sums, on="at", how="left").sort("at").fill_null(0).select("at", "is_heard", **rates)


def _baseline(unit: str, parent: str, weight: int, same_weight: int) -> tuple[pl.Expr, pl.Expr]:
    """Failures per `unit` so far, drawn to the parent's; and that or this hour of the week's, if greater."""
    failures, exposure = f"failures_by_{unit}", f"{unit}_exposure"
    own = (pl.col(f"{failures}_window") + weight * pl.col(parent)) / (pl.col(f"{exposure}_window") + weight)
    same = (pl.col(f"{failures}_same") + same_weight * own) / (pl.col(f"{exposure}_same") + same_weight)
    return own, pl.max_horizontal(own, same)


def _score(grid: pl.DataFrame, window: int) -> pl.DataFrame:
    """Steps 1 to 4 on a dense grid sorted by (entity, at). An hour's values rest on earlier hours alone."""
    n, k, expected = pl.col("call_count"), pl.col("failure_count"), pl.col("expected")
    is_kept = ~pl.col("is_left_out")
    has_share = is_kept & pl.col("has_denominator")
    sums = {
        "failures_by_call": k * has_share,
        "call_exposure": n * has_share,
        "failures_by_hour": k * is_kept,
        "hour_exposure": pl.col("is_heard") * is_kept,
    }
    windows = {f"{name}_window": _trailing(name, window).over("entity") for name in sums}
    windows |= {f"{name}_same": _same_hours(name, window).over("entity") for name in sums}
    oldest = pl.when(is_kept & pl.col("is_active")).then("at").rolling_min(window, min_samples=1).shift(1)
    own_rate, rate = _baseline("call", "parent_rate", _OWN_CALLS, _SAME_HOUR_CALLS)
    _, mean = _baseline("hour", "parent_mean", _OWN_HOURS, _SAME_HOUR_HOURS)
    deviation, square = (_trailing(column, window).over("entity") for column in ("deviation", "square"))
    spread = (deviation + _DISPERSION_PRIOR) / (square + _DISPERSION_WEIGHT)
    size = 1 / pl.col("dispersion")  # of the negative binomial
    score = k * (k / expected).log() - (k + size) * ((k + size) / (expected + size)).log()
    return (
        grid.with_columns(**sums)
        .with_columns(**windows, history_hours=(pl.col("at") - oldest.over("entity")).fill_null(0))
        .with_columns(is_count_based=~pl.col("has_denominator") | (own_rate >= _COUNT_BASED_RATE))
        .with_columns(expected=pl.when("is_count_based").then(mean * pl.col("is_heard")).otherwise(n * rate))
        .with_columns(deviation=((k - expected).pow(2) - expected) * is_kept, square=expected.pow(2) * is_kept)
        .with_columns(dispersion=spread.clip(*_DISPERSION_RANGE))
        .with_columns(score=pl.when(k > expected).then(score).otherwise(0.0))
    )


def _flag_hours(scored: pl.DataFrame, families: pl.DataFrame, options: SpikeOptions) -> pl.DataFrame:
    """Step 5: guards, then Benjamini & Hochberg (1995) in logarithms, since p underflows.

    `family_size` counts every hour with enough calls, of all entities, so that leaving entities out of the
    dense grid changes no q. A further time scale takes what this leaves and adds flags of its own.
    """
    k, expected = pl.col("failure_count"), pl.col("expected")
    is_tested = (
        (pl.max_horizontal("call_count", "failure_count") >= options.min_calls)
        & (k >= options.min_failures)
        & (k - expected >= options.min_excess)
        & (k / expected >= options.min_ratio)
    )
    rank = pl.int_range(1, pl.len() + 1).over(_FAMILY)
    ranked = (
        scored.filter(is_tested)
        .select(*_BUCKET, "is_in_period", log_p=-pl.col("score"))
        .join(families, on=_FAMILY, how="left")
        .sort(*_FAMILY, "log_p", "entity", "at")
        .with_columns(log_q=pl.col("log_p") + pl.col("family_size").log() - rank.log())
        .with_columns(pl.col("log_q").cum_min(reverse=True).over(_FAMILY).clip(upper_bound=0.0))
    )
    return (
        scored.join(ranked.select(*_BUCKET, "log_p", "log_q"), on=_BUCKET, how="left", maintain_order="left")
        .with_columns(is_flagged=(pl.col("log_q").exp() <= options.max_q).fill_null(False))
        .with_columns(pl.col("log_p", "log_q").fill_null(0.0))
    )


def _runs(flagged: pl.DataFrame, merge_hours: int) -> list[list[dict[str, Any]]]:
    """Flagged hours of one entity with at most `merge_hours` quiet hours between neighbours."""
    runs: list[list[dict[str, Any]]] = []
    for row in flagged.sort("dimension", "entity", "hour").iter_rows(named=True):
        last = runs[-1][-1] if runs else None
        is_same = last and (row["dimension"], row["entity"]) == (last["dimension"], last["entity"])
        if last and is_same and row["hour"] - last["hour"] <= (merge_hours + 1) * _ONE_HOUR:
            runs[-1].append(row)
        else:
            runs.append([row])
    return runs


def _incident(rows: list[dict[str, Any]]) -> dict[str, Any]:
    # fsum rounds once, so no order of adding can show; polars may add in as many parts as it has threads.
    failures = sum(row["failure_count"] for row in rows)
    expected = math.fsum(row["expected"] for row in rows)
    variance = 1 / failures + math.fsum(r["dispersion"] * r["expected"] ** 2 for r in rows) / expected**2
    ratio = failures / expected
    log_p = min(row["log_p"] for row in rows)
    history_hours = min(row["history_hours"] for row in rows)
    return {
        "dimension": rows[0]["dimension"],
        "entity": rows[0]["entity"],
        "first_hour": rows[0]["hour"],
        "last_hour": rows[-1]["hour"],
        "ends_at": rows[-1]["hour"] + _ONE_HOUR,
        "hour_count": len(rows),
        "failure_count": failures,
        "call_count": sum(row["call_count"] for row in rows),
        "expected_failure_count": expected,
        "ratio": ratio,
        "ratio_lower_95": math.exp(math.log(ratio) - 1.96 * math.sqrt(variance)),
        "excess": failures - expected,
        "p_value": math.exp(log_p),
        "p_log10": log_p / math.log(10),
        "q_value": math.exp(min(row["log_q"] for row in rows)),
        "is_low_baseline": history_hours < _HOURS_A_WEEK,
        # One hour that stands on a rate is enough for the whole not to be merely informational.
        "is_count_based": all(row["is_count_based"] for row in rows),
        "history_days": history_hours // _HOURS_A_DAY,
        "flagged_hours": [row["hour"] for row in rows],
    }


def fold_overlapping(
    incidents: pl.DataFrame,
    *,
    by_application_and_user: pl.DataFrame | None = None,
    by_application_and_resource: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """`incidents` without those of users and resources that incidents of applications account for.

    Given the finer counts (application, user or resource, hour, failure_count; sparse), an incident is
    dropped where at least half of its own failures happened at applications during their incidents. Without
    them, where the overlapping incidents of applications have at least half as many failures, which may hide
    an unrelated one: pass them. An informational incident accounts for informational ones alone.
    """
    names = {"entity": "application", "first_hour": "application_starts_at", "ends_at": "application_ends_at"}
    names |= {name: f"application_{name}" for name in ("failure_count", "is_count_based")}
    applications = incidents.filter(pl.col("dimension") == "application").rename(names).select(names.values())
    finer = {"user": by_application_and_user, "resource": by_application_and_resource}
    for dimension, shared in finer.items():
        own = incidents.filter(pl.col("dimension") == dimension)
        covered = _accounted_for(own, applications, dimension, shared)
        incidents = incidents.join(covered, on=_INCIDENT, how="anti", maintain_order="left")
    return incidents


def _accounted_for(
    own: pl.DataFrame, applications: pl.DataFrame, dimension: str, shared: pl.DataFrame | None
) -> pl.DataFrame:
    """Keys of the incidents in `own` of which applications' incidents account for half or more."""
    hours = own.select(*_INCIDENT, "failure_count", "is_count_based", hour="flagged_hours").explode("hour")
    if shared is None:
        met = hours.join(applications, how="cross").with_columns(portion="application_failure_count")
    else:
        hour = pl.col("hour").cast(pl.Datetime("us"))
        finer = shared.select("application", hour, entity=dimension, portion="failure_count")
        met = hours.join(finer, on=["entity", "hour"]).join(applications, on="application")
    met = met.filter(
        pl.col("hour").is_between("application_starts_at", "application_ends_at", closed="left")
        & (pl.col("is_count_based") | ~pl.col("application_is_count_based"))
    )
    if shared is None:  # an application's incident counts once, however many hours it shares
        met = met.unique([*_INCIDENT, "application", "application_starts_at"])
    explained = met.group_by(_INCIDENT).agg(pl.col("portion").sum(), pl.col("failure_count").first())
    return explained.filter(2 * pl.col("portion") >= pl.col("failure_count"))


def describe(row: dict[str, Any], status: int) -> str:
    """A row of `find_incidents` as a sentence to check by hand; bounds are rounded to where they hold."""
    start, end, span_hours = row["first_hour"], row["ends_at"], row["ends_at"] - row["first_hour"]
    end_text = f"{end:%H:%M}" if end.date() == start.date() else f"{end:%Y-%m-%d %H:%M}"
    when = f"{start:%Y-%m-%d %H:%M}–{end_text} UTC"
    if row["hour_count"] * _ONE_HOUR != span_hours:
        when = f"in {row['hour_count']} of the {span_hours // _ONE_HOUR} hours {when}"
    calls = f" in {row['call_count']:,} calls" if row["call_count"] >= row["failure_count"] else ""
    much = "a count this high" if row["hour_count"] == 1 else "a count as high as in its most unusual hour"
    days = "1 day" if row["history_days"] == 1 else f"{row['history_days']} days"
    notes = f"; low baseline: {days} of history" if row["is_low_baseline"] else ""
    notes += "; judged by count, not by share of calls: informational" if row["is_count_based"] else ""
    who = f"{row['dimension'].capitalize()} {row['entity']}"
    return (
        f"{who} got {row['failure_count']:,} × {status}{calls}, {when};"
        f" its baseline predicts {_short(row['expected_failure_count'])} ({_short(row['ratio'])}×,"
        f" at least {_short(row['ratio_lower_95'], is_floor=True)}×); if behaviour were unchanged, {much} has"
        f" probability ≤ {_power_of_ten_above(row['p_log10'])}{notes}."
    )


def _short(value: float, *, is_floor: bool = False) -> str:
    """Two figures, or whole numbers from 10 up; down instead of to the nearest where it is a lower bound."""
    decimals = 0 if value >= 10 or value <= 0 else 1 - math.floor(math.log10(value))
    if is_floor:
        value = math.floor(value * 10**decimals) / 10**decimals
    return f"{value:,.{decimals}f}"


def _power_of_ten_above(log10: float) -> str:
    """10^log10 with one figure, rounded up; from the logarithm, so that it works below 1e-308."""
    exponent = math.floor(log10)
    figure = math.ceil(round(10 ** (log10 - exponent), 9))
    return f"1e{exponent + 1}" if figure >= 10 else f"{figure}e{exponent}"
