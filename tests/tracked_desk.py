"""A desk over a backend with a tracker in memory, which counts what is asked of it."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from tests.desk import Desk

from agentic_os.clock import now
from agentic_os.control_plane import Assignment, Busy, Capabilities, ReviewOutcome
from agentic_os.control_plane.memory import MemoryControlPlane, MemoryIssue, MemoryTracker


class CountingTracker(MemoryTracker):
    """A tracker that counts requests, and can fail at one of them. reads, writes: since the last `forget`."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.reads = self.writes = 0
        self._fails_at: int | None = None
        self._fails_before = True

    def forget(self) -> None:
        """Begin to count anew."""
        self.reads = self.writes = 0

    def fail_at(self, number: int | None, *, before: bool) -> None:
        """Fail the request of this number, counted from 0 since the last `forget`; None fails none."""
        self._fails_at, self._fails_before = number, before
        self._fault = None

    def request(self, account: str, *, write: bool) -> AbstractAsyncContextManager[None]:
        """Count, and be the wire."""
        if self.reads + self.writes == self._fails_at:
            self.fail_next(before=self._fails_before)
        self.writes += write
        self.reads += not write
        return super().request(account, write=write)


class RememberingPlane(MemoryControlPlane):
    """The port, remembering how reviews ended, which its dictionaries do not keep."""

    def __init__(self, tracker: MemoryTracker, *, beside: bool = False) -> None:
        super().__init__(tracker, beside=beside)
        self.outcomes: list[tuple[str, str]] = []
        self.busy = False
        self.nudges: asyncio.Queue[None] | None = None

    @property
    def capabilities(self) -> Capabilities:
        """Tell of news where a test has it told."""
        return replace(super().capabilities, nudges=self.nudges is not None)

    async def nudged(self) -> None:
        """Wait until a test says that there is news."""
        assert self.nudges is not None
        await self.nudges.get()

    async def assign(self, key: str, assignment: Assignment | None) -> None:
        """Assign, unless a run goes on."""
        if self.busy:
            raise Busy("a run goes on", now() + timedelta(seconds=30))
        await super().assign(key, assignment)

    async def close_review(self, key: str, digest: str, outcome: ReviewOutcome) -> None:
        """Close, and remember."""
        await super().close_review(key, digest, outcome)
        self.outcomes.append((digest, outcome))


class TrackedDesk(Desk):
    """A desk with a tracker, on which people and executors have accounts."""

    plane: RememberingPlane
    tracker: CountingTracker

    async def introduce(self, *names: str) -> None:
        """Give principals an account each, and say whose it is."""
        for name in names:
            await self.backend.registry.link("memory", self.tracker.account(name), name)

    async def executor(self, name: str = "coder", role: str = "developer", **more: Any) -> str:
        """Register an executor with an account."""
        credential = await super().executor(name, role, **more)
        await self.introduce(name)
        return credential

    async def listen(self) -> None:
        """Read the tracker's feed, and do what follows from it."""
        await self.worker.look_around()
        await self.work()

    async def pass_over(self, task_id: str) -> None:
        """Have the reconciler look at a task as if somebody had said that it may be stale."""
        await self.backend.work.mark([task_id])
        await self.worker.drain_stale()

    async def issue(self, task_id: str) -> MemoryIssue:
        """Look at the issue of a task on the tracker's own page."""
        link = await self.backend.issues.link_of(task_id)
        assert link is not None
        return self.tracker.issue(link.key)

    async def comment(self, task_id: str, name: str, text: str) -> str:
        """Comment on the issue of a task, and let the system hear of it; return the comment's id."""
        comment_id = self.tracker.comment((await self.issue(task_id)).key, self.tracker.account(name), text)
        await self.listen()
        return comment_id

    async def notes(self, task_id: str) -> dict[str, str]:
        """Read our notes on the issue, by marker; there is one of each."""
        mine = [
            c.body.partition("\n")
            for c in (await self.issue(task_id)).comments.values()
            if c.author == self.plane.account
        ]
        found = {
            first.removeprefix("<!-- agentic-os:note ").removesuffix(" -->"): body for first, _, body in mine
        }
        assert len(mine) == len(found), f"a note was posted twice: {sorted(first for first, _, _ in mine)}"
        return found

    async def receipts(self, task_id: str) -> Sequence[tuple[str, str, str | None]]:
        """List what became of directives, the oldest first: verb, outcome, rule."""
        found = await self.backend.issues.receipts(task_id, 50)
        return [(r.verb, r.outcome, r.rule) for r in reversed(found)]

    async def meta(self, task_id: str, version: int) -> dict[str, Any]:
        """Read where an event came from."""
        query = "select payload::jsonb -> 'meta' from es.event where stream_id = %s and version = %s"
        ((found,),) = await self.rows(query, task_id, version)
        return dict(found)

    async def stale(self, task_id: str) -> tuple[int, datetime | None, str | None]:
        """Look at a task's stale mark: failures, put off until, problem."""
        query = "select failures, not_before, problem from es.stale where task_id = %s"
        ((failures, until, problem),) = await self.rows(query, task_id)
        return failures, until, problem

    async def hasten(self) -> None:
        """Let the time pass for which marks were put off."""
        await self.execute("update es.stale set not_before = %s where not_before is not null", now())
