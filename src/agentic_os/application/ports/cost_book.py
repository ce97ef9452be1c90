"""What trackers were told of spending."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from agentic_os.control_plane import Cost
from agentic_os.domain.documents import Usage
from agentic_os.domain.task import Spender


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedCost:
    """What a tracker would not take of what an executor spent on a task, and why."""

    task_id: str
    executor: str
    problem: str


class CostBook(Protocol):
    """What trackers were told of spending. It belongs to the task, whichever issue shows it."""

    async def told(self, control_plane: str, task_id: str) -> Mapping[str, Usage]:
        """Say what a tracker is known to have been told of a task, by executor; none of whom that is not known."""
        ...

    async def report(
        self, control_plane: str, task_id: str, executor: str, spender: Spender, account: str
    ) -> Cost | None:
        """Say what to tell next, None for nothing; it is on its way from then on.

        That is what was on its way before, as it was, and after that what was spent since. account: whose it is to be.
        """
        ...

    async def came(self, control_plane: str, task_id: str, executor: str) -> None:
        """Note that the tracker has what was on its way."""
        ...

    async def refused(self, control_plane: str, task_id: str, executor: str, problem: str) -> None:
        """Note that the tracker did certainly not take what was on its way; it may be another account's next time."""
        ...

    async def refusals(self, control_plane: str, since: datetime, limit: int) -> Sequence[RefusedCost]:
        """List what was refused since then and did not come later, the newest first."""
        ...
