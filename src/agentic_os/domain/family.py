"""What a task knows of its parent and of its children."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from agentic_os.domain.documents import Budget
from agentic_os.domain.policy import Obligations

ChildEnd: TypeAlias = Literal["completed", "rejected", "cancelled", "failed"]
ChildState: TypeAlias = Literal["open", "completed", "rejected", "cancelled", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What a task spent together with its children, and what those that are open may still spend."""

    cost_microusd: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parentage:
    """Whose child a task is.

    ref: what the proposal called it. depth: 1 for a child of a task that has no parent. obligations: what policy
    asked for when the task was proposed; they hold from its admission on.
    """

    id: str
    ref: str
    depth: int
    obligations: Obligations


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A child as its parent sees it.

    waited: whether the parent's own execution waits for it. reserved: the share of the parent's budget that it was
    given. spent: what it used of it, known once it has ended.
    """

    id: str
    ref: str
    title: str
    waited: bool
    reserved: Budget
    state: ChildState = "open"
    spent: Spending = Spending()

    @property
    def spoiled(self) -> bool:
        """Tell whether the parent waited for it in vain."""
        return self.waited and self.state not in ("open", "completed")


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedChild:
    """A proposed task that was not created, and why."""

    ref: str
    title: str
    rules: tuple[str, ...]
    reasons: tuple[str, ...]
