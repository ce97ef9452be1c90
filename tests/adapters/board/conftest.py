"""A PostgreSQL server for the board's tests, and boards over databases of their own."""

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from agentic_os.postgres.embedded import EmbeddedServer, running_server
from agentic_os_board.testing import BoardProcess


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedServer]:
    home = Path(tempfile.mkdtemp(prefix="aosb-"))
    try:
        with running_server(home / "server", say=lambda _: None) as server:
            yield server
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def new_database(postgres: EmbeddedServer) -> Callable[[], str]:
    """Make databases, each with a role that owns the schema `board` and nothing else."""

    def make() -> str:
        name, password = f"board_{secrets.token_hex(6)}", secrets.token_hex(16)
        with psycopg.connect(postgres.superuser("postgres"), autocommit=True) as connection:
            role = sql.SQL("create role {} login password {}")
            connection.execute(role.format(sql.Identifier(name), sql.Literal(password)))
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        with psycopg.connect(postgres.superuser(name), autocommit=True) as connection:
            schema = sql.SQL("create schema board authorization {}")
            connection.execute(schema.format(sql.Identifier(name)))
        return make_conninfo(postgres.superuser(name), user=name, password=password)

    return make


@pytest.fixture
def new_board(new_database: Callable[[], str], tmp_path: Path) -> Iterator[Callable[..., BoardProcess]]:
    """Start boards of this test alone."""
    with ExitStack() as stack:

        def start(**settings: Any) -> BoardProcess:
            board = BoardProcess(new_database(), tmp_path / f"board-{secrets.token_hex(4)}", **settings)
            return stack.enter_context(board)

        yield start


@pytest.fixture(scope="module")
def board(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BoardProcess]:
    """Start a board that the tests of a module share."""
    with BoardProcess(new_database(), tmp_path_factory.mktemp("board") / "home") as started:
        yield started
