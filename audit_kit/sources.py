"""Where deliveries come from: *list* what there is, *fetch* one, nothing else. So far: files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import IO

from audit_kit.errors import StoreError, UnreadableDelivery, UsageError

PART = ".part-"  # a copy that is being made, by process
FORMATS = {".parquet": "parquet", ".jsonl.gz": "jsonl.gz", ".jsonl": "jsonl", ".json": "json"}


@dataclass(frozen=True, slots=True, order=True)
class Listed:
    """One delivered file: `name` is stable for the source (relative to what was asked for)."""

    source: str
    name: str
    path: Path
    bytes: int
    modified_ns: int

    @property
    def format(self) -> str | None:
        return next((form for suffix, form in FORMATS.items() if self.name.lower().endswith(suffix)), None)


def list_files(source: str, paths: tuple[str, ...]) -> list[Listed]:
    """Files, folders (all files below) and globs, in the order of their names, each once.

    A file of an unknown kind is listed too, so that collect can say that it was left out. Hidden files and those
    that begin with an underscore (markers of other writers) are not deliveries. UsageError: a path that is not there.
    """
    found: dict[str, Listed] = {}
    for text in paths:
        for path, name in _expand(text):
            real = os.path.realpath(path)
            if real not in found:
                found[real] = _listed(source, name, path)
    return sorted(found.values())


def _listed(source: str, name: str, path: Path) -> Listed:
    name = os.fsencode(name).decode("utf-8", "backslashreplace")  # a file may be called anything
    try:
        about = path.stat()
    except OSError:  # a link to nowhere, or gone this moment; fetching it will say why
        return Listed(source, name, path, 0, 0)
    return Listed(source, name, path, about.st_size, about.st_mtime_ns)


def fetch_file(listed: Listed, folder: Path) -> tuple[str, Path]:
    """Copies one file into `folder` as it is, named by its hash; gives (SHA-256, path of the copy).

    The copy appears whole or not at all. UnreadableDelivery: it cannot be read (any more).
    """
    part = folder / f"{PART}{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(part, "wb", opener=_owner_only) as copy:
            sha256 = _copy(listed.path, copy)
            copy.flush()
            os.fsync(copy.fileno())
        kept = folder / sha256[:2] / f"{sha256}{_suffix(listed)}"
        kept.parent.mkdir(exist_ok=True, mode=0o700)
        part.replace(kept)
    except OSError as error:
        raise StoreError(f"{folder}: the delivery {listed.name} cannot be kept there: {error.strerror}") from None
    finally:
        with suppress(OSError):
            part.unlink()
    return sha256, kept


def _copy(original: Path, copy: IO[bytes]) -> str:
    digest = hashlib.sha256()
    try:
        source = original.open("rb")
    except OSError as error:
        raise UnreadableDelivery(f"cannot be read: {error.strerror}") from None
    with source:
        while block := _read(source):
            digest.update(block)
            copy.write(block)
    return digest.hexdigest()


def _read(source: IO[bytes]) -> bytes:
    try:
        return source.read(1 << 20)
    except OSError as error:
        raise UnreadableDelivery(f"cannot be read: {error.strerror}") from None


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


def _suffix(listed: Listed) -> str:
    return "." + listed.format if listed.format else ".bin"


def _expand(text: str) -> Iterator[tuple[Path, str]]:
    path = Path(text).expanduser()
    if path.is_file():
        yield path, path.name
    elif path.is_dir():
        yield from _below(path)
    elif has_magic(text):
        fixed = next(p for p in path.parents if not has_magic(str(p)))
        matched = False
        for match in sorted(fixed.glob(str(path.relative_to(fixed)))):
            matched = True
            if match.is_file() or (match.is_symlink() and not match.is_dir()):
                yield match, match.relative_to(fixed).as_posix()
            elif match.is_dir():
                yield from ((p, f"{match.name}/{n}") for p, n in _below(match))
        if not matched:
            raise UsageError(
                f"{text}: no file matches; check the pattern, and quote it so that the shell leaves it alone"
            )
    else:
        raise UsageError(f"{text}: there is no such file or folder")


def _below(folder: Path) -> Iterator[tuple[Path, str]]:
    """Everything below that is no folder, links followed; UsageError where a folder cannot be looked into."""
    been: set[str] = set()
    for place, folders, files in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in been:  # a link back up
            folders.clear()
            continue
        been.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "_")))
        for name in sorted(files):
            path = Path(place, name)
            if not name.startswith((".", "_")) and (path.is_file() or path.is_symlink()):
                yield path, path.relative_to(folder).as_posix()


def _refuse(error: OSError) -> None:
    raise UsageError(f"{error.filename}: the folder cannot be read ({error.strerror}); mend its permissions") from None
