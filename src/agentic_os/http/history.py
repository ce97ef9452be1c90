"""A task's past over HTTP: what changed between versions, what moves it and why, who took it, who judged it."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from agentic_os.application import history
from agentic_os.application.backend import Backend
from agentic_os.http.tasks import Viewer, answer, clean, shown

router = APIRouter(prefix="/api/tasks/{task_id}")
Version = Annotated[int, Path(ge=1, description="A version of the task.", examples=[1])]


@router.get("/versions/{a}..{b}", summary="Compare two versions of a task")
async def versions(request: Request, caller: Viewer, task_id: str, a: Version, b: Version) -> Response:
    """Say which fields differ from version a to version b, and which events lie between; a may be the later one."""
    backend: Backend = request.app.state.backend
    return answer(await history.difference(backend.log, clean(task_id) or "", a, b))


@router.get("/why", summary="Ask why a task stands where it does")
async def why(request: Request, caller: Viewer, task_id: str) -> Response:
    """Say what moves the task next, which rule decided, and which directives were refused, the latest first."""
    backend: Backend = request.app.state.backend
    return answer(await history.why(backend, await shown(backend, clean(task_id) or "")))


@router.get("/attempts", summary="List a task's attempts")
async def attempts(request: Request, caller: Viewer, task_id: str) -> Response:
    """List who was given the task, in which step, when, and how it ended."""
    backend: Backend = request.app.state.backend
    items = await history.gather(backend.log, clean(task_id) or "", history.Attempts())
    return answer({"items": items, "next": None})


@router.get("/reviews", summary="List a task's plans and results")
async def reviews(request: Request, caller: Viewer, task_id: str) -> Response:
    """List every version of plan and result with the votes on it, in the voters' words."""
    backend: Backend = request.app.state.backend
    items = await history.gather(backend.log, clean(task_id) or "", history.Reviews())
    return answer({"items": items, "next": None})
