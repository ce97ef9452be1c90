"""The pool: whatever becomes of the server's side, callers see one kind of failure, and then none."""

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from agentic_os.application.ports import Batch, StoreUnavailable
from agentic_os.postgres.event_log import PostgresEventLog
from agentic_os.postgres.issue_book import PostgresIssueBook
from agentic_os.postgres.pool import Pool

BatchOf = Callable[..., Batch]
SIZE = 5


@pytest.fixture
async def filled(open_pool: Callable[..., Any]) -> Pool:
    """Open a pool with all its connections made."""
    pool: Pool = await open_pool(SIZE)
    busy = asyncio.Barrier(SIZE)

    async def borrow() -> None:
        async with pool.connection() as connection:
            await connection.execute("select 1")
            await busy.wait()

    await asyncio.gather(*(borrow() for _ in range(SIZE)))
    return pool


def end_connections(superuser: psycopg.Connection, app_role: str) -> None:
    """Have the server end every connection of the application, and wait until it has."""
    ended = "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where usename = %s"
    assert (SIZE,) == superuser.execute(ended, (app_role,)).fetchone()


async def test_ended_connections_are_replaced(
    filled: Pool, superuser: psycopg.Connection, app_role: str, batch_of: BatchOf
):
    """After the server ended all connections a use works or says that the store is away, and soon all work."""
    log, issues = PostgresEventLog(filled), PostgresIssueBook(filled)
    end_connections(superuser, app_role)

    failures = 0
    for number in range(2 * SIZE):
        try:
            if number % 2:
                await log.append(batch_of((f"lab:{number}", 0)))
            else:
                await issues.take_in("memory", [], str(number))
        except StoreUnavailable:
            failures += 1

    assert failures <= SIZE
    await asyncio.gather(*(log.append(batch_of((f"lab:after/{number}", 0))) for number in range(2 * SIZE)))


async def test_a_connection_that_ends_in_use_stores_nothing(
    filled: Pool, superuser: psycopg.Connection, contents: Callable[..., list[str]], app_role: str
):
    """When the server ends a connection in the middle of a transaction, the caller hears that the store is away."""

    async def write() -> None:
        async with filled.connection() as connection, connection.transaction():
            await connection.execute("insert into es.stale (task_id) values ('t')")
            end_connections(superuser, app_role)
            await connection.execute("select 1")

    with pytest.raises(StoreUnavailable):
        await write()
    assert [] == contents("stale")


async def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Any):
    """Opening a pool on a server that does not answer says so, and so does using one that was closed."""
    monkeypatch.setattr("agentic_os.postgres.pool._WAIT", 0.2)
    pool = Pool(f"host={tmp_path} dbname=nothing user=nobody")

    with pytest.raises(StoreUnavailable, match="does not answer"):
        await pool.open()
    await pool.close()

    with pytest.raises(StoreUnavailable):
        async with pool.connection():
            pass


async def test_other_failures_keep_their_name(pool: Pool):
    """A fault of the statement is no outage: it is told as what it is, and the connection goes on to serve."""
    with pytest.raises(psycopg.errors.UndefinedTable):
        async with pool.connection() as connection:
            await connection.execute("select * from es.nothing")
    with pytest.raises(ValueError, match="own"):
        async with pool.connection():
            raise ValueError("own")
    async with pool.connection() as connection:
        assert (1,) == await (await connection.execute("select 1")).fetchone()
