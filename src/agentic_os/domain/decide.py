"""THE DECIDER: what a command does to a task. Pure; repeating an accepted command yields no events."""

from typing import assert_never

from agentic_os.domain import (
    agent_reviews,
    attempts,
    attestation,
    caps,
    children,
    drift,
    escalations,
    intake,
    leases,
    overlays,
    quarantine,
    reviews,
    rulings,
    spending,
    submissions,
)
from agentic_os.domain import commands as c
from agentic_os.domain.events import Event
from agentic_os.domain.evolution import fold
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.task import Task


def decide(command: c.Command, task: Task | None) -> list[Event]:
    """Decide which facts follow from the command. Raises Rejected with a code from a closed set."""
    events = _decide(command, task)
    if events:
        events = [*rulings.on_record(command), *events]
    if events and task is not None and task.budget.wall_seconds is not None:
        return [*spending.wall_booked(command, task, events), *events]
    return events


def _decide(command: c.Command, task: Task | None) -> list[Event]:
    if isinstance(command, c.CreateTask):
        return intake.create(command, task)
    if task is None:
        raise Rejected("unknown_task", "There is no such task.", next_step="Check the task id.")
    match command:
        case c.AdmitTask() | c.OfferAttempt() | c.RequireInput() | c.EscalateReview():
            return _by_system(command, task)
        case c.CreateChildren() | c.EndChild():
            return _family(command, task)
        case c.AwaitBudget() | c.ChargeRefusal():
            return _account(command, task)
        case c.Quarantine() | c.Adopt():
            return _late(command, task)
        case c.CastVote() | c.EditPlan() | c.Attest():
            return _judge(command, task)
        case (
            c.FenceOff()
            | c.Cancel()
            | c.Retry()
            | c.Reassign()
            | c.Answer()
            | c.PutOnHold()
            | c.ReleaseHold()
            | c.SwitchOffDefault()
            | c.Reprioritise()
            | c.TightenMode()
            | c.TakeNote()
        ):
            return _steer(command, task)
        case c.RecordDenial() | c.RecordSkillDrift():
            return _record(command, task)
        case (
            c.FireDeadline()
            | c.FreezeTask()
            | c.ThawTask()
            | c.TripBreaker()
            | c.ExtendLease()
            | c.SeeRun()
            | c.TakeBack()
            | c.SeeDrift()
            | c.AdoptField()
            | c.ResumeRepairs()
        ):
            return _notice(command, task)
        case _:
            return _from_executor(command, task)


def _record(command: c.RecordDenial | c.RecordSkillDrift, task: Task) -> list[Event]:
    match command:
        case c.RecordDenial():
            return rulings.record(command, task)
        case c.RecordSkillDrift():
            return attempts.skills_drifted(command, task)


def _by_system(
    command: c.AdmitTask | c.OfferAttempt | c.RequireInput | c.EscalateReview, task: Task
) -> list[Event]:
    match command:
        case c.AdmitTask():
            return intake.admit(command, task)
        case c.OfferAttempt() if task.under_review is not None:
            return agent_reviews.offer(command, task)
        case c.OfferAttempt():
            return attempts.offer(command, task)
        case c.RequireInput():
            return intake.require_input(command, task)
        case c.EscalateReview():
            return agent_reviews.leave_to_people(command, task)


def _family(command: c.CreateChildren | c.EndChild, task: Task) -> list[Event]:
    match command:
        case c.CreateChildren():
            return children.create(command, task)
        case c.EndChild():
            return children.end(command, task)


def _account(command: c.AwaitBudget | c.ChargeRefusal, task: Task) -> list[Event]:
    match command:
        case c.AwaitBudget():
            return spending.wait(command, task) if agent_reviews.awaits_attempt(task) else []
        case c.ChargeRefusal():
            return spending.charge(command, task)


def _late(command: c.Quarantine | c.Adopt, task: Task) -> list[Event]:
    match command:
        case c.Quarantine():
            return quarantine.keep(command, task)
        case c.Adopt():
            return quarantine.adopt(command, task)


def _judge(command: c.CastVote | c.EditPlan | c.Attest, task: Task) -> list[Event]:
    match command:
        case c.Attest():
            return attestation.attest(command, task)
        case c.EditPlan():
            return submissions.edit_plan(command, task)
        case c.CastVote():
            return reviews.vote(command, task)


def _steer(command: c.SteeringCommand, task: Task) -> list[Event]:
    match command:
        case c.FenceOff():
            return intake.fence_off(command, task)
        case c.Cancel():
            return intake.cancel(command, task)
        case c.Retry():
            caps.refuse_passed(command, task)
            return intake.retry(command, task)
        case c.Reassign():
            return intake.reassign(command, task)
        case c.Answer():
            return escalations.answer(command, task)
        case c.PutOnHold():
            return intake.hold(command, task)
        case c.ReleaseHold():
            return intake.unhold(command, task)
        case c.SwitchOffDefault():
            return reviews.switch_off_default(command, task)
        case c.Reprioritise() | c.TightenMode() | c.TakeNote():
            return _word_of(command, task)


def _word_of(command: c.Reprioritise | c.TightenMode | c.TakeNote, task: Task) -> list[Event]:
    match command:
        case c.Reprioritise():
            return intake.reprioritise(command, task)
        case c.TightenMode():
            return intake.tighten_mode(command, task)
        case c.TakeNote():
            return intake.take_note(command, task)


def _on_issue(command: c.IssueCommand, task: Task) -> list[Event]:
    match command:
        case c.SeeDrift():
            return drift.see(command, task)
        case c.AdoptField():
            return drift.adopt(command, task)
        case c.ResumeRepairs():
            return drift.resume(command, task)


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
        case "wall":
            return spending.wall_out(command, task)
        case "budget":
            return spending.renew(command, task) if agent_reviews.awaits_attempt(task) else []
        case "not_before":
            return overlays.begin(command, task)
        case "due":
            return overlays.overdue(command, task)
        case "freeze":
            return overlays.freeze_ended(command, task)
        case _:
            return drift.quiet(command, task) if command.kind == "repairs" else []


def _notice(command: c.FireDeadline | c.NoticedCommand | c.IssueCommand, task: Task) -> list[Event]:
    match command:
        case c.FireDeadline():
            return _fire(command, task)
        case c.FreezeTask():
            return overlays.freeze(command, task)
        case c.ThawTask():
            return overlays.thaw(command, task)
        case c.TripBreaker():
            return overlays.trip(command, task)
        case c.ExtendLease():
            return leases.extend(command, task)
        case c.SeeRun():
            return leases.see_run(command, task)
        case c.TakeBack():
            return intake.take_back(command, task)
        case _:
            return _on_issue(command, task)


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
            decided = submissions.submit_plan(command, task)
        case c.SubmitResult():
            decided = submissions.submit_result(command, task)
        case c.SubmitReview():
            decided = agent_reviews.submit(command, task)
        case c.ReportFailure():
            decided = attempts.fail(command, task)
        case _:
            assert_never(command)
    spent = attempts.booked(command, task)
    if isinstance(command, c.SubmitPlan | c.SubmitResult):
        return [*spent, *attempts.flagged(command, fold(spent, task) or task), *decided]
    return [*spent, *decided]
