"""policy_tests.yaml: facts with the decision that policy is to reach for them, and which rules no case matches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import yaml

from agentic_os.application.explanation import obligations_by_name
from agentic_os.domain.documents import RANKS, RISKS, Mode, Step
from agentic_os.domain.hooks import FIELDS, HOOKS, Hook, known
from agentic_os.domain.policy import ASKABLE, THENS, OnDue, OnTimeout, RuleSet, Verdict, Voters
from agentic_os.governance.nodes import Nodes, read_file
from agentic_os.governance.policy_file import REQUIRES

_NULL: Final = "tag:yaml.org,2002:null"
_TEXTS: Final[Mapping[str, Sequence[Any]]] = {
    **{name: RISKS for name, field in FIELDS.items() if field.kind == "risk"},
    "task.mode": get_args(Mode),
    "attempt.step": get_args(Step),
}
_ONE_OF: Final[Mapping[str, Sequence[Any]]] = {
    "mode": get_args(Mode),
    "on_timeout": get_args(OnTimeout),
    "on_due": get_args(OnDue),
    "then": THENS,
    "ask": ASKABLE,
}
_FLAGS: Final = ("result_review", "bare_approve", "independent_human", "bar_requester")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTest:
    """One case. rules: which are to decide, in any order; None for whichever. obligations: those that are to hold."""

    name: str
    line: int
    hook: Hook
    facts: Mapping[str, Any]
    decision: Literal["allow", "deny"]
    rules: tuple[str, ...] | None
    obligations: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """What came of one case; it passed where nothing differs. matched: the rules whose conditions all held."""

    test: PolicyTest
    differences: tuple[str, ...]
    matched: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of all cases. unmatched: the rules that matched in none."""

    results: tuple[Tested, ...]
    rules: int
    unmatched: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Tell whether no case differs."""
        return not any(result.differences for result in self.results)

    @property
    def coverage(self) -> float:
        """Give the share of the rules that matched in some case, in percent; all of none is 100."""
        return 100.0 if not self.rules else 100.0 * (self.rules - len(self.unmatched)) / self.rules


def read_policy_tests(path: Path) -> tuple[PolicyTest, ...]:
    """Read the cases; none where the file says nothing. Raises GovernanceInvalid."""
    advice = "policy test needs policy_tests.yaml in the governance folder."
    found = read_file(path, _TestFile(path).tests, advice)
    return found[0] if found else ()


def run_policy_tests(tests: Sequence[PolicyTest], policy: RuleSet) -> Report:
    """Have the policy decide each case."""
    results = tuple(_run(test, policy) for test in tests)
    matched = {rule for result in results for rule in result.matched}
    return Report(
        results=results,
        rules=len(policy.rules),
        unmatched=tuple(rule.id for rule in policy.rules if rule.id not in matched),
    )


def _run(test: PolicyTest, policy: RuleSet) -> Tested:
    verdict = policy.decide(test.hook, test.facts)
    try:
        matched = frozenset(rule.id for rule in policy.matching(test.hook, test.facts))
    except Exception:  # noqa: BLE001 - the decision is then a denial that says why
        matched = frozenset()
    return Tested(test=test, differences=tuple(_differences(test, verdict)), matched=matched)


def _differences(test: PolicyTest, verdict: Verdict) -> list[str]:
    found = []
    if test.decision != verdict.decision:
        why = f" ({'; '.join(verdict.reasons)})" if verdict.reasons else ""
        found.append(f"decision: expected {test.decision}, got {verdict.decision}{why}")
    if test.rules is not None and set(test.rules) != set(verdict.rules):
        found.append(f"rules: expected {_listed(test.rules)}, got {_listed(verdict.rules)}")
    if verdict.decision == "allow":
        actual = {**obligations_by_name(verdict.obligations), "on_due": verdict.on_due}
        actual |= {"then": verdict.then or THENS[0], "ask": verdict.ask or ASKABLE[0]}
        stages = verdict.obligations.in_order
        actual["reviewers.stages"] = len(stages)
        for place, stage in zip(_places(len(stages)), stages, strict=True):
            actual[f"{place}.by"] = stage.by or "people"  # who counts where nobody said
        found += [
            f"{name}: expected {wanted!r}, got {actual.get(name)!r}"
            for name, wanted in test.obligations.items()
            if actual.get(name) != wanted
        ]
    return found


def _places(stages: int) -> list[str]:
    """Name the stages of a review as their obligations are named."""
    return ["reviewers", *(f"reviewers.{number}" for number in range(2, stages + 1))][:stages]


def _listed(rules: Sequence[str]) -> str:
    return ", ".join(sorted(rules)) or "none"


class _TestFile(Nodes):
    """Reads the cases."""

    def tests(self, node: yaml.Node) -> tuple[PolicyTest, ...]:
        """Read a list of cases, or a mapping whose `cases` it is."""
        if isinstance(node, yaml.MappingNode):
            node = self.mapping(node, ("cases",), needed=("cases",))["cases"]
        found: list[PolicyTest] = []
        for item in self.sequence(node):
            test = self._test(item)
            if test.name in {other.name for other in found}:
                self.fail(item, f"the name {test.name!r} is used twice")
            found.append(test)
        return tuple(found)

    def _test(self, node: yaml.Node) -> PolicyTest:
        names = ("name", "hook", "facts", "expect")
        parts = self.mapping(node, names, needed=names)
        hook: Hook = self.one_of(parts["hook"], HOOKS)
        expected = self.mapping(parts["expect"], ("decision", "rules", "obligations"), needed=("decision",))
        decision = self.one_of(expected["decision"], ("allow", "deny"))
        if "obligations" in expected and (decision == "deny" or hook not in REQUIRES):
            self.fail(
                expected["obligations"], f"obligations are of what is allowed, and at {', '.join(REQUIRES)}"
            )
        return PolicyTest(
            name=self.scalar(parts["name"], str),
            line=node.start_mark.line + 1,
            hook=hook,
            facts={
                name: self._fact(value, name, hook)
                for name, value in self.mapping(parts["facts"], tuple(FIELDS)).items()
            },
            decision=decision,
            rules=tuple(self._texts(expected["rules"])) if "rules" in expected else None,
            obligations=self._obligations(expected["obligations"], hook) if "obligations" in expected else {},
        )

    def _fact(self, node: yaml.Node, name: str, hook: Hook) -> Any:
        if not known(name, hook):
            self.fail(node, f"{name} is known on {', '.join(FIELDS[name].hooks)} only")
        kind = FIELDS[name].kind
        if node.tag == _NULL:
            return None
        if kind == "list":
            return self._texts(node)
        if kind == "number":
            return self.scalar(node, int)
        if kind == "flag":
            return self.scalar(node, bool)
        return self.one_of(node, _TEXTS[name]) if name in _TEXTS else self.scalar(node, str)

    def _texts(self, node: yaml.Node) -> list[str]:
        return [self.scalar(item, str) for item in self.sequence(node)]

    def _obligations(self, node: yaml.Node, hook: Hook) -> dict[str, Any]:
        parts = self.mapping(node, REQUIRES[hook])
        found: dict[str, Any] = {n: self.one_of(parts[n], _ONE_OF[n]) for n in _ONE_OF if n in parts}
        found |= {name: self.scalar(parts[name], bool) for name in _FLAGS if name in parts}
        if "deadline" in parts:
            node = parts["deadline"]
            found["deadline_seconds"] = None if node.tag == _NULL else self.duration(node)
        if "capabilities" in parts:
            found["capabilities"] = sorted(set(self._texts(parts["capabilities"])))
        if "tier" in parts:
            found["tier"] = None if parts["tier"].tag == _NULL else self.scalar(parts["tier"], int)
        if "evidence" in parts:
            ranks = self.mapping(parts["evidence"], None)
            found |= {f"evidence.{name}": self.one_of(rank, RANKS) for name, rank in ranks.items()}
        if "reviewers" in parts:
            found |= self._stages(parts["reviewers"])
        return found

    def _stages(self, node: yaml.Node) -> dict[str, Any]:
        """Read who is to approve; a list has all stages of the review, so that there must be as many."""
        if not isinstance(node, yaml.SequenceNode):
            return self._reviewers(node, "reviewers")
        items = self.sequence(node)
        found: dict[str, Any] = {"reviewers.stages": len(items)}
        for place, item in zip(_places(len(items)), items, strict=True):
            found |= self._reviewers(item, place)
        return found

    def _reviewers(self, node: yaml.Node, place: str) -> dict[str, Any]:
        reviewers = self.mapping(node, ("role", "quorum", "by"))
        kinds = {"role": str, "quorum": int}
        found = {f"{place}.{n}": self.scalar(reviewers[n], k) for n, k in kinds.items() if n in reviewers}
        if "by" in reviewers:
            found[f"{place}.by"] = self.one_of(reviewers["by"], get_args(Voters))
        return found
