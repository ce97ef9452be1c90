"""When a rule matches: comparisons of declared facts with constants, joined by all, any and not, or an expression."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as attribute
from fnmatch import translate
from typing import Any, Final, Literal, TypeAlias

from agentic_os.domain.documents import RISKS, JsonObject

_RANKS: Final[Mapping[Any, int]] = {risk: rank for rank, risk in enumerate(RISKS)}
Operator: TypeAlias = Literal["eq", "in", "glob", "any_glob", "gte", "lte", "any", "all", "exists"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What became of a condition: whether it held, and of a comparison what the fact was."""

    condition: "Condition | Group | Expression"
    held: bool
    actual: Any = None
    parts: "tuple[Finding, ...]" = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One comparison of a declared field with a constant."""

    field: str
    operator: Operator
    value: Any
    _meets: Callable[[Any], bool] = attribute(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Prepare the comparison once, and not at each decision."""
        object.__setattr__(self, "_meets", _comparison(self.operator, self.value))

    def holds(self, facts: JsonObject) -> bool:
        """Tell whether the facts meet the condition; an absent field meets none but `exists: false`."""
        actual = facts.get(self.field)
        if self.operator == "exists":
            return bool((actual is not None) == self.value)
        return actual is not None and self._meets(actual)

    def examine(self, facts: JsonObject) -> Finding:
        """Say whether it held, and what the fact was."""
        return Finding(condition=self, held=self.holds(facts), actual=facts.get(self.field))


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Conditions joined: all of them, any of them, or not the one."""

    kind: Literal["all", "any", "not"]
    of: "tuple[Condition | Group | Expression, ...]"

    def holds(self, facts: JsonObject) -> bool:
        """Tell whether the facts meet it; what is wrong in a condition is raised, so that the gate stays shut."""
        match self.kind:
            case "all":
                for part in self.of:  # noqa: SIM110 - a generator costs as much as the comparison
                    if not part.holds(facts):
                        return False
                return True
            case "any":
                for part in self.of:  # noqa: SIM110 - as above
                    if part.holds(facts):
                        return True
                return False
            case "not":
                return not self.of[0].holds(facts)

    def examine(self, facts: JsonObject) -> Finding:
        """Say whether it held, and what became of each part."""
        parts = tuple(part.examine(facts) for part in self.of)
        return Finding(condition=self, held=self.holds(facts), parts=parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """A condition written as an expression; what evaluates it is made by whoever read it.

    fields: those it looks at. constants: the texts and numbers that it mentions, of whichever field.
    """

    text: str
    fields: tuple[str, ...]
    constants: tuple[str | int, ...] = ()
    predicate: Callable[[JsonObject], object] = attribute(compare=False, repr=False)

    def holds(self, facts: JsonObject) -> bool:
        """Tell whether it is true of the facts. Raises whatever is wrong, so that the gate stays shut."""
        found = self.predicate(facts)
        if not isinstance(found, bool):
            raise TypeError(f"{self.text!r} is neither true nor false but {type(found).__name__}")
        return found

    def examine(self, facts: JsonObject) -> Finding:
        """Say whether it held, and what the fields were that it looks at."""
        actual = {name: facts.get(name) for name in self.fields}
        return Finding(condition=self, held=self.holds(facts), actual=actual)


Term: TypeAlias = Condition | Group | Expression


def fields_of(terms: Iterable[Term]) -> frozenset[str]:
    """Name the fields that terms look at."""
    found: set[str] = set()
    for term in terms:
        match term:
            case Condition():
                found.add(term.field)
            case Expression():
                found.update(term.fields)
            case Group():
                found |= fields_of(term.of)
    return frozenset(found)


def _comparison(operator: Operator, value: Any) -> Callable[[Any], bool]:
    """Prepare what compares a fact with the constant; a constant that cannot be compared is raised when it is used."""
    try:
        return _prepared(operator, value)
    except Exception as fault:  # noqa: BLE001 - a rule with any such fault denies, but only where it is asked
        problem = fault

    def broken(_: Any) -> bool:
        raise problem

    return broken


def _prepared(operator: Operator, value: Any) -> Callable[[Any], bool]:
    match operator:
        case "eq":
            return lambda actual: bool(actual == value)
        case "in":
            return lambda actual: actual in value
        case "glob":
            fits = re.compile(translate(value)).match
            return lambda actual: fits(actual) is not None
        case "any_glob":
            return _any_fits(value)
        case "any":
            wanted = frozenset(value)
            return lambda actual: not wanted.isdisjoint(_names(actual))
        case "all":
            needed = frozenset(value)
            return lambda actual: needed.issubset(_names(actual))
        case "gte":
            least = _position(value)
            return lambda actual: _position(actual) >= least
        case _:
            most = _position(value)
            return lambda actual: _position(actual) <= most


def _any_fits(patterns: Sequence[str]) -> Callable[[Any], bool]:
    if not patterns:
        return lambda _: False
    fits = re.compile("|".join(map(translate, patterns))).match

    def any_fits(actual: Any) -> bool:
        for name in _names(actual):  # noqa: SIM110 - a generator costs as much as the match
            if fits(name) is not None:
                return True
        return False

    return any_fits


def _names(actual: Any) -> Sequence[str]:
    return [actual] if isinstance(actual, str) else actual


def _position(value: Any) -> float:
    rank = _RANKS.get(value)
    return float(value) if rank is None else rank
