"""Read the governance folder: YAML into policy, each fault with its file and line."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn, get_args

import yaml

from agentic_os.contracts.canonical import digest_of
from agentic_os.domain.documents import RANKS, Mode
from agentic_os.domain.policy import (
    FIELDS,
    HOOKS,
    NONE,
    Condition,
    Obligations,
    OnTimeout,
    Reviewers,
    Rule,
    RuleSet,
)

_OPERATORS: Final = ("eq", "in", "any_glob", "gte")
_REVIEWER_ROLES: Final = ("reviewer", "admin")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_OBLIGATIONS: Final = (
    "mode",
    "reviewers",
    "deadline",
    "on_timeout",
    "evidence",
    "result_review",
    "bare_approve",
    "independent_human",
)


class GovernanceInvalid(Exception):
    """A governance file cannot be read as what it should be: file:line, what is wrong, what would be right."""


@dataclass(frozen=True, slots=True)
class Governance:
    """The policy in force, and the document that it was read from."""

    policy: RuleSet
    document: Mapping[str, Any]


def load_governance(folder: Path | None) -> Governance:
    """Read the folder; without one, the blank preset is in force. Raises GovernanceInvalid."""
    document: dict[str, Any] = {"defaults": {}, "rules": []}
    if folder is None:
        return Governance(RuleSet(bundle=digest_of(document), rules=()), document)
    path = folder / "policy.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise GovernanceInvalid(
            f"{path}: cannot be read ({problem}). A governance folder holds policy.yaml."
        ) from problem
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text) or {}
    except yaml.YAMLError as problem:
        raise GovernanceInvalid(f"{path}: not YAML: {problem}") from problem
    policy = (
        RuleSet(bundle=digest_of(document), rules=())
        if node is None
        else _Reader(path).policy(node, document)
    )
    return Governance(policy, document)


class _Reader:
    """Walks the node tree, which knows the lines, and builds the policy."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def policy(self, node: yaml.Node, document: Mapping[str, Any]) -> RuleSet:
        top = self._mapping(node, ("defaults", "rules"))
        defaults = RuleSet(bundle="", rules=()).defaults
        if "defaults" in top:
            defaults = self._obligations(top["defaults"], defaults)
        rules = [self._rule(item) for item in self._sequence(top["rules"])] if "rules" in top else []
        for index, rule in enumerate(rules):
            if rule.id in {r.id for r in rules[:index]}:
                self._fail(self._sequence(top["rules"])[index], f"the rule id {rule.id!r} is used twice")
        return RuleSet(bundle=digest_of(document), rules=tuple(rules), defaults=defaults)

    def _rule(self, node: yaml.Node) -> Rule:
        parts = self._mapping(node, ("id", "on", "when", "require", "deny", "reason"))
        for needed in ("id", "on"):
            if needed not in parts:
                self._fail(node, f"a rule needs {needed!r}")
        if ("require" in parts) == ("deny" in parts):
            self._fail(node, "a rule has either 'require' or 'deny'")
        deny = "deny" in parts and self._scalar(parts["deny"], bool)
        return Rule(
            id=self._scalar(parts["id"], str),
            on=self._one_of(parts["on"], HOOKS),
            when=tuple(self._conditions(parts["when"])) if "when" in parts else (),
            effect="deny" if deny else "require",
            obligations=self._obligations(parts["require"], NONE) if "require" in parts else NONE,
            reason=self._scalar(parts["reason"], str) if "reason" in parts else "",
        )

    def _conditions(self, node: yaml.Node) -> Iterator[Condition]:
        for item in self._sequence(self._mapping(node, ("all",), needed=("all",))["all"]):
            parts = self._mapping(item, ("field", *_OPERATORS), needed=("field",))
            field = self._scalar(parts["field"], str)
            if field not in FIELDS:
                self._fail(parts["field"], f"unknown field {field!r}; declared are: {', '.join(FIELDS)}")
            operators = [name for name in _OPERATORS if name in parts]
            if len(operators) != 1:
                self._fail(item, f"a condition has exactly one of {', '.join(_OPERATORS)}")
            operator = operators[0]
            value = yaml.SafeLoader("").construct_object(parts[operator], deep=True)
            if operator in ("in", "any_glob") and not isinstance(value, list):
                self._fail(parts[operator], f"{operator} takes a list")
            yield Condition(field=field, operator=operator, value=value)

    def _obligations(self, node: yaml.Node, start: Obligations) -> Obligations:
        parts = self._mapping(node, _OBLIGATIONS)
        found: dict[str, Any] = {}
        if "mode" in parts:
            found["mode"] = self._one_of(parts["mode"], get_args(Mode))
        if "reviewers" in parts:
            found["reviewers"] = self._reviewers(parts["reviewers"])
        if "deadline" in parts:
            found["deadline_seconds"] = self._duration(parts["deadline"])
        if "on_timeout" in parts:
            found["on_timeout"] = self._one_of(parts["on_timeout"], get_args(OnTimeout))
        if "evidence" in parts:
            pairs = self._mapping(parts["evidence"], None)
            found["evidence"] = {name: self._one_of(rank, RANKS) for name, rank in pairs.items()}
        for flag in ("result_review", "bare_approve", "independent_human"):
            if flag in parts:
                found[flag] = self._scalar(parts[flag], bool)
        return replace(start, **found)

    def _reviewers(self, node: yaml.Node) -> Reviewers:
        parts = self._mapping(node, ("role", "quorum"))
        quorum = self._scalar(parts["quorum"], int) if "quorum" in parts else 1
        if not 1 <= quorum <= 20:  # noqa: PLR2004 - said in the message
            self._fail(parts["quorum"], "quorum is between 1 and 20")
        role = self._one_of(parts["role"], _REVIEWER_ROLES) if "role" in parts else "reviewer"
        return Reviewers(role=role, quorum=quorum)

    def _duration(self, node: yaml.Node) -> int:
        text = self._scalar(node, str)
        number, unit = text[:-1], text[-1:]
        if not number.isdecimal() or unit not in _UNITS or int(number) == 0:
            self._fail(node, f"{text!r} is not a duration like 30m, 4h or 2d")
        return int(number) * _UNITS[unit]

    def _mapping(
        self, node: yaml.Node, known: Sequence[str] | None, needed: Sequence[str] = ()
    ) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self._fail(node, "expected a mapping of names to values")
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = self._scalar(key, str)
            if known is not None and name not in known:
                self._fail(key, f"unknown field {name!r}; expected one of: {', '.join(known)}")
            if name in found:
                self._fail(key, f"{name!r} is given twice")
            found[name] = value
        for name in needed:
            if name not in found:
                self._fail(node, f"the field {name!r} is missing")
        return found

    def _sequence(self, node: yaml.Node) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            self._fail(node, "expected a list")
        return list(node.value)

    def _scalar(self, node: yaml.Node, kind: type) -> Any:
        value = yaml.SafeLoader("").construct_object(node, deep=True)
        if type(value) is not kind:
            self._fail(node, f"expected {kind.__name__}, got {value!r}")
        return value

    def _one_of(self, node: yaml.Node, values: Sequence[Any]) -> Any:
        value = self._scalar(node, str)
        if value not in values:
            self._fail(node, f"{value!r} is none of: {', '.join(values)}")
        return value

    def _fail(self, node: yaml.Node, message: str) -> NoReturn:
        raise GovernanceInvalid(f"{self._path}:{node.start_mark.line + 1}: {message}")
