"""The bundle in force over HTTP: what it is, and putting another one in its place."""

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from agentic_os.application.backend import Backend
from agentic_os.application.governing import BundleInvalid
from agentic_os.application.ports import AppliedBundle
from agentic_os.contracts.canonical import digest_of
from agentic_os.contracts.strict_json import pointer_to
from agentic_os.http.administration import Admin, Viewer
from agentic_os.http.models import GovernanceIn, documented, read_model
from agentic_os.http.problems import Refused
from agentic_os.http.tasks import answer

router = APIRouter(prefix="/api")
SKILLS: Final = "skills.yaml"


@router.get("/governance", summary="The bundle in force")
async def in_force(request: Request, caller: Viewer) -> Response:
    """Give the bundle that was applied last: its digest, by whom, why and when, and the whole document."""
    backend: Backend = request.app.state.backend
    applied = await backend.governing.current()
    if applied is None:
        raise Refused("not_found", "No bundle was ever applied.", next_step="Apply one: agentic-os apply.")
    return answer(_shown(applied))


@router.get("/governance/bundles/{digest}", summary="A bundle that was in force")
async def bundle(request: Request, caller: Viewer, digest: str) -> Response:
    """Give a bundle by its digest, as verdicts name it: the last time that it was applied, with the whole document."""
    backend: Backend = request.app.state.backend
    applied = await backend.governing.named(digest)
    if applied is None:
        raise Refused(
            "not_found",
            "No bundle with this digest was ever in force.",
            next_step="A task's events name the bundle of each verdict; GET /api/governance has the one in force.",
        )
    return answer(_shown(applied))


@router.post("/governance", summary="Apply a bundle", openapi_extra=documented(GovernanceIn))
async def apply(request: Request, caller: Admin) -> Response:
    """Put a bundle in force at once; the same one again changes nothing."""
    backend: Backend = request.app.state.backend
    wanted = await read_model(request, GovernanceIn)
    documents = wanted.documents
    try:
        skills = await backend.governing.read_skills(documents.get(SKILLS), wanted.skills)
        bundle = await backend.governing.read({n: t for n, t in documents.items() if n != SKILLS})
    except BundleInvalid as problem:
        named = str(problem).partition(":")[0]
        raise Refused(
            "schema_invalid",
            str(problem),
            pointers=[pointer_to("documents", *([named] if named in documents else []))],
            next_step="Correct the file at that line; `agentic-os diff` checks a folder without applying it.",
        ) from problem
    applied = await backend.governing.apply(bundle, caller.principal.name, wanted.reason, skills=skills)
    return answer({"bundle": bundle.policy.bundle, "applied": applied})


def _shown(applied: AppliedBundle) -> dict[str, Any]:
    return {
        "bundle": applied.bundle,
        "applied_at": applied.at,
        "actor": applied.actor,
        "reason": applied.reason,
        "document": applied.document,
        "shadow": None
        if applied.shadow is None
        else {"bundle": digest_of(applied.shadow), "document": applied.shadow},
        "skills": applied.skills,
    }
