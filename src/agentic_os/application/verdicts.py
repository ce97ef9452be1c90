"""What policy is asked about a task as such."""

from typing import Any

from agentic_os.contracts.canonical import digest_of
from agentic_os.domain import commands as c
from agentic_os.domain.policy import DecisionPoint
from agentic_os.domain.task import Task


def facts_of(task: Task) -> dict[str, Any]:
    """Give policy's declared input for a task."""
    return {
        "task.project": task.project,
        "task.risk": task.risk,
        "task.mode": task.mode,
        "task.paths": list(task.paths),
        "task.tools": list(task.tools),
        "task.labels": list(task.labels),
        "task.requester": task.requester,
        "task.assignee": task.assignee,
    }


def admission(task: Task, policy: DecisionPoint) -> c.AdmitTask:
    """Ask policy about a received task."""
    facts = facts_of(task)
    return c.AdmitTask(verdict=policy.decide("task.received", facts), facts_digest=digest_of(facts))
