"""Facts that lie over any phase: when a task may begin, when it should be done, and what policy has frozen."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class StartDeferred:
    """No attempt is to be opened before this instant."""

    not_before: datetime
    type: Literal["start.deferred"] = "start.deferred"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartReached:
    """The instant before which no attempt was to be opened has come."""

    not_before: datetime
    type: Literal["start.reached"] = "start.reached"


@dataclass(frozen=True, slots=True, kw_only=True)
class DueEscalates:
    """Policy wants an operator to decide about the task once its due date has passed. `rules`: which asked for it."""

    rules: tuple[str, ...]
    type: Literal["due.escalates"] = "due.escalates"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOverdue:
    """The task was not done when it was due. `on_due`: what policy wants of that."""

    due: datetime
    on_due: Literal["notify", "escalate"]
    type: Literal["task.overdue"] = "task.overdue"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFrozen:
    """No attempt is opened until then, by a freeze of the policy in force; what runs goes on."""

    until: datetime
    rule: str
    reason: str
    type: Literal["task.frozen"] = "task.frozen"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskThawed:
    """The freeze no longer holds for the task from this instant on: it has ended, or policy lifted it."""

    rule: str
    reason: str
    at: datetime
    type: Literal["task.thawed"] = "task.thawed"
