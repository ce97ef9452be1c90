"""Decisions that meet an executor which is busy, gone or late: each leads to an attempt, and none is lost."""

from collections.abc import Awaitable, Callable

import pytest
from tests.desk import Desk, callback


async def approve(desk: Desk) -> str:
    """Approve a plan."""
    task_id = await desk.planned()
    await desk.approve(task_id)
    return task_id


async def revise(desk: Desk) -> str:
    """Send a plan back."""
    task_id = await desk.planned()
    await desk.direct(task_id, "/revise v1\n- Shorter", "rita")
    return task_id


async def rework(desk: Desk) -> str:
    """Send a result back."""
    await desk.executor()
    task_id = await desk.task()
    await desk.submit("result", task_id, await desk.ack(task_id), outcome="partial")
    await desk.direct(task_id, "/rework r1\n- All of it", "rita")
    return task_id


async def answer(desk: Desk) -> str:
    """Answer a question."""
    await desk.executor()
    task_id = await desk.task()
    question = {"question": "Which?", "blocking": True}
    answered = await desk.send(callback("escalation", task_id, 1, 2, question), await desk.ack(task_id))
    assert 202 == answered.status_code, answered.text
    await desk.work()
    await desk.direct(task_id, "/answer q1 The first.", "olga")
    return task_id


async def retry(desk: Desk) -> str:
    """Send a task on that waits for its retry."""
    await desk.executor()
    task_id = await desk.task()
    failure = {"class": "tool", "message": "m", "retryable": True}
    failed = await desk.send(callback("failure", task_id, 1, 2, failure), await desk.ack(task_id))
    assert 202 == failed.status_code, failed.text
    await desk.direct(task_id, "/retry", "olga")
    return task_id


@pytest.mark.parametrize("decide", [approve, revise, rework, answer, retry])
async def test_every_decision_opens_the_next_attempt(desk: Desk, decide: Callable[[Desk], Awaitable[str]]):
    """Whatever a person decides on a task that goes on, the very next pass of the worker offers attempt 2."""
    task_id = await decide(desk)
    shown = await desk.show(f"/api/tasks/{task_id}")
    assert ("dispatched", 2, "offered") == (
        shown["phase"],
        shown["attempt"]["number"],
        shown["attempt"]["state"],
    )


async def test_an_approval_during_a_run_is_never_lost(desk: Desk):
    """A plan approved while its executor is full with another task is executed once there is room, unasked."""
    await desk.executor(capacity=1)
    first = await desk.task(mode="plan_first")
    await desk.submit("plan", first, await desk.ack(first))
    second = await desk.task(title="Another")
    running = await desk.ack(second)
    await desk.approve(first)
    assert "ready" == await desk.phase(first)
    await desk.submit("result", second, running)
    assert "dispatched" == await desk.phase(first)
    await desk.submit("result", first, await desk.ack(first), attempt=2)
    kinds = await desk.events(first)
    assert (1, "task.completed") == (kinds.count("plan.approved"), kinds[-1])


async def test_an_executor_that_died_blocks_nothing(desk: Desk):
    """After a restart of its process an executor goes on with its attempt, and what its twin still sends is refused."""
    await desk.executor(capacity=1)
    task_id = await desk.task()
    lost = await desk.ack(task_id)
    found = await desk.ack(task_id)
    assert 401 == (await desk.send(callback("result", task_id, 1, 2), lost)).status_code
    await desk.submit("result", task_id, found)
    assert "completed" == await desk.phase(task_id)
