"""README and CONTRIBUTING cannot rot: their tables are computed, their example is run, their links lead somewhere."""

import re
from pathlib import Path

import pytest

from docs.generate import README, computed
from tests.builders import api_call, log_bounds, run_checks

ROOT = README.parent
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_tables_of_readme_are_current():
    text = README.read_text(encoding="utf-8")
    assert text == computed(text), "run `make docs`"


def test_a_table_that_is_not_current_is_noticed():
    text = README.read_text(encoding="utf-8")
    assert computed(text.replace("`log_gap`", "`log_gaps`")) != text.replace("`log_gap`", "`log_gaps`")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_into_the_project_lead_somewhere(page: Path):
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_check_of_contributing_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The example of CONTRIBUTING.md, copied from the page, reports at 05:59 and ignores 06:00."""
    blocks = re.findall(r"```sql\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.S)
    folder = tmp_path / "checks"
    folder.mkdir()
    (folder / "night_webhooks.sql").write_text(blocks[0], encoding="utf-8")
    from audit_kit import catalog

    checks = catalog.load_checks(folder)
    monkeypatch.setattr("tests.builders.load_checks", lambda: checks)
    night = api_call("2026-08-03 05:59", "POST /v2/webhooks")
    ((finding,),) = [r.findings for r in run_checks(tmp_path, [*log_bounds(), night]).results]
    assert finding.details == {"user_id": "ada"}
    assert finding.event_count == 1
    morning = api_call("2026-08-03 06:00", "POST /v2/webhooks")
    assert not run_checks(tmp_path, [*log_bounds(), morning]).findings
