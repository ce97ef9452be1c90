"""The board's database: writers take turns, migrations are applied once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from importlib.resources import files

import psycopg
import pytest

from agentic_os_board.server.accounts import Account, add_account
from agentic_os_board.server.activity import read_feed, record
from agentic_os_board.server.database import Database, EditedMigration, open_database


@pytest.fixture
async def database(new_database: Callable[[], str]) -> AsyncIterator[Database]:
    async with open_database(new_database()) as opened:
        yield opened


async def test_a_reader_never_passes_a_writer(database: Database) -> None:
    """What is written later must not be seen earlier, or a reader would go past what is not yet committed."""
    async with database.read() as tx:
        ada = await add_account(tx, name="ada", kind="person")
    async with database.write() as first:
        await record(first, ada, 1, "comment.created", {"order": 1})
        second = asyncio.create_task(_write(database, ada))
        async with asyncio.timeout(20):
            while not second.done() and not await _is_waiting(database):  # noqa: ASYNC110 - the lock is PostgreSQL's
                await asyncio.sleep(0.01)
        async with database.read() as tx:
            seen, _ = await read_feed(tx, "", 100)
        assert seen == []
    await second
    async with database.read() as tx:
        items, _ = await read_feed(tx, "", 100)
    assert [1, 2] == [item["data"]["order"] for item in items]


async def _write(database: Database, actor: Account) -> None:
    async with database.write() as tx:
        await record(tx, actor, 1, "comment.created", {"order": 2})


async def _is_waiting(database: Database) -> bool:
    async with database.read() as tx:
        cursor = await tx.execute("select 1 from pg_locks where locktype = 'advisory' and not granted")
        return await cursor.fetchone() is not None


async def test_a_write_that_fails_leaves_nothing_and_wakes_nobody(database: Database) -> None:
    """A transaction that did not commit must tell no listener, and record no activity."""
    woken: list[bool] = []
    database.on_commit(lambda: woken.append(True))
    async with database.read() as tx:
        ada = await add_account(tx, name="ada", kind="person")
    with suppress(ZeroDivisionError):
        async with database.write() as tx:
            await record(tx, ada, 1, "comment.created", {})
            raise ZeroDivisionError
    async with database.read() as tx:
        assert await read_feed(tx, "", 100) == ([], "0")
    assert woken == []


async def test_migrations_are_applied_once(new_database: Callable[[], str]) -> None:
    """Opening again must change nothing, and refuse a migration that was edited after it was applied."""
    url = new_database()
    for _ in range(2):
        async with open_database(url):
            pass
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute("update board.migrations set digest = 'another' returning name")
        names = [file.name for file in sorted(files("agentic_os_board.server").joinpath("sql").iterdir())]
        assert sorted(await cursor.fetchall()) == [(name,) for name in names]
    with pytest.raises(EditedMigration):
        async with open_database(url):
            pass
