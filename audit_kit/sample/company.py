"""An imaginary company, Halyard Kites: its people, its applications, and what they ordinarily do at Attio.

Every application's scopes are exactly what its repertoire of operations needs, so that all that is too much in the log
was planted.
"""

from __future__ import annotations

import csv
import random
from dataclasses import dataclass, field
from functools import cache

from audit_kit.paths import CATALOGS

ATTIO = "https://api.attio.com"
ATTIO_MCP = "https://mcp.attio.com/mcp"
LINEAR = "https://api.linear.app"
ZONE = "zone_halyard_01"
ORGANISATION = "org_halyard_kites"

RESOURCES = {
    ATTIO: {"uid": ATTIO, "uid_alt": "res_halyard_attio", "name": "Attio", "hostname": "api.attio.com"},
    ATTIO_MCP: {"uid": ATTIO_MCP, "uid_alt": "res_halyard_attio_mcp", "name": "Attio MCP", "hostname": "mcp.attio.com"},
    LINEAR: {"uid": LINEAR, "uid_alt": "res_halyard_linear", "name": "Linear", "hostname": "api.linear.app"},
}
for _resource in RESOURCES.values():
    _resource.update(type="OAuth protected resource", role_id=1, role="Target")  # type: ignore[call-overload]


@dataclass(frozen=True, slots=True)
class Person:
    id: str
    name: str
    email: str
    ip: str


@dataclass(frozen=True, slots=True)
class Application:
    """`share` is its part of the company's sessions; `hours` are UTC, from and until which its sessions start."""

    id: str
    name: str
    repertoire: tuple[str, ...]
    share: float = 1.0
    hours: tuple[float, float] = (7.5, 17.5)
    behind: str | None = None  # an application that calls on its behalf: a longer delegation chain
    extra_scopes: tuple[str, ...] = ()  # asked for and never used: planted

    @property
    def scopes(self) -> tuple[str, ...]:
        return reduced({*self.extra_scopes, *(s for o in self.repertoire for s in needs()[o])})


@dataclass(frozen=True, slots=True)
class Membership:
    """A person who uses an application: which operations, from what hours, and what he is issued."""

    person: Person
    application: Application
    repertoire: tuple[str, ...]
    scopes: tuple[str, ...]
    hours: tuple[float, float]
    is_regular: bool = False  # exactly one session every working day, whatever the size of the log


@dataclass(frozen=True)
class Company:
    people: tuple[Person, ...]
    applications: dict[str, Application]
    memberships: tuple[Membership, ...]
    consents: dict[str, tuple[str, ...]] = field(default_factory=dict)  # person id → scopes granted at Attio


@cache
def needs() -> dict[str, tuple[str, ...]]:
    """Operation → the scopes it needs, from the catalogue."""
    with (CATALOGS / "attio" / "operations.csv").open(encoding="utf-8", newline="") as lines:
        return {f"{r['method']} {r['path_template']}": tuple(r["scopes"].split()) for r in csv.DictReader(lines)}


def reduced(scopes: set[str]) -> tuple[str, ...]:
    """Sorted, and without the reads that a read-write of the same family covers."""
    return tuple(sorted(s for s in scopes if not (s.endswith(":read") and f"{s}-write" in scopes)))


QUERY_RECORDS = "POST /v2/objects/{object}/records/query"
GET_RECORD = "GET /v2/objects/{object}/records/{record_id}"
PATCH_RECORD = "PATCH /v2/objects/{object}/records/{record_id}"
PUT_RECORD = "PUT /v2/objects/{object}/records"
LIST_OBJECTS = "GET /v2/objects"
LIST_NOTES, ADD_NOTE = "GET /v2/notes", "POST /v2/notes"
LIST_TASKS, ADD_TASK, PATCH_TASK = "GET /v2/tasks", "POST /v2/tasks", "PATCH /v2/tasks/{task_id}"
LIST_THREADS, ADD_COMMENT = "GET /v2/threads", "POST /v2/comments"
LIST_LISTS, QUERY_ENTRIES = "GET /v2/lists", "POST /v2/lists/{list}/entries/query"
PATCH_ENTRY = "PATCH /v2/lists/{list}/entries/{entry_id}"
LIST_FILES, UPLOAD_FILE = "GET /v2/files", "POST /v2/files/upload"
LIST_MEETINGS, LIST_MEMBERS = "GET /v2/meetings", "GET /v2/workspace_members"

_APPLICATIONS = (
    Application("app_crm_desk", "CRM Desk", (QUERY_RECORDS, GET_RECORD, PATCH_RECORD, LIST_OBJECTS), share=2.4),
    Application("app_deal_sync", "Deal Sync", (QUERY_RECORDS, LIST_LISTS, QUERY_ENTRIES, PATCH_ENTRY), share=2.0),
    Application("app_meeting_notes", "Meeting Notes", (LIST_NOTES, ADD_NOTE, LIST_MEETINGS, GET_RECORD), share=1.6),
    Application("app_task_pilot", "Task Pilot", (LIST_TASKS, ADD_TASK, PATCH_TASK), share=1.4),
    Application(
        "app_research_agent", "Research Agent", (QUERY_RECORDS, GET_RECORD, LIST_NOTES), behind="app_agent_hub"
    ),
    Application("app_inbox_helper", "Inbox Helper", (LIST_THREADS, ADD_COMMENT, GET_RECORD), behind="app_agent_hub"),
    Application("app_file_drop", "File Drop", (LIST_FILES, UPLOAD_FILE), share=0.8),
    Application("app_quote_builder", "Quote Builder", (QUERY_RECORDS, PUT_RECORD, LIST_OBJECTS), share=0.9),
    Application("app_people_finder", "People Finder", (LIST_MEMBERS, QUERY_RECORDS), share=0.7),
    Application("app_board_report", "Board Report", (LIST_LISTS, QUERY_ENTRIES, LIST_OBJECTS), share=0.5),
)
# Acts for itself, every hour of day and night: what keeps an ordinary hour from being silent.
SYNC = Application("app_nightly_mirror", "Nightly Mirror", (LIST_OBJECTS, QUERY_RECORDS, LIST_LISTS, QUERY_ENTRIES))
PLANNER_USED = (LIST_LISTS, QUERY_ENTRIES, LIST_OBJECTS)
PLANNER_EXTRA = (
    "call_recording:read", "comment:read-write", "file:read-write", "meeting:read", "note:read-write",
    "record_permission:read-write", "scim_management:read", "task:read-write", "user_management:read-write",
    "webhook:read-write", "public_collection:read",
)  # fmt: skip
PLANNER = Application("app_territory_planner", "Territory Planner", PLANNER_USED, hours=(5.0, 9.0))

_FIRST = (
    "Ada", "Ben", "Cleo", "Dev", "Elif", "Finn", "Gita", "Hugo", "Iris", "Joel", "Kofi", "Lena", "Milo", "Nora", "Omar",
    "Pia", "Quinn", "Rosa", "Sven", "Tara", "Uma", "Vito", "Wren", "Xenia", "Yusuf", "Zora", "Abel", "Bea", "Cody",
    "Dina",
)  # fmt: skip
_LAST = ["Aalto", "Birch", "Castellan", "Dray", "Eberhardt", "Fjord", "Galloway", "Hartono"]

# People who consented to more than they use, and how: the application they read with, and what they never write.
UNUSED = (
    ("app_meeting_notes", (LIST_NOTES, GET_RECORD), ("note:read-write",)),
    ("app_crm_desk", (QUERY_RECORDS, GET_RECORD, LIST_OBJECTS), ("record_permission:read-write",)),
    ("app_task_pilot", (LIST_TASKS,), ("task:read-write", "comment:read-write")),
    ("app_deal_sync", (LIST_LISTS, QUERY_ENTRIES), ("list_entry:read-write", "file:read-write")),
)
EARLY_PEOPLE = len(UNUSED) + 3  # with the three who use the planner


def company(rng: random.Random, events: int, *, is_clean: bool) -> Company:
    """The company for a log of about so many events: a small log is that of a small company."""
    count = max(EARLY_PEOPLE + 10, min(60, events // 400))
    names = [f"{first} {last}" for last in _LAST for first in _FIRST]
    rng.shuffle(names)
    people = tuple(
        Person(
            f"usr_{n.lower().replace(' ', '_')}",
            n,
            f"{n.lower().replace(' ', '.')}@halyard.example.com",
            f"198.51.100.{i + 10}",
        )
        for i, n in enumerate(names[:count])
    )
    planner = (
        PLANNER
        if is_clean
        else Application(PLANNER.id, PLANNER.name, PLANNER_USED, hours=PLANNER.hours, extra_scopes=PLANNER_EXTRA)
    )
    applications = {a.id: a for a in (*_APPLICATIONS, planner, SYNC)}
    early, others = people[:EARLY_PEOPLE], people[EARLY_PEOPLE:]
    memberships: list[Membership] = []
    consents: dict[str, set[str]] = {p.id: set() for p in people}
    for person, (application_id, reads, unused) in zip(early, UNUSED, strict=False):
        application = applications[application_id]
        repertoire = application.repertoire if is_clean else reads
        scopes = reduced({s for o in repertoire for s in needs()[o]})
        memberships.append(Membership(person, application, repertoire, scopes, (5.0, 10.5), is_regular=True))
        consents[person.id] |= set(scopes) | (set() if is_clean else set(unused))
    for person in early[len(UNUSED) :]:
        memberships.append(Membership(person, planner, PLANNER_USED, planner.scopes, planner.hours, is_regular=True))
        consents[person.id] |= {s for o in PLANNER_USED for s in needs()[o]}
    for number, person in enumerate(others):
        # Everybody has two applications, some three; in turn, so that each application has its people.
        for step in range(2 + (number % 4 == 0)):
            application = _APPLICATIONS[(number * 3 + step * 4) % len(_APPLICATIONS)]
            memberships.append(
                Membership(person, application, application.repertoire, application.scopes, application.hours)
            )
            consents[person.id] |= set(application.scopes)
    return Company(people, applications, tuple(memberships), {p: reduced(s) for p, s in consents.items()})
