"""OCSF events → canonical columns: the published shapes, and what producers make of them."""

import json
from datetime import UTC, datetime
from typing import Any

import duckdb
import pytest

from audit_kit.errors import MappingError
from audit_kit.mapping import load_mapping
from audit_kit.mapping.expressions import operation_of
from audit_kit.settings import DEFAULT_RESOURCES, ResourceScope, Settings
from tests.ingest import (
    APP_ALONE,
    CALL,
    CONSENT,
    DEFAULT_DENY,
    DENIED,
    FAILED_SIGN_IN,
    GONE,
    ISSUE,
    REVOCATION,
    SECRET,
    SHAPES,
    SIGN_IN,
    bare,
    event,
    mapped,
)

ATTIO = "https://api.attio.com"
MOMENT = datetime(2026, 10, 5, 14, 3, 27, 137000, tzinfo=UTC)
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
READ_PAIR = ["object_configuration:read", "record_permission:read"]

ADA = {
    "user_id": "usr_example_ada", "user_email": "ada@example.com", "user_name": "Ada Example",
    "actor_user_id": "usr_example_ada", "session_id": "ses_example_7f3a", "zone_id": "zone_example_0001",
}  # fmt: skip
AGENT = {"application_id": "app_example_crm_agent", "application_name": "CRM Research Agent (example)"}
AT_ATTIO = {"resource_id": ATTIO, "resource_name": "Attio"}
CHAIN = {"delegation_chain": ["application:app_example_crm_agent", "user:usr_example_ada"]}
SET_7 = {"policy_set_id": "ps_example_0001", "policy_set_version": "7"}
ISSUED = {**ADA, **AGENT, **AT_ATTIO, "kind": "credential_issue", "grant_type": EXCHANGE, "http_path": "/oauth/2/token"}
CALLED = {**ADA, **AGENT, **AT_ATTIO, **CHAIN, "kind": "api_call", "policy_names": [], "policy_set_id": None,
          "granted_scopes": None, "credential_id": "cred_example_0001"}  # fmt: skip

GOLDEN: list[dict[str, Any]] = [
    {**ISSUED, **CHAIN, **SET_7, "occurred_at": MOMENT, "outcome": "success", "decision": "allowed",
     "policy_names": ["default-app-delegation", "default-user-grants"], "requested_scopes": READ_PAIR,
     "granted_scopes": READ_PAIR, "credential_id": "cred_example_0001", "credential_lifetime_seconds": 3600,
     "event_uid": "0bcee158-ff3a-53dc-a2ee-c48e33a97964", "correlation_id": "req_example_0001",
     "source_ip": "203.0.113.24", "http_status": 200, "class_uid": 6003, "activity_id": 1,
     "logged_at": datetime(2026, 10, 5, 14, 3, 27, 549000, tzinfo=UTC), "operation": None},
    {**ISSUED, **CHAIN, **SET_7, "outcome": "failure", "decision": "denied", "policy_names": ["forbid-attio-writes"],
     "requested_scopes": ["record_permission:read-write"], "granted_scopes": None, "error_code": "access_denied",
     "http_status": 400, "credential_id": None},
    {**ISSUED, **CHAIN, **SET_7, "outcome": "failure", "decision": "denied", "policy_names": [],
     "requested_scopes": ["user_management:read"]},
    {**AGENT, **AT_ATTIO, **SET_7, "kind": "credential_issue", "user_id": None, "user_email": None,
     "actor_user_id": None, "session_id": None, "grant_type": "client_credentials", "decision": "allowed",
     "policy_names": ["example-direct-app-access"], "requested_scopes": ["record_permission:read"],
     "granted_scopes": ["record_permission:read"], "delegation_chain": ["application:app_example_crm_agent"]},
    {**CALLED, "operation": "GET /v2/objects", "http_status": 200, "outcome": "success", "decision": "allowed",
     "requested_scopes": ["object_configuration:read"]},
    {**CALLED, "operation": "POST /v2/objects/{object}/records/query", "http_method": "POST",
     "http_path": "/v2/objects/people/records/query", "requested_scopes": READ_PAIR},
    {**CALLED, "operation": "PATCH /v2/objects/{object}/records/{record_id}", "outcome": "success",
     "requested_scopes": ["object_configuration:read", "record_permission:read-write"]},
    {**CALLED, "operation": "GET /v2/lists", "http_status": 401, "outcome": "failure", "error_code": "invalid_token",
     "status_detail": "The access token expired"},
    {**CALLED, "operation": "POST /v2/notes", "http_status": 403, "outcome": "failure",
     "status_code": "insufficient_scope"},
    {**CALLED, "operation": "GET /v2/tasks", "http_status": 429, "outcome": "failure", "decision": "allowed",
     "http_path": "/v2/tasks"},
    {**ADA, **AGENT, **AT_ATTIO, "kind": "consent", "outcome": "success", "decision": "allowed",
     "requested_scopes": None, "granted_scopes": READ_PAIR, "grant_id": "grt_example_0001", "policy_names": [],
     "grant_expires_at": datetime(2026, 11, 4, 14, 3, 20, tzinfo=UTC), "class_uid": 3005, "activity_id": 1},
    {**AT_ATTIO, "kind": "revocation", "outcome": "success", "user_id": "usr_example_ada",
     "actor_user_id": "usr_example_root", "application_id": "app_example_console", "session_id": "ses_example_admin",
     "grant_id": "grt_example_0001", "granted_scopes": READ_PAIR, "source_ip": "2001:db8::17"},
    {"kind": "sign_in", "outcome": "success", "decision": None, "user_id": "usr_example_ada", "actor_user_id": None,
     "application_id": "ua_example_0001", "session_id": "ses_example_7f3a", "resource_id": None,
     "http_path": "/oauth/2/authorize", "operation": None, "source_ip": "198.51.100.7"},
    {"kind": "sign_in", "outcome": "failure", "decision": None, "user_id": "mallory@example.com",
     "user_email": "mallory@example.com", "status_code": "invalid_grant", "session_id": None, "other_resource": None},
    {**ADA, **AGENT, **SET_7, "kind": "secret_read", "outcome": "success", "decision": "allowed",
     "policy_names": ["default-user-grants"], "resource_id": ATTIO, "entity_id": "sec_example_0001",
     "entity_name": "attio-api-key (example)", "class_uid": 3004, "activity_id": 2},
]  # fmt: skip


@pytest.fixture(scope="module")
def published() -> list[dict[str, Any]]:
    return mapped(*SHAPES)


@pytest.mark.parametrize("number", range(15), ids=[f"{s['metadata']['event_code']}-{n}" for n, s in enumerate(SHAPES)])
def test_each_published_shape_gives_its_row(published, number: int):
    row, wanted = published[number], GOLDEN[number]
    assert {name: row[name] for name in wanted} == wanted
    assert row["other_resource"] is None
    assert row["rejected_because"] is None


# One event a case and what it must come to; all are mapped together, since planning the statement takes a while.
Case = tuple[dict[str, Any], dict[str, Any]]


def policy(decision: str | None, name: str | None = None, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"policy": {"name": name, **more}} if name or more else {}
    return found | ({"decision": decision} if decision else {})


def denied_by_text(text: str) -> dict[str, Any]:
    return event(DENIED, actor__authorizations=GONE, status_detail=text, api__response__error_message=text)


TEXT = "Access denied by policy. Policy set: ps.1. Policy set version: 12. "

TIMES: dict[str, Case] = {
    f"time as {name}": (bare(time=value), {"occurred_at": MOMENT})
    for name, value in {
        "ms": 1791209007137, "µs": 1791209007137000, "ns": 1791209007137000000, "double of s": 1791209007.137,
        "double of ms": 1791209007137.0, "exponent": "1791209007137", "RFC 3339": "2026-10-05T14:03:27.137Z",
        "offset": "2026-10-05T16:03:27.137+02:00", "naive": "2026-10-05T14:03:27.137",
        "blank between": "2026-10-05 14:03:27.137+00", "text of µs": "1791209007137000",
    }.items()
} | {
    "time as s": (bare(time=1791209007), {"occurred_at": MOMENT.replace(microsecond=0)}),
    "zero time gives way to time_dt": (bare(time=0, time_dt="2026-10-05T14:03:27.137Z"), {"occurred_at": MOMENT}),
    "original_time": (bare(time=None, metadata={"original_time": "2026-10-05T14:03:27.137Z"}), {"occurred_at": MOMENT}),
    "no time": (bare(time=None), {"occurred_at": None, "rejected_because": "no usable time: none of the time fields "
                "holds an instant between 1990 and 2100"}),
    "a time far off": (bare(time="infinity"), {"occurred_at": None}),
}  # fmt: skip

IDS: dict[str, Case] = {
    "ids as text": (event(class_uid="6003", activity_id="1.0", status_id="2", status=GONE),
                    {"class_uid": 6003, "activity_id": 1, "outcome": "failure"}),
    "ids as captions": (event(CONSENT, class_uid=GONE, class_name="User Access Management", type_uid=GONE,
                              metadata__event_code=GONE, unmapped__event=GONE, status_id=GONE, status="FAILURE"),
                        {"class_uid": 3005, "kind": "consent", "outcome": "failure"}),
    "class from type_uid": (event(SECRET, class_uid=GONE, class_name=GONE, activity_id=GONE, metadata__event_code="x",
                                  unmapped__event=GONE), {"class_uid": 3004, "activity_id": 2, "kind": "secret_read"}),
    "unknown status with its source text": (event(status_id=99, status="Denied"), {"outcome": "failure"}),
    "status from the HTTP code": (event(status_id=GONE, status=GONE, http_response__code=403), {"outcome": "failure"}),
    "no status": (bare(), {"outcome": "unknown", "decision": None, "kind": "other"}),
    "a finding that is new is no success": (bare(class_uid=2004, status_id=1), {"outcome": "unknown"}),
    "ids out of range": (bare(class_uid=10**17, activity_id=-(10**17), unmapped={"expires_in": 10**15}),
                         {"class_uid": None, "activity_id": None, "credential_lifetime_seconds": None}),
    "absent in every spelling": (event(user={}, actor__user={"uid": "", "name": "-", "email_addr": None}, src_endpoint=[],
                                       unmapped={}, session=""), {"user_id": None, "source_ip": None}),
    "absent structs": (event(actor=GONE, unmapped=GONE, resources=GONE, api=GONE, policy=GONE, http_request=GONE),
                       {"user_id": None, "application_id": None, "resource_id": None, "policy_names": [],
                        "decision": "allowed", "kind": "credential_issue", "other_resource": None}),
}  # fmt: skip

STRIPPED = {"actor__authorizations": GONE, "policy": GONE, "action_id": GONE, "action": GONE, "disposition_id": GONE,
            "disposition": GONE, "status_code": GONE, "status_detail": GONE, "api__response": {}}  # fmt: skip
DECISIONS: dict[str, Case] = {
    "decision from authorizations": (event(actor__authorizations=[policy("DENY", "p")]), {"decision": "denied"}),
    "decision in another word": (event(actor__authorizations=[policy("Permitted")], action_id=2), {"decision": "allowed"}),
    "top-level authorizations": (event(actor__authorizations=GONE, authorizations=[policy("denied", "a::b")]),
                                 {"decision": "denied", "policy_names": ["b"]}),
    "decision from action_id": (event(**STRIPPED | {"action_id": 2}), {"decision": "denied"}),
    "decision from action": (event(**STRIPPED | {"action": "denied"}), {"decision": "denied"}),
    "decision from disposition": (event(**STRIPPED | {"disposition": "Blocked"}), {"decision": "denied"}),
    "disposition beside an action that says nothing": (event(**STRIPPED | {"action_id": 0, "disposition_id": 2}),
                                                       {"decision": "denied"}),
    "decision from the error": (event(**STRIPPED | {"api__response": {"error": "ACCESS_DENIED"}}), {"decision": "denied"}),
    "decision from the text": (event(**STRIPPED | {"status_detail": TEXT}), {"decision": "denied"}),
    "decision in unmapped": (event(**STRIPPED | {"unmapped__decision": "Forbid"}), {"decision": "denied"}),
    "no decision": (event(**STRIPPED), {"decision": None, "policy_names": []}),
    "all policies": (event(actor__authorizations=[policy("Allowed", n) for n in "cab"]), {"policy_names": ["a", "b", "c"]}),
    "permits beside a forbid": (event(actor__authorizations=[policy("Allowed", "permit"), policy("Denied", "forbid")]),
                                {"decision": "denied", "policy_names": ["forbid"]}),
    "not applied": (event(actor__authorizations=[policy("Denied", "shadow", is_applied=False), policy("Allowed", "real")]),
                    {"decision": "allowed", "policy_names": ["real"]}),
    "default deny": (event(DEFAULT_DENY), {"decision": "denied", "policy_names": []}),
    "policy by id alone": (event(actor__authorizations=[policy("Allowed", None, uid="pol_1")]), {"policy_names": ["pol_1"]}),
    "policies from the text": (denied_by_text(TEXT + "Determining policies: z::one, z::two."),
                               {"policy_names": ["one", "two"], "decision": "denied"}),
    "set from the text": (event(**STRIPPED | {"status_detail": TEXT}), {"policy_set_id": "ps.1", "policy_set_version": "12"}),
    "default deny in the text": (event(**STRIPPED | {"status_detail": TEXT + "Determining policies: none."}),
                                 {"policy_names": [], "decision": "denied"}),
    "determining policies in unmapped": (event(**STRIPPED | {"unmapped__determining_policies": ["z::b", "a"]}),
                                         {"policy_names": ["a", "b"]}),
    "set in group": (event(policy=GONE, actor__authorizations=[policy("Allowed", "p", group={"uid": "ps_g"})]),
                     {"policy_set_id": "ps_g"}),
    "set at the top": (event(actor__authorizations=GONE), {**SET_7, "policy_names": []}),
    "policy at the top": (event(actor__authorizations=GONE, policy={"name": "z::p", "type": "Cedar"}), {"policy_names": ["p"]}),
    "authorizations as JSON text": (event(actor__authorizations=json.dumps([policy("Denied", "p")])),
                                    {"decision": "denied", "policy_names": ["p"]}),
    "policy data as JSON text": (event(actor__authorizations=[policy("Denied", "p", data='{"policy_set_id":"ps_t"}')]),
                                 {"policy_set_id": "ps_t"}),
}  # fmt: skip

CHAINED = {"identities": [{"type": "user", "id": "u1", "identifier": "u@x"}, {"type": "client", "id": "a1"}, {}]}
PEOPLE: dict[str, Case] = {
    "the subject is not the actor": (event(REVOCATION), {"user_id": "usr_example_ada", "actor_user_id": "usr_example_root"}),
    "a service user is the application": (bare(actor={"user": {"uid": "svc", "name": "Sync", "type_id": 4}}),
                                          {"user_id": None, "application_id": "svc", "application_name": "Sync"}),
    "a service that signs in": (bare(class_uid=3002, user={"uid": "svc", "type": "Service"}),
                                {"user_id": None, "application_id": "svc", "kind": "sign_in"}),
    "a chain": (bare(unmapped={"actor": CHAINED}), {"user_id": "u1", "user_email": "u@x", "application_id": "a1",
                "delegation_chain": ["user:u1", "client:a1"]}),
    "the user by e-mail": (event(actor__user={"email_addr": "a@x"}), {"user_id": "a@x", "user_email": "a@x"}),
    "an application by name alone": (event(APP_ALONE, actor__app_uid=GONE, unmapped__actor=GONE),
                                     {"application_id": "CRM Research Agent (example)"}),
    "the user in unmapped": (bare(unmapped={"user": {"id": "u7"}}), {"user_id": "u7"}),
    "the user as text in unmapped": (bare(unmapped={"user": "u8"}), {"user_id": "u8"}),
}  # fmt: skip

UNMAPPED = {"requested_scopes": ["b:read", "a:read"], "zone_id": "z9", "event": "credentials:issue"}
ENCODINGS: dict[str, Case] = {
    f"unmapped as {name}": (
        event(metadata__event_code=GONE, metadata__tenant_uid=GONE, api__operation=GONE, **changes),
        {"requested_scopes": ["a:read", "b:read"], "zone_id": "z9", "event_name": "credentials:issue"},
    )
    for name, changes in {
        "struct": {"unmapped": UNMAPPED}, "JSON text": {"unmapped": json.dumps(UNMAPPED)},
        "key/value list": {"unmapped": [{"key": k, "value": v} for k, v in UNMAPPED.items()]},
        "KEY/VALUE list of text": {"unmapped": [{"Key": k, "Value": json.dumps(v) if isinstance(v, list) else v}
                                                for k, v in UNMAPPED.items()]},
        "dotted keys": {"unmapped": GONE, **{f"unmapped.{k}": v for k, v in UNMAPPED.items()}},
        "JSON text in JSON text": {"unmapped": json.dumps(UNMAPPED | {"requested_scopes": '["a:read","b:read"]'})},
    }.items()
}  # fmt: skip

SCOPES: dict[str, Case] = {
    f"scopes as {name}": (event(unmapped=GONE, api__request__data__scope=value), {"requested_scopes": wanted})
    for name, value, wanted in (
        ("list", ["b:r", "a:r", "b:r"], ["a:r", "b:r"]),
        ("words", "b:r a:r", ["a:r", "b:r"]),
        ("many blanks", "  b:r \t a:r\n", ["a:r", "b:r"]),
        ("commas", "b:r,a:r, c:r", ["a:r", "b:r", "c:r"]),
        ("JSON text", '["b:r", "a:r"]', ["a:r", "b:r"]),
        ("one", "a:r", ["a:r"]),
        ("nothing", "-", None),
        ("an empty list", [], None),
        ("an object", {"a": 1}, None),
        ("objects", [{"a": 1}], None),
        ("null text", "null", None),
    )
} | {
    "privileges of an authorized session": (bare(class_uid=3003, privileges=["x:r"]),
                                            {"kind": "credential_issue", "requested_scopes": ["x:r"]}),
    "granted scopes not told": (event(unmapped__granted_scopes=GONE, api__response__data={}), {"granted_scopes": None}),
}  # fmt: skip


def at(**resource: Any) -> dict[str, Any]:
    return event(resources=[resource] if resource else GONE, api__request__data={"grant_type": "x"}, unmapped=GONE)


def known(resource_id: str = ATTIO) -> dict[str, Any]:
    return {"resource_id": resource_id, "other_resource": None}


def elsewhere(name: str) -> dict[str, Any]:
    return {"resource_id": name, "other_resource": name}


MCP = "https://mcp.attio.com/mcp"
RESOURCES: dict[str, Case] = {
    "by identifier": (at(uid=ATTIO), known()),
    "with a slash": (at(uid=ATTIO + "/"), known()),
    "in capitals": (at(uid="HTTPS://API.ATTIO.COM"), known()),
    "with its port": (at(uid="https://api.attio.com:443/v2"), known()),
    "by a URL below it": (at(uid="https://api.attio.com/v2/objects?x=1"), known()),
    "by its host": (at(hostname="api.attio.com"), known()),
    "by its name": (at(name="attio", uid="res_unknown"), known()),
    "by its alias": (at(uid_alt="res_1"), known()),
    "by an alias as identifier": (at(uid="RES_1"), known()),
    "second of two": (event(resources=[{"uid": "https://x.example"}, {"uid": ATTIO}]), known()),
    "MCP below a path": (at(uid=MCP + "/sse"), known(MCP)),
    "MCP by its host alone": (at(hostname="mcp.attio.com"), known(MCP)),
    "beside the MCP path": (at(uid="https://mcp.attio.com/mcpx"), elsewhere("https://mcp.attio.com/mcpx")),
    "a host that begins alike": (at(uid="https://api.attio.com.evil.com"), elsewhere("https://api.attio.com.evil.com")),
    "a user part": (at(uid="https://api.attio.com@evil.com/x"), elsewhere("https://evil.com/x")),
    "named otherwise": (at(uid="res_9", name="Linear"), elsewhere("Linear")),
    "another host": (at(hostname="api.linear.app"), elsewhere("api.linear.app")),
    "a query with a secret": (at(uid="https://x.example/a?token=SECRET#f"), elsewhere("https://x.example/a")),
    "an opaque id": (at(uid="res_9"), {"resource_id": "res_9", "other_resource": None}),
    "none": (at(), {"resource_id": None, "other_resource": None}),
    "asked for in the request": (event(resources=GONE, unmapped=GONE, api__request__data__resource=[ATTIO, "https://x"]), known()),
    "an opaque id and what was asked for": (event(resources=[{"uid": "res_9"}]), known()),
    "in unmapped": (bare(unmapped={"resource": {"identifier": ATTIO}}), known()),
}  # fmt: skip


def call(method: str, path: str, **changes: Any) -> dict[str, Any]:
    url = {"path": path, "hostname": "api.attio.com", "url_string": ATTIO + path}
    return event(CALL, **{"http_request__http_method": method, "http_request__url": url, **changes})


OPERATIONS: dict[str, Case] = {
    f"{method} {path}": (call(method, path), {"operation": wanted, "http_path": path.split("?")[0].split("#")[0]})
    for method, path, wanted in (
        ("GET", "/v2/self", "GET /v2/self"),
        ("POST", "/v2/objects/people/records/query", "POST /v2/objects/{object}/records/query"),
        ("GET", "/v2/objects/x/attributes", "GET /v2/objects/{object}/attributes"),
        ("GET", "/v2/lists/x/attributes", "GET /v2/lists/{list}/attributes"),
        ("GET", "/v2/objects/x/records/1", "GET /v2/objects/{object}/records/{record_id}"),
        ("GET", "/v2/objects/", "GET /v2/objects"),
        ("GET", "/v2/objects?limit=1&access_token=SECRET", "GET /v2/objects"),
        ("GET", "/v2/objects#x", "GET /v2/objects"),
        ("get", "/v2/objects", "GET /v2/objects"),
        ("GET", "/v2/objects/a%2Fb/attributes", "GET /v2/objects/{object}/attributes"),
        ("GET", "/v2/%6Fbjects", "GET /v2/objects"),
        ("GET", "/v2/objects/%FF/attributes", None),
        ("GET", "/v2/objects//attributes", None),
        ("GET", "/v2/nothing", None),
        ("GET", "/v9/objects", None),
        ("TRACE", "/v2/objects", None),
        ("GET", "/", None),
    )
} | {
    "path from the URL": (call("GET", "/v2/objects", http_request__url={"url_string": ATTIO + "/v2/objects?a=b"},
                               resources=[{"uid": ATTIO}]), {"operation": "GET /v2/objects", "http_path": "/v2/objects"}),
    "from api.operation": (event(CALL, http_request=GONE, resources=[{"uid": ATTIO}], metadata__event_code=GONE,
                                 unmapped=GONE, api__operation="GET /v2/objects?x=SECRET"),
                           {"kind": "api_call", "operation": "GET /v2/objects", "event_name": "GET /v2/objects"}),
    "a call placed by its URL": (bare(http_request={"http_method": "GET", "url": {"url_string": ATTIO + "/v2/self"}}),
                                 {"kind": "api_call", "operation": "GET /v2/self", **known()}),
    "a call elsewhere, by its origin": (bare(http_request={"http_method": "GET", "url": {
        "url_string": "https://u:SECRET@x.example/records/1?t=SECRET"}}), elsewhere("https://x.example")),
    "a call elsewhere, by its host": (bare(http_request={"http_method": "GET", "url": {
        "hostname": "x.example", "path": "/a"}}), elsewhere("x.example")),
    "status code of a call": (event(CALL, http_response=GONE, api__response=GONE, status_code="403", status_id=GONE,
                                    status=GONE), {"http_status": 403, "outcome": "failure"}),
}  # fmt: skip
CASES = TIMES | IDS | DECISIONS | PEOPLE | ENCODINGS | SCOPES | RESOURCES | OPERATIONS
RESOURCES_IN_SCOPE = (ResourceScope(ATTIO, "Attio", ("res_1",)), DEFAULT_RESOURCES[1])


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    found = mapped(*(e for e, _ in CASES.values()), settings=Settings(resources=RESOURCES_IN_SCOPE))
    by_row = {row["source_row"]: row for row in found}
    return {name: by_row[number] for number, name in enumerate(CASES, 1) if number in by_row}


@pytest.mark.parametrize("name", [n for n in CASES if n not in ("no time", "a time far off")])
def test_an_event_gives_the_row_it_means(rows, name: str):
    wanted = CASES[name][1]
    assert {column: rows[name][column] for column in wanted} == wanted
    assert rows[name]["rejected_because"] is None


def test_an_event_without_a_usable_time_is_not_placed(rows):
    assert {"no time", "a time far off"}.isdisjoint(rows)


def test_no_column_carries_a_query_string_or_a_header(rows):
    headers = [{"name": "Authorization", "value": "Bearer SECRET"}]
    hidden = call(
        "GET", "/v2/objects?token=SECRET", http_request__http_headers=headers, http_response__http_headers=headers
    )
    everything = [*rows.values(), *mapped(hidden)]
    assert not [row for row in everything if "SECRET" in repr(row)]


def test_a_literal_segment_beats_a_parameter():
    mapping = load_mapping(Settings())
    literal = next(t for m, t in mapping.operations if m == "GET" and t == "/v2/objects/{object}/attributes")
    tied = (("GET", "/v2/objects/{object}/{thing}"), *mapping.operations)
    sql = operation_of("'GET'", "['v2', 'objects', 'x', 'attributes']", tied)
    assert duckdb.sql(f"SELECT {sql}").fetchall() == [(f"GET {literal}",)]


def test_a_companys_own_paths_come_first():
    settings = Settings(mapping_columns={"application_id": ("unmapped.it's.app",), "event_uid": ("unmapped.audit_id",)})
    [row] = mapped(event(unmapped={"it's": {"app": "own"}, "audit_id": "a-1"}), settings=settings)
    assert (row["application_id"], row["event_uid"]) == ("own", "a-1")


def test_a_name_claimed_for_a_kind_leaves_the_other():
    settings = Settings(mapping_kinds={"secret_read": ("acme:reveal", "grants:create")})
    rows = mapped(event(CONSENT), event(CONSENT, metadata__event_code="ACME:reveal"), event(ISSUE), settings=settings)
    assert [r["kind"] for r in rows] == ["secret_read", "secret_read", "credential_issue"]


@pytest.mark.parametrize(
    "change", [{"mapping_columns": {"aplication_id": ("a",)}}, {"mapping_kinds": {"issue": ("a",)}}]
)
def test_an_unknown_name_in_the_settings_is_refused(change: dict[str, Any]):
    with pytest.raises(MappingError, match=r"aplication_id|issue"):
        load_mapping(Settings(**change))


def test_an_unknown_catalogue_is_refused():
    with pytest.raises(MappingError, match=r"'nowhere'.*attio"):
        load_mapping(Settings(catalog="nowhere"))


def test_the_hash_changes_with_what_can_change_a_row():
    plain = load_mapping(Settings()).hash
    changed = [
        Settings(resources=RESOURCES_IN_SCOPE),
        Settings(mapping_columns={"event_uid": ("a",)}),
        Settings(mapping_kinds={"consent": ("a",)}),
    ]
    assert plain == load_mapping(Settings(organisation="Other")).hash
    assert len({plain, *(load_mapping(s).hash for s in changed)}) == 4


def test_signing_in_is_kept_although_it_names_no_resource():
    assert [r["other_resource"] for r in mapped(event(SIGN_IN), event(FAILED_SIGN_IN))] == [None, None]
