"""Facts about plans and results, and about what was decided on them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from agentic_os.domain.documents import Artifact, Evidence, JsonObject, Outcome, ReviewItem, Vote
from agentic_os.domain.policy import Obligations, Reviewers


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
class PlanEdited:
    """A person rewrote the plan under review: its next version, which they are the author of, awaits the gate anew.

    replaces: the digest of the version that they rewrote.
    """

    version: int
    digest: str
    replaces: str
    author: str
    plan: JsonObject
    review_deadline: datetime | None
    at: datetime
    type: Literal["plan.edited"] = "plan.edited"


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
class ReviewSubmitted:
    """An executor that was asked to review did so; its attempt is closed. What its vote leads to follows."""

    attempt: int
    seq: int
    callback_id: str
    subject: Literal["plan", "result"]
    version: int
    digest: str
    executor: str
    vote: Vote
    summary: str
    items: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    at: datetime
    type: Literal["review.submitted"] = "review.submitted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewEscalated:
    """No further executor is asked to review this: a person must look."""

    subject: Literal["plan", "result"]
    version: int
    digest: str
    reason: str
    type: Literal["review.escalated"] = "review.escalated"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewRequired:
    """Policy asks more of this submission than of its task: `obligations` is what holds for it, the task's included."""

    subject: Literal["plan", "result"]
    version: int
    digest: str
    obligations: Obligations
    rules: tuple[str, ...]
    type: Literal["review.required"] = "review.required"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewStageOpened:
    """One stage of the review has agreed, so the next decides. `stage`: which that is, 2 for the second."""

    subject: Literal["plan", "result"]
    version: int
    digest: str
    stage: int
    reviewers: Reviewers
    type: Literal["review.stage_opened"] = "review.stage_opened"


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultSwitchedOff:
    """Somebody wants this review decided by people: when its deadline passes, it waits on."""

    subject: Literal["plan", "result"]
    version: int
    digest: str
    by: str
    reason: str
    type: Literal["review.default_off"] = "review.default_off"


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
