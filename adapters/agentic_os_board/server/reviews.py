"""Reviews: the gates that the backend opens on an issue, each for exactly one document."""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.json import Json

from .accounts import Account, require_system
from .activity import record
from .comments import add_comment
from .database import Connection, Row
from .issues import find_issue
from .problems import Contradiction, Missing, Unacceptable


async def open_review(
    tx: Connection, system: Account, number: int, digest: str, review: Mapping[str, Any]
) -> None:
    """Open the gate, or open it again; while it is open, repeating this does nothing."""
    require_system(system)
    await find_issue(tx, number)
    cursor = await tx.execute(
        "insert into reviews (issue, digest, subject, version, document, directives)"
        " values (%(issue)s, %(digest)s, %(subject)s, %(version)s, %(document)s, %(directives)s)"
        " on conflict (issue, digest) do update set outcome = null, opened_at = clock_timestamp(),"
        " directives = excluded.directives where reviews.outcome is not null returning digest",
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


async def post_verdict(
    tx: Connection, actor: Account, number: int, digest: str, *, verb: str, text: str
) -> int:
    """Post the review's own line for a verb as the person's comment, bound to the document that was shown."""
    cursor = await tx.execute("select * from reviews where issue = %s and digest = %s", (number, digest))
    if (review := await cursor.fetchone()) is None:
        raise Missing("this review does not exist")
    if review["outcome"] is not None:
        raise Contradiction("this review has been closed since you opened the page; look at the issue again")
    line = review["directives"].get(verb)
    if line is None:
        raise Unacceptable(f"this review does not offer {verb!r}")
    return await add_comment(tx, actor, number, f"{line}\n\n{text}" if text else line)
