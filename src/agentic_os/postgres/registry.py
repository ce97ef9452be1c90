"""Who may act: principals, their credentials (hashed), and their accounts on trackers."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import psycopg

from agentic_os.application.ports import (
    AppliedBundle,
    Batch,
    Credential,
    Envelope,
    NameTaken,
    Principal,
    Recorded,
    RegistryChange,
    VersionConflict,
)
from agentic_os.clock import now
from agentic_os.domain.documents import JsonObject, Participant
from agentic_os.domain.executor_pauses import ExecutorPause, waits_for
from agentic_os.domain.governance import (
    AccountLinked,
    BreakerTripped,
    BundleApplied,
    CredentialRotated,
    ExecutorPaused,
    PrincipalRegistered,
    RegistryEvent,
)
from agentic_os.domain.organisation import Organisation
from agentic_os.domain.workspaces import WorkspaceReport
from agentic_os.postgres.appender import append_together
from agentic_os.postgres.codec import decode_payload, recorded
from agentic_os.postgres.parts import parts_of
from agentic_os.postgres.pool import Connection, Pool

BUNDLE_STREAM: Final = "governance:policy"
_PRINCIPAL: Final = (
    "p.id, p.name, p.kind, p.roles, p.owner, p.skills, p.capacity, p.revoked_at is not null, p.workspace"
)
PAUSED: Final = (
    "left join es.paused_agent g on g.control_plane = %(plane)s::text and g.account = ("
    "select a.account from es.external_account a where a.principal = p.id and a.control_plane = %(plane)s::text "
    "order by a.account limit 1)"
)
"""Joins to a principal `p` how the account stands that is assigned where the principal is: see `pause_of`."""
PAUSE: Final = (
    "g.control_plane, g.detail, g.at, g.author, (select q.principal from es.external_account q "
    "where q.control_plane = g.control_plane and q.account = g.author)"
)
_REPORT: Final = "w.path, w.project, w.digest, w.state, w.problem, w.lacking, w.at"
# The same lock as es.append takes, and earlier: what is read under it still holds when it is appended to.
LOCK: Final = "select pg_advisory_xact_lock(hashtextextended(%s, 0))"
_SCOPES: Final = {
    "admin": ("viewer", "operator", "reviewer"),
    "operator": ("viewer",),
    "reviewer": ("viewer",),
}
_TOKENS: Final = ("viewer", "operator", "reviewer", "admin")


class PostgresRegistry:
    """The registry; every change of it is also an event in the principal's own stream.

    organisation: what is in force says of principals, which is joined with what they were registered with.
    control_plane: the tracker that is connected, None for none; what is paused on another keeps nobody from work.
    """

    def __init__(
        self,
        pool: Pool,
        organisation: Callable[[], Organisation] = Organisation,
        control_plane: str | None = None,
    ) -> None:
        self._pool = pool
        self._organisation = organisation
        self._control_plane = control_plane

    async def credential(self, digest: bytes) -> Credential | None:
        """Find a credential by its hash."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                f"select c.revoked_at is null and p.revoked_at is null and coalesce(c.expires_at > now(), true), "  # noqa: S608 - constants
                f"{_PRINCIPAL} from es.credential c join es.principal p on p.id = c.principal where c.hash = %s",
                (digest,),
            )
            row = await cursor.fetchone()
        return None if row is None else Credential(principal=_principal(row[1:]), hash=digest, valid=row[0])

    async def add(
        self, principal: Principal, credential: bytes, expires_at: datetime | None, *, actor: str = "system"
    ) -> None:
        """Store a principal with its first credential, and the fact in its stream."""
        event = PrincipalRegistered(
            principal=principal.id,
            name=principal.name,
            kind=principal.kind,
            roles=principal.roles,
            owner=principal.owner,
            skills=principal.skills,
            capacity=principal.capacity,
            workspace=principal.workspace,
        )
        change = RegistryChange(stream=f"principal:{principal.id}", expected=0, events=[event])
        batch = Batch(envelope=Envelope(actor=actor, at=now()), registry=[change], clears=["executor"])
        try:
            async with self._pool.connection() as connection, connection.transaction():
                outcome = await append_together(connection, parts_of(batch)[2])
                if outcome.name != "appended":
                    raise NameTaken(principal.name)
                await _insert(connection, principal)
                await connection.execute(
                    "insert into es.credential (hash, principal, expires_at) values (%s, %s, %s)",
                    (credential, principal.id, expires_at),
                )
        except (VersionConflict, psycopg.errors.UniqueViolation) as problem:
            raise NameTaken(principal.name) from problem

    async def replace_credentials(self, name: str, credential: bytes, *, actor: str = "system") -> None:
        """Revoke all credentials of a principal, give it a new one of the same lifetime, and record that."""
        async with self._pool.connection() as connection, connection.transaction():
            version = await locked(connection, name)
            counted = await connection.execute(
                "select count(*) from es.credential where principal = %s", (name,)
            )
            row = await counted.fetchone()
            event = CredentialRotated(principal=name, generation=(row[0] if row else 0) + 1)
            await record(connection, name, version, event, actor)
            await connection.execute(
                "update es.credential set revoked_at = now() where principal = %s and revoked_at is null",
                (name,),
            )
            await connection.execute(
                "insert into es.credential (hash, principal, expires_at) values (%s, %s, (select now() "
                "+ (c.expires_at - c.created_at) from es.credential c where c.principal = %s "
                "order by c.created_at desc limit 1))",
                (credential, name, name),
            )

    async def by_name(self, name: str) -> Principal | None:
        """Find a principal."""
        return await self._one("p.name = %s", (name,))

    async def executors(self) -> Sequence[Principal]:
        """List the executors that may work, with how much each holds."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                f"select {_PRINCIPAL}, (select count(*) from es.task t where t.executor = p.name), {_REPORT}, {PAUSE} "  # noqa: S608 - constants
                f"from es.principal p left join es.workspace w on w.path = p.workspace {PAUSED} "
                "where p.kind = 'executor' and p.revoked_at is null order by p.name",
                {"plane": self._control_plane},
            )
            found = [_principal(row) for row in await cursor.fetchall()]
        return [self._organised(e) for e in found]

    async def executor(self, name: str) -> Principal | None:
        """Find an executor, with what the organisation says of it, but not how much it holds."""
        found = await self._one("p.name = %s and p.kind = 'executor'", (name,))
        return None if found is None else self._organised(found)

    def _organised(self, executor: Principal) -> Principal:
        organisation, name = self._organisation(), executor.name
        return replace(
            executor,
            roles=organisation.roles_of(name, executor.roles),
            capacity=organisation.capacity_of(name, executor.capacity),
            capabilities=organisation.capabilities_of(name),
            tier=organisation.tier_of(name),
        )

    async def people(self) -> Sequence[Principal]:
        """List the people."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                f"select {_PRINCIPAL} from es.principal p where p.kind = 'person' order by p.name"  # noqa: S608 - constants
            )
            return [_principal(row) for row in await cursor.fetchall()]

    async def without_credential(self) -> Sequence[str]:
        """List the executors that were not revoked and have no credential that counts."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select p.name from es.principal p where p.kind = 'executor' and p.revoked_at is null and not exists ("
                "select from es.credential c where c.principal = p.id and c.revoked_at is null "
                "and (c.expires_at is null or c.expires_at > now())) order by p.name"
            )
            return [row[0] for row in await cursor.fetchall()]

    async def participant(self, principal_id: str) -> Participant:
        """Describe a principal as the separation of duties sees it; an unknown one has no rights."""
        principal = await self.by_name(principal_id)
        if principal is None or principal.revoked:
            return Participant(id=principal_id, kind="person")
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select name from es.principal where owner = %s", (principal.name,)
            )
            owned = frozenset(row[0] for row in await cursor.fetchall())
            binding = await self._binding(connection)
            beneath, headed = await self._lines(connection, principal.name)
        scopes = {*principal.roles, *(s for r in principal.roles for s in _SCOPES.get(r, ()))}
        # A role of the organisation is not what a token may do, whatever it is called.
        declared = {r for r in self._organisation().roles_of(principal.name) if r not in _TOKENS}
        return Participant(
            id=principal.name,
            kind=principal.kind,
            roles=frozenset(scopes | declared),
            owns=owned,
            binding=binding,
            beneath=beneath,
            headed=headed,
        )

    async def _lines(self, connection: Connection, superior: str) -> tuple[frozenset[str], frozenset[str]]:
        """List the executors beneath somebody in the reporting lines, and those with any person above them."""
        organisation = self._organisation()
        if not organisation.has_lines:
            return frozenset(), frozenset()
        cursor = await connection.execute("select name, roles from es.principal where kind = 'executor'")
        executors: dict[str, list[str]] = dict(await cursor.fetchall())
        above = {name: organisation.superiors(name, roles) for name, roles in executors.items()}
        beneath = frozenset(name for name, found in above.items() if superior in found)
        return beneath, frozenset(name for name, found in above.items() if found - executors.keys())

    async def _binding(self, connection: Connection) -> frozenset[str]:
        """List the roles that members hold who are no executors, be they registered yet or not."""
        members = self._organisation().members
        if not members:
            return frozenset()
        cursor = await connection.execute("select name from es.principal where kind = 'executor'")
        executors = {row[0] for row in await cursor.fetchall()}
        return frozenset(r for name, m in members.items() if name not in executors for r in m.roles)

    async def by_account(self, control_plane: str, account: str) -> Principal | None:
        """Find who is behind an account of a tracker."""
        return await self._one(
            "p.id = (select a.principal from es.external_account a where a.control_plane = %s and a.account = %s)",
            (control_plane, account),
        )

    async def account_of(self, control_plane: str, principal_id: str) -> str | None:
        """Find a principal's account on a tracker."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select a.account from es.external_account a where a.principal = %s and a.control_plane = %s "
                "order by a.account limit 1",
                (principal_id, control_plane),
            )
            row = await cursor.fetchone()
        return row[0] if row else None

    async def link(
        self, control_plane: str, account: str, principal_id: str, *, actor: str = "system"
    ) -> None:
        """Say that this account is that principal's, and record it; saying it again changes nothing."""
        async with self._pool.connection() as connection, connection.transaction():
            stream = f"principal:{principal_id}"
            await connection.execute(LOCK, (stream,))
            cursor = await connection.execute(
                "select s.version, (select a.principal from es.external_account a where a.control_plane = %s "
                "and a.account = %s) from es.stream s where s.stream_id = %s",
                (control_plane, account, stream),
            )
            row = await cursor.fetchone()
            if row is None:
                raise LookupError(principal_id)
            if row[1] == principal_id:
                return
            linked = AccountLinked(principal=principal_id, control_plane=control_plane, account=account)
            paused = await _paused(connection, principal_id, control_plane, account)
            change = RegistryChange(stream=stream, expected=row[0], events=[linked, *paused])
            batch = Batch(
                envelope=Envelope(actor=actor, at=now()),
                registry=[change],
                stale=[t for name in (principal_id, row[1]) if name for t in await touched(connection, name)],
            )
            outcome = await append_together(connection, parts_of(batch)[2])
            if outcome.name != "appended":
                raise VersionConflict
            await connection.execute(
                "insert into es.external_account (control_plane, account, principal) values (%s, %s, %s) "
                "on conflict (control_plane, account) do update set principal = excluded.principal",
                (control_plane, account, principal_id),
            )

    async def record_bundle(
        self,
        bundle: str,
        document: JsonObject,
        actor: str,
        reason: str = "started with it",
        *,
        shadow: JsonObject | None = None,
        skills: JsonObject | None = None,
    ) -> bool:
        """Record that a policy came into force, unless it is in force already, beside the same shadow and skills."""
        wanted = BundleApplied(bundle=bundle, document=document, shadow=shadow, skills=skills)
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(LOCK, (BUNDLE_STREAM,))
            cursor = await connection.execute(
                "select e.version, e.payload from es.event e where e.stream_id = %s order by e.version desc limit 1",
                (BUNDLE_STREAM,),
            )
            last = await cursor.fetchone()
            if last is not None and _same(decode_payload(last[1]), wanted):
                return False
            change = RegistryChange(
                stream=BUNDLE_STREAM,
                expected=last[0] if last else 0,
                events=[wanted],
            )
            cursor = await connection.execute("select d.task_id from es.deadline d where d.kind = 'freeze'")
            batch = Batch(
                envelope=Envelope(actor=actor, at=now(), reason=reason),
                registry=[change],
                stale=[row[0] for row in await cursor.fetchall()],  # this policy may lift or move the freeze
            )
            outcome = await append_together(connection, parts_of(batch)[2])
            if outcome.name != "appended":
                raise VersionConflict
            await connection.execute(  # and may let in what a breaker holds back
                "update es.inbox set not_before = null where done_at is null and not_before is not null"
            )
        return True

    async def applied_bundle(self, after: int = 0) -> AppliedBundle | None:
        """Give the bundle that was applied last, unless that was no later than this version of its stream."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select e.version, e.payload, e.hash from es.event e where e.stream_id = %s and e.version > %s "
                "order by e.version desc limit 1",
                (BUNDLE_STREAM, after),
            )
            row = await cursor.fetchone()
        if row is None:
            return None
        event = recorded(BUNDLE_STREAM, *row)
        return _applied(event)

    async def bundle_named(self, digest: str) -> AppliedBundle | None:
        """Find a bundle by its digest, as it was applied last."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select e.version, e.payload, e.hash from es.event e where e.stream_id = %s "
                "and e.payload::json -> 'data' ->> 'bundle' = %s order by e.version desc limit 1",
                (BUNDLE_STREAM, digest),
            )
            row = await cursor.fetchone()
        return None if row is None else _applied(recorded(BUNDLE_STREAM, *row))

    async def report_workspaces(self, reports: Sequence[WorkspaceReport]) -> None:
        """Store what was found in workspaces, in place of what was found before."""
        async with self._pool.connection() as connection, connection.transaction():
            for each in sorted(reports, key=lambda report: report.path):
                await connection.execute(
                    "insert into es.workspace (path, project, digest, state, problem, lacking, at) "
                    "values (%s, %s, %s, %s, %s, %s, %s) on conflict (path) do update set "
                    "project = excluded.project, digest = excluded.digest, state = excluded.state, "
                    "problem = excluded.problem, lacking = excluded.lacking, at = excluded.at",
                    (
                        each.path,
                        each.project,
                        each.digest,
                        each.state,
                        each.problem,
                        list(each.lacking),
                        each.at or now(),
                    ),
                )

    async def workspaces(self) -> Sequence[WorkspaceReport]:
        """List what is known of workspaces, by their paths."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(f"select {_REPORT} from es.workspace w order by w.path")  # noqa: S608 - constants
            return [_report(row) for row in await cursor.fetchall()]

    async def record_trip(self, trip: BreakerTripped) -> bool:
        """Record that a breaker tripped, in the executor's stream or its own, unless it is known to hold so long."""
        stream = f"breaker:{trip.breaker}" if trip.executor is None else f"principal:{trip.executor}"
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(LOCK, (stream,))
            cursor = await connection.execute(
                "select s.version, (select e.payload from es.event e where e.stream_id = s.stream_id "
                "and e.type = %s and e.payload::json -> 'data' ->> 'breaker' is not distinct from %s "
                "order by e.version desc limit 1) from es.stream s where s.stream_id = %s",
                (trip.type, trip.breaker, stream),
            )
            version, last = await cursor.fetchone() or (0, None)
            if last is not None and _covers(decode_payload(last), trip):
                return False
            if version == 0 and trip.executor is not None:
                return False  # nobody of that name was ever registered
            change = RegistryChange(stream=stream, expected=version, events=[trip])
            batch = Batch(envelope=Envelope(actor="system", at=now()), registry=[change])
            outcome = await append_together(connection, parts_of(batch)[2])
            if outcome.name != "appended":
                raise VersionConflict
        return True

    async def _one(self, where: str, values: tuple[object, ...]) -> Principal | None:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                f"select {_PRINCIPAL} from es.principal p where {where}",  # noqa: S608 - constants
                values,
            )
            row = await cursor.fetchone()
        return None if row is None else _principal(row)


async def locked(connection: Connection, name: str) -> int:
    """Keep others from a principal's stream until the transaction ends; return its version. Raises LookupError."""
    stream = f"principal:{name}"
    await connection.execute(LOCK, (stream,))
    cursor = await connection.execute("select version from es.stream where stream_id = %s", (stream,))
    row = await cursor.fetchone()
    if row is None:
        raise LookupError(name)
    return int(row[0])


async def record(connection: Connection, name: str, version: int, event: RegistryEvent, actor: str) -> None:
    """Append a fact to a principal's stream, as the first write of the transaction. Raises VersionConflict."""
    change = RegistryChange(stream=f"principal:{name}", expected=version, events=[event])
    batch = Batch(envelope=Envelope(actor=actor, at=now()), registry=[change])
    outcome = await append_together(connection, parts_of(batch)[2])
    if outcome.name != "appended":
        raise VersionConflict


async def touched(connection: Connection, executor: str) -> list[str]:
    """List the tasks that it concerns whether an executor is paused: those that it holds, or that wait for it."""
    cursor = await connection.execute(
        "select t.task_id from es.task t where t.executor = %(name)s union select w.task_id from es.waiting w "
        "where w.what = 'capacity:' || %(name)s or starts_with(w.what, %(paused)s)",
        {"name": executor, "paused": waits_for(executor)},
    )
    return [row[0] for row in await cursor.fetchall()]


async def _paused(
    connection: Connection, principal: str, control_plane: str, account: str
) -> list[RegistryEvent]:
    """Say of an executor that it is paused, where that was known of the account before it was the executor's."""
    cursor = await connection.execute(
        "select g.author, g.detail, g.at from es.paused_agent g, es.principal p where p.id = %s "
        "and p.kind = 'executor' and g.control_plane = %s and g.account = %s",
        (principal, control_plane, account),
    )
    return [
        ExecutorPaused(
            executor=principal,
            control_plane=control_plane,
            account=account,
            author=author,
            detail=detail,
            paused_at=at,
        )
        for author, detail, at in await cursor.fetchall()
    ]


def pause_from(executor: str, row: Sequence[Any]) -> ExecutorPause | None:
    """Read what PAUSE selects, of one executor."""
    control_plane, detail, at, account, author = row
    if control_plane is None:
        return None
    unknown = f"{control_plane}:{account}" if account else ""
    return ExecutorPause(
        executor=executor, control_plane=control_plane, author=author or unknown, detail=detail, at=at
    )


async def _insert(connection: Connection, principal: Principal) -> None:
    await connection.execute(
        "insert into es.principal (id, name, kind, roles, owner, skills, capacity, workspace) "
        "values (%s, %s, %s, %s, %s, %s, %s, %s)",
        (
            principal.id,
            principal.name,
            principal.kind,
            list(principal.roles),
            principal.owner,
            principal.skills,
            principal.capacity,
            principal.workspace,
        ),
    )


def _covers(known: object, trip: BreakerTripped) -> bool:
    """Tell whether a trip says no more than what is known: as the same breaker, until then or earlier.

    More at once must wait longer, so whoever asks for much and for little in turns would have each recorded.
    """
    return (
        isinstance(known, BreakerTripped)
        and replace(known, until=trip.until) == trip
        and trip.until <= known.until
    )


def _same(applied: object, wanted: BundleApplied) -> bool:
    """Compare bundles by their digests, and what is on trial or locked beside them by what it says."""
    return isinstance(applied, BundleApplied) and (applied.bundle, applied.shadow, applied.skills) == (
        wanted.bundle,
        wanted.shadow,
        wanted.skills,
    )


def _applied(event: Recorded) -> AppliedBundle:
    return AppliedBundle(
        version=event.version,
        bundle=event.data["bundle"],
        document=event.data["document"],
        shadow=event.data.get("shadow"),
        skills=event.data.get("skills"),
        actor=event.actor,
        reason=event.reason,
        at=event.at,
    )


def _principal(row: Sequence[Any]) -> Principal:
    return Principal(
        id=row[0],
        name=row[1],
        kind=row[2],
        roles=tuple(row[3]),
        owner=row[4],
        skills=row[5],
        capacity=row[6],
        revoked=row[7],
        workspace=row[8],
        load=row[9] if len(row) > 9 else 0,  # noqa: PLR2004 - only the list of executors counts
        hydrated=_report(row[10:17]) if len(row) > 10 and row[10] is not None else None,  # noqa: PLR2004 - as above
        pause=pause_from(row[1], row[17:]) if len(row) > 17 else None,  # noqa: PLR2004 - as above
    )


def _report(row: Sequence[Any]) -> WorkspaceReport:
    path, project, digest, state, problem, lacking, at = row
    return WorkspaceReport(
        path=path,
        project=project,
        digest=digest,
        state=state,
        problem=problem,
        lacking=tuple(lacking),
        at=at,
    )
