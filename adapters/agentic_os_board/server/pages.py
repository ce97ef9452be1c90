"""The pages about issues: the list, one issue, and the forms on it."""

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Response
from pydantic import Field

from . import comments, issues, reviews
from .accounts import list_accounts
from .activity import newest_activity
from .api import CommentNumber, IssueNumber, OnBoard
from .database import Connection, Row
from .differences import difference
from .fields import AccountId, Body, CommentBody, Identifier, PlanText, Search, Title, VerdictText, Word
from .issue_list import PAGE_SIZE, IssueFilter, list_choices, list_issues
from .problems import Unacceptable
from .render import page, see
from .run_queue import list_runs
from .signed_in import PageForm, SignedIn
from .timeline import is_status, read_timeline

router = APIRouter()


class CommentForm(PageForm):
    """A comment."""

    body: CommentBody


class VerdictForm(PageForm):
    """A decision on a review; the text of an approval is empty."""

    verb: Word
    text: VerdictText = ""


class PlanForm(PageForm):
    """What somebody made of the plan under review."""

    text: PlanText


class IssueForm(PageForm):
    """The fields of an issue that people write; labels are separated by commas."""

    title: Title
    body: Body = ""
    project: Word = ""
    labels: Search = ""

    def label_list(self) -> list[str]:
        """Split the labels."""
        return list(dict.fromkeys(label.strip() for label in self.labels.split(",") if label.strip()))


class EditForm(IssueForm):
    """The fields that can be changed later. body_shown: the digest of the text that the form was filled with."""

    body_shown: str = Field(max_length=64)
    assignee: AccountId | Literal[""] = ""


class CloseForm(PageForm):
    """Close as completed or not planned; nothing reopens."""

    closed: Literal["completed", "not_planned", ""]


@router.get("/")
async def start() -> Response:
    """Begin with the issues."""
    return see("/issues")


@router.get("/issues")
async def show_issues(board: OnBoard, session: SignedIn, wanted: Annotated[IssueFilter, Query()]) -> Response:
    """Show the list of issues."""
    async with board.database.read() as tx:
        position = await newest_activity(tx)
        found = await list_issues(tx, wanted)
        choices = await list_choices(tx)
    return page(
        "issues.html",
        session,
        found=found,
        wanted=wanted,
        counts=found.counts,
        page_size=PAGE_SIZE,
        choices=choices,
        live=f"/live/all?after={position}",
    )


@router.get("/issues/new")
async def show_new_issue(session: SignedIn) -> Response:
    """Show the form for a new issue."""
    return page("issue_new.html", session)


@router.post("/issues")
async def open_issue(board: OnBoard, session: SignedIn, form: Annotated[IssueForm, Form()]) -> Response:
    """Open an issue."""
    form.require_own(session)
    draft = {"title": form.title, "body": form.body, "project": form.project, "labels": form.label_list()}
    async with board.database.write() as tx:
        number = await issues.open_issue(tx, session.account, draft)
    return see(f"/issues/{number}")


@router.get("/issues/{number}")
async def show_issue(
    board: OnBoard,
    session: SignedIn,
    number: IssueNumber,
    before: Annotated[int, Query(ge=0, le=2**53 - 1)] = 0,
) -> Response:
    """Show one issue."""
    async with board.database.read() as tx:
        position = await newest_activity(tx)
        issue = await issues.find_issue(tx, number)
        parent, children = await issues.family_of(tx, issue)
        context: dict[str, Any] = {
            "issue": issue,
            "parent": parent,
            "children": children,
            "people": {account.id: account for account in await list_accounts(tx)},
            "notes": (await issues.issue_documents(tx, [number]))[0]["notes"],
            "reviews": [await _compared(tx, each) for each in await reviews.open_reviews(tx, number)],
            "decided": await reviews.closed_reviews(tx, number),
            "runs": await list_runs(tx, number),
            "timeline": await read_timeline(tx, number, before),
        }
    status = next((note for note in context.pop("notes") if is_status(note["marker"])), None)
    live = f"/live/issue/{number}?after={position}"
    return page("issue.html", session, status_note=status, before=before, live=live, **context)


async def _compared(tx: Connection, review: Row) -> Mapping[str, Any]:
    """Put beside a document the version before it, and what changed since."""
    earlier = await reviews.earlier_review(tx, review)
    found = None
    if earlier is not None:
        found = await asyncio.to_thread(difference, earlier["document"], review["document"])
    return {**review, "earlier": earlier, "difference": found}


@router.get("/issues/{number}/reviews/{digest}")
async def show_review(board: OnBoard, session: SignedIn, number: IssueNumber, digest: Identifier) -> Response:
    """Show one version of a document, decided or not, and what it changed."""
    async with board.database.read() as tx:
        issue = await issues.find_issue(tx, number)
        review = await _compared(tx, await reviews.find_review(tx, number, digest))
    return page("review.html", session, issue=issue, review=review)


@router.get("/issues/{number}/edit")
async def show_edit(board: OnBoard, session: SignedIn, number: IssueNumber) -> Response:
    """Show the form that changes an issue."""
    async with board.database.read() as tx:
        issue = await issues.find_issue(tx, number)
        accounts = await list_accounts(tx)
    shown = _digest(issue["body"])
    return page("issue_edit.html", session, issue=issue, accounts=accounts, body_shown=shown)


@router.post("/issues/{number}/edit")
async def edit_issue(
    board: OnBoard, session: SignedIn, number: IssueNumber, form: Annotated[EditForm, Form()]
) -> Response:
    """Change an issue's title, text, labels or assignee."""
    form.require_own(session)
    body = form.body.replace("\r\n", "\n")
    fields = {"title": form.title, "labels": form.label_list(), "assignee": form.assignee or None}
    # The backend may have written a new brief meanwhile: a text that the person left alone is not put back.
    if _digest(body) != form.body_shown:
        fields["body"] = body
    async with board.database.write() as tx:
        await issues.change_issue(tx, session.account, number, fields)
    return see(f"/issues/{number}")


@router.post("/issues/{number}/close")
async def close_issue(
    board: OnBoard, session: SignedIn, number: IssueNumber, form: Annotated[CloseForm, Form()]
) -> Response:
    """Close or reopen an issue."""
    form.require_own(session)
    async with board.database.write() as tx:
        await issues.change_issue(tx, session.account, number, {"closed": form.closed or None})
    return see(f"/issues/{number}")


@router.post("/issues/{number}/delete")
async def delete_issue(
    board: OnBoard, session: SignedIn, number: IssueNumber, form: Annotated[PageForm, Form()]
) -> Response:
    """Delete an issue, as an administrator."""
    form.require_own(session)
    async with board.database.write() as tx:
        await issues.delete_issue(tx, session.account, number)
    return see("/issues")


@router.post("/issues/{number}/comments")
async def comment(
    board: OnBoard, session: SignedIn, number: IssueNumber, form: Annotated[CommentForm, Form()]
) -> Response:
    """Comment on an issue."""
    form.require_own(session)
    async with board.database.write() as tx:
        added = await comments.add_comment(tx, session.account, number, form.body.replace("\r\n", "\n"))
    return see(f"/issues/{number}#comment-{added}")


@router.post("/issues/{number}/reviews/{digest}")
async def decide(
    board: OnBoard,
    session: SignedIn,
    number: IssueNumber,
    digest: Identifier,
    form: Annotated[VerdictForm, Form()],
) -> Response:
    """Post the review's line for a decision as one's own comment."""
    form.require_own(session)
    text = form.text.replace("\r\n", "\n").strip()
    if form.verb in {"revise", "rework"}:
        if not text:
            raise Unacceptable("say what should change, one point per line; the agent is given your words")
        text = reviews.as_items(text)
    async with board.database.write() as tx:
        added = await reviews.post_verdict(tx, session.account, number, digest, verb=form.verb, text=text)
    return see(f"/issues/{number}#comment-{added}")


@router.post("/issues/{number}/reviews/{digest}/edit")
async def edit_plan(
    board: OnBoard,
    session: SignedIn,
    number: IssueNumber,
    digest: Identifier,
    form: Annotated[PlanForm, Form()],
) -> Response:
    """Hand what a person made of the plan to the backend, which answers on the issue."""
    form.require_own(session)
    async with board.database.write() as tx:
        await reviews.edit_plan(tx, session.account, number, digest, form.text.replace("\r\n", "\n"))
    return see(f"/issues/{number}")


@router.get("/comments/{comment_id}/edit")
async def show_comment_form(board: OnBoard, session: SignedIn, comment_id: CommentNumber) -> Response:
    """Show the form that changes one's own comment."""
    async with board.database.read() as tx:
        row = await comments.find_own_comment(tx, session.account, comment_id)
    return page("comment_edit.html", session, comment=row)


@router.post("/comments/{comment_id}/edit")
async def edit_comment(
    board: OnBoard, session: SignedIn, comment_id: CommentNumber, form: Annotated[CommentForm, Form()]
) -> Response:
    """Change one's own comment."""
    form.require_own(session)
    async with board.database.write() as tx:
        row = await comments.find_own_comment(tx, session.account, comment_id)
        await comments.edit_comment(tx, session.account, comment_id, form.body.replace("\r\n", "\n"))
    return see(f"/issues/{row['issue']}#comment-{comment_id}")


@router.post("/comments/{comment_id}/delete")
async def delete_comment(
    board: OnBoard, session: SignedIn, comment_id: CommentNumber, form: Annotated[PageForm, Form()]
) -> Response:
    """Take one's own comment back."""
    form.require_own(session)
    async with board.database.write() as tx:
        number = await comments.delete_comment(tx, session.account, comment_id)
    return see(f"/issues/{number}")


def _digest(body: str) -> str:
    """Name a text as a browser sends it back, whose line ends it may have changed."""
    return hashlib.sha256(body.replace("\r\n", "\n").encode()).hexdigest()
