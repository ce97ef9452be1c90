"""Why policy decided: what an explanation says agrees with decide(), and every change that it names does flip."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_os.application.explanation import describe, explain
from agentic_os.application.flips import OTHER, outcome_of
from agentic_os.domain.conditions import Condition, Group, Term
from agentic_os.domain.documents import JsonObject
from agentic_os.domain.policy import NONE, Hook, Obligations, Reviewers, Rule, RuleSet, Verdict
from agentic_os.governance import load_governance

PROJECTS = ("web", "shop-a", "shop-b", "payments")
PATHS = ("deploy/a.yaml", "src/a.py", "docs/a.md")
FACTS: dict[str, Any] = {
    "task.project": "payments",
    "task.risk": "high",
    "task.mode": "direct",
    "task.paths": ["deploy/a.yaml", "src/a.py"],
    "task.labels": [],
    "task.assignee": None,
}


def holds(field: str, operator: Any, value: Any) -> Condition:
    """Write a condition."""
    return Condition(field=field, operator=operator, value=value)


def negated(term: Term) -> Group:
    """Write the opposite of a term."""
    return Group(kind="not", of=(term,))


CONDITIONS = st.one_of(
    st.builds(holds, st.just("task.project"), st.just("eq"), st.sampled_from(PROJECTS)),
    st.builds(
        holds, st.just("task.project"), st.just("glob"), st.sampled_from(["shop-*", "*", "pay[mn]ents"])
    ),
    st.builds(holds, st.just("task.project"), st.just("in"), st.lists(st.sampled_from(PROJECTS))),
    st.builds(
        holds, st.just("task.risk"), st.sampled_from(["eq", "gte", "lte"]), st.sampled_from(["low", "high"])
    ),
    st.builds(
        holds, st.just("task.paths"), st.just("any_glob"), st.lists(st.sampled_from(["deploy/*", "*.py"]))
    ),
    st.builds(
        holds, st.just("task.labels"), st.sampled_from(["any", "all"]), st.lists(st.sampled_from(["a", "b"]))
    ),
    st.builds(holds, st.sampled_from(["task.assignee", "task.labels"]), st.just("exists"), st.booleans()),
    st.just(holds("task.mode", "eq", "plan_first")),
    st.just(holds("task.assignee", "gte", "low")),  # of an assignee that is there: cannot be compared
)
TERMS = st.recursive(
    CONDITIONS,
    lambda terms: st.one_of(
        st.builds(lambda of: Group(kind="any", of=tuple(of)), st.lists(terms, min_size=1, max_size=3)),
        st.builds(lambda of: Group(kind="all", of=tuple(of)), st.lists(terms, min_size=1, max_size=3)),
        st.builds(negated, terms),
    ),
    max_leaves=4,
)
OBLIGATIONS = st.builds(
    Obligations,
    mode=st.sampled_from(["direct", "plan_first"]),
    reviewers=st.builds(Reviewers, quorum=st.integers(1, 3)),
    deadline_seconds=st.none() | st.integers(1, 9),
    on_timeout=st.sampled_from(["proceed", "escalate", "block"]),
    evidence=st.dictionaries(st.sampled_from(["*", "a"]), st.sampled_from(["observed", "independent"])),
    result_review=st.booleans(),
)


@st.composite
def rule_sets(draw: st.DrawFn) -> RuleSet:
    """Draw rules on two hooks, with defaults."""
    rules = [
        Rule(
            id=f"r{n}",
            on=draw(st.sampled_from(["task.received", "task.received", "task.received", "dispatch"])),
            when=tuple(draw(st.lists(TERMS, max_size=3))),
            effect=effect,
            obligations=draw(OBLIGATIONS) if effect == "require" else NONE,
            reason=f"because of {n}",
            on_due=draw(st.sampled_from(["notify", "escalate"])),
        )
        for n in range(draw(st.integers(0, 5)))
        for effect in [draw(st.sampled_from(["require", "require", "deny"]))]
    ]
    return RuleSet(bundle="sha256:b", rules=tuple(rules), defaults=draw(OBLIGATIONS))


DRAWN = st.fixed_dictionaries(
    {
        "task.project": st.sampled_from(PROJECTS),
        "task.risk": st.sampled_from(["low", "medium", "high", "critical"]),
        "task.mode": st.sampled_from(["direct", "plan_first"]),
        "task.paths": st.lists(st.sampled_from(PATHS), unique=True),
        "task.labels": st.lists(st.sampled_from(["a", "b", "c"]), unique=True),
        "task.assignee": st.none() | st.sampled_from(["coder", "low"]),
    }
)


@given(rule_sets(), DRAWN, st.sampled_from(["task.received", "dispatch"]))
def test_an_explanation_never_contradicts_the_decision(
    rules: RuleSet, facts: dict[str, Any], hook: Any
) -> None:
    """The verdict is that of decide(), the rules that match are its own, and each other rule says what it fails at."""
    verdict = rules.decide(hook, facts)
    found = explain(rules, hook, facts)
    assert verdict == found.verdict
    if verdict.rules != ("rule-error",):
        decisive = [r for r in found.matched if r.effect == "deny"] or found.matched
        assert verdict.rules == tuple(r.id for r in decisive)
    assert len([r for r in rules.rules if r.on == hook]) == len(found.considered)
    assert all(c.matched or c.failures for c in found.considered)
    assert all(names for names in found.set_by.values())
    assert verdict.hook in describe(found)


@given(rule_sets(), DRAWN, st.sampled_from(["task.received", "dispatch"]))
def test_every_change_that_is_named_does_flip_the_decision(
    rules: RuleSet, facts: dict[str, Any], hook: Any
) -> None:
    """With the changes made, decide() reaches the outcome that was said, and without either of two it does not."""
    found = explain(rules, hook, facts)
    assert len(found.flips) <= 5
    for flip in found.flips:
        assert 1 <= len(flip.changes) <= 2
        changed = {**facts, **{c.field: c.after for c in flip.changes}}
        verdict = rules.decide(hook, changed)
        assert (flip.to, flip.rules) == (outcome_of(verdict), verdict.rules)
        assert flip.to != found.outcome
        for left_out in flip.changes if len(flip.changes) == 2 else ():
            assert flip.to != outcome_of(rules.decide(hook, {**changed, left_out.field: left_out.before}))
    assert found.flips == explain(rules, hook, facts).flips


@given(rule_sets(), DRAWN)
def test_what_a_rule_fails_at_is_what_keeps_it_from_matching(rules: RuleSet, facts: dict[str, Any]) -> None:
    """Each failure is a comparison of the rule whose outcome is not the one wanted, with the fact that it had."""
    for considered in explain(rules, "task.received", facts).considered:
        for failure in considered.failures:
            assert facts.get(failure.field) == failure.actual
            if not failure.fault:
                assert failure.negated == holds(failure.field, failure.operator, failure.expected).holds(
                    facts
                )


def deny(name: str, *when: Term) -> Rule:
    """Write a rule that denies received tasks."""
    return Rule(id=name, on="task.received", when=when, effect="deny", reason=f"because of {name}")


def flips(*rules: Rule, facts: dict[str, Any] | None = None, **defaults: Any) -> list[tuple[Any, ...]]:
    """Name what would flip a decision: the changes, and to what."""
    found = explain(
        RuleSet(bundle="sha256:b", rules=rules, defaults=Obligations(**defaults)),
        "task.received",
        facts or FACTS,
    )
    return [({c.field: c.after for c in f.changes}, f.to) for f in found.flips]


def test_a_denial_names_the_nearest_facts_under_which_it_would_be_allowed() -> None:
    """Each fact that the denying rule rests on is named, with the nearest risk, and with the path that is to go."""
    rule = deny(
        "r",
        holds("task.project", "eq", "payments"),
        holds("task.risk", "gte", "medium"),
        holds("task.paths", "any_glob", ["deploy/*"]),
    )
    assert [
        ({"task.project": OTHER}, "direct"),
        ({"task.risk": "low"}, "direct"),
        ({"task.paths": ["src/a.py"]}, "direct"),
    ] == flips(rule)


def test_two_denials_take_two_changes() -> None:
    """Where no single fact undoes both rules, pairs are named, and of pairs with the same facts one."""
    rules = (deny("a", holds("task.project", "eq", "payments")), deny("b", holds("task.risk", "gte", "high")))
    assert [({"task.project": OTHER, "task.risk": "medium"}, "direct")] == flips(*rules)


def test_an_allowed_task_names_what_would_have_denied_it_or_asked_for_a_plan() -> None:
    """A rule that fails at one fact is named with that fact alone, and one that fails at two with both."""
    near = deny("near", holds("task.project", "eq", "payments"), holds("task.risk", "eq", "critical"))
    far = deny("far", holds("task.project", "eq", "web"), holds("task.paths", "any_glob", ["*.md"]))
    plan = {"task.mode": "plan_first"}
    assert [
        (plan, "plan_first"),
        ({"task.risk": "critical"}, "deny"),
        ({"task.project": "web", "task.paths": ["deploy/a.yaml", "src/a.py", "x.md"]}, "deny"),
    ] == flips(near, far)


def test_a_plan_gate_names_what_would_let_the_task_go_directly() -> None:
    """Where both the request and a rule ask for a plan, both have to change; where the defaults do, nothing helps."""
    rule = Rule(
        id="r",
        on="task.received",
        when=(holds("task.project", "glob", "pay*"),),
        obligations=Obligations(mode="plan_first"),
    )
    asked = FACTS | {"task.mode": "plan_first"}
    assert [({"task.project": OTHER}, "direct")] == flips(rule)
    assert [({"task.project": OTHER, "task.mode": "direct"}, "direct")] == [
        (dict(sorted(changes.items())), to) for changes, to in flips(rule, facts=asked)
    ]
    assert [] == flips(rule, facts=asked, mode="plan_first")


def test_each_obligation_says_who_asks_for_it() -> None:
    """A rule is named for what it asks, the defaults for what they say, and the request for its mode."""
    rules = (
        Rule(
            id="a",
            on="task.received",
            obligations=Obligations(
                reviewers=Reviewers(quorum=2),
                deadline_seconds=60,
                on_timeout="escalate",
                evidence={"t": "observed"},
            ),
        ),
        Rule(
            id="b",
            on="task.received",
            obligations=Obligations(deadline_seconds=90, on_timeout="block"),
            on_due="escalate",
        ),
    )
    found = explain(
        RuleSet(bundle="sha256:b", rules=rules, defaults=Obligations(bare_approve=False)),
        "task.received",
        FACTS | {"task.mode": "plan_first"},
    )
    expected = {
        "mode": ("the request",),
        "reviewers.quorum": ("a",),
        "deadline_seconds": ("a",),
        "on_timeout": ("b",),
        "evidence.t": ("a",),
        "bare_approve": ("defaults",),
        "result_review": ("defaults",),
        "on_due": ("b",),
    }
    assert expected == {name: found.set_by[name] for name in expected}


def test_capabilities_are_of_all_who_ask_for_any() -> None:
    """They are joined, so that each has its part in them; a tier is of whoever asks for the highest."""
    rules = (
        Rule(id="a", on="task.received", obligations=replace(NONE, capabilities=("gpu",), tier=1)),
        Rule(id="b", on="task.received", obligations=replace(NONE, capabilities=("sql",), tier=2)),
        Rule(id="c", on="task.received", obligations=replace(NONE, mode="plan_first")),
    )
    defaults = Obligations(capabilities=("web",))
    found = explain(RuleSet(bundle="sha256:b", rules=rules, defaults=defaults), "task.received", FACTS)
    assert (["gpu", "sql", "web"], ("defaults", "a", "b")) == (
        found.obligations["capabilities"],
        found.set_by["capabilities"],
    )
    assert (2, ("b",)) == (found.obligations["tier"], found.set_by["tier"])
    assert '  capabilities ["gpu", "sql", "web"]: defaults, a, b' in describe(found).splitlines()
    plain = explain(RuleSet(bundle="sha256:b", rules=rules[2:]), "task.received", FACTS)
    assert "capabilities" not in describe(plain)


def test_an_explanation_in_words() -> None:
    """A person reads the outcome, the reasons, the failed comparisons with what they found, and what would flip it."""
    rules = (
        deny("no-deploys", holds("task.paths", "any_glob", ["deploy/*"])),
        deny(
            "strangers",
            Group(
                kind="any",
                of=(holds("task.assignee", "exists", value=True), holds("task.project", "eq", "web")),
            ),
        ),
        deny("calm", negated(holds("task.risk", "gte", "medium"))),
    )
    assert """\
task.received: denied, by rule no-deploys; bundle sha256:b
  because: because of no-deploys

Rules that match:
  no-deploys (deny): because of no-deploys

Rules that do not match, and what they fail at:
  strangers: task.assignee must be there, and is absent, or another of its group hold; \
task.project must be "web", and is "payments", or another of its group hold
  calm: task.risk must not be at least "medium", and is "high"

What would change it:
  allowed, directly, if task.paths were ["src/a.py"], not ["deploy/a.yaml", "src/a.py"]""" == describe(
        explain(RuleSet(bundle="sha256:b", rules=rules), "task.received", FACTS)
    )


def test_a_rule_that_cannot_be_evaluated_is_named_with_its_fault() -> None:
    """The decision is a denial, and the explanation says which comparison of which rule is at fault."""
    rules = RuleSet(bundle="sha256:b", rules=(deny("broken", holds("task.project", "gte", "high")),))
    found = explain(rules, "task.received", FACTS)
    assert ("deny", ("rule-error",)) == (found.outcome, found.verdict.rules)
    ((failure,),) = [c.failures for c in found.considered]
    assert ("task.project", "payments") == (failure.field, failure.actual)
    assert "could not convert" in failure.fault
    assert "task.project cannot be compared" in describe(found)


@pytest.mark.parametrize("count", [50])
def test_many_rules_are_searched_within_bounds(count: int) -> None:
    """Of many rules that are one fact away, five flips are named, the first rules first."""
    rules = [deny(f"r{n}", holds("task.labels", "any", [f"label-{n}"])) for n in range(count)]
    found = flips(*rules)
    assert 5 == len(found)
    assert ({"task.labels": ["label-0"]}, "deny") == found[1]


def test_expressions_and_closed_hooks_are_explained(tmp_path: Path) -> None:
    """What no rule lets in names what would; an expression shows its fields, and its constants are tried."""
    (tmp_path / "policy.yaml").write_text(
        "defaults: {deny: [task.received]}\n"
        "rules:\n"
        "  - {id: shop, on: task.received, when: {all: [{field: task.project, eq: shop}]}, allow: true}\n"
        "  - id: books\n"
        "    on: task.received\n"
        "    when: \"task.project == 'books' && task.risk == 'low'\"\n"
        "    require: {mode: plan_first}\n"
        "  - {id: again, on: attempt.ended, when: attempt.count < 3, require: {then: retry}}\n",
        encoding="utf-8",
    )
    policy = load_governance(tmp_path).policy
    denied = explain(policy, "task.received", {"task.project": "garden", "task.risk": "high"})
    words = describe(denied)
    assert "task.received: denied, by rule default-deny" in words
    assert (
        "`task.project == 'books' && task.risk == 'low'` must hold, and task.project is \"garden\"" in words
    )
    assert [
        ("direct", ("shop",), ("shop",)),
        ("plan_first", ("books",), ("books", "low")),
    ] == [(f.to, f.rules, tuple(c.after for c in f.changes)) for f in denied.flips]
    ended = explain(policy, "attempt.ended", {"attempt.count": 3})
    assert ("default", "retry", 2) == (ended.outcome, ended.flips[0].to, ended.flips[0].changes[0].after)
    broken = explain(policy, "attempt.ended", {})
    assert "`attempt.count < 3` cannot be evaluated: " in describe(broken)


class Counted(RuleSet):
    """Counts how often it decides."""

    asked = 0

    def decide(self, hook: Hook, facts: JsonObject) -> Verdict:
        """Count, and decide."""
        Counted.asked += 1
        return super().decide(hook, facts)


def test_the_search_is_shorter_where_rules_are_many() -> None:
    """However many rules there are, no more than a million are asked, and nothing is named in vain."""
    far = [
        deny(
            f"r{n}",
            holds("task.labels", "any", [f"l{n}"]),
            holds("task.project", "eq", f"p{n}"),
            holds("task.tools", "any", ["x"]),
        )
        for n in range(2000)
    ]
    found = explain(Counted(bundle="sha256:b", rules=tuple(far)), "task.received", FACTS)
    assert 1 < Counted.asked <= 1 + 1_000_000 // len(far)
    assert {"plan_first"} == {flip.to for flip in found.flips}
