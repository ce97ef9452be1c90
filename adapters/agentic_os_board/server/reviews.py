"""Reviews: the gates that the backend opens on an issue, each for exactly one document."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.json import Json

from .accounts import Account, require_member, require_system
from .activity import record
from .comments import add_comment
from .database import Connection, Row
from .issues import find_issue
from .problems import Contradiction, Missing, Unacceptable

_ITEM = re.compile(r"[ \t]*(?:[-*+]|[0-9]{1,3}[.)])(?:[ \t]|$)")


async def open_review(
    tx: Connection, system: Account, number: int, digest: str, review: Mapping[str, Any]
) -> None:
    """Open the gate, or open it again; while it is open, repeating this does nothing."""
    require_system(system)
    await find_issue(tx, number)
    cursor = await tx.execute(
        "insert into reviews (issue, digest, subject, version, document, answers, directives, editable) values"
        " (%(issue)s, %(digest)s, %(subject)s, %(version)s, %(document)s, %(answers)s, %(directives)s, %(editable)s)"
        # What was edited back to an earlier version is a later one with its digest.
        " on conflict (issue, digest) do update set outcome = null, opened_at = clock_timestamp(),"
        " directives = excluded.directives, version = excluded.version, answers = excluded.answers,"
        " editable = excluded.editable where reviews.outcome is not null returning digest",
        {**review, "issue": number, "digest": digest, "directives": Json(dict(review["directives"]))},
    )
    if await cursor.fetchone() is not None:
        shown = {"digest": digest, "subject": review["subject"], "version": review["version"]}
        await record(tx, system, number, "review.opened", shown)


async def close_review(tx: Connection, system: Account, number: int, digest: str, outcome: str) -> None:
    """Close the gate; one that is closed or unknown stays as it is."""
    require_system(system)
    await find_issue(tx, number)
    cursor = await tx.execute(
        "update reviews set outcome = %s where issue = %s and digest = %s and outcome is null"
        " returning subject, version",
        (outcome, number, digest),
    )
    if (row := await cursor.fetchone()) is not None:
        await record(tx, system, number, "review.closed", {**row, "digest": digest, "outcome": outcome})


async def open_reviews(tx: Connection, number: int) -> Sequence[Row]:
    """Read the open gates of an issue, oldest first."""
    cursor = await tx.execute(
        "select * from reviews where issue = %s and outcome is null order by opened_at", (number,)
    )
    return await cursor.fetchall()


async def find_review(tx: Connection, number: int, digest: str) -> Row:
    """Read one version of a document that was shown for a decision. Raises Missing."""
    cursor = await tx.execute("select * from reviews where issue = %s and digest = %s", (number, digest))
    if (row := await cursor.fetchone()) is None:
        raise Missing("this review does not exist; it may belong to another issue")
    return row


async def earlier_review(tx: Connection, review: Row) -> Row | None:
    """Find the version of the same document that was shown before this one."""
    cursor = await tx.execute(
        "select * from reviews where issue = %(issue)s and subject = %(subject)s and version < %(version)s"
        " order by version desc, opened_at desc limit 1",
        review,
    )
    return await cursor.fetchone()


async def closed_reviews(tx: Connection, number: int) -> Sequence[Row]:
    """List the versions of an issue's documents that were decided, newest first, twenty at most."""
    cursor = await tx.execute(
        "select subject, version, digest, outcome, opened_at from reviews"
        " where issue = %s and outcome is not null order by opened_at desc, version desc limit 20",
        (number,),
    )
    return await cursor.fetchall()


async def edit_plan(tx: Connection, actor: Account, number: int, digest: str, text: str) -> None:
    """Record what a person made of the plan that a review shows; the backend makes it the next version, or answers."""
    require_member(actor)
    review = await find_review(tx, number, digest)
    if review["outcome"] is not None:
        raise Contradiction(
            "this review has been closed since you opened the page; go back to copy your text, and look at the issue"
            " again"
        )
    if not review["editable"]:
        raise Unacceptable(f"this {review['subject']} cannot be edited here")
    if text.strip() == review["editable"].strip():
        raise Unacceptable("this is the plan as it is; change something, or decide on it")
    shown = {"digest": digest, "subject": review["subject"], "version": review["version"], "text": text}
    await record(tx, actor, number, "plan.edited", shown)


def as_items(text: str) -> str:
    """Write each line as an item of a list, as the agent is given them one by one; a list stays as it was written."""
    lines = [line.rstrip() for line in text.splitlines()]
    if any(_ITEM.match(line) for line in lines):
        return "\n".join(lines)
    return "\n".join(f"- {line.strip()}" for line in lines if line.strip())


async def post_verdict(
    tx: Connection, actor: Account, number: int, digest: str, *, verb: str, text: str
) -> int:
    """Post the review's own line for a verb as the person's comment, bound to the document that was shown."""
    review = await find_review(tx, number, digest)
    if review["outcome"] is not None:
        raise Contradiction("this review has been closed since you opened the page; look at the issue again")
    if any(line.startswith("/") for line in text.splitlines()):
        raise Unacceptable(
            'a line of your text begins with "/", which would make it a directive of its own, and then neither would'
            " count; put a word or a space before it"
        )
    line = review["directives"].get(verb)
    if line is None:
        raise Unacceptable(f"this review does not offer {verb!r}")
    return await add_comment(tx, actor, number, f"{line}\n\n{text}" if text else line)
