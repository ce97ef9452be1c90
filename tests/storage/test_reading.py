"""Reading everything in order: nothing is missed, nothing comes twice, whatever is written meanwhile."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest

from agentic_os.application.ports import Batch, Movement, Recorded, VersionConflict
from agentic_os.postgres.event_log import CursorInvalid, PostgresEventLog
from agentic_os.postgres.pool import Pool

BatchOf = Callable[..., Batch]
STREAMS, WRITERS, WRITES, READERS = 20, 10, 150, 3
HELD = 50  # one transaction in so many stays open for 30 ms after its append
BY_POSITION = (
    "select position, stream_id, version from es.event where position > %s order by position limit 100"
)


def places(events: Sequence[Recorded]) -> list[tuple[str, int]]:
    """Say which events these are."""
    return [(event.stream, event.version) for event in events]


async def write(
    connection: psycopg.AsyncConnection, log: PostgresEventLog, number: int, batch_of: BatchOf
) -> int:
    """Append to streams at random, some transactions held open; return how many were accepted."""
    order, accepted = random.Random(number), 0
    for turn in range(WRITES):
        stream = f"lab:{order.randrange(STREAMS)}"
        cursor = await connection.execute("select version from es.stream where stream_id = %s", (stream,))
        row = await cursor.fetchone()
        batch = batch_of((stream, row[0] if row else 0), facts=order.randint(1, 3))
        async with connection.transaction():
            try:
                async with connection.transaction():
                    await log.append(batch)
            except VersionConflict:
                continue
            if turn % HELD == number:
                await connection.execute("select pg_sleep(0.03)")
        accepted += len(batch.registry[0].events)
    return accepted


async def tail(log: PostgresEventLog, written: asyncio.Event, drained: Callable[[], bool]) -> list[Recorded]:
    """Follow the log by its cursor until all that was written has come."""
    seen: list[Recorded] = []
    cursor = ""
    while True:
        done = written.is_set() and drained()
        events, cursor = await log.read_all(cursor, limit=100)
        seen += events
        if done and not events:
            return seen
        await asyncio.sleep(0)


async def tail_by_position(pool: Pool, written: asyncio.Event) -> set[tuple[str, int]]:
    """Follow the log as one must not: by the position alone."""
    seen: set[tuple[str, int]] = set()
    last = 0
    while True:
        done = written.is_set()
        async with pool.connection() as connection:
            rows = await (await connection.execute(BY_POSITION, (last,))).fetchall()
        seen |= {(stream, version) for _, stream, version in rows}
        last = rows[-1][0] if rows else last
        if done and not rows:
            return seen
        await asyncio.sleep(0)


async def test_readers_miss_nothing_under_load(
    open_log: Callable[..., Any],
    open_pool: Callable[..., Any],
    superuser: psycopg.Connection,
    batch_of: BatchOf,
    record_testsuite_property: Callable[[str, object], None],
):
    """Three readers of ten writers get every event once, each stream in the order of its versions."""
    written = asyncio.Event()

    def drained() -> bool:
        below = "select coalesce(max(txid) < pg_snapshot_xmin(pg_current_snapshot()), true) from es.event"
        return superuser.execute(below).fetchone() == (True,)

    async def write_all() -> int:
        writers = [write(*await open_log(), number, batch_of) for number in range(WRITERS)]
        accepted = sum(await asyncio.gather(*writers))
        written.set()
        return accepted

    readers = [tail(PostgresEventLog(await open_pool(1)), written, drained) for _ in range(READERS)]
    naive = tail_by_position(await open_pool(1), written)
    accepted, by_position, *read = await asyncio.gather(write_all(), naive, *readers)

    stored = superuser.execute("select stream_id, version from es.event").fetchall()
    assert accepted == len(stored)
    for seen in read:
        assert sorted(stored) == sorted(places(seen))
        streams = defaultdict(list)
        for event in seen:
            streams[event.stream].append(event.version)
        assert all(list(range(1, len(held) + 1)) == held for held in streams.values())
    record_testsuite_property("events in the load", len(stored))
    record_testsuite_property("missed there by position alone", len(stored) - len(by_position))


async def test_an_open_append_holds_later_ones_back(
    held: Callable[..., Any], pool: Pool, log: PostgresEventLog, batch_of: BatchOf
):
    """What was committed after an append that is still open waits for it; by position alone it would be lost."""

    async def by_position(last: int) -> list[tuple[Any, ...]]:
        async with pool.connection() as connection:
            return await (await connection.execute(BY_POSITION, (last,))).fetchall()

    await log.append(batch_of(("lab:a", 0)))
    first, cursor = await log.read_all("")
    async with held(batch_of(("lab:b", 0))):
        await log.append(batch_of(("lab:c", 0)))
        nothing, same = await log.read_all(cursor)
        naive = await by_position(1)
    later, end = await log.read_all(same)

    assert [("lab:a", 1)] == places(first)
    assert ([], cursor) == (list(nothing), same)
    assert [("lab:b", 1), ("lab:c", 1)] == places(later)
    assert ([], end) == await log.read_all(end)
    assert [(3, "lab:c", 1)] == naive
    assert [] == await by_position(naive[-1][0])  # lab:b is stored by now, and never comes


async def test_a_lower_position_may_come_later(
    held: Callable[..., Any],
    somebody_waits: Callable[..., Any],
    log: PostgresEventLog,
    owner: psycopg.Connection,
    batch_of: BatchOf,
):
    """An older transaction may write the higher position: the cursor orders by both, and gives either once."""
    # The first movement gives the older transaction its id, the second one has it wait.
    movements = [Movement(account="free", spent=1), Movement(account="shared", spent=1)]
    async with AsyncExitStack() as newer:
        with owner.transaction():
            owner.execute("insert into es.account (name) values ('shared')")
            older = asyncio.create_task(log.append(batch_of(("lab:older", 0), movements=movements)))
            await somebody_waits()
            await newer.enter_async_context(held(batch_of(("lab:newer", 0))))
        await older
        first, cursor = await log.read_all("")
    second, _ = await log.read_all(cursor)

    order = "select stream_id from es.event order by position"
    assert [("lab:newer",), ("lab:older",)] == owner.execute(order).fetchall()
    assert [("lab:older", 1)] == places(first)
    assert [("lab:newer", 1)] == places(second)


@pytest.mark.parametrize("limit", [1, 3, 1000])
async def test_reading_resumes_where_it_stopped(log: PostgresEventLog, batch_of: BatchOf, limit: int):
    """Pages of any size join without gap or repeat, each stream in order, and the end is the same cursor again."""
    for version in (0, 4, 8):
        await log.append(batch_of(("lab:a", version), ("lab:b", version), facts=4))
    seen: list[tuple[str, int]] = []
    cursor = ""
    while True:
        events, following = await log.read_all(cursor, limit)
        if not events:
            break
        assert len(events) <= limit
        seen += places(events)
        cursor = following

    assert following == cursor
    assert 24 == len(seen)
    assert list(range(1, 13)) == [version for stream, version in seen if stream == "lab:a"]
    assert list(range(1, 13)) == [version for stream, version in seen if stream == "lab:b"]


async def test_an_empty_log_has_a_cursor_to_go_on_from(log: PostgresEventLog, batch_of: BatchOf):
    """Reading nothing gives a cursor that finds what is appended afterwards."""
    events, cursor = await log.read_all("")
    await log.append(batch_of(("lab:a", 0)))

    assert [] == list(events)
    assert [("lab:a", 1)] == places((await log.read_all(cursor))[0])


@pytest.mark.parametrize(
    "cursor",
    [
        "0",
        "1.2",
        "1.2.3.4",
        "a.b.c",
        "1.-1.0",
        " 1.2.3",
        "1.2.3\n",
        "1.99999999999999999999.0",
        "1.1.9999999999999999999",
        "1.1.1'; --",
        "\N{ARABIC-INDIC DIGIT ONE}.1.1",
    ],
)
async def test_what_is_no_cursor_is_refused(log: PostgresEventLog, cursor: str):
    """A string that read_all never gave out is refused by its own name."""
    with pytest.raises(CursorInvalid, match="not a cursor"):
        await log.read_all(cursor)


async def test_a_cursor_of_another_epoch_is_refused(
    pool: Pool, superuser: psycopg.Connection, batch_of: BatchOf
):
    """After a restore transaction ids start anew, so that older cursors are refused and not guessed at."""
    log = PostgresEventLog(pool)
    await log.append(batch_of(("lab:a", 0)))
    _, cursor = await log.read_all("")
    superuser.execute("update es.epoch set epoch = epoch + 1")

    with pytest.raises(CursorInvalid, match="restored"):
        await PostgresEventLog(pool).read_all(cursor)


async def test_a_stream_is_read_by_version(log: PostgresEventLog, batch_of: BatchOf):
    """A stream reads back what was appended, in order, from any version and at most as much as asked for."""
    appended = await log.append(batch_of(("lab:a", 0), facts=5))
    events = await log.read_stream("lab:a")

    assert appended.event_ids == [event.event_id for event in events]
    assert [1, 2, 3, 4, 5] == [event.version for event in events]
    assert ("bundle.applied", "tester", {"bundle": "lab:a/0", "document": {}}) == (
        events[0].type,
        events[0].actor,
        events[0].data,
    )
    assert [3, 4] == [event.version for event in await log.read_stream("lab:a", after=2, limit=2)]
    assert [] == list(await log.read_stream("lab:unknown"))
