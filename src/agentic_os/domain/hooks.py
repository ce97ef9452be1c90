"""Where policy is asked, and what it is told there: the one table of declared facts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

Hook: TypeAlias = Literal[
    "task.received",
    "task.proposed",
    "dispatch",
    "plan.submitted",
    "result.submitted",
    "attempt.ended",
    "escalation.raised",
    "directive",
    "deadline",
    "delivery",
    "tool.call",
    "memory.proposed",
]
Kind: TypeAlias = Literal["text", "list", "number", "flag", "risk"]

HOOKS: Final[tuple[Hook, ...]] = get_args(Hook)

UNASKED: Final[frozenset[Hook]] = frozenset({"deadline", "delivery", "tool.call", "memory.proposed"})
"""Hooks on which a rule can be written and decided, and that nothing asks yet."""

ADMISSION: Final[frozenset[Hook]] = frozenset({"task.received", "task.proposed"})
"""Hooks at which it is decided under what a task is let in."""

GATES: Final[frozenset[Hook]] = frozenset({"plan.submitted", "result.submitted"})
"""Hooks whose rules say what one submission needs besides what its task was let in under."""

CLOSED: Final[frozenset[Hook]] = frozenset({"delivery", "tool.call", "memory.proposed"})
"""Hooks at which nothing is let in that no rule lets in, whatever the defaults say."""

_AT_WORK: Final[tuple[Hook, ...]] = (
    "dispatch",
    "plan.submitted",
    "result.submitted",
    "attempt.ended",
    "escalation.raised",
    "tool.call",
    "memory.proposed",
)


@dataclass(frozen=True, slots=True)
class Field:
    """One declared fact: of which kind it is, on which hooks it is known, and what it says."""

    kind: Kind
    means: str
    hooks: tuple[Hook, ...] = HOOKS


FIELDS: Final[Mapping[str, Field]] = {
    "task.project": Field("text", "the project"),
    "task.risk": Field("risk", "low < medium < high < critical"),
    "task.mode": Field(
        "text", "the mode that the request asks for, or that the task has once it is admitted"
    ),
    "task.paths": Field("list", "the paths that it is about"),
    "task.tools": Field("list", "the tools that it may use"),
    "task.labels": Field("list", "its labels"),
    "task.requester": Field("text", "who asked for it, a principal"),
    "task.assignee": Field("text", "executor name or role:ROLE"),
    "task.cost_microusd": Field("number", "what it has spent so far", ("attempt.ended",)),
    "task.tokens": Field("number", "what it has spent so far", ("attempt.ended",)),
    "parent.project": Field("text", "the project of the task that proposes", ("task.proposed",)),
    "parent.risk": Field("risk", "its risk, ordered as task.risk", ("task.proposed",)),
    "parent.depth": Field("number", "0 for a task without a parent", ("task.proposed",)),
    "parent.executor": Field("text", "the executor that proposes the task", ("task.proposed",)),
    "executor.name": Field("text", "the executor, by name", _AT_WORK),
    "executor.roles": Field("list", "its roles", _AT_WORK),
    "executor.capabilities": Field("list", "what it can do, as the organisation says", _AT_WORK),
    "executor.tier": Field("number", "how strong it is; null where the organisation does not say", _AT_WORK),
    "executor.load": Field("number", "how many attempts it holds", ("dispatch",)),
    "attempt.step": Field("text", "plan, execute or review", _AT_WORK),
    "attempt.number": Field("number", "which attempt of the task it is", _AT_WORK[1:]),
    "attempt.class": Field("text", "the class of the failure, or `ack` or `lease`", ("attempt.ended",)),
    "attempt.count": Field("number", "how often an attempt ended so, with this one", ("attempt.ended",)),
    "plan.version": Field("number", "1 for the first plan", ("plan.submitted",)),
    "plan.steps": Field("number", "how many steps", ("plan.submitted",)),
    "plan.risk": Field("risk", "the highest of its steps and named risks", ("plan.submitted",)),
    "plan.paths": Field("list", "the paths of all steps", ("plan.submitted",)),
    "plan.tools": Field("list", "the tools of all steps", ("plan.submitted",)),
    "plan.tasks": Field("number", "how many children it asks for", ("plan.submitted",)),
    "result.version": Field("number", "1 for the first result", ("result.submitted",)),
    "result.outcome": Field("text", "success, partial or no_change", ("result.submitted",)),
    "result.artifacts": Field("number", "how many artifacts", ("result.submitted",)),
    "result.deviations": Field("number", "how many deviations from the plan", ("result.submitted",)),
    "question.blocking": Field("flag", "whether the work stops for it", ("escalation.raised",)),
    "question.options": Field("number", "how many answers it offers", ("escalation.raised",)),
    "question.default": Field("flag", "whether it has a default", ("escalation.raised",)),
    "directive.verb": Field("text", "the word after the slash", ("directive",)),
    "directive.by": Field("text", "who wrote it, a principal", ("directive",)),
    "directive.roles": Field("list", "the roles of who wrote it", ("directive",)),
    "deadline.kind": Field("text", "ack, lease, retry, review, escalation, ...", ("deadline",)),
    "delivery.target": Field("text", "where something is sent", ("delivery",)),
    "delivery.kind": Field("text", "what is sent", ("delivery",)),
    "tool.name": Field("text", "the tool", ("tool.call",)),
    "tool.server": Field("text", "where it is", ("tool.call",)),
    "memory.scope": Field("text", "whose memory it would be", ("memory.proposed",)),
    "memory.kind": Field("text", "what is to be remembered", ("memory.proposed",)),
}
"""What a rule may look at. A field that a task does not have is None."""


def known(field: str, hook: str) -> bool:
    """Tell whether a declared field is known on a hook."""
    return hook in FIELDS[field].hooks
