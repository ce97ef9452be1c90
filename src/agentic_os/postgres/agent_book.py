"""Which agents are paused on the connected tracker; of an executor's account, each change is also a fact."""

from collections.abc import Sequence
from typing import Any

from agentic_os.application.ports import AgentKnown, Batch, Envelope, RegistryChange, VersionConflict
from agentic_os.clock import now
from agentic_os.control_plane import AgentSeen
from agentic_os.domain.executor_pauses import ExecutorPause
from agentic_os.domain.governance import ExecutorPaused, ExecutorResumed, RegistryEvent
from agentic_os.postgres.appender import append_together
from agentic_os.postgres.parts import parts_of
from agentic_os.postgres.pool import Connection, Pool
from agentic_os.postgres.registry import PAUSE, PAUSED, locked, pause_from, touched
from agentic_os.postgres.work_queue import MARK


class PostgresAgentBook:
    """The agent book of one tracker."""

    def __init__(self, pool: Pool, control_plane: str | None) -> None:
        self._pool = pool
        self._control_plane = control_plane

    async def see(self, seen: AgentSeen) -> AgentKnown:
        """Keep how an account stands; of an executor's, what changed is put on record, and its tasks are marked."""
        plane = self._control_plane
        assert plane is not None
        async with self._pool.connection() as connection, connection.transaction():
            executor = await _one(
                connection,
                "select p.id from es.principal p join es.external_account a on a.principal = p.id "
                "where p.kind = 'executor' and p.revoked_at is null and a.control_plane = %s and a.account = %s",
                plane,
                seen.account,
            )
            version = await locked(connection, executor[0]) if executor else 0
            known = await _one(
                connection,
                "select g.author, g.detail from es.paused_agent g where g.control_plane = %s and g.account = %s",
                plane,
                seen.account,
            )
            changed = _is_news(seen, known)
            if changed and executor:
                await _put_on_record(connection, seen, plane, executor[0], version)
            if changed:
                await _keep(connection, seen, plane)
        if not executor:
            return AgentKnown(executor="", changed=changed)
        # Once others see it: whoever looks before that notes what it waits for first, and is found here. Also where it
        # was no news, since this may have broken off the last time.
        async with self._pool.connection() as connection:
            await connection.execute(MARK, (await touched(connection, executor[0]),))
        return AgentKnown(executor=executor[0], changed=changed)

    async def pause_of(self, executor: str) -> ExecutorPause | None:
        """Say by whom and why an executor is paused, None where it is not."""
        if self._control_plane is None:
            return None
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                f"select {PAUSE} from es.principal p {PAUSED} where p.id = %(name)s",  # noqa: S608 - constants
                {"plane": self._control_plane, "name": executor},
            )
            row = await cursor.fetchone()
        return None if row is None else pause_from(executor, row)


def _is_news(seen: AgentSeen, known: Sequence[str] | None) -> bool:
    """Tell whether it says more than what is known; one who paused what was paused already is not named."""
    if known is None or seen.state == "ready":
        return (seen.state == "paused") == (known is None)
    return seen.detail != known[1] or (bool(seen.author) and not known[0])


async def _put_on_record(
    connection: Connection, seen: AgentSeen, control_plane: str, executor: str, version: int
) -> None:
    """Append the fact to the executor's stream, in the name of who did it."""
    author = await _one(
        connection,
        "select a.principal from es.external_account a where a.control_plane = %s and a.account = %s",
        control_plane,
        seen.author,
    )
    unknown = f"{control_plane}:{seen.author}" if seen.author else "system"
    fact: RegistryEvent = (
        ExecutorPaused(
            executor=executor,
            control_plane=control_plane,
            account=seen.account,
            author=seen.author,
            detail=seen.detail,
            paused_at=seen.at,
        )
        if seen.state == "paused"
        else ExecutorResumed(
            executor=executor,
            control_plane=control_plane,
            account=seen.account,
            author=seen.author,
            resumed_at=seen.at,
        )
    )
    done = "paused" if seen.state == "paused" else "resumed"
    batch = Batch(
        envelope=Envelope(
            actor=author[0] if author else unknown,
            at=now(),
            reason=f"{done} on {control_plane}" + (f": {seen.detail}" if seen.detail else ""),
            cause=seen.delivery,
            meta={"control_plane": control_plane},
        ),
        registry=[RegistryChange(stream=f"principal:{executor}", expected=version, events=[fact])],
    )
    if (await append_together(connection, parts_of(batch)[2])).name != "appended":
        raise VersionConflict


async def _keep(connection: Connection, seen: AgentSeen, control_plane: str) -> None:
    if seen.state == "ready":
        await connection.execute(
            "delete from es.paused_agent where control_plane = %s and account = %s",
            (control_plane, seen.account),
        )
        return
    await connection.execute(
        "insert into es.paused_agent as g (control_plane, account, author, detail, at) values (%s, %s, %s, %s, %s) "
        "on conflict (control_plane, account) do update set author = excluded.author, detail = excluded.detail, "
        "at = excluded.at",
        (control_plane, seen.account, seen.author, seen.detail, seen.at),
    )


async def _one(connection: Connection, query: str, *values: str) -> tuple[Any, ...] | None:
    return await (await connection.execute(query.encode(), values)).fetchone()
