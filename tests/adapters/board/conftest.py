"""A PostgreSQL server for the board's tests, and boards over databases of their own."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests.conftest import Server

from agentic_os_board.testing import BoardProcess


@pytest.fixture(scope="session")
def new_database(server: Server) -> Callable[[], str]:
    """Make databases, each with a role that owns the schema `board` and nothing else."""

    def make() -> str:
        name, password = f"board_{secrets.token_hex(6)}", secrets.token_hex(16)
        with psycopg.connect(server.superuser, autocommit=True) as connection:
            role = sql.SQL("create role {} login password {}")
            connection.execute(role.format(sql.Identifier(name), sql.Literal(password)))
            made = sql.SQL("create database {} tablespace {}")
            connection.execute(made.format(sql.Identifier(name), sql.Identifier(server.tablespace)))
        database = make_conninfo(server.superuser, dbname=name)
        with psycopg.connect(database, autocommit=True) as connection:
            schema = sql.SQL("create schema board authorization {}")
            connection.execute(schema.format(sql.Identifier(name)))
        return make_conninfo(database, user=name, password=password)

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
