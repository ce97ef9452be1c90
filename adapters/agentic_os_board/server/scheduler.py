"""Wakes the routines: sleeps until the earliest one is due."""

import asyncio
import logging
from datetime import datetime, timedelta

from agentic_os_board.clock import now

from .database import Database, DatabaseError
from .routines import act_on_due

_logger = logging.getLogger(__name__)
_RETRY = timedelta(seconds=5)
_LONGEST_SLEEP = 30.0


class Scheduler:
    """Acts on routines as they come due, and asks the database only then and when a routine was changed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._changed = asyncio.Event()

    def wake(self) -> None:
        """Look again at when the next routine is due: one was changed."""
        self._changed.set()

    async def serve(self) -> None:
        """Act on what is due, until cancelled."""
        while True:
            self._changed.clear()
            try:
                earliest = await act_on_due(self._database, now())
            except DatabaseError as error:
                _logger.warning("routines wait for the database: %s", error)
                earliest = now() + _RETRY
            await self._sleep_until(earliest)

    async def _sleep_until(self, earliest: datetime | None) -> None:
        """Sleep in short pieces: the clock may be set, and a machine that was asleep does not count that time."""
        while earliest is None or earliest > now():
            rest = (earliest - now()).total_seconds() if earliest else _LONGEST_SLEEP
            try:
                async with asyncio.timeout(min(max(rest, 0.01), _LONGEST_SLEEP)):
                    await self._changed.wait()
            except TimeoutError:
                continue
            return
