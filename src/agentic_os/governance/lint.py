"""Check a governance folder beyond what its reading needs: rules that never matter, obligations that contradict."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from agentic_os.domain.conditions import Condition, Term, fields_of
from agentic_os.domain.documents import JsonObject
from agentic_os.domain.hooks import CLOSED, Hook
from agentic_os.domain.organisation import Organisation
from agentic_os.domain.policy import (
    ASKABLE,
    THENS,
    FreezeWindow,
    Obligations,
    RecurringFreeze,
    Reviewers,
    Rule,
    RuleSet,
    combine,
)
from agentic_os.governance.conjunctions import implies, impossible, witnesses
from agentic_os.governance.nodes import GovernanceInvalid, place_of, read_file
from agentic_os.governance.organisation_file import OrganisationFile
from agentic_os.governance.policy_file import PolicyFile
from agentic_os.governance.policy_parts import PARTS, WHOLE, Part, policy_texts, read_parts
from agentic_os.governance.policy_tests import read_policy_tests

_PLACE: Final = re.compile(r":(\d+): (.*)\Z", re.DOTALL)
_CODES: Final = {
    "unknown_field": re.compile("unknown field"),
    "duplicate_id": re.compile("the (rule|freeze) id"),
    "one_file_only": re.compile("'[a-z]+' is in .* already"),
    "role_without_members": re.compile(r"no member of organisation\.yaml has the role"),
    "capability_without_members": re.compile(
        r"no member of organisation\.yaml has (the capability|all of this)"
    ),
    "tier_without_members": re.compile(r"no member of organisation\.yaml is of tier"),
    "reporting_circle": re.compile(".* reports to "),
    "bad_expression": re.compile("no expression of CEL|an expression|unknown function"),
}
"""What the reader says, by the code that it gets here; what is none of these is `invalid`."""
_NAMING: Final = frozenset({"eq", "in", "any"})
_MAP: Final = "tag:yaml.org,2002:map"
_SEQUENCE: Final = "tag:yaml.org,2002:seq"
_BELOW_CEILING: Final = Condition(field="task.risk", operator="in", value=["low", "medium"])
_OF_REVIEWS: Final = frozenset({"deadline", "reviewers"})
_PLANNED: Final = Condition(field="task.mode", operator="eq", value="plan_first")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """One thing that is wrong, or a hint at what may be. line: None where the file as a whole is meant."""

    file: str
    line: int | None
    code: str
    message: str
    level: Literal["fault", "hint"] = "fault"

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.level} {self.code}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """A rule, and where it stands. named: the obligations that it spells out."""

    rule: Rule
    node: yaml.Node
    named: frozenset[str]


@dataclass(slots=True)
class _Policy:
    """What of a policy could be read; what could not is among the remarks."""

    defaults: Obligations
    closed: frozenset[Hook] = CLOSED
    rules: list[_Written] = field(default_factory=list)
    freezes: list[tuple[yaml.Node, FreezeWindow | RecurringFreeze]] = field(default_factory=list)


def lint(folder: Path, at: datetime) -> list[Remark]:
    """Check every file of the folder; remarks in the order of files and lines. at: when a freeze is past."""
    organisation, found = _organisation(folder / "organisation.yaml")
    found += _of_policy(folder, at, organisation)
    tests = folder / "policy_tests.yaml"
    if tests.is_file():
        try:
            read_policy_tests(tests)
        except GovernanceInvalid as problem:
            found.append(_fault([tests], problem))
    return sorted(found, key=lambda r: (r.file, r.line or 0, r.level, r.code, r.message))


def _organisation(path: Path) -> tuple[Organisation, list[Remark]]:
    """Read what of the organisation is in order, and say what is not."""
    if not path.is_file():
        return Organisation(), []
    faults: list[GovernanceInvalid] = []
    read = None
    try:
        read = read_file(path, OrganisationFile(path, faults).organisation, "Make it readable, or remove it.")
    except GovernanceInvalid as problem:
        faults.append(problem)
    return (read[0] if read else Organisation()), [_fault([path], problem) for problem in faults]


def _of_policy(folder: Path, at: datetime, organisation: Organisation) -> list[Remark]:
    """Check the policy, in however many files it is."""
    inner = folder / PARTS
    try:
        parts = policy_texts(folder)
    except GovernanceInvalid as problem:
        return [_fault([folder / WHOLE, *sorted(inner.glob("*")), inner], problem)]
    return _PolicyLint(parts, at, organisation).remarks()


def _fault(paths: Sequence[Path], problem: GovernanceInvalid) -> Remark:
    """Take the file and the line out of what the reader says. paths: the files that it may speak of."""
    path = next((path for path in paths if str(problem).startswith(f"{path}:")), paths[0])
    rest = str(problem).removeprefix(str(path))
    place = _PLACE.fullmatch(rest)
    message = place[2] if place else rest.removeprefix(": ")
    code = next((code for code, words in _CODES.items() if words.match(message)), "invalid")
    return Remark(file=str(path), line=int(place[1]) if place else None, code=code, message=message)


class _PolicyLint:
    """Reads a policy part by part, so that one fault does not hide the next, and looks at what it read."""

    def __init__(self, parts: Sequence[Part], at: datetime, organisation: Organisation) -> None:
        self._parts = parts
        self._paths = [path for path, _ in parts]
        self._path = self._paths[0] if len(parts) == 1 else self._paths[0].parent
        self._at = at
        self._organisation = organisation
        self._found: list[Remark] = []

    def remarks(self) -> list[Remark]:
        """Check the whole of it."""
        try:
            file = PolicyFile(self._path, self._organisation)
            read = read_parts(self._parts, file, self._policy, self._put)
        except GovernanceInvalid as problem:
            self._put(problem)
            return self._found
        if read is not None:
            self._examine(read[0])
        elif not self._found:
            self._note(
                None, "missing_default", "the file says nothing; the mode is as each request asks", "hint"
            )
        return self._found

    def _put(self, problem: GovernanceInvalid) -> None:
        self._found.append(_fault([*self._paths, self._path], problem))

    def _note(
        self, node: yaml.Node | None, code: str, message: str, level: Literal["fault", "hint"] = "fault"
    ) -> None:
        file, line = (node.start_mark.name, _line(node)) if node is not None else (str(self._path), None)
        self._found.append(Remark(file=file, line=line, code=code, message=message, level=level))

    def _policy(self, node: yaml.Node) -> _Policy:
        file = PolicyFile(self._path, self._organisation)
        file.mapping(node, None)  # the names themselves are in order; what they hold is read one by one
        sections = {key.value: (key, value) for key, value in node.value}
        defaults, closed = RuleSet(bundle="", rules=()).defaults, CLOSED
        shared: list[tuple[yaml.Node, yaml.Node]] = []
        if "defaults" in sections and (read := self._part(file, node, [sections["defaults"]])):
            defaults, closed, shared = read.defaults, closed | read.closed, [sections["defaults"]]
        self._default_mode(node, sections.get("defaults"))
        policy = _Policy(defaults, closed)
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
            self._put(problem)
            return None

    def _default_mode(self, node: yaml.Node, defaults: tuple[yaml.Node, yaml.Node] | None) -> None:
        """Hint at defaults that leave the mode to each request, which may be what is meant."""
        key, value = defaults or (node, None)
        if value is None or (isinstance(value, yaml.MappingNode) and "mode" not in _names(value)):
            said = "there are no defaults" if value is None else "the defaults say no mode"
            self._note(key, "missing_default", f"{said}; the mode is as each request asks", "hint")

    def _keep(self, policy: _Policy, item: yaml.Node, read: RuleSet) -> None:
        for rule in read.rules:
            twins = [other.node for other in policy.rules if other.rule.id == rule.id]
            self._duplicate("rule", rule.id, item, twins)
            required = dict(_pairs(item)).get("require")
            named = frozenset(_names(required)) if required is not None else frozenset()
            policy.rules.append(_Written(rule=rule, node=item, named=named))
        for freeze in read.freezes:
            self._duplicate("freeze", freeze.id, item, [n for n, o in policy.freezes if o.id == freeze.id])
            policy.freezes.append((item, freeze))

    def _duplicate(self, kind: str, name: str, item: yaml.Node, twins: Sequence[yaml.Node]) -> None:
        if twins:
            first = PolicyFile(self._path).elsewhere(twins[0], item)
            self._note(item, "duplicate_id", f"the {kind} id {name!r} is used twice{first}")

    def _examine(self, policy: _Policy) -> None:
        reachable = []
        for written in policy.rules:
            if impossible(written.rule.when):
                words = f"the rule {written.rule.id!r} never matches: its conditions contradict each other"
                self._note(written.node, "unreachable", words)
            else:
                reachable.append(written)
        self._shadowed(reachable)
        for written in reachable:
            self._contradicting(written, policy)
            self._self_review(written)
            if written.rule.effect == "allow" and written.rule.on not in policy.closed:
                words = f"the rule {written.rule.id!r} lets in what is let in anyway"
                closing = f"`defaults: {{deny: [{written.rule.on}]}}` denies what no rule lets in"
                self._note(written.node, "pointless_allow", f"{words}; {closing}", "hint")
        for node, freeze in policy.freezes:
            if isinstance(freeze, FreezeWindow) and freeze.until <= self._at:
                words = f"the freeze {freeze.id!r} ended at {freeze.until.isoformat()}; it can go"
                self._note(node, "freeze_past", words, "hint")

    def _shadowed(self, rules: list[_Written]) -> None:
        """Find rules that another one makes pointless; of two that are alike, the later."""
        hidden: set[int] = set()
        narrowed = _Narrowed([written.rule.when for written in rules])
        for index, written in enumerate(rules):
            facts = witnesses(written.rule.when)
            for place in narrowed.places(facts):
                other = rules[place]
                if place == index or place in hidden or not _covers(other.rule, written.rule, facts):
                    continue
                if place > index and _covers(written.rule, other.rule, []):
                    continue
                hidden.add(index)
                does = "denies" if other.rule.effect == "deny" else "asks for at least as much"
                self._note(
                    written.node,
                    "shadowed",
                    f"the rule {written.rule.id!r} never matters: {other.rule.id!r} {_where(other, written)} {does} "
                    "wherever it matches",
                )
                break

    def _contradicting(self, written: _Written, policy: _Policy) -> None:
        rule, said = written.rule, written.rule.obligations
        if not written.named.isdisjoint(_OF_REVIEWS) and not _reviewed(written, policy):
            for name in sorted(_OF_REVIEWS & written.named):
                self._note(
                    written.node,
                    f"{name}_without_review",
                    f"the rule {rule.id!r} says {name}, but nothing is reviewed: it, the defaults and the rules that "
                    "can match with it ask for neither `mode: plan_first` nor `result_review: true`",
                )
        timed = "on_timeout" in written.named or said.deadline_seconds is not None
        risky = "task.risk" in fields_of(rule.when) and impossible([*rule.when, _BELOW_CEILING])
        if timed and said.on_timeout == "proceed" and risky:
            self._note(
                written.node,
                "proceed_above_ceiling",
                f"the rule {rule.id!r} says `on_timeout: proceed` for high or critical risk, which never proceeds by "
                "itself",
            )

    def _self_review(self, written: _Written) -> None:
        """Find rules by which whoever does the work would be the only one to look at it, which nobody may."""
        if "reviewers" in written.named:
            for stage in written.rule.obligations.in_order:
                self._reviews_itself(written, stage)

    def _reviews_itself(self, written: _Written, reviewers: Reviewers) -> None:
        if reviewers.by != "anyone":
            return
        holders = self._organisation.holders(reviewers.role)
        if len(holders) != 1:
            return
        (only,) = holders
        named = [
            only,
            *(f"role:{r}" for r in self._organisation.roles if self._organisation.holders(r) == holders),
        ]
        if implies(written.rule.when, [Condition(field="task.assignee", operator="in", value=named)]):
            words = (
                f"the rule {written.rule.id!r} would have {only!r} review its own work, which it never may: nobody "
                f"else has the role {reviewers.role!r}"
            )
            self._note(written.node, "self_review", words)


def _where(other: _Written, than: _Written) -> str:
    """Say where a rule is, seen from another."""
    mark = other.node.start_mark
    return f"on line {mark.line + 1}" if mark.name == than.node.start_mark.name else f"in {place_of(mark)}"


def _reviewed(written: _Written, policy: _Policy) -> bool:
    """Tell whether a plan or a result may be reviewed where the rule matches."""
    when = written.rule.when
    if written.rule.on == "plan.submitted":
        return True
    if written.rule.on == "result.submitted":  # whatever let the task in may ask for it
        return any(o.result_review for o in (policy.defaults, *(r.rule.obligations for r in policy.rules)))
    return (
        _asks_review(policy.defaults)
        or implies(when, [_PLANNED])
        or _asks_review(written.rule.obligations)
        or any(
            _asks_review(other.rule.obligations) and not impossible([*when, *other.rule.when])
            for other in policy.rules
        )
    )


class _Narrowed:
    """Which of many rules may match, by one comparison of each with texts that it names: most need not be asked."""

    def __init__(self, rules: Sequence[Sequence[Term]]) -> None:
        self._all = range(len(rules))
        self._unnamed: list[int] = []
        self._named: dict[tuple[str, Any], list[int]] = {}
        for place, terms in enumerate(rules):
            named = next((c for c in terms if isinstance(c, Condition) and c.operator in _NAMING), None)
            if named is None:
                self._unnamed.append(place)
                continue
            for value in [named.value] if named.operator == "eq" else set(named.value):
                self._named.setdefault((named.field, value), []).append(place)

    def places(self, examples: Sequence[JsonObject]) -> Sequence[int]:
        """List, in their order, at least the rules that match the first of these facts; all where there are none."""
        if not examples:
            return self._all
        found = set(self._unnamed)
        for name, fact in examples[0].items():
            for value in fact if isinstance(fact, (list, tuple)) else (fact,):
                found.update(self._named.get((name, value), ()))
        return sorted(found)


def _may_match(terms: Sequence[Term], examples: Sequence[JsonObject]) -> bool:
    """Tell whether all terms may hold; of an expression that cannot be evaluated on such facts, nothing is known."""
    for term in terms:
        try:
            for facts in examples:
                if not term.holds(facts):
                    return False
        except Exception:  # noqa: BLE001, S112 - as in a decision
            continue
    return True


def _asks_review(obligations: Obligations) -> bool:
    return obligations.mode == "plan_first" or obligations.result_review


def _covers(other: Rule, rule: Rule, examples: Sequence[JsonObject]) -> bool:
    """Tell whether a rule adds nothing to the other. examples: facts that it matches, which rule out most others."""
    if other.on != rule.on:
        return False
    if not _may_match(other.when, examples):
        return False
    if _place(THENS, other.then) < _place(THENS, rule.then) or _place(ASKABLE, other.ask) < _place(
        ASKABLE, rule.ask
    ):
        return False
    if other.effect != "deny":
        if rule.effect == "deny" or combine(other.obligations, rule.obligations) != other.obligations:
            return False
        if "escalate" == rule.on_due != other.on_due:
            return False
    return implies(rule.when, other.when)


def _place(ranked: Sequence[str], value: str | None) -> int:
    return -1 if value is None else ranked.index(value)


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


def _pairs(node: yaml.Node) -> Iterator[tuple[str, yaml.Node]]:
    return ((key.value, value) for key, value in node.value)


def _names(node: yaml.Node) -> list[str]:
    return [name for name, _ in _pairs(node)]
