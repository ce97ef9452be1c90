"""The database and its roles: who may do what, embedded and at DATABASE_URL."""

import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from agentic_os.postgres import databases, embedded
from agentic_os.postgres.databases import Databases, DatabaseUnavailable, open_databases
from agentic_os.postgres.embedded import EmbeddedServer, running_server


def ignore(_sentence: str) -> None:
    """Take what is said to the person at the terminal."""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    """Run a server that plays the one at DATABASE_URL, and also holds the embedded databases."""
    folder = Path(tempfile.mkdtemp(prefix="agentic-os-test-"))
    folder.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "STATE", folder)
        with running_server(folder / "home", say=ignore) as running:
            yield running
    shutil.rmtree(folder)


@pytest.fixture
def own(server: EmbeddedServer) -> Databases:
    """Prepare the embedded server's database as open_databases does."""
    return databases._prepare_embedded(server)


@dataclass(frozen=True)
class Customer:
    """A database of someone else's server, its owner's connection, and the way to administer it."""

    name: str
    url: str
    administrator: str

    def administer(self, statement: str) -> None:
        """Run SQL as the server's superuser in the customer's database."""
        with psycopg.connect(self.administrator, autocommit=True) as connection:
            connection.execute(statement.encode())

    def open(self, app: str | None = None, board: str | None = None) -> Databases:
        """Prepare the database as a start with DATABASE_URL does."""
        nowhere = Path("/nonexistent")
        with open_databases(
            nowhere, self.url, say=ignore, database_app_url=app, database_board_url=board
        ) as opened:
            return opened


@pytest.fixture
def customer(server: EmbeddedServer) -> Customer:
    """Make a database with an owner who may create roles."""
    name, password = f"customer {secrets.token_hex(4)}", secrets.token_hex(8)
    with psycopg.connect(server.superuser("postgres"), autocommit=True) as connection:
        owner = sql.Identifier(f"{name}_owner")
        create = sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD {}")
        connection.execute(create.format(owner, sql.Literal(password)))
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), owner))
    url = server.conninfo("postgres", name)
    return Customer(name, make_conninfo(url, user=f"{name}_owner", password=password), url)


def value(conninfo: str, query: str) -> object:
    """Ask one value as one role."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def refused(conninfo: str, statement: str) -> bool:
    """Tell whether a role lacks the right to run a statement."""
    with psycopg.connect(conninfo) as connection:
        try:
            connection.execute(statement.encode())
        except errors.InsufficientPrivilege:
            return True
    return False


def owned_things(conninfo: str) -> object:
    """Count what the role that connects owns, in every database."""
    mine = "refclassid = 'pg_authid'::regclass and refobjid = quote_ident(current_user)::regrole and deptype = 'o'"
    return value(conninfo, f"select count(*) from pg_shdepend where {mine}")


@pytest.fixture(params=["embedded", "external"])
def opened(request: pytest.FixtureRequest) -> Databases:
    """Give prepared databases of both kinds."""
    if request.param == "embedded":
        prepared: Databases = request.getfixturevalue("own")
        return prepared
    customer: Customer = request.getfixturevalue("customer")
    return customer.open()


def test_embedded_databases_last_as_long_as_the_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a URL a server of ours runs meanwhile, twice over the same data, with the roles' names."""
    state = Path(tempfile.mkdtemp(prefix="agentic-os-test-"))
    state.chmod(0o755)
    monkeypatch.setattr(embedded, "STATE", state)
    for _ in range(2):
        with open_databases(tmp_path / "home", None, say=ignore) as own:
            names = [value(conninfo, "select current_user") for conninfo in (own.owner, own.app, own.board)]
            assert names == ["agentic_os_owner", "agentic_os_app", "agentic_os_board"]
            assert own.embedded
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(own.app)
    log = (tmp_path / "home" / "postgres.log").read_text(encoding="utf-8")
    assert re.findall(r".*(?:WARNING|ERROR|FATAL|PANIC|exit code|fail).*", log) == []
    shutil.rmtree(state)


def test_application_owns_nothing_and_creates_nothing(opened: Databases) -> None:
    """The application's role owns nothing, can make nothing in any schema, and cannot become another role."""
    assert owned_things(opened.app) == 0
    assert refused(opened.app, "create table public.mine (x int)")
    assert refused(opened.app, "create schema mine")
    assert refused(opened.app, "create table board.mine (x int)")
    assert refused(opened.app, "create role mine")
    owner = value(opened.owner, "select current_user::text")
    assert refused(opened.app, f'set role "{owner}"')


def test_board_owns_its_schema_alone(opened: Databases) -> None:
    """The board makes tables in its schema, where the application sees nothing, and nowhere else."""
    assert owned_things(opened.board) == 1
    with psycopg.connect(opened.board) as connection:
        connection.execute("create table if not exists board.issue (x int)")
    assert refused(opened.app, "table board.issue")
    assert refused(opened.board, "create table public.mine (x int)")
    assert refused(opened.board, "create schema mine")
    with psycopg.connect(opened.owner) as connection:
        connection.execute("create table if not exists public.event (x int)")
    assert refused(opened.board, "table public.event")
    with psycopg.connect(opened.board) as connection:
        connection.execute("drop table board.issue")


def test_no_role_of_ours_is_a_superuser(own: Databases) -> None:
    """The three roles are ordinary ones; in the embedded server even the owner creates no role or database."""
    for conninfo in (own.owner, own.app, own.board):
        rights = "rolsuper or rolcreaterole or rolcreatedb or rolbypassrls or rolreplication"
        assert value(conninfo, f"select {rights} from pg_roles where rolname = current_user") is False
    assert refused(own.app, "create temporary table mine (x int)")
    with pytest.raises(psycopg.OperationalError, match="CONNECT"):
        psycopg.connect(make_conninfo(own.app, dbname="postgres"))


def test_forgotten_transactions_end(opened: Databases) -> None:
    """Transactions of the application and the board end by themselves; the owner's migrations may last."""
    for conninfo in (opened.app, opened.board):
        assert value(conninfo, "show idle_in_transaction_session_timeout") == "30s"
        assert value(conninfo, "show transaction_timeout") == "2min"
    assert value(opened.owner, "show transaction_timeout") == "0"


def test_limits_that_someone_chose_are_kept(customer: Customer) -> None:
    """A limit that an administrator set for a role stays as it is at the next start."""
    customer.open()
    customer.administer(f"""ALTER ROLE "{customer.name}_app" SET transaction_timeout = '1h'""")
    assert value(customer.open().app, "show transaction_timeout") == "1h"


def test_embedded_role_gets_a_new_secret_when_its_file_is_lost(
    server: EmbeddedServer, own: Databases
) -> None:
    """A role whose secret file is lost gets another at the next start."""
    (server.secrets / "agentic_os_board").unlink()
    renewed = databases._prepare_embedded(server)
    assert own.board != renewed.board
    assert value(renewed.board, "select 1") == 1


def test_secrets_are_not_shown(customer: Customer) -> None:
    """What is printed of the databases holds no password."""
    assert "password" not in repr(customer.open())


def test_machines_with_one_url_agree(customer: Customer) -> None:
    """Two starts with one DATABASE_URL find the same roles with the same passwords, nothing being stored."""
    first = customer.open()
    assert first == customer.open()
    assert not first.embedded
    passwords = {conninfo_to_dict(conninfo)["password"] for conninfo in (first.owner, first.app, first.board)}
    assert len(passwords) == 3
    assert value(first.app, "select current_user") == f"{customer.name}_app"


def test_url_form_is_taken(customer: Customer) -> None:
    """A URL with percent-encoding means the same as keywords."""
    parts = {
        name: psycopg.conninfo.conninfo_to_dict(customer.url)[name] for name in ("user", "password", "host")
    }
    quoted = {name: str(part).replace(" ", "%20").replace("/", "%2F") for name, part in parts.items()}
    database = customer.name.replace(" ", "%20")
    url = f"postgresql://{quoted['user']}:{quoted['password']}@{quoted['host']}:5432/{database}"
    with open_databases(Path("/nonexistent"), url, say=ignore) as opened:
        assert value(opened.board, "select current_database()") == customer.name


def test_two_first_starts_at_once(customer: Customer) -> None:
    """Processes that prepare one database at the same time all succeed."""
    ready = Barrier(4)

    def first_start(_number: int) -> Databases:
        ready.wait()
        return customer.open()

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(first_start, range(4)))) == 1


def test_roles_follow_the_owners_new_password(customer: Customer) -> None:
    """After the owner's password changed, the roles' passwords derived from it work again."""
    before = customer.open()
    customer.administer(f"""ALTER ROLE "{customer.name}_owner" PASSWORD 'another'""")
    changed = Customer(customer.name, make_conninfo(customer.url, password="another"), customer.administrator)
    after = changed.open()
    assert before.app != after.app
    assert value(after.app, "select 1") == 1
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(before.app)


def test_administrator_can_do_what_the_owner_may_not(customer: Customer) -> None:
    """An owner who may not create roles is told the SQL and the settings; having followed them, it works."""
    customer.administer(f"""ALTER ROLE "{customer.name}_owner" NOCREATEROLE""")
    with pytest.raises(DatabaseUnavailable, match="DATABASE_APP_URL and DATABASE_BOARD_URL") as caught:
        customer.open()
    told = str(caught.value)
    customer.administer(told[told.index("CREATE ROLE") :].replace("'...'", "'chosen'"))
    urls = [
        make_conninfo(customer.url, user=f"{customer.name}_{role}", password="chosen")
        for role in ("app", "board")
    ]
    opened = customer.open(*urls)
    assert [opened.app, opened.board] == urls
    assert value(opened.app, "show transaction_timeout") == "2min"
    assert owned_things(opened.board) == 1


def test_url_without_password_is_told(customer: Customer) -> None:
    """Without a password nothing can be derived, and the message names the two other settings."""
    url = make_conninfo(customer.url, password="")
    with pytest.raises(DatabaseUnavailable, match="no password"), ExitStack() as stack:
        stack.enter_context(open_databases(Path("/nonexistent"), url, say=ignore))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cret@127.0.0.1:1/there",
        "postgresql://me:s3cret/rest@127.0.0.1/there",
        "postgresql://me:1234/s3cret@127.0.0.1/there",
        "postgresql://me:it@s3cret@127.0.0.1/there",
        "postgresql://me:s3cret%zz@127.0.0.1/there",
        "postgres me s3cret",
        "postgresql+psycopg://me:s3cret@127.0.0.1/there",
    ],
)
def test_useless_url_is_told_without_its_password(url: str) -> None:
    """A URL that leads nowhere or is misspelt gives a clear error that names the setting and no secret."""
    with pytest.raises(DatabaseUnavailable, match="DATABASE_URL") as caught, ExitStack() as stack:
        stack.enter_context(open_databases(Path("/nonexistent"), url, say=ignore))
    assert "s3cret" not in str(caught.value)
    assert "1234" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_wrong_password_is_told_without_it(customer: Customer) -> None:
    """A refused log-in names the setting and the server's reason, not the password."""
    wrong = Customer(customer.name, make_conninfo(customer.url, password="s3cret"), customer.administrator)
    with pytest.raises(DatabaseUnavailable, match="authentication failed") as caught:
        wrong.open()
    assert "s3cret" not in str(caught.value)


def test_old_server_is_refused(customer: Customer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server older than the oldest supported one is refused with both versions."""
    monkeypatch.setattr(databases, "OLDEST_VERSION", 99)
    with pytest.raises(DatabaseUnavailable, match="PostgreSQL 18; version 99 or later"):
        customer.open()


def test_owner_as_application_is_refused(customer: Customer) -> None:
    """The application may not be given the owner's rights."""
    with pytest.raises(DatabaseUnavailable, match="all that the role of DATABASE_URL may"):
        customer.open(app=customer.url)


def test_one_role_for_both_is_refused(customer: Customer) -> None:
    """The application and the board may not be one role."""
    board = customer.open().board
    with pytest.raises(DatabaseUnavailable, match="two separate roles"):
        customer.open(app=board, board=board)


def test_right_to_create_in_public_is_refused(customer: Customer) -> None:
    """A database whose schema public is open to all is refused with the SQL that closes it."""
    customer.administer("GRANT CREATE ON SCHEMA public TO PUBLIC")
    with pytest.raises(DatabaseUnavailable, match="REVOKE CREATE ON SCHEMA public") as caught:
        customer.open()
    customer.administer(str(caught.value).partition("run: ")[2])
    assert not customer.open().embedded


def test_board_schema_of_someone_else_is_refused(customer: Customer) -> None:
    """A schema named board that belongs to another role is left alone."""
    customer.administer("CREATE SCHEMA board")
    with pytest.raises(DatabaseUnavailable, match="belongs to postgres"):
        customer.open()


def test_roles_of_another_database_are_refused(customer: Customer, own: Databases) -> None:
    """A URL of a role that leads to another database is refused by name."""
    with pytest.raises(DatabaseUnavailable, match="DATABASE_APP_URL and DATABASE_URL lead to different"):
        customer.open(app=own.app)
