"""Breakers of rates: how many issues are adopted, tasks asked for by an executor, and routines run within a span."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from agentic_os.application.ports import Registry, WorkQueue
from agentic_os.clock import now
from agentic_os.domain.governance import BreakerTripped, RateName
from agentic_os.domain.policy import DecisionPoint, RateBreaker
from agentic_os.domain.rejection import Rejected

_ADOPTION: Final = "adoption"
_ROUTINE: Final = "routine"


class RateBreakers:
    """Counts in the store, so that a restart forgets nothing and all servers count together.

    Each question counts what it names, or says until when its breaker keeps it back and counts nothing. A ref names
    what is counted: asked again, it is counted once.
    """

    def __init__(self, *, registry: Registry, work: WorkQueue, policy: Callable[[], DecisionPoint]) -> None:
        self._registry = registry
        self._work = work
        self._policy = policy

    async def adoption(self, ref: str) -> datetime | None:
        """Count an issue that becomes a task."""
        return await self._take(_ADOPTION, self._policy().breakers.adoption, [ref])

    async def task_request(self, executor: str, refs: Sequence[str]) -> datetime | None:
        """Count tasks that an executor asks for, all of them or none; more than may ever be are let in alone."""
        breaker = self._policy().breakers.task_request
        return await self._take("task_request", breaker, refs, executor=executor)

    async def routine(self, ref: str) -> datetime | None:
        """Count an issue of a routine that becomes a task."""
        return await self._take(_ROUTINE, self._policy().breakers.routine, [ref])

    async def give_back(self, name: RateName, refs: Sequence[str], *, executor: str | None = None) -> None:
        """Count these no longer, since nothing came of them."""
        await self._work.uncount(_account(name, executor), refs)

    async def _take(
        self, name: RateName, breaker: RateBreaker | None, refs: Sequence[str], *, executor: str | None = None
    ) -> datetime | None:
        if breaker is None or not refs:
            return None
        until = await self._work.count(_account(name, executor), refs, now(), breaker)
        if until is not None:
            trip = BreakerTripped(
                executor=executor,
                attempts=breaker.count,
                within_seconds=int(breaker.within.total_seconds()),
                until=until,
                breaker=name,
            )
            await self._registry.record_trip(trip)
        return until


def _account(name: RateName, executor: str | None) -> str:
    return name if executor is None else f"{name}:{executor}"


def require_few(asked: Sequence[object], policy: DecisionPoint) -> None:
    """Refuse more tasks at once than the breaker of an executor lets through in all of its span. Raises Rejected."""
    breaker = policy.breakers.task_request
    if breaker is not None and len(asked) > breaker.count:
        raise Rejected(
            "policy_denied",
            f"An executor may ask for {breaker.count} tasks within {int(breaker.within.total_seconds())} seconds; "
            f"these are {len(asked)}.",
            next_step="Ask for fewer tasks at once.",
            pointers=("/body/tasks",),
            rule="breaker",
        )
