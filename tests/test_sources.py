"""What is listed, under which name, and how it is fetched."""

import hashlib
from pathlib import Path

import pytest

from audit_kit.errors import StoreError, UnreadableDelivery, UsageError
from audit_kit.sources import Listed, fetch_file, list_files


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def names(*paths: Path | str) -> list[str]:
    return [item.name for item in list_files("s", tuple(map(str, paths)))]


def test_a_folder_gives_all_below_it_by_name_without_markers(tmp_path: Path):
    touch(tmp_path, "b.jsonl", "a/2.parquet", "a/1.parquet", "_SUCCESS", ".hidden", ".git/x", "_delta/x.json", "c.txt")
    assert names(tmp_path) == ["a/1.parquet", "a/2.parquet", "b.jsonl", "c.txt"]


def test_a_glob_gives_what_matches_by_its_place_below_the_fixed_part(tmp_path: Path):
    touch(tmp_path, "2026/10/a.parquet", "2026/11/b.parquet", "2026/11/c.txt")
    assert names(f"{tmp_path}/2026/*/*.parquet") == ["10/a.parquet", "11/b.parquet"]
    assert names(f"{tmp_path}/20??") == ["2026/10/a.parquet", "2026/11/b.parquet", "2026/11/c.txt"]


def test_a_file_named_twice_is_listed_once(tmp_path: Path):
    touch(tmp_path, "a.jsonl")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "a.jsonl")
    assert names(tmp_path / "a.jsonl", tmp_path, f"{tmp_path}/*.jsonl") == ["a.jsonl"]


def test_a_linked_folder_is_followed_and_a_circle_ends(tmp_path: Path):
    touch(tmp_path, "real/a.jsonl", "inbox/b.jsonl")
    (tmp_path / "inbox" / "more").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "up").symlink_to(tmp_path / "inbox")
    assert names(tmp_path / "inbox") == ["b.jsonl", "more/a.jsonl"]


def test_a_link_to_nowhere_is_listed_so_that_it_can_be_told(tmp_path: Path):
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "gone")
    [item] = list_files("s", (str(tmp_path),))
    with pytest.raises(UnreadableDelivery, match="cannot be read: No such file"):
        fetch_file(item, tmp_path / "kept")
    assert not list((tmp_path / "kept").iterdir())


@pytest.mark.parametrize("path", ["nowhere", "*.nothing"])
def test_a_path_that_is_not_there_is_a_usage_error(path: str, tmp_path: Path):
    with pytest.raises(UsageError, match=r"nowhere|nothing"):
        list_files("s", (str(tmp_path / path),))


def test_a_name_that_is_no_text_can_still_be_shown(tmp_path: Path):
    Path(bytes(tmp_path).decode() + "/bad\udcff.jsonl").write_text("{}")
    assert names(tmp_path) == ["bad\\xff.jsonl"]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.parquet", "parquet"),
        ("A.JSONL.GZ", "jsonl.gz"),
        ("a.jsonl", "jsonl"),
        ("a.json", "json"),
        ("a.csv", None),
        ("parquet", None),
    ],
)
def test_the_kind_of_a_file_is_told_by_its_name(name: str, form: str | None):
    assert Listed("s", name, Path(name), 0, 0).format == form


def test_a_fetched_file_is_a_copy_named_by_its_content_for_the_owner_alone(tmp_path: Path):
    touch(tmp_path, "a.jsonl")
    [item] = list_files("s", (str(tmp_path / "a.jsonl"),))
    sha256, kept = fetch_file(item, tmp_path / "kept")
    assert sha256 == hashlib.sha256(b"a.jsonl").hexdigest()
    assert kept == tmp_path / "kept" / sha256[:2] / f"{sha256}.jsonl"
    assert kept.read_text() == "a.jsonl"
    assert [p.stat().st_mode & 0o077 for p in (kept, kept.parent, tmp_path / "kept")] == [0, 0, 0]
    assert fetch_file(item, tmp_path / "kept") == (sha256, kept)


def test_a_folder_where_nothing_can_be_kept_is_no_fault_of_the_delivery(tmp_path: Path):
    touch(tmp_path, "a.jsonl", "kept")
    [item] = list_files("s", (str(tmp_path / "a.jsonl"),))
    with pytest.raises(StoreError, match=r"a\.jsonl cannot be kept"):
        fetch_file(item, tmp_path / "kept")


def test_a_delivery_that_is_a_folder_by_now_cannot_be_read(tmp_path: Path):
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(UnreadableDelivery, match="cannot be read: Is a directory"):
        fetch_file(Listed("s", "a.jsonl", tmp_path / "a.jsonl", 0, 0), tmp_path / "kept")
