"""What changes when others change the task's issue."""

from datetime import timedelta
from typing import Final

from agentic_os.domain import events as e
from agentic_os.domain.evolution.copying import changed
from agentic_os.domain.task import Drift, Pause, Task

_REMEMBERED: Final = timedelta(hours=1)


def on_issue(
    task: Task,
    event: e.FieldAdopted | e.FieldNoted | e.FieldDrifted | e.RepairsPaused | e.RepairsResumed,
) -> Task:
    """Apply what was changed on the issue."""
    match event:
        case e.FieldAdopted():
            return _adopted(task, event)
        case e.FieldNoted(field=field, value=value, at=at):
            return _drifted(task, Drift(field=field, author="", value=value, at=at))
        case e.FieldDrifted(field=field, author=author, value=value, at=at):
            return _drifted(task, Drift(field=field, author=author, value=value, at=at))
        case e.RepairsPaused(field=field):
            before = next((p for p in task.pauses if p.field == field), None)
            pause = Pause(
                field=field,
                author=event.author,
                wanted=event.wanted,
                until=event.until,
                # One and the same pause that goes on is told once.
                placed_in=before.placed_in if before and before.wanted == event.wanted else task.version + 1,
            )
            return changed(task, pauses=(*(p for p in task.pauses if p.field != field), pause))
        case e.RepairsResumed(field=field):
            return changed(
                task,
                pauses=tuple(p for p in task.pauses if p.field != field),
                drifts=tuple(d for d in task.drifts if d.field != field),
            )


def _adopted(task: Task, event: e.FieldAdopted) -> Task:
    match event.field:
        case "title":
            return changed(task, title=event.value)
        case "labels":
            return changed(task, labels=tuple(filter(None, event.value.split(","))))
        case "priority":
            return changed(task, priority=event.value)
        case "goal":
            return changed(task, goal=event.value)


def _drifted(task: Task, drift: Drift) -> Task:
    return changed(task, drifts=(*(d for d in task.drifts if d.at > drift.at - _REMEMBERED), drift))
