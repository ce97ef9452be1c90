"""Waking other processes: one hears what another announces, seldom, and again after a lost connection."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
import pytest

from agentic_os.postgres import wakeup
from agentic_os.postgres.wakeup import Wakeup


class Process:
    """What stands for a process: its wake-ups, and how often it was woken."""

    def __init__(self, dsn: str) -> None:
        self.woken = 0
        self._again = asyncio.Event()
        self.wakeup = Wakeup(dsn, self._wake)

    def _wake(self) -> None:
        self.woken += 1
        self._again.set()

    def next(self) -> Awaitable[object]:
        """Give what waits until it is woken after this call."""
        self._again.clear()
        return self._again.wait()


@pytest.fixture
def process(database: Any) -> Callable[[], Any]:
    """Run a process that listens, ended at the end; it looks around once when its ears are open."""

    @asynccontextmanager
    async def running() -> AsyncIterator[Process]:
        found = Process(database.app)
        listening = found.next()
        task = asyncio.create_task(found.wakeup.run())
        await listening
        yield found
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    return running


@pytest.fixture
async def notifications(database: Any) -> AsyncIterator[Callable[[], Any]]:
    """Listen beside them; gives how many notifications came before one that ends the count."""
    connecting = psycopg.AsyncConnection.connect(database.app, autocommit=True)
    async with await connecting as connection:
        await connection.execute("listen agentic_os")

        async def count() -> int:
            async with await psycopg.AsyncConnection.connect(database.app, autocommit=True) as other:
                await other.execute("select pg_notify('agentic_os', 'the end')")
            found = 0
            async for notification in connection.notifies():
                if notification.payload == "the end":
                    break
                found += 1
            return found

        yield count


async def test_one_process_wakes_another(process: Callable[[], Any]):
    """What one announces the other hears, in both directions, and nobody wakes itself."""
    async with process() as one, process() as other:
        before = one.woken
        woken = other.next()
        one.wakeup.announce()
        await woken
        woken = one.next()
        other.wakeup.announce()
        await woken

        assert before + 1 == one.woken  # its own came earlier on the same connection, and was passed over


async def test_many_announcements_are_few_notifications(
    process: Callable[[], Any], notifications: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
):
    """However often something is announced at once, one notification goes out; the next ones wait their turn."""
    monkeypatch.setattr(wakeup, "_INTERVAL", 0.05)
    async with process() as one, process() as other:
        await notifications()
        loop = asyncio.get_running_loop()
        woken = other.next()
        for _ in range(1000):
            one.wakeup.announce()
        await woken
        assert 1 == await notifications()

        start = loop.time()
        while loop.time() < start + 0.3:
            one.wakeup.announce()
            await asyncio.sleep(0)
        sent = await notifications()
        elapsed = loop.time() - start

    assert 1 <= sent <= elapsed / 0.05 + 1


@pytest.mark.parametrize("whose", ["listen", "notify"])
async def test_a_lost_connection_is_made_anew(
    process: Callable[[], Any], superuser: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, whose: str
):
    """When the server ends a connection it is opened again, the process looks around, and all works as before."""
    monkeypatch.setattr(wakeup, "_RETRY", 0.05)
    kill = "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity where query = %s"
    async with process() as one, process() as other:
        woken = other.next()
        one.wakeup.announce()
        await woken

        woken = other.next()
        if whose == "listen":
            assert (2,) == superuser.execute(kill, ("listen agentic_os",)).fetchone()
            await woken  # it was told nothing, and looks around because it may have missed something
            woken = other.next()
        else:
            assert (1,) == superuser.execute(kill, ("notify agentic_os",)).fetchone()
        one.wakeup.announce()
        await woken
