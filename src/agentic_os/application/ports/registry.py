"""Who is who, and which bundle is in force."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, TypeAlias

from agentic_os.domain.documents import JsonObject, Participant
from agentic_os.domain.executor_pauses import ExecutorPause
from agentic_os.domain.governance import BreakerTripped
from agentic_os.domain.skill_lock import SkillLock
from agentic_os.domain.workspaces import WorkspaceReport


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Anyone with an identity; the name is the id, and is never given to anybody else.

    workspace: the folder where an executor works, if it was told. hydrated: what is known of that folder's skills.
    capacity: how many attempts an executor may hold at once, None for any number. load: how many it holds.
    capabilities, tier: what the organisation says of an executor. pause: who paused it on the connected tracker.
    """

    id: str
    name: str
    kind: Literal["person", "executor", "system"]
    roles: tuple[str, ...]
    owner: str | None = None
    skills: Literal["required", "not-required"] = "required"
    capacity: int | None = None
    revoked: bool = False
    load: int = 0
    capabilities: tuple[str, ...] = ()
    tier: int | None = None
    workspace: str | None = None
    hydrated: WorkspaceReport | None = None
    pause: ExecutorPause | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A credential that is known, and whether it still counts."""

    principal: Principal
    hash: bytes
    valid: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedBundle:
    """A bundle that was put in force: by whom, why and when. version: that of the event in the bundle's stream.

    shadow: the document of the policy that is on trial beside it. skills: the lock of the skills in force with it, None
    where it was applied before skills were part of bundles.
    """

    version: int
    bundle: str
    document: JsonObject
    shadow: JsonObject | None = None
    skills: JsonObject | None = None
    actor: str
    reason: str
    at: datetime


class Registry(Protocol):
    """Who may act."""

    async def credential(self, digest: bytes) -> Credential | None:
        """Find a credential by its hash; None for one that was never issued."""
        ...

    async def add(
        self, principal: Principal, credential: bytes, expires_at: datetime | None, *, actor: str = "system"
    ) -> None:
        """Store a principal with its first credential. Raises NameTaken."""
        ...

    async def replace_credentials(self, name: str, credential: bytes, *, actor: str = "system") -> None:
        """Revoke all credentials of a principal, give it a new one of the same lifetime, and record that."""
        ...

    async def record_bundle(
        self,
        bundle: str,
        document: JsonObject,
        actor: str,
        reason: str = "started with it",
        *,
        shadow: JsonObject | None = None,
        skills: JsonObject | None = None,
    ) -> bool:
        """Record that a policy came into force, unless it is in force already, beside the same shadow and skills."""
        ...

    async def report_workspaces(self, reports: Sequence[WorkspaceReport]) -> None:
        """Store what was found in workspaces, in place of what was found before."""
        ...

    async def workspaces(self) -> Sequence[WorkspaceReport]:
        """List what is known of workspaces, by their paths."""
        ...

    async def bundle_named(self, digest: str) -> AppliedBundle | None:
        """Find a bundle that was applied at any time, by its digest."""
        ...

    async def applied_bundle(self, after: int = 0) -> AppliedBundle | None:
        """Give the bundle that was applied last; None for none after that version of the bundle's stream."""
        ...

    async def record_trip(self, trip: BreakerTripped) -> bool:
        """Record that a breaker tripped, unless it is known already that it holds so long."""
        ...

    async def by_name(self, name: str) -> Principal | None:
        """Find a principal by its name."""
        ...

    async def executor(self, name: str) -> Principal | None:
        """Find an executor by its name, with what the organisation says of it, but not how much it holds."""
        ...

    async def executors(self) -> Sequence[Principal]:
        """List the executors that were not revoked, by name."""
        ...

    async def without_credential(self) -> Sequence[str]:
        """List the executors that were not revoked and have no credential that counts."""
        ...

    async def participant(self, principal_id: str) -> Participant:
        """Describe a principal as the separation of duties sees it."""
        ...

    async def by_account(self, control_plane: str, account: str) -> Principal | None:
        """Find who is behind an account of a tracker."""
        ...

    async def account_of(self, control_plane: str, principal_id: str) -> str | None:
        """Find a principal's account on a tracker."""
        ...

    async def link(
        self, control_plane: str, account: str, principal_id: str, *, actor: str = "system"
    ) -> None:
        """Say that this account is that principal's."""
        ...


SkillsInForce: TypeAlias = Callable[[], SkillLock]
"""Gives the skills that are in force now."""
