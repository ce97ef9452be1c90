"""What the published OpenAPI document says beyond what the framework knows: bodies, answers, and every refusal."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, get_args

from agentic_os.contracts.schema import callback_schema
from agentic_os.domain.task import Phase
from agentic_os.http.callbacks import PATH

_PROBLEM: Final = "application/problem+json"
_PUBLIC: Final = frozenset({"/healthz", "/readyz", "/api/contracts/callback/v1"})
_REFUSALS: Final[Mapping[str, str]] = {
    "400": "It is not what this address reads.",
    "401": "The credential is missing, unknown, or no longer in force.",
    "402": "The budget is used up.",
    "403": "The credential does not open this.",
    "404": "There is nothing here.",
    "409": "It does not fit how things stand.",
    "413": "It is larger than its limit.",
    "422": "It can be read, but it is not allowed so; the pointers name the places.",
    "429": "Too much was sent in too short a time.",
    "500": "The server failed; send the same again.",
    "503": "Nothing was decided; send the same again.",
}


def _object(required: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Describe an object that has at least these members."""
    return {"type": "object", "required": list(required), "properties": {**required, **more}}


def _or_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _named(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _page(item: Mapping[str, Any], following: Mapping[str, Any]) -> dict[str, Any]:
    return _object({"items": {"type": "array", "items": item}, "next": _or_null(following)})


_TEXT: Final = {"type": "string"}
_FLAG: Final = {"type": "boolean"}
_COUNT: Final = {"type": "integer", "minimum": 0}
_INSTANT: Final = {"type": "string", "format": "date-time"}
_LIST: Final = {"type": "array"}
_DIGEST: Final = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
_PHASE: Final = {"enum": list(get_args(Phase))}
_LEFT: Final = _object(dict.fromkeys(("cost_microusd", "tokens", "attempts"), _or_null(_COUNT)))
_SUBMISSION: Final = _object({"version": _COUNT, "digest": _DIGEST, "state": _TEXT})
_EXPLANATION: Final = _object(
    {
        **dict.fromkeys(("id", "task_id", "type"), _TEXT),
        "by_policy": _FLAG,
        "as_recorded": _FLAG,
        "version": _COUNT,
        "at": _INSTANT,
        "differences": {"type": "array", "items": _TEXT},
        "replay": _object(
            {
                **dict.fromkeys(("hook", "bundle", "decision", "outcome"), _TEXT),
                **dict.fromkeys(("rules", "reasons", "obligations", "matched", "unmatched", "flips"), _LIST),
                "facts": {"type": "object"},
            }
        ),
    }
)
_SCHEMAS: Final[Mapping[str, Any]] = {
    "Problem": _object(
        {
            **dict.fromkeys(("type", "title", "code", "detail", "next"), _TEXT),
            "status": {"type": "integer"},
            "pointer": {"type": "array", "items": _TEXT},
            "retryable": {"type": "boolean"},
        }
    ),
    "Acceptance": _object(
        {
            "accepted": {"const": True},
            "event_ids": {"type": "array", "items": _TEXT},
            "task_version": _COUNT,
            "phase": _PHASE,
            "directive": {"enum": ["continue", "stop", "replan", "hold", "cancel"]},
            "lease_expires_at": _or_null(_INSTANT),
            "budget_left": _LEFT,
        },
        attempt_token=_TEXT,
    ),
    "Task": _object(
        {
            **dict.fromkeys(
                ("id", "title", "goal", "project", "mode", "risk", "priority", "requester"), _TEXT
            ),
            **dict.fromkeys(("labels", "paths", "tools", "acceptance", "depends_on", "holds"), _LIST),
            **dict.fromkeys(("blocked_by", "questions", "review_items", "evidence", "artifacts"), _LIST),
            **dict.fromkeys(("attempt", "verdict", "issue", "output_schema"), _or_null({"type": "object"})),
            **dict.fromkeys(("plan", "result"), _or_null(_SUBMISSION)),
            **dict.fromkeys(("created_at", "updated_at"), _INSTANT),
            "phase": _PHASE,
            "assignee": _or_null(_TEXT),
            "due": _or_null(_INSTANT),
            "version": _COUNT,
            "waiting_for": _or_null(_object({"owner": _TEXT, "what": _TEXT})),
            "budget": _object({"limit": {"type": "object"}, "spent": {"type": "object"}, "left": _LEFT}),
        }
    ),
    "Event": _object(
        {
            **dict.fromkeys(("event_id", "type", "actor", "reason", "cause", "hash"), _TEXT),
            "version": _COUNT,
            "at": _INSTANT,
            "data": {"type": "object"},
        }
    ),
    "Brief": _object({"attempt": _COUNT, "digest": _DIGEST, "brief": {"type": "object"}}),
    "Receipt": _object(
        {
            "id": _TEXT,
            "outcome": {"enum": ["done", "refused"]},
            "rule": _or_null(_TEXT),
            "message": _TEXT,
            "paste": _or_null(_TEXT),
        }
    ),
}
_ANSWERS: Final[Mapping[tuple[str, str], Mapping[str, Any]]] = {
    ("post", PATH): _named("Acceptance"),
    ("post", "/api/tasks"): _named("Task"),
    ("get", "/api/tasks"): _page(_named("Task"), _TEXT),
    ("get", "/api/tasks/{task_id}"): _named("Task"),
    ("get", "/api/tasks/{task_id}/events"): _page(_named("Event"), _COUNT),
    ("get", "/api/tasks/{task_id}/brief"): _named("Brief"),
    ("get", "/api/tasks/{task_id}/artifacts"): _page({"type": "object"}, _TEXT),
    ("get", "/api/tasks/{task_id}/attempts"): _page({"type": "object"}, _TEXT),
    ("get", "/api/tasks/{task_id}/reviews"): _page({"type": "object"}, _TEXT),
    ("get", "/api/tasks/{task_id}/versions/{a}..{b}"): {"type": "object"},
    ("get", "/api/tasks/{task_id}/why"): {"type": "object"},
    ("get", "/api/decisions/{event_id}/explanation"): _EXPLANATION,
    ("post", "/api/tasks/{task_id}/directives"): _named("Receipt"),
}


def describe(document: dict[str, Any]) -> dict[str, Any]:
    """Complete the document in place, and return it."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(_SCHEMAS)
    for invented in ("HTTPValidationError", "ValidationError"):  # the framework's own form, which nobody gets
        schemas.pop(invented, None)
    for path, item in document["paths"].items():
        for method, operation in item.items():
            _describe_answers(operation, method, path)
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if path == PATH:
                body = operation["requestBody"]["content"]["application/json"]
                body["schema"] = _one_of_kinds(json.loads(callback_schema()))
            if body is not None:
                body["schema"] = _hoist(body["schema"], "Callback." if path == PATH else "", schemas)
    return document


def _describe_answers(operation: dict[str, Any], method: str, path: str) -> None:
    responses = operation["responses"]
    schema = _ANSWERS.get((method, path))
    if schema is not None:
        success = next(status for status in responses if status.startswith("2"))
        responses[success]["content"] = {"application/json": {"schema": schema}}
    for status in _refusals(operation, path):
        found = responses.setdefault(status, {"description": _REFUSALS[status]})
        found["content"] = {_PROBLEM: {"schema": _named("Problem")}}


def _refusals(operation: Mapping[str, Any], path: str) -> Iterator[str]:
    """Say with which statuses an operation may refuse."""
    if path == PATH:
        yield from _REFUSALS
        return
    yield from ("500", "503")
    if path not in _PUBLIC:
        yield from ("401", "403")
    if "requestBody" in operation:
        yield from ("400", "409", "413", "422")
    elif "422" in operation["responses"]:
        yield "422"
    if "{" in path or any(p["in"] == "query" for p in operation.get("parameters", ())):
        yield "404"


def _one_of_kinds(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Write the callback as one envelope for each kind: the same, in a form that programs can generate from."""
    kinds = []
    for branch in schema["allOf"]:
        kind, body = branch["if"]["properties"]["kind"], branch["then"]["properties"]["body"]
        properties = {**schema["properties"], "kind": kind, "body": body}
        kinds.append({"title": kind["const"], "properties": properties})
    shared = {name: schema[name] for name in ("type", "additionalProperties", "required")}
    return {"oneOf": [{**shared, **kind} for kind in kinds], "$defs": schema["$defs"]}


def _hoist(schema: Any, prefix: str, schemas: dict[str, Any]) -> Any:
    """Move what a schema defines within itself to where a reference from the document's root finds it."""
    definitions = schema.get("$defs", {})
    for name, definition in definitions.items():
        schemas[prefix + name] = _redirect(definition, prefix)
    rest = {name: part for name, part in schema.items() if name not in ("$defs", "$schema", "$id")}
    return _redirect(rest, prefix)


def _redirect(part: Any, prefix: str) -> Any:
    if isinstance(part, Mapping):
        reference = part.get("$ref")
        if isinstance(reference, str) and reference.startswith("#/$defs/"):
            return {**part, "$ref": f"#/components/schemas/{prefix}{reference.removeprefix('#/$defs/')}"}
        return {name: _redirect(value, prefix) for name, value in part.items()}
    if isinstance(part, Sequence) and not isinstance(part, str):
        return [_redirect(value, prefix) for value in part]
    return part
