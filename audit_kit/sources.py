"""Where deliveries come from: *list* what there is, *fetch* one, nothing else. So far: files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path

from audit_kit.errors import UnreadableDelivery, UsageError

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
    found: dict[Path, Listed] = {}
    for text in paths:
        for path, name in _expand(text):
            real = path.resolve()
            if real not in found:
                about = path.stat()
                found[real] = Listed(source, name, path, about.st_size, about.st_mtime_ns)
    return sorted(found.values())


def fetch_file(listed: Listed, folder: Path) -> tuple[str, Path]:
    """Copies one file into `folder` as it is, named by its hash; gives (SHA-256, path of the copy).

    The copy appears whole or not at all. UnreadableDelivery: it cannot be read (any more).
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = folder / f".part-{os.getpid()}"
    digest = hashlib.sha256()
    try:
        with listed.path.open("rb") as original, part.open("wb") as copy:
            while block := original.read(1 << 20):
                digest.update(block)
                copy.write(block)
            copy.flush()
            os.fsync(copy.fileno())
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UnreadableDelivery(f"cannot be read: {error.strerror or error}") from None
    sha256 = digest.hexdigest()
    kept = folder / sha256[:2] / f"{sha256}{_suffix(listed)}"
    kept.parent.mkdir(exist_ok=True, mode=0o700)
    part.chmod(0o600)
    part.replace(kept)
    return sha256, kept


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
            if match.is_file():
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
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith((".", "_")) for part in name.parts):
            yield path, name.as_posix()
