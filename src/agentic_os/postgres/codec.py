"""Events and tasks to stored JSON and back: the dataclasses are the stored form, pydantic is the codec."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from datetime import datetime
from typing import Annotated, Any, Final, get_args

import orjson
from pydantic import Field, TypeAdapter

from agentic_os.application.ports import Envelope, Recorded
from agentic_os.contracts.canonical import canonical_json, plain_canonical
from agentic_os.domain.documents import JsonObject
from agentic_os.domain.events import SCHEMA_VERSION, Event, LeaseRenewed, ProgressReported, UsageBooked
from agentic_os.domain.governance import RegistryEvent
from agentic_os.domain.task import Task

AnyEvent = Event | RegistryEvent

_event: Final[TypeAdapter[AnyEvent]] = TypeAdapter(Annotated[AnyEvent, Field(discriminator="type")])
_task: Final[TypeAdapter[Task]] = TypeAdapter(Task)

UPCASTERS: Final[Mapping[tuple[str, int], Callable[[JsonObject], JsonObject]]] = {}
"""How to read an older schema of a type: (type, schema) -> the data as the next schema has it."""

_OF_OBLIGATIONS: Final = (("obligations", "capabilities"), ("obligations", "tier"), ("obligations", "stages"))

LATER_FIELDS: Final[Mapping[str, Sequence[tuple[str, ...]]]] = {
    "task.allowed": (("obligations", "reviewers", "by"), ("obligations", "bar_requester"), *_OF_OBLIGATIONS),
    "parent.declared": (
        ("obligations", "reviewers", "by"),
        ("obligations", "bar_requester"),
        *_OF_OBLIGATIONS,
    ),
    "child.accepted": (
        ("obligations", "reviewers", "by"),
        ("obligations", "bar_requester"),
        *_OF_OBLIGATIONS,
    ),
    "review.required": _OF_OBLIGATIONS,
    "policy.decided": (("obligations", "stages"),),
    "attempt.offered": (("tier",),),
    "breaker.tripped": (("breaker",),),
    "run.ended": (("detail",),),
    "attempt.expired": (("detail",),),
    "bundle.applied": (("shadow",), ("skills",)),
    "principal.registered": (("workspace",),),
}
"""Fields that an event or the values in it got later, by the way to them: left out while None or empty, so that what
was stored before them is read, and written again, as it was."""

EVENT_TYPES: Final = frozenset(
    get_args(member.__dataclass_fields__["type"].type)[0] for member in get_args(AnyEvent)
)


class UnreadableEvent(Exception):
    """A stored event is not one that this release knows."""


def encode_event(event: AnyEvent, event_id: str, envelope: Envelope) -> str:
    """Write the payload that is stored and hashed: canonical JSON of the event and of who, when and why."""
    data = event_as_json(event)
    del data["type"]
    payload = {
        "event_id": event_id,
        "type": event.type,
        "schema": SCHEMA_VERSION,
        "actor": envelope.actor,
        "reason": envelope.reason,
        "cause": envelope.cause,
        "at": _instant(envelope.at),
        "data": data,
        "meta": dict(envelope.meta),
    }
    return (plain_canonical if type(event) in _PLAIN else canonical_json)(payload).decode()


def decode_event(type_name: str, schema: int, data: JsonObject) -> AnyEvent:
    """Read an event's data, through the upcasters of older schemas. Raises UnreadableEvent."""
    while (type_name, schema) in UPCASTERS:
        data = UPCASTERS[type_name, schema](data)
        schema += 1
    if schema != SCHEMA_VERSION:
        raise UnreadableEvent(f"{type_name} has schema {schema}; this release reads up to {SCHEMA_VERSION}")
    try:
        return _event.validate_python({**data, "type": type_name}, extra="forbid")
    except ValueError as problem:
        raise UnreadableEvent(f"{type_name}: {problem}") from problem


def decode_payload(payload: str) -> AnyEvent:
    """Read a stored payload."""
    stored = orjson.loads(payload)
    return decode_event(stored["type"], stored["schema"], stored["data"])


def recorded(stream: str, version: int, payload: str, digest: bytes) -> Recorded:
    """Describe a stored event, its data left as JSON."""
    stored = orjson.loads(payload)
    return Recorded(
        stream=stream,
        version=version,
        event_id=stored["event_id"],
        type=stored["type"],
        actor=stored["actor"],
        reason=stored["reason"],
        cause=stored["cause"],
        at=datetime.fromisoformat(stored["at"]),
        data=stored["data"],
        hash="sha256:" + digest.hex(),
    )


def encode_task(task: Task) -> str:
    """Write the folded state, without what is as it is by default; the same state is the same text, byte for byte."""
    state = task.__dict__
    kept = {name: state[name] for name in _REQUIRED}
    for name, default in _DEFAULTS:
        value = state[name]
        if value is not default and value != default:
            kept[name] = value
    return orjson.dumps(kept, default=_plain, option=orjson.OPT_UTC_Z).decode()


def _plain(value: Any) -> Any:
    return dict(value)  # a mapping that is no dict


_REQUIRED: Final = tuple(
    f.name for f in fields(Task) if f.default is MISSING and f.default_factory is MISSING
)
_DEFAULTS: Final = tuple(
    (f.name, f.default if f.default_factory is MISSING else f.default_factory())
    for f in fields(Task)
    if f.name not in _REQUIRED
)


def decode_task(state: str) -> Task:
    """Read a folded state."""
    return _task.validate_json(state)


def event_as_json(event: AnyEvent) -> dict[str, Any]:
    """Give an event's fields as JSON values."""
    dumped: dict[str, Any] = _adapter(type(event)).dump_python(event, mode="json")
    for *path, name in LATER_FIELDS.get(event.type, ()):
        place: Any = dumped
        for part in path:
            place = place[part]
        if place is not None and (place[name] is None or place[name] == []):
            del place[name]
    return dumped


_PLAIN: Final = frozenset({LeaseRenewed, ProgressReported, UsageBooked})
"""Events, the most frequent, whose members are texts and numbers that came through the contract, and nothing else."""

_adapters: Final[dict[type, TypeAdapter[Any]]] = {}


def _adapter(cls: type) -> TypeAdapter[Any]:
    if cls not in _adapters:
        _adapters[cls] = TypeAdapter(cls)
    return _adapters[cls]


def _instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
