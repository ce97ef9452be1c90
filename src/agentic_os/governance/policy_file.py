"""policy.yaml: rules, budgets, freezes and breakers."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal, get_args

import yaml

from agentic_os.domain.budgets import Amounts, Budgets
from agentic_os.domain.conditions import Condition, Group, Operator, Term
from agentic_os.domain.documents import RANKS, RISKS, Mode
from agentic_os.domain.governance import RateName
from agentic_os.domain.hooks import FIELDS, HOOKS, Hook, known
from agentic_os.domain.organisation import Organisation
from agentic_os.domain.policy import (
    ASKABLE,
    NONE,
    REVIEWER_ROLES,
    SUPERIOR,
    THENS,
    Breaker,
    Breakers,
    FreezeWindow,
    Obligations,
    OnDue,
    OnTimeout,
    RateBreaker,
    RecurringFreeze,
    Reviewers,
    Rule,
    RuleSet,
    Voters,
)
from agentic_os.domain.routing import Needs
from agentic_os.governance.expressions import ExpressionInvalid, expression
from agentic_os.governance.nodes import ROLE, Nodes
from agentic_os.governance.organisation_file import HIGHEST_TIER
from agentic_os.governance.recurrence import (
    RecurrenceInvalid,
    occurrences,
    require_cron,
    shortest_gap,
    time_zone,
)

SECTIONS: Final = ("defaults", "rules", "budgets", "freezes", "breakers")
"""What stands at the top of a policy."""

_OPERATORS: Final = get_args(Operator)
_KINDS: Final[Mapping[str, Literal["all", "any", "not"]]] = {"all": "all", "any": "any", "not": "not"}
_MOST: Final = 2**53 - 1
_LONGEST_CAPABILITY: Final = 60
MOST_STAGES: Final = 5
_OF_REVIEWS: Final = (
    "reviewers",
    "deadline",
    "on_timeout",
    "bare_approve",
    "independent_human",
    "bar_requester",
)
_OF_RESULTS: Final = ("evidence", "result_review")
_OF_ROUTING: Final = ("capabilities", "tier")
_OBLIGATIONS: Final = ("mode", *_OF_REVIEWS, *_OF_RESULTS, *_OF_ROUTING, "on_due")
_EFFECTS: Final[tuple[Literal["require", "allow", "deny"], ...]] = ("require", "allow", "deny")
_RATES: Final[tuple[RateName, ...]] = get_args(RateName)
REQUIRES: Final[Mapping[Hook, tuple[str, ...]]] = {
    "task.received": _OBLIGATIONS,
    "task.proposed": _OBLIGATIONS,
    "plan.submitted": _OF_REVIEWS,
    "result.submitted": (*_OF_REVIEWS, *_OF_RESULTS),
    "attempt.ended": ("then",),
    "escalation.raised": ("ask",),
}
"""What a rule may require, by its hook; on every other it can only allow or deny."""

_NO_DENIAL: Final[frozenset[Hook]] = frozenset({"attempt.ended", "escalation.raised"})
"""Hooks at which something has happened already, so that there is nothing to deny."""


class PolicyFile(Nodes):
    """Builds the policy. organisation: whose roles its rules may name."""

    def __init__(self, path: Path, organisation: Organisation | None = None) -> None:
        super().__init__(path)
        self._organisation = organisation or Organisation()

    def policy(self, node: yaml.Node) -> RuleSet:
        """Read the whole file."""
        top = self.mapping(node, SECTIONS)
        defaults = RuleSet(bundle="", rules=()).defaults
        on_due: OnDue = "notify"
        closed: frozenset[Hook] = frozenset()
        if "defaults" in top:
            said = self.mapping(top["defaults"], (*_OBLIGATIONS, "deny"))
            defaults = self._obligations(said, defaults)
            on_due = self._on_due(said)
            closed = self._closed(said["deny"]) if "deny" in said else closed
        items = self.sequence(top["rules"]) if "rules" in top else []
        rules = [self._rule(item, defaults.on_timeout) for item in items]
        for index, rule in enumerate(rules):
            if rule.id in (before := [r.id for r in rules[:index]]):
                other = self.elsewhere(items[before.index(rule.id)], items[index])
                self.fail(items[index], f"the rule id {rule.id!r} is used twice{other}")
        return RuleSet(
            bundle="",
            rules=tuple(rules),
            defaults=defaults,
            budgets=self._budgets(top["budgets"]) if "budgets" in top else Budgets(),
            on_due=on_due,
            freezes=self._freezes(top["freezes"]) if "freezes" in top else (),
            breakers=self._breakers(top["breakers"]) if "breakers" in top else Breakers(),
            closed=closed,
        )

    def _closed(self, node: yaml.Node) -> frozenset[Hook]:
        """Read at which hooks nothing is let in that no rule lets in."""
        hooks = [hook for hook in HOOKS if hook not in _NO_DENIAL]
        return frozenset(self.one_of(item, hooks) for item in self.sequence(node))

    def _budgets(self, node: yaml.Node) -> Budgets:
        parts = self.mapping(node, ("project", "executor", "day", "attempt"))
        return Budgets(
            project=self._amounts_by_name(parts, "project"),
            executor=self._amounts_by_name(parts, "executor"),
            day=self._amounts(parts["day"]) if "day" in parts else Amounts(),
            attempt=self._amounts(parts["attempt"]) if "attempt" in parts else Amounts(),
        )

    def _amounts_by_name(self, parts: Mapping[str, yaml.Node], scope: str) -> dict[str, Amounts]:
        named = self.mapping(parts[scope], None) if scope in parts else {}
        return {name: self._amounts(amounts) for name, amounts in sorted(named.items())}

    def _amounts(self, node: yaml.Node) -> Amounts:
        parts = self.mapping(node, ("cost_microusd", "tokens"))
        if not parts:
            self.fail(node, "a budget says cost_microusd, tokens or both")
        amounts = {name: self.scalar(value, int) for name, value in parts.items()}
        for name, amount in amounts.items():
            if not 0 <= amount <= _MOST:
                self.fail(parts[name], f"{name} is between 0 and {_MOST}")
        return Amounts(**amounts)

    def _freezes(self, node: yaml.Node) -> tuple[FreezeWindow | RecurringFreeze, ...]:
        found: list[FreezeWindow | RecurringFreeze] = []
        items = self.sequence(node)
        for item in items:
            freeze = self._freeze(item)
            if freeze.id in (before := [f.id for f in found]):
                other = self.elsewhere(items[before.index(freeze.id)], item)
                self.fail(item, f"the freeze id {freeze.id!r} is used twice{other}")
            found.append(freeze)
        return tuple(found)

    def _freeze(self, node: yaml.Node) -> FreezeWindow | RecurringFreeze:
        if "cron" in self.mapping(node, None):
            return self._recurring(node)
        parts = self.mapping(
            node, ("id", "from", "until", "projects", "reason"), needed=("id", "from", "until", "projects")
        )
        start, until = self.instant(parts["from"]), self.instant(parts["until"])
        if until <= start:
            self.fail(parts["until"], "a freeze ends after it begins")
        return FreezeWindow(
            id=self.scalar(parts["id"], str),
            start=start,
            until=until,
            projects=self._patterns(parts["projects"]),
            reason=self.scalar(parts["reason"], str) if "reason" in parts else "",
        )

    def _recurring(self, node: yaml.Node) -> RecurringFreeze:
        needed = ("id", "cron", "time_zone", "for", "projects")
        parts = self.mapping(node, (*needed, "reason"), needed=needed)
        cron: str = self.scalar(parts["cron"], str)
        name: str = self.scalar(parts["time_zone"], str)
        lasts = timedelta(seconds=self.duration(parts["for"]))
        asked = "cron"
        try:
            require_cron(cron)
            asked = "time_zone"
            zone = time_zone(name)
        except RecurrenceInvalid as problem:
            self.fail(parts[asked], str(problem))
        if (gap := shortest_gap(cron)) <= lasts:
            self.fail(parts["for"], f"it would begin again before it ends: the next may come {gap} after one")
        return RecurringFreeze(
            id=self.scalar(parts["id"], str),
            cron=cron,
            time_zone=name,
            lasts=lasts,
            projects=self._patterns(parts["projects"]),
            occurrences=occurrences(cron, zone, lasts),
            reason=self.scalar(parts["reason"], str) if "reason" in parts else "",
        )

    def _patterns(self, node: yaml.Node) -> tuple[str, ...]:
        patterns = tuple(self.scalar(item, str) for item in self.sequence(node))
        if not patterns:
            self.fail(node, 'no project is named; ["*"] is every one')
        return patterns

    def _breakers(self, node: yaml.Node) -> Breakers:
        parts = self.mapping(node, ("task", "executor", *_RATES))
        read: dict[str, Any] = {
            name: self._rate(item) if name in _RATES else self._breaker(item) for name, item in parts.items()
        }
        return Breakers(**read)

    def _rate(self, node: yaml.Node) -> RateBreaker:
        count, within = self._how_many(node, "count")
        return RateBreaker(count=count, within=within)

    def _breaker(self, node: yaml.Node) -> Breaker:
        attempts, within = self._how_many(node, "attempts")
        return Breaker(attempts=attempts, within=within)

    def _how_many(self, node: yaml.Node, name: str) -> tuple[int, timedelta]:
        parts = self.mapping(node, (name, "within"), needed=(name, "within"))
        number: int = self.scalar(parts[name], int)
        if not 1 <= number <= 100_000:  # noqa: PLR2004 - said in the message
            self.fail(parts[name], f"{name} is between 1 and 100000")
        return number, timedelta(seconds=self.duration(parts["within"]))

    def _on_due(self, parts: Mapping[str, yaml.Node]) -> OnDue:
        found: OnDue = self.one_of(parts["on_due"], get_args(OnDue)) if "on_due" in parts else "notify"
        return found

    def _rule(self, node: yaml.Node, on_timeout: OnTimeout) -> Rule:
        parts = self.mapping(node, ("id", "on", "when", *_EFFECTS, "reason"))
        for needed in ("id", "on"):
            if needed not in parts:
                self.fail(node, f"a rule needs {needed!r}")
        effects = [name for name in _EFFECTS if name in parts]
        if len(effects) != 1:
            self.fail(node, "a rule has exactly one of 'require', 'allow' and 'deny'")
        (effect,) = effects
        hook: Hook = self.one_of(parts["on"], HOOKS)
        if effect != "require" and hook in _NO_DENIAL:
            self.fail(
                parts[effect], f"a rule on {hook} has nothing to {effect}; it requires {REQUIRES[hook][0]}"
            )
        if effect != "require" and not self.scalar(parts[effect], bool):
            self.fail(parts[effect], f"{effect} is true; without the rule it is not so")
        rule = Rule(
            id=self.scalar(parts["id"], str),
            on=hook,
            when=tuple(self._conditions(parts["when"], hook)) if "when" in parts else (),
            effect=effect,
            reason=self.scalar(parts["reason"], str) if "reason" in parts else "",
        )
        return self._requiring(rule, parts["require"], on_timeout) if "require" in parts else rule

    def _requiring(self, rule: Rule, node: yaml.Node, on_timeout: OnTimeout) -> Rule:
        """Add what a rule requires, which depends on its hook."""
        if rule.on not in REQUIRES:
            other = "; oblige on task.received" if rule.on == "dispatch" else ""
            self.fail(node, f"a rule on {rule.on} can only allow or deny{other}")
        names = REQUIRES[rule.on]
        if rule.on in _NO_DENIAL:
            (name,) = names
            said = self.mapping(node, names, needed=names)[name]
            if name == "then":
                return replace(rule, then=self.one_of(said, THENS))
            return replace(rule, ask=self.one_of(said, ASKABLE))
        named = self.mapping(node, names)
        found = self._obligations(named, NONE)
        if "deadline" in named and "on_timeout" not in named:  # it does at its deadline as the defaults say
            found = replace(found, on_timeout=on_timeout)
        return replace(rule, obligations=found, on_due=self._on_due(named))

    def _conditions(self, node: yaml.Node, hook: Hook) -> Iterator[Term]:
        """Read `when`: an expression, or one of all, any and not at the top, each with as many below."""
        if isinstance(node, yaml.ScalarNode):
            try:
                yield expression(self.scalar(node, str), hook)
            except ExpressionInvalid as problem:
                self.fail(node, str(problem))
            return
        group = self._group(node, hook)
        yield from group.of if group.kind == "all" else (group,)

    def _group(self, node: yaml.Node, hook: Hook) -> Group:
        parts = self.mapping(node, ("all", "any", "not"))
        if len(parts) != 1:
            self.fail(node, "conditions are joined by exactly one of all, any, not")
        ((name, content),) = parts.items()
        kind: Literal["all", "any", "not"] = _KINDS[name]
        if kind == "not":
            return Group(kind=kind, of=(self._term(content, hook),))
        items = self.sequence(content)
        if not items:
            self.fail(content, f"{kind} joins at least one condition")
        return Group(kind=kind, of=tuple(self._term(item, hook) for item in items))

    def _term(self, node: yaml.Node, hook: Hook) -> Term:
        names = self.mapping(node, None)
        if "field" not in names and not names.keys().isdisjoint(_KINDS):
            return self._group(node, hook)
        parts = self.mapping(node, ("field", *_OPERATORS), needed=("field",))
        field = self.scalar(parts["field"], str)
        if field not in FIELDS:
            self.fail(parts["field"], f"unknown field {field!r}; declared are: {', '.join(FIELDS)}")
        if not known(field, hook):
            self.fail(parts["field"], f"{field} is known on {', '.join(FIELDS[field].hooks)} only")
        operators = [name for name in _OPERATORS if name in parts]
        if len(operators) != 1:
            self.fail(node, f"a condition has exactly one of {', '.join(_OPERATORS)}")
        operator = operators[0]
        return Condition(field=field, operator=operator, value=self._value(parts[operator], field, operator))

    def _value(self, node: yaml.Node, field: str, operator: str) -> str | int | bool | list[str]:
        """Read what a field is compared with; a comparison that could never hold is a fault of the rule."""
        kind = FIELDS[field].kind
        if operator == "exists":
            return bool(self.scalar(node, bool))
        if kind == "list" and operator not in ("any_glob", "any", "all"):
            self.fail(node, f"{field} is a list: use any_glob, any or all")
        if kind != "list" and operator in ("any", "all"):
            self.fail(node, f"{field} is no list: use eq, in or glob")
        if kind == "number":
            if operator not in ("eq", "gte", "lte"):
                self.fail(node, f"{field} is a number: use eq, gte or lte")
            return int(self.scalar(node, int))
        if kind == "flag":
            if operator != "eq":
                self.fail(node, f"{field} is true or false: use eq")
            return bool(self.scalar(node, bool))
        if operator in ("in", "any_glob", "any", "all"):
            return [self.scalar(item, str) for item in self.sequence(node)]
        if operator in ("eq", "glob"):
            return str(self.scalar(node, str))
        if kind != "risk":
            self.fail(node, f"{operator} is for risks and numbers, and {field} is neither")
        return str(self.one_of(node, RISKS))

    def _obligations(self, parts: Mapping[str, yaml.Node], start: Obligations) -> Obligations:
        found: dict[str, Any] = {}
        if "mode" in parts:
            found["mode"] = self.one_of(parts["mode"], get_args(Mode))
        if "reviewers" in parts:
            found["reviewers"], *stages = self._stages(parts["reviewers"])
            found["stages"] = tuple(stages)
        if "deadline" in parts:
            found["deadline_seconds"] = self.duration(parts["deadline"])
        if "on_timeout" in parts:
            found["on_timeout"] = self.one_of(parts["on_timeout"], get_args(OnTimeout))
        if "evidence" in parts:
            pairs = self.mapping(parts["evidence"], None)
            found["evidence"] = {name: self.one_of(rank, RANKS) for name, rank in sorted(pairs.items())}
        for flag in ("result_review", "bare_approve", "independent_human", "bar_requester"):
            if flag in parts:
                found[flag] = self.scalar(parts[flag], bool)
        found |= self._routing(parts)
        return replace(start, **found)

    def _routing(self, parts: Mapping[str, yaml.Node]) -> dict[str, Any]:
        """Read what an executor must have; what no member has would keep every task waiting."""
        found: dict[str, Any] = {}
        members = self._organisation.members.values()
        if "capabilities" in parts:
            items = self.sequence(parts["capabilities"])
            for item in items:
                name = self.scalar(item, str)
                if not 1 <= len(name) <= _LONGEST_CAPABILITY:
                    self.fail(item, f"a capability is 1 to {_LONGEST_CAPABILITY} characters")
                if members and not any(name in m.capabilities for m in members):
                    self.fail(item, f"no member of organisation.yaml has the capability {name!r}")
            found["capabilities"] = tuple(sorted({self.scalar(item, str) for item in items}))
        if "tier" in parts:
            tier = found["tier"] = self.scalar(parts["tier"], int)
            if not 0 <= tier <= HIGHEST_TIER:
                self.fail(parts["tier"], f"tier is between 0 and {HIGHEST_TIER}")
            if members and not any(Needs(tier=tier).met_by((), m.tier) for m in members):
                self.fail(parts["tier"], f"no member of organisation.yaml is of tier {tier} or higher")
        needs = Needs(**found)
        if members and not any(needs.met_by(m.capabilities, m.tier) for m in members):
            self.fail(parts["capabilities"], f"no member of organisation.yaml has all of this: {needs}")
        return found

    def _stages(self, node: yaml.Node) -> list[Reviewers]:
        """Read who must approve: one set of reviewers, or a list of them, one stage of the review after the other."""
        if not isinstance(node, yaml.SequenceNode):
            return [self._reviewers(node)]
        items = self.sequence(node)
        if not 1 <= len(items) <= MOST_STAGES:
            self.fail(node, f"a review has 1 to {MOST_STAGES} stages")
        return [self._reviewers(item) for item in items]

    def _reviewers(self, node: yaml.Node) -> Reviewers:
        parts = self.mapping(node, ("role", "quorum", "by"))
        quorum = self.scalar(parts["quorum"], int) if "quorum" in parts else 1
        if not 1 <= quorum <= 20:  # noqa: PLR2004 - said in the message
            self.fail(parts["quorum"], "quorum is between 1 and 20")
        by = self.one_of(parts["by"], get_args(Voters)) if "by" in parts else None
        if "role" not in parts:
            return Reviewers(quorum=quorum, by=by)
        if by == "anyone":
            role = self.scalar(parts["role"], str)
            if not ROLE.fullmatch(role):
                self.fail(parts["role"], f"{role!r} is no role: letters, digits, '.', '_' and '-'")
            known = self._organisation
            if known.members and role not in (*REVIEWER_ROLES, SUPERIOR) and not known.holders(role):
                self.fail(parts["role"], f"no member of organisation.yaml has the role {role!r}")
        else:
            declared = [r for r in self._organisation.roles if self._organisation.holders(r)]
            hint = "; executors of any role need `by: anyone`, people of any members in organisation.yaml"
            role = self.one_of(parts["role"], (*REVIEWER_ROLES, SUPERIOR, *declared), hint)
        return Reviewers(role=role, quorum=quorum, by=by or "people")
