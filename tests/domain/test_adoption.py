"""Taking in what came too late: by an operator, through the checks of a live one, once."""

from typing import Any

import pytest
from tests.domain.kit import (
    EXECUTING,
    EXECUTING_PLAN,
    IN_PLAN_REVIEW,
    LEASE_SECONDS,
    PHASES,
    PLANNED,
    ack,
    admit,
    cast,
    create,
    fail,
    fire,
    given,
    offer,
    quarantine,
    sender,
    submit_plan,
    submit_result,
)

from agentic_os.domain import commands as c
from agentic_os.domain.documents import Criterion, Evidence

PASSED = Evidence(criterion_id="tests", rank="self_reported", claimed="self_reported", status="pass")
LOST = fire("lease", "1", 20 + LEASE_SECONDS)


def adopt(late: c.SubmitPlan | c.SubmitResult | None = None, quarantine_id: str = "q") -> c.Adopt:
    """Take in what is kept as q."""
    submission = late or submit_result(generation=0, seq=0)
    return c.Adopt(quarantine_id=quarantine_id, by="rita", reason="It is good.", late=submission)


def test_a_late_result_that_is_adopted_goes_the_way_of_a_live_one():
    """After its lease was lost, a result is kept aside; adopted, it awaits its review as its executor's result."""
    kept = given(*EXECUTING, LOST, quarantine())
    assert "retry_wait" == kept.task.phase

    adopted = kept.and_then(adopt())

    assert ("result_review", "ada", 1) == (
        adopted.task.phase,
        adopted.task.result.executor,
        adopted.task.result.attempt,
    )
    adopted.when(adopt()).nothing()


def test_an_attempt_under_way_is_fenced_off_by_an_adoption():
    """Whoever works on the task meanwhile loses it to what was adopted."""
    history = (*EXECUTING, LOST, quarantine(), fire("retry", "1", 2000), offer(2, "bob", seconds=2000))
    running = given(*history, ack(attempt=2, executor="bob", seconds=2001))

    adopted = running.and_then(adopt())

    assert ("superseded", "result_review") == (adopted.task.attempt.state, adopted.task.phase)


def test_a_late_plan_meets_the_gate():
    """An adopted plan is version 1, and needs the same approval; a result cannot be adopted in its place."""
    kept = given(*PLANNED, offer(), ack(), LOST, quarantine(kind="plan"))
    kept.when(adopt(submit_result(generation=0))).refused("plan_unapproved")

    adopted = kept.and_then(adopt(submit_plan(generation=0)))

    assert ("plan_review", 1) == (adopted.task.phase, adopted.task.plan.version)
    assert adopted.and_then(cast()).task.authorisation is not None


@pytest.mark.parametrize("phase", ["plan_review", "completed", "cancelled"])
def test_nothing_is_adopted_into_a_review_or_after_the_end(phase: str):
    """What is under review is decided on first, and an end is an end."""
    given(*PHASES[phase], quarantine()).when(adopt()).refused("wrong_phase")


def test_what_is_not_kept_aside_cannot_be_adopted():
    """An unknown id is refused."""
    given(*EXECUTING).when(adopt()).refused("wrong_phase")


def test_a_plan_that_was_refused_already_is_refused_again():
    """The plan that a reviewer sent back cannot come in by the side door."""
    returned = given(*IN_PLAN_REVIEW, cast("revise", items=("Smaller.",)))
    again = returned.and_then(quarantine(kind="plan"))
    answers: dict[str, Any] = {"generation": 0, "answers": frozenset({"i1"})}

    again.when(adopt(submit_plan(**answers))).refused("plan_unchanged")
    again.when(adopt(submit_plan("b", generation=0))).refused("review_items_unanswered")


def test_a_result_of_an_earlier_plan_is_not_taken_for_one_of_the_approved():
    """What carried out another plan than the one that is approved now stays aside."""
    history = (*EXECUTING_PLAN, fail("plan_infeasible", attempt=2), offer(3), ack(attempt=3))
    replanned = given(*history, submit_plan("b", attempt=3), cast(version=2, content="b"))

    late = replanned.and_then(quarantine(attempt=2))

    late.when(adopt(submit_result(attempt=2, generation=0))).refused("plan_unapproved")


def test_what_another_attempt_showed_is_no_evidence_for_an_adopted_result():
    """A criterion that only the current attempt met keeps the adopted result from completing the task."""
    asked = (
        create(acceptance=(Criterion(id="tests", text="Pass."),)),
        admit(),
        offer(),
        ack(),
        LOST,
        quarantine(),
    )
    shown = c.AddEvidence(**sender(attempt=2, seconds=2002), evidence=PASSED)
    running = given(
        *asked, fire("retry", "1", 2000), offer(2, seconds=2000), ack(attempt=2, seconds=2001), shown
    )

    adopted = running.and_then(adopt())

    assert ("result_review", {}) == (adopted.task.phase, dict(adopted.task.evidence))
