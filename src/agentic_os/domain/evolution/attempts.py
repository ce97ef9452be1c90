"""What attempts change."""

import hashlib
from datetime import datetime, timedelta
from typing import Final, assert_never

from agentic_os.domain import ends
from agentic_os.domain import events as e
from agentic_os.domain.evolution.copying import changed, with_review
from agentic_os.domain.routing import tier_above
from agentic_os.domain.task import (
    REVIEW_TRIES,
    Attempt,
    AttemptState,
    ClosedAttempt,
    Handoff,
    Phase,
    SkillDrift,
    Task,
)

_NO_SKILLS: Final = "sha256:" + hashlib.sha256(b"").hexdigest()
"""What a workspace without skills acknowledges with."""


def attempted(
    task: Task,
    event: e.AttemptOffered
    | e.AttemptAcked
    | e.AttemptDeclined
    | e.AttemptFailed
    | e.AttemptExpired
    | e.AttemptRuled,
) -> Task:
    """Apply what opens, starts or ends an attempt, and what policy said of its end."""
    if isinstance(event, e.AttemptRuled):
        return _ruled(task, event)
    if task.attempt is not None and task.attempt.step == "review" and not isinstance(event, e.AttemptOffered):
        return _reviewing(task, task.attempt.executor, event)
    match event:
        case e.AttemptOffered():
            return _offered(task, event)
        case e.AttemptAcked():
            return _acked(task, event)
        case e.AttemptDeclined():
            declined = closed(task, "declined", event.seq, event.callback_id)
            excluded = task.attempt.executor if task.attempt else ""
            return changed(declined, phase="ready", excluded=(*task.excluded, excluded))
        case e.AttemptFailed(failure="plan_infeasible"):
            failed = closed(task, "failed", event.seq, event.callback_id)
            return changed(failed, authorisation=None, undecided=0, replans=task.replans + 1)
        case e.AttemptFailed(failure=kind, retry_at=retry_at):
            failed = closed(task, "failed", event.seq, event.callback_id)
            stalled = (kind, event.message)
            return changed(_awaiting_retry(failed, kind, retry_at), stalled=stalled, setback=ends.told(event))
        case e.AttemptExpired(what=what, retry_at=retry_at):
            expired = _awaiting_retry(closed(task, "expired"), what, retry_at)
            return changed(expired, setback=ends.told(event))


def _ruled(task: Task, event: e.AttemptRuled) -> Task:
    """Set an executor aside, or all that are no stronger, or take back the right to execute a plan."""
    if event.then == "other_executor" and event.executor not in task.excluded:
        return changed(task, excluded=(*task.excluded, event.executor))
    if event.then == "stronger_tier" and task.attempt is not None:
        return changed(task, least_tier=max(tier_above(task.attempt.tier), task.least_tier or 0))
    if event.then == "replan":
        return changed(task, authorisation=None, undecided=0, replans=task.replans + 1, retry_at=None)
    return task


def _reviewing(
    task: Task,
    reviewer: str,
    event: e.AttemptAcked | e.AttemptDeclined | e.AttemptFailed | e.AttemptExpired,
) -> Task:
    """Apply what becomes of an attempt to review: the phase stays, and whose comes to nothing makes room."""
    match event:
        case e.AttemptAcked():
            return changed(_acked(task, event), phase=task.phase, session=task.session)
        case e.AttemptDeclined():
            over, times = closed(task, "declined", event.seq, event.callback_id), REVIEW_TRIES
        case e.AttemptFailed(retryable=retryable):
            over = closed(task, "failed", event.seq, event.callback_id)
            times = 1 if retryable else REVIEW_TRIES
        case e.AttemptExpired():
            over, times = closed(task, "expired"), 1
        case _:
            assert_never(event)
    passed = task.under_review.passed if task.under_review else ()
    return with_review(over, passed=(*passed, *(reviewer,) * times))


def _offered(task: Task, event: e.AttemptOffered) -> Task:
    past = task.past
    if task.attempt is not None:
        a = task.attempt
        accounts = tuple(h.account for h in a.held)
        done = ClosedAttempt(
            number=a.number,
            executor=a.executor,
            step=a.step,
            state=a.state,
            accounts=accounts,
            offered_in=a.offered_in,
        )
        past = (*past, done)
    attempt = Attempt(
        number=event.attempt,
        executor=event.executor,
        step=event.step,
        state="offered",
        brief_digest=event.brief_digest,
        offered_in=task.version + 1,
        ack_deadline=event.ack_deadline,
        lease_seconds=event.lease_seconds,
        tier=event.tier,
    )
    evidence, attested = ({}, ()) if event.step == "execute" else (task.evidence, task.attested)
    return changed(
        task,
        phase=task.phase if event.step == "review" else "dispatched",
        attempt=attempt,
        past=past,
        evidence=evidence,
        attested=attested,
        waits="",
        awaited=None,
    )


def _acked(task: Task, event: e.AttemptAcked) -> Task:
    if task.attempt is None:
        return task
    attempt = changed(
        task.attempt,
        state="acked",
        seq=event.seq,
        last_callback=event.callback_id,
        lease_expires_at=event.lease_expires_at,
        generation=event.generation,
        acked_at=task.attempt.acked_at
        or event.lease_expires_at - timedelta(seconds=task.attempt.lease_seconds),
        run_ended=None,
        run_detail=None,
        capable=event.skillset_digest != _NO_SKILLS,
    )
    phase: Phase = "planning" if attempt.step == "plan" else "executing"
    return changed(task, attempt=attempt, phase=phase, session=event.runtime.session, setback="")


def drifted(task: Task, event: e.SkillsDrifted) -> Task:
    """Remember for which skills the attempt was not let in."""
    if task.attempt is None or task.attempt.number != event.attempt:
        return task
    drift = SkillDrift(expected=event.expected, found=event.found)
    return changed(task, attempt=changed(task.attempt, drifts=(*task.attempt.drifts, drift)))


def _awaiting_retry(task: Task, kind: str, retry_at: datetime | None) -> Task:
    retries = {**task.retries, kind: task.retries.get(kind, 0) + 1}
    return changed(task, phase="retry_wait" if retry_at else task.phase, retries=retries, retry_at=retry_at)


def closed(task: Task, state: AttemptState, seq: int | None = None, callback: str | None = None) -> Task:
    """Close the open attempt, if there is one."""
    if task.attempt is None or not task.attempt.is_open:
        return task
    attempt = changed(
        task.attempt,
        state=state,
        seq=task.attempt.seq if seq is None else seq,
        last_callback=task.attempt.last_callback if callback is None else callback,
    )
    return changed(task, attempt=attempt)


def reported(
    task: Task, event: e.LeaseRenewed | e.ProgressReported | e.EvidenceAdded | e.ReportRecorded
) -> Task:
    """Apply what an executor reports while it works."""
    alive = renewed(task, event)
    match event:
        case e.EvidenceAdded(evidence=found):
            return changed(alive, evidence={**task.evidence, found.criterion_id: found}, stalled=None)
        case e.ReportRecorded(kind="checkpoint") if not _is_review(task):
            return changed(alive, checkpoint_in=task.version + 1, stalled=None)
        case e.ReportRecorded(kind="handoff", body=body):
            handoff = Handoff(to_role=body["to_role"], recorded_in=task.version + 1)
            return changed(alive, handoffs=(*task.handoffs, handoff))
        case _:
            return alive


def renewed(
    task: Task,
    event: e.LeaseRenewed | e.ProgressReported | e.EvidenceAdded | e.ReportRecorded | e.EscalationRaised,
) -> Task:
    """Renew the lease of the attempt that was heard."""
    if task.attempt is None:
        return task
    attempt = changed(
        task.attempt,
        state="running",
        seq=event.seq,
        last_callback=event.callback_id,
        lease_expires_at=event.lease_expires_at,
        progress_at=event.at if isinstance(event, e.ProgressReported) else task.attempt.progress_at,
    )
    return changed(task, attempt=attempt)


def _is_review(task: Task) -> bool:
    """Tell whether a reviewer is at work: what it keeps for itself is not for whoever does the work."""
    return task.attempt is not None and task.attempt.step == "review"
