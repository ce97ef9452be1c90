"""Appends that come together share a transaction, and nothing else: each has its own outcome."""

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg

from agentic_os.application.ports import Appended, Batch, Movement, Receipt, ReceiptMismatch, VersionConflict
from agentic_os.postgres.audit import verify
from agentic_os.postgres.event_log import PostgresEventLog
from agentic_os.postgres.pool import Pool

BatchOf = Callable[..., Batch]


def receipt(key: str, fingerprint: bytes = b"content") -> Receipt:
    """Make the receipt of a request."""
    return Receipt(principal="coder", route="/callback", key=key, fingerprint=fingerprint)


def transactions(owner: psycopg.Connection) -> list[tuple[str, ...]]:
    """Read which streams were written in one transaction."""
    query = "select array_agg(stream_id order by stream_id) from es.event group by txid order by txid"
    return [tuple(row[0]) for row in owner.execute(query)]


async def test_what_comes_together_is_written_together(
    log: PostgresEventLog, owner: psycopg.Connection, batch_of: BatchOf
):
    """Appends of one turn of the loop go in one transaction; those that come meanwhile go in the next."""
    await asyncio.gather(*(log.append(batch_of((f"lab:{n}", 0))) for n in range(9)))

    assert [tuple(f"lab:{n}" for n in range(9))] == transactions(owner)
    assert (await verify(log._pool)).broken is None


async def test_one_stream_at_a_time(log: PostgresEventLog, owner: psycopg.Connection, batch_of: BatchOf):
    """Two appends to one stream never share a transaction: the later one finds the stream moved."""
    batches = [batch_of(("lab:a", 0)), batch_of(("lab:a", 0)), batch_of(("lab:b", 0))]

    outcomes = await asyncio.gather(*(log.append(b) for b in batches), return_exceptions=True)

    assert isinstance(outcomes[1], VersionConflict)
    assert [("lab:a", "lab:b")] == transactions(owner)


async def test_each_has_its_own_outcome(log: PostgresEventLog, owner: psycopg.Connection, batch_of: BatchOf):
    """A conflict, a replay and a mismatch stop no other append of the same transaction."""
    first = await log.append(batch_of(("lab:a", 0), receipt=receipt("a"), answer=lambda _: "first"))
    assert not first.replayed

    outcomes = await asyncio.gather(
        log.append(batch_of(("lab:a", 1), receipt=receipt("a"), answer=lambda _: "again")),
        log.append(batch_of(("lab:b", 1))),
        log.append(batch_of(("lab:c", 0), receipt=receipt("a", b"other"))),
        log.append(batch_of(("lab:d", 0), facts=3)),
        return_exceptions=True,
    )

    assert Appended(answer="first", replayed=True) == outcomes[0]
    assert [VersionConflict, ReceiptMismatch] == [type(o) for o in outcomes[1:3]]
    assert [("lab:a",), ("lab:d",) * 3] == transactions(owner)


async def test_an_error_of_the_whole_makes_each_try_alone(
    log: PostgresEventLog,
    held: Callable[..., Any],
    somebody_waits: Callable[..., Any],
    owner: psycopg.Connection,
    batch_of: BatchOf,
):
    """When a key stops the shared transaction, only the append that it belongs to hears of it: it was a replay."""
    asked = {n: batch_of((f"lab:{n}", 0), receipt=receipt(str(n))) for n in range(4)}
    async with held(batch_of(("lab:other", 0), receipt=receipt("2"))):
        appending = [asyncio.create_task(log.append(batch)) for batch in asked.values()]
        await somebody_waits()

    outcomes = await asyncio.gather(*appending)

    assert [False, False, True, False] == [outcome.replayed for outcome in outcomes]
    assert {("lab:other",), ("lab:0",), ("lab:1",), ("lab:3",)} == set(transactions(owner))


async def test_whoever_was_cancelled_holds_up_nobody(
    log: PostgresEventLog, owner: psycopg.Connection, batch_of: BatchOf
):
    """A caller that goes away does not take the others of its transaction along."""
    gone, stays = (asyncio.create_task(log.append(batch_of((f"lab:{n}", 0)))) for n in "ab")
    await asyncio.sleep(0)
    gone.cancel()

    assert not (await stays).replayed
    await asyncio.wait([gone])
    assert gone.cancelled()
    assert not (await log.append(batch_of(("lab:c", 0)))).replayed
    assert {"lab:b", "lab:c"} <= {name for names in transactions(owner) for name in names}


async def test_a_database_that_is_away_fails_all_and_is_tried_again(
    log: PostgresEventLog, pool: Pool, batch_of: BatchOf, superuser: psycopg.Connection
):
    """After a connection broke under appends, the next ones go through on another."""
    await log.append(batch_of(("lab:a", 0)))
    superuser.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
        "and pid <> pg_backend_pid() and usename = any(%s)",
        (["agentic_os_app"],),
    )
    outcomes = await asyncio.gather(
        *(log.append(batch_of((f"lab:{n}", 0))) for n in range(3)), return_exceptions=True
    )

    for n, outcome in enumerate(outcomes):
        if isinstance(outcome, Exception):
            assert not (await log.append(batch_of((f"lab:{n}", 0)))).replayed
    assert 4 == sum([1 for _ in await log.read_stream("lab:a")]) + 3


async def test_what_moves_an_account_goes_alone(
    log: PostgresEventLog, owner: psycopg.Connection, batch_of: BatchOf
):
    """An append that may fail for its account has a transaction of its own."""
    held = Movement(account="capacity:a", reserved=1, limit=1)
    await asyncio.gather(
        log.append(batch_of(("lab:a", 0), movements=[held])),
        *(log.append(batch_of((f"lab:{n}", 0))) for n in range(2)),
    )

    assert {("lab:a",), ("lab:0", "lab:1")} == set(transactions(owner))


async def test_what_only_gives_back_goes_with_the_others(
    log: PostgresEventLog, owner: psycopg.Connection, batch_of: BatchOf
):
    """Appends that give back to one account share a transaction, and the account ends at what is left."""
    taken = Movement(account="capacity:a", reserved=3, limit=3)
    await log.append(batch_of(("lab:a", 0), movements=[taken]))
    back = Movement(account="capacity:a", reserved=-1)
    await asyncio.gather(*(log.append(batch_of((f"lab:{n}", 0), movements=[back])) for n in range(2)))

    assert [("lab:a",), ("lab:0", "lab:1")] == transactions(owner)
    assert [(1,)] == owner.execute("select reserved from es.account").fetchall()
