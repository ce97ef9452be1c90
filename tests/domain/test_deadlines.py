"""Deadlines: a pure function of the task; each fires once, in time, and for what it names."""

import pytest
from tests.domain.kit import (
    DEADLINE_SECONDS,
    EXECUTING,
    IN_PLAN_REVIEW,
    LIVE,
    PHASES,
    accept,
    ack,
    admit,
    at,
    cast,
    create,
    digest,
    fail,
    fire,
    given,
    heartbeat,
    offer,
    reviewed_by,
    submit_plan,
    submit_result,
)

from agentic_os.domain import events as e
from agentic_os.domain.documents import Criterion
from agentic_os.domain.waiting import Deadline, deadlines, waiting_for

DUE = 20 + DEADLINE_SECONDS
EXPECTED = {
    "dispatched": ("ack", "1", 300),
    "planning": ("lease", "1", 910),
    "plan_review": ("review", "plan:1", DUE),
    "executing": ("lease", "1", 910),
    "result_review": ("review", "result:1", DUE),
    "retry_wait": ("retry", "1", 30),
}


@pytest.mark.parametrize("phase", PHASES)
def test_each_phase_has_its_deadline(phase: str):
    """The phases that wait for somebody name the instant and the reference, the others none."""
    expected = (
        [Deadline(kind=k, ref=r, at=at(s)) for k, r, s in [EXPECTED[phase]]] if phase in EXPECTED else []
    )
    assert expected == list(deadlines(given(*PHASES[phase]).task))


@pytest.mark.parametrize("phase", EXPECTED)
def test_a_deadline_fires_once_and_not_a_moment_too_soon(phase: str):
    """Before its instant a deadline does nothing, at it something, and the second time nothing."""
    kind, ref, due = EXPECTED[phase]
    given(*PHASES[phase]).when(fire(kind, ref, due - 0.001)).nothing()
    fired = given(*PHASES[phase], fire(kind, ref, due))
    assert given(*PHASES[phase]).task.version < fired.task.version
    fired.when(fire(kind, ref, due)).nothing()
    fired.when(fire(kind, ref, due + 99)).nothing()


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("kind", ["ack", "lease", "retry", "review", "wall"])
@pytest.mark.parametrize("ref", ["0", "2", "", "x", "plan", "plan:2", "result:2", "plan:", ":1", "other:1"])
def test_a_deadline_of_something_else_does_nothing(phase: str, kind: str, ref: str):
    """A reference to another attempt or version, or to nothing, has no effect in any phase."""
    given(*PHASES[phase]).when(fire(kind, ref, 10**6)).nothing()


def test_a_renewed_lease_outlives_its_first_deadline():
    """The deadline that was set first does nothing once the lease was renewed."""
    given(*EXECUTING, heartbeat(seconds=600)).when(fire("lease", "1", 910)).nothing()


def test_the_deadlines_of_an_old_attempt_do_not_touch_the_next():
    """An attempt that was retried is not expired by the deadline of the one before."""
    history = (*EXECUTING, fail(), fire("retry", "1", 30), offer(2), ack(attempt=2))
    given(*history).when(fire("lease", "1", 9999)).nothing()
    given(*history).when(fire("ack", "2", 9999)).nothing()


def test_a_vote_that_came_first_leaves_the_deadline_nothing_to_do():
    """A review that was decided does not time out."""
    given(*IN_PLAN_REVIEW, cast()).when(fire("review", "plan:1", DUE)).nothing()
    returned = (*IN_PLAN_REVIEW, cast("revise", items=("one",)), offer(2), ack(attempt=2))
    second = submit_plan("d", frozenset({"i1"}), attempt=2)
    given(*returned, second).when(fire("review", "plan:1", 9999)).nothing()


@pytest.mark.parametrize("outcome", ["block", "escalate"])
def test_a_review_that_times_out_still_waits_for_a_person(outcome: str):
    """After a block or an escalation the plan is under review as before, without a deadline, and can be approved."""
    timed_out = given(*reviewed_by(deadline_seconds=DEADLINE_SECONDS, on_timeout=outcome)).and_then(
        fire("review", "plan:1", DUE)
    )
    assert ("plan_review", True, ()) == (
        timed_out.task.phase,
        timed_out.task.plan.timed_out,
        deadlines(timed_out.task),
    )
    assert None is waiting_for(timed_out.task).deadline
    assert "ready" == timed_out.and_then(cast()).task.phase


@pytest.mark.parametrize("risk", ["low", "medium"])
def test_a_plan_that_proceeds_by_default_is_nobodys_act(risk: str):
    """Where policy lets a plan proceed, the approval is marked as defaulted and names no approver."""
    asked = {"mode": "plan_first", "deadline_seconds": DEADLINE_SECONDS, "on_timeout": "proceed"}
    history = (create(risk=risk), admit(**asked), offer(), ack(), submit_plan())
    assert "proceed" == waiting_for(given(*history).task).default
    after = (
        given(*history)
        .when(fire("review", "plan:1", DUE))
        .then(
            e.ReviewTimedOut(subject="plan", version=1, digest=digest("a"), outcome="proceed"),
            e.PlanApproved(
                version=1, digest=digest("a"), approvers=(), bundle="sha256:" + "b" * 64, defaulted=True
            ),
        )
    )
    assert ("ready", "execute", ()) == (
        after.task.phase,
        after.task.next_step,
        after.task.authorisation.approvers,
    )


def test_a_vote_that_was_not_enough_is_not_made_up_by_the_deadline():
    """Half a quorum does not appear as the approver of what proceeded by default."""
    asked = {"deadline_seconds": DEADLINE_SECONDS, "on_timeout": "proceed"}
    task = given(*reviewed_by(quorum=2, **asked), cast(), fire("review", "plan:1", DUE)).task
    assert ("ready", ()) == (task.phase, task.authorisation.approvers)


@pytest.mark.parametrize("risk", ["high", "critical"])
def test_nothing_risky_ever_proceeds_by_default(risk: str):
    """Above the risk ceiling a review blocks, whatever policy says, and the task says so beforehand."""
    asked = {"mode": "plan_first", "deadline_seconds": DEADLINE_SECONDS, "on_timeout": "proceed"}
    history = (create(risk=risk), admit(**asked), offer(), ack(), submit_plan())
    assert "block" == waiting_for(given(*history).task).default
    after = (
        given(*history)
        .when(fire("review", "plan:1", DUE))
        .then(e.ReviewTimedOut(subject="plan", version=1, digest=digest("a"), outcome="block"))
    )
    assert ("plan_review", None) == (after.task.phase, after.task.authorisation)


def test_a_result_never_proceeds_by_default():
    """A result whose review times out is not accepted by nobody, and its history does not say so."""
    asked = {"result_review": True, "deadline_seconds": DEADLINE_SECONDS, "on_timeout": "proceed"}
    history = (create(), admit(**asked), offer(), ack(), submit_result())
    after = (
        given(*history)
        .when(fire("review", "result:1", DUE))
        .then(e.ReviewTimedOut(subject="result", version=1, digest=digest("c"), outcome="block"))
    )
    assert "result_review" == after.task.phase
    assert "completed" == after.and_then(accept()).task.phase


@pytest.mark.parametrize("phase", sorted(LIVE))
def test_what_waits_with_a_deadline_says_what_happens_at_it(phase: str):
    """Whoever reads what a task waits for sees the same deadline as the timer, and its default."""
    task = given(*PHASES[phase]).task
    waiting = waiting_for(task)
    assert waiting.owner
    assert waiting.what
    assert [d.at for d in deadlines(task)] == ([waiting.deadline] if waiting.deadline else [])
    assert (waiting.deadline is None) == (waiting.default is None)


def test_a_result_under_review_says_which_evidence_is_missing():
    """The reviewer sees which criteria nobody has shown to be met."""
    history = (
        create(acceptance=(Criterion(id="tests", text="Pass"),)),
        admit(),
        offer(),
        ack(),
        submit_result(),
    )
    assert "(evidence is missing for: tests): /accept r1@cccccccc" in waiting_for(given(*history).task).what
