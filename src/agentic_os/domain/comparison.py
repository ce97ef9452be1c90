"""What differs between two outcomes of policy, respect by respect, and which way: over the lattice of `combine`."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from agentic_os.domain.documents import RANKS
from agentic_os.domain.hooks import ADMISSION, GATES
from agentic_os.domain.policy import (
    ASKABLE,
    REVIEWER_ROLES,
    THENS,
    Obligations,
    Reviewers,
    Then,
    Verdict,
    combine,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One respect in which two outcomes differ, each side in words.

    Both loosened and tightened is what cannot be compared: two roles of which none stands above the other.
    """

    name: str
    before: str
    after: str
    loosened: bool
    tightened: bool

    def __str__(self) -> str:
        """Write it as a transition."""
        changed = f"{self.before} -> {self.after}"
        return changed if self.name in ("decision", "mode") else f"{self.name} {changed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a question of policy. obligations: None where nothing is done with them.

    then, ask: what rules said of the end of an attempt, and of a question; None where they said nothing.
    """

    decision: Literal["allow", "deny"]
    obligations: Obligations | None = None
    then: Then | None = None
    ask: str | None = None


def outcome(verdict: Verdict) -> Outcome:
    """Say what a verdict amounts to at its hook, the obligations being those that it names itself."""
    bound = verdict.decision == "allow" and verdict.hook in (*ADMISSION, *GATES)
    return Outcome(
        decision=verdict.decision,
        obligations=verdict.obligations if bound else None,
        then=verdict.then,
        ask=verdict.ask,
    )


_NAMES: Final = (
    "decision",
    "then",
    "ask",
    "mode",
    "reviewers.quorum",
    "reviewers.role",
    "reviewers.by",
    "independent_human",
    "evidence",
    "result_review",
    "bare_approve",
    "capabilities",
    "tier",
    "on_timeout",
    "deadline",
)
"""The respects, the weightiest first."""

_STAGE: Final = re.compile(r"reviewers\.[0-9]+\.")


def weight(name: str) -> int:
    """Give the place of a respect among all, 0 for the weightiest."""
    if name.startswith("evidence."):
        return _NAMES.index("evidence")
    return _NAMES.index(_STAGE.sub("reviewers.", name))


def stages_by_name(stages: tuple[Reviewers, ...]) -> dict[str, Any]:
    """Lay the later stages of a review out flat: `reviewers.2.role`, `reviewers.2.quorum`, and so on."""
    return {
        f"reviewers.{number}.{part.name}": getattr(stage, part.name)
        for number, stage in enumerate(stages, 2)
        for part in fields(stage)
        if getattr(stage, part.name) is not None
    }


def differences(old: Outcome, new: Outcome) -> tuple[Difference, ...]:
    """List what differs, the weightiest first; of what is denied nothing further counts."""
    if old.decision != new.decision:
        freed = new.decision == "allow"
        return (
            Difference(
                name="decision",
                before=old.decision,
                after=new.decision,
                loosened=freed,
                tightened=not freed,
            ),
        )
    if old.decision == "deny":
        return ()
    found = [*_then(old.then, new.then), *_ask(old.ask, new.ask)]
    if old.obligations is not None and new.obligations is not None:
        found += _obligations(old.obligations, new.obligations)
    return tuple(found)


def loosened(old: Outcome, new: Outcome) -> bool:
    """Tell whether the new outcome is less restrictive in any respect."""
    return is_loosened(differences(old, new))


def tightened(old: Outcome, new: Outcome) -> bool:
    """Tell whether the new outcome is more restrictive in any respect."""
    return any(d.tightened for d in differences(old, new))


def is_loosened(found: Iterable[Difference]) -> bool:
    """Tell whether any of the differences loosens."""
    return any(d.loosened for d in found)


def _then(old: Then | None, new: Then | None) -> Iterator[Difference]:
    """Compare what becomes of a task; what is built in ends some and tries others, so only a person is above it."""
    a, b = old or THENS[0], new or THENS[0]
    if a != b:
        apart = THENS[0] in (a, b) and THENS[-1] not in (a, b)
        up = THENS.index(b) > THENS.index(a)
        yield Difference(name="then", before=a, after=b, loosened=apart or not up, tightened=apart or up)


def _ask(old: str | None, new: str | None) -> Iterator[Difference]:
    a, b = old or ASKABLE[0], new or ASKABLE[0]
    if a != b:
        up = ASKABLE.index(b) > ASKABLE.index(a)
        yield Difference(name="ask", before=a, after=b, loosened=not up, tightened=up)


def _obligations(old: Obligations, new: Obligations) -> Iterator[Difference]:
    before, after, joined = (_respects(o) for o in (old, new, combine(old, new)))
    names = sorted({*before, *after}, key=lambda name: (weight(name), name))
    for name in names:
        least = RANKS[0] if name.startswith("evidence.") else None
        a, b = before.get(name, least), after.get(name, least)
        if a == b:
            continue
        both = joined.get(name, least)
        if name == "on_timeout":  # each side's own holds, while the joined deadline may be of the other
            both = max(a, b, key=("proceed", "escalate", "block").index)
        apart = name.endswith(".role") and None not in (a, b) and not {a, b}.intersection(REVIEWER_ROLES)
        yield Difference(
            name=name,
            before=_words(a),
            after=_words(b),
            loosened=apart or both != b,
            tightened=apart or both != a,
        )


def _respects(obligations: Obligations) -> dict[str, Any]:
    """Lay obligations out by name. Without a deadline nothing ever happens at it, whatever is said of that."""
    timed = obligations.deadline_seconds is not None
    return {
        "mode": obligations.mode,
        "reviewers.quorum": obligations.reviewers.quorum,
        "reviewers.role": obligations.reviewers.role,
        "reviewers.by": obligations.reviewers.by,
        "independent_human": obligations.independent_human,
        "result_review": obligations.result_review,
        "bare_approve": obligations.bare_approve,
        "on_timeout": obligations.on_timeout if timed else "block",
        "deadline": obligations.deadline_seconds,
        "capabilities": tuple(sorted(set(obligations.capabilities))),
        "tier": obligations.tier,
        **stages_by_name(obligations.stages),
        **{f"evidence.{criterion}": rank for criterion, rank in obligations.evidence.items()},
    }


def _words(value: Any) -> str:
    match value:
        case None | ():
            return "none"
        case tuple():
            return ", ".join(value)
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)
