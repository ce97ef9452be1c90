"""Policy: rules over facts, combined so that the most restrictive obligation wins; what fails denies."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.domain.documents import anything_of

from agentic_os.domain.conditions import Condition, Group
from agentic_os.domain.documents import RANKS
from agentic_os.domain.policy import NONE, REVIEWER_ROLES, Obligations, Reviewers, Rule, RuleSet, combine

STRICTNESS = ("proceed", "escalate", "block")
OBLIGATIONS = st.builds(
    Obligations,
    mode=anything_of(Obligations.__annotations__["mode"]),
    reviewers=st.builds(Reviewers, role=st.sampled_from(REVIEWER_ROLES), quorum=st.integers(1, 20)),
    deadline_seconds=st.none() | st.integers(1, 10**6),
    on_timeout=st.sampled_from(STRICTNESS),
    evidence=st.dictionaries(st.sampled_from(["*", "a", "b"]), st.sampled_from(RANKS)),
    result_review=st.booleans(),
    bare_approve=st.booleans(),
    independent_human=st.booleans(),
    capabilities=st.sets(st.sampled_from(["gpu", "sql", "web"])).map(lambda names: tuple(sorted(names))),
    tier=st.none() | st.integers(0, 100),
)
FACTS = {
    "task.project": "payments",
    "task.risk": "high",
    "task.mode": "direct",
    "task.paths": ["deploy/keys.yaml", "src/a.py"],
    "task.labels": [],
    "task.assignee": None,
}


def rule(name: str = "r", *when: Condition, deny: bool = False, **obligations: object) -> Rule:
    """Write a rule on received tasks."""
    return Rule(
        id=name,
        on="task.received",
        when=when,
        effect="deny" if deny else "require",
        obligations=replace(NONE, **obligations),
        reason=f"because of {name}",
    )


def holds(field: str, operator: str, value: object) -> Condition:
    """Write a condition."""
    return Condition(field=field, operator=operator, value=value)


def policy(*rules: Rule, **defaults: object) -> RuleSet:
    """Make a bundle of rules."""
    return RuleSet(
        bundle="sha256:b", rules=rules, defaults=Obligations(**({"bare_approve": False} | defaults))
    )


# The lattice


@given(OBLIGATIONS, OBLIGATIONS)
def test_the_order_of_two_obligations_does_not_matter(a: Obligations, b: Obligations):
    """Combining commutes."""
    assert combine(a, b) == combine(b, a)


@given(OBLIGATIONS, OBLIGATIONS, OBLIGATIONS)
def test_the_grouping_of_obligations_does_not_matter(a: Obligations, b: Obligations, c: Obligations):
    """Combining is associative."""
    assert combine(combine(a, b), c) == combine(a, combine(b, c))


@given(OBLIGATIONS)
def test_an_obligation_that_is_said_twice_is_the_same(a: Obligations):
    """Combining is idempotent, and what obliges to nothing changes nothing."""
    assert a == combine(a, a) == combine(a, NONE)


@given(OBLIGATIONS, OBLIGATIONS)
def test_in_each_respect_the_more_restrictive_obligation_wins(a: Obligations, b: Obligations):
    """Nothing that either of two rules asks for is lost when they are joined."""
    joined = combine(a, b)
    for part in (a, b):
        assert "plan_first" in (part.mode, joined.mode) or joined.mode == "direct"
        assert part.mode == "direct" or joined.mode == "plan_first"
        assert joined.reviewers.quorum >= part.reviewers.quorum
        assert REVIEWER_ROLES.index(joined.reviewers.role) >= REVIEWER_ROLES.index(part.reviewers.role)
        assert part.deadline_seconds is None or joined.deadline_seconds <= part.deadline_seconds
        assert STRICTNESS.index(joined.on_timeout) >= STRICTNESS.index(part.on_timeout)
        assert all(
            RANKS.index(joined.evidence[name]) >= RANKS.index(rank) for name, rank in part.evidence.items()
        )
        assert joined.result_review >= part.result_review
        assert joined.bare_approve <= part.bare_approve
        assert joined.independent_human >= part.independent_human
        assert set(joined.capabilities) >= set(part.capabilities)
        assert part.tier is None or (joined.tier is not None and joined.tier >= part.tier)
    assert set(joined.capabilities) == {*a.capabilities, *b.capabilities}


def test_a_role_asked_for_is_not_lost_to_a_quorum_or_a_default():
    """One rule's role and another's quorum both hold."""
    asked = policy(
        rule("a", reviewers=Reviewers(role="admin")),
        rule("b", reviewers=Reviewers(role="reviewer", quorum=2)),
    )
    assert Reviewers(role="admin", quorum=2) == asked.decide("task.received", FACTS).obligations.reviewers


# Rules


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (("task.project", "eq", "payments"), True),
        (("task.project", "eq", "payment"), False),
        (("task.project", "in", ["web", "payments"]), True),
        (("task.project", "in", []), False),
        (("task.paths", "any_glob", ["deploy/**"]), True),
        (("task.paths", "any_glob", ["DEPLOY/**", "docs/*"]), False),
        (("task.project", "any_glob", ["pay*"]), True),
        (("task.labels", "any_glob", ["*"]), False),
        (("task.risk", "gte", "medium"), True),
        (("task.risk", "gte", "high"), True),
        (("task.risk", "gte", "critical"), False),
        (("task.assignee", "eq", None), False),
        (("executor.name", "any_glob", ["*"]), False),
    ],
)
def test_a_condition_compares_a_fact_with_a_constant(condition: tuple, expected: bool):  # noqa: FBT001 - a case
    """Each operator means what it says, and a fact that is absent meets no condition."""
    assert expected == holds(*condition).holds(FACTS)


def test_a_rule_needs_all_its_conditions_and_its_hook():
    """A rule whose conditions hold only in part, or that is for another hook, does not apply."""
    both = rule("r", holds("task.project", "eq", "payments"), holds("task.risk", "eq", "low"), deny=True)
    elsewhere = replace(rule("s", deny=True), on="dispatch")
    assert "allow" == policy(both, elsewhere).decide("task.received", FACTS).decision
    assert "deny" == policy(both, elsewhere).decide("dispatch", FACTS).decision


@given(st.permutations([rule("a", mode="plan_first"), rule("b", deny=True), rule("c", deny=True), rule("d")]))
def test_a_denial_overrides_whatever_else_matches_in_any_order(rules: list[Rule]):
    """One denial is enough, and the verdict names the rules that deny and why."""
    verdict = policy(*rules).decide("task.received", FACTS)
    assert ("deny", {"b", "c"}) == (verdict.decision, set(verdict.rules))
    assert {"because of b", "because of c"} == set(verdict.reasons)


@given(
    st.permutations(
        [rule(n, **o) for n, o in [("a", {"mode": "plan_first"}), ("b", {"result_review": True})]]
    )
)
def test_the_order_of_rules_does_not_matter(rules: list[Rule]):
    """The obligations are those of all rules that match, whatever their order."""
    found = policy(*rules).decide("task.received", FACTS).obligations
    assert ("plan_first", True) == (found.mode, found.result_review)


@pytest.mark.parametrize(
    ("requested", "default", "ruled", "expected"),
    [
        ("direct", "direct", "direct", "direct"),
        ("plan_first", "direct", "direct", "plan_first"),
        ("direct", "plan_first", "direct", "plan_first"),
        ("direct", "direct", "plan_first", "plan_first"),
        (None, "direct", "direct", "direct"),
        ("anything", "direct", "direct", "direct"),
    ],
)
def test_a_request_may_only_make_the_mode_stricter(requested: str, default: str, ruled: str, expected: str):
    """Whoever of request, default and rule asks for a plan gets one."""
    bundle = policy(rule("r", mode=ruled), mode=default)
    assert expected == bundle.decide("task.received", FACTS | {"task.mode": requested}).obligations.mode


def test_the_rule_that_sets_a_deadline_says_what_happens_at_it():
    """The default neither loosens nor tightens what such rules say, and of two the stricter holds."""
    proceeds = rule("a", deadline_seconds=60, on_timeout="proceed")
    escalates = rule("b", deadline_seconds=90, on_timeout="escalate")
    silent = rule("c", mode="plan_first")
    assert "proceed" == policy(proceeds, silent).decide("task.received", FACTS).obligations.on_timeout
    joined = policy(proceeds, escalates).decide("task.received", FACTS).obligations
    assert (60, "escalate") == (joined.deadline_seconds, joined.on_timeout)
    assert (
        "block" == policy(silent, deadline_seconds=60).decide("task.received", FACTS).obligations.on_timeout
    )


def test_with_no_rule_the_defaults_hold():
    """What no rule speaks of is allowed under the defaults, where a bare approval does not count."""
    verdict = RuleSet(bundle="sha256:b", rules=()).decide("task.received", FACTS)
    assert ("allow", (), (), Obligations(bare_approve=False)) == (
        verdict.decision,
        verdict.rules,
        verdict.reasons,
        verdict.obligations,
    )


@pytest.mark.parametrize(
    "broken",
    [
        holds("task.risk", "gte", "nowhere"),
        holds("task.project", "gte", "high"),
        holds("task.paths", "gte", "high"),
        holds("task.project", "in", 7),
        holds("task.project", "any_glob", 7),
        holds("task.project", "any_glob", [7]),
        holds("task.risk", "gte", 10**400),
        holds("task.risk", "gte", None),
    ],
)
def test_a_rule_that_cannot_be_evaluated_denies(broken: Condition):
    """An error in the gate lets nothing through, even where the rule would only have obliged."""
    verdict = policy(rule("r", broken), rule("s", mode="plan_first")).decide("task.received", FACTS)
    assert ("deny", ("rule-error",), "sha256:b", FACTS) == (
        verdict.decision,
        verdict.rules,
        verdict.bundle,
        verdict.facts,
    )
    assert "could not be evaluated" in verdict.reasons[0]


# Conditions


@pytest.mark.parametrize(
    ("field", "operator", "value", "expected"),
    [
        ("task.project", "glob", "pay*", True),
        ("task.project", "glob", "shop-*", False),
        ("task.risk", "lte", "high", True),
        ("task.risk", "lte", "low", False),
        ("task.paths", "any", ["deploy/a", "src/x"], True),
        ("task.paths", "any", ["docs"], False),
        ("task.paths", "all", ["src/x"], True),
        ("task.paths", "all", ["src/x", "docs"], False),
        ("task.assignee", "exists", False, True),
        ("task.assignee", "exists", True, False),
        ("task.project", "exists", True, True),
    ],
)
def test_each_operator_compares(field: str, operator: str, value: object, expected: object):
    """Each operator holds exactly where it says so."""
    facts = FACTS | {"task.project": "payments", "task.risk": "medium", "task.paths": ["src/x"]}
    assert expected == holds(field, operator, value).holds(facts)


def test_conditions_are_joined_by_all_any_and_not():
    """A group holds as its parts do, and says of each part what it saw."""
    facts = FACTS | {"task.project": "payments", "task.risk": "medium"}
    yes, no = holds("task.project", "eq", "payments"), holds("task.risk", "eq", "low")
    assert not Group(kind="all", of=(yes, no)).holds(facts)
    assert Group(kind="any", of=(no, yes)).holds(facts)
    assert Group(kind="not", of=(no,)).holds(facts)
    found = Group(kind="any", of=(no, Group(kind="not", of=(yes,)))).examine(facts)
    assert not found.held
    assert ["medium", "payments"] == [found.parts[0].actual, found.parts[1].parts[0].actual]


@given(st.lists(st.booleans(), min_size=1, max_size=4))
def test_not_any_is_all_not(truths: list[bool]):
    """The groups keep to the laws of logic."""
    terms = tuple(holds("task.project", "exists", truth) for truth in truths)
    facts = {"task.project": "p"}
    none = Group(kind="not", of=(Group(kind="any", of=terms),))
    each = Group(kind="all", of=tuple(Group(kind="not", of=(term,)) for term in terms))
    assert none.holds(facts) == each.holds(facts)


def test_a_decision_is_examined_rule_by_rule():
    """Of each rule of the hook it is said whether it matched, and which condition failed on which fact."""
    rules = policy(rule("a", holds("task.risk", "eq", "low")), rule("b", holds("task.risk", "eq", "high")))
    first, second = rules.examine("task.received", {"task.risk": "low"})
    assert (True, False) == (first.matched, second.matched)
    assert ("low", False) == (second.findings[0].actual, second.findings[0].held)
    assert () == rules.examine("dispatch", {})
