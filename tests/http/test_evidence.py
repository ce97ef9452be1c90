"""The true rank of evidence over HTTP: what this attempt sent, ran and showed counts, and what another did does not."""

import hashlib
from collections.abc import Sequence
from typing import Any

import pytest
from tests.conftest import OpenBackend
from tests.desk import BODIES, Desk, assert_problem, bearer, callback, digest, open_client

CONTENT = b"12 passed"
CRITERIA = [{"id": name, "text": "t", "rank": "observed"} for name in ("tests", "lint")]
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


async def put(desk: Desk, credential: str, content: bytes = CONTENT) -> None:
    """Upload bytes."""
    answer = await desk.client.put(
        f"/api/artifacts/{digest(content)}", content=content, headers=bearer(credential)
    )
    assert 201 == answer.status_code, answer.text


def evidence(**more: Any) -> dict[str, Any]:
    """Claim that the tests passed, as somebody saw who saw it."""
    return {"criterion_id": "tests", "rank": "observed", "status": "pass"} | more


class Working:
    """An attempt at work, which counts its own callbacks."""

    def __init__(self, desk: Desk, task_id: str, attempt_token: str, attempt: int = 1) -> None:
        self.desk, self.task_id, self.token, self.attempt, self.seq = desk, task_id, attempt_token, attempt, 1

    async def send(self, kind: str, body: Any = None, **more: Any) -> dict[str, Any]:
        """Send what must be accepted; return the answer."""
        self.seq += 1
        document = callback(kind, self.task_id, self.attempt, self.seq, body, **more)
        answer = await self.desk.send(document, self.token)
        assert 202 == answer.status_code, answer.text
        return dict(answer.json())

    async def rank(self, body: dict[str, Any], **more: Any) -> str:
        """Claim something; return the rank that it was stored at."""
        await self.send("evidence", body, **more)
        shown = await self.desk.show(f"/api/tasks/{self.task_id}")
        (found,) = [e for e in shown["evidence"] if e["criterion_id"] == body["criterion_id"]]
        return str(found["rank"])


@pytest.fixture
async def working(desk: Desk) -> Working:
    """Have an executor at work."""
    await desk.executor()
    task_id = await desk.task(acceptance=CRITERIA)
    return Working(desk, task_id, await desk.ack(task_id))


async def test_bytes_that_this_attempt_uploaded_are_observed(desk: Desk, working: Working) -> None:
    """Evidence that names them counts from the upload on, and not before."""
    named = evidence(artifact=digest(CONTENT))
    assert "self_reported" == await working.rank(named)
    await put(desk, working.token)
    assert "observed" == await working.rank(named)
    assert "observed" == await working.rank(named | {"rank": "independent"})


async def test_bytes_of_another_task_show_nothing(desk: Desk, working: Working) -> None:
    """What another task uploaded is neither evidence for this one nor its artifact, until it sends the bytes itself."""
    other = await desk.task()
    await put(desk, await desk.ack(other))
    assert "self_reported" == await working.rank(evidence(artifact=digest(CONTENT)))
    artifact = {"name": "log", "media_type": "text/plain", "digest": digest(CONTENT), "size": len(CONTENT)}
    body = BODIES["result"] | {"artifacts": [artifact], "evidence": [evidence(artifact=digest(CONTENT))]}
    refused = await desk.send(callback("result", working.task_id, 1, 9, body), working.token)
    assert_problem(refused, 422, "schema_invalid", "/body/artifacts/0/digest")
    await put(desk, working.token)
    await desk.submit("result", working.task_id, working.token, seq=9, **body)
    (row, *_) = (await desk.show(f"/api/tasks/{working.task_id}"))["evidence"]
    assert "observed" == row["rank"]


async def test_bytes_of_an_earlier_attempt_are_the_tasks_but_no_evidence(
    desk: Desk, working: Working
) -> None:
    """The next attempt may deliver them again without sending them, and cannot show them as its own check."""
    await put(desk, working.token)
    await desk.direct(working.task_id, "/reassign @coder")
    again = await desk.ack(working.task_id)
    artifact = {"name": "log", "media_type": "text/plain", "digest": digest(CONTENT), "size": len(CONTENT)}
    body = {"artifacts": [artifact], "evidence": [evidence(artifact=digest(CONTENT))]}
    answer = await desk.submit("result", working.task_id, again, 2, **body)
    assert "result_review" == answer["phase"]
    (row,) = (await desk.show(f"/api/tasks/{working.task_id}"))["evidence"]
    assert "self_reported" == row["rank"]


async def test_inline_bytes_count_for_later_evidence(working: Working) -> None:
    """What came within an earlier callback of the attempt was sent by it as much as what was uploaded."""
    (inline,) = BODIES["result"]["artifacts"]
    assert "self_reported" == await working.rank(evidence(artifact=inline["digest"]))
    await working.send("checkpoint", {"note": "n", "artifacts": [inline]})
    assert "observed" == await working.rank(evidence(artifact=inline["digest"]))


def used(command: str, outcome: str = "ok") -> dict[str, Any]:
    """Report the use of a tool with a command as its arguments."""
    arguments = "sha256:" + hashlib.sha256(command.encode()).hexdigest()
    return {"events": [{"tool": "shell", "outcome": outcome, "arguments_digest": arguments}]}


async def test_a_command_that_a_tool_event_ran_is_observed(desk: Desk, working: Working) -> None:
    """Evidence names a tool event by its command, if that one went well, came before, and was of this attempt."""
    await working.send("tool_event", used("pytest -q", "error"))
    assert "self_reported" == await working.rank(evidence(command="pytest -q"))
    await working.send("tool_event", used("pytest -q"))
    assert "observed" == await working.rank(evidence(command="pytest -q"))
    assert "self_reported" == await working.rank(evidence(command="pytest"))
    await desk.direct(working.task_id, "/reassign @coder")
    again = Working(desk, working.task_id, await desk.ack(working.task_id), 2)
    assert "self_reported" == await again.rank(evidence(command="pytest -q"))


async def test_the_evidence_of_a_result_is_measured_as_that_of_a_callback(
    desk: Desk, working: Working
) -> None:
    """A result with a command that was seen to run and bytes that were uploaded completes the task."""
    await put(desk, working.token)
    await working.send("tool_event", used("ruff check"))
    claims = [
        evidence(artifact=digest(CONTENT)),
        evidence(criterion_id="lint", command="ruff check", marker="LINT_OK"),
    ]
    answer = await desk.submit("result", working.task_id, working.token, seq=3, evidence=claims, artifacts=[])
    assert "completed" == answer["phase"]


async def test_a_checkpoint_marker_needs_a_checkpoint_of_this_attempt(desk: Desk, working: Working) -> None:
    """CHECKPOINT_OK counts once there is one, and an earlier attempt's does not count for the next."""
    marked = evidence(marker="CHECKPOINT_OK")
    assert "self_reported" == await working.rank(marked)
    await working.send("checkpoint")
    assert "observed" == await working.rank(marked)
    await desk.direct(working.task_id, "/reassign @coder")
    again = Working(desk, working.task_id, await desk.ack(working.task_id), 2)
    assert "self_reported" == await again.rank(marked)


@pytest.mark.parametrize("how", ["tool event", "earlier traceparent", "own traceparent"])
async def test_a_trace_marker_needs_a_trace(working: Working, how: str) -> None:
    """TRACE_OK counts with a tool event or a traceparent; the word in a text is none."""
    marked = evidence(marker="TRACE_OK")
    await working.send("checkpoint", {"note": "TRACE_OK", "state": {"traceparent": TRACE}})
    assert "self_reported" == await working.rank(marked)
    if how == "tool event":
        await working.send("tool_event")
    elif how == "earlier traceparent":
        await working.send("heartbeat", {}, traceparent=TRACE)
    own = {"traceparent": TRACE} if how == "own traceparent" else {}
    assert "observed" == await working.rank(marked, **own)


async def test_the_brief_that_was_acknowledged_is_in_sync(working: Working) -> None:
    """SYNC_OK counts for an attempt at work: it cannot have acknowledged another brief than its own."""
    assert "observed" == await working.rank(evidence(marker="SYNC_OK"))


@pytest.mark.parametrize("marker", ["REVIEW_OK", "TEST_OK", "BUILD_OK", "LINT_OK", "CAPABILITY_OK"])
async def test_a_marker_alone_is_but_a_word(working: Working, marker: str) -> None:
    """Without the fact behind it a marker stays the executor's own word, as its words in prose do."""
    await working.send("progress", {"message": f"{marker} {marker}"})
    assert "self_reported" == await working.rank(evidence(marker=marker))


async def test_matching_skills_are_capability(open_test_backend: OpenBackend, database: Any) -> None:
    """CAPABILITY_OK counts for an executor whose ack had the skills that its project must have."""
    async with open_test_backend() as backend:
        expected = backend.skills().of("default").digest
        async with open_client(backend) as client:
            desk = Desk(backend, client, database.owner)
            await desk.staff()
            credential = await desk.executor(skills="required")
            task_id = await desk.task(acceptance=CRITERIA)
            brief = (await desk.show(f"/api/tasks/{task_id}/brief"))["digest"]
            body = {"brief_digest": brief, "skillset_digest": expected, "runtime": {"name": "t"}}
            acked = await desk.send(callback("ack", task_id, 1, 1, body), credential)
            working = Working(desk, task_id, acked.json()["attempt_token"])
            assert "observed" == await working.rank(evidence(marker="CAPABILITY_OK"))


async def test_tools_outside_of_the_tasks_hold_it(desk: Desk) -> None:
    """A tool event outside is kept, holds the task with a cause that names it, and tells the executor to hold."""
    await desk.executor()
    task_id = await desk.task(tools=["py*"])
    working = Working(desk, task_id, await desk.ack(task_id))
    body = {"events": [{"tool": "pytest", "outcome": "ok"}, {"tool": "pytest", "outcome": "ok"}]}
    assert "continue" == (await working.send("tool_event", body))["directive"]
    body = {"events": [{"tool": "curl", "outcome": "ok"}, {"tool": "pytest", "outcome": "error"}]}
    assert "hold" == (await working.send("tool_event", body))["directive"]
    assert ["report.recorded", "task.held"] == (await desk.events(task_id))[-2:]
    why = await desk.show(f"/api/tasks/{task_id}/why")
    assert [("system", True)] == [(h["by"], "curl" in h["reason"]) for h in why["holds"]]
    (attempt,) = (await desk.show(f"/api/tasks/{task_id}/attempts"))["items"]
    assert [("curl", "ok", 1), ("pytest", "error", 1), ("pytest", "ok", 2)] == _counts(attempt["tools"])
    assert "done" == (await desk.direct(task_id, "/unhold", as_="olga"))["outcome"]


def _counts(tools: Sequence[dict[str, Any]]) -> list[tuple[str, str, int]]:
    return [(t["tool"], t["outcome"], t["count"]) for t in tools]


@pytest.mark.parametrize(
    ("limits", "step", "code", "pointer"),
    [
        ({"tools": ["py*"]}, {"tools": ["pytest", "curl"]}, "tool_denied", "/body/steps/0/tools/1"),
        ({"paths": ["src/**"]}, {"paths": ["src/a", "../b"]}, "scope_denied", "/body/steps/0/paths/1"),
    ],
)
async def test_a_plan_outside_of_the_tasks_limits_is_refused(
    desk: Desk, limits: Any, step: Any, code: str, pointer: str
) -> None:
    """Nothing of such a plan is stored, and the attempt goes on to send a better one."""
    await desk.executor()
    task_id = await desk.task(mode="plan_first", **limits)
    attempt_token = await desk.ack(task_id)
    body = BODIES["plan"] | {"steps": [{"id": "s1", "title": "T"} | step]}
    before = await desk.stored()
    answer = await desk.send(callback("plan", task_id, 1, 2, body), attempt_token)
    assert_problem(answer, 403, code, pointer)
    assert before == await desk.stored()
    good = {name: values[:1] for name, values in step.items()}
    body = {"steps": [{"id": "s1", "title": "T"} | good]}
    assert "plan_review" == (await desk.submit("plan", task_id, attempt_token, **body))["phase"]


async def test_a_capped_task_is_retried_afresh_only(desk: Desk) -> None:
    """A plain /retry past the cap answers with the rule and the line to paste, and that line is carried out."""
    task_id = await desk.planned()
    for number in range(1, 5):
        await desk.direct(task_id, "/revise\n- again", as_="rita")
        if number < 4:
            brief = (await desk.show(f"/api/tasks/{task_id}/brief"))["brief"]
            answers = [{"item_id": i["id"], "how": "done"} for i in brief["review_items"]]
            changes = {"summary": f"Version {number}.", "responds_to": answers}
            await desk.submit("plan", task_id, await desk.ack(task_id), number + 1, **changes)
    assert "input_required" == await desk.phase(task_id)
    refused = await desk.direct(task_id, "/retry", as_="olga")
    assert ("refused", "replan_cap", "/retry fresh") == tuple(
        refused[n] for n in ("outcome", "rule", "paste")
    )
    assert "done" == (await desk.direct(task_id, refused["paste"], as_="olga"))["outcome"]
    assert "dispatched" == await desk.phase(task_id)
