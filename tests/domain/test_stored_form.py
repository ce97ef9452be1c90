"""The stored form of events and tasks: what is written is read again, and nothing else is."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.domain.documents import JSON, TEXT, anything_of
from tests.domain.kit import START

from agentic_os.application.ports import Envelope
from agentic_os.contracts.canonical import canonical_json
from agentic_os.domain.events import SCHEMA_VERSION, Event
from agentic_os.domain.governance import BreakerTripped, BundleApplied, RegistryEvent
from agentic_os.domain.task import Task
from agentic_os.postgres.codec import (
    EVENT_TYPES,
    AnyEvent,
    UnreadableEvent,
    decode_event,
    decode_payload,
    decode_task,
    encode_event,
    encode_task,
    event_as_json,
)

KINDS = (*get_args(Event), *get_args(RegistryEvent))
GOLDEN = Path(__file__).parents[1] / "golden" / "events"
FILES = sorted(GOLDEN.glob("*.json"))
ENVELOPE = Envelope(actor="ada", at=START, reason="because", cause="c-1", meta={"traceparent": "00"})


def stored(event: AnyEvent) -> str:
    """Write an event as the log holds it."""
    return encode_event(event, str(UUID(int=7)), ENVELOPE)


def type_of(kind: type) -> str:
    """Give the name under which a class of events is stored."""
    name: str = kind.__dataclass_fields__["type"].default
    return name


@pytest.mark.parametrize("kind", KINDS, ids=type_of)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_every_event_is_read_as_it_was_written(kind: type, data: st.DataObject):
    """Whatever an event of any type holds, it comes back equal, and is written the same the second time."""
    event = data.draw(anything_of(kind))
    payload = stored(event)
    assert event == decode_payload(payload)
    assert payload == stored(decode_payload(payload))
    assert payload == canonical_json(json.loads(payload)).decode()


@given(anything_of(Task))
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_a_task_is_read_as_it_was_written(task: Task):
    """The folded state comes back equal, and the same state is the same text, byte for byte."""
    state = encode_task(task)
    assert task == decode_task(state)
    assert state == encode_task(decode_task(state))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_surplus_key_is_refused(file: Path):
    """A field that this release does not know is an error, and never dropped."""
    payload = json.loads(file.read_text())
    payload["data"]["surprise"] = 1
    with pytest.raises(UnreadableEvent, match="surprise"):
        decode_event(payload["type"], payload["schema"], payload["data"])


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("task.created", ["budget"]),
        ("task.created", ["acceptance", 0]),
        ("task.allowed", ["obligations"]),
        ("task.allowed", ["obligations", "reviewers"]),
        ("attempt.acked", ["runtime"]),
        ("result.submitted", ["evidence", 0]),
        ("result.submitted", ["artifacts", 0]),
        ("plan.returned", ["items", 0]),
        ("usage.booked", ["usage"]),
    ],
)
def test_a_surplus_key_is_refused_further_in(name: str, path: list[str | int]):
    """A field that is not known is an error in the values of an event too."""
    payload = json.loads((GOLDEN / f"{name}.v1.json").read_text())
    place = payload["data"]
    for part in path:
        place = place[part]
    place["surprise"] = 1
    with pytest.raises(UnreadableEvent, match="surprise"):
        decode_event(name, 1, payload["data"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_missing_key_is_refused(file: Path):
    """No field is filled in for one that a stored event lacks."""
    payload = json.loads(file.read_text())
    for name in payload["data"]:
        data = {key: value for key, value in payload["data"].items() if key != name}
        with pytest.raises(UnreadableEvent, match=name):
            decode_event(payload["type"], payload["schema"], data)


def test_what_an_event_got_later_is_left_out_where_it_says_nothing():
    """So events that were stored before keep their bytes; what is said of an executor is stored."""
    old = (GOLDEN / "task.allowed.v1.json").read_text()
    allowed = decode_payload(old)
    assert ((), None) == (allowed.obligations.capabilities, allowed.obligations.tier)
    asked = replace(allowed, obligations=replace(allowed.obligations, capabilities=("gpu",), tier=0))
    said = {"capabilities": ["gpu"], "tier": 0}
    assert said.items() <= json.loads(stored(asked))["data"]["obligations"].items()
    assert asked == decode_payload(stored(asked))
    offered = decode_payload((GOLDEN / "attempt.offered.v1.json").read_text())
    assert "tier" not in json.loads(stored(offered))["data"]
    assert 2 == json.loads(stored(replace(offered, tier=2)))["data"]["tier"]


def test_a_bundle_without_a_trial_is_written_as_before_there_were_trials():
    """A shadow is stored where there is one, and read again."""
    before = json.loads((GOLDEN / "bundle.applied.v1.json").read_text())["data"]
    old = decode_event("bundle.applied", 1, before)
    assert isinstance(old, BundleApplied)
    assert before | {"type": "bundle.applied"} == event_as_json(old)
    tried = replace(old, shadow={"rules": []})
    assert {"rules": []} == json.loads(stored(tried))["data"]["shadow"]
    assert tried == decode_payload(stored(tried))


def test_a_breaker_that_tripped_before_there_were_others_is_written_as_it_was():
    """What names no breaker is an executor's attempts, byte for byte; what names one says which."""
    before = json.loads((GOLDEN / "breaker.tripped.v1.json").read_text())["data"]
    old = decode_event("breaker.tripped", 1, before)
    assert isinstance(old, BreakerTripped)
    assert before | {"type": "breaker.tripped"} == event_as_json(old)
    later = replace(old, breaker="adoption", executor=None)
    assert before | {"type": old.type, "breaker": "adoption", "executor": None} == event_as_json(later)
    assert later == decode_payload(stored(later))


@given(TEXT | st.sampled_from(["task.create", "TASK.CREATED", "plan.approved ", "Task"]), JSON)
def test_an_unknown_type_is_refused(name: str, content: Any):
    """A type that this release does not know is an error, whatever it holds."""
    if name not in EVENT_TYPES:
        with pytest.raises(UnreadableEvent):
            decode_event(name, SCHEMA_VERSION, {"content": content})


@pytest.mark.parametrize("schema", [0, SCHEMA_VERSION + 1, 99])
def test_an_unknown_schema_is_refused(schema: int):
    """An event of a later release is not read as if it were of this one."""
    with pytest.raises(UnreadableEvent, match=f"schema {schema}"):
        decode_event("task.failed", schema, {"reason": "r"})


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_was_stored_once_is_read_for_ever(file: Path):
    """Each stored example is read, and written again to the same bytes."""
    payload = file.read_text()
    content = json.loads(payload)
    envelope = Envelope(
        actor=content["actor"],
        at=START,
        reason=content["reason"],
        cause=content["cause"],
        meta=content["meta"],
    )
    assert f"{content['type']}.v{content['schema']}" == file.stem
    assert payload == encode_event(decode_payload(payload), content["event_id"], envelope) + "\n"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_stored_examples_show_every_field(file: Path):
    """No example leaves a field at nothing, so that a change of any field's meaning or form is seen."""
    content = json.loads(file.read_text())
    empty = [name for name, value in content["data"].items() if value in (None, [], {}, "")]
    assert [] == empty
    assert content["data"] | {"type": content["type"]} == event_as_json(decode_payload(file.read_text()))
