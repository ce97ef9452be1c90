"""Attempts: offering, acknowledging, reporting, and the many ways in which one ends."""

from datetime import datetime, timedelta
from typing import Any, Final, assert_never

from agentic_os.domain import commands as c
from agentic_os.domain import ends
from agentic_os.domain import events as e
from agentic_os.domain.documents import FailureClass, Usage, witnessed
from agentic_os.domain.policy import Then
from agentic_os.domain.rejection import Code, Rejected
from agentic_os.domain.routing import needs_of
from agentic_os.domain.scope import held_for_tools
from agentic_os.domain.shadow import differed
from agentic_os.domain.spending import overspent, reserved, unbooked, wall_used_up
from agentic_os.domain.task import REMEMBERED_DRIFTS, Attempt, Task

RETRY_BUDGET: Final[dict[str, int]] = {
    "transient": 5,
    "provider": 5,
    "tool": 2,
    "environment": 2,
    "timeout": 2,
    "internal": 2,
    "ack": 3,
    "lease": 3,
    "unreported": 2,
}
"""How often a task is retried by itself, by class of failure; a class that is not here never is."""

RETRY_CAP: Final = max(RETRY_BUDGET.values())
"""How often a task is retried by itself after failures of one class, whatever policy says."""

PASSING: Final = frozenset({"transient", "provider"})
"""Failures that are expected to repeat in the same words until they pass."""

REPLAN_CAP: Final = 3
LAST_WORDS: Final = timedelta(seconds=60)
"""How long an attempt whose run has ended is still heard: a callback may be on its way."""

PROGRESS_INTERVAL: Final = timedelta(seconds=10)
_CLOSED_CODES: Final[dict[str, Code]] = {
    "expired": "lease_lost",
    "superseded": "attempt_superseded",
    "submitted": "wrong_phase",
    "declined": "wrong_phase",
    "failed": "wrong_phase",
}


def offer(command: c.OfferAttempt, task: Task) -> list[e.Event]:
    """Open attempt n, unless policy, asked again, says no."""
    current = task.attempt
    if current is not None and current.number == command.attempt and current.executor == command.executor:
        return []
    expected = (current.number if current else 0) + 1
    stopped = _stopped(command, task)
    if stopped and task.phase == "input_required" and command.attempt == expected:
        return []
    if task.phase != "ready" or command.attempt != expected:
        raise Rejected(
            "wrong_phase", f"Attempt {command.attempt} cannot be opened while the task is {task.phase}."
        )
    if stopped:
        return stopped
    if task.holds:
        raise Rejected("wrong_phase", "The task is on hold.", next_step="/unhold")
    if task.kept_back:
        raise Rejected("wrong_phase", "The task is frozen, or its start is still to come.")
    if command.brief.get("step", task.next_step) != task.next_step:
        raise Rejected("wrong_phase", f"The task is to {task.next_step} now, which its brief does not say.")
    _require_eligible(command, task)
    if task.next_step == "execute" and (task.undecided or task.awaited_children):
        raise Rejected("wrong_phase", "The task waits for its children.")
    return opened(command, task)


def opened(command: c.OfferAttempt, task: Task) -> list[e.Event]:
    """Open the attempt that the command describes, for the step that the task is at."""
    offered = e.AttemptOffered(
        attempt=command.attempt,
        executor=command.executor,
        step=task.next_step,
        brief=command.brief,
        brief_digest=command.brief_digest,
        bundle=command.verdict.bundle,
        ack_deadline=command.ack_deadline,
        lease_seconds=command.lease_seconds,
        tier=command.tier,
    )
    allowed = e.DispatchAllowed(
        attempt=command.attempt,
        bundle=command.verdict.bundle,
        rules=command.verdict.rules,
        reasons=command.verdict.reasons,
        facts=command.verdict.facts,
        facts_digest=command.facts_digest,
    )
    return [allowed, *differed(command.verdict), offered, *reserved(command, task)]


def _stopped(command: c.OfferAttempt, task: Task) -> list[e.Event]:
    """Hand the task to a person where policy, asked again, or the budget allows no further attempt."""
    verdict = command.verdict
    if verdict.decision == "deny":
        denied = e.DispatchDenied(
            bundle=verdict.bundle,
            rules=verdict.rules,
            reasons=verdict.reasons,
            facts=verdict.facts,
            facts_digest=command.facts_digest,
        )
        reason = "Policy no longer lets this task run: " + "; ".join(verdict.reasons)
        return [*differed(verdict), denied, e.InputRequired(reason=reason)]
    if passed := over_budget(task):
        return [e.InputRequired(reason=f"The task's budget is used up: {passed}.")]
    wall = task.budget.wall_seconds
    if wall is not None and task.wall_spent >= wall:
        return [e.InputRequired(reason=wall_used_up(wall))]
    limit = task.budget.attempts
    if limit is not None and task.worked_attempts >= limit:
        return [e.InputRequired(reason=f"All {limit} attempts of the budget are used.")]
    return []


def _require_eligible(command: c.OfferAttempt, task: Task) -> None:
    """Hold an offer to what the task says now, which may have changed since the executor was chosen."""
    executor, needs = command.executor, needs_of(task)
    if task.authorisation and executor in task.authorisation.approvers:
        raise Rejected("self_review", f"{executor} approved this plan and may not execute it.")
    named = task.assignee is not None and not task.assignee.startswith("role:")
    if executor in task.excluded or (named and executor != task.assignee):
        raise Rejected("not_permitted", f"The task is no longer for {executor}.")
    if not needs.met_by(command.capabilities, command.tier):
        raise Rejected("not_permitted", f"The task needs {needs}, which {executor} does not have.")


def is_repeat(command: c.ExecutorCommand, task: Task) -> bool:
    """Tell whether exactly this callback was the last one accepted."""
    attempt = task.attempt
    return (
        attempt is not None
        and attempt.number == command.attempt
        and attempt.last_callback == command.callback_id
        and attempt.executor == command.executor
    )


def live(command: c.FromExecutor, task: Task) -> Attempt:
    """Find the open attempt that the callback speaks for. Raises Rejected when it may not write any more."""
    attempt = task.attempt
    if attempt is None or command.attempt > attempt.number:
        raise Rejected("scope_denied", f"The task has no attempt {command.attempt}.")
    if command.attempt < attempt.number:
        states = {a.number: a.state for a in task.past}
        raise closed(command.attempt, states.get(command.attempt, "superseded"))
    if attempt.executor != command.executor:
        raise Rejected("scope_denied", "This attempt belongs to another executor.")
    if not attempt.is_open:
        raise closed(attempt.number, attempt.state)
    if attempt.lease_expires_at is not None and command.at >= attempt.lease_expires_at:
        raise closed(attempt.number, "expired")
    return attempt


def closed(number: int, state: str) -> Rejected:
    """Say why a closed attempt may not write."""
    return Rejected(
        _CLOSED_CODES[state],
        f"Attempt {number} is over ({state}).",
        next_step="Stop work on this attempt; a new one would come with a new brief.",
    )


def acknowledge(command: c.Acknowledge, task: Task) -> list[e.Event]:
    """Start the attempt, or hand a restarted executor a new token for it."""
    attempt = live(command, task)
    if command.brief_digest != attempt.brief_digest:
        raise Rejected(
            "brief_mismatch",
            f"The brief of attempt {attempt.number} has the digest {attempt.brief_digest}.",
            next_step="Read the brief again and hash its JSON line exactly as it stands.",
            pointers=("/body/brief_digest",),
        )
    if command.skillset_digest != command.expected_skillset:
        raise Rejected(
            "skill_drift",
            f"The skills of this workspace are not those in force ({command.expected_skillset}).",
            next_step="Have an administrator run bin/hydrate-runtime-skills for this workspace, then ack again.",
            pointers=("/body/skillset_digest",),
        )
    return [
        e.AttemptAcked(
            attempt=attempt.number,
            seq=command.seq,
            callback_id=command.callback_id,
            lease_expires_at=command.at + timedelta(seconds=attempt.lease_seconds),
            generation=attempt.generation + 1,
            brief_digest=command.brief_digest,
            skillset_digest=command.skillset_digest,
            runtime=command.runtime,
            workspace=command.workspace,
        )
    ]


def skills_drifted(command: c.RecordSkillDrift, task: Task) -> list[e.Event]:
    """Put a refused acknowledgement on record, once for each set of skills that was found, and of few of them."""
    attempt = task.attempt
    if (
        attempt is None
        or not attempt.is_open
        or (attempt.number, attempt.executor) != (command.attempt, command.executor)
        or len(attempt.drifts) >= REMEMBERED_DRIFTS
        or command.found in [drift.found for drift in attempt.drifts]
    ):
        return []
    return [
        e.SkillsDrifted(
            attempt=command.attempt,
            executor=command.executor,
            expected=command.expected,
            found=command.found,
        )
    ]


def decline(command: c.Decline, task: Task) -> list[e.Event]:
    """Give the attempt back before it began."""
    attempt = live(command, task)
    if attempt.state != "offered":
        raise Rejected(
            "wrong_phase",
            "Only an attempt that was not acknowledged can be declined.",
            next_step="Send a failure instead.",
        )
    declined = e.AttemptDeclined(
        attempt=attempt.number,
        seq=command.seq,
        callback_id=command.callback_id,
        reason=command.reason,
        detail=command.detail,
    )
    if command.reason == "unsafe" and attempt.step != "review":
        return [
            declined,
            e.InputRequired(
                reason=f"{attempt.executor} finds the task unsafe. {command.detail or ''}".strip()
            ),
        ]
    return [declined]


def started(command: c.FromExecutor, task: Task) -> Attempt:
    """Find the open attempt, acknowledged with the current token, and check the order of its callbacks."""
    attempt = live(command, task)
    if attempt.state == "offered":
        raise Rejected("scope_denied", "The attempt was not acknowledged yet.", next_step="Send ack first.")
    if command.generation != attempt.generation:
        raise Rejected(
            "token_expired",
            "A later ack replaced this attempt token.",
            next_step="Use the token of the latest ack, or stop: another process holds this attempt.",
        )
    last = max(attempt.seq, command.last_seq)
    if command.seq <= last:
        raise Rejected(
            "seq_stale",
            f"seq {command.seq} is not after {last}, the last accepted one.",
            next_step=f"Continue with seq {last + 1}.",
            pointers=("/seq",),
        )
    return attempt


def report(command: c.Heartbeat | c.ReportProgress | c.AddEvidence | c.Record, task: Task) -> list[e.Event]:
    """Renew the lease, and keep what was reported. Mere progress within ten seconds of the last yields nothing."""
    attempt = started(command, task)
    require_budget(task)
    sent: dict[str, Any] = {
        "attempt": attempt.number,
        "seq": command.seq,
        "callback_id": command.callback_id,
        "lease_expires_at": lease(attempt, command.at),
    }
    match command:
        case c.Heartbeat(note=note):
            return [e.LeaseRenewed(**sent, note=note)]
        case c.ReportProgress():
            soon = attempt.progress_at is not None and command.at < attempt.progress_at + PROGRESS_INTERVAL
            # What books usage leaves its seq in the log, so that a repeat is known and not booked again.
            if soon and not booked(command, task):
                return []
            reported = e.ProgressReported(
                **sent,
                message=command.message,
                step_id=command.step_id,
                permille=command.permille,
                at=command.at,
            )
            return [reported]
        case c.AddEvidence(evidence=evidence):
            seen = witnessed(evidence) if attempt.step == "review" else evidence
            return [e.EvidenceAdded(**sent, evidence=seen)]
        case c.Record(kind=kind, body=body):
            _require_fitting(command.faults)
            recorded = e.ReportRecorded(**sent, kind=kind, body=body)
            if kind == "tool_event":
                return [recorded, *held_for_tools(body, attempt.number, task)]
            return [recorded]
        case _:
            assert_never(command)


def _require_fitting(faults: tuple[tuple[str, str], ...]) -> None:
    if faults:
        raise Rejected(
            "output_invalid",
            "The payload is not what that role takes: " + "; ".join(what for _, what in faults),
            next_step="Correct /body/payload; the message says what the role's handoff_schema asks for.",
            pointers=tuple(pointer for pointer, _ in faults),
        )


def fail(command: c.ReportFailure, task: Task) -> list[e.Event]:
    """Close the attempt as failed, and say what becomes of the task."""
    attempt = started(command, task)
    review = attempt.step == "review"  # whose failure leaves the task where it is: another is asked
    then = "default" if review else ends.then(command.ruling, task, command.failure)
    infeasible = command.failure == "plan_infeasible"
    retried = not (review or infeasible) and (command.retryable or then in ends.AGAIN)
    retry_at = _retry_at(task, command, command.failure, then) if retried else None
    failed = e.AttemptFailed(
        attempt=attempt.number,
        seq=command.seq,
        callback_id=command.callback_id,
        failure=command.failure,
        message=command.message,
        retryable=command.retryable,
        retry_at=retry_at,
    )
    if review:
        return [failed]
    closed = [failed, *ends.ruled(command.ruling, attempt, command.failure, then)]
    if then == "person":
        return [*closed, ends.left_to_person(command.ruling, command.failure)]
    if retry_at is not None:
        return [*closed, *_held_when_stuck(command, task)]
    if infeasible or then == "replan":
        return [*closed, _replanned(task)]
    if command.retryable or then in ends.AGAIN:
        return [
            *closed,
            e.TaskDeadLettered(reason=f"The retries for {command.failure} failures are used up."),
        ]
    return [*closed, e.TaskFailed(reason=f"{command.failure}: {command.message}")]


def _held_when_stuck(command: c.ReportFailure, task: Task) -> list[e.Event]:
    """Stop a task that fails twice in a row in the same way with nothing to show for it; waiting cures the rest."""
    if command.failure in PASSING or task.stalled != (command.failure, command.message):
        return []
    reason = f"It failed twice in the same way ({command.failure}), and nothing has come of it in between."
    return [e.TaskHeld(reason=reason, by="system", cause="no_progress")]


def expire(command: c.FireDeadline, task: Task) -> list[e.Event]:
    """Close an attempt that was not acknowledged, fell silent, or ended its run without a report, in time."""
    attempt = task.attempt
    if attempt is None or not attempt.is_open or command.ref != str(attempt.number):
        return []
    offered = attempt.state == "offered"
    due = attempt.ack_deadline if offered else attempt.lease_expires_at
    what = "ack" if offered else "lease"
    if due is None or command.kind != what or command.at < due:
        return []
    missed = ends.missed(attempt)
    review = attempt.step == "review"
    then = "default" if review else ends.then(command.ruling, task, missed)
    retry_at = None if review else _retry_at(task, command, missed, then)
    expired = e.AttemptExpired(
        attempt=attempt.number,
        what=missed,
        retry_at=retry_at,
        detail=attempt.run_detail if missed == "unreported" else None,
    )
    if review:
        return [expired]
    closed = [expired, *ends.ruled(command.ruling, attempt, missed, then)]
    if then == "person":
        return [*closed, ends.left_to_person(command.ruling, missed)]
    if then == "replan":
        return [*closed, _replanned(task)]
    if retry_at is None:
        return [*closed, e.TaskDeadLettered(reason=f"The retries are used up. {ends.told(expired)}")]
    return closed


def release(command: c.FireDeadline, task: Task) -> list[e.Event]:
    """End the waiting time before a retry."""
    if task.phase != "retry_wait" or task.retry_at is None or command.at < task.retry_at:
        return []
    if task.attempt is None or command.ref != str(task.attempt.number):
        return []
    return [e.RetryReleased(reason="The waiting time is over.", fresh=False)]


def over_budget(task: Task) -> str:
    """Say which limit the task has passed, "" for none; what it spends is known only once it is spent."""
    if task.budget.cost_microusd is None and task.budget.tokens is None:
        return overspent(task)
    committed = task.committed
    spent = {"cost_microusd": committed.cost_microusd, "tokens": committed.tokens}
    limits = {"cost_microusd": task.budget.cost_microusd, "tokens": task.budget.tokens}
    passed = [
        f"{name} {spent[name]} of {limit}"
        for name, limit in limits.items()
        if limit is not None and spent[name] > limit
    ]
    return ", ".join(passed) or overspent(task)


def require_budget(task: Task) -> None:
    """Refuse further work over the budget; what is finished is still taken, since it is paid for."""
    if passed := over_budget(task):
        raise Rejected(
            "budget_exceeded",
            f"The task's budget is used up: {passed}.",
            next_step="Submit what you have as a result with outcome partial, or fail with class budget.",
        )


def flagged(command: c.SubmitPlan | c.SubmitResult, task: Task) -> list[e.Event]:
    """Flag a plan or result that is accepted although a limit was passed; `task` has its own usage booked."""
    if not (passed := over_budget(task)):
        return []
    plan = isinstance(command, c.SubmitPlan)
    last = task.plan if plan else task.result
    return [
        e.BudgetExceeded(
            attempt=command.attempt,
            subject="plan" if plan else "result",
            version=(last.version if last else 0) + 1,
            passed=passed,
        )
    ]


def booked(command: c.FromExecutor, task: Task) -> list[e.Event]:
    """Book what the executor says it spent, but for what was booked when the same callback was refused."""
    usage = command.usage
    if usage is not None and task.refused:
        usage = unbooked(usage, task, command.attempt, command.callback_id)
    if usage is None or usage == Usage():
        return []
    return [e.UsageBooked(attempt=command.attempt, usage=usage, model=command.model)]


def lease(attempt: Attempt, at: datetime) -> datetime:
    """Say until when the attempt may be silent, having been heard now; what is heard after its run is the last."""
    if attempt.run_ended is not None:
        return at + LAST_WORDS
    return at + timedelta(seconds=attempt.lease_seconds)


def _replanned(task: Task) -> e.Event:
    if task.replans + 1 > REPLAN_CAP:
        return e.InputRequired(reason=f"The plan was found infeasible more than {REPLAN_CAP} times.")
    return e.RetryReleased(reason="The plan was found infeasible; a new one is needed.", fresh=False)


def _retry_at(
    task: Task, command: c.ReportFailure | c.FireDeadline, kind: FailureClass | str, then: Then
) -> datetime | None:
    """Say when to try again by itself; None for never, or where policy wants something else."""
    if then in ("replan", "person"):
        return None
    done = task.retries.get(kind, 0)
    if done >= (RETRY_CAP if then in ends.AGAIN else RETRY_BUDGET.get(kind, 0)):
        return None
    after_seconds = command.retry_after_seconds if isinstance(command, c.ReportFailure) else None
    backoff = min(10 * 2**done, 300) * (1 + command.jitter / 5)
    return command.at + timedelta(seconds=max(backoff, min(after_seconds or 0, 86_400)))
