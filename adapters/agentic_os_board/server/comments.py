"""Comments of people and agents, and the backend's notes, which are comments with a marker."""

from collections.abc import Sequence

from .accounts import Account, require_member, require_system
from .activity import record
from .database import Connection, Row
from .issues import find_issue
from .problems import Forbidden, Missing


async def add_comment(tx: Connection, actor: Account, number: int, body: str) -> int:
    """Comment on an issue; the backend uses notes instead."""
    if actor.is_system:
        raise Forbidden("the backend posts notes, so that it knows them again")
    require_member(actor)
    await find_issue(tx, number)
    return await _insert(tx, actor, number, body, None)


async def post_note(tx: Connection, system: Account, number: int, marker: str, body: str) -> int:
    """Find the note with this marker, or post it."""
    require_system(system)
    await find_issue(tx, number)
    cursor = await tx.execute("select id from comments where issue = %s and marker = %s", (number, marker))
    if (row := await cursor.fetchone()) is not None:
        return int(row["id"])
    return await _insert(tx, system, number, body, marker)


async def edit_note(tx: Connection, system: Account, number: int, note: int, body: str) -> None:
    """Replace the text of a note."""
    require_system(system)
    row = await _find(tx, note)
    if row["issue"] != number or row["marker"] is None:
        raise Missing(f"issue {number} has no note {note}")
    await _replace(tx, system, row, body)


async def edit_comment(tx: Connection, actor: Account, comment: int, body: str) -> None:
    """Replace the text of one's own comment."""
    await _replace(tx, actor, await find_own_comment(tx, actor, comment), body)


async def delete_comment(tx: Connection, actor: Account, comment: int) -> int:
    """Take one's own comment back; its place stays, its text goes. Returns the issue's number."""
    row = await find_own_comment(tx, actor, comment)
    await tx.execute(
        "update comments set deleted_at = clock_timestamp(), body = '' where id = %s", (comment,)
    )
    await record(tx, actor, row["issue"], "comment.deleted", {"comment": str(comment), "body": ""})
    return int(row["issue"])


async def react(tx: Connection, actor: Account, number: int, comment: int, reaction: str) -> None:
    """Show what became of a comment; the newest reaction of an account replaces its older one."""
    require_system(actor)
    await find_issue(tx, number)
    cursor = await tx.execute(
        "insert into reactions (comment, account, reaction)"
        " select id, %s, %s from comments where id = %s and issue = %s and deleted_at is null"
        " on conflict (comment, account) do update set reaction = excluded.reaction"
        " where reactions.reaction <> excluded.reaction returning comment",
        (actor.id, reaction, comment, number),
    )
    # Nobody waits for this in the feed; open pages hear of it.
    if await cursor.fetchone() is not None:
        await record(tx, actor, number, "comment.marked", {"comment": str(comment), "reaction": reaction})


async def list_comments(tx: Connection, number: int, after: int, limit: int) -> Sequence[Row]:
    """Read an issue's comments in the order of their posting."""
    await find_issue(tx, number)
    cursor = await tx.execute(
        "select comments.*, accounts.name as author_name,"
        " (select array_agg(reaction) from reactions where comment = comments.id) as reactions"
        " from comments join accounts on accounts.id = author"
        " where issue = %s and comments.id > %s order by comments.id limit %s",
        (number, after, limit),
    )
    return await cursor.fetchall()


async def _find(tx: Connection, comment: int) -> Row:
    cursor = await tx.execute("select * from comments where id = %s and deleted_at is null", (comment,))
    if (row := await cursor.fetchone()) is None:
        raise Missing(f"there is no comment {comment}")
    return row


async def find_own_comment(tx: Connection, actor: Account, comment: int) -> Row:
    """Read the comment of a person, for that person alone. Raises Missing, Forbidden."""
    row = await _find(tx, comment)
    if row["author"] != actor.id or actor.kind != "person":
        raise Forbidden("only its author, a person, may edit or delete a comment")
    require_member(actor)
    return row


async def _insert(tx: Connection, actor: Account, number: int, body: str, marker: str | None) -> int:
    cursor = await tx.execute(
        "insert into comments (issue, author, body, marker) values (%s, %s, %s, %s) returning id",
        (number, actor.id, body, marker),
    )
    row = await cursor.fetchone()
    comment = int(row["id"]) if row else 0
    await tx.execute("update issues set updated_at = clock_timestamp() where number = %s", (number,))
    await record(tx, actor, number, "comment.created", {"comment": str(comment), "body": body})
    return comment


async def _replace(tx: Connection, actor: Account, row: Row, body: str) -> None:
    if row["body"] == body:
        return
    await tx.execute(
        "update comments set body = %s, edited_at = clock_timestamp() where id = %s", (body, row["id"])
    )
    await record(tx, actor, row["issue"], "comment.edited", {"comment": str(row["id"]), "body": body})
