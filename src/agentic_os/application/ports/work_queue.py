"""What is to be done, when, and by whom it is being done."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from agentic_os.application.ports.issue_book import TrackerState
from agentic_os.domain.policy import Breaker, RateBreaker
from agentic_os.domain.waiting import Deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleMark:
    """A task that may have to be worked on; it goes only when its generation is unchanged."""

    task_id: str
    generation: int
    failures: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BacklogItem:
    """A stale task. since: its oldest change that may not be shown yet. again: when it is tried next, None for now.

    at_rest: it waits for its own reasons and not for its issue, so that it lags behind nothing.
    """

    task_id: str
    since: datetime
    failures: int
    problem: str | None
    again: datetime | None
    poisoned_at: datetime | None
    claimed: bool
    at_rest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What is stale and not yet worked on, in numbers, and the first of it. oldest: of what is not at rest."""

    stale: int
    poisoned: int
    oldest: datetime | None
    inbox: int
    inbox_oldest: datetime | None
    items: Sequence[BacklogItem]


@dataclass(frozen=True, slots=True, kw_only=True)
class DueDeadline:
    """A deadline that has come."""

    task_id: str
    deadline: Deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """When there is work next: None is never, as far as anyone knows. bundle: the version of the bundle's stream."""

    deadline: datetime | None
    mark: datetime | None
    inbox: bool
    bundle: int = 0


class WorkQueue(Protocol):
    """Stale marks, deadlines, and what waits for what."""

    async def claim(self, worker: str, limit: int, lease: timedelta) -> Sequence[StaleMark]:
        """Take marks in a short committed transaction; nobody else gets them until the lease ends."""
        ...

    async def settle(self, mark: StaleMark) -> None:
        """Remove the mark if nothing came in meanwhile, else give it free."""
        ...

    async def postpone(
        self, mark: StaleMark, until: datetime, problem: str, *, counts: bool = True, poisoned: bool = False
    ) -> None:
        """Put the mark off after a failure, counted unless it is nobody's fault; a poisoned one is shown as such."""
        ...

    async def redrive(self, task_id: str) -> None:
        """Mark the task stale, with no failure counted and nothing put off."""
        ...

    async def mark_issues(self) -> int:
        """Mark every task stale that has an issue and has not ended; say how many."""
        ...

    async def waited_for(self, kind: str, limit: int) -> Sequence[str]:
        """List what of this kind tasks wait for, each once."""
        ...

    async def paused_repairs(self, limit: int) -> Sequence[str]:
        """List tasks of which something on the issue is not put back for now."""
        ...

    async def backlog(self, limit: int, task_id: str | None = None) -> "Backlog":
        """Say what is stale, poisoned tasks first and then the oldest, of one task where it is named."""
        ...

    async def rest(self, mark: StaleMark, until: datetime) -> None:
        """Put the mark off until then without calling it a failure; one that was renewed meanwhile is due at once."""
        ...

    async def mark(self, task_ids: Sequence[str]) -> None:
        """Mark tasks stale."""
        ...

    async def mark_by(self, task_id: str, at: datetime) -> None:
        """Mark a task stale from then on, if it is not anyway."""
        ...

    async def mark_waiting(self, kind: str) -> None:
        """Mark the tasks stale that wait for anything of this kind ("budget:")."""
        ...

    async def wait(self, task_id: str, what: str) -> None:
        """Note that the task may go on once `what` is cleared."""
        ...

    async def wait_for(self, task_id: str, obstacles: Sequence[str], rank: int) -> None:
        """Note that the task may go on once any of these is cleared, and that it waits for nothing else.

        rank: how urgent it is, 0 for the most.
        """
        ...

    async def outranked(self, task_id: str, what: str, rank: int) -> bool:
        """Tell whether a more urgent task waits for the same, and is about to be looked at."""
        ...

    async def waits_of(self, task_id: str) -> Sequence[str]:
        """List what the task waits for."""
        ...

    async def forget_waits(self, task_id: str) -> None:
        """Note that the task waits for nothing any more."""
        ...

    async def due(self, at: datetime, limit: int) -> Sequence[DueDeadline]:
        """List deadlines that have come, the oldest first."""
        ...

    async def outlook(self) -> Outlook:
        """Ask, in one query, when there will be work next."""
        ...

    async def look(self, control_plane: str | None = None, state: TrackerState | None = None) -> Outlook:
        """Ask the same, and note in the same query that somebody serves now, and how it stands with the tracker.

        Of the tracker's state, what is None stays as it was known.
        """
        ...

    async def served_at(self) -> datetime | None:
        """Say when somebody last noted that it serves; None where nobody ever did."""
        ...

    async def lapsed(self, since: datetime, at: datetime) -> Sequence["DueDeadline"]:
        """List the leases and acknowledgements that fell due in this span and still stand, the oldest first."""
        ...

    async def take_turn(
        self, executor: str, task_id: str, attempt: int, at: datetime, breaker: Breaker
    ) -> datetime | None:
        """Count an attempt that an executor is about to get, or say when it may have one again."""
        ...

    async def give_turn_back(self, task_id: str, attempt: int) -> None:
        """Count the attempt no longer, since it was not opened."""
        ...

    async def count(
        self, account: str, refs: Sequence[str], at: datetime, breaker: RateBreaker
    ) -> datetime | None:
        """Count all of these, or none and say when they may be; more than the breaker allows may be alone."""
        ...

    async def uncount(self, account: str, refs: Sequence[str]) -> None:
        """Count these no longer."""
        ...
