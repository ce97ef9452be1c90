"""Tasks as they are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from agentic_os.domain.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """A task as the read model holds it."""

    task: Task
    updated_at: datetime


class TaskList(Protocol):
    """Queries over the read models."""

    async def one(self, task_id: str) -> TaskRow | None:
        """Find the row of a task."""
        ...

    async def page(
        self,
        *,
        phase: str | None = None,
        project: str | None = None,
        executor: str | None = None,
        text: str | None = None,
        ids: Sequence[str] | None = None,
        before: tuple[datetime, str] | None = None,
        limit: int = 50,
    ) -> Sequence[TaskRow]:
        """List tasks, the newest first, after the given (created_at, id); of `ids` only, where they are given."""
        ...

    async def artifact(self, digest: str, task_id: str | None = None) -> dict[str, Any] | None:
        """Find what is known of some bytes; None when no result, of that task where one is named, delivered them."""
        ...

    async def held_by(self, executor: str) -> Sequence[str]:
        """List the tasks of which an executor has the open attempt."""
        ...

    async def quarantined(self, after: str, limit: int) -> Sequence[dict[str, Any]]:
        """List what is kept aside, by id."""
        ...
