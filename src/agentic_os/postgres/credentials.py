"""Taking rights away, and the sources of independent evidence: rows of the registry, each change also a fact."""

from collections.abc import Sequence
from typing import Any, Final

import psycopg

from agentic_os.application.credentials import LastAdministrator, Source
from agentic_os.application.ports import Batch, Envelope, NameTaken, RegistryChange, VersionConflict
from agentic_os.clock import now
from agentic_os.domain.governance import CredentialRotated, PrincipalRevoked, SourceRegistered
from agentic_os.postgres.appender import append_together
from agentic_os.postgres.parts import parts_of
from agentic_os.postgres.pool import Connection, Pool
from agentic_os.postgres.registry import locked, record

_ADMINISTRATORS: Final = "select pg_advisory_xact_lock(hashtextextended('governance:administrators', 0))"
"""Two administrators who revoke each other at once take turns, so that one of them stays."""

_OTHERS: Final = """
select count(*) from es.principal p where p.kind = 'person' and 'admin' = any(p.roles) and p.revoked_at is null
    and p.id <> %s and exists (select from es.credential c where c.principal = p.id and es.in_force(c.hash))
"""
_PEOPLE: Final = """
select p.name, p.roles, p.created_at, p.revoked_at, (select max(c.expires_at)
    from es.credential c where c.principal = p.id and c.revoked_at is null)
from es.principal p where p.kind = 'person' order by p.name
"""
_SOURCES: Final = """
select s.name, s.project, s.generation, p.owner, p.revoked_at is not null
from es.source s join es.principal p on p.id = s.name
"""


class PostgresCredentials:
    """What the use cases of credentials need beyond the registry."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def revoke(self, name: str, actor: str) -> bool:
        """Take everything from a principal; False when it had nothing any more. Raises LastAdministrator."""
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(_ADMINISTRATORS)
            version = await locked(connection, name)
            row = await _one(connection, "select roles, revoked_at from es.principal where id = %s", name)
            if row is None or row[1] is not None:
                return False
            others = await _one(connection, _OTHERS, name)
            if "admin" in row[0] and others == (0,):
                raise LastAdministrator(name)
            await record(connection, name, version, PrincipalRevoked(principal=name), actor)
            await connection.execute("update es.principal set revoked_at = now() where id = %s", (name,))
            await connection.execute(
                "update es.credential set revoked_at = now() where principal = %s and revoked_at is null",
                (name,),
            )
        return True

    async def people(self) -> Sequence[dict[str, Any]]:
        """List the people, those who were revoked too."""
        async with self._pool.connection() as connection:
            rows = await (await connection.execute(_PEOPLE)).fetchall()
        names = ("name", "roles", "created_at", "revoked_at", "expires_at")
        return [dict(zip(names, row, strict=True)) for row in rows]

    async def add_source(self, source: Source, actor: str) -> None:
        """Register a source. Raises NameTaken."""
        fact = SourceRegistered(principal=source.name, project=source.project, owner=source.owner)
        change = RegistryChange(stream=f"principal:{source.name}", expected=0, events=[fact])
        batch = Batch(envelope=Envelope(actor=actor, at=now()), registry=[change])
        try:
            async with self._pool.connection() as connection, connection.transaction():
                if (await append_together(connection, parts_of(batch)[2])).name != "appended":
                    raise NameTaken(source.name)
                await connection.execute(
                    "insert into es.principal (id, name, kind, roles, owner) "
                    "values (%s, %s, 'system', '{ci}', %s)",
                    (source.name, source.name, source.owner),
                )
                await connection.execute(
                    "insert into es.source (name, project) values (%s, %s)", (source.name, source.project)
                )
        except (VersionConflict, psycopg.errors.UniqueViolation) as problem:
            raise NameTaken(source.name) from problem

    async def rotate_source(self, name: str, actor: str) -> Source:
        """Raise a source's generation. Raises LookupError for one that there is not, or no more."""
        async with self._pool.connection() as connection, connection.transaction():
            version = await locked(connection, name)
            row = await _one(connection, _SOURCES + "where s.name = %s", name)
            if row is None or row[4]:
                raise LookupError(name)
            following = Source(name=row[0], project=row[1], generation=row[2] + 1, owner=row[3])
            fact = CredentialRotated(principal=name, generation=following.generation)
            await record(connection, name, version, fact, actor)
            await connection.execute(
                "update es.source set generation = %s where name = %s", (following.generation, name)
            )
        return following

    async def sources(self) -> Sequence[Source]:
        """List the sources, those that were revoked too."""
        async with self._pool.connection() as connection:
            rows = await (await connection.execute((_SOURCES + "order by s.name").encode())).fetchall()
        return [_source(row) for row in rows]

    async def source(self, name: str) -> Source | None:
        """Find a source, also one that was revoked."""
        async with self._pool.connection() as connection:
            row = await _one(connection, _SOURCES + "where s.name = %s", name)
        return None if row is None else _source(row)


async def _one(connection: Connection, query: str, name: str) -> tuple[Any, ...] | None:
    return await (await connection.execute(query.encode(), (name,))).fetchone()


def _source(row: Sequence[Any]) -> Source:
    return Source(name=row[0], project=row[1], generation=row[2], owner=row[3], revoked=row[4])
