"""`audit-kit.toml` → frozen, checked `Settings`.

Whatever is wrong in the file is refused with file, line and cure. tomllib says nothing about the place of a key, so
the checks name a key by its path in the document; `audit_kit.toml_lines` finds that path in the text, which is only
done once something is wrong.
"""

from __future__ import annotations

import difflib
import glob
import hashlib
import json
import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, TypeAlias, TypeVar
from urllib.parse import urlsplit

from audit_kit.errors import SettingsError
from audit_kit.toml_lines import Keys, line_of

Scalar: TypeAlias = str | int | float | bool
_V = TypeVar("_V")

FILE_NAME = "audit-kit.toml"


@dataclass(frozen=True, slots=True)
class ResourceScope:
    """A resource in scope; aliases are Keycard ids or other identifiers it goes by in events."""

    id: str
    name: str = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """Files, folders or globs that deliver events, under the name the ledger keeps them by."""

    name: str
    paths: tuple[str, ...]


DEFAULT_RESOURCES = (
    ResourceScope("https://api.attio.com", "Attio"),
    ResourceScope("https://mcp.attio.com/mcp", "Attio MCP"),
)


def _read_only(values: Mapping[str, _V] | None = None) -> Mapping[str, _V]:
    return MappingProxyType(dict(values or {}))


@dataclass(frozen=True, slots=True)
class Settings:
    store: Path = Path("audit.duckdb")
    organisation: str = ""
    zone: str = ""
    resources: tuple[ResourceScope, ...] = DEFAULT_RESOURCES
    sources: tuple[Source, ...] = ()
    catalog: str = "attio"
    mapping_columns: Mapping[str, tuple[str, ...]] = field(default_factory=_read_only)  # tried before ours
    mapping_kinds: Mapping[str, tuple[str, ...]] = field(default_factory=_read_only)  # added to ours
    check_parameters: Mapping[str, Mapping[str, Scalar]] = field(default_factory=_read_only)
    path: Path | None = None  # where it was read from

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that can change a result; where files lie cannot."""
        matters = {
            "organisation": self.organisation,
            "zone": self.zone,
            "resources": [[r.id, r.name, list(r.aliases)] for r in self.resources],
            "catalog": self.catalog,
            "mapping_columns": {column: list(paths) for column, paths in self.mapping_columns.items()},
            "mapping_kinds": {kind: list(names) for kind, names in self.mapping_kinds.items()},
            "check_parameters": {check: dict(values) for check, values in self.check_parameters.items()},
        }
        canonical = json.dumps(matters, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


def load_settings(path: Path | None) -> Settings:
    """Reads `path`; None means ./audit-kit.toml where there is one, and otherwise the defaults."""
    file = Path(FILE_NAME) if path is None else path
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        if path is None:
            return Settings()
        raise SettingsError(f"{file}: no such settings file; check the path or create the file") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SettingsError(f"{file}: cannot be read ({reason}); name a readable TOML file") from None

    text, document = _parse(file, raw)
    try:
        return _settings(document, file)
    except _MisplacedError as error:
        raise SettingsError(f"{file}:{line_of(text, error.keys)}: {error.cure}") from None


def _parse(file: Path, raw: bytes) -> tuple[str, dict[str, Any]]:
    try:
        text = raw.decode("utf-8-sig")  # editors on Windows like to put a byte order mark in front
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{file}:{line}: not UTF-8 text; save the file as UTF-8") from None
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, _, place = str(error).rpartition(" (at ")
        numbers = re.fullmatch(r"line (\d+), column (\d+)\)", place)
        line = int(numbers[1]) if numbers else text.rstrip("\n").count("\n") + 1
        where = f"column {numbers[2]}" if numbers else "end of the file"
        cure = "correct this line or the one before it"
        raise SettingsError(f"{file}:{line}: not valid TOML: {message} ({where}); {cure}") from None
    except RecursionError:
        raise SettingsError(f"{file}: nested too deeply; no setting needs more than three levels") from None
    except ValueError:  # from int(), the only other thing that tomllib lets out
        cure = "put long identifiers in quotes"
        raise SettingsError(f"{file}: holds a number of thousands of digits; {cure}") from None


# ── what may stand where ────────────────────────────────────────────────────────────────────────────────────

_TOP_LEVEL = ("store", "organisation", "zone", "catalog", "resources", "sources", "mapping", "checks")
_RESOURCE = ("id", "name", "aliases")
_SOURCE = ("name", "paths")
_MAPPING = ("columns", "kinds")

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CATALOG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s#]+")
_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_INTEGERS = range(-(2**63), 2**63)  # what TOML promises; also what DuckDB keeps exact


class _MisplacedError(Exception):
    """Something is wrong at `keys`; becomes a SettingsError once the line is known."""

    def __init__(self, keys: Keys, cure: str) -> None:
        super().__init__(cure)
        self.keys = keys
        self.cure = cure


def _settings(document: dict[str, Any], file: Path) -> Settings:
    _refuse_secrets(document, ())
    _refuse_unknown(document, (), _TOP_LEVEL, "the top level")
    folder = file.absolute().parent
    given: dict[str, Any] = {}
    if "store" in document:
        store = _text(document["store"], ("store",))
        if _REMOTE.match(store):
            raise _MisplacedError(("store",), "store must be a local file, such as store = 'audit.duckdb'")
        given["store"] = Path(folder, os.path.expanduser(store))
    for key in ("organisation", "zone"):
        if key in document:
            given[key] = _text(document[key], (key,), may_be_empty=True)
    if "catalog" in document:
        given["catalog"] = _catalog(document["catalog"])
    if "resources" in document:
        given["resources"] = _resources(document["resources"])
    if "sources" in document:
        given["sources"] = _sources(document["sources"], folder)
    mapping = _table(document.get("mapping", {}), ("mapping",))
    _refuse_unknown(mapping, ("mapping",), _MAPPING, "[mapping]")
    checks = _table(document.get("checks", {}), ("checks",))
    return Settings(
        **given,
        mapping_columns=_lists(mapping.get("columns", {}), ("mapping", "columns"), '["ocsf.path"]'),
        mapping_kinds=_lists(mapping.get("kinds", {}), ("mapping", "kinds"), '["event name"]'),
        check_parameters=_check_parameters(checks),
        path=file,
    )


def _catalog(value: Any) -> str:
    name = _text(value, ("catalog",))
    if not _CATALOG.fullmatch(name):
        raise _MisplacedError(("catalog",), 'catalog must be a name, not a path, such as catalog = "attio"')
    return name


def _resources(value: Any) -> tuple[ResourceScope, ...]:
    cure = 'write [[resources]] with id = "https://…", or leave resources out for the default'
    found: list[ResourceScope] = []
    taken: set[str] = set()
    for keys, table in _tables(value, ("resources",), cure):
        _refuse_unknown(table, keys, _RESOURCE, "[[resources]]")
        identifier = _needed(table, keys, "id", "[[resources]]", "https://api.attio.com")
        resource = ResourceScope(
            id=_resource_id(identifier, (*keys, "id")),
            name=_text(table.get("name", ""), (*keys, "name"), may_be_empty=True),
            aliases=_texts(table.get("aliases", []), (*keys, "aliases"), '["…"]', may_be_empty=True),
        )
        places: list[tuple[str, Keys]] = [(resource.id, (*keys, "id"))]
        places += [(alias, (*keys, "aliases", at)) for at, alias in enumerate(resource.aliases)]
        for identifier, place in places:
            if identifier in taken:
                raise _MisplacedError(place, f"{identifier!r} is named twice in resources; keep one of them")
            taken.add(identifier)
        found.append(resource)
    if not found:
        raise _MisplacedError(("resources",), f"resources is empty, nothing would be in scope; {cure}")
    return tuple(found)


def _resource_id(value: Any, keys: Keys) -> str:
    identifier = _text(value, keys)
    try:
        parts = urlsplit(identifier)
        has_host = bool(parts.hostname) or parts.scheme not in ("http", "https")
        is_sound = bool(_URI.fullmatch(identifier)) and has_host and "@" not in parts.netloc
        _ = parts.port  # reading it is what checks it
    except ValueError:
        is_sound = False
    if not is_sound:  # the id is not shown: a pasted URL may hold a password
        cure = "such as https://api.attio.com, without user or fragment; other identifiers go into aliases"
        raise _MisplacedError(keys, f"not a resource id; write an absolute URI {cure}")
    return identifier


def _sources(value: Any, folder: Path) -> tuple[Source, ...]:
    found: dict[str, Source] = {}
    cure = 'write [[sources]] with name = "…" and paths = ["…"]'
    for keys, table in _tables(value, ("sources",), cure):
        _refuse_unknown(table, keys, _SOURCE, "[[sources]]")
        name = _text(_needed(table, keys, "name", "[[sources]]", "keycard"), (*keys, "name"))
        if name in found:
            raise _MisplacedError((*keys, "name"), f"two sources are named {name!r}; give each its own name")
        given = _needed(table, keys, "paths", "[[sources]]", ["deliveries/"])
        paths = _texts(given, (*keys, "paths"), '["deliveries/"]')
        for at, path in enumerate(paths):
            if _REMOTE.match(path):
                cure = "sources are local files, folders or globs; fetch it first and name the copy"
                raise _MisplacedError((*keys, "paths", at), f"paths holds a URL; {cure}")
        found[name] = Source(name, tuple(_resolved(path, folder) for path in paths))
    return tuple(found.values())


def _resolved(path: str, folder: Path) -> str:
    path = os.path.expanduser(path)
    # A folder that happens to be called `logs[old]` must not become a pattern when a glob is put behind it.
    base = glob.escape(str(folder)) if re.search(r"[*?\[]", path) else str(folder)
    return os.path.join(base, path)


def _check_parameters(checks: dict[str, Any]) -> Mapping[str, Mapping[str, Scalar]]:
    found: dict[str, Mapping[str, Scalar]] = {}
    for check, table in checks.items():
        if not isinstance(table, dict):
            cure = "parameters stand under the id of their check, as in [checks.<id>]"
            raise _MisplacedError(("checks", check), f"{check!r} in [checks] is not a table; {cure}")
        for name, value in table.items():
            _check_scalar(value, ("checks", check, name))
        if table:  # an empty table asks for nothing, so it must not change the fingerprint either
            found[check] = _read_only(table)
    return _read_only(found)


def _check_scalar(value: Any, keys: Keys) -> None:
    name = _named(keys)
    if not isinstance(value, Scalar):
        _refuse_type(value, keys, "a string, number or true/false")
    if isinstance(value, str) and _CONTROL.search(value):
        raise _MisplacedError(keys, f"{name} holds a control character or line break; remove it")
    if isinstance(value, float) and not math.isfinite(value):
        raise _MisplacedError(keys, f"{name} must be a finite number")
    if isinstance(value, int) and value not in _INTEGERS:
        raise _MisplacedError(keys, f"{name} must be an integer of at most 64 bits")


# ── pieces of it ────────────────────────────────────────────────────────────────────────────────────────────


def _text(value: Any, keys: Keys, *, may_be_empty: bool = False) -> str:
    if not isinstance(value, str):
        _refuse_type(value, keys, "a string in quotes")
    if _CONTROL.search(value):
        raise _MisplacedError(keys, f"{_named(keys)} holds a control character or line break; remove it")
    if value != value.strip():
        raise _MisplacedError(keys, f"{_named(keys)} starts or ends with a blank; remove it")
    if not value and not may_be_empty:
        raise _MisplacedError(keys, f"{_named(keys)} is empty; fill it in")
    return value


def _texts(value: Any, keys: Keys, example: str, *, may_be_empty: bool = False) -> tuple[str, ...]:
    if not isinstance(value, list):
        _refuse_type(value, keys, f"a list of strings, such as {example}")
    if not value and not may_be_empty:
        raise _MisplacedError(keys, f"{_named(keys)} is an empty list; name at least one, such as {example}")
    return tuple(_text(item, (*keys, at)) for at, item in enumerate(value))


def _lists(value: Any, keys: Keys, example: str) -> Mapping[str, tuple[str, ...]]:
    table = _table(value, keys)
    return _read_only({name: _texts(items, (*keys, name), example) for name, items in table.items()})


def _table(value: Any, keys: Keys) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse_type(value, keys, f"a table, as in [{'.'.join(map(str, keys))}]")
    return value


def _tables(value: Any, keys: Keys, cure: str) -> list[tuple[Keys, dict[str, Any]]]:
    if not isinstance(value, list):
        _refuse_type(value, keys, f"a list of tables: {cure}")
    for at, item in enumerate(value):
        if not isinstance(item, dict):
            _refuse_type(item, (*keys, at), f"a table: {cure}")
    return [((*keys, at), item) for at, item in enumerate(value)]


def _needed(table: dict[str, Any], keys: Keys, key: str, where: str, example: object) -> Any:
    if key not in table:
        raise _MisplacedError(keys, f"{where} has no {key}; add {key} = {json.dumps(example)}")
    return table[key]


def _named(keys: Keys) -> str:
    """`'paths'`, or `an entry of 'paths'`."""
    return f"an entry of {keys[-2]!r}" if isinstance(keys[-1], int) else repr(keys[-1])


def _refuse_type(value: Any, keys: Keys, wanted: str) -> NoReturn:
    words = {str: "a string", bool: "true/false", int: "an integer", float: "a float"}
    words |= {list: "a list", dict: "a table"}
    got = words.get(type(value), "a date or time")
    raise _MisplacedError(keys, f"{_named(keys)} must be {wanted}, not {got}")


def _refuse_unknown(table: dict[str, Any], keys: Keys, known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key.lower(), known, n=1)
            cure = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise _MisplacedError((*keys, key), f"unknown key {key!r} in {where}; {cure}")


_GIVEAWAYS = r"(?:tokens?|secrets?|passwords?|passwd|passphrase|(?:api|private|access|signing)_?keys?)"
_HOLDS_SECRET = re.compile(rf"{_GIVEAWAYS}(?:_|$)")
_ENDS_AS_SECRET = re.compile(rf"{_GIVEAWAYS}$")
_DEEPEST = 8  # no setting lies so deep; dotted keys can nest further than Python can recurse


def _refuse_secrets(value: Any, keys: Keys) -> None:
    """Comes first, over the whole document, so that no other message can get to show such a value.

    Under [mapping] and [checks] people choose the names, and `max_token_age_days = 30` or `secret_read` are
    good ones there: only a text under a name that *ends* as a secret does (`access_token`) is refused.
    """
    if len(keys) > _DEEPEST:
        return
    if isinstance(value, list):
        for at, item in enumerate(value):
            _refuse_secrets(item, (*keys, at))
    if not isinstance(value, dict):
        return
    is_free = bool(keys) and keys[0] in ("mapping", "checks")
    for key, item in value.items():
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", key).lower()
        holds_text = isinstance(item, str | list)
        if (_ENDS_AS_SECRET.search(words) and holds_text) if is_free else _HOLDS_SECRET.search(words):
            cure = "secrets come from the environment only; remove it, and replace the secret if it is real"
            raise _MisplacedError((*keys, key), f"{key!r} looks like a secret; {cure}")
        _refuse_secrets(item, (*keys, key))


# ── a file to start from ────────────────────────────────────────────────────────────────────────────────────

_INIT_TEXT = """\
# Settings of audit-kit. A line that starts with `#` and no blank behind it is a setting at its default or an
# example: take the `#` away to use it. Secrets do not belong here; they come from the environment only.

# The DuckDB file that holds the events. A path here is relative to this file; without one, it is audit.duckdb
# in the folder that you run audit-kit in.
#store = "audit.duckdb"

# Whose audit this is, as it stands on reports.
#organisation = ""

# The Keycard zone the events come from.
#zone = ""

# Which operation catalogue tells what scopes an API call needs.
#catalog = "attio"

# The resources in scope. Naming one here replaces both of these. `id` is the absolute URI that credentials
# are issued for; `aliases` are Keycard ids or other identifiers that events use for it.
#[[resources]]
#id = "https://api.attio.com"
#name = "Attio"
#aliases = []

#[[resources]]
#id = "https://mcp.attio.com/mcp"
#name = "Attio MCP"
#aliases = []

# Where events are delivered: files, folders or globs, relative to this file; `~` is your home. As many
# [[sources]] as you like, each with its own name.
#[[sources]]
#name = "keycard"
#paths = ["deliveries/", "archive/*.parquet"]

# Where a column finds its value in an event, if not where audit-kit looks; tried before its own paths.
#[mapping.columns]
#event_uid = ["unmapped.audit_id"]

# Event names that stand for a kind of event, on top of those that audit-kit knows.
#[mapping.kinds]
#credential_issue = ["acme:exchange"]

# Other values for the parameters of a check: one table for each check id.
#[checks.some-check-id]
#min_age_days = 30
"""


def init_text() -> str:
    """A commented `audit-kit.toml` that holds every key and, as it stands, changes nothing."""
    return _INIT_TEXT
