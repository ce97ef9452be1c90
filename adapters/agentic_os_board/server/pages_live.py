"""Where open pages hear that they are out of date: server-sent events, read by static/board.js."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import StreamingResponse

from .api import IssueNumber, OnBoard
from .board import Board
from .signed_in import SignedIn

router = APIRouter()
After = Annotated[int, Query(ge=0, le=2**53 - 1)]


@router.get("/live/all")
async def follow_all(board: OnBoard, _: SignedIn, after: After) -> StreamingResponse:
    """Tell a list of every change."""
    return _stream(board, "all", after)


@router.get("/live/issue/{number}")
async def follow_issue(board: OnBoard, _: SignedIn, number: IssueNumber, after: After) -> StreamingResponse:
    """Tell an issue's page of changes to this issue."""
    return _stream(board, f"issue:{number}", after)


@router.get("/live/run/{run}")
async def follow_run(board: OnBoard, _: SignedIn, run: UUID) -> StreamingResponse:
    """Tell a run's page of its output and its end."""
    return _stream(board, f"run:{run}", None)


def _stream(board: Board, topic: str, after: int | None) -> StreamingResponse:
    board.live.require_room()
    events = board.live.follow(topic, after)
    return StreamingResponse(events, media_type="text/event-stream", headers={"x-accel-buffering": "no"})
