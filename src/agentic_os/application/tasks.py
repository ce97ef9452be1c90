"""Take in a task that somebody asks for: created and judged by policy in one transaction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agentic_os.application.handle import change_of
from agentic_os.application.ports import Batch, Envelope, EventLog, Receipt, VersionConflict
from agentic_os.application.verdicts import admission
from agentic_os.domain import commands as c
from agentic_os.domain.evolution import fold
from agentic_os.domain.policy import DecisionPoint
from agentic_os.domain.task import Task


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
    """Create a task. Raises ReceiptMismatch for a key used before otherwise, VersionConflict for a used id."""
    received = change_of(None, [command])
    admitted = change_of(received.after, [admission(received.after, policy)])
    events = [*received.events, *admitted.events]
    task = fold(events)
    assert task is not None

    def answer(_: Sequence[str]) -> str:
        return command.task_id

    change = type(received)(before=None, after=task, events=events)
    envelope = Envelope(actor=command.requester, at=command.at, cause=cause)
    batch = Batch(envelope=envelope, changes=[change], receipt=receipt, answer=answer)
    try:
        appended = await log.append(batch)
    except VersionConflict:
        if receipt is None:
            raise
        appended = await log.append(batch)  # the same request came twice at once: now its receipt is there
    if appended.replayed:
        return Created(task_id=appended.answer, task=None)
    committed(task)
    return Created(task_id=task.id, task=task)
