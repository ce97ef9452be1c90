"""What differs between two outcomes of policy, respect by respect, and which way: over the lattice of `combine`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from agentic_os.domain.documents import RANKS
from agentic_os.domain.policy import REVIEWER_ROLES, Obligations, combine


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
    """What became of a question of policy. obligations: None where nothing is done with them."""

    decision: Literal["allow", "deny"]
    obligations: Obligations | None = None


_NAMES: Final = (
    "decision",
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


def weight(name: str) -> int:
    """Give the place of a respect among all, 0 for the weightiest."""
    return _NAMES.index("evidence" if name.startswith("evidence.") else name)


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
    if old.decision == "deny" or old.obligations is None or new.obligations is None:
        return ()
    return tuple(_obligations(old.obligations, new.obligations))


def loosened(old: Outcome, new: Outcome) -> bool:
    """Tell whether the new outcome is less restrictive in any respect."""
    return is_loosened(differences(old, new))


def tightened(old: Outcome, new: Outcome) -> bool:
    """Tell whether the new outcome is more restrictive in any respect."""
    return any(d.tightened for d in differences(old, new))


def is_loosened(found: Iterable[Difference]) -> bool:
    """Tell whether any of the differences loosens."""
    return any(d.loosened for d in found)


def _obligations(old: Obligations, new: Obligations) -> Iterator[Difference]:
    before, after, joined = (_respects(o) for o in (old, new, combine(old, new)))
    names = sorted({*before, *after}, key=lambda name: (weight(name), name))
    for name in names:
        a, b = before.get(name, RANKS[0]), after.get(name, RANKS[0])
        if a == b:
            continue
        both = joined.get(name, RANKS[0])
        if name == "on_timeout":  # each side's own holds, while the joined deadline may be of the other
            both = max(a, b, key=("proceed", "escalate", "block").index)
        apart = name == "reviewers.role" and not {a, b}.intersection(REVIEWER_ROLES)
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
