"""Stages of a review in a policy: read, joined, checked, tested, explained, compared and simulated like all else."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_os.application.explanation import explain, obligations_by_name
from agentic_os.application.simulation import read_obligations
from agentic_os.domain.comparison import Outcome, differences
from agentic_os.domain.policy import NONE, Obligations, Reviewers, combine
from agentic_os.governance import GovernanceInvalid, load_governance
from agentic_os.governance.lint import lint
from agentic_os.governance.policy_tests import read_policy_tests, run_policy_tests
from agentic_os.postgres.codec import decode_payload, event_as_json

POLICY = """\
defaults: {mode: plan_first}
rules:
  - id: deploys
    on: task.received
    when: {all: [{field: task.paths, any_glob: ["deploy/**"]}]}
    require:
      reviewers:
        - {role: reviewer, quorum: 2}
        - {role: admin}
  - id: asked
    on: task.received
    when: {all: [{field: task.risk, gte: high}]}
    require: {reviewers: [{quorum: 1}, {quorum: 1}, {role: admin, quorum: 2}]}
"""
AT = datetime(2030, 6, 1, tzinfo=UTC)
DEPLOY = {"task.paths": ["deploy/a"], "task.risk": "low", "task.mode": "direct"}
RISKY = DEPLOY | {"task.risk": "high"}
STAGES = st.lists(
    st.builds(
        Reviewers,
        role=st.sampled_from(["reviewer", "qa", "security", "admin"]),
        quorum=st.integers(1, 3),
        by=st.sampled_from([None, "anyone", "people"]),
    ),
    min_size=1,
    max_size=4,
)


def staged(stages: list[Reviewers]) -> Obligations:
    """Ask for these stages and nothing else."""
    return replace(NONE, reviewers=stages[0], stages=tuple(stages[1:]))


def write(folder: Path, policy: str = POLICY, cases: str = "", organisation: str = "") -> Path:
    """Write a governance folder."""
    (folder / "policy.yaml").write_text(policy, encoding="utf-8")
    (folder / "policy_tests.yaml").write_text(cases, encoding="utf-8")
    if organisation:
        (folder / "organisation.yaml").write_text(organisation, encoding="utf-8")
    return folder


# The lattice


@given(STAGES, STAGES, STAGES)
def test_stages_are_joined_place_by_place(a: list[Reviewers], b: list[Reviewers], c: list[Reviewers]):
    """In any order and grouping, each stage asks for what either asked for there, and none is lost."""
    x, y, z = staged(a), staged(b), staged(c)
    joined = combine(x, y)
    assert joined == combine(y, x)
    assert combine(joined, z) == combine(x, combine(y, z))
    assert x == combine(x, x) == combine(x, NONE)
    assert len(joined.in_order) == max(len(a), len(b))
    for part in (a, b):
        assert all(s.quorum >= p.quorum for s, p in zip(joined.in_order, part, strict=False))
        assert not any(
            d.loosened for d in differences(allowed(staged(part)), allowed(joined)) if "role" not in d.name
        )


def allowed(obligations: Obligations) -> Outcome:
    """Allow under obligations."""
    return Outcome(decision="allow", obligations=obligations)


# Reading


def test_a_list_of_reviewers_is_read_as_stages(tmp_path: Path):
    """Each member is a stage in its order; rules are joined place by place, and one set is one stage."""
    policy = load_governance(write(tmp_path)).policy
    deploy = policy.decide("task.received", DEPLOY).obligations
    assert (
        Reviewers(role="reviewer", quorum=2, by="people"),
        Reviewers(role="admin", by="people"),
    ) == deploy.in_order
    risky = policy.decide("task.received", RISKY).obligations.in_order
    assert [("reviewer", 2), ("admin", 1), ("admin", 2)] == [(s.role, s.quorum) for s in risky]


@pytest.mark.parametrize(
    ("reviewers", "words"),
    [
        ("[]", "a review has 1 to 5 stages"),
        ("[{}, {}, {}, {}, {}, {}]", "a review has 1 to 5 stages"),
        ("[{role: reviewer}, {quorum: 0}]", "quorum is between 1 and 20"),
        ("[{role: reviewer}, {role: nobody-has-this}]", "nobody-has-this"),
        ("[reviewer]", "expected a mapping"),
        ("[[{role: reviewer}]]", "expected a mapping"),
    ],
)
def test_a_fault_in_a_stage_is_named_with_its_line(tmp_path: Path, reviewers: str, words: str):
    """What cannot be read, or nobody could meet, is refused."""
    with pytest.raises(GovernanceInvalid, match=words) as fault:
        load_governance(write(tmp_path, f"defaults:\n  reviewers: {reviewers}\n"))
    assert ":2:" in str(fault.value)


# Checks and cases


def test_a_stage_in_which_the_author_would_be_alone_is_a_remark(tmp_path: Path):
    """Each stage is checked, not only the first."""
    policy = """\
defaults: {mode: plan_first}
rules:
  - id: alone
    on: task.received
    when: {all: [{field: task.assignee, eq: coder}]}
    require: {reviewers: [{role: reviewer}, {role: dev, by: anyone}]}
"""
    organisation = "roles: {dev: {}}\nmembers: {coder: {roles: [dev]}}\n"
    found = [r.code for r in lint(write(tmp_path, policy, organisation=organisation), AT)]
    assert "self_review" in found


CASE = """\
- name: a deploy has two stages
  hook: task.received
  facts: {{task.paths: [deploy/a], task.risk: low, task.mode: direct}}
  expect: {{decision: allow, obligations: {{reviewers: {expected}}}}}
"""


@pytest.mark.parametrize(
    ("expected", "difference"),
    [
        ("[{role: reviewer, quorum: 2}, {role: admin, by: people}]", None),
        ("{role: reviewer, quorum: 2}", None),
        ("[{role: reviewer, quorum: 2}]", "reviewers.stages: expected 1, got 2"),
        ("[{}, {role: reviewer}]", "reviewers.2.role: expected 'reviewer', got 'admin'"),
        ("[{}, {}, {quorum: 1}]", "reviewers.3.quorum: expected 1, got None"),
    ],
)
def test_cases_of_policy_say_what_stages_there_are(tmp_path: Path, expected: str, difference: str | None):
    """A list says all stages; what differs is named by its place."""
    folder = write(tmp_path, cases=CASE.format(expected=expected))
    report = run_policy_tests(read_policy_tests(folder / "policy_tests.yaml"), load_governance(folder).policy)
    (result,) = report.results
    assert (difference is None) == report.passed
    assert difference is None or difference in result.differences


# Explanation, difference and simulation


def test_each_stage_says_who_asks_for_it(tmp_path: Path):
    """An explanation has every stage by its place, with the rules that set it."""
    found = explain(load_governance(write(tmp_path)).policy, "task.received", RISKY)
    assert (2, ("deploys",)) == (found.obligations["reviewers.quorum"], found.set_by["reviewers.quorum"])
    assert ("admin", ("deploys",)) == (
        found.obligations["reviewers.2.role"],
        found.set_by["reviewers.2.role"],
    )
    assert (2, ("asked",)) == (found.obligations["reviewers.3.quorum"], found.set_by["reviewers.3.quorum"])


def test_a_stage_that_goes_is_a_loosening():
    """Fewer stages, or a stage that asks for less, loosen; more of them tighten."""
    two = staged([Reviewers(), Reviewers(role="admin", quorum=2, by="people")])
    one, weaker = staged([Reviewers()]), staged([Reviewers(), Reviewers(role="admin", by="people")])
    gone = differences(allowed(two), allowed(one))
    assert {"reviewers.2.role", "reviewers.2.quorum", "reviewers.2.by"} == {d.name for d in gone}
    assert all(d.loosened and not d.tightened for d in gone)
    assert all(d.tightened and not d.loosened for d in differences(allowed(one), allowed(two)))
    (less,) = differences(allowed(two), allowed(weaker))
    assert ("reviewers.2.quorum 2 -> 1", True) == (str(less), less.loosened)


@given(STAGES)
def test_stages_are_read_from_a_recorded_decision(stages: list[Reviewers]):
    """What an event holds of stages is what was asked for, and without any nothing is stored of them."""
    golden = Path(__file__).parents[1] / "golden" / "events" / "policy.decided.v1.json"
    event = replace(decode_payload(golden.read_text()), obligations=staged(stages))
    stored = event_as_json(event)["obligations"]
    assert ("stages" in stored) == (len(stages) > 1)
    assert staged(stages) == read_obligations(stored)
    assert len(stages) == len(
        {n.rpartition(".")[0] for n in obligations_by_name(staged(stages)) if "reviewers" in n}
    )
