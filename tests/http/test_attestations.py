"""Independent evidence over HTTP: signed, fresh, stored once, and bound to what it was made of."""

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from tests.desk import Desk, assert_problem, token

from agentic_os.application.attestations import sign
from agentic_os.clock import new_id, now

CRITERIA = [{"id": "tests", "text": "They pass.", "rank": "independent"}]
NOWHERE = "0199f0aa-3c1e-7b52-9f0e-5d1f6f0a7c11"


async def source(desk: Desk, name: str = "ci", project: str | None = None) -> str:
    """Register a source; return its secret."""
    made = await desk.post("/api/sources", {"name": name, "project": project}, "ada")
    assert 201 == made.status_code, made.text
    return str(made.json()["secret"])


async def attest(
    desk: Desk,
    secret: str,
    body: Any,
    *,
    name: str = "ci",
    key: str | None = None,
    age: float = 0,
    **more: str,
) -> httpx.Response:
    """Sign and send; `age` in seconds."""
    raw = json.dumps(body).encode()
    key, timestamp = key or str(new_id()), str(int((now() - timedelta(seconds=age)).timestamp()))
    headers = {
        "webhook-id": key,
        "webhook-timestamp": timestamp,
        "webhook-signature": sign(secret, key, timestamp, raw),
    }
    return await desk.client.post(f"/api/evidence/{name}", content=raw, headers=headers | more)


@pytest.fixture
async def submitted(desk: Desk) -> str:
    """Have a result that waits for nothing but independent evidence; return the task's id."""
    await desk.executor()
    task_id = await desk.task(acceptance=CRITERIA)
    await desk.submit("result", task_id, await desk.ack(task_id), evidence=[])
    assert "result_review" == await desk.phase(task_id)
    return task_id


def verdict(task_id: str, status: str = "pass", **more: Any) -> dict[str, Any]:
    """Say of the criterion how it did."""
    return {"task_id": task_id, "criterion_id": "tests", "status": status} | more


async def test_what_ci_attests_completes_what_waits_for_it(desk: Desk, submitted: str) -> None:
    """A pass of the result under review is kept with the source as its author, and the task completes with it."""
    secret = await source(desk)
    result = (await desk.show(f"/api/tasks/{submitted}"))["result"]
    body = verdict(
        submitted,
        subject_digest=result["digest"],
        command="pytest -q",
        exit_code=0,
        commit="a1b2c3d",
        url="https://ci.example/runs/7",
        marker="TEST_OK",
    )
    answer = await attest(desk, secret, body)
    assert (202, "completed") == (answer.status_code, answer.json()["phase"]), answer.text
    fact, completed = (await desk.backend.log.read_stream(submitted))[-2:]
    assert ("evidence.attested", "ci", "independent") == (
        fact.type,
        fact.actor,
        fact.data["evidence"]["rank"],
    )
    assert ("task.completed", "system", []) == (
        completed.type,
        completed.actor,
        completed.data["accepted_by"],
    )
    assert answer.json()["event_ids"] == [fact.event_id, completed.event_id]
    shown = await desk.show(f"/api/tasks/{submitted}")
    assert [("tests", "independent")] == [(e["criterion_id"], e["rank"]) for e in shown["evidence"]]
    assert [("ci", "pass", "a1b2c3d")] == [(a["source"], a["status"], a["commit"]) for a in shown["attested"]]


async def test_the_same_message_again_is_answered_and_stored_once(desk: Desk, submitted: str) -> None:
    """A repeat of an id gets the first answer, also after the task completed; with other content it is refused."""
    secret = await source(desk)
    first = await attest(desk, secret, verdict(submitted), key="run-7")
    before = await desk.stored()
    again = await attest(desk, secret, verdict(submitted), key="run-7")
    assert (202, "true") == (again.status_code, again.headers["idempotent-replayed"])
    assert first.content == again.content
    other = await attest(desk, secret, verdict(submitted, "fail"), key="run-7")
    assert_problem(other, 422, "idempotency_mismatch")
    assert before == await desk.stored()


async def test_a_failure_overrides_an_earlier_pass(desk: Desk) -> None:
    """What CI says last counts: nothing completes on a pass that it took back, and the failure is to be seen."""
    await desk.executor()
    task_id = await desk.task(acceptance=CRITERIA)
    attempt_token = await desk.ack(task_id)
    secret = await source(desk)
    for status in ("pass", "fail"):
        assert 202 == (await attest(desk, secret, verdict(task_id, status))).status_code
    own = {"criterion_id": "tests", "rank": "independent", "status": "pass"}
    answer = await desk.submit("result", task_id, attempt_token, evidence=[own])
    assert "result_review" == answer["phase"]
    shown = await desk.show(f"/api/tasks/{task_id}")
    assert [("fail", "independent")] == [(e["status"], e["rank"]) for e in shown["evidence"]]
    assert "tests" in shown["waiting_for"]["what"]
    assert "completed" == (await attest(desk, secret, verdict(task_id))).json()["phase"]


async def test_only_a_fresh_signature_of_a_source_in_force_counts(desk: Desk, submitted: str) -> None:
    """An unknown source, another secret, changed content, an old or unsigned message is a 401 that stores nothing."""
    secret, other = await source(desk), await source(desk, "other")
    body = verdict(submitted)
    before = await desk.stored()
    for refused in (
        await attest(desk, secret, body, name="unknown"),
        await attest(desk, secret, body, name="other"),
        await attest(desk, other, body),
        await attest(desk, secret, body, age=301),
        await attest(desk, secret, body, age=-310),
        await attest(desk, secret, body, **{"webhook-signature": "v1,AAAA"}),
        await attest(desk, secret, body, **{"webhook-signature": ""}),
        await attest(desk, secret, body, **{"webhook-id": "another"}),
        await attest(desk, secret, body, **{"webhook-timestamp": "soon"}),
        await desk.client.post("/api/evidence/ci", json=body),
        await desk.post("/api/evidence/ci", body, "ada"),
    ):
        assert_problem(refused, 401, "credential_invalid")
    assert before == await desk.stored()
    both = {"webhook-signature": ""}
    raw, timestamp = json.dumps(body).encode(), str(int(now().timestamp()))
    both["webhook-signature"] = f"v1,AAAA {sign(secret, 'k', timestamp, raw)} v2,x"
    answer = await attest(desk, secret, body, key="k", **both | {"webhook-timestamp": timestamp})
    assert 202 == answer.status_code


async def test_a_rotated_or_revoked_source_is_refused_at_once(desk: Desk, submitted: str) -> None:
    """The old secret of a source signs nothing more, the new one does until the source is revoked."""
    old = await source(desk)
    new = (await desk.post("/api/sources/ci/rotate", {}, "ada")).json()["secret"]
    assert old != new
    assert_problem(await attest(desk, old, verdict(submitted)), 401, "credential_invalid")
    assert 202 == (await attest(desk, new, verdict(submitted, "fail"))).status_code
    headers = {"Authorization": f"Bearer {token('ada')}"}
    assert 200 == (await desk.client.delete("/api/sources/ci", headers=headers)).status_code
    assert_problem(await attest(desk, new, verdict(submitted)), 401, "credential_invalid")
    assert_problem(await desk.post("/api/sources/ci/rotate", {}, "ada"), 404, "not_found")
    facts = [e.type for e in await desk.backend.log.read_stream("principal:ci")]
    assert ["source.registered", "credential.rotated", "principal.revoked"] == facts
    (item,) = (await desk.show("/api/sources", "ada"))["items"]
    assert ("ci", None, "ada", 2, True) == tuple(item.values())
    stored = await desk.rows("select (select string_agg(s::text, '') from es.source s)")
    assert new.removeprefix("whsec_") not in str(stored)


async def test_a_bound_source_attests_its_own_project_only(desk: Desk, submitted: str) -> None:
    """A source of another project is refused, one of the task's own is not."""
    elsewhere, here = await source(desk, "elsewhere", "payments"), await source(desk, "here", "default")
    refused = await attest(desk, elsewhere, verdict(submitted), name="elsewhere")
    assert_problem(refused, 403, "scope_denied")
    assert 202 == (await attest(desk, here, verdict(submitted), name="here")).status_code


async def test_what_does_not_fit_is_refused_by_name(desk: Desk, submitted: str) -> None:
    """Unknown tasks and criteria, other results, surplus fields and bad values each have their code and place."""
    secret = await source(desk)
    before = await desk.stored()
    for body, status, code, pointer in (
        (verdict(NOWHERE), 404, "unknown_task", None),
        (verdict(submitted, criterion_id="other"), 422, "unknown_criterion", "/criterion_id"),
        (verdict(submitted, "good"), 422, "schema_invalid", "/status"),
        (verdict(submitted, surprise=1), 422, "schema_invalid", "/surprise"),
        (verdict(submitted, url="javascript:alert(1)"), 422, "schema_invalid", "/url"),
        (verdict(submitted, subject_digest="sha256:" + "0" * 64), 409, "digest_mismatch", "/subject_digest"),
        ([], 422, "schema_invalid", None),
    ):
        assert_problem(await attest(desk, secret, body), status, code, pointer)
    await desk.direct(submitted, "/cancel")
    before = (before[0] + 1, *before[1:])
    assert_problem(await attest(desk, secret, verdict(submitted)), 409, "wrong_phase")
    assert before == await desk.stored()


async def test_a_secret_in_an_attestation_is_taken_out(desk: Desk, submitted: str) -> None:
    """What looks like a secret in its words is redacted before anything is kept."""
    secret = await source(desk)
    leaked = "ghp_" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hI6"
    await attest(desk, secret, verdict(submitted, "fail", command=f"curl -H {leaked}"))
    assert leaked not in (await desk.get(f"/api/tasks/{submitted}/events")).text
    assert "[redacted:github-token]" in (await desk.get(f"/api/tasks/{submitted}/events")).text
