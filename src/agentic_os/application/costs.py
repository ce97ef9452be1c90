"""Tell a tracker that keeps costs what each executor spent, so that its own budgets act on what the backend knows."""

import asyncio
import contextlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import structlog

from agentic_os.application.pacing import PacedControlPlane
from agentic_os.application.ports import CostBook, Registry, StoreUnavailable, WorkQueue
from agentic_os.application.signals import Signals
from agentic_os.clock import now
from agentic_os.control_plane import ControlPlaneError, RateLimited, Unavailable
from agentic_os.domain.documents import Usage
from agentic_os.domain.task import Spender

log = structlog.get_logger()

SOON: Final = timedelta(seconds=10)
"""How long what is spent in the middle of an attempt may wait for more of it, so that it is told together."""


class Costs:
    """Reports the difference between what was spent and what the tracker was told of."""

    def __init__(
        self, *, registry: Registry, book: CostBook, control_plane: PacedControlPlane | None
    ) -> None:
        self._registry = registry
        self._book = book
        self._plane = control_plane

    async def tell(self, task_id: str, key: str, spending: Mapping[str, Spender]) -> ControlPlaneError | None:
        """Tell of what is not told yet; answer what must be tried again, None for nothing.

        What the tracker refuses for good is kept with its reason, and tried again when the task is next looked at.
        """
        plane = self._plane
        if not spending or plane is None or not plane.capabilities.costs:
            return None
        told = await self._book.told(plane.name, task_id)
        for executor, spender in spending.items():
            if executor in told and told[executor] == _counted(spender.usage):
                continue
            try:
                await self._tell_of(task_id, key, executor, spender, plane)
            except (RateLimited, Unavailable) as problem:
                return problem
        return None

    async def _tell_of(
        self, task_id: str, key: str, executor: str, spender: Spender, plane: PacedControlPlane
    ) -> None:
        account = await self._registry.account_of(plane.name, executor)
        if account is None:
            return
        # First what may have been told before, as it was, then what was spent since.
        while cost := await self._book.report(plane.name, task_id, executor, spender, account):
            try:
                await plane.report_cost(key, cost)
            except (RateLimited, Unavailable):
                raise
            except ControlPlaneError as problem:
                reason = f"{type(problem).__name__}: {problem}"
                log.warning("cost is refused", task=task_id, executor=executor, problem=reason)
                await self._book.refused(plane.name, task_id, executor, reason)
                return
            await self._book.came(plane.name, task_id, executor)


class SpendingHeard:
    """Has a task looked at soon after it spent something by a callback that alone gives nobody work."""

    def __init__(self, *, work: WorkQueue, signals: Signals) -> None:
        self._work = work
        self._signals = signals

    async def __call__(self, task_id: str) -> None:
        """Hear that a task spent something. One that is lost is told with what is spent next, or at the end."""
        at = now() + SOON
        with contextlib.suppress(StoreUnavailable):
            await self._work.mark_by(task_id, at)
            asyncio.get_running_loop().call_later(SOON.total_seconds(), self._signals.work.set)


def spending_heard(
    work: WorkQueue, signals: Signals, plane: PacedControlPlane | None
) -> SpendingHeard | None:
    """Have spending heard where a tracker is to be told of it."""
    if plane is None or not plane.capabilities.costs:
        return None
    return SpendingHeard(work=work, signals=signals)


def _counted(usage: Usage) -> Usage:
    """Leave out what no tracker is told of."""
    return Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_microusd=usage.cost_microusd,
    )
