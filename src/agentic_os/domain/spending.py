"""What a task spends of budgets and of time: reserved when an attempt opens, booked as it goes, flagged when over."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.documents import Reservation, Usage
from agentic_os.domain.evolution import fold
from agentic_os.domain.task import Attempt, Held, Task

_NAMES: Final = {"cost": "cost_microusd", "tokens": "tokens"}


def reserved(command: c.OfferAttempt, task: Task) -> list[e.Event]:
    """Reserve what the task has left, else what policy thinks an attempt needs, else nothing, on each account."""
    if not command.ceilings:
        return []
    committed = task.committed
    spent = {"cost": committed.cost_microusd, "tokens": committed.tokens}
    limits = {"cost": task.budget.cost_microusd, "tokens": task.budget.tokens}
    reservations = []
    for ceiling in command.ceilings:
        unit = ceiling.account.partition(":")[0]
        limit = limits[unit]
        amount = command.allowance.of(unit) if limit is None else max(limit - spent[unit], 0)
        reservations.append(Reservation(account=ceiling.account, amount=amount or 0, limit=ceiling.limit))
    return [e.BudgetReserved(attempt=command.attempt, reservations=tuple(reservations))]


def remaining(attempt: Attempt) -> dict[str, int]:
    """Say what is still reserved for an attempt, by account; nothing once it is closed."""
    if not attempt.held or not attempt.is_open:
        return {}
    return {h.account: max(h.amount - h.spent, 0) for h in attempt.held}


def overspent(task: Task) -> str:
    """Say by what the open attempt has passed what was reserved for it, "" for nothing."""
    attempt = task.attempt
    if attempt is None or not attempt.held or not attempt.is_open:
        return ""
    passed = {_passed(h) for h in attempt.held if h.amount and h.spent > h.amount}
    return f"attempt {attempt.number}, {', '.join(sorted(passed))}" if passed else ""


def _passed(held: Held) -> str:
    return f"{_NAMES[held.account.partition(':')[0]]} {held.spent} of {held.amount}"


def wait(command: c.AwaitBudget, task: Task) -> list[e.Event]:
    """Note, once, which budget has nothing left for the next attempt."""
    awaited = task.awaited
    if awaited and (awaited.scope, awaited.until) == (command.scope, command.until):
        return []
    return [e.BudgetAwaited(scope=command.scope, until=command.until)]


def renew(command: c.FireDeadline, task: Task) -> list[e.Event]:
    """Let a task that waited for the budget of a day try again on the next."""
    awaited = task.awaited
    if awaited is None or awaited.scope != command.ref:
        return []
    if awaited.until is None or command.at < awaited.until:
        return []
    return [e.BudgetRenewed(scope=awaited.scope)]


def charge(command: c.ChargeRefusal, task: Task) -> list[e.Event]:
    """Book what a refused callback had spent, once, on the attempt of whoever sent it, be it open or not."""
    attempt = task.attempt
    holders = {a.number: a.executor for a in task.past}
    if attempt is not None:
        holders[attempt.number] = attempt.executor
        if (attempt.number, attempt.last_callback) == (command.attempt, command.callback_id):
            return []
    usage = unbooked(command.usage, task, command.attempt, command.callback_id)
    if usage == Usage() or holders.get(command.attempt) != command.executor:
        return []
    return [
        e.RefusalCharged(
            attempt=command.attempt,
            callback_id=command.callback_id,
            kind=command.kind,
            code=command.code,
            usage=usage,
            model=command.model,
        )
    ]


def unbooked(usage: Usage, task: Task, attempt: int, callback_id: str) -> Usage:
    """Say how much of a callback's usage was not booked when the same callback was refused."""
    for refused in task.refused:
        if (refused.attempt, refused.callback_id) == (attempt, callback_id):
            return usage.less(refused.usage)
    return usage


def wall_deadline(task: Task) -> datetime | None:
    """Say when the open attempt will have used up the task's wall time; None where that is not limited."""
    limit, attempt = task.budget.wall_seconds, task.attempt
    if limit is None or attempt is None or attempt.acked_at is None or not attempt.is_open:
        return None
    if attempt.step == "review":
        return None  # the time that a task may take is for the work on it
    return attempt.acked_at + timedelta(seconds=max(limit - task.wall_spent, 0))


def wall_booked(command: c.Command, task: Task, events: Sequence[e.Event]) -> list[e.Event]:
    """Book the time of an attempt that these events close: from its ack on, for as long as it held its lease."""
    attempt = task.attempt
    if attempt is None or attempt.acked_at is None or not attempt.is_open or attempt.step == "review":
        return []
    after = fold(events, task)
    now = after.attempt if after else None
    if now is not None and now.number == attempt.number and now.is_open:
        return []
    end = attempt.lease_expires_at or attempt.acked_at
    if (at := _instant(command)) is not None:
        end = min(at, end)
    seconds = math.ceil(max((end - attempt.acked_at).total_seconds(), 0))
    return [e.WallTimeBooked(attempt=attempt.number, seconds=seconds)]


def _instant(command: c.Command) -> datetime | None:
    if isinstance(command, c.FromExecutor | c.FireDeadline | c.Cancel | c.Reassign):
        return command.at
    return command.late.at if isinstance(command, c.Adopt) else None


def wall_out(command: c.FireDeadline, task: Task) -> list[e.Event]:
    """Close the attempt that used up the task's wall time; a person decides."""
    deadline, attempt, limit = wall_deadline(task), task.attempt, task.budget.wall_seconds
    if deadline is None or attempt is None or limit is None:
        return []
    if command.ref != str(attempt.number) or command.at < deadline:
        return []
    return [
        e.WallTimeExceeded(attempt=attempt.number, limit_seconds=limit),
        e.InputRequired(reason=wall_used_up(limit)),
    ]


def wall_used_up(limit: int) -> str:
    """Say that there is no wall time left."""
    return f"The wall time of the budget is used up: {limit} seconds."
