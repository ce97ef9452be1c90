"""A callback as it comes in: parsed, and checked against the schema and what no schema can say."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agentic_os.contracts.canonical import JsonValue, canonical_json
from agentic_os.contracts.marked import parse_marked
from agentic_os.contracts.output import schema_fault
from agentic_os.contracts.schema import check_body, check_envelope
from agentic_os.contracts.strict_json import parse_json, pointer_to
from agentic_os.contracts.violation import ContractViolation, SchemaInvalid

MAX_CALLBACK_BYTES = 1024 * 1024
MAX_INLINE_ARTIFACT_BYTES = 256 * 1024
MAX_CHECKPOINT_STATE_BYTES = 64 * 1024
MARKED_KINDS = frozenset({"plan", "result"})
_IDENTIFIED = (("steps", "id"), ("responds_to", "item_id"), ("options", "id"), ("tasks", "ref"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """One message of an executor; `body` is structured even when it was sent as marked text.

    `document` is the whole message as sent, for the fingerprint of its receipt.
    """

    contract: str
    callback_id: str
    task_id: str
    attempt: int
    seq: int
    kind: str
    occurred_at: str
    usage: dict[str, JsonValue] | None
    traceparent: str | None
    body: dict[str, JsonValue]
    document: dict[str, JsonValue]


def parse_callback(raw: bytes) -> Callback:
    """Read one callback; raises ContractViolation with a code of the contract."""
    if len(raw) > MAX_CALLBACK_BYTES:
        raise ContractViolation(
            "too_large", f"a callback is at most 1 MiB, got {len(raw)} bytes; upload artifacts"
        )
    return read_callback(parse_json(raw))


def read_callback(document: JsonValue) -> Callback:
    """Check a parsed document as a callback; raises ContractViolation with a code of the contract."""
    check_document(document)
    kind, body = document["kind"], document["body"]
    if "marked_text" in body and kind in MARKED_KINDS:
        body = _read_marked(document)
    _check_meaning(kind, body)
    return Callback(
        contract=document["contract"],
        callback_id=document["callback_id"],
        task_id=document["task_id"],
        attempt=document["attempt"],
        seq=document["seq"],
        kind=kind,
        occurred_at=document["occurred_at"],
        usage=document.get("usage"),
        traceparent=document.get("traceparent"),
        body=body,
        document=document,
    )


def check_document(document: JsonValue) -> None:
    """Check a parsed callback against the published schema and no more; raises ContractViolation."""
    check_envelope(document)
    kind, body = document["kind"], document["body"]
    check_body("marked" if kind in MARKED_KINDS and "marked_text" in body else kind, body)


def check_plan(plan: JsonValue, *, at: str) -> None:
    """Check a plan that no callback brings; `at` is the pointer to it. Raises ContractViolation."""
    try:
        check_body("plan", plan)
        _check_meaning("plan", plan)
    except ContractViolation as violation:
        places = tuple(at + place.removeprefix("/body") for place in violation.pointers)
        message = "; ".join(
            at + part.removeprefix("/body") if part.startswith("/body") else part
            for part in violation.message.split("; ")
        )
        raise ContractViolation(violation.code, message, places) from None


def _read_marked(document: dict[str, JsonValue]) -> dict[str, JsonValue]:
    kind = document["kind"]
    body = parse_marked(
        document["body"]["marked_text"], kind=kind, task_id=document["task_id"], attempt=document["attempt"]
    )
    try:
        check_body(kind, body, at=())
    except ContractViolation as violation:
        raise SchemaInvalid(
            f"the marked text reads as a {kind} in which {violation}", "/body/marked_text"
        ) from None
    return body


def _check_meaning(kind: str, body: dict[str, JsonValue]) -> None:
    for index, artifact in enumerate(body.get("artifacts", ())):
        if "content_base64" in artifact:
            _check_content(artifact, ("body", "artifacts", index))
    for path, ids in _identifiers(body):
        _check_unique(ids, path)
    if (
        kind == "checkpoint"
        and (size := len(canonical_json(body.get("state", {})))) > MAX_CHECKPOINT_STATE_BYTES
    ):
        raise ContractViolation(
            "too_large", f"/body/state must be at most 64 KiB of JSON, got {size} bytes", ("/body/state",)
        )
    if kind == "escalation":
        _check_default_option(body)
    if "tasks" in body:
        _check_tasks(body["tasks"])


def _check_content(artifact: dict[str, Any], path: tuple[str | int, ...]) -> None:
    place = pointer_to(*path, "content_base64")
    try:
        content = base64.b64decode(artifact["content_base64"], validate=True)
    except ValueError as error:  # what is no base64, and what is not even ASCII
        raise SchemaInvalid(f"{place} is not base64: {error}", place) from None
    if len(content) > MAX_INLINE_ARTIFACT_BYTES:
        raise ContractViolation(
            "too_large",
            f"{place} holds {len(content)} bytes, more than 256 KiB; use PUT /api/artifacts/{{digest}}",
            (place,),
        )
    if len(content) != artifact["size"]:
        where = pointer_to(*path, "size")
        raise SchemaInvalid(
            f"{where} says {artifact['size']}, but the content has {len(content)} bytes", where
        )
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    if digest != artifact["digest"]:
        where = pointer_to(*path, "digest")
        raise SchemaInvalid(f"{where} is not the digest of the content, which is {digest}", where)


def _identifiers(body: dict[str, Any]) -> Iterator[tuple[tuple[str | int, ...], list[Any]]]:
    """Pair the ids of each list, which must differ, with the path of the list and of the id in an item."""
    for name, key in _IDENTIFIED:
        if name in body:
            yield ("body", name, key), [item[key] for item in body[name]]
    for index, task in enumerate(body.get("tasks", ())):
        yield (
            ("body", "tasks", index, "acceptance", "id"),
            [criterion["id"] for criterion in task["acceptance"]],
        )


def _check_unique(ids: list[str], path: tuple[str | int, ...]) -> None:
    if len(set(ids)) == len(ids):
        return
    index = next(index for index, value in enumerate(ids) if value in ids[:index])
    place = pointer_to(*path[:-1], index, path[-1])
    raise SchemaInvalid(f"{place} repeats the id {ids[index]!r}; each must differ", place)


def _check_default_option(body: dict[str, Any]) -> None:
    default, options = body.get("default_option"), [option["id"] for option in body.get("options", ())]
    if default is not None and default not in options:
        place = pointer_to("body", "default_option")
        raise SchemaInvalid(f"{place} must be the id of one of the options, got {default!r}", place)


def _check_tasks(tasks: list[dict[str, Any]]) -> None:
    """Hold proposed tasks to depending on each other only, in no circle, and to output schemas that can be used."""
    refs = {task["ref"] for task in tasks}
    for index, task in enumerate(tasks):
        for number, ref in enumerate(task.get("depends_on", ())):
            if ref not in refs:
                place = pointer_to("body", "tasks", index, "depends_on", number)
                raise SchemaInvalid(f"{place} must be the ref of a task beside it, got {ref!r}", place)
        if "output_schema" in task and (fault := schema_fault(task["output_schema"])):
            place = pointer_to("body", "tasks", index, "output_schema")
            raise SchemaInvalid(f"{place} is no usable JSON Schema: {fault}", place)
    _check_no_circle(tasks)


def _check_no_circle(tasks: list[dict[str, Any]]) -> None:
    needed = {task["ref"]: set(task.get("depends_on", ())) for task in tasks}
    while free := [ref for ref, others in needed.items() if not others]:
        for ref in free:
            del needed[ref]
        for others in needed.values():
            others.difference_update(free)
    for index, task in enumerate(tasks):
        if task["ref"] in needed:
            number = next(n for n, ref in enumerate(task["depends_on"]) if ref in needed)
            place = pointer_to("body", "tasks", index, "depends_on", number)
            raise SchemaInvalid(f"{place} goes round in a circle: {', '.join(sorted(needed))}", place)
