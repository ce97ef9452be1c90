"""Load, decide, append; and again when somebody else was faster. Everything that changes a task goes through here."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from agentic_os.application.accounts import charged, freed, released, wait_of
from agentic_os.application.ports import (
    Appended,
    Batch,
    Envelope,
    EventLog,
    Loaded,
    Movement,
    Progress,
    Receipt,
    SeqGuard,
    TaskChange,
    VersionConflict,
)
from agentic_os.domain.commands import Command, Ruling
from agentic_os.domain.decide import decide
from agentic_os.domain.events import Event
from agentic_os.domain.evolution import fold
from agentic_os.domain.rulings import decided
from agentic_os.domain.task import Task

_TRIES: Final = 20
"""Each try that loses means that another append won, so the stream moves on; twenty in a row is a fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled:
    """What a command did. `task` is the task after it."""

    task: Task
    events: Sequence[Event]
    appended: Appended | None


def change_of(task: Task | None, commands: Sequence[Command]) -> TaskChange:
    """Decide several commands one after the other, as one change."""
    events: list[Event] = []
    after = task
    for command in commands:
        decided = decide(command, after)
        after = fold(decided, after)
        events += decided
    assert after is not None
    return TaskChange(before=task, after=after, events=events)


async def handle(
    log: EventLog,
    task_id: str,
    command_for: Callable[[Loaded], Command],
    envelope: Envelope,
    *,
    receipt: Receipt | None = None,
    answer: Callable[[Task, Sequence[str]], str] | None = None,
    movements: Callable[[TaskChange], Sequence[Movement]] = lambda _: (),
    followers: Callable[[TaskChange], Sequence[TaskChange]] = lambda _: (),
    progress: Progress | None = None,
    seq_guard: SeqGuard | None = None,
    credential: bytes | None = None,
    loaded: Loaded | None = None,
    before_append: Callable[[], Awaitable[None]] | None = None,
    lookup: Receipt | None = None,
    ruling: Ruling | None = None,
    marked: bool = False,
) -> Handled:
    """Carry out one command on one task. Raises Rejected, and what the log raises but VersionConflict.

    followers: the changes of other tasks that are written with it, or not at all.
    before_append runs once the decision is made and before it is written: for what the events refer to.
    lookup: a receipt that is looked for whenever the task is loaded, and not written.
    ruling: what policy said of the command, put on record with whatever it changes.
    marked: the caller holds the task's stale mark, so it needs no other.
    """
    for attempt in range(_TRIES):
        found = loaded if loaded is not None and attempt == 0 else await log.load(task_id, receipt or lookup)
        change = change_of(found.task, [command_for(found)])
        if change.events and ruling is not None:
            change = _under(ruling, change)
        if not change.events and receipt is None:
            return Handled(task=change.after, events=(), appended=None)
        charges = charged(change)
        batch = Batch(
            envelope=envelope,
            changes=[change, *followers(change)],
            receipt=receipt,
            answer=(lambda ids, after=change.after: answer(after, ids)) if answer else None,  # type: ignore[misc]
            movements=[*movements(change), *released(change), *charges],
            progress=progress,
            seq_guard=seq_guard,
            clears=[*cleared(change), *unreserved(charges)],
            credential=credential,
            marked=marked,
        )
        if before_append is not None:
            await before_append()
        try:
            appended = await log.append(batch)
        except VersionConflict:
            continue
        return Handled(task=change.after, events=change.events, appended=appended)
    raise VersionConflict


def _under(ruling: Ruling, change: TaskChange) -> TaskChange:
    """Put on record, before what it let happen, what policy said."""
    events = [*decided(ruling), *change.events]
    after = fold(events, change.before)
    assert after is not None
    return TaskChange(before=change.before, after=after, events=events)


def cleared(change: TaskChange) -> list[str]:
    """Say what other tasks may go on with after this change."""
    found = []
    if change.after.ended and change.before is not None and not change.before.ended:
        found.append(f"task:{change.after.id}")
    if (executor := freed(change)) is not None:
        found.append(f"capacity:{executor}")
    return found


def unreserved(charges: Sequence[Movement]) -> list[str]:
    """Name the budgets of which something came back."""
    if not charges:
        return []
    waits = {wait_of(m.account) for m in charges if m.spent + m.reserved < 0}
    return sorted(wait for wait in waits if wait is not None)
