"""`audit-kit.toml` is read into frozen settings; what is wrong in it is refused with file, line and cure."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from audit_kit.errors import SettingsError
from audit_kit.settings import DEFAULT_RESOURCES, ResourceScope, Settings, Source, init_text, load_settings
from audit_kit.toml_lines import offsets

FULL = """\
store = "data/audit.duckdb"
organisation = "Acme"
zone = "zone-1"
catalog = "attio"

[[resources]]
id = "https://api.attio.com"
name = "Attio"
aliases = ["res_1", "res_2"]

[[sources]]
name = "keycard"
paths = ["deliveries/*.jsonl", "/var/log/keycard"]

[mapping.columns]
event_uid = ["unmapped.a", "unmapped.b"]

[mapping.kinds]
credential_issue = ["acme:exchange"]

[checks.unused-scope]
min_age_days = 30
ratio = 0.5
strict = true
word = ""
"""


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def write_and_load(text: str | bytes) -> Settings:
        file = tmp_path / "audit-kit.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_settings(file)

    return write_and_load


@pytest.fixture
def refusal(load: Any, tmp_path: Path) -> Any:
    """The message a text is refused with, without the folder in front."""

    def refused(text: str | bytes) -> str:
        with pytest.raises(SettingsError) as caught:
            load(text)
        message = str(caught.value)
        assert message.startswith(f"{tmp_path}{os.sep}audit-kit.toml"), message
        return message.removeprefix(f"{tmp_path}{os.sep}")

    return refused


# ── what is read ────────────────────────────────────────────────────────────────────────────────────────────


def test_every_key_is_read(load: Any, tmp_path: Path) -> None:
    assert load(FULL) == Settings(
        store=tmp_path / "data/audit.duckdb",
        organisation="Acme",
        zone="zone-1",
        catalog="attio",
        resources=(ResourceScope("https://api.attio.com", "Attio", ("res_1", "res_2")),),
        sources=(Source("keycard", (f"{tmp_path}/deliveries/*.jsonl", "/var/log/keycard")),),
        mapping_columns={"event_uid": ("unmapped.a", "unmapped.b")},
        mapping_kinds={"credential_issue": ("acme:exchange",)},
        check_parameters={"unused-scope": {"min_age_days": 30, "ratio": 0.5, "strict": True, "word": ""}},
        path=tmp_path / "audit-kit.toml",
    )


def test_defaults_are_the_two_attio_resources_and_a_store_in_the_folder() -> None:
    settings = Settings()
    assert settings.store == Path("audit.duckdb")
    assert [(r.id, r.name) for r in settings.resources] == [
        ("https://api.attio.com", "Attio"),
        ("https://mcp.attio.com/mcp", "Attio MCP"),
    ]
    assert (settings.catalog, settings.sources, settings.path) == ("attio", (), None)


def test_an_empty_file_is_the_defaults(load: Any, tmp_path: Path) -> None:
    assert dataclasses.replace(load(""), path=None) == Settings()


def test_without_a_path_the_file_in_the_folder_is_read_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(None) == Settings()
    Path("audit-kit.toml").write_text('zone = "z"\nstore = "s.duckdb"\n')
    settings = load_settings(None)
    assert (settings.zone, settings.store) == ("z", tmp_path / "s.duckdb")
    assert settings.path == Path("audit-kit.toml")


def test_a_named_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml: no such settings file"):
        load_settings(tmp_path / "nowhere.toml")


def test_a_folder_instead_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot be read \(Is a directory\)"):
        load_settings(tmp_path)


def test_a_byte_order_mark_and_windows_line_ends_are_no_trouble(load: Any, refusal: Any) -> None:
    assert load(b'\xef\xbb\xbfzone = "z"\r\n').zone == "z"
    assert refusal(b'\xef\xbb\xbfzone = "z"\r\n\r\nzome = "z"\r\n').startswith("audit-kit.toml:3:")


def test_settings_cannot_be_changed(load: Any) -> None:
    settings = load(FULL)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.zone = "other"
    for mapping in (
        settings.mapping_columns,
        settings.check_parameters,
        settings.check_parameters["unused-scope"],
        Settings().mapping_kinds,
    ):
        with pytest.raises(TypeError):
            mapping["x"] = ()


# ── places ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_relative_paths_start_at_the_settings_file_not_at_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/a.toml").write_text(
        'store = "../s.duckdb"\n[[sources]]\nname = "k"\npaths = ["in/", "**/*.parquet"]\n'
    )
    monkeypatch.chdir(tmp_path)
    settings = load_settings(Path("conf/a.toml"))
    assert settings.store == tmp_path / "conf/../s.duckdb"
    assert settings.sources[0].paths == (f"{tmp_path}/conf/in/", f"{tmp_path}/conf/**/*.parquet")
    assert settings.path == Path("conf/a.toml")


def test_the_home_folder_is_expanded(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    settings = load('store = "~/s.duckdb"\n[[sources]]\nname = "k"\npaths = ["~/in/*.jsonl", "a~b"]\n')
    assert settings.store == Path("/home/ada/s.duckdb")
    assert settings.sources[0].paths == ("/home/ada/in/*.jsonl", f"{tmp_path}/a~b")


def test_brackets_in_the_settings_folder_do_not_become_part_of_a_glob(tmp_path: Path) -> None:
    folder = tmp_path / "logs[old]"
    folder.mkdir()
    file = folder / "audit-kit.toml"
    file.write_text('[[sources]]\nname = "k"\npaths = ["*.jsonl", "one.jsonl"]\n')
    pattern, plain = load_settings(file).sources[0].paths
    assert pattern == f"{tmp_path}/logs[[]old]/*.jsonl"
    assert plain == f"{folder}/one.jsonl"


# ── fingerprint ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "change",
    [
        {"organisation": "Acme"},
        {"zone": "z"},
        {"catalog": "other"},
        {"resources": DEFAULT_RESOURCES[:1]},
        {"resources": (dataclasses.replace(DEFAULT_RESOURCES[0], aliases=("r",)), DEFAULT_RESOURCES[1])},
        {"mapping_columns": {"zone_id": ("a", "b")}},
        {"mapping_columns": {"zone_id": ("b", "a")}},
        {"mapping_kinds": {"zone_id": ("a", "b")}},
        {"check_parameters": {"c": {"n": 1}}},
        {"check_parameters": {"c": {"n": 1.0}}},
        {"check_parameters": {"c": {"n": True}}},
        {"check_parameters": {"c": {"n": "1"}}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_can_change_a_result_changes_the_fingerprint(change: dict[str, Any]) -> None:
    assert dataclasses.replace(Settings(), **change).fingerprint != Settings().fingerprint


def test_values_that_are_equal_in_python_but_not_in_toml_have_fingerprints_of_their_own() -> None:
    values = (1, 1.0, True, "1")
    found = {Settings(check_parameters={"c": {"n": value}}).fingerprint for value in values}
    assert len(found) == len(values)


def test_where_files_lie_does_not_change_the_fingerprint() -> None:
    moved = Settings(store=Path("/x"), sources=(Source("k", ("/y",)),), path=Path("/z"))
    assert moved.fingerprint == Settings().fingerprint


def test_the_order_of_tables_does_not_change_the_fingerprint(load: Any) -> None:
    one = load("[checks.a]\nx = 1\ny = 2\n[checks.b]\nz = 3\n").fingerprint
    assert load("[checks.b]\nz = 3\n[checks.a]\ny = 2\nx = 1\n").fingerprint == one
    assert load("[checks.b]\nz = 3\n[checks.a]\ny = 2\nx = 2\n").fingerprint != one


def test_an_empty_table_of_a_check_asks_for_nothing(load: Any) -> None:
    assert load("[checks.a]\n").fingerprint == Settings().fingerprint


def test_the_fingerprint_is_the_same_from_release_to_release() -> None:
    """Reports carry it: a new value for old settings would claim that the settings changed."""
    assert Settings().fingerprint == "08359f9e11ab34fe88424ec83338dd1ca80bf39358defb2ecbda673d9289dac1"


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '\n\norganization = "Acme"\n',
            "audit-kit.toml:3: unknown key 'organization' in the top level; did you mean 'organisation'?",
        ),
        (
            '[[resources]]\nid = "https://a.b"\n\nalias = []\n',
            "audit-kit.toml:4: unknown key 'alias' in [[resources]]; did you mean 'aliases'?",
        ),
        (
            '[[sources]]\nname = "k"\npaths = ["x"]\nqqq = 1\n',
            "audit-kit.toml:4: unknown key 'qqq' in [[sources]]; known are name, paths",
        ),
        (
            "[mapping.column]\n",
            "audit-kit.toml:1: unknown key 'column' in [mapping]; did you mean 'columns'?",
        ),
        ("[CHECKS.a]\n", "audit-kit.toml:1: unknown key 'CHECKS' in the top level; did you mean 'checks'?"),
    ],
)
def test_an_unknown_key_is_refused_with_its_line_and_the_likely_one(refusal: Any, text: str, message: str) -> None:
    assert refusal(text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nstore = 1\n", ":2: 'store' must be a string in quotes, not an integer"),
        ('store = ""\n', ":1: 'store' is empty; fill it in"),
        ('store = "s3://bucket/a"\n', ":1: store must be a local file"),
        ('zone = "a\\nb"\n', ":1: 'zone' holds a control character or line break; remove it"),
        ('zone = " a"\n', ":1: 'zone' starts or ends with a blank; remove it"),
        ("zone = 2026-08-01\n", ":1: 'zone' must be a string in quotes, not a date or time"),
        ('catalog = "../attio"\n', ":1: catalog must be a name, not a path"),
        ("resources = []\n", ":1: resources is empty"),
        ('resources = "https://a.b"\n', ":1: 'resources' must be a list of tables: write [[resources]]"),
        (
            'resources = [\n"https://a.b"\n]\n',
            ":2: an entry of 'resources' must be a table: write [[resources]]",
        ),
        ('\n[[resources]]\nname = "x"\n', ':2: [[resources]] has no id; add id = "https://api.attio.com"'),
        ('[[resources]]\nid = "https://a.b"\naliases = "x"\n', ":3: 'aliases' must be a list of strings"),
        ('[[resources]]\nid = "https://a.b"\naliases = [\n"x",\n7]\n', ":5: an entry of 'aliases' must be a"),
        (
            '[[resources]]\nid = "https://a.b"\n[[resources]]\nid = "https://c.d"\naliases = [\n"https://a.b"]\n',
            ":6: 'https://a.b' is named twice in resources; keep one of them",
        ),
        ('[[sources]]\npaths = ["x"]\n', ':1: [[sources]] has no name; add name = "keycard"'),
        ('[[sources]]\nname = "k"\n', ':1: [[sources]] has no paths; add paths = ["deliveries/"]'),
        ('[[sources]]\nname = "k"\npaths = []\n', ":3: 'paths' is an empty list; name at least one"),
        ('[[sources]]\nname = "k"\npaths = "x"\n', ":3: 'paths' must be a list of strings, such as ["),
        ('[[sources]]\nname = "k"\npaths = ["x",\n""]\n', ":4: an entry of 'paths' is empty; fill it in"),
        ('[[sources]]\nname = "k"\npaths = ["s3://b/x"]\n', ":3: paths holds a URL"),
        (
            '[[sources]]\nname = "k"\npaths = ["x"]\n\n[[sources]]\nname = "k"\npaths = ["y"]\n',
            ":6: two sources are named 'k'; give each its own name",
        ),
        ("mapping = 1\n", ":1: 'mapping' must be a table, as in [mapping], not an integer"),
        ("[mapping]\ncolumns = []\n", ":2: 'columns' must be a table, as in [mapping.columns], not a list"),
        ("[mapping.columns]\na = []\n", ":2: 'a' is an empty list; name at least one"),
        ('[mapping.kinds]\na = "x"\n', ":2: 'a' must be a list of strings, such as [\"event name\"]"),
        (
            "[checks]\nmin_age_days = 3\n",
            ":2: 'min_age_days' in [checks] is not a table; parameters stand under",
        ),
        ("[checks.a]\nx = [1]\n", ":2: 'x' must be a string, number or true/false, not a list"),
        ("[checks.a]\nx = 2026-08-01\n", ":2: 'x' must be a string, number or true/false, not a date"),
        ("[checks.a]\nx = nan\n", ":2: 'x' must be a finite number"),
        ("[checks.a]\nx = 9223372036854775808\n", ":2: 'x' must be an integer of at most 64 bits"),
        ('[checks.a]\nx = "\\u0000"\n', ":2: 'x' holds a control character"),
    ],
)
def test_a_wrong_value_is_refused_with_its_line_and_the_cure(refusal: Any, text: str, message: str) -> None:
    assert refusal(text).removeprefix("audit-kit.toml").startswith(message)


def test_integers_of_64_bits_are_taken(load: Any) -> None:
    settings = load("[checks.a]\nx = 9223372036854775807\ny = -9223372036854775808\n")
    assert settings.check_parameters["a"] == {"x": 2**63 - 1, "y": -(2**63)}


@pytest.mark.parametrize(
    "identifier",
    [
        "https://api.attio.com",
        "https://a.b:8443/x?y=z",
        "urn:acme:crm",
        "http://[::1]:80/",
        "https://münchen.de/",
    ],
)
def test_an_absolute_uri_is_a_resource_id(load: Any, identifier: str) -> None:
    assert load(f'[[resources]]\nid = "{identifier}"\n').resources == (ResourceScope(identifier),)


@pytest.mark.parametrize(
    "identifier",
    [
        "attio",
        "api.attio.com",
        "//api.attio.com",
        "https://",
        "https:///path",
        "https://a b",
        "https://a.b/#part",
        "https://a.b:port",
        "https://a.b:99999",
        "https://[::1",
        "https://ada:hunter2@a.b",
        "https:",
    ],
)
def test_a_malformed_resource_id_is_refused_and_not_shown(refusal: Any, identifier: str) -> None:
    message = refusal(f'\n[[resources]]\nname = "x"\nid = "{identifier}"\n')
    assert message.startswith("audit-kit.toml:4: not a resource id; write an absolute URI such as")
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("zone = \n", 1, "Invalid value"),
        ('zone = "a"\nzone = "b"\n', 2, "Cannot overwrite a value"),
        ('\n\n[[sources]\nname = "x"\n', 3, "Expected ']]'"),
        ("a = [1,\n2,\n", 2, "end of the file"),
    ],
)
def test_a_syntax_error_keeps_its_line(refusal: Any, text: str, line: int, words: str) -> None:
    message = refusal(text)
    assert message.startswith(f"audit-kit.toml:{line}: not valid TOML: ")
    assert words in message


def test_bytes_that_are_not_utf8_are_refused_with_their_line(refusal: Any) -> None:
    assert refusal(b'zone = "z"\norganisation = "M\xfcnchen"\n') == (
        "audit-kit.toml:2: not UTF-8 text; save the file as UTF-8"
    )


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 5000 + "]" * 5000,
        "zone = " + "9" * 5000,
        "[checks.a]\nx = 0x" + "f" * 5000,
        "checks." + ".".join("a" * 1500) + " = 1",
    ],
    ids=["deep list", "long integer", "long hexadecimal", "deep dotted key"],
)
def test_what_python_cannot_digest_is_still_a_settings_error(refusal: Any, text: str) -> None:
    assert refusal(text)


# ── secrets ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('token = "hunter2"\n', 1),
        ('\nAPI-Key = "hunter2"\n', 2),
        ('apikey = "hunter2"\n', 1),
        ('clientSecret = "hunter2"\n', 1),
        ('"keycard password" = "hunter2"\n', 1),
        ('[keycard]\nzone = "z"\naccess_token = "hunter2"\n', 3),
        ('[secrets]\nx = "hunter2"\n', 1),
        ('[[sources]]\nname = "k"\npaths = ["p"]\n\ntoken_value = "hunter2"\n', 5),
        ('[[resources]]\nid = "https://a.b"\n[resources.auth]\npassword = "hunter2"\n', 4),
        ('[checks.a]\napi_key = "hunter2"\n', 2),
        ('[mapping.columns]\nclient_secret = ["hunter2"]\n', 2),
        ('unknown = 1\nstore = 5\npassword = "hunter2"\n', 3),
    ],
)
def test_a_key_that_looks_like_a_secret_is_refused_without_its_value(refusal: Any, text: str, line: int) -> None:
    message = refusal(text)
    assert message.startswith(f"audit-kit.toml:{line}: ")
    assert "secrets come from the environment only" in message
    assert "hunter2" not in message


def test_a_secret_does_not_hang_on_to_the_error(load: Any) -> None:
    """A chained exception would be printed by whatever prints tracebacks."""
    with pytest.raises(SettingsError) as caught:
        load('token = "hunter2"\n')
    assert caught.value.__suppress_context__
    assert "hunter2" not in repr(caught.value.__context__)


def test_names_that_only_mention_a_secret_may_stand_where_people_choose_names(load: Any) -> None:
    settings = load(
        "[checks.token-exchange]\nmax_token_age_days = 30\ntoken_kind = 'bearer'\ntokens = 5\n"
        '[mapping.kinds]\nsecret_read = ["vault:read"]\n'
    )
    assert settings.check_parameters["token-exchange"]["tokens"] == 5
    assert settings.mapping_kinds == {"secret_read": ("vault:read",)}


def test_keys_that_contain_no_such_word_are_no_secrets(refusal: Any) -> None:
    assert "secrets come from" not in refusal("keyboard = 1\n")
    assert "secrets come from" not in refusal("tokeniser = 1\n")


# ── lines ───────────────────────────────────────────────────────────────────────────────────────────────────

TRICKY = r'''# [not.a.header]
"quoted key" = 1
a."b.c".'d' = 2
multi = """
fake = 1
[fake]
\""" still inside """""
literal = \'\'\'
also_fake = 2 \'\'\'\'
list = [ # ] not the end
  "]", 'x # y', [1,
  2], { in = 3, "e\u006eds" = [ 4 ] },
]
when = 1979-05-27 07:32:00
empty = ""
[ table . "sub.table" ]
x = 1
[[array]]
x = 1
[array.inner]
x = 1
[[array]]
[[array.deep]]
[[array.deep]]
y = { z . w = 1 }
'''.replace("\\'", "'")


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (("quoted key",), 2),
        (("a", "b.c", "d"), 3),
        (("multi",), 4),
        (("literal",), 8),
        (("list",), 10),
        (("list", 0), 11),
        (("list", 2), 11),
        (("list", 2, 1), 12),
        (("list", 3, "in"), 12),
        (("list", 3, "ends", 0), 12),
        (("when",), 14),
        (("empty",), 15),
        (("table", "sub.table"), 16),
        (("table", "sub.table", "x"), 17),
        (("array",), 18),
        (("array", 0, "x"), 19),
        (("array", 0, "inner", "x"), 21),
        (("array", 1), 22),
        (("array", 1, "deep", 1), 24),
        (("array", 1, "deep", 1, "y", "z", "w"), 25),
    ],
)
def test_keys_are_found_among_everything_that_looks_like_one(keys: tuple[str | int, ...], line: int) -> None:
    assert TRICKY.count("\n", 0, offsets(TRICKY)[keys]) + 1 == line


def test_a_table_is_where_its_own_header_is_even_behind_that_of_an_inner_one() -> None:
    assert offsets("[a.b]\n[a]\n")[("a",)] == len("[a.b]\n")


def paths_of(value: Any, keys: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    found = {keys} if keys else set()
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found |= paths_of(item, (*keys, key))
    return found


def test_the_tricky_document_is_mapped_without_rest() -> None:
    assert set(offsets(TRICKY)) == paths_of(tomllib.loads(TRICKY))


_pieces = st.sampled_from(
    [
        *(
            "a = 1\n",
            'b = "]"\n',
            "[a]\n",
            "[[b]]\n",
            "[b.c]\n",
            "[[b.c]]\n",
            "x.y = ",
            "d = ",
            '"q#" = ',
            "# [z]\n",
        ),
        *(
            "[1, ",
            "'[', ",
            "[] , ",
            "]\n",
            "{}\n",
            "{ x = 1, y.z = '}' }\n",
            "{ x = ",
            " }\n",
            "#]\n",
            "\r\n",
        ),
        *('"""', "'''", '"', "'", '\\"', "\\\\", "=", ",", "\n", " ", "é"),
    ]
)


@given(st.lists(_pieces, max_size=12).map("".join))
@hypothesis_settings(max_examples=400, deadline=None)
def test_any_document_that_tomllib_takes_is_mapped_without_rest(text: str) -> None:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert set(offsets(text)) == paths_of(document)


_strings = st.text(st.sampled_from("a ]}#=,['\n[x]\n\"\\"), max_size=12)


def as_toml(value: Any, style: int) -> str:
    """A value in one of the ways TOML can write it, chosen by `style`."""
    if isinstance(value, str):
        if style % 3 == 0 and "'''" not in value and not value.endswith("'"):
            return f"'''{value}'''"
        if style % 3 == 1:
            return '"""' + value.replace("\\", "\\\\").replace('"', '\\"') + '"""'
        return json.dumps(value)
    if isinstance(value, list):
        gap = "\n  # ] = [x]\n" if style % 2 else " "
        return f"[{gap}" + f",{gap}".join(as_toml(item, style + at) for at, item in enumerate(value)) + f"{gap}]"
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key)} = {as_toml(item, style)}" for key, item in value.items())
        return "{ " + ", ".join(pairs) + " }"
    return json.dumps(value)


_values = st.recursive(
    _strings | st.integers(-9, 9) | st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b.c", "[d]"]), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(st.lists(st.tuples(_values, st.integers(0, 5), st.sampled_from(["", "[t%d]\n", "[[l]]\n"])), max_size=5))
@hypothesis_settings(max_examples=200, deadline=None)
def test_a_key_behind_any_values_is_found_on_its_line(parts: list[tuple[Any, int, str]]) -> None:
    text = ""
    for at, (value, style, header) in enumerate(parts):
        text += (header % at if "%" in header else header) + f"k{at} = {as_toml(value, style)}\n"
    line = text.count("\n") + 2
    text += "[last]\nneedle = 1\n"
    document = tomllib.loads(text)
    assert set(offsets(text)) == paths_of(document)
    assert text.count("\n", 0, offsets(text)[("last", "needle")]) + 1 == line


_documents = st.fixed_dictionaries(
    {},
    optional={
        "store": _values,
        "zone": _values,
        "catalog": _values,
        "resources": _values | st.lists(st.fixed_dictionaries({"id": _values}, optional={"aliases": _values})),
        "sources": _values | st.lists(st.fixed_dictionaries({"name": _strings, "paths": _values})),
        "mapping": _values | st.fixed_dictionaries({}, optional={"columns": _values, "kinds": _values}),
        "checks": _values | st.dictionaries(_strings, _values, max_size=2),
    },
)


@given(_documents, st.integers(0, 5))
@hypothesis_settings(max_examples=300, deadline=None)
def test_whatever_stands_in_the_file_is_taken_or_refused_with_a_line(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any], style: int
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text("".join(f"{key} = {as_toml(value, style)}\n" for key, value in document.items()))
    try:
        settings = load_settings(file)
    except SettingsError as error:
        assert re.match(rf"{re.escape(str(file))}:[1-9][0-9]*: .", str(error))  # noqa: PT017
    else:
        assert len(settings.fingerprint) == 64


# ── a file to start from ────────────────────────────────────────────────────────────────────────────────────


def test_a_fresh_settings_file_changes_nothing(load: Any) -> None:
    assert dataclasses.replace(load(init_text()), path=None) == Settings()


def uncommented() -> str:
    return re.sub(r"^#(?=[^ \n])", "", init_text(), flags=re.MULTILINE)


def test_a_fresh_settings_file_holds_every_key() -> None:
    document = tomllib.loads(uncommented())
    fields = {f.name for f in dataclasses.fields(Settings)} - {"path"}
    fields -= {"mapping_columns", "mapping_kinds", "check_parameters"}
    assert set(document) == fields | {"mapping", "checks"}
    assert set(document["mapping"]) == {"columns", "kinds"}
    for table, kind in (("resources", ResourceScope), ("sources", Source)):
        assert all(set(item) == {f.name for f in dataclasses.fields(kind)} for item in document[table])


def test_a_fresh_settings_file_shows_the_defaults(load: Any, tmp_path: Path) -> None:
    settings, default = load(uncommented()), Settings()
    assert settings.store == tmp_path / default.store
    for name in ("organisation", "zone", "catalog", "resources"):
        assert getattr(settings, name) == getattr(default, name)
