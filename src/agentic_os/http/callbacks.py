"""POST /api/executions/callback: the one door of executors."""

from dataclasses import asdict
from typing import Final

from fastapi import APIRouter, Request, Response

from agentic_os.application.backend import Backend
from agentic_os.contracts.callback import MAX_CALLBACK_BYTES
from agentic_os.contracts.schema import callback_schema
from agentic_os.domain.rejection import Rejected
from agentic_os.http.authentication import bearer_in
from agentic_os.http.models import read_body
from agentic_os.http.problems import Refused

router = APIRouter()

PATH: Final = "/api/executions/callback"


@router.post(
    PATH,
    status_code=202,
    summary="Report on an attempt",
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
    },
)
async def callback(request: Request) -> Response:
    """Accept one callback of an executor, as the contract /api/contracts/callback/v1 describes it."""
    return await answer(request)


async def answer(request: Request) -> Response:
    """Answer one callback. Raises what agentic_os.http.problems knows."""
    backend: Backend = request.app.state.backend
    headers = dict(
        request.scope["headers"]
    )  # read once: each look into request.headers goes through all of them
    token = bearer_in(headers.get(b"authorization", b""))
    raw = await read_body(request, MAX_CALLBACK_BYTES, headers.get(b"content-length", b"0"))
    key = headers.get(b"idempotency-key")
    try:
        answer = await backend.callbacks.accept(
            raw, token, key.decode("latin-1") if key is not None else None
        )
    except Rejected as refusal:
        if refusal.code == "skill_drift":
            raise await _drift(backend, refusal, raw) from refusal
        raise
    replayed = {"Idempotent-Replayed": "true"} if answer.replayed else None
    return Response(answer.body, 202, replayed, media_type="application/json")


@router.get("/api/contracts/callback/v1", summary="The schema of callbacks")
async def contract() -> Response:
    """Publish the normative schema, byte for byte."""
    return Response(callback_schema(), media_type="application/schema+json")


async def _drift(backend: Backend, refusal: Rejected, raw: bytes) -> Refused:
    """Add what the skills should be, so that the executor's script can name the differences."""
    project = await backend.callbacks.project_of(raw)
    expected = backend.skills().of(project)
    return Refused(
        refusal.code,
        refusal.message,
        next_step=refusal.next,
        pointers=refusal.pointers,
        more={"expected": {"digest": expected.digest, "skills": [asdict(s) for s in expected.skills]}},
    )
