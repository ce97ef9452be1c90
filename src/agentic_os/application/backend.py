"""What the edges are given: the system, put together."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agentic_os.application.attestations import Attestations
from agentic_os.application.callbacks import Callbacks
from agentic_os.application.credentials import Credentials
from agentic_os.application.decisions import DecisionLog
from agentic_os.application.directives import Directives
from agentic_os.application.dispatch import Dispatcher
from agentic_os.application.governing import Governing
from agentic_os.application.inbox import Inbox
from agentic_os.application.observations import ObservationLog
from agentic_os.application.pacing import PacedControlPlane
from agentic_os.application.plan_edits import PlanEdits
from agentic_os.application.ports import (
    ArtifactStore,
    EventLog,
    IssueBook,
    Registry,
    SkillsInForce,
    TaskList,
    WorkQueue,
)
from agentic_os.application.rates import Rates
from agentic_os.application.reconciler import Reconciler
from agentic_os.application.reconciliation import Reconciliation
from agentic_os.application.recorded_verdicts import Explanations
from agentic_os.application.signals import Signals
from agentic_os.application.simulation import Simulations
from agentic_os.domain.organisation import Organisation
from agentic_os.domain.policy import DecisionPoint


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOutcome:
    """What the verification of the history found; `problem` names the first broken link."""

    streams: int
    events: int
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """The system as the HTTP layer and the worker use it."""

    log: EventLog
    registry: Registry
    work: WorkQueue
    issues: IssueBook
    tasks: TaskList
    artifacts: ArtifactStore
    skills: SkillsInForce
    organisation: Callable[[], Organisation]
    policy: Callable[[], DecisionPoint]
    governing: Governing
    callbacks: Callbacks
    attestations: Attestations
    credentials: Credentials
    rates: Rates
    directives: Directives
    plan_edits: PlanEdits
    dispatcher: Dispatcher
    reconciler: Reconciler
    reconciliation: Reconciliation
    inbox: Inbox | None
    control_plane: PacedControlPlane | None
    signals: Signals
    verify: Callable[[], Awaitable[AuditOutcome]]
    rebuild: Callable[[], Awaitable[int]]
    ready: Callable[[], Awaitable[None]]
    extend_lapsed: Callable[[], Awaitable[int]]
    fingerprint: Callable[[bytes], bytes]
    note_refusal: Callable[[str, str], Awaitable[None]]
    decisions: DecisionLog
    observations: ObservationLog
    explanations: Explanations
    simulations: Simulations
    shadow: Callable[[], DecisionPoint | None]
