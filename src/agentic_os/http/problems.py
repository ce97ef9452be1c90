"""Every refusal as application/problem+json: what went wrong, where, whether to try again, and what to do next."""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from agentic_os.application.callers import CredentialInvalid
from agentic_os.application.history import NeverWas
from agentic_os.application.ports import (
    AccountExhausted,
    CredentialRevoked,
    ReceiptMismatch,
    StorageFull,
    StoreUnavailable,
    VersionConflict,
)
from agentic_os.application.rates import RateLimited
from agentic_os.contracts.violation import ContractViolation
from agentic_os.domain.rejection import Rejected

log = structlog.get_logger()

STATUS: Final[Mapping[str, int]] = {
    "malformed": 400,
    "credential_invalid": 401,
    "token_expired": 401,
    "budget_exceeded": 402,
    "scope_denied": 403,
    "tool_denied": 403,
    "self_review": 403,
    "not_permitted": 403,
    "policy_denied": 403,
    "unknown_task": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "attempt_superseded": 409,
    "lease_lost": 409,
    "wrong_phase": 409,
    "seq_stale": 409,
    "plan_unapproved": 409,
    "plan_unchanged": 409,
    "brief_mismatch": 409,
    "skill_drift": 409,
    "replan_cap": 409,
    "name_taken": 409,
    "confirmation_required": 409,
    "digest_mismatch": 409,
    "conflict": 409,
    "too_large": 413,
    "schema_invalid": 422,
    "marker_missing": 422,
    "section_missing": 422,
    "review_items_unanswered": 422,
    "items_required": 422,
    "unknown_criterion": 422,
    "idempotency_mismatch": 422,
    "output_invalid": 422,
    "secret_in_artifact": 422,
    "rate_limited": 429,
    "internal": 500,
    "gate_error": 503,
}
OF_ARTIFACTS: Final[Mapping[str, int]] = {"range_not_satisfiable": 416, "storage_full": 507}
"""Codes that only the address of artifacts answers with."""
RETRYABLE: Final = frozenset({"conflict", "rate_limited", "gate_error", "internal", "storage_full"})
_NEXT: Final[Mapping[str, str]] = {
    "malformed": "Send one JSON document in UTF-8.",
    "schema_invalid": "Correct the fields that the pointers name; the schema is at /api/contracts/callback/v1.",
    "marker_missing": "Begin with the marker line of this task and attempt, and end with AOS:END.",
    "section_missing": "Add the section that the message names; write none for an empty list.",
    "credential_invalid": "Send Authorization: Bearer with a credential that is in force.",
    "token_expired": "Get a new credential; an attempt token comes with the answer to ack.",
    "too_large": "Send less at once; upload large artifacts by digest first.",
    "secret_in_artifact": "Take the secret out, send the artifact anew, and revoke the secret where it counts.",
    "idempotency_mismatch": "Draw a new id for new content, or send exactly the first content again.",
    "rate_limited": "Wait as long as Retry-After says, then send the same again.",
    "gate_error": "Try again in a moment; nothing was stored.",
    "scope_denied": "Use the credential that was made for this; nothing falls back to another.",
    "unknown_task": "Check the task's id; GET /api/tasks lists them.",
    "self_review": "Ask somebody else with the reviewer role.",
    "wrong_phase": "Read the task to see what it waits for.",
    "plan_unapproved": "Send a plan, and stop until it is approved.",
    "not_found": "Check the address; /docs lists what there is.",
    "method_not_allowed": "Use one of the methods in the Allow header.",
    "internal": "Try again; if it happens again, look into the server's log.",
    "range_not_satisfiable": "Ask for a range within the size that Content-Range names, or for all of it.",
    "storage_full": "Tell an administrator; once there is room, send the same again.",
}


class Refused(Exception):
    """The HTTP layer itself says no."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        next_step: str = "",
        pointers: Sequence[str] = (),
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.next = next_step
        self.pointers = pointers
        self.more = more or {}


def problem(
    code: str,
    message: str,
    *,
    pointers: Sequence[str] = (),
    next_step: str = "",
    more: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Build a problem response."""
    status = _status(code)
    body = {
        "type": f"urn:agentic-os:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "code": code,
        "detail": message,
        "pointer": list(pointers),
        "retryable": code in RETRYABLE,
        "next": next_step or _NEXT.get(code, ""),
        **(more or {}),
    }
    extra = {"WWW-Authenticate": "Bearer", **(headers or {})} if status == 401 else dict(headers or {})  # noqa: PLR2004
    return Response(orjson.dumps(body), status, extra, media_type="application/problem+json")


def _status(code: str) -> int:
    return OF_ARTIFACTS[code] if code in OF_ARTIFACTS else STATUS[code]


async def _noted(request: Request, refusal: Response, code: str) -> Response:
    """Keep a refused credential in the security log; a database that is away must not hide the refusal.

    Who has guessed too often hears nothing of the credential, and goes into no log.
    """
    if refusal.status_code == 401:  # noqa: PLR2004 - the status that means it
        if wait := request.app.state.guessing.note(request.scope):
            return too_fast(wait)
        route = getattr(request.scope.get("route"), "path", None) or request.scope.get("door", "unknown")
        with suppress(StoreUnavailable):
            await request.app.state.backend.note_refusal(route, code)
    return refusal


def too_fast(wait: float, message: str = "Too much was sent in too short a time.") -> Response:
    """Build the refusal of what came too fast; `wait` in seconds."""
    return problem(
        "rate_limited",
        message,
        headers={"Retry-After": str(math.ceil(wait))},
    )


async def _on_limited(_: Request, e: RateLimited) -> Response:
    return too_fast(e.wait, e.message)


async def _on_rejected(request: Request, e: Rejected) -> Response:
    return await _noted(request, problem(e.code, e.message, pointers=e.pointers, next_step=e.next), e.code)


async def _on_violation(_: Request, e: ContractViolation) -> Response:
    return problem(e.code, e.message, pointers=e.pointers)


async def _on_credential(request: Request, e: CredentialInvalid) -> Response:
    return await _noted(request, problem(e.code, e.message), e.code)


async def _on_refused(request: Request, e: Refused) -> Response:
    refusal = problem(e.code, e.message, pointers=e.pointers, next_step=e.next, more=e.more)
    return await _noted(request, refusal, e.code)


async def _on_never(_: Request, e: NeverWas) -> Response:
    return problem("not_found", str(e), next_step=e.next)


async def _on_http(_: Request, e: HTTPException) -> Response:
    code = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}.get(e.status_code, "malformed")
    return problem(code, str(e.detail), headers=e.headers)


async def _on_validation(_: Request, e: RequestValidationError) -> Response:
    faults = e.errors()
    pointers = ["/" + "/".join(str(part) for part in fault["loc"][1:]) for fault in faults]
    return problem("schema_invalid", "; ".join(f["msg"] for f in faults), pointers=pointers)


async def _on_mismatch(_: Request, __: Exception) -> Response:
    return problem("idempotency_mismatch", "This key was used before, with other content.")


async def _on_contention(_: Request, __: Exception) -> Response:
    return problem("gate_error", "The gate could not decide just now.")


async def _on_full(request: Request, e: Exception) -> Response:
    log.error("no room for an artifact", exc_info=e)
    code = (
        "gate_error" if "door" in request.scope else "storage_full"
    )  # a callback gets its contract's codes only
    return problem(
        code, "There is no room for these bytes; nothing of them was kept.", next_step=_NEXT["storage_full"]
    )


async def _on_fault(request: Request, e: Exception) -> Response:
    log.error("request failed", path=request.url.path, exc_info=e)
    return problem("internal", "The server failed; the fault is in its log.")


_HANDLERS: Final[Mapping[type[Exception], Callable[[Request, Any], Awaitable[Response]]]] = {
    Rejected: _on_rejected,
    ContractViolation: _on_violation,
    CredentialInvalid: _on_credential,
    RateLimited: _on_limited,
    CredentialRevoked: _on_contention,
    Refused: _on_refused,
    NeverWas: _on_never,
    HTTPException: _on_http,
    RequestValidationError: _on_validation,
    ReceiptMismatch: _on_mismatch,
    VersionConflict: _on_contention,
    AccountExhausted: _on_contention,
    StorageFull: _on_full,
    StoreUnavailable: _on_contention,
    Exception: _on_fault,
}


async def answer_exception(request: Request, e: Exception) -> Response:
    """Answer an exception with its problem, where the framework does not do it."""
    handler = next(_HANDLERS[kind] for kind in type(e).__mro__ if kind in _HANDLERS)
    return await handler(request, e)


def install(app: FastAPI) -> None:
    """Answer every exception that has a meaning with its problem."""
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
