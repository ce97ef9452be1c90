"""The board's HTTP API for routines."""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from starlette.status import HTTP_201_CREATED, HTTP_204_NO_CONTENT

from agentic_os_board.clock import now

from . import routines
from .api import Caller, OnBoard
from .database import Row
from .routines import Routine

router = APIRouter(prefix="/api/routines")
RoutineNumber = Annotated[int, Path(ge=1, le=2**53 - 1)]


@router.get("")
async def get_routines(board: OnBoard, _: Caller) -> dict[str, Any]:
    """List the routines by name."""
    async with board.database.read() as tx:
        return {"items": [_document(row) for row in await routines.list_routines(tx)]}


@router.post("", status_code=HTTP_201_CREATED)
async def add_routine(board: OnBoard, actor: Caller, routine: Routine) -> dict[str, Any]:
    """Create a routine of one's own."""
    async with board.database.write() as tx:
        number = await routines.add_routine(tx, actor, routine, now())
        row = await routines.find_routine(tx, number)
    board.scheduler.wake()
    return _document(row)


@router.get("/{number}")
async def get_routine(board: OnBoard, _: Caller, number: RoutineNumber) -> dict[str, Any]:
    """Read a routine with what became of its newest times."""
    async with board.database.read() as tx:
        row = await routines.find_routine(tx, number)
        times = await routines.list_times(tx, number)
    return _document(row) | {"times": [_time(each) for each in times]}


@router.put("/{number}", status_code=HTTP_204_NO_CONTENT)
async def change_routine(board: OnBoard, actor: Caller, number: RoutineNumber, routine: Routine) -> None:
    """Replace a routine, which is then one's own."""
    async with board.database.write() as tx:
        await routines.change_routine(tx, actor, number, routine, now())
    board.scheduler.wake()


@router.delete("/{number}", status_code=HTTP_204_NO_CONTENT)
async def remove_routine(board: OnBoard, actor: Caller, number: RoutineNumber) -> None:
    """Delete a routine; its issues stay."""
    async with board.database.write() as tx:
        await routines.remove_routine(tx, actor, number)


@router.post("/{number}/pause", status_code=HTTP_204_NO_CONTENT)
async def pause_routine(board: OnBoard, actor: Caller, number: RoutineNumber) -> None:
    """Open no more issues until it is resumed."""
    async with board.database.write() as tx:
        await routines.pause_routine(tx, actor, number)


@router.post("/{number}/resume", status_code=HTTP_204_NO_CONTENT)
async def resume_routine(board: OnBoard, actor: Caller, number: RoutineNumber) -> None:
    """Go on with the next time, after a pause or a hold."""
    async with board.database.write() as tx:
        await routines.resume_routine(tx, actor, number, now())
    board.scheduler.wake()


@router.post("/{number}/run", status_code=HTTP_201_CREATED)
async def run_routine(board: OnBoard, actor: Caller, number: RoutineNumber) -> dict[str, str]:
    """Open the routine's issue now."""
    async with board.database.write() as tx:
        issue = await routines.run_now(tx, actor, number, now())
    return {"key": str(issue), "url": board.issue_url(issue)}


def _document(row: Row) -> dict[str, Any]:
    fields = ("name", "schedule", "zone", "missed", "hourly_limit", "title", "body", "project", "labels")
    return {
        "id": row["id"],
        **{field: row[field] for field in (*fields, "priority", "state", "reason")},
        "owner": str(row["owner"]),
        "owner_name": row["owner_name"],
        "next": [at.isoformat() for at in routines.upcoming(row, now())],
    }


def _time(row: Row) -> dict[str, Any]:
    return {
        "due": row["due"].isoformat(),
        "at": row["at"].isoformat(),
        "outcome": row["outcome"],
        "issue": row["issue"] and str(row["issue"]),
        "detail": row["detail"],
    }
