"""What happened to an issue, as its page tells it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .accounts import Account, list_accounts
from .database import Connection, Row

PAGE_SIZE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of an issue's page: a comment, or something that happened."""

    id: int
    kind: str
    at: Any
    actor: Account
    data: Mapping[str, Any]
    comment: Row | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The newest entries, oldest first. older: the id to read on before, or None at the beginning."""

    entries: Sequence[Entry]
    older: int | None


async def read_timeline(tx: Connection, number: int, before: int) -> Timeline:
    """Read what happened to an issue before an activity, 0 for the newest."""
    cursor = await tx.execute(
        "select * from activities where issue = %s and (%s = 0 or id < %s)"
        " and kind in ('comment.created', 'issue.changed', 'review.opened', 'review.closed', 'plan.edited',"
        " 'run.alive', 'run.ended')"
        " order by id desc limit %s",
        (number, before, before, PAGE_SIZE),
    )
    rows = await cursor.fetchall()
    people = {account.id: account for account in await list_accounts(tx)}
    comments = await _comments(tx, [int(row["data"]["comment"]) for row in rows if "comment" in row["data"]])
    entries = [_entry(row, people, comments) for row in reversed(rows)]
    return Timeline(entries=_without_noise(entries), older=rows[-1]["id"] if len(rows) == PAGE_SIZE else None)


async def _comments(tx: Connection, ids: Sequence[int]) -> Mapping[int, Row]:
    cursor = await tx.execute(
        "select comments.*, (select reaction from reactions where comment = comments.id limit 1) as reaction"
        " from comments where id = any(%s)",
        (list(ids),),
    )
    return {row["id"]: row async for row in cursor}


def _entry(row: Row, people: Mapping[Any, Account], comments: Mapping[int, Row]) -> Entry:
    data = row["data"]
    if data.get("field") == "assignee":
        names = {str(account.id): account.name for account in people.values()}
        data = data | {"value": names.get(data["value"]), "before": names.get(data["before"])}
    return Entry(
        id=row["id"],
        kind=row["kind"],
        at=row["at"],
        actor=people[row["actor"]],
        data=data,
        comment=comments.get(int(data.get("comment", 0))),
    )


def _without_noise(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Leave out the pinned note, the backend's own rewording of the brief, and all but a run's first sign of life."""
    kept: list[Entry] = []
    alive: set[str] = set()
    for entry in entries:
        run = entry.data.get("run", "") if entry.kind == "run.alive" else ""
        rewording = entry.data.get("field") == "body" and entry.actor.is_system
        pinned = entry.comment is not None and is_status(entry.comment["marker"])
        if run in alive or rewording or pinned:
            continue
        if run:
            alive.add(run)
        kept.append(entry)
    return kept


def is_status(marker: str | None) -> bool:
    """Whether a note's marker names the status note, which is shown on top."""
    return marker is not None and marker.rpartition(":")[2] == "status"
