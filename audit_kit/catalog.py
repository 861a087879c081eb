"""Reads `queries/checks/`: each `<id>.sql` (with its `<id>.py`) → a Check, refused with the place where it is wrong.

A check opens with a TOML comment, goes on with its parameters (`SET VARIABLE name = value;`) and ends in one SELECT.
Discovery is a glob; there is no list to forget.
"""

from __future__ import annotations

import hashlib
import re
import runpy
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from audit_kit.errors import CheckError
from audit_kit.model import Check, Severity
from audit_kit.paths import QUERIES

CHECKS = QUERIES / "checks"
_REQUIRED = ("title", "severity", "needs", "controls", "risk", "remediation")
_OPTIONAL = ("rows", "no_controls_because")
_HEADER = re.compile(r"\A/\*\n(?P<toml>.*?)\*/\n", re.S)
_VARIABLE = re.compile(r"\ASET VARIABLE (?P<name>[a-z][a-z0-9_]*) = (?P<value>.+);\Z")


def load_checks(folder: Path = CHECKS) -> tuple[Check, ...]:
    """All checks of the folder in the order of their ids. Raises CheckError, which names file and line."""
    return tuple(load_check(path) for path in sorted(folder.glob("*.sql")))


def load_check(path: Path) -> Check:
    text = path.read_text(encoding="utf-8")
    header = _HEADER.match(text)
    if header is None:
        raise CheckError(f"{path}:1: a check opens with /*, its TOML header on lines of its own, and */")
    fields = _fields(path, header["toml"])
    parameters, select, line = _body(path, text, header.end())
    _require_one_select(path, select, line)
    used = set(re.findall(r"parameter\('([^']*)'\)", re.sub(r"--.*", "", select)))
    for name in sorted(used ^ set(parameters)):
        wrong = "is used and never set" if name in used else "is set and never used"
        place = f"parameter('{name}')" if name in used else f"SET VARIABLE {name} "
        raise CheckError(f"{path}:{_line_at(text, text.find(place))}: parameter {name} {wrong}")
    refine = path.with_suffix(".py")
    rows = fields.get("rows", "findings")
    if (rows == "series") != refine.is_file():
        raise CheckError(
            f'{path}:{_line_of(header["toml"], "rows")}: rows = "series" and {refine.name} go together; '
            "it has one of the two"
        )
    return Check(
        id=path.stem,
        title=fields["title"],
        severity=Severity.parse(fields["severity"]),
        needs=tuple(fields["needs"]),
        controls=tuple(fields["controls"]),
        risk=fields["risk"],
        remediation=fields["remediation"],
        rows=rows,
        parameters=parameters,
        select=select,
        text=text,
        path=path,
        refine_path=refine if rows == "series" else None,
    )


def checks_hash(checks: Iterable[Check]) -> str:
    """SHA-256 over everything that the checks are: their SQL and their Python."""
    digest = hashlib.sha256()
    for check in checks:
        digest.update(f"{check.id}\x1f{check.text}\x1f".encode())
        if check.refine_path:
            digest.update(check.refine_path.read_bytes())
    return digest.hexdigest()


def refine_function(check: Check) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """The `refine` of a check whose rows are a series."""
    refine = runpy.run_path(str(check.refine_path)).get("refine")
    if not callable(refine):
        raise CheckError(f"{check.refine_path}: it has no function refine(rows)")
    return refine  # type: ignore[no-any-return]  # what it returns is validated by the runner


def set_statement(name: str, value: Any) -> str:
    """`SET VARIABLE name = value;` with the value as a SQL literal."""
    if isinstance(value, bool):
        literal = "true" if value else "false"
    elif isinstance(value, (int, float)):
        literal = repr(value)
    else:
        literal = "'" + str(value).replace("'", "''") + "'"
    return f"SET VARIABLE {name} = {literal};"


def _fields(path: Path, toml: str) -> dict[str, Any]:
    try:
        fields = tomllib.loads(toml)
    except tomllib.TOMLDecodeError as error:
        stated = re.search(r" \(at line ([0-9]+), column [0-9]+\)| \(at end of document\)", str(error))
        line = 1 + (int(stated[1]) if stated and stated[1] else toml.count("\n"))
        wrong = str(error).removesuffix(stated[0]) if stated else str(error)
        raise CheckError(f"{path}:{line}: the header is not TOML: {wrong}") from None
    for name in _REQUIRED:
        if name not in fields:
            raise CheckError(f"{path}:2: the header has no {name}")
    for name in fields:
        if name not in (*_REQUIRED, *_OPTIONAL):
            raise CheckError(f"{path}:{_line_of(toml, name)}: the header has an unknown {name}")
    for name, value in fields.items():
        is_list = name in ("needs", "controls")
        if is_list and not (isinstance(value, list) and all(isinstance(v, str) for v in value)):
            raise CheckError(f"{path}:{_line_of(toml, name)}: {name} is a list of texts")
        if not is_list and not (isinstance(value, str) and value.strip()):
            raise CheckError(f"{path}:{_line_of(toml, name)}: {name} is a text")
    try:
        Severity.parse(fields["severity"])
    except ValueError as error:
        raise CheckError(f"{path}:{_line_of(toml, 'severity')}: {error}") from None
    if fields.get("rows", "findings") not in ("findings", "series"):
        raise CheckError(f'{path}:{_line_of(toml, "rows")}: rows is "findings" or "series"')
    if not fields["controls"] and "no_controls_because" not in fields:
        raise CheckError(f"{path}:{_line_of(toml, 'controls')}: without a control, no_controls_because must say why")
    return fields


def _line_of(toml: str, name: str) -> int:
    lines = toml.splitlines()
    return next((number for number, line in enumerate(lines, 2) if re.match(rf"{name}\s*=", line)), 2)


def _line_at(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _body(path: Path, text: str, start: int) -> tuple[dict[str, Any], str, int]:
    """Parameters, the rest, and the line on which that begins."""
    parameters: dict[str, Any] = {}
    position = start
    for line in text[start:].splitlines(keepends=True):
        stripped = line.strip()
        if stripped and not stripped.startswith("--"):
            if not stripped.upper().startswith("SET "):
                break
            number = _line_at(text, position)
            match = _VARIABLE.match(stripped)
            if match is None:
                raise CheckError(f"{path}:{number}: a parameter is one line: SET VARIABLE name = value;")
            if match["name"] in parameters:
                raise CheckError(f"{path}:{number}: parameter {match['name']} is set twice")
            parameters[match["name"]] = _literal(path, number, match["value"])
        position += len(line)
    return parameters, text[position:].strip().removesuffix(";").strip(), _line_at(text, position)


def _literal(path: Path, number: int, text: str) -> Any:
    if re.fullmatch(r"-?[0-9]+", text):
        return int(text)
    if re.fullmatch(r"-?[0-9]*\.[0-9]+", text):
        return float(text)
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"'([^']|'')*'", text):
        return text[1:-1].replace("''", "'")
    raise CheckError(f"{path}:{number}: {text} is not a number, a text in single quotes, true or false")


def _require_one_select(path: Path, select: str, line: int) -> None:
    try:
        statements = duckdb.extract_statements(select)
    except duckdb.Error as error:
        message = str(error)
        # DuckDB shows the place as "LINE 3: …", counted in what it was given.
        stated = re.search(r"^LINE ([0-9]+):", message, re.M)
        line += int(stated[1]) - 1 if stated else 0
        raise CheckError(f"{path}:{line}: {message.splitlines()[0]}") from None
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise CheckError(f"{path}:{line}: after its parameters a check is one SELECT and nothing else")
