"""The breaker of adoptions: issues beyond it are held back, say so once, and become tasks by themselves."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.application.test_inbox import adopted
from tests.conftest import Database, OpenBackend
from tests.desk import PEOPLE, open_client
from tests.tracked_desk import CountingTracker, RememberingPlane, TrackedDesk

from agentic_os.application.breakers import RateBreakers
from agentic_os.domain.policy import Breakers, RateBreaker, RuleSet
from agentic_os.worker import Worker

HOUR = timedelta(hours=1)
TWO = RateBreaker(count=2, within=HOUR)


@pytest.fixture
async def desk(
    open_test_backend: OpenBackend, database: Database, tracker: CountingTracker
) -> AsyncIterator[TrackedDesk]:
    """Open a desk under whose policy two issues may become tasks an hour, and two routines run."""
    policy = RuleSet(bundle="sha256:two", rules=(), breakers=Breakers(adoption=TWO, routine=TWO))
    plane = RememberingPlane(tracker)
    async with (
        open_test_backend(policy=policy, control_plane=plane) as backend,
        open_client(backend) as client,
    ):
        found = TrackedDesk(backend, client, database.owner)
        found.plane, found.tracker = plane, tracker
        await found.staff()
        await found.introduce(*PEOPLE)
        yield found


async def issues_of_tasks(desk: TrackedDesk) -> set[str]:
    """Say which issues are tasks."""
    return {t["issue"]["key"] for t in (await desk.show("/api/tasks"))["items"]}


async def trips(desk: TrackedDesk, name: str) -> list[dict[str, Any]]:
    """Read how a breaker that is nobody's tripped."""
    return [dict(e.data) for e in await desk.backend.log.read_stream(f"breaker:{name}")]


async def hour_passes(desk: TrackedDesk) -> None:
    """Let what was counted and what is held back be an hour older."""
    await desk.execute("update es.counted set at = at - interval '1 hour'")
    await desk.execute("update es.inbox set not_before = not_before - interval '1 hour 1 second'")


async def test_adoptions_beyond_the_breaker_come_later_by_themselves(desk: TrackedDesk) -> None:
    """Of five issues at once two become tasks each hour, in the order of their arrival, with one note on the others."""
    keys = [adopted(desk) for _ in range(5)]
    await desk.listen()
    await desk.listen()
    assert set(keys[:2]) == await issues_of_tasks(desk)
    assert [("held", "the breaker of adoptions")] * 3 == await desk.rows(
        "select outcome, reason from es.inbox where done_at is null"
    )
    for key in keys[2:]:
        (note,) = desk.tracker.issue(key).comments.values()
        assert "no task yet" in note.body
    assert not (await desk.backend.work.outlook()).inbox
    (trip,) = await trips(desk, "adoption")
    assert (None, "adoption", 2) == (trip["executor"], trip["breaker"], trip["attempts"])
    ((until,),) = await desk.rows("select distinct not_before from es.inbox where done_at is null")
    assert datetime.fromisoformat(trip["until"]) == until

    desk.tracker.forget()
    await hour_passes(desk)
    assert (await desk.backend.work.outlook()).inbox
    await desk.listen()
    assert set(keys[:4]) == await issues_of_tasks(desk)
    assert 1 == len(desk.tracker.issue(keys[4]).comments)
    await hour_passes(desk)
    await desk.listen()
    assert set(keys) == await issues_of_tasks(desk)
    assert [("done", 5)] == await desk.rows("select outcome, count(*) from es.inbox group by 1")
    assert 2 == len(await trips(desk, "adoption"))


async def test_issues_that_are_labelled_later_are_counted_as_well(desk: TrackedDesk) -> None:
    """Of four issues that get the label at once two are held back; what loses it again meanwhile becomes no task."""
    olga = desk.tracker.account("olga")
    keys = [adopted(desk, labels=()) for _ in range(4)]
    for key in keys:
        desk.tracker.change_field(key, olga, "labels", "agentic-os")
    await desk.listen()
    assert set(keys[:2]) == await issues_of_tasks(desk)
    desk.tracker.change_field(keys[2], olga, "labels", "")
    await hour_passes(desk)
    await desk.listen()
    assert {*keys[:2], keys[3]} == await issues_of_tasks(desk)


async def test_an_issue_that_is_gone_takes_no_room(desk: TrackedDesk) -> None:
    """What was deleted before it could become a task is not counted, nor does it hold up the others."""
    keys = [adopted(desk) for _ in range(4)]
    await desk.worker.look_around()
    for key in (keys[0], keys[3]):
        desk.tracker.delete_issue(key, desk.tracker.account("ada"))
    await desk.work()
    assert set(keys[1:3]) == await issues_of_tasks(desk)
    reasons = "select reason from es.inbox where observation ->> 'kind' = 'IssueOpened' order by id"
    found = [reason for (reason,) in await desk.rows(reasons)]
    assert ("the issue is gone", "the issue is gone") == (found[0], found[3])


async def test_an_adoption_that_was_cut_short_counts_once(desk: TrackedDesk) -> None:
    """A process that died after counting and before the task is there counts the same issue no second time."""
    key = adopted(desk)
    assert None is await desk.backend.inbox._breakers.adoption(f"memory:{key}")  # type: ignore[union-attr]
    other = adopted(desk)
    await desk.listen()
    assert {key, other} == await issues_of_tasks(desk)
    assert [(2,)] == await desk.rows("select count(*) from es.counted")


async def test_another_bundle_lets_in_what_was_held_back(desk: TrackedDesk) -> None:
    """Whoever applies a policy without the breaker need not wait for the hour to pass."""
    keys = [adopted(desk) for _ in range(3)]
    await desk.listen()
    answer = await desk.post(
        "/api/governance", {"documents": {"policy.yaml": "rules: []\n"}, "reason": "Open."}, "ada"
    )
    assert 200 == answer.status_code, answer.text
    await desk.work()
    assert set(keys) == await issues_of_tasks(desk)


async def test_a_bundle_of_another_server_lets_in_what_is_being_held_back(
    desk: TrackedDesk, open_test_backend: OpenBackend
) -> None:
    """It was applied before this server held an issue back under the policy before, and lets it in all the same."""
    keys = [adopted(desk) for _ in range(3)]
    await desk.worker.look_around()
    async with open_test_backend(control_plane=RememberingPlane(desk.tracker)) as other:
        await other.governing.apply(
            await other.governing.read({"policy.yaml": "rules: []\n"}), "ada", "Open."
        )
    await desk.work()
    assert set(keys[:2]) == await issues_of_tasks(desk)
    assert [("another policy came into force",)] == await desk.rows(
        "select reason from es.inbox where outcome = 'held' and not_before <= now() + interval '1 second'"
    )
    await desk.execute("update es.inbox set not_before = not_before - interval '1 second'")
    await desk.work()
    assert set(keys) == await issues_of_tasks(desk)


async def test_what_is_withdrawn_while_it_is_held_back_becomes_no_task(desk: TrackedDesk) -> None:
    """Closed, or without its label, it takes no room; what was rewritten meanwhile is a task as it reads now."""
    keys = [adopted(desk) for _ in range(6)]
    await desk.listen()
    olga = desk.tracker.account("olga")
    desk.tracker.change_field(keys[2], olga, "closed", "not_planned")
    desk.tracker.change_field(keys[3], olga, "labels", "")
    desk.tracker.change_field(keys[4], olga, "title", "Fix the other one")
    desk.tracker.change_field(keys[4], olga, "body", "That one is broken.")
    await hour_passes(desk)
    await desk.listen()
    assert {*keys[:2], *keys[4:]} == await issues_of_tasks(desk)
    withdrawn = (
        "select count(*) from es.inbox where outcome = 'ignored' and reason = 'it was withdrawn meanwhile'"
    )
    assert [(2,)] == await desk.rows(withdrawn)
    tasks = (await desk.show("/api/tasks"))["items"]
    (rewritten,) = [t["id"] for t in tasks if t["issue"]["key"] == keys[4]]
    shown = await desk.show(f"/api/tasks/{rewritten}")
    assert ("Fix the other one", "That one is broken.") == (shown["title"], shown["goal"])


async def test_an_issue_that_is_held_back_wakes_the_worker(
    open_test_backend: OpenBackend, desk: TrackedDesk
) -> None:
    """At its time the inbox is looked at again, without anybody asking."""
    rate = RateBreaker(count=1, within=timedelta(seconds=2))
    policy = RuleSet(bundle="sha256:quick", rules=(), breakers=Breakers(adoption=rate))
    await desk.executor()
    for _ in range(2):
        adopted(desk)
    async with open_test_backend(policy=policy, control_plane=RememberingPlane(desk.tracker)) as backend:
        running = asyncio.create_task(Worker(backend).run())
        try:
            for _ in range(2):
                await asyncio.wait_for(desk.tracker.woken.get(), 60)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    (trip,) = await trips(desk, "adoption")
    assert 1 == trip["attempts"]


async def test_what_is_held_back_is_stored_with_its_time(desk: TrackedDesk) -> None:
    """Who acts on an observation hears until when it is held back, which is what the store holds."""
    for _ in range(3):
        adopted(desk)
    await desk.worker.look_around()
    *_, last = await desk.backend.issues.open_items(10)
    inbox = desk.backend.inbox
    assert inbox is not None
    for item in await desk.backend.issues.open_items(10):
        until = await inbox.act(item)
        assert (until is not None) == (item.id == last.id)
    ((stored,),) = await desk.rows("select not_before from es.inbox where id = %s", last.id)
    assert until is not None
    assert until == stored.astimezone(UTC)


async def test_runs_of_routines_are_counted(desk: TrackedDesk) -> None:
    """What starts routines is told until when it must wait, and a run that is named again is counted once."""
    policy = desk.backend.policy
    breakers = RateBreakers(registry=desk.backend.registry, work=desk.backend.work, policy=policy)
    for ref in ("nightly:1", "nightly:1", "weekly:1"):
        assert None is await breakers.routine(ref)
    until = await breakers.routine("nightly:2")
    (trip,) = await trips(desk, "routine")
    assert until == datetime.fromisoformat(trip["until"])
    await breakers.give_back("routine", ["weekly:1"])
    assert None is await breakers.routine("nightly:2")
    assert None is await breakers.adoption("memory:1")
    assert None is await breakers.task_request("coder", ["a", "b", "c"])


async def test_issues_of_routines_have_a_breaker_of_their_own(desk: TrackedDesk) -> None:
    """Those beyond it are held back, and those of people are let in beside them."""
    olga = desk.tracker.account("olga")
    routine = [
        desk.tracker.open_issue(olga, "Audit", labels=["agentic-os"], routine="nightly") for _ in range(3)
    ]
    person = adopted(desk)
    await desk.listen()
    assert {*routine[:2], person} == await issues_of_tasks(desk)
    assert [("held", "the breaker of routines")] == await desk.rows(
        "select outcome, reason from es.inbox where done_at is null"
    )
    (trip,) = await trips(desk, "routine")
    assert (2, []) == (trip["attempts"], await trips(desk, "adoption"))
    await hour_passes(desk)
    await desk.listen()
    assert {*routine, person} == await issues_of_tasks(desk)
