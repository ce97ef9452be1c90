"""POST /api/evidence/{source}: what CI, and whoever else did none of the work, says of a task's criteria."""

from fastapi import APIRouter, Request, Response

from agentic_os.application.backend import Backend
from agentic_os.clock import now
from agentic_os.http.models import AttestationIn, documented, read_body, read_from

router = APIRouter()


@router.post(
    "/api/evidence/{source}",
    status_code=202,
    summary="Attest evidence",
    openapi_extra=documented(AttestationIn),
)
async def attest(request: Request, source: str) -> Response:
    """Take in a signed attestation of a registered source; the same webhook-id again gets the same answer."""
    backend: Backend = request.app.state.backend
    raw = await read_body(request)
    name = source.replace("\0", "")
    delivery = await backend.attestations.authenticate(name, request.headers, raw, now())
    document = read_from(raw, AttestationIn).model_dump(mode="json", exclude_none=True)
    answer = await backend.attestations.accept(delivery, document)
    headers = {"Idempotent-Replayed": "true"} if answer.replayed else None
    return Response(answer.body, 202, headers, media_type="application/json")
