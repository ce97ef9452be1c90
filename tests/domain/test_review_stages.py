"""Reviews in stages: each once the one before has agreed, each person once, and a revision begins at the first."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from tests.domain.kit import (
    OMAR,
    RITA,
    Step,
    ack,
    admit,
    cast,
    create,
    digest,
    given,
    offer,
    person,
    review,
    reviewed_by,
    ruling,
    submit_plan,
    submit_result,
)

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.agent_reviews import wanted
from agentic_os.domain.decide import decide
from agentic_os.domain.evolution import fold
from agentic_os.domain.policy import Reviewers
from agentic_os.domain.waiting import waiting_for

ADA = person("anna", "reviewer", "admin")
SECURITY = replace(person("sam", "reviewer", "security"), binding=frozenset({"security"}))
TWO = reviewed_by(stages=(Reviewers(role="admin"),))
"""A plan that any reviewer must approve, and then an administrator."""

AGENTS_THEN_PEOPLE: tuple[Step, ...] = (
    create(),
    admit(mode="plan_first", reviewers=Reviewers(role="qa", by="anyone"), stages=(Reviewers(role="admin"),)),
    offer(),
    ack(),
    submit_plan(),
)


def opened(stage: int, reviewers: Reviewers) -> e.ReviewStageOpened:
    """Expect that a stage opens."""
    return e.ReviewStageOpened(
        subject="plan", version=1, digest=digest("a"), stage=stage, reviewers=reviewers
    )


def voted(voter: str) -> e.PlanVoted:
    """Expect an approval."""
    return e.PlanVoted(version=1, digest=digest("a"), voter=voter, vote="approve", words="/approve")


def approved(*approvers: str) -> e.PlanApproved:
    """Expect that the approvals are consumed."""
    return e.PlanApproved(
        version=1, digest=digest("a"), approvers=approvers, bundle="sha256:" + "b" * 64, defaulted=False
    )


def test_the_next_stage_opens_once_the_one_before_has_agreed():
    """The approval that completes a stage opens the next, and that of the last is consumed with all before it."""
    (
        given(*TWO)
        .when(cast(voter=OMAR))
        .then(voted("omar"), opened(2, Reviewers(role="admin")))
        .when(cast(voter=ADA))
        .then(voted("anna"), approved("omar", "anna"))
    )


def test_a_stage_needs_its_whole_quorum():
    """Approvals of one stage do not count for another."""
    history = reviewed_by(quorum=2, stages=(Reviewers(role="reviewer", quorum=2),))
    people = [person(name, "reviewer") for name in ("one", "two", "three", "four")]
    at = given(*history)
    for voter, phase, stage, missing in zip(
        people, ["plan_review"] * 3 + ["ready"], [0, 1, 1, 1], [1, 2, 1, 0], strict=True
    ):
        at = at.and_then(cast(voter=voter))
        assert (phase, stage, missing) == (at.task.phase, at.task.plan.stage, at.task.missing_approvals)
    assert ("one", "two", "three", "four") == at.task.authorisation.approvers


def test_only_the_open_stage_may_decide():
    """Whoever is not of the role of the open stage can neither approve, nor send back, nor reject."""
    second = given(*TWO, cast(voter=OMAR))
    for vote in ("approve", "revise", "reject"):
        ballot = cast(vote, voter=RITA, items=("one",) if vote == "revise" else ())
        refusal = second.when(ballot).refused("not_permitted")
        assert "(stage 2 of 2) needs the role admin" in refusal.message


def test_one_name_counts_once_in_all_stages():
    """Whoever approved in one stage has said so, and the next needs somebody else."""
    second = given(*TWO, cast(voter=ADA))
    second.when(cast(voter=ADA)).nothing()
    assert 1 == second.task.missing_approvals
    second.when(cast(voter=person("otto", "reviewer", "admin"))).then(voted("otto"), approved("anna", "otto"))


def test_a_revision_begins_at_the_first_stage_again():
    """A new version was approved by nobody, whichever stage sent the one before back."""
    returned = given(*TWO, cast(voter=OMAR), cast("revise", voter=ADA, items=("one",)))
    assert "ready" == returned.task.phase
    again = returned.and_then(offer(2), ack(attempt=2), submit_plan("d", frozenset({"i1"}), attempt=2))
    assert (0, ()) == (again.task.plan.stage, again.task.plan.approvals)
    again.when(cast(voter=ADA, version=2, content="d")).then(
        replace(voted("anna"), version=2, digest=digest("d")),
        replace(opened(2, Reviewers(role="admin")), version=2, digest=digest("d")),
    )


def test_a_rule_about_the_plan_adds_stages():
    """What policy asks of one plan is joined, place by place, with what it asks of the task."""
    asked = ruling("plan.submitted", reviewers=Reviewers(quorum=2), stages=(Reviewers(role="admin"),))
    history = (create(), admit(mode="plan_first"), offer(), ack(), submit_plan(ruling=asked))
    required = given(*history).task.required
    assert (Reviewers(quorum=2), Reviewers(role="admin")) == required.in_order


def test_results_have_stages_too():
    """A result is accepted once its last stage has agreed."""
    history = (
        create(),
        admit(result_review=True, stages=(Reviewers(role="admin"),)),
        offer(),
        ack(),
        submit_result(),
    )
    first = given(*history, cast(subject="result", content="c", voter=OMAR))
    assert ("result_review", 1) == (first.task.phase, first.task.result.stage)
    done = first.and_then(cast(subject="result", content="c", voter=ADA)).task
    assert "completed" == done.phase


def test_executors_review_in_their_stage_and_in_no_other():
    """An executor is asked while its stage is open; when the next is people's, nobody is asked but people."""
    first = given(*AGENTS_THEN_PEOPLE)
    assert wanted(first.task) is not None
    done = first.and_then(offer(2, "bob", seconds=30), ack(attempt=2, executor="bob", seconds=40), review())
    assert (1, None) == (done.task.plan.stage, wanted(done.task))
    assert "role:admin" == waiting_for(done.task).owner
    done.when(cast(voter=ADA)).then(voted("anna"), approved("bob", "anna"))


def test_a_reviewer_of_a_stage_that_is_over_is_called_back():
    """When people complete the stage that an executor reviews for, its vote must not count for the next."""
    at_it = given(
        *AGENTS_THEN_PEOPLE, offer(2, "bob", seconds=30), ack(attempt=2, executor="bob", seconds=40)
    )
    at_it.when(cast(voter=OMAR)).then(
        e.AttemptSuperseded(attempt=2, reason="the next stage of the review decides"),
        voted("omar"),
        opened(2, Reviewers(role="admin")),
    )


def test_a_stage_whose_executors_gave_up_does_not_keep_the_next_from_its_own():
    """That nobody was left to ask in one stage says nothing of the next."""
    both = (
        create(),
        admit(
            mode="plan_first",
            reviewers=Reviewers(role="qa", by="anyone"),
            stages=(Reviewers(role="lead", by="anyone"),),
        ),
        offer(),
        ack(),
        submit_plan(),
        c.EscalateReview(version=1, reason="nobody is left"),
    )
    stuck = given(*both)
    assert wanted(stuck.task) is None
    assert wanted(stuck.and_then(cast(voter=OMAR)).task) is not None


def test_a_binding_role_holds_in_its_stage():
    """Where people hold the role that a stage names, whoever decides there holds it too."""
    history = reviewed_by(stages=(Reviewers(role="security", by="people"),))
    second = given(*history, cast(voter=OMAR))
    outsider = replace(person("otto", "reviewer"), binding=frozenset({"security"}))
    second.when(cast(voter=outsider)).refused("not_permitted")
    second.when(cast(voter=SECURITY)).then(voted("sam"), approved("omar", "sam"))


@pytest.mark.parametrize(("stage", "words"), [(0, "(stage 1 of 2)"), (1, "(stage 2 of 2)")])
def test_what_is_waited_for_names_the_stage(stage: int, words: str):
    """The API, the CLI and the issue say which stage decides."""
    at = given(*TWO, *[cast(voter=OMAR)][:stage])
    assert words in waiting_for(at.task).what


QUORUMS = st.lists(st.integers(1, 3), min_size=1, max_size=4)
VOTERS = st.lists(st.sampled_from([f"p{n}" for n in range(14)]), max_size=40)


@drawn(quorums=QUORUMS, voters=VOTERS)
def test_no_order_of_votes_passes_a_stage_over(quorums: list[int], voters: list[str]):
    """A plan is approved exactly when as many different people agreed as all stages ask for, stage by stage."""
    first, *later = (Reviewers(quorum=q) for q in quorums)
    task: Any = given(*reviewed_by(quorum=first.quorum, stages=tuple(later))).task
    counted: list[str] = []
    for name in voters:
        if task.phase != "plan_review":
            assert sum(quorums) == len(counted)
            break
        task = fold(decide(cast(voter=person(name, "reviewer")), task), task)
        counted += [] if name in counted else [name]
        agreed = [sum(quorums[: n + 1]) for n in range(len(quorums))]
        assert min(sum(len(counted) >= a for a in agreed), len(quorums) - 1) == task.plan.stage
        assert (len(counted) >= sum(quorums)) == (task.authorisation is not None)
