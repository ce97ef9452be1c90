"""Who calls back: an attempt by its token, or an executor by its own credential; and what each may say."""

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

from agentic_os.application.attempt_tokens import PREFIX, AttemptClaim, AttemptTokens
from agentic_os.application.ports import Principal, Registry
from agentic_os.contracts.canonical import JsonValue
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.task import Task

_OWN_KINDS: Final = frozenset({"ack", "decline"})


class CredentialInvalid(Exception):
    """The bearer is not a credential that was ever issued, or it no longer counts."""

    def __init__(self, code: Literal["credential_invalid", "token_expired"], message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who sent the callback: an attempt's token, or an executor's own credential."""

    principal: str
    claim: AttemptClaim | None = None
    executor: Principal | None = None
    credential: bytes | None = None
    valid: bool = True


async def identify(bearer: str, tokens: AttemptTokens, registry: Registry) -> Caller:
    """Find out whose credential it is. Raises CredentialInvalid for one that we never issued."""
    if bearer.startswith(PREFIX):
        claim = tokens.read(bearer)
        if claim is not None:
            return Caller(principal=f"attempt:{claim.task_id}:{claim.attempt}", claim=claim)
    else:
        found = await registry.credential(hashlib.sha256(bearer.encode()).digest())
        if found is not None and found.principal.kind == "executor":
            return Caller(
                principal=found.principal.id,
                executor=found.principal,
                credential=found.hash,
                valid=found.valid,
            )
        if found is not None:
            raise Rejected(
                "scope_denied", "Only an executor's credential may call back.", next_step="Use it."
            )
    raise CredentialInvalid("credential_invalid", "The credential is not known.")


def require_scope(caller: Caller, document: JsonValue) -> None:
    """Hold a credential to its task, attempt and kinds, before anything else of the content is judged."""
    if not isinstance(document, dict):
        return
    kind = document.get("kind")
    if caller.claim is None:
        if isinstance(kind, str) and kind not in _OWN_KINDS:
            raise Rejected(
                "scope_denied",
                f"The executor's own credential may only ack and decline, not {kind[:40]}.",
                next_step="Use the attempt token from the answer to ack.",
            )
        return
    if kind in _OWN_KINDS:
        raise Rejected(
            "scope_denied",
            f"An attempt token may not {kind}.",
            next_step="Use the executor's own credential.",
        )
    task_id, attempt = document.get("task_id"), document.get("attempt")
    if (isinstance(task_id, str) and task_id != caller.claim.task_id) or (
        isinstance(attempt, int) and attempt != caller.claim.attempt
    ):
        raise Rejected(
            "scope_denied",
            "This token is for another task or attempt.",
            next_step="Use the token that the ack of this attempt answered.",
        )


def require_valid(caller: Caller) -> None:
    """Refuse a credential that was revoked, or has expired."""
    if not caller.valid:
        raise CredentialInvalid("token_expired", "The credential was revoked or has expired.")


def executor_of(caller: Caller, task: Task | None) -> str:
    """Name who acts: the holder of the credential, or the executor that the attempt token was minted for."""
    if caller.executor is not None:
        return caller.executor.name
    assert caller.claim is not None
    attempts = {a.number: a.executor for a in task.past} if task else {}
    if task and task.attempt:
        attempts[task.attempt.number] = task.attempt.executor
    return attempts.get(caller.claim.attempt, "")
