"""What a change of a task moves on the accounts: an executor's capacity, and the budgets that attempts fall under.

Whatever is moved follows from the task before and after the change, so that a rebuild finds the same sums.
"""

from agentic_os.application.ports import Movement, TaskChange
from agentic_os.domain.budgets import scope_of
from agentic_os.domain.events import AttemptOffered, BudgetReserved
from agentic_os.domain.spending import remaining
from agentic_os.domain.task import Task


def opened(change: TaskChange, capacity: int | None) -> list[Movement]:
    """Take up capacity, and reserve what the attempt may spend; both under their limits."""
    found = []
    for event in change.events:
        match event:
            case AttemptOffered(executor=executor):
                found.append(Movement(account=f"capacity:{executor}", reserved=1, limit=capacity))
            case BudgetReserved(reservations=reservations):
                found += [Movement(account=r.account, reserved=r.amount, limit=r.limit) for r in reservations]
            case _:
                pass
    return found


def released(change: TaskChange) -> list[Movement]:
    """Give back the capacity of an attempt that this change closed."""
    executor = freed(change)
    return [] if executor is None else [Movement(account=f"capacity:{executor}", reserved=-1)]


def freed(change: TaskChange) -> str | None:
    """Name the executor whose attempt this change closed."""
    attempt = change.before.attempt if change.before else None
    if attempt is None or not attempt.is_open or change.after.attempt is None:
        return None
    now = change.after.attempt
    return None if now.number == attempt.number and now.is_open else attempt.executor


def charged(change: TaskChange) -> list[Movement]:
    """Move what was spent, and what is no longer reserved because it was spent or the attempt closed.

    Nothing limits it: what was spent was spent.
    """
    before, after = change.before, change.after
    if before is None or before.attempt is None or not after.charged:
        return []
    number = before.attempt.number
    held = remaining(before.attempt)
    kept = remaining(after.attempt) if after.attempt and after.attempt.number == number else {}
    spent = {a: total - before.charged.get(a, 0) for a, total in after.charged.items()}
    moved = [
        Movement(account=account, spent=spent[account], reserved=kept.get(account, 0) - held.get(account, 0))
        for account in spent
    ]
    return [m for m in moved if m.spent or m.reserved]


def wait_of(account: str) -> str | None:
    """Name what a task waits for that found this account exhausted; None for an executor's capacity."""
    scope = scope_of(account)
    return None if scope is None else f"budget:{scope}"


def is_executors(wait: str) -> bool:
    """Tell whether what is waited for is the budget of one executor, beside which there may be others."""
    return wait.startswith("budget:executor:")


def totals(task: Task) -> dict[str, tuple[int, int]]:
    """Say what a task has spent and still has reserved, by account; of capacity it holds one for an open attempt."""
    attempt = task.attempt
    held = remaining(attempt) if attempt else {}
    found = {account: (spent, held.get(account, 0)) for account, spent in task.charged.items()}
    found |= {f"capacity:{a.executor}": (0, 0) for a in task.past}
    if attempt is not None:
        found[f"capacity:{attempt.executor}"] = (0, int(attempt.is_open))
    return found
