"""Which attempt sent which bytes, and what its callbacks show: what claims of evidence are measured by."""

from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from agentic_os.application.holdings import Shown
from agentic_os.postgres.pool import Pool

_NOTE: Final = """
insert into es.upload (task_id, attempt, digest) values (%s, %s, %s) on conflict do nothing
"""
_SENDERS: Final = """
select u.digest, u.attempt from es.upload u where u.task_id = %(task)s and u.digest = any(%(digests)s)
union select a.digest, a.attempt from es.artifact a where a.task_id = %(task)s and a.digest = any(%(digests)s)
"""
# A traceparent stands in an event's meta; where the words stand elsewhere, the look at the event tells.
_SHOWN: Final = """
select e.payload from es.event e where e.stream_id = %s and e.version > %s
    and (e.type = 'report.recorded' or e.payload like '%%"traceparent"%%')
order by e.version
"""


class PostgresUploads:
    """The record of what was sent, over the pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def note(self, task_id: str, attempt: int, digest: str) -> None:
        """Note that the attempt sent these bytes."""
        async with self._pool.connection() as connection:
            await connection.execute(_NOTE, (task_id, attempt, digest))

    async def senders(self, task_id: str, digests: Sequence[str]) -> Mapping[str, frozenset[int]]:
        """Find which attempts of this task sent which of these bytes, by upload or within a result."""
        found: dict[str, set[int]] = {}
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_SENDERS, {"task": task_id, "digests": list(digests)})
            for digest, attempt in await cursor.fetchall():
                found.setdefault(digest, set()).add(attempt)
        return {digest: frozenset(attempts) for digest, attempts in found.items()}

    async def shown(self, task_id: str, attempt: int, after: int) -> Shown:
        """Gather what the attempt's callbacks show."""
        commands: set[str] = set()
        traced = False
        async with self._pool.connection() as connection:
            async for (payload,) in await connection.execute(_SHOWN, (task_id, after)):
                event = orjson.loads(payload)
                data = event["data"]
                if data.get("attempt") != attempt:
                    continue
                traced = traced or "traceparent" in event["meta"]
                if event["type"] == "report.recorded" and data["kind"] == "tool_event":
                    traced = True
                    commands |= {
                        tool["arguments_digest"]
                        for tool in data["body"]["events"]
                        if tool["outcome"] == "ok" and "arguments_digest" in tool
                    }
        return Shown(commands=frozenset(commands), traced=traced)
