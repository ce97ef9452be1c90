"""What moves a task forward next, and when: pure functions of its state."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agentic_os.domain.agent_reviews import awaits_attempt
from agentic_os.domain.caps import passed
from agentic_os.domain.escalations import answer_line, may_default
from agentic_os.domain.evidence import unmet
from agentic_os.domain.overlays import TASK
from agentic_os.domain.policy import REVIEWER_ROLES, SUPERIOR
from agentic_os.domain.reviews import approval_line, default_outcome, stage_of
from agentic_os.domain.spending import wall_deadline
from agentic_os.domain.task import Attempt, BudgetWait, Task

_SETBACK_SHOWN: Final = 400


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
        if task.budget.wall_seconds is not None and (wall := wall_deadline(task)) is not None:
            found.append(Deadline(kind="wall", ref=str(attempt.number), at=wall))
    if task.awaited is not None and task.awaited.until is not None and awaits_attempt(task):
        found.append(Deadline(kind="budget", ref=task.awaited.scope, at=task.awaited.until))
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
    found += [Deadline(kind="repairs", ref=p.field, at=p.until) for p in task.pauses]
    if task.deferred or task.frozen is not None or task.due is not None:
        found += _over_any_phase(task)
    return tuple(found)


def _over_any_phase(task: Task) -> list[Deadline]:
    found: list[Deadline] = []
    if task.ended:
        return found
    if task.deferred and task.not_before is not None:
        found.append(Deadline(kind="not_before", ref=TASK, at=task.not_before))
    if task.frozen is not None:
        found.append(Deadline(kind="freeze", ref=task.frozen.rule, at=task.frozen.until))
    if task.due is not None and not task.overdue:
        found.append(Deadline(kind="due", ref=TASK, at=task.due))
    return found


def waiting_for(task: Task) -> WaitingFor | None:
    """Say what moves the task forward next; None when it has ended."""
    match task.phase:
        case "received":
            return WaitingFor(owner="system", what="policy's verdict")
        case "ready":
            return _for_start(task)
        case "dispatched" | "planning" | "executing":
            return _for_executor(task)
        case "plan_review" | "result_review":
            return _for_review(task)
        case "retry_wait":
            what = f"the next try. The last came to nothing: {_shown(task.setback)}"
            return WaitingFor(owner="system", what=what, deadline=task.retry_at, default="try again")
        case "input_required" if any(q.blocking for q in task.questions):
            return _for_answer(task)
        case "input_required" if passed(task):
            return WaitingFor(
                owner="operator", what=f"{task.waits} Use /retry fresh to go on, or /cancel.".strip()
            )
        case "dead_letter" | "input_required":
            return WaitingFor(owner="operator", what=f"{task.waits} Use /retry to go on, or /cancel.".strip())
        case _:
            return None


def _shown(setback: str) -> str:
    """Put how an attempt came to nothing into one line; the history has all of it."""
    line = " ".join(setback.split())
    return line if len(line) <= _SETBACK_SHOWN else f"{line[:_SETBACK_SHOWN]} …"


def _for_budget(awaited: BudgetWait) -> WaitingFor:
    return WaitingFor(
        owner="system",
        what=f"the budget of {awaited.scope.replace(':', ' ', 1)}",
        deadline=awaited.until,
        default="try again" if awaited.until else None,
    )


def _for_start(task: Task) -> WaitingFor:
    """Say what keeps the next attempt from being opened: the most lasting first."""
    if task.holds:
        reasons = "; ".join(h.reason or h.by for h in task.holds)
        return WaitingFor(owner="operator", what=f"the release of a hold ({reasons}): /unhold")
    if task.deferred:
        return WaitingFor(
            owner="system", what="its start", deadline=task.not_before, default="it is dispatched"
        )
    if task.frozen is not None:
        because = f": {task.frozen.reason}" if task.frozen.reason else ""
        return WaitingFor(
            owner="system",
            what=f"the end of the freeze {task.frozen.rule}{because}",
            deadline=task.frozen.until,
            default="it is dispatched",
        )
    if task.undecided or task.awaited_children:
        return WaitingFor(owner="system", what=_for_children(task))
    if task.awaited is not None:
        return _for_budget(task.awaited)
    return WaitingFor(owner="system", what=task.waits or f"dispatch of an attempt to {task.next_step}")


def _for_children(task: Task) -> str:
    if task.undecided:
        return "the creation of the tasks that its plan asks for"
    return "the end of its children: " + ", ".join(
        f"{child.ref} ({child.id})" for child in task.awaited_children
    )


def _for_executor(task: Task) -> WaitingFor | None:
    attempt = task.attempt
    if attempt is None:
        return None
    if attempt.state == "offered":
        what, deadline = _for_ack(task, attempt), attempt.ack_deadline
    else:
        what = "a plan" if attempt.step == "plan" else "a result"
        deadline = attempt.lease_expires_at or attempt.ack_deadline
    return WaitingFor(
        owner=attempt.executor, what=what, deadline=deadline, default="the attempt expires and is retried"
    )


def _for_ack(task: Task, attempt: Attempt) -> str:
    return f"the acknowledgement of the brief{_drifted(task, attempt)}"


def _drifted(task: Task, attempt: Attempt) -> str:
    """Say what to run where an acknowledgement was refused because of its skills; "" where none was."""
    if attempt.state != "offered" or not attempt.drifts:
        return ""
    drift = attempt.drifts[-1]
    return (
        f" (refused so far: the skills of its workspace, {drift.found[:19]}, are not those in force, "
        f"{drift.expected[:19]}; in the workspace, run `agentic-os skills hydrate --project {task.project} "
        f"--workspace .`, then {attempt.executor} acknowledges again)"
    )


def _for_answer(task: Task) -> WaitingFor:
    question = next(q for q in task.questions if q.blocking)
    default = None
    if question.deadline is not None:
        default = f"its default, {question.default_option}" if may_default(task, question) else "it waits on"
    return WaitingFor(
        owner="operator" if question.ask == "operator" else f"role:{question.ask}",
        what=f"an answer to {question.executor}: {question.text} ({answer_line(question)})",
        deadline=question.deadline,
        default=default,
    )


def _for_review(task: Task) -> WaitingFor | None:
    subject = "plan" if task.phase == "plan_review" else "result"
    submission = task.under_review
    if submission is None:
        return None
    if task.awaited is not None and awaits_attempt(task):
        return _for_budget(task.awaited)
    attempt = task.attempt
    if attempt is not None and attempt.is_open:
        return WaitingFor(
            owner=attempt.executor,
            what=f"a review of {subject} version {submission.version}{_drifted(task, attempt)}",
            deadline=attempt.lease_expires_at or attempt.ack_deadline,
            default="another reviewer is asked",
        )
    reviewers = task.deciding
    missing = unmet(task) if subject == "result" else ()
    reason = f" (evidence is missing for: {', '.join(missing)})" if missing else ""
    if submission.escalated:
        reason += f" (no executor is asked: {submission.escalated})"
    if reviewers.role == SUPERIOR:
        reason += f" (of somebody to whom {submission.executor} reports, where there is anybody)"
    elif (
        reviewers.role not in REVIEWER_ROLES
    ):  # which people's role it is, the organisation says when somebody votes
        reason += f" (whoever may review decides; of the role {reviewers.role}, where people hold it)"
    return WaitingFor(
        owner=f"role:{reviewers.role}",
        what=f"{task.missing_approvals} approval(s) of {subject} version {submission.version}{stage_of(task)}{reason}: "
        f"{approval_line(subject, submission)}",
        deadline=submission.review_deadline,
        default=default_outcome(task, subject) if submission.review_deadline else None,
    )
