"""Issues: opening, reading, changing, closing and deleting them."""

from collections.abc import Mapping, Sequence
from typing import Any

from .accounts import Account, require_admin, require_member
from .activity import record
from .database import Connection, Row
from .problems import Forbidden, Missing, Unacceptable
from .run_queue import stop_runs

_PERSONS_FIELDS = frozenset({"title", "body", "labels", "closed", "assignee"})
_BACKENDS_FIELDS = frozenset({"title", "body", "state", "labels", "closed", "priority", "parent"})


async def ensure_issue(
    tx: Connection, system: Account, task_id: str, draft: Mapping[str, Any]
) -> tuple[int, bool]:
    """Find the task's issue or create it; also say whether it is new."""
    cursor = await tx.execute("select number from issues where task_id = %s", (task_id,))
    if (row := await cursor.fetchone()) is not None:
        return row["number"], False
    return await _insert(tx, system, {**draft, "task_id": task_id}), True


async def open_issue(tx: Connection, actor: Account, draft: Mapping[str, Any]) -> int:
    """Open an issue as a person, or for one by the routine that the draft names."""
    if actor.kind != "person":
        raise Forbidden("only people open issues here; the backend keys them by task")
    require_member(actor)
    return await _insert(tx, actor, {**draft, "state": "", "task_id": None, "priority": "", "parent": None})


async def find_issue(tx: Connection, number: int) -> Row:
    """Read one issue's row. Raises Missing."""
    cursor = await tx.execute("select * from issues where number = %s", (number,))
    if (row := await cursor.fetchone()) is None:
        raise Missing(f"there is no issue {number}")
    return row


async def change_issue(tx: Connection, actor: Account, number: int, fields: Mapping[str, Any]) -> None:
    """Change the given fields, as far as they differ and the actor may."""
    require_member(actor)
    allowed = {"person": _PERSONS_FIELDS, "system": _BACKENDS_FIELDS}.get(actor.kind, frozenset())
    if forbidden := sorted(set(fields) - allowed):
        raise Forbidden(f"an account of kind {actor.kind!r} may not change {', '.join(forbidden)}")
    row = await find_issue(tx, number)
    changed = {field: value for field, value in fields.items() if row[field] != value}
    if not changed:
        return
    if changed.get("assignee") is not None:
        await _require_account(tx, changed["assignee"])
    if changed.get("parent") is not None:
        await _require_ancestor(tx, number, changed["parent"])
    if "assignee" in changed:
        changed["assigned_attempt"] = 0
    await tx.execute(
        "update issues set title = %(title)s, body = %(body)s, state = %(state)s, labels = %(labels)s,"
        " closed = %(closed)s, assignee = %(assignee)s, assigned_attempt = %(assigned_attempt)s,"
        " priority = %(priority)s, parent = %(parent)s,"
        " updated_at = clock_timestamp() where number = %(number)s",
        {**row, **changed},
    )
    for field in [each for each in fields if each in changed]:
        await record(tx, actor, number, "issue.changed", _change(field, row[field], changed[field]))
    if changed.get("closed") is not None:
        await stop_runs(tx, number, f"the issue was closed as {changed['closed']}")
    if "assignee" in changed:
        await stop_runs(tx, number, "the issue was given to somebody else")


async def delete_issue(tx: Connection, actor: Account, number: int) -> None:
    """Delete an issue with its comments and reviews; its number and its runs are never used again."""
    require_admin(actor)
    await find_issue(tx, number)
    await stop_runs(tx, number, "the issue was deleted")
    await tx.execute("delete from issues where number = %s", (number,))
    await record(tx, actor, number, "issue.deleted", {})


async def issue_documents(tx: Connection, numbers: Sequence[int]) -> Sequence[Row]:
    """Read issues with their notes, open reviews and assignment, by number."""
    cursor = await tx.execute(
        "select issues.*,"
        " coalesce((select jsonb_agg(jsonb_build_object('id', id::text, 'marker', marker, 'body', body) order by id)"
        "   from comments where issue = number and marker is not null and deleted_at is null), '[]') as notes,"
        " coalesce((select jsonb_agg(digest order by opened_at)"
        "   from reviews where issue = number and outcome is null), '[]') as reviews"
        " from issues where number = any(%s) order by number",
        (list(numbers),),
    )
    return await cursor.fetchall()


async def _insert(tx: Connection, actor: Account, draft: Mapping[str, Any]) -> int:
    cursor = await tx.execute(
        "insert into issues (task_id, title, body, project, state, labels, priority, parent, created_by)"
        " values (%(task_id)s, %(title)s, %(body)s, %(project)s, %(state)s, %(labels)s, %(priority)s,"
        # A parent that somebody deleted is none.
        " (select number from issues where number = %(parent)s), %(created_by)s) returning number",
        {**draft, "created_by": actor.id},
    )
    row = await cursor.fetchone()
    number = int(row["number"]) if row else 0
    shown = {field: draft[field] for field in ("title", "body", "project", "labels")}
    if routine := draft.get("routine"):
        shown["routine"] = routine
    await record(tx, actor, number, "issue.opened", shown)
    return number


async def family_of(tx: Connection, issue: Row) -> tuple[Row | None, Sequence[Row]]:
    """Read an issue's parent, if it has one, and its children in the order of their numbers, a hundred at most."""
    shown = "select number, title, state, closed from issues"
    parents = await tx.execute(f"{shown} where number = %s", (issue["parent"],))
    children = await tx.execute(f"{shown} where parent = %s order by number limit 100", (issue["number"],))
    return await parents.fetchone(), await children.fetchall()


async def _require_ancestor(tx: Connection, number: int, parent: int) -> None:
    """Refuse a parent that does not exist, or that is below the issue itself."""
    cursor = await tx.execute(
        "with recursive line as (select number, parent from issues where number = %s"
        " union select issues.number, issues.parent from issues join line on issues.number = line.parent)"
        " select number from line",
        (parent,),
    )
    line = {row["number"] for row in await cursor.fetchall()}
    if not line:
        raise Unacceptable(f"there is no issue {parent} that could be the parent")
    if number in line:
        raise Unacceptable(f"issue {parent} is below issue {number}, and so cannot be its parent")


async def _require_account(tx: Connection, account: object) -> None:
    cursor = await tx.execute("select 1 from accounts where id = %s", (account,))
    if await cursor.fetchone() is None:
        raise Unacceptable("the assignee is not an account of this board")


def _change(field: str, before: Any, value: Any) -> dict[str, Any]:
    """Describe a change; what the body was before is not worth its length."""
    if field == "body":
        return {"field": field, "value": value}
    return {"field": field, "value": _plain(value), "before": _plain(before)}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, list) else str(value)
