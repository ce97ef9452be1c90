"""What would have made policy decide otherwise: the nearest changes of the facts, each tried before it is named."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, islice, product
from typing import Any, Final, TypeAlias, get_args

from agentic_os.domain.conditions import Condition, Expression, Operator, Term, fields_of
from agentic_os.domain.documents import RISKS, JsonObject, Mode, Step
from agentic_os.domain.hooks import ADMISSION, FIELDS, Kind
from agentic_os.domain.policy import ASKABLE, Rule, RuleSet, Verdict

Outcome: TypeAlias = str
"""What becomes of a task: its mode where it is let in, what then after an attempt, who answers a question."""

_Changed: TypeAlias = dict[str, Any]
_Candidates: TypeAlias = dict[str, list[Any]]

SHOWN: Final = 5
OTHER: Final = "(another)"
"""Stands for a value that no rule mentions."""

_TRIES: Final = 4_000
_RULES_TRIED: Final = 1_000_000
"""How many rules are asked in all, so that the search among many thousands takes about a second as well."""

_CLOSED: Final[Mapping[str, tuple[Any, ...]]] = {
    **{name: RISKS for name, field in FIELDS.items() if field.kind == "risk"},
    **{name: (False, True) for name, field in FIELDS.items() if field.kind == "flag"},
    "task.mode": get_args(Mode),
    "attempt.step": get_args(Step),
}


_COMPARED: Final[Mapping[Kind, Operator]] = {"text": "eq", "list": "any", "number": "gte"}
_LEAST: Final = frozenset({"direct", "allow", "default", ASKABLE[0]})
"""What becomes of a task where no rule says more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One fact that would be another; None for a fact that is absent."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """Changes that, made together, lead to another outcome, none of them in vain; by which rules."""

    changes: tuple[Change, ...]
    to: Outcome
    rules: tuple[str, ...]


def outcome_of(verdict: Verdict) -> Outcome:
    """Say what becomes of the task."""
    if verdict.decision == "deny":
        return "deny"
    match verdict.hook:
        case "task.received" | "task.proposed":
            return verdict.obligations.mode
        case "attempt.ended":
            return verdict.then or "default"
        case "escalation.raised":
            return verdict.ask or ASKABLE[0]
        case _:
            return "allow"


def conditions_of(terms: Iterable[Term]) -> Iterator[Condition]:
    """List the comparisons that terms are made of; of an expression, those that it may amount to."""
    for term in terms:
        match term:
            case Condition():
                yield term
            case Expression():
                yield from _likely(term)
            case _:
                yield from conditions_of(term.of)


def _likely(expression: Expression) -> Iterator[Condition]:
    """Compare each field that an expression names with each constant of its kind."""
    for name, value in product(expression.fields, expression.constants):
        kind = FIELDS[name].kind
        if isinstance(value, int) == (kind == "number") and kind in _COMPARED:
            operator = _COMPARED[kind]
            yield Condition(field=name, operator=operator, value=[value] if operator == "any" else value)


def nearest(rules: RuleSet, verdict: Verdict) -> tuple[Flip, ...]:
    """Find the changes of one fact, and then of two, that lead to another outcome; at most five, the same each time.

    Tried are the constants that the rules mention, absence, and for a text a value that no rule mentions. The search
    ends after some thousands of trials, or fewer where there are thousands of rules, so that it may miss a change, but
    never names one that would not flip.
    """
    return tuple(_Search(rules, verdict).found())


class _Search:
    def __init__(self, rules: RuleSet, verdict: Verdict) -> None:
        self._rules = rules
        self._verdict = verdict
        self._now = outcome_of(verdict)
        self._here = [r for r in rules.rules if r.on == verdict.hook]

    def found(self) -> list[Flip]:
        """Try single facts first, so that no pair holds a change that would do alone."""
        shown: list[Flip] = []
        found: list[Flip] = []
        groups = list(self._groups())
        trials = chain(chain.from_iterable(map(_singles, groups)), chain.from_iterable(map(_pairs, groups)))
        for changed in islice(trials, min(_TRIES, _RULES_TRIED // max(len(self._rules.rules), 1))):
            flip = self._tried(changed)
            if flip is None or any(_holds_all(other, changed) for other in found if other.to == flip.to):
                continue
            if len(flip.changes) == 1:
                found.append(flip)
            if not any(_alike(flip, other) for other in shown):
                shown.append(flip)
            if len(shown) == SHOWN:
                break
        return shown

    def _tried(self, changed: _Changed) -> Flip | None:
        facts = {**self._verdict.facts, **changed}
        verdict = self._rules.decide(self._verdict.hook, facts)
        if outcome_of(verdict) == self._now:
            return None
        changes = tuple(
            Change(field=name, before=self._verdict.facts.get(name), after=value)
            for name, value in changed.items()
        )
        return Flip(changes=changes, to=outcome_of(verdict), rules=verdict.rules)

    def _groups(self) -> Iterator[_Candidates]:
        """Give the values to try together: those that undo what decided, and for each other rule those that meet it."""
        matching = [r for r in self._here if _decides(r, self._verdict.facts)]
        if self._now == "deny":
            decisive = [r for r in matching if r.effect == "deny" or not _sound(r, self._verdict.facts)]
            yield self._candidates(_mentioned(decisive), self._here)
            if not decisive:  # nothing let it in: whatever does would
                for rule in self._here:
                    if rule.effect != "deny":
                        yield self._candidates(_mentioned([rule]), [rule])
            return
        asked = ["task.mode"] if self._verdict.hook in ADMISSION else []
        stricter = [r for r in matching if _wanted(r) not in _LEAST]
        yield self._candidates([*_mentioned(stricter), *asked], self._here)
        for rule in self._here:
            if rule not in matching and _wanted(rule) != self._now:
                yield self._candidates(_mentioned([rule]), [rule])

    def _candidates(self, names: Sequence[str], rules: Iterable[Rule]) -> _Candidates:
        conditions = [c for rule in rules for c in conditions_of(rule.when)]
        return {
            name: _values(name, self._verdict.facts.get(name), [c for c in conditions if c.field == name])
            for name in FIELDS
            if name in names
        }


def _mentioned(rules: Iterable[Rule]) -> list[str]:
    return [name for rule in rules for name in fields_of(rule.when)]


def _wanted(rule: Rule) -> Outcome:
    """Say what would become of the task by this rule alone."""
    if rule.effect == "deny":
        return "deny"
    return rule.then or rule.ask or (rule.obligations.mode if rule.on in ADMISSION else "allow")


def _decides(rule: Rule, facts: JsonObject) -> bool:
    """Tell whether a rule matches, or cannot be evaluated, which denies too."""
    return not _sound(rule, facts) or all(term.holds(facts) for term in rule.when)


def _sound(rule: Rule, facts: JsonObject) -> bool:
    try:
        all(term.holds(facts) for term in rule.when)
    except Exception:  # noqa: BLE001 - whatever a decision takes as a rule that fails
        return False
    return True


def _singles(group: _Candidates) -> Iterator[_Changed]:
    """Name the values of all facts before the absence of any."""
    for absent in (False, True):
        for name, values in group.items():
            yield from ({name: value} for value in values if (value is None) == absent)


def _pairs(group: _Candidates) -> Iterator[_Changed]:
    for (a, of_a), (b, of_b) in combinations(group.items(), 2):
        yield from ({a: x, b: y} for x, y in product(of_a, of_b))


def _holds_all(flip: Flip, changed: _Changed) -> bool:
    return all(c.field in changed and changed[c.field] == c.after for c in flip.changes)


def _alike(flip: Flip, other: Flip) -> bool:
    """Tell whether two flips say the same of the same facts, for instance of two risks that are both low enough."""
    names = [{c.field for c in f.changes} for f in (flip, other)]
    return names[0] == names[1] and (flip.to, flip.rules) == (other.to, other.rules)


def _values(name: str, actual: Any, conditions: Sequence[Condition]) -> list[Any]:
    """List what a fact could be instead, the nearest first, and absence last."""
    kind = FIELDS[name].kind
    if name in _CLOSED:
        found: list[Any] = sorted(_CLOSED[name], key=lambda v: _distance(_CLOSED[name], v, actual))
    elif kind == "number":
        near = {c.value + step for c in conditions if c.operator != "exists" for step in (-1, 0, 1)}
        start = actual if isinstance(actual, int) else 0
        found = sorted((n for n in near if n >= 0), key=lambda n: (abs(n - start), n))
    elif kind == "list":
        found = _lists([actual] if isinstance(actual, str) else list(actual or ()), conditions)
    else:
        found = [OTHER, *(text for c in conditions for text in _texts(c))]
    distinct: list[Any] = []
    for value in (*found, None):
        if value != actual and value not in distinct:
            distinct.append(value)
    return distinct


def _distance(values: Sequence[Any], value: Any, actual: Any) -> int:
    return abs(values.index(value) - values.index(actual)) if actual in values else 0


def _lists(actual: list[Any], conditions: Sequence[Condition]) -> list[list[Any]]:
    found = []
    for condition in conditions:
        texts = _texts(condition)
        wanted = [texts] if condition.operator == "all" else [[text] for text in texts]
        found += [[*actual, *(t for t in more if t not in actual)] for more in wanted]
        if condition.operator in ("any", "all"):
            found.append([name for name in actual if name not in condition.value])
        elif condition.operator == "any_glob":
            found.append([name for name in actual if not condition.holds({condition.field: name})])
    return [*found, [], [OTHER]]


def _texts(condition: Condition) -> list[str]:
    """Give texts that meet a comparison; of a pattern, the simplest text that fits it."""
    match condition.operator:
        case "eq":
            return [condition.value]
        case "in" | "any" | "all":
            return list(condition.value)
        case "glob":
            return [_sample(condition.value)]
        case "any_glob":
            return [_sample(pattern) for pattern in condition.value]
        case _:
            return []


def _sample(pattern: str) -> str:
    return re.sub(r"\[!?(.)[^\]]*\]", r"\1", pattern).replace("**", "*").replace("*", "x").replace("?", "x")
