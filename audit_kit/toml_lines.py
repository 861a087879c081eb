"""Where in the text of a TOML document a key stands: tomllib reads the values and says nothing of their lines."""

from __future__ import annotations

import re
import tomllib
from typing import TypeAlias

Keys: TypeAlias = tuple[str | int, ...]  # the way to a value: ("sources", 0, "paths")

_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_PART = re.compile(r"""[ \t]*("(?:\\.|[^"\\\n])*"|'[^'\n]*'|[A-Za-z0-9_-]+)[ \t]*""")
# Up to two quotes may stand right before the three that close a multi-line string.
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE = re.compile(r"[^,\]}#\r\n]+")  # with blanks: `1979-05-27 07:32:00` is one value


def line_of(text: str, keys: Keys) -> int:
    """The line of `keys`, or of the nearest table around it."""
    found = offsets(text)
    while keys and keys not in found:
        keys = keys[:-1]
    return text.count("\n", 0, found.get(keys, 0)) + 1


def offsets(text: str) -> dict[Keys, int]:
    """Where each key, header and list item of a document stands that tomllib has found to be valid."""
    found: dict[Keys, int] = {}
    lengths: dict[Keys, int] = {}  # of each [[list of tables]] so far
    table: Keys = ()
    at = _after_gap(text, 0)
    while at < len(text):
        if text[at] != "[":
            at = _pair(text, at, table, found)
        else:
            start = at
            brackets = 2 if text.startswith("[[", at) else 1
            parts, at = _key(text, at + brackets)
            at += brackets
            table = ()
            for part in parts[:-1]:
                table = (*table, part)
                if table in lengths:  # [a.b] after [[a]] belongs to the newest a
                    table = (*table, lengths[table] - 1)
                found.setdefault(table, start)
            table = (*table, parts[-1])
            if brackets == 2:
                found.setdefault(table, start)
                lengths[table] = lengths.get(table, 0) + 1
                table = (*table, lengths[table] - 1)
            found[table] = start
        at = _after_gap(text, at)
    return found


def _after_gap(text: str, at: int) -> int:
    gap = _GAP.match(text, at)
    return gap.end() if gap else at


def _key(text: str, at: int) -> tuple[list[str], int]:
    """The parts of a bare, quoted or dotted key, and where it ends."""
    parts: list[str] = []
    while match := _PART.match(text, at):
        part, at = match[1], match.end()
        parts.append(tomllib.loads(f"key = {part}")["key"] if part[0] in "\"'" else part)
        if text[at] != ".":
            break
        at += 1
    return parts, at


def _pair(text: str, at: int, table: Keys, found: dict[Keys, int]) -> int:
    start = at
    parts, at = _key(text, at)
    keys = table
    for part in parts:
        keys = (*keys, part)
        found.setdefault(keys, start)
    return _value(text, _after_gap(text, at + 1), keys, found)


def _value(text: str, at: int, keys: Keys, found: dict[Keys, int]) -> int:
    opening = text[at]
    if opening not in "[{":
        match = _STRING.match(text, at) or _BARE.match(text, at)
        return match.end() if match else at + 1
    item = 0
    at = _after_gap(text, at + 1)
    while text[at] not in "]}":
        if opening == "{":
            at = _pair(text, at, keys, found)
        else:
            found[(*keys, item)] = at
            at = _value(text, at, (*keys, item), found)
            item += 1
        at = _after_gap(text, at)
        if text[at] == ",":
            at = _after_gap(text, at + 1)
    return at + 1
