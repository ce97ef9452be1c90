"""Appending: versions, receipts, credentials, accounts and marks are one transaction, whoever else writes."""

import asyncio
import hashlib
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from agentic_os.application.ports import (
    AccountExhausted,
    Appended,
    Batch,
    CredentialRevoked,
    Movement,
    Principal,
    Receipt,
    ReceiptMismatch,
    SeqGuard,
    VersionConflict,
)
from agentic_os.clock import now
from agentic_os.postgres.audit import verify
from agentic_os.postgres.event_log import PostgresEventLog
from agentic_os.postgres.pool import Pool
from agentic_os.postgres.registry import PostgresRegistry
from agentic_os.postgres.work_queue import PostgresWorkQueue

BatchOf = Callable[..., Batch]
WRITTEN = ("event", "stream", "receipt", "account", "stale", "deadline", "task")


def receipt(key: str = "k", content: str = "content") -> Receipt:
    """Make a receipt of a request with this content."""
    digest = hashlib.sha256(content.encode()).digest()
    return Receipt(principal="coder", route="/callback", key=key, fingerprint=digest)


def remove_lock(owner: psycopg.Connection) -> None:
    """Replace the append functions by themselves without advisory locks, as on an engine where those do nothing."""
    for name in ("append", "append_all"):
        row = owner.execute("select pg_get_functiondef(%s::regproc)", (f"es.{name}",)).fetchone()
        assert row is not None
        assert "pg_advisory_xact_lock" in row[0]
        owner.execute(row[0].replace("pg_advisory_xact_lock", "abs").encode())


def versions(owner: psycopg.Connection) -> dict[str, list[int]]:
    """Read the versions that each stream holds, in the order in which they were written."""
    query = "select stream_id, array_agg(version order by txid, position) from es.event group by 1"
    return dict(owner.execute(query).fetchall())


async def append_until_accepted(
    log: PostgresEventLog, batch_of: BatchOf, stream: str, more: Any = None
) -> int:
    """Append one fact wherever the stream ends, and say how often somebody else was faster."""
    conflicts = 0
    while True:
        async with log._pool.connection() as connection:
            cursor = await connection.execute("select version from es.stream where stream_id = %s", (stream,))
            row = await cursor.fetchone()
        try:
            await log.append(batch_of((stream, row[0] if row else 0), **(more or {})))
        except VersionConflict:
            conflicts += 1
        else:
            return conflicts


@pytest.mark.parametrize("lock", ["locked", "unlocked"])
@pytest.mark.parametrize("streams", [1, 7])
async def test_versions_are_gapless(
    open_pool: Callable[..., Any], owner: psycopg.Connection, batch_of: BatchOf, streams: int, lock: str
):
    """However many write to however few streams, each has the versions 1..n once, chained; even without the lock."""
    if lock == "unlocked":
        remove_lock(owner)
    logs = [PostgresEventLog(await open_pool(4)) for _ in range(3)]

    async def write(number: int) -> None:
        order = random.Random(number)
        for _ in range(10):
            await append_until_accepted(logs[number % 3], batch_of, f"lab:{order.randrange(streams)}")

    await asyncio.gather(*(write(number) for number in range(12)))

    found = versions(owner)
    assert 120 == sum(len(held) for held in found.values())
    assert all(list(range(1, len(held) + 1)) == sorted(held) for held in found.values())
    if lock == "locked":
        assert all(sorted(held) == held for held in found.values())
    assert (await verify(logs[0]._pool)).broken is None


async def test_a_moved_stream_is_a_conflict(
    log: PostgresEventLog, contents: Callable[..., list[str]], owner: psycopg.Connection, batch_of: BatchOf
):
    """An append at another version than the stream's stores nothing and burns no position."""
    await log.append(batch_of(("lab:a", 0)))
    burned = "select last_value from pg_sequences where schemaname = 'es' and sequencename like 'event%'"
    before = contents(*WRITTEN), owner.execute(burned).fetchone()

    for expected in (0, 2):
        with pytest.raises(VersionConflict):
            await log.append(batch_of(("lab:a", expected), receipt=receipt(), stale=["a"]))

    assert before == (contents(*WRITTEN), owner.execute(burned).fetchone())


async def test_the_primary_key_guards_a_version(
    log: PostgresEventLog,
    held: Callable[..., Any],
    somebody_waits: Callable[..., Any],
    owner: psycopg.Connection,
    batch_of: BatchOf,
):
    """Without the lock, the later of two open appends to one version waits for the first, and is a conflict."""
    remove_lock(owner)
    await log.append(batch_of(("lab:old", 0)))
    for stream, version in (("lab:new", 0), ("lab:old", 1)):
        async with held(batch_of((stream, version))):
            second = asyncio.create_task(log.append(batch_of((stream, version))))
            await somebody_waits()
        with pytest.raises(VersionConflict):
            await second

    assert {"lab:new": [1], "lab:old": [1, 2]} == versions(owner)


async def test_an_append_is_the_first_write_of_its_transaction(
    open_log: Callable[..., Any], contents: Callable[..., list[str]], batch_of: BatchOf
):
    """An append in a transaction that already has an id is refused: it would deliver a stream out of order."""
    connection, log = await open_log()

    async def append_late() -> None:
        async with connection.transaction():
            await connection.execute("select pg_current_xact_id()")
            await log.append(batch_of(("lab:a", 0)))

    with pytest.raises(psycopg.Error, match="first write"):
        await append_late()
    assert [] == contents(*WRITTEN)


async def test_several_streams_are_all_or_nothing(
    log: PostgresEventLog, contents: Callable[..., list[str]], owner: psycopg.Connection, batch_of: BatchOf
):
    """A batch over several streams writes each of them, and none when one is at another version."""
    await log.append(batch_of(("lab:c", 0), ("lab:a", 0), ("lab:b", 0), facts=3))
    stored = contents(*WRITTEN)

    with pytest.raises(VersionConflict):
        await log.append(batch_of(("lab:a", 3), ("lab:b", 2), ("lab:c", 3)))

    assert {f"lab:{name}": [1, 2, 3] for name in "abc"} == versions(owner)
    assert stored == contents(*WRITTEN)


@pytest.mark.parametrize(("lock", "rounds"), [("locked", 30), ("unlocked", 10)])
async def test_crossing_batches(
    open_pool: Callable[..., Any], owner: psycopg.Connection, batch_of: BatchOf, lock: str, rounds: int
):
    """Batches that name the same streams in opposite orders wait for each other; without the lock, one gives way."""
    if lock == "unlocked":
        remove_lock(owner)
    log = PostgresEventLog(await open_pool(8))
    names = ["lab:a", "lab:b", "lab:c"]

    async def write(number: int) -> None:
        order = names if number % 2 else names[::-1]
        for version in range(rounds):
            try:
                await log.append(batch_of(*((name, version) for name in order), stale=order))
            except VersionConflict:
                continue

    await asyncio.gather(*(write(number) for number in range(8)))

    assert {name: list(range(1, rounds + 1)) for name in names} == versions(owner)


async def test_groups_of_single_streams_do_not_deadlock(
    open_pool: Callable[..., Any], owner: psycopg.Connection, batch_of: BatchOf
):
    """Appends that happen to share a transaction go in one order, whoever came first: none waits in a circle."""
    remove_lock(owner)
    pools = [await open_pool(), await open_pool()]
    names = [f"lab:{number:02}" for number in range(20)]
    orders = names, names[::-1]

    async def write(log: PostgresEventLog, name: str, version: int) -> None:
        with suppress(VersionConflict):
            await log.append(batch_of((name, version)))

    logs = [PostgresEventLog(pool) for pool in pools]
    for version in range(20):
        await asyncio.gather(
            *(write(log, name, version) for log, order in zip(logs, orders, strict=True) for name in order)
        )

    assert {name: list(range(1, 21)) for name in names} == versions(owner)
    for pool in pools:  # a connection counts what it saw when it ends
        await pool.close()
    counted = owner.execute(
        "select deadlocks from pg_stat_database where datname = current_database()"
    ).fetchone()
    assert (0,) == counted


async def test_a_repeated_request_gets_the_stored_answer(
    log: PostgresEventLog, contents: Callable[..., list[str]], batch_of: BatchOf
):
    """The same key and content is answered as the first time, stores nothing, even when its stream moved on."""
    asked = batch_of(("lab:a", 0), receipt=receipt(), answer=lambda ids: f"stored {ids}", stale=["a"])
    first = await log.append(asked)
    await log.append(batch_of(("lab:a", 1)))
    before = contents(*WRITTEN)

    again = await log.append(replace(asked, movements=[Movement(account="x", spent=1)]))

    assert (f"stored {first.event_ids}", False) == (first.answer, first.replayed)
    assert Appended(answer=first.answer, replayed=True) == again
    assert before == contents(*WRITTEN)


async def test_other_content_under_a_used_key_is_a_mismatch(
    log: PostgresEventLog, contents: Callable[..., list[str]], batch_of: BatchOf
):
    """A key that was used with other content is refused and stores nothing; another principal may use it."""
    await log.append(batch_of(("lab:a", 0), receipt=receipt()))
    before = contents(*WRITTEN)

    with pytest.raises(ReceiptMismatch):
        await log.append(batch_of(("lab:a", 1), receipt=receipt(content="other")))

    assert before == contents(*WRITTEN)
    another = replace(receipt(content="other"), principal="reviewer")
    assert not (await log.append(batch_of(("lab:a", 1), receipt=another))).replayed


@pytest.mark.parametrize("streams", [1, 10])
async def test_equal_requests_at_once_are_stored_once(
    open_pool: Callable[..., Any], owner: psycopg.Connection, batch_of: BatchOf, streams: int
):
    """Ten equal requests at once are one append and nine replays; on ten streams the receipt's key sees to it."""
    log = PostgresEventLog(await open_pool(10))

    async def ask(number: int) -> Appended:
        batch = batch_of((f"lab:{number % streams}", 0), receipt=receipt(), answer=lambda ids: ids[0])
        try:
            return await log.append(batch)
        except VersionConflict:
            return await log.append(batch)

    answers = await asyncio.gather(*(ask(number) for number in range(10)))

    assert [False] + [True] * 9 == sorted(answer.replayed for answer in answers)
    stored = owner.execute("select event_id::text from es.event").fetchall()
    assert [(answers[0].answer,)] == stored
    assert 1 == len({answer.answer for answer in answers})


async def test_a_receipt_is_guarded_by_its_key(
    log: PostgresEventLog,
    held: Callable[..., Any],
    somebody_waits: Callable[..., Any],
    owner: psycopg.Connection,
    batch_of: BatchOf,
):
    """Of two open appends to two streams under one receipt, the later stores nothing, and repeats the answer after."""
    later = batch_of(("lab:b", 0), receipt=receipt(), answer=lambda _: "later")
    async with held(batch_of(("lab:a", 0), receipt=receipt(), answer=lambda _: "earlier")):
        second = asyncio.create_task(log.append(later))
        await somebody_waits()

    with pytest.raises(VersionConflict):
        await second
    assert Appended(answer="earlier", replayed=True) == await log.append(later)
    assert {"lab:a": [1]} == versions(owner)


@pytest.mark.parametrize(
    "spoil",
    [
        "update es.credential set revoked_at = now()",
        "update es.credential set expires_at = now()",
        "update es.principal set revoked_at = now()",
        "delete from es.credential",
    ],
)
async def test_a_credential_must_be_valid_when_the_write_happens(
    pool: Pool,
    owner: psycopg.Connection,
    contents: Callable[..., list[str]],
    batch_of: BatchOf,
    spoil: str,
):
    """A credential, or its principal, that was revoked between the check and the append stores nothing."""
    log, digest = PostgresEventLog(pool), hashlib.sha256(b"secret").digest()
    coder = Principal(id="coder", name="coder", kind="executor", roles=())
    await PostgresRegistry(pool).add(coder, digest, now() + timedelta(hours=1))
    await log.append(batch_of(("lab:a", 0), credential=digest))
    owner.execute(spoil.encode())
    before = contents(*WRITTEN)

    with pytest.raises(CredentialRevoked):
        await log.append(batch_of(("lab:a", 1), credential=digest, receipt=receipt()))

    assert before == contents(*WRITTEN)


async def test_an_exhausted_account_aborts_everything(
    log: PostgresEventLog, contents: Callable[..., list[str]], batch_of: BatchOf
):
    """A movement past the limit names the account, and neither event, stream, receipt, mark nor movement stays."""
    fits = Movement(account="capacity:a", reserved=2, limit=2)
    await log.append(batch_of(("lab:a", 0), movements=[fits]))
    before = contents(*WRITTEN)
    free = Movement(account="another", spent=5)
    for more in (Movement(account="capacity:a", reserved=1, limit=2), replace(fits, reserved=0, spent=1)):
        with pytest.raises(AccountExhausted) as refused:
            await log.append(
                batch_of(("lab:a", 1), ("lab:b", 0), movements=[free, more], receipt=receipt(), stale=["a"])
            )
        assert "capacity:a" == refused.value.account

    assert before == contents(*WRITTEN)


async def test_reservations_at_once_never_pass_the_limit(
    open_pool: Callable[..., Any], owner: psycopg.Connection, batch_of: BatchOf
):
    """Of thirty reservations at once on thirty streams exactly as many are granted as the limit has room for."""
    logs = [PostgresEventLog(await open_pool(5)) for _ in range(2)]

    async def reserve(number: int) -> bool:
        held = Movement(account="capacity:a", reserved=1, limit=7)
        try:
            await logs[number % 2].append(batch_of((f"lab:{number}", 0), movements=[held]))
        except AccountExhausted:
            return False
        return True

    granted = await asyncio.gather(*(reserve(number) for number in range(30)))

    assert 7 == sum(granted)
    assert (7, 7) == owner.execute(
        "select reserved, (select count(*) from es.event) from es.account"
    ).fetchone()


async def test_what_is_given_back_never_goes_below_zero(
    log: PostgresEventLog, owner: psycopg.Connection, batch_of: BatchOf
):
    """A release of more than is held leaves nothing held; it is granted even over a limit lowered meanwhile."""
    account = "select spent, reserved from es.account where name = 'a'"
    await log.append(batch_of(("lab:a", 0), movements=[Movement(account="a", reserved=5, limit=5)]))
    await log.append(batch_of(("lab:a", 1), movements=[Movement(account="a", reserved=-1, limit=2)]))
    assert (0, 4) == owner.execute(account).fetchone()

    await log.append(batch_of(("lab:a", 2), movements=[Movement(account="a", reserved=-9)]))
    await log.append(batch_of(("lab:a", 3), movements=[Movement(account="unknown", reserved=-1)]))

    assert (0, 0) == owner.execute(account).fetchone()
    assert (0,) == owner.execute("select reserved from es.account where name = 'unknown'").fetchone()


async def test_what_was_spent_is_taken_at_any_height(
    log: PostgresEventLog, owner: psycopg.Connection, batch_of: BatchOf
):
    """Spending without a limit passes any; afterwards nothing more is reserved, and asking for nothing is refused."""
    await log.append(batch_of(("lab:a", 0), movements=[Movement(account="a", reserved=5, limit=5)]))
    await log.append(batch_of(("lab:a", 1), movements=[Movement(account="a", reserved=-5, spent=8)]))
    assert (8, 0) == owner.execute("select spent, reserved from es.account").fetchone()

    for more in (0, 1):
        with pytest.raises(AccountExhausted):
            await log.append(
                batch_of(("lab:b", 0), movements=[Movement(account="a", reserved=more, limit=8)])
            )
    await log.append(batch_of(("lab:b", 0), movements=[Movement(account="a", limit=9)]))


async def test_marks_coalesce(log: PostgresEventLog, pool: Pool, batch_of: BatchOf):
    """A task has one mark however often it is marked; its generation counts, and its delay is over."""
    work = PostgresWorkQueue(pool)
    await log.append(batch_of(("lab:a", 0), stale=["t", "t", "u"]))
    claimed = await work.claim("w", 10, timedelta(seconds=0))
    await work.postpone(claimed[0], now() + timedelta(hours=1), "broken")
    await work.postpone(claimed[1], now() + timedelta(hours=1), "broken")
    assert [] == await work.claim("w", 10, timedelta(seconds=0))

    await log.append(batch_of(("lab:a", 1), stale=["t"]))

    (mark,) = await work.claim("w", 10, timedelta(minutes=1))
    assert ("t", 2, 1) == (mark.task_id, mark.generation, mark.failures)


async def test_what_is_cleared_marks_those_who_wait(
    log: PostgresEventLog, pool: Pool, contents: Callable[..., list[str]], batch_of: BatchOf
):
    """Clearing something marks the tasks that wait for it and no other, beside those that are named."""
    work = PostgresWorkQueue(pool)
    for task_id, what in (("t", "task:x"), ("u", "executor"), ("v", "task:y"), ("t", "executor")):
        await work.wait(task_id, what)

    await log.append(batch_of(("lab:a", 0), clears=["task:x", "executor"], stale=["z"]))
    await log.append(batch_of(("lab:a", 1), clears=["nothing"]))

    marks = await work.claim("w", 10, timedelta(minutes=1))
    assert [("t", 1), ("u", 1), ("z", 1)] == sorted((mark.task_id, mark.generation) for mark in marks)
    assert 4 == len(contents("waiting"))


async def test_a_callback_that_progress_overtook_is_a_conflict(
    log: PostgresEventLog, owner: psycopg.Connection, batch_of: BatchOf
):
    """Progress leaves no event, so its place in the order is checked too, within one attempt and token."""
    owner.execute("insert into es.progress values ('lab:a', 2, 1, 5, 'half', now())")
    guard = SeqGuard(attempt=2, generation=1, seq=5)

    for overtaken in (guard, replace(guard, seq=4)):
        with pytest.raises(VersionConflict):
            await log.append(batch_of(("lab:a", 0), seq_guard=overtaken))

    in_order = [replace(guard, seq=6), replace(guard, attempt=3), replace(guard, generation=2)]
    for version, each in enumerate(in_order):
        await log.append(batch_of(("lab:a", version), seq_guard=each))
    await log.append(batch_of(("lab:b", 0), seq_guard=guard))
    assert {"lab:a": [1, 2, 3], "lab:b": [1]} == versions(owner)
