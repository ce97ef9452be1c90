"""Policy as data: rules over a declared input, and the most restrictive obligation wins."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from functools import reduce
from itertools import starmap, zip_longest
from typing import Final, Literal, Protocol, TypeAlias, get_args

from agentic_os.domain.budgets import Budgets
from agentic_os.domain.conditions import Finding, Term
from agentic_os.domain.documents import RANKS, JsonObject, Mode, Rank
from agentic_os.domain.hooks import CLOSED, FIELDS, GATES, HOOKS, Hook

__all__ = [
    "ASKABLE",
    "FIELDS",
    "HOOKS",
    "NONE",
    "REVIEWER_ROLES",
    "SUPERIOR",
    "THENS",
    "Breaker",
    "Breakers",
    "DecisionPoint",
    "Examined",
    "FreezeWindow",
    "Hook",
    "Obligations",
    "Occurrence",
    "Occurrences",
    "OnDue",
    "OnTimeout",
    "RateBreaker",
    "RecurringFreeze",
    "Reviewers",
    "Rule",
    "RuleSet",
    "Then",
    "Verdict",
    "Voters",
    "combine",
    "continued",
]

OnTimeout: TypeAlias = Literal["block", "escalate", "proceed"]
Voters: TypeAlias = Literal["people", "anyone"]
OnDue: TypeAlias = Literal["notify", "escalate"]
Then: TypeAlias = Literal["default", "retry", "other_executor", "stronger_tier", "replan", "person"]
"""What is to become of a task whose attempt failed or expired; default: what is built in."""

_ON_TIMEOUT: Final[tuple[OnTimeout, ...]] = ("proceed", "escalate", "block")
_VOTERS: Final[tuple[Voters | None, ...]] = (None, "anyone", "people")
_UNSAID: Final[tuple[bool | None, ...]] = (None, False, True)
THENS: Final[tuple[Then, ...]] = get_args(Then)
RULE_ERROR: Final = "rule-error"
"""The rule that denies what no rule could be evaluated for."""
UNLISTED: Final = "default-deny"
"""The rule that denies what no rule lets in, where nothing is let in by itself."""
REVIEWER_ROLES: Final = ("reviewer", "admin")
"""From the least to the most restrictive: whoever is an admin has the rights of a reviewer too."""

SUPERIOR: Final = "superior"
"""The role of whoever stands above the author in the reporting lines of the organisation."""

ASKABLE: Final = ("operator", "reviewer", "admin")
"""Who may be asked an executor's question; whoever is an admin may always answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewers:
    """Who must approve: so many of this role. by: whether an executor that holds it counts too, None for unsaid."""

    role: str = "reviewer"
    quorum: int = 1
    by: Voters | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Obligations:
    """What an allowed task must observe.

    reviewers: who must approve. stages: who must after them, one stage after the other.
    deadline_seconds: how long a review may wait. evidence: the least rank by criterion id ("*" for all).
    bare_approve: whether `/approve` without a digest counts. independent_human: whether the owner of an
    executor is barred from approving its work. bar_requester: whether who asked for the task is; None for unsaid.
    capabilities, tier: what who plans or executes it must have, sorted, and at least; a reviewer need not.
    """

    mode: Mode = "direct"
    reviewers: Reviewers = Reviewers()
    deadline_seconds: int | None = None
    on_timeout: OnTimeout = "block"
    evidence: Mapping[str, Rank] = field(default_factory=dict)
    result_review: bool = False
    bare_approve: bool = True
    independent_human: bool = False
    bar_requester: bool | None = None
    capabilities: tuple[str, ...] = ()
    tier: int | None = None
    stages: tuple[Reviewers, ...] = ()

    @property
    def in_order(self) -> tuple[Reviewers, ...]:
        """List the stages of a review, the first included."""
        return (self.reviewers, *self.stages)


NONE: Final = Obligations(on_timeout="proceed")


def combine(a: Obligations, b: Obligations) -> Obligations:
    """Join two obligations; in each respect the more restrictive one holds."""
    ranks = {
        k: max(a.evidence.get(k, RANKS[0]), b.evidence.get(k, RANKS[0]), key=RANKS.index)
        for k in sorted({*a.evidence, *b.evidence})
    }
    deadlines = [d for d in (a.deadline_seconds, b.deadline_seconds) if d is not None]
    tiers = [t for t in (a.tier, b.tier) if t is not None]
    reviewers, *stages = starmap(_both, zip_longest(a.in_order, b.in_order, fillvalue=Reviewers()))
    return Obligations(
        mode="plan_first" if "plan_first" in (a.mode, b.mode) else "direct",
        reviewers=reviewers,
        deadline_seconds=min(deadlines, default=None),
        on_timeout=max(a.on_timeout, b.on_timeout, key=_ON_TIMEOUT.index),
        evidence=ranks,
        result_review=a.result_review or b.result_review,
        bare_approve=a.bare_approve and b.bare_approve,
        independent_human=a.independent_human or b.independent_human,
        bar_requester=max(a.bar_requester, b.bar_requester, key=_UNSAID.index),
        capabilities=tuple(sorted({*a.capabilities, *b.capabilities})),
        tier=max(tiers, default=None),
        stages=tuple(stages),
    )


def _both(a: Reviewers, b: Reviewers) -> Reviewers:
    """Join two stages of the same place; whoever asks for no such stage is like one who asks for anyone's approval."""
    return Reviewers(
        role=max(a.role, b.role, key=_role_rank),
        quorum=max(a.quorum, b.quorum),
        by=max(a.by, b.by, key=_VOTERS.index),
    )


def continued(earlier: Obligations, later: Obligations) -> Obligations:
    """Join what two questions about one task asked for; only one that set a deadline says what happens at it."""
    timed = [o.on_timeout for o in (earlier, later) if o.deadline_seconds is not None]
    joined = combine(earlier, later)
    return replace(joined, on_timeout=timed[0]) if len(timed) == 1 else joined


def _role_rank(role: str) -> tuple[int, str]:
    """Rank a role of executors above that of any reviewer, and below that of administrators."""
    return ({"reviewer": 0, "admin": 2}.get(role, 1), role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: when all its conditions hold at its hook, it denies, obliges, or lets in without obliging.

    then: on attempt.ended. ask: on escalation.raised.
    """

    id: str
    on: Hook
    when: tuple[Term, ...] = ()
    effect: Literal["require", "allow", "deny"] = "require"
    obligations: Obligations = NONE
    reason: str = ""
    on_due: OnDue = "notify"
    then: Then | None = None
    ask: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeWindow:
    """A span in which no attempt is opened for tasks of these projects (patterns); what runs goes on."""

    id: str
    start: datetime
    until: datetime
    projects: tuple[str, ...]
    reason: str = ""

    def covers(self, project: str, at: datetime) -> bool:
        """Tell whether it holds for the project at the instant: from its start on, and no longer at its end."""
        return self.start <= at < self.until and any(fnmatchcase(project, p) for p in self.projects)

    def window(self, project: str, at: datetime) -> "FreezeWindow | None":
        """Give itself where it holds."""
        return self if self.covers(project, at) else None


Occurrence: TypeAlias = tuple[datetime, datetime]
"""From when a recurring freeze holds, and from when on it no longer does; in UTC."""

Occurrences: TypeAlias = Callable[[datetime], Occurrence | None]
"""Gives the occurrence in which an instant lies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurringFreeze:
    """A freeze that begins at each time of a cron expression in a time zone, and lasts as long each time.

    occurrences: what knows when, made of the rest by whoever read it.
    """

    id: str
    cron: str
    time_zone: str
    lasts: timedelta
    projects: tuple[str, ...]
    occurrences: Occurrences = field(compare=False, repr=False)
    reason: str = ""

    def window(self, project: str, at: datetime) -> FreezeWindow | None:
        """Give the present occurrence as a window, where there is one and the project is named."""
        if not any(fnmatchcase(project, p) for p in self.projects):
            return None
        occurrence = self.occurrences(at)
        if occurrence is None:
            return None
        start, until = occurrence
        return FreezeWindow(id=self.id, start=start, until=until, projects=self.projects, reason=self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """How many attempts may be opened within a span."""

    attempts: int
    within: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class RateBreaker:
    """How much of a kind may come in within a span."""

    count: int
    within: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakers:
    """The breakers in force: for the attempts of each task and of each executor, and for what comes in.

    adoption: issues of people that become tasks. task_request: tasks that an executor asks for. routine: runs of
    routines.
    """

    task: Breaker | None = None
    executor: Breaker | None = None
    adoption: RateBreaker | None = None
    task_request: RateBreaker | None = None
    routine: RateBreaker | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What became of one rule at one decision."""

    rule: Rule
    matched: bool
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A decision of policy with all that it rested on.

    on_due: what is to happen once the task is overdue; no obligation of a gate, so it is a fact of its own.
    then: what is to become of a task after its attempt. ask: the role that is to answer; each None for unsaid.
    shadow: what a policy that is only tried says of the same facts; nothing but a record of it comes of it.
    """

    hook: Hook
    decision: Literal["allow", "deny"]
    rules: tuple[str, ...]
    reasons: tuple[str, ...]
    bundle: str
    obligations: Obligations
    facts: JsonObject
    on_due: OnDue = "notify"
    then: Then | None = None
    ask: str | None = None
    shadow: "Verdict | None" = None


class DecisionPoint(Protocol):
    """What answers the questions of policy; pure, so that a decision can be replayed."""

    @property
    def bundle(self) -> str:
        """Name the bundle in force by its digest."""
        ...

    @property
    def budgets(self) -> Budgets:
        """Give what projects, executors, days and attempts may spend."""
        ...

    def decide(self, hook: Hook, facts: JsonObject) -> Verdict:
        """Reach a verdict. Raises nothing: whatever goes wrong is a denial."""
        ...

    def frozen(self, project: str, at: datetime) -> FreezeWindow | None:
        """Find the freeze that holds for a project at an instant: of several, the one that ends last."""
        ...

    @property
    def breakers(self) -> Breakers:
        """Say how many attempts are too many."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """A DecisionPoint over rules: order-independent, a denial overrides all.

    closed: hooks at which nothing is let in that no rule lets in, besides those that always are.
    """

    bundle: str
    rules: tuple[Rule, ...]
    defaults: Obligations = Obligations(bare_approve=False)
    budgets: Budgets = field(default_factory=Budgets)
    on_due: OnDue = "notify"
    freezes: tuple[FreezeWindow | RecurringFreeze, ...] = ()
    breakers: Breakers = Breakers()
    closed: frozenset[Hook] = frozenset()
    _by_hook: Mapping[Hook, tuple[Rule, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Sort the rules by hook once, and not at each decision."""
        by_hook = {hook: tuple(r for r in self.rules if r.on == hook) for hook in HOOKS}
        object.__setattr__(self, "_by_hook", by_hook)

    def frozen(self, project: str, at: datetime) -> FreezeWindow | None:
        """Find the freeze that holds, the last to end of several."""
        holding = (window for f in self.freezes if (window := f.window(project, at)) is not None)
        return max(holding, key=lambda f: (f.until, f.id), default=None)

    def decide(self, hook: Hook, facts: JsonObject) -> Verdict:
        """Reach the verdict of all rules that match."""
        try:
            matching = self.matching(hook, facts)
            obligations = self._obligations(hook, matching, facts)
        except Exception as problem:  # noqa: BLE001 - a gate that fails stays shut, whatever the fault
            broken = Rule(
                id=RULE_ERROR, on=hook, effect="deny", reason=f"A rule could not be evaluated: {problem}"
            )
            matching, obligations = [broken], self.defaults
        if not matching and (hook in CLOSED or hook in self.closed):
            matching = [Rule(id=UNLISTED, on=hook, effect="deny", reason="No rule lets it in.")]
        denials = [r for r in matching if r.effect == "deny"]
        decisive = denials or matching
        return Verdict(
            hook=hook,
            decision="deny" if denials else "allow",
            rules=tuple(r.id for r in decisive),
            reasons=tuple(r.reason for r in decisive if r.reason),
            bundle=self.bundle,
            obligations=obligations,
            facts=facts,
            on_due="escalate" if "escalate" in (self.on_due, *(r.on_due for r in matching)) else "notify",
            then=max((r.then for r in matching if r.then), key=THENS.index, default=None),
            ask=max((r.ask for r in matching if r.ask), key=ASKABLE.index, default=None),
        )

    def matching(self, hook: Hook, facts: JsonObject) -> list[Rule]:
        """List the rules of a hook whose conditions all hold. Raises what a condition raises."""
        found: list[Rule] = []
        for rule in self._by_hook.get(hook, ()):
            for term in rule.when:
                if not term.holds(facts):
                    break
            else:
                found.append(rule)
        return found

    def examine(self, hook: Hook, facts: JsonObject) -> tuple[Examined, ...]:
        """Say of each rule of a hook whether it matched, and what became of its conditions. Raises what they raise."""
        return tuple(
            Examined(rule=rule, matched=all(f.held for f in findings), findings=findings)
            for rule in self._by_hook.get(hook, ())
            for findings in [tuple(term.examine(facts) for term in rule.when)]
        )

    def _obligations(self, hook: Hook, matching: Sequence[Rule], facts: JsonObject) -> Obligations:
        if hook in GATES:  # what holds for the task was said when it was received, the defaults too
            return reduce(combine, (r.obligations for r in matching), NONE)
        requested: Mode = "plan_first" if facts.get("task.mode") == "plan_first" else "direct"
        joined = replace(
            self.defaults, mode="plan_first" if self.defaults.mode == "plan_first" else requested
        )
        timeouts = [r.obligations.on_timeout for r in matching if r.obligations.deadline_seconds is not None]
        for rule in matching:
            joined = combine(joined, rule.obligations)
        # Only rules that set a deadline say what happens at it; the default never loosens or tightens theirs.
        return replace(joined, on_timeout=max(timeouts, key=_ON_TIMEOUT.index)) if timeouts else joined
