"""Edits of the plan on the tracker: taken in once, with the person as author, or answered with what is wrong."""

from typing import Any

import pytest
from tests.desk import BODIES, callback
from tests.tracked_desk import TrackedDesk

from agentic_os.control_plane import PlanEdited

PLAN = {name: BODIES["plan"][name] for name in ("summary", "acceptance", "risks")} | {
    "steps": [{n: v for n, v in step.items() if n != "rollback"} for step in BODIES["plan"]["steps"]]
}
"""The contract's example without what marked text cannot say."""


async def planned(desk: TrackedDesk, plan: dict[str, Any] = PLAN, **fields: Any) -> str:
    """Bring a task to the review of a plan; return its id."""
    await desk.executor()
    task_id = await desk.task(mode="plan_first", **fields)
    answer = await desk.send(callback("plan", task_id, 1, 2, plan), await desk.ack(task_id))
    assert 202 == answer.status_code, answer.text
    await desk.work()
    return task_id


async def edit(desk: TrackedDesk, task_id: str, name: str, old: str, new: str) -> None:
    """Have somebody change the text of the plan under review, and let the system hear of it."""
    issue = await desk.issue(task_id)
    (review,) = issue.reviews.values()
    text = review.editable.replace(old, new).replace("\n", "\r\n")  # as forms send it
    desk.tracker.edit_plan(issue.key, review.digest, desk.tracker.account(name), text)
    await desk.listen()


async def inbox(desk: TrackedDesk) -> list[tuple[str, str]]:
    """List what became of the edits that were seen."""
    query = "select outcome, reason from es.inbox where observation ->> 'kind' = 'PlanEdited' order by id"
    return [(outcome, reason) for outcome, reason in await desk.rows(query)]


@pytest.mark.parametrize("name", ["olga", "rita", "ada"])
async def test_an_edit_becomes_the_next_version(desk: TrackedDesk, name: str) -> None:
    """The review of version 1 is withdrawn, that of version 2 opened, and its notes say who edited it."""
    task_id = await planned(desk)
    (before,) = (await desk.issue(task_id)).reviews.values()
    await edit(desk, task_id, name, PLAN["summary"], "A summary of mine.")
    plan = (await desk.show(f"/api/tasks/{task_id}"))["plan"]
    assert (2, "open", name) == (plan["version"], plan["state"], plan["author"])
    (review,) = (await desk.issue(task_id)).reviews.values()
    assert (2, plan["digest"]) == (review.version, review.digest)
    assert [(before.digest, "withdrawn")] == desk.plane.outcomes
    assert "A summary of mine." in review.document
    assert f"summary: {PLAN['summary']} → A summary of mine." in review.changes

    notes = await desk.notes(task_id)
    assert f"Plan v2 `{plan['digest'][7:15]}`: open, edited by {name}." in notes["status"]
    (opened,) = [body for body in notes.values() if "v2" in body and "awaits its review" in body]
    assert f"**Plan v2, edited by {name}, awaits its review.**" in opened
    (row,) = [r for r in (await desk.show(f"/api/tasks/{task_id}/reviews"))["items"] if r["version"] == 2]
    assert ("coder", name) == (row["executor"], row["author"])
    assert [("done", "the plan was edited")] == await inbox(desk)
    assert [("edit", "done", None)] == list(await desk.receipts(task_id))
    assert f"edited by {name}" in (await desk.direct(task_id, "/why", "rita"))["message"]


async def test_what_a_reviewer_was_answered_stays_beside_an_edit(desk: TrackedDesk) -> None:
    """The answers of the version before are those of the edited one, and no part of the text to edit."""
    task_id = await planned(desk)
    plan = (await desk.show(f"/api/tasks/{task_id}"))["plan"]
    await desk.direct(task_id, f"/revise v1@{plan['digest'][7:15]}\n- Say why", "rita")
    (item,) = (await desk.show(f"/api/tasks/{task_id}"))["review_items"]
    answered = PLAN | {"summary": "Why.", "responds_to": [{"item_id": item["id"], "how": "In the summary."}]}
    sent = callback("plan", task_id, 2, 2, answered)
    assert 202 == (await desk.send(sent, await desk.ack(task_id))).status_code
    await desk.work()
    (review,) = (await desk.issue(task_id)).reviews.values()
    assert "In the summary." not in review.editable
    await edit(desk, task_id, "rita", "Why.", "Because.")
    (review,) = (await desk.issue(task_id)).reviews.values()
    assert (3, True) == (review.version, "Say why → In the summary." in review.answers)
    assert [] == (await desk.show(f"/api/tasks/{task_id}"))["review_items"]


async def test_who_may_not_edit_is_refused_and_told(desk: TrackedDesk) -> None:
    """A viewer, an executor and a stranger change nothing, each with a receipt; the plan stays as it was."""
    task_id = await planned(desk)
    before = (await desk.show(f"/api/tasks/{task_id}"))["plan"]
    for name in ("vera", "coder", "mallory"):
        await edit(desk, task_id, name, PLAN["summary"], "Mine.")
    assert before == (await desk.show(f"/api/tasks/{task_id}"))["plan"]
    assert [("refused", "not_permitted"), ("refused", "self_review"), ("refused", "not_permitted")] == (
        await inbox(desk)
    )
    notes = [body for marker, body in (await desk.notes(task_id)).items() if marker.startswith("refused:")]
    assert 3 == len(notes)
    assert all(f"`edit of the plan {before['digest'][7:15]}` was refused" in body for body in notes)


async def test_a_text_that_is_no_plan_is_answered_with_its_line(desk: TrackedDesk) -> None:
    """The note says in which line or place it is wrong, and nothing else comes of it."""
    task_id = await planned(desk, paths=["src/**"])
    (review,) = (await desk.issue(task_id)).reviews.values()
    line = 1 + review.editable.splitlines().index("## Steps")
    for old, new, rule, words in (
        ("## Steps", "## Stepps", "section_missing", f"line {line}: unknown section"),
        ("src/settings.py", "docs/a.md", "scope_denied", "It is at /steps/0/paths/0."),
        ("AOS:END", "", "marker_missing", "'AOS:END' is missing"),
        ("[s2]", "[s1]", "schema_invalid", "/steps/1/id repeats the id 's1'"),
        ("zzz", "zzz", "plan_unchanged", "the same as version 1"),
    ):
        await edit(desk, task_id, "rita", old, new)
        assert ("edit", "refused", rule) == (await desk.receipts(task_id))[-1]
        receipt = (await desk.backend.issues.receipts(task_id, 1))[0]
        assert words in receipt.message
        assert receipt.message in (await desk.notes(task_id))[f"refused:{receipt.id}"]
    assert 1 == (await desk.show(f"/api/tasks/{task_id}"))["plan"]["version"]


async def test_a_plan_that_the_text_cannot_say_is_not_offered_for_editing(desk: TrackedDesk) -> None:
    """An estimate would be lost, so there is no text, and a text that comes all the same is refused."""
    task_id = await planned(desk, BODIES["plan"])
    issue = await desk.issue(task_id)
    (review,) = issue.reviews.values()
    assert "" == review.editable
    seen = PlanEdited(
        delivery="d-1",
        key=issue.key,
        digest=review.digest,
        author=desk.tracker.account("rita"),
        text=f"AOS:PLAN v1 task={task_id} attempt=1",
        at=desk.tracker.now(),
    )
    await desk.backend.issues.take_in("memory", [seen], "")
    await desk.work()
    assert [("refused", "schema_invalid")] == await inbox(desk)
    assert "what would be lost" in (await desk.backend.issues.receipts(task_id, 1))[0].message


async def test_an_edit_that_is_heard_again_after_a_crash_is_made_once(desk: TrackedDesk) -> None:
    """Whether the worker died before or after the receipt was written, there is one version 2."""
    task_id = await planned(desk)
    await edit(desk, task_id, "rita", PLAN["summary"], "Mine.")
    after = await desk.events(task_id)
    await desk.execute("update es.inbox set done_at = null, outcome = null, claimed_until = null")
    await desk.work()
    assert after == await desk.events(task_id)
    await desk.execute("update es.directive set outcome = 'received' where verb = 'edit'")
    await desk.execute("update es.inbox set done_at = null, outcome = null, claimed_until = null")
    await desk.work()
    assert after == await desk.events(task_id)
    assert [("edit", "done", None)] == list(await desk.receipts(task_id))
    assert [("done", "the plan was edited")] == await inbox(desk)


async def test_of_two_who_edit_the_same_version_the_second_is_told(desk: TrackedDesk) -> None:
    """Nobody overwrites what they have not seen."""
    task_id = await planned(desk)
    issue = await desk.issue(task_id)
    (review,) = issue.reviews.values()
    for name in ("rita", "olga"):
        text = review.editable.replace(PLAN["summary"], f"By {name}.")
        desk.tracker.edit_plan(issue.key, review.digest, desk.tracker.account(name), text)
    await desk.listen()
    assert "rita" == (await desk.show(f"/api/tasks/{task_id}"))["plan"]["author"]
    assert [("done", "the plan was edited"), ("refused", "digest_mismatch")] == await inbox(desk)
