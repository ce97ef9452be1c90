"""Reviews by executors: asked one after the other, apart from the lineage, and never in the way of people."""

import pytest
from tests.domain.kit import (
    BUNDLE,
    DEADLINE_SECONDS,
    PLAN_FOR_AGENTS,
    REVIEWED_BY_AGENTS,
    REVIEWING,
    RITA,
    ack,
    admit,
    at,
    attest,
    attested,
    cast,
    create,
    decline,
    digest,
    fail,
    fire,
    given,
    heartbeat,
    offer,
    person,
    review,
    sender,
    submit_plan,
    submit_result,
)

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.agent_reviews import may_review, wanted
from agentic_os.domain.documents import Budget, Criterion, Evidence, Usage
from agentic_os.domain.policy import Reviewers
from agentic_os.domain.waiting import deadlines, waiting_for

CHECKED = Evidence(criterion_id="tests", rank="self_reported", claimed="independent", status="pass")
IN_RESULT_REVIEW = (
    create(acceptance=(Criterion(id="tests", text="The tests pass."),)),
    admit(reviewers=REVIEWED_BY_AGENTS, evidence={"tests": "independent"}),
    offer(),
    ack(),
    submit_result(),
)
CHECKING = (*IN_RESULT_REVIEW, offer(2, "bob"), ack(attempt=2, executor="bob"))


def test_a_review_attempt_leaves_the_phase_as_it_is():
    """From the offer to the vote, the task is under review, and the reviewer has a lease."""
    task = given(*REVIEWING).task
    assert task.phase == "plan_review"
    assert task.attempt.step == "review"
    assert [("lease", "2"), ("review", "plan:1")] == [(d.kind, d.ref) for d in deadlines(task)]
    assert waiting_for(task).owner == "bob"


def test_a_review_that_is_taken_back_was_no_try_of_its_reviewer():
    """A reviewer that is paused before it acknowledged leaves the plan under review, and may be asked again."""
    offered = given(*REVIEWING[:-1]).task
    assert offered.attempt.state == "offered"
    taken = given(*REVIEWING[:-1]).and_then(c.TakeBack(attempt=2, executor="bob", reason="bob is paused."))
    assert (taken.task.phase, taken.task.attempt.state) == ("plan_review", "superseded")
    assert wanted(taken.task) is not None
    assert may_review(taken.task, taken.task.plan, "bob")


def test_a_reviewer_is_never_of_the_lineage():
    """Neither the author nor whoever held an attempt before is asked, and none is believed."""
    given(*PLAN_FOR_AGENTS).when(offer(2, "ada")).refused("self_review")
    task = given(*PLAN_FOR_AGENTS).task
    assert not may_review(task, task.plan, "ada")
    assert may_review(task, task.plan, "bob")


def test_a_review_attempt_makes_nobody_part_of_the_lineage():
    """Who reviewed a plan may review the next one."""
    returned = given(*REVIEWING).and_then(review("revise")).task
    assert frozenset({"ada"}) == returned.lineage


def test_where_only_people_may_vote_no_executor_is_asked():
    """Policy names people unless it says otherwise."""
    history = (create(), admit(mode="plan_first"), offer(), ack(), submit_plan())
    assert wanted(given(*history).task) is None
    given(*history).when(offer(2, "bob")).refused("wrong_phase")


def test_an_executor_votes_only_through_its_attempt():
    """A directive in an executor's name counts for nothing, even where executors may review."""
    given(*PLAN_FOR_AGENTS).when(cast(voter=c.Participant(id="bob", kind="executor"))).refused(
        "not_permitted"
    )


def test_a_vote_is_on_exactly_what_the_brief_showed():
    """Another digest or subject is refused, and the attempt may try again."""
    given(*REVIEWING).when(review(content="b")).refused("digest_mismatch")
    given(*REVIEWING).when(review(subject="result")).refused("digest_mismatch")


def test_a_revision_needs_an_item():
    """A reviewer that sends a plan back says what to change."""
    given(*REVIEWING).when(review("revise", items=())).refused("items_required")


def test_a_revision_returns_the_plan_with_its_items():
    """The first revise decides, as a person's does."""
    task = given(*REVIEWING).and_then(review("revise")).task
    assert task.phase == "ready"
    assert ["Say how."] == [item.text for item in task.items]
    assert not task.attempt.is_open


def test_several_reviewers_work_one_after_the_other():
    """One approval of two leaves the gate open for the next reviewer, who is somebody else."""
    history = (
        create(),
        admit(mode="plan_first", reviewers=Reviewers(role="qa", quorum=2, by="anyone")),
        offer(),
        ack(),
        submit_plan(),
        offer(2, "bob"),
        ack(attempt=2, executor="bob"),
    )
    first = given(*history).and_then(review())
    assert first.task.phase == "plan_review"
    first.when(offer(3, "bob")).refused("self_review")
    second = first.and_then(
        offer(3, "eve"), ack(attempt=3, executor="eve"), review(attempt=3, executor="eve")
    )
    assert second.task.authorisation.approvers == ("bob", "eve")


def test_a_person_may_vote_at_any_time_and_the_open_review_is_superseded():
    """A decision by anyone ends the review that is under way; its late vote is refused."""
    decided = given(*REVIEWING).when(cast(voter=RITA))
    after = decided.then(
        e.AttemptSuperseded(attempt=2, reason="the plan was decided"),
        e.PlanVoted(version=1, digest=digest("a"), voter="rita", vote="approve", words="/approve"),
        e.PlanApproved(version=1, digest=digest("a"), approvers=("rita",), bundle=BUNDLE, defaulted=False),
    )
    after.when(review(seq=3)).refused("attempt_superseded")


@pytest.mark.parametrize(
    "silence",
    [
        (fire("lease", "2", 9999),),
        (fail(attempt=2, executor="bob"),),
    ],
)
def test_a_reviewer_that_comes_to_nothing_is_replaced(silence: tuple[c.Command, ...]):
    """Its silence or failure costs no retry and leaves the gate open; twice, and it is not asked again."""
    task = given(*REVIEWING).and_then(*silence).task
    assert task.phase == "plan_review"
    assert {} == task.retries
    assert wanted(task) is not None
    assert may_review(task, task.plan, "bob")
    again = given(*REVIEWING).and_then(*silence, offer(3, "bob"), fire("ack", "3", 9999)).task
    assert not may_review(again, again.plan, "bob")
    assert may_review(again, again.plan, "eve")


def test_a_reviewer_that_declines_is_not_asked_again():
    """Whoever does not want to review this is passed over, and may still work on other steps."""
    task = given(*PLAN_FOR_AGENTS).and_then(offer(2, "bob"), decline(attempt=2, executor="bob")).task
    assert task.phase == "plan_review"
    assert not may_review(task, task.plan, "bob")
    assert () == task.excluded


def test_with_nobody_left_a_person_must_look():
    """Once it is left to people no executor is asked, and the waiting says why, and who decides then."""
    left = given(*PLAN_FOR_AGENTS).and_then(c.EscalateReview(version=1, reason="Nobody."))
    assert wanted(left.task) is None
    assert "Nobody." in waiting_for(left.task).what
    assert "whoever may review decides; of the role qa, where people hold it" in waiting_for(left.task).what
    left.when(offer(2, "bob")).refused("wrong_phase")
    assert left.and_then(cast()).task.phase == "ready"


def test_a_review_that_times_out_with_escalation_ends_the_attempt():
    """Policy's escalate takes the review from the executor and gives it to people."""
    escalating = (
        create(),
        admit(mode="plan_first", reviewers=REVIEWED_BY_AGENTS, deadline_seconds=600, on_timeout="escalate"),
        offer(),
        ack(),
        submit_plan(),
        offer(2, "bob", seconds=30),
    )
    task = given(*escalating).and_then(fire("review", "plan:1", 20 + DEADLINE_SECONDS)).task
    assert not task.attempt.is_open
    assert wanted(task) is None


def test_evidence_of_a_reviewer_is_independent_and_completes():
    """A check that another executor ran has the rank that it claims, and the approval completes the task."""
    task = given(*CHECKING).and_then(review(subject="result", content="c", evidence=(CHECKED,))).task
    assert task.phase == "completed"
    assert task.evidence["tests"].rank == "independent"


def test_an_approval_of_an_executor_completes_nothing_that_is_not_shown():
    """Without the evidence that policy asks for, a person must look, whatever the executor votes."""
    reviewed = given(*CHECKING).and_then(review(subject="result", content="c"))
    assert reviewed.task.phase == "result_review"
    assert "tests" in waiting_for(reviewed.task).what


def test_an_attestation_that_completes_ends_the_review_under_way():
    """Once a source shows what was missing, nobody needs to look any more, and the reviewer may not write."""
    done = (
        given(*CHECKING)
        .when(attest())
        .then(
            attested(),
            e.AttemptSuperseded(attempt=2, reason="the result was decided"),
            e.TaskCompleted(version=1, digest=digest("c"), accepted_by=()),
        )
    )
    done.when(review(subject="result", content="c", seq=3)).refused("attempt_superseded")


def test_evidence_sent_while_reviewing_is_independent_too():
    """What a reviewer shows before it votes counts as what it shows with its vote."""
    shown = c.AddEvidence(**sender(attempt=2, executor="bob"), evidence=CHECKED)
    assert given(*CHECKING).and_then(shown).task.evidence["tests"].rank == "independent"


def test_a_failing_check_that_a_reviewer_saw_outweighs_the_claim_of_the_author():
    """The last word on a criterion is that of whoever did not do the work."""
    failing = c.AddEvidence(
        **sender(attempt=2, executor="bob"),
        evidence=Evidence(criterion_id="tests", rank="self_reported", claimed="independent", status="fail"),
    )
    assert given(*CHECKING).and_then(failing).task.evidence["tests"].status == "fail"


def test_a_reviewer_hands_in_neither_plan_nor_result():
    """A review attempt is for its vote."""
    given(*REVIEWING).when(submit_plan(attempt=2, executor="bob", content="b")).refused("wrong_phase")
    given(*CHECKING).when(submit_result(attempt=2, executor="bob", content="d")).refused("wrong_phase")
    given(*PLAN_FOR_AGENTS[:4]).when(review(attempt=1, executor="ada")).refused("wrong_phase")


def test_a_reviewers_question_stops_nothing():
    """It may ask in passing; a blocking question is an item of a revision."""
    asked = c.Escalate(**sender(attempt=2, executor="bob"), question="Which?", blocking=True)
    given(*REVIEWING).when(asked).refused("wrong_phase")


def test_a_reviewers_checkpoint_is_not_for_the_author():
    """What a reviewer keeps, and its session, are not what the next attempt at the work resumes."""
    kept = c.Record(**sender(attempt=2, executor="bob"), kind="checkpoint", body={"note": "n"})
    task = given(*REVIEWING).and_then(kept).task
    assert task.checkpoint_in == 0


def test_reviews_use_up_no_attempt_of_the_budget():
    """The budget of attempts is for the work; a reviewer costs money and tokens only."""
    history = (
        create(budget=Budget(attempts=2)),
        admit(mode="plan_first", reviewers=REVIEWED_BY_AGENTS),
        offer(),
        ack(),
        submit_plan(),
        offer(2, "bob"),
        ack(attempt=2, executor="bob"),
        review(),
    )
    assert given(*history).and_then(offer(3)).task.phase == "dispatched"


def test_a_spent_budget_leaves_the_review_to_people():
    """No executor is paid for a review once the money is gone."""
    history = (
        create(budget=Budget(tokens=10)),
        admit(mode="plan_first", reviewers=REVIEWED_BY_AGENTS),
        offer(),
        ack(),
        submit_plan(usage=Usage(input_tokens=11)),
    )
    asked = given(*history).and_then(offer(2, "bob")).task
    assert "used up" in asked.plan.escalated
    assert not asked.attempt.is_open


def test_a_name_that_voted_meanwhile_counts_once():
    """A person who is called as the reviewer is makes no quorum of two with it; the review ends all the same."""
    asked = admit(result_review=True, reviewers=Reviewers(quorum=2, by="anyone"))
    reviewing = (offer(2, "bob", seconds=30), ack(attempt=2, executor="bob", seconds=40))
    twice = given(create(), asked, offer(), ack(), submit_result(), *reviewing)
    twice = twice.and_then(cast(subject="result", content="c", voter=person("bob", "reviewer")))
    task = twice.and_then(review(subject="result", content="c")).task
    assert ("result_review", ("bob",), "submitted") == (task.phase, task.result.approvals, task.attempt.state)
    returned = twice.and_then(review("revise", subject="result", content="c")).task
    assert "returned" == returned.result.state


def test_a_hold_opens_no_review():
    """While a task is on hold no attempt is opened, for whichever step."""
    given(*PLAN_FOR_AGENTS).and_then(c.PutOnHold(by="rita", reason="")).when(offer(2, "bob")).refused(
        "wrong_phase"
    )


def test_a_reassignment_leaves_the_review_under_way():
    """Who is to do the work next is no matter of who reviews it."""
    task = given(*REVIEWING).and_then(c.Reassign(assignee="eve", reason="")).task
    assert task.attempt.is_open


def test_policy_may_bar_an_executor_from_reviewing():
    """A denial at dispatch bars this executor and leaves the task where it is."""
    given(*PLAN_FOR_AGENTS).when(offer(2, "bob", "deny")).refused("policy_denied")


def test_a_lease_of_a_review_is_renewed_like_any_other():
    """A heartbeat of a reviewer keeps its attempt."""
    task = given(*REVIEWING).and_then(heartbeat(attempt=2, executor="bob", seconds=500)).task
    assert at(500 + 900) == task.attempt.lease_expires_at
