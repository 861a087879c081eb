"""What this is all about: every planted item is found, and nothing else is reported at medium or above."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from audit_kit.audit import audit, newest_event_at
from audit_kit.catalog import load_checks
from audit_kit.collect import collect
from audit_kit.model import AuditResult, Finding, Severity, State
from audit_kit.period import resolve_period
from audit_kit.sample import DemoOptions, write_demo
from audit_kit.settings import Settings, Source
from audit_kit.store import open_store

SEEDS = (7, 1, 2, 3)


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory):
    """`audited(seed=1, is_clean=True)` → (result, truth, store); each log is made once."""

    @cache
    def make(**options: Any) -> tuple[AuditResult, dict[str, Any], Path]:
        folder = tmp_path_factory.mktemp("demo")
        made = write_demo(folder, DemoOptions(**options))
        settings = replace(Settings(), store=folder / "audit.duckdb")
        collect(settings, [Source("demo", (str(made.deliveries),))])
        with open_store(settings.store) as store:
            period = resolve_period(period=None, starts=None, ends=None, newest=newest_event_at(store))
            result = audit(store, load_checks(), period, settings)
        return result, json.loads(made.truth.read_text()), settings.store

    return make


def is_about(finding: Finding, planted: dict[str, Any]) -> bool:
    if finding.check_id != planted["check"] or finding.state is not State.OPEN:
        return False
    if any(finding.details.get(name) != value for name, value in planted["match"].items()):
        return False
    first, last = (f"{i:%Y-%m-%dT%H:%M}" if i else "" for i in (finding.first_at, finding.last_at))
    return first <= planted["to"] and last >= planted["from"]


def unplanted(result: AuditResult, truth: dict[str, Any]) -> list[str]:
    return [
        f"{f.severity} {f.state} {f.check_id}: {f.reason} {f.inconclusive_because or ''}"
        for f in result.findings
        if f.severity >= Severity.MEDIUM and not any(is_about(f, p) for p in truth["planted"])
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_all_that_was_planted_is_found_and_nothing_else(audited, seed: int):
    result, truth, _ = audited(seed=seed)
    assert len(truth["planted"]) == 10
    for planted in truth["planted"]:
        about = [f for f in result.findings if is_about(f, planted)]
        assert len(about) == 1, planted
        assert about[0].severity >= Severity.parse(planted["least_severity"]), planted
    assert unplanted(result, truth) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_clean_company_has_nothing_at_medium_or_above(audited, seed: int):
    result, truth, _ = audited(seed=seed, is_clean=True)
    assert truth["planted"] == []
    assert unplanted(result, truth) == []
    assert all(r.could_not_judge is None for r in result.results)


def test_a_log_of_issues_only_is_judged_by_request_or_not_at_all(audited):
    result, truth, _ = audited(seed=7, issues_only=True)
    by_id = {r.check.id: r for r in result.results}
    for spike in ("unauthorized_spike", "forbidden_spike"):
        assert "no API call" in (by_id[spike].could_not_judge or "")
    for scopes in ("over_broad_scopes", "unused_read_write_grants"):
        assert by_id[scopes].could_not_judge is None
        assert all(f.details["evidence"] == "by request" for f in by_id[scopes].findings)
    # What the four asked for is less than what they granted, and that shows in requests too.
    assert len(by_id["unused_read_write_grants"].findings) == 4
    for planted in truth["planted"]:
        assert any(is_about(f, planted) for f in result.findings), planted
    assert unplanted(result, truth) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_the_sql_of_every_finding_lists_its_events(audited, seed: int):
    result, _, path = audited(seed=seed)
    with open_store(path) as store:
        for finding in result.findings:
            assert store.query(finding.events_sql).height == finding.event_count, finding.reason


def test_every_row_of_every_file_is_accounted_for(audited):
    result, truth, _ = audited(seed=7)
    files = result.coverage.files
    assert all(f.adds_up for f in files)
    assert sum(f.read_count for f in files) == truth["event_count"]
    assert sum(f.kept_count for f in files) == truth["in_scope_event_count"]
    assert result.coverage.other_resources == (("https://api.linear.app", truth["other_resource_event_count"]),)


def test_events_lie_in_the_store_as_they_were_made(audited):
    _, truth, path = audited(seed=7)
    with open_store(path) as store:
        kinds = dict(store.query("SELECT kind, count(*) FROM events GROUP BY kind").iter_rows())
        unmatched = store.scalar("SELECT count(*) FROM api_calls WHERE operation IS NULL")
    assert kinds["sign_in"] == truth["counts_by_kind"]["users:authenticate"]
    assert kinds["secret_read"] == truth["counts_by_kind"]["secrets:read"]
    assert "other" not in kinds
    assert unmatched == 0
