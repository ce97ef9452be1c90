"""Verify the hash chain of every stream, and name the first link that does not hold."""

from dataclasses import dataclass
from typing import Final

from agentic_os.postgres.pool import Pool

_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenLink:
    """Where the history was changed, and how that shows."""

    stream: str
    version: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """How much was checked, and the first broken link, if any."""

    streams: int
    events: int
    broken: BrokenLink | None


async def verify(pool: Pool) -> AuditReport:
    """Check every stream, a page of them at a time."""
    after, events = "", 0
    async with pool.connection() as connection:
        row = await (await connection.execute("select count(*) from es.stream")).fetchone()
        streams = row[0] if row else 0
        orphans = await connection.execute(
            "select e.stream_id, e.version from es.event e where not exists "
            "(select from es.stream s where s.stream_id = e.stream_id) order by 1, 2 limit 1"
        )
        orphan = await orphans.fetchone()
        if orphan is not None:
            broken = BrokenLink(stream=orphan[0], version=orphan[1], reason="the stream's head is missing")
            return AuditReport(streams=streams, events=0, broken=broken)
        while True:
            cursor = await connection.execute(
                "select stream_id, version, reason, checked, last from es.first_broken(%s, %s)",
                (after, _PAGE),
            )
            found = await cursor.fetchone()
            assert found is not None
            stream, version, reason, checked, last = found
            events += checked
            if reason is not None:
                broken = BrokenLink(stream=stream, version=version, reason=reason)
                return AuditReport(streams=streams, events=events, broken=broken)
            if last is None:
                return AuditReport(streams=streams, events=events, broken=None)
            after = last
