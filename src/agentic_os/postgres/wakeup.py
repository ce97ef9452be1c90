"""Wake other processes after a commit: one side connection, at most fifty NOTIFYs a second, whatever happens."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import psycopg
import structlog

log = structlog.get_logger()

_CHANNEL: Final = "agentic_os"
_INTERVAL: Final = 0.02
_RETRY: Final = 2.0


class Wakeup:
    """Tells other processes that there is work, and calls `on_wake` when one of them says so, or may have.

    A failure of its connections never fails anything else: the once-a-minute look finds what was missed.
    """

    def __init__(self, dsn: str, on_wake: Callable[[], None]) -> None:
        self._dsn = dsn
        self._on_wake = on_wake
        self._pending = asyncio.Event()
        self._pid = 0

    def announce(self) -> None:
        """Say that something was committed; many calls become one notification."""
        self._pending.set()

    async def run(self) -> None:
        """Send and listen until cancelled, connecting again after a failure."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._again(self._send))
            group.create_task(self._again(self._listen))

    async def _again(self, loop: Callable[[psycopg.AsyncConnection], Awaitable[None]]) -> None:
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as connection:
                    await loop(connection)
            except (psycopg.Error, OSError) as problem:
                log.warning("wake-up connection lost", problem=str(problem))
            await asyncio.sleep(_RETRY)

    async def _send(self, connection: psycopg.AsyncConnection) -> None:
        self._pid = connection.info.backend_pid
        while True:
            await self._pending.wait()
            self._pending.clear()
            try:
                await connection.execute(f"notify {_CHANNEL}")
            except psycopg.Error:
                self._pending.set()  # the next connection says it
                raise
            await asyncio.sleep(_INTERVAL)

    async def _listen(self, connection: psycopg.AsyncConnection) -> None:
        await connection.execute(f"listen {_CHANNEL}")
        self._on_wake()  # what was said before nobody heard
        async for notification in connection.notifies():
            if notification.pid != self._pid:
                self._on_wake()
