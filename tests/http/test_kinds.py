"""Every kind of callback that the schema knows, as the contract's own examples send it; and where secrets may be."""

import json
import logging
from typing import Any

import pytest
import structlog
from tests.desk import BODIES, Desk, callback, token

from agentic_os.contracts.schema import callback_examples

CHILD = ["child.accepted"]
"""What the example of a task_request leads to beside its own event: the system's decision on the one task in it."""
REPORTS = ("checkpoint", "task_request", "tool_event", "handoff")
EVENTS = {
    "heartbeat": "lease.renewed",
    "progress": "progress.reported",
    "evidence": "evidence.added",
    **dict.fromkeys(REPORTS, "report.recorded"),
    "escalation": "escalation.raised",
    "failure": "attempt.failed",
}


async def test_every_kind_is_accepted_and_leaves_its_event(desk: Desk) -> None:
    """Each kind that an executing attempt may send is taken in order of seq, and leaves one event of its type."""
    await desk.executor()
    task_id = await desk.task()
    attempt_token = await desk.ack(task_id)
    examples = {n: json.loads(e) for n, e in callback_examples().items()}
    for seq, (kind, event_type) in enumerate(EVENTS.items(), 2):
        before = await desk.backend.log.read_stream(task_id)
        document = examples[kind] | {"task_id": task_id, "seq": seq}
        if kind == "escalation":
            document["body"]["blocking"] = False  # one that blocks closes the attempt, see test_steering
        answer = await desk.send(document, attempt_token)
        assert 202 == answer.status_code, answer.text
        new = (await desk.backend.log.read_stream(task_id))[len(before) :]
        children = new[1:] if kind == "task_request" else []
        assert (CHILD if children else []) == [e.type for e in children]
        assert answer.json()["event_ids"][: len(new)] == [e.event_id for e in new]
        assert (len(new) == len(answer.json()["event_ids"])) == (
            not children
        )  # those of the child's stream follow
        new = new[: len(new) - len(children)]
        own = [e for e in new if e.type != "policy.decided"]
        assert [event_type] == [e.type for e in own if e.type != "usage.booked"]
        assert {"coder"} == {e.actor for e in own}
        assert {document["callback_id"]} == {e.cause for e in new}
        if kind in REPORTS:
            assert (kind, document["body"]) == (new[-1].data["kind"], new[-1].data["body"])
    assert "retry_wait" == await desk.phase(task_id)


@pytest.mark.parametrize("name", ["plan", "plan_marked", "result", "result_marked"])
async def test_both_forms_of_a_document_are_accepted(desk: Desk, name: str) -> None:
    """A plan and a result may come structured or as marked text, and are stored structured either way."""
    kind = name.partition("_")[0]
    await desk.executor()
    task_id = await desk.task(mode="plan_first" if kind == "plan" else "direct")
    attempt_token = await desk.ack(task_id)
    body = json.loads(json.dumps(BODIES[name]).replace("0199f0aa-3c1e-7b52-9f0e-5d1f6f0a7c11", task_id))
    answer = await desk.send(callback(kind, task_id, 1, 2, body), attempt_token)
    assert 202 == answer.status_code, answer.text
    events = await desk.backend.log.read_stream(task_id)
    (submitted,) = [e for e in events if e.type == f"{kind}.submitted"]
    stored = submitted.data[kind]
    assert BODIES[kind]["summary"] == stored["summary"]
    assert "marked_text" not in stored


async def test_a_decline_gives_the_task_back(desk: Desk) -> None:
    """A declined attempt goes to another executor."""
    credential = await desk.executor()
    task_id = await desk.task()
    await desk.executor("other")
    answer = await desk.send(callback("decline", task_id, 1, 1), credential)
    assert ("ready", "stop") == (answer.json()["phase"], answer.json()["directive"])
    await desk.work()
    attempt = (await desk.show(f"/api/tasks/{task_id}"))["attempt"]
    assert (2, "other") == (attempt["number"], attempt["executor"])


async def test_usage_is_booked_with_every_kind(desk: Desk) -> None:
    """What a callback says was spent is added up, also where it is coalesced progress."""
    await desk.executor()
    task_id = await desk.task(budget={"cost_microusd": 100_000, "tokens": 5_000})
    attempt_token = await desk.ack(task_id)
    usage = {"input_tokens": 1200, "output_tokens": 300, "cost_microusd": 9000, "model": "m"}
    for seq in (2, 3):
        answer = await desk.send(callback("progress", task_id, 1, seq, usage=usage), attempt_token)
    assert (82_000, 2_000) == (
        answer.json()["budget_left"]["cost_microusd"],
        answer.json()["budget_left"]["tokens"],
    )
    budget = (await desk.show(f"/api/tasks/{task_id}"))["budget"]
    assert {"cost_microusd": 18_000, "tokens": 3_000, "wall_seconds": None} == budget["spent"]


async def test_a_claim_above_its_means_is_stored_at_its_true_rank(desk: Desk) -> None:
    """Evidence is observed only where it names bytes that we hold, and never independent by the executor's own word."""
    await desk.executor()
    criteria = [{"id": i, "text": "t", "rank": "observed"} for i in ("held", "said", "own")]
    task_id = await desk.task(acceptance=criteria)
    (held,) = BODIES["result"]["artifacts"]
    evidence = [
        {"criterion_id": "held", "rank": "observed", "status": "pass", "artifact": held["digest"]},
        {"criterion_id": "said", "rank": "observed", "status": "pass", "command": "pytest"},
        {"criterion_id": "own", "rank": "independent", "status": "pass", "artifact": held["digest"]},
    ]
    await desk.submit("result", task_id, await desk.ack(task_id), evidence=evidence)
    shown = await desk.show(f"/api/tasks/{task_id}")
    assert {"held": "observed", "said": "self_reported", "own": "observed"} == {
        e["criterion_id"]: e["rank"] for e in shown["evidence"]
    }
    assert "result_review" == shown["phase"]
    assert "said" in shown["waiting_for"]["what"]


async def test_a_partial_result_never_completes_by_itself(desk: Desk) -> None:
    """Outcome partial goes to review even where everything else is in order, and is accepted by its exact line."""
    await desk.executor()
    task_id = await desk.task()
    answer = await desk.submit("result", task_id, await desk.ack(task_id), outcome="partial")
    assert "result_review" == answer["phase"]
    assert "confirmation_required" == (await desk.direct(task_id, "/accept", as_="rita"))["rule"]
    line = (await desk.show(f"/api/tasks/{task_id}"))["waiting_for"]["what"].rpartition(": ")[2]
    assert "done" == (await desk.direct(task_id, line, as_="rita"))["outcome"]
    assert "completed" == await desk.phase(task_id)


async def test_secrets_are_nowhere_but_in_their_one_answer(
    desk: Desk, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Credentials and attempt tokens are in no event, no row, no log and no other answer, whatever goes wrong."""
    caplog.set_level(logging.DEBUG)
    made = (
        await desk.post("/api/executors", {"name": "coder", "role": "r", "skills": "not-required"}, "ada")
    ).json()
    person = (await desk.post("/api/tokens", {"name": "paul", "role": "viewer"}, "ada")).json()
    credential = made["credential"]
    answers: list[Any] = []
    task_id = await desk.task()
    attempt_token = await desk.ack(task_id, credential)
    with structlog.testing.capture_logs() as logs:
        for secret in (credential, person["token"], attempt_token):
            answers.append(await desk.send(callback("result", task_id, 1, 1), secret))
            answers.append(await desk.send(b"{", secret))
            answers.append(await desk.client.get("/api/tasks", headers={"Authorization": f"Bearer {secret}"}))
        answers += [await desk.get(path) for path in (
            f"/api/tasks/{task_id}", f"/api/tasks/{task_id}/events", f"/api/tasks/{task_id}/brief",
            "/api/executors", "/api/quarantine", "/nowhere",
        )]  # fmt: skip
    database = await desk.rows(
        "select concat((select string_agg(e::text, '') from es.event e), (select string_agg(t::text, '') "
        "from es.task t), (select string_agg(r::text, '') from es.receipt r), (select string_agg(c::text, '') "
        "from es.credential c), (select string_agg(s::text, '') from es.security_log s))"
    )
    output = capsys.readouterr()
    seen = "".join([
        str(logs), caplog.text, output.out, output.err, str(database), *(a.text + str(a.headers) for a in answers)
    ])  # fmt: skip
    for secret in (
        credential,
        person["token"],
        attempt_token,
        attempt_token.rpartition(".")[2],
        token("ada"),
    ):
        assert secret not in seen
    ack = await desk.rows("select answer from es.receipt where route = 'callback'")
    assert ack
    assert "attempt_token" not in ack[0][0]


async def test_what_an_executor_may_read_is_its_own_brief(desk: Desk) -> None:
    """Once the attempt is over, the brief is no longer the executor's to read."""
    credential = await desk.executor()
    task_id = await desk.task()
    headers = {"Authorization": f"Bearer {credential}"}
    assert 200 == (await desk.client.get(f"/api/tasks/{task_id}/brief", headers=headers)).status_code
    await desk.submit("result", task_id, await desk.ack(task_id))
    assert 403 == (await desk.client.get(f"/api/tasks/{task_id}/brief", headers=headers)).status_code


async def test_a_gap_in_the_order_is_accepted_and_flagged(desk: Desk) -> None:
    """A seq that skips some is taken, and the event says how many are missing; one that does not says nothing."""
    await desk.executor()
    task_id = await desk.task()
    attempt_token = await desk.ack(task_id)
    for seq in (2, 5):
        assert 202 == (await desk.send(callback("heartbeat", task_id, 1, seq), attempt_token)).status_code

    for seq in (6, 7):  # the second progress is coalesced, and missing nowhere
        assert 202 == (await desk.send(callback("progress", task_id, 1, seq), attempt_token)).status_code
    assert 202 == (await desk.send(callback("heartbeat", task_id, 1, 8), attempt_token)).status_code

    query = "select payload::json -> 'meta' ->> 'seq_gap' from es.event where type = 'lease.renewed' order by version"
    assert [(None,), ("2",), (None,)] == await desk.rows(query)
