"""The values that events, commands and the task share."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

JsonObject: TypeAlias = Mapping[str, Any]

Mode: TypeAlias = Literal["direct", "plan_first"]
Risk: TypeAlias = Literal["low", "medium", "high", "critical"]
Priority: TypeAlias = Literal["low", "medium", "high", "critical"]
OurField: TypeAlias = Literal["brief", "state", "closed", "assignee", "issue", "document"]
"""What the task's issue shows of it, which nobody else may change."""
TheirField: TypeAlias = Literal["title", "labels", "priority", "goal"]
"""What people may change on the task's issue."""
Rank: TypeAlias = Literal["self_reported", "observed", "independent"]
Step: TypeAlias = Literal["plan", "execute", "review"]
Vote: TypeAlias = Literal["approve", "revise", "reject"]
Outcome: TypeAlias = Literal["success", "partial", "no_change"]
DeclineReason: TypeAlias = Literal["busy", "missing_capability", "brief_invalid", "unsafe"]
FailureClass: TypeAlias = Literal[
    "transient",
    "provider",
    "tool",
    "environment",
    "plan_infeasible",
    "budget",
    "timeout",
    "cancelled",
    "internal",
]

RISKS: Final[tuple[Risk, ...]] = ("low", "medium", "high", "critical")
RANKS: Final[tuple[Rank, ...]] = ("self_reported", "observed", "independent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One acceptance criterion, and the rank that evidence for it must have."""

    id: str
    text: str
    rank: Rank = "self_reported"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a task may cost; None is no limit. Money in micro-dollars, time in seconds."""

    cost_microusd: int | None = None
    tokens: int | None = None
    wall_seconds: int | None = None
    attempts: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What was spent."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_microusd: int = 0
    tool_calls: int = 0

    def plus(self, other: "Usage") -> "Usage":
        """Add up two usages."""
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost_microusd=self.cost_microusd + other.cost_microusd,
            tool_calls=self.tool_calls + other.tool_calls,
        )

    def less(self, other: "Usage") -> "Usage":
        """Take another usage away, each part down to nothing."""
        return Usage(
            input_tokens=max(self.input_tokens - other.input_tokens, 0),
            output_tokens=max(self.output_tokens - other.output_tokens, 0),
            cost_microusd=max(self.cost_microusd - other.cost_microusd, 0),
            tool_calls=max(self.tool_calls - other.tool_calls, 0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """So much of an account, kept for one attempt; `limit` is what may be spent and reserved on it by all."""

    account: str
    amount: int
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewItem:
    """One thing that a reviewer wants answered in the next version."""

    id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One answer that an executor can think of to its question."""

    id: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A check of one criterion. `rank` is the true one, `claimed` what the executor said."""

    criterion_id: str
    rank: Rank
    claimed: Rank
    status: Literal["pass", "fail", "inconclusive"]
    command: str | None = None
    exit_code: int | None = None
    artifact: str | None = None
    marker: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """Evidence by a source that did none of the work. subject_digest: the result that it checked, where it said so."""

    source: str
    evidence: Evidence
    subject_digest: str | None = None
    commit: str | None = None
    url: str | None = None


def witnessed(evidence: Evidence) -> Evidence:
    """Give a reviewer's evidence the rank that it claims: whoever did not do the work may witness it."""
    return replace(evidence, rank=evidence.claimed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Bytes that were delivered, by digest. The same name again is the next version. `size` in bytes."""

    name: str
    version: int
    media_type: str
    digest: str
    size: int
    criterion_id: str | None = None
    step_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The program that plays the executor."""

    name: str
    version: str | None = None
    session: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """Who acts, as far as the separation of duties needs to know.

    id: the principal. kind: a person, an executor or the system. roles: its scopes and organisation roles.
    owns: for a person, the executors that they own. binding: the organisation roles that people hold: where one of
    them must decide, whoever decides holds it. beneath: the executors that report to them, be it through others.
    headed: those above whom the organisation has any person.
    """

    id: str
    kind: Literal["person", "executor", "system"]
    roles: frozenset[str] = field(default_factory=frozenset)
    owns: frozenset[str] = field(default_factory=frozenset)
    binding: frozenset[str] = field(default_factory=frozenset)
    beneath: frozenset[str] = field(default_factory=frozenset)
    headed: frozenset[str] = field(default_factory=frozenset)
