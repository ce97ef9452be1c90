"""Stale marks, deadlines and waits: what is to be done, and when."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from agentic_os.application.ports import DueDeadline, Outlook, StaleMark
from agentic_os.clock import now
from agentic_os.domain.policy import Breaker, RateBreaker
from agentic_os.domain.waiting import Deadline
from agentic_os.postgres.pool import Pool

_CLAIM: Final = """
with due as materialized (
    select task_id from es.stale
    where (claimed_until is null or claimed_until < now()) and (not_before is null or not_before <= now())
    order by since limit %s for update skip locked
), taken as (
    update es.stale s set claimed_by = %s, claimed_until = now() + %s from due d where s.task_id = d.task_id
    returning s.task_id, s.generation, s.failures, s.since
)
select t.task_id, t.generation, t.failures, t.since from taken t order by t.since, t.task_id
"""
# The generation is read under the row's lock: it may have moved since this statement began.
_SETTLE: Final = """
with held as materialized (
    select task_id, generation from es.stale where task_id = %(task)s for update
), gone as (
    delete from es.stale s using held h where s.task_id = h.task_id and h.generation = %(generation)s
)
update es.stale s set claimed_by = null, claimed_until = null, failures = 0, problem = null
from held h where s.task_id = h.task_id and h.generation <> %(generation)s
"""
_POSTPONE: Final = """
update es.stale set claimed_by = null, claimed_until = null, failures = failures + 1, problem = %s,
    not_before = case when generation = %s then %s::timestamptz end
where task_id = %s
"""
_MARK: Final = """
insert into es.stale as s (task_id) select distinct t from unnest(%s::text[]) t order by t
on conflict (task_id) do update set generation = s.generation + 1, not_before = null
"""
_MARK_WAITING: Final = """
insert into es.stale as s (task_id) select distinct w.task_id from es.waiting w where starts_with(w.what, %s) order by 1
on conflict (task_id) do update set generation = s.generation + 1, not_before = null
"""
_OUTLOOK: Final = """
select (select min(at) from es.deadline),
    (select min(greatest(claimed_until, not_before, since)) from es.stale),
    exists (select from es.inbox where done_at is null and (not_before is null or not_before <= now())),
    coalesce((select s.version from es.stream s where s.stream_id = 'governance:policy'), 0)
"""
# By the clock of this machine, as deadlines are; it never goes back, since another server may be ahead.
_LOOK: Final = f"""
with beat as (
    insert into es.served as s (at) values (%s)
    on conflict (only_row) do update set at = greatest(s.at, excluded.at)
)
{_OUTLOOK}
"""  # noqa: S608 - constants
_REST: Final = """
update es.stale set claimed_by = null, claimed_until = null, failures = 0, problem = null,
    not_before = case when generation = %s then %s::timestamptz end
where task_id = %s
"""
_LAPSED: Final = """
select d.task_id, d.kind, d.ref, d.at from es.deadline d
where d.at between %s and %s and d.kind in ('ack', 'lease') order by d.at, d.task_id
"""
_TURNS: Final = """
select o.at from es.offer o where o.executor = %s and (o.task_id, o.attempt) <> (%s, %s)
order by o.at desc offset %s limit 1
"""
_TURN: Final = """
insert into es.offer as o (task_id, attempt, executor, at) values (%s, %s, %s, %s)
on conflict (task_id, attempt) do update set executor = excluded.executor, at = excluded.at
"""
_COUNTED: Final = """
select c.at from es.counted c where c.breaker = %s and c.ref <> all (%s) order by c.at desc offset %s limit 1
"""
_COUNT: Final = """
insert into es.counted as c (breaker, ref, at) select %s, ref, %s from unnest(%s::text[]) ref
on conflict (breaker, ref) do update set at = excluded.at
"""


class PostgresWorkQueue:
    """The work queue over a pool of connections in autocommit: no transaction is open while work is done."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def claim(self, worker: str, limit: int, lease: timedelta) -> Sequence[StaleMark]:
        """Take marks, the oldest first."""
        async with self._pool.connection() as connection:
            rows = await (await connection.execute(_CLAIM, (limit, worker, lease))).fetchall()
        return [StaleMark(task_id=t, generation=g, failures=f, since=s) for t, g, f, s in rows]

    async def settle(self, mark: StaleMark) -> None:
        """Remove the mark if its generation is unchanged, else give it free for another pass."""
        async with self._pool.connection() as connection:
            await connection.execute(_SETTLE, {"task": mark.task_id, "generation": mark.generation})

    async def postpone(self, mark: StaleMark, until: datetime, problem: str) -> None:
        """Put the mark off; one that was renewed meanwhile is due at once."""
        async with self._pool.connection() as connection:
            await connection.execute(_POSTPONE, (problem[:1000], mark.generation, until, mark.task_id))

    async def rest(self, mark: StaleMark, until: datetime) -> None:
        """Put the mark off; one that was renewed meanwhile is due at once."""
        async with self._pool.connection() as connection:
            await connection.execute(_REST, (mark.generation, until, mark.task_id))

    async def mark(self, task_ids: Sequence[str]) -> None:
        """Mark tasks stale."""
        async with self._pool.connection() as connection:
            await connection.execute(_MARK, (list(task_ids),))

    async def mark_waiting(self, kind: str) -> None:
        """Mark the tasks stale that wait for anything of this kind."""
        async with self._pool.connection() as connection:
            await connection.execute(_MARK_WAITING, (kind,))

    async def wait(self, task_id: str, what: str) -> None:
        """Note what the task waits for."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "insert into es.waiting (task_id, what) values (%s, %s) on conflict do nothing",
                (task_id, what),
            )

    async def waits_of(self, task_id: str) -> Sequence[str]:
        """List what the task waits for."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select w.what from es.waiting w where w.task_id = %s order by w.what", (task_id,)
            )
            return [row[0] for row in await cursor.fetchall()]

    async def forget_waits(self, task_id: str) -> None:
        """Note that the task waits for nothing any more."""
        async with self._pool.connection() as connection:
            await connection.execute("delete from es.waiting where task_id = %s", (task_id,))

    async def due(self, at: datetime, limit: int) -> Sequence[DueDeadline]:
        """List deadlines that have come, the oldest first."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select d.task_id, d.kind, d.ref, d.at from es.deadline d where d.at <= %s "
                "order by d.at, d.task_id limit %s",
                (at, limit),
            )
            return _due(await cursor.fetchall())

    async def outlook(self) -> Outlook:
        """Ask, in one query, when there will be work next."""
        async with self._pool.connection() as connection:
            row = await (await connection.execute(_OUTLOOK)).fetchone()
        assert row is not None
        return Outlook(deadline=row[0], mark=row[1], inbox=row[2], bundle=row[3])

    async def look(self) -> Outlook:
        """Ask the same, and note in the same query that somebody serves now."""
        async with self._pool.connection() as connection:
            row = await (await connection.execute(_LOOK, (now(),))).fetchone()
        assert row is not None
        return Outlook(deadline=row[0], mark=row[1], inbox=row[2], bundle=row[3])

    async def served_at(self) -> datetime | None:
        """Say when somebody last noted that it serves."""
        async with self._pool.connection() as connection:
            row = await (await connection.execute("select s.at from es.served s")).fetchone()
        return row[0] if row else None

    async def lapsed(self, since: datetime, at: datetime) -> Sequence[DueDeadline]:
        """List the leases and acknowledgements that fell due in this span and still stand."""
        async with self._pool.connection() as connection:
            return _due(await (await connection.execute(_LAPSED, (since, at))).fetchall())

    async def take_turn(
        self, executor: str, task_id: str, attempt: int, at: datetime, breaker: Breaker
    ) -> datetime | None:
        """Count an attempt, unless as many as the breaker allows were counted within its span."""
        async with self._pool.connection() as connection, connection.transaction():
            # What is counted under the lock still holds when the turn is taken.
            await connection.execute(
                "select pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"offer:{executor}",)
            )
            cursor = await connection.execute(_TURNS, (executor, task_id, attempt, breaker.attempts - 1))
            row = await cursor.fetchone()
            if row is not None and row[0] + breaker.within > at:
                until: datetime = row[0] + breaker.within
                return until
            await connection.execute(_TURN, (task_id, attempt, executor, at))
            await connection.execute(
                "delete from es.offer where executor = %s and at < %s", (executor, at - breaker.within)
            )
        return None

    async def give_turn_back(self, task_id: str, attempt: int) -> None:
        """Count the attempt no longer."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "delete from es.offer where task_id = %s and attempt = %s", (task_id, attempt)
            )

    async def count(
        self, account: str, refs: Sequence[str], at: datetime, breaker: RateBreaker
    ) -> datetime | None:
        """Count all of these, unless with them more would be counted within the span than the breaker allows."""
        names = list(refs)
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(
                "select pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"counted:{account}",)
            )
            room = max(breaker.count - len(names), 0)
            cursor = await connection.execute(_COUNTED, (account, names, room))
            row = await cursor.fetchone()
            if row is not None and row[0] + breaker.within > at:
                until: datetime = row[0] + breaker.within
                return until
            await connection.execute(_COUNT, (account, at, names))
            await connection.execute(
                "delete from es.counted where breaker = %s and at <= %s", (account, at - breaker.within)
            )
        return None

    async def uncount(self, account: str, refs: Sequence[str]) -> None:
        """Count these no longer."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "delete from es.counted where breaker = %s and ref = any (%s)", (account, list(refs))
            )


def _due(rows: Sequence[tuple[Any, ...]]) -> list[DueDeadline]:
    return [DueDeadline(task_id=t, deadline=Deadline(kind=k, ref=r, at=a)) for t, k, r, a in rows]
