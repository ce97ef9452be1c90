"""The board's HTTP API for issues: what the backend, people's tools and agents call."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.status import HTTP_201_CREATED, HTTP_204_NO_CONTENT

from . import assignments, comments, issues, reviews
from .accounts import Account, account_of_token, require_system
from .activity import read_feed
from .api_models import (
    AssignmentRequest,
    CommentRequest,
    IssuePatch,
    Keys,
    NewIssue,
    NoteRequest,
    NoteText,
    Outcome,
    ReactionRequest,
    ReviewRequest,
    TaskIssue,
)
from .board import Board
from .database import Row
from .fields import Identifier
from .issue_list import IssueFilter, list_issues
from .problems import Unauthenticated

router = APIRouter(prefix="/api")
IssueNumber = Annotated[int, Path(ge=1, le=2**53 - 1)]
CommentNumber = Annotated[int, Path(ge=1, le=2**53 - 1)]


def the_board(request: Request) -> Board:
    """Find the board that this application serves."""
    board: Board = request.app.state.board
    return board


OnBoard = Annotated[Board, Depends(the_board)]


async def caller(request: Request, board: OnBoard) -> Account:
    """Say who calls, by the bearer token. Raises Unauthenticated."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("send a token of this board as 'Authorization: Bearer ...'")
    async with board.database.read() as tx:
        return await account_of_token(tx, token.strip())


Caller = Annotated[Account, Depends(caller)]


@router.put("/tasks/{task_id}/issue")
async def ensure_issue(
    board: OnBoard, actor: Caller, task_id: Identifier, draft: TaskIssue, response: Response
) -> dict[str, Any]:
    """Find the task's issue, or create it."""
    require_system(actor)
    async with board.database.write() as tx:
        number, created = await issues.ensure_issue(tx, actor, task_id, draft.model_dump())
    if created:
        response.status_code = HTTP_201_CREATED
    return {"key": str(number), "url": board.issue_url(number)}


@router.post("/issues", status_code=HTTP_201_CREATED)
async def open_issue(board: OnBoard, actor: Caller, draft: NewIssue) -> dict[str, Any]:
    """Open an issue as a person."""
    async with board.database.write() as tx:
        number = await issues.open_issue(tx, actor, draft.model_dump())
    return {"key": str(number), "url": board.issue_url(number)}


@router.get("/issues")
async def get_issues(board: OnBoard, _: Caller, wanted: Annotated[IssueFilter, Query()]) -> dict[str, Any]:
    """List issues, last changed first."""
    async with board.database.read() as tx:
        page = await list_issues(tx, wanted)
    return {"items": [_summary(board, row) for row in page.rows], "more": page.more}


@router.get("/issues/lookup")
async def look_up(board: OnBoard, _: Caller, key: Annotated[Keys, Query()]) -> dict[str, Any]:
    """Read the named issues; every key comes back, as an item or as missing."""
    numbers = {one: int(one) for one in key if one.isascii() and one.isdigit() and len(one) < len(str(2**53))}
    async with board.database.read() as tx:
        rows = {str(row["number"]): row for row in await issues.issue_documents(tx, list(numbers.values()))}
    return {
        "items": [_document(board, rows[one]) for one in key if one in rows],
        "missing": [one for one in key if one not in rows],
    }


@router.get("/issues/{number}")
async def get_issue(board: OnBoard, _: Caller, number: IssueNumber) -> dict[str, Any]:
    """Read one issue."""
    async with board.database.read() as tx:
        await issues.find_issue(tx, number)
        rows = await issues.issue_documents(tx, [number])
    return _document(board, rows[0])


@router.patch("/issues/{number}", status_code=HTTP_204_NO_CONTENT)
async def change_issue(board: OnBoard, actor: Caller, number: IssueNumber, changes: IssuePatch) -> None:
    """Change fields of an issue."""
    async with board.database.write() as tx:
        await issues.change_issue(tx, actor, number, changes.given())


@router.delete("/issues/{number}", status_code=HTTP_204_NO_CONTENT)
async def delete_issue(board: OnBoard, actor: Caller, number: IssueNumber) -> None:
    """Delete an issue, as an administrator."""
    async with board.database.write() as tx:
        await issues.delete_issue(tx, actor, number)


@router.put("/issues/{number}/assignment", status_code=HTTP_204_NO_CONTENT)
async def assign(board: OnBoard, actor: Caller, number: IssueNumber, to: AssignmentRequest) -> None:
    """Assign the issue for an attempt, which wakes an agent once."""
    async with board.database.write() as tx:
        await assignments.assign_issue(tx, actor, number, **to.model_dump())


@router.delete("/issues/{number}/assignment", status_code=HTTP_204_NO_CONTENT)
async def unassign(board: OnBoard, actor: Caller, number: IssueNumber) -> None:
    """Take the assignee away, which stops a running agent."""
    async with board.database.write() as tx:
        await assignments.unassign_issue(tx, actor, number)


@router.put("/issues/{number}/notes")
async def post_note(board: OnBoard, actor: Caller, number: IssueNumber, note: NoteRequest) -> dict[str, str]:
    """Find the note with this marker, or post it."""
    async with board.database.write() as tx:
        return {"id": str(await comments.post_note(tx, actor, number, note.marker, note.body))}


@router.patch("/issues/{number}/notes/{comment}", status_code=HTTP_204_NO_CONTENT)
async def edit_note(
    board: OnBoard, actor: Caller, number: IssueNumber, comment: CommentNumber, note: NoteText
) -> None:
    """Replace a note's text."""
    async with board.database.write() as tx:
        await comments.edit_note(tx, actor, number, comment, note.body)


@router.put("/issues/{number}/reviews/{digest}", status_code=HTTP_204_NO_CONTENT)
async def open_review(
    board: OnBoard, actor: Caller, number: IssueNumber, digest: Identifier, review: ReviewRequest
) -> None:
    """Open the gate for one document."""
    async with board.database.write() as tx:
        await reviews.open_review(tx, actor, number, digest, review.model_dump())


@router.post("/issues/{number}/reviews/{digest}/close", status_code=HTTP_204_NO_CONTENT)
async def close_review(
    board: OnBoard, actor: Caller, number: IssueNumber, digest: Identifier, ending: Outcome
) -> None:
    """Close the gate, if it is open."""
    async with board.database.write() as tx:
        await reviews.close_review(tx, actor, number, digest, ending.outcome)


@router.get("/issues/{number}/comments")
async def get_comments(
    board: OnBoard,
    _: Caller,
    number: IssueNumber,
    after: Annotated[int, Query(ge=0, le=2**53 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
) -> dict[str, Any]:
    """Read an issue's comments in order."""
    async with board.database.read() as tx:
        rows = await comments.list_comments(tx, number, after, limit)
    return {"items": [_comment(row) for row in rows]}


@router.post("/issues/{number}/comments", status_code=HTTP_201_CREATED)
async def add_comment(
    board: OnBoard, actor: Caller, number: IssueNumber, comment: CommentRequest
) -> dict[str, str]:
    """Comment on an issue."""
    async with board.database.write() as tx:
        return {"id": str(await comments.add_comment(tx, actor, number, comment.body))}


@router.patch("/comments/{comment}", status_code=HTTP_204_NO_CONTENT)
async def edit_comment(board: OnBoard, actor: Caller, comment: CommentNumber, text: CommentRequest) -> None:
    """Replace the text of one's own comment."""
    async with board.database.write() as tx:
        await comments.edit_comment(tx, actor, comment, text.body)


@router.delete("/comments/{comment}", status_code=HTTP_204_NO_CONTENT)
async def delete_comment(board: OnBoard, actor: Caller, comment: CommentNumber) -> None:
    """Take one's own comment back."""
    async with board.database.write() as tx:
        await comments.delete_comment(tx, actor, comment)


@router.put("/issues/{number}/comments/{comment}/reaction", status_code=HTTP_204_NO_CONTENT)
async def react(
    board: OnBoard, actor: Caller, number: IssueNumber, comment: CommentNumber, receipt: ReactionRequest
) -> None:
    """Show what became of a comment."""
    async with board.database.write() as tx:
        await comments.react(tx, actor, number, comment, receipt.reaction)


@router.get("/feed")
async def feed(
    board: OnBoard,
    actor: Caller,
    after: Annotated[str, Query(max_length=40)] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 200,
) -> dict[str, Any]:
    """Read what happened on the board after a cursor, complete and in order."""
    require_system(actor)
    async with board.database.read() as tx:
        items, following = await read_feed(tx, after, limit)
    return {"items": items, "next": following}


def _summary(board: Board, row: Row) -> dict[str, Any]:
    return {
        "key": str(row["number"]),
        "url": board.issue_url(row["number"]),
        "task_id": row["task_id"],
        "title": row["title"],
        "project": row["project"],
        "state": row["state"],
        "labels": row["labels"],
        "priority": row["priority"],
        "parent": row["parent"] and str(row["parent"]),
        "closed": row["closed"],
        "updated_at": row["updated_at"].isoformat(),
    }


def _document(board: Board, row: Row) -> dict[str, Any]:
    assignee = row["assignee"] and {
        "account": str(row["assignee"]),
        "task_id": row["task_id"] or "",
        "attempt": row["assigned_attempt"],
    }
    return _summary(board, row) | {
        "body": row["body"],
        "assignment": assignee,
        "notes": row["notes"],
        "reviews": row["reviews"],
        "created_by": str(row["created_by"]),
        "created_at": row["created_at"].isoformat(),
    }


def _comment(row: Row) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "author": str(row["author"]),
        "author_name": row["author_name"],
        "body": row["body"],
        "own": row["marker"] is not None,
        "reactions": row["reactions"] or [],
        "created_at": row["created_at"].isoformat(),
        "edited_at": row["edited_at"] and row["edited_at"].isoformat(),
        "deleted": row["deleted_at"] is not None,
    }
