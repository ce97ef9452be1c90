"""Reviews by executors: each an attempt of its own, whose vote counts as a person's does."""

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.attempts import opened, over_budget, started
from agentic_os.domain.documents import Participant, witnessed
from agentic_os.domain.evidence import effective, unmet
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.reviews import decided, require_apart
from agentic_os.domain.task import REVIEW_TRIES, Submission, Task


def wanted(task: Task) -> Submission | None:
    """Give what an executor is to review now; None where none is to, or one is at it."""
    submission = task.under_review
    if submission is None or submission.state != "open" or submission.escalated:
        return None
    if task.deciding.by != "anyone" or (task.attempt is not None and task.attempt.is_open):
        return None
    return submission


def awaits_attempt(task: Task) -> bool:
    """Tell whether the next thing to happen to the task is that an attempt is opened for somebody."""
    return task.phase == "ready" or wanted(task) is not None


def may_review(task: Task, submission: Submission, executor: str) -> bool:
    """Tell whether an executor may be asked: not of the lineage, not counted yet, not passed over too often."""
    return (
        executor not in task.lineage
        and executor not in submission.approvals
        and submission.passed.count(executor) < REVIEW_TRIES
    )


def offer(command: c.OfferAttempt, task: Task) -> list[e.Event]:
    """Open an attempt for a reviewer, beside the phase. Raises Rejected for one that may not review this."""
    current = task.attempt
    if current is not None and (current.number, current.executor) == (command.attempt, command.executor):
        return []
    submission = wanted(task)
    if submission is None or command.attempt != (current.number if current else 0) + 1:
        raise Rejected(
            "wrong_phase",
            f"No reviewer is asked for as attempt {command.attempt} while the task is {task.phase}.",
        )
    if task.kept_back:
        raise Rejected(
            "wrong_phase", "The task is on hold or frozen: nobody is asked now.", next_step="/status"
        )
    if not may_review(task, submission, command.executor):
        raise Rejected("self_review", f"{command.executor} may not review this.")
    if command.verdict.decision == "deny":
        raise Rejected(
            "policy_denied",
            "; ".join(command.verdict.reasons) or "Policy does not let it review.",
            denial=command.verdict,
        )
    if passed := over_budget(task):
        return [_escalated(task, submission, f"the task's budget is used up: {passed}")]
    return opened(command, task)


def leave_to_people(command: c.EscalateReview, task: Task) -> list[e.Event]:
    """Ask no further executor for this review."""
    submission = wanted(task)
    if submission is None or submission.version != command.version:
        return []
    return [_escalated(task, submission, command.reason)]


def submit(command: c.SubmitReview, task: Task) -> list[e.Event]:
    """Take in an executor's vote on exactly what its brief showed; its attempt closes."""
    attempt = started(command, task)
    submission = task.under_review
    subject = task.phase.removesuffix("_review")
    if attempt.step != "review" or submission is None or submission.state != "open":
        raise Rejected(
            "wrong_phase",
            f"This attempt is not for reviewing but to {attempt.step}.",
            next_step="Send a plan, a result or a failure.",
        )
    if (command.subject, command.digest) != (subject, submission.digest):
        raise Rejected(
            "digest_mismatch",
            f"Under review is the {subject} with the digest {submission.digest}.",
            next_step="Review what the brief shows, and name its subject and digest.",
            pointers=("/body/subject", "/body/digest"),
        )
    reviewer = Participant(id=command.executor, kind="executor")
    require_apart(reviewer, task, submission)
    evidence = tuple(witnessed(x) for x in command.evidence)
    vote = _as_vote(command, reviewer, task, submission)
    reviewed = e.ReviewSubmitted(
        attempt=command.attempt,
        seq=command.seq,
        callback_id=command.callback_id,
        subject=command.subject,
        version=submission.version,
        digest=submission.digest,
        executor=command.executor,
        vote=command.vote,
        summary=command.summary,
        items=command.items,
        evidence=evidence,
        at=command.at,
    )
    lacking = unmet(task, effective(task, evidence)) if command.subject == "result" else ()
    events: list[e.Event] = [reviewed]
    # Whoever has the reviewer's name may have voted while it was at work; one name counts once.
    counted = vote.vote == "approve" and command.executor in submission.approvals
    for event in () if counted else decided(vote, task, submission):
        # A person's acceptance is a witness of its own; executors' votes complete nothing that is not shown.
        incomplete = isinstance(event, e.TaskCompleted) and lacking
        reason = f"evidence is missing for: {', '.join(lacking)}"
        events.append(_escalated(task, submission, reason) if incomplete else event)
    return events


def _escalated(task: Task, submission: Submission, reason: str) -> e.Event:
    return e.ReviewEscalated(
        subject="plan" if task.phase == "plan_review" else "result",
        version=submission.version,
        digest=submission.digest,
        reason=reason,
    )


def _as_vote(
    command: c.SubmitReview, reviewer: Participant, task: Task, submission: Submission
) -> c.CastVote:
    return c.CastVote(
        subject=command.subject,
        voter=reviewer,
        vote=command.vote,
        words=command.summary,
        version=submission.version,
        digest=command.digest,
        seen_at=command.at,
        items=command.items,
        item_ids=command.item_ids,
        bundle=task.ruling.bundle if task.ruling else "",
    )
