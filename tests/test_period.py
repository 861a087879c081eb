"""`--period`, `--from` and `--to` come to one half-open UTC period, or to an error that says what to give."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from audit_kit.errors import UsageError
from audit_kit.model import Period
from audit_kit.period import describe, resolve_period

NEWEST = datetime(2026, 9, 28, 17, 30, tzinfo=UTC)  # so that the log ends at 2026-09-29 00:00
LAST = datetime.max.replace(tzinfo=UTC)


def resolve(
    period: str | None = None,
    starts: str | None = None,
    ends: str | None = None,
    newest: datetime | None = NEWEST,
) -> Period:
    return resolve_period(period=period, starts=starts, ends=ends, newest=newest)


def refusal(**asked: Any) -> str:
    with pytest.raises(UsageError) as caught:
        resolve(**asked)
    return str(caught.value)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# ── nothing asked for ───────────────────────────────────────────────────────────────────────────────────────


def test_without_a_wish_it_is_the_newest_90_days() -> None:
    assert resolve() == Period(utc("2026-07-01"), utc("2026-09-29"), "newest 90 days")


@pytest.mark.parametrize(
    ("newest", "end"),
    [
        (utc("2026-09-28T23:59:59.999999"), "2026-09-29"),
        (utc("2026-09-29T00:00:00"), "2026-09-30"),
        (utc("2026-09-29T00:00:00.000001"), "2026-09-30"),
        (datetime(2026, 9, 29, 1, 0, tzinfo=timezone(timedelta(hours=2))), "2026-09-29"),
    ],
)
def test_the_default_end_is_the_midnight_after_the_newest_event(newest: datetime, end: str) -> None:
    found = resolve(newest=newest)
    assert found.ends_at == utc(end)
    assert found.starts_at <= newest < found.ends_at


# ── --period ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2026", "2026-01-01", "2027-01-01"),
        ("1970", "1970-01-01", "1971-01-01"),
        ("2200", "2200-01-01", "2201-01-01"),
        ("2026-Q1", "2026-01-01", "2026-04-01"),
        ("2026-Q3", "2026-07-01", "2026-10-01"),
        ("2026-Q4", "2026-10-01", "2027-01-01"),
        ("2026-08", "2026-08-01", "2026-09-01"),
        ("2026-12", "2026-12-01", "2027-01-01"),
        ("2024-02", "2024-02-01", "2024-03-01"),
        ("2026-W33", "2026-08-10", "2026-08-17"),
        ("2026-W01", "2025-12-29", "2026-01-05"),
        ("2026-W53", "2026-12-28", "2027-01-04"),
        ("2026-08-12", "2026-08-12", "2026-08-13"),
        ("2024-02-29", "2024-02-29", "2024-03-01"),
        ("2026-12-31", "2026-12-31", "2027-01-01"),
        ("90d", "2026-07-01", "2026-09-29"),
        ("12h", "2026-09-28T12:00", "2026-09-29"),
        ("2w", "2026-09-15", "2026-09-29"),
        ("007d", "2026-09-22", "2026-09-29"),
    ],
)
def test_a_named_period(text: str, start: str, end: str) -> None:
    assert resolve(text) == Period(utc(start), utc(end), text)


def test_a_calendar_period_needs_no_events() -> None:
    assert resolve("2026-Q3", newest=None).label == "2026-Q3"


@pytest.mark.parametrize(
    "text",
    [
        *("2026-02-30", "2025-02-29", "2026-13", "2026-00", "2026-Q0", "2026-Q5", "2026-W00", "2026-W54"),
        *("2025-W53", "0000", "9999", "26", "2026-8", "2026-Q12", "2026-q3", "2026-w33", "20260812"),
        *(
            "",
            " 2026",
            "2026\n",
            "90",
            "d",
            "-90d",
            "+90d",
            "9.5d",
            "90 d",
            "90D",
            "90m",
            "٩٠d",
            "٢٠٢٦",
            "２０２６",
        ),
        *("2026-08-01T00:00:00Z", "2026-Q²", "yesterday", "90d\x00", "\udcff"),
    ],
)
def test_nonsense_is_refused_with_the_option_what_was_given_and_the_forms(text: str) -> None:
    message = refusal(period=text)
    assert message.startswith(f"--period {text!r} is not valid; give 2026, 2026-Q3, 2026-08, 2026-W33,")
    assert "years 1970 to 2200" in message


@pytest.mark.parametrize("text", ["1969", "2201", "1969-12-31", "2201-01-01", "1970-W01", "2300-Q1"])
def test_only_1970_to_2200_can_be_named(text: str) -> None:
    assert refusal(period=text).startswith(f"--period {text} leads outside the years 1970 to 2200")


@pytest.mark.parametrize("text", ["90000d", "9999999w", "10000000h", "99999999999999999999d", "9" * 5000 + "w"])
def test_a_huge_duration_is_refused_in_few_words(text: str) -> None:
    for asked in ({"period": text}, {"starts": text}, {"starts": "2026-08-01", "ends": text}):
        message = refusal(**asked)
        assert "leads outside the years 1970 to 2200" in message
        assert len(message) < 200


@pytest.mark.parametrize("text", ["0d", "00h", "0w", "0" * 5000 + "d"])
def test_a_duration_of_nothing_is_refused(text: str) -> None:
    for option, asked in (
        ("--period", {"period": text}),
        ("--from", {"starts": text}),
        ("--to", {"starts": "2026-08-01", "ends": text}),
    ):
        message = refusal(**asked)
        assert message.startswith(f"{option} '0")
        assert f"is no time at all; give at least 1{text[-1]}" in message


def test_a_period_beside_bounds_is_refused() -> None:
    for asked in ({"starts": "2026-08-01"}, {"ends": "2026-08-01"}, {"starts": ""}):
        assert "--period cannot go together with --from or --to" in refusal(period="2026", **asked)


# ── --from and --to ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("starts", "ends", "start", "end", "label"),
    [
        ("2026-08-01", "2026-09-01", "2026-08-01", "2026-09-01", "2026-08-01 to 2026-09-01"),
        ("2026-08-01", None, "2026-08-01", "2026-09-29", "2026-08-01 to 2026-09-29"),
        (None, "2026-09-01", "2026-06-03", "2026-09-01", "2026-06-03 to 2026-09-01"),
        ("30d", None, "2026-08-30", "2026-09-29", "2026-08-30 to 2026-09-29"),
        ("2w", "2026-09-01", "2026-08-18", "2026-09-01", "2026-08-18 to 2026-09-01"),
        ("36h", "2026-09-01", "2026-08-30T12:00", "2026-09-01", "2026-08-30 12:00 UTC to 2026-09-01"),
        ("2026-08-01", "90d", "2026-08-01", "2026-10-30", "2026-08-01 to 2026-10-30"),
        ("1970-01-01", "2201-01-01", "1970-01-01", "2201-01-01", "1970-01-01 to 2201-01-01"),
    ],
)
def test_bounds(starts: str | None, ends: str | None, start: str, end: str, label: str) -> None:
    assert resolve(starts=starts, ends=ends) == Period(utc(start), utc(end), label)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-08-01", "2026-08-01T00:00:00"),
        ("2026-08-01T12:30:00Z", "2026-08-01T12:30:00"),
        ("2026-08-01t12:30:00z", "2026-08-01T12:30:00"),
        ("2026-08-01 12:30:00Z", "2026-08-01T12:30:00"),
        ("2026-08-01T12:30:00", "2026-08-01T12:30:00"),
        ("2026-08-01T12:30", "2026-08-01T12:30:00"),
        ("2026-08-01T12:30+02:00", "2026-08-01T10:30:00"),
        ("2026-08-01T01:30:00+05:30", "2026-07-31T20:00:00"),
        ("2026-08-01T22:30:00-04:00", "2026-08-02T02:30:00"),
        ("2026-08-01T12:30:00-00:00", "2026-08-01T12:30:00"),
        ("2026-08-01T12:30:00.5Z", "2026-08-01T12:30:00.500000"),
        ("2026-08-01T12:30:00.123456789Z", "2026-08-01T12:30:00.123456"),
        ("1970-01-01T00:00:00-01:00", "1970-01-01T01:00:00"),
    ],
)
def test_an_instant_is_taken_in_every_rfc_3339_form_and_naive_ones_are_utc(text: str, instant: str) -> None:
    found = resolve(starts=text)
    assert found.starts_at == utc(instant)
    assert found.starts_at.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        *("2026-02-30", "2026-08", "2026-Q3", "", "now", "2026-08-01T", "2026-08-01T24:00:00Z"),
        *("2026-08-01T23:59:60Z", "2026-08-01T12Z", "2026-08-01T12:30:00+0200", "2026-08-01T12:30:00+24:00"),
        *("2026-08-01T12:30.5Z", "2026-08-01T12:30:00.Z", "2026-08-01T12:30:00ZZ", "2026-02-30T00:00:00Z"),
        *(
            "0001-01-01T00:00:00+23:59",
            "２０２６-08-01",
            "2026-08-01\n",
            "0000-01-01",
            "2026-08-01T12:30:00 Z",
        ),
    ],
)
@pytest.mark.parametrize(("option", "name"), [("--from", "starts"), ("--to", "ends")])
def test_a_bound_that_is_nonsense_is_refused(text: str, option: str, name: str) -> None:
    message = refusal(**{name: text})
    assert message.startswith(f"{option} {text!r} is not valid; give a date 2026-08-01, an instant")


def test_a_bound_out_of_range_is_refused() -> None:
    assert "--from 1969-12-31 leads outside" in refusal(starts="1969-12-31")
    assert "--from 1970-01-01T00:00:00+01:00 leads outside" in refusal(starts="1970-01-01T00:00:00+01:00")
    assert "--to 2201-01-02 leads outside" in refusal(ends="2201-01-02")
    assert "--to 2d leads outside" in refusal(starts="2200-12-31", ends="2d")
    assert "90 days before --to, leads outside" in refusal(ends="1970-03-31")


def test_the_first_possible_default_start_is_1970() -> None:
    assert resolve(ends="1970-04-01").starts_at == utc("1970-01-01")


def test_a_period_needs_to_hold_an_instant() -> None:
    assert refusal(starts="2026-08-01", ends="2026-08-01") == (
        "--from (2026-08-01 00:00 UTC) must be before --to (2026-08-01 00:00 UTC); move one of them"
    )
    assert "must be before --to" in refusal(starts="2026-08-02", ends="2026-08-01")
    assert "before the midnight after the newest event (2026-09-29 00:00 UTC)" in refusal(starts="2026-09-29")
    one = resolve(starts="2026-08-01T00:00:00Z", ends="2026-08-01T00:00:00.000001Z")
    assert one.ends_at - one.starts_at == timedelta(microseconds=1)


@pytest.mark.parametrize("starts", [None, "30d"])
def test_a_duration_for_the_end_needs_a_start_that_stands_still(starts: str | None) -> None:
    assert refusal(starts=starts, ends="7d").startswith("--to '7d' is counted from --from, which must be a date")


# ── what the store holds ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("asked", [{}, {"period": "90d"}, {"starts": "90d"}, {"starts": "2026-08-01"}])
def test_an_empty_store_has_no_newest_event_to_count_from(asked: dict[str, str]) -> None:
    message = refusal(**asked, newest=None)
    assert message.startswith("the store holds no events")
    assert "collect" in message


@pytest.mark.parametrize("asked", [{"starts": "x"}, {"starts": "0d"}, {"period": "0d"}])
def test_a_slip_is_named_before_the_empty_store_is(asked: dict[str, str]) -> None:
    assert "the store holds no events" not in refusal(**asked, newest=None)


@pytest.mark.parametrize(
    ("starts", "ends"),
    [("2026-08-01", "2026-09-01"), ("31d", "2026-09-01"), ("2026-08-01", "31d")],
)
def test_bounds_that_need_no_newest_event_do_for_an_empty_store(starts: str, ends: str) -> None:
    found = resolve(starts=starts, ends=ends, newest=None)
    assert (found.starts_at, found.ends_at) == (utc("2026-08-01"), utc("2026-09-01"))


@pytest.mark.parametrize("newest", [LAST.replace(tzinfo=None), LAST, utc("2201-01-01"), utc("1969-01-01")])
def test_an_event_from_a_broken_clock_is_named_and_can_be_got_around(newest: datetime) -> None:
    assert refusal(newest=newest).startswith(f"the newest event claims to be from {newest.isoformat()}")
    assert resolve(starts="90d", ends="2026-09-29", newest=newest).starts_at == utc("2026-07-01")


# ── words ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_period_in_words() -> None:
    assert describe(resolve()) == "2026-07-01 00:00 UTC to 2026-09-29 00:00 UTC (90 days; newest 90 days)"
    assert describe(resolve("2026-08-12")) == ("2026-08-12 00:00 UTC to 2026-08-13 00:00 UTC (1 day; 2026-08-12)")
    assert describe(Period(utc("2026-08-01"), utc("2026-08-02T12:00"))) == (
        "2026-08-01 00:00 UTC to 2026-08-02 12:00 UTC (1 day 12 hours)"
    )


def test_an_odd_length_is_not_rounded() -> None:
    odd = Period(utc("2026-08-01"), utc("2026-08-01T01:02:10.500000"))
    assert describe(odd) == "2026-08-01 00:00 UTC to 2026-08-01 01:02:10.500000 UTC (1 hour 2 minutes 10.5 seconds)"


# ── anything at all ─────────────────────────────────────────────────────────────────────────────────────────

_digits = st.integers(0, 10**12).map(str) | st.sampled_from(["00", "01", "12", "31", "53", "1970", "2200", "٣", "²"])
_lookalikes = st.lists(
    _digits | st.sampled_from(["-", "-Q", "-W", ":", "T", "Z", "d", "h", "w", "+02:00", ".", " ", "\n"]),
    max_size=9,
).map("".join)
_calendar = st.builds("{:04}-{:02}-{:02}".format, st.integers(0, 9999), st.integers(0, 13), st.integers(0, 32))
_instants = st.datetimes(timezones=st.none() | st.timezones()).map(datetime.isoformat)
_durations = st.builds("{}{}".format, st.integers(0, 10**9), st.sampled_from("hdw"))
_named = st.builds(
    "{}{}{}".format,
    st.integers(1960, 2210),
    st.sampled_from(["-Q", "-W", "-W0", "-", "-0"]),
    st.integers(0, 60),
)
_anything = st.none() | _lookalikes | _calendar | _instants | _durations | _named | st.text(max_size=30)
_newest = st.none() | st.just(NEWEST) | st.datetimes() | st.datetimes(timezones=st.timezones())


@given(_anything, _anything, _anything, _newest)
@example(None, None, None, datetime.min.replace(tzinfo=timezone(timedelta(hours=14))))
@example(None, None, None, datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))))
@example(None, "0001-01-01T00:00:00+14:00", None, NEWEST)
@example(None, None, "9999-12-31T23:59:59-12:00", NEWEST)
@hypothesis_settings(max_examples=500, deadline=None)
def test_whatever_is_given_comes_to_a_sound_period_or_a_usage_error(
    period: str | None, starts: str | None, ends: str | None, newest: datetime | None
) -> None:
    for asked in ((period, None, None), (None, starts, ends), (None, starts, None), (None, None, ends)):
        try:
            found = resolve(*asked, newest=newest)
        except UsageError:
            continue
        assert found.starts_at.tzinfo is UTC
        assert found.ends_at.tzinfo is UTC
        assert utc("1970-01-01") <= found.starts_at < found.ends_at <= utc("2201-01-01")
        assert found.label
        assert describe(found)


@given(st.integers(90, 84_370).flatmap(lambda day: st.integers(day * 86_400, day * 86_400 + 86_399)))
def test_the_newest_event_always_lies_in_the_default_period(seconds: int) -> None:
    newest = utc("1970-01-01") + timedelta(seconds=seconds)
    found = resolve(newest=newest)
    assert found.starts_at <= newest < found.ends_at
    assert found.ends_at - newest <= timedelta(days=1)
    assert found.ends_at - found.starts_at == timedelta(days=90)


@given(st.timedeltas(timedelta(0), timedelta(days=40_000)), st.integers(1, 10**6), st.integers(-23, 23))
def test_an_instant_survives_being_written_down(since: timedelta, hours: int, offset: int) -> None:
    start = utc("1970-01-01") + since
    end = start + timedelta(hours=hours)
    elsewhere = start.astimezone(timezone(timedelta(hours=offset))).isoformat()
    found = resolve(starts=elsewhere, ends=end.replace(tzinfo=None).isoformat())
    assert (found.starts_at, found.ends_at) == (start, end)
    assert resolve(starts=elsewhere, ends=f"{hours}h") == found
