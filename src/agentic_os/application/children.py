"""Children of tasks: proposed to policy, created with the fact that tells of it, and reported to their parent."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any, Final, cast

from agentic_os.application.handle import change_of, handle
from agentic_os.application.ports import Envelope, EventLog, TaskChange
from agentic_os.application.verdicts import admission, facts_of
from agentic_os.clock import new_id, now
from agentic_os.contracts.canonical import digest_of
from agentic_os.contracts.output import payload_faults
from agentic_os.domain import commands as c
from agentic_os.domain.children import MAX_CHILDREN, commission
from agentic_os.domain.documents import JsonObject
from agentic_os.domain.events import ChildAccepted
from agentic_os.domain.organisation import Organisation
from agentic_os.domain.policy import DecisionPoint
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.task import Task

SYSTEM: Final = "system"
_AFTER_THE_END: Final = 2 * MAX_CHILDREN
"""How many events are looked through for the end of a task: its children may have ended after it."""


def proposals(
    parent: Task,
    items: Sequence[JsonObject],
    child_ids: Sequence[str],
    policy: DecisionPoint,
    *,
    executor: str,
    planned: bool,
) -> tuple[c.Proposal, ...]:
    """Ask policy about each proposed task, as it would be created."""
    found = []
    for item, child_id in zip(items, child_ids, strict=True):
        wanted = commission(parent, item, child_id=child_id, at=parent.created_at, planned=planned)
        facts = {
            **facts_of(change_of(None, [wanted]).after),
            "parent.project": parent.project,
            "parent.risk": parent.risk,
            "parent.depth": parent.depth,
            "parent.executor": executor,
        }
        verdict = policy.decide("task.proposed", facts)
        found.append(c.Proposal(child_id=child_id, item=item, verdict=verdict, facts_digest=digest_of(facts)))
    return tuple(found)


def governed(
    command: c.Record, task: Task | None, policy: DecisionPoint, organisation: Organisation
) -> c.Record:
    """Add what policy says of proposed tasks, and what a role's schema says of what is handed to it."""
    if command.kind == "handoff":
        schema = organisation.handoff_schema(command.body["to_role"])
        return replace(command, faults=payload_faults(schema, command.body["payload"]))
    if command.kind != "task_request" or task is None:
        return command
    items = command.body["tasks"]
    ids = [str(new_id()) for _ in items]
    asked = proposals(task, items, ids, policy, executor=command.executor, planned=False)
    sent = {field.name: getattr(command, field.name) for field in fields(command)}
    return c.RequestTasks(**sent, proposals=asked)


def births(change: TaskChange, policy: DecisionPoint, at: datetime) -> list[TaskChange]:
    """Create each child that the change tells of, judged as any task is when it is received."""
    parent = change.before
    return [
        _born(parent, event, policy, at)
        for event in change.events
        if isinstance(event, ChildAccepted) and parent is not None
    ]


def _born(parent: Task, event: ChildAccepted, policy: DecisionPoint, at: datetime) -> TaskChange:
    wanted = commission(
        parent,
        event.item,
        child_id=event.child_id,
        at=at,
        planned=event.planned,
        depends_on=event.depends_on,
        budget=event.budget,
        obligations=event.obligations,
    )
    received = change_of(None, [wanted])
    return change_of(None, [wanted, admission(received.after, policy)])


class Children:
    """Carries out what tasks mean for those that they came of, and that came of them."""

    def __init__(
        self,
        *,
        log: EventLog,
        policy: Callable[[], DecisionPoint],
        committed: Callable[[Task], None],
    ) -> None:
        self._log = log
        self._policy = policy
        self._committed = committed

    async def create(self, task: Task) -> Task:
        """Create the children that the approved plan asks for, all in one transaction with what tells of them."""
        plan = task.plan
        assert plan is not None
        (submitted,) = await self._log.read_stream(task.id, after=plan.submitted_in - 1, limit=1)
        items: Sequence[JsonObject] = submitted.data["plan"].get("tasks", ())
        policy, at = self._policy(), now()
        asked = proposals(
            task, items, [str(new_id()) for _ in items], policy, executor=plan.executor, planned=True
        )
        handled = await handle(
            self._log,
            task.id,
            lambda _: c.CreateChildren(plan=plan.version, proposals=asked),
            Envelope(actor=SYSTEM, at=at),
            followers=lambda change: births(change, policy, at),
        )
        if handled.events:
            self._committed(handled.task)
        return handled.task

    async def settle(self, task: Task) -> None:
        """Tell the parent of a task that has ended; a cancelled one takes its open children with it."""
        if task.parent is not None:
            ended = c.EndChild(
                child_id=task.id, phase=cast("Any", task.phase), spent=task.committed
            )  # what its own children may still spend counts as spent: nobody is told again
            await self._put(task.parent.id, ended)
        if task.phase == "cancelled" and (open_ones := [x for x in task.children if x.state == "open"]):
            reason = f"Its parent {task.id} was cancelled. {await self._reason(task)}".strip()
            for child in open_ones:
                await self._put(child.id, c.Cancel(by=SYSTEM, reason=reason))

    async def _put(self, task_id: str, command: c.Command) -> None:
        try:
            handled = await handle(self._log, task_id, lambda _: command, Envelope(actor=SYSTEM, at=now()))
        except Rejected:
            return  # it has ended in its own way
        if handled.events:
            self._committed(handled.task)

    async def _reason(self, task: Task) -> str:
        events = await self._log.read_stream(
            task.id, after=max(task.version - _AFTER_THE_END, 0), limit=_AFTER_THE_END
        )
        return next((str(x.data["reason"]) for x in events if x.type == "task.cancelled"), "")

    async def told(self, task: Task) -> Sequence[Mapping[str, Any]]:
        """Describe the children for the parent's brief: where each stands, and what its result says."""
        found: list[Mapping[str, Any]] = []
        for child in task.children:
            current = (await self._log.load(child.id)).task
            result = current.result if current else None
            summary = None
            if result is not None:
                (event,) = await self._log.read_stream(child.id, after=result.submitted_in - 1, limit=1)
                summary = event.data["result"]["summary"]
            found.append(
                {
                    "id": child.id,
                    "ref": child.ref,
                    "title": child.title,
                    "phase": current.phase if current else child.state,
                    "summary": summary,
                    "digest": result.digest if result else None,
                }
            )
        for refused in task.refused_children:
            told = {"id": None, "ref": refused.ref, "title": refused.title, "phase": "refused"}
            found.append({**told, "summary": "; ".join(refused.reasons) or None, "digest": None})
        return found
