"""What changes over any phase, and what moves a lease without a callback."""

from agentic_os.domain import events as e
from agentic_os.domain.evolution.copying import changed
from agentic_os.domain.task import Freeze, Task


def timed(
    task: Task,
    event: e.StartDeferred
    | e.StartReached
    | e.DueEscalates
    | e.TaskOverdue
    | e.TaskFrozen
    | e.TaskThawed
    | e.LeaseExtended
    | e.LeaseRenewedByRun
    | e.RunEnded,
) -> Task:
    """Apply what a start, a due date, a freeze or a moved lease changes."""
    match event:
        case e.StartDeferred(not_before=not_before):
            return changed(task, not_before=not_before, deferred=not_before > task.created_at)
        case e.StartReached():
            return changed(task, deferred=False)
        case e.DueEscalates():
            return changed(task, on_due="escalate")
        case e.TaskOverdue(on_due=on_due):
            return changed(task, overdue=True, must_escalate=on_due == "escalate")
        case e.TaskFrozen():
            freeze = Freeze(until=event.until, rule=event.rule, reason=event.reason)
            return changed(task, frozen=freeze)
        case e.TaskThawed(at=at):
            return changed(task, frozen=None, thawed_at=at)
        case _:
            return _leased(task, event)


def _leased(task: Task, event: e.LeaseExtended | e.LeaseRenewedByRun | e.RunEnded) -> Task:
    """Move the end of the lease, or of the time for the acknowledgement."""
    attempt = task.attempt
    if attempt is None:
        return task
    match event:
        case e.LeaseExtended(lease_expires_at=until) if attempt.state == "offered":
            return changed(task, attempt=changed(attempt, ack_deadline=until, extended=True))
        case e.LeaseExtended(lease_expires_at=until):
            return changed(task, attempt=changed(attempt, lease_expires_at=until, extended=True))
        case e.LeaseRenewedByRun(lease_expires_at=until):
            return changed(
                task, attempt=changed(attempt, lease_expires_at=until, run_ended=None, run_detail=None)
            )
        case e.RunEnded(lease_expires_at=until) if attempt.state == "offered":
            ended = {"run_ended": event.seen_at, "run_detail": event.detail}
            return changed(task, attempt=changed(attempt, ack_deadline=until, **ended))
        case e.RunEnded(lease_expires_at=until):
            ended = {"run_ended": event.seen_at, "run_detail": event.detail}
            return changed(task, attempt=changed(attempt, lease_expires_at=until, **ended))
