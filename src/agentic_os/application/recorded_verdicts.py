"""A verdict as a task's events hold it, and whether policy decides the same again."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from agentic_os.contracts.canonical import digest_of
from agentic_os.domain.policy import RULE_ERROR, UNLISTED, Hook, Obligations, RuleSet, Verdict, continued

_DECIDED: Final[Mapping[str, tuple[Hook, Literal["allow", "deny"]]]] = {
    "task.allowed": ("task.received", "allow"),
    "task.denied": ("task.received", "deny"),
    "dispatch.denied": ("dispatch", "deny"),
    "child.accepted": ("task.proposed", "allow"),
    "child.refused": ("task.proposed", "deny"),
}
"""Which events hold a verdict, at which hook and of what kind; an attempt that was opened holds no facts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedVerdict:
    """What was decided, and on what. inherited: obligations from when the task was proposed, None for no child's."""

    event: Mapping[str, Any]
    hook: Hook
    decision: Literal["allow", "deny"]
    inherited: Mapping[str, Any] | None

    @property
    def data(self) -> Mapping[str, Any]:
        """Give the event's own fields."""
        data: Mapping[str, Any] = self.event["data"]
        return data


def latest_verdict(events: Iterable[Mapping[str, Any]], child: str | None = None) -> RecordedVerdict | None:
    """Find the last verdict on a task, or on its child of this ref, in its events as the API gives them."""
    found: RecordedVerdict | None = None
    inherited: Mapping[str, Any] | None = None
    for event in events:
        if event["type"] == "parent.declared":
            inherited = event["data"]["obligations"]
        hook, decision = _DECIDED.get(event["type"], (None, None))
        if hook is None or decision is None:
            continue
        if child == (event["data"]["ref"] if hook == "task.proposed" else None):
            found = RecordedVerdict(event=event, hook=hook, decision=decision, inherited=inherited)
    return found


def by_policy(recorded: RecordedVerdict, policy: RuleSet) -> bool:
    """Tell whether it was policy that decided: a child may also be refused for want of budget, room or a dependency."""
    names = {rule.id for rule in policy.rules} | {RULE_ERROR, UNLISTED}
    return recorded.event["type"] != "child.refused" or names.issuperset(recorded.data["rules"])


def differences(
    recorded: RecordedVerdict,
    verdict: Verdict,
    *,
    obligations: Obligations | None,
    inherited: Obligations | None,
) -> list[str]:
    """Say in what a verdict that was reached again is not the one that was recorded.

    obligations, inherited: those of the event, and of the task's proposal, where there are any.
    """
    found = []
    if digest_of(recorded.data["facts"]) != recorded.data["facts_digest"]:
        found.append("the facts are not those that their digest names")
    if recorded.decision != verdict.decision:
        found.append(f"the decision was {recorded.decision}, and is {verdict.decision}")
    for name, again in (("rules", verdict.rules), ("reasons", verdict.reasons)):
        if list(recorded.data[name]) != list(again):
            found.append(f"the {name} were {list(recorded.data[name])}, and are {list(again)}")
    expected = continued(inherited, verdict.obligations) if inherited else verdict.obligations
    if verdict.decision == "allow" and obligations is not None and obligations != expected:
        found.append(f"the obligations were {obligations}, and are {expected}")
    return found
