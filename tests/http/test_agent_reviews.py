"""Reviews by executors over HTTP: who is asked, what the brief shows, what a vote does, and what its absence does."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.conftest import Database, OpenBackend
from tests.desk import BODIES, Desk, assert_problem, callback, open_client, token

from agentic_os.contracts.transcript import golden_transcripts
from agentic_os.domain.policy import Obligations, Reviewers, Rule, RuleSet

POLICY = RuleSet(
    bundle="sha256:test",
    rules=(
        Rule(
            id="qa-reviews",
            on="task.received",
            obligations=Obligations(
                reviewers=Reviewers(role="qa", quorum=1, by="anyone"), evidence={"tests": "independent"}
            ),
        ),
    ),
)


@pytest.fixture
async def desk(open_test_backend: OpenBackend, database: Database) -> AsyncIterator[Desk]:
    """Open the API under a policy that lets executors of a role review."""
    async with open_test_backend(policy=POLICY) as backend, open_client(backend) as client:
        found = Desk(backend, client, database.owner)
        await found.staff()
        await found.executor()
        await found.executor("checker", role="qa")
        yield found


def vote(task_id: str, attempt: int, digest: str, verdict: str = "approve", **more: Any) -> dict[str, Any]:
    """Compose a reviewer's callback."""
    subject = more.pop("subject", "plan")
    body = {"subject": subject, "digest": digest, "verdict": verdict, "summary": "Read it."} | more
    return callback("review", task_id, attempt, 2, body)


async def planned(desk: Desk, **fields: Any) -> tuple[str, dict[str, Any]]:
    """Bring a task to the review of its plan, and read the reviewer's brief."""
    task_id = await desk.task(mode="plan_first", assignee="role:developer", **fields)
    await desk.submit("plan", task_id, await desk.ack(task_id))
    brief = (await desk.show(f"/api/tasks/{task_id}/brief"))["brief"]
    return task_id, brief


async def test_a_reviewer_is_asked_with_all_that_it_needs(desk: Desk) -> None:
    """The brief of a review shows the document, its version and digest; the phase stays at the gate."""
    task_id, brief = await planned(desk)
    shown = await desk.show(f"/api/tasks/{task_id}")
    assert ("review", 2) == (brief["step"], brief["attempt"])
    assert shown["plan"]["digest"] == brief["review"]["digest"]
    assert ("plan", 1, None) == tuple(brief["review"][k] for k in ("subject", "version", "diff"))
    assert BODIES["plan"]["summary"] == brief["review"]["document"]["summary"]
    assert ("plan_review", "checker") == (shown["phase"], shown["attempt"]["executor"])
    assert "checker" == shown["waiting_for"]["owner"]


async def test_an_approving_review_opens_the_next_attempt_for_the_author(desk: Desk) -> None:
    """The vote is consumed into the authorisation, and whoever planned executes."""
    task_id, brief = await planned(desk)
    held = await desk.ack(task_id, token("checker"))
    answer = await desk.send(vote(task_id, 2, brief["review"]["digest"]), held)
    assert (202, "ready", "stop") == (answer.status_code, answer.json()["phase"], answer.json()["directive"])
    await desk.work()
    shown = await desk.show(f"/api/tasks/{task_id}")
    assert (3, "coder", "execute") == tuple(shown["attempt"][k] for k in ("number", "executor", "step"))
    (row,) = (await desk.show(f"/api/tasks/{task_id}/reviews"))["items"]
    assert [("checker", "approve", "Read it.")] == [(v["voter"], v["vote"], v["words"]) for v in row["votes"]]


async def test_a_revision_brings_its_items_and_the_next_review_their_difference(desk: Desk) -> None:
    """Each item must be answered, and the second review shows what changed."""
    task_id, brief = await planned(desk)
    held = await desk.ack(task_id, token("checker"))
    items = [{"text": "Say how it is undone.", "pointer": "/steps/0/rollback"}]
    revised = vote(task_id, 2, brief["review"]["digest"], "revise", items=items)
    assert "ready" == (await desk.send(revised, held)).json()["phase"]
    await desk.work()
    again = (await desk.show(f"/api/tasks/{task_id}/brief"))["brief"]
    (item,) = again["review_items"]
    assert "Say how it is undone. (/steps/0/rollback)" == item["text"]
    await desk.submit(
        "plan",
        task_id,
        await desk.ack(task_id),
        attempt=3,
        summary="With a way back.",
        responds_to=[{"item_id": item["id"], "how": "A rollback is named."}],
    )
    second = (await desk.show(f"/api/tasks/{task_id}/brief"))["brief"]["review"]
    assert 2 == second["version"]
    assert "+With a way back." in second["diff"].splitlines()
    assert f"-{BODIES['plan']['summary']}" in second["diff"].splitlines()


async def test_a_check_by_another_executor_is_independent_evidence(desk: Desk) -> None:
    """A result that needs independent evidence is completed by the reviewer that ran the check, and by no claim."""
    criteria = [{"id": "tests", "text": "The tests pass."}]
    task_id = await desk.task(acceptance=criteria, assignee="role:developer")
    claim = [{"criterion_id": "tests", "rank": "independent", "status": "pass", "command": "pytest"}]
    answer = await desk.submit("result", task_id, await desk.ack(task_id), evidence=claim)
    assert "result_review" == answer["phase"]
    held = await desk.ack(task_id, token("checker"))
    digest = (await desk.show(f"/api/tasks/{task_id}"))["result"]["digest"]
    seen = [{**claim[0], "exit_code": 0}]
    done = await desk.send(vote(task_id, 2, digest, subject="result", evidence=seen), held)
    assert "completed" == done.json()["phase"], done.text
    (evidence,) = (await desk.show(f"/api/tasks/{task_id}"))["evidence"]
    assert ("tests", "independent") == (evidence["criterion_id"], evidence["rank"])


async def test_an_approval_that_shows_nothing_leaves_it_to_people(desk: Desk) -> None:
    """An executor cannot wave a result through without the evidence that policy asks for."""
    criteria = [{"id": "tests", "text": "The tests pass."}]
    task_id = await desk.task(acceptance=criteria, assignee="role:developer")
    await desk.submit("result", task_id, await desk.ack(task_id))
    held = await desk.ack(task_id, token("checker"))
    shown = await desk.show(f"/api/tasks/{task_id}")
    answer = await desk.send(vote(task_id, 2, shown["result"]["digest"], subject="result"), held)
    assert "result_review" == answer.json()["phase"]
    await desk.work()
    waiting = (await desk.show(f"/api/tasks/{task_id}"))["waiting_for"]
    assert waiting["owner"] == "role:qa"
    assert "evidence is missing for: tests" in waiting["what"]
    line = waiting["what"].rpartition(": ")[2]
    assert "done" == (await desk.direct(task_id, line, as_="rita"))["outcome"]
    assert "completed" == await desk.phase(task_id)


async def test_a_person_decides_while_a_review_is_under_way(desk: Desk) -> None:
    """People vote at any time; the reviewer's late vote is refused and changes nothing."""
    task_id, brief = await planned(desk)
    held = await desk.ack(task_id, token("checker"))
    await desk.approve(task_id)
    late = await desk.send(vote(task_id, 2, brief["review"]["digest"], "reject"), held)
    assert_problem(late, 409, "attempt_superseded")
    assert "dispatched" == await desk.phase(task_id)


async def test_a_reviewer_that_declines_is_replaced_and_with_nobody_left_people_are_asked(desk: Desk) -> None:
    """The next one of the role is asked; then it is left to people, and the task says so."""
    await desk.executor("second", role="qa")
    task_id, _ = await planned(desk)
    for attempt, name in ((2, "checker"), (3, "second")):
        declined = callback("decline", task_id, attempt, 1, {"reason": "missing_capability"})
        assert 202 == (await desk.send(declined, token(name))).status_code
        await desk.work()
    waiting = (await desk.show(f"/api/tasks/{task_id}"))["waiting_for"]
    assert "role:qa" == waiting["owner"]
    assert "no executor with the role qa is left" in waiting["what"]
    await desk.approve(task_id)
    assert "dispatched" == await desk.phase(task_id)


async def test_a_busy_reviewer_is_waited_for(desk: Desk) -> None:
    """With no free hand the gate waits, and the review begins by itself once there is one."""
    await desk.execute("update es.principal set capacity = 1 where name = 'checker'")
    first, brief = await planned(desk)
    second, _ = await planned(desk)
    waiting = (await desk.show(f"/api/tasks/{second}"))["waiting_for"]
    assert "checker to have a free hand" in waiting["what"]
    held = await desk.ack(first, token("checker"))
    await desk.send(vote(first, 2, brief["review"]["digest"]), held)
    await desk.work()
    assert "checker" == (await desk.show(f"/api/tasks/{second}"))["attempt"]["executor"]


async def test_a_review_of_something_else_is_refused(desk: Desk) -> None:
    """The vote must name the digest that the brief showed; the attempt may send it again."""
    task_id, brief = await planned(desk)
    held = await desk.ack(task_id, token("checker"))
    wrong = await desk.send(vote(task_id, 2, "sha256:" + "0" * 64), held)
    assert_problem(wrong, 409, "digest_mismatch", "/body/digest")
    assert 202 == (await desk.send(vote(task_id, 2, brief["review"]["digest"]), held)).status_code


async def test_the_golden_transcript_of_a_review_is_accepted(desk: Desk) -> None:
    """What `agentic-os contract transcripts` shows of a reviewer is taken line by line, once it names this plan."""
    task_id, brief = await planned(desk)
    offer = await desk.show(f"/api/tasks/{task_id}/brief")
    credential = token("checker")
    for line in golden_transcripts()["review.jsonl"].decode().splitlines():
        document = json.loads(line) | {"task_id": task_id, "attempt": 2}
        if document["kind"] == "ack":
            document["body"]["brief_digest"] = offer["digest"]
        if document["kind"] == "review":
            document["body"]["digest"] = brief["review"]["digest"]
        answer = await desk.send(document, credential)
        assert 202 == answer.status_code, answer.text
        credential = answer.json().get("attempt_token", credential)
    assert "ready" == await desk.phase(task_id)
