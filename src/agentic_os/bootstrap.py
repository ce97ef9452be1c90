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


def _join(parts: Parts, pool: Pool) -> Backend:
    signals = Signals()
    event_log = PostgresEventLog(pool)
    in_force = InForce(
        policy=parts.policy,
        organisation=parts.organisation,
        shadow=parts.shadow,
        skills=lock(parts.skills),
    )
    policy = in_force.asked

    def organisation() -> Organisation:
        return in_force.organisation

    def skills() -> SkillLock:
        return in_force.skills

    tracker = parts.control_plane.name if parts.control_plane is not None else None
    registry = PostgresRegistry(pool, organisation, tracker)
    agents = PostgresAgentBook(pool, tracker)
    work = PostgresWorkQueue(pool)
    issues = PostgresIssueBook(pool)
    costs = PostgresCostBook(pool)
    artifacts = ArtifactDirectory(parts.artifacts)
    tokens = AttemptTokens(parts.server_key)
    plane = PacedControlPlane(parts.control_plane) if parts.control_plane is not None else None
    task_list = PostgresTaskList(pool)
    book, source_secrets = PostgresCredentials(pool), SourceSecrets(parts.server_key)

    breakers = RateBreakers(registry=registry, work=work, policy=policy)
    decisions = PostgresDecisions(pool)
    governing = _governing(in_force, registry, work, signals)
    explanations = Explanations(decisions=decisions, log=event_log, governing=governing, read=recorded_policy)
    directives = Directives(
        log=event_log,
        registry=registry,
        issues=issues,
        committed=signals.committed,
        policy=policy,
        reasons=Reasons(log=event_log, issues=issues, decisions=decisions, explanations=explanations),
    )
    plan_edits = PlanEdits(
        log=event_log,
        registry=registry,
        issues=issues,
        directives=directives,
        committed=signals.committed,
        policy=policy,
    )
    dispatcher = Dispatcher(
        log=event_log,
        registry=registry,
        agents=agents,
        work=work,
        policy=policy,
        terms=parts.terms or Terms(callback_url=parts.public_url + CALLBACK_PATH),
        committed=signals.committed,
        breakers=breakers,
        skills=skills,
        organisation=organisation,
    )
    return Backend(
        log=event_log,
        registry=registry,
        work=work,
        issues=issues,
        tasks=task_list,
        artifacts=artifacts,
        skills=skills,
        organisation=organisation,
        policy=policy,
        governing=governing,
        callbacks=Callbacks(
            log=event_log,
            registry=registry,
            tokens=tokens,
            skills=skills,
            holdings=Holdings(PostgresUploads(pool), artifacts),
            rates=parts.rates,
            breakers=breakers,
            committed=signals.committed,
            policy=policy,
            organisation=organisation,
            spent=spending_heard(work, signals, plane),
        ),
        attestations=Attestations(
            log=event_log,
            book=book,
            source_secrets=source_secrets,
            fingerprint=tokens.fingerprint,
            committed=signals.committed,
        ),
        credentials=Credentials(
            log=event_log,
            registry=registry,
            tasks=task_list,
            book=book,
            source_secrets=source_secrets,
            committed=signals.committed,
        ),
        rates=parts.rates,
        directives=directives,
        plan_edits=plan_edits,
        dispatcher=dispatcher,
        reconciler=Reconciler(
            log=event_log,
            registry=registry,
            work=work,
            issues=issues,
            costs=Costs(registry=registry, book=costs, control_plane=plane),
            dispatcher=dispatcher,
            control_plane=plane,
            artifacts=artifacts,
            public_url=parts.public_url,
            jitter=random.random,
        ),
        reconciliation=Reconciliation(
            log=event_log,
            registry=registry,
            work=work,
            issues=issues,
            costs=costs,
            control_plane=plane,
            skills=skills,
            organisation=organisation,
        ),
        inbox=None
        if plane is None
        else Inbox(
            log=event_log,
            registry=registry,
            agents=agents,
            issues=issues,
            work=work,
            directives=directives,
            plan_edits=plan_edits,
            control_plane=plane,
            policy=policy,
            committed=signals.committed,
            adoption=parts.adoption,
            breakers=breakers,
            public_url=parts.public_url,
        ),
        control_plane=plane,
        signals=signals,
        verify=lambda: _verify(pool),
        rebuild=lambda: rebuild(pool, lambda done: log.info("rebuilding", tasks=done)),
        ready=lambda: _ready(pool),
        extend_lapsed=lambda: extend_lapsed(event_log, work, signals.committed),
        fingerprint=tokens.fingerprint,
        note_refusal=PostgresSecurityLog(pool).note,
        decisions=decisions,
        explanations=explanations,
        simulations=Simulations(log=decisions, read=_read_policy),
        shadow=lambda: in_force.shadow,
    )


def _read_policy(policy: Sequence[tuple[str, str]], organisation: tuple[str, str] | None) -> DecisionPoint:
    try:
        return read_policy(policy, organisation)
    except GovernanceInvalid as problem:
        raise PolicyUnreadable(str(problem)) from problem


def _governing(
    in_force: InForce, registry: PostgresRegistry, work: PostgresWorkQueue, signals: Signals
) -> Governing:
    return Governing(
        in_force=in_force,
        registry=registry,
        work=work,
        texts=load_documents,
        stored=load_stored,
        skills=_read_skills,
        wake=signals.governed,
    )


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
