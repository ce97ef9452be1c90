"""Bytes over HTTP: uploads by digest from executors, downloads for people; never rendered by a browser."""

import re
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from agentic_os.application.backend import Backend
from agentic_os.application.ports import DigestMismatch, TooLarge
from agentic_os.http.authentication import Caller, bearer, require
from agentic_os.http.problems import Refused

router = APIRouter(prefix="/api/artifacts")
Viewer = Annotated[Caller, Depends(require("viewer"))]

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_LIMIT: Final = 1024 * 1024 * 1024
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


@router.put("/{digest}", status_code=201, summary="Upload bytes")
async def upload(request: Request, digest: str) -> Response:
    """Take in the bytes that the digest names; they mean nothing until a callback of the same attempt names them."""
    backend: Backend = request.app.state.backend
    await backend.callbacks.require_open_attempt(bearer(request))
    _check(digest)
    try:
        await backend.artifacts.write(digest, request.stream(), _LIMIT)
    except DigestMismatch as found:
        raise Refused(
            "schema_invalid",
            f"The bytes have the digest {found}.",
            next_step="Upload them under their own digest.",
        ) from found
    except TooLarge as problem:
        raise Refused("too_large", f"An artifact is at most {_LIMIT} bytes.") from problem
    return Response(status_code=201)


@router.get("/{digest}", summary="Download bytes")
async def download(request: Request, caller: Viewer, digest: str) -> Response:
    """Stream bytes that a callback named, as a download."""
    backend: Backend = request.app.state.backend
    _check(digest)
    known = await backend.tasks.artifact(digest)
    chunks = backend.artifacts.open(digest) if known else None
    if known is None or chunks is None:
        raise Refused("not_found", "There is no such artifact.")
    name = re.sub(r"[^A-Za-z0-9._-]", "_", known["name"])
    headers = {
        **_HEADERS,
        "Content-Disposition": f'attachment; filename="{name}"',
        "Content-Length": str(known["size"]),
        "ETag": f'"{digest}"',
    }
    return StreamingResponse(chunks, headers=headers, media_type="application/octet-stream")


def _check(digest: str) -> None:
    if not _DIGEST.fullmatch(digest):
        raise Refused("schema_invalid", "A digest is sha256: and 64 hexadecimal digits.")
