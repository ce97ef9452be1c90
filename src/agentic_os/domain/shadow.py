"""A policy in the shadow of the one in force: asked beside it, put on record where it differs, and never heeded."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from agentic_os.domain import events as e
from agentic_os.domain.budgets import Budgets
from agentic_os.domain.comparison import Outcome, differences, is_loosened, outcome
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
        return replace(self.in_force.decide(hook, facts), shadow=self._said(hook, facts))

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
    verdict: Verdict, joined: Callable[[Verdict], Obligations] | None = None
) -> list[e.PolicyDiffered]:
    """Say where the shadow differs from a verdict; one that could not be evaluated always does.

    joined: the obligations that a verdict amounts to, where those are not its own.
    """
    shadow = verdict.shadow
    if shadow is None:
        return []
    failed = RULE_ERROR in shadow.rules and RULE_ERROR not in verdict.rules
    found = differences(_outcome(verdict, joined), _outcome(shadow, joined))
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


def _outcome(verdict: Verdict, joined: Callable[[Verdict], Obligations] | None) -> Outcome:
    found = outcome(verdict)
    if joined is None or found.obligations is None:
        return found
    return replace(found, obligations=joined(verdict))
