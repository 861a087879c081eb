"""Every way in which a check file can be wrong is refused, with file and line."""

from pathlib import Path

import pytest

from audit_kit.catalog import CHECKS, checks_hash, load_check, load_checks, refine_function, set_statement
from audit_kit.errors import CheckError
from audit_kit.model import Severity

HEADER = """\
/*
title       = "All is well"
severity    = "high"
needs       = ["events"]
controls    = ["soc2:CC6.1"]
risk        = "It may not be."
remediation = "Mend it."
*/
"""
SELECT = "SELECT 'a' AS entity, 'b' AS reason, 'FROM events' AS events_sql, parameter('least') AS least\n"
SET = "SET VARIABLE least = 3;\n"
GOOD = HEADER + SET + "\n" + SELECT


def written(folder: Path, text: str, name: str = "some_check.sql") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(folder: Path, text: str) -> str:
    """What load_check says, without the folder: `some_check.sql:3: …`."""
    path = written(folder, text)
    with pytest.raises(CheckError) as refused:
        load_check(path)
    return str(refused.value).removeprefix(f"{folder}/")


def test_a_good_check_is_read(tmp_path):
    check = load_check(written(tmp_path, GOOD))
    assert (check.id, check.title, check.severity) == ("some_check", "All is well", Severity.HIGH)
    assert (check.needs, check.controls) == (("events",), ("soc2:CC6.1",))
    assert (check.risk, check.remediation, check.rows) == ("It may not be.", "Mend it.", "findings")
    assert check.parameters == {"least": 3}
    assert check.select == SELECT.strip()
    assert (check.text, check.path, check.refine_path) == (GOOD, tmp_path / "some_check.sql", None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SELECT, "some_check.sql:1: a check opens with /*, its TOML header on lines of its own, and */"),
        (HEADER.replace("*/\n", "*/ ") + SET, "some_check.sql:1: a check opens with /*,"),
        (GOOD.replace('"high"', '"high'), "some_check.sql:3: the header is not TOML: "),
        (GOOD.replace('"Mend it."', '"""Mend it.'), "some_check.sql:7: the header is not TOML: "),
        (GOOD.replace('severity    = "high"\n', ""), "some_check.sql:2: the header has no severity"),
        (GOOD.replace("title ", "titel "), "some_check.sql:2: the header has no title"),
        (GOOD.replace("*/", 'colour = "red"\n*/'), "some_check.sql:8: the header has an unknown colour"),
        (GOOD.replace('"high"', "3"), "some_check.sql:3: severity is a text"),
        (GOOD.replace('"high"', '"grave"'), "some_check.sql:3: 'grave' is not a severity; use low, medium, high or"),
        (GOOD.replace('["events"]', '"events"'), "some_check.sql:4: needs is a list of texts"),
        (GOOD.replace('["events"]', "[1]"), "some_check.sql:4: needs is a list of texts"),
        (GOOD.replace('["soc2:CC6.1"]', "{}"), "some_check.sql:5: controls is a list of texts"),
        (GOOD.replace('["soc2:CC6.1"]', "[]"), "some_check.sql:5: without a control, no_controls_because must say why"),
        (GOOD.replace('"It may not be."', '" "'), "some_check.sql:6: risk is a text"),
        (GOOD.replace("*/", 'rows = "table"\n*/'), 'some_check.sql:8: rows is "findings" or "series"'),
        (GOOD.replace("'least'", "'most'"), "some_check.sql:9: parameter least is set and never used"),
        (GOOD.replace(SET, ""), "some_check.sql:10: parameter least is used and never set"),
        (HEADER + SET + "-- parameter('least')\nSELECT 1", "some_check.sql:9: parameter least is set and never used"),
        (GOOD.replace(SET, SET + SET), "some_check.sql:10: parameter least is set twice"),
        (GOOD.replace("= 3;", "= 3"), "some_check.sql:9: a parameter is one line: SET VARIABLE name = value;"),
        (GOOD.replace("= 3;", "= 3; -- three"), "some_check.sql:9: a parameter is one line"),
        (GOOD.replace("VARIABLE least", "threads"), "some_check.sql:9: a parameter is one line"),
        (GOOD.replace("= 3;", "= 1 + 2;"), "some_check.sql:9: 1 + 2 is not a number, a text in single quotes, true or"),
        (GOOD.replace("= 3;", "= 'a'b';"), "some_check.sql:9: 'a'b' is not a number"),
        (GOOD.rstrip() + "; SELECT 2", "some_check.sql:11: after its parameters a check is one SELECT"),
        (HEADER, "some_check.sql:9: after its parameters a check is one SELECT and nothing else"),
        (GOOD.replace(SELECT, "SELECT parameter('least')\nFORM a b c"), "some_check.sql:12: Parser Error: "),
        *(
            (HEADER + sql, "some_check.sql:9: after its parameters a check is one SELECT and nothing else")
            for sql in (
                "COPY (SELECT 1) TO 'stolen.csv'",
                "INSERT INTO events BY NAME SELECT 1",
                "WITH a AS (SELECT 1) DELETE FROM events",
                "CREATE TABLE t AS SELECT 1",
                "ATTACH 'other.duckdb'",
                "EXPLAIN SELECT 1",
                "SELECT 1; DROP TABLE events",
            )
        ),
    ],
)
def test_a_wrong_check_is_refused_with_its_place(tmp_path, text, said):
    assert refusal(tmp_path, text).startswith(said)


def test_a_check_without_controls_may_say_why(tmp_path):
    text = GOOD.replace('["soc2:CC6.1"]', "[]").replace("*/", 'no_controls_because = "It is about us."\n*/')
    assert load_check(written(tmp_path, text)).controls == ()


@pytest.mark.parametrize(
    ("text", "value"),
    [("-3", -3), ("0.25", 0.25), ("-.5", -0.5), ("true", True), ("false", False), ("'o''clock'", "o'clock")],
)
def test_a_parameter_is_a_number_a_text_or_a_truth(tmp_path, text, value):
    got = load_check(written(tmp_path, GOOD.replace("= 3;", f"= {text};"))).parameters["least"]
    assert (got, type(got)) == (value, type(value))
    assert set_statement("least", value).removeprefix("SET VARIABLE least = ") in (f"{text};", f"{value};")


def test_a_series_needs_its_python(tmp_path):
    said = refusal(tmp_path, GOOD.replace("*/", 'rows = "series"\n*/'))
    assert said == 'some_check.sql:8: rows = "series" and some_check.py go together; it has one of the two'


def test_python_needs_a_series(tmp_path):
    written(tmp_path, "def refine(rows): return rows\n", "some_check.py")
    said = refusal(tmp_path, GOOD)
    assert said == 'some_check.sql:2: rows = "series" and some_check.py go together; it has one of the two'


def test_a_series_is_refined_by_its_python(tmp_path):
    written(tmp_path, "def refine(rows):\n    return rows * 2\n", "some_check.py")
    check = load_check(written(tmp_path, GOOD.replace("*/", 'rows = "series"\n*/')))
    assert check.refine_path == tmp_path / "some_check.py"
    assert refine_function(check)(21) == 42


def test_python_without_refine_is_refused(tmp_path):
    written(tmp_path, "refine = 3\n", "some_check.py")
    check = load_check(written(tmp_path, GOOD.replace("*/", 'rows = "series"\n*/')))
    with pytest.raises(CheckError, match=r"some_check\.py: it has no function refine\(rows\)"):
        refine_function(check)


def test_checks_come_in_the_order_of_their_ids(tmp_path):
    for name in ("b.sql", "a.sql"):
        written(tmp_path, GOOD, name)
    written(tmp_path, "no check", "notes.txt")
    assert [check.id for check in load_checks(tmp_path)] == ["a", "b"]


def test_the_checks_of_the_project_load():
    assert [check.id for check in load_checks()] == sorted(path.stem for path in CHECKS.glob("*.sql"))


def test_the_hash_changes_with_sql_and_with_python(tmp_path):
    series = GOOD.replace("*/", 'rows = "series"\n*/')
    written(tmp_path, "def refine(rows): return rows\n", "some_check.py")
    first = checks_hash([load_check(written(tmp_path, series))])
    assert first == checks_hash([load_check(written(tmp_path, series))])
    written(tmp_path, "def refine(rows): return rows[1:]\n", "some_check.py")
    second = checks_hash([load_check(tmp_path / "some_check.sql")])
    third = checks_hash([load_check(written(tmp_path, series.replace("= 3", "= 4")))])
    assert len({first, second, third}) == 3
