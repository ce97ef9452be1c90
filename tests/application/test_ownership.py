"""Who may change what on a task's issue: adopted with its author, carried out as a directive, or put back."""

from datetime import timedelta
from typing import Any

import pytest
from tests.tracked_desk import TrackedDesk

from agentic_os.clock import now
from agentic_os.domain import drift


async def told(desk: TrackedDesk, task_id: str, kind: str) -> list[tuple[str, dict[str, Any]]]:
    """List the events of a type: who did it, and what."""
    return [(e.actor, dict(e.data)) for e in await desk.backend.log.read_stream(task_id) if e.type == kind]


async def change(desk: TrackedDesk, task_id: str, name: str, field: str, value: str) -> None:
    """Have somebody change a field of the issue, and let the system hear of it."""
    desk.tracker.change_field((await desk.issue(task_id)).key, desk.tracker.account(name), field, value)
    await desk.listen()


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("title", "A better title", "A better title"),
        ("labels", "ui, billing", ["ui", "billing"]),
        ("priority", "high", "high"),
    ],
)
async def test_an_operators_change_is_adopted(
    desk: TrackedDesk, field: str, value: str, shown: object
) -> None:
    """Title, labels and priority are people's: the task takes them over, and the history says whose they are."""
    await desk.executor()
    task_id = await desk.task()
    await change(desk, task_id, "olga", field, value)
    assert shown == (await desk.show(f"/api/tasks/{task_id}"))[field]
    (actor, data), *more = await told(desk, task_id, "field.adopted")
    assert ("olga", field, []) == (actor, data["field"], more)
    await desk.listen()
    assert 1 == (await desk.events(task_id)).count("field.adopted")


async def test_text_around_the_brief_becomes_the_goal(desk: TrackedDesk) -> None:
    """What an operator writes outside of the markers is in the next attempt's brief; the sealed one stays as it is."""
    await desk.executor()
    task_id = await desk.task()
    body = (await desk.issue(task_id)).body
    await change(
        desk, task_id, "olga", "body", body.replace("It is a constant today.", "Take it from env.", 1)
    )
    assert "Take it from env." == (await desk.show(f"/api/tasks/{task_id}"))["goal"]
    assert [] == await told(desk, task_id, "field.drifted")
    await desk.direct(task_id, "/reassign @coder")
    offered = await desk.show(f"/api/tasks/{task_id}/brief")
    assert (2, "Take it from env.") == (offered["attempt"], offered["brief"]["goal"])


@pytest.mark.parametrize("name", ["coder", "vera", "stranger"])
async def test_other_peoples_changes_stay_on_the_tracker(desk: TrackedDesk, name: str) -> None:
    """Agents, viewers and strangers change nothing of the task, though what they did is known, and left to be seen."""
    await desk.executor()
    task_id = await desk.task()
    await change(desk, task_id, name, "title", "Mine")
    assert "Make the retry limit a setting" == (await desk.show(f"/api/tasks/{task_id}"))["title"]
    assert "Mine" == (await desk.issue(task_id)).title
    ((actor, data),) = await told(desk, task_id, "field.noted")
    assert ("title", "Mine") == (data["field"], data["value"])
    assert actor == (name if name != "stranger" else f"memory:{desk.tracker.account(name)}")


@pytest.mark.parametrize("field", ["state", "closed", "assignee", "body"])
async def test_who_changed_what_is_ours_is_on_record(desk: TrackedDesk, field: str) -> None:
    """A repair leaves an event with the one who made it necessary, and the issue is as it was."""
    await desk.executor()
    task_id = await desk.task()
    issue = await desk.issue(task_id)
    before = (issue.state, issue.closed, issue.assignment, issue.body)
    value = {"state": "completed", "closed": "completed", "assignee": "", "body": "It is a constant today."}
    await change(desk, task_id, "coder", field, value[field])
    assert before == (issue.state, issue.closed, issue.assignment, issue.body)
    ((actor, data),) = await told(desk, task_id, "field.drifted")
    assert ("coder", "coder", "brief" if field == "body" else field) == (actor, data["author"], data["field"])
    assert 1 == len(desk.tracker.wakes)


async def test_a_permitted_person_reassigns_on_the_tracker(desk: TrackedDesk) -> None:
    """An operator who gives the issue to another executor has written /reassign, with its receipt, and it is woken."""
    await desk.executor()
    await desk.executor("other")
    task_id = await desk.task(assignee="coder")
    await change(desk, task_id, "olga", "assignee", desk.tracker.account("other"))
    assert [("reassign", "done", None)] == await desk.receipts(task_id)
    assert [("olga", "other")] == [
        (a, d["assignee"]) for a, d in await told(desk, task_id, "task.reassigned")
    ]
    woken = [(w.account, w.attempt) for w in desk.tracker.wakes]
    assert [(desk.tracker.account("coder"), 1), (desk.tracker.account("other"), 2)] == woken
    assert [] == await told(desk, task_id, "field.drifted")


async def test_a_person_who_may_not_reassigns_nothing(desk: TrackedDesk) -> None:
    """A viewer's change of the assignee is put back, and the one it took the issue from is not woken again."""
    await desk.executor()
    await desk.executor("other")
    task_id = await desk.task(assignee="coder")
    await change(desk, task_id, "vera", "assignee", desk.tracker.account("other"))
    assert [("vera", "assignee")] == [(a, d["field"]) for a, d in await told(desk, task_id, "field.drifted")]
    assignment = (await desk.issue(task_id)).assignment
    assert assignment is not None
    assert (desk.tracker.account("coder"), 1) == (assignment.account, assignment.attempt)
    assert 1 == len(desk.tracker.wakes)


async def test_a_permitted_persons_close_is_a_cancel(desk: TrackedDesk) -> None:
    """An operator who closes the issue stops the work, and the reason says how; a reviewer's close is put back."""
    await desk.executor()
    task_id = await desk.task()
    await change(desk, task_id, "rita", "closed", "completed")
    assert ("dispatched", None) == (await desk.phase(task_id), (await desk.issue(task_id)).closed)
    await change(desk, task_id, "olga", "closed", "completed")
    assert ("cancelled", "not_planned") == (await desk.phase(task_id), (await desk.issue(task_id)).closed)
    ((actor, data),) = await told(desk, task_id, "task.cancelled")
    assert ("olga", "it was closed as completed") == (actor, data["reason"])
    await change(desk, task_id, "olga", "closed", "")
    assert "not_planned" == (await desk.issue(task_id)).closed


async def test_an_older_change_that_comes_late_changes_nothing(desk: TrackedDesk) -> None:
    """Of two changes of a field that come in the wrong order, the later one stands."""
    await desk.executor()
    task_id = await desk.task()
    key, olga = (await desk.issue(task_id)).key, desk.tracker.account("olga")
    desk.tracker.take_deliveries()
    desk.tracker.change_field(key, olga, "title", "First")
    desk.tracker.change_field(key, olga, "title", "Second")
    for delivery in reversed(desk.tracker.take_deliveries()):
        headers, body = delivery
        answer = await desk.client.post("/api/webhooks/memory", content=body, headers=dict(headers))
        assert 202 == answer.status_code, answer.text
        await desk.work()
    assert "Second" == (await desk.show(f"/api/tasks/{task_id}"))["title"]
    assert 1 == (await desk.events(task_id)).count("field.adopted")


async def test_two_robots_are_stopped(desk: TrackedDesk) -> None:
    """A field that is changed again and again is put back no more; a person is told once, and it is in the task."""
    await desk.executor()
    task_id = await desk.task()
    for n in range(drift.REPAIRS + 5):
        await change(desk, task_id, "coder", "state", f"mine-{n}")
    issue = await desk.issue(task_id)
    assert f"mine-{drift.REPAIRS + 4}" == issue.state
    (paused,) = (await desk.show(f"/api/tasks/{task_id}"))["repairs_paused"]
    assert ("state", "coder") == (paused["field"], paused["by"])
    notes = await desk.notes(task_id)
    (note,) = [text for marker, text in notes.items() if marker.startswith("paused:state:")]
    assert f"agentic-os reconcile redrive {task_id}" in note
    assert "not put back" in notes["status"]
    written = len(await desk.events(task_id))
    await change(desk, task_id, "coder", "state", "mine-at-last")
    assert written == len(await desk.events(task_id))

    answer = await desk.post(f"/api/reconcile/{task_id}", {"redrive": True}, "olga")
    assert 202 == answer.status_code, answer.text
    await desk.work()
    assert "dispatched" == issue.state
    assert [] == (await desk.show(f"/api/tasks/{task_id}"))["repairs_paused"]
    assert [("olga", "state")] == [(a, d["field"]) for a, d in await told(desk, task_id, "repairs.resumed")]
    assert notes.keys() == (await desk.notes(task_id)).keys()


async def test_a_paused_field_still_shows_what_is_new(desk: TrackedDesk) -> None:
    """The end of the task is written over what was fought about before."""
    await desk.executor()
    task_id = await desk.task()
    for n in range(drift.REPAIRS + 1):
        await change(desk, task_id, "coder", "state", f"mine-{n}")
    assert "dispatched" != (await desk.issue(task_id)).state
    await desk.direct(task_id, "/cancel")
    assert ("cancelled", "not_planned") == (
        (await desk.issue(task_id)).state,
        (await desk.issue(task_id)).closed,
    )


async def test_repairs_go_on_after_quiet(desk: TrackedDesk) -> None:
    """An hour after the last change the field is put back again, by a deadline."""
    await desk.executor()
    task_id = await desk.task()
    for n in range(drift.REPAIRS + 1):
        await change(desk, task_id, "coder", "state", f"mine-{n}")
    ((at,),) = await desk.rows("select at from es.deadline where kind = 'repairs'")
    assert abs(at - now() - timedelta(hours=1)) < timedelta(minutes=1)


async def test_an_issue_is_made_again_once(desk: TrackedDesk) -> None:
    """An issue that is deleted twice within an hour stays away until somebody redrives the task."""
    await desk.executor()
    task_id = await desk.task()
    robot = desk.tracker.account("coder")
    for _ in range(2):
        desk.tracker.delete_issue((await desk.issue(task_id)).key, robot)
        await desk.listen()
        await desk.listen()
    assert {} == desk.tracker.issues
    shown = await desk.show(f"/api/tasks/{task_id}")
    assert (None, ["issue"]) == (shown["issue"], [p["field"] for p in shown["repairs_paused"]])
    assert ["coder", "coder"] == [d["author"] for _, d in await told(desk, task_id, "field.drifted")]
    await desk.post(f"/api/reconcile/{task_id}", {"redrive": True}, "olga")
    await desk.work()
    assert 1 == len(desk.tracker.issues)
    assert 1 == len(desk.tracker.wakes)


async def test_the_issue_of_an_ended_task_stays_deleted(desk: TrackedDesk) -> None:
    """Whoever tidies up after the end is not fought."""
    await desk.executor()
    task_id = await desk.task()
    await desk.direct(task_id, "/cancel")
    desk.tracker.delete_issue((await desk.issue(task_id)).key, desk.tracker.account("olga"))
    for _ in range(2):
        await desk.listen()
        await desk.pass_over(task_id)
    assert {} == desk.tracker.issues
    assert [] == await desk.rows("select 1 from es.stale")
