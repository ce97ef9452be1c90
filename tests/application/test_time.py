"""What time does to tasks: starts, due dates, freezes, breakers, and leases that lapsed while nobody served."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.conftest import Database, OpenBackend
from tests.desk import PEOPLE, Desk, callback, open_client
from tests.tracked_desk import CountingTracker, RememberingPlane, TrackedDesk

from agentic_os import worker
from agentic_os.application import callbacks, dispatch, outage
from agentic_os.clock import now
from agentic_os.domain.policy import Breaker, Breakers, FreezeWindow, RecurringFreeze, Rule, RuleSet
from agentic_os.worker import Worker

BLANK = RuleSet(bundle="sha256:blank", rules=())
HOUR = timedelta(hours=1)
OpenDesk = Callable[[RuleSet], AbstractAsyncContextManager[TrackedDesk]]


class Later:
    """A clock that a test moves on."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)

    def __call__(self) -> datetime:
        return now() + self._ahead

    def wait(self, **span: float) -> None:
        """Let time pass."""
        self._ahead += timedelta(**span)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    """Give the worker, the door and whoever looks at outages a clock that can be moved on."""
    clock = Later()
    for module in (worker, callbacks, outage):
        monkeypatch.setattr(module, "now", clock)
    return clock


@pytest.fixture
def open_desk(open_test_backend: OpenBackend, database: Database, tracker: CountingTracker) -> OpenDesk:
    """Open a desk under a policy, as one of several servers of the same store and tracker."""
    opened: list[Desk] = []

    @asynccontextmanager
    async def under(policy: RuleSet) -> AsyncIterator[TrackedDesk]:
        plane = RememberingPlane(tracker)
        async with (
            open_test_backend(policy=policy, control_plane=plane) as backend,
            open_client(backend) as client,
        ):
            found = TrackedDesk(backend, client, database.owner)
            found.plane, found.tracker = plane, tracker
            if not opened:
                await found.staff()
                await found.introduce(*PEOPLE)
                await found.executor()
            opened.append(found)
            await backend.registry.record_bundle(policy.bundle, {"bundle": policy.bundle}, "ada")
            yield found

    return under


def frozen(**changes: Any) -> RuleSet:
    """Freeze the project `default` for an hour around now."""
    window = FreezeWindow(
        id="year-end",
        start=now() - HOUR,
        until=now() + HOUR,
        projects=("def*",),
        reason="The books are closed.",
    )
    return replace(BLANK, bundle="sha256:frozen", freezes=(replace(window, **changes),))


async def test_a_task_begins_when_it_may(desk: TrackedDesk, later: Later) -> None:
    """A task that may not begin yet says until when, and is offered as soon as it may."""
    await desk.executor()
    start = now() + HOUR
    task_id = await desk.task(not_before=start.isoformat())
    shown = await desk.show(f"/api/tasks/{task_id}")
    assert ("ready", "its start", start) == (
        shown["phase"],
        shown["waiting_for"]["what"],
        datetime.fromisoformat(shown["waiting_for"]["deadline"]),
    )
    assert start == datetime.fromisoformat(shown["not_before"])
    assert "its start" in (await desk.notes(task_id))["status"]
    await desk.worker.drain_deadlines()
    assert [] == desk.tracker.wakes
    later.wait(hours=2)
    await desk.worker.drain_deadlines()
    await desk.work()
    assert "dispatched" == await desk.phase(task_id)


async def test_a_start_needs_its_zone(desk: TrackedDesk) -> None:
    """A start without an offset is refused, with the field."""
    body = {"title": "T", "goal": "G", "not_before": "2030-01-01T00:00:00"}
    answer = await desk.post("/api/tasks", body, "olga")
    assert (422, ["/not_before"]) == (answer.status_code, answer.json()["pointer"])


async def test_a_start_that_comes_wakes_the_worker(desk: TrackedDesk) -> None:
    """Nobody has to ask: the deadline itself has the task offered."""
    await desk.executor()
    running = asyncio.create_task(Worker(desk.backend).run())
    try:
        start = now() + timedelta(milliseconds=200)
        body = {"title": "T", "goal": "G", "not_before": start.isoformat()}
        await desk.post("/api/tasks", body, "olga")
        assert 1 == (await asyncio.wait_for(desk.tracker.woken.get(), 30)).attempt
        assert start <= now()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("on_due", ["notify", "escalate"])
async def test_what_is_late_is_said_once(open_desk: OpenDesk, later: Later, on_due: Any) -> None:
    """A task that is not done in time is shown as overdue; where policy escalates, an operator gets it."""
    rule = Rule(id="late-work", on="task.received", on_due=on_due)
    async with open_desk(replace(BLANK, rules=(rule,))) as desk:
        at_work = await desk.task(due=(now() + HOUR).isoformat())
        await desk.ack(at_work)
        waits = await desk.task(due=(now() + HOUR).isoformat(), assignee="role:qa")
        later.wait(minutes=61)
        for task_id in (at_work, waits):
            await desk.execute("delete from es.deadline where kind <> 'due' and task_id = %s", task_id)
        for _ in range(2):
            await desk.worker.drain_deadlines()
        await desk.work()
        assert [1, 1] == [(await desk.events(t)).count("task.overdue") for t in (at_work, waits)]
        phases = (await desk.phase(at_work), await desk.phase(waits))
        assert ("executing", "input_required" if on_due == "escalate" else "ready") == phases
        assert (await desk.show(f"/api/tasks/{at_work}"))["overdue"]
        assert (await desk.show(f"/api/tasks/{at_work}/why"))["overdue"]
        assert "**Overdue**" in (await desk.notes(at_work))["status"]


async def test_a_late_task_goes_to_an_operator_once_its_attempt_is_over(
    open_desk: OpenDesk, later: Later
) -> None:
    """What ran is not stopped; the next attempt is not opened before somebody decided."""
    rule = Rule(id="late-work", on="task.received", on_due="escalate")
    async with open_desk(replace(BLANK, rules=(rule,))) as desk:
        task_id = await desk.task(due=(now() + timedelta(minutes=2)).isoformat())
        token = await desk.ack(task_id)
        later.wait(minutes=3)
        await desk.worker.drain_deadlines()
        await desk.send(callback("failure", task_id, 1, 2), token)
        await desk.work()
        later.wait(minutes=10)
        await desk.worker.drain_deadlines()
        await desk.work()
        assert "input_required" == await desk.phase(task_id)
        await desk.direct(task_id, "/retry")
        assert "dispatched" == await desk.phase(task_id)


async def test_a_freeze_ends_by_itself(open_desk: OpenDesk, later: Later) -> None:
    """In a freeze nothing is offered, everybody sees why and until when, and at its end the task goes on."""
    policy = frozen()
    async with open_desk(policy) as desk:
        task_id = await desk.task()
        until = policy.freezes[0].until
        shown = await desk.show(f"/api/tasks/{task_id}")
        assert "ready" == shown["phase"]
        found = shown["frozen"]
        assert (until, "year-end", "The books are closed.") == (
            datetime.fromisoformat(found["until"]),
            found["rule"],
            found["reason"],
        )
        assert "freeze year-end" in shown["waiting_for"]["what"]
        assert "freeze year-end" in (await desk.notes(task_id))["status"]
        assert found == (await desk.show(f"/api/tasks/{task_id}/why"))["frozen"]
        await desk.pass_over(task_id)
        assert 1 == (await desk.events(task_id)).count("task.frozen")
        later.wait(hours=2)
        await desk.worker.drain_deadlines()
        await desk.work()
        assert "dispatched" == await desk.phase(task_id)
        assert 1 == (await desk.events(task_id)).count("task.thawed")
        assert None is (await desk.show(f"/api/tasks/{task_id}"))["frozen"]


async def test_a_freeze_that_recurs_holds_again(
    open_desk: OpenDesk, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of an occurrence the task goes on, the next one freezes it again, and nothing more is recorded."""
    monkeypatch.setattr(dispatch, "now", later)
    begin = now().replace(minute=0, second=0, microsecond=0)
    span = 2 * HOUR

    def weekly(at: datetime) -> tuple[datetime, datetime] | None:
        start = begin + (at - begin) // timedelta(weeks=1) * timedelta(weeks=1)
        return (start, start + span) if at < start + span else None

    freeze = RecurringFreeze(
        id="weekly",
        cron="",
        time_zone="UTC",
        lasts=span,
        projects=("*",),
        occurrences=weekly,
        reason="Quiet.",
    )
    async with open_desk(replace(BLANK, freezes=(freeze,))) as desk:
        task_id = await desk.task()

        async def frozen_until() -> datetime | None:
            found = (await desk.show(f"/api/tasks/{task_id}"))["frozen"]
            return found and datetime.fromisoformat(found["until"])

        async def pass_by() -> None:
            await desk.worker.drain_deadlines()
            for _ in range(2):
                await desk.work()
                await desk.backend.dispatcher.advance(task_id)

        await pass_by()
        assert begin + span == await frozen_until()
        assert [("freeze", begin + span)] == await desk.rows("select kind, at from es.deadline")
        later.wait(seconds=(begin + span - now()).total_seconds() + 1)
        await pass_by()
        assert ("dispatched", None) == (await desk.phase(task_id), await frozen_until())
        token = await desk.ack(task_id)
        later.wait(days=7, hours=-1)
        await desk.send(callback("failure", task_id, 1, 2), token)
        await pass_by()
        later.wait(minutes=10)
        await pass_by()
        assert begin + timedelta(weeks=1) + span == await frozen_until()
        kinds = [name for name in await desk.events(task_id) if name in ("task.frozen", "task.thawed")]
        assert ["task.frozen", "task.thawed", "task.frozen"] == kinds
        later.wait(hours=1)
        await pass_by()
        assert None is await frozen_until()
        assert 2 == (await desk.events(task_id)).count("task.thawed")


async def test_other_projects_are_not_frozen(open_desk: OpenDesk) -> None:
    """A freeze is for the projects that it names, and for its span."""
    async with open_desk(frozen()) as desk:
        assert "dispatched" == await desk.phase(await desk.task(project="other"))
    async with open_desk(frozen(until=now())) as desk:
        assert "dispatched" == await desk.phase(await desk.task())


async def test_work_in_progress_goes_on_in_a_freeze(open_desk: OpenDesk) -> None:
    """Whoever is at work when a freeze begins is told to continue, and may finish."""
    async with open_desk(BLANK) as desk:
        task_id = await desk.task()
        token = await desk.ack(task_id)
    async with open_desk(frozen()) as desk:
        answer = await desk.send(callback("heartbeat", task_id, 1, 2, {}), token)
        assert "continue" == answer.json()["directive"]
        await desk.submit("result", task_id, token, seq=3)
        assert "completed" == await desk.phase(task_id)


async def test_a_policy_that_moves_or_lifts_a_freeze_is_seen(open_desk: OpenDesk) -> None:
    """A bundle that comes into force has every frozen task looked at again."""
    async with open_desk(frozen()) as desk:
        task_id = await desk.task()
        held = await desk.task()
        await desk.direct(held, "/hold")
    moved = frozen(until=now() + 2 * HOUR, id="longer")
    async with open_desk(replace(moved, bundle="sha256:moved")) as desk:
        await desk.work()
        for frozen_one in (task_id, held):
            assert "longer" == (await desk.show(f"/api/tasks/{frozen_one}"))["frozen"]["rule"]
    async with open_desk(BLANK) as desk:
        await desk.work()
        assert ("dispatched", "ready") == (await desk.phase(task_id), await desk.phase(held))
        assert None is (await desk.show(f"/api/tasks/{held}"))["frozen"]


async def test_a_task_that_is_tried_too_often_is_held(open_desk: OpenDesk, later: Later) -> None:
    """More attempts in a span than policy allows put the task on hold, and its issue says so."""
    breakers = Breakers(task=Breaker(attempts=2, within=HOUR))
    async with open_desk(replace(BLANK, breakers=breakers)) as desk:
        task_id = await desk.task()
        for _ in range(2):
            later.wait(minutes=6)
            await desk.worker.drain_deadlines()
            later.wait(minutes=6)
            await desk.worker.drain_deadlines()
            await desk.work()
        shown = await desk.show(f"/api/tasks/{task_id}")
        assert ("ready", ["system"]) == (shown["phase"], [h["by"] for h in shown["holds"]])
        assert 2 == (await desk.events(task_id)).count("attempt.offered")
        (note,) = [text for marker, text in (await desk.notes(task_id)).items() if marker.startswith("hold:")]
        assert "2 attempts within 3600 seconds" in note
        await desk.direct(task_id, "/unhold")
        assert "dispatched" == await desk.phase(task_id)


async def test_an_executor_that_gets_too_much_rests(open_desk: OpenDesk) -> None:
    """An executor with as many attempts as policy allows gets no other until the span has passed."""
    breakers = Breakers(executor=Breaker(attempts=2, within=HOUR))
    async with open_desk(replace(BLANK, breakers=breakers)) as desk:
        made = [await desk.task() for _ in range(4)]
        phases = [await desk.phase(task_id) for task_id in made]
        assert ["dispatched", "dispatched", "ready", "ready"] == phases
        what = (await desk.show(f"/api/tasks/{made[2]}"))["waiting_for"]["what"]
        assert "coder to be let on by its breaker at" in what
        assert what in (await desk.notes(made[2]))["status"]
        trips = [
            e for e in await desk.backend.log.read_stream("principal:coder") if e.type == "breaker.tripped"
        ]
        assert [2] == [e.data["attempts"] for e in trips]
        failures, until, problem = await desk.stale(made[2])
        assert (0, None) == (failures, problem)
        assert until == datetime.fromisoformat(trips[0].data["until"])
        await desk.execute("update es.offer set at = at - interval '1 hour'")
        await desk.hasten()
        await desk.work()
        assert ["dispatched"] * 4 == [await desk.phase(task_id) for task_id in made]
        assert [] == await desk.rows("select 1 from es.stale")


async def test_another_executor_takes_what_one_may_not_have(open_desk: OpenDesk) -> None:
    """The breaker of one executor keeps no task from another; what was refused is not counted."""
    breakers = Breakers(executor=Breaker(attempts=1, within=HOUR))
    async with open_desk(replace(BLANK, breakers=breakers)) as desk:
        await desk.executor("other", capacity=1)
        made = [await desk.task() for _ in range(2)]
        executors = [(await desk.show(f"/api/tasks/{t}"))["attempt"]["executor"] for t in made]
        assert ["coder", "other"] == sorted(executors)
        assert 2 == len(await desk.rows("select 1 from es.offer"))


async def test_a_lease_that_lapsed_unheard_gets_one_more(desk: TrackedDesk, later: Later) -> None:
    """After an outage what lapsed in it is extended before anything fires; a second outage gives none."""
    await desk.executor()
    await desk.worker.look_around()
    task_id, offered = await desk.task(), await desk.task()
    token = await desk.ack(task_id)
    later.wait(hours=1)
    assert 2 == await desk.backend.extend_lapsed()
    await desk.worker.drain_deadlines()
    assert ("executing", "dispatched") == (await desk.phase(task_id), await desk.phase(offered))
    assert 202 == (await desk.send(callback("heartbeat", task_id, 1, 2, {}), token)).status_code
    later.wait(hours=1)
    assert 0 == await desk.backend.extend_lapsed()
    await desk.worker.drain_deadlines()
    assert ("retry_wait", "retry_wait") == (await desk.phase(task_id), await desk.phase(offered))


async def test_a_lease_that_somebody_watched_lapse_gets_none(desk: TrackedDesk, later: Later) -> None:
    """What fell due before the last look at the clock was not in the outage."""
    await desk.executor()
    task_id = await desk.task()
    token = await desk.ack(task_id)
    await desk.execute("insert into es.served (at) values (now() + interval '30 minutes')")
    later.wait(hours=1)
    assert 0 == await desk.backend.extend_lapsed()
    answer = await desk.send(callback("heartbeat", task_id, 1, 2, {}), token)
    assert (409, "lease_lost") == (answer.status_code, answer.json()["code"])


async def test_a_process_that_slept_did_not_serve(desk: TrackedDesk, later: Later) -> None:
    """A worker that finds that it could not look for a while treats that as an outage, and tells who is extended."""
    await desk.executor()
    await desk.worker.look_around()
    task_id = await desk.task()
    await desk.ack(task_id)
    later.wait(hours=1)
    await desk.worker.look_around()
    await desk.worker.drain_deadlines()
    assert "executing" == await desk.phase(task_id)
    assert 1 == (await desk.events(task_id)).count("lease.extended")


async def test_two_workers_fire_each_deadline_once_and_in_order(open_desk: OpenDesk, later: Later) -> None:
    """After an outage two workers that drain at once yield each fact once, for each task in the order of instants."""
    async with open_desk(BLANK) as desk, open_desk(BLANK) as second:
        due = (now() + timedelta(minutes=2)).isoformat()
        made = [await desk.task(due=due) for _ in range(30)]
        later.wait(hours=9)
        await asyncio.gather(*(each.worker.drain_deadlines() for each in (desk, second) for _ in range(2)))
        for task_id in made:
            fired = [t for t in await desk.events(task_id) if t in {"task.overdue", "attempt.expired"}]
            assert ["task.overdue", "attempt.expired"] == fired
