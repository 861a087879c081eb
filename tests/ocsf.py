"""Validates events against the official OCSF 1.7.0 schema, as the package `ocsf-json-schema` carries it."""

from __future__ import annotations

from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema


@cache
def _schema() -> OcsfJsonSchemaEmbedded:
    return OcsfJsonSchemaEmbedded(get_ocsf_schema(version="1.7.0"))


@cache
def _validator(class_uid: int, profiles: tuple[str, ...]) -> Draft202012Validator:
    return Draft202012Validator(_schema().get_class_schema(class_name=_class_name(class_uid), profiles=list(profiles)))


@cache
def _class_name(class_uid: int) -> str:
    classes = get_ocsf_schema(version="1.7.0")["classes"]
    return next(name for name, entry in classes.items() if entry["uid"] == class_uid)


def ocsf_errors(event: dict[str, Any]) -> list[str]:
    """What is wrong with the event, empty when it is valid."""
    profiles = tuple(event.get("metadata", {}).get("profiles", ()))
    validator = _validator(event["class_uid"], profiles)
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(event)]
