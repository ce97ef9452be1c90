"""A tracker with places beside the issue's text: documents, and the status note with the issue's own fields."""

import hashlib

from tests.desk import bearer
from tests.tracked_desk import TrackedDesk

from agentic_os.control_plane import Document

REPORT = b"There are 42 beans.\n"
DIGEST = f"sha256:{hashlib.sha256(REPORT).hexdigest()}"


async def done(desk: TrackedDesk) -> str:
    """Bring a task with a criterion and a small artifact to its end."""
    await desk.executor()
    task_id = await desk.task(acceptance=[{"id": "tests", "text": "They pass."}])
    token = await desk.ack(task_id)
    put = await desk.client.put(f"/api/artifacts/{DIGEST}", content=REPORT, headers=bearer(token))
    assert put.is_success, put.text
    artifact = {
        "name": "Report (final).txt",
        "media_type": "text/plain",
        "digest": DIGEST,
        "size": len(REPORT),
    }
    await desk.submit("result", task_id, token, artifacts=[artifact])
    return task_id


async def test_the_result_stands_beside_the_issue(beside: TrackedDesk) -> None:
    """Result, evidence and small artifacts are documents; the end note has the links, and repeats none of it."""
    task_id = await done(beside)
    issue = await beside.issue(task_id)
    assert {"result", "evidence", "artifact-report-final-txt"} == issue.documents.keys()
    result = issue.documents["result"]
    assert result.title.startswith("Result r1 · ")
    assert f"/api/artifacts/{DIGEST}" in result.body
    assert "| `tests` They pass. | pass | self_reported |" in issue.documents["evidence"].body
    assert REPORT.decode().strip() in issue.documents["artifact-report-final-txt"].body
    notes = await beside.notes(task_id)
    assert ["end:completed"] == list(notes)
    assert f"/api/artifacts/{DIGEST}" in notes["end:completed"]
    assert "| criterion |" not in notes["end:completed"]
    assert REPORT.decode().strip() not in notes["end:completed"]
    assert issue.status.startswith("**completed**")


async def test_a_gate_is_its_card_and_document(beside: TrackedDesk) -> None:
    """Where a card is bound to the document no note repeats the plan, and a bare /approve counts all the same."""
    documents = {"policy.yaml": "defaults: {bare_approve: true}\n"}
    answer = await beside.post("/api/governance", {"documents": documents, "reason": "Short."}, "ada")
    assert 200 == answer.status_code, answer.text
    task_id = await beside.planned()
    issue = await beside.issue(task_id)
    plan = issue.documents["plan"]
    assert ({}, 1) == (await beside.notes(task_id), len(issue.reviews))
    assert f"Plan v1 · {next(iter(issue.reviews)).removeprefix('sha256:')[:8]}" == plan.title
    await beside.comment(task_id, "rita", "/approve")
    assert "dispatched" == await beside.phase(task_id)
    issue = await beside.issue(task_id)
    assert (plan, 0) == (issue.documents["plan"], len(issue.reviews))


async def test_what_others_write_into_our_documents_is_put_back(beside: TrackedDesk) -> None:
    """A result that an agent rewrites is put back, with the agent on record; it ends where robots fight over it."""
    task_id = await done(beside)
    issue = await beside.issue(task_id)
    before, coder = issue.documents["result"], beside.tracker.account("coder")
    forged = Document(name="result", title=before.title, body="There are 43 beans.")
    beside.tracker.edit_document(issue.key, coder, forged)
    await beside.listen()
    assert before == issue.documents["result"]
    events = (await beside.show(f"/api/tasks/{task_id}/events?limit=100"))["items"]
    assert [("coder", "document", "result")] == [
        (e["data"]["author"], e["data"]["field"], e["data"]["value"])
        for e in events
        if e["type"] == "field.drifted"
    ]
    for _ in range(6):
        beside.tracker.edit_document(issue.key, coder, forged)
        await beside.listen()
    assert forged == issue.documents["result"]
    paused = (await beside.show(f"/api/tasks/{task_id}"))["repairs_paused"]
    assert ["document"] == [each["field"] for each in paused]


async def test_a_whole_task_costs_few_writes(beside: TrackedDesk) -> None:
    """It is made, assigned, closed, unassigned and its end told; beside it stand its result and an artifact: seven."""
    await beside.executor()
    beside.tracker.forget()
    task_id = await beside.task()
    await beside.submit("result", task_id, await beside.ack(task_id))
    assert (await beside.issue(task_id)).closed == "completed"
    assert beside.tracker.writes == 7
