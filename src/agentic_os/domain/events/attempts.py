"""Facts about attempts: from the offer to the many ways in which one ends, and what came too late."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from agentic_os.domain.documents import (
    DeclineReason,
    Evidence,
    FailureClass,
    JsonObject,
    Runtime,
    Step,
    Usage,
)
from agentic_os.domain.policy import Then


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptOffered:
    """Attempt n was opened for one executor, with a sealed brief. `bundle` is the policy that was asked again.

    tier: of the executor at that time, None where nobody said.
    """

    attempt: int
    executor: str
    step: Step
    brief: JsonObject
    brief_digest: str
    bundle: str
    ack_deadline: datetime
    lease_seconds: int
    tier: int | None = None
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
class SkillsDrifted:
    """An acknowledgement was refused: the skills of the executor's workspace were not those in force.

    expected, found: the digests of the skills in force for the project, and of those that the executor has.
    """

    attempt: int
    executor: str
    expected: str
    found: str
    type: Literal["skills.drifted"] = "skills.drifted"


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
class EvidenceAttested:
    """A source that did none of the work reported a check. `subject_digest`: the result that it checked, if it said."""

    source: str
    evidence: Evidence
    subject_digest: str | None
    commit: str | None
    url: str | None
    at: datetime
    type: Literal["evidence.attested"] = "evidence.attested"


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
class UsageBooked:
    """The executor said what it spent since its last callback."""

    attempt: int
    usage: Usage
    model: str | None
    type: Literal["usage.booked"] = "usage.booked"


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
    """The executor did not acknowledge, or fell silent, in time; or its run ended, and it had reported nothing.

    detail: what was seen of the run that ended so.
    """

    attempt: int
    what: Literal["ack", "lease", "unreported"]
    retry_at: datetime | None
    detail: str | None = None
    type: Literal["attempt.expired"] = "attempt.expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRuled:
    """Rules of policy said what is to become of the task after this attempt. asked: by them; then: what was done."""

    attempt: int
    executor: str
    kind: str
    asked: Then
    then: Then
    rules: tuple[str, ...]
    type: Literal["attempt.ruled"] = "attempt.ruled"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSuperseded:
    """The attempt lost its right to write, because the task moved on without it."""

    attempt: int
    reason: str
    type: Literal["attempt.superseded"] = "attempt.superseded"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineAdopted:
    """An operator took a late plan or result in; what it leads to follows, as if it had come in time."""

    quarantine_id: str
    attempt: int
    kind: Literal["plan", "result"]
    by: str
    reason: str
    type: Literal["quarantine.adopted"] = "quarantine.adopted"
