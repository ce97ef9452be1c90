"""Connections in autocommit as the role that owns nothing; a database that is away has one name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
import psycopg
from psycopg.rows import TupleRow
from psycopg.types.json import set_json_dumps
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from agentic_os.application.ports import StoreUnavailable

Connection = psycopg.AsyncConnection[TupleRow]
_WAIT: Final = 10.0


class Pool:
    """A pool whose failures are StoreUnavailable; nothing was stored unless the append answered."""

    def __init__(self, dsn: str, *, size: int = 10, pooled_elsewhere: bool = False) -> None:
        self.lent = 0
        """How often a connection was lent; each lending is one statement or one transaction."""
        options: dict[str, Any] = {"autocommit": True, "prepare_threshold": None if pooled_elsewhere else 5}
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            dsn,
            kwargs=options,
            min_size=1,
            max_size=size,
            max_idle=300.0,
            timeout=_WAIT,
            open=False,
            configure=_configure,
        )

    async def open(self) -> None:
        """Connect."""
        try:
            await self._pool.open(wait=True, timeout=_WAIT)
        except PoolTimeout as problem:
            raise StoreUnavailable("the database does not answer") from problem

    async def close(self) -> None:
        """Let go of all connections."""
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection. Raises StoreUnavailable when there is none, or it breaks."""
        try:
            async with self._pool.connection() as connection:
                self.lent += 1
                yield connection
        except (psycopg.OperationalError, PoolTimeout, PoolClosed) as problem:
            raise StoreUnavailable(str(problem)) from problem


async def _configure(connection: Connection) -> None:
    set_json_dumps(orjson.dumps, connection)
