"""How each fact changes a task. `evolve` is total and never refuses."""

from collections.abc import Iterable

from agentic_os.domain import events as e
from agentic_os.domain.evolution.attempts import attempted, drifted, reported
from agentic_os.domain.evolution.budgets import budgeted
from agentic_os.domain.evolution.copying import changed
from agentic_os.domain.evolution.gates import at_gate
from agentic_os.domain.evolution.intake import created, moved, overlaid, ruled
from agentic_os.domain.evolution.issues import on_issue
from agentic_os.domain.evolution.overlays import timed
from agentic_os.domain.evolution.questions import asked
from agentic_os.domain.task import Task

__all__ = ["changed", "evolve", "fold"]


def fold(events: Iterable[e.Event], task: Task | None = None) -> Task | None:
    """Fold events onto a task."""
    for event in events:
        task = evolve(task, event)
    return task


def evolve(task: Task | None, event: e.Event) -> Task:
    """Apply one fact."""
    if task is None:
        if not isinstance(event, e.TaskCreated):
            msg = f"a task's stream begins with task.created, not with {event.type}"
            raise TypeError(msg)
        return created(event)
    return changed(_apply(task, event), version=task.version + 1)


def _apply(task: Task, event: e.Event) -> Task:  # noqa: PLR0911 - one for each topic
    match event:
        case e.TaskCreated() | e.DispatchAllowed() | e.PolicyDiffered():
            return task
        case e.TaskAllowed() | e.TaskDenied() | e.DispatchDenied() | e.PolicyDecided():
            return ruled(task, event)
        case (
            e.AttemptOffered()
            | e.AttemptAcked()
            | e.AttemptDeclined()
            | e.AttemptFailed()
            | e.AttemptExpired()
            | e.AttemptRuled()
        ):
            return attempted(task, event)
        case e.SkillsDrifted():
            return drifted(task, event)
        case e.LeaseRenewed() | e.ProgressReported() | e.EvidenceAdded() | e.ReportRecorded():
            return reported(task, event)
        case (
            e.PlanSubmitted()
            | e.PlanEdited()
            | e.PlanVoted()
            | e.PlanApproved()
            | e.PlanReturned()
            | e.PlanRejected()
            | e.ResultSubmitted()
            | e.EvidenceAttested()
            | e.ResultVoted()
            | e.ResultReturned()
            | e.ResultRejected()
            | e.TaskCompleted()
            | e.ReviewSubmitted()
            | e.ReviewEscalated()
            | e.ReviewTimedOut()
            | e.ReviewRequired()
            | e.DefaultSwitchedOff()
            | e.ReviewStageOpened()
        ):
            return at_gate(task, event)
        case e.EscalationRaised() | e.EscalationRouted() | e.EscalationAnswered() | e.EscalationTimedOut():
            return asked(task, event)
        case (
            e.TaskHeld()
            | e.HoldReleased()
            | e.CallbackQuarantined()
            | e.QuarantineAdopted()
            | e.OutputDeclared()
            | e.ParentDeclared()
            | e.InputGiven()
            | e.ChildAccepted()
            | e.ChildRefused()
            | e.ChildEnded()
            | e.TaskReprioritised()
            | e.ModeTightened()
            | e.NoteTaken()
        ):
            return overlaid(task, event)
        case (
            e.UsageBooked()
            | e.RefusalCharged()
            | e.BudgetReserved()
            | e.BudgetAwaited()
            | e.BudgetRenewed()
            | e.BudgetExceeded()
            | e.WallTimeBooked()
            | e.WallTimeExceeded()
        ):
            return budgeted(task, event)
        case (
            e.StartDeferred()
            | e.StartReached()
            | e.DueEscalates()
            | e.TaskOverdue()
            | e.TaskFrozen()
            | e.TaskThawed()
            | e.LeaseExtended()
            | e.LeaseRenewedByRun()
            | e.RunEnded()
        ):
            return timed(task, event)
        case e.FieldAdopted() | e.FieldNoted() | e.FieldDrifted() | e.RepairsPaused() | e.RepairsResumed():
            return on_issue(task, event)
        case _:
            return moved(task, event)
