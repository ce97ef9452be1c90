"""Migrations: each once, in order, never edited, never backwards, however many start at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from agentic_os.postgres.migrations import Migration, MigrationError, migrate, migrations_in, shipped, status

ONE = Migration(1, "0001_one", "create table public.one (n integer); insert into public.one values (1);")
TWO = Migration(2, "0002_two", "insert into public.one values (2);")


@pytest.fixture
def empty(server: Any) -> Iterator[tuple[str, str]]:
    """Make a database without any migration; give the connection strings of its owner and the application."""
    name = sql.Identifier("unmigrated")
    with psycopg.connect(server.superuser, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {} owner agentic_os_owner").format(name))
        yield tuple(
            make_conninfo(found, dbname="unmigrated")
            for found in (server.databases.owner, server.databases.app)
        )
        connection.execute(sql.SQL("drop database {} with (force)").format(name))


def rows(dsn: str, query: str) -> list[Any]:
    """Read the first column of a query."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return [row[0] for row in connection.execute(query.encode())]


def test_each_is_applied_once(empty: tuple[str, str]):
    """What ships is applied to an empty database in order, and a second run has nothing to do."""
    names = [migration.name for migration in shipped()]
    assert [False] * len(names) == [found.applied for found in status(empty[0])]

    assert names == migrate(*empty)
    assert [] == migrate(*empty)

    assert [True] * len(names) == [found.applied for found in status(empty[0])]
    ledger = "select name from public.agentic_os_migration order by number"
    assert names == rows(empty[0], ledger)


def test_runners_at_once_apply_once(empty: tuple[str, str]):
    """Of four runners that start together, each migration is applied by one, and all four succeed."""
    start = Barrier(4)

    def run(_: int) -> list[str]:
        start.wait()
        return migrate(*empty)

    with ThreadPoolExecutor(4) as runners:
        applied = [name for found in runners.map(run, range(4)) for name in found]

    assert [migration.name for migration in shipped()] == sorted(applied)
    assert [] == migrate(*empty)


def test_a_later_release_adds_what_is_new(empty: tuple[str, str]):
    """A database at an older migration gets only the newer ones."""
    migrate(*empty, [ONE])

    assert ["0002_two"] == migrate(*empty, [ONE, TWO])
    assert [1, 2] == rows(empty[0], "select n from public.one order by n")


def test_due_dates_of_older_releases_get_their_deadlines(empty: tuple[str, str]):
    """What was stored before due dates were deadlines is due as well, unless it has ended or is never due."""
    found = shipped()
    (own,) = [n for n, migration in enumerate(found) if migration.name == "0005_time"]
    migrate(*empty, found[:own])
    with psycopg.connect(empty[0], autocommit=True) as connection:
        for name, phase, state in (
            ("late", "executing", '{"due":"2030-01-01T12:00:00Z"}'),
            ("over", "completed", '{"due":"2030-01-01T12:00:00Z"}'),
            ("never", "ready", "{}"),
        ):
            connection.execute(
                "insert into es.task (task_id, version, fold_version, phase, project, title, priority, state, "
                "created_at, updated_at) values (%s, 1, 2, %s, 'p', 't', 'medium', %s, now(), now())",
                (name, phase, state),
            )

    migrate(*empty)

    query = (
        "select task_id || ' ' || kind || ' ' || ref || ' ' || (at = '2030-01-01T12:00:00Z') from es.deadline"
    )
    assert ["late due task true"] == rows(empty[0], query)


@pytest.mark.parametrize("edited", [replace(ONE, sql=ONE.sql + " "), replace(ONE, name="0001_uno")])
def test_an_edited_file_is_refused(empty: tuple[str, str], edited: Migration):
    """A file that is not the one that was applied stops everything, by its name, before anything newer runs."""
    migrate(*empty, [ONE])

    with pytest.raises(MigrationError, match=f"{edited.name} was edited.*new migration"):
        migrate(*empty, [edited, TWO])

    assert [1] == rows(empty[0], "select n from public.one")


def test_a_database_of_a_later_release_is_refused(empty: tuple[str, str]):
    """An older release does not work on a database that a newer one has changed."""
    migrate(*empty, [ONE, TWO])

    with pytest.raises(MigrationError, match=r"at migration 2.*knows only 1"):
        migrate(*empty, [ONE])


def test_one_that_fails_leaves_nothing(empty: tuple[str, str]):
    """A migration is applied as a whole or not at all; those before it stay."""
    broken = replace(TWO, sql=TWO.sql + " select 1 / 0;")

    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(*empty, [ONE, broken])

    assert [1] == rows(empty[0], "select n from public.one")
    assert ["0002_two"] == migrate(*empty, [ONE, TWO])


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["0001_one.sql", "0003_three.sql"], "without gap"),
        (["0002_two.sql"], "without gap"),
        (["0001_one.sql", "0001_uno.sql"], "without gap or repeat"),
        (["0001_one.sql", "two.sql"], "two.sql: a migration is named NNNN_what.sql"),
        (["0001_One.sql"], "is named NNNN_what.sql"),
    ],
)
def test_files_are_numbered_without_gap(tmp_path: Path, names: list[str], complaint: str):
    """A folder with a gap, a repeat or a stray name is refused as a whole."""
    for name in names:
        (tmp_path / name).write_text("select 1;")

    with pytest.raises(MigrationError, match=complaint):
        migrations_in(tmp_path)


def test_a_folder_is_read_in_order(tmp_path: Path):
    """The migrations of a folder come in the order of their numbers, with their text."""
    for migration in (TWO, ONE):
        (tmp_path / f"{migration.name}.sql").write_text(migration.sql)
    (tmp_path / "README.md").write_text("not one")

    assert [ONE, TWO] == list(migrations_in(tmp_path))
