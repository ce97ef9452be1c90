"""Credentials over HTTP: list, rotate, revoke; for executors, people, and sources of evidence."""

from typing import Literal

from fastapi import APIRouter, Request, Response

from agentic_os.application.backend import Backend
from agentic_os.application.credentials import LastAdministrator, Source
from agentic_os.application.ports import NameTaken
from agentic_os.http.administration import Admin
from agentic_os.http.models import SourceIn, documented, read_model
from agentic_os.http.problems import Refused
from agentic_os.http.tasks import answer

router = APIRouter(prefix="/api")


@router.post("/executors/{name}/rotate", summary="Give an executor a new credential")
async def rotate_executor(request: Request, caller: Admin, name: str) -> Response:
    """Give an executor a new credential; the old one is refused from now on, and open attempts go on."""
    return answer(
        {"name": name, "credential": await _rotated(request, caller.principal.name, name, "executor")}
    )


@router.delete("/executors/{name}", summary="Revoke an executor")
async def revoke_executor(request: Request, caller: Admin, name: str) -> Response:
    """Take an executor's credential and its open attempts; their tasks go to others."""
    return await _revoked(request, caller.principal.name, name, "executor")


@router.get("/tokens", summary="List people")
async def list_tokens(request: Request, caller: Admin) -> Response:
    """List the people who have, or had, a token."""
    backend: Backend = request.app.state.backend
    return answer({"items": list(await backend.credentials.book.people()), "next": None})


@router.post("/tokens/{name}/rotate", summary="Give a person a new token")
async def rotate_token(request: Request, caller: Admin, name: str) -> Response:
    """Give a person a new token, which lives as long as the old one did; the old one is refused from now on."""
    return answer({"name": name, "token": await _rotated(request, caller.principal.name, name, "person")})


@router.delete("/tokens/{name}", summary="Revoke a person")
async def revoke_token(request: Request, caller: Admin, name: str) -> Response:
    """Take a person's token and rights; the last administrator's cannot be taken."""
    return await _revoked(request, caller.principal.name, name, "person")


@router.post(
    "/sources", status_code=201, summary="Register a source of evidence", openapi_extra=documented(SourceIn)
)
async def add_source(request: Request, caller: Admin) -> Response:
    """Register who attests evidence, such as CI; its secret is in the answer, and nowhere else ever again."""
    backend: Backend = request.app.state.backend
    wanted = await read_model(request, SourceIn)
    source = Source(name=wanted.name, project=wanted.project, owner=caller.principal.name)
    try:
        secret = await backend.credentials.add_source(source, caller.principal.name)
    except NameTaken as taken:
        raise Refused(
            "name_taken",
            f"There is a principal {taken} already; names are never given again.",
            next_step="Choose another name.",
            pointers=["/name"],
        ) from taken
    return answer({"name": source.name, "project": source.project, "secret": secret}, 201)


@router.get("/sources", summary="List sources of evidence")
async def list_sources(request: Request, caller: Admin) -> Response:
    """List who attests, or attested, evidence."""
    backend: Backend = request.app.state.backend
    items = [
        {
            "name": s.name,
            "project": s.project,
            "owner": s.owner,
            "generation": s.generation,
            "revoked": s.revoked,
        }
        for s in await backend.credentials.book.sources()
    ]
    return answer({"items": items, "next": None})


@router.post("/sources/{name}/rotate", summary="Give a source a new secret")
async def rotate_source(request: Request, caller: Admin, name: str) -> Response:
    """Give a source a new secret; what the old one signs is refused from now on."""
    backend: Backend = request.app.state.backend
    try:
        secret = await backend.credentials.rotate_source(_clean(name), caller.principal.name)
    except LookupError as unknown:
        raise _unknown("source", name) from unknown
    return answer({"name": name, "secret": secret})


@router.delete("/sources/{name}", summary="Revoke a source")
async def revoke_source(request: Request, caller: Admin, name: str) -> Response:
    """Refuse whatever a source signs from now on; what it attested stays."""
    return await _revoked(request, caller.principal.name, name, "system")


async def _rotated(request: Request, actor: str, name: str, kind: Literal["executor", "person"]) -> str:
    backend: Backend = request.app.state.backend
    try:
        return await backend.credentials.rotate(_clean(name), kind, actor)
    except LookupError as unknown:
        raise _unknown(kind, name) from unknown


async def _revoked(
    request: Request, actor: str, name: str, kind: Literal["executor", "person", "system"]
) -> Response:
    backend: Backend = request.app.state.backend
    try:
        fenced = await backend.credentials.revoke(_clean(name), kind, actor)
    except LookupError as unknown:
        raise _unknown("source" if kind == "system" else kind, name) from unknown
    except LastAdministrator as last:
        raise Refused(
            "not_permitted",
            f"{name} is the last administrator.",
            next_step="Register another one first: agentic-os token add NAME --role admin.",
        ) from last
    return answer({"revoked": name, "superseded": list(fenced)})


def _unknown(kind: str, name: str) -> Refused:
    return Refused(
        "not_found", f"There is no {kind} {name!r} in force.", next_step="List them to see who there is."
    )


def _clean(name: str) -> str:
    return name.replace("\0", "")
