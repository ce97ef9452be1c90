"""Stale marks, deadlines and waits: what is to be done, and when."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from agentic_os.application.ports import Backlog, BacklogItem, DueDeadline, Outlook, StaleMark, TrackerState
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
update es.stale s set claimed_by = null, claimed_until = null, failures = 0, problem = null, poisoned_at = null
from held h where s.task_id = h.task_id and h.generation <> %(generation)s
"""
# One whose claim lapsed may find that another worker was done with it: it is stale all the same.
_POSTPONE: Final = """
insert into es.stale as s (task_id, failures, problem, not_before) values (%(task)s, 1, %(problem)s, %(until)s)
on conflict (task_id) do update set claimed_by = null, claimed_until = null, failures = s.failures + %(counts)s,
    problem = excluded.problem, not_before = case when s.generation = %(generation)s then excluded.not_before end,
    poisoned_at = case when %(poisoned)s then coalesce(s.poisoned_at, now()) end
"""
_REDRIVE: Final = """
insert into es.stale as s (task_id) values (%s)
on conflict (task_id) do update set generation = s.generation + 1, not_before = null, failures = 0, problem = null,
    poisoned_at = null
"""
_MARK_ISSUES: Final = """
insert into es.stale as s (task_id)
    select i.task_id from es.issue i join es.task t using (task_id)
    where t.phase not in ('completed', 'rejected', 'cancelled', 'failed') order by 1
on conflict (task_id) do update set generation = s.generation + 1, not_before = null
"""
# A mark that failed never and was put off belongs to a task that waits for its own reasons.
_COUNTS: Final = """
select count(*), count(s.poisoned_at),
    min(s.since) filter (where not (s.failures = 0 and s.problem is null and coalesce(s.not_before > now(), false))),
    (select count(*) from es.inbox where done_at is null),
    (select min(received_at) from es.inbox where done_at is null)
from es.stale s where %(task)s::text is null or s.task_id = %(task)s
"""
_BACKLOG: Final = """
select s.task_id, s.since, s.failures, s.problem, case when s.not_before > now() then s.not_before end, s.poisoned_at,
    coalesce(s.claimed_until > now(), false),
    s.failures = 0 and s.problem is null and coalesce(s.not_before > now(), false)
from es.stale s where %(task)s::text is null or s.task_id = %(task)s
order by s.poisoned_at is null, s.since, s.task_id limit %(limit)s
"""
MARK: Final = """
insert into es.stale as s (task_id) select distinct t from unnest(%s::text[]) t order by t
on conflict (task_id) do update set generation = s.generation + 1, not_before = null
"""
# A pass that goes on may have read the task already; one that is put off comes all the same.
_MARK_BY: Final = """
insert into es.stale as s (task_id, not_before) values (%s, %s)
on conflict (task_id) do update set generation = s.generation + 1 where s.claimed_until > now()
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
), noted as (
    insert into es.tracker as t (control_plane, reached_at, failed_at, problem, paused_until, webhook_at, read_at)
    select n, %s, %s, %s, %s, %s, %s from unnest(%s::text[]) n
    on conflict (control_plane) do update set
        reached_at = greatest(t.reached_at, excluded.reached_at),
        problem = case when excluded.failed_at >= coalesce(t.failed_at, '-infinity') then excluded.problem
            else t.problem end,
        failed_at = greatest(t.failed_at, excluded.failed_at),
        paused_until = greatest(t.paused_until, excluded.paused_until),
        webhook_at = greatest(t.webhook_at, excluded.webhook_at),
        read_at = greatest(t.read_at, excluded.read_at)
)
{_OUTLOOK}
"""  # noqa: S608 - constants
_WAIT_FOR: Final = """
with gone as (
    delete from es.waiting w where w.task_id = %(task)s and not (w.what = any(%(what)s::text[]))
)
insert into es.waiting as w (task_id, what, rank) select %(task)s, o, %(rank)s from unnest(%(what)s::text[]) o
on conflict (task_id, what) do update set rank = excluded.rank where w.rank <> excluded.rank
"""
_OUTRANKED: Final = """
select exists (
    select from es.waiting w join es.stale s on s.task_id = w.task_id
    where w.what = %s and w.rank < %s and w.task_id <> %s and (s.not_before is null or s.not_before <= now()))
"""
_REST: Final = """
update es.stale set claimed_by = null, claimed_until = null, failures = 0, problem = null, poisoned_at = null,
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

    async def postpone(
        self, mark: StaleMark, until: datetime, problem: str, *, counts: bool = True, poisoned: bool = False
    ) -> None:
        """Put the mark off; one that was renewed meanwhile is due at once."""
        values = {
            "task": mark.task_id,
            "generation": mark.generation,
            "counts": int(counts),
            "problem": problem[:1000],
            "until": until,
            "poisoned": poisoned,
        }
        async with self._pool.connection() as connection:
            await connection.execute(_POSTPONE, values)

    async def redrive(self, task_id: str) -> None:
        """Mark the task stale, with no failure counted and nothing put off."""
        async with self._pool.connection() as connection:
            await connection.execute(_REDRIVE, (task_id,))

    async def mark_issues(self) -> int:
        """Mark every task stale that has an issue and has not ended."""
        async with self._pool.connection() as connection:
            return (await connection.execute(_MARK_ISSUES)).rowcount

    async def waited_for(self, kind: str, limit: int) -> Sequence[str]:
        """List what of this kind tasks wait for, each once."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select distinct w.what from es.waiting w where starts_with(w.what, %s) order by 1 limit %s",
                (kind, limit),
            )
            return [row[0] for row in await cursor.fetchall()]

    async def paused_repairs(self, limit: int) -> Sequence[str]:
        """List tasks of which something on the issue is not put back for now."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select distinct d.task_id from es.deadline d where d.kind = 'repairs' order by 1 limit %s",
                (limit,),
            )
            return [row[0] for row in await cursor.fetchall()]

    async def backlog(self, limit: int, task_id: str | None = None) -> Backlog:
        """Say what is stale, poisoned tasks first and then the oldest."""
        values = {"task": task_id, "limit": limit}
        async with self._pool.connection() as connection:
            counts = await (await connection.execute(_COUNTS, values)).fetchone()
            rows = await (await connection.execute(_BACKLOG, values)).fetchall()
        assert counts is not None
        stale, poisoned, oldest, inbox, inbox_oldest = counts
        return Backlog(
            stale=stale,
            poisoned=poisoned,
            oldest=oldest,
            inbox=inbox,
            inbox_oldest=inbox_oldest,
            items=[
                BacklogItem(
                    task_id=task,
                    since=since,
                    failures=failures,
                    problem=problem,
                    again=again,
                    poisoned_at=poisoned_at,
                    claimed=claimed,
                    at_rest=at_rest,
                )
                for task, since, failures, problem, again, poisoned_at, claimed, at_rest in rows
            ],
        )

    async def rest(self, mark: StaleMark, until: datetime) -> None:
        """Put the mark off; one that was renewed meanwhile is due at once."""
        async with self._pool.connection() as connection:
            await connection.execute(_REST, (mark.generation, until, mark.task_id))

    async def mark(self, task_ids: Sequence[str]) -> None:
        """Mark tasks stale."""
        async with self._pool.connection() as connection:
            await connection.execute(MARK, (list(task_ids),))

    async def mark_by(self, task_id: str, at: datetime) -> None:
        """Mark a task stale from then on, if it is not anyway."""
        async with self._pool.connection() as connection:
            await connection.execute(_MARK_BY, (task_id, at))

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

    async def wait_for(self, task_id: str, obstacles: Sequence[str], rank: int) -> None:
        """Note what the task waits for, and nothing else; what it waited for before stays as it was."""
        async with self._pool.connection() as connection:
            await connection.execute(_WAIT_FOR, {"task": task_id, "what": list(obstacles), "rank": rank})

    async def outranked(self, task_id: str, what: str, rank: int) -> bool:
        """Tell whether a more urgent task waits for the same, and is about to be looked at."""
        async with self._pool.connection() as connection:
            row = await (await connection.execute(_OUTRANKED, (what, rank, task_id))).fetchone()
        return bool(row and row[0])

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

    async def look(self, control_plane: str | None = None, state: TrackerState | None = None) -> Outlook:
        """Ask the same, and note in the same query that somebody serves now, and how it stands with the tracker."""
        known = state or TrackerState()
        tracker = (
            known.reached_at,
            known.failed_at,
            known.problem,
            known.paused_until,
            known.webhook_at,
            known.read_at,
            [control_plane] if control_plane is not None else [],
        )
        async with self._pool.connection() as connection:
            row = await (await connection.execute(_LOOK, (now(), *tracker))).fetchone()
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
