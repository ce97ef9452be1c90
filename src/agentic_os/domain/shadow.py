"""A policy in the shadow of the one in force: asked beside it, put on record where it differs, and never heeded."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from agentic_os.domain import events as e
from agentic_os.domain.budgets import Budgets
from agentic_os.domain.comparison import Outcome, differences, is_loosened
from agentic_os.domain.documents import JsonObject
from agentic_os.domain.policy import (
    RULE_ERROR,
    Breakers,
    DecisionPoint,
    FreezeWindow,
    Hook,
    Obligations,
    Verdict,
)

_HOOKS: Final[frozenset[Hook]] = frozenset({"task.received", "dispatch"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadowed:
    """A DecisionPoint that is the one in force in all respects; its verdicts carry what the shadow says."""

    in_force: DecisionPoint
    shadow: DecisionPoint

    @property
    def bundle(self) -> str:
        """Name the bundle in force."""
        return self.in_force.bundle

    @property
    def budgets(self) -> Budgets:
        """Give the budgets in force."""
        return self.in_force.budgets

    @property
    def breakers(self) -> Breakers:
        """Give the breakers in force."""
        return self.in_force.breakers

    def frozen(self, project: str, at: datetime) -> FreezeWindow | None:
        """Find the freeze in force."""
        return self.in_force.frozen(project, at)

    def decide(self, hook: Hook, facts: JsonObject) -> Verdict:
        """Reach the verdict of the policy in force."""
        verdict = self.in_force.decide(hook, facts)
        return replace(verdict, shadow=self._said(hook, facts)) if hook in _HOOKS else verdict

    def _said(self, hook: Hook, facts: JsonObject) -> Verdict:
        try:
            return self.shadow.decide(hook, dict(facts))
        except Exception as problem:  # noqa: BLE001 - whatever is wrong with a shadow stops nothing
            return Verdict(
                hook=hook,
                decision="deny",
                rules=(RULE_ERROR,),
                reasons=(f"The shadow could not be evaluated: {problem}",),
                bundle=self.shadow.bundle,
                obligations=Obligations(),
                facts=facts,
            )


def differed(
    verdict: Verdict, obligations: Obligations | None = None, shadowed: Obligations | None = None
) -> list[e.PolicyDiffered]:
    """Say where the shadow differs from a verdict; one that could not be evaluated always does.

    obligations, shadowed: what the two amount to, where obligations count.
    """
    shadow = verdict.shadow
    if shadow is None:
        return []
    failed = RULE_ERROR in shadow.rules and RULE_ERROR not in verdict.rules
    found = differences(
        Outcome(decision=verdict.decision, obligations=obligations),
        Outcome(decision=shadow.decision, obligations=shadowed),
    )
    if not found and not failed:
        return []
    return [
        e.PolicyDiffered(
            hook=verdict.hook,
            bundle=shadow.bundle,
            decision=shadow.decision,
            rules=shadow.rules,
            reasons=shadow.reasons,
            differences=() if failed else found,
            loosened=not failed and is_loosened(found),
        )
    ]
