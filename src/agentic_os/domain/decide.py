"""THE DECIDER: what a command does to a task. Pure; repeating an accepted command yields no events."""

from typing import assert_never

from agentic_os.domain import attempts, children, escalations, intake, quarantine, reviews
from agentic_os.domain import commands as c
from agentic_os.domain.events import Event
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.task import Task


def decide(command: c.Command, task: Task | None) -> list[Event]:
    """Decide which facts follow from the command. Raises Rejected with a code from a closed set."""
    if isinstance(command, c.CreateTask):
        return intake.create(command, task)
    if task is None:
        raise Rejected("unknown_task", "There is no such task.", next_step="Check the task id.")
    match command:
        case c.AdmitTask() | c.RequireInput() | c.CreateChildren() | c.EndChild():
            return _go_on(command, task)
        case c.OfferAttempt():
            return attempts.offer(command, task)
        case c.Quarantine():
            return quarantine.keep(command, task)
        case c.Adopt():
            return quarantine.adopt(command, task)
        case c.CastVote():
            return reviews.vote(command, task)
        case c.Cancel() | c.Retry() | c.Reassign() | c.Answer() | c.PutOnHold() | c.ReleaseHold():
            return _steer(command, task)
        case c.FireDeadline():
            return _fire(command, task)
        case _:
            return _from_executor(command, task)


def _go_on(command: c.AdmitTask | c.RequireInput | c.CreateChildren | c.EndChild, task: Task) -> list[Event]:
    match command:
        case c.AdmitTask():
            return intake.admit(command, task)
        case c.RequireInput():
            return intake.require_input(command, task)
        case c.CreateChildren():
            return children.create(command, task)
        case c.EndChild():
            return children.end(command, task)


def _steer(command: c.SteeringCommand, task: Task) -> list[Event]:
    match command:
        case c.Cancel():
            return intake.cancel(command, task)
        case c.Retry():
            return intake.retry(command, task)
        case c.Reassign():
            return intake.reassign(command, task)
        case c.Answer():
            return escalations.answer(command, task)
        case c.PutOnHold():
            return intake.hold(command, task)
        case c.ReleaseHold():
            return intake.unhold(command, task)


def _fire(command: c.FireDeadline, task: Task) -> list[Event]:
    match command.kind:
        case "ack" | "lease":
            return attempts.expire(command, task)
        case "retry":
            return attempts.release(command, task)
        case "review":
            return reviews.time_out(command, task)
        case "escalation":
            return escalations.time_out(command, task)
        case _:
            return []


def _from_executor(command: c.ExecutorCommand, task: Task) -> list[Event]:
    if attempts.is_repeat(command, task):
        return []
    match command:
        case c.Acknowledge():
            decided = attempts.acknowledge(command, task)
        case c.Decline():
            decided = attempts.decline(command, task)
        case c.RequestTasks():
            decided = children.request(command, task)
        case c.Heartbeat() | c.ReportProgress() | c.AddEvidence() | c.Record():
            decided = attempts.report(command, task)
        case c.Escalate():
            decided = escalations.escalate(command, task)
        case c.SubmitPlan():
            decided = reviews.submit_plan(command, task)
        case c.SubmitResult():
            decided = reviews.submit_result(command, task)
        case c.ReportFailure():
            decided = attempts.fail(command, task)
        case _:
            assert_never(command)
    return [*attempts.booked(command), *decided]
