"""What came too late: kept aside with its reason, and taken in by an operator, through the checks of a live one."""

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain import submissions
from agentic_os.domain.evolution import changed
from agentic_os.domain.intake import refuse_ended, supersede
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.task import Quarantined, Task

_CLOSED_TO_IT = ("plan_review", "result_review", "received")


def keep(command: c.Quarantine, task: Task) -> list[e.Event]:
    """Keep a late plan or result aside, one of each for an attempt."""
    if any((q.attempt, q.kind) == (command.attempt, command.kind) for q in task.quarantined):
        return []
    return [
        e.CallbackQuarantined(
            quarantine_id=command.quarantine_id,
            attempt=command.attempt,
            callback_id=command.callback_id,
            kind=command.kind,
            reason=command.reason,
            body=command.body,
            at=command.at,
        )
    ]


def adopt(command: c.Adopt, task: Task) -> list[e.Event]:
    """Take a late plan or result in; an attempt that is under way is fenced off by it."""
    kept = found(task, command.quarantine_id)
    if kept.adopted:
        return []
    refuse_ended(task)
    if task.phase in _CLOSED_TO_IT:
        raise Rejected(
            "wrong_phase",
            f"Nothing can be adopted while the task is {task.phase}.",
            next_step="Decide on what is under review first.",
        )
    if kept.kind == "result" and task.authorisation and task.plan and kept.attempt <= task.plan.attempt:
        raise Rejected(
            "plan_unapproved",
            "This result was made before the plan that is approved now; it carries out another one.",
            next_step="Let the approved plan be executed, or /cancel.",
        )
    late = command.late
    adopted = e.QuarantineAdopted(
        quarantine_id=kept.id, attempt=kept.attempt, kind=kept.kind, by=command.by, reason=command.reason
    )
    step = task.next_step
    if isinstance(late, c.SubmitPlan):
        decided = submissions.plan_submitted(late, task, step)
    else:
        # What another attempt showed meanwhile is no evidence for this one's result.
        decided = submissions.result_submitted(late, changed(task, evidence={}, attested=()), step)
    return [*supersede(task, "a late submission was adopted"), adopted, *decided]


def found(task: Task, quarantine_id: str) -> Quarantined:
    """Find what is kept aside under an id. Raises Rejected."""
    for kept in task.quarantined:
        if kept.id == quarantine_id:
            return kept
    ids = ", ".join(q.id for q in task.quarantined if not q.adopted) or "nothing"
    raise Rejected("wrong_phase", f"Nothing is kept aside as {quarantine_id!r}; there is: {ids}.")
