"""When a rule matches: comparisons of declared facts with constants, joined by all, any and not, or an expression."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias

from agentic_os.domain.documents import RISKS, JsonObject

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

    def holds(self, facts: JsonObject) -> bool:
        """Tell whether the facts meet the condition; an absent field meets none but `exists: false`."""
        actual = facts.get(self.field)
        if self.operator == "exists":
            return bool((actual is not None) == self.value)
        return actual is not None and self._meets(actual)

    def _meets(self, actual: Any) -> bool:
        value = self.value
        match self.operator:
            case "eq":
                return bool(actual == value)
            case "in":
                return actual in value
            case "glob":
                return fnmatchcase(actual, value)
            case "any_glob":
                return any(fnmatchcase(name, pattern) for name in _names(actual) for pattern in value)
            case "any":
                return not set(value).isdisjoint(_names(actual))
            case "all":
                return set(value).issubset(_names(actual))
            case "gte":
                return _position(actual) >= _position(value)
            case _:
                return _position(actual) <= _position(value)

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
                return all(part.holds(facts) for part in self.of)
            case "any":
                return any(part.holds(facts) for part in self.of)
            case "not":
                return not self.of[0].holds(facts)

    def examine(self, facts: JsonObject) -> Finding:
        """Say whether it held, and what became of each part."""
        parts = tuple(part.examine(facts) for part in self.of)
        return Finding(condition=self, held=self.holds(facts), parts=parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """A condition written as an expression; what evaluates it is made by whoever read it. fields: those it looks at."""

    text: str
    fields: tuple[str, ...]
    predicate: Callable[[JsonObject], object] = field(compare=False, repr=False)

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


def _names(actual: Any) -> Sequence[str]:
    return [actual] if isinstance(actual, str) else actual


def _position(value: Any) -> float:
    return RISKS.index(value) if value in RISKS else float(value)
