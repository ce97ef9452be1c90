"""What was heard from the tracker, and what became of it."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from agentic_os.application.backend import Backend
from agentic_os.application.observations import Outcome
from agentic_os.domain.rejection import Rejected
from agentic_os.http.problems import Refused
from agentic_os.http.tasks import Limit, Viewer, answer, clean

router = APIRouter(prefix="/api")


@router.get("/observations", summary="List what was heard from the tracker")
async def page(
    request: Request,
    caller: Viewer,
    task: Annotated[str | None, Query(max_length=64)] = None,
    issue: Annotated[str | None, Query(max_length=256)] = None,
    outcome: Outcome | None = None,
    cursor: Annotated[str | None, Query(max_length=64)] = None,
    limit: Limit = 50,
) -> Response:
    """List what others did on the tracker and what became of each, the newest first, also of what was ignored."""
    backend: Backend = request.app.state.backend
    task_id = clean(task)
    if task_id is not None and (await backend.log.load(task_id)).task is None:
        raise Rejected("unknown_task", "There is no such task.")
    found = await backend.observations.page(
        task_id=task_id, issue=clean(issue), outcome=outcome, before=_read_cursor(cursor), limit=limit
    )
    following = str(found[-1].id) if len(found) == limit else None
    return answer({"items": [asdict(each) for each in found], "next": following})


def _read_cursor(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):  # noqa: PLR2004 - what a bigint can hold
        raise Refused("schema_invalid", "This is not a cursor of ours.", pointers=["/cursor"])
    return int(cursor)
