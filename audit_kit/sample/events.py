"""OCSF 1.7.0 events in the shapes that fit what is publicly known of Keycard's log; instants are ms since 1970, UTC."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime
from typing import Any

from audit_kit.sample.company import ORGANISATION, RESOURCES, ZONE, Application, Person

Event = dict[str, Any]
POLICY_SET = {"uid": "ps_halyard_main", "name": "halyard-zone-policies"}
POLICY_SET_VERSION = 7
_STS = {"hostname": "zone-halyard-01.sts.example.com", "svc_name": "keycard-sts", "port": 443}
_REASONS = {
    400: ("validation_type", "A value has the wrong type"),
    401: ("invalid_token", "The access token is not valid"),
    403: ("unauthorized", "The token lacks access to this operation"),
    404: ("not_found", "There is no such record"),
    429: ("rate_limit_exceeded", "Rate limit exceeded"),
    500: ("internal_error", "Something went wrong"),
}
_CLASSES = {
    3002: (3, "Authentication"), 3004: (3, "Entity Management"), 3005: (3, "User Access Management"),
    6003: (6, "API Activity"),
}  # fmt: skip
_ACTIVITIES = {
    (3002, 1): "Logon", (3004, 2): "Read", (3005, 1): "Assign Privileges", (3005, 2): "Revoke Privileges",
    (6003, 1): "Create", (6003, 2): "Read", (6003, 3): "Update", (6003, 4): "Delete",
}  # fmt: skip


class Writer:
    """Makes events from one stream of random numbers, so that the same seed gives the same ids."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def credential_issue(
        self,
        at: int,
        person: Person | None,
        application: Application,
        resource: str,
        scopes: tuple[str, ...],
        *,
        credential: str = "",
        denied_by: tuple[str, ...] | None = None,
    ) -> Event:
        """`denied_by`: the policies that refused it; empty is a default deny, None is an allowed issue."""
        is_denied = denied_by is not None
        event = self._event(
            at, 6003, 1, "credentials:issue", "access_denied" if is_denied else "issued", is_success=not is_denied
        )
        request = event["metadata"]["correlation_uid"]
        data: Event = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange" if person else "client_credentials",
            "resource": resource,
        }
        if scopes:
            data["scope"] = " ".join(scopes)
        event["api"] = {
            "operation": "credentials:issue",
            "service": {"name": _STS["hostname"]},
            "request": {"uid": request, "data": data},
        }
        if denied_by is not None:
            named = f" Determining policies: {', '.join(f'{ZONE}::{p}' for p in denied_by)}." if denied_by else ""
            policy_set = f"Policy set: {POLICY_SET['uid']}. Policy set version: {POLICY_SET_VERSION}."
            text = f"Access denied by policy. {policy_set}{named}"
            event |= {"status_detail": text, "message": "Credential not issued"}
            event["api"]["response"] = {"code": 400, "error": "access_denied", "error_message": text}
            authorizations = [_authorization("Denied", p, "forbid") for p in denied_by] or [{"decision": "Denied"}]
        else:
            answer: Event = {"credential_id": credential, "token_type": "Bearer", "expires_in": 3600}
            if scopes:
                answer["scope"] = data["scope"]
            event["message"] = f"Issued credential for {resource}"
            event["api"]["response"] = {"code": 200, "data": answer}
            policies = ("default-user-grants", "default-app-delegation") if person else ("default-app-direct-access",)
            authorizations = [_authorization("Allowed", p, "permit") for p in policies]
            if self.rng.random() < 0.1:  # looked at, and did not decide
                authorizations.append(_authorization("Denied", "shadow-business-hours", "forbid", is_applied=False))
        event["actor"] = _actor(person, application, authorizations)
        event["http_request"] = _http("POST", str(_STS["hostname"]), "/oauth/2/token", request, application)
        event["http_response"] = {"code": 400 if is_denied else 200, "latency": self.rng.randint(18, 90)}
        event |= {
            "dst_endpoint": _STS,
            "resources": [RESOURCES[resource]],
            "policy": _SET_POLICY,
            **_action(is_denied=is_denied),
        }
        event["unmapped"] |= {"actor": _chain(person, application), "requested_scopes": list(scopes)}
        if not is_denied:
            event["unmapped"] |= {"granted_scopes": list(scopes), "credential_id": credential}
        return self._from(event, person)

    def call(
        self,
        at: int,
        person: Person | None,
        application: Application,
        resource: str,
        operation: str,
        status: int,
        scopes: tuple[str, ...],
        credential: str,
    ) -> Event:
        """One downstream call of an operation (`GET /v2/notes/{note_id}`), its parameters filled in."""
        method, template = operation.split(" ", 1)
        path = "/".join(self._segment(part) for part in template.split("/"))
        activity = {"POST": 1, "PUT": 3, "PATCH": 3, "DELETE": 4}.get(method, 2)
        if template.endswith(("/query", "/search")):
            activity = 2
        code, words = _REASONS.get(status, (str(status), ""))
        event = self._event(at, 6003, activity, "resources:call", code, is_success=status < 400)
        host = str(RESOURCES[resource]["hostname"])
        request = event["metadata"]["correlation_uid"]
        response: Event = {"code": status}
        if status >= 400:
            response |= {"error": code, "error_message": words}
            event["status_detail"] = words
        event["api"] = {
            "operation": f"{method} {path}", "version": "v2", "service": {"name": host},
            "request": {"uid": request, "data": {"scope": " ".join(scopes)}}, "response": response,
        }  # fmt: skip
        event["actor"] = _actor(person, application, None)
        query = "limit=50&offset=0" if method == "GET" and self.rng.random() < 0.2 else None
        event["http_request"] = _http(method, host, path, request, application, query)
        event["http_response"] = {"code": status, "latency": self.rng.randint(40, 400)}
        event |= {
            "dst_endpoint": {"hostname": host, "port": 443},
            "resources": [RESOURCES[resource]],
            **_action(is_denied=status in (401, 403)),
        }
        event["unmapped"] |= {"actor": _chain(person, application), "credential_id": credential}
        return self._from(event, person)

    def sign_in(self, at: int, person: Person, *, is_success: bool) -> Event:
        event = self._event(
            at, 3002, 1, "users:authenticate", None if is_success else "invalid_grant", is_success=is_success
        )
        event |= {
            "user": _user(person),
            "is_mfa": True,
            "service": {"name": "keycard-sts", "uid": ZONE},
            "dst_endpoint": _STS,
        }
        event |= {
            "actor": {"app_uid": "ua_browser", "app_name": "Browser"},
            "message": "User signed in" if is_success else "User sign-in failed",
        }
        if is_success:
            event["session"] = {
                "uid": f"ses_{person.id[4:]}_{at // 86_400_000}",
                "issuer": f"https://{_STS['hostname']}",
            }
        return self._from(event, person)

    def consent(
        self, at: int, person: Person, application: Application, resource: str, scopes: tuple[str, ...]
    ) -> Event:
        return self._grant(at, person, application, resource, scopes, None)

    def revocation(
        self, at: int, person: Person, application: Application, resource: str, scopes: tuple[str, ...], admin: Person
    ) -> Event:
        return self._grant(at, person, application, resource, scopes, admin)

    def secret_read(self, at: int, person: Person, application: Application) -> Event:
        event = self._event(at, 3004, 2, "secrets:read", None, is_success=True)
        event["actor"] = _actor(person, application, [_authorization("Allowed", "default-user-grants", "permit")])
        event["entity"] = {
            "uid": "sec_attio_webhook",
            "name": "attio-webhook-signing-key",
            "type": "Secret",
            "type_id": 99,
        }
        event["entity"]["data"] = {"resource": RESOURCES_ATTIO["uid"], "resource_id": RESOURCES_ATTIO["uid_alt"]}
        event |= {"message": "Secret read from vault", "policy": _SET_POLICY, **_action(is_denied=False)}
        return self._from(event, person)

    def _grant(
        self,
        at: int,
        person: Person,
        application: Application,
        resource: str,
        scopes: tuple[str, ...],
        admin: Person | None,
    ) -> Event:
        code = "grants:revoke" if admin else "grants:create"
        event = self._event(at, 3005, 2 if admin else 1, code, None, is_success=True)
        event["user"] = _user(person)
        event["actor"] = _actor(admin or person, application, None)
        event["privileges"] = list(scopes) or ["openid"]
        event["message"] = "Grant revoked by an administrator" if admin else "User consented to access"
        event |= {"resources": [RESOURCES[resource]], **_action(is_denied=False)}
        event["unmapped"]["grant_id"] = f"grt_{person.id[4:]}_{RESOURCES[resource]['uid_alt']}"
        return self._from(event, admin or person)

    def _event(
        self, at: int, class_uid: int, activity: int, code: str, status_code: str | None, *, is_success: bool
    ) -> Event:
        category, class_name = _CLASSES[class_uid]
        instant = datetime.fromtimestamp(at / 1000, UTC)
        event: Event = {
            "metadata": {
                "version": "1.7.0",
                "uid": str(uuid.UUID(int=self.rng.getrandbits(128), version=4)),
                "event_code": code,
                "product": {"name": "Keycard", "vendor_name": "Keycard"},
                "log_name": "audit",
                "tenant_uid": ZONE,
                "correlation_uid": f"req_{self.rng.getrandbits(64):016x}",
                "logged_time": at + self.rng.randint(80, 2_500),
                "original_time": instant.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "profiles": ["security_control"],
            },
            "time": at,
            "category_uid": category,
            "class_uid": class_uid,
            "class_name": class_name,
            "activity_id": activity,
            "activity_name": _ACTIVITIES[class_uid, activity],
            "type_uid": class_uid * 100 + activity,
            "severity_id": 1 if is_success else 2,
            "status_id": 1 if is_success else 2,
            "status": "Success" if is_success else "Failure",
            "unmapped": {"event": code, "organization_id": ORGANISATION, "zone_id": ZONE},
        }
        if status_code is not None:
            event["status_code"] = status_code
        return event

    def _from(self, event: Event, person: Person | None) -> Event:
        event["src_endpoint"] = {"ip": person.ip if person else "203.0.113.7"}
        return event

    def _segment(self, part: str) -> str:
        if not part.startswith("{"):
            return part
        if part in ("{object}", "{list}"):
            return self.rng.choice(("people", "companies", "deals") if part == "{object}" else ("pipeline", "renewals"))
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))


RESOURCES_ATTIO = RESOURCES["https://api.attio.com"]
_SET_POLICY = {**POLICY_SET, "version": str(POLICY_SET_VERSION), "type": "Cedar policy set", "is_applied": True}


def _authorization(decision: str, policy: str, effect: str, *, is_applied: bool = True) -> Event:
    data = {"effect": effect, "policy_set_id": POLICY_SET["uid"], "policy_set_version": POLICY_SET_VERSION}
    named = {"uid": f"pol_{policy.replace('-', '_')}", "name": policy, "version": "1", "type": "Cedar"}
    return {"decision": decision, "policy": {**named, "is_applied": is_applied, "group": POLICY_SET, "data": data}}


def _user(person: Person) -> Event:
    return {
        "uid": person.id,
        "name": person.email,
        "email_addr": person.email,
        "full_name": person.name,
        "type_id": 1,
        "type": "User",
    }


def _actor(person: Person | None, application: Application, authorizations: list[Event] | None) -> Event:
    actor: Event = {"app_uid": application.id, "app_name": application.name}
    if person:
        actor["user"] = _user(person)
    if authorizations:
        actor["authorizations"] = authorizations
    return actor


def _chain(person: Person | None, application: Application) -> Event:
    identities = [
        {"type": "application", "id": application.id, "identifier": application.name.lower().replace(" ", "-")}
    ]
    if application.behind:
        identities.append(
            {"type": "application", "id": application.behind, "identifier": application.behind[4:].replace("_", "-")}
        )
    if person:
        identities.append({"type": "user", "id": person.id, "identifier": person.email})
    return {"type": "identity_chain" if person else "application", "identities": identities}


def _http(method: str, host: str, path: str, request: str, application: Application, query: str | None = None) -> Event:
    url = {
        "scheme": "https",
        "hostname": host,
        "path": path,
        "port": 443,
        "url_string": f"https://{host}{path}{f'?{query}' if query else ''}",
    }
    if query:
        url["query_string"] = query
    return {
        "http_method": method,
        "user_agent": f"{application.name.lower().replace(' ', '-')}/1.4",
        "uid": request,
        "url": url,
    }


def _action(*, is_denied: bool) -> Event:
    if is_denied:
        return {"action_id": 2, "action": "Denied", "disposition_id": 2, "disposition": "Blocked"}
    return {"action_id": 1, "action": "Allowed", "disposition_id": 1, "disposition": "Allowed"}
