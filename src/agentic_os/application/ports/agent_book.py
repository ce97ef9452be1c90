"""Which executors are paused on the tracker."""

from dataclasses import dataclass
from typing import Protocol

from agentic_os.control_plane import AgentSeen
from agentic_os.domain.executor_pauses import ExecutorPause


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentKnown:
    """What came of an observation of an agent. executor: whose account it is, "" for nobody's. changed: it was news."""

    executor: str
    changed: bool


class AgentBook(Protocol):
    """Which agents the connected tracker wakes, and which are paused there."""

    async def see(self, seen: AgentSeen) -> AgentKnown:
        """Keep how an account stands; of an executor's, what changed is put on record, and its tasks are marked."""
        ...

    async def pause_of(self, executor: str) -> ExecutorPause | None:
        """Say by whom and why an executor is paused, None where it is not."""
        ...
