"""Leases that move without a callback: after an outage of ours, and by what the control plane sees of runs."""

from datetime import UTC, datetime, timedelta

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.attempts import LAST_WORDS, lease
from agentic_os.domain.task import Attempt, Task


def extend(command: c.ExtendLease, task: Task) -> list[e.Event]:
    """Give an attempt that could not be heard one lease more, once."""
    attempt = _current(task, command.attempt)
    if attempt is None or attempt.extended:
        return []
    until = attempt.ack_deadline if attempt.state == "offered" else attempt.lease_expires_at
    if until is None or not command.since <= until <= command.at:
        return []
    return [
        e.LeaseExtended(
            attempt=attempt.number,
            lease_expires_at=lease(attempt, command.at),
            reason=f"Nobody served from {_utc(command.since)} to {_utc(command.at)}.",
        )
    ]


def see_run(command: c.SeeRun, task: Task) -> list[e.Event]:
    """Renew the lease of an attempt whose run is alive, or shorten it when the run has ended; nothing else."""
    attempt = _current(task, command.attempt)
    if attempt is None or (attempt.run_ended is not None and command.seen_at <= attempt.run_ended):
        return []
    return _alive(command, attempt) if command.alive else _ended(command, attempt)


def _alive(command: c.SeeRun, attempt: Attempt) -> list[e.Event]:
    """Renew what has not lapsed, and not more often than each third of the lease; an offer is not taken by it."""
    expires = None if attempt.state == "offered" else attempt.lease_expires_at
    span = timedelta(seconds=attempt.lease_seconds)
    renewed = command.seen_at + span
    if expires is None or command.seen_at >= expires or renewed - expires < span / 3:
        return []
    return [e.LeaseRenewedByRun(attempt=attempt.number, lease_expires_at=renewed, seen_at=command.seen_at)]


def _ended(command: c.SeeRun, attempt: Attempt) -> list[e.Event]:
    """Leave what is still open its last words: to who acknowledged a lease, to who did not the time for that."""
    due = attempt.ack_deadline if attempt.state == "offered" else attempt.lease_expires_at
    if attempt.run_ended is not None or due is None:
        return []
    until = min(due, command.at + LAST_WORDS)
    ended = e.RunEnded(
        attempt=attempt.number, lease_expires_at=until, seen_at=command.seen_at, detail=command.detail
    )
    return [ended]


def _current(task: Task, number: int) -> Attempt | None:
    attempt = task.attempt
    return attempt if attempt is not None and attempt.is_open and attempt.number == number else None


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
