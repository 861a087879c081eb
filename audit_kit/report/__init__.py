"""Reports: each form is a function of one AuditResult, and gives the same bytes for the same value."""

from audit_kit.report.plain import findings_csv, findings_rows, to_json
from audit_kit.report.render import render_html, render_markdown
from audit_kit.report.text import display

__all__ = ["display", "findings_csv", "findings_rows", "render_html", "render_markdown", "to_json"]
