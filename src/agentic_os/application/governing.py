"""The bundle in force: applied without a restart, and followed by every other process on the same database."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import structlog

from agentic_os.application.ports import AppliedBundle, Registry, WorkQueue
from agentic_os.domain.documents import JsonObject
from agentic_os.domain.organisation import Organisation
from agentic_os.domain.policy import DecisionPoint
from agentic_os.domain.shadow import Shadowed
from agentic_os.domain.skill_lock import LockedSet, SkillLock, read_lock
from agentic_os.domain.skill_set import InvalidSkill
from agentic_os.domain.workspaces import WAIT as SKILLS

log = structlog.get_logger()

_DEPENDS_ON_POLICY: Final = ("budget:", "capacity:", "executor", "breaker:", SKILLS)
"""What waiting tasks may go on now that another bundle is in force: its limits, roles and denials differ."""


class BundleInvalid(Exception):
    """What should become the bundle cannot be read as one: file:line, what is wrong, what would be right."""


class Bundle(Protocol):
    """A policy and an organisation, the document that they were read from, and a policy on trial beside them."""

    @property
    def policy(self) -> DecisionPoint:
        """Give the policy; it knows the digest of the document."""
        ...

    @property
    def organisation(self) -> Organisation:
        """Give the organisation."""
        ...

    @property
    def document(self) -> Mapping[str, Any]:
        """Give all of it as it is stored."""
        ...

    @property
    def shadow(self) -> "Bundle | None":
        """Give what is on trial, of which only the policy and the document count."""
        ...


@dataclass(slots=True)
class InForce:
    """What every decision of this process reads. version: that of the bundle's stream, 0 before anything is known.

    shadow: a policy that is asked beside the one in force, and only noted where it differs. skills: the lock in force.
    """

    policy: DecisionPoint
    organisation: Organisation = field(default_factory=Organisation)
    version: int = 0
    shadow: DecisionPoint | None = None
    skills: SkillLock = field(
        default_factory=lambda: SkillLock(text=None, others=LockedSet(), projects={}),
    )

    def asked(self) -> DecisionPoint:
        """Give what decisions ask: the policy in force, with the one on trial in its shadow."""
        return self.policy if self.shadow is None else Shadowed(in_force=self.policy, shadow=self.shadow)


class Governing:
    """Puts bundles in force. texts, stored: the loader, of the files' texts and of a stored document.

    skills: what holds a lock that came to the text of its skills.yaml; both None for the package's own definition.
    """

    def __init__(
        self,
        *,
        in_force: InForce,
        registry: Registry,
        work: WorkQueue,
        texts: Callable[[Mapping[str, str]], Bundle],
        stored: Callable[[JsonObject], Bundle],
        skills: Callable[[str | None, JsonObject | None], SkillLock],
        wake: Callable[[], None],
    ) -> None:
        self._in_force = in_force
        self._registry = registry
        self._work = work
        self._texts = texts
        self._stored = stored
        self._skills = skills
        self._wake = wake

    async def read(self, documents: Mapping[str, str]) -> Bundle:
        """Load the texts of a governance folder, by file name, beside the loop. Raises BundleInvalid."""
        return await asyncio.to_thread(self._texts, documents)

    async def read_skills(self, text: str | None, lock: JsonObject | None) -> SkillLock:
        """Hold a lock to the text of a skills.yaml; without both give the package's. Raises BundleInvalid."""
        return await asyncio.to_thread(self._skills, text, lock)

    async def apply(
        self, bundle: Bundle, actor: str, reason: str, *, skills: SkillLock | None = None
    ) -> bool:
        """Record the bundle and put it in force; False, and nothing recorded, when it is in force already.

        skills: those that come into force with it; None keeps the ones that are.
        """
        recorded = await self._registry.record_bundle(
            bundle.policy.bundle,
            bundle.document,
            actor,
            reason,
            shadow=None if bundle.shadow is None else dict(bundle.shadow.document),
            skills=(skills or self._in_force.skills).as_json(),
        )
        await self.follow(bundle)
        if recorded:
            for what in _DEPENDS_ON_POLICY:
                await self._work.mark_waiting(what)
            self._wake()
        return recorded

    async def renew_skills(self, skills: SkillLock, actor: str, reason: str) -> bool:
        """Record what is in force again, with other skills. Raises BundleInvalid."""
        applied = await self.current()
        if applied is None:
            return False
        recorded = await self._registry.record_bundle(
            applied.bundle,
            applied.document,
            actor,
            reason,
            shadow=applied.shadow,
            skills=skills.as_json(),
        )
        await self.follow()
        return recorded

    async def current(self) -> AppliedBundle | None:
        """Give what was applied last; None where nothing ever was."""
        return await self._registry.applied_bundle()

    async def named(self, digest: str) -> AppliedBundle | None:
        """Find a bundle that was applied at any time, as verdicts name it; the last time it was, of several."""
        return await self._registry.bundle_named(digest)

    async def follow(self, known: Bundle | None = None) -> bool:
        """Take over what was applied last, if this process has not; tell whether anything ever was.

        known: a bundle that is read already. Raises BundleInvalid for one that this version cannot read.
        """
        in_force = self._in_force
        applied = await self._registry.applied_bundle(after=in_force.version)
        if applied is None:
            return in_force.version > 0
        if known is None or known.policy.bundle != applied.bundle:
            try:
                known = await asyncio.to_thread(self._stored, applied.document)
            except BundleInvalid:
                in_force.version = max(in_force.version, applied.version)  # it is no other the next time
                raise
        shadow, skills = await self._shadow(applied, known), self._locked(applied)
        if applied.version > in_force.version:  # else a later one was taken over meanwhile
            in_force.policy, in_force.organisation, in_force.shadow = (
                known.policy,
                known.organisation,
                shadow,
            )
            in_force.skills = skills
            in_force.version = applied.version
        return True

    def _locked(self, applied: AppliedBundle) -> SkillLock:
        """Read the skills of a bundle; one that was applied before there were any leaves those that are in force."""
        if applied.skills is None:
            return self._in_force.skills
        try:
            return read_lock(applied.skills)
        except InvalidSkill as problem:
            self._in_force.version = max(self._in_force.version, applied.version)
            raise BundleInvalid(f"its skills: {problem}") from problem

    async def _shadow(self, applied: AppliedBundle, known: Bundle) -> DecisionPoint | None:
        """Read the policy on trial, which, decisive for nothing, must keep no bundle from being followed."""
        if applied.shadow is None:
            return None
        if known.shadow is not None and known.shadow.document == applied.shadow:
            return known.shadow.policy
        try:
            return (await asyncio.to_thread(self._stored, applied.shadow)).policy
        except BundleInvalid as problem:
            log.error("the policy on trial cannot be read here", problem=str(problem))  # noqa: TRY400 - it says where
            return None

    async def keep_up(self, seen: int | None = None) -> None:
        """Follow, and keep what is in force where what was applied cannot be read.

        seen: the version of the bundle's stream, where somebody looked already.
        """
        if seen is not None and seen <= self._in_force.version:
            return
        try:
            await self.follow()
        except BundleInvalid as problem:
            log.error("the bundle that was applied last cannot be read here", problem=str(problem))  # noqa: TRY400 - it says where
