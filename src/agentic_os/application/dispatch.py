"""Move a task on where the system itself must: policy's verdict, then an attempt for an executor that may have it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from agentic_os.application import brief
from agentic_os.application.children import Children
from agentic_os.application.handle import Handled, handle
from agentic_os.application.ports import (
    AccountExhausted,
    Envelope,
    EventLog,
    Movement,
    Principal,
    Registry,
    TaskChange,
    WorkQueue,
)
from agentic_os.application.verdicts import admission, facts_of
from agentic_os.clock import now
from agentic_os.contracts.canonical import digest_of
from agentic_os.domain import commands as c
from agentic_os.domain.documents import JsonObject
from agentic_os.domain.events import AttemptOffered
from agentic_os.domain.organisation import Organisation
from agentic_os.domain.policy import DecisionPoint
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.task import Task

SYSTEM = "system"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What every attempt is offered under."""

    callback_url: str
    ack_within: timedelta = timedelta(minutes=5)
    lease: timedelta = timedelta(minutes=15)


class Dispatcher:
    """Advances tasks that wait for nobody but the system."""

    def __init__(
        self,
        *,
        log: EventLog,
        registry: Registry,
        work: WorkQueue,
        policy: Callable[[], DecisionPoint],
        terms: Terms,
        committed: Callable[[Task], None],
        organisation: Callable[[], Organisation] = Organisation,
    ) -> None:
        self._log = log
        self._registry = registry
        self._work = work
        self._policy = policy
        self._terms = terms
        self._committed = committed
        self._organisation = organisation
        self._children = Children(log=log, policy=policy, committed=committed)

    async def advance(self, task_id: str) -> Task | None:
        """Take the task as far as it goes by itself, and return it."""
        task = (await self._log.load(task_id)).task
        if task is not None and task.phase == "received":
            task = (await self._handle(task, admission(task, self._policy()))).task
        if task is not None and task.phase == "ready" and task.undecided and not task.holds:
            task = await self._children.create(task)
        if task is not None and task.phase == "ready":
            task = await self._dispatch(task)
        if task is not None and task.ended:
            await self._children.settle(task)
        return task

    async def _dispatch(self, task: Task) -> Task:
        """Offer an attempt, or note what the task waits for.

        The note is written before the last look, so that whatever clears it meanwhile is not missed.
        """
        obstacles: Sequence[str] = ()
        for look in ("first", "last"):
            offered, obstacles = await self._try(task)
            if offered is not None:
                await self._work.forget_waits(task.id)
                return offered
            if look == "first":
                await self._work.forget_waits(task.id)
                for obstacle in obstacles:
                    await self._work.wait(task.id, obstacle)
        return task

    async def _try(self, task: Task) -> tuple[Task | None, Sequence[str]]:
        if task.holds:
            return task, ()  # whatever releases it marks the task
        spoiled = [f"{child.ref} ({child.id}) is {child.state}" for child in task.children if child.spoiled]
        if spoiled:
            reason = f"Of the tasks that the plan asked for, {', '.join(spoiled)}."
            return (await self._handle(task, c.RequireInput(reason=reason))).task, ()
        blockers = [f"task:{child.id}" for child in task.awaited_children]
        for blocker_id in task.depends_on:
            blocker = (await self._log.load(blocker_id)).task
            if blocker is None or (blocker.ended and blocker.phase != "completed"):
                state = blocker.phase if blocker else "unknown"
                reason = f"The task {blocker_id} that this one depends on is {state}."
                return (await self._handle(task, c.RequireInput(reason=reason))).task, ()
            if blocker.phase != "completed":
                blockers.append(f"task:{blocker_id}")
        if blockers:
            return None, blockers
        candidates = eligible(task, await self._registry.executors())
        if not candidates and task.excluded:
            reason = f"Every executor that could take the task declined it ({', '.join(task.excluded)})."
            return (await self._handle(task, c.RequireInput(reason=reason))).task, ()
        for candidate in candidates:
            try:
                return await self._offer(task, candidate), ()
            except AccountExhausted:
                continue
            except Rejected as refusal:
                if refusal.code not in ("wrong_phase", "not_permitted"):
                    raise
                return (await self._log.load(task.id)).task, ()  # somebody moved it meanwhile
        return None, [*(f"capacity:{e.name}" for e in candidates), "executor"]

    async def _offer(self, task: Task, executor: Principal) -> Task:
        at = now()
        number = (task.attempt.number if task.attempt else 0) + 1
        lease = int(self._terms.lease.total_seconds())
        document = brief.compose(
            task,
            number,
            carried=await self._carried(task, executor),
            lease_seconds=lease,
            callback_url=self._terms.callback_url,
        )
        facts = {**facts_of(task), "executor.name": executor.name, "executor.roles": list(executor.roles)}
        command = c.OfferAttempt(
            attempt=number,
            executor=executor.name,
            brief=document,
            brief_digest=digest_of(document),
            verdict=self._policy().decide("dispatch", facts),
            facts_digest=digest_of(facts),
            ack_deadline=at + self._terms.ack_within,
            lease_seconds=lease,
        )
        held = Movement(account=f"capacity:{executor.name}", reserved=1, limit=executor.capacity)

        def reserve(change: TaskChange) -> Sequence[Movement]:
            return [held] if any(isinstance(event, AttemptOffered) for event in change.events) else []

        return (await self._handle(task, command, reserve)).task

    async def _carried(self, task: Task, executor: Principal) -> brief.Carried:
        """Read again, from the events that hold them, what earlier attempts left for this one."""

        async def data(version: int) -> JsonObject:
            (event,) = await self._log.read_stream(task.id, after=version - 1, limit=1)
            return event.data

        plan = checkpoint = None
        if task.authorisation is not None and task.plan is not None:
            plan = (await data(task.plan.submitted_in))["plan"]
        if task.checkpoint_in:
            checkpoint = (await data(task.checkpoint_in))["body"]
        mine = [h.recorded_in for h in task.handoffs if h.to_role in executor.roles]
        handoffs = [(await data(version))["body"] for version in mine]
        return brief.Carried(
            plan=plan,
            checkpoint=checkpoint,
            handoffs=handoffs,
            charter=self._organisation().charter(executor.roles),
            children=await self._children.told(task),
        )

    async def _handle(
        self,
        task: Task,
        command: c.Command,
        movements: Callable[[TaskChange], Sequence[Movement]] = lambda _: (),
    ) -> Handled:
        envelope = Envelope(actor=SYSTEM, at=now())
        handled = await handle(self._log, task.id, lambda _: command, envelope, movements=movements)
        if handled.events:
            self._committed(handled.task)
        return handled


def eligible(task: Task, executors: Sequence[Principal]) -> list[Principal]:
    """List who may take the task: the assigned executor or role, first the author of its plan, then the least busy."""
    barred = {*task.excluded, *(task.authorisation.approvers if task.authorisation else ())}
    author = task.plan.executor if task.plan else None
    fit = [e for e in executors if e.name not in barred and _fits(e, task.assignee)]
    return sorted(fit, key=lambda e: (e.name != author, e.load, e.name))


def _fits(executor: Principal, assignee: str | None) -> bool:
    if assignee is None:
        return True
    role = assignee.removeprefix("role:")
    return role in executor.roles if assignee.startswith("role:") else executor.name == assignee
