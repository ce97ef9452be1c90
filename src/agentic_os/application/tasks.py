"""Take in a task that somebody asks for: created and judged by policy in one transaction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agentic_os.application.dispatch import admission
from agentic_os.application.handle import change_of
from agentic_os.application.ports import Batch, Envelope, EventLog, Receipt
from agentic_os.domain import commands as c
from agentic_os.domain.policy import DecisionPoint
from agentic_os.domain.task import Task, fold


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """The task, or the id of the one that the same request made before."""

    task_id: str
    task: Task | None


async def create_task(
    log: EventLog,
    command: c.CreateTask,
    policy: DecisionPoint,
    *,
    receipt: Receipt | None,
    committed: Callable[[Task], None],
    cause: str = "",
) -> Created:
    """Create a task. Raises ReceiptMismatch when the key was used for another request."""
    received = change_of(None, [command])
    admitted = change_of(received.after, [admission(received.after, policy)])
    events = [*received.events, *admitted.events]
    task = fold(events)
    assert task is not None

    def answer(_: Sequence[str]) -> str:
        return command.task_id

    change = type(received)(before=None, after=task, events=events)
    envelope = Envelope(actor=command.requester, at=command.at, cause=cause)
    appended = await log.append(Batch(envelope=envelope, changes=[change], receipt=receipt, answer=answer))
    if appended.replayed:
        return Created(task_id=appended.answer, task=None)
    committed(task)
    return Created(task_id=task.id, task=task)
