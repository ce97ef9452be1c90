"""What rules say of plans, results, questions and ends of attempts: it can only get stricter, and caps hold."""

from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from tests.domain.documents import anything_of
from tests.domain.kit import (
    AUTHORISED,
    DEADLINE_SECONDS,
    EXECUTING,
    EXECUTING_PLAN,
    OMAR,
    PHASES,
    RITA,
    accept,
    ack,
    admit,
    at,
    cast,
    create,
    ended,
    fail,
    fire,
    given,
    offer,
    person,
    ruling,
    sender,
    submit_plan,
    submit_result,
)

from agentic_os.domain import commands as c
from agentic_os.domain.attempts import RETRY_CAP
from agentic_os.domain.documents import RANKS, Criterion, Evidence
from agentic_os.domain.policy import (
    REVIEWER_ROLES,
    THENS,
    Obligations,
    Reviewers,
    Rule,
    RuleSet,
    combine,
)
from agentic_os.domain.task import Task
from agentic_os.domain.waiting import waiting_for

ASKED = st.builds(
    Obligations,
    mode=anything_of(Obligations.__annotations__["mode"]),
    reviewers=st.builds(Reviewers, role=st.sampled_from(REVIEWER_ROLES), quorum=st.integers(1, 20)),
    deadline_seconds=st.none() | st.integers(1, 10**6),
    on_timeout=st.sampled_from(("proceed", "escalate", "block")),
    evidence=st.dictionaries(st.sampled_from(["*", "a", "b"]), st.sampled_from(RANKS)),
    result_review=st.booleans(),
    bare_approve=st.booleans(),
    independent_human=st.booleans(),
    bar_requester=st.none() | st.booleans(),
    capabilities=st.just(()),  # what an executor must have is of the task, and not of what it hands in
)


def facts_of(task: Task) -> dict[str, Any]:
    """Give what of a task tells how it was ruled."""
    return {"phase": task.phase, "excluded": task.excluded, "authorised": task.authorisation is not None}


@drawn(of_task=ASKED, of_rules=st.lists(ASKED, min_size=1, max_size=3))
def test_what_holds_for_a_submission_is_never_looser_than_what_holds_for_its_task(
    of_task: Obligations, of_rules: list[Obligations]
):
    """Whatever rules ask of a plan, joining the task's obligations once more changes nothing."""
    rules = tuple(Rule(id=str(n), on="plan.submitted", obligations=o) for n, o in enumerate(of_rules))
    policy = RuleSet(bundle="b", rules=rules, defaults=Obligations(deadline_seconds=1))
    said = c.Ruling(verdict=policy.decide("plan.submitted", {}), facts_digest="d")
    planned = combine(of_task, Obligations(mode="plan_first", on_timeout="proceed", bare_approve=True))
    admitted = admit()
    admission = c.AdmitTask(
        verdict=type(admitted.verdict)(
            hook="task.received",
            decision="allow",
            rules=(),
            reasons=(),
            bundle="b",
            obligations=planned,
            facts={},
        ),
        facts_digest="d",
    )
    task = given(create(), admission, offer(), ack(), submit_plan(ruling=said)).task
    assert combine(planned, task.required) == task.required
    for one in of_rules:
        assert combine(one, task.required) == task.required


def test_the_defaults_of_a_later_policy_say_nothing_of_a_submission():
    """Only rules do: what holds for every task was said when it was received."""
    policy = RuleSet(bundle="b", rules=(), defaults=Obligations(result_review=True, deadline_seconds=1))
    verdict = policy.decide("result.submitted", {"task.mode": "plan_first"})
    assert ((), None, False) == (
        verdict.rules,
        verdict.obligations.deadline_seconds,
        verdict.obligations.result_review,
    )


def test_a_denied_plan_is_refused_and_leaves_nothing():
    """The refusal names the rule and its reason; the attempt may send another plan."""
    denied = ruling("plan.submitted", "deny")
    planning = given(*PHASES["planning"])
    refusal = planning.when(submit_plan(ruling=denied)).refused("policy_denied")
    assert ("rule", True) == (refusal.rule, "because" in refusal.message)
    assert "plan_review" == planning.and_then(submit_plan("b", seq=3)).task.phase


def test_a_plan_that_needs_two_is_not_approved_by_one():
    """The quorum of the submission counts, and the next version has its own."""
    two = ruling("plan.submitted", reviewers=Reviewers(quorum=2))
    asked = given(*PHASES["planning"], submit_plan(ruling=two))
    assert "2 approval(s)" in waiting_for(asked.task).what
    one = asked.and_then(cast())
    assert "plan_review" == one.task.phase
    assert "ready" == one.and_then(cast(voter=OMAR)).task.phase
    revised = asked.and_then(cast("revise", items=("x",)), offer(2), ack(attempt=2))
    again = submit_plan("b", attempt=2, answers=frozenset({"i1"}))
    assert "ready" == revised.and_then(again, cast(version=2, content="b")).task.phase


def test_a_result_that_needs_better_evidence_does_not_complete_itself():
    """The rank that rules ask for this result counts, at its submission and while it is under review."""
    claim = Evidence(criterion_id="tests", rank="self_reported", claimed="self_reported", status="pass")
    criteria = (Criterion(id="tests", text="They pass."),)
    history = (create(acceptance=criteria), admit(), offer(), ack())
    assert "completed" == given(*history, submit_result(evidence=(claim,))).task.phase
    stricter = ruling("result.submitted", evidence={"*": "observed"})
    asked = given(*history, submit_result(evidence=(claim,), ruling=stricter))
    assert "evidence is missing for: tests" in waiting_for(asked.task).what


def test_whoever_asked_for_a_task_is_barred_from_approving_it_where_policy_says_so():
    """Rita asked for the task; omar may approve it."""
    barred = (create(), admit(mode="plan_first", bar_requester=True), offer(), ack(), submit_plan())
    given(*barred).when(cast(voter=RITA)).refused("self_review")
    assert "ready" == given(*barred, cast("revise", voter=RITA, items=("x",))).task.phase
    assert "ready" == given(*barred, cast(voter=OMAR)).task.phase
    free = (create(), admit(mode="plan_first", bar_requester=False), offer(), ack(), submit_plan())
    assert "ready" == given(*free, cast(voter=RITA)).task.phase
    result = ruling("result.submitted", bar_requester=True)
    given(*EXECUTING, submit_result(ruling=result)).when(accept(voter=RITA)).refused("self_review")


@pytest.mark.parametrize(
    ("values", "joined"),
    [
        ((None, None), None),
        ((None, False), False),
        ((False, None), False),
        ((False, True), True),
        ((True, None), True),
    ],
)
def test_to_bar_the_requester_wins(values: tuple[Any, Any], joined: Any):
    """True wins over false, and what is said over what is not."""
    first, second = (Obligations(bar_requester=value) for value in values)
    assert joined == combine(first, second).bar_requester


def test_a_default_that_was_switched_off_does_not_happen():
    """The deadline passes and the review waits on; the next version has its default again."""
    history = (
        create(),
        admit(mode="plan_first", deadline_seconds=DEADLINE_SECONDS, on_timeout="proceed"),
        offer(),
        ack(),
        submit_plan(),
    )
    off = c.SwitchOffDefault(by="omar", reason="/default off")
    late = fire("review", "plan:1", 20 + DEADLINE_SECONDS)
    assert "ready" == given(*history, late).task.phase
    waits = given(*history, off)
    assert "block" == waiting_for(waits.task).default
    assert "plan_review" == waits.and_then(late).task.phase
    second = submit_plan("b", attempt=2, answers=frozenset({"i1"}))
    again = waits.and_then(cast("revise", items=("x",)), offer(2), ack(attempt=2), second)
    assert "proceed" == waiting_for(again.task).default


@pytest.mark.parametrize(
    "history",
    [
        EXECUTING,
        AUTHORISED,
        (create(), admit(mode="plan_first"), offer(), ack(), submit_plan()),
        (create(), admit(mode="plan_first", deadline_seconds=9), offer(), ack(), submit_plan()),
    ],
)
def test_where_nothing_happens_by_itself_there_is_no_default_to_switch_off(history: tuple[Any, ...]):
    """No review, no deadline, or one that blocks anyway."""
    given(*history).when(c.SwitchOffDefault(by="omar", reason="")).refused("wrong_phase")


@pytest.mark.parametrize(
    ("failure", "retryable", "said", "expected"),
    [
        ("budget", True, "retry", "retry_wait"),
        ("internal", False, "retry", "retry_wait"),
        ("internal", False, "other_executor", "retry_wait"),
        ("internal", False, "stronger_tier", "retry_wait"),
        ("internal", False, "default", "failed"),
        ("internal", False, None, "failed"),
        ("internal", False, "person", "input_required"),
        ("budget", True, None, "dead_letter"),
        ("transient", True, "replan", "retry_wait"),
    ],
)
def test_policy_says_what_becomes_of_a_failure(failure: str, retryable: Any, said: Any, expected: str):
    """What is built in holds where no rule matches, and where there is no plan to make anew."""
    failed = fail(failure, retryable=retryable, ruling=ended(said))
    task = given(*EXECUTING, failed).task
    assert expected == task.phase
    assert (("ada",) if said == "other_executor" else ()) == task.excluded


def test_a_policy_that_cannot_be_evaluated_leaves_it_to_a_person():
    """The gate fails closed: nothing is tried again under rules that nobody can read."""
    assert "input_required" == given(*EXECUTING, fail(ruling=ended(None, "deny"))).task.phase


@pytest.mark.parametrize("said", ["retry", "other_executor", "stronger_tier"])
def test_no_rule_retries_for_ever(said: Any):
    """A class of failure has its hard cap, after which the task is dead-lettered."""
    task = given(*EXECUTING)
    for number in range(1, RETRY_CAP + 1):
        who = {"attempt": number, "executor": f"e{number}" if number > 1 else "ada"}
        failed = fail("internal", retryable=False, ruling=ended(said), **who)
        task = task.and_then(failed)
        assert "retry_wait" == task.task.phase, number
        held = (c.ReleaseHold(by="rita", reason=""),) if task.task.holds else ()
        following = {"attempt": number + 1, "executor": f"e{number + 1}"}
        offered = offer(**following, tier=number)
        task = task.and_then(*held, fire("retry", str(number), 9999), offered, ack(**following))
    last = fail("internal", ruling=ended(said), attempt=RETRY_CAP + 1, executor=f"e{RETRY_CAP + 1}")
    assert "dead_letter" == task.and_then(last).task.phase


def test_a_plan_that_was_found_infeasible_is_not_carried_out_again():
    """To retry it, or to plan anew, is what happens anyway; another executor may be asked for the new plan."""
    for said in ("retry", "replan"):
        task = given(*EXECUTING_PLAN, fail("plan_infeasible", attempt=2, ruling=ended(said))).task
        assert {"phase": "ready", "excluded": (), "authorised": False} == facts_of(task)
        assert 1 == task.replans
    other = fail("plan_infeasible", attempt=2, ruling=ended("other_executor"))
    task = given(*EXECUTING_PLAN, other).task
    assert {"phase": "ready", "excluded": ("ada",), "authorised": False} == facts_of(task)


def test_replans_by_policy_count_towards_their_cap():
    """After three plans anew a person is asked, whoever wanted them."""
    task = given(*AUTHORISED)
    for round_ in range(4):
        number = 2 * round_ + 2
        failed = fail("tool", attempt=number, ruling=ended("replan"))
        task = task.and_then(offer(number), ack(attempt=number), failed)
        if round_ < 3:
            assert "ready" == task.task.phase
            content, version = "bde"[round_], round_ + 2
            plan = submit_plan(content, attempt=number + 1)
            task = task.and_then(offer(number + 1), ack(attempt=number + 1), plan)
            task = task.and_then(cast(version=version, content=content))
    assert "input_required" == task.task.phase


def test_a_missed_ack_is_ruled_as_a_failure_is():
    """Silence has a class too: the one who was silent is set aside, or a person is asked."""
    offered = given(create(), admit(), offer())
    task = offered.and_then(fire("ack", "1", 300, said=ended("other_executor"))).task
    assert ("retry_wait", ("ada",)) == (task.phase, task.excluded)
    offered.and_then(fire("retry", "1", 1)).when(fire("ack", "1", 299, said=ended("person"))).nothing()


def test_a_reviewers_failure_is_none_of_these():
    """It leaves the task where it is: another reviewer is asked, and no rule is on record."""
    reviewing = (
        create(),
        admit(mode="plan_first", reviewers=Reviewers(role="qa", by="anyone")),
        offer(),
        ack(),
        submit_plan(),
        offer(2, "bob", seconds=30),
        ack(attempt=2, executor="bob", seconds=40),
    )
    failed = fail(attempt=2, executor="bob", seconds=60, ruling=ended("person"))
    after = given(*reviewing, failed).task
    assert ("plan_review", ("bob",)) == (after.phase, after.plan.passed)


def test_only_whom_policy_asks_may_answer():
    """The role of the question, or an administrator; the task says whom it waits for."""
    said = ruling("escalation.raised", ask="reviewer")
    asked = given(*EXECUTING, c.Escalate(**sender(), question="Which?", blocking=True, ruling=said))
    assert "role:reviewer" == waiting_for(asked.task).owner
    answer = {"by": "x", "question_id": "q1", "text": "That one."}
    asked.when(c.Answer(**answer, roles=frozenset({"operator"}))).refused("not_permitted")
    for role in ("reviewer", "admin"):
        assert "ready" == asked.and_then(c.Answer(**answer, roles=frozenset({role}))).task.phase


def test_of_several_rules_the_strictest_end_and_the_highest_role_count():
    """The order of the actions and of the roles is the lattice; no rule, no word."""
    ends = tuple(Rule(id=t, on="attempt.ended", then=t) for t in reversed(THENS))
    for count in range(1, len(ends) + 1):
        policy = RuleSet(bundle="b", rules=ends[-count:])
        assert THENS[count - 1] == policy.decide("attempt.ended", {}).then
    asks = tuple(Rule(id=r, on="escalation.raised", ask=r) for r in ("admin", "operator", "reviewer"))
    assert "admin" == RuleSet(bundle="b", rules=asks).decide("escalation.raised", {}).ask
    assert "reviewer" == RuleSet(bundle="b", rules=asks[1:]).decide("escalation.raised", {}).ask
    nothing = RuleSet(bundle="b", rules=()).decide("attempt.ended", {})
    assert (None, None) == (nothing.then, nothing.ask)


def test_an_adopted_plan_is_ruled_as_a_live_one():
    """What came late is no way around a rule."""
    history = (*PHASES["planning"], fire("lease", "1", 910))
    kept = c.Quarantine(
        quarantine_id="q",
        attempt=1,
        callback_id="late",
        kind="plan",
        reason="lease_lost",
        body={},
        at=at(920),
    )
    late = submit_plan(ruling=ruling("plan.submitted", "deny"))
    adopt = c.Adopt(quarantine_id="q", by="rita", reason="Good.", late=late)
    given(*history, kept).when(adopt).refused("policy_denied")


def test_a_person_of_the_lineage_gains_nothing_by_a_rule():
    """Separation is code: a submission with a quorum of one is still not approved by whoever made it."""
    said = ruling("plan.submitted", reviewers=Reviewers(quorum=1))
    given(*PHASES["planning"], submit_plan(ruling=said)).when(cast(voter=person("ada", "reviewer"))).refused(
        "self_review"
    )
