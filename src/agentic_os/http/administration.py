"""What administrators do: identities, audit, rebuilding; and what machines ask: health, webhooks."""

import hashlib
import secrets
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from agentic_os.application.backend import Backend
from agentic_os.application.credentials import PREFIX
from agentic_os.application.ports import NameTaken, Principal
from agentic_os.clock import now
from agentic_os.control_plane import Denied, Invalid
from agentic_os.domain.executor_pauses import ExecutorPause
from agentic_os.domain.skill_lock import SkillLock
from agentic_os.domain.workspaces import standing
from agentic_os.http.authentication import Caller, require
from agentic_os.http.models import AccountIn, ExecutorIn, TokenIn, documented, read_body, read_model
from agentic_os.http.problems import Refused
from agentic_os.http.tasks import answer

router = APIRouter()
Admin = Annotated[Caller, Depends(require("admin"))]
Viewer = Annotated[Caller, Depends(require("viewer"))]


@router.post(
    "/api/executors", status_code=201, summary="Register an executor", openapi_extra=documented(ExecutorIn)
)
async def add_executor(request: Request, caller: Admin) -> Response:
    """Register an executor; its credential is in the answer, and nowhere else ever again."""
    wanted = await read_model(request, ExecutorIn)
    backend: Backend = request.app.state.backend
    if wanted.owner is not None and await backend.registry.by_name(wanted.owner) is None:
        raise Refused("schema_invalid", f"There is no principal {wanted.owner!r}.", pointers=["/owner"])
    principal = Principal(
        id=wanted.name,
        name=wanted.name,
        kind="executor",
        roles=(wanted.role,),
        owner=wanted.owner or caller.principal.name,
        skills=wanted.skills,
        capacity=wanted.capacity,
        workspace=wanted.workspace,
    )
    secret = PREFIX["executor"] + secrets.token_urlsafe(32)
    await _add(backend, principal, secret, None, caller)
    return answer({"id": principal.id, "name": principal.name, "credential": secret}, 201)


@router.get("/api/executors", summary="List executors")
async def list_executors(request: Request, caller: Viewer) -> Response:
    """List the executors that may work, how much each holds, and who paused it on the tracker, and why."""
    backend: Backend = request.app.state.backend
    items = [
        {
            "id": e.id,
            "name": e.name,
            "roles": list(e.roles),
            "owner": e.owner,
            "skills": e.skills,
            "capacity": e.capacity,
            "load": e.load,
            "capabilities": list(e.capabilities),
            "tier": e.tier,
            "workspace": _workspace(e, backend.skills()),
            "paused": _pause(e.pause),
        }
        for e in await backend.registry.executors()
    ]
    return answer({"items": items, "next": None})


def _pause(pause: ExecutorPause | None) -> dict[str, Any] | None:
    if pause is None:
        return None
    return {
        "control_plane": pause.control_plane,
        "by": pause.author,
        "detail": pause.detail,
        "since": pause.at,
        "says": str(pause),
    }


def _workspace(executor: Principal, lock: SkillLock) -> dict[str, Any] | None:
    if executor.workspace is None:
        return None
    report = executor.hydrated
    if report is None:
        return {"path": executor.workspace, "project": None, "state": "unknown", "problem": "", "next": ""}
    return {
        "path": report.path,
        "project": report.project,
        **asdict(standing(report, lock.of(report.project))),
    }


@router.post("/api/tokens", status_code=201, summary="Register a person", openapi_extra=documented(TokenIn))
async def add_token(request: Request, caller: Admin) -> Response:
    """Register a person with a role; the token is in the answer, and nowhere else ever again."""
    wanted = await read_model(request, TokenIn)
    principal = Principal(id=wanted.name, name=wanted.name, kind="person", roles=(wanted.role,))
    secret = PREFIX["person"] + secrets.token_urlsafe(32)
    days = timedelta(days=wanted.expires_in_days) if wanted.expires_in_days else None
    await _add(request.app.state.backend, principal, secret, days, caller)
    return answer({"id": principal.id, "token": secret}, 201)


async def _add(
    backend: Backend, principal: Principal, secret: str, lives: timedelta | None, caller: Caller
) -> None:
    digest = hashlib.sha256(secret.encode()).digest()
    try:
        await backend.registry.add(
            principal, digest, now() + lives if lives else None, actor=caller.principal.name
        )
    except NameTaken as taken:
        raise Refused(
            "name_taken",
            f"There is a principal {taken} already; names are never given again.",
            next_step="Choose another name.",
            pointers=["/name"],
        ) from taken
    backend.signals.work.set()


@router.put("/api/principals/{name}/accounts", summary="Link an account", openapi_extra=documented(AccountIn))
async def link(request: Request, caller: Admin, name: str) -> Response:
    """Say that an account of a tracker is this principal's."""
    backend: Backend = request.app.state.backend
    wanted = await read_model(request, AccountIn)
    principal = await backend.registry.by_name(name.replace("\0", ""))
    if principal is None:
        raise Refused("not_found", f"There is no principal {name!r}.")
    await backend.registry.link(
        wanted.control_plane, wanted.account, principal.id, actor=caller.principal.name
    )
    backend.signals.marked()
    return answer(
        {"principal": principal.name, "control_plane": wanted.control_plane, "account": wanted.account}
    )


@router.get("/api/quarantine", summary="List what is kept aside")
async def quarantine(
    request: Request, caller: Viewer, cursor: str = "", limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> Response:
    """List plans and results that came from attempts that had lost their right to write."""
    backend: Backend = request.app.state.backend
    items = await backend.tasks.quarantined(cursor.replace("\0", ""), limit)
    return answer({"items": items, "next": items[-1]["id"] if len(items) == limit else None})


@router.post("/api/audit/verify", summary="Verify the history")
async def verify(request: Request, caller: Viewer) -> Response:
    """Recompute the hash chain of every stream; names the first broken link."""
    outcome = await request.app.state.backend.verify()
    return answer(
        {
            "audit": "broken" if outcome.problem else "ok",
            "streams": outcome.streams,
            "events": outcome.events,
            "problem": outcome.problem,
        }
    )


@router.post("/api/projections/rebuild", summary="Rebuild the read models")
async def rebuild(request: Request, caller: Admin) -> Response:
    """Replace every read model by what the events say."""
    return answer({"tasks": await request.app.state.backend.rebuild()})


@router.post("/api/webhooks/{control_plane}", status_code=202, summary="Hear from a tracker")
async def webhook(request: Request, control_plane: str) -> Response:
    """Take in a tracker's signed webhook; it is stored before it is acted on."""
    backend: Backend = request.app.state.backend
    raw = await read_body(request)
    plane = backend.control_plane
    if plane is None or plane.name != control_plane or backend.inbox is None:
        raise Refused("not_found", "No such control plane is connected.")
    try:
        observations = await plane.receive(dict(request.headers), raw)
    except Denied as refusal:
        raise Refused(
            "credential_invalid", str(refusal), next_step="Check the webhook's secret and clock."
        ) from refusal
    except Invalid as refusal:
        raise Refused("malformed", str(refusal)) from refusal
    taken = await backend.inbox.receive(observations)
    if taken:
        backend.signals.received()
    return answer({"taken": taken}, 202)


@router.get("/healthz", summary="Is the process alive")
async def healthz() -> Response:
    """Answer while the process lives."""
    return answer({"status": "ok"})


@router.get("/readyz", summary="Can it serve")
async def readyz(request: Request) -> Response:
    """Answer 200 once the database answers."""
    await request.app.state.backend.ready()
    return answer({"status": "ready"})
