"""What people do on the tracker: heard once, carried out once, and answered."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.conftest import OpenBackend
from tests.desk import callback
from tests.tracked_desk import TrackedDesk

from agentic_os.application import inbox
from agentic_os.application.directives import Source
from agentic_os.application.inbox import Adoption
from agentic_os.application.ports import DirectiveReceipt, StoreUnavailable
from agentic_os.clock import now
from agentic_os.control_plane.memory import MemoryTracker
from agentic_os.worker import Worker


async def line(desk: TrackedDesk, task_id: str) -> str:
    """Compose the exact approval of the plan under review."""
    plan = (await desk.show(f"/api/tasks/{task_id}"))["plan"]
    return f"/approve v{plan['version']}@{plan['digest'][7:15]}"


async def bring(desk: TrackedDesk, tracker: MemoryTracker) -> list[int]:
    """Carry the webhooks that the tracker sent to the API; return how many observations each brought."""
    answers = [
        await desk.client.post("/api/webhooks/memory", content=body, headers=dict(headers))
        for headers, body in tracker.take_deliveries()
    ]
    return [a.json()["taken"] for a in answers]


async def test_a_comment_is_carried_out_once(desk: TrackedDesk, tracker: MemoryTracker) -> None:
    """A directive that comes by webhook, again by webhook, and by the feed, is one event, one receipt, one reaction."""
    task_id = await desk.planned()
    issue = await desk.issue(task_id)
    tracker.take_deliveries()
    comment_id = tracker.comment(issue.key, tracker.account("rita"), await line(desk, task_id))
    deliveries = list(tracker.deliveries)
    assert [1] == await bring(desk, tracker)
    tracker.deliveries = deliveries
    assert [0] == await bring(desk, tracker)
    await desk.listen()
    await desk.listen()
    assert 1 == (await desk.events(task_id)).count("plan.approved")
    assert [("approve", "done", None)] == await desk.receipts(task_id)
    assert {"done"} == issue.comments[comment_id].reactions
    (voted,) = [e for e in await desk.backend.log.read_stream(task_id) if e.type == "plan.voted"]
    assert ("rita", issue.comments[comment_id].body) == (voted.actor, voted.data["words"])
    assert {"control_plane": "memory", "comment": comment_id} == await desk.meta(task_id, voted.version)


async def test_two_listeners_carry_it_out_once(desk: TrackedDesk, tracker: MemoryTracker) -> None:
    """Where two workers hear the same comment at the same time, one approval is in the history."""
    task_id = await desk.planned()
    tracker.comment((await desk.issue(task_id)).key, tracker.account("rita"), await line(desk, task_id))
    await desk.worker.look_around()
    await asyncio.gather(desk.worker.drain_inbox(), desk.worker.drain_inbox())
    assert 1 == (await desk.events(task_id)).count("plan.approved")
    assert {"done"} == {outcome for _, outcome, _ in await desk.receipts(task_id)}


async def test_a_directive_is_not_repeated_after_a_crash(desk: TrackedDesk, tracker: MemoryTracker) -> None:
    """When the process died after the event and before it was noted, the second try is told that it was done."""
    task_id = await desk.planned()
    tracker.comment((await desk.issue(task_id)).key, tracker.account("rita"), "/revise\n- Shorter")
    await desk.worker.look_around()
    (item,) = await desk.backend.issues.open_items(10)
    inbox = desk.backend.inbox
    assert inbox is not None
    await inbox._judge(item.observation)
    await desk.work()
    assert 1 == (await desk.events(task_id)).count("plan.returned")
    assert {"done"} == {outcome for _, outcome, _ in await desk.receipts(task_id)}


async def test_our_own_comments_are_not_heard(desk: TrackedDesk, tracker: MemoryTracker) -> None:
    """Notes that hold directives, which we wrote ourselves, cause no work, neither by feed nor by webhook."""
    task_id = await desk.planned()
    assert any("\n- approve: `/approve" in text for text in (await desk.notes(task_id)).values())
    events = await desk.events(task_id)
    assert {0} == set(await bring(desk, tracker))
    await desk.listen()
    assert events == await desk.events(task_id)
    assert [(0,)] == await desk.rows("select count(*) from es.inbox")


async def test_an_unknown_account_is_refused_with_a_receipt(desk: TrackedDesk) -> None:
    """Somebody whose account nobody linked changes nothing, and is told who can help."""
    task_id = await desk.planned()
    await desk.comment(task_id, "stranger", await line(desk, task_id))
    assert "plan_review" == await desk.phase(task_id)
    assert [("approve", "refused", "not_permitted")] == await desk.receipts(task_id)
    (answer,) = [t for marker, t in (await desk.notes(task_id)).items() if marker.startswith("refused:")]
    assert "administrator" in answer


@pytest.mark.parametrize(("author", "rule"), [("coder", "self_review"), ("idle", "not_permitted")])
async def test_no_executor_approves_through_the_tracker(desk: TrackedDesk, author: str, rule: str) -> None:
    """The author of a plan cannot approve it from its own account, nor can another executor."""
    await desk.executor("idle", role="qa")
    task_id = await desk.planned(assignee="coder")
    comment_id = await desk.comment(task_id, author, await line(desk, task_id))
    assert "plan_review" == await desk.phase(task_id)
    assert [("approve", "refused", rule)] == await desk.receipts(task_id)
    assert {"refused"} == (await desk.issue(task_id)).comments[comment_id].reactions


async def test_of_two_directives_none_runs(desk: TrackedDesk) -> None:
    """A comment with two deciding directives is answered, and neither is carried out."""
    task_id = await desk.planned()
    await desk.comment(task_id, "ada", f"{await line(desk, task_id)}\n/cancel")
    assert "plan_review" == await desk.phase(task_id)
    assert {("refused", "one_directive")} == {(o, r) for _, o, r in await desk.receipts(task_id)}


async def test_an_edited_comment_is_answered_and_not_carried_out(
    desk: TrackedDesk, tracker: MemoryTracker
) -> None:
    """Only new comments count: a directive that somebody edits in, or edits again, is refused with the reason."""
    task_id = await desk.planned()
    comment_id = await desk.comment(task_id, "rita", "Looks fine.")
    key = (await desk.issue(task_id)).key
    tracker.edit_comment(key, comment_id, tracker.account("rita"), await line(desk, task_id))
    await desk.listen()
    assert "plan_review" == await desk.phase(task_id)
    assert [("approve", "refused", "created_only")] == await desk.receipts(task_id)
    (answer,) = [t for marker, t in (await desk.notes(task_id)).items() if marker.startswith("refused:")]
    assert "write it again" in answer


async def test_an_edit_after_the_fact_undoes_nothing(desk: TrackedDesk, tracker: MemoryTracker) -> None:
    """A carried-out comment that is edited or deleted stays carried out, and both are answered."""
    task_id = await desk.planned()
    comment_id = await desk.comment(task_id, "rita", await line(desk, task_id))
    key = (await desk.issue(task_id)).key
    tracker.edit_comment(key, comment_id, tracker.account("rita"), "/reject v1")
    await desk.listen()
    tracker.delete_comment(key, comment_id, tracker.account("rita"))
    await desk.listen()
    assert "dispatched" == await desk.phase(task_id)
    assert [
        ("approve", "done", None),
        ("reject", "refused", "created_only"),
        ("approve", "refused", "created_only"),
    ] == await desk.receipts(task_id)
    answers = [t for marker, t in (await desk.notes(task_id)).items() if marker.startswith("refused:")]
    assert 2 == len(answers)
    assert all("What it did stays: /approve." in answer for answer in answers)


async def test_help_is_answered_on_the_issue(desk: TrackedDesk) -> None:
    """`/help` is answered by one note, for this person and this moment."""
    task_id = await desk.planned()
    await desk.comment(task_id, "rita", "/help")
    (answer,) = [t for marker, t in (await desk.notes(task_id)).items() if marker.startswith("answer:")]
    assert await line(desk, task_id) in answer


@pytest.mark.parametrize(
    ("verdict", "body", "phase"),
    [("approve", "", "dispatched"), ("revise", "\n- Shorter", "dispatched"), ("reject", "No.", "rejected")],
)
async def test_the_review_widget_decides(desk: TrackedDesk, verdict: str, body: str, phase: str) -> None:
    """A decision on the tracker's own widget is the directive that it stands for, by the person who pressed it."""
    task_id = await desk.planned()
    issue = await desk.issue(task_id)
    (digest,) = issue.reviews
    desk.tracker.decide_review(issue.key, digest, desk.tracker.account("rita"), verdict, body)  # type: ignore[arg-type]
    await desk.listen()
    assert phase == await desk.phase(task_id)
    assert [(verdict, "done", None)] == await desk.receipts(task_id)
    (voted,) = [e for e in await desk.backend.log.read_stream(task_id) if e.type == "plan.voted"]
    assert ("rita", verdict) == (voted.data["voter"], voted.data["vote"])


async def test_a_widget_of_an_old_plan_decides_nothing(desk: TrackedDesk) -> None:
    """A decision on a digest that is no longer the latest is refused."""
    task_id = await desk.planned()
    issue = await desk.issue(task_id)
    (digest,) = issue.reviews
    review = issue.reviews[digest]
    await desk.direct(task_id, "/revise v1 More.", as_="rita")
    items = (await desk.show(f"/api/tasks/{task_id}/brief"))["brief"]["review_items"]
    answers = [{"item_id": i["id"], "how": "done"} for i in items]
    token = await desk.ack(task_id)
    await desk.submit("plan", task_id, token, attempt=2, summary="More.", responds_to=answers)
    issue.reviews[digest] = review
    desk.tracker.decide_review(issue.key, digest, desk.tracker.account("rita"), "approve")
    await desk.listen()
    assert "plan_review" == await desk.phase(task_id)


def adopted(desk: TrackedDesk, author: str = "olga", labels: tuple[str, ...] = ("agentic-os",)) -> str:
    """Have somebody open an issue; return its key."""
    return desk.tracker.open_issue(desk.tracker.account(author), "Fix it", "It is broken.", "default", labels)


async def test_a_labelled_issue_becomes_one_task(desk: TrackedDesk) -> None:
    """An operator's issue with the label is adopted once, by webhook and feed, and its own issue shows the task."""
    await desk.executor()
    key = adopted(desk)
    await bring(desk, desk.tracker)
    await desk.listen()
    await desk.listen()
    (task,) = (await desk.show("/api/tasks"))["items"]
    assert ("Fix it", "It is broken.", "olga", key, "dispatched") == (
        task["title"],
        task["goal"],
        task["requester"],
        task["issue"]["key"],
        task["phase"],
    )
    assert [key] == list(desk.tracker.issues)
    assert "It is broken." in desk.tracker.issue(key).body
    assert 1 == len(desk.tracker.wakes)


async def test_an_issue_in_a_project_of_ours_becomes_a_task(desk: TrackedDesk) -> None:
    """Where a project is adopted as a whole no label is needed, and the label alone is still enough elsewhere."""
    await desk.executor()
    assert desk.backend.inbox is not None
    desk.backend.inbox._adoption = Adoption(projects=frozenset({"beans"}))
    olga = desk.tracker.account("olga")
    for title, project, labels in (("A", "beans", ()), ("B", "peas", ()), ("C", "peas", ("agentic-os",))):
        desk.tracker.open_issue(olga, title, "All.", project, labels)
    await desk.listen()
    assert ["A", "C"] == sorted(task["title"] for task in (await desk.show("/api/tasks"))["items"])


@pytest.mark.parametrize(
    ("label", "priority"), [("priority:high", "high"), ("priority:urgent", "medium"), ("high", "medium")]
)
async def test_an_issue_is_adopted_with_the_priority_of_its_label(
    desk: TrackedDesk, label: str, priority: str
) -> None:
    """A priority that the issue was opened with, as a routine does, is the task's; an unknown one is medium."""
    adopted(desk, labels=("agentic-os", label))
    await desk.listen()
    (task,) = (await desk.show("/api/tasks"))["items"]
    assert priority == task["priority"]


@pytest.mark.parametrize(("field", "value"), [("labels", "bug, agentic-os"), ("project", "beans")])
async def test_an_issue_becomes_a_task_when_it_is_marked_later(
    desk: TrackedDesk, field: str, value: str
) -> None:
    """Labelled for us or moved into a project of ours, anybody's issue is a task of the operator who did that."""
    assert desk.backend.inbox is not None
    desk.backend.inbox._adoption = Adoption(projects=frozenset({"beans"}))
    key = adopted(desk, "stranger", labels=())
    desk.tracker.change_field(key, desk.tracker.account("stranger"), "title", "Fix it well")
    await desk.listen()
    assert [] == (await desk.show("/api/tasks"))["items"]

    desk.tracker.change_field(key, desk.tracker.account("olga"), field, value)
    await bring(desk, desk.tracker)
    await desk.listen()
    await desk.listen()
    (task,) = (await desk.show("/api/tasks"))["items"]
    assert ("Fix it well", "It is broken.", "olga", key) == (
        task["title"],
        task["goal"],
        task["requester"],
        task["issue"]["key"],
    )
    assert ("beans" if field == "project" else "default") == task["project"]
    assert [key] == list(desk.tracker.issues)


@pytest.mark.parametrize(
    ("who", "field", "value"),
    [
        ("olga", "labels", "bug"),
        ("olga", "project", "beans"),
        ("vera", "labels", "agentic-os"),
        ("stranger", "labels", "agentic-os"),
        ("coder", "labels", "agentic-os"),
    ],
)
async def test_an_issue_that_others_mark_stays_an_issue(
    desk: TrackedDesk, who: str, field: str, value: str
) -> None:
    """Another label and another project make no task, nor does anybody who may not create one."""
    await desk.executor()
    key = adopted(desk, labels=())
    desk.tracker.change_field(key, desk.tracker.account(who), field, value)
    await desk.listen()
    assert [] == (await desk.show("/api/tasks"))["items"]
    assert {} == desk.tracker.issue(key).comments


@pytest.mark.parametrize(
    ("field", "value"), [("labels", "bug, agentic-os"), ("title", "Fix it well"), ("project", "peas")]
)
async def test_another_change_of_an_issue_that_was_marked_in_vain_asks_for_nothing(
    desk: TrackedDesk, field: str, value: str
) -> None:
    """A stranger's issue came with our label and in a project of ours: an operator's other label is no request."""
    assert desk.backend.inbox is not None
    desk.backend.inbox._adoption = Adoption(projects=frozenset({"default", "peas"}))
    key = adopted(desk, "stranger")
    desk.tracker.change_field(key, desk.tracker.account("olga"), field, value)
    await desk.listen()
    assert [] == (await desk.show("/api/tasks"))["items"]


@pytest.mark.parametrize(("field", "value"), [("labels", ""), ("closed", "not_planned")])
async def test_an_issue_that_is_no_longer_marked_becomes_no_task(
    desk: TrackedDesk, field: str, value: str
) -> None:
    """What was taken back before the mark was read counts."""
    key, olga = adopted(desk, labels=()), desk.tracker.account("olga")
    desk.tracker.change_field(key, olga, "labels", "agentic-os")
    desk.tracker.change_field(key, olga, field, value)
    await desk.listen()
    assert [] == (await desk.show("/api/tasks"))["items"]


@pytest.mark.parametrize("later", [False, True])
async def test_an_adoption_survives_a_crash_in_its_middle(desk: TrackedDesk, later: bool) -> None:  # noqa: FBT001
    """When the process died after the link and before the task, the next try makes the task of that link, and one."""
    key = adopted(desk, labels=() if later else ("agentic-os",))
    if later:
        await desk.listen()
        desk.tracker.change_field(key, desk.tracker.account("olga"), "labels", "agentic-os")
    await desk.worker.look_around()
    (item,) = await desk.backend.issues.open_items(10)
    inbox = desk.backend.inbox
    assert inbox is not None
    log, inbox._log = inbox._log, None  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        await inbox.act(item)
    inbox._log = log
    linked = await desk.backend.issues.task_of("memory", key)
    assert [] == (await desk.show("/api/tasks"))["items"]
    await desk.work()
    await inbox._judge(item.observation)
    assert [linked] == [t["id"] for t in (await desk.show("/api/tasks"))["items"]]
    assert [key] == list(desk.tracker.issues)


@pytest.mark.parametrize(
    ("author", "labels"),
    [
        ("olga", ()),
        ("olga", ("bug",)),
        ("vera", ("agentic-os",)),
        ("stranger", ("agentic-os",)),
        ("coder", ("agentic-os",)),
    ],
)
async def test_other_issues_are_left_alone(desk: TrackedDesk, author: str, labels: tuple[str, ...]) -> None:
    """Issues without the label, and those of people who may not create tasks, of strangers and agents, stay issues."""
    await desk.executor()
    key = adopted(desk, author, labels)
    await desk.listen()
    assert [] == (await desk.show("/api/tasks"))["items"]
    assert {} == desk.tracker.issue(key).comments


async def test_every_observation_ends_with_an_outcome(desk: TrackedDesk, tracker: MemoryTracker) -> None:
    """Nothing that came in is left without a word on what became of it and why."""
    task_id = await desk.planned()
    issue = await desk.issue(task_id)
    ada = tracker.account("ada")
    tracker.comment(issue.key, ada, "Hello.")
    tracker.comment(issue.key, ada, "/status")
    tracker.comment(tracker.open_issue(ada, "Mine"), ada, "/cancel")
    tracker.change_field(issue.key, ada, "labels", "x")
    tracker.report_run(issue.key, tracker.wakes[0], "ended")
    tracker.delete_issue(issue.key, ada)
    await desk.listen()
    found = await desk.rows("select outcome, reason from es.inbox where done_at is not null order by id")
    assert [
        ("ignored", "no directive in it"),
        ("done", "/status"),
        ("ignored", "it has no label agentic-os, and is in no project of ours"),
        ("ignored", "the issue shows no task"),
        ("done", "adopted: labels"),
        ("ignored", "it changes no lease"),
        ("done", "the issue is put back"),
    ] == found
    assert [] == list(await desk.backend.issues.open_items(10))


async def test_a_run_that_ended_is_no_result(desk: TrackedDesk, tracker: MemoryTracker) -> None:
    """That an agent's run is over ends nothing at once: its last callback may still be on its way."""
    await desk.executor()
    task_id = await desk.task()
    token = await desk.ack(task_id)
    tracker.report_run((await desk.issue(task_id)).key, tracker.wakes[0], "ended", "exit 0")
    await desk.listen()
    assert "executing" == await desk.phase(task_id)
    assert 202 == (await desk.send(callback("heartbeat", task_id, 1, 2, {}), token)).status_code


async def test_a_run_that_ended_shortens_the_lease(desk: TrackedDesk, tracker: MemoryTracker) -> None:
    """An executor whose run is over, and that handed in nothing, expires within a minute."""
    await desk.executor()
    task_id = await desk.task()
    await desk.ack(task_id)
    tracker.report_run((await desk.issue(task_id)).key, tracker.wakes[0], "ended", "exit 1")
    await desk.listen()
    lease = datetime.fromisoformat((await desk.show(f"/api/tasks/{task_id}"))["attempt"]["lease_expires_at"])
    assert now() < lease <= now() + timedelta(seconds=60)
    assert [(lease,)] == await desk.rows("select at from es.deadline where kind = 'lease'")


async def test_how_a_run_ended_is_told_without_its_secrets(desk: TrackedDesk, tracker: MemoryTracker) -> None:
    """What the log says last is kept with the event, and a token in it is not, so that people see why nothing came."""
    await desk.executor()
    task_id = await desk.task()
    attempt_token = await desk.ack(task_id)
    said = f"exit code 0. Its log ends:\nUsing {attempt_token}\nthe model cannot be reached"
    tracker.report_run((await desk.issue(task_id)).key, tracker.wakes[0], "ended", said)
    await desk.listen()
    told = "select payload from es.event where type = 'run.ended'"
    ((stored,),) = await desk.rows(told)
    assert "the model cannot be reached" in stored
    assert "[redacted:" in stored
    assert attempt_token not in stored


async def test_a_run_that_is_alive_renews_the_lease(
    desk: TrackedDesk, tracker: MemoryTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the tracker sees the run, a silent executor keeps its attempt; what is seen soon after changes nothing."""
    await desk.executor()
    task_id = await desk.task()
    await desk.ack(task_id)
    key, wake = (await desk.issue(task_id)).key, tracker.wakes[0]
    tracker.report_run(key, wake, "alive")
    await desk.listen()
    assert 0 == (await desk.events(task_id)).count("lease.renewed_by_run")

    def ahead() -> datetime:
        return now() + timedelta(minutes=6)

    monkeypatch.setattr(inbox, "now", ahead)
    tracker.now = ahead
    for _ in range(2):
        tracker.report_run(key, wake, "alive")
    await desk.listen()
    assert 1 == (await desk.events(task_id)).count("lease.renewed_by_run")
    lease = datetime.fromisoformat((await desk.show(f"/api/tasks/{task_id}"))["attempt"]["lease_expires_at"])
    assert now() + timedelta(minutes=20) < lease


async def test_a_run_on_another_issue_moves_nothing(desk: TrackedDesk, tracker: MemoryTracker) -> None:
    """What a tracker says of a run counts for the task that its issue shows, and for no other."""
    await desk.executor()
    task_id, other = await desk.task(), await desk.task()
    await desk.ack(task_id)
    tracker.report_run((await desk.issue(other)).key, tracker.wakes[0], "ended")
    await desk.listen()
    assert 0 == (await desk.events(task_id)).count("run.ended")


async def test_the_feed_goes_on_where_it_was_read(desk: TrackedDesk, tracker: MemoryTracker) -> None:
    """After a restart the feed is read from its stored cursor, and nothing is heard twice or lost."""
    task_id = await desk.planned()
    await desk.comment(task_id, "rita", "/help")
    tracker.comment((await desk.issue(task_id)).key, tracker.account("rita"), await line(desk, task_id))
    heard = desk.backend.inbox
    assert heard is not None
    heard._cursor = None
    await desk.listen()
    assert [("help", "done", None), ("approve", "done", None)] == await desk.receipts(task_id)


async def test_a_tracker_that_is_away_loses_no_comment(desk: TrackedDesk, tracker: MemoryTracker) -> None:
    """A reaction that cannot be shown is no failure of the directive."""
    task_id = await desk.planned()
    tracker.comment((await desk.issue(task_id)).key, tracker.account("rita"), await line(desk, task_id))
    await desk.worker.look_around()
    tracker.fail_next(before=True)
    await desk.worker.drain_inbox()
    assert [("approve", "done", None)] == await desk.receipts(task_id)


async def test_an_observation_that_breaks_us_is_set_aside(
    desk: TrackedDesk, tracker: MemoryTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours at one comment is logged and kept with it, and the comments behind it are heard."""
    task_id = await desk.planned()
    execute = desk.backend.directives.execute

    async def broken(task: str, text: str, *arguments: Any) -> Any:
        if text == "/help":
            raise RuntimeError("broken")
        return await execute(task, text, *arguments)

    monkeypatch.setattr(desk.backend.directives, "execute", broken)
    await desk.comment(task_id, "rita", "/help")
    await desk.comment(task_id, "rita", await line(desk, task_id))
    assert "dispatched" == await desk.phase(task_id)
    assert [("failed", "RuntimeError: broken"), ("done", "/approve")] == await desk.rows(
        "select outcome, reason from es.inbox order by id"
    )


async def test_a_death_before_the_receipt_repeats_nothing(
    desk: TrackedDesk, tracker: MemoryTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was carried out, and not yet answered when its worker died, is answered by the next, and not repeated."""
    await desk.executor()
    task_id = await desk.task()
    tracker.comment((await desk.issue(task_id)).key, tracker.account("ada"), "/hold wait")
    await desk.worker.look_around()

    write = desk.backend.issues.receipt

    async def killed(receipt: DirectiveReceipt) -> None:
        if receipt.outcome != "received":
            raise StoreUnavailable("killed")
        await write(receipt)

    with monkeypatch.context() as patched:
        patched.setattr(desk.backend.issues, "receipt", killed)
        with pytest.raises(StoreUnavailable):
            await desk.worker.drain_inbox()
    handle = desk.backend.directives.execute
    olga = await desk.backend.registry.by_name("olga")
    await handle(task_id, "/unhold", olga, Source(seen_at=now(), cause="by-hand"))
    await desk.work()
    assert {("hold", "done", None), ("unhold", "done", None)} == set(await desk.receipts(task_id))
    held = [t for t in await desk.events(task_id) if t in ("task.held", "hold.released")]
    assert ["task.held", "hold.released"] == held


async def test_two_workers_act_once_and_in_order(
    desk: TrackedDesk, tracker: MemoryTracker, open_test_backend: OpenBackend
) -> None:
    """Two workers at one inbox: each comment is carried out once, and those of an issue in their order."""
    await desk.executor()
    tasks = [await desk.task() for _ in range(4)]
    for n in range(5):
        for task_id in tasks:
            key = (await desk.issue(task_id)).key
            tracker.comment(key, tracker.account("ada"), f"/hold {n}")
            tracker.comment(key, tracker.account("ada"), f"/unhold {n}")
    async with open_test_backend(control_plane=desk.plane) as other:
        workers = (desk.worker, Worker(other))
        await asyncio.gather(*(each.look_around() for each in workers))
        await asyncio.gather(*(each.drain_inbox() for each in workers))
    wanted = [(verb, f"/{verb} {n}", "done") for n in range(5) for verb in ("hold", "unhold")]
    for task_id in tasks:
        found = await desk.backend.issues.receipts(task_id, 50)
        assert wanted == [(r.verb, r.text, r.outcome) for r in reversed(found)]
        held = [t for t in await desk.events(task_id) if t in ("task.held", "hold.released")]
        assert ["task.held", "hold.released"] * 5 == held
