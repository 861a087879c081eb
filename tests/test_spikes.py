"""Spikes: every number against slow arithmetic written a second time, and every guard at its edge."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest

from audit_kit.spikes import SpikeOptions, describe, find_incidents, fold_overlapping, score_hours

HOUR = timedelta(hours=1)
LOG_STARTS = datetime(2026, 6, 1)  # noqa: DTZ001 (a Monday; hours are naive UTC by contract)
SCHEMA = {
    "dimension": pl.String,
    "entity": pl.String,
    "hour": pl.Datetime("us"),
    "call_count": pl.Int64,
    "failure_count": pl.Int64,
}
Row = tuple[str, str, datetime, int, int]
BURST = 28 * 24 + 10  # hours into the log: the 29th day, 10:00
BOUNDS = {
    "starts_at": LOG_STARTS + timedelta(days=28),
    "ends_at": LOG_STARTS + timedelta(days=56),
    "log_starts_at": LOG_STARTS,
}


def frame(rows: list[Row]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def quiet(
    days: int = 42,
    *,
    dimension: str = "application",
    entity: str = "crm",
    n: int = 100,
    k: int = 1,
    changed: dict[int, tuple[int, int]] | None = None,
) -> list[Row]:
    """One entity with k of n calls failing each hour, except in the hours of `changed` (n, k)."""
    changed = changed or {}
    return [(dimension, entity, LOG_STARTS + h * HOUR, *changed.get(h, (n, k))) for h in range(days * 24)]


def find(rows: list[Row], **changes: Any) -> pl.DataFrame:
    """Incidents from the 29th day to the 56th, with all else usual."""
    return find_incidents(frame(rows), **{**BOUNDS, **changes})


# --- the formulas, once more and slowly ---------------------------------------------------------------------


def reference(rows: list[Row], starts_at: datetime, ends_at: datetime, o: SpikeOptions) -> dict[Any, Any]:
    """Bucket by bucket: (expected, dispersion, S, log q, flagged), both passes, sums taken afresh."""
    data: dict[tuple[str, str], dict[int, tuple[int, int]]] = defaultdict(dict)
    first = max(starts_at - timedelta(days=o.baseline_days), LOG_STARTS)
    for dimension, entity, hour, n, k in rows:
        if first <= hour < ends_at:
            data[dimension, entity][int((hour - first) / HOUR)] = (n, k)
    start, end, window = (
        int((starts_at - first) / HOUR),
        int((ends_at - first) / HOUR),
        24 * o.baseline_days,
    )
    out: set[tuple[str, str, int]] = set()
    result: dict[Any, Any] = {}
    for _ in range(2):
        kept = {who: {t: nk for t, nk in hours.items() if (*who, t) not in out} for who, hours in data.items()}
        lambdas: dict[tuple[str, str], list[float]] = defaultdict(list)
        found: dict[tuple[str, str, int], list[float]] = {}
        for t in range(end):
            past: dict[str, list[int]] = {}
            for (dimension, _entity), hours in kept.items():
                sums = past.setdefault(dimension, [0, 0, 0, 0])
                for u in range(max(0, t - window), t):
                    if u in hours:
                        n, k = hours[u]
                        sums[2] += k
                        sums[3] += 1
                        if k <= n:
                            sums[0] += k
                            sums[1] += n
            for who, hours in data.items():
                n, k = hours.get(t, (0, 0))
                own = {u: nk for u, nk in kept[who].items() if t - window <= u < t}
                shares = {u: (nn, kk) for u, (nn, kk) in own.items() if kk <= nn}
                parent_k, parent_n, parent_all, parent_hours = past[who[0]]
                r0 = (sum(kk for _, kk in shares.values()) + 200 * (parent_k + 1) / (parent_n + 100)) / (
                    sum(nn for nn, _ in shares.values()) + 200
                )
                same = [t - 168 * w for w in range(1, window // 168 + 1)]
                kh = sum(shares[u][1] for u in same if u in shares)
                nh = sum(shares[u][0] for u in same if u in shares)
                expected = n * max(r0, (kh + 20 * r0) / (nh + 20))
                if k > n or r0 >= 0.5:
                    heard = [
                        u
                        for u in range(max(0, t - window), t)
                        if (*who, u) not in out and any(u in h for h in data.values())
                    ]
                    m0 = (sum(kk for _, kk in own.values()) + 24 * (parent_all + 1) / (parent_hours + 100)) / (
                        len(heard) + 24
                    )
                    kh = sum(own[u][1] for u in same if u in own)
                    expected = max(m0, (kh + m0) / (len([u for u in same if u in heard]) + 1))
                    expected *= any(t in h for h in data.values())
                numerator, denominator = 6.0, 20.0
                for u in range(max(0, t - window), t):
                    if (*who, u) not in out:
                        ku, lu = hours.get(u, (0, 0))[1], lambdas[who][u]
                        numerator += (ku - lu) ** 2 - lu
                        denominator += lu**2
                lambdas[who].append(expected)
                a = min(max(numerator / denominator, 0.01), 5)
                s = 0.0
                if k > expected:
                    s = k * math.log(k / expected)
                    s -= (k + 1 / a) * math.log((k + 1 / a) / (expected + 1 / a))
                if t in hours:
                    found[*who, t] = [expected, a, s, 0.0, 0.0]
        for dimension in {d for d, _ in data}:
            for is_in_period in (False, True):
                family = {
                    key: data[key[0], key[1]][key[2]]
                    for key in found
                    if key[0] == dimension and (key[2] >= start) == is_in_period
                }
                m = sum(max(nk) >= o.min_calls for nk in family.values())
                tested = []
                for key, (n, k) in family.items():
                    expected = found[key][0]
                    guards = (
                        max(n, k) >= o.min_calls,
                        k >= o.min_failures,
                        k - expected >= o.min_excess,
                        k >= o.min_ratio * expected,
                    )
                    if all(guards):
                        tested.append(key)
                tested.sort(key=lambda key: -found[key][2])
                q = 0.0
                for rank in range(len(tested), 0, -1):
                    key = tested[rank - 1]
                    q = min(q, -found[key][2] + math.log(m / rank))
                    found[key][3:] = [q, float(q <= math.log(o.max_q))]
        out = {key for key, values in found.items() if values[4]}
        result = found
    return {
        (d, e, first + t * HOUR): values
        for (d, e, t), values in result.items()
        if any(k >= o.min_failures for _, k in data[d, e].values())
    }


def random_rows(seed: int, days: int) -> list[Row]:
    """Two dimensions; entities that fail rarely, often, nearly always, or in hours without calls; a gap."""
    rng = random.Random(seed)
    rows: list[Row] = []
    kinds = [("application", "a", 0.02), ("application", "b", 0.15), ("application", "c", 0.8)]
    kinds += [("application", "never", 0.0), ("user", "u", 0.03), ("user", "bare", 0.1)]
    for dimension, entity, rate in kinds:
        for h in range(days * 24):
            if 50 <= h < 55 or rng.random() < 0.3:
                continue
            n = rng.choice([2, 5, 20, 60])
            p = min(0.95, rate * rng.choice([1, 1, 1, 2]))
            k = sum(rng.random() < p for _ in range(n))
            if rate and rng.random() < 0.012:
                k = max(k, int(n * rng.uniform(0.3, 1)))
            if entity == "bare" and k:
                n = 0
            rows.append((dimension, entity, LOG_STARTS + h * HOUR, n, k))
    return rows


@pytest.mark.parametrize("seed", range(4))
def test_every_bucket_agrees_with_the_reference(seed: int) -> None:
    """A window of 14 days in a log of 24, so that hours leave the window and weeks are remembered."""
    rows = random_rows(seed, days=24)
    options = SpikeOptions(baseline_days=14)
    starts_at, ends_at = LOG_STARTS + timedelta(days=14), LOG_STARTS + timedelta(days=24)
    expected = reference(rows, starts_at, ends_at, options)
    got = score_hours(
        frame(rows), starts_at=starts_at, ends_at=ends_at, log_starts_at=LOG_STARTS, options=options, growth_passes=0
    )
    assert got.height == len(expected)
    for row in got.iter_rows(named=True):
        key = (row["dimension"], row["entity"], row["hour"])
        ours = [row[name] for name in ("expected", "dispersion", "score", "log_q", "is_flagged")]
        assert ours == pytest.approx(expected[key], rel=1e-9, abs=1e-8), key
    assert any(values[4] for values in expected.values())
    assert any(not values[4] for values in expected.values())
    assert set(got.filter("is_count_based")["entity"]) >= {"bare", "c"}
    assert not got.filter(~pl.col("is_count_based")).is_empty()


def test_the_second_pass_changes_what_it_should() -> None:
    """Otherwise the agreement above would say nothing about the second pass."""
    rows = frame(random_rows(0, days=24))
    bounds = BOUNDS | {"ends_at": LOG_STARTS + timedelta(days=35)}
    once, twice = (score_hours(rows, **bounds, passes=p, growth_passes=0) for p in (1, 2))
    assert once["expected"].to_list() != twice["expected"].to_list()


def outage() -> pl.DataFrame:
    """Weeks of office hours without failures among forty quiet peers, then six hours in which most calls fail."""
    rows: list[Row] = []
    for number in range(-672, 48):
        hour = BOUNDS["starts_at"] + timedelta(hours=number)
        if 10 <= number < 16:
            rows.append(("application", "a", hour, 40, 30))
        elif 8 <= number % 24 < 18:
            rows.append(("application", "a", hour, 8, 0))
        if number % 3 == 0:
            rows.extend(("application", f"peer {n}", hour, 10, 0) for n in range(40))
    return frame(rows)


def test_an_outage_of_hours_is_found_whole() -> None:
    """Its first hours raise the dispersion and hide the rest; growing brings them out."""
    bounds = BOUNDS | {"ends_at": BOUNDS["starts_at"] + timedelta(hours=48)}
    (grown,) = find_incidents(outage(), **bounds).rows(named=True)
    assert (grown["hour_count"], grown["failure_count"]) == (6, 180)
    without = score_hours(outage(), **bounds, growth_passes=0).filter("is_flagged", "is_in_period")
    assert without.height < 6


# --- guards -------------------------------------------------------------------------------------------------
# An entity without history, alone in its dimension: r0 = (1/100 · 200)/200 = 0.01 exactly, so that λ = n/100.


def alone(n: int, k: int, **options: float) -> int:
    usual = SpikeOptions(max_q=1.0, min_excess=0, min_ratio=0, min_failures=0, min_calls=0)
    rows: list[Row] = [("application", "new", BOUNDS["starts_at"], n, k)]
    return find(rows, options=replace(usual, **options)).height


@pytest.mark.parametrize(
    ("n", "k", "options", "is_found"),
    [
        (50, 4, {"min_failures": 5}, False),
        (50, 5, {"min_failures": 5}, True),
        (4, 4, {"min_calls": 5}, False),
        (5, 4, {"min_calls": 5}, True),
        (100, 6, {"min_excess": 5}, True),
        (101, 6, {"min_excess": 5}, False),
        (500, 15, {"min_ratio": 3}, True),
        (501, 15, {"min_ratio": 3}, False),
    ],
)
def test_each_guard_at_its_edge(n: int, k: int, options: dict[str, float], is_found: bool) -> None:
    assert alone(n, k, **options) == is_found


def test_flagged_exactly_up_to_the_largest_q() -> None:
    rows = quiet(changed={BURST: (100, 12)})
    q = find(rows, options=SpikeOptions(max_q=1.0))["q_value"].item()
    assert find(rows, options=SpikeOptions(max_q=q * 1.000001)).height == 1
    assert find(rows, options=SpikeOptions(max_q=q * 0.999999)).height == 0


def test_family_is_the_hours_of_the_period_with_enough_calls_of_all_entities() -> None:
    """One spike has q = p · m; m counts entities that never fail, but neither idle hours nor other times."""
    spike = quiet(changed={BURST: (100, 40)})
    alone = find(spike).row(0, named=True)
    assert alone["q_value"] / alone["p_value"] == pytest.approx(14 * 24)
    # `score` would change with the parent's calls, but q/p is m alone.
    busy = find(spike + quiet(entity="silent", n=5, k=0)).row(0, named=True)
    assert busy["q_value"] / busy["p_value"] == pytest.approx(2 * 14 * 24)
    idle = find(spike + quiet(entity="silent", n=4, k=0)).row(0, named=True)
    assert idle["q_value"] / idle["p_value"] == pytest.approx(14 * 24)
    other = find(spike + quiet(entity="someone", dimension="user", k=0)).row(0, named=True)
    assert other["q_value"] / other["p_value"] == pytest.approx(14 * 24)


# --- what is a spike, and what is not -----------------------------------------------------------------------


def test_a_burst_is_found_with_its_hours() -> None:
    rows = quiet(changed={BURST: (100, 40), BURST + 1: (120, 50)})
    row = find(rows).row(0, named=True)
    start = LOG_STARTS + BURST * HOUR
    assert find(rows).height == 1
    assert (row["first_hour"], row["last_hour"], row["ends_at"]) == (start, start + HOUR, start + 2 * HOUR)
    assert (row["hour_count"], row["failure_count"], row["call_count"]) == (2, 90, 220)
    assert row["flagged_hours"] == [start, start + HOUR]
    assert row["expected_failure_count"] == pytest.approx(2.2, rel=0.02)
    assert row["ratio"] == pytest.approx(90 / row["expected_failure_count"])
    assert row["excess"] == pytest.approx(90 - row["expected_failure_count"])
    assert 1 < row["ratio_lower_95"] < row["ratio"]
    assert row["p_log10"] == pytest.approx(math.log10(row["p_value"]))
    assert (row["is_low_baseline"], row["is_count_based"], row["history_days"]) == (False, False, 28)


def test_the_lower_bound_is_the_formula() -> None:
    rows = frame(quiet(changed={BURST: (100, 40), BURST + 1: (200, 50)}))
    flagged = score_hours(rows, **BOUNDS).filter("is_flagged").rows(named=True)
    row = find_incidents(rows, **BOUNDS).row(0, named=True)
    total = sum(hour["expected"] for hour in flagged)
    spread = sum(hour["dispersion"] * hour["expected"] ** 2 for hour in flagged) / total**2
    assert row["ratio_lower_95"] == pytest.approx(90 / total * math.exp(-1.96 * math.sqrt(1 / 90 + spread)))


@pytest.mark.parametrize(("quiet_hours", "incidents"), [(0, 1), (6, 1), (7, 2)])
def test_merged_over_six_quiet_hours_but_not_seven(quiet_hours: int, incidents: int) -> None:
    rows = quiet(changed={BURST: (100, 40), BURST + quiet_hours + 1: (100, 40)})
    found = find(rows)
    assert found.height == incidents
    assert found["failure_count"].sum() == 80  # quiet hours add nothing
    assert found["hour_count"].sum() == 2


def test_two_entities_are_never_merged() -> None:
    both = quiet(changed={BURST: (100, 40)}) + quiet(entity="dms", changed={BURST + 1: (100, 40)})
    assert find(both)["entity"].to_list() == ["crm", "dms"]


def test_a_weekly_job_stays_quiet_once_known() -> None:
    """Failing each Monday at 03:00 for eight weeks; the same hours once only are a spike."""
    mondays = [3 + 168 * week for week in range(8)]
    assert find(quiet(56, changed=dict.fromkeys(mondays, (100, 30)))).is_empty()
    assert find(quiet(56, changed={mondays[5]: (100, 30)})).height == 1
    # Begun within the period, it is reported until it has been seen twice without being left out.
    begun = find(quiet(56, changed=dict.fromkeys(mondays[4:], (100, 30))))
    assert begun["first_hour"].to_list() == [LOG_STARTS + h * HOUR for h in mondays[4:6]]


def test_more_traffic_alone_is_quiet() -> None:
    """Failures rise tenfold because calls do."""
    hours = range(BURST, BURST + 100)
    assert find(quiet(changed=dict.fromkeys(hours, (1000, 10)))).is_empty()
    assert find(quiet(changed=dict.fromkeys(hours, (100, 10)))).height == 1


def test_flagged_hours_do_not_poison_the_baseline() -> None:
    """A large outage would excuse the smaller burst after it, were it part of the baseline."""
    outage = {BURST: (1000, 600)}
    rows = frame(quiet(changed={**outage, BURST + 48: (100, 16)}))
    burst = LOG_STARTS + (BURST + 48) * HOUR
    once = score_hours(rows, **BOUNDS, passes=1, growth_passes=0).filter("is_flagged")
    twice = score_hours(rows, **BOUNDS, passes=2, growth_passes=0).filter("is_flagged")
    assert burst not in once["hour"].to_list()
    assert burst in twice["hour"].to_list()


def test_an_incident_before_the_period_is_left_out_of_baselines_but_never_reported() -> None:
    before = {BURST - 100: (1000, 600)}
    found = find(quiet(changed={**before, BURST + 48: (100, 16)}))
    assert found["first_hour"].to_list() == [LOG_STARTS + (BURST + 48) * HOUR]


def test_only_hours_of_the_period_are_flagged() -> None:
    start = 28 * 24
    for hour, is_found in [(start - 1, False), (start, True), (35 * 24 - 1, True), (35 * 24, False)]:
        rows = quiet(changed={hour: (100, 60)})
        assert find(rows, ends_at=LOG_STARTS + timedelta(days=35)).height == is_found, hour


def test_a_baseline_uses_only_the_past() -> None:
    """What comes after an hour changes nothing of its expectation, dispersion or score."""
    rows = frame(random_rows(1, days=35))
    cut = LOG_STARTS + timedelta(days=32)
    columns = ["dimension", "entity", "hour", "expected", "dispersion", "score"]
    late = score_hours(rows, **BOUNDS, passes=1, growth_passes=0).filter(pl.col("hour") < cut).select(columns)
    early = score_hours(rows.filter(pl.col("hour") < cut), **BOUNDS, passes=1, growth_passes=0).select(columns)
    assert late.join(early.select("entity").unique(), on="entity", how="semi").equals(early)


def test_hours_before_the_log_starts_are_no_baseline() -> None:
    rows = quiet(changed={BURST: (100, 40)})
    starts = LOG_STARTS + timedelta(days=26)
    row = find(rows, log_starts_at=starts + timedelta(minutes=20)).row(0, named=True)
    assert (row["is_low_baseline"], row["history_days"]) == (True, 2)
    changed = [(d, e, h, n, 90 if h < starts else k) for d, e, h, n, k in rows]
    assert find(changed, log_starts_at=starts).equals(find(rows, log_starts_at=starts))


@pytest.mark.parametrize(("hours", "is_low"), [(168, False), (167, True)])
def test_less_than_seven_days_of_history_is_a_low_baseline(hours: int, is_low: bool) -> None:
    """The history is the entity's own: another's goes back to the start of the log."""
    rows = [row for row in quiet(changed={BURST: (100, 40)}) if row[2] >= LOG_STARTS + (BURST - hours) * HOUR]
    assert find(rows + quiet(entity="old"))["is_low_baseline"].to_list() == [is_low]


def test_failures_without_calls_are_judged_by_count_and_informational() -> None:
    rows = quiet(n=0, k=2, changed={BURST: (0, 60)})
    row = find(rows).row(0, named=True)
    assert row["is_count_based"]
    assert row["expected_failure_count"] == pytest.approx(2, rel=0.05)
    assert find(quiet(n=0, k=2, changed={BURST: (0, 5)})).is_empty()


def test_who_nearly_always_fails_is_judged_by_count() -> None:
    """At nine of ten failing no rate could treble; ten times the count still shows."""
    row = find(quiet(n=10, k=9, changed={BURST: (100, 90)})).row(0, named=True)
    assert row["is_count_based"]
    assert row["expected_failure_count"] == pytest.approx(9, rel=0.05)
    assert not find(quiet(n=10, k=4, changed={BURST: (100, 90)}))["is_count_based"].any()


def test_a_gap_in_the_log_is_no_quiet_baseline() -> None:
    """Two thirds of the hours are missing altogether: the mean per hour is of the others."""
    rows = [row for row in quiet(n=0, k=6, changed={BURST: (0, 90)}) if row[2].hour in (9, 10, 11, 12)]
    assert find(rows)["expected_failure_count"].item() == pytest.approx(6, rel=0.05)


# --- edges of the input, and determinism --------------------------------------------------------------------


def test_empty_series() -> None:
    found = find([])
    assert found.is_empty()
    assert found.schema == find(quiet(changed={BURST: (100, 40)})).schema
    assert fold_overlapping(found).is_empty()


def test_an_entity_that_never_fails() -> None:
    assert find(quiet(k=0)).is_empty()


def test_nothing_after_the_log_began() -> None:
    assert find(quiet(changed={BURST: (100, 40)}), log_starts_at=BOUNDS["ends_at"]).is_empty()


def test_a_baseline_shorter_than_a_week() -> None:
    rows = quiet(changed={BURST: (100, 40)})
    assert find(rows, options=SpikeOptions(baseline_days=5)).height == 1


def test_rows_of_the_same_hour_add_up() -> None:
    whole = quiet(changed={BURST: (100, 40)})
    halves = [(d, e, h, n // 2, k // 2) for d, e, h, n, k in whole]
    rest = [(d, e, h, n - n // 2, k - k // 2) for d, e, h, n, k in whole]
    assert find(halves + rest).equals(find(whole))


def test_more_entities_than_fit_in_one_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row for e in range(5) for row in quiet(entity=f"e{e}", changed={BURST + e: (100, 40)})]
    whole = find(rows)
    monkeypatch.setattr("audit_kit.spikes._ENTITIES_AT_ONCE", 2)
    assert find(rows).equals(whole)
    assert whole.height == 5


def test_order_of_rows_does_not_matter() -> None:
    rows = random_rows(2, days=40)
    expected = find(rows)
    assert not expected.is_empty()
    for seed in range(3):
        shuffled = rows[:]
        random.Random(seed).shuffle(shuffled)
        assert find(shuffled).equals(expected)


def test_the_number_of_threads_does_not_matter() -> None:
    """To the last bit: floats are printed in full."""
    code = (
        "import sys; sys.path.insert(0, 'tests'); import test_spikes as t\n"
        "import polars as pl\n"
        "for row in t.find(t.random_rows(2, days=40)).rows(): print(repr(row))\n"
        "print(pl.thread_pool_size())"
    )
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    outputs = []
    for threads in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "POLARS_MAX_THREADS": threads},
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
        *rows, pool = done.stdout.splitlines()
        assert pool == threads
        assert rows
        outputs.append(rows)
    assert outputs[0] == outputs[1]


# --- folding ------------------------------------------------------------------------------------------------


def incident(dimension: str, entity: str, failures: int, hours: range, **changes: Any) -> dict[str, Any]:
    at = [LOG_STARTS + h * HOUR for h in hours]
    usual = find(quiet(changed={BURST: (100, 40)})).row(0, named=True)
    own = {"dimension": dimension, "entity": entity, "failure_count": failures, "flagged_hours": at}
    span = {"first_hour": at[0], "last_hour": at[-1], "ends_at": at[-1] + HOUR, "hour_count": len(at)}
    return {**usual, **own, **span, **changes}


def kept(*incidents: dict[str, Any], **finer: pl.DataFrame) -> list[str]:
    schema = find([]).schema
    folded = fold_overlapping(pl.DataFrame(list(incidents), schema=schema, orient="row"), **finer)
    return folded["entity"].to_list()


@pytest.mark.parametrize(
    ("application_failures", "hours", "expected"),
    [
        (15, range(1, 2), ["app"]),  # half of the user's 30
        (14, range(1, 2), ["app", "ann"]),
        (400, range(2, 4), ["app", "ann"]),  # begins when the user's has ended
        (400, range(2), ["app"]),
    ],
)
def test_fold_by_overlap(application_failures: int, hours: range, expected: list[str]) -> None:
    app = incident("application", "app", application_failures, hours)
    assert kept(app, incident("user", "ann", 30, range(2))) == expected


def test_incidents_that_only_touch_do_not_overlap() -> None:
    app = incident("application", "app", 400, range(2))
    assert kept(app, incident("user", "ann", 30, range(2, 4))) == ["app", "ann"]
    assert kept(app, incident("user", "ann", 30, range(1, 4))) == ["app"]


def test_fold_sums_the_applications_that_overlap() -> None:
    apps = [incident("application", name, 8, range(2)) for name in ("a", "b")]
    assert kept(*apps, incident("user", "ann", 33, range(2))) == ["a", "b", "ann"]
    assert kept(*apps, incident("user", "ann", 32, range(2))) == ["a", "b"]


def shared(name: str, *rows: tuple[str, str, int, int]) -> pl.DataFrame:
    schema = {"application": pl.String, name: pl.String, "hour": pl.Datetime("us"), "failure_count": pl.Int64}
    return pl.DataFrame([(a, e, LOG_STARTS + h * HOUR, k) for a, e, h, k in rows], schema=schema, orient="row")


@pytest.mark.parametrize(("dimension", "entity"), [("user", "ann"), ("resource", "crm")])
def test_fold_by_shared_failures(dimension: str, entity: str) -> None:
    """A small spike inside an unrelated application's large one stays, given the finer counts."""
    app = incident("application", "app", 400, range(4))
    own = incident(dimension, entity, 30, range(2))
    name = f"by_application_and_{dimension}"
    assert kept(app, own) == ["app"]
    elsewhere = shared(dimension, ("other", entity, 0, 30))
    assert kept(app, own, **{name: elsewhere}) == ["app", entity]
    assert kept(app, own, **{name: shared(dimension, ("app", entity, 0, 15), ("other", entity, 1, 15))}) == ["app"]
    less = shared(dimension, ("app", entity, 0, 14), ("other", entity, 1, 16))
    assert kept(app, own, **{name: less}) == ["app", entity]
    # Outside the hours of the incident, or another's failures.
    late = shared(dimension, ("app", entity, 3, 30), ("app", "somebody", 0, 30))
    assert kept(app, own, **{name: late}) == ["app", entity]


def test_fold_needs_the_application_to_have_its_incident_in_those_hours() -> None:
    apps = [incident("application", "app", 400, range(5, 9)), incident("application", "b", 400, range(2))]
    finer = shared("user", ("app", "ann", 0, 30))
    assert kept(*apps, incident("user", "ann", 30, range(2)), by_application_and_user=finer) == [
        "app",
        "b",
        "ann",
    ]


def test_fold_never_hides_behind_an_informational_incident() -> None:
    app = incident("application", "app", 400, range(2), is_count_based=True)
    assert kept(app, incident("user", "ann", 30, range(2))) == ["app", "ann"]
    assert kept(app, incident("user", "ann", 30, range(2), is_count_based=True)) == ["app"]


def test_fold_keeps_rows_as_they_are() -> None:
    rows = pl.DataFrame(
        [incident("application", "app", 9, range(2)), incident("user", "ann", 30, range(2))],
        schema=find([]).schema,
    )
    assert fold_overlapping(rows).equals(rows)


# --- the sentence -------------------------------------------------------------------------------------------


def sentence(**changes: Any) -> str:
    row = incident("application", "X", 46, range(10, 11), call_count=520, is_low_baseline=False)
    row |= {"expected_failure_count": 4.1, "ratio": 11.22, "ratio_lower_95": 3.79, "p_log10": -7.72}
    return describe({**row, **changes}, 403)


def test_the_sentence() -> None:
    assert sentence() == (
        "Application X got 46 × 403 in 520 calls, 2026-06-01 10:00–11:00 UTC; its baseline predicts 4.1 (11×,"
        " at least 3.7×); if behaviour were unchanged, a count this high has probability ≤ 2e-8."
    )


def test_the_sentence_over_midnight_prints_both_dates() -> None:
    hours = {"first_hour": LOG_STARTS + 23 * HOUR, "ends_at": LOG_STARTS + 25 * HOUR, "hour_count": 2}
    assert "2026-06-01 23:00–2026-06-02 01:00 UTC; its" in sentence(**hours)
    assert "most unusual hour has probability" in sentence(**hours)


def test_the_sentence_says_when_hours_between_are_not_counted() -> None:
    hours = {"first_hour": LOG_STARTS + 3 * HOUR, "ends_at": LOG_STARTS + 12 * HOUR, "hour_count": 2}
    assert "in 2 of the 9 hours 2026-06-01 03:00–12:00 UTC" in sentence(**hours)


def test_the_sentence_says_low_baseline() -> None:
    assert sentence(is_low_baseline=True, history_days=3).endswith("2e-8; low baseline: 3 days of history.")
    assert sentence(is_low_baseline=True, history_days=1).endswith("low baseline: 1 day of history.")
    assert "low baseline" not in sentence()


def test_the_sentence_of_a_count() -> None:
    text = sentence(is_count_based=True, call_count=0)
    assert "46 × 403, 2026" in text
    assert text.endswith("informational.")


@pytest.mark.parametrize(
    ("p_log10", "text"),
    [(-7.6, "3e-8"), (-8.0, "1e-8"), (-7.02, "1e-7"), (-1234.5, "4e-1235"), (-2.0, "1e-2")],
)
def test_probabilities_are_rounded_up(p_log10: float, text: str) -> None:
    """An upper bound must still be one after rounding, also where a float has long become 0."""
    assert f"probability ≤ {text}." in sentence(p_log10=p_log10)


@pytest.mark.parametrize(("lower", "text"), [(3.79, "3.7"), (9.99, "9.9"), (12.9, "12"), (3.0, "3.0")])
def test_lower_bounds_are_rounded_down(lower: float, text: str) -> None:
    assert f"at least {text}×" in sentence(ratio_lower_95=lower)


def test_it_never_speaks_of_attacks() -> None:
    assert "attack" not in sentence(is_low_baseline=True, is_count_based=True)


def test_underflow_keeps_a_finite_logarithm() -> None:
    """100,000 failures where 1 was expected."""
    row = find(quiet(n=10_000, k=100, changed={BURST: (100_000, 90_000)})).row(0, named=True)
    assert row["p_value"] == 0.0
    assert -math.inf < row["p_log10"] < -308
