"""The published schema of the callback, its examples, and validation against them in plain words."""

import functools
import json
from importlib import resources
from typing import Any

import jsonschema_rs

from agentic_os.contracts.canonical import JsonValue
from agentic_os.contracts.strict_json import pointer_to
from agentic_os.contracts.violation import ContractViolation, SchemaInvalid

KINDS = (
    "ack",
    "decline",
    "heartbeat",
    "progress",
    "checkpoint",
    "plan",
    "result",
    "review",
    "evidence",
    "tool_event",
    "task_request",
    "handoff",
    "escalation",
    "failure",
)
_SHOWN_ERRORS = 10
_SHOWN_CHARACTERS = 60
_LIMITS = {"min": "at least", "max": "at most", "minimum": "at least", "maximum": "at most"}
_COUNTED = {"Length": "characters", "Items": "items", "Properties": "members"}
_TYPES = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    type(None): "null",
}
_FOLDER = resources.files("agentic_os.contracts")


def callback_schema() -> bytes:
    """Read the normative schema, as it is published."""
    return _FOLDER.joinpath("callback.v1.schema.json").read_bytes()


def callback_examples() -> dict[str, bytes]:
    """Read the examples that are published with the schema, by name (`plan`, `plan_marked` ...)."""
    return {
        file.name.removesuffix(".json"): file.read_bytes()
        for file in sorted(_FOLDER.joinpath("examples").iterdir(), key=lambda file: file.name)
    }


def check_envelope(document: JsonValue) -> None:
    """Check all of a callback but what is in its body; raises SchemaInvalid."""
    _check(_validators()["envelope"], document, ())


def check_body(definition: str, body: JsonValue, *, at: tuple[str | int, ...] = ("body",)) -> None:
    """Check a body against one definition of the schema (a kind, or `marked`); raises ContractViolation."""
    _check(_validators()[definition], body, at)


@functools.cache
def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(callback_schema())
    return schema


@functools.cache
def _validators() -> dict[str, jsonschema_rs.Validator]:
    # Envelope and body apart, since an error of the whole says no more than "under none of oneOf".
    schema = _schema()
    parts = {"envelope": {name: part for name, part in schema.items() if name != "allOf"}}
    for definition in (*KINDS, "marked"):
        parts[definition] = {
            "$schema": schema["$schema"],
            "$defs": schema["$defs"],
            "$ref": f"#/$defs/{definition}",
        }
    return {name: jsonschema_rs.validator_for(part, validate_formats=True) for name, part in parts.items()}


def _check(validator: jsonschema_rs.Validator, value: JsonValue, at: tuple[str | int, ...]) -> None:
    if validator.is_valid(value):
        return
    errors = list(validator.iter_errors(value))
    described = [_describe(error, at) for error in errors[:_SHOWN_ERRORS]]
    if len(errors) > _SHOWN_ERRORS:
        described.append((f"and {len(errors) - _SHOWN_ERRORS} more", ()))
    message = "; ".join(text for text, _ in described)
    pointers = tuple(pointer for _, places in described for pointer in places)
    if any(
        error.kind.name == "maxLength" and error.instance_path[-1:] == ["content_base64"] for error in errors
    ):
        raise ContractViolation("too_large", message, pointers)
    raise SchemaInvalid(message, *pointers)


def _describe(error: jsonschema_rs.ValidationError, at: tuple[str | int, ...]) -> tuple[str, tuple[str, ...]]:
    """Say what was expected and what came, and point to it: for a member that lacks, to where it belongs."""
    path = (*at, *error.instance_path)
    place = pointer_to(*path)
    where = place or "the document"
    match error.kind:
        case jsonschema_rs.ValidationErrorKind.Required(property=name):
            return f"{where} lacks {name!r}", (pointer_to(*path, name),)
        case jsonschema_rs.ValidationErrorKind.AdditionalProperties(unexpected=names):
            known = ", ".join(_schema_at(error.schema_path[:-1])["properties"]) or "none"
            surplus = ", ".join(map(_shorten, names[:_SHOWN_ERRORS]))
            return f"{where} has surplus {surplus} (known: {known})", tuple(
                pointer_to(*path, name) for name in names[:_SHOWN_ERRORS]
            )
        case _:
            return f"{where} {_expectation(error)}", (place,)


def _expectation(error: jsonschema_rs.ValidationError) -> str:
    limit: Any = error.kind.value
    got: Any = error.instance
    match error.kind.name:
        case "type":
            return f"must be of type {' or '.join(limit)}, got {_json_type(got)}"
        case "enum":
            return f"must be one of {', '.join(limit)}; got {_shorten(got)}"
        case "const" | "format" | "pattern":
            how = {"const": "must be", "format": "must be a", "pattern": "must match"}[error.kind.name]
            return f"{how} {limit}, got {_shorten(got)}"
        case "minimum" | "maximum":
            return f"must be {_LIMITS[error.kind.name]} {limit}, got {_shorten(got)}"
        case "minLength" | "maxLength" | "minItems" | "maxItems" | "maxProperties" as name:
            return f"must have {_LIMITS[name[:3]]} {limit} {_COUNTED[name[3:]]}, got {len(got)}"
        case _:
            return f"is refused: {error.message[:_SHOWN_CHARACTERS]}"


def _schema_at(path: list[str | int]) -> Any:
    part: Any = _schema()
    for step in path:
        part = part[step]
    return part


def _json_type(value: JsonValue) -> str:
    return next(name for kind, name in _TYPES.items() if isinstance(value, kind))


def _shorten(value: JsonValue) -> str:
    if isinstance(value, dict | list):
        return f"an {_json_type(value)}"
    shown = json.dumps(value)
    return shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "..."
