"""Which executor gets a task: who has what it needs, and who of those is asked first."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from agentic_os.domain.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What an executor must have to plan or execute. tier: the least, None for any, also for none."""

    capabilities: tuple[str, ...] = ()
    tier: int | None = None

    def met_by(self, capabilities: Collection[str], tier: int | None) -> bool:
        """Tell whether somebody has all of it; a tier that nobody said is below every other."""
        return all(name in capabilities for name in self.capabilities) and (
            self.tier is None or (tier is not None and tier >= self.tier)
        )

    def __str__(self) -> str:
        """Write it out: `the capabilities gpu and sql, and tier 2 or higher`; "" for nothing."""
        word = "capability" if len(self.capabilities) == 1 else "capabilities"
        named = f"the {word} {' and '.join(self.capabilities)}" if self.capabilities else ""
        ranked = "" if self.tier is None else f"tier {self.tier} or higher"
        return ", and ".join(part for part in (named, ranked) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An executor that may have the task, as far as it matters for the order.

    load: the attempts that it holds. capacity: how many it may hold, None for any number. author: whether the plan
    is its own.
    """

    name: str
    tier: int | None = None
    load: int = 0
    capacity: int | None = None
    author: bool = False


Preference: TypeAlias = tuple[bool, int, float, int, str]


def preference(candidate: Candidate) -> Preference:
    """Give the key by which candidates are sorted: who has the least is asked first.

    First the author of the plan, who knows the most. Then the lowest tier, so that the strong are left for what the
    weak cannot do; the share of the capacity that is in use; the load; and the name, so that the order is always the
    same. What executors turn out to be worth is to weigh in here, between the tier and the share.
    """
    share = candidate.load / candidate.capacity if candidate.capacity else 0.0
    tier = -1 if candidate.tier is None else candidate.tier
    return (not candidate.author, tier, share, candidate.load, candidate.name)


def needs_of(task: Task) -> Needs:
    """Join what policy asks for with the tier that an earlier attempt showed to be too low."""
    tiers = [tier for tier in (task.obligations.tier, task.least_tier) if tier is not None]
    return Needs(capabilities=task.obligations.capabilities, tier=max(tiers, default=None))


def missing(needs: Needs, offered: Iterable[tuple[Collection[str], int | None]]) -> Needs:
    """Say what of the needs nobody has; all of them where each is met by somebody, but never together.

    offered: the capabilities and the tier of each who might have the task otherwise.
    """
    known = list(offered)
    unmet = Needs(
        capabilities=tuple(name for name in needs.capabilities if not any(name in has for has, _ in known)),
        tier=None if any(Needs(tier=needs.tier).met_by((), tier) for _, tier in known) else needs.tier,
    )
    return needs if unmet == Needs() else unmet


def tier_above(tier: int | None) -> int:
    """Give the least tier that is higher; above one that nobody said is any that somebody did."""
    return 0 if tier is None else tier + 1
