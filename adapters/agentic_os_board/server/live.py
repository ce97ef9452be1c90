"""Tells open pages that something changed: one reader of the board's history, fanned out to all of them.

A page is told that it is out of date, never what happened: it reads itself again, with the rights of whoever looks at
it. So nothing can leak here, and a message more or less harms nobody.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from .database import Database, DatabaseError
from .problems import Busy

MOST_PAGES: Final = 512
_HEARTBEAT_SECONDS = 20.0
_LIFETIME_SECONDS = 600.0
_PAUSE_SECONDS = 0.5
_RETRY_SECONDS = 1.0


@dataclass(slots=True, eq=False)
class _Page:
    """An open page. topic: what it shows. due: set when it is out of date, or is to end."""

    topic: str
    due: asyncio.Event = field(default_factory=asyncio.Event)


class Live:
    """Fans changes out to open pages. A topic is "all" for lists, "issue:N" or "run:ID"."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pages: set[_Page] = set()
        self._committed = asyncio.Event()
        self._position: int | None = None
        self._closed = False
        database.on_commit(self._committed.set)

    async def serve(self) -> None:
        """Read what was committed and tell the pages, until cancelled."""
        while True:
            try:
                topics = await self._changed()
            except DatabaseError:
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            for page in self._pages:
                if page.topic in topics:
                    page.due.set()
            await self._committed.wait()
            self._committed.clear()

    def touch(self, topic: str) -> None:
        """Tell the pages of one topic that they are out of date."""
        for page in self._pages:
            if page.topic == topic:
                page.due.set()

    def close(self) -> None:
        """End every stream, and open no other."""
        self._closed = True
        for page in self._pages:
            page.due.set()

    def require_room(self) -> None:
        """Refuse one page more than there is room for. Raises Busy."""
        if self._closed or len(self._pages) >= MOST_PAGES:
            raise Busy(f"{MOST_PAGES} pages are kept up to date already; reload this one by hand")

    async def follow(self, topic: str, after: int | None) -> AsyncIterator[bytes]:
        """Write a page's server-sent events; after: the activity that it was read at, None if it may be behind."""
        with self._opened(topic) as page:
            yield b": open\n\n"
            if after is None or await self._is_behind(topic, after):
                page.due.set()
            loop = asyncio.get_running_loop()
            # A stream ends after a while, so that whoever was signed out meanwhile is asked who they are.
            ends = loop.time() + _LIFETIME_SECONDS
            while loop.time() < ends:
                message = await _next_message(page)
                if self._closed:
                    return
                yield message
                # What happens in the pause is one message, not many.
                await asyncio.sleep(_PAUSE_SECONDS)

    @contextmanager
    def _opened(self, topic: str) -> Iterator[_Page]:
        page = _Page(topic)
        self._pages.add(page)
        try:
            yield page
        finally:
            self._pages.discard(page)

    async def _changed(self) -> set[str]:
        """Name the topics that changed since the last call; at the first call, none."""
        async with self._database.read() as tx:
            if self._position is None:
                cursor = await tx.execute("select coalesce(max(id), 0) as newest from activities")
                row = await cursor.fetchone()
                self._position = int(row["newest"]) if row else 0
                return set()
            cursor = await tx.execute(
                "select issue, max(id) as newest, array_agg(distinct data ->> 'run') as runs from activities"
                " where id > %s group by issue",
                (self._position,),
            )
            rows = await cursor.fetchall()
        self._position = max([self._position, *(row["newest"] for row in rows)])
        topics = {f"run:{run}" for row in rows for run in row["runs"] if run}
        return (
            topics | {f"issue:{row['issue']}" for row in rows if row["issue"]} | ({"all"} if rows else set())
        )

    async def _is_behind(self, topic: str, after: int) -> bool:
        kind, _, key = topic.partition(":")
        issue = int(key) if kind == "issue" else None
        async with self._database.read() as tx:
            cursor = await tx.execute(
                "select exists (select from activities where id > %s"
                " and (%s::bigint is null or issue = %s)) as behind",
                (after, issue, issue),
            )
            row = await cursor.fetchone()
        return bool(row and row["behind"])


async def _next_message(page: _Page) -> bytes:
    """Wait for the page to be out of date; without that, say now and then that the stream is alive."""
    try:
        async with asyncio.timeout(_HEARTBEAT_SECONDS):
            await page.due.wait()
    except TimeoutError:
        return b": alive\n\n"
    page.due.clear()
    return b"event: changed\ndata: {}\n\n"
