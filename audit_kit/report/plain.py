"""The plain forms: rows, JSON and CSV. Nothing is cut here, and JSON carries every value as it came."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from audit_kit.model import (
    AuditResult,
    Check,
    CheckResult,
    Coverage,
    DeliveredFile,
    Finding,
    SampleEvent,
    Severity,
    State,
    Verdict,
)
from audit_kit.report.text import is_unsafe, iso, many_lines, one_line

_FORMAT = "audit-kit-report/1"

# What spreadsheets take for the start of a formula, the full-width forms among them. A leading tab or
# carriage return, which some of them skip, is gone by the time this is asked.
_FORMULA_START = tuple("=+-@＝＋－＠")

COLUMNS = (
    "occurrence_id",
    "id",
    "severity",
    "state",
    "check",
    "title",
    "entity",
    "reason",
    "inconclusive_because",
    "controls",
    "risk",
    "remediation",
    "first_at",
    "last_at",
    "event_count",
    "details",
    "sample_events",
    "events_sql",
)


def checks_of_findings(result: AuditResult) -> dict[str, Check]:
    return {finding.check_id: each.check for each in result.results for finding in each.findings}


def results_in_order(result: AuditResult) -> list[CheckResult]:
    return sorted(result.results, key=lambda each: each.check.id)


def files_in_order(coverage: Coverage) -> list[DeliveredFile]:
    return sorted(coverage.files, key=lambda each: (each.source, each.name, each.sha256))


def samples_in_order(finding: Finding) -> list[SampleEvent]:
    def place(event: SampleEvent) -> tuple[datetime, str, int, str]:
        return (event.occurred_at, event.source_file, event.source_row, event.event_uid)

    return sorted(finding.sample_events, key=place)


def most_first(counts: tuple[tuple[str, int], ...]) -> list[tuple[str, int]]:
    return sorted(counts, key=lambda each: (-each[1], each[0]))


def findings_rows(result: AuditResult) -> list[dict[str, Any]]:
    """One row of JSON values per finding, gravest first.

    Text is as it came from the log: whoever prints it to a terminal passes it through `display` first.
    """
    checks = checks_of_findings(result)
    return [_row(finding, checks[finding.check_id]) for finding in result.findings]


def _row(finding: Finding, check: Check) -> dict[str, Any]:
    return {
        "occurrence_id": finding.occurrence_id,
        "id": finding.id,
        "severity": str(finding.severity),
        "state": str(finding.state),
        "check": finding.check_id,
        "title": check.title,
        "entity": finding.entity,
        "reason": finding.reason,
        "inconclusive_because": finding.inconclusive_because,
        "controls": sorted(check.controls),
        "risk": check.risk,
        "remediation": check.remediation,
        "first_at": iso(finding.first_at),
        "last_at": iso(finding.last_at),
        "event_count": finding.event_count,
        "details": {str(key): _plain(value) for key, value in finding.details.items()},
        "sample_events": [
            {
                "event_uid": event.event_uid,
                "occurred_at": iso(event.occurred_at),
                "summary": event.summary,
                "source_file": event.source_file,
                "source_row": event.source_row,
            }
            for event in samples_in_order(finding)
        ],
        "events_sql": finding.events_sql,
    }


def to_json(result: AuditResult) -> str:
    """The whole result: indented by two, sorted where order has no meaning, instants in ISO with `Z`."""
    text = json.dumps(_document(result), indent=2, ensure_ascii=False, allow_nan=False)
    # Letters of every script stay readable, but what is invisible or turns the line around is spelled out.
    # A bare line break is ours: json has escaped those inside strings.
    return re.sub(r"[^\n\x20-\x7e]", _escaped_if_unsafe, text) + "\n"


def _escaped_if_unsafe(match: re.Match[str]) -> str:
    return json.dumps(match.group())[1:-1] if is_unsafe(match.group()) else match.group()


def _document(result: AuditResult) -> dict[str, Any]:
    open_ones = Counter(f.severity for f in result.findings if f.state is State.OPEN)
    verdicts = Counter(each.verdict for each in result.results)
    return {
        "format": _FORMAT,
        "organisation": result.organisation,
        "period": {
            "label": result.period.label,
            "starts_at": iso(result.period.starts_at),
            "ends_at": iso(result.period.ends_at),
            "partial_because": result.coverage.partial_because,
        },
        "as_of": iso(result.as_of),
        "resources": sorted(result.resources),
        "zones": sorted(result.zones),
        "tool_version": result.tool_version,
        "checks_hash": result.checks_hash,
        "settings_hash": result.settings_hash,
        "mapping_hash": result.mapping_hash,
        "summary": {
            "open_findings": {str(s): open_ones[s] for s in sorted(Severity, reverse=True)},
            "inconclusive_findings": len(result.findings) - open_ones.total(),
            "checks_that_found": verdicts[Verdict.FOUND],
            "checks_that_found_nothing": verdicts[Verdict.NOTHING_FOUND],
            "checks_that_could_not_judge": verdicts[Verdict.COULD_NOT_JUDGE],
        },
        "population": dict(sorted(result.population.items())),
        "findings": findings_rows(result),
        "checks": [_check(each) for each in results_in_order(result)],
        "coverage": _coverage(result.coverage),
        "daily": [
            {
                "day": each.day,
                "calls": each.calls,
                "unauthorized": each.unauthorized,
                "forbidden": each.forbidden,
                "denials": each.denials,
            }
            for each in sorted(result.daily, key=lambda each: each.day)
        ],
    }


def _check(each: CheckResult) -> dict[str, Any]:
    # Neither the path nor the SQL: the path differs from machine to machine, and `checks_hash` pins both.
    check = each.check
    return {
        "id": check.id,
        "title": check.title,
        "severity": str(check.severity),
        "verdict": str(each.verdict),
        "could_not_judge": each.could_not_judge,
        "finding_count": len(each.findings),
        "needs": sorted(check.needs),
        "controls": sorted(check.controls),
        "risk": check.risk,
        "remediation": check.remediation,
        "parameters": {name: _plain(value) for name, value in sorted(check.parameters.items())},
    }


def _coverage(coverage: Coverage) -> dict[str, Any]:
    return {
        "first_event_at": iso(coverage.first_event_at),
        "last_event_at": iso(coverage.last_event_at),
        "event_count": coverage.event_count,
        "call_count": coverage.call_count,
        "unmatched_call_count": coverage.unmatched_call_count,
        "gaps": [
            {
                "starts_at": iso(gap.starts_at),
                "ends_at": iso(gap.ends_at),
                "expected_event_count": _plain(gap.expected_event_count),
            }
            for gap in sorted(coverage.gaps, key=lambda gap: (gap.starts_at, gap.ends_at))
        ],
        "other_resources": [
            {"resource": name, "event_count": count} for name, count in most_first(coverage.other_resources)
        ],
        "rejected": [{"reason": reason, "event_count": count} for reason, count in most_first(coverage.rejected)],
        "files": [_file(each) for each in files_in_order(coverage)],
    }


def _file(file: DeliveredFile) -> dict[str, Any]:
    return {
        "source": file.source,
        "name": file.name,
        "status": file.status,
        "reason": file.reason,
        "sha256": file.sha256,
        "bytes": file.bytes,
        "read_count": file.read_count,
        "kept_count": file.kept_count,
        "rejected_count": file.rejected_count,
        "duplicate_count": file.duplicate_count,
        "other_resource_count": file.other_resource_count,
        "kept_in_period_count": file.kept_in_period_count,
        "adds_up": file.adds_up,
        "first_event_at": iso(file.first_event_at),
        "last_event_at": iso(file.last_event_at),
    }


def _plain(value: Any) -> Any:
    """JSON has no instants and no infinities; numbers that are not numbers become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return str(value)


def findings_csv(result: AuditResult) -> str:
    """One row per finding, headed; opens in a spreadsheet without running anything."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_cell(name, row[name]) for name in COLUMNS] for row in findings_rows(result))
    return out.getvalue()


def _cell(name: str, value: Any) -> str | int | float:
    if value is None:
        return ""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value  # a number as such is no formula, even when it is negative
    if name == "controls":
        return _inert(one_line("; ".join(value)))
    if name == "details":
        return _inert(one_line(json.dumps(value, ensure_ascii=False)))
    if name == "sample_events":
        places = (f"{e['event_uid']} ({e['source_file']}, row {e['source_row']})" for e in value)
        return _inert(one_line("; ".join(places)))
    # Line breaks stay in the SQL, quoted, because there they may end a comment.
    return _inert(many_lines(value) if name == "events_sql" else one_line(value))


def _inert(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA_START) else text
