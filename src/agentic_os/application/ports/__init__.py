"""What the application needs of storage: values to write in one transaction, and the protocols to do it."""

from agentic_os.application.ports.agent_book import (
    AgentBook,
    AgentKnown,
)
from agentic_os.application.ports.artifact_store import (
    ArtifactStore,
)
from agentic_os.application.ports.cost_book import (
    CostBook,
    RefusedCost,
)
from agentic_os.application.ports.event_log import (
    Appended,
    Batch,
    Envelope,
    EventLog,
    Loaded,
    Moment,
    Movement,
    Progress,
    Receipt,
    Recorded,
    RegistryChange,
    SeqGuard,
    TaskChange,
)
from agentic_os.application.ports.failures import (
    AccountExhausted,
    CredentialRevoked,
    DigestMismatch,
    NameTaken,
    ReceiptMismatch,
    StorageFull,
    StoreUnavailable,
    TooLarge,
    VersionConflict,
)
from agentic_os.application.ports.issue_book import (
    DirectiveReceipt,
    InboxItem,
    IssueBook,
    IssueLink,
    TrackerState,
)
from agentic_os.application.ports.registry import (
    AppliedBundle,
    Credential,
    Principal,
    Registry,
    SkillsInForce,
)
from agentic_os.application.ports.task_list import (
    TaskList,
    TaskRow,
)
from agentic_os.application.ports.work_queue import (
    Backlog,
    BacklogItem,
    DueDeadline,
    Outlook,
    StaleMark,
    WorkQueue,
)

__all__ = [
    "AccountExhausted",
    "AgentBook",
    "AgentKnown",
    "Appended",
    "AppliedBundle",
    "ArtifactStore",
    "Backlog",
    "BacklogItem",
    "Batch",
    "CostBook",
    "Credential",
    "CredentialRevoked",
    "DigestMismatch",
    "DirectiveReceipt",
    "DueDeadline",
    "Envelope",
    "EventLog",
    "InboxItem",
    "IssueBook",
    "IssueLink",
    "Loaded",
    "Moment",
    "Movement",
    "NameTaken",
    "Outlook",
    "Principal",
    "Progress",
    "Receipt",
    "ReceiptMismatch",
    "Recorded",
    "RefusedCost",
    "Registry",
    "RegistryChange",
    "SeqGuard",
    "SkillsInForce",
    "StaleMark",
    "StorageFull",
    "StoreUnavailable",
    "TaskChange",
    "TaskList",
    "TaskRow",
    "TooLarge",
    "TrackerState",
    "VersionConflict",
    "WorkQueue",
]
