"""Who calls: a bearer token becomes a principal with roles; nothing falls back to anything."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import Request

from agentic_os.application.attempt_tokens import PREFIX
from agentic_os.application.callers import CredentialInvalid
from agentic_os.application.ports import Principal, Registry
from agentic_os.http.problems import Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A principal and everything that its roles amount to."""

    principal: Principal
    roles: frozenset[str]


def bearer(request: Request) -> str:
    """Read the bearer token. Raises CredentialInvalid when there is none."""
    return bearer_in(request.headers.get("authorization", "").encode("latin-1"))


def bearer_in(header: bytes) -> str:
    """Read the bearer token of an Authorization header. Raises CredentialInvalid when there is none."""
    scheme, _, token = header.decode("latin-1").partition(" ")
    if scheme.lower() != "bearer" or not token or len(token) > 512:  # noqa: PLR2004 - longer than any of ours
        raise CredentialInvalid("credential_invalid", "There is no bearer token in the request.")
    return token.strip()


async def identify(request: Request, registry: Registry) -> Caller:
    """Find out who calls. Raises CredentialInvalid, and Refused for an attempt token, which is nobody's identity."""
    token = bearer(request)
    if token.startswith(PREFIX):
        await request.app.state.backend.callbacks.authenticate(token)
        raise Refused(
            "scope_denied",
            "An attempt token opens nothing here.",
            next_step="It is for POST /api/executions/callback, and for PUT and GET of artifacts of its own task.",
        )
    found = await registry.credential(hashlib.sha256(token.encode()).digest())
    if found is None:
        raise CredentialInvalid("credential_invalid", "The token is not known.")
    if not found.valid:
        raise CredentialInvalid("token_expired", "The token was revoked or has expired.")
    participant = await registry.participant(found.principal.name)
    return Caller(principal=found.principal, roles=participant.roles)


def require(role: str) -> Callable[[Request], Awaitable[Caller]]:
    """Make a dependency that lets in only people with this role."""

    async def check(request: Request) -> Caller:
        caller = await identify(request, request.app.state.backend.registry)
        if caller.principal.kind == "executor":
            raise Refused(
                "scope_denied",
                "An executor's credential opens nothing here.",
                next_step="Executors write through POST /api/executions/callback, and read their own briefs.",
            )
        if role not in caller.roles:
            raise Refused(
                "scope_denied",
                f"This needs the role {role}.",
                next_step=f"Ask an administrator for a token with the role {role}.",
            )
        return caller

    return check
