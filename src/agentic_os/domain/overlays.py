"""What lies over any phase: a start that is to come, a due date, freezes of policy, and breakers."""

from datetime import UTC, datetime
from typing import Final

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.task import Freeze, Task

TASK: Final = "task"
"""The reference of the deadlines that a task has once."""

_IDLE: Final = frozenset({"ready", "retry_wait"})
"""The phases in which nothing runs and nobody is asked, so that an operator can be without stopping anybody."""


def begin(command: c.FireDeadline, task: Task) -> list[e.Event]:
    """Let attempts be opened from now on."""
    if task.ended or not task.deferred or task.not_before is None or command.ref != TASK:
        return []
    return [] if command.at < task.not_before else [e.StartReached(not_before=task.not_before)]


def overdue(command: c.FireDeadline, task: Task) -> list[e.Event]:
    """Say once that the task is late, and ask an operator where policy wants that and nothing runs."""
    if task.ended or task.overdue or task.due is None or command.ref != TASK or command.at < task.due:
        return []
    late = e.TaskOverdue(due=task.due, on_due=task.on_due)
    if task.on_due == "escalate" and task.phase in _IDLE:
        return [late, e.InputRequired(reason=overdue_reason(task.due))]
    return [late]


def overdue_reason(due: datetime) -> str:
    """Say why an operator is asked."""
    return f"It was due at {due.astimezone(UTC):%Y-%m-%d %H:%M} UTC, and policy wants an operator to decide."


def freeze(command: c.FreezeTask, task: Task) -> list[e.Event]:
    """Let no attempt be opened until then; another freeze takes the place of the one that stands."""
    wanted = Freeze(until=command.until, rule=command.rule, reason=command.reason)
    if task.ended or task.frozen == wanted:
        return []
    return [e.TaskFrozen(until=command.until, rule=command.rule, reason=command.reason)]


def thaw(command: c.ThawTask, task: Task) -> list[e.Event]:
    """End the freeze before its time."""
    if task.ended or task.frozen is None:
        return []
    return [e.TaskThawed(rule=task.frozen.rule, reason=command.reason, at=command.at)]


def freeze_ended(command: c.FireDeadline, task: Task) -> list[e.Event]:
    """End the freeze at its time."""
    frozen = task.frozen
    if task.ended or frozen is None or command.ref != frozen.rule or command.at < frozen.until:
        return []
    return [e.TaskThawed(rule=frozen.rule, reason="The freeze is over.", at=command.at)]


def trip(command: c.TripBreaker, task: Task) -> list[e.Event]:
    """Put a task on hold that was tried too often in a short time."""
    if task.phase != "ready" or any(h.cause == "breaker" for h in task.holds):
        return []
    reason = f"It had {command.attempts} attempts within {command.within_seconds} seconds, as many as policy allows."
    return [e.TaskHeld(reason=reason, by="system", cause="breaker")]
