"""Whether conditions can hold together: what a lint needs to know, without trying every fact there is.

An answer of "cannot" is certain; "can" may be wrong, for instance of two patterns that no text fits both of.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final, TypeAlias, get_args

from agentic_os.domain.conditions import Condition, Expression, Group, Term, fields_of
from agentic_os.domain.documents import RISKS, Mode, Step
from agentic_os.domain.hooks import FIELDS, Kind

_MOST: Final = 256
_WITNESSES: Final = 4
_READ: Final = frozenset("*?[")
_CLOSED: Final[dict[str, Sequence[Any]]] = {
    **{name: RISKS for name, field in FIELDS.items() if field.kind == "risk"},
    **{name: (False, True) for name, field in FIELDS.items() if field.kind == "flag"},
    "task.mode": get_args(Mode),
    "attempt.step": get_args(Step),
}
_SOME: Final[dict[Kind, Any]] = {"list": ["(any)"], "number": 0, "text": "(any)"}
_BESIDE: Final[dict[str, Any]] = {
    name: _CLOSED[name][0] if name in _CLOSED else _SOME[field.kind] for name, field in FIELDS.items()
}


@dataclass(frozen=True, slots=True)
class Literal:
    """One comparison, and whether it is to hold."""

    condition: Condition
    wanted: bool = True


@dataclass(frozen=True, slots=True)
class Opaque:
    """An expression, of which nothing is known but that it cannot both hold and not hold."""

    expression: Expression
    wanted: bool


Conjunction: TypeAlias = tuple[Literal | Opaque, ...]


class _TooMany(Exception):
    """Conditions are joined in more ways than are looked at."""


def impossible(terms: Iterable[Term], negated: Iterable[Term] = ()) -> bool:
    """Tell whether no facts can meet all these terms, and not all of the negated ones where there are any."""
    of = tuple(negated)
    try:
        ways = _ways(Group(kind="all", of=tuple(terms)), wanted=True)
        if of:
            ways = _joined([ways, _ways(Group(kind="all", of=of), wanted=False)])
    except _TooMany:
        return False
    return all(_contradicts(way) for way in ways)


def implies(terms: Sequence[Term], others: Sequence[Term]) -> bool:
    """Tell whether whatever meets all terms certainly meets all the others."""
    return not others or impossible(terms, negated=others)


def _ways(term: Term, *, wanted: bool) -> list[Conjunction]:
    """List the ways in which a term comes out as wanted, each a conjunction. Raises _TooMany."""
    if isinstance(term, Condition):
        return [(Literal(term, wanted),)]
    if isinstance(term, Expression):
        return [(Opaque(term, wanted),)]
    if term.kind == "not":
        return _ways(term.of[0], wanted=not wanted)
    parts = [_ways(part, wanted=wanted) for part in term.of]
    if (term.kind == "all") == wanted:
        return _joined(parts)
    return _bounded([way for part in parts for way in part])


def _joined(parts: Sequence[list[Conjunction]]) -> list[Conjunction]:
    found: list[Conjunction] = [()]
    for part in parts:
        if len(found) * len(part) > _MOST:
            raise _TooMany
        found = [(*a, *b) for a, b in product(found, part)]
    return found


def _bounded(ways: list[Conjunction]) -> list[Conjunction]:
    if len(ways) > _MOST:
        raise _TooMany
    return ways


def _contradicts(way: Conjunction) -> bool:
    """Tell whether the comparisons of one field are certainly at odds, or an expression is to hold and not to."""
    by_field: dict[str, list[Literal]] = {}
    expressions: dict[Expression, bool] = {}
    for part in way:
        if isinstance(part, Literal):
            by_field.setdefault(part.condition.field, []).append(part)
        elif expressions.setdefault(part.expression, part.wanted) != part.wanted:
            return True
    return any(_at_odds(name, literals) for name, literals in by_field.items())


def _at_odds(name: str, literals: Sequence[Literal]) -> bool:
    if all(_holds(literal, name, None) for literal in literals):
        return False  # met by absence
    present = [literal for literal in literals if literal.condition.operator != "exists"]
    if any(not _holds(literal, name, "") for literal in literals if literal.condition.operator == "exists"):
        return True  # must be absent, which something else forbids
    if not present:
        return False
    kind = FIELDS[name].kind
    if kind == "list":
        return _lists_at_odds(present)
    candidates = _candidates(name, kind, present)
    if candidates is not None:
        return not any(all(_holds(literal, name, value) for literal in present) for value in candidates)
    return _patterns_at_odds(present)


def _holds(literal: Literal, name: str, value: Any) -> bool:
    return literal.condition.holds({name: value}) == literal.wanted


def _candidates(name: str, kind: Kind, literals: Sequence[Literal]) -> Sequence[Any] | None:
    """List values of which one meets the comparisons, if any value does; None where they cannot be listed."""
    if name in _CLOSED:
        return _CLOSED[name]
    values = [literal.condition.value for literal in literals]
    if kind == "number":
        return sorted({n for v in values for n in (v - 1, v, v + 1) if n >= 0})
    for literal in literals:
        if literal.wanted and literal.condition.operator in ("eq", "in"):
            value = literal.condition.value
            return [value] if literal.condition.operator == "eq" else list(value)
    return None


def _patterns_at_odds(literals: Sequence[Literal]) -> bool:
    """Tell whether every pattern that is to fit is one that must not fit."""
    forbidden = {p for literal in literals if not literal.wanted for p in _patterns(literal.condition)}
    asked = [_patterns(literal.condition) for literal in literals if literal.wanted]
    return any("*" in forbidden or forbidden.issuperset(patterns) for patterns in asked)


def _patterns(condition: Condition) -> Sequence[str]:
    """Give the patterns that a comparison amounts to; a text is one, where it has nothing that a pattern reads."""
    if condition.operator in ("glob", "any_glob"):
        return [condition.value] if condition.operator == "glob" else list(condition.value)
    texts = [condition.value] if condition.operator == "eq" else condition.value
    return [text for text in texts if _READ.isdisjoint(text)]


def _lists_at_odds(literals: Sequence[Literal]) -> bool:
    """Tell whether what a list must hold is what it must not hold."""
    unwanted = [literal.condition for literal in literals if not literal.wanted]
    wanted = [literal.condition for literal in literals if literal.wanted]
    needed = {name for c in wanted if c.operator == "all" for name in c.value}
    if any(_forbidden(name, unwanted) for name in needed):
        return True
    if any(needed.issuperset(c.value) for c in unwanted if c.operator == "all"):
        return True
    if any(all(_forbidden(name, unwanted) for name in c.value) for c in wanted if c.operator == "any"):
        return True
    patterns = [literal for literal in literals if literal.condition.operator == "any_glob"]
    return _patterns_at_odds(patterns)


def _forbidden(name: str, unwanted: Sequence[Condition]) -> bool:
    return any(c.holds({c.field: [name]}) for c in unwanted if c.operator in ("any", "any_glob"))


def witnesses(terms: Sequence[Term]) -> list[dict[str, Any]]:
    """Find simple facts that meet all terms, a few ways to do so, with other facts beside them and with none."""
    try:
        ways = _ways(Group(kind="all", of=tuple(terms)), wanted=True)
    except _TooMany:
        return []
    found = []
    for beside in (_BESIDE, {}):
        for way in ways[:_WITNESSES]:
            named = fields_of([p.condition if isinstance(p, Literal) else p.expression for p in way])
            facts: dict[str, Any] = {name: value for name, value in beside.items() if name not in named}
            for part in way:
                if part.wanted and isinstance(part, Literal):
                    _meet(part.condition, facts)
            if _hold(terms, facts):
                found.append(facts)
    return found


def _hold(terms: Sequence[Term], facts: dict[str, Any]) -> bool:
    try:
        return all(term.holds(facts) for term in terms)
    except Exception:  # noqa: BLE001 - an expression that cannot be evaluated on such facts is not met by them
        return False


def _meet(condition: Condition, facts: dict[str, Any]) -> None:
    """Add a fact that meets a comparison, beside those that a list has already."""
    name, value = condition.field, condition.value
    listed = FIELDS[name].kind == "list"
    if condition.operator in ("any", "in", "any_glob"):
        value = value[:1] if listed else next(iter(value), None)
    if listed:
        facts[name] = [*facts.get(name, ()), *(value if isinstance(value, list) else ())]
    elif condition.operator != "exists":
        facts[name] = value
