"""The work queue: a mark belongs to one worker at a time, and never goes while there is something new."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from agentic_os.application.ports import StaleMark
from agentic_os.clock import now
from agentic_os.domain.policy import RateBreaker
from agentic_os.postgres.pool import Pool
from agentic_os.postgres.work_queue import PostgresWorkQueue

LEASE = timedelta(minutes=1)
NO_LEASE = timedelta(seconds=-1)


@pytest.fixture
def work(pool: Pool) -> PostgresWorkQueue:
    """Give the work queue as the application has it."""
    return PostgresWorkQueue(pool)


def ids(marks: Any) -> list[str]:
    """Say which tasks these are."""
    return [mark.task_id for mark in marks]


async def test_workers_never_share_a_mark(open_pool: Callable[..., Any], work: PostgresWorkQueue):
    """Two workers with many passes at once take every mark exactly once between them, never more than asked for."""
    names = [f"t{number:03}" for number in range(200)]
    await work.mark(names)
    queues = [PostgresWorkQueue(await open_pool(4)) for _ in range(2)]
    taken: list[str] = []

    async def drain(worker: int) -> None:
        while marks := await queues[worker % 2].claim(f"w{worker}", 7, LEASE):
            assert len(marks) <= 7
            taken.extend(ids(marks))

    await asyncio.gather(*(drain(worker) for worker in range(8)))

    assert names == sorted(taken)


async def test_the_oldest_are_taken_first(work: PostgresWorkQueue):
    """Marks are taken in the order in which tasks were first marked, and marking again keeps the place."""
    for name in ("c", "a", "b", "c"):
        await work.mark([name])

    assert ["c", "a"] == ids(await work.claim("w", 2, LEASE))
    assert ["b"] == ids(await work.claim("w", 2, LEASE))


async def test_a_settled_mark_is_gone(work: PostgresWorkQueue):
    """A mark whose task was worked on, with nothing new meanwhile, goes."""
    await work.mark(["t"])
    (mark,) = await work.claim("w", 1, LEASE)

    await work.settle(mark)

    assert [] == await work.claim("w", 1, NO_LEASE)
    assert (await work.outlook()).mark is None


async def test_a_mark_that_was_renewed_is_free_again(work: PostgresWorkQueue):
    """A mark renewed while it was worked on is not lost when that is settled, but due at once, to anybody."""
    await work.mark(["t"])
    (mark,) = await work.claim("w", 1, LEASE)
    await work.mark(["t"])
    assert [] == await work.claim("another", 1, LEASE)

    await work.settle(mark)

    (again,) = await work.claim("another", 1, LEASE)
    assert StaleMark(task_id="t", generation=2, failures=0, since=mark.since) == again


async def test_a_mark_that_is_being_renewed_is_free_again(
    work: PostgresWorkQueue, connect: Callable[..., Any], somebody_waits: Callable[..., Any]
):
    """The same when the renewal commits in the very moment of settling, which then waits for it."""
    await work.mark(["t"])
    (mark,) = await work.claim("w", 1, LEASE)
    connection = await connect()
    async with connection.transaction():
        await connection.execute("update es.stale set generation = generation + 1")
        settling = asyncio.create_task(work.settle(mark))
        await somebody_waits()
    await settling

    assert ["t"] == ids(await work.claim("another", 1, LEASE))


async def test_a_lease_runs_out(work: PostgresWorkQueue):
    """What a worker took and never came back for is another's once the lease is over, and not before."""
    await work.mark(["t", "u"])
    await work.claim("dead", 1, NO_LEASE)
    await work.claim("alive", 1, LEASE)

    assert 1 == len(await work.claim("another", 5, LEASE))


async def test_a_mark_is_put_off(work: PostgresWorkQueue, owner: psycopg.Connection):
    """A mark that failed is not due before its time; it counts the failures and keeps the problem."""
    await work.mark(["t"])
    (mark,) = await work.claim("w", 1, LEASE)
    await work.postpone(mark, now() + timedelta(hours=1), "tracker is away" + "!" * 5000)
    assert [] == await work.claim("w", 1, LEASE)

    owner.execute("update es.stale set not_before = now() - interval '1 second'")

    (again,) = await work.claim("w", 1, LEASE)
    assert (1, 1) == (again.generation, again.failures)
    problem = owner.execute("select problem, claimed_by from es.stale").fetchone()
    assert problem is not None
    assert (1000, "w") == (len(problem[0]), problem[1])


async def test_a_mark_for_later_waits_and_hastens_nothing(work: PostgresWorkQueue, owner: psycopg.Connection):
    """It comes in its time, at once where there is news, and after the pass that goes on; one put off stays so."""
    later = now() + timedelta(minutes=1)
    await work.mark_by("t", later)
    await work.mark_by("t", later - timedelta(minutes=2))
    assert [] == await work.claim("w", 5, LEASE)
    await work.mark(["t"])
    (mark,) = await work.claim("w", 5, LEASE)
    await work.mark_by("t", later)
    await work.settle(mark)
    (mark,) = await work.claim("w", 5, LEASE)
    await work.postpone(mark, later, "no")
    await work.mark_by("t", now())
    assert [] == await work.claim("w", 5, LEASE)
    owner.execute("update es.stale set not_before = now()")
    (mark,) = await work.claim("w", 5, LEASE)
    assert 1 == mark.failures


async def test_news_overtake_a_delay(work: PostgresWorkQueue):
    """A mark that was renewed meanwhile is not put off, and news end a delay that was given before."""
    await work.mark(["t"])
    (mark,) = await work.claim("w", 1, LEASE)
    await work.mark(["t"])
    await work.postpone(mark, now() + timedelta(hours=1), "conflict")
    (again,) = await work.claim("w", 1, LEASE)
    await work.postpone(again, now() + timedelta(hours=1), "conflict")
    assert [] == await work.claim("w", 1, LEASE)

    await work.mark(["t"])

    assert ["t"] == ids(await work.claim("w", 1, LEASE))


async def test_a_success_forgets_the_failures(work: PostgresWorkQueue):
    """Settling a renewed mark starts its count of failures anew."""
    await work.mark(["t"])
    (mark,) = await work.claim("w", 1, LEASE)
    await work.postpone(mark, now() - timedelta(seconds=1), "broken")
    (mark,) = await work.claim("w", 1, LEASE)
    assert 1 == mark.failures
    await work.mark(["t"])
    await work.settle(mark)

    (again,) = await work.claim("w", 1, LEASE)

    assert 0 == again.failures


async def test_waits_are_noted_once(work: PostgresWorkQueue):
    """What a task waits for is a set: noted once, listed in order, forgotten together."""
    for what in ("executor", "capacity:a", "executor"):
        await work.wait("t", what)
    await work.wait("u", "executor")

    assert ["capacity:a", "executor"] == await work.waits_of("t")
    await work.forget_waits("t")
    assert [] == await work.waits_of("t")
    assert ["executor"] == await work.waits_of("u")


async def test_due_deadlines_come_in_order(work: PostgresWorkQueue, owner: psycopg.Connection):
    """Deadlines that have come are listed, the oldest first, those to come are not."""
    noon = datetime(2027, 1, 5, 12, tzinfo=UTC)
    for task_id, minutes in (("b", 0), ("a", 0), ("c", -5), ("d", 1)):
        at = noon + timedelta(minutes=minutes)
        owner.execute("insert into es.deadline values (%s, 'lease', '1', %s)", (task_id, at))

    found = await work.due(noon, 10)

    assert ["c", "a", "b"] == [due.task_id for due in found]
    assert ("lease", "1", noon) == (found[1].deadline.kind, found[1].deadline.ref, found[1].deadline.at)
    assert ["c"] == [due.task_id for due in await work.due(noon, 1)]


async def test_the_outlook_names_what_comes_next(work: PostgresWorkQueue, owner: psycopg.Connection):
    """One look tells the next deadline, when a mark is free, and whether the inbox holds anything."""
    nothing = await work.outlook()
    assert (None, None, False) == (nothing.deadline, nothing.mark, nothing.inbox)
    later = now() + timedelta(hours=1)
    owner.execute("insert into es.deadline values ('t', 'lease', '1', %s)", (later,))
    owner.execute("insert into es.inbox (control_plane, delivery, observation) values ('memory', 'd', '{}')")
    await work.mark(["t"])
    (mark,) = await work.claim("w", 1, LEASE)

    claimed = await work.outlook()
    assert (later, True) == (claimed.deadline, claimed.inbox)
    assert claimed.mark is not None
    assert claimed.mark > mark.since

    await work.postpone(mark, later, "broken")
    assert later == (await work.outlook()).mark


async def test_servers_count_together(open_pool: Callable[..., Any]):
    """Of forty at once over two pools as many are counted as the breaker allows, and the others are told until when."""
    queues = [PostgresWorkQueue(await open_pool(4)) for _ in range(2)]
    noon = datetime(2027, 1, 5, 12, tzinfo=UTC)
    breaker = RateBreaker(count=7, within=timedelta(hours=1))

    answers = await asyncio.gather(
        *(queues[n % 2].count("adoption", [f"i{n}"], noon + timedelta(seconds=n), breaker) for n in range(40))
    )

    assert 7 == answers.count(None)
    assert {noon} < {noon, *(a for a in answers if a is not None)}


async def test_what_is_counted_leaves_after_its_span(work: PostgresWorkQueue, owner: psycopg.Connection):
    """All of a batch or nothing is counted, each account by itself, the same once, and only what is within the span."""
    noon = datetime(2027, 1, 5, 12, tzinfo=UTC)
    breaker = RateBreaker(count=3, within=timedelta(minutes=10))

    async def ask(minute: int, *refs: str, account: str = "a") -> int | None:
        until = await work.count(account, refs, noon + timedelta(minutes=minute), breaker)
        return until and int((until - noon).total_seconds() // 60)

    assert None is await ask(0, "1", "2")
    assert 10 == await ask(1, "3", "4")
    assert None is await ask(2, "3")
    assert None is await ask(3, "1", "2", "3")
    assert 13 == await ask(4, "4")
    assert None is await ask(4, "4", account="b")
    await work.uncount("a", ["1", "4"])
    assert None is await ask(5, "5")
    assert [("a", "2"), ("a", "3"), ("a", "5"), ("b", "4")] == owner.execute(
        "select breaker, ref from es.counted order by 1, 2"
    ).fetchall()
    assert 15 == await ask(6, "6", "7", "8", "9", "10")
    assert None is await ask(15, "6", "7", "8", "9", "10")
    assert 5 == len(owner.execute("select 1 from es.counted where breaker = 'a'").fetchall())
    assert 25 == await ask(24, "11")
    assert None is await ask(25, "11")
