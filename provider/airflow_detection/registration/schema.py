"""The JSON Schema of a registration file (draft 2020-12): what an editor completes and checks."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from airflow_detection.domain.scores import LEAST_ABOVE, SEVERITIES
from airflow_detection.evidence.policy import BAD_VERDICTS, POLICY_OPTIONS, PromotionPolicy
from airflow_detection.registration.keys import (
    CYCLE_KEYS,
    DEADLINE_KEYS,
    FILE_KEYS,
    ID_SCHEMA,
    MODEL_ID_SCHEMA,
    MODEL_KEYS,
    ROLE,
    VERSION_KEYS,
    VERSION_SCHEMA,
    Key,
    Schema,
)
from airflow_detection.registration.task_options import DEFAULT_ARGS, OPTIONS


def json_schema() -> dict[str, Any]:  # Any: a JSON Schema
    """Return the schema. The reader alone knows what is registered, loops, and what fires."""
    entries = {
        "cycles": {"propertyNames": ID_SCHEMA, "additionalProperties": _entry(CYCLE_KEYS)},
        "models": {"propertyNames": MODEL_ID_SCHEMA, "additionalProperties": _entry(MODEL_KEYS)},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Registration file of airflow-provider-detection",
        "type": "object",
        "additionalProperties": False,
        "properties": {key.name: {**_value(key), **entries[key.name]} for key in FILE_KEYS},
    }


def json_schema_text() -> str:
    """Return the schema as it is shipped."""
    return json.dumps(json_schema(), indent=2) + "\n"


def _entry(keys: Iterable[Key]) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [key.name for key in keys if key.is_required],
        "properties": {key.name: _value(key) for key in keys},
    }


def _value(key: Key) -> Schema:
    """Return the schema of a key's value; one that is not required may be null, as if it were left out."""
    schema = {**key.kind.schema, **_inside(key.name)}
    if not key.is_required and "enum" in schema:
        schema["enum"] = [*schema["enum"], None]
    elif not key.is_required:
        kinds = schema["type"]
        schema["type"] = [*([kinds] if isinstance(kinds, str) else kinds), "null"]
    return {**schema, "description": key.means}


def _inside(name: str) -> Schema:
    """Return what is inside the value of a key, for those that have keys of their own."""
    if name == "versions":
        return {"propertyNames": VERSION_SCHEMA, "additionalProperties": _version()}
    options: dict[str, Schema]
    if name == "events":
        severities = {severity: {"type": "number"} for severity in SEVERITIES if severity != "LOW"}
        options = {
            "above": {"type": "number", "minimum": LEAST_ABOVE},
            "severity": {"type": "object", "additionalProperties": False, "properties": severities},
        }
        return {"additionalProperties": False, "properties": options}
    if name == "deadline":
        return _entry(DEADLINE_KEYS)
    if name in ("task_options", "default_args"):
        known = OPTIONS if name == "task_options" else DEFAULT_ARGS
        options = {n: {**o.bound.schema, "description": o.means} for n, o in known.items()}
    elif name == "promotion":
        options = {f.name: _policy_option(f.name, f.default) for f in fields(PromotionPolicy)}
    else:
        return {}
    return {"additionalProperties": False, "properties": options}


def _version() -> Schema:
    return {
        **_entry(VERSION_KEYS),
        "type": ["object", "null"],
        "if": {"required": ["since"], "properties": {"since": {"type": "string"}}},
        "then": {"required": ["role"], "properties": {"role": ROLE.schema}},
    }


def _policy_option(name: str, default: object) -> Schema:
    option = POLICY_OPTIONS[name]
    if isinstance(default, bool):
        return {"type": "boolean", "description": option.means}
    if isinstance(default, tuple):
        items = {"enum": [*BAD_VERDICTS]}
        return {"type": "array", "minItems": 1, "items": items, "description": option.means}
    kind = "integer" if isinstance(default, int) else "number"
    return {"type": kind, "minimum": option.low, "maximum": option.high, "description": option.means}
