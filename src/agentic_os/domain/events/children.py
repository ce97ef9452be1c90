"""Facts about tasks that come of tasks: on the parent's stream what was proposed, on the child's whose it is."""

from dataclasses import dataclass
from typing import Literal

from agentic_os.domain.documents import Budget, JsonObject
from agentic_os.domain.family import ChildEnd, Spending
from agentic_os.domain.policy import Obligations


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildAccepted:
    """A proposed task was created, in the same transaction, with a share of the budget reserved for it.

    item: as it was proposed in that attempt. planned: whether it is of the approved plan, so that its execution
    waits for it. depends_on: ids of its siblings. facts: what policy decided on.
    """

    attempt: int
    child_id: str
    ref: str
    item: JsonObject
    planned: bool
    depends_on: tuple[str, ...]
    budget: Budget
    bundle: str
    rules: tuple[str, ...]
    reasons: tuple[str, ...]
    obligations: Obligations
    facts: JsonObject
    facts_digest: str
    type: Literal["child.accepted"] = "child.accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildRefused:
    """A proposed task was not created: by policy, or for want of budget, room, or a task that it depends on."""

    attempt: int
    ref: str
    item: JsonObject
    planned: bool
    bundle: str
    rules: tuple[str, ...]
    reasons: tuple[str, ...]
    facts: JsonObject
    facts_digest: str
    type: Literal["child.refused"] = "child.refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildEnded:
    """A child came to its end; what it did not spend of its share is the parent's again."""

    child_id: str
    ref: str
    phase: ChildEnd
    spent: Spending
    type: Literal["child.ended"] = "child.ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentDeclared:
    """The task is a child. obligations: what policy asked for when it was proposed."""

    parent: str
    ref: str
    depth: int
    obligations: Obligations
    type: Literal["parent.declared"] = "parent.declared"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputGiven:
    """Whoever asked for the task gave it data to work on."""

    input: JsonObject
    type: Literal["input.given"] = "input.given"
