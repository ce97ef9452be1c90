"""Facts about a task as a whole: how it came in, what policy said of it, and how people and the system steer it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from agentic_os.domain.documents import Budget, Criterion, JsonObject, Mode, Priority, Risk
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
class TaskHeld:
    """No attempt is opened until the hold is released. `cause`: an operator's word, or what the system noticed."""

    reason: str
    by: str
    cause: Literal["operator", "no_progress", "breaker", "tool"]
    type: Literal["task.held"] = "task.held"


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldReleased:
    """All holds of the task were released."""

    reason: str
    by: str
    type: Literal["hold.released"] = "hold.released"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryReleased:
    """The task may be tried again: its waiting time is over, or an operator said so."""

    reason: str
    fresh: bool
    type: Literal["retry.released"] = "retry.released"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReprioritised:
    """An operator said anew how soon the task should get what it waits for."""

    priority: Priority
    by: str
    reason: str
    type: Literal["task.reprioritised"] = "task.reprioritised"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeTightened:
    """From here on nothing is executed without an approved plan, whatever the task was let in under."""

    by: str
    reason: str
    type: Literal["mode.tightened"] = "mode.tightened"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteTaken:
    """A person left a remark for whoever works on the task next. It decides nothing."""

    note_id: str
    by: str
    text: str
    type: Literal["note.taken"] = "note.taken"


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
