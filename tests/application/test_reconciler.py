"""The reconciler: a task's issue becomes what it should be, from whatever it is, with the least change."""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.conftest import Database, OpenBackend
from tests.desk import BODIES, callback, digest
from tests.tracked_desk import CountingTracker, TrackedDesk

from agentic_os.application.ports import StaleMark
from agentic_os.application.reconciler import POISONED_AFTER
from agentic_os.clock import now
from agentic_os.control_plane import Assignment, Unavailable


async def test_a_task_gets_one_issue_and_one_wake(desk: TrackedDesk) -> None:
    """The issue carries title, goal, state and assignee; the assignment wakes once, however often the pass runs."""
    await desk.executor()
    task_id = await desk.task(labels=["billing"])
    for _ in range(3):
        await desk.pass_over(task_id)
    (issue,) = desk.tracker.issues.values()
    assert ("Make the retry limit a setting", "dispatched", ("billing",), None) == (
        issue.title,
        issue.state,
        issue.labels,
        issue.closed,
    )
    assert issue.body.startswith("It is a constant today.")
    wake = Assignment(account=desk.tracker.account("coder"), task_id=task_id, attempt=1)
    assert [wake] == desk.tracker.wakes
    assert wake == issue.assignment
    shown = (await desk.show(f"/api/tasks/{task_id}"))["issue"]
    assert {"control_plane": "memory", "key": issue.key, "url": f"memory:{issue.key}"} == shown


async def test_the_sealed_brief_is_in_the_issue(desk: TrackedDesk) -> None:
    """Between the markers is one line of JSON whose SHA-256 is the digest that the marker names, and an ack accepts."""
    await desk.executor()
    task_id = await desk.task()
    body = (await desk.issue(task_id)).body
    head = re.search(r"<!-- agentic-os:brief v1 task=(\S+) attempt=1 digest=(\S+) -->", body)
    assert head is not None
    sealed = re.search(r"^```json\n(.*)\n```$", body, re.MULTILINE)
    assert sealed is not None
    assert head[2] == "sha256:" + hashlib.sha256(sealed[1].encode()).hexdigest()
    assert (task_id, task_id) == (head[1], json.loads(sealed[1])["task_id"])
    assert body.rstrip().endswith("<!-- agentic-os:end -->")
    await desk.ack(task_id)


async def test_a_brief_that_is_too_long_is_linked(desk: TrackedDesk) -> None:
    """Above 48 KiB the issue tells where the brief can be read, and stays within the tracker's bounds."""
    await desk.executor()
    task_id = await desk.task(goal="g" * 50_000)
    body = (await desk.issue(task_id)).body
    assert f"/api/tasks/{task_id}/brief" in body
    assert len(body) < 60_000


async def test_each_attempt_wakes_once(desk: TrackedDesk) -> None:
    """The second attempt, after the approval, is another wake; while people review, nobody is assigned."""
    task_id = await desk.planned()
    assert None is (await desk.issue(task_id)).assignment
    await desk.approve(task_id)
    await desk.pass_over(task_id)
    assert [(task_id, 1), (task_id, 2)] == [(w.task_id, w.attempt) for w in desk.tracker.wakes]


async def test_the_status_note_is_edited_in_place(desk: TrackedDesk) -> None:
    """One note tells the phase and what comes next, and stays the same comment from the first phase to the last."""
    await desk.executor()
    task_id = await desk.task()
    issue = await desk.issue(task_id)
    (first,) = [c.id for c in issue.comments.values() if "note status" in c.body]
    assert "dispatched" in (await desk.notes(task_id))["status"]
    await desk.submit("result", task_id, await desk.ack(task_id))
    assert "completed" in (await desk.notes(task_id))["status"]
    assert [first] == [c.id for c in issue.comments.values() if "note status" in c.body]


async def test_a_gate_is_opened_and_closed(desk: TrackedDesk) -> None:
    """A plan opens one review and one note with the exact lines; each decision closes it with its outcome."""
    task_id = await desk.planned()
    issue = await desk.issue(task_id)
    plan = (await desk.show(f"/api/tasks/{task_id}"))["plan"]
    line = f"/approve v1@{plan['digest'][7:15]}"
    (review,) = issue.reviews.values()
    assert ("plan", 1, plan["digest"], line) == (
        review.subject,
        review.version,
        review.digest,
        review.directives["approve"],
    )
    assert BODIES["plan"]["summary"] in review.document
    assert f"`{line}`" in (await desk.notes(task_id))[f"gate:{plan['digest']}"]
    assert f"`{line}`" in (await desk.notes(task_id))["status"]

    await desk.direct(task_id, "/revise v1 More.", as_="rita")
    assert {} == issue.reviews
    items = (await desk.show(f"/api/tasks/{task_id}/brief"))["brief"]["review_items"]
    answers = [{"item_id": i["id"], "how": "done"} for i in items]
    token = await desk.ack(task_id)
    await desk.submit("plan", task_id, token, attempt=2, summary="More.", responds_to=answers)
    second = (await desk.show(f"/api/tasks/{task_id}"))["plan"]["digest"]
    assert [second] == list(issue.reviews)
    await desk.approve(task_id)
    assert [(plan["digest"], "revised"), (second, "approved")] == desk.plane.outcomes


@pytest.mark.parametrize(("line", "outcome"), [("/reject v1 No.", "rejected"), ("/cancel", "withdrawn")])
async def test_a_gate_says_how_it_ended(desk: TrackedDesk, line: str, outcome: str) -> None:
    """A rejection and a cancel close the review as what they are, and the issue with them."""
    task_id = await desk.planned()
    assert "done" == (await desk.direct(task_id, line))["outcome"]
    assert [outcome] == [how for _, how in desk.plane.outcomes]
    assert "not_planned" == (await desk.issue(task_id)).closed


async def test_a_refused_directive_is_answered_with_the_line_to_paste(desk: TrackedDesk) -> None:
    """A bare approval on the tracker is refused by one note that holds the line which would be right."""
    task_id = await desk.planned()
    await desk.comment(task_id, "rita", "/approve")
    await desk.pass_over(task_id)
    digest = (await desk.show(f"/api/tasks/{task_id}"))["plan"]["digest"][7:15]
    (refusal,) = [
        text for marker, text in (await desk.notes(task_id)).items() if marker.startswith("refused:")
    ]
    assert f"Write: `/approve v1@{digest}`" in refusal
    assert "| `/approve` | rita | refused" in (await desk.notes(task_id))["status"]


async def test_the_end_is_told_once(desk: TrackedDesk) -> None:
    """The final note has the summary, the evidence by criterion and links to the artifacts; the issue is closed."""
    await desk.executor()
    task_id = await desk.task(acceptance=[{"id": "tests", "text": "They pass."}])
    await desk.submit("result", task_id, await desk.ack(task_id))
    await desk.pass_over(task_id)
    end = (await desk.notes(task_id))["end:completed"]
    assert BODIES["result"]["summary"] in end
    assert "| `tests` They pass. | pass | self_reported |" in end
    digest = BODIES["result"]["artifacts"][0]["digest"]
    assert f"http://127.0.0.1:8700/api/artifacts/{digest}" in end
    issue = await desk.issue(task_id)
    assert ("completed", "completed", None) == (issue.closed, issue.state, issue.assignment)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state", "completed"),
        ("closed", "completed"),
        ("closed", "not_planned"),
        ("assignee", ""),
        ("assignee", "ada"),
    ],
)
async def test_drift_of_what_is_ours_is_repaired(desk: TrackedDesk, field: str, value: str) -> None:
    """An agent that changes state, assignee or closes its issue changes nothing for long, and nobody is woken again."""
    await desk.executor()
    task_id = await desk.task()
    issue = await desk.issue(task_id)
    before = (issue.state, issue.closed, issue.assignment, issue.body)
    agent = desk.tracker.account("coder")
    desk.tracker.change_field(
        issue.key, agent, field, desk.tracker.account("ada") if value == "ada" else value
    )
    assert before != (issue.state, issue.closed, issue.assignment, issue.body)
    await desk.listen()
    assert before == (issue.state, issue.closed, issue.assignment, issue.body)
    assert 1 == len(desk.tracker.wakes)
    assert "dispatched" == await desk.phase(task_id)


async def test_an_issue_names_its_parent_and_priority(desk: TrackedDesk) -> None:
    """A child's issue hangs below its parent's, also one that was made first, and drift of either is repaired."""
    await desk.executor()
    task_id = await desk.task(assignee="coder", priority="critical")
    acceptance = [{"id": "done", "text": "It is done"}]
    item = {"ref": "one", "title": "Do one", "goal": "G", "acceptance": acceptance, "priority": "high"}
    body = {"reason": "Why", "tasks": [item]}
    answer = await desk.send(callback("task_request", task_id, 1, 2, body), await desk.ack(task_id))
    assert 202 == answer.status_code, answer.text
    await desk.work()
    (child_id,) = (child["id"] for child in (await desk.show(f"/api/tasks/{task_id}"))["children"])
    parent, child = await desk.issue(task_id), await desk.issue(child_id)
    assert ("", "critical") == (parent.parent, parent.priority)
    assert (parent.key, "high") == (child.parent, child.priority)
    child.parent, child.priority = "", ""
    await desk.pass_over(child_id)
    assert (parent.key, "high") == (child.parent, child.priority)


async def test_a_tampered_brief_is_restored_and_the_rest_kept(desk: TrackedDesk) -> None:
    """What stands between our markers is put back; what people wrote around them, and the title, stay theirs."""
    await desk.executor()
    task_id = await desk.task()
    issue = await desk.issue(task_id)
    section = issue.body.partition("<!-- agentic-os:brief")[2]
    ada = desk.tracker.account("ada")
    tampered = issue.body.replace('"step":"execute"', '"step":"plan"')
    assert tampered != issue.body
    desk.tracker.change_field(issue.key, ada, "body", f"Note for all.\n\n{tampered}\n\nP.S.")
    desk.tracker.change_field(issue.key, ada, "title", "A better title")
    await desk.listen()
    assert section == issue.body.partition("<!-- agentic-os:brief")[2].removesuffix("\n\nP.S.")
    assert issue.body.startswith("Note for all.")
    assert "A better title" == issue.title


async def test_a_deleted_issue_is_made_anew(desk: TrackedDesk) -> None:
    """The task outlives its issue: another one shows it, with its gate, and the old attempt is not woken twice."""
    task_id = await desk.planned()
    old = (await desk.issue(task_id)).key
    desk.tracker.delete_issue(old, desk.tracker.account("ada"))
    await desk.listen()
    issue = await desk.issue(task_id)
    assert old != issue.key
    assert 1 == len(issue.reviews)
    assert {"status"} < (await desk.notes(task_id)).keys()
    await desk.approve(task_id)
    assert [1, 2] == [w.attempt for w in desk.tracker.wakes]


async def test_a_stranded_issue_is_replaced(desk: TrackedDesk) -> None:
    """Where nobody can be woken any more another issue takes the place, woken once; the old one is closed and heard."""
    task_id = await desk.planned()
    old = await desk.issue(task_id)
    desk.tracker.stranded.add(old.key)
    await desk.approve(task_id)
    issue = await desk.issue(task_id)
    assert old.key != issue.key
    assert [(old.key, "not_planned"), (issue.key, None)] == [
        (each.key, each.closed) for each in desk.tracker.issues.values()
    ]
    assert issue.key in list(old.comments.values())[-1].body
    assert [1, 2] == [w.attempt for w in desk.tracker.wakes]
    events = (await desk.show(f"/api/tasks/{task_id}/events?limit=100"))["items"]
    (drifted,) = (event for event in events if event["type"] == "field.drifted")
    assert ("system", "memory", old.key) == (
        drifted["actor"],
        drifted["data"]["author"],
        drifted["data"]["value"],
    )
    assert "nobody can be woken" in drifted["reason"]
    desk.tracker.comment(old.key, desk.tracker.account("olga"), "/cancel")
    await desk.listen()
    assert "cancelled" == (await desk.show(f"/api/tasks/{task_id}"))["phase"]


@pytest.mark.parametrize("before", [True, False], ids=["before the write", "after the write"])
async def test_a_failure_at_any_request_leaves_no_twin(desk: TrackedDesk, *, before: bool) -> None:
    """Whichever request fails, before or after it took effect, the next pass makes the same issue, wake and notes."""
    await desk.executor()
    whole = await desk.task(mode="plan_first")
    await desk.submit("plan", whole, await desk.ack(whole))
    shaken = (
        await desk.post("/api/tasks", {"title": "T", "goal": "G", "mode": "plan_first"}, "olga")
    ).json()["id"]

    async def shake() -> None:
        for skipped in range(12):
            desk.tracker.forget()
            desk.tracker.fail_at(skipped, before=before)
            await desk.pass_over(shaken)
        desk.tracker.fail_at(None, before=before)
        await desk.pass_over(shaken)

    await shake()
    token = await desk.ack(shaken)
    await desk.send(callback("plan", shaken, 1, 2), token)
    await shake()
    assert 2 == len(desk.tracker.issues)
    assert [(whole, 1), (shaken, 1)] == [(w.task_id, w.attempt) for w in desk.tracker.wakes]
    assert (await desk.notes(whole)).keys() == (await desk.notes(shaken)).keys()
    one, other = await desk.issue(whole), await desk.issue(shaken)
    assert (one.state, one.assignment, len(one.reviews)) == (
        other.state,
        other.assignment,
        len(other.reviews),
    )


async def test_a_rate_limit_is_waited_for(desk: TrackedDesk, tracker: CountingTracker) -> None:
    """A tracker that asks for patience is left alone until the instant that it named, then brought up to date."""
    await desk.executor()
    until = now() + timedelta(hours=1)
    tracker.limit_until(until)
    task_id = await desk.task()
    _, put_off, problem = await desk.stale(task_id)
    assert put_off is not None
    assert abs(put_off - until) < timedelta(minutes=1)
    assert "RateLimited" in (problem or "")
    tracker.forget()
    await desk.worker.drain_stale()
    assert (0, 0) == (tracker.reads, tracker.writes)
    tracker.limit_until(now())
    plane = desk.backend.control_plane
    assert plane is not None
    plane._paused_until = now()
    await desk.hasten()
    await desk.worker.drain_stale()
    assert 1 == len(tracker.wakes)
    assert [] == await desk.rows("select 1 from es.stale")


async def test_an_unavailable_tracker_is_tried_again(desk: TrackedDesk, tracker: CountingTracker) -> None:
    """Each failure puts the task off, and is counted, and the first success makes all right."""
    task_id = await desk.task()
    await desk.backend.work.mark([task_id])
    for failures in (1, 2, 3):
        tracker.fail_next(before=True)
        await desk.hasten()
        await desk.worker.drain_stale()
        counted, put_off, problem = await desk.stale(task_id)
        assert failures == counted
        assert put_off is not None
        assert "Unavailable" in (problem or "")
    await desk.hasten()
    await desk.worker.drain_stale()
    assert [] == await desk.rows("select 1 from es.stale")


def test_patience_grows_to_a_bound(desk: TrackedDesk) -> None:
    """The waits double from a second to five minutes, each with up to half of it as jitter."""
    reconciler = desk.backend.reconciler
    for failures, seconds in ((0, 1), (1, 2), (5, 32), (8, 256), (9, 300), (200, 300)):
        mark = StaleMark(task_id="t", generation=1, failures=failures, since=now())
        wait = reconciler._patience(mark, Unavailable("away")).total_seconds()
        assert seconds <= wait <= 1.5 * seconds


async def test_a_pass_over_what_is_right_changes_nothing(desk: TrackedDesk) -> None:
    """In each phase a second pass reads the issue once and writes nothing."""
    await desk.executor()
    task_id = await desk.task(mode="plan_first")

    async def assert_settled() -> None:
        await desk.pass_over(task_id)
        events = await desk.events(task_id)
        desk.tracker.forget()
        await desk.pass_over(task_id)
        assert (1, 0) == (desk.tracker.reads, desk.tracker.writes), await desk.phase(task_id)
        assert events == await desk.events(task_id)

    await assert_settled()
    token = await desk.ack(task_id)
    await assert_settled()
    await desk.submit("plan", task_id, token)
    await assert_settled()
    await desk.comment(task_id, "rita", "/approve")
    await assert_settled()
    await desk.approve(task_id)
    await assert_settled()
    await desk.submit("result", task_id, await desk.ack(task_id), attempt=2)
    await assert_settled()


async def test_a_hundred_events_are_one_pass(desk: TrackedDesk) -> None:
    """Marks coalesce: however much happened to a task, its issue is read once."""
    await desk.executor()
    task_id = await desk.task()
    token = await desk.ack(task_id)
    for seq in range(2, 12):
        await desk.send(callback("heartbeat", task_id, 1, seq, {}), token)
    desk.tracker.forget()
    await desk.worker.drain_stale()
    assert 1 == desk.tracker.reads


async def test_one_task_that_cannot_be_shown_holds_up_no_other(
    open_test_backend: OpenBackend, database: Database, desk: TrackedDesk
) -> None:
    """An issue that the tracker will never accept is put off with its problem, and the other tasks go on."""
    desk.tracker.longest = 4000
    await desk.executor()
    hopeless = (await desk.post("/api/tasks", {"title": "T", "goal": "g" * 5000}, "olga")).json()["id"]
    fine = await desk.task()
    assert [fine] == [w.task_id for w in desk.tracker.wakes]
    assert "Invalid" in ((await desk.stale(hopeless))[2] or "")


async def test_an_executor_without_an_account_is_dispatched_all_the_same(desk: TrackedDesk) -> None:
    """Dispatch waits for no tracker: the issue stays unassigned, and the executor may ack."""
    await super(TrackedDesk, desk).executor()
    task_id = await desk.task()
    assert None is (await desk.issue(task_id)).assignment
    assert [] == desk.tracker.wakes
    await desk.ack(task_id)
    await desk.introduce("coder")
    await desk.pass_over(task_id)
    assert [1] == [w.attempt for w in desk.tracker.wakes]


async def test_a_listing_that_leaves_an_issue_out_deletes_nothing(
    desk: TrackedDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer without the issue, as of an empty listing, is no answer: the issue stays, and is looked at again."""
    await desk.executor()
    task_id = await desk.task()

    async def nothing(_: Sequence[str]) -> dict[str, None]:
        return {}

    with monkeypatch.context() as patched:
        patched.setattr(desk.plane, "observe", nothing)
        await desk.pass_over(task_id)
    assert "Unavailable" in ((await desk.stale(task_id))[2] or "")
    await desk.hasten()
    await desk.worker.drain_stale()
    assert 1 == len(desk.tracker.issues)
    assert 0 == (await desk.events(task_id)).count("field.drifted")


async def test_a_limit_for_one_is_a_limit_for_all(desk: TrackedDesk, tracker: CountingTracker) -> None:
    """Once the tracker asks for patience, no task asks anything of it; what needs no tracker goes on."""
    await desk.executor()
    tracker.limit_until(now() + timedelta(hours=1))
    await desk.post("/api/tasks", {"title": "T", "goal": "G"}, "olga")
    await desk.work()
    tracker.forget()
    for _ in range(5):
        await desk.post("/api/tasks", {"title": "T", "goal": "G"}, "olga")
    await desk.work()
    assert 0 == tracker.reads + tracker.writes
    assert {"dispatched"} == {t["phase"] for t in (await desk.show("/api/tasks"))["items"]}
    assert [(0,)] == await desk.rows("select distinct failures from es.stale")


async def test_a_task_that_always_fails_is_shown_and_tried_rarely(desk: TrackedDesk) -> None:
    """After so many failures in a row a task is on the list with its error, until it is redriven or succeeds."""
    desk.tracker.longest = 4000
    await desk.executor()
    hopeless = (await desk.post("/api/tasks", {"title": "T", "goal": "g" * 5000}, "olga")).json()["id"]
    states = []
    for _ in range(POISONED_AFTER):
        await desk.hasten()
        await desk.worker.drain_stale()
        states += [(i["state"], i["failures"] >= POISONED_AFTER) for i in await items(desk)]
    assert ("failing", False) == states[0]
    assert {("failing", False), ("poisoned", True)} == set(states)
    (item,) = await items(desk)
    assert hopeless == item["task_id"]
    assert "Invalid" in item["problem"]
    assert timedelta(minutes=50) < datetime.fromisoformat(item["next_try_at"]) - now()
    desk.tracker.longest = 65_536
    assert 202 == (await desk.post(f"/api/reconcile/{hopeless}", {"redrive": True}, "olga")).status_code
    await desk.work()
    assert [] == await items(desk)
    assert 1 == len(desk.tracker.wakes)


async def test_a_tracker_that_is_away_poisons_no_task(
    desk: TrackedDesk, tracker: CountingTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long nobody answers, every task is tried again within minutes of the answer."""
    task_id = await desk.task()
    plane = desk.backend.control_plane
    assert plane is not None
    monkeypatch.setattr(plane, "_reached_at", None)
    await desk.backend.work.mark([task_id])
    for _ in range(POISONED_AFTER + 2):
        tracker.fail_next(before=True)
        await desk.hasten()
        await desk.worker.drain_stale()
    failures, put_off, _ = await desk.stale(task_id)
    assert failures > POISONED_AFTER
    assert put_off is not None
    assert put_off < now() + timedelta(minutes=8)
    assert ["failing"] == [i["state"] for i in await items(desk)]


async def items(desk: TrackedDesk) -> list[dict[str, Any]]:
    """List what is stale, as the API shows it."""
    return list((await desk.show("/api/reconcile"))["items"])


async def test_a_hundred_changes_at_once_are_few_writes(desk: TrackedDesk) -> None:
    """A hundred events on one task within a second are at most three writes to its issue."""
    await desk.executor()
    task_id = await desk.task()
    desk.tracker.forget()
    for n in range(50):
        await desk.post(f"/api/tasks/{task_id}/directives", {"text": f"/hold reason {n}"}, "ada")
        await desk.post(f"/api/tasks/{task_id}/directives", {"text": "/unhold"}, "ada")
    events = await desk.events(task_id)
    assert (50, 50) == (events.count("task.held"), events.count("hold.released"))
    await desk.worker.drain_stale()
    assert desk.tracker.writes <= 3


async def test_small_texts_are_shown_where_people_read(desk: TrackedDesk) -> None:
    """Small text artifacts are in the end note, fenced so that nothing in them gets out; others are links."""
    await desk.executor()
    task_id = await desk.task()
    token = await desk.ack(task_id)
    texts = {
        "notes.md": (b"Done.\n```\n/cancel\n````\n<!-- agentic-os:end -->\n", "text/markdown"),
        "data.bin": (b"\xff\xfe\x00", "text/plain"),
        "page.html.gz": (b"abc", "application/gzip"),
        "big.log": (b"x" * (16 * 1024 + 1), "text/plain"),
    }
    artifacts = [
        {
            "name": name,
            "media_type": kind,
            "digest": digest(content),
            "size": len(content),
            "content_base64": base64.b64encode(content).decode(),
        }
        for name, (content, kind) in texts.items()
    ]
    await desk.submit("result", task_id, token, artifacts=artifacts)
    end = (await desk.notes(task_id))["end:completed"]
    assert "`````text\nDone.\n```\n/cancel\n````\n<!-- agentic-os:end -->\n`````" in end
    assert "xxxx" not in end
    for content, _ in texts.values():
        assert f"http://127.0.0.1:8700/api/artifacts/{digest(content)}" in end


async def test_what_a_run_keeps_busy_waits_for_its_end(desk: TrackedDesk) -> None:
    """An assignee whose run goes on keeps the issue until it ends; the rest is shown, and nothing counts as failed."""
    await desk.executor()
    task_id = await desk.task(mode="plan_first")
    token = await desk.ack(task_id)
    desk.plane.busy = True
    await desk.submit("plan", task_id, token)
    issue = await desk.issue(task_id)
    assert (1, True) == (len(issue.reviews), issue.assignment is not None)
    assert "plan_review" in (await desk.notes(task_id))["status"]
    failures, again, problem = await desk.stale(task_id)
    assert (0, None) == (failures, problem)
    assert again is not None
    desk.plane.busy = False
    await desk.hasten()
    await desk.worker.drain_stale()
    assert (await desk.issue(task_id)).assignment is None
    assert [] == await desk.rows("select 1 from es.stale")
