"""The board's own history: a row for every change by anyone, which the feed and the webhooks read."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from agentic_os_board.clock import new_id

from .accounts import Account
from .database import Connection, Row
from .problems import Unacceptable


async def record(
    tx: Connection, actor: Account | UUID, issue: int | None, kind: str, data: Mapping[str, Any]
) -> None:
    """Add an activity; a bare id is an agent whose run did something. issue: None for what is on no issue."""
    own = isinstance(actor, Account) and actor.is_system
    await tx.execute(
        "insert into activities (delivery, actor, own, issue, kind, data) values (%s, %s, %s, %s, %s, %s)",
        (new_id(), actor.id if isinstance(actor, Account) else actor, own, issue, kind, Jsonb(dict(data))),
    )


async def read_feed(tx: Connection, after: str, limit: int) -> tuple[Sequence[Row], str]:
    """Read activities in order after a cursor, and the cursor that follows them."""
    if after and not (after.isascii() and after.isdigit() and len(after) < len("9223372036854775807")):
        raise Unacceptable("the cursor is not one of this board's")
    position = int(after or 0)
    cursor = await tx.execute(
        "select * from activities where id > %s order by id limit %s", (position, limit)
    )
    rows = await cursor.fetchall()
    if not rows and position > await newest_activity(tx):
        raise Unacceptable("the cursor is ahead of this board; was the board restored from a backup?")
    return [activity_json(row) for row in rows], str(rows[-1]["id"] if rows else position)


async def next_foreign(tx: Connection, position: int) -> Row | None:
    """Find the first activity after a position that is not the backend's own."""
    cursor = await tx.execute(
        "select * from activities where id > %s and not own order by id limit 1", (position,)
    )
    return await cursor.fetchone()


def activity_json(row: Row) -> dict[str, Any]:
    """Write an activity as the feed and the webhooks show it."""
    return {
        "delivery": str(row["delivery"]),
        "at": row["at"].isoformat(),
        "actor": str(row["actor"]),
        "own": row["own"],
        "issue": None if row["issue"] is None else str(row["issue"]),
        "kind": row["kind"],
        "data": row["data"],
    }


async def newest_activity(tx: Connection) -> int:
    """Say how far the history goes; whatever is read afterwards is at least as new."""
    cursor = await tx.execute("select coalesce(max(id), 0) as newest from activities")
    row = await cursor.fetchone()
    return int(row["newest"]) if row else 0
