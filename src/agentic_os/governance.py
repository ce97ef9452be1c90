"""Read the governance folder: YAML into policy, each fault with its file and line."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar, get_args

import yaml

from agentic_os.contracts.canonical import digest_of
from agentic_os.contracts.output import schema_fault
from agentic_os.domain.budgets import Amounts, Budgets
from agentic_os.domain.documents import RANKS, RISKS, Mode
from agentic_os.domain.organisation import Organisation, Role
from agentic_os.domain.policy import (
    FIELDS,
    HOOKS,
    NONE,
    REVIEWER_ROLES,
    Breaker,
    Breakers,
    Condition,
    FreezeWindow,
    Obligations,
    OnDue,
    OnTimeout,
    Reviewers,
    Rule,
    RuleSet,
    Voters,
)

_Found = TypeVar("_Found")

_OPERATORS: Final = ("eq", "in", "any_glob", "gte")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BOOL: Final = "tag:yaml.org,2002:bool"
_TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"
_NUMBER: Final = re.compile("[1-9][0-9]{0,8}")
_MOST: Final = 2**53 - 1
_LONGEST: Final = 366 * 86400
_ROLE: Final = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
_KNOWN_ON: Final = {"executor": "dispatch", "attempt": "dispatch", "parent": "task.proposed"}
_LONGEST_CHARTER: Final = 20_000
_OBLIGATIONS: Final = (
    "mode",
    "reviewers",
    "deadline",
    "on_timeout",
    "evidence",
    "result_review",
    "bare_approve",
    "independent_human",
    "on_due",
)


class _Loader(yaml.SafeLoader):
    """YAML with the booleans of its version 1.2: `on`, which every rule has, is a word and not true."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag != _BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF"))


class _DocumentLoader(_Loader):
    """The same, with times left as they are written: the document is stored as JSON, and named by its digest."""


_DocumentLoader.add_constructor(_TIMESTAMP, lambda _, node: node.value)


class GovernanceInvalid(Exception):
    """A governance file cannot be read as what it should be: file:line, what is wrong, what would be right."""


@dataclass(frozen=True, slots=True)
class Governance:
    """The policy and the organisation in force, and the document that they were read from."""

    policy: RuleSet
    document: Mapping[str, Any]
    organisation: Organisation = field(default_factory=Organisation)


def load_governance(folder: Path | None) -> Governance:
    """Read the folder; without one, the blank preset is in force. Raises GovernanceInvalid."""
    document: dict[str, Any] = {"defaults": {}, "rules": []}
    if folder is None:
        return Governance(RuleSet(bundle=digest_of(document), rules=()), document)
    policy, document = _policy(folder / "policy.yaml")
    path = folder / "organisation.yaml"
    organisation = Organisation()
    if path.is_file():
        organisation, declared = _organisation(path)
        document = {**document, "organisation": declared}
    return Governance(replace(policy, bundle=digest_of(document)), document, organisation)


def _policy(path: Path) -> tuple[RuleSet, dict[str, Any]]:
    found = _read(path, _Reader(path).policy, "A governance folder holds policy.yaml.")
    return found or (RuleSet(bundle="", rules=()), {})


def _organisation(path: Path) -> tuple[Organisation, dict[str, Any]]:
    return _read(path, _Reader(path).organisation, "Make it readable, or remove it.") or (Organisation(), {})


def _read(
    path: Path, meaning: Callable[[yaml.Node], _Found], advice: str
) -> tuple[_Found, dict[str, Any]] | None:
    """Read what a file means, and its document; None for one that says nothing. Raises GovernanceInvalid."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise GovernanceInvalid(f"{path}: cannot be read ({problem}). {advice}") from problem
    try:
        loader = _DocumentLoader(text)
        node = loader.get_single_node()
        if node is None or node.tag == "tag:yaml.org,2002:null":
            return None
        return meaning(node), loader.construct_document(node)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise GovernanceInvalid(f"{path}{line}: not YAML as it is read here: {problem.problem}") from problem
    except (yaml.YAMLError, RecursionError) as problem:
        raise GovernanceInvalid(f"{path}: not YAML as it is read here: {problem}") from problem


class _Reader:
    """Walks the node tree, which knows the lines, and builds the policy."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def policy(self, node: yaml.Node) -> RuleSet:
        top = self._mapping(node, ("defaults", "rules", "budgets", "freezes", "breakers"))
        defaults = RuleSet(bundle="", rules=()).defaults
        on_due: OnDue = "notify"
        if "defaults" in top:
            defaults = self._obligations(top["defaults"], defaults)
            on_due = self._on_due(top["defaults"])
        items = self._sequence(top["rules"]) if "rules" in top else []
        rules = [self._rule(item, defaults.on_timeout) for item in items]
        for index, rule in enumerate(rules):
            if rule.id in {r.id for r in rules[:index]}:
                self._fail(items[index], f"the rule id {rule.id!r} is used twice")
        return RuleSet(
            bundle="",
            rules=tuple(rules),
            defaults=defaults,
            budgets=self._budgets(top["budgets"]) if "budgets" in top else Budgets(),
            on_due=on_due,
            freezes=self._freezes(top["freezes"]) if "freezes" in top else (),
            breakers=self._breakers(top["breakers"]) if "breakers" in top else Breakers(),
        )

    def _budgets(self, node: yaml.Node) -> Budgets:
        parts = self._mapping(node, ("project", "day", "attempt"))
        projects = self._mapping(parts["project"], None) if "project" in parts else {}
        return Budgets(
            project={name: self._amounts(amounts) for name, amounts in sorted(projects.items())},
            day=self._amounts(parts["day"]) if "day" in parts else Amounts(),
            attempt=self._amounts(parts["attempt"]) if "attempt" in parts else Amounts(),
        )

    def _amounts(self, node: yaml.Node) -> Amounts:
        parts = self._mapping(node, ("cost_microusd", "tokens"))
        if not parts:
            self._fail(node, "a budget says cost_microusd, tokens or both")
        amounts = {name: self._scalar(value, int) for name, value in parts.items()}
        for name, amount in amounts.items():
            if not 0 <= amount <= _MOST:
                self._fail(parts[name], f"{name} is between 0 and {_MOST}")
        return Amounts(**amounts)

    def _freezes(self, node: yaml.Node) -> tuple[FreezeWindow, ...]:
        found: list[FreezeWindow] = []
        for item in self._sequence(node):
            freeze = self._freeze(item)
            if freeze.id in {f.id for f in found}:
                self._fail(item, f"the freeze id {freeze.id!r} is used twice")
            found.append(freeze)
        return tuple(found)

    def _freeze(self, node: yaml.Node) -> FreezeWindow:
        parts = self._mapping(
            node, ("id", "from", "until", "projects", "reason"), needed=("id", "from", "until", "projects")
        )
        start, until = self._instant(parts["from"]), self._instant(parts["until"])
        if until <= start:
            self._fail(parts["until"], "a freeze ends after it begins")
        patterns = tuple(self._scalar(item, str) for item in self._sequence(parts["projects"]))
        if not patterns:
            self._fail(parts["projects"], 'no project is named; ["*"] is every one')
        return FreezeWindow(
            id=self._scalar(parts["id"], str),
            start=start,
            until=until,
            projects=patterns,
            reason=self._scalar(parts["reason"], str) if "reason" in parts else "",
        )

    def _instant(self, node: yaml.Node) -> datetime:
        text = node.value if node.tag == _TIMESTAMP else self._scalar(node, str)
        try:
            instant = datetime.fromisoformat(text)
        except ValueError:
            self._fail(node, f"{text!r} is not a time like 2026-12-24T12:00:00Z")
        if instant.tzinfo is None:
            self._fail(node, f"{text!r} needs its offset, for instance Z")
        return instant

    def _breakers(self, node: yaml.Node) -> Breakers:
        parts = self._mapping(node, ("task", "executor"))
        return Breakers(**{name: self._breaker(item) for name, item in parts.items()})

    def _breaker(self, node: yaml.Node) -> Breaker:
        parts = self._mapping(node, ("attempts", "within"), needed=("attempts", "within"))
        attempts = self._scalar(parts["attempts"], int)
        if not 1 <= attempts <= 100_000:  # noqa: PLR2004 - said in the message
            self._fail(parts["attempts"], "attempts is between 1 and 100000")
        return Breaker(attempts=attempts, within=timedelta(seconds=self._duration(parts["within"])))

    def _on_due(self, node: yaml.Node) -> OnDue:
        parts = self._mapping(node, _OBLIGATIONS)
        found: OnDue = self._one_of(parts["on_due"], get_args(OnDue)) if "on_due" in parts else "notify"
        return found

    def _rule(self, node: yaml.Node, on_timeout: OnTimeout) -> Rule:
        parts = self._mapping(node, ("id", "on", "when", "require", "deny", "reason"))
        for needed in ("id", "on"):
            if needed not in parts:
                self._fail(node, f"a rule needs {needed!r}")
        if ("require" in parts) == ("deny" in parts):
            self._fail(node, "a rule has either 'require' or 'deny'")
        hook = self._one_of(parts["on"], HOOKS)
        if hook == "dispatch" and "require" in parts:
            self._fail(parts["require"], "a rule on dispatch can only deny; oblige on task.received")
        deny = "deny" in parts and self._scalar(parts["deny"], bool)
        return Rule(
            id=self._scalar(parts["id"], str),
            on=hook,
            when=tuple(self._conditions(parts["when"], hook)) if "when" in parts else (),
            effect="deny" if deny else "require",
            obligations=self._required(parts["require"], on_timeout) if "require" in parts else NONE,
            reason=self._scalar(parts["reason"], str) if "reason" in parts else "",
            on_due=self._on_due(parts["require"]) if "require" in parts else "notify",
        )

    def organisation(self, node: yaml.Node) -> Organisation:
        top = self._mapping(node, ("roles",))
        roles = self._mapping(top["roles"], None) if "roles" in top else {}
        for name, role in roles.items():
            if not _ROLE.fullmatch(name):
                self._fail(role, f"{name!r} is no role: letters, digits, '.', '_' and '-', at most 60")
        return Organisation(roles={name: self._role(role) for name, role in roles.items()})

    def _role(self, node: yaml.Node) -> Role:
        if node.tag == "tag:yaml.org,2002:null":
            return Role()
        parts = self._mapping(node, ("charter", "handoff_schema"))
        charter = self._scalar(parts["charter"], str) if "charter" in parts else ""
        if len(charter) > _LONGEST_CHARTER:
            self._fail(parts["charter"], f"a charter is at most {_LONGEST_CHARTER} characters")
        return Role(
            charter=charter.strip(),
            handoff_schema=self._schema(parts["handoff_schema"]) if "handoff_schema" in parts else None,
        )

    def _schema(self, node: yaml.Node) -> Mapping[str, Any]:
        self._mapping(node, None)
        schema: Mapping[str, Any] = self._scalar(node, dict)
        if fault := schema_fault(schema):
            self._fail(node, f"no usable JSON Schema: {fault}")
        return schema

    def _required(self, node: yaml.Node, on_timeout: OnTimeout) -> Obligations:
        """Read a rule's obligations; a deadline that does not say what happens at it does as the defaults say."""
        found, named = self._obligations(node, NONE), self._mapping(node, _OBLIGATIONS)
        silent = "deadline" in named and "on_timeout" not in named
        return replace(found, on_timeout=on_timeout) if silent else found

    def _conditions(self, node: yaml.Node, hook: str) -> Iterator[Condition]:
        for item in self._sequence(self._mapping(node, ("all",), needed=("all",))["all"]):
            parts = self._mapping(item, ("field", *_OPERATORS), needed=("field",))
            field = self._scalar(parts["field"], str)
            if field not in FIELDS:
                self._fail(parts["field"], f"unknown field {field!r}; declared are: {', '.join(FIELDS)}")
            known = _KNOWN_ON.get(field.partition(".")[0], hook)
            if hook != known:
                self._fail(parts["field"], f"{field} is known on {known} only")
            operators = [name for name in _OPERATORS if name in parts]
            if len(operators) != 1:
                self._fail(item, f"a condition has exactly one of {', '.join(_OPERATORS)}")
            operator = operators[0]
            yield Condition(
                field=field, operator=operator, value=self._value(parts[operator], field, operator)
            )

    def _value(self, node: yaml.Node, field: str, operator: str) -> str | int | list[str]:
        """Read what a field is compared with; a comparison that could never hold is a fault of the rule."""
        if FIELDS[field].startswith("list") and operator != "any_glob":
            self._fail(node, f"{field} is a list: use any_glob")
        if FIELDS[field].startswith("number"):
            if operator not in ("eq", "gte"):
                self._fail(node, f"{field} is a number: use eq or gte")
            return int(self._scalar(node, int))
        if operator in ("in", "any_glob"):
            return [self._scalar(item, str) for item in self._sequence(node)]
        if operator == "eq":
            return str(self._scalar(node, str))
        if field not in ("task.risk", "parent.risk"):
            self._fail(node, "gte is for task.risk, parent.risk and parent.depth")
        return str(self._one_of(node, RISKS))

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
            found["evidence"] = {name: self._one_of(rank, RANKS) for name, rank in sorted(pairs.items())}
        for flag in ("result_review", "bare_approve", "independent_human"):
            if flag in parts:
                found[flag] = self._scalar(parts[flag], bool)
        return replace(start, **found)

    def _reviewers(self, node: yaml.Node) -> Reviewers:
        parts = self._mapping(node, ("role", "quorum", "by"))
        quorum = self._scalar(parts["quorum"], int) if "quorum" in parts else 1
        if not 1 <= quorum <= 20:  # noqa: PLR2004 - said in the message
            self._fail(parts["quorum"], "quorum is between 1 and 20")
        by = self._one_of(parts["by"], get_args(Voters)) if "by" in parts else None
        if "role" not in parts:
            return Reviewers(quorum=quorum, by=by)
        if by == "anyone":
            role = self._scalar(parts["role"], str)
            if not _ROLE.fullmatch(role):
                self._fail(parts["role"], f"{role!r} is no role: letters, digits, '.', '_' and '-'")
        else:
            role = self._one_of(parts["role"], REVIEWER_ROLES, "; executors of any role need `by: anyone`")
        return Reviewers(role=role, quorum=quorum, by=by or "people")

    def _duration(self, node: yaml.Node) -> int:
        text = self._scalar(node, str)
        number, unit = text[:-1], text[-1:]
        if not _NUMBER.fullmatch(number) or unit not in _UNITS:
            self._fail(node, f"{text!r} is not a duration like 30m, 4h or 2d")
        seconds = int(number) * _UNITS[unit]
        if seconds > _LONGEST:
            self._fail(node, f"{text!r} is longer than a year")
        return seconds

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
        try:
            value = _Loader("").construct_object(node, deep=True)
        except (ValueError, LookupError, yaml.YAMLError) as problem:
            self._fail(node, f"expected {kind.__name__}, got what is no value: {problem}")
        if type(value) is not kind:
            self._fail(node, f"expected {kind.__name__}, got {value!r}")
        return value

    def _one_of(self, node: yaml.Node, values: Sequence[Any], hint: str = "") -> Any:
        value = self._scalar(node, str)
        if value not in values:
            self._fail(node, f"{value!r} is none of: {', '.join(values)}{hint}")
        return value

    def _fail(self, node: yaml.Node, message: str) -> NoReturn:
        raise GovernanceInvalid(f"{self._path}:{node.start_mark.line + 1}: {message}")
