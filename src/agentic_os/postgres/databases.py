"""The database a process works with, and the roles it works as.

The owner migrates, and does nothing else. The application's role owns nothing. The board, the built-in tracker,
owns one schema and has no right elsewhere.
"""

import hmac
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import Connection, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from agentic_os.postgres.embedded import EmbeddedServer, running_server
from agentic_os.postgres.embedded_errors import DatabaseUnavailable

__all__ = ["DatabaseUnavailable", "Databases", "open_databases"]

DATABASE = (
    "agentic_os"  # the embedded server's; its roles are agentic_os_owner, agentic_os_app, agentic_os_board
)
BOARD_SCHEMA = "board"
LONGEST_NAME = 63  # bytes; PostgreSQL would cut the rest off
OLDEST_VERSION = 15
SET_OPTION_SINCE = 16  # membership and the right to become a role are two things since then
CONNECT_TIMEOUT = 10
PREPARATION_LOCK = 0x6167_656E_7469_6373  # two processes may prepare one database at once
CREATES_IN_PUBLIC = (
    "SELECT has_schema_privilege(%s, oid, 'CREATE') FROM pg_namespace WHERE nspname = 'public'"
)
LIMITS = {15: ("idle_in_transaction_session_timeout", "30s"), 17: ("transaction_timeout", "2min")}


@dataclass(frozen=True)
class Databases:
    """How to connect as each role: libpq's connection strings, which hold secrets and so are not shown."""

    owner: str = field(repr=False)
    app: str = field(repr=False)
    board: str = field(repr=False)
    embedded: bool


@contextmanager
def open_databases(
    home: Path,
    database_url: str | None,
    *,
    say: Callable[[str], None],
    database_app_url: str | None = None,
    database_board_url: str | None = None,
) -> Iterator[Databases]:
    """Provide the database with its roles and the board's schema: at `database_url`, or in a server of ours.

    `database_url` is the owner's; the two other URLs are for servers whose roles an administrator makes.
    Raises DatabaseUnavailable.
    """
    if database_url is None:
        with running_server(home, say=say) as server:
            yield _prepare_embedded(server)
    else:
        yield _prepare_external(database_url, database_app_url, database_board_url)


def _prepare_embedded(server: EmbeddedServer) -> Databases:
    roles = tuple(f"{DATABASE}_{name}" for name in ("owner", "app", "board"))
    owner, app, board = (server.conninfo(role, DATABASE) for role in roles)
    with _connect(server.superuser("postgres"), "the embedded server") as connection:
        with connection.transaction():
            for conninfo in (owner, app, board):
                _create_role(connection, conninfo)
                _set_password(connection, conninfo)  # each time, whatever became of the file that keeps it
            _limit_transactions(connection, roles[1:])
            connection.execute("REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC")
        if _value(connection, "SELECT 1 FROM pg_database WHERE datname = %s", DATABASE) is None:
            connection.execute(_statement("CREATE DATABASE {} OWNER {}", DATABASE, roles[0]))
    with _connect(server.superuser(DATABASE), "the embedded server") as connection, connection.transaction():
        connection.execute(_statement("REVOKE ALL ON DATABASE {} FROM PUBLIC", DATABASE))
        connection.execute(_statement("GRANT CONNECT ON DATABASE {} TO {}, {}", DATABASE, *roles[1:]))
        _create_board_schema(connection, roles[2])
    return Databases(owner, app, board, embedded=True)


@dataclass(frozen=True)
class _Login:
    """How a role connects, the setting that tells it, and whether its password follows the owner's."""

    setting: str
    conninfo: str
    derived: bool


def _prepare_external(owner_url: str, app_url: str | None, board_url: str | None) -> Databases:
    owner = _parse(owner_url, "DATABASE_URL")
    if None in (app_url, board_url) and not conninfo_to_dict(owner).get("password"):
        raise DatabaseUnavailable(
            "DATABASE_URL has no password, from which those of the other roles would be derived. "
            "Put it there, or set DATABASE_APP_URL and DATABASE_BOARD_URL.",
        )
    with _connect(owner, "DATABASE_URL") as connection:
        _require_version(connection)
        owner = make_conninfo(owner, dbname=connection.info.dbname)
        app = _login(connection, owner, "app", app_url)
        board = _login(connection, owner, "board", board_url)
        with _explained(connection):
            _create_roles(connection, [login.conninfo for login in (app, board) if login.derived])
            app_role, board_role = _log_in(connection, app), _log_in(connection, board)
            with _alone(connection):
                _create_board_schema(connection, board_role)
        _refuse_excess_rights(connection, app_role, board_role)
    return Databases(owner, app.conninfo, board.conninfo, embedded=False)


def _login(connection: Connection, owner: str, name: str, url: str | None) -> _Login:
    setting = f"DATABASE_{name.upper()}_URL"
    if url is not None:
        return _Login(setting, _parse(url, setting), derived=False)
    role = f"{_value(connection, 'SELECT current_database()')}_{name}"
    if len(role.encode()) > LONGEST_NAME:
        raise DatabaseUnavailable(
            f"The role name {role} would be too long for PostgreSQL. "
            f"Use a database with a shorter name, or set {setting}.",
        )
    # Every machine that has the owner's password knows this one, and none keeps it.
    key = str(conninfo_to_dict(owner)["password"]).encode()
    password = hmac.new(key, role.encode(), "sha256").hexdigest()
    return _Login(setting, make_conninfo(owner, user=role, password=password), derived=True)


def _parse(url: str, setting: str) -> str:
    """Bring a URL into the form with keywords; one that libpq would take apart wrongly is refused unquoted."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        parts = {"port": "unreadable"}
    host, port = str(parts.get("host", "")), str(parts.get("port", ""))
    split_inside_password = "@" in host + str(parts.get("dbname", "")) or port.strip("0123456789,")
    if split_inside_password:
        raise DatabaseUnavailable(
            f"{setting} is not a connection string of PostgreSQL. Write it as "
            "postgresql://user:password@host:port/database, with special characters percent-encoded.",
        )
    return make_conninfo(url)


def _connect(conninfo: str, setting: str) -> Connection:
    parts = conninfo_to_dict(conninfo)
    patient = make_conninfo(conninfo, connect_timeout=parts.get("connect_timeout", CONNECT_TIMEOUT))
    try:
        return psycopg.connect(patient, autocommit=True, prepare_threshold=None)
    except psycopg.OperationalError as error:
        reason = str(error).replace(str(parts.get("password") or "\0"), "***")
        raise DatabaseUnavailable(
            f"The database of {setting} cannot be used: {reason}\n"
            "Check that the server runs, and the host, port, database, user and password.",
        ) from None


def _require_version(connection: Connection) -> None:
    if _major(connection) < OLDEST_VERSION:
        raise DatabaseUnavailable(
            f"DATABASE_URL leads to PostgreSQL {_major(connection)}; "
            f"version {OLDEST_VERSION} or later is needed. Upgrade it, or leave DATABASE_URL unset.",
        )


def _major(connection: Connection) -> int:
    return connection.info.server_version // 10_000


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """Hold back other processes that prepare the same database, until the transaction's end."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (PREPARATION_LOCK,))
        yield


@contextmanager
def _explained(connection: Connection) -> Iterator[None]:
    """Tell what an administrator has to run when the owner may not."""
    try:
        yield
    except psycopg.Error as error:
        database = connection.info.dbname
        app, board = (f'"{database}_{name}"' for name in ("app", "board"))
        limits = [
            f"ALTER ROLE {role} SET {setting} = '{limit}';"
            for role in (app, board)
            for setting, limit in _limits(connection)
        ]
        lines = [f"CREATE ROLE {role} LOGIN PASSWORD '...';" for role in (app, board)]
        lines += [*limits, f"CREATE SCHEMA board AUTHORIZATION {board};"]
        raise DatabaseUnavailable(
            f"The roles of {database} could not be prepared: {error}\nGive the role of DATABASE_URL the right "
            "CREATEROLE, or let an administrator run this in that database and then set DATABASE_APP_URL and "
            "DATABASE_BOARD_URL:\n" + "\n".join(lines),
        ) from error


def _create_roles(connection: Connection, logins: Sequence[str]) -> None:
    with _alone(connection):
        for conninfo in logins:
            _create_role(connection, conninfo)
        _limit_transactions(connection, [_user(conninfo) for conninfo in logins])


def _log_in(connection: Connection, login: _Login) -> str:
    """Connect as a role and return its name; a derived password is set anew after the owner's has changed."""
    try:
        other = _connect(login.conninfo, login.setting)
    except DatabaseUnavailable:
        if not login.derived:
            raise
        with _alone(connection):
            _set_password(connection, login.conninfo)
        other = _connect(login.conninfo, login.setting)
    with other:
        if _value(other, "SELECT current_database()") != _value(connection, "SELECT current_database()"):
            raise DatabaseUnavailable(
                f"{login.setting} and DATABASE_URL lead to different databases. Correct it."
            )
        return str(_value(other, "SELECT current_user"))


def _create_role(connection: Connection, conninfo: str) -> None:
    role = _user(conninfo)
    if _value(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", role) is None:
        connection.execute(_statement("CREATE ROLE {} LOGIN", role))
        _set_password(connection, conninfo)


def _set_password(connection: Connection, conninfo: str) -> None:
    """Set a role's password; its text leaves this process only as a SCRAM verifier."""
    parts = conninfo_to_dict(conninfo)
    role, password = str(parts["user"]).encode(), str(parts["password"]).encode()
    verifier = connection.pgconn.encrypt_password(password, role, b"scram-sha-256").decode()
    connection.execute(_statement("ALTER ROLE {} PASSWORD ", _user(conninfo)) + sql.Literal(verifier))


def _limits(connection: Connection) -> list[tuple[str, str]]:
    return [limit for since, limit in LIMITS.items() if _major(connection) >= since]


def _limit_transactions(connection: Connection, roles: Sequence[str]) -> None:
    """End transactions that a role forgets, for they hold up all readers; limits someone chose are kept."""
    for role in roles:
        chosen = _value(connection, "SELECT rolconfig FROM pg_roles WHERE rolname = %s", role) or ()
        names = {entry.partition("=")[0] for entry in chosen}
        for setting, limit in _limits(connection):
            if setting not in names:
                connection.execute(_statement("ALTER ROLE {} SET {} = ", role, setting) + sql.Literal(limit))


def _create_board_schema(connection: Connection, role: str) -> None:
    owner = _value(
        connection, "SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = %s", BOARD_SCHEMA
    )
    if owner is None:
        _create_schema_of(connection, role)
    elif owner != role:
        raise DatabaseUnavailable(
            f"The schema {BOARD_SCHEMA} belongs to {owner} and not to {role}. "
            f'Let an administrator run: ALTER SCHEMA {BOARD_SCHEMA} OWNER TO "{role}"',
        )


def _create_schema_of(connection: Connection, role: str) -> None:
    # Who gives a schema to a role must be able to become it, and is so only for the moment.
    becoming = "SET" if _major(connection) >= SET_OPTION_SINCE else "MEMBER"
    member = _value(connection, "SELECT pg_has_role(%s::name, %s)", role, becoming)
    if not member:
        connection.execute(_statement("GRANT {} TO CURRENT_USER", role))
    connection.execute(_statement("CREATE SCHEMA {} AUTHORIZATION {}", BOARD_SCHEMA, role))
    if not member:
        connection.execute(_statement("REVOKE {} FROM CURRENT_USER", role))


def _refuse_excess_rights(connection: Connection, app: str, board: str) -> None:
    """Refuse roles that could go round what protects the log."""
    for role, other in ((app, board), (board, app)):
        if _value(connection, "SELECT pg_has_role(%s::name, current_user, 'MEMBER')", role):
            raise DatabaseUnavailable(
                f"The role {role} may do all that the role of DATABASE_URL may. "
                "Use one that is no superuser and no member of the owner.",
            )
        if _value(connection, "SELECT pg_has_role(%s::name, %s::name, 'MEMBER')", role, other):
            raise DatabaseUnavailable(f"The role {role} may do all that {other} may. Use two separate roles.")
        if _value(connection, CREATES_IN_PUBLIC, role):
            raise DatabaseUnavailable(
                f"The role {role} may create in the schema public. Let the schema's owner run: "
                f'REVOKE CREATE ON SCHEMA public FROM PUBLIC, "{role}"',
            )


def _user(conninfo: str) -> str:
    return str(conninfo_to_dict(conninfo)["user"])


def _statement(template: LiteralString, *names: str) -> sql.Composed:
    return sql.SQL(template).format(*map(sql.Identifier, names))


def _value(connection: Connection, query: LiteralString, *parameters: object) -> Any:
    row = connection.execute(query, parameters).fetchone()
    return row[0] if row else None
