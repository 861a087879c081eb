"""Whatever is delivered is read, or named with the reason why not; every road gives the same rows."""

import gzip
import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from audit_kit import reading
from audit_kit.mapping import normalise
from audit_kit.reading import Reader, Staged
from audit_kit.settings import Settings
from tests.ingest import CALL, DENIED, GONE, ISSUE, SHAPES, bare, event, stage, write_jsonl, write_parquet

# ── every road gives the same rows ──────────────────────────────────────────────────────────────────────────

# Without shrinking, which would plan hundreds of statements; a failure prints its events.
SLOW = settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),
    derandomize=True,
)
TEXTS = st.sampled_from(
    ["", "-", "null", " ", " x ", "{", "[1", '{"a":1}', ' {"a": 1}', "a\tb", "ü", "-1", "a b", "7", "7.0", "https://api.attio.com/x?y=1",
     "Attio", "Denied", "allow", "\x00", "x" * 300, "😀", "[::1]", "NaN", "'", '"', "1791209007137"]
)  # fmt: skip
NUMBERS = st.sampled_from([0, 1, 2, 99, -1, 6003, 1791209007137, 2**40, 7.5, 1791209007.25])
LEAVES = TEXTS | NUMBERS | st.booleans() | st.none()


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A published shape of which some leaves are gone or hold something else, or text where an object was."""
    made: dict[str, Any] = json.loads(json.dumps(SHAPES[draw(st.integers(0, 14))]))
    for _ in range(draw(st.integers(0, 6))):
        node: Any = made
        for _depth in range(draw(st.integers(1, 5))):
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if not isinstance(node[key], dict | list) or draw(st.integers(0, 3)) == 0:
                what = draw(st.sampled_from(["drop", "leaf", "text", "list"]))
                if what == "drop":
                    del node[key]
                elif what == "leaf" and not isinstance(node[key], dict | list):
                    node[key] = draw(LEAVES)
                elif what == "text":
                    node[key] = json.dumps(node[key]) if isinstance(node[key], dict | list) else str(node[key])
                elif what == "list" and isinstance(node[key], str):
                    node[key] = [node[key]]
                break
            node = node[key]
    return made


def all_rows(staged: Staged, rows: list[dict[str, Any]]) -> list[Any]:
    """Rows and rejects without the name of the file; rejects without their raw text, which differs by road."""
    found = [{k: v for k, v in row.items() if k != "source_file"} for row in rows]
    return [*found, *sorted((r.row, r.reason[:20]) for r in staged.rejects)]


def by_slow_road(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    with monkeypatch.context() as patch:
        patch.setattr(Reader, "_stage_parquet", lambda *_: (_ for _ in ()).throw(duckdb.ConversionException("no")))
        rows, staged = stage(path)
    return all_rows(staged, rows)


@SLOW
@given(events=st.lists(mutated(), min_size=1, max_size=4))
def test_fast_and_slow_road_give_the_same_rows(
    events: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write_parquet(tmp_path / "e.parquet", events)
    rows, staged = stage(path)
    assert all_rows(staged, rows) == by_slow_road(path, monkeypatch)
    assert len(rows) + len(staged.rejects) == (0 if staged.skipped else len(events))


@SLOW
@given(events=st.lists(mutated(), min_size=15, max_size=15))
def test_json_lines_and_their_straightened_selves_give_the_same_rows(events: list[dict[str, Any]], tmp_path: Path):
    plain, plain_staged = stage(write_jsonl(tmp_path / "plain.jsonl", events))
    straight, straight_staged = stage(write_jsonl(tmp_path / "straight.jsonl", [normalise(e) for e in events]))
    assert all_rows(plain_staged, plain) == all_rows(straight_staged, straight)


ROADS = {
    "as inferred": "*",
    "unmapped as JSON text": "* REPLACE (to_json(unmapped)::VARCHAR AS unmapped)",
    "unmapped as JSON": "* REPLACE (to_json(unmapped) AS unmapped)",
    "unmapped as a map": "* REPLACE (from_json(to_json(unmapped), '\"MAP(VARCHAR, VARCHAR)\"') AS unmapped)",
    "unmapped as key/value list": (
        "* REPLACE (list_transform(map_entries(from_json(to_json(unmapped), '\"MAP(VARCHAR, VARCHAR)\"')), "
        "lambda e: {'key': e.key, 'value': e.value}) AS unmapped)"
    ),
    "unmapped as a blob": "* REPLACE (encode(to_json(unmapped)::VARCHAR) AS unmapped)",
    "actor as JSON text": "* REPLACE (to_json(actor)::VARCHAR AS actor)",
    "resources as JSON text": "* REPLACE (to_json(resources)::VARCHAR AS resources)",
    "resources as list of text": "* REPLACE (list_transform(resources, lambda r: to_json(r)::VARCHAR) AS resources)",
    "api.request.data as text": (
        "* REPLACE (struct_update(api, request := struct_update(api.request, data := to_json(api.request.data)::VARCHAR)) AS api)"
    ),
    "ids as doubles": "* REPLACE (class_uid::DOUBLE AS class_uid, status_id::DOUBLE AS status_id, time::DOUBLE AS time)",
    "ids as text": "* REPLACE (class_uid::VARCHAR AS class_uid, status_id::VARCHAR AS status_id, time::VARCHAR AS time)",
    "time as TIMESTAMP": "* REPLACE (make_timestamp(time * 1000) AS time)",
    "time as TIMESTAMPTZ": "* REPLACE (make_timestamp(time * 1000)::TIMESTAMPTZ AS time)",
    "time as TIMESTAMP_NS": "* REPLACE (make_timestamp_ns(time * 1000000) AS time)",
    "time as TIMESTAMP_MS": "* REPLACE (make_timestamp(time * 1000)::TIMESTAMP_MS AS time)",
    "time as DECIMAL of ns": "* REPLACE ((time * 1000000)::DECIMAL(20, 0) AS time)",
    "time as UBIGINT": "* REPLACE (time::UBIGINT AS time)",
    "dotted names": "* EXCLUDE (unmapped), unmapped.event AS \"unmapped.event\", unmapped.zone_id AS \"unmapped.zone_id\", "
    "unmapped.requested_scopes AS \"unmapped.requested_scopes\", unmapped.granted_scopes AS \"unmapped.granted_scopes\", "
    "unmapped.actor AS \"unmapped.actor\", unmapped.credential_id AS \"unmapped.credential_id\", "
    "unmapped.grant_id AS \"unmapped.grant_id\", unmapped.expires_at AS \"unmapped.expires_at\"",
    "columns called like ours": "*, 'x' AS source_file, -1 AS source_row, 'y' AS c0, 1 AS kind",
}  # fmt: skip


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    rows, staged = stage(write_jsonl(tmp_path_factory.mktemp("p") / "shapes.jsonl", SHAPES))
    return all_rows(staged, rows)


@pytest.mark.parametrize("road", ROADS)
def test_a_parquet_file_gives_the_rows_of_the_json_it_was_made_of(road: str, published: list[Any], tmp_path: Path):
    rows, staged = stage(write_parquet(tmp_path / "e.parquet", SHAPES, ROADS[road]))
    assert staged.skipped == {}
    assert all_rows(staged, rows) == published


def test_rows_of_an_odd_file_keep_their_numbers(tmp_path: Path):
    many = [bare(metadata={"uid": f"e{n}"}) for n in range(1, 5_001)]
    path = write_parquet(tmp_path / "e.parquet", many, "*, map {'a': 'b'} AS unmapped")
    rows, _ = stage(path)
    assert [(r["source_row"], r["event_uid"]) for r in rows] == [(n, f"e{n}") for n in range(1, 5_001)]


# ── arbitrary JSON ──────────────────────────────────────────────────────────────────────────────────────────

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(list(SHAPES[0])), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@SLOW
@given(values=st.lists(JSON | st.builds(lambda v: v | {"time": 1791209007137, "class_uid": 6003}, st.dictionaries(
    st.sampled_from(sorted({key for shape in SHAPES for key in shape})), JSON, max_size=6)), min_size=10, max_size=40))  # fmt: skip
def test_each_line_of_arbitrary_json_is_mapped_or_rejected(values: list[Any], tmp_path: Path):
    rows, staged = stage(write_jsonl(tmp_path / "e.jsonl", values))
    if staged.skipped:
        return
    lines = [r["source_row"] for r in rows] + [r.row for r in staged.rejects]
    assert sorted(lines) == list(range(1, len(values) + 1))
    assert staged.row_counts == {str(tmp_path / "e.jsonl"): len(values)}


# ── what cannot be read ─────────────────────────────────────────────────────────────────────────────────────


def one(path: Path) -> tuple[list[dict[str, Any]], list[tuple[int, str]], str | None]:
    rows, staged = stage(path)
    return rows, sorted((r.row, r.reason) for r in staged.rejects), staged.skipped.get(str(path))


def test_bad_lines_are_named_and_good_ones_stay(tmp_path: Path):
    path = tmp_path / "e.jsonl"
    good = json.dumps(event(ISSUE)).encode()
    path.write_bytes(b"\n".join([
        b"\xef\xbb\xbf" + good, b'{"time": 1', b"[1, 2]", json.dumps(event(ISSUE, time=GONE, time_dt=GONE,
        metadata__original_time=GONE)).encode(), b"", good.replace(b"Ada", b"\xff\xfe"), b'"text"', good,
        b'{"a": 1}', good.replace(b'"time":', b'"time": NaN, "x":'), b"null\r", good + b"\r",
    ]))  # fmt: skip
    rows, rejects, skipped = one(path)
    assert skipped is None
    assert [r["source_row"] for r in rows] == [1, 8, 10, 12]  # without `time` the tenth has its time_dt
    assert [row for row, _ in rejects] == [2, 3, 4, 6, 7, 9, 11]
    reasons = dict(rejects)
    assert reasons[2].startswith("not a JSON object")
    assert reasons[3] == "not a JSON object: a JSON array, not an object"
    assert reasons[4].startswith("no usable time")
    assert reasons[6].startswith("not UTF-8")
    assert reasons[9].startswith("not an OCSF event")


def test_a_rejected_event_is_kept_as_it_came(tmp_path: Path):
    lines = [json.dumps(event(ISSUE, time="never", time_dt=GONE, metadata__original_time=GONE)), '{"broken']
    _, staged = stage(write_jsonl(tmp_path / "e.jsonl", [*lines, SHAPES[0]]))
    assert {r.row: r.raw for r in staged.rejects} == dict(enumerate(lines, 1))


def test_a_rejected_parquet_row_is_kept_as_json(tmp_path: Path):
    _, staged = stage(write_parquet(tmp_path / "e.parquet", [bare(message="a"), {**bare(message="b"), "time": None}]))
    [reject] = staged.rejects
    assert (reject.row, json.loads(reject.raw)["message"]) == (2, "b")


def test_hostile_text_is_kept(tmp_path: Path):
    hostile = {
        "NUL": "a\x00b", "surrogate": "a\ud800b", "script": "<script>", "quote": "'; DROP TABLE events; --",
        "brackets": "[not json", "long": "x" * 100_000, "emoji": "😀",
    }  # fmt: skip
    rows, rejects, _ = one(write_jsonl(tmp_path / "e.jsonl", [event(message=text) for text in hostile.values()]))
    assert rejects == []
    found = dict(zip(hostile, (r["message"] for r in rows), strict=True))
    assert found == {**hostile, "surrogate": "a�b", "brackets": None}


@pytest.mark.parametrize("depth", [100, 100_000])
def test_deep_nesting_does_no_harm(depth: int, tmp_path: Path):
    deep = '{"a":' * depth + "1" + "}" * depth
    text = json.dumps(event(unmapped="HERE"))
    lines = [text.replace('"HERE"', deep), text.replace("HERE", deep.replace('"', '\\"')), json.dumps(event())]
    rows, rejects, _ = one(write_jsonl(tmp_path / "e.jsonl", lines))
    assert sorted([r["source_row"] for r in rows] + [row for row, _ in rejects]) == [1, 2, 3]
    assert rows[-1]["source_row"] == 3


def test_a_line_too_long_is_rejected_with_its_beginning(tmp_path: Path):
    lines = [json.dumps(event(message="x" * (17 << 20))), json.dumps(event())]
    rows, staged = stage(write_jsonl(tmp_path / "e.jsonl", lines))
    assert [r["source_row"] for r in rows] == [2]
    [reject] = staged.rejects
    assert (reject.row, reject.reason) == (1, "a line of more than 16 MiB")
    assert lines[0].startswith(reject.raw)


DOCUMENTS = {
    "array": (json.dumps([event(), event(CALL)]), 2),
    "object": (json.dumps(event()), 1),
    "wrapper": (json.dumps({"next": None, "Events": [event(), event(CALL), event()]}), 3),
    "JSON lines": (json.dumps(event()) + "\n" + json.dumps(event(CALL)) + "\n", 2),
    "array with a stray": (json.dumps([event(), 7]), 2),
    "an event that has data": (json.dumps(event(data=[1, 2])), 1),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_json_file_may_be_any_of(name: str, tmp_path: Path):
    text, count = DOCUMENTS[name]
    path = tmp_path / "e.json"
    path.write_text(text)
    rows, staged = stage(path)
    assert staged.row_counts[str(path)] == count
    assert len(rows) + len(staged.rejects) == count
    assert len(rows) == count - ("stray" in name)


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def damaged_inside(path: Path) -> bytes:
    """A Parquet file whose footer is whole and whose pages are not."""
    data = bytearray(path.read_bytes())
    data[100 : len(data) // 3] = random.Random(1).randbytes(len(data) // 3 - 100)
    return bytes(data)


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_parquet(tmp_path_factory.mktemp("good") / "good.parquet", SHAPES)


UNREADABLE: dict[str, Any] = {
    "cut.parquet": (lambda p: truncated(p.read_bytes()), "truncated"),
    "empty.parquet": (lambda p: b"", "empty"),
    "empty.jsonl": (lambda p: b"", "empty"),
    "error.parquet": (lambda p: b"<Error>AccessDenied</Error>", "not Parquet: it begins with '<Error>"),
    "damaged.parquet": (damaged_inside, "a Parquet file that cannot be read"),
    "cut.jsonl.gz": (lambda p: truncated(gzip.compress(json.dumps(SHAPES).encode() + b"\n")), "damaged or cut short"),
    "plain.jsonl.gz": (lambda p: b"{}\n", "not gzip"),
    "other.jsonl": (lambda p: b'{"level":"info"}\n{"level":"warn"}\n', "not OCSF: none of its 2 events"),
    "text.json": (lambda p: b'"just text"', "a JSON string, not events"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_cannot_be_used_is_skipped_with_the_reason(name: str, parquet: Path, tmp_path: Path):
    make, reason = UNREADABLE[name]
    path = tmp_path / name
    path.write_bytes(make(parquet))
    rows, staged = stage(path, parquet)
    assert staged.skipped[str(path)].startswith(reason)
    assert staged.row_counts[str(path)] == 0
    assert {r["source_file"] for r in rows} == {str(parquet)}
    assert len(rows) == 15


def test_a_table_of_another_product_is_skipped(tmp_path: Path):
    path = write_parquet(tmp_path / "e.parquet", [{"customer": 1, "amount": 2}])
    assert (one(path)[2] or "").startswith("not OCSF: no class_uid, type_uid or metadata among its columns (amount")


def test_an_unknown_kind_of_file_is_skipped(tmp_path: Path):
    path = tmp_path / "readme.txt"
    path.write_text("hello")
    assert (one(path)[2] or "").startswith("not a kind of file")


def test_a_parquet_file_without_rows_is_read(tmp_path: Path):
    path = tmp_path / "e.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT 1 AS class_uid, 1 AS time LIMIT 0) TO '{path}' (FORMAT parquet)")
    rows, staged = stage(path)
    assert (rows, staged.skipped, staged.row_counts) == ([], {}, {str(path): 0})


def test_files_whose_schemas_differ_are_read_each_by_its_own(tmp_path: Path, parquet: Path):
    paths = [
        write_parquet(tmp_path / "a.parquet", [bare(actor={"app_uid": "app"})]),
        write_parquet(tmp_path / "b.parquet", [bare(actor={"user": {"uid": "u"}}, time="2026-10-05T14:03:27.137Z")]),
        write_parquet(tmp_path / "c.parquet", [bare(actor='{"user": {"uid": "t"}}', class_uid="6003")]),
        write_parquet(tmp_path / "d.parquet", [bare(actor=None, unmapped=7)]),
    ]
    rows, staged = stage(*paths, parquet)
    assert staged.skipped == {}
    assert [(r["application_id"], r["user_id"]) for r in rows if r["source_file"] != str(parquet)] == [
        ("app", None), (None, "u"), (None, "t"), (None, None)
    ]  # fmt: skip
    assert {r["occurred_at"] for r in rows if r["source_file"] != str(parquet)} == {
        datetime(2026, 10, 5, 14, 3, 27, 137000, tzinfo=UTC)
    }


def test_one_event_that_the_statement_stumbles_over_costs_that_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = Reader.__init__

    def broken(self: Reader, *arguments: Any) -> None:
        whole(self, *arguments)
        stumble = "SELECT * REPLACE (CASE WHEN message = 'bad' THEN error('stumbled') ELSE message END AS message) FROM"
        self._json_select = f"{stumble} ({self._json_select})"

    monkeypatch.setattr(Reader, "__init__", broken)
    lines = [event(message="bad" if n == 5 else f"m{n}") for n in range(9)]
    rows, staged = stage(write_jsonl(tmp_path / "e.jsonl", lines), settings=Settings())
    assert [r["message"] for r in rows] == [f"m{n}" for n in range(9) if n != 5]
    [reject] = staged.rejects
    assert (reject.row, reject.reason) == (6, "cannot be mapped: Invalid Input Error: stumbled")


def test_flipped_bytes_never_raise(parquet: Path, tmp_path: Path):
    chance = random.Random(5)
    whole = parquet.read_bytes()
    for number in range(25):
        data = bytearray(whole)
        for _ in range(3):
            data[chance.randrange(4, len(data) - 8)] = chance.randrange(256)
        path = tmp_path / f"{number}.parquet"
        path.write_bytes(data)
        rows, staged = stage(path)
        reason = staged.skipped.get(str(path), "")
        assert reason.isprintable()
        assert len(rows) + len(staged.rejects) == staged.row_counts[str(path)]
        path.unlink()


def test_large_events_are_mapped_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading, "_CHUNK", 4)
    rows, _ = stage(write_jsonl(tmp_path / "e.jsonl", [event(DENIED, message=str(n)) for n in range(10)]))
    assert [r["message"] for r in rows] == [str(n) for n in range(10)]
