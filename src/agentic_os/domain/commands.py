"""Every intent that a task may be given. Time, ids and digests arrive here; the decider draws none."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from agentic_os.domain.budgets import Amounts, Ceiling
from agentic_os.domain.documents import (
    Artifact,
    Attested,
    Budget,
    Criterion,
    DeclineReason,
    Evidence,
    FailureClass,
    JsonObject,
    Mode,
    Option,
    OurField,
    Outcome,
    Participant,
    Priority,
    Risk,
    Runtime,
    TheirField,
    Usage,
    Vote,
)
from agentic_os.domain.family import ChildEnd, Parentage, Spending
from agentic_os.domain.policy import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTask:
    """Ask for work."""

    task_id: str
    title: str
    goal: str
    project: str
    requester: str
    at: datetime
    acceptance: tuple[Criterion, ...] = ()
    mode: Mode = "direct"
    risk: Risk = "low"
    paths: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    assignee: str | None = None
    depends_on: tuple[str, ...] = ()
    budget: Budget = field(default_factory=Budget)
    priority: Priority = "medium"
    due: datetime | None = None
    origin: str = "api"
    output_schema: JsonObject | None = None
    not_before: datetime | None = None
    input: JsonObject | None = None
    parent: Parentage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmitTask:
    """Apply policy's verdict on a received task."""

    verdict: Verdict
    facts_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What policy says of something that a command brings, and the digest of the facts that it was asked about."""

    verdict: Verdict
    facts_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferAttempt:
    """Open attempt n for an executor under a verdict reached just now.

    ceilings: of the accounts that it falls under. allowance: what it is thought to need, where its task does not say.
    capabilities, tier: what the organisation says of the executor.
    """

    attempt: int
    executor: str
    brief: JsonObject
    brief_digest: str
    verdict: Verdict
    facts_digest: str
    ack_deadline: datetime
    lease_seconds: int
    ceilings: tuple[Ceiling, ...] = ()
    allowance: Amounts = field(default_factory=Amounts)
    capabilities: tuple[str, ...] = ()
    tier: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequireInput:
    """Ask for a person, because nobody and nothing else can move the task on."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalateReview:
    """Leave a review to people, because no executor can give one."""

    version: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitBudget:
    """Note that the budget of `scope` has nothing left for the next attempt; there is a new one at `until`, if ever."""

    scope: str
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeRefusal:
    """Book what a callback had spent that was refused with this code."""

    executor: str
    attempt: int
    callback_id: str
    kind: str
    code: str
    usage: Usage
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FromExecutor:
    """What every callback says: which attempt, its place in the order, and when it arrived.

    executor: who the credential belongs to. generation: of the attempt token, 0 for the executor's own credential.
    last_seq: the latest accepted one, where it is known better than by the events (progress is coalesced).
    """

    executor: str
    attempt: int
    seq: int
    callback_id: str
    at: datetime
    generation: int = 0
    last_seq: int = 0
    usage: Usage | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledge(FromExecutor):
    """Take the attempt, having read this brief with these skills; `expected_skillset` is what they should be."""

    brief_digest: str
    skillset_digest: str
    expected_skillset: str
    runtime: Runtime
    workspace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decline(FromExecutor):
    """Give the attempt back."""

    reason: DeclineReason
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(FromExecutor):
    """Show life."""

    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportProgress(FromExecutor):
    """Say how far the work is."""

    message: str
    step_id: str | None = None
    permille: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddEvidence(FromExecutor):
    """Report a check, already at its true rank."""

    evidence: Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(FromExecutor):
    """Keep a report with the task. faults: (pointer, what is wrong) of a payload that its receiver cannot take."""

    kind: Literal["checkpoint", "task_request", "tool_event", "handoff"]
    body: JsonObject
    faults: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One task that a task proposes, with the id that it gets if it is created, and what policy says of it."""

    child_id: str
    item: JsonObject
    verdict: Verdict
    facts_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTasks(Record):
    """Propose tasks while at work."""

    proposals: tuple[Proposal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateChildren:
    """Create the tasks of the approved plan of this version."""

    plan: int
    proposals: tuple[Proposal, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndChild:
    """Take note of a child's end, and of what it spent."""

    child_id: str
    phase: ChildEnd
    spent: Spending


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitReview(FromExecutor):
    """Vote as an executor that was asked to; items and their ids as in CastVote."""

    subject: Literal["plan", "result"]
    digest: str
    vote: Vote
    summary: str
    items: tuple[str, ...] = ()
    item_ids: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalate(FromExecutor):
    """Ask a person. ruling: on escalation.raised."""

    question: str
    blocking: bool
    context: str = ""
    options: tuple[Option, ...] = ()
    default_option: str | None = None
    ruling: Ruling | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitPlan(FromExecutor):
    """Hand in a plan. answers: the ids of the review items that it responds to. ruling: on plan.submitted."""

    digest: str
    plan: JsonObject
    answers: frozenset[str] = frozenset()
    ruling: Ruling | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitResult(FromExecutor):
    """Hand in a result; evidence at its true rank, artifacts already stored, versions still to be counted.

    output_faults: (pointer, what is wrong) of an output that does not fit the task's schema. ruling: on
    result.submitted.
    """

    digest: str
    outcome: Outcome
    result: JsonObject
    evidence: tuple[Evidence, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    answers: frozenset[str] = frozenset()
    output_faults: tuple[tuple[str, str], ...] = ()
    ruling: Ruling | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFailure(FromExecutor):
    """Give up. `jitter` in [0, 1) spreads the retries; it is drawn at the edge. ruling: on attempt.ended."""

    failure: FailureClass
    message: str
    retryable: bool
    retry_after_seconds: int | None = None
    jitter: float = 0.0
    ruling: Ruling | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """Keep aside what came too late."""

    quarantine_id: str
    attempt: int
    callback_id: str
    kind: Literal["plan", "result"]
    reason: str
    body: JsonObject
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopt:
    """Take in what was kept aside; `late` is the submission, read again as if it had come in time."""

    quarantine_id: str
    by: str
    reason: str
    late: SubmitPlan | SubmitResult


@dataclass(frozen=True, slots=True, kw_only=True)
class CastVote:
    """Approve, revise or reject what is under review.

    version, digest: what the voter names (a digest may be its first characters); None where they named nothing,
    which only an approval must not, unless policy allows it and `seen_at` is after the submission.
    item_ids: drawn at the edge, one for each item of a revision.
    """

    subject: Literal["plan", "result"]
    voter: Participant
    vote: Vote
    words: str
    version: int | None
    digest: str | None
    seen_at: datetime
    items: tuple[str, ...] = ()
    item_ids: tuple[str, ...] = ()
    bundle: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EditPlan:
    """Put a person's own version in the place of the plan under review. ruling: on plan.submitted.

    replaces: the digest of the version that they edited. digest: of the new one.
    """

    by: Participant
    replaces: str
    plan: JsonObject
    digest: str
    at: datetime
    ruling: Ruling | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Call the task off."""

    by: str
    reason: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Send a task on that waits for a retry, is dead-lettered, or needs input; `fresh` forgets its counts."""

    by: str
    reason: str
    fresh: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Answer a question of an executor, with one of its options or in words. roles: of whoever answers."""

    by: str
    question_id: str
    text: str
    roles: frozenset[str] = frozenset({"operator"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchOffDefault:
    """Have the review that is open decided by people, whatever policy says of its deadline."""

    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PutOnHold:
    """Let no further attempt be opened."""

    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseHold:
    """Release every hold."""

    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reprioritise:
    """Say anew how soon the task should get what it waits for."""

    by: str
    priority: Priority
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TightenMode:
    """Have a plan approved before anything more is executed."""

    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeNote:
    """Keep a remark for whoever gets the next attempt. note_id: the same one is kept once."""

    note_id: str
    by: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reassign:
    """Give the task to another executor ("NAME") or role ("role:NAME")."""

    assignee: str | None
    reason: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attest:
    """Take in what an independent source says of a criterion."""

    attested: Attested
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceOff:
    """Take the open attempt from an executor that may no longer work, whatever it is doing."""

    executor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeBack:
    """Take an attempt back that its executor did not acknowledge and will not be woken for; it is no failure."""

    attempt: int
    executor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FireDeadline:
    """A deadline of this task has come. Firing one that no longer stands does nothing. ruling: on attempt.ended."""

    kind: str
    ref: str
    at: datetime
    jitter: float = 0.0
    ruling: Ruling | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordDenial:
    """Put on record what policy did not let in, of which nothing else is kept."""

    ruling: Ruling


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSkillDrift:
    """Put on record that an acknowledgement was refused because of its skills, by their digests."""

    attempt: int
    executor: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeTask:
    """A freeze of the policy in force holds for the task."""

    until: datetime
    rule: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ThawTask:
    """No freeze of the policy in force holds for the task any more."""

    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TripBreaker:
    """Stop a task that had more attempts in a span than policy allows."""

    attempts: int
    within_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendLease:
    """Nobody served from `since` to `at`, and the attempt's lease, or its time for the ack, lapsed meanwhile."""

    attempt: int
    since: datetime
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SeeRun:
    """The control plane saw the run of an attempt at `seen_at`; we hear of it at `at`. detail: how it ended."""

    attempt: int
    alive: bool
    seen_at: datetime
    at: datetime
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeeDrift:
    """Somebody else changed what is ours on the issue, to `value`, at `at`. author: a principal, or TRACKER:ACCOUNT.

    forced: nobody wanted it, such as an issue that its tracker has lost for work.
    """

    field: OurField
    author: str
    value: str
    at: datetime
    forced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptField:
    """Somebody changed what is theirs on the issue. permitted: whether they may steer the task."""

    field: TheirField
    value: str
    permitted: bool
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeRepairs:
    """Put back again what is not put back any more."""

    reason: str


ExecutorCommand: TypeAlias = (
    Acknowledge
    | Decline
    | Heartbeat
    | ReportProgress
    | AddEvidence
    | Record
    | RequestTasks
    | Escalate
    | SubmitPlan
    | SubmitResult
    | SubmitReview
    | ReportFailure
)

SteeringCommand: TypeAlias = (
    Cancel
    | Retry
    | Reassign
    | Answer
    | PutOnHold
    | ReleaseHold
    | FenceOff
    | SwitchOffDefault
    | Reprioritise
    | TightenMode
    | TakeNote
)

IssueCommand: TypeAlias = SeeDrift | AdoptField | ResumeRepairs
"""What is seen of the task's issue."""

NoticedCommand: TypeAlias = FreezeTask | ThawTask | TripBreaker | ExtendLease | SeeRun | TakeBack
"""What the system notices by itself."""

Command: TypeAlias = (
    CreateTask
    | AdmitTask
    | OfferAttempt
    | RequireInput
    | EscalateReview
    | CreateChildren
    | EndChild
    | ExecutorCommand
    | Quarantine
    | Adopt
    | CastVote
    | EditPlan
    | SteeringCommand
    | Attest
    | FireDeadline
    | AwaitBudget
    | ChargeRefusal
    | NoticedCommand
    | IssueCommand
    | RecordDenial
    | RecordSkillDrift
)
