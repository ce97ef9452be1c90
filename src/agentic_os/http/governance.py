"""Policy over HTTP: which is in force, and which was, each with its whole document."""

from fastapi import APIRouter, Request, Response

from agentic_os.application.backend import Backend
from agentic_os.application.bundles import bundle_in_force, bundle_named
from agentic_os.http.problems import Refused
from agentic_os.http.tasks import Viewer, answer

router = APIRouter(prefix="/api/governance")


@router.get("", summary="Read the policy in force")
async def in_force(request: Request, caller: Viewer) -> Response:
    """Read the policy that came into force last: its document, by whom, when and why."""
    backend: Backend = request.app.state.backend
    found = await bundle_in_force(backend.log)
    if found is None:
        raise Refused(
            "not_found", "No policy was recorded yet.", next_step="Start the stack: it records one."
        )
    return answer(found)


@router.get("/bundles/{digest}", summary="Read a policy that was in force")
async def bundle(request: Request, caller: Viewer, digest: str) -> Response:
    """Read a policy by its digest, as verdicts name it."""
    backend: Backend = request.app.state.backend
    found = await bundle_named(backend.log, digest)
    if found is None:
        raise Refused(
            "not_found",
            "No policy with this digest was ever in force.",
            next_step="A task's events name the bundle of each verdict; GET /api/governance has the one in force.",
        )
    return answer(found)
