"""What moves a task forward next, and when: pure functions of its state."""

from dataclasses import dataclass
from datetime import datetime

from agentic_os.domain.escalations import answer_line, may_default
from agentic_os.domain.reviews import approval_line, default_outcome, unmet
from agentic_os.domain.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """An instant at which something happens to the task if nobody did it before."""

    kind: str
    ref: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingFor:
    """Who must do what, by when, and what happens otherwise."""

    owner: str
    what: str
    deadline: datetime | None = None
    default: str | None = None


def deadlines(task: Task) -> tuple[Deadline, ...]:
    """List the deadlines that stand."""
    found: list[Deadline] = []
    attempt = task.attempt
    if attempt is not None and attempt.state == "offered":
        found.append(Deadline(kind="ack", ref=str(attempt.number), at=attempt.ack_deadline))
    elif attempt is not None and attempt.is_open and attempt.lease_expires_at is not None:
        found.append(Deadline(kind="lease", ref=str(attempt.number), at=attempt.lease_expires_at))
    if task.phase == "retry_wait" and task.retry_at is not None:
        found.append(Deadline(kind="retry", ref=str(attempt.number if attempt else 0), at=task.retry_at))
    if task.phase in ("plan_review", "result_review"):
        subject, submission = ("plan", task.plan) if task.phase == "plan_review" else ("result", task.result)
        if submission and submission.review_deadline:
            found.append(
                Deadline(kind="review", ref=f"{subject}:{submission.version}", at=submission.review_deadline)
            )
    if task.questions and not task.ended:
        found += [Deadline(kind="escalation", ref=q.id, at=q.deadline) for q in task.questions if q.deadline]
    return tuple(found)


def waiting_for(task: Task) -> WaitingFor | None:
    """Say what moves the task forward next; None when it has ended."""
    match task.phase:
        case "received":
            return WaitingFor(owner="system", what="policy's verdict")
        case "ready" if task.holds:
            return WaitingFor(
                owner="operator",
                what=f"the release of a hold ({'; '.join(h.reason or h.by for h in task.holds)}): /unhold",
            )
        case "ready" if task.undecided or task.awaited_children:
            return WaitingFor(owner="system", what=_for_children(task))
        case "ready":
            return WaitingFor(owner="system", what=task.waits or f"dispatch of a {task.next_step} attempt")
        case "dispatched" | "planning" | "executing":
            return _for_executor(task)
        case "plan_review" | "result_review":
            return _for_review(task)
        case "retry_wait":
            return WaitingFor(
                owner="system", what="the next try", deadline=task.retry_at, default="try again"
            )
        case "input_required" if any(q.blocking for q in task.questions):
            return _for_answer(task)
        case "dead_letter" | "input_required":
            return WaitingFor(owner="operator", what=f"{task.waits} Use /retry to go on, or /cancel.".strip())
        case _:
            return None


def _for_children(task: Task) -> str:
    if task.undecided:
        return "the creation of the tasks that its plan asks for"
    return "the end of its children: " + ", ".join(f"{child.ref} ({child.id})" for child in task.awaited_children)


def _for_executor(task: Task) -> WaitingFor | None:
    attempt = task.attempt
    if attempt is None:
        return None
    if attempt.state == "offered":
        what, deadline = "the acknowledgement of the brief", attempt.ack_deadline
    else:
        what = "a plan" if attempt.step == "plan" else "a result"
        deadline = attempt.lease_expires_at or attempt.ack_deadline
    return WaitingFor(
        owner=attempt.executor, what=what, deadline=deadline, default="the attempt expires and is retried"
    )


def _for_answer(task: Task) -> WaitingFor:
    question = next(q for q in task.questions if q.blocking)
    default = None
    if question.deadline is not None:
        default = f"its default, {question.default_option}" if may_default(task, question) else "it waits on"
    return WaitingFor(
        owner="operator",
        what=f"an answer to {question.executor}: {question.text} ({answer_line(question)})",
        deadline=question.deadline,
        default=default,
    )


def _for_review(task: Task) -> WaitingFor | None:
    subject = "plan" if task.phase == "plan_review" else "result"
    submission = task.plan if subject == "plan" else task.result
    if submission is None:
        return None
    reviewers = task.obligations.reviewers
    missing = unmet(task) if subject == "result" else ()
    reason = f" (evidence is missing for: {', '.join(missing)})" if missing else ""
    needed = reviewers.quorum - len(submission.approvals)
    return WaitingFor(
        owner=f"role:{reviewers.role}",
        what=f"{needed} approval(s) of {subject} version {submission.version}{reason}: "
        f"{approval_line(subject, submission)}",
        deadline=submission.review_deadline,
        default=default_outcome(task, subject) if submission.review_deadline else None,
    )
