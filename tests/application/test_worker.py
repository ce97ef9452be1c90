"""The worker: what falls due is done once, whoever commits wakes it, and it costs nothing while there is nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.conftest import Database, OpenBackend
from tests.desk import DOOR, Desk, callback, open_client
from tests.tracked_desk import TrackedDesk

from agentic_os import worker
from agentic_os.application.dispatch import Terms
from agentic_os.clock import now
from agentic_os.domain.policy import Obligations, RuleSet
from agentic_os.worker import Worker

BLANK = RuleSet(bundle="sha256:test", rules=()).defaults


class Later:
    """The worker's clock, which a test moves on."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)

    def __call__(self) -> Any:
        return now() + self._ahead

    def wait(self, **span: float) -> None:
        """Let time pass."""
        self._ahead += timedelta(**span)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    """Give the worker a clock that can be moved on."""
    clock = Later()
    monkeypatch.setattr(worker, "now", clock)
    return clock


async def test_an_offer_nobody_takes_expires_once(desk: TrackedDesk, later: Later) -> None:
    """The ack deadline closes the attempt once, the task waits for its retry, and then is offered again."""
    await desk.executor()
    task_id = await desk.task()
    await desk.worker.drain_deadlines()
    assert "dispatched" == await desk.phase(task_id)
    later.wait(minutes=6)
    for _ in range(2):
        await desk.worker.drain_deadlines()
    await desk.work()
    assert ["attempt.expired"] == [t for t in await desk.events(task_id) if t == "attempt.expired"]
    shown = await desk.show(f"/api/tasks/{task_id}")
    assert ("retry_wait", "expired") == (shown["phase"], shown["attempt"]["state"])
    assert None is (await desk.issue(task_id)).assignment
    later.wait(minutes=6)
    await desk.worker.drain_deadlines()
    await desk.work()
    assert (2, "offered") == await _attempt(desk, task_id)
    assert [1, 2] == [w.attempt for w in desk.tracker.wakes]


async def test_a_silent_executor_loses_its_lease_once(desk: TrackedDesk, later: Later) -> None:
    """The lease deadline closes the attempt; a callback before it would have put it off."""
    await desk.executor()
    task_id = await desk.task()
    token = await desk.ack(task_id)
    later.wait(minutes=14)
    await desk.worker.drain_deadlines()
    assert 202 == (await desk.send(callback("heartbeat", task_id, 1, 2, {}), token)).status_code
    later.wait(minutes=16)
    for _ in range(2):
        await desk.worker.drain_deadlines()
    assert 1 == (await desk.events(task_id)).count("attempt.expired")
    answer = await desk.send(callback("result", task_id, 1, 3), token)
    assert (409, "lease_lost") == (answer.status_code, answer.json()["code"])


async def test_a_lease_that_ends_with_the_ack_fires_at_once(
    open_test_backend: OpenBackend, database: Database
) -> None:
    """Terms without patience need no waiting: the deadline is due as soon as it is written."""
    terms = Terms(callback_url="http://desk" + DOOR, ack_within=timedelta(0), lease=timedelta(0))
    async with open_test_backend(terms=terms) as backend, open_client(backend) as client:
        desk = Desk(backend, client, database.owner)
        await desk.staff()
        await desk.executor()
        task_id = await desk.task()
        following = await desk.worker.drain_deadlines()
        assert "retry_wait" == await desk.phase(task_id)
        assert following is not None
        assert following > now()


async def test_deadlines_of_a_closed_attempt_are_gone(desk: TrackedDesk, later: Later) -> None:
    """Nothing is left to fire once the task has ended."""
    await desk.executor()
    task_id = await desk.task()
    await desk.submit("result", task_id, await desk.ack(task_id))
    assert [] == await desk.rows("select 1 from es.deadline")
    later.wait(days=30)
    events = await desk.events(task_id)
    assert None is await desk.worker.drain_deadlines()
    assert events == await desk.events(task_id)


async def test_retries_end_in_the_dead_letters(desk: TrackedDesk, later: Later) -> None:
    """After its retries a task waits for an operator without a deadline, and `/retry` drives it again."""
    await desk.executor()
    task_id = await desk.task()
    for _ in range(20):
        if await desk.phase(task_id) == "dead_letter":
            break
        later.wait(minutes=10)
        await desk.worker.drain_deadlines()
        await desk.work()
    shown = await desk.show(f"/api/tasks/{task_id}")
    assert ("dead_letter", "operator", None) == (
        shown["phase"],
        shown["waiting_for"]["owner"],
        shown["waiting_for"]["deadline"],
    )
    assert 4 == (await desk.events(task_id)).count("attempt.expired")
    assert None is await desk.worker.drain_deadlines()
    await desk.direct(task_id, "/retry fresh")
    assert (5, "offered") == await _attempt(desk, task_id)


async def test_a_failure_is_retried_when_it_says(desk: TrackedDesk, later: Later) -> None:
    """A retryable failure waits at least as long as the executor asked for, and fires once."""
    await desk.executor()
    task_id = await desk.task()
    await desk.send(callback("failure", task_id, 1, 2), await desk.ack(task_id))
    await desk.worker.drain_deadlines()
    later.wait(seconds=55)
    await desk.worker.drain_deadlines()
    assert "retry_wait" == await desk.phase(task_id)
    later.wait(seconds=10)
    for _ in range(2):
        await desk.worker.drain_deadlines()
    assert 1 == (await desk.events(task_id)).count("retry.released")
    await desk.work()
    assert (2, "offered") == await _attempt(desk, task_id)


@asynccontextmanager
async def _governed(
    open_test_backend: OpenBackend, database: Database, obligations: Obligations
) -> AsyncIterator[Desk]:
    policy = RuleSet(bundle="sha256:test", rules=(), defaults=obligations)
    async with open_test_backend(policy=policy) as backend, open_client(backend) as client:
        desk = Desk(backend, client, database.owner)
        await desk.staff()
        yield desk


@pytest.mark.parametrize(
    ("on_timeout", "risk"),
    [("block", "low"), ("escalate", "low"), ("proceed", "medium"), ("proceed", "high")],
)
async def test_a_review_nobody_decides_times_out_once(
    open_test_backend: OpenBackend, database: Database, later: Later, on_timeout: Any, risk: str
) -> None:
    """At a review's deadline policy's default applies once, is nobody's vote, and never proceeds above its ceiling."""
    timed = replace(BLANK, deadline_seconds=60, on_timeout=on_timeout)
    async with _governed(open_test_backend, database, timed) as desk:
        phase = "dispatched" if (on_timeout, risk) == ("proceed", "medium") else "plan_review"
        task_id = await desk.planned(risk=risk)
        assert None is not (await desk.show(f"/api/tasks/{task_id}"))["waiting_for"]["deadline"]
        later.wait(seconds=61)
        for _ in range(2):
            await desk.worker.drain_deadlines()
        await desk.work()
        assert phase == await desk.phase(task_id)
        events = await desk.backend.log.read_stream(task_id)
        assert ["system"] == [e.actor for e in events if e.type == "review.timed_out"]
        assert [] == [e for e in events if e.type == "plan.voted"]
        assert [True] * (phase == "dispatched") == [
            e.data["defaulted"] for e in events if e.type == "plan.approved"
        ]


async def test_overdue_deadlines_fire_in_order(desk: TrackedDesk, later: Later) -> None:
    """After an outage all that fell due fires, the oldest first where one goes at a time."""
    await desk.executor()
    made = [await desk.task() for _ in range(3)]
    later.wait(hours=9)
    desk.worker._slots = asyncio.Semaphore(1)  # several at once overtake each other
    await desk.worker.drain_deadlines()
    order = await desk.rows(
        "select stream_id from es.event where type = 'attempt.expired' order by txid, position"
    )
    assert made == [task_id for (task_id,) in order]


@asynccontextmanager
async def running(desk: Desk, **options: Any) -> AsyncIterator[None]:
    """Run the worker as the stack does."""
    task = asyncio.create_task(Worker(desk.backend, **options).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_commit_wakes_the_worker(desk: TrackedDesk) -> None:
    """From the request for a task to the wake on the tracker nobody has to ask; the same for each step after it."""
    await desk.executor()
    async with running(desk):
        answer = await desk.post("/api/tasks", {"title": "T", "goal": "G", "mode": "plan_first"}, "olga")
        task_id = answer.json()["id"]
        assert 1 == (await desk.tracker.woken.get()).attempt
        token = await desk.ack(task_id)
        await desk.send(callback("plan", task_id, 1, 2), token)
        digest = (await desk.show(f"/api/tasks/{task_id}"))["plan"]["digest"]
        await desk.post(f"/api/tasks/{task_id}/directives", {"text": f"/approve v1@{digest[7:]}"}, "rita")
        assert 2 == (await desk.tracker.woken.get()).attempt


async def test_a_webhook_wakes_the_worker(desk: TrackedDesk) -> None:
    """A comment that comes by webhook is acted on without waiting for the look once a minute."""
    await desk.executor()
    async with running(desk):
        key = desk.tracker.open_issue(desk.tracker.account("olga"), "T", labels=["agentic-os"])
        for headers, body in desk.tracker.take_deliveries():
            await desk.client.post("/api/webhooks/memory", content=body, headers=dict(headers))
        assert 1 == (await desk.tracker.woken.get()).attempt
        assert key == (await desk.show("/api/tasks"))["items"][0]["issue"]["key"]


async def test_an_earlier_deadline_wakes_the_sleeper(
    open_test_backend: OpenBackend, database: Database
) -> None:
    """A deadline that is committed while the worker sleeps fires without a look around."""
    terms = Terms(callback_url="http://desk" + DOOR, ack_within=timedelta(milliseconds=50))
    async with open_test_backend(terms=terms) as backend, open_client(backend) as client:
        desk = Desk(backend, client, database.owner)
        await desk.staff()
        await desk.executor()
        fired = asyncio.Event()
        committed = backend.signals.committed

        def hear(task: Any) -> None:
            committed(task)
            if task.phase == "retry_wait":
                fired.set()

        backend.signals.committed = hear  # type: ignore[method-assign]
        async with running(desk):
            await desk.post("/api/tasks", {"title": "T", "goal": "G"}, "olga")
            await asyncio.wait_for(fired.wait(), 30)


async def test_a_deadline_that_comes_during_the_look_is_fired_next(
    desk: TrackedDesk, later: Later, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timer may wake the sleeper a little early; the deadline that comes meanwhile must not wait for a minute."""
    await desk.executor()
    task_id = await desk.task()
    outlook = desk.backend.work.outlook

    async def slow() -> Any:
        later.wait(minutes=6)
        return await outlook()

    monkeypatch.setattr(desk.backend.work, "outlook", slow)
    following = await desk.worker.drain_deadlines()
    assert following is not None
    assert following <= later()
    assert "dispatched" == await desk.phase(task_id)


async def test_a_mark_that_is_put_off_is_not_woken_for_too_early(
    desk: TrackedDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timer that comes some milliseconds early must find the mark that it is for."""
    asked: list[float] = []
    at = now()
    monkeypatch.setattr(worker, "now", lambda: at)
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", lambda delay, *_: asked.append(delay))
    desk.worker._wake_at(at + timedelta(seconds=1))
    assert asked[0] > 1.0


async def test_a_fault_in_one_pass_ends_nothing(desk: TrackedDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that raises is logged and tried again; the marks are still there."""
    monkeypatch.setattr(worker, "_FAULT_PAUSE", 0.01)
    await desk.executor()
    claim, faults = desk.backend.work.claim, iter([RuntimeError("broken"), RuntimeError("again")])

    async def broken(*arguments: Any) -> Any:
        for fault in faults:
            raise fault
        return await claim(*arguments)

    monkeypatch.setattr(desk.backend.work, "claim", broken)
    async with running(desk):
        await desk.post("/api/tasks", {"title": "T", "goal": "G"}, "olga")
        assert 1 == (await desk.tracker.woken.get()).attempt


async def test_idle_costs_one_query(desk: TrackedDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """When all is settled, a look around asks the database once and the tracker's feed once, and wakes nobody."""
    await desk.executor()
    task_id = await desk.task()
    await desk.submit("result", task_id, await desk.ack(task_id))
    waiting = await desk.task(mode="plan_first")
    await desk.submit("plan", waiting, await desk.ack(waiting))
    await desk.listen()
    desk.tracker.forget()
    pool = desk.backend.work._pool  # type: ignore[attr-defined]
    asked: list[str] = []
    lend = pool.connection

    @asynccontextmanager
    async def counted() -> AsyncIterator[Any]:
        async with lend() as connection:
            asked.append("connection")
            yield connection

    monkeypatch.setattr(pool, "connection", counted)
    signals = desk.backend.signals
    for event in (signals.work, signals.inbox, signals.deadline):
        event.clear()
    await desk.worker.look_around()
    assert (["connection"], 1, 0) == (asked, desk.tracker.reads, desk.tracker.writes)
    assert not signals.work.is_set()
    assert not signals.inbox.is_set()


async def _attempt(desk: Desk, task_id: str) -> tuple[int, str]:
    found = (await desk.show(f"/api/tasks/{task_id}"))["attempt"]
    return found["number"], found["state"]


async def test_many_deadlines_fire_once_though_two_workers_drain_them(
    desk: TrackedDesk, later: Later, open_test_backend: OpenBackend
) -> None:
    """Two workers of two servers that find the same deadlines due fire each of them once between them."""
    await desk.executor()
    tasks = [await desk.task(title=f"Number {number}") for number in range(70)]
    later.wait(minutes=6)
    async with open_test_backend() as other:
        await asyncio.gather(desk.worker.drain_deadlines(), Worker(other).drain_deadlines())
    for task_id in tasks:
        assert 1 == (await desk.events(task_id)).count("attempt.expired")
        assert "retry_wait" == await desk.phase(task_id)
    assert [(70,)] == await desk.rows("select count(*) from es.deadline")


async def test_news_of_a_tracker_without_webhooks_is_heard(desk: TrackedDesk) -> None:
    """A tracker that tells that there is news has its feed read then, long before the look around."""
    desk.plane.nudges = asyncio.Queue()
    await desk.executor()
    async with running(desk):
        await until_looked_around(desk)
        desk.tracker.open_issue(desk.tracker.account("olga"), "T", labels=["agentic-os"])
        desk.plane.nudges.put_nowait(None)
        assert 1 == (await desk.tracker.woken.get()).attempt


async def until_looked_around(desk: TrackedDesk) -> None:
    """Wait until the feed was read to its end once, as the first look around does."""
    plane = desk.backend.control_plane
    assert plane is not None
    while plane.state.read_at is None:  # noqa: ASYNC110 - the port offers no event for it
        await asyncio.sleep(0)
