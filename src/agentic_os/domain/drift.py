"""What others change on the task's issue: taken over, left, put back, and put back no more when it never ends."""

from datetime import timedelta
from typing import Final, Literal, get_args

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.documents import OurField, Priority
from agentic_os.domain.task import Pause, Task

WITHIN: Final = timedelta(hours=1)
REPAIRS: Final = 5
"""How often a field is put back within an hour; what comes after that stays until it was quiet for about an hour."""
REMADE: Final = 1
"""How often an issue that was deleted is made again within an hour."""

_TITLE: Final = 300
_LABELS, _LABEL = 50, 60
_GOAL: Final = 200_000
_VALUE: Final = 200


def see(command: c.SeeDrift, task: Task) -> list[e.Event]:
    """Put on record what is to be put back, or that it is not put back any more."""
    field, wants = command.field, wanted(task, command.field)
    if field in ("state", "closed") and command.value == wants:
        return []
    value = command.value[:_VALUE]
    seen = [d for d in task.drifts if d.field == field and d.at > command.at - WITHIN]
    # One issue is deleted once, whoever saw it and when.
    if any(
        d.value == value and (d.at == command.at or field == "issue") for d in task.drifts if d.field == field
    ):
        return []
    paused = e.RepairsPaused(field=field, author=command.author, wanted=wants, until=command.at + WITHIN)
    standing = pause_of(task, field)
    if standing is not None and standing.wanted == wants:
        # Each change puts the end off, but not each is an event: two robots can change a field for ever.
        return [paused] if standing.until - command.at < WITHIN / 2 else []
    drifted = e.FieldDrifted(field=field, author=command.author, value=value, at=command.at)
    most = REMADE if field == "issue" and not command.forced else REPAIRS
    return [drifted, paused] if len(seen) >= most else [drifted]


def adopt(command: c.AdoptField, task: Task) -> list[e.Event]:
    """Take over what is theirs, or say why the task keeps its own."""
    field, value = command.field, command.value.strip()
    if field == "labels":
        value = ",".join(dict.fromkeys(filter(None, map(str.strip, value.split(",")))))
    if task.ended or value == _now(task, field):
        return []
    reason = _why_not(command, value, task)
    if not reason:
        return [e.FieldAdopted(field=field, value=value)]
    noted = [d for d in task.drifts if d.field == field and d.at > command.at - WITHIN]
    if len(noted) >= REPAIRS or any(d.at == command.at for d in noted):
        return []
    return [e.FieldNoted(field=field, value=value[:_VALUE], reason=reason, at=command.at)]


def resume(command: c.ResumeRepairs, task: Task) -> list[e.Event]:
    """Put everything back again."""
    return [e.RepairsResumed(field=p.field, reason=command.reason) for p in task.pauses]


def quiet(command: c.FireDeadline, task: Task) -> list[e.Event]:
    """Put a field back again that nobody changed for a while."""
    paused = next((p for p in task.pauses if p.field == command.ref), None)
    if paused is None or command.at < paused.until:
        return []
    return [e.RepairsResumed(field=paused.field, reason="nobody changed it for a while")]


def pause_of(task: Task, field: OurField) -> Pause | None:
    """Find why a field is not put back."""
    return next((p for p in task.pauses if p.field == field), None)


def repaired(task: Task, field: OurField) -> bool:
    """Tell whether the field is made as the task wants it; what it did not want before is written all the same."""
    paused = pause_of(task, field)
    return paused is None or paused.wanted != wanted(task, field)


def wanted(task: Task, field: OurField) -> str:
    """Name what the task wants a field to be, so that it can be told from what it wanted before."""
    attempt = task.attempt
    match field:
        case "state":
            return task.phase
        case "closed":
            return closed_as(task) or ""
        case "assignee":
            return str(attempt.number if attempt is not None and attempt.is_open else 0)
        case "brief":
            return str(attempt.offered_in if attempt is not None else 0)
        case "issue":
            return "there"
        case "document":
            return "/".join(str(s.version if s else 0) for s in (task.plan, task.result))


def closed_as(task: Task) -> Literal["completed", "not_planned"] | None:
    """Say how the issue of an ended task is closed, in the words of the port; None while the task goes on."""
    if not task.ended:
        return None
    return "completed" if task.phase == "completed" else "not_planned"


def _now(task: Task, field: str) -> str:
    match field:
        case "title":
            return task.title
        case "labels":
            return ",".join(task.labels)
        case "priority":
            return task.priority
        case _:
            return task.goal.strip()


def _why_not(command: c.AdoptField, value: str, task: Task) -> str:
    if not command.permitted:
        return "only an operator's changes are taken over"
    match command.field:
        case "title" if not value or len(value) > _TITLE or len(value.splitlines()) != 1:
            return f"a title is one line of at most {_TITLE} characters"
        case "labels" if len(found := value.split(",")) > _LABELS or any(len(x) > _LABEL for x in found):
            return f"there are at most {_LABELS} labels of at most {_LABEL} characters"
        case "priority" if value not in get_args(Priority):
            return f"a priority is one of {', '.join(get_args(Priority))}"
        case "goal" if not value or len(value) > _GOAL:
            return f"a goal has 1 to {_GOAL} characters"
        case "goal" if task.authorisation is not None or task.under_review is not None:
            return "what was approved, or is under review, answers the goal as it was: /revise, /rework or /cancel"
        case _:
            return ""
