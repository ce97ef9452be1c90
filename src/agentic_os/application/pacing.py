"""The port to a tracker, within the tracker's limits: one budget of writes for this process, one pause for all."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final

from agentic_os import clock
from agentic_os.application.ports import TrackerState
from agentic_os.control_plane import (
    Assignment,
    Capabilities,
    ControlPlane,
    ControlPlaneError,
    Cost,
    Costing,
    Denied,
    Document,
    Documenting,
    Invalid,
    Issue,
    IssueChanges,
    IssueDraft,
    Nudging,
    Observation,
    RateLimited,
    Reaction,
    Review,
    ReviewOutcome,
    Unavailable,
)

PATIENCE: Final = timedelta(seconds=5)
"""How long a write waits for its turn; one that would wait longer is refused at once, with the time of its turn."""
_BURST: Final = timedelta(seconds=10)


class WriteBudget:
    """A token bucket: so many writes a minute, and at most those of ten seconds at once. None: no limit."""

    def __init__(self, per_minute: int | None, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self._rate = None if per_minute is None else per_minute / 60
        self._most = 1.0 if self._rate is None else max(1.0, self._rate * _BURST.total_seconds())
        self._left = self._most
        self._at = elapsed()

    def take(self) -> timedelta:
        """Take a token and say how long to wait for it; one that takes too long is not taken."""
        if self._rate is None:
            return timedelta(0)
        at = self._elapsed()
        self._left = min(self._most, self._left + (at - self._at) * self._rate)
        self._at = at
        wait = timedelta(seconds=max(0.0, (1 - self._left) / self._rate))
        if wait <= PATIENCE:
            self._left -= 1
        return wait


class PacedControlPlane:
    """A control plane within its limits. Once it asks for patience, nothing is asked of it until then.

    Raises RateLimited by itself for what must wait longer than a moment. `state` is how it stands with the tracker.
    """

    def __init__(
        self,
        plane: ControlPlane,
        *,
        now: Callable[[], datetime] = clock.now,
        elapsed: Callable[[], float] = clock.elapsed,
    ) -> None:
        self._plane = plane
        self._now = now
        self._writes = WriteBudget(plane.capabilities.writes_per_minute, elapsed)
        self._reached_at: datetime | None = None
        self._failed_at: datetime | None = None
        self._problem: str | None = None
        self._paused_until: datetime | None = None
        self._webhook_at: datetime | None = None
        self._read_at: datetime | None = None

    @property
    def name(self) -> str:
        """Name the tracker."""
        return self._plane.name

    @property
    def capabilities(self) -> Capabilities:
        """Say what the tracker can show."""
        return self._plane.capabilities

    @property
    def state(self) -> TrackerState:
        """Say how it stands with the tracker, as this process saw it."""
        return TrackerState(
            reached_at=self._reached_at,
            failed_at=self._failed_at,
            problem=self._problem,
            paused_until=self._paused_until,
            webhook_at=self._webhook_at,
            read_at=self._read_at,
        )

    def answers(self, within: timedelta) -> bool:
        """Tell whether the tracker did lately what it was asked."""
        return self._reached_at is not None and self._now() - self._reached_at <= within

    async def ensure_issue(self, draft: IssueDraft) -> str:
        """Return the key of the task's issue, creating it when it does not exist."""
        async with self._turn(write=True):
            return await self._plane.ensure_issue(draft)

    async def observe(self, keys: Sequence[str]) -> Mapping[str, Issue | None]:
        """Read issues as they are now. An answer that leaves one out says nothing of it, and is Unavailable."""
        async with self._turn(write=False):
            found = await self._plane.observe(keys)
            if left_out := set(keys) - found.keys():
                raise Unavailable(f"the answer says nothing of {', '.join(sorted(left_out))}")
            return found

    async def apply(self, key: str, changes: IssueChanges) -> None:
        """Change the given fields."""
        async with self._turn(write=True):
            await self._plane.apply(key, changes)

    async def post(self, key: str, marker: str, body: str) -> str:
        """Post a note, or find the one that already carries this marker."""
        async with self._turn(write=True):
            return await self._plane.post(key, marker, body)

    async def edit(self, key: str, note_id: str, body: str) -> None:
        """Replace the text of a note of ours."""
        async with self._turn(write=True):
            await self._plane.edit(key, note_id, body)

    async def open_review(self, key: str, review: Review) -> None:
        """Show a gate."""
        async with self._turn(write=True):
            await self._plane.open_review(key, review)

    async def close_review(self, key: str, digest: str, outcome: ReviewOutcome) -> None:
        """Take a gate away."""
        async with self._turn(write=True):
            await self._plane.close_review(key, digest, outcome)

    async def assign(self, key: str, assignment: Assignment | None) -> None:
        """Assign the issue, or take the assignee away."""
        async with self._turn(write=True):
            await self._plane.assign(key, assignment)

    async def report_cost(self, key: str, cost: Cost) -> None:
        """Put a cost on record, where the tracker keeps any."""
        if isinstance(self._plane, Costing) and self._plane.capabilities.costs:
            async with self._turn(write=True):
                await self._plane.report_cost(key, cost)

    async def react(self, key: str, comment_id: str, reaction: Reaction) -> None:
        """Show on somebody's comment what became of it."""
        async with self._turn(write=True):
            await self._plane.react(key, comment_id, reaction)

    async def observations(self, cursor: str) -> tuple[Sequence[Observation], str]:
        """Read what others did since the cursor."""
        async with self._turn(write=False):
            found = await self._plane.observations(cursor)
        if not found[0]:
            self._read_at = self._now()
        return found

    async def receive(self, headers: Mapping[str, str], body: bytes) -> Sequence[Observation]:
        """Turn a webhook into observations; one of our own doing brings none, and still says that they come."""
        found = await self._plane.receive(headers, body)
        self._webhook_at = self._now()
        return found

    async def identify(self, name: str) -> str:
        """Find the stable account id behind a login name."""
        async with self._turn(write=False):
            return await self._plane.identify(name)

    async def write(self, key: str, document: Document) -> None:
        """Write a document beside the issue. Raises Invalid where the tracker keeps none."""
        if not isinstance(self._plane, Documenting):
            raise Invalid(f"{self.name} keeps no documents")
        async with self._turn(write=True):
            await self._plane.write(key, document)

    async def nudged(self) -> None:
        """Wait until the feed may have news; for ever where the tracker tells of none."""
        if isinstance(self._plane, Nudging) and self._plane.capabilities.nudges:
            await self._plane.nudged()
        else:
            await asyncio.Event().wait()

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._plane.aclose()

    @asynccontextmanager
    async def _turn(self, *, write: bool) -> AsyncIterator[None]:
        """Wait for a turn within the limits, and note how the request went."""
        self._refuse_while_paused()
        if write and (wait := self._writes.take()):
            if wait > PATIENCE:
                raise RateLimited("the budget of writes is used up", self._now() + wait)
            await asyncio.sleep(wait.total_seconds())
            self._refuse_while_paused()
        try:
            yield
        except RateLimited as limit:
            self._paused_until = max(self._paused_until or limit.retry_at, limit.retry_at)
            self._note(limit)
            raise
        except (Unavailable, Denied) as problem:
            self._note(problem)
            raise
        except ControlPlaneError:
            self._reached_at = self._now()  # a refusal of this one request is an answer
            raise
        self._reached_at = self._now()

    def _refuse_while_paused(self) -> None:
        if self._paused_until is not None and self._now() < self._paused_until:
            raise RateLimited("the tracker asked for patience", self._paused_until)

    def _note(self, problem: ControlPlaneError) -> None:
        self._failed_at, self._problem = self._now(), f"{type(problem).__name__}: {problem}"[:500]
