"""What a task's children, and its parent, change."""

from dataclasses import replace
from typing import Final

from agentic_os.domain import events as e
from agentic_os.domain.evolution.copying import changed
from agentic_os.domain.family import Child, Parentage, RefusedChild
from agentic_os.domain.task import Task

_REMEMBERED: Final = 20
"""How many of the refused proposals are kept at hand; all are in the history."""


def related(
    task: Task, event: e.ChildAccepted | e.ChildRefused | e.ChildEnded | e.ParentDeclared | e.InputGiven
) -> Task:
    """Apply what ties tasks together."""
    match event:
        case e.ParentDeclared():
            parentage = Parentage(
                id=event.parent, ref=event.ref, depth=event.depth, obligations=event.obligations
            )
            return changed(task, parent=parentage)
        case e.InputGiven(input=given):
            return changed(task, input=given)
        case e.ChildAccepted():
            child = Child(
                id=event.child_id,
                ref=event.ref,
                title=str(event.item.get("title", "")),
                waited=event.planned,
                reserved=event.budget,
            )
            return changed(_decided(task, event), children=(*task.children, child))
        case e.ChildRefused():
            refused = RefusedChild(
                ref=event.ref,
                title=str(event.item.get("title", "")),
                rules=event.rules,
                reasons=event.reasons,
            )
            return changed(
                _decided(task, event), refused_children=(*task.refused_children, refused)[-_REMEMBERED:]
            )
        case e.ChildEnded(child_id=ended):
            children = tuple(
                replace(child, state=event.phase, spent=event.spent) if child.id == ended else child
                for child in task.children
            )
            return changed(task, children=children)


def _decided(task: Task, event: e.ChildAccepted | e.ChildRefused) -> Task:
    return changed(task, undecided=max(task.undecided - event.planned, 0))


def waived(task: Task) -> tuple[Child, ...]:
    """Wait no longer for children that ended badly, once a person has sent the task on all the same."""
    if task.phase != "input_required" or not task.children:
        return task.children
    return tuple(replace(child, waited=False) if child.spoiled else child for child in task.children)
