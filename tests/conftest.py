"""What tests of several folders share: a real PostgreSQL for each worker, a fresh database for each test."""

import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import settings
from psycopg import sql
from psycopg.conninfo import make_conninfo

from agentic_os.application.backend import Backend
from agentic_os.application.rates import Rates
from agentic_os.bootstrap import Parts, open_backend
from agentic_os.control_plane import ControlPlane
from agentic_os.domain.policy import DecisionPoint
from agentic_os.governance import load_governance
from agentic_os.hydration import load_definition
from agentic_os.postgres.databases import Databases, open_databases
from agentic_os.postgres.embedded import discard
from agentic_os.postgres.migrations import migrate
from agentic_os.postgres.pool import Pool

_numbers = itertools.count(1)
LEAST_MEMORY = 4 << 30
"""Bytes that must be free in memory for the databases of a run, several times what they take; containers have less."""

settings.register_profile("gate", deadline=None)  # how long an example takes says more about the machine
settings.load_profile("gate")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the random interleavings run for longer than in a build."""
    parser.addoption("--interleavings", type=int, help="examples of tests/faults/test_interleavings.py")


@dataclass(frozen=True)
class Database:
    """A database of its own, empty but migrated: how to connect as its owner, the application, the board."""

    name: str
    owner: str
    app: str
    board: str


@dataclass(frozen=True)
class Server:
    """The embedded server of this worker."""

    databases: Databases
    superuser: str
    tablespace: str


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run one embedded server for all tests of this worker, its first database migrated."""
    home = tmp_path_factory.mktemp("postgres")
    with open_databases(home, None, say=lambda _: None) as found:
        migrate(found.owner, found.app)
        secret = (home / "secrets" / "postgres").read_text().strip()
        superuser = make_conninfo(found.owner, user="postgres", password=secret, dbname="postgres")
        with psycopg.connect(superuser, autocommit=True) as connection:
            # Nobody pulls the plug on a test, and hundreds of databases are made; crashes have tests of their own.
            connection.execute("alter system set fsync = off")
            connection.execute("select pg_reload_conf()")
            memory = _tablespace_in_memory(connection)
        yield Server(found, superuser, "pg_default" if memory is None else memory.name)
    discard(home)
    if memory is not None:
        shutil.rmtree(memory)


def _tablespace_in_memory(connection: psycopg.Connection) -> Path | None:
    """Make a place for databases that no disk is asked about: their hundreds of files are most of what one costs."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shutil.disk_usage(shared).free < LEAST_MEMORY:
        return None
    place = Path(tempfile.mkdtemp(prefix="agentic_os_tests_", dir=shared))
    row = connection.execute("show data_directory").fetchone()
    assert row is not None
    data = Path(row[0]).stat()
    os.chown(place, data.st_uid, data.st_gid)
    made = sql.SQL("create tablespace {} location {}")
    connection.execute(made.format(sql.Identifier(place.name), sql.Literal(str(place))))
    connection.execute(sql.SQL("grant create on tablespace {} to public").format(sql.Identifier(place.name)))
    return place


@pytest.fixture(scope="session", autouse=True)
def no_server_stays_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Remove what stacks of tests keep outside of their homes, where root runs them."""
    yield
    for pointer in tmp_path_factory.getbasetemp().rglob("postgres.location"):
        discard(pointer.parent)


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    """Copy the migrated database for one test."""
    name = f"test_{next(_numbers)}"
    made = sql.SQL("create database {} template agentic_os owner agentic_os_owner tablespace {}").format(
        sql.Identifier(name), sql.Identifier(server.tablespace)
    )
    with psycopg.connect(server.superuser, autocommit=True) as connection:
        connection.execute(made)
    yield Database(
        name=name,
        owner=make_conninfo(server.databases.owner, dbname=name),
        app=make_conninfo(server.databases.app, dbname=name),
        board=make_conninfo(server.databases.board, dbname=name),
    )
    with psycopg.connect(server.superuser, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """Connect as the application."""
    found = Pool(database.app)
    await found.open()
    yield found
    await found.close()


OpenBackend = Callable[..., AbstractAsyncContextManager[Backend]]


@pytest.fixture
def open_test_backend(database: Database, tmp_path: Path) -> OpenBackend:
    """Put a backend together over a fresh database, as `up` does, with the blank preset unless told otherwise."""

    def opened(
        *, policy: DecisionPoint | None = None, control_plane: ControlPlane | None = None, **more: Any
    ) -> AbstractAsyncContextManager[Backend]:
        # All of a test comes from one address, and many a test is refused more often than anyone should be.
        more = {"rates": Rates(refusals=None)} | more
        return open_backend(
            Parts(
                dsn=database.app,
                server_key=b"k" * 32,
                artifacts=tmp_path / "artifacts",
                policy=policy or load_governance(None).policy,
                skills=load_definition(None),
                public_url="http://127.0.0.1:8700",
                control_plane=control_plane,
                **more,
            )
        )

    return opened


@pytest.fixture
async def backend(open_test_backend: OpenBackend) -> AsyncIterator[Backend]:
    """Open a backend without a control plane."""
    async with open_test_backend() as found:
        yield found
