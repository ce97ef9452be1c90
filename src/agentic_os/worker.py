"""The schedule: who sleeps until what. Nothing here looks for work on a timer but the look once a minute."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from agentic_os.application.backend import Backend
from agentic_os.application.handle import handle
from agentic_os.application.inbox import Inbox
from agentic_os.application.ports import (
    DueDeadline,
    Envelope,
    InboxItem,
    Principal,
    StaleMark,
    StoreUnavailable,
    VersionConflict,
)
from agentic_os.application.reconciler import CLAIM_LEASE
from agentic_os.application.verdicts import ruled
from agentic_os.clock import new_id, now
from agentic_os.control_plane import ControlPlaneError
from agentic_os.domain.commands import FireDeadline

log = structlog.get_logger()

RESYNC: Final = timedelta(seconds=60)
_AT_ONCE: Final = 8
_PASSES: Final = 32
"""How many tasks are shown at once: most of a pass is waiting for the tracker."""
_INBOX_BATCH: Final = 50
_INBOX_LEASE: Final = timedelta(seconds=60)
_INBOX_PAUSE: Final = timedelta(seconds=5)
_GAP: Final = 3
"""How many looks in a row may be missing before the time since the last counts as one in which nobody served."""
_MANY: Final = 64
_FAULT_PAUSE: Final = 1.0
_EARLY: Final = 0.01
"""How much earlier than asked for a timer of the loop may come; what is looked for then is not there yet."""
_AT_LEAST: Final = timedelta(seconds=1)
"""For how long at least an observation is held back; the look once a minute finds what is missed."""


class Worker:
    """Drains stale marks, deadlines and the inbox, each when told that there is something."""

    def __init__(self, backend: Backend, *, resync: timedelta = RESYNC) -> None:
        self._backend = backend
        self._name = str(new_id())
        self._resync = resync
        self._served_at: datetime | None = None
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Work until cancelled."""
        signals = self._backend.signals
        signals.wake_all()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._woken_by(signals.work, self.drain_stale))
            group.create_task(self._woken_by(signals.inbox, self.drain_inbox))
            group.create_task(self._sleep_until_deadlines())
            group.create_task(self._look_around())
            group.create_task(self._listen())

    async def _woken_by(self, event: asyncio.Event, drain: Callable[[], Awaitable[None]]) -> None:
        while True:
            await event.wait()
            event.clear()
            try:
                await drain()
            except Exception:  # a fault in one pass must not end the loop; the marks are still there
                log.exception("pass failed", drain=drain.__name__)
                await asyncio.sleep(_FAULT_PAUSE)
                event.set()

    async def drain_stale(self) -> None:
        """Reconcile every task that is marked stale, several at a time; a slow one holds up no other.

        Between claim and work the bundle is followed: whoever applies one marks tasks in the same transaction.
        """
        signal = self._backend.signals.work
        passes: set[asyncio.Task[None]] = set()
        try:
            while True:
                signal.clear()
                marks = await self._backend.work.claim(self._name, _PASSES - len(passes), CLAIM_LEASE)
                await self._backend.governing.keep_up()
                passes |= {asyncio.create_task(self._reconcile(mark)) for mark in marks}
                if not passes:
                    return
                # A claim is worth its query when it can fill some places; there may be nobody else in the queue.
                full = len(passes) == _PASSES
                passes = await _some_done(
                    passes, _PASSES // 4 if full else len(passes), None if full else signal
                )
        finally:
            for each in passes:
                each.cancel()
            await asyncio.gather(*passes, return_exceptions=True)

    async def _reconcile(self, mark: StaleMark) -> None:
        if (again := await self._backend.reconciler.reconcile(mark)) is not None:
            self._wake_at(again)

    def _wake_at(self, at: datetime, event: asyncio.Event | None = None) -> None:
        delay = max((at - now()).total_seconds(), 0.0) + _EARLY
        asyncio.get_running_loop().call_later(delay, (event or self._backend.signals.work).set)

    async def drain_inbox(self) -> None:
        """Act on every observation that was stored, each once, and those of one issue in order."""
        inbox, issues = self._backend.inbox, self._backend.issues
        if inbox is None:
            return
        try:
            await inbox.order()
        except ControlPlaneError as problem:
            log.warning("webhooks wait for the feed", problem=f"{type(problem).__name__}: {problem}")
            self._hear_again()
        while items := await issues.claim(self._name, _INBOX_BATCH, _INBOX_LEASE):
            waiting = list(items)
            try:
                while waiting:
                    await self._act(inbox, waiting)
            except (StoreUnavailable, VersionConflict):
                # Whatever it was, it was not the observation; nobody should have to wait for the lease to end.
                with contextlib.suppress(StoreUnavailable):
                    await issues.put_off(self._name, waiting, timedelta(0))
                raise
            finally:
                self._backend.signals.work.set()

    def _hear_again(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(_INBOX_PAUSE.total_seconds(), self._backend.signals.inbox.set)

    async def _act(self, inbox: Inbox, waiting: list[InboxItem]) -> None:
        """Act on the first of the observations; one that we cannot act on is set aside, so that others are heard."""
        item, issues = waiting[0], self._backend.issues
        if await issues.keep(self._name, item, _INBOX_LEASE):
            bundle = self._backend.policy().bundle
            try:
                until = await inbox.act(item)
            except (StoreUnavailable, VersionConflict):
                raise
            except ControlPlaneError as problem:  # what else was said on this issue comes after it
                log.warning("observation waits", item=item.id, problem=f"{type(problem).__name__}: {problem}")
                key = item.observation.key
                behind = [each for each in waiting if each.observation.key == key]
                await issues.put_off(self._name, behind, _INBOX_PAUSE)
                waiting[:] = [each for each in waiting if each.observation.key != key]
                self._hear_again()
                return
            except Exception as problem:
                log.exception("observation cannot be acted on", item=item.id)
                await issues.finish(item, "failed", f"{type(problem).__name__}: {problem}")
            else:
                if until is not None:
                    await self._wait_out(item, until, bundle)
        del waiting[0]

    async def _wait_out(self, item: InboxItem, until: datetime, bundle: str) -> None:
        """Look again at what is held back. bundle: the policy by which it was."""
        await self._backend.governing.keep_up()
        # Applied before this was held back, another policy could not let it in.
        if self._backend.policy().bundle != bundle:
            until = now()
            await self._backend.issues.hold_back(item, until, "another policy came into force")
        self._wake_at(max(until, now()) + _AT_LEAST, self._backend.signals.inbox)

    async def drain_deadlines(self) -> datetime | None:
        """Fire every deadline that has come, the oldest first and several at a time; return the next one.

        A deadline that stays, or that cannot be fired, is left until the next look, so that it holds up no other.
        """
        tried: set[DueDeadline] = set()
        looked = now()
        while due := [d for d in await self._backend.work.due(looked, 200 + len(tried)) if d not in tried]:
            tried.update(due)
            of_tasks: dict[str, list[DueDeadline]] = {}
            for each in due:
                of_tasks.setdefault(each.task_id, []).append(each)
            groups = list(of_tasks.values())
            if len(groups) > _MANY:  # another worker sees the same ones: two that begin apart seldom meet
                start = random.randrange(len(groups))  # noqa: S311 - guards nothing
                groups = groups[start:] + groups[:start]
            await asyncio.gather(*map(self._fire_in_order, groups))
            looked = now()
        outlook = await self._backend.work.outlook()
        # One that came since the last look is not stuck: timers may come a little early, and then it is due at once.
        stuck = outlook.deadline is not None and outlook.deadline <= looked
        return now() + self._resync if stuck else outlook.deadline

    async def _fire_in_order(self, due: Sequence[DueDeadline]) -> None:
        """Fire the deadlines of one task; those of others do not wait for it, beyond the few that go at once."""
        async with self._slots:
            for each in due:
                try:
                    await self._fire(each)
                except Exception:
                    log.exception("deadline cannot be fired", task=each.task_id, kind=each.deadline.kind)

    async def _fire(self, due: DueDeadline) -> None:
        deadline = due.deadline
        jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
        command = FireDeadline(kind=deadline.kind, ref=deadline.ref, at=now(), jitter=jitter)
        envelope = Envelope(actor="system", at=command.at, reason=f"the {deadline.kind} deadline came")
        executor = await self._executor(due.task_id) if deadline.kind in ("ack", "lease") else None
        policy = self._backend.policy()
        handled = await handle(
            self._backend.log,
            due.task_id,
            lambda found: ruled(command, found.task, executor, policy),
            envelope,
        )
        self._backend.signals.committed(handled.task)

    async def _executor(self, task_id: str) -> Principal | None:
        """Find the executor that a task is with."""
        task = (await self._backend.log.load(task_id)).task
        if task is None or task.attempt is None:
            return None
        return await self._backend.registry.executor(task.attempt.executor)

    async def _sleep_until_deadlines(self) -> None:
        signals = self._backend.signals
        while True:
            # Whatever is committed from here on sets the event again, so nothing falls between look and sleep.
            signals.look()
            try:
                await self.notice_gap()
                earliest = await self.drain_deadlines()
            except Exception:
                log.exception("pass failed", drain="deadlines")
                earliest = now() + timedelta(seconds=_FAULT_PAUSE)
            await self._sleep(signals.deadline, signals.found(earliest))

    async def notice_gap(self) -> None:
        """Treat a time in which this process could not work as an outage: the machine slept, or the store was away."""
        if self._served_at is not None and now() - self._served_at > _GAP * self._resync:
            extended = await self._backend.extend_lapsed()
            self._served_at = now()
            log.warning("did not serve for a while", extended=extended)

    async def _sleep(self, event: asyncio.Event, until: datetime | None) -> None:
        remaining = None if until is None else max((until - now()).total_seconds(), 0.0)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), remaining)

    async def _look_around(self) -> None:
        """Look once a minute for what no signal told: one query, and the feed of the tracker."""
        while True:
            try:
                await self.look_around()
            except ControlPlaneError as problem:
                log.warning("control plane", problem=f"{type(problem).__name__}: {problem}")
            except Exception:
                log.exception("pass failed", drain="look around")
            await asyncio.sleep(self._resync.total_seconds())

    async def _listen(self) -> None:
        """Read the feed of a tracker that tells that there is news, instead of sending webhooks."""
        plane, inbox = self._backend.control_plane, self._backend.inbox
        if plane is None or inbox is None or not plane.capabilities.nudges:
            return
        while True:
            await plane.nudged()
            try:
                if await inbox.pull():
                    self._backend.signals.inbox.set()
            except (ControlPlaneError, StoreUnavailable) as problem:
                log.warning("control plane", problem=f"{type(problem).__name__}: {problem}")
                await asyncio.sleep(_FAULT_PAUSE)

    async def look_around(self) -> None:
        """Set the signals that somebody forgot, and read the tracker's feed."""
        signals = self._backend.signals
        await self.notice_gap()
        plane = self._backend.control_plane
        outlook = await self._backend.work.look(plane.name if plane else None, plane.state if plane else None)
        self._served_at = now()
        await self._backend.governing.keep_up(outlook.bundle)
        if outlook.mark is not None and outlook.mark <= now():
            signals.work.set()
        if outlook.deadline is not None:
            signals.expect(outlook.deadline)
        if outlook.inbox:
            signals.inbox.set()
        if self._backend.inbox is not None and await self._backend.inbox.pull():
            signals.inbox.set()


async def _some_done(
    passes: set[asyncio.Task[None]], enough: int, signal: asyncio.Event | None
) -> set[asyncio.Task[None]]:
    """Wait until as many passes are done, or the signal comes; return those that go on. Raises what a pass raised."""
    told = asyncio.create_task(signal.wait()) if signal is not None else None
    going = set(passes)
    try:
        while len(passes) - len(going) < enough:
            watched = {*going, told} if told is not None else going
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            going -= done
            for each in done:
                each.result()
            if told in done:
                break
    finally:
        if told is not None:
            told.cancel()
    return going
