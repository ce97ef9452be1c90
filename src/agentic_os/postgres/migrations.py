"""Apply migrations/*.sql: each once, in order, digest-checked, under a lock; forward only."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

_LOCK: Final = 7_301_118_522_004_413  # any number, as long as nothing else in the database locks it
_NAME: Final = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")

_LEDGER: Final = """
create table if not exists public.agentic_os_migration (
    number     integer primary key,
    name       text not null,
    digest     text not null,
    applied_at timestamptz not null default now()
)"""


class MigrationError(Exception):
    """The database and the migrations do not fit together."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    number: int
    name: str
    sql: str

    @property
    def digest(self) -> str:
        """Fingerprint the file, so that an edit after the fact is noticed."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class MigrationState:
    """A migration, and whether it was applied."""

    number: int
    name: str
    applied: bool


def shipped() -> Sequence[Migration]:
    """List the migrations of this release, in order: from the wheel, or from the checkout it is run from."""
    packaged = resources.files("agentic_os") / "_migrations"
    return migrations_in(
        Path(str(packaged)) if packaged.is_dir() else Path(__file__).parents[3] / "migrations"
    )


def migrations_in(folder: Path) -> Sequence[Migration]:
    """List the migrations of a folder, in order. Raises MigrationError for a stray name, a gap or a repeat."""
    found = []
    for path in sorted(folder.glob("*.sql")):
        match = _NAME.match(path.name)
        if match is None:
            raise MigrationError(f"{path.name}: a migration is named NNNN_what.sql")
        found.append(Migration(int(match[1]), path.stem, path.read_text(encoding="utf-8")))
    if [m.number for m in found] != list(range(1, len(found) + 1)):
        raise MigrationError(f"{folder}: the migrations are not numbered 1, 2, 3 ... without gap or repeat")
    return found


def migrate(owner_dsn: str, app_dsn: str, migrations: Sequence[Migration] | None = None) -> list[str]:
    """Apply what is missing and return its names; the role of `app_dsn` gets the rights that they grant.

    Raises MigrationError for an edited or unknown migration.
    """
    wanted = shipped() if migrations is None else migrations
    app_role = str(conninfo_to_dict(app_dsn)["user"])
    applied = []
    with psycopg.connect(owner_dsn, autocommit=True) as connection:
        for migration in wanted:
            with connection.transaction():
                connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
                connection.execute(_LEDGER)
                if not _is_applied(connection, migration):
                    connection.execute("select set_config('agentic_os.app_role', %s, true)", (app_role,))
                    connection.execute(migration.sql.encode())
                    connection.execute(
                        "insert into public.agentic_os_migration (number, name, digest) values (%s, %s, %s)",
                        (migration.number, migration.name, migration.digest),
                    )
                    applied.append(migration.name)
        _refuse_newer(connection, wanted)
    return applied


def status(owner_dsn: str) -> list[MigrationState]:
    """Say which migrations are applied."""
    with psycopg.connect(owner_dsn, autocommit=True) as connection:
        ledger = connection.execute("select to_regclass('public.agentic_os_migration')").fetchone()
        if ledger is None or ledger[0] is None:
            return [MigrationState(m.number, m.name, applied=False) for m in shipped()]
        return [MigrationState(m.number, m.name, applied=_is_applied(connection, m)) for m in shipped()]


def _is_applied(connection: psycopg.Connection, migration: Migration) -> bool:
    row = connection.execute(
        "select name, digest from public.agentic_os_migration where number = %s", (migration.number,)
    ).fetchone()
    if row is None:
        return False
    if row != (migration.name, migration.digest):
        raise MigrationError(
            f"Migration {migration.name} was edited after it was applied as {row[0]}: restore the file; "
            "a change goes into a new migration."
        )
    return True


def _refuse_newer(connection: psycopg.Connection, wanted: Sequence[Migration]) -> None:
    row = connection.execute("select coalesce(max(number), 0) from public.agentic_os_migration").fetchone()
    newest = row[0] if row else 0
    if newest > len(wanted):
        raise MigrationError(
            f"The database is at migration {newest}, and this release knows only {len(wanted)}: "
            "install the release that the database was last used with, or a newer one."
        )
