"""The generator: the same bytes for the same options, valid OCSF, an ordinary company, and what was planted."""

import gzip
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from audit_kit.errors import UsageError
from audit_kit.sample import DemoOptions, write_demo
from audit_kit.sample.company import PLANNER, needs
from audit_kit.sample.story import DAYS, Story
from tests.ocsf import ocsf_errors

WINDOW_STARTS = datetime(2026, 7, 1, tzinfo=UTC).timestamp() * 1000


def story(seed: int = 7, events: int = 20_000, **options):
    return Story(events, seed, **{"is_clean": False, "issues_only": False, **options})


def events_of(told: Story) -> list[dict]:
    return [event for day in range(DAYS) for event in told.day(day)]


@pytest.fixture(scope="module", params=[7, 8], ids="seed {}".format)
def told(request) -> tuple[Story, list[dict]]:
    one = story(request.param)
    return one, events_of(one)


@pytest.fixture(scope="module")
def ordinary() -> list[dict]:
    return events_of(story(is_clean=True))


def calls(events: list[dict], *statuses: int) -> list[dict]:
    found = [
        e for e in events if e["metadata"]["event_code"] == "resources:call" and e["resources"][0]["name"] == "Attio"
    ]
    return [e for e in found if not statuses or e["http_response"]["code"] in statuses]


def user(event: dict) -> str | None:
    return event["actor"].get("user", {}).get("uid")


def operation(event: dict) -> str:
    """The catalogue's operation of a call, by the shape of its path."""
    method, path = event["http_request"]["http_method"], event["http_request"]["url"]["path"].split("/")
    for name in needs():
        verb, template = name.split(" ", 1)
        parts = template.split("/")
        if (
            verb == method
            and len(parts) == len(path)
            and all(a == b or a[:1] == "{" for a, b in zip(parts, path, strict=True))
        ):
            return name
    raise AssertionError(f"no operation: {method} {path}")


def test_the_same_options_give_the_same_bytes_whatever_zone_and_threads(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from audit_kit.sample import DemoOptions, write_demo; "
        "write_demo(Path(sys.argv[1]), DemoOptions(events=1_000))"
    )
    written = []
    for number, zone in enumerate(("UTC", "Asia/Kathmandu")):
        out = tmp_path / str(number)
        environment = {
            **os.environ,
            "TZ": zone,
            "PYTHONHASHSEED": str(number + 1),
            "POLARS_MAX_THREADS": str(number + 1),
        }
        subprocess.run([sys.executable, "-c", code, str(out)], check=True, env=environment)
        written.append({p.relative_to(out): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()})
    assert written[0] == written[1]
    assert len(written[0]) > 200


def test_another_seed_gives_another_log():
    assert story(1).day(40) != story(2).day(40)


def test_deliveries_of_an_earlier_run_go_and_anything_else_stays(tmp_path: Path):
    options = DemoOptions(events=1_000)
    first = write_demo(tmp_path, options)
    again = write_demo(tmp_path, DemoOptions(events=1_000, seed=8))
    assert again.file_count == len(list(again.deliveries.iterdir())) == first.file_count
    (again.deliveries / "mine.parquet").touch()
    with pytest.raises(UsageError, match=r"mine\.parquet"):
        write_demo(tmp_path, options)
    assert (again.deliveries / "mine.parquet").exists()


def test_truth_counts_what_is_in_the_files(tmp_path: Path):
    made = write_demo(tmp_path, DemoOptions(events=1_000))
    truth = json.loads(made.truth.read_text())
    codes: Counter[str] = Counter()
    texts = 0
    for file in made.deliveries.iterdir():
        if file.suffix == ".parquet":
            frame = pl.read_parquet(file)
            codes.update(frame["metadata"].struct.field("event_code").to_list())
            texts += frame.schema["unmapped"] == pl.String
        else:
            lines = gzip.decompress(file.read_bytes()).splitlines()
            codes.update(json.loads(line)["metadata"]["event_code"] for line in lines)
    assert dict(codes) == truth["counts_by_kind"]
    assert codes.total() == truth["event_count"] == truth["in_scope_event_count"] + truth["other_resource_event_count"]
    assert texts > 10  # some deliveries carry the free-form part as JSON text
    assert len(list(made.deliveries.glob("*.jsonl.gz"))) > 10


@pytest.mark.parametrize("events", [20_000, 120_000])
def test_the_number_of_events_is_met_within_three_percent(events: int):
    total = len(events_of(story(events=events)))
    assert abs(total - events) <= 0.03 * events


def test_every_kind_of_event_is_valid_ocsf(told):
    _, events = told
    seen: Counter[tuple] = Counter()
    for event in events:
        shape = (
            event["metadata"]["event_code"],
            event.get("status_code"),
            len(event["unmapped"].get("actor", {}).get("identities", ())),
        )
        seen[shape] += 1
        if seen[shape] <= 2:
            assert ocsf_errors(event) == []
    assert len({code for code, *_ in seen}) == 6


def test_uids_are_unique(told):
    _, events = told
    assert len({e["metadata"]["uid"] for e in events}) == len(events)


def test_every_application_uses_every_scope_it_is_issued(told):
    """On six days or more of the last ninety; but for the planted one."""
    _, events = told
    used: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    issued: dict[str, set[str]] = defaultdict(set)
    for event in events:
        is_issue = event["metadata"]["event_code"] == "credentials:issue" and event["resources"][0]["name"] == "Attio"
        if is_issue and event["time"] >= WINDOW_STARTS:
            issued[event["actor"]["app_uid"]] |= set(event["unmapped"].get("granted_scopes", ()))
    for event in calls(events, 200):
        if event["time"] >= WINDOW_STARTS:
            for scope in needs()[operation(event)]:
                used[event["actor"]["app_uid"]][scope].add(event["time"] // 86_400_000)
    assert len(issued) == 12
    for application, scopes in issued.items():
        if application != PLANNER.id:
            thin = {s for s in scopes if len(used[application][s]) < 6}
            assert not thin, (application, thin)
    assert len([s for s in issued[PLANNER.id] if not used[PLANNER.id][s]]) >= 10


def test_everybody_writes_with_what_he_granted_but_the_planted(told):
    """On three days or more of the last ninety."""
    one, events = told
    granted = {
        user(e): e["privileges"]
        for e in events
        if e["metadata"]["event_code"] == "grants:create" and e["resources"][0]["name"] == "Attio"
    }
    wrote: dict[tuple, set[int]] = defaultdict(set)
    for event in calls(events, 200):
        if event["time"] >= WINDOW_STARTS:
            for scope in needs()[operation(event)]:
                wrote[user(event), scope].add(event["time"] // 86_400_000)
    planted = {p.match["user_id"] for p in one.planted() if p.check == "unused_read_write_grants"}
    idle = {
        who
        for who, scopes in granted.items()
        if any(s.endswith("read-write") and len(wrote[who, s]) < 3 for s in scopes)
    }
    assert idle == planted
    assert len(planted) == 4


def test_consents_come_first(told):
    _, events = told
    consented = {
        user(e): e["time"]
        for e in events
        if e["metadata"]["event_code"] == "grants:create" and e["resources"][0]["name"] == "Attio"
    }
    assert max(consented.values()) < WINDOW_STARTS
    for event in events:
        if event["metadata"]["event_code"] in ("credentials:issue", "resources:call") and user(event):
            assert event["time"] > consented[user(event)]


def test_calls_follow_an_issue_of_the_same_credential_within_the_hour(told):
    _, events = told
    issued = {e["unmapped"]["credential_id"]: e["time"] for e in events if "granted_scopes" in e["unmapped"]}
    for event in calls(events):
        assert 0 < event["time"] - issued[event["unmapped"]["credential_id"]] <= 3_600_000


def test_around_the_gap_too_every_call_has_its_issue():
    one = story(events=120_000)
    (gap,) = [p for p in one.planted() if p.check == "log_gap"]
    day = one.day((gap.starts_at - one.starts_at).days)
    issued = {e["unmapped"]["credential_id"] for e in day if "granted_scopes" in e["unmapped"]}
    assert {e["unmapped"]["credential_id"] for e in calls(day)} <= issued


def test_an_ordinary_company_has_no_bursts(ordinary):
    for status in (401, 403):
        for who in (user, lambda e: e["actor"]["app_uid"]):
            hours = Counter((who(e), e["time"] // 3_600_000) for e in calls(ordinary, status) if who(e))
            assert max(hours.values()) <= 3
    assert calls(ordinary, 401)
    assert calls(ordinary, 403)


def test_an_ordinary_company_has_few_denials(ordinary):
    denials = Counter(user(e) for e in ordinary if e.get("status_code") == "access_denied")
    assert 0 < max(denials.values()) <= 3


def test_a_clean_company_has_nothing_planted():
    assert story(is_clean=True).planted() == []


def test_without_calls_the_rest_is_the_same_log():
    whole, issues = events_of(story()), events_of(story(issues_only=True))
    assert issues == [e for e in whole if e["metadata"]["event_code"] != "resources:call"]


def test_the_bursts_are_in_the_data(told):
    one, events = told
    for check, status, least in (("unauthorized_spike", 401, 40), ("forbidden_spike", 403, 25)):
        (planted,) = [p for p in one.planted() if p.check == check]
        first, last = planted.starts_at.timestamp() * 1000, planted.ends_at.timestamp() * 1000
        burst = [
            e
            for e in calls(events, status)
            if first <= e["time"] < last and e["actor"]["app_uid"] == planted.match["application_id"]
        ]
        hours = (last - first) / 3_600_000
        assert len(burst) >= least * hours * 0.9


def test_the_gap_is_silent_and_only_there_where_it_shows():
    one = story(events=120_000)
    (gap,) = [p for p in one.planted() if p.check == "log_gap"]
    day = (gap.starts_at - one.starts_at).days
    hours = Counter(e["time"] // 3_600_000 for e in one.day(day))
    first = int(gap.starts_at.timestamp() // 3600)
    assert all(hours[first + n] == 0 for n in range(4))
    assert hours[first - 1] > 15
    assert not [p for p in story().planted() if p.check == "log_gap"]


def test_the_sample_is_what_its_command_makes(tmp_path: Path):
    """`sample_data/` is made by this call; run it again where the generator changes, and tell its README."""
    sample = Path(__file__).parent.parent / "sample_data"
    options = json.loads((sample / "truth.json").read_text())["options"]
    made = write_demo(tmp_path, DemoOptions(events=options["events"], seed=options["seed"], hours_per_file=480))
    for file in sorted(made.deliveries.iterdir()):
        kept = sample / "deliveries" / file.name
        if file.suffix == ".parquet":  # rows and not bytes: a file names the DuckDB that wrote it
            assert pl.read_parquet(kept).equals(pl.read_parquet(file))
        else:
            assert gzip.decompress(kept.read_bytes()) == gzip.decompress(file.read_bytes())
    assert len(list((sample / "deliveries").iterdir())) == made.file_count
    assert (sample / "truth.json").read_bytes() == made.truth.read_bytes()
    assert sum(f.stat().st_size for f in sample.rglob("*") if f.is_file()) < 1_000_000
