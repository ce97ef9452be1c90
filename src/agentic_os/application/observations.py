"""What was heard from the tracker, and what became of each: the inbox, as people read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol, TypeAlias

Outcome: TypeAlias = Literal["open", "held", "done", "refused", "ignored"]

NOT_THEIRS: Final = "who marked the issue for us may not create tasks"
"""Why an issue with our label, or in a project of ours, became no task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """An observation, and what became of it.

    issue: its key on the tracker, "" where it is of an agent. task_id: whose issue that is, or was. kind: "comment",
    "decision", "plan_edit", "field", "opened", "deleted", "run" or "agent". detail: which field, what was decided or
    done, in a word. author: an account of the tracker, "" where nobody is known. principal: whose account that is now.
    """

    id: int
    control_plane: str
    issue: str
    task_id: str | None
    kind: str
    detail: str
    author: str
    principal: str | None
    at: datetime
    received_at: datetime
    outcome: Outcome
    reason: str
    done_at: datetime | None


class ObservationLog(Protocol):
    """All that was heard, also what was ignored."""

    async def page(
        self,
        *,
        task_id: str | None = None,
        issue: str | None = None,
        outcome: Outcome | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> Sequence[Heard]:
        """List what was heard, the newest first; before: an id, behind which the list goes on."""
        ...

    async def refused(self, control_plane: str, reason: str, since: datetime, limit: int) -> Sequence[Heard]:
        """List what was refused for this reason since then, the newest first, but of issues that show a task now."""
        ...
