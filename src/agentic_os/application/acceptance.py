"""What an accepted callback is answered: where the task stands, what to do next, and what may still be spent."""

from collections.abc import Sequence
from typing import Any

import orjson

from agentic_os.domain.attempts import over_budget
from agentic_os.domain.task import Task


def acceptance(task: Task, event_ids: Sequence[str], kind: str) -> str:
    """Write the answer that is stored with the receipt; of an ack's token it names only the generation."""
    attempt = task.attempt
    is_open = attempt is not None and attempt.is_open
    lease = attempt.lease_expires_at if attempt and is_open else None
    answer: dict[str, Any] = {
        "accepted": True,
        "event_ids": list(event_ids),
        "task_version": task.version,
        "phase": task.phase,
        "directive": _directive(task, is_open=is_open),
        "lease_expires_at": lease,
        "budget_left": budget_left(task),
    }
    if kind == "ack" and attempt is not None:
        answer["generation"] = attempt.generation
    return orjson.dumps(answer, option=orjson.OPT_UTC_Z).decode()


def _directive(task: Task, *, is_open: bool) -> str:
    if not is_open:
        return "stop"
    if over_budget(task):
        return "stop"
    return "hold" if task.holds else "continue"


def budget_left(task: Task) -> dict[str, int | None]:
    """Say what the task may still spend; None is no limit."""
    budget, committed = task.budget, task.committed
    used = task.worked_attempts

    def left(limit: int | None, gone: int) -> int | None:
        return None if limit is None else max(limit - gone, 0)

    return {
        "cost_microusd": left(budget.cost_microusd, committed.cost_microusd),
        "tokens": left(budget.tokens, committed.tokens),
        "attempts": left(budget.attempts, used),
    }
