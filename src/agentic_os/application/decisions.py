"""Decisions of policy as they were recorded: which events hold them, and what each of them says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol, TypeAlias

from agentic_os.application.ports import Recorded
from agentic_os.domain.documents import JsonObject
from agentic_os.domain.policy import Hook, Then

Ruling: TypeAlias = Literal["allow", "deny"]
Position: TypeAlias = tuple[str, int]
"""A place in the order of all events: behind the event of this transaction and position."""

BEGINNING: Final[Position] = ("0", 0)
KINDS: Final[Mapping[str, tuple[Hook, Ruling]]] = {
    "task.allowed": ("task.received", "allow"),
    "task.denied": ("task.received", "deny"),
    "dispatch.allowed": ("dispatch", "allow"),
    "dispatch.denied": ("dispatch", "deny"),
    "child.accepted": ("task.proposed", "allow"),
    "child.refused": ("task.proposed", "deny"),
}
"""Type of event -> the hook, and how it was decided."""

GENERAL: Final = "policy.decided"
"""The type of event that holds the decisions of all other hooks, and says of which."""

TYPES: Final = (*KINDS, GENERAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A recorded decision. id: of its event. task_id: whose history holds it; of a proposed task its parent.

    obligations: None where none were recorded, because it was denied or because nothing is done with them. then, ask:
    what rules said of the end of an attempt, and of a question; None where they said nothing.
    """

    id: str
    at: datetime
    task_id: str
    hook: Hook
    decision: Ruling
    rules: Sequence[str]
    reasons: Sequence[str]
    bundle: str
    obligations: JsonObject | None
    facts: JsonObject
    facts_digest: str
    then: Then | None = None
    ask: str | None = None


def ruling_of(kind: str, data: JsonObject) -> tuple[Hook, Ruling] | None:
    """Say at which hook an event of this type decided, and how; None where it holds no decision."""
    return (data["hook"], data["decision"]) if kind == GENERAL else KINDS.get(kind)


def decision_of(event: Recorded) -> Decision:
    """Read the decision that an event holds."""
    data = event.data
    hook, ruling = KINDS.get(event.type) or (data["hook"], data["decision"])
    return Decision(
        id=event.event_id,
        at=event.at,
        task_id=event.stream,
        hook=hook,
        decision=ruling,
        rules=data["rules"],
        reasons=data["reasons"],
        bundle=data["bundle"],
        obligations=data.get("obligations"),
        facts=data["facts"],
        facts_digest=data["facts_digest"],
        then=data.get("then") if event.type == GENERAL else None,
        ask=data.get("ask") if event.type == GENERAL else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """How often a shadow differed in one way. differences: as in the event."""

    hook: Hook
    differences: Sequence[JsonObject]
    loosened: bool
    count: int
    latest: datetime


class DecisionLog(Protocol):
    """The decisions among all events."""

    async def count(self) -> int:
        """Count them."""
        ...

    async def start_of(self, last: int) -> tuple[Position, int]:
        """Find where to begin to read for the last so many, and how many of what comes first are not of them."""
        ...

    async def read(self, after: Position, limit: int) -> tuple[Sequence[Recorded], Position]:
        """Read on in the order of all events: the decisions, and what declares a task to be a child."""
        ...

    async def page(
        self,
        *,
        hook: Hook | None,
        decision: Ruling | None,
        task_id: str | None,
        before: Position | None,
        limit: int,
    ) -> tuple[Sequence[Recorded], Position | None]:
        """List decisions, the newest first; with it, where the next page goes on, None at the end."""
        ...

    async def one(self, event_id: str) -> Recorded | None:
        """Find the decision that an event holds."""
        ...

    async def trends(self, bundle: str) -> Sequence[Trend]:
        """Say in which ways a shadow differed, the most frequent first."""
        ...
