"""Budgets of policy: what projects, executors, days and attempts may spend, and the accounts that keep count of it.

An account is named UNIT:SCOPE, such as "cost:project:payments" or "tokens:day:2026-11-20".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from agentic_os.domain.documents import Usage

UNITS: Final = ("cost", "tokens")
EVERY: Final = "*"
"""The name under which policy gives a budget to each project, or executor, that it does not name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """Money in micro-dollars, and tokens; None where nothing is said of it."""

    cost_microusd: int | None = None
    tokens: int | None = None

    def of(self, unit: str) -> int | None:
        """Give the amount in one unit."""
        return self.cost_microusd if unit == "cost" else self.tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """An account, and what may be spent and reserved on it together."""

    account: str
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """The budgets of a policy. attempt: what an attempt is thought to need where its task has no budget."""

    project: Mapping[str, Amounts] = field(default_factory=dict)
    executor: Mapping[str, Amounts] = field(default_factory=dict)
    day: Amounts = field(default_factory=Amounts)
    attempt: Amounts = field(default_factory=Amounts)

    def ceilings(self, project: str, executor: str, at: datetime) -> tuple[Ceiling, ...]:
        """List the accounts under which an attempt falls that is opened for an executor at this instant."""
        scopes = (
            (f"project:{project}", _named(self.project, project)),
            (f"executor:{executor}", _named(self.executor, executor)),
            (f"day:{at.astimezone(UTC).date().isoformat()}", self.day),
        )
        return tuple(
            Ceiling(account=f"{unit}:{scope}", limit=limit)
            for scope, amounts in scopes
            for unit in UNITS
            if (limit := amounts.of(unit)) is not None
        )


def _named(budgets: Mapping[str, Amounts], name: str) -> Amounts:
    return budgets.get(name) or budgets.get(EVERY) or Amounts()


def counted(account: str, usage: Usage) -> int:
    """Count a usage in the unit of an account."""
    return usage.cost_microusd if account.startswith("cost:") else usage.input_tokens + usage.output_tokens


def scope_of(account: str) -> str | None:
    """Give what a budget is for, such as "project:payments"; None for an account that is no budget's."""
    unit, _, scope = account.partition(":")
    return scope if unit in UNITS else None


def renewal(scope: str) -> datetime | None:
    """Say when there is a new budget in place of this one: a day's at midnight UTC, others never by themselves."""
    kind, _, name = scope.partition(":")
    return datetime.fromisoformat(name).replace(tzinfo=UTC) + timedelta(days=1) if kind == "day" else None
