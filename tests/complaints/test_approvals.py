"""Approvals that get lost, that meet another plan than the one that was read, and comments that answer comments."""

import pytest
from tests.desk import BODIES, Desk, callback


async def approval_of(desk: Desk, task_id: str) -> str:
    """Compose the line that approves exactly the plan under review."""
    plan = (await desk.show(f"/api/tasks/{task_id}"))["plan"]
    return f"/approve v{plan['version']}@{plan['digest'][7:15]}"


async def revise(desk: Desk, task_id: str, number: int, *, answer: bool = True) -> None:
    """Send the plan back and hand in the next version."""
    receipt = await desk.direct(task_id, f"/revise v{number}\n- Shorter", "rita")
    assert "done" == receipt["outcome"], receipt
    items = (await desk.show(f"/api/tasks/{task_id}/brief"))["brief"]["review_items"]
    answers = [{"item_id": i["id"], "how": "Done."} for i in items] if answer else []
    plan = BODIES["plan"] | {"summary": f"Version {number + 1}.", "responds_to": answers}
    sent = await desk.send(callback("plan", task_id, number + 1, 2, plan), await desk.ack(task_id))
    assert 202 == sent.status_code, sent.text
    await desk.work()


async def test_an_approval_of_a_stale_plan_is_refused_with_the_new_line(desk: Desk):
    """Whoever read version 1 does not approve version 2, and gets the line that would; that line does."""
    task_id = await desk.planned()
    old = await approval_of(desk, task_id)
    await revise(desk, task_id, 1)
    receipt = await desk.direct(task_id, old, "rita")
    new = await approval_of(desk, task_id)
    assert ("refused", "digest_mismatch", new) == (receipt["outcome"], receipt["rule"], receipt["paste"])
    assert "plan_review" == await desk.phase(task_id)
    assert "done" == (await desk.direct(task_id, receipt["paste"], "rita"))["outcome"]
    authorised = [e for e in await desk.backend.log.read_stream(task_id) if e.type == "plan.approved"]
    assert [2] == [e.data["version"] for e in authorised]


async def test_the_version_alone_names_no_plan(desk: Desk):
    """A number may be another plan's after a rebase: without the digest nothing is approved."""
    task_id = await desk.planned()
    receipt = await desk.direct(task_id, "/approve v1", "rita")
    assert ("refused", await approval_of(desk, task_id)) == (receipt["outcome"], receipt["paste"])


async def test_no_number_of_revisions_lets_a_plan_through(desk: Desk):
    """After the last revision that the cap allows a person must decide: no plan is accepted by exhaustion."""
    task_id = await desk.planned()
    for number in (1, 2, 3):
        await revise(desk, task_id, number)
    await desk.direct(task_id, "/revise v4\n- Still too long", "rita")
    shown = await desk.show(f"/api/tasks/{task_id}")
    assert ("input_required", "operator") == (shown["phase"], shown["waiting_for"]["owner"])
    assert 0 == (await desk.events(task_id)).count("plan.approved")


async def test_an_approval_is_not_lost_to_a_hold(desk: Desk):
    """A plan approved while the task is on hold is executed once the hold is released, without a second approval."""
    task_id = await desk.planned()
    await desk.direct(task_id, "/hold Release week.", "olga")
    await desk.approve(task_id)
    assert "ready" == await desk.phase(task_id)
    await desk.direct(task_id, "/unhold", "olga")
    brief = (await desk.show(f"/api/tasks/{task_id}/brief"))["brief"]
    assert ("execute", 1) == (brief["step"], brief["plan"]["version"])


async def test_an_approval_is_not_lost_to_a_failed_attempt(desk: Desk):
    """The authorisation covers the retries of its plan: nobody is asked to approve the same plan again."""
    task_id = await desk.planned()
    await desk.approve(task_id)
    credential = await desk.ack(task_id)
    await desk.submit("failure", task_id, credential, 2, 2, **{"class": "tool", "retryable": True})
    await desk.direct(task_id, "/retry", "olga")
    assert ("execute", 3) == (
        (await desk.show(f"/api/tasks/{task_id}/brief"))["brief"]["step"],
        (await desk.show(f"/api/tasks/{task_id}"))["attempt"]["number"],
    )
    assert 1 == (await desk.events(task_id)).count("plan.approved")


@pytest.mark.parametrize(
    "wrapped", ["> {}", "```\n{}\n```", "<!--\n{}\n-->", "    {}", "I would not write {}"]
)
async def test_quoting_an_approval_approves_nothing(desk: Desk, wrapped: str):
    """Whoever repeats the line that they were told to paste, in a quote or in code, has not pasted it."""
    task_id = await desk.planned()
    text = wrapped.format(await approval_of(desk, task_id))
    receipt = await desk.direct(task_id, f"{text}\n\n/note Not yet.", "rita")
    assert "done" == receipt["outcome"]
    assert "plan_review" == await desk.phase(task_id)
