"""What a task waits for before its next attempt is opened, in words."""

from collections.abc import Sequence
from datetime import UTC
from typing import Final

from agentic_os.application.dispatch import lacked, resting
from agentic_os.domain.executor_pauses import pauses_in
from agentic_os.domain.workspaces import SkillGap, gaps_in

GAPS_SHOWN: Final = 5


def describe_waits(waits: Sequence[str]) -> str:
    """Say in words what a waiting task waits for: all of the tasks, or any of the executors."""
    tasks = [w.removeprefix("task:") for w in waits if w.startswith("task:")]
    if tasks:
        return f"{'task' if len(tasks) == 1 else 'tasks'} {', '.join(tasks)} to be completed"
    budgets = [w.removeprefix("budget:") for w in waits if w.startswith("budget:")]
    shared = [scope for scope in budgets if not scope.startswith("executor:")]
    if shared:
        return " and ".join(describe_budget(scope) for scope in shared)
    busy = [w.removeprefix("capacity:") for w in waits if w.startswith("capacity:")]
    ways = [f"{' or '.join(busy)} to have a free hand"] if busy else []
    ways += [describe_budget(scope) for scope in budgets]
    ways += [
        f"{name} to be let on by its breaker at {until.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        for name, until in resting(waits).items()
    ]
    ways += [f"{pause.executor} to be resumed: {pause}" for pause in pauses_in(waits)]
    lacks = gaps_in(waits)
    if ways:
        return " or ".join(ways) + (f"; others are kept away: {_lacks(lacks)}" if lacks else "")
    if lacks:
        return f"an executor with the skills that it needs: {_lacks(lacks)}"
    if needs := str(lacked(waits)):
        return f"an executor that may take it with {needs} (governance/organisation.yaml, agentic-os executor add)"
    return "an executor that may take it (agentic-os executor add)"


def _lacks(found: Sequence[SkillGap]) -> str:
    more = f"; and {len(found) - GAPS_SHOWN} more" if len(found) > GAPS_SHOWN else ""
    return "; ".join(str(gap) for gap in found[:GAPS_SHOWN]) + more


def describe_budget(scope: str) -> str:
    """Say in words which budget must have room again, and what gives it some."""
    kind, _, name = scope.partition(":")
    if kind == "day":
        return f"room in the budget of the day {name}: an attempt that closes, or the next day (UTC)"
    return f"room in the budget of the {kind} {name}: an attempt that closes, or a higher limit in policy"
