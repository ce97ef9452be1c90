"""What plans, results and decisions on them change."""

from dataclasses import replace
from typing import Literal, TypeAlias

from agentic_os.domain import events as e
from agentic_os.domain.documents import Attested
from agentic_os.domain.evolution.attempts import closed
from agentic_os.domain.evolution.copying import changed, with_review
from agentic_os.domain.task import Authorisation, Submission, Task

_OfPlan: TypeAlias = (
    e.PlanSubmitted | e.PlanEdited | e.PlanVoted | e.PlanApproved | e.PlanReturned | e.PlanRejected
)
_OfResult: TypeAlias = (
    e.ResultSubmitted
    | e.EvidenceAttested
    | e.ResultVoted
    | e.ResultReturned
    | e.ResultRejected
    | e.TaskCompleted
)
_OfReview: TypeAlias = (
    e.ReviewSubmitted
    | e.ReviewEscalated
    | e.ReviewTimedOut
    | e.ReviewRequired
    | e.DefaultSwitchedOff
    | e.ReviewStageOpened
)


def at_gate(task: Task, event: _OfPlan | _OfResult | _OfReview) -> Task:
    """Apply what becomes of a plan, of a result, or of a review of one."""
    match event:
        case (
            e.ReviewSubmitted()
            | e.ReviewEscalated()
            | e.ReviewTimedOut()
            | e.ReviewRequired()
            | e.DefaultSwitchedOff()
            | e.ReviewStageOpened()
        ):
            return _reviewed(task, event)
        case (
            e.PlanSubmitted()
            | e.PlanEdited()
            | e.PlanVoted()
            | e.PlanApproved()
            | e.PlanReturned()
            | e.PlanRejected()
        ):
            return _planned(task, event)
        case _:
            return _resulted(task, event)


def _planned(task: Task, event: _OfPlan) -> Task:
    match event:
        case e.PlanSubmitted():
            submitted = closed(task, "submitted", event.seq, event.callback_id)
            return changed(
                submitted, phase="plan_review", plan=_submission(task, event), items=(), stalled=None
            )
        case e.PlanEdited():
            editors = task.editors if event.author in task.editors else (*task.editors, event.author)
            return changed(task, plan=_edited(task, event), editors=editors, stalled=None)
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


def _resulted(
    task: Task,
    event: _OfResult,
) -> Task:
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
        case e.EvidenceAttested():
            return _attested(task, event)
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


def _reviewed(task: Task, event: _OfReview) -> Task:
    match event:
        case e.ReviewSubmitted():
            done = closed(task, "submitted", event.seq, event.callback_id)
            return changed(done, evidence={**task.evidence, **{x.criterion_id: x for x in event.evidence}})
        case e.ReviewRequired(obligations=obligations):
            return with_review(task, obligations=obligations)
        case e.ReviewStageOpened(stage=stage):
            return with_review(task, stage=stage - 1, escalated="")
        case e.DefaultSwitchedOff():
            return with_review(task, default_off=True)
        case e.ReviewEscalated(reason=reason):
            return with_review(task, escalated=reason)
        case e.ReviewTimedOut(outcome="escalate"):
            return with_review(task, timed_out=True, review_deadline=None, escalated="nobody decided in time")
        case e.ReviewTimedOut():
            return with_review(task, timed_out=True, review_deadline=None)


def _attested(task: Task, event: e.EvidenceAttested) -> Task:
    """Note what a source says of a criterion, in the place of what it said of it before."""
    said = Attested(
        source=event.source,
        evidence=event.evidence,
        subject_digest=event.subject_digest,
        commit=event.commit,
        url=event.url,
    )
    about = event.evidence.criterion_id
    others = tuple(a for a in task.attested if (a.source, a.evidence.criterion_id) != (event.source, about))
    return changed(task, attested=(*others, said), stalled=None)


def _submission(task: Task, event: e.PlanSubmitted | e.ResultSubmitted) -> Submission:
    before = task.plan if isinstance(event, e.PlanSubmitted) else task.result
    return Submission(
        replaces=before.submitted_in if before else 0,
        answers_to=task.items,
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


def _edited(task: Task, event: e.PlanEdited) -> Submission | None:
    """Put the edited version in the place of the one under review: undecided, and at the first stage of its review.

    What it was made of stays: the executor whose work it is, the review items that are answered, and the wish that
    people decide.
    """
    before = task.plan
    if before is None:
        return None
    return Submission(
        version=event.version,
        digest=event.digest,
        state="open",
        executor=before.executor,
        attempt=before.attempt,
        submitted_in=task.version + 1,
        submitted_at=event.at,
        review_deadline=event.review_deadline,
        replaces=before.submitted_in,
        tasks=len(event.plan.get("tasks", ())),
        default_off=before.default_off,
        answers_to=before.answers_to,
        edited_by=event.author,
        edits=event.replaces,
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
