"""Why policy decided as it did: which rules matched, what others failed at, who asked for what, what would flip it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from agentic_os.application.flips import OTHER, Change, Flip, Outcome, nearest, outcome_of
from agentic_os.domain.comparison import stages_by_name
from agentic_os.domain.conditions import Condition, Expression, Operator, Term
from agentic_os.domain.documents import JsonObject
from agentic_os.domain.hooks import ADMISSION, GATES
from agentic_os.domain.policy import NONE, Hook, Obligations, Rule, RuleSet, Verdict

DEFAULTS: Final = "defaults"
REQUEST: Final = "the request"
"""What an obligation comes of where it is of no rule."""

_OUTCOMES: Final[Mapping[Outcome, str]] = {
    "deny": "denied",
    "plan_first": "allowed, with a plan first",
    "direct": "allowed, directly",
    "allow": "allowed",
    "default": "what is built in",
    "retry": "another try",
    "other_executor": "another try, by another executor",
    "stronger_tier": "another try, by an executor of a higher tier",
    "replan": "a new plan",
    "person": "a person decides",
    "operator": "an operator answers",
    "reviewer": "a reviewer answers",
    "admin": "an administrator answers",
}
_MUST: Final[Mapping[Operator, str]] = {
    "eq": "be",
    "in": "be one of",
    "glob": "fit",
    "any_glob": "fit, or have anything that fits, one of",
    "any": "have any of",
    "all": "have all of",
    "gte": "be at least",
    "lte": "be at most",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One comparison, or expression, on account of which a rule did not match.

    field: "" for an expression; `expected` is then its text, and `actual` has its fields. negated: it held, and should
    not have. one_of: another of its group would have been enough. fault: why it could not be compared at all, "" where
    it could.
    """

    field: str
    operator: Operator | Literal["expression"]
    expected: Any
    actual: Any
    negated: bool = False
    one_of: bool = False
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """One rule of the hook: whether it matched, and where not, at which comparisons it failed."""

    rule: Rule
    matched: bool
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A verdict taken apart. set_by: which rules, the defaults or the request each obligation comes of."""

    verdict: Verdict
    outcome: Outcome
    considered: tuple[Considered, ...]
    obligations: Mapping[str, Any]
    set_by: Mapping[str, tuple[str, ...]]
    flips: tuple[Flip, ...]

    @property
    def matched(self) -> tuple[Rule, ...]:
        """List the rules whose conditions all hold."""
        return tuple(c.rule for c in self.considered if c.matched)

    def as_json(self) -> dict[str, Any]:
        """Describe it for programs."""
        verdict = self.verdict
        return {
            "hook": verdict.hook,
            "bundle": verdict.bundle,
            "decision": verdict.decision,
            "outcome": self.outcome,
            "rules": list(verdict.rules),
            "reasons": list(verdict.reasons),
            "obligations": [
                {"name": name, "value": value, "set_by": list(self.set_by[name])}
                for name, value in self.obligations.items()
            ],
            "matched": [_rule(c.rule) for c in self.considered if c.matched],
            "unmatched": [
                _rule(c.rule) | {"failed": [_members(f) for f in c.failures]}
                for c in self.considered
                if not c.matched
            ],
            "flips": [
                {"changes": [_members(c) for c in f.changes], "to": f.to, "rules": list(f.rules)}
                for f in self.flips
            ],
            "facts": dict(verdict.facts),
        }


def explain(rules: RuleSet, hook: Hook, facts: JsonObject) -> Explanation:
    """Decide, and take the verdict apart; it is the one that decide() reaches."""
    verdict = rules.decide(hook, facts)
    considered = tuple(_considered(rule, facts) for rule in rules.rules if rule.on == hook)
    obligations: dict[str, Any] = {}
    if verdict.decision == "allow" and hook in (*ADMISSION, *GATES):
        obligations = obligations_by_name(verdict.obligations)
    if hook in GATES:  # what holds for the task besides is no question here
        neutral = obligations_by_name(NONE)
        obligations = {name: value for name, value in obligations.items() if value != neutral.get(name)}
    elif obligations:
        obligations["on_due"] = verdict.on_due
    matching = [c.rule for c in considered if c.matched]
    return Explanation(
        verdict=verdict,
        outcome=outcome_of(verdict),
        considered=considered,
        obligations=obligations,
        set_by={
            name: tuple(_sources(name, value, rules, matching, facts)) for name, value in obligations.items()
        },
        flips=nearest(rules, verdict),
    )


def obligations_by_name(obligations: Obligations) -> dict[str, Any]:
    """Lay obligations out flat: `mode`, `reviewers.quorum`, `evidence.tests`, and so on."""
    named: dict[str, Any] = {}
    for member in fields(obligations):
        value = getattr(obligations, member.name)
        if member.name == "evidence":
            named |= {f"evidence.{criterion}": rank for criterion, rank in sorted(value.items())}
        elif member.name == "capabilities":
            named[member.name] = list(value)
        elif member.name == "reviewers":
            named |= {f"reviewers.{part.name}": getattr(value, part.name) for part in fields(value)}
        elif member.name == "stages":
            named |= stages_by_name(value)
        else:
            named[member.name] = value
    return named


def _considered(rule: Rule, facts: JsonObject) -> Considered:
    try:
        matched = all(term.holds(facts) for term in rule.when)
    except Exception:  # noqa: BLE001 - decide() takes any of them as a denial; its fault is among the failures
        matched = False
    failures = () if matched else tuple(f for term in rule.when for f in _failures(term, facts, wanted=True))
    return Considered(rule=rule, matched=matched, failures=failures)


def _failures(term: Term, facts: JsonObject, *, wanted: bool, one_of: bool = False) -> Iterator[Failure]:
    """Find the comparisons that would have to come out otherwise for the term to be as wanted."""
    if isinstance(term, Condition | Expression):
        held, fault = _held(term, facts)
        if held != wanted:
            yield _failure(term, facts, negated=not wanted, one_of=one_of, fault=fault)
        return
    if term.kind == "not":
        yield from _failures(term.of[0], facts, wanted=not wanted, one_of=one_of)
        return
    each = [list(_failures(part, facts, wanted=wanted, one_of=one_of)) for part in term.of]
    if (term.kind == "all") == wanted:  # every part must come out as wanted
        yield from (failure for part in each for failure in part)
    elif all(each):  # one would be enough, and none does
        for part in term.of:
            yield from _failures(part, facts, wanted=wanted, one_of=one_of or len(term.of) > 1)
    else:
        yield from (failure for part in each for failure in part if failure.fault)


def _failure(
    term: Condition | Expression, facts: JsonObject, *, negated: bool, one_of: bool, fault: str
) -> Failure:
    if isinstance(term, Expression):
        return Failure(
            field="",
            operator="expression",
            expected=term.text,
            actual={name: facts.get(name) for name in term.fields},
            negated=negated,
            one_of=one_of,
            fault=fault,
        )
    return Failure(
        field=term.field,
        operator=term.operator,
        expected=term.value,
        actual=facts.get(term.field),
        negated=negated,
        one_of=one_of,
        fault=fault,
    )


def _held(condition: Condition | Expression, facts: JsonObject) -> tuple[bool | None, str]:
    try:
        return condition.holds(facts), ""
    except Exception as problem:  # noqa: BLE001 - as above
        return None, str(problem) or type(problem).__name__


def _sources(name: str, value: Any, rules: RuleSet, matching: list[Rule], facts: JsonObject) -> Iterator[str]:
    """Name whatever asks for exactly this; where rules ask for it, the defaults are named only if they do too."""
    if name == "on_timeout":
        timed = [r for r in matching if r.obligations.deadline_seconds is not None]
        if timed:  # only rules that set a deadline say what happens at it
            yield from (r.id for r in timed if r.obligations.on_timeout == value)
            return
    if name == "capabilities" and value:  # joined, so that each who asks for any of them has its part in it
        yield from (DEFAULTS for _ in rules.defaults.capabilities[:1])
        yield from (r.id for r in matching if r.obligations.capabilities)
        return
    if name == "mode" and value == facts.get("task.mode") == "plan_first":
        yield REQUEST
    neutral = {**obligations_by_name(NONE), "on_due": "notify"}.get(name)
    by_rule = [
        r.id for r in matching if value != neutral and _asked(r.obligations, r.on_due).get(name) == value
    ]
    if _asked(rules.defaults, rules.on_due).get(name) == value and (value != neutral or name != "mode"):
        yield DEFAULTS
    elif value == neutral:
        yield REQUEST if name == "mode" and facts.get("task.mode") == "direct" else DEFAULTS
    yield from by_rule


def _asked(obligations: Obligations, on_due: str) -> dict[str, Any]:
    return {**obligations_by_name(obligations), "on_due": on_due}


def _rule(rule: Rule) -> dict[str, Any]:
    return {"id": rule.id, "effect": rule.effect, "reason": rule.reason}


def _members(value: Failure | Change) -> dict[str, Any]:
    return {member.name: getattr(value, member.name) for member in fields(value)}


def describe(explanation: Explanation) -> str:
    """Write an explanation for people, in plain words and several lines."""
    verdict = explanation.verdict
    by = f"by {_rules(verdict.rules)}" if verdict.rules else "by no rule"
    lines = [f"{verdict.hook}: {_OUTCOMES[explanation.outcome]}, {by}; bundle {verdict.bundle[:19]}"]
    lines += [f"  because: {reason}" for reason in verdict.reasons]
    if explanation.obligations:
        lines += ["", "What it must observe, and who asks for it:"]
        lines += [
            f"  {name} {_shown(value)}: {', '.join(explanation.set_by[name])}"
            for name, value in explanation.obligations.items()
            if value is not None and value != []
        ]
    if explanation.matched:
        lines += ["", "Rules that match:"]
        lines += [
            f"  {r.id} ({r.effect})" + (f": {r.reason}" if r.reason else "") for r in explanation.matched
        ]
    if failed := [c for c in explanation.considered if not c.matched]:
        lines += ["", "Rules that do not match, and what they fail at:"]
        lines += [f"  {c.rule.id}: {'; '.join(map(_failed, c.failures))}" for c in failed]
    lines += ["", "What would change it:"]
    lines += [f"  {_flipped(flip)}" for flip in explanation.flips] or [
        "  no change of one or two facts that was tried"
    ]
    return "\n".join(lines)


def _failed(failure: Failure) -> str:
    if failure.operator == "expression":
        return _expression_failed(failure)
    if failure.fault:
        return f"{failure.field} cannot be compared: {failure.fault}"
    if failure.operator == "exists":
        must = "be there" if failure.expected != failure.negated else "not be there"
    else:
        must = f"{'not ' if failure.negated else ''}{_MUST[failure.operator]} {_shown(failure.expected)}"
    return f"{failure.field} must {must}, and is {_shown(failure.actual)}{_enough(failure)}"


def _expression_failed(failure: Failure) -> str:
    if failure.fault:
        return f"`{failure.expected}` cannot be evaluated: {failure.fault}"
    found = ", ".join(f"{name} is {_shown(value)}" for name, value in failure.actual.items())
    must = "must not hold" if failure.negated else "must hold"
    return f"`{failure.expected}` {must}, and {found or 'it never changes'}{_enough(failure)}"


def _enough(failure: Failure) -> str:
    return ", or another of its group hold" if failure.one_of else ""


def _flipped(flip: Flip) -> str:
    changes = " and ".join(f"{c.field} were {_changed(c)}" for c in flip.changes)
    by = f" by {_rules(flip.rules)}" if flip.rules else ""
    return f"{_OUTCOMES[flip.to]}{by}, if {changes}"


def _changed(change: Change) -> str:
    after = "any that no rule mentions" if change.after == OTHER else _shown(change.after)
    return f"{after}, not {_shown(change.before)}"


def _rules(names: tuple[str, ...]) -> str:
    return f"{'rule' if len(names) == 1 else 'rules'} {', '.join(names)}"


def _shown(value: Any) -> str:
    return "absent" if value is None else json.dumps(value, ensure_ascii=False)
