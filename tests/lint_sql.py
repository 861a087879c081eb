"""`python -m tests.lint_sql`: prints what is wrong with the files of queries/ as file:line, and exits 1."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

ROOT = Path(__file__).resolve().parent.parent
QUERIES = ROOT / "queries"
MAX_COLUMNS = 170
# Files that sqlglot cannot parse, with the reason. A file it can parse has no business here.
NOT_FOR_SQLGLOT = {
    "schema.sql": "it takes a macro whose body is a text put together for an opaque command",
}

Problem = tuple[Path, int, str]


def problems(path: Path, text: str) -> Iterator[Problem]:
    """All problems of one file."""
    for number, line in enumerate(text.splitlines(), 1):
        if "\t" in line:
            yield path, number, "a tab"
        if line != line.rstrip():
            yield path, number, "blanks at the end of the line"
        if len(line) > MAX_COLUMNS:
            yield path, number, f"{len(line)} columns; {MAX_COLUMNS} are allowed"
        if re.search(r"\{\{|\{%|%\}|\}\}|\{[a-z_][a-z0-9_.]*\}", line):
            yield path, number, "braces of an f-string or of Jinja: SQL runs as it is"
    if not text.endswith("\n") or text.endswith("\n\n"):
        yield path, text.count("\n") + 1, "a file ends in one line break"
    yield from ((path, line, "/* inside a comment: DuckDB's comments nest") for line in _nested_comments(text))
    yield from _not_parsed(path, text)
    if path.parent.name == "checks":
        yield from _of_a_check(path, text)


def _nested_comments(text: str) -> Iterator[int]:
    """Lines with a second `/*` before the `*/`; a string or a `--` comment opens none."""
    token = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*")
    position = 0
    while found := token.search(text, position):
        position = found.end()
        if found[0] != "/*":
            continue
        end = text.find("*/", position)
        end = len(text) if end < 0 else end
        for inner in re.finditer(r"/\*", text[position:end]):
            yield _line(text, position + inner.start())
        position = end + 2


def _not_parsed(path: Path, text: str) -> Iterator[Problem]:
    try:
        duckdb.extract_statements(text)
    except duckdb.Error as error:
        stated = re.search(r"^LINE ([0-9]+):", str(error), re.M)
        yield path, int(stated[1]) if stated else 1, str(error).splitlines()[0]
        return
    name = path.relative_to(QUERIES).as_posix() if path.is_relative_to(QUERIES) else path.name
    failed = _sqlglot_fails(text)
    if failed and name not in NOT_FOR_SQLGLOT:
        yield path, *failed
    if not failed and name in NOT_FOR_SQLGLOT:
        yield path, 1, "sqlglot can parse it: take it from NOT_FOR_SQLGLOT"


def _sqlglot_fails(text: str) -> tuple[int, str] | None:
    try:
        statements = sqlglot.parse(text, read="duckdb")
    except SqlglotError as error:
        stated = re.search(r"Line ([0-9]+)", str(error))
        return int(stated[1]) if stated else 1, f"sqlglot cannot parse it: {str(error).splitlines()[0]}"
    for statement in statements:
        if isinstance(statement, exp.Command):
            start = text.find(str(statement.expression).strip()[:40])
            return _line(text, max(start, 0)), f"sqlglot does not understand {statement.this} here"
    return None


def _of_a_check(path: Path, text: str) -> Iterator[Problem]:
    """The select is the part of the last statement that is not indented."""
    try:
        last = duckdb.extract_statements(text)[-1].query
    except (duckdb.Error, IndexError):
        return
    start = text.find(last.strip())
    selects = [m.start() for m in re.finditer(r"^SELECT\b", text[start:], re.M)]
    if not selects:
        yield path, _line(text, start), "no SELECT at the beginning of a line: that of a check stands there"
        return
    body = text[start + selects[-1] :]
    star = re.search(r"^(?:SELECT|   )(?: DISTINCT)? +(?:[a-z_]+\.)?\*", body, re.M)
    if star:
        yield path, _line(text, start + selects[-1] + star.start()), "SELECT * at the top level: name the columns"
    if not re.search(r"^ORDER BY [^\n]+\n*\Z", body, re.M):
        yield path, text.count("\n"), "a check ends in ORDER BY on a line of its own: its rows have one order"


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def main() -> int:
    logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it would repeat to stderr what is reported here
    files = sorted(QUERIES.rglob("*.sql"))
    found = [problem for path in files for problem in problems(path, path.read_text(encoding="utf-8"))]
    for path, line, what in found:
        sys.stdout.write(f"{path.relative_to(ROOT)}:{line}: {what}\n")
    if not files:
        sys.stdout.write(f"{QUERIES}:1: there are no files\n")
    return 1 if found or not files else 0


if __name__ == "__main__":
    sys.exit(main())
