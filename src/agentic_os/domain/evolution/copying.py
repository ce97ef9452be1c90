"""Copies of what is folded."""

from dataclasses import replace
from typing import Any, TypeVar

from agentic_os.domain.task import Attempt, Task

_Folded = TypeVar("_Folded", "Task", "Attempt")


def changed(value: _Folded, **changes: Any) -> _Folded:
    """Copy a task or an attempt with some fields changed: dataclasses.replace, at a tenth of its cost."""
    copy = object.__new__(type(value))
    copy.__dict__.update(value.__dict__, **changes)
    return copy


def with_review(task: Task, **changes: Any) -> Task:
    """Change the plan or result whose gate is open; nothing where none is."""
    if task.under_review is None:
        return task
    submission = replace(task.under_review, **changes)
    return changed(task, plan=submission) if task.phase == "plan_review" else changed(task, result=submission)
