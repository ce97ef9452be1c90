"""The task: what its events amount to; how each fact changes it is in evolution/."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, TypeAlias

from agentic_os.domain.documents import (
    Attested,
    Budget,
    Criterion,
    Evidence,
    JsonObject,
    Mode,
    Option,
    OurField,
    Outcome,
    Priority,
    ReviewItem,
    Risk,
    Step,
    Usage,
)
from agentic_os.domain.family import Child, Parentage, RefusedChild, Spending
from agentic_os.domain.policy import Obligations, Reviewers

Phase: TypeAlias = Literal[
    "received",
    "ready",
    "dispatched",
    "planning",
    "plan_review",
    "executing",
    "result_review",
    "input_required",
    "retry_wait",
    "dead_letter",
    "completed",
    "rejected",
    "cancelled",
    "failed",
]
AttemptState: TypeAlias = Literal[
    "offered", "acked", "running", "submitted", "declined", "failed", "expired", "superseded"
]

ENDS: Final[frozenset[Phase]] = frozenset({"completed", "rejected", "cancelled", "failed"})
OPEN: Final[frozenset[AttemptState]] = frozenset({"offered", "acked", "running"})

REVIEW_TRIES: Final = 2
"""How often one executor's review of one submission may come to nothing before it is not asked again."""

FOLD_VERSION: Final = 9
"""Raised whenever the shape or the meaning of the folded state changes, so that stored rows are folded again."""

REMEMBERED_DRIFTS: Final = 8
"""Of how many sets of skills an attempt puts on record that it was refused for them."""

REMEMBERED_NOTES: Final = 20
"""How many remarks of people a task keeps at hand; the oldest is forgotten first, though not by the history."""

REMEMBERED_REFUSALS: Final = 32
"""For how many refused callbacks of a task it is known what was booked; the oldest is forgotten first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What was reserved of an account for one attempt, and what the attempt has spent on it."""

    account: str
    amount: int
    spent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillDrift:
    """For which skills an acknowledgement was refused, by the digests of all of them."""

    expected: str
    found: str


@dataclass(frozen=True, kw_only=True)  # without slots, see changed
class Attempt:
    """One execution by one executor; `number` is the fence, `generation` counts its tokens, `seq` its callbacks.

    acked_at: of the first acknowledgement. held: the accounts that it falls under. extended: whether it got its one
    lease more after an outage. run_ended: when its run was seen to end. run_detail: what was seen of that. capable:
    whether its workspace has skills, and they were those that it must have. tier: of its executor when it was offered.
    drifts: for which skills it was not let in, the latest last.
    """

    number: int
    executor: str
    step: Step
    state: AttemptState
    brief_digest: str
    offered_in: int
    ack_deadline: datetime
    lease_seconds: int
    lease_expires_at: datetime | None = None
    generation: int = 0
    seq: int = 0
    last_callback: str = ""
    progress_at: datetime | None = None
    acked_at: datetime | None = None
    held: tuple[Held, ...] = ()
    extended: bool = False
    run_ended: datetime | None = None
    run_detail: str | None = None
    capable: bool = False
    tier: int | None = None
    drifts: tuple[SkillDrift, ...] = ()

    @property
    def is_open(self) -> bool:
        """Tell whether it may still write."""
        return self.state in OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedAttempt:
    """What is remembered of an attempt that is over; `offered_in` is the event that opened it."""

    number: int
    executor: str
    step: Step
    state: AttemptState
    accounts: tuple[str, ...] = ()
    offered_in: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spender:
    """What an executor has spent on a task, in all of its attempts, and the model that it named last."""

    usage: Usage
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetWait:
    """Which budget has nothing left for the next attempt, and when there is a new one."""

    scope: str
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exceeded:
    """A plan or result that was accepted although a limit was passed."""

    subject: Literal["plan", "result"]
    version: int
    passed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargedRefusal:
    """What was booked for a refused callback, so that it is not booked again when the callback is repeated."""

    attempt: int
    callback_id: str
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What an executor asked and nobody has answered yet. deadline: None once it has passed without a default.

    ask: the role of whoever may answer it.
    """

    id: str
    text: str
    options: tuple[Option, ...]
    default_option: str | None
    blocking: bool
    executor: str
    deadline: datetime | None
    ask: str = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of a question; it goes into every brief from then on."""

    question_id: str
    question: str
    option: str | None
    text: str
    by: str
    defaulted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Why no attempt is opened, and who wants it so; `placed_in` is the event that says so."""

    reason: str
    by: str
    cause: Literal["operator", "no_progress", "breaker", "tool"] = "operator"
    placed_in: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """Which rule of policy keeps attempts from being opened, until when, and why."""

    until: datetime
    rule: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What somebody changed on the issue lately that was not taken over."""

    field: str
    author: str
    value: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Which field of the issue is not put back, who changed it last, until when; `placed_in` is the first event of it.

    wanted: what the task wanted it to be; anything else is written all the same.
    """

    field: OurField
    author: str
    wanted: str
    until: datetime
    placed_in: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Handoff:
    """Data for the next executor of a role; `recorded_in` is the event that holds it."""

    to_role: str
    recorded_in: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """What a person wants whoever works on the task next to know; `taken_in` is the event that holds it."""

    id: str
    taken_in: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """A late plan or result that is kept aside; `kept_in` is the event that holds it."""

    id: str
    attempt: int
    kind: Literal["plan", "result"]
    kept_in: int
    adopted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A plan or a result: version, digest, author, the event that holds its document, and its approvals.

    replaces: the event that holds the version before, 0 for none. passed: executors whose review of it came to
    nothing, once for each time. escalated: why no further executor is asked to review it. tasks: how many children a
    plan asks for. obligations: what policy asks for this one, None where that is what it asks for its task.
    default_off: whether somebody wants it decided by people, whatever policy says of its deadline.
    stage: which stage of the review decides now, 0 for the first. answers_to: the review items that it had to answer.
    executor: who made the plan or result, or the plan that a person edited into this one. edited_by: that person, ""
    for nobody. edits: the digest of what they edited.
    """

    version: int
    digest: str
    state: Literal["open", "approved", "returned", "rejected", "withdrawn"]
    executor: str
    attempt: int
    submitted_in: int
    submitted_at: datetime
    review_deadline: datetime | None
    approvals: tuple[str, ...] = ()
    outcome: Outcome | None = None
    timed_out: bool = False
    replaces: int = 0
    passed: tuple[str, ...] = ()
    escalated: str = ""
    tasks: int = 0
    obligations: Obligations | None = None
    default_off: bool = False
    stage: int = 0
    answers_to: tuple[ReviewItem, ...] = ()
    edited_by: str = ""
    edits: str = ""

    @property
    def author(self) -> str:
        """Say who wrote exactly this version: an executor, or the person who edited it."""
        return self.edited_by or self.executor


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorisation:
    """The right to execute exactly one plan under one bundle; approvals were consumed into it."""

    digest: str
    version: int
    bundle: str
    approvers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What policy last decided about the task."""

    decision: Literal["allow", "deny"]
    rules: tuple[str, ...]
    reasons: tuple[str, ...]
    bundle: str


@dataclass(frozen=True, kw_only=True)  # without slots, see changed
class Task:
    """A task as its events have made it. `version` counts them.

    asked: how many questions there were. checkpoint_in: the event of the latest checkpoint, 0 for none. session: the
    latest executor's runtime session. stalled: class and words of the last failure, while nothing has come of the task
    since. setback: how the last attempt came to nothing, in words; "" once one has been taken since. charged: what the
    task has spent, by account. wall_spent: seconds of closed attempts, counted where they are limited. refused: the
    latest callbacks that were refused and booked. deferred: whether `not_before` is still to come. thawed_at: when its
    last freeze ended. must_escalate: whether it is overdue and an operator is still to be asked. counted_from: the
    attempt up to which a breaker counts none, since an operator released a hold after it. undecided: how many tasks of
    the approved plan are neither created nor refused yet. least_tier: what the next executor must at least be of,
    since one below failed; None for any.
    drifts: what others changed on the issue within the last hour, at most some for each field. pauses: the fields of
    the issue that are not put back for a while. editors: the people who edited one of its plans. spenders: who spent
    `spent`, by executor.
    """

    id: str
    version: int
    phase: Phase
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
    created_at: datetime
    ruling: Ruling | None = None
    obligations: Obligations = field(default_factory=Obligations)
    attempt: Attempt | None = None
    past: tuple[ClosedAttempt, ...] = ()
    plan: Submission | None = None
    result: Submission | None = None
    authorisation: Authorisation | None = None
    items: tuple[ReviewItem, ...] = ()
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    attested: tuple[Attested, ...] = ()
    artifacts: Mapping[str, int] = field(default_factory=dict)
    excluded: tuple[str, ...] = ()
    retries: Mapping[str, int] = field(default_factory=dict)
    revisions: int = 0
    reworks: int = 0
    replans: int = 0
    retry_at: datetime | None = None
    spent: Usage = field(default_factory=Usage)
    spenders: Mapping[str, Spender] = field(default_factory=dict)
    waits: str = ""
    quarantined: tuple[Quarantined, ...] = ()
    questions: tuple[Question, ...] = ()
    answers: tuple[Answer, ...] = ()
    asked: int = 0
    holds: tuple[Hold, ...] = ()
    checkpoint_in: int = 0
    session: str | None = None
    handoffs: tuple[Handoff, ...] = ()
    stalled: tuple[str, str] | None = None
    setback: str = ""
    output_schema: JsonObject | None = None
    charged: Mapping[str, int] = field(default_factory=dict)
    refused: tuple[ChargedRefusal, ...] = ()
    awaited: BudgetWait | None = None
    exceeded: tuple[Exceeded, ...] = ()
    wall_spent: int = 0
    not_before: datetime | None = None
    deferred: bool = False
    on_due: Literal["notify", "escalate"] = "notify"
    overdue: bool = False
    must_escalate: bool = False
    frozen: Freeze | None = None
    thawed_at: datetime | None = None
    counted_from: int = 0
    input: JsonObject | None = None
    parent: Parentage | None = None
    children: tuple[Child, ...] = ()
    refused_children: tuple[RefusedChild, ...] = ()
    undecided: int = 0
    denied: tuple[str, str, str] | None = None
    least_tier: int | None = None
    notes: tuple[Remark, ...] = ()
    drifts: tuple[Drift, ...] = ()
    pauses: tuple[Pause, ...] = ()
    editors: tuple[str, ...] = ()

    @property
    def kept_back(self) -> bool:
        """Tell whether something other than policy's verdict or capacity keeps attempts from being opened."""
        return bool(self.holds) or self.deferred or self.frozen is not None

    @property
    def ended(self) -> bool:
        """Tell whether nothing can happen to it any more."""
        return self.phase in ENDS

    @property
    def worked_attempts(self) -> int:
        """Count the attempts so far, but for those of reviewers."""
        reviews = sum(a.step == "review" for a in self.past)
        if self.attempt is None:
            return 0
        return self.attempt.number - reviews - (self.attempt.step == "review")

    @property
    def under_review(self) -> Submission | None:
        """Give the plan or result whose gate is open."""
        if self.phase == "plan_review":
            return self.plan
        return self.result if self.phase == "result_review" else None

    @property
    def required(self) -> Obligations:
        """Say what policy asks of what is under review now; of the task, where nothing is."""
        submission = self.under_review
        if submission is None or submission.obligations is None:
            return self.obligations
        return submission.obligations

    @property
    def deciding(self) -> Reviewers:
        """Say whose approvals the open stage of the review asks for; the first, where nothing is reviewed."""
        stages = self.required.in_order
        submission = self.under_review
        return stages[0 if submission is None else min(submission.stage, len(stages) - 1)]

    @property
    def missing_approvals(self) -> int:
        """Count the approvals that the open stage still lacks."""
        submission = self.under_review
        if submission is None:
            return 0
        agreed = sum(stage.quorum for stage in self.required.in_order[: submission.stage])
        return max(0, self.deciding.quorum - (len(submission.approvals) - agreed))

    @property
    def next_step(self) -> Step:
        """Say what the next attempt is for."""
        if self.phase in ("plan_review", "result_review"):
            return "review"
        return "plan" if self.mode == "plan_first" and self.authorisation is None else "execute"

    @property
    def lineage(self) -> frozenset[str]:
        """List the executors that took a plan or execute attempt of this task: none of them may review it."""
        held = {a.executor for a in self.past if a.state != "declined" and a.step != "review"}
        current = self.attempt
        if current is not None and current.state != "declined" and current.step != "review":
            held.add(current.executor)
        return frozenset(held)

    @property
    def depth(self) -> int:
        """Count the parents above it."""
        return self.parent.depth if self.parent else 0

    @property
    def awaited_children(self) -> tuple[Child, ...]:
        """List the open children that must end before its own execution begins."""
        return tuple(child for child in self.children if child.waited and child.state == "open")

    @property
    def committed(self) -> Spending:
        """Say what of its budget is gone: spent by it and its ended children, or reserved for the open ones."""
        cost, tokens = self.spent.cost_microusd, self.spent.input_tokens + self.spent.output_tokens
        for child in self.children:
            still_open = child.state == "open"
            cost += (child.reserved.cost_microusd or 0) if still_open else child.spent.cost_microusd
            tokens += (child.reserved.tokens or 0) if still_open else child.spent.tokens
        return Spending(cost_microusd=cost, tokens=tokens)
