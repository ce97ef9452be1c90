"""The board's connection to PostgreSQL: its pool, its migrations, and its order of writing."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, TypeAlias

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

Row: TypeAlias = dict[str, Any]
Connection: TypeAlias = AsyncConnection[Row]

_MIGRATION_LOCK, _WRITER_LOCK, _SERVER_LOCK = 0x626F_0001, 0x626F_0002, 0x626F_0003
_OPTIONS = "-c search_path=board -c statement_timeout=15000 -c lock_timeout=10000 -c timezone=UTC"
_TAKE_OVER_SECONDS = 5


class AlreadyServed(Exception):
    """Another server holds this database; two would kill each other's runs."""


class EditedMigration(Exception):
    """A migration that was applied is not the one in this package."""


class Database:
    """Transactions over the board's schema."""

    def __init__(self, pool: AsyncConnectionPool[Connection]) -> None:
        self._pool = pool
        self._listeners: list[Callable[[], None]] = []

    def on_commit(self, listener: Callable[[], None]) -> None:
        """Call the listener after every committed write."""
        self._listeners.append(listener)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Connection]:
        """Open a transaction that changes no issue: for reading, and for sessions and tokens."""
        async with self._pool.connection() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Connection]:
        """Open a transaction that may record activities, one at a time over the whole board."""
        async with self.read() as connection:
            await connection.execute("select pg_advisory_xact_lock(%s)", (_WRITER_LOCK,))
            yield connection
        for listener in self._listeners:
            listener()


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """Migrate and open the database, alone. Raises AlreadyServed, EditedMigration, psycopg.Error."""
    pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
        url,
        connection_class=AsyncConnection[Row],
        kwargs={"row_factory": dict_row, "options": _OPTIONS, "connect_timeout": 5},
        check=AsyncConnectionPool.check_connection,
        min_size=1,
        max_size=8,
        timeout=10,
        open=False,
    )
    guard = await AsyncConnection[Row].connect(
        url, autocommit=True, row_factory=dict_row, options=_OPTIONS, connect_timeout=5
    )
    async with guard:
        await _be_alone(guard)
        await _migrate(guard)
        async with pool:
            yield Database(pool)


async def _be_alone(connection: Connection) -> None:
    """Hold a lock for as long as the connection lives; a server that was killed lets go within seconds."""
    for _ in range(_TAKE_OVER_SECONDS * 5):
        cursor = await connection.execute("select pg_try_advisory_lock(%s) as held", (_SERVER_LOCK,))
        row = await cursor.fetchone()
        if row and row["held"]:
            return
        await asyncio.sleep(0.2)
    raise AlreadyServed("another board serves this database; stop it, or give this one a database of its own")


async def _migrate(connection: Connection) -> None:
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(%s)", (_MIGRATION_LOCK,))
        cursor = await connection.execute("select to_regnamespace('board') is null as absent")
        row = await cursor.fetchone()
        if row and row["absent"]:
            await connection.execute("create schema board")
        await connection.execute(
            "create table if not exists migrations ("
            "name text primary key, digest text not null, applied_at timestamptz not null default now())"
        )
        cursor = await connection.execute("select name, digest from migrations")
        applied = {row["name"]: row["digest"] async for row in cursor}
        for name, text in _migrations():
            await _apply(connection, name, text, applied.get(name))


async def _apply(connection: Connection, name: str, text: str, applied: str | None) -> None:
    digest = hashlib.sha256(text.encode()).hexdigest()
    if applied is None:
        await connection.execute(sql.SQL(text))
        await connection.execute("insert into migrations (name, digest) values (%s, %s)", (name, digest))
    elif applied != digest:
        raise EditedMigration(f"{name} was applied in another wording; restore it and add a new file instead")


def _migrations() -> list[tuple[str, str]]:
    folder = files(__package__).joinpath("sql")
    scripts = sorted(
        (each for each in folder.iterdir() if each.name.endswith(".sql")), key=lambda each: each.name
    )
    return [(each.name, each.read_text("utf-8")) for each in scripts]


DatabaseError = psycopg.Error
