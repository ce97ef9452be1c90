"""What tests of the storage share: batches of made-up facts, and the database seen by its owner and its superuser."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from agentic_os.application.ports import Batch, Envelope, RegistryChange
from agentic_os.domain.governance import BundleApplied
from agentic_os.postgres.event_log import PostgresEventLog
from agentic_os.postgres.pool import Pool

AT = datetime(2027, 1, 5, 12, tzinfo=UTC)


@pytest.fixture
def log(pool: Pool) -> PostgresEventLog:
    """Give the event log as the application has it."""
    return PostgresEventLog(pool)


@pytest.fixture
def batch_of() -> Callable[..., Batch]:
    """Make a batch: of each (stream, expected version) so many facts, and whatever else a batch holds."""

    def make(*targets: tuple[str, int], facts: int = 1, **more: Any) -> Batch:
        changes = [
            RegistryChange(
                stream=stream,
                expected=expected,
                events=[BundleApplied(bundle=f"{stream}/{expected + n}", document={}) for n in range(facts)],
            )
            for stream, expected in targets
        ]
        return Batch(envelope=Envelope(actor="tester", at=AT), registry=changes, **more)

    return make


@pytest.fixture
def owner(database: Any) -> Iterator[psycopg.Connection]:
    """Connect as the owner of the schema."""
    with closing(psycopg.connect(database.owner, autocommit=True)) as connection:
        yield connection


@pytest.fixture
def superuser(server: Any, database: Any) -> Iterator[psycopg.Connection]:
    """Connect as the one whom no right holds back."""
    conninfo = make_conninfo(server.superuser, dbname=database.name)
    with closing(psycopg.connect(conninfo, autocommit=True)) as connection:
        yield connection


@pytest.fixture
def app_role(database: Any) -> str:
    """Name the role that the application works as."""
    return str(conninfo_to_dict(database.app)["user"])


@pytest.fixture
async def connect(database: Any) -> AsyncIterator[Callable[..., Any]]:
    """Open connections of one's own as the application, closed at the end."""
    async with AsyncExitStack() as stack:

        async def opened(**options: Any) -> psycopg.AsyncConnection:
            connecting = psycopg.AsyncConnection.connect(database.app, autocommit=True, **options)
            return await stack.enter_async_context(await connecting)

        yield opened


@dataclass(frozen=True)
class OneConnection:
    """A pool of one connection that somebody else holds, perhaps in a transaction."""

    held: psycopg.AsyncConnection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection]:
        """Lend the connection."""
        yield self.held


@pytest.fixture
def open_log(connect: Callable[..., Any]) -> Callable[..., Any]:
    """Open an event log over a connection of its own, and give both: appends can then be held open."""

    async def opened() -> tuple[psycopg.AsyncConnection, PostgresEventLog]:
        connection = await connect()
        return connection, PostgresEventLog(cast("Pool", OneConnection(connection)))

    return opened


@pytest.fixture
def held(open_log: Callable[..., Any]) -> Callable[..., Any]:
    """Append in a transaction that stays open until the block ends."""

    @asynccontextmanager
    async def holding(batch: Batch) -> AsyncIterator[None]:
        connection, log = await open_log()
        async with connection.transaction():
            await log.append(batch)
            yield

    return holding


@pytest.fixture
async def open_pool(database: Any) -> AsyncIterator[Callable[..., Any]]:
    """Open pools as other processes would, closed at the end."""
    async with AsyncExitStack() as stack:

        async def opened(size: int = 2) -> Pool:
            pool = Pool(database.app, size=size)
            await pool.open()
            stack.push_async_callback(pool.close)
            return pool

        yield opened


@pytest.fixture
def somebody_waits(connect: Callable[..., Any]) -> Callable[..., Any]:
    """Wait until a connection waits for what another one holds."""

    async def wait() -> None:
        connection = await connect()
        await connection.execute(
            "do $$ begin while not exists (select from pg_locks where not granted) loop "
            "perform pg_sleep(0.002); end loop; end $$"
        )

    return wait


@pytest.fixture
def contents(superuser: psycopg.Connection) -> Callable[..., list[str]]:
    """Read whole tables as text, in the order of that text."""

    def read(*tables: str) -> list[str]:
        found = []
        for table in tables:
            query = sql.SQL("select t::text from es.{} t order by 1").format(sql.Identifier(table))
            found += [f"{table} {row[0]}" for row in superuser.execute(query)]
        return found

    return read
