"""Sending again: the same content gets the stored answer, other content is refused, and nothing happens twice."""

import asyncio
import hashlib
from typing import Any

import pytest
from tests.desk import BODIES, NO_SKILLS, Desk, assert_problem, callback

from agentic_os.clock import new_id


@pytest.fixture
async def executing(desk: Desk) -> tuple[str, str]:
    """Have an executor at work; the task's id and the attempt token."""
    await desk.executor()
    task_id = await desk.task()
    return task_id, await desk.ack(task_id)


async def test_an_accepted_callback_is_answered_again(desk: Desk, executing: tuple[str, str]) -> None:
    """Repeating a callback, however its JSON is spelled, gives the stored answer, says so, and stores nothing."""
    task_id, attempt_token = executing
    document = callback("heartbeat", task_id, 1, 2, {"note": "caf\u00e9"})
    first = await desk.send(document, attempt_token)
    before = await desk.stored()
    spelled = b"  " + str(dict(reversed(document.items()))).replace("'", '"').encode()
    for again in (await desk.send(document, attempt_token), await desk.send(spelled, attempt_token)):
        assert (202, first.json()) == (again.status_code, again.json())
        assert "true" == again.headers["idempotent-replayed"]
    assert before == await desk.stored()


async def test_a_replay_is_answered_after_the_end(desk: Desk, executing: tuple[str, str]) -> None:
    """All that an attempt sent is answered again with the same body, though the task is done and the token ended."""
    task_id, attempt_token = executing
    kinds = ("heartbeat", "progress", "progress", "result")
    sent = [callback(kind, task_id, 1, seq) for seq, kind in enumerate(kinds, 2)]
    first = [await desk.send(document, attempt_token) for document in sent]
    assert "completed" == first[-1].json()["phase"]
    before = await desk.stored()
    again = [await desk.send(document, attempt_token) for document in sent]
    assert [a.content for a in first] == [a.content for a in again]
    assert [(202, "true")] * 4 == [(a.status_code, a.headers["idempotent-replayed"]) for a in again]
    assert before == await desk.stored()


async def test_a_replayed_ack_carries_the_same_token(desk: Desk) -> None:
    """An ack whose answer was lost is answered with the same token, even after the credential was replaced."""
    credential = await desk.executor()
    task_id = await desk.task()
    brief_digest = (await desk.show(f"/api/tasks/{task_id}/brief"))["digest"]
    body = {"brief_digest": brief_digest, "skillset_digest": NO_SKILLS, "runtime": {"name": "t"}}
    ack = callback("ack", task_id, 1, 1, body)
    first = await desk.send(ack, credential)
    again = await desk.send(ack, credential)
    assert "true" == again.headers["idempotent-replayed"]
    assert first.json() == again.json()
    await desk.backend.registry.replace_credentials("coder", hashlib.sha256(b"new").digest())
    assert first.json() == (await desk.send(ack, credential)).json()
    assert 1 == (await desk.events(task_id)).count("attempt.acked")


async def test_other_content_under_the_same_id_is_refused(
    desk: Desk, executing: tuple[str, str], subtests: pytest.Subtests
) -> None:
    """A callback_id stands for one content for ever."""
    task_id, attempt_token = executing
    document = callback("heartbeat", task_id, 1, 2, {})
    await desk.send(document, attempt_token)
    before = await desk.stored()
    changes: list[dict[str, Any]] = [
        {"seq": 3},
        {"body": {"note": "other"}},
        {"occurred_at": "2026-11-20T12:00:01Z"},
        {"kind": "progress"},
    ]
    for change in changes:
        with subtests.test(*change):
            answer = await desk.send(document | change, attempt_token)
            assert_problem(answer, 422, "idempotency_mismatch")
    assert before == await desk.stored()


async def test_the_header_must_be_the_callback_id(desk: Desk, executing: tuple[str, str]) -> None:
    """An Idempotency-Key is not needed, but if sent it must equal callback_id."""
    task_id, attempt_token = executing
    document = callback("heartbeat", task_id, 1, 2, {})
    before = await desk.stored()
    answer = await desk.send(document, attempt_token, {"Idempotency-Key": str(new_id())})
    assert_problem(answer, 422, "idempotency_mismatch", "/callback_id")
    assert before == await desk.stored()
    same = {"Idempotency-Key": document["callback_id"]}
    assert 202 == (await desk.send(document, attempt_token, same)).status_code


async def test_one_callback_from_ten_connections_is_stored_once(
    desk: Desk, executing: tuple[str, str]
) -> None:
    """A client that sends the same result ten times at once gets ten equal answers, one of them first-hand."""
    task_id, attempt_token = executing
    document = callback("result", task_id, 1, 2)
    answers = await asyncio.gather(*(desk.send(document, attempt_token) for _ in range(10)))
    assert [202] * 10 == [a.status_code for a in answers]
    assert 1 == len({a.content for a in answers})
    assert 9 == sum("idempotent-replayed" in a.headers for a in answers)
    assert 1 == (await desk.events(task_id)).count("result.submitted")


async def test_of_ten_results_at_once_one_is_accepted(desk: Desk, executing: tuple[str, str]) -> None:
    """Ten results of one attempt, each with its own id, and the last ones out are refused; one is stored."""
    task_id, attempt_token = executing
    documents = [
        callback("result", task_id, 1, seq, BODIES["result"] | {"summary": f"Number {seq}."})
        for seq in range(2, 12)
    ]
    answers = await asyncio.gather(*(desk.send(d, attempt_token) for d in documents))
    refused = [a for a in answers if a.status_code != 202]
    assert 9 == len(refused)
    for answer in refused:
        assert_problem(answer, 409, "wrong_phase")
    assert 1 == (await desk.events(task_id)).count("result.submitted")
    assert "completed" == await desk.phase(task_id)
    assert [] == (await desk.show("/api/quarantine"))["items"]


async def test_of_ten_acks_at_once_the_last_token_counts(desk: Desk) -> None:
    """Each ack rotates the token, so that of ten processes one can go on."""
    await desk.executor()
    task_id = await desk.task()
    tokens = await asyncio.gather(*(desk.ack(task_id) for _ in range(10)))
    assert 10 == len(set(tokens))
    answers = await asyncio.gather(
        *(desk.send(callback("heartbeat", task_id, 1, 2, {}), each) for each in tokens)
    )
    assert [202, *[401] * 9] == sorted(a.status_code for a in answers)


TASK = {"title": "T", "goal": "G"}


async def test_a_repeated_request_for_a_task_makes_one(desk: Desk) -> None:
    """The same key with the same body, spelled with or without the defaults, yields the same task."""
    first = await desk.post("/api/tasks", TASK, "olga", **{"Idempotency-Key": "one"})
    spelled = TASK | {"mode": "direct", "labels": []}
    again = await desk.post("/api/tasks", spelled, "olga", **{"Idempotency-Key": "one"})
    assert [201, 201] == [first.status_code, again.status_code]
    assert first.json()["id"] == again.json()["id"]
    assert "idempotent-replayed" not in first.headers
    assert "true" == again.headers["idempotent-replayed"]
    assert 1 == len((await desk.show("/api/tasks"))["items"])


async def test_a_key_used_for_another_task_is_refused(desk: Desk) -> None:
    """The same key with another body is refused, and is another key for another person."""
    key = {"Idempotency-Key": "one"}
    first = await desk.post("/api/tasks", TASK, "olga", **key)
    answer = await desk.post("/api/tasks", TASK | {"goal": "Other."}, "olga", **key)
    assert_problem(answer, 422, "idempotency_mismatch")
    own = await desk.post("/api/tasks", TASK | {"goal": "Other."}, "ada", **key)
    assert 201 == own.status_code
    assert first.json()["id"] != own.json()["id"]


async def test_an_unreadable_key_is_refused(desk: Desk) -> None:
    """An Idempotency-Key has 1 to 200 printable characters."""
    for key in ("", "x" * 201, "a\tb"):
        answer = await desk.post("/api/tasks", TASK, "olga", **{"Idempotency-Key": key})
        assert_problem(answer, 422, "schema_invalid")
    assert [] == (await desk.show("/api/tasks"))["items"]


async def test_ten_equal_requests_at_once_make_one_task(desk: Desk) -> None:
    """A client that asks ten times at once under one key gets one task."""
    key = {"Idempotency-Key": "one"}
    answers = await asyncio.gather(*(desk.post("/api/tasks", TASK, "olga", **key) for _ in range(10)))
    assert {201} == {a.status_code for a in answers}
    assert 1 == len({a.json()["id"] for a in answers})
    assert 1 == len((await desk.show("/api/tasks"))["items"])


async def test_a_replayed_ack_needs_its_own_credential(desk: Desk) -> None:
    """Another executor that repeats an ack word for word is refused, and gets no token."""
    credential, other = await desk.executor(), await desk.executor("other")
    task_id = await desk.task(assignee="coder")
    brief_digest = (await desk.show(f"/api/tasks/{task_id}/brief"))["digest"]
    body = {"brief_digest": brief_digest, "skillset_digest": NO_SKILLS, "runtime": {"name": "t"}}
    ack = callback("ack", task_id, 1, 1, body)
    assert 202 == (await desk.send(ack, credential)).status_code
    answer = await desk.send(ack, other)
    assert_problem(answer, 403, "scope_denied")
    assert "aosa_" not in answer.text
