"""Directives on a tracker: received, tried, written down once, answered, and kept from running in circles."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.desk import BODIES, callback
from tests.tracked_desk import TrackedDesk

from agentic_os.application.directives import ANSWERED
from agentic_os.application.ports import Registry
from agentic_os.domain.directive import parse
from agentic_os.domain.documents import Participant


async def line(desk: TrackedDesk, task_id: str) -> str:
    """Compose the exact approval of the plan under review."""
    plan = (await desk.show(f"/api/tasks/{task_id}"))["plan"]
    return f"/approve v{plan['version']}@{plan['digest'][7:15]}"


async def answers(desk: TrackedDesk, task_id: str, kind: str = "refused:") -> list[str]:
    """Read our notes that answer directives."""
    return [text for marker, text in (await desk.notes(task_id)).items() if marker.startswith(kind)]


async def brief_of(desk: TrackedDesk, task_id: str) -> dict[str, Any]:
    """Read the brief of the latest attempt."""
    return dict((await desk.show(f"/api/tasks/{task_id}/brief"))["brief"])


async def revised(desk: TrackedDesk, task_id: str) -> dict[str, Any]:
    """Compose the second plan, which answers every item of the review."""
    items = (await brief_of(desk, task_id))["review_items"]
    answered = [{"item_id": item["id"], "how": f"Did: {item['text']}"} for item in items]
    return callback("plan", task_id, 2, 2, BODIES["plan"] | {"summary": "Other.", "responds_to": answered})


# Receipts and reactions


async def test_a_directive_is_seen_before_it_is_done(desk: TrackedDesk, monkeypatch: pytest.MonkeyPatch):
    """The comment shows at once that it was read, and then what became of it; so does its receipt."""
    task_id = await desk.planned()
    shown: list[str] = []
    stored: list[str] = []
    react, receipt = desk.plane.react, desk.backend.issues.receipt

    async def reacting(key: str, comment_id: str, reaction: Any) -> None:
        shown.append(reaction)
        await react(key, comment_id, reaction)

    async def storing(found: Any) -> None:
        stored.append(found.outcome)
        await receipt(found)

    monkeypatch.setattr(desk.plane, "react", reacting)
    monkeypatch.setattr(desk.backend.issues, "receipt", storing)
    await desk.comment(task_id, "rita", await line(desk, task_id))
    assert (["seen", "done"], ["received", "done"]) == (shown, stored)
    await desk.comment(task_id, "rita", "/approve v1@00000000")
    assert (["seen", "refused"], ["received", "refused"]) == (shown[2:], stored[2:])


async def test_a_receipt_survives_a_crash_and_nothing_is_done_twice(desk: TrackedDesk):
    """What was read but not finished is finished by the next try; what has its outcome is not tried again."""
    task_id = await desk.planned()
    key = (await desk.issue(task_id)).key
    desk.tracker.comment(key, desk.tracker.account("olga"), "/reassign @coder\n/note Mind it.")
    await desk.worker.look_around()
    (item,) = await desk.backend.issues.open_items(10)
    inbox = desk.backend.inbox
    assert inbox is not None
    await inbox._judge(item.observation)
    before = await desk.events(task_id)
    await desk.work()
    assert before == await desk.events(task_id)
    assert [("reassign", "done", None), ("note", "done", None)] == await desk.receipts(task_id)
    desk.tracker.comment(key, desk.tracker.account("olga"), "/hold")
    await desk.worker.look_around()
    (held,) = await desk.backend.issues.open_items(10)
    await inbox._judge(held.observation)
    await desk.direct(task_id, "/unhold", "olga")
    assert 1 == (await desk.events(task_id)).count("task.held"), "what was released is not held again"
    await desk.execute("delete from es.directive where verb in ('hold', 'unhold')")
    await desk.execute("update es.directive set outcome = 'received', message = ''")
    await inbox._judge(item.observation)
    assert 1 == (await desk.events(task_id)).count("note.taken")
    assert [("reassign", "done", None), ("note", "done", None)] == await desk.receipts(task_id)


async def test_many_refusals_at_once_are_all_answered(desk: TrackedDesk):
    """No refusal goes unanswered because others came with it; the status shows the last five."""
    task_id = await desk.planned()
    await desk.comment(task_id, "rita", "\n".join(f"/frob{letter}" for letter in "abcdefgh"))
    assert 8 == len(await answers(desk, task_id))
    status = (await desk.notes(task_id))["status"]
    assert 5 == status.count("refused: There is no directive")


# Permission, on receipt and at the end


Change = Callable[[TrackedDesk], Awaitable[None]]


async def lose_the_role(desk: TrackedDesk) -> None:
    """Take the token's role."""
    await desk.execute("update es.principal set roles = array['viewer'] where name = 'rita'")


async def lose_the_account(desk: TrackedDesk) -> None:
    """Revoke the person."""
    await desk.execute("update es.principal set revoked_at = now() where name = 'rita'")


@pytest.mark.parametrize("happens", [lose_the_role, lose_the_account])
async def test_rights_that_end_meanwhile_do_not_count(
    desk: TrackedDesk, monkeypatch: pytest.MonkeyPatch, happens: Change
):
    """Whoever loses the right between the reading of the comment and the writing of the event decides nothing."""
    task_id = await desk.planned()
    approval = await line(desk, task_id)
    registry: Registry = desk.backend.registry
    participant = registry.participant

    async def once(principal_id: str) -> Participant:
        found = await participant(principal_id)
        monkeypatch.setattr(registry, "participant", participant)
        await happens(desk)
        return found

    monkeypatch.setattr(registry, "participant", once)
    await desk.comment(task_id, "rita", approval)
    assert [("approve", "refused", "rights_changed")] == await desk.receipts(task_id)
    assert "plan_review" == await desk.phase(task_id)


# Bare approvals


@pytest.fixture
async def lenient(desk: TrackedDesk) -> TrackedDesk:
    """Let approvals that name nothing count."""
    documents = {"policy.yaml": "defaults: {bare_approve: true}\n"}
    answer = await desk.post("/api/governance", {"documents": documents, "reason": "Short."}, "ada")
    assert 200 == answer.status_code, answer.text
    return desk


async def test_a_bare_approval_counts_where_policy_lets_it(lenient: TrackedDesk):
    """With the plan on the issue before it, `/approve` alone means that plan."""
    task_id = await lenient.planned()
    await lenient.comment(task_id, "rita", "/approve")
    assert "dispatched" == await lenient.phase(task_id)


async def test_a_bare_approval_of_what_was_not_shown_yet_is_refused(lenient: TrackedDesk):
    """An `/approve` that was written before the new version was on the issue does not approve it unread."""
    task_id = await lenient.planned()
    await lenient.comment(task_id, "rita", "/revise\n- Shorter")
    plan, credential = await revised(lenient, task_id), await lenient.ack(task_id)
    assert 202 == (await lenient.send(plan, credential)).status_code
    key = (await lenient.issue(task_id)).key
    lenient.tracker.comment(key, lenient.tracker.account("rita"), "/approve")
    await lenient.worker.look_around()
    await lenient.worker.drain_inbox()
    assert ("approve", "refused", "confirmation_required") == (await lenient.receipts(task_id))[-1]
    await lenient.work()
    (answer,) = await answers(lenient, task_id)
    assert await line(lenient, task_id) in answer
    await lenient.comment(task_id, "rita", "/approve")
    assert "dispatched" == await lenient.phase(task_id)


# What each verb does


async def test_help_is_what_would_be_carried_out(desk: TrackedDesk):
    """Each line that /help offers is done when its author writes it, and nobody is offered what is refused."""
    task_id = await desk.planned()
    offered = {
        name: [
            part.split("`")[1]
            for part in (await desk.direct(task_id, "/help", name))["message"].splitlines()
            if part.startswith("- `/")
        ]
        for name in ("rita", "olga", "ada")
    }
    assert ["approve", "reassign"] == [
        next(verb for verb in ("approve", "reassign") if any(o.startswith(f"/{verb}") for o in offered[name]))
        for name in ("rita", "olga")
    ]
    for offer in offered["ada"]:
        fresh = await desk.task(mode="plan_first")
        await desk.submit("plan", fresh, await desk.ack(fresh))
        text = offer.replace("@NAME", "@coder") + "\n- Something"
        if parse(offer)[0].version is not None:
            text = text.replace(offer.partition(" ")[2], (await line(desk, fresh)).partition(" ")[2])
        receipt = await desk.direct(fresh, text)
        assert "done" == receipt["outcome"], (text, receipt)
    for name in ("rita", "olga"):
        for kept in set(offered["ada"]) - set(offered[name]):
            receipt = await desk.direct(task_id, kept + "\n- Something", name)
            assert "refused" == receipt["outcome"], (name, kept, receipt)


async def test_help_names_the_edit_of_a_plan_where_it_would_be_taken(desk: TrackedDesk):
    """No directive edits a plan, so that who may is told how else; afterwards nobody is."""
    task_id = await desk.planned()
    how = f"agentic-os task edit-plan {task_id}"
    for name in ("rita", "olga"):
        assert how in (await desk.direct(task_id, "/help", name))["message"]
    await desk.approve(task_id)
    assert how not in (await desk.direct(task_id, "/help", "rita"))["message"]


async def test_help_leaves_out_what_policy_denies(desk: TrackedDesk):
    """A rule that keeps people from a directive keeps it from their list too."""
    policy = (
        "rules:\n  - id: no-retreat\n    on: directive\n"
        "    when: {all: [{field: directive.verb, eq: reject}]}\n    deny: true\n"
    )
    task_id = await desk.planned()
    assert "/reject" in (await desk.direct(task_id, "/help", "rita"))["message"]
    await desk.post("/api/governance", {"documents": {"policy.yaml": policy}, "reason": "So."}, "ada")
    assert "/reject" not in (await desk.direct(task_id, "/help", "rita"))["message"]
    refused = await desk.direct(task_id, "/reject v1 No.", "rita")
    assert ("refused", "no-retreat") == (refused["outcome"], refused["rule"])


async def test_why_says_who_decided_and_what_would_change_it(desk: TrackedDesk):
    """`/why` is answered in words: the phase, the last fact, the votes, what was refused, and the rules."""
    policy = (
        "rules:\n"
        "  - {id: plans, on: task.received, when: {all: [{field: task.project, eq: default}]},\n"
        "     require: {mode: plan_first}, reason: Look first.}\n"
    )
    await desk.post("/api/governance", {"documents": {"policy.yaml": policy}, "reason": "So."}, "ada")
    task_id = await desk.planned()
    await desk.comment(task_id, "coder", await line(desk, task_id))
    await desk.comment(task_id, "vera", "/why")
    (told,) = await answers(desk, task_id, "answer:")
    for words in (
        "The task is plan_review.",
        "`plan.submitted`, coder",
        "self_review",
        "by rule plans",
        "because: Look first.",
        "What would change it",
    ):
        assert words in told, told
    assert [] == parse(told)


@pytest.mark.parametrize("asked", ["/status", "/why"])
async def test_what_a_task_waits_for_is_told_to_whoever_asks(desk: TrackedDesk, asked: str):
    """A task that nobody can take says so on its issue, and no longer once it is held, which is what counts then."""
    task_id = await desk.task()
    await desk.work()
    told = await desk.direct(task_id, asked, "olga")
    assert "It waits for an executor that may take it" in told["message"].splitlines()[0]
    await desk.direct(task_id, "/hold Later.", "olga")
    assert "It waits for" not in (await desk.direct(task_id, asked, "olga"))["message"]


async def test_a_note_is_read_by_whoever_comes_next_and_decides_nothing(desk: TrackedDesk):
    """Remarks are in the next brief with their authors, the latest ten, and go together with a decision."""
    task_id = await desk.planned()
    phase = await desk.phase(task_id)
    for number in range(11):
        await desk.direct(task_id, f"/note Remark {number}", "olga")
    assert phase == await desk.phase(task_id)
    await desk.comment(task_id, "rita", f"{await line(desk, task_id)}\n/note Look at\nthe log.")
    notes = (await brief_of(desk, task_id))["notes"]
    assert [{"by": "olga", "text": f"Remark {n}"} for n in range(2, 11)] == notes[:-1]
    assert {"by": "rita", "text": "Look at\nthe log."} == notes[-1]
    assert "rita: Look at the log." in (await desk.issue(task_id)).body
    await desk.backend.rebuild()
    assert "dispatched" == await desk.phase(task_id)


async def test_a_mode_gets_stricter_before_anybody_executes(desk: TrackedDesk):
    """What was offered and not taken is called back, and the next attempt plans; what is at work goes on."""
    await desk.executor()
    task_id = await desk.task()
    await desk.comment(task_id, "olga", "/mode plan_first")
    brief = await brief_of(desk, task_id)
    assert ("plan", "plan_first", 2) == (brief["step"], brief["mode"], brief["attempt"])
    assert "done" == (await desk.direct(task_id, "/mode plan_first", "olga"))["outcome"]
    looser = await desk.direct(task_id, "/mode direct", "olga")
    assert ("only_stricter", "/mode plan_first") == (looser["rule"], looser["paste"])
    attempt_token = await desk.ack(task_id)
    await desk.submit("plan", task_id, attempt_token, attempt=2)
    assert "plan_review" == await desk.phase(task_id)

    working = await desk.task()
    await desk.ack(working)
    refused = await desk.direct(working, "/mode plan_first", "olga")
    assert ("refused", "wrong_phase") == (refused["outcome"], refused["rule"])
    assert "executes already" in refused["message"]
    for text in ("/hold", "/reassign @coder", "/mode plan_first", "/unhold"):
        assert "done" == (await desk.direct(working, text, "olga"))["outcome"]
    assert "plan" == (await brief_of(desk, working))["step"]


async def test_a_priority_is_changed_by_an_operator(desk: TrackedDesk):
    """The new priority is shown, a repetition changes nothing, and any other word is refused with those there are."""
    task_id = await desk.planned()
    await desk.comment(task_id, "olga", "/priority critical before the release")
    assert "critical" == (await desk.show(f"/api/tasks/{task_id}"))["priority"]
    again = await desk.direct(task_id, "/priority critical", "olga")
    assert ("done", True) == (again["outcome"], "changed nothing" in again["message"])
    assert 1 == (await desk.events(task_id)).count("task.reprioritised")
    wrong = await desk.direct(task_id, "/priority asap", "olga")
    assert ("unknown_priority", True) == (wrong["rule"], "low, medium, high" in wrong["message"])
    assert "refused" == (await desk.direct(task_id, "/priority low", "rita"))["outcome"]


# The difference between two versions


async def test_a_revision_shows_what_changed_and_how_each_item_was_answered(desk: TrackedDesk):
    """The note that opens the second gate, and the review on the tracker, say what became of the first version."""
    task_id = await desk.planned()
    await desk.comment(task_id, "rita", "/revise\n- Say why\n- Fewer steps")
    plan, credential = await revised(desk, task_id), await desk.ack(task_id)
    assert 202 == (await desk.send(plan, credential)).status_code
    await desk.work()
    issue = await desk.issue(task_id)
    (review,) = issue.reviews.values()
    (note,) = [t for marker, t in (await desk.notes(task_id)).items() if marker == f"gate:{review.digest}"]
    for text in (f"{review.changes}\n{review.answers}", note):
        assert "**What changed since version 1**" in text
        assert "- summary: " in text
        assert "- Say why → Did: Say why" in text
        assert "- Fewer steps → Did: Fewer steps" in text
    assert "What changed" not in review.document


async def test_a_plan_that_leaves_items_unanswered_is_told_which(desk: TrackedDesk):
    """The executor reads the id and the words of what it has not answered."""
    task_id = await desk.planned()
    await desk.direct(task_id, "/revise v1\n- Say why\n- Fewer steps", "rita")
    first, second = (await brief_of(desk, task_id))["review_items"]
    credential = await desk.ack(task_id)
    body = BODIES["plan"] | {"summary": "Other.", "responds_to": [{"item_id": first["id"], "how": "Said."}]}
    answer = await desk.send(callback("plan", task_id, 2, 2, body), credential)
    problem = answer.json()
    assert "review_items_unanswered" == problem["code"]
    assert f"{second['id']} (Fewer steps)" in problem["detail"]
    assert first["id"] not in problem["detail"]


# Comments that answer comments


async def test_two_robots_do_not_talk_for_ever(desk: TrackedDesk):
    """An account that answers each of our notes with a directive gets so many notes an hour, and then none."""
    task_id = await desk.planned()
    seen = 0
    for turn in range(ANSWERED * 2):
        before = len(await desk.notes(task_id))
        await desk.comment(task_id, "stranger", f"/approve {turn}")
        seen += len(await desk.notes(task_id)) - before
    assert ANSWERED == seen
    receipts = await desk.receipts(task_id)
    assert ANSWERED * 2 == len(receipts)
    await desk.comment(task_id, "rita", "/help")
    assert 1 == len(await answers(desk, task_id, "answer:")), "others are answered all the same"


@pytest.mark.parametrize("action", ["edited", "deleted"])
async def test_an_edit_that_takes_a_directive_away_is_answered(desk: TrackedDesk, action: str):
    """Whoever edits or deletes what was carried out is told that it stays, whatever the comment says now."""
    task_id = await desk.planned()
    comment_id = await desk.comment(task_id, "rita", await line(desk, task_id))
    key, rita = (await desk.issue(task_id)).key, desk.tracker.account("rita")
    if action == "edited":
        desk.tracker.edit_comment(key, comment_id, rita, "Never mind.")
    else:
        desk.tracker.delete_comment(key, comment_id, rita)
    await desk.listen()
    assert ("approve", "refused", "created_only") == (await desk.receipts(task_id))[-1]
    (told,) = await answers(desk, task_id)
    assert f"The comment was {action}" in told
    assert "What it did stays: /approve." in told
    assert "dispatched" == await desk.phase(task_id)
