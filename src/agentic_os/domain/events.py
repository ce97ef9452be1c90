"""Every fact that a task's stream may hold: the class is the stored form.

Names and fields here are what is in the log for ever. A changed meaning is a new type, or an upcaster
in postgres/codec.py; tests/golden/events keeps one stored example of each.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias

from agentic_os.domain.documents import (
    Artifact,
    Budget,
    Criterion,
    DeclineReason,
    Evidence,
    FailureClass,
    JsonObject,
    Mode,
    Option,
    Outcome,
    Priority,
    ReviewItem,
    Risk,
    Runtime,
    Step,
    Usage,
    Vote,
)
from agentic_os.domain.policy import Obligations


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCreated:
    """Somebody asked for work."""

    task_id: str
    title: str
    goal: str
    project: str
    acceptance: tuple[Criterion, ...]
    mode: Mode
    risk: Risk
    paths: tuple[str, ...]
    tools: tuple[str, ...]
    labels: tuple[str, ...]
    assignee: str | None
    depends_on: tuple[str, ...]
    budget: Budget
    priority: Priority
    due: datetime | None
    origin: str
    requester: str
    at: datetime
    type: Literal["task.created"] = "task.created"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputDeclared:
    """The result must carry an output that fits this JSON Schema."""

    output_schema: JsonObject
    type: Literal["output.declared"] = "output.declared"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskAllowed:
    """Policy let the task in, under these obligations. `facts` is the input that it decided on."""

    bundle: str
    rules: tuple[str, ...]
    reasons: tuple[str, ...]
    obligations: Obligations
    facts: JsonObject
    facts_digest: str
    type: Literal["task.allowed"] = "task.allowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDenied:
    """Policy refused the task."""

    bundle: str
    rules: tuple[str, ...]
    reasons: tuple[str, ...]
    facts: JsonObject
    facts_digest: str
    type: Literal["task.denied"] = "task.denied"


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchDenied:
    """Policy, asked again before dispatch, no longer lets the task run; a person must look."""

    bundle: str
    rules: tuple[str, ...]
    reasons: tuple[str, ...]
    facts: JsonObject
    facts_digest: str
    type: Literal["dispatch.denied"] = "dispatch.denied"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptOffered:
    """Attempt n was opened for one executor, with a sealed brief. `bundle` is the policy that was asked again."""

    attempt: int
    executor: str
    step: Step
    brief: JsonObject
    brief_digest: str
    bundle: str
    ack_deadline: datetime
    lease_seconds: int
    type: Literal["attempt.offered"] = "attempt.offered"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptAcked:
    """The executor took the attempt; each acknowledgement rotates the token to the next generation."""

    attempt: int
    seq: int
    callback_id: str
    lease_expires_at: datetime
    generation: int
    brief_digest: str
    skillset_digest: str
    runtime: Runtime
    workspace: str | None
    type: Literal["attempt.acked"] = "attempt.acked"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptDeclined:
    """The executor would not take the attempt."""

    attempt: int
    seq: int
    callback_id: str
    reason: DeclineReason
    detail: str | None
    type: Literal["attempt.declined"] = "attempt.declined"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRenewed:
    """The executor showed that it lives."""

    attempt: int
    seq: int
    callback_id: str
    lease_expires_at: datetime
    note: str | None
    type: Literal["lease.renewed"] = "lease.renewed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressReported:
    """The executor said how far it is. `permille` of the whole, where it said so."""

    attempt: int
    seq: int
    callback_id: str
    lease_expires_at: datetime
    message: str
    step_id: str | None
    permille: int | None
    at: datetime
    type: Literal["progress.reported"] = "progress.reported"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceAdded:
    """The executor reported a check while it worked."""

    attempt: int
    seq: int
    callback_id: str
    lease_expires_at: datetime
    evidence: Evidence
    type: Literal["evidence.added"] = "evidence.added"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRecorded:
    """The executor reported something that is kept with the task: which kind, and its body as it came."""

    attempt: int
    seq: int
    callback_id: str
    lease_expires_at: datetime
    kind: Literal["review", "checkpoint", "task_request", "tool_event", "handoff", "escalation"]
    body: JsonObject
    type: Literal["report.recorded"] = "report.recorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationRaised:
    """The executor asks a person. A blocking question closes its attempt: nobody's lease runs while a person thinks."""

    attempt: int
    seq: int
    callback_id: str
    lease_expires_at: datetime
    question_id: str
    question: str
    context: str
    options: tuple[Option, ...]
    default_option: str | None
    blocking: bool
    answer_deadline: datetime | None
    at: datetime
    type: Literal["escalation.raised"] = "escalation.raised"


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationAnswered:
    """A question was answered in these words. `defaulted`: by the executor's own default option, and by nobody."""

    question_id: str
    option: str | None
    text: str
    by: str
    defaulted: bool
    type: Literal["escalation.answered"] = "escalation.answered"


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalationTimedOut:
    """Nobody answered in time, and no default may stand in for an answer: the question goes on waiting."""

    question_id: str
    type: Literal["escalation.timed_out"] = "escalation.timed_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskHeld:
    """No attempt is opened until the hold is released. `cause`: an operator's word, or what the system noticed."""

    reason: str
    by: str
    cause: Literal["operator", "no_progress"]
    type: Literal["task.held"] = "task.held"


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldReleased:
    """All holds of the task were released."""

    reason: str
    by: str
    type: Literal["hold.released"] = "hold.released"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineAdopted:
    """An operator took a late plan or result in; what it leads to follows, as if it had come in time."""

    quarantine_id: str
    attempt: int
    kind: Literal["plan", "result"]
    by: str
    reason: str
    type: Literal["quarantine.adopted"] = "quarantine.adopted"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageBooked:
    """The executor said what it spent since its last callback."""

    attempt: int
    usage: Usage
    model: str | None
    type: Literal["usage.booked"] = "usage.booked"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSubmitted:
    """A plan awaits its gate; the attempt that made it is closed. `digest` leaves `responds_to` out."""

    attempt: int
    seq: int
    callback_id: str
    version: int
    digest: str
    executor: str
    plan: JsonObject
    review_deadline: datetime | None
    at: datetime
    type: Literal["plan.submitted"] = "plan.submitted"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanVoted:
    """A reviewer voted on exactly this plan, in these words."""

    version: int
    digest: str
    voter: str
    vote: Vote
    words: str
    type: Literal["plan.voted"] = "plan.voted"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanApproved:
    """The approvals were consumed into one authorisation of exactly this plan under this bundle."""

    version: int
    digest: str
    approvers: tuple[str, ...]
    bundle: str
    defaulted: bool
    type: Literal["plan.approved"] = "plan.approved"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanReturned:
    """A revision was asked for; each item must be answered by the next plan."""

    version: int
    digest: str
    items: tuple[ReviewItem, ...]
    capped: bool
    type: Literal["plan.returned"] = "plan.returned"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRejected:
    """A reviewer ended the task by refusing its plan."""

    version: int
    digest: str
    by: str
    reason: str
    type: Literal["plan.rejected"] = "plan.rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewTimedOut:
    """Nobody decided in time. What happens then is policy's, and is never recorded as a person's act."""

    subject: Literal["plan", "result"]
    version: int
    digest: str
    outcome: Literal["block", "escalate", "proceed"]
    type: Literal["review.timed_out"] = "review.timed_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultSubmitted:
    """A result awaits its gate; the attempt is closed. Inline bytes have gone to the artifact store."""

    attempt: int
    seq: int
    callback_id: str
    version: int
    digest: str
    executor: str
    outcome: Outcome
    result: JsonObject
    evidence: tuple[Evidence, ...]
    artifacts: tuple[Artifact, ...]
    review_deadline: datetime | None
    at: datetime
    type: Literal["result.submitted"] = "result.submitted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultVoted:
    """A reviewer voted on exactly this result, in these words."""

    version: int
    digest: str
    voter: str
    vote: Vote
    words: str
    type: Literal["result.voted"] = "result.voted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultReturned:
    """Rework was asked for; each item must be answered by the next result."""

    version: int
    digest: str
    items: tuple[ReviewItem, ...]
    capped: bool
    type: Literal["result.returned"] = "result.returned"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRejected:
    """A reviewer ended the task by refusing its result."""

    version: int
    digest: str
    by: str
    reason: str
    type: Literal["result.rejected"] = "result.rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCompleted:
    """The result was accepted: by whom, or by nobody where policy asks for no review and the evidence suffices."""

    version: int
    digest: str
    accepted_by: tuple[str, ...]
    type: Literal["task.completed"] = "task.completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed:
    """The executor gave up, with a class; `retry_at` is None when the task will not be retried by itself."""

    attempt: int
    seq: int
    callback_id: str
    failure: FailureClass
    message: str
    retryable: bool
    retry_at: datetime | None
    type: Literal["attempt.failed"] = "attempt.failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptExpired:
    """The executor did not acknowledge, or fell silent, in time."""

    attempt: int
    what: Literal["ack", "lease"]
    retry_at: datetime | None
    type: Literal["attempt.expired"] = "attempt.expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSuperseded:
    """The attempt lost its right to write, because the task moved on without it."""

    attempt: int
    reason: str
    type: Literal["attempt.superseded"] = "attempt.superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryReleased:
    """The task may be tried again: its waiting time is over, or an operator said so."""

    reason: str
    fresh: bool
    type: Literal["retry.released"] = "retry.released"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReassigned:
    """An operator gave the task to another executor or role."""

    assignee: str | None
    reason: str
    type: Literal["task.reassigned"] = "task.reassigned"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRequired:
    """Only a person can move the task on."""

    reason: str
    type: Literal["input.required"] = "input.required"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDeadLettered:
    """The retries are used up; an operator may redrive it."""

    reason: str
    type: Literal["task.dead_lettered"] = "task.dead_lettered"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFailed:
    """The task ended without a result."""

    reason: str
    type: Literal["task.failed"] = "task.failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCancelled:
    """An operator called the task off."""

    reason: str
    by: str
    type: Literal["task.cancelled"] = "task.cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackQuarantined:
    """A plan or result came from an attempt that had already lost its right to write; it is kept aside."""

    quarantine_id: str
    attempt: int
    callback_id: str
    kind: Literal["plan", "result"]
    reason: str
    body: JsonObject
    at: datetime
    type: Literal["callback.quarantined"] = "callback.quarantined"


Event: TypeAlias = (
    TaskCreated
    | OutputDeclared
    | TaskAllowed
    | TaskDenied
    | DispatchDenied
    | AttemptOffered
    | AttemptAcked
    | AttemptDeclined
    | LeaseRenewed
    | ProgressReported
    | EvidenceAdded
    | ReportRecorded
    | EscalationRaised
    | EscalationAnswered
    | EscalationTimedOut
    | TaskHeld
    | HoldReleased
    | QuarantineAdopted
    | UsageBooked
    | PlanSubmitted
    | PlanVoted
    | PlanApproved
    | PlanReturned
    | PlanRejected
    | ReviewTimedOut
    | ResultSubmitted
    | ResultVoted
    | ResultReturned
    | ResultRejected
    | TaskCompleted
    | AttemptFailed
    | AttemptExpired
    | AttemptSuperseded
    | RetryReleased
    | TaskReassigned
    | InputRequired
    | TaskDeadLettered
    | TaskFailed
    | TaskCancelled
    | CallbackQuarantined
)

BY_SYSTEM: Final[frozenset[type]] = frozenset(
    {
        TaskAllowed,
        TaskDenied,
        DispatchDenied,
        AttemptOffered,
        AttemptExpired,
        AttemptSuperseded,
        PlanApproved,
        ReviewTimedOut,
        EscalationTimedOut,
        TaskCompleted,
        TaskDeadLettered,
        TaskFailed,
        InputRequired,
        CallbackQuarantined,
    }
)
"""Facts that the backend decides, whoever's act led to them: their actor is the system, their cause that act."""

QUIET: Final[frozenset[type]] = frozenset(
    {LeaseRenewed, ProgressReported, UsageBooked, ReportRecorded, EvidenceAdded}
)
"""Facts that change nothing that an issue shows or that the system must act on: they mark no task stale."""

SCHEMA_VERSION: Final = 1
