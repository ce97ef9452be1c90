"""The only place where implementations are chosen and joined; tests and production share it."""

import gc
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from agentic_os.application.attempt_tokens import AttemptTokens
from agentic_os.application.attestations import Attestations
from agentic_os.application.backend import AuditOutcome, Backend
from agentic_os.application.breakers import RateBreakers
from agentic_os.application.callbacks import Callbacks
from agentic_os.application.costs import Costs, spending_heard
from agentic_os.application.credentials import Credentials, SourceSecrets
from agentic_os.application.directives import Directives
from agentic_os.application.dispatch import Dispatcher, Terms
from agentic_os.application.governing import BundleInvalid, Governing, InForce
from agentic_os.application.holdings import Holdings
from agentic_os.application.inbox import Adoption, Inbox
from agentic_os.application.outage import extend_lapsed
from agentic_os.application.pacing import PacedControlPlane
from agentic_os.application.plan_edits import PlanEdits
from agentic_os.application.ports import StoreUnavailable
from agentic_os.application.rates import Rates
from agentic_os.application.reasons import Reasons
from agentic_os.application.reconciler import Reconciler
from agentic_os.application.reconciliation import Reconciliation
from agentic_os.application.recorded_verdicts import Explanations
from agentic_os.application.signals import Signals
from agentic_os.application.simulation import PolicyUnreadable, Simulations
from agentic_os.artifact_directory import ArtifactDirectory
from agentic_os.control_plane import ControlPlane
from agentic_os.domain.documents import JsonObject
from agentic_os.domain.organisation import Organisation
from agentic_os.domain.policy import DecisionPoint
from agentic_os.domain.skill_lock import SkillLock, read_lock
from agentic_os.domain.skill_set import InvalidSkill
from agentic_os.governance import GovernanceInvalid, load_documents, load_stored, read_policy, recorded_policy
from agentic_os.hydration import (
    SKILLS,
    Definition,
    DefinitionError,
    hold_to,
    load_definition,
    lock,
    read_definition,
)
from agentic_os.postgres.agent_book import PostgresAgentBook
from agentic_os.postgres.audit import verify
from agentic_os.postgres.cost_book import PostgresCostBook
from agentic_os.postgres.credentials import PostgresCredentials
from agentic_os.postgres.decisions import PostgresDecisions
from agentic_os.postgres.event_log import PostgresEventLog
from agentic_os.postgres.issue_book import PostgresIssueBook
from agentic_os.postgres.observations import PostgresObservations
from agentic_os.postgres.pool import Pool
from agentic_os.postgres.rebuild import rebuild
from agentic_os.postgres.registry import PostgresRegistry
from agentic_os.postgres.security_log import PostgresSecurityLog
from agentic_os.postgres.task_list import PostgresTaskList
from agentic_os.postgres.uploads import PostgresUploads
from agentic_os.postgres.work_queue import PostgresWorkQueue

log = structlog.get_logger()

CALLBACK_PATH: Final = "/api/executions/callback"
_YOUNG: Final = (20_000, 20, 50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a backend is made of. server_key: 32 bytes. public_url: what links and briefs are built from.

    policy, organisation, shadow: what is in force, and on trial, until a bundle is applied or followed.
    """

    dsn: str
    server_key: bytes
    artifacts: Path
    policy: DecisionPoint
    skills: Definition
    public_url: str
    control_plane: ControlPlane | None = None
    terms: Terms | None = None
    adoption: Adoption = field(default_factory=Adoption)
    rates: Rates = field(default_factory=Rates)
    organisation: Organisation = field(default_factory=Organisation)
    shadow: DecisionPoint | None = None


@asynccontextmanager
async def open_backend(parts: Parts) -> AsyncIterator[Backend]:
    """Join the parts, connected, and let go of them at the end."""
    pool = Pool(parts.dsn)
    await pool.open()
    try:
        yield _join(parts, pool)
    finally:
        await pool.close()
        if parts.control_plane is not None:
            await parts.control_plane.aclose()


def settle() -> None:
    """Tell the collector, once all is joined, that what is there now lives as long as the process.

    Looking at it again and again would be a sixth of each request; and what a request makes, it also lets go of,
    so the young are looked at less often as well.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_YOUNG)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ground:
    """What nearly every part stands on: the stores over one pool, what is in force, the tracker, whom to tell."""

    in_force: InForce
    signals: Signals
    log: PostgresEventLog
    registry: PostgresRegistry
    agents: PostgresAgentBook
    work: PostgresWorkQueue
    issues: PostgresIssueBook
    costs: PostgresCostBook
    decisions: PostgresDecisions
    observations: PostgresObservations
    tasks: PostgresTaskList
    artifacts: ArtifactDirectory
    plane: PacedControlPlane | None
    breakers: RateBreakers

    def organisation(self) -> Organisation:
        """Say which organisation is in force now."""
        return self.in_force.organisation

    def skills(self) -> SkillLock:
        """Say which skills are in force now."""
        return self.in_force.skills


def _ground(parts: Parts, pool: Pool) -> _Ground:
    in_force = InForce(
        policy=parts.policy,
        organisation=parts.organisation,
        shadow=parts.shadow,
        skills=lock(parts.skills),
    )
    tracker = parts.control_plane.name if parts.control_plane is not None else None
    registry = PostgresRegistry(pool, lambda: in_force.organisation, tracker)
    work = PostgresWorkQueue(pool)
    return _Ground(
        in_force=in_force,
        signals=Signals(),
        log=PostgresEventLog(pool),
        registry=registry,
        agents=PostgresAgentBook(pool, tracker),
        work=work,
        issues=PostgresIssueBook(pool),
        costs=PostgresCostBook(pool),
        decisions=PostgresDecisions(pool),
        observations=PostgresObservations(pool),
        tasks=PostgresTaskList(pool),
        artifacts=ArtifactDirectory(parts.artifacts),
        plane=PacedControlPlane(parts.control_plane) if parts.control_plane is not None else None,
        breakers=RateBreakers(registry=registry, work=work, policy=in_force.asked),
    )


def _join(parts: Parts, pool: Pool) -> Backend:
    ground = _ground(parts, pool)
    tokens, source_secrets = AttemptTokens(parts.server_key), SourceSecrets(parts.server_key)
    book = PostgresCredentials(pool)
    governing = _governing(ground)
    explanations = Explanations(
        decisions=ground.decisions, log=ground.log, governing=governing, read=recorded_policy
    )
    directives = _directives(ground, explanations)
    plan_edits = _plan_edits(ground, directives)
    dispatcher = _dispatcher(ground, parts)
    return Backend(
        log=ground.log,
        registry=ground.registry,
        work=ground.work,
        issues=ground.issues,
        tasks=ground.tasks,
        artifacts=ground.artifacts,
        skills=ground.skills,
        organisation=ground.organisation,
        policy=ground.in_force.asked,
        governing=governing,
        callbacks=_callbacks(ground, parts, tokens, Holdings(PostgresUploads(pool), ground.artifacts)),
        attestations=Attestations(
            log=ground.log,
            book=book,
            source_secrets=source_secrets,
            fingerprint=tokens.fingerprint,
            committed=ground.signals.committed,
        ),
        credentials=Credentials(
            log=ground.log,
            registry=ground.registry,
            tasks=ground.tasks,
            book=book,
            source_secrets=source_secrets,
            committed=ground.signals.committed,
        ),
        rates=parts.rates,
        directives=directives,
        plan_edits=plan_edits,
        dispatcher=dispatcher,
        reconciler=_reconciler(ground, dispatcher, parts),
        reconciliation=_reconciliation(ground),
        inbox=_inbox(ground, ground.plane, directives, plan_edits, parts) if ground.plane else None,
        control_plane=ground.plane,
        signals=ground.signals,
        verify=lambda: _verify(pool),
        rebuild=lambda: rebuild(pool, lambda done: log.info("rebuilding", tasks=done)),
        ready=lambda: _ready(pool),
        extend_lapsed=lambda: extend_lapsed(ground.log, ground.work, ground.signals.committed),
        fingerprint=tokens.fingerprint,
        note_refusal=PostgresSecurityLog(pool).note,
        decisions=ground.decisions,
        observations=ground.observations,
        explanations=explanations,
        simulations=Simulations(log=ground.decisions, read=_read_policy),
        shadow=lambda: ground.in_force.shadow,
    )


def _governing(ground: _Ground) -> Governing:
    return Governing(
        in_force=ground.in_force,
        registry=ground.registry,
        work=ground.work,
        texts=load_documents,
        stored=load_stored,
        skills=_read_skills,
        wake=ground.signals.governed,
    )


def _directives(ground: _Ground, explanations: Explanations) -> Directives:
    return Directives(
        log=ground.log,
        registry=ground.registry,
        issues=ground.issues,
        committed=ground.signals.committed,
        policy=ground.in_force.asked,
        reasons=Reasons(
            log=ground.log,
            work=ground.work,
            issues=ground.issues,
            decisions=ground.decisions,
            explanations=explanations,
        ),
    )


def _plan_edits(ground: _Ground, directives: Directives) -> PlanEdits:
    return PlanEdits(
        log=ground.log,
        registry=ground.registry,
        issues=ground.issues,
        directives=directives,
        committed=ground.signals.committed,
        policy=ground.in_force.asked,
    )


def _dispatcher(ground: _Ground, parts: Parts) -> Dispatcher:
    return Dispatcher(
        log=ground.log,
        registry=ground.registry,
        agents=ground.agents,
        work=ground.work,
        policy=ground.in_force.asked,
        terms=parts.terms or Terms(callback_url=parts.public_url + CALLBACK_PATH),
        committed=ground.signals.committed,
        breakers=ground.breakers,
        skills=ground.skills,
        organisation=ground.organisation,
    )


def _callbacks(ground: _Ground, parts: Parts, tokens: AttemptTokens, holdings: Holdings) -> Callbacks:
    return Callbacks(
        log=ground.log,
        registry=ground.registry,
        tokens=tokens,
        skills=ground.skills,
        holdings=holdings,
        rates=parts.rates,
        breakers=ground.breakers,
        committed=ground.signals.committed,
        policy=ground.in_force.asked,
        organisation=ground.organisation,
        spent=spending_heard(ground.work, ground.signals, ground.plane),
    )


def _reconciler(ground: _Ground, dispatcher: Dispatcher, parts: Parts) -> Reconciler:
    return Reconciler(
        log=ground.log,
        registry=ground.registry,
        work=ground.work,
        issues=ground.issues,
        costs=Costs(registry=ground.registry, book=ground.costs, control_plane=ground.plane),
        dispatcher=dispatcher,
        control_plane=ground.plane,
        artifacts=ground.artifacts,
        public_url=parts.public_url,
        jitter=random.random,
    )


def _reconciliation(ground: _Ground) -> Reconciliation:
    return Reconciliation(
        log=ground.log,
        registry=ground.registry,
        work=ground.work,
        issues=ground.issues,
        costs=ground.costs,
        observations=ground.observations,
        control_plane=ground.plane,
        skills=ground.skills,
        organisation=ground.organisation,
    )


def _inbox(
    ground: _Ground, plane: PacedControlPlane, directives: Directives, plan_edits: PlanEdits, parts: Parts
) -> Inbox:
    return Inbox(
        log=ground.log,
        registry=ground.registry,
        agents=ground.agents,
        issues=ground.issues,
        work=ground.work,
        directives=directives,
        plan_edits=plan_edits,
        control_plane=plane,
        policy=ground.in_force.asked,
        committed=ground.signals.committed,
        adoption=parts.adoption,
        breakers=ground.breakers,
        public_url=parts.public_url,
    )


def _read_policy(policy: Sequence[tuple[str, str]], organisation: tuple[str, str] | None) -> DecisionPoint:
    try:
        return read_policy(policy, organisation)
    except GovernanceInvalid as problem:
        raise PolicyUnreadable(str(problem)) from problem


def _read_skills(text: str | None, document: JsonObject | None) -> SkillLock:
    """Hold a lock to its text, since only whoever applies it has the folders; the package's own are here."""
    try:
        if text is None and document is None:
            return lock(load_definition(None))
        if text is None:
            raise BundleInvalid("the lock of skills comes with the text of its skills.yaml, or not at all")
        if document is None:
            read_definition(text, Path(SKILLS), elsewhere=True)
            raise BundleInvalid(
                f"{SKILLS}: comes with the lock of its skills, as `agentic-os apply` sends it"
            )
        found = read_lock(document)
        hold_to(found, text)
    except (DefinitionError, InvalidSkill) as problem:
        raise BundleInvalid(str(problem)) from problem
    return found


async def _verify(pool: Pool) -> AuditOutcome:
    report = await verify(pool)
    broken = report.broken
    problem = f"{broken.stream} version {broken.version}: {broken.reason}" if broken else None
    return AuditOutcome(streams=report.streams, events=report.events, problem=problem)


async def _ready(pool: Pool) -> None:
    async with pool.connection() as connection:
        if await (await connection.execute("select 1 from es.epoch")).fetchone() is None:
            raise StoreUnavailable("the event store has no epoch")
