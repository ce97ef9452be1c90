"""What is known of trackers: the issue of each task, the inbox of observations, receipts of directives."""

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from psycopg.types.json import Jsonb
from pydantic import TypeAdapter

from agentic_os.application.ports import DirectiveReceipt, InboxItem, IssueLink, TrackerState
from agentic_os.clock import now
from agentic_os.control_plane import CommentSeen, Observation
from agentic_os.domain.directive import ASKING
from agentic_os.postgres.pool import Pool
from agentic_os.postgres.registry import BUNDLE_STREAM, LOCK

_observation: Final[TypeAdapter[Any]] = TypeAdapter(Observation)
_KINDS: Final = {kind.__name__: kind for kind in Observation.__args__}
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")

_TAKE: Final = """
insert into es.inbox (control_plane, delivery, comment_id, body_digest, observation, key, field, at, confirmed)
values (%s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing
"""
_CONFIRM: Final = """
update es.inbox set confirmed = true where control_plane = %s and delivery = any(%s) and not confirmed
"""
# Claims are taken one after the other: two at once could each get a part of what there is of an issue.
_TURN: Final = "select pg_advisory_xact_lock(hashtextextended('inbox', 0))"
_CLAIM: Final = """
with taken as (
    update es.inbox i set claimed_by = %s, claimed_until = clock_timestamp() + %s
    where i.id in (
        select o.id from es.inbox o where o.done_at is null and o.confirmed
            and (o.not_before is null or o.not_before <= now()) and not exists (
            select from es.inbox b where b.done_at is null and b.control_plane = o.control_plane and b.key = o.key
                and b.claimed_until > clock_timestamp())
        order by o.at, o.id limit %s)
    returning i.id, i.control_plane, i.observation, i.at, i.outcome is not null as held
)
select t.id, t.control_plane, t.observation, t.held from taken t order by t.at, t.id
"""
_KEEP: Final = """
update es.inbox set claimed_until = clock_timestamp() + %s where id = %s and claimed_by = %s and done_at is null
"""
_PUT_OFF: Final = """
update es.inbox set claimed_until = clock_timestamp() + %s
where id = any(%s) and claimed_by = %s and done_at is null
"""
_OVERTAKEN: Final = """
select exists (
    select from es.inbox i where i.control_plane = %s and i.key = %s and i.field = %s and i.at > %s)
"""
_RECEIPT: Final = (
    "id, task_id, verb, text, outcome, message, at, rule, paste, principal, control_plane, comment_id, quiet"
)


class PostgresIssueBook:
    """The issue book over a pool of connections in autocommit."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def link_of(self, task_id: str) -> IssueLink | None:
        """Find the issue of a task."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select i.task_id, i.control_plane, i.key, i.url from es.issue i where i.task_id = %s",
                (task_id,),
            )
            row = await cursor.fetchone()
        return (
            None if row is None else IssueLink(task_id=row[0], control_plane=row[1], key=row[2], url=row[3])
        )

    async def task_of(self, control_plane: str, key: str) -> str | None:
        """Find the task of an issue, be it one that is gone."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select i.task_id from es.issue i where i.control_plane = %(plane)s and i.key = %(key)s union all "
                "select f.task_id from es.former_issue f where f.control_plane = %(plane)s and f.key = %(key)s",
                {"plane": control_plane, "key": key},
            )
            row = await cursor.fetchone()
        return row[0] if row else None

    async def remember(self, link: IssueLink) -> None:
        """Store which issue shows a task."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "insert into es.issue (task_id, control_plane, key, url) values (%s, %s, %s, %s) "
                "on conflict (task_id) do update set control_plane = excluded.control_plane, key = excluded.key, "
                "url = excluded.url",
                (link.task_id, link.control_plane, link.key, link.url),
            )

    async def forget(self, task_id: str) -> None:
        """Drop the link of a task whose issue is gone; what was written there is still heard."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "with gone as (delete from es.issue where task_id = %s returning control_plane, key, task_id) "
                "insert into es.former_issue (control_plane, key, task_id) select * from gone on conflict do nothing",
                (task_id,),
            )

    async def take_in(self, control_plane: str, observations: Sequence[Any], cursor: str | None) -> int:
        """Store what is new, unique by delivery and by (comment, body), and the cursor in the same transaction."""
        async with self._pool.connection() as connection, connection.transaction():
            new = 0
            for seen in observations:
                seen_as_json = _storable(_observation.dump_python(seen, mode="json"))
                comment = seen_as_json if isinstance(seen, CommentSeen) else None
                stored = await connection.execute(
                    _TAKE,
                    (
                        control_plane,
                        seen_as_json["delivery"],
                        comment and comment["comment_id"],
                        comment and _digest(comment),
                        Jsonb({"kind": type(seen).__name__, "seen": seen_as_json}),
                        _storable(seen.key),
                        seen_as_json.get("field"),
                        seen.at,
                        cursor is not None,
                    ),
                )
                new += stored.rowcount
            if cursor is not None:
                known = [seen.delivery for seen in observations]
                new += (await connection.execute(_CONFIRM, (control_plane, known))).rowcount
                await connection.execute(
                    "insert into es.feed (control_plane, cursor) values (%s, %s) on conflict (control_plane) "
                    "do update set cursor = excluded.cursor, updated_at = now()",
                    (control_plane, cursor),
                )
        return new

    async def cursor(self, control_plane: str) -> str:
        """Say how far the feed was read."""
        async with self._pool.connection() as connection:
            found = await connection.execute(
                "select cursor from es.feed where control_plane = %s", (control_plane,)
            )
            row = await found.fetchone()
        return row[0] if row else ""

    async def open_items(self, limit: int) -> Sequence[InboxItem]:
        """List what was not acted on and is not held back, in the order of arrival."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select i.id, i.control_plane, i.observation, i.outcome is not null from es.inbox i "
                "where i.done_at is null and (i.not_before is null or i.not_before <= now()) "
                "order by i.id limit %s",
                (limit,),
            )
            rows = await cursor.fetchall()
        return _items(rows)

    async def hold_back(self, item: InboxItem, until: datetime, reason: str) -> None:
        """Put an observation off; for a second at least, where the clock of the store is ahead.

        A bundle that is recorded at the same time lets in what was put off before, or is there to be seen after.
        """
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(LOCK, (BUNDLE_STREAM,))
            await connection.execute(
                "update es.inbox set not_before = greatest(%s, now() + interval '1 second'), outcome = 'held', "
                "claimed_until = null, reason = %s where id = %s and done_at is null",
                (until, reason[:1000], item.id),
            )

    async def claim(self, worker: str, limit: int, lease: timedelta) -> Sequence[InboxItem]:
        """Take the oldest open items of issues of which nobody holds any."""
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(_TURN)
            rows = await (await connection.execute(_CLAIM, (worker, lease, limit))).fetchall()
        return _items(rows)

    async def unconfirmed(self, control_plane: str) -> bool:
        """Tell whether webhooks brought anything that the feed did not bring yet."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select exists (select from es.inbox i where i.control_plane = %s and i.done_at is null "
                "and not i.confirmed)",
                (control_plane,),
            )
            row = await cursor.fetchone()
        return bool(row and row[0])

    async def keep(self, worker: str, item: InboxItem, lease: timedelta) -> bool:
        """Keep a claimed item for as long again, if it is still this worker's."""
        async with self._pool.connection() as connection:
            return (await connection.execute(_KEEP, (lease, item.id, worker))).rowcount == 1

    async def put_off(self, worker: str, items: Sequence[InboxItem], pause: timedelta) -> None:
        """Let claimed items, and all of their issues, be taken again after the pause."""
        async with self._pool.connection() as connection:
            await connection.execute(_PUT_OFF, (pause, [item.id for item in items], worker))

    async def overtaken(self, control_plane: str, key: str, field: str, at: datetime) -> bool:
        """Tell whether a later change of the same field of the issue is known."""
        async with self._pool.connection() as connection:
            row = await (await connection.execute(_OVERTAKEN, (control_plane, key, field, at))).fetchone()
        return bool(row and row[0])

    async def tracker_state(self, control_plane: str) -> TrackerState:
        """Say how it stood with a tracker."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select t.reached_at, t.failed_at, t.problem, t.paused_until, t.webhook_at, t.read_at, "
                "(select i.at from es.inbox i where i.control_plane = p.name order by i.id desc limit 1) "
                "from (select %s::text as name) p left join es.tracker t on t.control_plane = p.name",
                (control_plane,),
            )
            row = await cursor.fetchone()
        assert row is not None
        names = ("reached_at", "failed_at", "problem", "paused_until", "webhook_at", "read_at", "heard_at")
        return TrackerState(**dict(zip(names, row, strict=True)))

    async def finish(self, item: InboxItem, outcome: str, reason: str) -> None:
        """Say what became of an observation."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "update es.inbox set done_at = now(), outcome = %s, reason = %s where id = %s",
                (outcome, reason[:1000], item.id),
            )

    async def receipt(self, receipt: DirectiveReceipt) -> None:
        """Store what became of a directive; one that was only received is overwritten, an outcome stays."""
        values = [getattr(receipt, name) for name in _RECEIPT.split(", ")]
        marks = ", ".join(["%s"] * len(values))
        async with self._pool.connection() as connection:
            await connection.execute(
                f"insert into es.directive as d ({_RECEIPT}) values ({marks}) on conflict (id) do update set "  # noqa: S608 - constants
                "outcome = excluded.outcome, message = excluded.message, rule = excluded.rule, "
                "paste = excluded.paste, principal = excluded.principal, quiet = excluded.quiet "
                "where d.outcome = 'received'",
                values,
            )

    async def receipt_of(self, receipt_id: str) -> DirectiveReceipt | None:
        """Find a receipt."""
        found = await self._receipts("id = %s", receipt_id)
        return found[0] if found else None

    async def receipts_of(self, control_plane: str, comment_id: str) -> Sequence[DirectiveReceipt]:
        """List what became of the directives of a comment, the oldest first."""
        return await self._receipts(
            "control_plane = %s and comment_id = %s order by at, id", control_plane, comment_id
        )

    async def receipts(self, task_id: str, limit: int) -> Sequence[DirectiveReceipt]:
        """List the latest receipts of a task, the newest first."""
        return await self._receipts("task_id = %s order by at desc, id desc limit %s", task_id, limit)

    async def _receipts(self, which: str, *values: object) -> Sequence[DirectiveReceipt]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(f"select {_RECEIPT} from es.directive where {which}", values)  # noqa: S608 - constants
            rows = await cursor.fetchall()
        names = _RECEIPT.split(", ")
        return [DirectiveReceipt(**dict(zip(names, row, strict=True))) for row in rows]

    async def answered(self, task_id: str, principal: str | None, since: datetime) -> int:
        """Count the notes that answered somebody's directives on a task's issue; None for all unknown accounts."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select count(*) from es.directive d where d.task_id = %s and d.principal is not distinct from %s "
                "and d.at > %s and not d.quiet and d.control_plane is not null "
                "and (d.outcome = 'refused' or d.outcome = 'done' and d.verb = any(%s))",
                (task_id, principal, since, sorted(ASKING)),
            )
            row = await cursor.fetchone()
        return int(row[0]) if row else 0

    async def note_shown(self, task_id: str, marker: str) -> None:
        """Note that a note of ours is on the task's issue from now on."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "insert into es.shown (task_id, marker, at) values (%s, %s, %s) on conflict do nothing",
                (task_id, marker, now()),
            )

    async def shown_at(self, task_id: str, marker: str) -> datetime | None:
        """Say since when it is known to be there; None where that is not known."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select s.at from es.shown s where s.task_id = %s and s.marker = %s", (task_id, marker)
            )
            row = await cursor.fetchone()
        return row[0] if row else None


def _items(rows: Sequence[tuple[Any, ...]]) -> list[InboxItem]:
    return [
        InboxItem(id=i, control_plane=plane, observation=_seen(stored), held=held)
        for i, plane, stored, held in rows
    ]


def _storable(value: Any) -> Any:
    # People's text is taken as it is: one that PostgreSQL cannot hold would stop the feed at it for ever.
    if isinstance(value, str):
        return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return {name: _storable(item) for name, item in value.items()} if isinstance(value, dict) else value


def _digest(comment: dict[str, Any]) -> str:
    # The action is part of it: an edit back to the first text is still an edit, to be answered.
    return hashlib.sha256(f"{comment['action']}\n{comment['body']}".encode()).hexdigest()


def _seen(stored: dict[str, Any]) -> Observation:
    seen: Observation = TypeAdapter(_KINDS[stored["kind"]]).validate_python(stored["seen"])
    return seen
