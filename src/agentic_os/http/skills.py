"""The skills in force over HTTP: what a project's are, how its workspaces stand, and reporting on a workspace."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response

from agentic_os.application.backend import Backend
from agentic_os.clock import now
from agentic_os.domain.skill_lock import LockedSet
from agentic_os.domain.workspaces import WAIT, WorkspaceReport, mend, standing
from agentic_os.http.administration import Admin
from agentic_os.http.authentication import Caller, identify
from agentic_os.http.models import WorkspaceIn, documented, read_model
from agentic_os.http.problems import Refused
from agentic_os.http.tasks import answer

router = APIRouter(prefix="/api/skills")


@router.get("/{project}", summary="The skills of a project")
async def skills(request: Request, project: str) -> Response:
    """Say what the skills of a project's workspaces must be, and how those stand; executors may ask too.

    An executor sees only its own workspace.
    """
    backend: Backend = request.app.state.backend
    caller = await identify(request, backend.registry)
    await _require_known(backend, project)
    in_force = backend.skills().of(project)
    return answer(
        {
            "digest": in_force.digest,
            "skills": [asdict(skill) for skill in in_force.skills],
            "definition": backend.skills().text,
            "bundle": backend.policy().bundle,
            "workspaces": await _workspaces(backend, project, in_force, caller),
        }
    )


@router.post("/{project}/workspaces", summary="Report on a workspace", openapi_extra=documented(WorkspaceIn))
async def report(request: Request, caller: Admin, project: str) -> Response:
    """Store what was found in a workspace; executors that it kept from work, and no longer does, get it at once."""
    backend: Backend = request.app.state.backend
    await _require_known(backend, project)
    wanted = await read_model(request, WorkspaceIn)
    found = WorkspaceReport(
        path=wanted.path,
        project=project,
        digest=wanted.digest,
        state=wanted.state,
        problem=wanted.problem.replace("\0", ""),
        lacking=tuple(name.replace("\0", "") for name in wanted.lacking),
        at=now(),
    )
    await backend.registry.report_workspaces([found])
    await backend.work.mark_waiting(WAIT)
    backend.signals.marked()
    return answer(_shown(found, backend.skills().of(project), []))


async def _require_known(backend: Backend, project: str) -> None:
    """Refuse a project that neither the definition, nor the organisation, nor any task names."""
    declared = {*backend.skills().projects, *backend.organisation().projects}
    name = project.replace("\0", "")
    if name not in declared and not await backend.tasks.page(project=name, limit=1):
        raise Refused(
            "not_found",
            f"There is no project {project!r}.",
            next_step=f"Ask for one of: {', '.join(sorted(declared))}; skills.yaml and organisation.yaml name them.",
        )


async def _workspaces(
    backend: Backend, project: str, in_force: LockedSet, caller: Caller
) -> list[dict[str, Any]]:
    executors = await backend.registry.executors()
    found = []
    for each in await backend.registry.workspaces():
        names = [e.name for e in executors if e.workspace == each.path]
        mine = caller.principal.kind != "executor" or caller.principal.name in names
        if each.project == project and mine:
            found.append(_shown(each, in_force, names))
    if not found and in_force.workspace is not None and caller.principal.kind != "executor":
        found.append(
            {
                "path": in_force.workspace,
                "state": "unknown",
                "problem": "nobody reported on it",
                "next": mend(in_force.workspace, project),
                "executors": [],
                "lacking": [],
                "at": None,
            }
        )
    return found


def _shown(each: WorkspaceReport, in_force: LockedSet, executors: list[str]) -> dict[str, Any]:
    return {
        "path": each.path,
        **asdict(standing(each, in_force)),
        "executors": executors,
        "lacking": list(each.lacking),
        "at": each.at,
    }
