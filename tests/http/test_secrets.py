"""Secrets in callbacks: none is decided on, kept or shown, what was found is noted, and artifacts are refused."""

import base64
import json
from typing import Any

from tests.desk import BODIES, Desk, assert_problem, callback, digest

TOKEN = "ghp_" + "a1B2c3D4e5F6" * 3
OTHER = "npm_" + "z9Y8x7W6v5U4" * 3
KEY = (
    b"-----BEGIN PRIVATE KEY-----\n"
    + b"MIIEvQIBADANBgkqhkiG9w0BAQEFAASC" * 4
    + b"\n-----END PRIVATE KEY-----\n"
)
GONE = "[redacted:github-token]"


async def everything(desk: Desk) -> str:
    """Read all that the event store keeps, as text."""
    tables = await desk.rows(
        "select table_schema || '.' || table_name from information_schema.tables"
        " where table_schema not in ('pg_catalog', 'information_schema') and table_type = 'BASE TABLE'"
    )
    return "\n".join([str(await desk.rows(f"select t::text from {name} t")) for (name,) in tables])


async def meta_of(desk: Desk, event_id: str) -> dict[str, Any]:
    """Read what an event says of the message that it came with."""
    events = [json.loads(payload) for (payload,) in await desk.rows("select payload::text from es.event")]
    (event,) = [event for event in events if event["event_id"] == event_id]
    return dict(event["meta"])


def with_artifact(content: bytes) -> dict[str, Any]:
    """Deliver bytes inline, as the second artifact of the example."""
    artifact = {
        "name": "log.txt",
        "media_type": "text/plain",
        "digest": digest(content),
        "size": len(content),
        "content_base64": base64.b64encode(content).decode(),
    }
    return BODIES["result"] | {"artifacts": [*BODIES["result"]["artifacts"], artifact]}


async def test_a_secret_in_a_plan_is_kept_nowhere(desk: Desk) -> None:
    """The store, the task, its issue and the answer hold the redacted plan only, and its event notes kind and count."""
    await desk.executor()
    task_id = await desk.task(mode="plan_first")
    attempt_token = await desk.ack(task_id)
    body = BODIES["plan"] | {"summary": f"Log in with {TOKEN}, then again with {TOKEN}."}
    sent = callback("plan", task_id, 1, 2, body)
    answer = await desk.send(sent, attempt_token)
    assert 202 == answer.status_code, answer.text
    await desk.work()
    shown = await desk.show(f"/api/tasks/{task_id}")
    kept = await everything(desk)
    assert TOKEN not in answer.text + json.dumps(shown) + kept
    assert GONE in kept
    meta = await meta_of(desk, answer.json()["event_ids"][0])
    assert {"github-token": 2} == meta["redacted"]
    assert 64 == len(meta["redacted_digest"])
    before = await desk.stored()
    again = await desk.send(sent, attempt_token)
    assert (202, answer.json()) == (again.status_code, again.json())
    assert "true" == again.headers["idempotent-replayed"]
    assert before == await desk.stored()
    other = sent | {"body": body | {"summary": f"Log in with {OTHER}."}}
    assert_problem(await desk.send(other, attempt_token), 422, "idempotency_mismatch")


async def test_the_digest_is_of_the_redacted_plan(desk: Desk) -> None:
    """Two plans that differ in a secret of the same kind only have the same digest."""
    await desk.executor()
    digests = []
    for secret in (TOKEN, TOKEN.swapcase().replace("GHP_", "ghp_")):
        task_id = await desk.task(mode="plan_first", title=f"Another {len(digests)}")
        await desk.submit("plan", task_id, await desk.ack(task_id), summary=f"Log in with {secret}.")
        digests.append((await desk.show(f"/api/tasks/{task_id}"))["plan"]["digest"])
    assert digests[0] == digests[1]


async def test_the_same_secret_is_told_again(desk: Desk) -> None:
    """The keyed digest of what was found is equal for the same secret, wherever it stood, and differs for others."""
    await desk.executor()
    task_id = await desk.task()
    attempt_token = await desk.ack(task_id)
    seen = []
    for seq, text in enumerate((f"Try {TOKEN}.", f"{TOKEN} again: {TOKEN}", f"Now {OTHER}"), 2):
        sent = callback("escalation", task_id, 1, seq, {"question": text, "blocking": False})
        answer = await desk.send(sent, attempt_token)
        assert 202 == answer.status_code, answer.text
        meta = await meta_of(desk, answer.json()["event_ids"][0])
        seen.append(meta["redacted_digest"])
    assert seen[0] == seen[1] != seen[2]
    assert not {TOKEN, OTHER} & set((await everything(desk)).split())


async def test_a_secret_in_coalesced_progress_and_escapes_is_redacted(desk: Desk) -> None:
    """Progress that leaves no event keeps no secret either, and JSON's escapes hide none."""
    await desk.executor()
    task_id = await desk.task()
    attempt_token = await desk.ack(task_id)
    for seq in (2, 3):
        sent = json.dumps(callback("progress", task_id, 1, seq, {"message": f"With {TOKEN}."}))
        answer = await desk.send(sent.replace("ghp_", "\\u0067hp_").encode(), attempt_token)
        assert 202 == answer.status_code, answer.text
    kept = await everything(desk)
    assert TOKEN not in kept
    assert GONE in kept


async def test_a_marked_text_is_read_first_and_then_redacted(desk: Desk) -> None:
    """A secret in a marked text is taken out of the result that the text stands for."""
    await desk.executor()
    task_id = await desk.task()
    attempt_token = await desk.ack(task_id)
    lines = (
        f"AOS:RESULT v1 task={task_id} attempt=1",
        "## Summary",
        f"Used {TOKEN}.",
        "## Outcome",
        "success",
    )
    rest = (
        "## Changes",
        "none",
        "## Evidence",
        "none",
        "## Deviations",
        "none",
        "## Follow-ups",
        "none",
        "AOS:END",
    )
    sent = callback("result", task_id, 1, 2, {"marked_text": "\n".join([*lines, *rest])})
    answer = await desk.send(sent, attempt_token)
    assert 202 == answer.status_code, answer.text
    kept = await everything(desk)
    assert TOKEN not in kept
    assert f"Used {GONE}." in kept


async def test_an_artifact_with_a_secret_is_refused(desk: Desk) -> None:
    """Inline bytes with a private key are refused by their place, nothing is stored, and without it all is taken."""
    await desk.executor()
    task_id = await desk.task()
    attempt_token = await desk.ack(task_id)
    before = await desk.stored()
    sent = callback("result", task_id, 1, 2, with_artifact(KEY))
    answer = await desk.send(sent, attempt_token)
    problem = assert_problem(answer, 422, "secret_in_artifact", "/body/artifacts/1")
    assert "private-key" in problem["detail"]
    assert before == await desk.stored()
    assert desk.backend.artifacts.size(digest(KEY)) is None
    corrected = sent | {"body": with_artifact(b"nothing to hide")}
    assert 202 == (await desk.send(corrected, attempt_token)).status_code


async def test_a_late_result_is_kept_aside_without_its_secret(desk: Desk) -> None:
    """What comes after its attempt was superseded goes into quarantine redacted."""
    await desk.executor()
    task_id = await desk.task()
    attempt_token = await desk.ack(task_id)
    await desk.direct(task_id, "/cancel It is not wanted any more.")
    sent = callback("result", task_id, 1, 2, BODIES["result"] | {"summary": f"Used {TOKEN}."})
    assert_problem(await desk.send(sent, attempt_token), 409, "attempt_superseded")
    kept = await everything(desk)
    assert TOKEN not in kept
    assert f"Used {GONE}." in kept
