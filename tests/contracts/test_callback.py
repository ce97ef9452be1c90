"""Reading callbacks: the schema, and what it cannot say."""

import base64
import copy
import hashlib
import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentic_os.contracts.callback import (
    MAX_CALLBACK_BYTES,
    MAX_CHECKPOINT_STATE_BYTES,
    MAX_INLINE_ARTIFACT_BYTES,
    check_document,
    parse_callback,
)
from agentic_os.contracts.schema import KINDS, callback_examples, callback_schema
from agentic_os.contracts.violation import ContractViolation

EXAMPLES = {name: json.loads(raw) for name, raw in callback_examples().items()}
WHOLE_SCHEMA = jsonschema_rs.validator_for(json.loads(callback_schema()), validate_formats=True)


def refusal(document: dict[str, Any]):
    """Parse a document that must be refused, and return the violation."""
    with pytest.raises(ContractViolation) as caught:
        parse_callback(json.dumps(document).encode())
    return caught.value


def changed(name: str, path: tuple[str | int, ...], value: Any):
    """Copy an example with one place set to another value."""
    document = copy.deepcopy(EXAMPLES[name])
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return document


def artifact(content: bytes, **changes: Any):
    """Describe bytes as an inline artifact."""
    return {
        "name": "a.bin",
        "media_type": "application/octet-stream",
        "digest": "sha256:" + hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "content_base64": base64.b64encode(content).decode(),
    } | changes


def places(value: Any, path: tuple[str | int, ...] = ()):
    """List the paths of all members and items of a document."""
    members = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for step, member in members:
        yield (*path, step)
        yield from places(member, (*path, step))


def test_there_is_an_example_of_every_kind():
    """The kinds of the code are those of the schema, and each has a published example."""
    schema = json.loads(callback_schema())
    assert sorted(KINDS) == sorted(schema["properties"]["kind"]["enum"])
    assert set(KINDS) == {document["kind"] for document in EXAMPLES.values()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_published_example_is_read_whole(name: str):
    """An example is accepted, and the callback carries each of its members as sent."""
    document = EXAMPLES[name]
    callback = parse_callback(json.dumps(document).encode())
    assert document == callback.document
    assert (document["kind"], document["seq"], document.get("usage"), document["callback_id"]) == (
        callback.kind,
        callback.seq,
        callback.usage,
        callback.callback_id,
    )
    if "marked_text" not in document["body"]:
        assert document["body"] == callback.body


def test_marked_text_is_read_into_the_structured_form():
    """The two ways to say a plan give the same kind of body."""
    body = parse_callback(callback_examples()["plan_marked"]).body
    structured = EXAMPLES["plan"]["body"]
    assert structured["steps"][0] == body["steps"][0]
    assert (structured["acceptance"], structured["risks"]) == (body["acceptance"], body["risks"])


REPLACEMENTS = st.sampled_from(
    ["null", "false", "0", "-1", "1.5", '""', '"x"', '"a b"', "[]", "{}", "[{}]"]
).map(json.loads)


@settings(max_examples=400)
@given(st.sampled_from(sorted(EXAMPLES)), st.data())
def test_envelope_and_body_apart_judge_as_the_whole_schema_does(name: str, data: st.DataObject):
    """Whatever is changed in an example, our two checks and the published schema agree on it."""
    document = copy.deepcopy(EXAMPLES[name])
    for _ in range(data.draw(st.integers(1, 2))):
        *parents, last = data.draw(st.sampled_from(list(places(document)) or [("body",)]))
        place = document
        for step in parents:
            place = place[step]
        action = data.draw(st.sampled_from(["replace", "remove", "add", "kind"]))
        if action == "replace":
            place[last] = data.draw(REPLACEMENTS)
        elif action == "remove":
            del place[last]
        elif action == "add" and isinstance(place, dict):
            place[data.draw(st.sampled_from(["surplus", "marked_text", "summary", "usage"]))] = "x"
        else:
            document["kind"] = data.draw(st.sampled_from([*KINDS, "other"]))
    try:
        check_document(document)
    except ContractViolation:
        accepted = False
    else:
        accepted = True
    assert WHOLE_SCHEMA.is_valid(document) == accepted


@pytest.mark.parametrize(
    ("name", "path", "value", "pointer", "words"),
    [
        ("plan", ("attempt",), False, "/attempt", "type integer, got boolean"),
        ("plan", ("attempt",), 0, "/attempt", "at least 1, got 0"),
        ("plan", ("contract",), "aos/2", "/contract", 'aos.execution/1, got "aos/2"'),
        ("plan", ("callback_id",), "abc", "/callback_id", "must be a uuid"),
        ("plan", ("occurred_at",), "today", "/occurred_at", "must be a date-time"),
        ("plan", ("extra",), 1, "/extra", 'surplus "extra" (known: contract, callback_id'),
        ("plan", ("body",), {"summary": "s", "steps": []}, "/body/acceptance", "lacks 'acceptance'"),
        ("plan", ("body", "steps", 1, "id"), "s 2", "/body/steps/1/id", "must match"),
        ("plan", ("body", "steps", 0, "risk"), "huge", "/body/steps/0/risk", "one of low, medium"),
        ("plan", ("body", "steps", 0, "a/b~"), 1, "/body/steps/0/a~1b~0", "known: id, title, detail"),
        ("plan", ("body", "summary"), "x" * 4001, "/body/summary", "at most 4000 characters, got 4001"),
        ("plan", ("body", "steps"), [], "/body/steps", "at least 1 items, got 0"),
        ("plan", ("body", "steps", 1, "id"), "s1", "/body/steps/1/id", "repeats the id 's1'"),
        (
            "task_request",
            ("body", "tasks", 0, "acceptance", 0, "id"),
            [],
            "/body/tasks/0/acceptance/0/id",
            "array",
        ),
        ("escalation", ("body", "default_option"), "nine", "/body/default_option", "one of the options"),
        ("escalation", ("body", "options", 1, "id"), "three", "/body/options/1/id", "repeats"),
        ("result", ("body", "artifacts", 0, "size"), 6, "/body/artifacts/0/size", "content has 5 bytes"),
        (
            "result",
            ("body", "artifacts", 0, "content_base64"),
            "\u00e8\u00eb",
            "/body/artifacts/0/content_base64",
            "base64",
        ),
        (
            "result",
            ("body", "artifacts", 0, "content_base64"),
            "a*==",
            "/body/artifacts/0/content_base64",
            "base64",
        ),
        (
            "result",
            ("body", "artifacts", 0, "content_base64"),
            "aGVsbG8",
            "/body/artifacts/0/content_base64",
            "base64",
        ),
        (
            "result",
            ("body", "artifacts", 0, "content_base64"),
            "aGVsbGE=",
            "/body/artifacts/0/digest",
            "digest of the",
        ),
    ],
)
def test_a_refusal_says_where_and_what_was_expected(
    name: str, path: tuple[str | int, ...], value: Any, pointer: str, words: str
):
    """The violation points to the place, and its words name the expectation and what came."""
    violation = refusal(changed(name, path, value))
    assert violation.code == "schema_invalid"
    assert pointer in violation.pointers
    assert words in violation.message


def test_ids_that_repeat_in_tasks_are_refused():
    """Two tasks of one name, or two criteria of one id in a task, are refused."""
    document = changed("task_request", ("body", "tasks"), EXAMPLES["task_request"]["body"]["tasks"] * 2)
    assert refusal(document).pointers == ("/body/tasks/1/ref",)
    document = copy.deepcopy(EXAMPLES["task_request"])
    document["body"]["tasks"][0]["acceptance"] *= 2
    assert refusal(document).pointers == ("/body/tasks/0/acceptance/1/id",)


def test_many_faults_are_told_in_a_bounded_answer():
    """A document with hundreds of faults is refused with the first ten and the number of the others."""
    violation = refusal(changed("plan", ("body", "steps"), [{"id": "a b"}] * 100))
    assert violation.message.endswith("and 190 more")
    assert len(violation.pointers) == 10


def test_a_body_that_is_no_object_is_refused():
    """An array where the callback should be is refused by the schema, not by an error of ours."""
    assert "must be of type object, got array" in refusal([]).message


@pytest.mark.parametrize("size", [MAX_INLINE_ARTIFACT_BYTES + 1, MAX_INLINE_ARTIFACT_BYTES + 100])
def test_a_large_inline_artifact_is_too_large(size: int):
    """More than 256 KiB inline is `too_large`, and the words name the way to upload it."""
    document = changed("result", ("body", "artifacts"), [artifact(bytes(size))])
    violation = refusal(document)
    assert (violation.code, violation.pointers) == ("too_large", ("/body/artifacts/0/content_base64",))


def test_the_largest_inline_artifact_is_accepted():
    """Exactly 256 KiB may be sent inline."""
    document = changed("result", ("body", "artifacts"), [artifact(bytes(MAX_INLINE_ARTIFACT_BYTES))])
    assert parse_callback(json.dumps(document).encode()).body == document["body"]


def checkpoint_with_state_of(size: int) -> dict[str, Any]:
    """Make a checkpoint whose canonical state has `size` bytes."""
    return changed("checkpoint", ("body", "state"), {"a": "x" * (size - len('{"a":""}'))})


def test_the_state_of_a_checkpoint_is_bounded():
    """The canonical state of a checkpoint has at most 64 KiB, and not a byte more."""
    largest = checkpoint_with_state_of(MAX_CHECKPOINT_STATE_BYTES)
    assert largest["body"] == parse_callback(json.dumps(largest).encode()).body
    violation = refusal(checkpoint_with_state_of(MAX_CHECKPOINT_STATE_BYTES + 1))
    assert (violation.code, violation.pointers) == ("too_large", ("/body/state",))


def test_more_than_a_mebibyte_is_not_even_parsed():
    """The bound on the whole callback comes before anything else."""
    with pytest.raises(ContractViolation) as caught:
        parse_callback(b"{" * (MAX_CALLBACK_BYTES + 1))
    assert caught.value.code == "too_large"


def test_marked_text_that_breaks_the_schema_names_the_fault_within():
    """A marked plan is held to the limits of a structured one, and the pointer is one that was sent."""
    document = copy.deepcopy(EXAMPLES["plan_marked"])
    text = document["body"]["marked_text"].replace("Add the setting", "x" * 301)
    violation = refusal(changed("plan_marked", ("body", "marked_text"), text))
    assert (violation.code, violation.pointers) == ("schema_invalid", ("/body/marked_text",))
    assert "/steps/0/title must have at most 300" in violation.message


# Proposed tasks


def proposing(kind: str, *tasks: dict[str, Any]):
    """Make a callback that proposes tasks."""
    made = [{"title": "T", "goal": "G", "acceptance": [{"id": "a", "text": "A"}], **task} for task in tasks]
    return changed(kind, ("body", "tasks"), made)


@pytest.mark.parametrize("kind", ["plan", "task_request"])
@pytest.mark.parametrize(
    ("tasks", "pointer"),
    [
        ([{"ref": "a"}, {"ref": "a"}], "/body/tasks/1/ref"),
        ([{"ref": "a"}, {"ref": "b"}, {"ref": "c", "depends_on": ["x"]}], "/body/tasks/2/depends_on/0"),
        ([{"ref": "a", "depends_on": ["a"]}], "/body/tasks/0/depends_on/0"),
        (
            [{"ref": "free"}, {"ref": "a", "depends_on": ["free", "b"]}, {"ref": "b", "depends_on": ["a"]}],
            "/body/tasks/1/depends_on/1",
        ),
        ([{"ref": "a", "output_schema": {"type": "no such"}}], "/body/tasks/0/output_schema"),
    ],
)
def test_proposed_tasks_are_at_one_with_each_other(kind: str, tasks: list[dict[str, Any]], pointer: str):
    """Refs differ, tasks depend on each other only and in no circle, and an output schema is one."""
    violation = refusal(proposing(kind, *tasks))
    assert ("schema_invalid", (pointer,)) == (violation.code, violation.pointers)


def test_a_task_may_depend_on_one_that_is_proposed_after_it():
    """The order of the list says nothing."""
    document = proposing("task_request", {"ref": "a", "depends_on": ["b"]}, {"ref": "b"})
    parse_callback(json.dumps(document).encode())
