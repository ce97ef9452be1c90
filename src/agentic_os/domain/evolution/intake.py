"""What changes a task as a whole."""

from dataclasses import replace
from typing import assert_never

from agentic_os.domain import events as e
from agentic_os.domain.documents import RANKS, Criterion
from agentic_os.domain.evolution.attempts import closed
from agentic_os.domain.evolution.children import related, waived
from agentic_os.domain.evolution.copying import changed
from agentic_os.domain.evolution.gates import withdrawn
from agentic_os.domain.policy import Obligations
from agentic_os.domain.task import REMEMBERED_NOTES, Hold, Phase, Quarantined, Remark, Ruling, Task


def created(event: e.TaskCreated) -> Task:
    """Make the task that the first fact of a stream tells of."""
    return Task(
        id=event.task_id,
        version=1,
        phase="received",
        title=event.title,
        goal=event.goal,
        project=event.project,
        acceptance=event.acceptance,
        mode=event.mode,
        risk=event.risk,
        paths=event.paths,
        tools=event.tools,
        labels=event.labels,
        assignee=event.assignee,
        depends_on=event.depends_on,
        budget=event.budget,
        priority=event.priority,
        due=event.due,
        origin=event.origin,
        requester=event.requester,
        created_at=event.at,
    )


def ruled(task: Task, event: e.TaskAllowed | e.TaskDenied | e.DispatchDenied | e.PolicyDecided) -> Task:
    """Apply a verdict of policy; of what was not let in the last is noted, so that it is put on record once."""
    if isinstance(event, e.PolicyDecided):
        denial = (event.hook, event.bundle, event.facts_digest)
        return changed(task, denied=denial) if event.decision == "deny" else task
    ruling = Ruling(
        decision="allow" if isinstance(event, e.TaskAllowed) else "deny",
        rules=event.rules,
        reasons=event.reasons,
        bundle=event.bundle,
    )
    match event:
        case e.TaskAllowed(obligations=obligations):
            ranked = tuple(_ranked(c, obligations) for c in task.acceptance)
            return changed(
                task,
                phase="ready",
                ruling=ruling,
                obligations=obligations,
                mode=obligations.mode,
                acceptance=ranked,
            )
        case e.TaskDenied():
            return changed(task, phase="rejected", ruling=ruling)
        case e.DispatchDenied():
            return changed(task, ruling=ruling)


def _ranked(criterion: Criterion, obligations: Obligations) -> Criterion:
    asked = [
        r for r in (obligations.evidence.get(criterion.id), obligations.evidence.get("*")) if r is not None
    ]
    return replace(criterion, rank=max([criterion.rank, *asked], key=RANKS.index))


def moved(
    task: Task,
    event: e.AttemptSuperseded
    | e.RetryReleased
    | e.TaskReassigned
    | e.InputRequired
    | e.TaskDeadLettered
    | e.TaskFailed
    | e.TaskCancelled,
) -> Task:
    """Apply what moves a task between phases, whatever gate or attempt it is at."""
    match event:
        case e.AttemptSuperseded():
            return closed(task, "superseded")
        case e.RetryReleased(fresh=fresh):
            passing = tuple(q for q in task.questions if not q.blocking)
            ready = changed(
                task, phase="ready", retry_at=None, waits="", questions=passing, children=waived(task)
            )
            if not fresh:
                return ready
            return changed(ready, retries={}, excluded=(), least_tier=None, revisions=0, reworks=0, replans=0)
        case e.TaskReassigned(assignee=assignee):
            under_review = task.phase in ("plan_review", "result_review", "received")
            phase: Phase = task.phase if under_review else "ready"
            return changed(
                task,
                assignee=assignee,
                phase=phase,
                excluded=(),
                least_tier=None,
                retry_at=None,
                waits="",
                questions=(),
                children=waived(task),
            )
        case e.InputRequired(reason=reason):
            return changed(task, phase="input_required", waits=reason, retry_at=None, must_escalate=False)
        case e.TaskDeadLettered(reason=reason):
            return changed(task, phase="dead_letter", waits=reason, retry_at=None)
        case e.TaskFailed(reason=reason):
            return changed(task, phase="failed", waits=reason, retry_at=None, authorisation=None)
        case e.TaskCancelled():
            return changed(
                task,
                phase="cancelled",
                retry_at=None,
                authorisation=None,
                plan=withdrawn(task.plan),
                result=withdrawn(task.result),
            )
        case _:
            assert_never(event)


def overlaid(
    task: Task,
    event: e.TaskHeld
    | e.HoldReleased
    | e.CallbackQuarantined
    | e.QuarantineAdopted
    | e.OutputDeclared
    | e.ParentDeclared
    | e.InputGiven
    | e.ChildAccepted
    | e.ChildRefused
    | e.ChildEnded
    | e.TaskReprioritised
    | e.ModeTightened
    | e.NoteTaken,
) -> Task:
    """Apply what lies over any phase: holds, what is kept aside, what is declared, and other tasks."""
    match event:
        case e.TaskReprioritised() | e.ModeTightened() | e.NoteTaken():
            return _told(task, event)
        case e.OutputDeclared(output_schema=schema):
            return changed(task, output_schema=schema)
        case e.TaskHeld(reason=reason, by=by, cause=cause):
            hold = Hold(reason=reason, by=by, cause=cause, placed_in=task.version + 1)
            return changed(task, holds=(*task.holds, hold))
        case e.HoldReleased():
            tried = task.attempt.number if task.attempt else 0
            return changed(task, holds=(), stalled=None, counted_from=tried)
        case e.CallbackQuarantined():
            kept = Quarantined(
                id=event.quarantine_id, attempt=event.attempt, kind=event.kind, kept_in=task.version + 1
            )
            return changed(task, quarantined=(*task.quarantined, kept))
        case e.QuarantineAdopted(quarantine_id=found):
            kept_aside = tuple(replace(q, adopted=q.adopted or q.id == found) for q in task.quarantined)
            adopted = changed(task, quarantined=kept_aside, questions=())
            return changed(adopted, evidence={}, attested=()) if event.kind == "result" else adopted
        case _:
            return related(task, event)


def _told(task: Task, event: e.TaskReprioritised | e.ModeTightened | e.NoteTaken) -> Task:
    match event:
        case e.TaskReprioritised(priority=priority):
            return changed(task, priority=priority)
        case e.ModeTightened():
            # Whoever was offered the work under the looser mode was superseded before.
            return changed(
                task, mode="plan_first", phase="ready" if task.phase == "dispatched" else task.phase
            )
        case e.NoteTaken(note_id=note_id):
            remark = Remark(id=note_id, taken_in=task.version + 1)
            return changed(task, notes=(*task.notes, remark)[-REMEMBERED_NOTES:])
