"""Every fact that a task's stream may hold: the class is the stored form.

Names and fields here are what is in the log for ever. A changed meaning is a new type, or an upcaster
in postgres/codec.py; tests/golden/events keeps one stored example of each.
"""

from typing import Final, TypeAlias

from agentic_os.domain.events.attempts import (
    AttemptAcked,
    AttemptDeclined,
    AttemptExpired,
    AttemptFailed,
    AttemptOffered,
    AttemptRuled,
    AttemptSuperseded,
    CallbackQuarantined,
    EvidenceAdded,
    EvidenceAttested,
    LeaseRenewed,
    ProgressReported,
    QuarantineAdopted,
    ReportRecorded,
    SkillsDrifted,
    UsageBooked,
)
from agentic_os.domain.events.budgets import (
    BudgetAwaited,
    BudgetExceeded,
    BudgetRenewed,
    BudgetReserved,
    RefusalCharged,
    WallTimeBooked,
    WallTimeExceeded,
)
from agentic_os.domain.events.children import (
    ChildAccepted,
    ChildEnded,
    ChildRefused,
    InputGiven,
    ParentDeclared,
)
from agentic_os.domain.events.gates import (
    DefaultSwitchedOff,
    PlanApproved,
    PlanEdited,
    PlanRejected,
    PlanReturned,
    PlanSubmitted,
    PlanVoted,
    ResultRejected,
    ResultReturned,
    ResultSubmitted,
    ResultVoted,
    ReviewEscalated,
    ReviewRequired,
    ReviewStageOpened,
    ReviewSubmitted,
    ReviewTimedOut,
    TaskCompleted,
)
from agentic_os.domain.events.intake import (
    DispatchDenied,
    HoldReleased,
    InputRequired,
    ModeTightened,
    NoteTaken,
    OutputDeclared,
    RetryReleased,
    TaskAllowed,
    TaskCancelled,
    TaskCreated,
    TaskDeadLettered,
    TaskDenied,
    TaskFailed,
    TaskHeld,
    TaskReassigned,
    TaskReprioritised,
)
from agentic_os.domain.events.issues import (
    FieldAdopted,
    FieldDrifted,
    FieldNoted,
    RepairsPaused,
    RepairsResumed,
)
from agentic_os.domain.events.leases import LeaseExtended, LeaseRenewedByRun, RunEnded
from agentic_os.domain.events.overlays import (
    DueEscalates,
    StartDeferred,
    StartReached,
    TaskFrozen,
    TaskOverdue,
    TaskThawed,
)
from agentic_os.domain.events.policy import DispatchAllowed, PolicyDecided, PolicyDiffered
from agentic_os.domain.events.questions import (
    EscalationAnswered,
    EscalationRaised,
    EscalationRouted,
    EscalationTimedOut,
)

__all__ = [
    "BY_SYSTEM",
    "QUIET",
    "SCHEMA_VERSION",
    "AttemptAcked",
    "AttemptDeclined",
    "AttemptExpired",
    "AttemptFailed",
    "AttemptOffered",
    "AttemptRuled",
    "AttemptSuperseded",
    "BudgetAwaited",
    "BudgetExceeded",
    "BudgetRenewed",
    "BudgetReserved",
    "CallbackQuarantined",
    "ChildAccepted",
    "ChildEnded",
    "ChildRefused",
    "DefaultSwitchedOff",
    "DispatchAllowed",
    "DispatchDenied",
    "DueEscalates",
    "EscalationAnswered",
    "EscalationRaised",
    "EscalationRouted",
    "EscalationTimedOut",
    "Event",
    "EvidenceAdded",
    "EvidenceAttested",
    "FieldAdopted",
    "FieldDrifted",
    "FieldNoted",
    "HoldReleased",
    "InputGiven",
    "InputRequired",
    "LeaseExtended",
    "LeaseRenewed",
    "LeaseRenewedByRun",
    "ModeTightened",
    "NoteTaken",
    "OutputDeclared",
    "ParentDeclared",
    "PlanApproved",
    "PlanEdited",
    "PlanRejected",
    "PlanReturned",
    "PlanSubmitted",
    "PlanVoted",
    "PolicyDecided",
    "PolicyDiffered",
    "ProgressReported",
    "QuarantineAdopted",
    "RefusalCharged",
    "RepairsPaused",
    "RepairsResumed",
    "ReportRecorded",
    "ResultRejected",
    "ResultReturned",
    "ResultSubmitted",
    "ResultVoted",
    "RetryReleased",
    "ReviewEscalated",
    "ReviewRequired",
    "ReviewStageOpened",
    "ReviewSubmitted",
    "ReviewTimedOut",
    "RunEnded",
    "SkillsDrifted",
    "StartDeferred",
    "StartReached",
    "TaskAllowed",
    "TaskCancelled",
    "TaskCompleted",
    "TaskCreated",
    "TaskDeadLettered",
    "TaskDenied",
    "TaskFailed",
    "TaskFrozen",
    "TaskHeld",
    "TaskOverdue",
    "TaskReassigned",
    "TaskReprioritised",
    "TaskThawed",
    "UsageBooked",
    "WallTimeBooked",
    "WallTimeExceeded",
]

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
    | EvidenceAttested
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
    | PlanEdited
    | PlanReturned
    | PlanRejected
    | ReviewSubmitted
    | ReviewEscalated
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
    | BudgetReserved
    | BudgetAwaited
    | BudgetRenewed
    | BudgetExceeded
    | RefusalCharged
    | WallTimeBooked
    | WallTimeExceeded
    | StartDeferred
    | StartReached
    | DueEscalates
    | TaskOverdue
    | TaskFrozen
    | TaskThawed
    | LeaseExtended
    | LeaseRenewedByRun
    | RunEnded
    | ParentDeclared
    | InputGiven
    | ChildAccepted
    | ChildRefused
    | ChildEnded
    | AttemptRuled
    | ReviewRequired
    | EscalationRouted
    | DefaultSwitchedOff
    | DispatchAllowed
    | PolicyDecided
    | PolicyDiffered
    | TaskReprioritised
    | ModeTightened
    | NoteTaken
    | ReviewStageOpened
    | FieldAdopted
    | FieldNoted
    | FieldDrifted
    | RepairsPaused
    | RepairsResumed
    | SkillsDrifted
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
        ReviewEscalated,
        ReviewTimedOut,
        EscalationTimedOut,
        TaskCompleted,
        TaskDeadLettered,
        TaskFailed,
        InputRequired,
        CallbackQuarantined,
        BudgetReserved,
        BudgetAwaited,
        BudgetRenewed,
        BudgetExceeded,
        WallTimeBooked,
        WallTimeExceeded,
        StartReached,
        DueEscalates,
        TaskOverdue,
        TaskFrozen,
        TaskThawed,
        LeaseExtended,
        LeaseRenewedByRun,
        RunEnded,
        ChildAccepted,
        ChildRefused,
        ChildEnded,
        AttemptRuled,
        ReviewRequired,
        ReviewStageOpened,
        EscalationRouted,
        DispatchAllowed,
        PolicyDecided,
        PolicyDiffered,
        RepairsPaused,
        SkillsDrifted,
    }
)
"""Facts that the backend decides, whoever's act led to them: their actor is the system, their cause that act."""

QUIET: Final[frozenset[type]] = frozenset(
    {
        LeaseRenewed,
        ProgressReported,
        UsageBooked,
        ReportRecorded,
        EvidenceAdded,
        BudgetAwaited,
        RefusalCharged,
        LeaseRenewedByRun,
        RunEnded,
        DispatchAllowed,
        PolicyDecided,
        PolicyDiffered,
        FieldNoted,
    }
)
"""Facts that change nothing that an issue shows or that the system must act on: they mark no task stale."""

SCHEMA_VERSION: Final = 1
