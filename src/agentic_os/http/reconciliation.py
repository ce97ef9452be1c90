"""How it stands with the issues and the tracker, and trying again what does not get on."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from agentic_os.application.backend import Backend
from agentic_os.domain.rejection import Rejected
from agentic_os.http.authentication import Caller, require
from agentic_os.http.models import ReconcileIn, documented, read_model
from agentic_os.http.tasks import answer

router = APIRouter()
Operator = Annotated[Caller, Depends(require("operator"))]
Viewer = Annotated[Caller, Depends(require("viewer"))]


@router.get("/api/reconcile", summary="How far behind the issues are")
async def status(
    request: Request,
    caller: Viewer,
    task: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """Say what is not shown yet, what fails and why, how the tracker does, and when it was last heard of."""
    backend: Backend = request.app.state.backend
    return answer(
        await backend.reconciliation.report(limit, None if task is None else task.replace("\0", ""))
    )


@router.post("/api/reconcile", status_code=202, summary="Compare every issue again")
async def compare_all(request: Request, caller: Operator) -> Response:
    """Have the issue of every task that has not ended compared with what it should be."""
    backend: Backend = request.app.state.backend
    marked = await backend.work.mark_issues()
    backend.signals.marked()
    return answer({"marked": marked}, 202)


@router.post(
    "/api/reconcile/{task_id}",
    status_code=202,
    summary="Compare an issue again",
    openapi_extra=documented(ReconcileIn),
)
async def compare_one(request: Request, caller: Operator, task_id: str) -> Response:
    """Have a task's issue compared again; redriven, as if it had never failed, and with all repairs resumed."""
    wanted = await read_model(request, ReconcileIn)
    backend: Backend = request.app.state.backend
    task_id = task_id.replace("\0", "")
    if (await backend.log.load(task_id)).task is None:
        raise Rejected("unknown_task", "There is no such task.", next_step="GET /api/tasks lists them.")
    if wanted.redrive:
        await backend.reconciliation.redrive(task_id, caller.principal.name)
    else:
        await backend.work.mark([task_id])
    backend.signals.marked()
    return answer({"marked": 1, "redriven": wanted.redrive}, 202)


@router.get("/api/doctor", summary="Is everything in order")
async def doctor(request: Request, caller: Viewer) -> Response:
    """Look at database, worker, tracker, webhooks, tasks that fail and executors; says what to do about faults."""
    backend: Backend = request.app.state.backend
    checks = await backend.reconciliation.diagnose()
    worst = next((s for s in ("fault", "warning") if any(c.status == s for c in checks)), "ok")
    return answer({"status": worst, "checks": [asdict(check) for check in checks]})
