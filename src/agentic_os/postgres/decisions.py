"""The decisions of policy among all events, over an index of their own."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from agentic_os.application.decisions import BEGINNING, GENERAL, KINDS, TYPES, Position, Ruling, Trend
from agentic_os.application.ports import Recorded
from agentic_os.domain.hooks import Hook
from agentic_os.postgres import codec
from agentic_os.postgres.pool import Pool

# Written out, so that the planner sees that the index has them.
_DECISIONS: Final = ", ".join(f"'{kind}'" for kind in TYPES)


def _of(query: str) -> bytes:
    return query.replace("DECISIONS", _DECISIONS).encode()


_COUNT: Final = _of("select count(*) from es.event e where e.type in (DECISIONS)")
_LAST: Final = _of("""
select e.txid::text, e.position from es.event e where e.type in (DECISIONS)
and e.txid < pg_snapshot_xmin(pg_current_snapshot())
order by e.txid desc, e.position desc limit 1 offset %s
""")
_BEFORE: Final = _of("""
select count(*) from es.event e where e.type in (DECISIONS) and e.txid = %s::xid8 and e.position < %s
""")
_READ: Final = _of("""
select e.txid::text, e.position, e.stream_id, e.version, e.payload, e.hash from es.event e
where e.type in (DECISIONS, 'parent.declared')
and (e.txid, e.position) > (%s::xid8, %s) and e.txid < pg_snapshot_xmin(pg_current_snapshot())
order by e.txid, e.position limit %s
""")
_PAGE: Final = _of(
    """
select e.txid::text, e.position, e.stream_id, e.version, e.payload, e.hash from es.event e
where e.type in (DECISIONS) and (e.type = any(%s) or e.type = 'GENERAL'
and coalesce(e.payload::json #>> '{data,hook}' = %s, true)
and coalesce(e.payload::json #>> '{data,decision}' = %s, true))
""".replace("GENERAL", GENERAL)
)
_NEWEST_FIRST: Final = b" order by e.txid desc, e.position desc limit %s"
_ONE: Final = _of("""
select e.stream_id, e.version, e.payload, e.hash from es.event e
where e.type in (DECISIONS) and e.event_id = %s
""")
_TRENDS: Final = _of("""
select d.hook, d.differences::json, d.loosened, count(*), max(d.at) from (
    select e.payload::json #>> '{data,hook}' as hook, e.payload::json #>> '{data,differences}' as differences,
        (e.payload::json #>> '{data,loosened}')::boolean as loosened, e.payload::json ->> 'at' as at
    from es.event e
    where e.type = 'policy.differed' and e.payload::json #>> '{data,bundle}' = %s) d
group by d.hook, d.differences, d.loosened order by d.loosened desc, count(*) desc, d.hook, d.differences limit 500
""")


class PostgresDecisions:
    """The decisions over a pool of connections in autocommit."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def count(self) -> int:
        """Count them."""
        return int((await self._rows(_COUNT))[0][0])

    async def start_of(self, last: int) -> tuple[Position, int]:
        """Find the transaction with the first of the last so many, since what belongs to it is read with it."""
        found = await self._rows(_LAST, last - 1)
        if not found:
            return BEGINNING, 0
        txid, position = found[0]
        return (txid, 0), int((await self._rows(_BEFORE, txid, position))[0][0])

    async def read(self, after: Position, limit: int) -> tuple[Sequence[Recorded], Position]:
        """Read on below the fence: what is still being written is left out."""
        rows = await self._rows(_READ, *after, limit)
        return [codec.recorded(*row[2:]) for row in rows], (rows[-1][0], rows[-1][1]) if rows else after

    async def page(
        self,
        *,
        hook: Hook | None,
        decision: Ruling | None,
        task_id: str | None,
        before: Position | None,
        limit: int,
    ) -> tuple[Sequence[Recorded], Position | None]:
        """List decisions, the newest first."""
        query = _PAGE
        types = [kind for kind, (at, how) in KINDS.items() if hook in (None, at) and decision in (None, how)]
        values: list[Any] = [types, hook, decision]
        if task_id is not None:
            query, values = query + b" and e.stream_id = %s", [*values, task_id]
        if before is not None:
            query, values = query + b" and (e.txid, e.position) < (%s::xid8, %s)", [*values, *before]
        rows = await self._rows(query + _NEWEST_FIRST, *values, limit)
        following = (rows[-1][0], rows[-1][1]) if len(rows) == limit else None
        return [codec.recorded(*row[2:]) for row in rows], following

    async def one(self, event_id: str) -> Recorded | None:
        """Find the decision that an event holds."""
        rows = await self._rows(_ONE, event_id)
        return codec.recorded(*rows[0]) if rows else None

    async def trends(self, bundle: str) -> Sequence[Trend]:
        """Say in which ways a shadow differed, what it loosens first."""
        return [
            Trend(
                hook=hook,
                differences=differences,
                loosened=loosened,
                count=count,
                latest=datetime.fromisoformat(latest),
            )
            for hook, differences, loosened, count, latest in await self._rows(_TRENDS, bundle)
        ]

    async def _rows(self, query: bytes, *values: Any) -> list[tuple[Any, ...]]:
        async with self._pool.connection() as connection:
            return await (await connection.execute(query, values)).fetchall()
