"""Reports: the same content in every form, inert text in all of them, the same bytes every time."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from audit_kit.model import (
    AuditResult,
    Check,
    CheckResult,
    Coverage,
    DailyCount,
    DeliveredFile,
    Finding,
    Gap,
    Period,
    SampleEvent,
    Severity,
    State,
    finding_id,
)
from audit_kit.paths import REPORTS
from audit_kit.report import display, findings_csv, findings_rows, render_html, render_markdown, to_json

GOLDEN = Path(__file__).parent / "golden"
FORMS: dict[str, Callable[[AuditResult], str]] = {
    "html": render_html,
    "md": render_markdown,
    "json": to_json,
    "csv": findings_csv,
}


# ---- A result by hand: every helper takes what differs, all else is usual. ----


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def check(check_id: str = "grants_are_used", **differs: Any) -> Check:
    usual: dict[str, Any] = {
        "id": check_id,
        "title": "Every grant is used within its look-back",
        "severity": Severity.HIGH,
        "needs": ("grants", "api_calls"),
        "controls": ("soc2:CC6.3", "iso27001:A.5.18"),
        "risk": "Access that nobody needs is access that an intruder can use unseen.",
        "remediation": "Revoke the grant in Keycard, or let its owner confirm the need for it.",
        "rows": "findings",
        "parameters": {"min_age_days": 30, "lookback_days": 90},
        "select": "SELECT 1",
        "text": "SELECT 1",
        "path": Path("/anywhere") / f"{check_id}.sql",
    }
    return Check(**(usual | differs))


def sample(number: int = 1, **differs: Any) -> SampleEvent:
    usual: dict[str, Any] = {
        "event_uid": f"0198f2aa-7c1d-7000-8000-00000000{number:04d}",
        "occurred_at": at("2026-08-12T13:00:41") + timedelta(minutes=number),
        "summary": "POST /v2/notes as ada@example.com: 403",
        "source_file": "exports/2026/08/12/13.jsonl.gz",
        "source_row": 40 + number,
    }
    return SampleEvent(**(usual | differs))


def finding(entity: str = "ada@example.com × CRM sync", check_id: str = "grants_are_used", **differs: Any) -> Finding:
    fid = finding_id(*(part.encode("utf-8", "replace").decode() for part in (check_id, entity)))
    usual: dict[str, Any] = {
        "id": fid,
        "occurrence_id": f"{fid}-2026q3",
        "check_id": check_id,
        "entity": entity,
        "state": State.OPEN,
        "severity": Severity.HIGH,
        "reason": "Granted 214 days ago; no call in the last 90 days.",
        "inconclusive_because": None,
        "details": {
            "unused_days": 90,
            "granted_at": "2025-12-01T09:30:00Z",
            "scopes": ["note:read", "task:read"],
        },
        "first_at": at("2026-07-02T08:15:00"),
        "last_at": at("2026-09-11T17:40:30"),
        "event_count": 1234,
        "events_sql": "SELECT *\nFROM events\nWHERE user_id = 'ada@example.com'\nORDER BY occurred_at;",
        "sample_events": tuple(sample(n) for n in range(1, 4)),
    }
    return Finding(**(usual | differs))


def file(name: str = "exports/2026/08/12/13.jsonl.gz", **differs: Any) -> DeliveredFile:
    usual: dict[str, Any] = {
        "source": "file:/deliveries",
        "name": name,
        "status": "collected",
        "reason": None,
        "sha256": hashlib.sha256(name.encode("utf-8", "replace")).hexdigest(),
        "bytes": 81_920,
        "read_count": 50_000,
        "kept_count": 48_990,
        "rejected_count": 2,
        "duplicate_count": 1_005,
        "other_resource_count": 3,
        "first_event_at": at("2026-08-12T13:00:00"),
        "last_event_at": at("2026-08-12T13:59:59"),
        "kept_in_period_count": 47_000,
    }
    return DeliveredFile(**(usual | differs))


def days(count: int = 92, start: str = "2026-07-01") -> tuple[DailyCount, ...]:
    first = at(start)
    silent = {40, 41}
    return tuple(
        DailyCount(
            day=f"{first + timedelta(days=n):%Y-%m-%d}",
            calls=(180 if (first + timedelta(days=n)).weekday() >= 5 else 1200) + (n * 37) % 210,
            unauthorized=(n * 7) % 5 + (9 if n == 57 else 0),
            forbidden=(n * 3) % 4,
            denials=(n % 9 == 0) + (n % 13 == 0),
        )
        for n in range(count)
        if n not in silent
    )


def result(**differs: Any) -> AuditResult:
    """Everything once: open and inconclusive findings, clean checks, one that could not judge, a gap, …"""
    dormant = check()
    denials = check(
        "denials_have_an_owner",
        title="Nobody is denied again and again without somebody looking at it",
        severity=Severity.CRITICAL,
        controls=("soc2:CC7.2", "iso27001:A.8.16"),
        risk="Repeated denials are how a stolen credential looks from the inside.",
        remediation="Ask the owner of the application what it tried, then rotate its credential in Keycard.",
        parameters={"max_denials": 20},
    )
    broad = check(
        "scopes_are_needed",
        title="Every scope that is granted is exercised",
        severity=Severity.MEDIUM,
        controls=("soc2:CC6.1",),
        risk="Scopes nobody exercises widen what one lost token can do.",
        remediation="Take the scopes off the Attio app, after its owner has agreed.",
        parameters={},
    )
    usual: dict[str, Any] = {
        "period": Period(at("2026-07-01T00:00:00"), at("2026-10-01T00:00:00"), "2026-Q3"),
        "as_of": at("2026-10-01T06:00:00"),
        "organisation": "Lovelace & Sons",
        "zones": ("production",),
        "resources": ("https://api.attio.com",),
        "tool_version": "0.1.0",
        "checks_hash": "c1" * 32,
        "settings_hash": "5e" * 32,
        "mapping_hash": "3a" * 32,
        "population": {"users": 60, "applications": 12, "grants": 184, "policies": 9},
        "coverage": Coverage(
            first_event_at=at("2026-07-01T00:03:00"),
            last_event_at=at("2026-09-30T23:58:00"),
            event_count=94_000,
            partial_because=None,
            files=(
                file(),
                file("exports/2026/08/12/14.jsonl.gz"),
                file(
                    "exports/2026/08/12/15.parquet",
                    status="skipped",
                    reason="not a Parquet file: the last four bytes are not PAR1",
                    first_event_at=None,
                    last_event_at=None,
                    **dict.fromkeys(
                        (
                            "read_count",
                            "kept_count",
                            "rejected_count",
                            "duplicate_count",
                            "other_resource_count",
                            "kept_in_period_count",
                        ),
                        0,
                    ),
                ),
            ),
            gaps=(Gap(at("2026-08-10T00:00:00"), at("2026-08-12T00:00:00"), 2467.5),),
            other_resources=(("https://api.example.org", 4), ("https://slack.example.org", 2)),
            rejected=(("time is missing", 3), ("time is not a number", 1)),
            unmatched_call_count=17,
            call_count=sum(each.calls for each in days()),
        ),
        "daily": days(),
        "results": (
            CheckResult(
                dormant,
                (
                    finding(),
                    finding("grace@example.com × Mail merge", event_count=3, sample_events=(sample(7),)),
                    finding(
                        "alan@example.com × CRM sync",
                        state=State.INCONCLUSIVE,
                        inconclusive_because="granted 12 days ago, the look-back is 90 days",
                        sample_events=(),
                        event_count=0,
                        first_at=None,
                        last_at=None,
                    ),
                ),
            ),
            CheckResult(
                denials,
                (
                    finding(
                        "Nightly export",
                        "denials_have_an_owner",
                        severity=Severity.CRITICAL,
                        reason="41 denials on 3 days, all by policy “no-export”.",
                        details={"denial_count": 41, "days": 3, "share": 0.4187, "is_new": True},
                        event_count=41,
                    ),
                ),
            ),
            CheckResult(
                broad,
                (
                    finding(
                        "CRM sync × note",
                        "scopes_are_needed",
                        severity=Severity.MEDIUM,
                        reason="Granted note:read-write; every call needed note:read at most.",
                    ),
                ),
            ),
            CheckResult(check("tokens_are_short", title="No token lives longer than an hour", parameters={})),
            CheckResult(
                check("users_are_known", title="Every user is in the directory", severity=Severity.LOW),
                could_not_judge="no users were collected; run `audit-kit collect` with a Keycard API key",
            ),
        ),
    }
    return AuditResult(**(usual | differs))


def with_coverage(**differs: Any) -> AuditResult:
    usual = result()
    return replace(usual, coverage=replace(usual.coverage, **differs))


EMPTY = AuditResult(
    period=Period(at("2026-07-01T00:00:00"), at("2026-10-01T00:00:00")),
    as_of=at("2026-10-01T06:00:00"),
    organisation="",
    zones=(),
    resources=(),
    tool_version="0.1.0",
    checks_hash="",
    settings_hash="",
    mapping_hash="",
    population={},
    coverage=Coverage(None, None, 0, None, (), (), (), (), 0, 0),
    daily=(),
)

HOSTILE = (
    "<script>alert(1)</script>",
    "a|b\\|c\\",
    '=HYPERLINK("http://evil.example";"x")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1)",
    "＝1",
    "\t=1",
    "\r=1",
    "javascript:alert(1)",
    "[x](javascript:alert(1))",
    "![x](https://evil.example/x.png)",
    "https://evil.example www.evil.example <https://evil.example>",
    "`` ``` `code` ````",
    "a\nb\r\nc\u2028# d",
    "\u202egnp.exe\u2066\u200b\ufeff",
    "\x00\x1b[31mred\x07\x7f\x9b",
    "\ud800 alone",
    "&lt;b&gt; &#x3c; &amp;",
    '" onmouseover="alert(1)" x=\'',
    "' style='background:url(https://evil.example)'",
    "]]><![CDATA[ --> <!-- </style></title></textarea><img src=x onerror=alert(1)>",
    "# heading",
    "- item",
    "> quote",
    "1. one",
    "1) one",
    "=== \n---",
    "*bold* _it_ ~~gone~~ $x$",
    "{{ 7 * 7 }}{% raw %}",
    "A" * 10_000,
    "",
    " ",
)


def hostile(text: str) -> AuditResult:
    """The text in every place that the outside world can write to, and some that only authors can."""
    bad_check = check(
        text,
        title=text,
        risk=text,
        remediation=text,
        controls=(text, "soc2:CC6.3"),
        needs=(text,),
        parameters={text: text, "list": [text]},
    )
    bad_finding = finding(
        text,
        text,
        reason=text,
        details={text: text, "names": [text, text], "seen_at": text, "ratio": -0.5},
        events_sql=f"-- {text}\nSELECT '{text}'",
        sample_events=(sample(event_uid=text, summary=text, source_file=text),),
    )
    doubtful = replace(
        bad_finding,
        occurrence_id=text + "-2",
        state=State.INCONCLUSIVE,
        inconclusive_because=text,
    )
    empty = replace(bad_check, id=text + "2")
    return result(
        organisation=text,
        zones=(text, "b"),
        resources=(text,),
        tool_version=text,
        checks_hash=text,
        settings_hash=text,
        mapping_hash=text,
        population={text: 1},
        period=replace(result().period, label=text),
        results=(
            CheckResult(bad_check, (bad_finding, doubtful)),
            CheckResult(empty),
            CheckResult(replace(empty, id=text + "3"), could_not_judge=text),
        ),
        coverage=replace(
            result().coverage,
            partial_because=text,
            files=(
                file(text, source=text, sha256=text),
                file(text + "2", status="skipped", reason=text),
                file(text + "3", read_count=1),
            ),
            other_resources=((text, 1),),
            rejected=((text, 1),),
        ),
    )


# ---- Reading a page back ----

VOID = {"meta", "br", "hr", "img", "link", "input", "col", "wbr"}
TAGS = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "a",
    "svg",
    "symbol",
    "path",
    "circle",
    "header",
    "div",
    "p",
    "h1",
    "h2",
    "h3",
    "h4",
    "span",
    "bdi",
    "dl",
    "dt",
    "dd",
    "time",
    "code",
    "main",
    "section",
    "ul",
    "li",
    "ol",
    "strong",
    "nav",
    "figure",
    "figcaption",
    "desc",
    "defs",
    "pattern",
    "rect",
    "g",
    "text",
    "tspan",
    "use",
    "details",
    "summary",
    "table",
    "caption",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "article",
    "pre",
    "b",
    "i",
}
ATTRIBUTES = {
    "lang",
    "charset",
    "http-equiv",
    "content",
    "name",
    "class",
    "href",
    "id",
    "aria-labelledby",
    "aria-label",
    "aria-hidden",
    "tabindex",
    "role",
    "datetime",
    "scope",
    "open",
    "viewbox",
    "width",
    "height",
    "focusable",
    "d",
    "cx",
    "cy",
    "r",
    "x",
    "y",
    "dy",
    "dx",
    "text-anchor",
    "fill",
    "patternunits",
    "patterntransform",
}


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.style = ""
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice in <{tag}>"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.text.append(data)

    @property
    def ids(self) -> list[str]:
        return [attrs["id"] or "" for _, attrs in self.tags if "id" in attrs]

    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


def tables(markdown: str) -> list[list[int]]:
    """Cells per row of each table, as a Markdown parser sees them."""
    found: list[list[int]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(markdown):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append(0)
        elif token.type in {"td_open", "th_open"}:
            found[-1][-1] += 1
    return found


def unescaped_pipes(line: str) -> int:
    return len(re.findall(r"(?<!\\)(?:\\\\)*\|", line))


# ---- The same bytes ----


@pytest.mark.parametrize("form", FORMS)
def test_the_same_result_gives_the_same_bytes(form: str) -> None:
    assert FORMS[form](result()) == FORMS[form](result())


@pytest.mark.parametrize("form", FORMS)
def test_order_without_meaning_does_not_show(form: str) -> None:
    usual = result(zones=("a", "b"), resources=("r1", "r2"))
    coverage = usual.coverage
    turned = replace(
        usual,
        zones=usual.zones[::-1],
        resources=usual.resources[::-1],
        population=dict(list(usual.population.items())[::-1]),
        daily=usual.daily[::-1],
        coverage=replace(
            coverage,
            files=coverage.files[::-1],
            gaps=coverage.gaps[::-1],
            other_resources=coverage.other_resources[::-1],
            rejected=coverage.rejected[::-1],
        ),
        results=tuple(
            replace(
                each,
                check=replace(
                    each.check,
                    controls=each.check.controls[::-1],
                    needs=each.check.needs[::-1],
                    parameters=dict(list(each.check.parameters.items())[::-1]),
                ),
                findings=tuple(replace(f, sample_events=f.sample_events[::-1]) for f in each.findings[::-1]),
            )
            for each in usual.results[::-1]
        ),
    )
    assert FORMS[form](turned) == FORMS[form](usual)


@pytest.mark.parametrize("form", FORMS)
def test_the_machine_does_not_show(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where the checks lie, nor in which zone the instants are given."""
    elsewhere = timezone(timedelta(hours=-7))
    usual = result()
    moved = replace(
        usual,
        as_of=usual.as_of.astimezone(elsewhere),
        period=replace(usual.period, starts_at=usual.period.starts_at.astimezone(elsewhere)),
        results=tuple(replace(r, check=replace(r.check, path=Path("/x.sql"))) for r in usual.results),
    )
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    assert FORMS[form](moved) == FORMS[form](usual)


@pytest.mark.parametrize("form", FORMS)
def test_golden(form: str) -> None:
    """The whole of a small report, read by eye once and kept; UPDATE_GOLDEN=1 writes it anew."""
    path = GOLDEN / f"report.{form}"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(FORMS[form](result()), encoding="utf-8", newline="\n")
    assert FORMS[form](result()) == path.read_bytes().decode("utf-8")


# ---- Content ----


def test_each_finding_can_be_linked_to_in_both_forms() -> None:
    html, markdown = Page(render_html(result())), render_markdown(result())
    for each in result().findings:
        assert html.ids.count(f"f-{each.occurrence_id}") == 1
        assert markdown.count(f'<a id="f-{each.occurrence_id}"></a>') == 1
        assert each.occurrence_id in html.words()
        assert f"`{each.occurrence_id}`" in markdown


def test_every_link_leads_somewhere_on_the_page() -> None:
    page = Page(render_html(result()))
    links = [attrs["href"] or "" for _, attrs in page.tags if "href" in attrs]
    assert links
    assert {link[1:] for link in links} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    labels = " ".join(attrs.get("aria-labelledby") or "" for _, attrs in page.tags).split()
    assert set(labels) <= set(page.ids)


def test_findings_come_gravest_first_and_inconclusive_last() -> None:
    for text in (render_html(result()), render_markdown(result())):
        body = text[text.index("Recommendation") :]
        places = [body.index(f"f-{each.occurrence_id}") for each in result().findings]
        assert places == sorted(places)


def test_the_summary_counts_what_the_result_holds() -> None:
    words = "4 open findings (1 critical, 2 high, 1 medium), 1 inconclusive; 1 check found nothing, 1 could not judge."
    assert words in Page(render_html(result())).words()
    assert words in render_markdown(result())
    summary = json.loads(to_json(result()))["summary"]
    assert summary == {
        "open_findings": {"critical": 1, "high": 2, "medium": 1, "low": 0},
        "inconclusive_findings": 1,
        "checks_that_found": 3,
        "checks_that_found_nothing": 1,
        "checks_that_could_not_judge": 1,
    }


def test_what_to_do_first_names_one_finding_per_check() -> None:
    markdown = render_markdown(result())
    steps = markdown[markdown.index("What to do first") : markdown.index("### Population")]
    assert [line[:2] for line in steps.splitlines() if line[:1].isdigit()] == ["1.", "2.", "3."]
    assert "rotate its credential" in steps
    assert "and 1 more of this check" in steps


def test_a_partial_period_is_said_in_the_heading() -> None:
    partial = with_coverage(partial_because="the log begins on 2026-07-09")
    html, markdown = render_html(partial), render_markdown(partial)
    assert "partial period" in html[html.index("<h1>") : html.index("</h1>")]
    assert "(partial period)" in html[html.index("<title>") : html.index("</title>")]
    assert markdown.splitlines()[0].endswith("(partial period)")
    assert "the log begins on 2026-07-09" in html
    assert "the log begins on 2026-07-09" in markdown
    assert "partial" not in render_html(result())[: render_html(result()).index("</header>")].split("</style>")[1]


def test_unknown_is_never_clean() -> None:
    """Without a finding, the verdict still carries what the log lacks."""
    quiet = replace(result(), results=(CheckResult(check()),))
    for text in (Page(render_html(quiet)).words(), render_markdown(quiet)):
        assert "no check found anything, as far as the log reaches" in text
        assert "there is 1 gap, 1 file was skipped" in text


def test_a_finding_carries_all_an_auditor_asks_for() -> None:
    for text in (Page(render_html(result())).words(), render_markdown(result())):
        for words in (
            "Every grant is used within its look-back",  # criterion
            "Granted 214 days ago",  # condition
            "Access that nobody needs",  # effect
            "Revoke the grant in Keycard",  # recommendation
            "soc2:CC6.3",
            "Unused (days)",
            "note:read, task:read",
            "2026-07-02 08:15 UTC",
            "2026-09-11 17:40 UTC",
            "3 of 1,234 events",
            "exports/2026/08/12/13.jsonl.gz",
            "2026-08-12 13:01:41 UTC",
            "granted 12 days ago, the look-back is 90 days",
            "WHERE user_id = 'ada@example.com'",
        ):
            assert words in text, words


def test_instants_are_utc_and_the_period_is_half_open() -> None:
    assert "[ 2026-07-01 00:00 UTC , 2026-10-01 00:00 UTC )" in Page(render_html(result())).words()
    assert "[2026-07-01 00:00 UTC, 2026-10-01 00:00 UTC)" in render_markdown(result())
    assert json.loads(to_json(result()))["period"]["ends_at"] == "2026-10-01T00:00:00Z"


def test_an_instant_without_a_zone_is_refused() -> None:
    naive = replace(result(), as_of=datetime(2026, 10, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="no time zone"):
        to_json(naive)


def test_completeness_shows_the_identity_and_what_breaks_it() -> None:
    for text in (Page(render_html(result())).words(), render_markdown(result())):
        flat = text.replace("*", "")
        assert "100,000 read = 97,980 kept + 4 rejected + 2,010 duplicate + 6 other resource" in flat
        assert "Adds up in all 3 files" in flat
        assert "94,000 lie in the period; the checks saw 94,000 events" in flat
        assert "not a Parquet file" in flat
        assert "time is missing" in flat
        assert "2,467.5" in flat
    broken = with_coverage(files=(file(), file("odd.jsonl", read_count=50_001)), event_count=94_001)
    for text in (Page(render_html(broken)).words(), render_markdown(broken)):
        assert "Does not add up" in text
        assert "the two differ by 1" in text
        assert "1 file does not add up" in text


def test_many_files_are_collapsed_but_the_odd_ones_never() -> None:
    files = tuple(file(f"f{n:04d}.jsonl") for n in range(60))
    odd = (file("zz-skipped.jsonl", status="skipped", reason="empty"), file("zz-odd.jsonl", read_count=7))
    many = with_coverage(files=files + odd)
    html, markdown = render_html(many), render_markdown(many)
    assert html.index("zz-odd.jsonl") < html.index("60 collected files") < html.index("f0000.jsonl")
    assert "zz-skipped.jsonl" in html
    assert "f0059.jsonl" in html
    assert "f0049.jsonl" in markdown
    assert "f0050.jsonl" not in markdown
    assert "10 more files that add up" in markdown
    assert "zz-odd.jsonl" in markdown
    assert "zz-skipped.jsonl" in markdown


@pytest.mark.parametrize(("count", "shown"), [(200, 200), (201, 200)])
def test_at_most_two_hundred_findings_of_a_check_are_shown(count: int, shown: int) -> None:
    """Counted over all severities of the check, and the rest is said."""
    found = tuple(finding(f"user {n:03d}", severity=Severity.HIGH if n % 2 else Severity.LOW) for n in range(count))
    many = replace(result(), results=(CheckResult(check(), found),))
    page, markdown = Page(render_html(many)), render_markdown(many)
    assert sum(tag == "article" for tag, _ in page.tags) == shown
    assert markdown.count('<a id="f-') == shown
    for text in (page.words(), markdown):
        assert ("1 more of this check is not shown here" in text) is (count > shown)
    assert len(findings_rows(many)) == len(json.loads(to_json(many))["findings"]) == count
    assert len(list(csv.reader(io.StringIO(findings_csv(many))))) == count + 1


def test_no_form_gives_an_opinion_that_is_the_auditors() -> None:
    for form in FORMS.values():
        assert "complian" not in form(result()).lower()


@pytest.mark.parametrize("form", FORMS)
def test_nothing_at_all_is_a_report_too(form: str) -> None:
    text = FORMS[form](EMPTY)
    assert text.endswith("\n")
    if form in {"html", "md"}:
        assert "No file was delivered" in text
        assert "Adds up" not in text
    assert FORMS[form](replace(EMPTY, daily=(DailyCount("2026-07-01", 0, 0, 0, 0),)))


def test_the_forms_share_their_rows() -> None:
    rows = findings_rows(result())
    assert json.loads(to_json(result()))["findings"] == json.loads(json.dumps(rows))
    read = list(csv.DictReader(io.StringIO(findings_csv(result()))))
    assert [row["occurrence_id"] for row in read] == [row["occurrence_id"] for row in rows]
    assert list(read[0]) == list(rows[0])
    assert [int(row["event_count"]) for row in read] == [row["event_count"] for row in rows]


# ---- The chart ----


def chart_days(text: str) -> list[str]:
    return re.findall(r"<title>(\d{4}-\d\d-\d\d): ", text)


def test_the_chart_has_each_day_its_gap_and_its_words() -> None:
    html = render_html(result())
    assert chart_days(html) == [each.day for each in result().daily]
    assert "Gap: 2026-08-10 00:00 UTC to 2026-08-12 00:00 UTC" in html
    calls = sum(each.calls for each in result().daily)
    assert f"In all: {calls:,} API calls" in html


@pytest.mark.parametrize(
    ("count", "unit"), [(1, "day"), (400, "day"), (401, "7 days"), (2801, "28 days"), (12_000, "364 days")]
)
def test_long_periods_get_wider_bars_and_lose_no_call(count: int, unit: str) -> None:
    start = at("2020-01-01T00:00:00")
    long = result(
        period=Period(start, start + timedelta(days=count)),
        daily=tuple(DailyCount(f"{start + timedelta(days=n):%Y-%m-%d}", 1, 0, 0, 0) for n in range(0, count, 5)),
    )
    html = render_html(long)
    assert f"API calls per {unit}<" in html
    assert f"In all: {len(range(0, count, 5)):,} API calls" in html


def test_everything_drawn_lies_on_the_canvas() -> None:
    page = Page(
        render_html(
            result(
                coverage=replace(
                    result().coverage,
                    gaps=(
                        Gap(at("2026-06-01T00:00:00"), at("2026-07-01T01:00:00"), 10),
                        Gap(at("2026-09-30T23:00:00"), at("2026-10-02T00:00:00"), 10),
                    ),
                )
            )
        )
    )
    box = next(attrs["viewbox"] or "" for tag, attrs in page.tags if attrs.get("class") == "plot").split()
    for tag, attrs in page.tags:
        if tag == "rect" and attrs.get("class") in {"bar", "gap", "hover"} and "x" in attrs:
            x, y, width, height = (float(attrs[name] or "") for name in ("x", "y", "width", "height"))
            assert x >= 0
            assert x + width <= float(box[2]) + 0.01
            assert y >= 0
            assert y + height <= float(box[3])
            assert width > 0
            assert height > 0


# ---- Inert in every form ----


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_plain_text_in_html(text: str) -> None:
    page = Page(render_html(hostile(text)))
    assert page.open == []
    assert {tag for tag, _ in page.tags} <= TAGS
    for tag, attrs in page.tags:
        assert set(attrs) <= ATTRIBUTES, (tag, attrs)
        assert (attrs.get("href") or "#").startswith("#")
    # Nothing was added by the text, whatever it says.
    harmless = Page(render_html(hostile("harmless")))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags] or not text.strip()
    assert page.style == harmless.style


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_plain_text_in_markdown(text: str) -> None:
    markdown = render_markdown(hostile(text))
    harmless = render_markdown(hostile("harmless"))
    for rows, usual in zip(tables(markdown), tables(harmless), strict=True):
        assert len(set(rows)) <= 1, "a row with another number of cells"
        assert rows == usual
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])

    def structure(source: str) -> list[str]:
        kinds = []
        for token in parser.parse(source):
            kinds.append(token.type)
            kinds += [c.type for c in token.children or [] if c.type not in {"text", "code_inline", "text_special"}]
        return kinds

    if text.strip():
        assert structure(markdown) == structure(harmless)
    links = re.findall(r'href="([^"]*)"', parser.render(markdown))
    assert links
    assert all(link.startswith("#f-") for link in links)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_markdown_rows_have_their_pipes_even_for_a_plain_reader(text: str) -> None:
    """Tools that split on `|` without parsing spans see the same number of cells."""
    expected = None
    fenced = False
    for line in render_markdown(hostile(text)).splitlines():
        fenced ^= line.startswith("```")
        if line.startswith("| ") and not fenced:
            expected = expected or unescaped_pipes(line)
            assert unescaped_pipes(line) == expected, line
        else:
            expected = None


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_plain_text_in_csv(text: str) -> None:
    rows = list(csv.reader(io.StringIO(findings_csv(hostile(text)))))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert len(rows) == 3
    for row in rows[1:]:
        for cell in row:
            assert not re.match(r"\s*[=+\-@＝＋－＠]", cell), cell


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("form", FORMS)
def test_nothing_invisible_reaches_any_form(form: str, text: str) -> None:
    written = FORMS[form](hostile(text))
    written.encode("utf-8")
    assert not re.search(
        r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]", written
    )


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_json_carries_the_text_as_it_came(text: str) -> None:
    read = json.loads(to_json(hostile(text)))
    assert read["organisation"] == text
    assert {row["entity"] for row in read["findings"]} == {text}
    assert read["coverage"]["files"][0]["name"].startswith(text)


def test_long_names_are_cut_for_display_only() -> None:
    long = "A" * 10_000
    assert len(display(long)) == 200
    assert display(long).endswith("…")
    assert display("A" * 200) == "A" * 200
    assert "A" * 1201 not in re.sub(r"<pre>.*?</pre>", "", render_html(hostile(long)), flags=re.DOTALL)
    assert long in findings_csv(hostile(long))


def test_invisible_characters_are_named() -> None:
    assert display("a\u202eb") == "a⟨U+202E⟩b"
    assert display("a\n\tb\x00") == "a b⟨U+0000⟩"
    assert display("Zoë 李雷 محمد") == "Zoë 李雷 محمد"


def test_sql_with_fences_of_its_own_stays_inside_its_block() -> None:
    sql = "-- ````` \n```\n# not a heading\nSELECT 1"
    fenced = replace(result(), results=(CheckResult(check(), (finding(events_sql=sql),)),))
    blocks = [t for t in MarkdownIt("commonmark").parse(render_markdown(fenced)) if t.type == "fence"]
    assert [block.content for block in blocks] == ["-- `````\n```\n# not a heading\nSELECT 1\n"]


def test_numbers_are_no_formulas_in_csv() -> None:
    below_zero = replace(result(), results=(CheckResult(check(), (finding("-5", event_count=-5),)),))
    row = next(csv.DictReader(io.StringIO(findings_csv(below_zero))))
    assert row["event_count"] == "-5"
    assert row["entity"] == "'-5"


def test_numbers_that_are_none_do_not_break_json() -> None:
    odd = finding(details={"ratio": float("nan"), "most": float("inf"), "at": at("2026-07-01T00:00:00")})
    read = json.loads(to_json(replace(result(), results=(CheckResult(check(), (odd,)),))))
    assert read["findings"][0]["details"] == {"ratio": None, "most": None, "at": "2026-07-01T00:00:00Z"}


# ---- The page itself ----


def test_the_policy_names_the_style_that_is_there_and_allows_nothing_else() -> None:
    page = Page(render_html(result()))
    policy = next(a["content"] or "" for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert policy.split("; ")[:2] == ["default-src 'none'", f"style-src 'sha256-{digest}'"]
    assert "unsafe" not in policy


def test_the_page_asks_for_nothing() -> None:
    html = render_html(result())
    page = Page(html)
    assert not any("src" in attrs or "style" in attrs for _, attrs in page.tags)
    assert not {"script", "link", "img", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    assert "@import" not in page.style
    assert "url(" not in page.style
    assert set(re.findall(r"url\(([^)]*)\)", html)) == {"#hatch"}


def test_the_page_can_be_read_without_seeing_it() -> None:
    page = Page(render_html(result()))
    assert page.tags[0] == ("html", {"lang": "en"})
    tags = [tag for tag, _ in page.tags]
    assert tags.count("h1") == tags.count("main") == 1
    assert tags.count("table") == tags.count("caption")
    assert all("scope" in attrs for tag, attrs in page.tags if tag == "th")
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-4]", tag)]
    assert all(deeper <= level + 1 for level, deeper in pairwise(levels))
    for tag, attrs in page.tags:
        if attrs.get("class") == "scroll":
            assert (attrs["tabindex"], attrs["role"]) == ("0", "region"), tag
            assert attrs["aria-label"] is not None


def luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1, 2], ids=["light", "dark", "print"])
def test_colours_can_be_told_apart(scheme: int) -> None:
    style = (REPORTS / "html" / "style.css").read_text(encoding="utf-8")
    roots = re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", roots[scheme]))
    body, other = ("ink", "muted"), ("link", "critical", "high", "medium", "low", "ok", "open")
    for ground in ("ground", "sheet", "soft"):
        for name in body + other:
            lighter, darker = sorted((luminance(colours[name]), luminance(colours[ground])), reverse=True)
            contrast = (lighter + 0.05) / (darker + 0.05)
            # Grey text on the code and warning ground is never body text.
            least = 7 if name == "ink" or (name == "muted" and ground != "soft") else 4.5
            assert contrast >= least, f"{name} on {ground}: {contrast:.2f}"
