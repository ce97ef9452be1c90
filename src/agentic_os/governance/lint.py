"""Check a governance folder beyond what its reading needs: rules that never matter, obligations that contradict."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, TypeAlias

import yaml

from agentic_os.domain.conditions import Condition
from agentic_os.domain.documents import JsonObject
from agentic_os.domain.policy import FreezeWindow, Obligations, Rule, RuleSet, combine
from agentic_os.governance.conjunctions import fields_of, implies, impossible, witnesses
from agentic_os.governance.nodes import GovernanceInvalid, read_file
from agentic_os.governance.organisation_file import OrganisationFile
from agentic_os.governance.policy_file import PolicyFile
from agentic_os.governance.policy_tests import read_policy_tests

Members: TypeAlias = Mapping[str, Collection[str]]

_PLACE: Final = re.compile(r":(\d+): (.*)\Z", re.DOTALL)
_MAP: Final = "tag:yaml.org,2002:map"
_SEQUENCE: Final = "tag:yaml.org,2002:seq"
_BELOW_CEILING: Final = Condition(field="task.risk", operator="in", value=["low", "medium"])
_PLANNED: Final = Condition(field="task.mode", operator="eq", value="plan_first")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """One thing that is wrong, or a hint at what may be. line: None where the file as a whole is meant."""

    file: str
    line: int | None
    code: str
    message: str
    level: Literal["fault", "hint"] = "fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """A rule as it stands in the file. named: the obligations that it spells out."""

    rule: Rule
    line: int
    named: frozenset[str]


@dataclass(slots=True)
class _Policy:
    """What of a policy could be read; what could not is among the remarks."""

    defaults: Obligations
    rules: list[_Written] = field(default_factory=list)
    freezes: list[tuple[int, FreezeWindow]] = field(default_factory=list)


def lint(folder: Path, at: datetime, members: Members | None = None) -> list[Remark]:
    """Check every file of the folder; remarks in the order of files and lines.

    at: the time by which a freeze is past. members: who holds each role; None where nobody said, and then no role is
    held to have any.
    """
    found = _PolicyLint(folder / "policy.yaml", at, members).remarks()
    organisation, tests = folder / "organisation.yaml", folder / "policy_tests.yaml"
    if organisation.is_file():
        found += _read(
            organisation, lambda: read_file(organisation, OrganisationFile(organisation).organisation, "")
        )
    if tests.is_file():
        found += _read(tests, lambda: read_policy_tests(tests))
    return sorted(found, key=lambda r: (r.file, r.line or 0, r.level, r.code, r.message))


def _read(path: Path, reading: Callable[[], object]) -> list[Remark]:
    try:
        reading()
    except GovernanceInvalid as problem:
        return [_fault(path, problem)]
    return []


def _fault(path: Path, problem: GovernanceInvalid) -> Remark:
    """Take the file and the line out of what the reader says."""
    rest = str(problem).removeprefix(str(path))
    place = _PLACE.fullmatch(rest)
    message = place[2] if place else rest.removeprefix(": ")
    known = {"unknown field": "unknown_field", "the rule id": "duplicate_id", "the freeze id": "duplicate_id"}
    code = next((code for words, code in known.items() if message.startswith(words)), "invalid")
    return Remark(file=str(path), line=int(place[1]) if place else None, code=code, message=message)


class _PolicyLint:
    """Reads policy.yaml part by part, so that one fault does not hide the next, and looks at what it read."""

    def __init__(self, path: Path, at: datetime, members: Members | None) -> None:
        self._path = path
        self._at = at
        self._members = members
        self._found: list[Remark] = []

    def remarks(self) -> list[Remark]:
        """Check the whole file."""
        try:
            read = read_file(self._path, self._policy, "A governance folder holds policy.yaml.")
        except GovernanceInvalid as problem:
            return [*self._found, _fault(self._path, problem)]
        if read is None:
            self._note(
                None, "missing_default", "the file says nothing; the mode is as each request asks", "hint"
            )
        else:
            self._examine(read[0])
        return self._found

    def _note(
        self, line: int | None, code: str, message: str, level: Literal["fault", "hint"] = "fault"
    ) -> None:
        self._found.append(Remark(file=str(self._path), line=line, code=code, message=message, level=level))

    def _policy(self, node: yaml.Node) -> _Policy:
        file = PolicyFile(self._path)
        file.mapping(node, None)  # the names themselves are in order; what they hold is read one by one
        sections = {key.value: (key, value) for key, value in node.value}
        defaults = RuleSet(bundle="", rules=()).defaults
        shared: list[tuple[yaml.Node, yaml.Node]] = []
        if "defaults" in sections and (read := self._part(file, node, [sections["defaults"]])):
            defaults, shared = read.defaults, [sections["defaults"]]
        self._default_mode(node, sections.get("defaults"))
        policy = _Policy(defaults)
        for key, value in node.value:
            if key.value == "defaults":
                continue
            if key.value in ("rules", "freezes") and isinstance(value, yaml.SequenceNode):
                for item in value.value:
                    one = yaml.SequenceNode(_SEQUENCE, [item], value.start_mark, value.end_mark)
                    if read := self._part(file, node, [*shared, (key, one)]):
                        self._keep(policy, item, read)
            else:
                self._part(file, node, [(key, value)])
        return policy

    def _part(
        self, file: PolicyFile, node: yaml.Node, pairs: list[tuple[yaml.Node, yaml.Node]]
    ) -> RuleSet | None:
        try:
            return file.policy(yaml.MappingNode(_MAP, pairs, node.start_mark, node.end_mark))
        except GovernanceInvalid as problem:
            self._found.append(_fault(self._path, problem))
            return None

    def _default_mode(self, node: yaml.Node, defaults: tuple[yaml.Node, yaml.Node] | None) -> None:
        """Hint at defaults that leave the mode to each request, which may be what is meant."""
        key, value = defaults or (node, None)
        if value is None or (isinstance(value, yaml.MappingNode) and "mode" not in _names(value)):
            said = "there are no defaults" if value is None else "the defaults say no mode"
            self._note(_line(key), "missing_default", f"{said}; the mode is as each request asks", "hint")

    def _keep(self, policy: _Policy, item: yaml.Node, read: RuleSet) -> None:
        line = _line(item)
        for rule in read.rules:
            if any(rule.id == other.rule.id for other in policy.rules):
                self._note(line, "duplicate_id", f"the rule id {rule.id!r} is used twice")
            required = dict(_pairs(item)).get("require")
            named = frozenset(_names(required)) if required is not None else frozenset()
            policy.rules.append(_Written(rule=rule, line=line, named=named))
        for freeze in read.freezes:
            if any(freeze.id == other.id for _, other in policy.freezes):
                self._note(line, "duplicate_id", f"the freeze id {freeze.id!r} is used twice")
            policy.freezes.append((line, freeze))

    def _examine(self, policy: _Policy) -> None:
        reachable = []
        for written in policy.rules:
            if impossible(written.rule.when):
                words = f"the rule {written.rule.id!r} never matches: its conditions contradict each other"
                self._note(written.line, "unreachable", words)
            else:
                reachable.append(written)
        self._shadowed(reachable)
        for written in reachable:
            self._contradicting(written, policy)
            self._vacant(written)
        for line, freeze in policy.freezes:
            if freeze.until <= self._at:
                words = f"the freeze {freeze.id!r} ended at {freeze.until.isoformat()}; it can go"
                self._note(line, "freeze_past", words, "hint")

    def _shadowed(self, rules: list[_Written]) -> None:
        """Find rules that another one makes pointless; of two that are alike, the later."""
        hidden: set[int] = set()
        for index, written in enumerate(rules):
            facts = witnesses(written.rule.when)
            for place, other in enumerate(rules):
                if place == index or place in hidden or not _covers(other.rule, written.rule, facts):
                    continue
                if place > index and _covers(written.rule, other.rule, []):
                    continue
                hidden.add(index)
                does = "denies" if other.rule.effect == "deny" else "asks for at least as much"
                self._note(
                    written.line,
                    "shadowed",
                    f"the rule {written.rule.id!r} never matters: {other.rule.id!r} on line {other.line} {does} "
                    "wherever it matches",
                )
                break

    def _contradicting(self, written: _Written, policy: _Policy) -> None:
        rule, said = written.rule, written.rule.obligations
        if {"deadline", "reviewers"} & written.named and not _reviewed(written, policy):
            for name in sorted({"deadline", "reviewers"} & written.named):
                self._note(
                    written.line,
                    f"{name}_without_review",
                    f"the rule {rule.id!r} says {name}, but nothing is reviewed: it, the defaults and the rules that "
                    "can match with it ask for neither `mode: plan_first` nor `result_review: true`",
                )
        timed = "on_timeout" in written.named or said.deadline_seconds is not None
        risky = "task.risk" in fields_of(rule.when) and impossible([*rule.when, _BELOW_CEILING])
        if timed and said.on_timeout == "proceed" and risky:
            self._note(
                written.line,
                "proceed_above_ceiling",
                f"the rule {rule.id!r} says `on_timeout: proceed` for high or critical risk, which never proceeds by "
                "itself",
            )

    def _vacant(self, written: _Written) -> None:
        reviewers = written.rule.obligations.reviewers
        if self._members is None or "reviewers" not in written.named or reviewers.by != "anyone":
            return
        if not self._members.get(reviewers.role):
            words = f"the rule {written.rule.id!r} asks for reviewers of the role {reviewers.role!r}, which nobody has"
            self._note(written.line, "role_without_members", words)


def _reviewed(written: _Written, policy: _Policy) -> bool:
    """Tell whether a plan or a result may be reviewed where the rule matches."""
    when = written.rule.when
    return (
        _asks_review(policy.defaults)
        or implies(when, [_PLANNED])
        or _asks_review(written.rule.obligations)
        or any(
            _asks_review(other.rule.obligations) and not impossible([*when, *other.rule.when])
            for other in policy.rules
        )
    )


def _asks_review(obligations: Obligations) -> bool:
    return obligations.mode == "plan_first" or obligations.result_review


def _covers(other: Rule, rule: Rule, examples: Sequence[JsonObject]) -> bool:
    """Tell whether a rule adds nothing to the other. examples: facts that it matches, which rule out most others."""
    if other.on != rule.on:
        return False
    for facts in examples:
        for term in other.when:
            if not term.holds(facts):
                return False
    if other.effect != "deny":
        if rule.effect == "deny" or combine(other.obligations, rule.obligations) != other.obligations:
            return False
        if "escalate" == rule.on_due != other.on_due:
            return False
    return implies(rule.when, other.when)


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


def _pairs(node: yaml.Node) -> Iterator[tuple[str, yaml.Node]]:
    return ((key.value, value) for key, value in node.value)


def _names(node: yaml.Node) -> list[str]:
    return [name for name, _ in _pairs(node)]
