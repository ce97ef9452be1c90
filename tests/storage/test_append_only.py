"""History is append-only: by rights for the application, by triggers for the owner."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import errors

from agentic_os.application.ports import Batch, Receipt
from agentic_os.postgres.event_log import PostgresEventLog

BatchOf = Callable[..., Batch]
HISTORY = ("event", "stream", "receipt", "checkpoint")
WORK = ("task", "stale", "deadline", "account", "artifact", "quarantine", "credential", "inbox", "feed")
RECEIPT = Receipt(principal="coder", route="/callback", key="k", fingerprint=b"f")


@pytest.fixture
async def written(log: PostgresEventLog, owner: psycopg.Connection, batch_of: BatchOf) -> None:
    """Store a row in each table of the history."""
    await log.append(batch_of(("lab:a", 0), facts=2, receipt=RECEIPT))
    owner.execute("insert into es.checkpoint (streams, events, root, signature) values (1, 2, '', '')")


LAST_COLUMN = {"event": "hash", "stream": "head", "receipt": "at", "checkpoint": "at"}


@pytest.mark.parametrize(
    "statement",
    [
        "insert into es.{table} default values",
        "update es.{table} set {column} = {column}",
        "delete from es.{table}",
        "truncate es.{table}",
        "alter table es.{table} disable trigger all",
        "drop table es.{table}",
    ],
)
async def test_the_application_may_not_change_history(
    written: None, connect: Callable[..., Any], contents: Callable[..., list[str]], statement: str
):
    """The application's role may read the tables of the history and write to none of them."""
    before = contents(*HISTORY)
    connection = await connect()

    for table in HISTORY:
        with pytest.raises(
            errors.InsufficientPrivilege, match=f"(permission denied|must be owner).* {table}"
        ):
            await connection.execute(statement.format(table=table, column=LAST_COLUMN[table]).encode())

    assert before == contents(*HISTORY)


@pytest.mark.parametrize("rows", ["", " where false"])
async def test_triggers_stop_the_owner(written: None, owner: psycopg.Connection, rows: str):
    """Even the owner's change of history is refused, rows or none; only the head of a stream may move."""
    statements = ["update es.event set hash = hash", "update es.receipt set at = at"]
    statements += ["update es.checkpoint set at = at", *(f"delete from es.{table}" for table in HISTORY)]

    for statement in [s + rows for s in statements] + [f"truncate es.{table}" for table in HISTORY]:
        with pytest.raises(errors.InsufficientPrivilege, match="append-only"):
            owner.execute(statement.encode())


def test_the_application_owns_nothing(owner: psycopg.Connection, app_role: str):
    """No table, function, schema, type or database belongs to the application's role, nor may it make any."""
    owned = """
        select relname from pg_class where relowner = %(app)s::regrole
        union all select proname from pg_proc where proowner = %(app)s::regrole
        union all select nspname from pg_namespace where nspowner = %(app)s::regrole
        union all select typname from pg_type where typowner = %(app)s::regrole
        union all select datname from pg_database where datdba = %(app)s::regrole
        union all select nspname from pg_namespace where nspname in ('es', 'public')
            and has_schema_privilege(%(app)s, oid, 'CREATE')
        union all select r.rolname from pg_roles r where r.oid <> %(app)s::regrole
            and pg_has_role(%(app)s, r.oid, 'MEMBER')
        union all select rolname from pg_roles where oid = %(app)s::regrole
            and (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls)
    """

    assert [] == owner.execute(owned, {"app": app_role}).fetchall()


def test_the_application_may_write_where_work_is_kept(owner: psycopg.Connection, app_role: str):
    """The work tables take ordinary statements of the application, and no TRUNCATE; the epoch is read only."""
    rights = """
        select array(select verb from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER',
            'REFERENCES']) verb where has_table_privilege(%s, %s::regclass, verb))
    """
    for table in WORK:
        found = owner.execute(rights, (app_role, f"es.{table}")).fetchone()
        assert (["SELECT", "INSERT", "UPDATE", "DELETE"],) == found
    for table in (*HISTORY, "epoch"):
        assert (["SELECT"],) == owner.execute(rights, (app_role, f"es.{table}")).fetchone()


def test_functions_with_the_owners_rights_fix_their_search_path(owner: psycopg.Connection):
    """Whatever runs with the owner's rights looks names up in es alone, and in the caller's temporary ones last."""
    query = """
        select proname, proconfig from pg_proc
        where prosecdef and pronamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
        order by proname
    """
    fixed = ["search_path=es, pg_temp"]

    assert [("append", fixed), ("append_all", fixed)] == owner.execute(query).fetchall()


async def test_temporary_tables_do_not_shadow_history(
    open_log: Callable[..., Any],
    contents: Callable[..., list[str]],
    batch_of: BatchOf,
):
    """Temporary tables of the application, named like those of the history, get nothing and change nothing."""
    connection, log = await open_log()
    await connection.execute("set search_path = pg_temp, es")
    for table in (*HISTORY, "account", "stale", "credential"):
        await connection.execute(f"create temporary table {table} (like es.{table})".encode())
    await connection.execute("insert into pg_temp.stream values ('lab:a', 'lab', 7, '')")

    appended = await log.append(batch_of(("lab:a", 0), receipt=RECEIPT, stale=["t"]))

    assert not appended.replayed
    assert 4 == len(contents("event", "stream", "receipt", "stale"))
    cursor = await connection.execute(
        "select (select count(*) from pg_temp.event) + (select count(*) from pg_temp.receipt) "
        "+ (select count(*) from pg_temp.stale)"
    )
    assert (0,) == await cursor.fetchone()


@pytest.mark.parametrize(
    "statement", ["select * from es.event", "select es.refuse_change()", "table es.credential"]
)
async def test_the_board_sees_nothing_of_it(database: Any, statement: str):
    """The built-in tracker's role has no right in the schema of the event store."""
    async with await psycopg.AsyncConnection.connect(database.board, autocommit=True) as connection:
        with pytest.raises(errors.InsufficientPrivilege, match="schema es"):
            await connection.execute(statement.encode())
