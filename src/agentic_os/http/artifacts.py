"""Bytes over HTTP: uploads by digest from executors, downloads for people and for executors at work on the task.

Whoever delivered the bytes also named their type, so neither is believed: a download is never rendered by a browser.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from agentic_os.application.attempt_tokens import PREFIX
from agentic_os.application.backend import Backend
from agentic_os.application.ports import DigestMismatch, TooLarge
from agentic_os.contracts.redaction import SecretScan
from agentic_os.contracts.violation import ContractViolation
from agentic_os.http.authentication import bearer, require
from agentic_os.http.problems import Refused, problem
from agentic_os.http.selection import NotSatisfiable, is_known, read_range

router = APIRouter(prefix="/api/artifacts")

LIMIT: Final = 1024 * 1024 * 1024
_PIECE: Final = 256 * 1024
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_LONGEST_NAME: Final = 150
_OCTETS: Final = "application/octet-stream"
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Accept-Ranges": "bytes",
    "Cache-Control": "private, no-cache",
}
_ACTIVE: Final = re.compile(r"text/(?:html|xml|xsl|css|.*(?:script|\+xml))")
_INERT: Final = re.compile(
    r"image/(?:png|jpeg|gif|webp|avif)|(?:audio|video)/(?:mpeg|mp4|ogg|webm|wav|flac)|font/(?:woff2?|ttf|otf)"
    r"|application/(?:json|x-ndjson|pdf|zip|gzip|zstd|x-tar|x-bzip2|x-xz|x-7z-compressed|wasm|toml|yaml)"
    r"|text/(?:csv|markdown|tab-separated-values)"
)
_PROBLEM: Final = {"content": {"application/problem+json": {"schema": {"type": "object"}}}}
_BYTES: Final = {"content": {_OCTETS: {"schema": {"type": "string", "format": "binary"}}}}
_CONDITIONS: Final = {
    "parameters": [
        {
            "name": name,
            "in": "header",
            "required": False,
            "schema": {"type": "string"},
            "description": description,
        }
        for name, description in (
            ("Range", "One range of bytes, such as bytes=0-99; any other is ignored."),
            ("If-Range", "The ETag for which the range is meant."),
            ("If-None-Match", "ETags that the caller has."),
        )
    ]
}
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    304: {"description": "The caller has it already."},
    403: {"description": "An attempt token of another task, or nobody who may read.", **_PROBLEM},
    404: {"description": "No result delivered these bytes.", **_PROBLEM},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Bytes that the caller may have. `name` is safe in a header, `media_type` in a browser."""

    digest: str
    size: int
    name: str
    media_type: str

    @property
    def tag(self) -> str:
        """Give the entity tag: bytes of one digest never change."""
        return f'"{self.digest}"'

    def headers(self) -> dict[str, str]:
        """Give the headers of every answer about these bytes."""
        return {**_HEADERS, "ETag": self.tag}

    def content_headers(self) -> dict[str, str]:
        """Give the headers of an answer with bytes."""
        return {
            **self.headers(),
            "Content-Type": self.media_type,
            "Content-Disposition": f'attachment; filename="{self.name}"',
        }


async def reader(request: Request) -> str | None:
    """Find the task that an attempt token may read artifacts of; None for a person who may read them all."""
    token = bearer(request)
    if not token.startswith(PREFIX):
        await require("viewer")(request)
        return None
    backend: Backend = request.app.state.backend
    await backend.callbacks.require_open_attempt(token)
    claim = (await backend.callbacks.authenticate(token)).claim
    assert claim is not None
    return claim.task_id


Reader = Annotated[str | None, Depends(reader)]


@router.put(
    "/{digest}",
    status_code=201,
    summary="Upload bytes",
    responses={
        413: {"description": "More bytes than an artifact may have.", **_PROBLEM},
        422: {"description": "The bytes have another digest, or hold what looks like a secret.", **_PROBLEM},
        507: {"description": "There is no room for them.", **_PROBLEM},
    },
    openapi_extra={"requestBody": {"required": True, **_BYTES}},
)
async def upload(request: Request, digest: str) -> Response:
    """Take in the bytes that the digest names; they mean nothing until a callback of the same attempt names them."""
    backend: Backend = request.app.state.backend
    claim = await backend.callbacks.require_open_attempt(bearer(request))
    _check(digest)
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 18 or int(announced) > LIMIT):  # noqa: PLR2004 - any longer is more
        raise _too_large()
    try:
        await backend.artifacts.write(digest, _without_secrets(request.stream()), LIMIT)
    except DigestMismatch as found:
        raise Refused(
            "schema_invalid",
            f"The bytes have the digest {found}.",
            next_step="Upload them under their own digest.",
        ) from found
    except TooLarge as fault:
        raise _too_large() from fault
    except ClientDisconnect as fault:  # nobody is there to read it, and it is no fault of the server
        raise Refused("malformed", "The upload broke off.", next_step="Send all of it again.") from fault
    await backend.callbacks.uploaded(claim, digest)
    return Response(status_code=201)


async def _without_secrets(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pass bytes on while no secret is seen in them. Raises ContractViolation, and then nothing of them is kept."""
    scan = SecretScan()
    async for chunk in chunks:
        # In pieces, so that it holds no more when all comes at once; and off the event loop, which has others to serve.
        for start in range(0, len(chunk), _PIECE):
            _refuse_found(await asyncio.to_thread(scan.add, chunk[start : start + _PIECE]))
        yield chunk
    _refuse_found(await asyncio.to_thread(scan.end))


def _refuse_found(kinds: list[str]) -> None:
    if kinds:
        raise ContractViolation(
            "secret_in_artifact", f"The bytes hold what looks like a secret: {', '.join(kinds)}."
        )


@router.get(
    "/{digest}",
    summary="Download bytes",
    response_class=StreamingResponse,
    responses={
        200: {"description": "The bytes.", **_BYTES},
        206: {"description": "The range that was asked for.", **_BYTES},
        416: {
            "description": "The range has none of the bytes; Content-Range says how many there are.",
            **_PROBLEM,
        },
        **_ANSWERS,
    },
    openapi_extra=_CONDITIONS,
)
async def download(request: Request, task_id: Reader, digest: str) -> Response:
    """Stream bytes that a result delivered, or a range of them, as a download."""
    held = await _held(request, task_id, digest)
    if is_known(held.tag, request.headers.getlist("if-none-match")):
        return Response(status_code=304, headers=held.headers())
    try:
        asked = read_range(request.headers.get("range"), request.headers.get("if-range"), held.tag, held.size)
    except NotSatisfiable:
        return problem(
            "range_not_satisfiable",
            f"None of the {held.size} bytes are in this range.",
            headers={"Content-Range": f"bytes */{held.size}", "Accept-Ranges": "bytes"},
        )
    first, count = asked or (0, held.size)
    backend: Backend = request.app.state.backend
    chunks = backend.artifacts.open(digest, first, count)
    if chunks is None:
        raise _unknown()
    headers = {**held.content_headers(), "Content-Length": str(count)}
    if asked is None:
        return StreamingResponse(chunks, 200, headers)
    headers["Content-Range"] = f"bytes {first}-{first + count - 1}/{held.size}"
    return StreamingResponse(chunks, 206, headers)


@router.head("/{digest}", summary="Ask for the size and type of bytes", responses=_ANSWERS)
async def describe(request: Request, task_id: Reader, digest: str) -> Response:
    """Answer as the download of all bytes would be answered, without them."""
    held = await _held(request, task_id, digest)
    if is_known(held.tag, request.headers.getlist("if-none-match")):
        return Response(status_code=304, headers=held.headers())
    return Response(headers={**held.content_headers(), "Content-Length": str(held.size)})


async def _held(request: Request, task_id: str | None, digest: str) -> Held:
    backend: Backend = request.app.state.backend
    _check(digest)
    known = await backend.tasks.artifact(digest, task_id)
    if known is None and task_id is not None:  # the same for bytes of other tasks and for bytes of none
        raise Refused("scope_denied", "This is no artifact of the task that the token is for.")
    size = backend.artifacts.size(digest) if known else None
    if known is None or size is None:
        raise _unknown()
    return Held(
        digest=digest,
        size=size,
        name=safe_name(known["name"]),
        media_type=safe_media_type(known["media_type"]),
    )


def safe_name(name: str) -> str:
    """Make a file name of an artifact's name that no header and no file system reads as anything else."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)[:_LONGEST_NAME]


def safe_media_type(claimed: str) -> str:
    """Give the type to send: the claimed one where nothing can run in it, else plain text for text, else octets."""
    essence = claimed.partition(";")[0].strip().lower()
    if _INERT.fullmatch(essence):
        return essence
    if essence.startswith("text/") and not _ACTIVE.fullmatch(essence):
        return "text/plain"
    return _OCTETS


def _check(digest: str) -> None:
    if not _DIGEST.fullmatch(digest):
        raise Refused("schema_invalid", "A digest is sha256: and 64 hexadecimal digits.")


def _too_large() -> Refused:
    return Refused("too_large", f"An artifact is at most {LIMIT} bytes.")


def _unknown() -> Refused:
    return Refused("not_found", "There is no such artifact.")
