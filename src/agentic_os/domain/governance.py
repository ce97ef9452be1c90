"""Facts about who may act and which policy is in force; each principal and the bundle have a stream of their own."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from agentic_os.domain.documents import JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class PrincipalRegistered:
    """Somebody got an identity; the credential itself is never in the log. workspace: where an executor works."""

    principal: str
    name: str
    kind: Literal["person", "executor", "system"]
    roles: tuple[str, ...]
    owner: str | None
    skills: str
    capacity: int | None
    workspace: str | None = None
    type: Literal["principal.registered"] = "principal.registered"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountLinked:
    """An account of a tracker was said to be this principal's."""

    principal: str
    control_plane: str
    account: str
    type: Literal["account.linked"] = "account.linked"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRegistered:
    """A source of independent evidence got an identity. `project`: the only one that it may attest, None for all."""

    principal: str
    project: str | None
    owner: str
    type: Literal["source.registered"] = "source.registered"


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialRotated:
    """A principal got a new credential, and all earlier ones ended; `generation` counts its credentials."""

    principal: str
    generation: int
    type: Literal["credential.rotated"] = "credential.rotated"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrincipalRevoked:
    """A principal may do nothing any more; its name is never given again."""

    principal: str
    type: Literal["principal.revoked"] = "principal.revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleApplied:
    """A policy came into force; the document is the whole of it. shadow: that of a policy on trial beside it.

    skills: the lock of the skills that came into force with it, as agentic_os.domain.skill_lock writes it.
    """

    bundle: str
    document: JsonObject
    shadow: JsonObject | None = None
    skills: JsonObject | None = None
    type: Literal["bundle.applied"] = "bundle.applied"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorPaused:
    """An executor was found paused on a tracker: nobody wakes it there, so it gets no work.

    author: the account of whoever did it, "" where the tracker does not say. detail: why, in the tracker's word.
    paused_at: when, as the tracker says.
    """

    executor: str
    control_plane: str
    account: str
    author: str
    detail: str
    paused_at: datetime
    type: Literal["executor.paused"] = "executor.paused"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorResumed:
    """An executor that was paused on a tracker is woken there again."""

    executor: str
    control_plane: str
    account: str
    author: str
    resumed_at: datetime
    type: Literal["executor.resumed"] = "executor.resumed"


RateName: TypeAlias = Literal["adoption", "task_request", "routine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerTripped:
    """As much came within a span as policy allows; there is no more before `until`.

    executor: whose breaker it is, None for one of all. attempts: how much. breaker: of what, None for an executor's
    attempts.
    """

    executor: str | None
    attempts: int
    within_seconds: int
    until: datetime
    breaker: RateName | None = None
    type: Literal["breaker.tripped"] = "breaker.tripped"


RegistryEvent: TypeAlias = (
    PrincipalRegistered
    | AccountLinked
    | SourceRegistered
    | CredentialRotated
    | PrincipalRevoked
    | BundleApplied
    | BreakerTripped
    | ExecutorPaused
    | ExecutorResumed
)
