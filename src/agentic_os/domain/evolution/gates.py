"""What plans, results and decisions on them change."""

from dataclasses import replace
from typing import Literal

from agentic_os.domain import events as e
from agentic_os.domain.evolution.attempts import closed
from agentic_os.domain.evolution.copying import changed
from agentic_os.domain.task import Authorisation, Submission, Task


def planned(
    task: Task, event: e.PlanSubmitted | e.PlanVoted | e.PlanApproved | e.PlanReturned | e.PlanRejected
) -> Task:
    """Apply what becomes of a plan."""
    match event:
        case e.PlanSubmitted():
            submitted = closed(task, "submitted", event.seq, event.callback_id)
            return changed(
                submitted, phase="plan_review", plan=_submission(task, event), items=(), stalled=None
            )
        case e.PlanVoted():
            return changed(task, plan=_voted(task.plan, event))
        case e.PlanApproved():
            authorisation = Authorisation(
                digest=event.digest, version=event.version, bundle=event.bundle, approvers=event.approvers
            )
            return changed(
                task,
                phase="ready",
                plan=_decided(task.plan, "approved"),
                authorisation=authorisation,
                undecided=task.plan.tasks if task.plan else 0,
            )
        case e.PlanReturned():
            plan = _decided(task.plan, "returned")
            return changed(task, phase="ready", plan=plan, items=event.items, revisions=task.revisions + 1)
        case e.PlanRejected():
            return changed(task, phase="rejected", plan=_decided(task.plan, "rejected"))


def resulted(
    task: Task,
    event: e.ResultSubmitted | e.ResultVoted | e.ResultReturned | e.ResultRejected | e.TaskCompleted,
) -> Task:
    """Apply what becomes of a result."""
    match event:
        case e.ResultSubmitted():
            submitted = closed(task, "submitted", event.seq, event.callback_id)
            return changed(
                submitted,
                phase="result_review",
                result=_submission(task, event),
                items=(),
                stalled=None,
                evidence={**task.evidence, **{x.criterion_id: x for x in event.evidence}},
                artifacts={**task.artifacts, **{a.name: a.version for a in event.artifacts}},
            )
        case e.ResultVoted():
            return changed(task, result=_voted(task.result, event))
        case e.ResultReturned():
            result = _decided(task.result, "returned")
            return changed(task, phase="ready", result=result, items=event.items, reworks=task.reworks + 1)
        case e.ResultRejected():
            return changed(
                task, phase="rejected", result=_decided(task.result, "rejected"), authorisation=None
            )
        case e.TaskCompleted():
            return changed(
                task, phase="completed", result=_decided(task.result, "approved"), authorisation=None
            )


def _submission(task: Task, event: e.PlanSubmitted | e.ResultSubmitted) -> Submission:
    return Submission(
        version=event.version,
        digest=event.digest,
        state="open",
        executor=event.executor,
        attempt=event.attempt,
        submitted_in=task.version + 1,
        submitted_at=event.at,
        review_deadline=event.review_deadline,
        outcome=event.outcome if isinstance(event, e.ResultSubmitted) else None,
        tasks=len(event.plan.get("tasks", ())) if isinstance(event, e.PlanSubmitted) else 0,
    )


def _voted(submission: Submission | None, event: e.PlanVoted | e.ResultVoted) -> Submission | None:
    if submission is None or event.vote != "approve":
        return submission
    return replace(submission, approvals=(*submission.approvals, event.voter))


def _decided(
    submission: Submission | None, state: Literal["approved", "returned", "rejected"]
) -> Submission | None:
    return None if submission is None else replace(submission, state=state)


def withdrawn(submission: Submission | None) -> Submission | None:
    """Withdraw what is under review."""
    return replace(submission, state="withdrawn") if submission and submission.state == "open" else submission


def timed_out(submission: Submission | None) -> Submission | None:
    """Note that the time for a decision has passed."""
    return None if submission is None else replace(submission, timed_out=True, review_deadline=None)
