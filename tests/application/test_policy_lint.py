"""The checks of a governance folder: what is found, on which line, and that nothing possible is called impossible."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.application.test_explanation import CONDITIONS, DRAWN, TERMS

from agentic_os.domain.conditions import Condition, Group, Term
from agentic_os.governance.conjunctions import implies, impossible, witnesses
from agentic_os.governance.lint import lint

AT = datetime(2030, 6, 1, tzinfo=UTC)
RULE = "defaults: {mode: direct}\nrules:\n  - id: a\n    on: task.received\n"
"""Rule `a` is on line 3."""


def remarks(folder: Path, text: str, organisation: str | None = None) -> list[tuple[int | None, str]]:
    """Lint a policy, beside an organisation; give the line and the code of each remark."""
    (folder / "policy.yaml").write_text(text, encoding="utf-8")
    if organisation is not None:
        (folder / "organisation.yaml").write_text(organisation, encoding="utf-8")
    return [(r.line, r.code) for r in lint(folder, AT)]


def condition(field: str, operator: Any, value: Any) -> Condition:
    """Write a condition."""
    return Condition(field=field, operator=operator, value=value)


def test_a_policy_in_order_has_no_remarks(tmp_path: Path) -> None:
    """Rules that can match, that add something, and whose obligations are of use are left alone."""
    text = """
defaults: {mode: direct, on_timeout: proceed}
rules:
  - id: deploys
    on: task.received
    when: {all: [{field: task.paths, any_glob: ["deploy/**"]}]}
    require: {mode: plan_first, reviewers: {role: admin, quorum: 2}, deadline: 4h}
  - id: risky-deploys
    on: task.received
    when: {all: [{field: task.paths, any_glob: ["deploy/**"]}, {field: task.risk, gte: high}]}
    require: {mode: plan_first, reviewers: {quorum: 3}, deadline: 2h, on_timeout: block}
  - id: results-of-qa
    on: task.received
    when: {all: [{field: task.labels, any: [qa]}]}
    require: {result_review: true, reviewers: {role: qa, by: anyone}}
  - id: asked-for
    on: task.received
    when: {all: [{field: task.mode, eq: plan_first}]}
    require: {deadline: 1h, on_timeout: proceed}
  - id: no-databases
    on: dispatch
    when: {all: [{field: task.tools, any_glob: [psql*]}, {not: {field: executor.roles, any: [dba]}}]}
    deny: true
"""
    assert [] == remarks(tmp_path, text)


def test_several_faults_are_found_at_once(tmp_path: Path) -> None:
    """A fault in one rule or section hides none in the others, and each is named by file, line and words."""
    text = """\
defaults: {mode: sideways}
rules:
  - id: a
    on: task.received
    when: {all: [{field: task.colour, eq: red}]}
    deny: true
  - id: b
    on: task.received
    when: {all: [{field: task.risk, below: low}]}
    deny: true
  - id: c
    on: task.received
    deny: true
  - id: c
    on: dispatch
    deny: true
freezes:
  - {id: old, from: 2029-01-01T00:00:00Z, until: 2029-01-02T00:00:00Z, projects: ["*"]}
  - {id: wrong, from: 2029-01-03T00:00:00Z, until: 2029-01-02T00:00:00Z, projects: ["*"]}
  - {id: again, cron: 0 18 1 1 *, time_zone: UTC, for: 1h, projects: ["*"]}
  - {id: never, cron: 0 18 31 2 *, time_zone: UTC, for: 1h, projects: ["*"]}
unless: {}
"""
    (tmp_path / "organisation.yaml").write_text("roles:\n  qa: {charta: x}\n", encoding="utf-8")
    (tmp_path / "policy_tests.yaml").write_text("- {name: a, hook: dispatch}\n", encoding="utf-8")
    (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
    found = [(Path(r.file).name, r.line, r.code, r.level) for r in lint(tmp_path, AT)]
    assert [
        ("organisation.yaml", 2, "unknown_field", "fault"),
        ("policy.yaml", 1, "invalid", "fault"),
        ("policy.yaml", 5, "unknown_field", "fault"),
        ("policy.yaml", 9, "unknown_field", "fault"),
        ("policy.yaml", 14, "duplicate_id", "fault"),
        ("policy.yaml", 18, "freeze_past", "hint"),
        ("policy.yaml", 19, "invalid", "fault"),
        ("policy.yaml", 21, "invalid", "fault"),
        ("policy.yaml", 22, "unknown_field", "fault"),
        ("policy_tests.yaml", 1, "invalid", "fault"),
    ] == found


@pytest.mark.parametrize(
    "when",
    [
        "all: [{field: task.project, eq: a}, {field: task.project, eq: b}]",
        "all: [{field: task.project, in: [a, b]}, {field: task.project, in: [c]}]",
        "all: [{field: task.project, in: []}]",
        "all: [{field: task.risk, gte: high}, {field: task.risk, lte: medium}]",
        "all: [{field: task.risk, eq: hihg}]",
        "all: [{field: task.labels, any: [a]}, {not: {field: task.labels, any: [a, b]}}]",
        "all: [{field: task.labels, all: [a, b]}, {not: {field: task.labels, any: [b]}}]",
        'all: [{field: task.paths, any_glob: ["a/*"]}, {not: {field: task.paths, any_glob: ["a/*", "b"]}}]',
        "all: [{field: task.project, glob: 'a*'}, {not: {field: task.project, glob: 'a*'}}]",
        "all: [{field: task.project, eq: a}, {field: task.project, exists: false}]",
        "all: [{field: task.project, eq: a}, {not: {field: task.project, glob: 'a*'}}]",
        "all: [{any: [{field: task.mode, eq: x}, {field: task.risk, eq: low}]}, {field: task.risk, gte: medium}]",
    ],
)
def test_a_rule_whose_conditions_contradict_is_unreachable(tmp_path: Path, when: str) -> None:
    """No facts meet it."""
    assert [(3, "unreachable")] == remarks(tmp_path, f"{RULE}    when: {{{when}}}\n    deny: true\n")


@pytest.mark.parametrize(
    ("when", "then"),
    [
        ("", "deny: true"),
        ("when: {all: [{field: task.risk, gte: medium}]}", "deny: true"),
        ("when: {any: [{field: task.risk, eq: high}, {field: task.project, eq: x}]}", "deny: true"),
        (
            "when: {all: [{field: task.project, glob: 'pay*'}]}",
            "require: {mode: plan_first, evidence: {t: observed}}",
        ),
    ],
)
def test_a_rule_that_another_makes_pointless_is_shadowed(tmp_path: Path, when: str, then: str) -> None:
    """Wherever it matches, another denies or asks for at least as much."""
    text = (
        f"{RULE}    when: {{all: [{{field: task.risk, eq: high}}, {{field: task.project, eq: payments}}]}}\n"
        f"    require: {{mode: plan_first}}\n  - id: b\n    on: task.received\n    {when}\n    {then}\n"
    )
    assert [(3, "shadowed")] == remarks(tmp_path, text)


def test_of_two_rules_that_are_alike_the_later_is_shadowed(tmp_path: Path) -> None:
    """One of them is enough, and one is named."""
    rule = "when: {all: [{field: task.risk, eq: high}]}, deny: true"
    rules = "".join(f"  - {{id: {name}, on: dispatch, {rule}}}\n" for name in "ab")
    text = f"defaults: {{mode: direct}}\nrules:\n{rules}"
    assert [(4, "shadowed")] == remarks(tmp_path, text)


@pytest.mark.parametrize(
    ("require", "codes"),
    [
        ("deadline: 4h", ["deadline_without_review"]),
        ("reviewers: {quorum: 2}", ["reviewers_without_review"]),
        ("mode: direct, reviewers: {role: qa, by: anyone}", ["reviewers_without_review"]),
        ("mode: plan_first, deadline: 4h, on_timeout: proceed", ["proceed_above_ceiling"]),
        ("mode: plan_first, on_timeout: proceed", ["proceed_above_ceiling"]),
        ("mode: plan_first, deadline: 4h, reviewers: {role: reviewer, by: anyone}", []),
        ("result_review: true, deadline: 4h", []),
    ],
)
def test_obligations_that_contradict_are_named(tmp_path: Path, require: str, codes: list[str]) -> None:
    """A deadline or reviewers without a review, and a proceed that never happens, are faults of the rule."""
    text = f"{RULE}    when: {{all: [{{field: task.risk, gte: high}}]}}\n    require: {{{require}}}\n"
    assert [(3, code) for code in codes] == remarks(tmp_path, text)


def test_a_deadline_is_of_use_where_another_rule_asks_for_the_review(tmp_path: Path) -> None:
    """Rules that can match together are looked at together, and those that cannot are not."""
    risky = "    when: {all: [{field: task.risk, gte: high}]}\n    require: {deadline: 4h}\n"
    text = f"{RULE}{risky}  - id: b\n    on: task.received\n"
    asks = "    require: {mode: plan_first}\n"
    assert [] == remarks(tmp_path, f"{text}    when: {{all: [{{field: task.project, eq: x}}]}}\n{asks}")
    assert [(3, "deadline_without_review")] == remarks(
        tmp_path, f"{text}    when: {{all: [{{field: task.risk, eq: low}}]}}\n{asks}"
    )


def test_a_role_that_nobody_has_is_named_where_members_are_known(tmp_path: Path) -> None:
    """Without members nothing is said; with them, a role of reviewers has to have some."""
    text = f"{RULE}    require: {{result_review: true, reviewers: {{role: qa, by: anyone}}}}\n"
    assert [] == remarks(tmp_path, text)
    roles = "roles: {qa: {}, developer: {}}\nmembers:\n  coder: {roles: [developer]}\n"
    assert [] == remarks(tmp_path, text, f"{roles}  checker: {{roles: [qa]}}\n")
    assert [(5, "role_without_members")] == remarks(tmp_path, text, roles)


def test_to_let_in_what_is_let_in_anyway_is_a_hint(tmp_path: Path) -> None:
    """Where the hook is closed, the rule is of use."""
    rule = "rules:\n  - {id: a, on: task.received, allow: true}\n"
    assert [(3, "pointless_allow")] == remarks(tmp_path, f"defaults: {{mode: direct}}\n{rule}")
    assert [] == remarks(tmp_path, f"defaults: {{mode: direct, deny: [task.received]}}\n{rule}")
    call = rule.replace("task.received", "tool.call")
    assert [] == remarks(tmp_path, f"defaults: {{mode: direct}}\n{call}")


@pytest.mark.parametrize(
    ("require", "codes"),
    [
        ("{capabilities: [gpu], tier: 2}", []),
        ("{capabilities: [gpu, sql]}", []),
        ("{capabilities: [gpu, web]}", [(6, "capability_without_members")]),
        ("{tier: 3}", [(6, "tier_without_members")]),
        ("{capabilities: [sql], tier: 2}", [(6, "capability_without_members")]),
    ],
)
def test_an_executor_that_nobody_is_is_named_where_members_are_known(
    tmp_path: Path, require: str, codes: list[tuple[int, str]]
) -> None:
    """One member has to have it all; without members nothing is said."""
    text = f"{RULE}    when: {{all: [{{field: task.risk, eq: low}}]}}\n    require: {require}\n"
    members = (
        "members:\n  weak: {capabilities: [gpu, sql], tier: 1}\n  strong: {capabilities: [gpu], tier: 2}\n"
    )
    assert codes == remarks(tmp_path, text, members)
    assert [] == remarks(tmp_path, text, "roles: {}\n")


def test_a_rule_that_asks_no_more_of_the_executor_is_shadowed(tmp_path: Path) -> None:
    """Of two rules the one with fewer capabilities and a lower tier never matters."""
    more = (
        RULE.replace("id: a", "id: b").partition("rules:\n")[2]
        + "    require: {capabilities: [a, b], tier: 2}\n"
    )
    text = f"{RULE}    require: {{capabilities: [b], tier: 1}}\n{more}"
    assert [(3, "shadowed")] == remarks(tmp_path, text)
    assert [] == remarks(tmp_path, text.replace("capabilities: [b]", "capabilities: [c]"))


TEN = """\
rules:
  - id: unknown-field
    on: task.received
    when: {all: [{field: task.colour, eq: red}]}
    deny: true
  - id: unreachable
    on: task.received
    when: {all: [{field: task.risk, eq: low}, {field: task.risk, gte: high}]}
    deny: true
  - id: all-of-shop
    on: task.received
    when: {all: [{field: task.project, eq: shop}]}
    deny: true
  - id: shadowed
    on: task.received
    when: {all: [{field: task.project, eq: shop}, {field: task.labels, any: [x]}]}
    require: {mode: plan_first}
  - id: contradicting
    on: task.received
    when: {all: [{field: task.project, eq: books}, {field: task.risk, eq: low}]}
    require: {deadline: 4h}
  - id: bad-cel
    on: task.received
    when: "task.risk =="
    deny: true
  - id: nobody
    on: task.received
    require: {result_review: true, reviewers: {role: writer, by: anyone}}
  - id: itself
    on: result.submitted
    when: {all: [{field: task.assignee, eq: "role:qa"}, {field: task.project, eq: shop}]}
    require: {result_review: true, reviewers: {role: qa, by: anyone}}
  - id: above-the-ceiling
    on: task.received
    when: {all: [{field: task.risk, gte: high}]}
    require: {mode: plan_first, deadline: 4h, on_timeout: proceed}
"""


def test_ten_faults_are_ten_remarks(tmp_path: Path) -> None:
    """Each is told by file and line, whatever else is wrong."""
    roles = "roles:\n  qa: {reports_to: lead}\n  lead: {reports_to: qa}\n  writer: {}\n"
    organisation = f"{roles}members: {{checker: {{roles: [qa]}}}}\n"
    (tmp_path / "organisation.yaml").write_text(organisation, encoding="utf-8")
    (tmp_path / "policy.yaml").write_text(TEN, encoding="utf-8")
    assert [
        ("organisation.yaml", 2, "reporting_circle"),
        ("policy.yaml", 1, "missing_default"),
        ("policy.yaml", 4, "unknown_field"),
        ("policy.yaml", 6, "unreachable"),
        ("policy.yaml", 14, "shadowed"),
        ("policy.yaml", 18, "deadline_without_review"),
        ("policy.yaml", 24, "bad_expression"),
        ("policy.yaml", 28, "role_without_members"),
        ("policy.yaml", 29, "self_review"),
        ("policy.yaml", 33, "proceed_above_ceiling"),
    ] == [(Path(r.file).name, r.line, r.code) for r in lint(tmp_path, AT)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("rules: []\n", 1),
        ("rules: []\ndefaults: {on_timeout: block}\n", 2),
        ("", None),
        ("# nothing\n", None),
    ],
)
def test_defaults_without_a_mode_are_a_hint(tmp_path: Path, text: str, line: int | None) -> None:
    """It may be meant so; it is no fault."""
    (tmp_path / "policy.yaml").write_text(text, encoding="utf-8")
    assert [(line, "missing_default", "hint")] == [(r.line, r.code, r.level) for r in lint(tmp_path, AT)]


@pytest.mark.parametrize(
    "text", ["[]\n", "rules: [\n", "? [a]\n: b\n", "rules: {}\n", "rules: []\nrules: []\n"]
)
def test_what_cannot_be_read_at_all_is_a_fault(tmp_path: Path, text: str) -> None:
    """The lint says what the reader says, with the line."""
    found = remarks(tmp_path, text)
    assert any(code == "invalid" and line for line, code in found), found


# The reasoning


@given(st.lists(TERMS, max_size=4), DRAWN)
def test_nothing_that_is_called_impossible_ever_holds(terms: list[Term], facts: dict[str, Any]) -> None:
    """Facts that meet all terms show that they are possible."""
    try:
        held = all(term.holds(facts) for term in terms)
    except ValueError:
        return
    assert not (held and impossible(terms))


@given(st.lists(CONDITIONS, min_size=1, max_size=2), st.lists(CONDITIONS, min_size=1, max_size=2), DRAWN)
def test_what_is_implied_holds_wherever_the_terms_do(
    a: list[Term], b: list[Term], facts: dict[str, Any]
) -> None:
    """No facts meet the one and not the other."""
    try:
        held, other = all(t.holds(facts) for t in a), all(t.holds(facts) for t in b)
    except ValueError:
        return
    assert not (held and not other and implies(a, b))


@given(st.lists(TERMS, max_size=3))
def test_a_witness_meets_the_terms_that_it_is_of(terms: list[Term]) -> None:
    """Whatever is found meets them all, and terms that are impossible have none."""
    found = witnesses(terms)
    assert all(term.holds(facts) for facts in found for term in terms)
    assert not (found and impossible(terms))


@pytest.mark.parametrize(
    ("terms", "others"),
    [
        ([condition("task.project", "eq", "a")], [condition("task.project", "in", ["a", "b"])]),
        ([condition("task.project", "in", ["a1", "a2"])], [condition("task.project", "glob", "a*")]),
        ([condition("task.risk", "gte", "high")], [condition("task.risk", "gte", "medium")]),
        ([condition("parent.depth", "gte", 3)], [condition("parent.depth", "gte", 2)]),
        ([condition("task.labels", "all", ["a", "b"])], [condition("task.labels", "any", ["b", "c"])]),
        ([condition("task.labels", "any", ["a"])], [condition("task.labels", "any_glob", ["a*"])]),
        ([condition("task.paths", "any_glob", ["a"])], [condition("task.paths", "exists", value=True)]),
        (
            [condition("task.risk", "eq", "low")],
            [Group(kind="not", of=(condition("task.risk", "gte", "medium"),))],
        ),
    ],
)
def test_what_follows_from_conditions_is_known(terms: list[Term], others: list[Term]) -> None:
    """The narrower implies the wider, and not the other way round."""
    assert implies(terms, others)
    assert not implies(others, terms) or not impossible(others)


def test_a_text_that_looks_like_a_pattern_is_none(tmp_path: Path) -> None:
    """A project named by `eq` is compared letter by letter, so that a pattern still fits others."""
    when = "all: [{field: task.project, glob: 'a*'}, {not: {field: task.project, eq: 'a*'}}]"
    assert [] == remarks(tmp_path, f"{RULE}    when: {{{when}}}\n    deny: true\n")


def test_an_example_alone_shadows_no_rule(tmp_path: Path) -> None:
    """A rule that happens to match the simplest facts of another, and not all, leaves it its use."""
    text = (
        f"{RULE}    when: {{all: [{{field: task.project, glob: 'pay*'}}]}}\n    require: {{mode: plan_first}}\n"
        "  - id: b\n    on: task.received\n    when: {all: [{field: task.project, glob: 'pay[*]'}]}\n    deny: true\n"
    )
    assert [] == remarks(tmp_path, text)
