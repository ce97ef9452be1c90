"""What spending changes."""

from collections.abc import Mapping
from typing import Any, Final

from agentic_os.domain import events as e
from agentic_os.domain.budgets import counted
from agentic_os.domain.documents import Usage
from agentic_os.domain.evolution.attempts import closed
from agentic_os.domain.evolution.copying import changed
from agentic_os.domain.task import (
    REMEMBERED_REFUSALS,
    BudgetWait,
    ChargedRefusal,
    Exceeded,
    Held,
    Spender,
    Task,
)

_NOTHING: Final = Spender(usage=Usage())


def budgeted(
    task: Task,
    event: e.BudgetReserved
    | e.BudgetAwaited
    | e.BudgetRenewed
    | e.BudgetExceeded
    | e.UsageBooked
    | e.RefusalCharged
    | e.WallTimeBooked
    | e.WallTimeExceeded,
) -> Task:
    """Apply what is reserved, spent or waited for."""
    match event:
        case e.UsageBooked():
            return _spent(task, event)
        case e.RefusalCharged():
            return _charged(_spent(task, event), event)
        case e.BudgetReserved():
            return _reserved(task, event)
        case e.BudgetAwaited(scope=scope, until=until):
            return changed(task, awaited=BudgetWait(scope=scope, until=until))
        case e.BudgetRenewed():
            return changed(task, awaited=None)
        case e.BudgetExceeded(subject=subject, version=version, passed=passed):
            flag = Exceeded(subject=subject, version=version, passed=passed)
            return changed(task, exceeded=(*task.exceeded, flag))
        case e.WallTimeBooked(seconds=seconds):
            return changed(task, wall_spent=task.wall_spent + seconds)
        case e.WallTimeExceeded():
            return closed(task, "expired")


def _reserved(task: Task, event: e.BudgetReserved) -> Task:
    held = tuple(Held(account=r.account, amount=r.amount) for r in event.reservations)
    charged = {**{h.account: 0 for h in held}, **task.charged}
    attempt = changed(task.attempt, held=held) if task.attempt is not None else None
    return changed(task, attempt=attempt, charged=charged)


def _spent(task: Task, event: e.UsageBooked | e.RefusalCharged) -> Task:
    """Add up what an attempt spent, open or not, by its executor and on the accounts that it falls under."""
    number, usage = event.attempt, event.usage
    found: dict[str, Any] = {"spent": task.spent.plus(usage), "spenders": _spenders(task, event)}
    attempt = task.attempt
    if not task.charged:
        return changed(task, **found)
    if attempt is not None and attempt.number == number:
        accounts = tuple(h.account for h in attempt.held)
        held = tuple(
            Held(account=h.account, amount=h.amount, spent=h.spent + counted(h.account, usage))
            for h in attempt.held
        )
        found["attempt"] = changed(attempt, held=held)
    else:
        accounts = next((a.accounts for a in task.past if a.number == number), ())
    charged = {account: task.charged[account] + counted(account, usage) for account in accounts}
    return changed(task, **found, charged={**task.charged, **charged})


def _spenders(task: Task, event: e.UsageBooked | e.RefusalCharged) -> Mapping[str, Spender]:
    attempt = task.attempt
    if attempt is not None and attempt.number == event.attempt:
        executor = attempt.executor
    else:
        executor = next((a.executor for a in task.past if a.number == event.attempt), "")
    before = task.spenders.get(executor, _NOTHING)
    spender = Spender(usage=before.usage.plus(event.usage), model=event.model or before.model)
    return {**task.spenders, executor: spender}


def _charged(task: Task, event: e.RefusalCharged) -> Task:
    """Remember what was booked for a refused callback, and forget the oldest of those that are too many."""
    key = (event.attempt, event.callback_id)
    before = next((r.usage for r in task.refused if (r.attempt, r.callback_id) == key), Usage())
    others = tuple(r for r in task.refused if (r.attempt, r.callback_id) != key)
    booked = ChargedRefusal(
        attempt=event.attempt, callback_id=event.callback_id, usage=before.plus(event.usage)
    )
    return changed(task, refused=(*others, booked)[-REMEMBERED_REFUSALS:])
