"""Attempts: the fence, the token's generations, the order of callbacks, and the ways in which one ends."""

from dataclasses import replace

import pytest
from tests.domain.kit import (
    DIRECT,
    EXECUTING,
    EXECUTING_PLAN,
    LIVE,
    PHASES,
    PLANNED,
    ack,
    admit,
    at,
    cast,
    create,
    decline,
    fail,
    fire,
    given,
    heartbeat,
    offer,
    quarantine,
    sender,
    submit_plan,
    submit_result,
)

from agentic_os.domain import commands as c
from agentic_os.domain.attempts import REPLAN_CAP, RETRY_BUDGET
from agentic_os.domain.decide import decide
from agentic_os.domain.documents import Budget, Usage

CANCEL = c.Cancel(by="rita", reason="No.")
REASSIGN = c.Reassign(assignee="bob", reason="/reassign bob")


# The fence


@pytest.mark.parametrize("number", [0, 2, 3])
def test_attempts_are_opened_in_order_and_one_at_a_time(number: int):
    """Only the next number opens an attempt."""
    given(*DIRECT).when(offer(number)).refused("wrong_phase")


def test_an_open_attempt_lets_no_other_be_opened():
    """While one executor has the task, neither the same nor another number is offered to anybody else."""
    for number in (1, 2):
        given(*DIRECT, offer()).when(offer(number, "bob")).refused("wrong_phase")


def test_an_offer_made_for_an_older_state_is_refused():
    """An executor that was chosen before the task was reassigned, or that declined it, is not offered it."""
    given(*DIRECT, REASSIGN).when(offer(executor="ada")).refused("not_permitted")
    given(*DIRECT, offer(), decline()).when(offer(2, "ada")).refused("not_permitted")
    assert "dispatched" == given(*DIRECT, REASSIGN, offer(executor="bob")).task.phase
    to_a_role = c.Reassign(assignee="role:writer", reason="")
    assert "dispatched" == given(*DIRECT, to_a_role, offer(executor="ada")).task.phase


def test_an_offer_does_not_wait_for_any_executor_to_have_room():
    """Capacity is no business of the decider: the same offer is made however busy the executor is."""
    assert "dispatched" == given(*DIRECT, offer()).task.phase
    assert "capacity" not in c.OfferAttempt.__dataclass_fields__


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (fire("lease", "1", 910), "lease_lost"),
        (REASSIGN, "attempt_superseded"),
        (CANCEL, "attempt_superseded"),
        (submit_result(), "wrong_phase"),
        (fail(), "wrong_phase"),
        (fail(retryable=False), "wrong_phase"),
    ],
    ids=["expired", "reassigned", "cancelled", "submitted", "failed", "ended"],
)
@pytest.mark.parametrize(
    "late", [heartbeat(seq=9), submit_result(seq=9), submit_plan(seq=9), fail(seq=9), ack(seq=9)]
)
def test_a_closed_attempt_writes_no_more(end: c.Command, code: str, late: c.Command):
    """However an attempt ended, whatever it sends afterwards is refused, and with the code for that end."""
    given(*EXECUTING, end).when(late).refused(code)


def test_a_declined_attempt_writes_no_more():
    """Whoever declined cannot take the attempt after all."""
    given(*DIRECT, offer(), decline()).when(ack(seq=9)).refused("wrong_phase")


def test_an_attempt_is_refused_by_its_own_end_when_a_later_one_runs():
    """An old attempt hears how it ended, not how the current one stands."""
    lapsed = given(*EXECUTING, fire("lease", "1", 910), fire("retry", "1", 920), offer(2, "bob", seconds=920))
    lapsed.when(submit_result(seq=9, seconds=930)).refused("lease_lost")
    given(*EXECUTING, REASSIGN, offer(2, "bob")).when(submit_result(seq=9)).refused("attempt_superseded")


@pytest.mark.parametrize("command", [heartbeat, submit_result, submit_plan, fail, ack, decline])
def test_an_attempt_belongs_to_one_executor(command: object):
    """Nobody calls back for another's attempt, or for one that does not exist."""
    given(*EXECUTING).when(command(executor="eve")).refused("scope_denied")
    given(*EXECUTING).when(command(attempt=2)).refused("scope_denied")
    given(*DIRECT).when(command()).refused("scope_denied")


# Acknowledging


def test_an_attempt_starts_only_with_the_brief_that_it_was_sealed_with():
    """Another digest of the brief starts no work."""
    refusal = given(*DIRECT, offer()).when(ack(brief_digest="sha256:" + "0" * 64)).refused("brief_mismatch")
    assert ("/body/brief_digest",) == refusal.pointers


def test_an_attempt_starts_only_with_the_skills_in_force():
    """A workspace whose skills drifted starts no work."""
    refusal = given(*DIRECT, offer()).when(ack(skillset_digest="sha256:" + "0" * 64)).refused("skill_drift")
    assert ("/body/skillset_digest",) == refusal.pointers


def test_nothing_is_reported_before_the_acknowledgement():
    """An offered attempt has no token yet."""
    for command in (heartbeat(), submit_result(), fail()):
        given(*DIRECT, offer()).when(command).refused("scope_denied")


def test_a_started_attempt_cannot_be_declined():
    """After the acknowledgement there is only a failure."""
    given(*EXECUTING).when(decline(seq=9)).refused("wrong_phase")


def test_a_second_acknowledgement_replaces_the_token():
    """A process that started again gets the next generation, and the old one's token ends."""
    again = given(*EXECUTING, ack(seq=2, seconds=30))
    assert 2 == again.task.attempt.generation
    again.when(heartbeat(seq=3, generation=1)).refused("token_expired")
    assert "executing" == again.and_then(heartbeat(seq=3, generation=2)).task.phase


@pytest.mark.parametrize("generation", [0, 2, 9])
def test_a_token_of_another_generation_is_refused(generation: int):
    """Neither the executor's own credential nor a generation that never was may report."""
    given(*EXECUTING).when(heartbeat(generation=generation)).refused("token_expired")


def test_an_unsafe_task_is_handed_to_a_person():
    """A decline for safety stops the task until somebody looked."""
    assert "input_required" == given(*DIRECT, offer(), decline("unsafe")).task.phase


@pytest.mark.parametrize("reason", ["busy", "missing_capability", "brief_invalid"])
def test_a_decline_excludes_the_executor_and_no_other(reason: str):
    """The task is ready again without whoever declined it, until an operator reassigns it."""
    task = given(*DIRECT, offer(), decline(reason)).task
    assert ("ready", ("ada",)) == (task.phase, task.excluded)
    assert () == given(*DIRECT, offer(), decline(reason), c.Reassign(assignee=None, reason="")).task.excluded


# The order of callbacks and the lease


@pytest.mark.parametrize(("seq", "last_seq"), [(1, 0), (5, 0), (6, 6), (6, 9)])
def test_a_callback_out_of_order_is_refused_and_told_where_to_go_on(seq: int, last_seq: int):
    """A number at or below the last accepted one is stale, also when that one left no event."""
    refusal = (
        given(*EXECUTING, heartbeat(seq=5))
        .when(heartbeat(seq=seq, last_seq=last_seq, callback_id="other"))
        .refused("seq_stale")
    )
    assert (f"Continue with seq {max(5, last_seq) + 1}.", ("/seq",)) == (refusal.next, refusal.pointers)


def test_a_gap_in_the_order_is_accepted():
    """Lost numbers are no fault."""
    assert 7 == given(*EXECUTING, heartbeat(seq=7)).task.attempt.seq


def test_only_the_very_callback_counts_as_repeated():
    """The same id from another executor or attempt is no repetition."""
    history = given(*EXECUTING, heartbeat())
    history.when(heartbeat()).nothing()
    history.when(heartbeat(executor="eve", callback_id="ada-1-2")).refused("scope_denied")
    history.when(heartbeat(attempt=2, callback_id="ada-1-2")).refused("scope_denied")


@pytest.mark.parametrize(("seconds", "lost"), [(909, False), (910, True), (5000, True)])
def test_a_lease_that_has_passed_is_lost_before_any_timer_says_so(seconds: float, lost: bool):  # noqa: FBT001 - a case
    """At the instant that the lease names, the attempt may not write any more."""
    asked = given(*EXECUTING).when(submit_result(seconds=seconds))
    if lost:
        asked.refused("lease_lost")
    else:
        assert "result_review" == given(*EXECUTING, asked.command).task.phase


@pytest.mark.parametrize(
    "command",
    [
        heartbeat(seconds=100),
        c.ReportProgress(**sender(seconds=100), message="m"),
        c.Record(**sender(seconds=100), kind="tool_event", body={}),
        ack(seq=2, seconds=100),
    ],
)
def test_every_accepted_callback_renews_the_lease(command: c.Command):
    """A lease runs its full length from each accepted callback on."""
    assert at(1000) == given(*EXECUTING, command).task.attempt.lease_expires_at


def test_progress_is_kept_at_most_once_in_ten_seconds():
    """Progress soon after the last leaves no event; at ten seconds it does."""

    def progress(seq: int, seconds: float) -> c.ReportProgress:
        return c.ReportProgress(**sender(seq=seq, seconds=seconds), message="m")

    reported = given(*EXECUTING, progress(2, 20))
    reported.when(progress(3, 29.9)).nothing()
    assert at(30) == reported.and_then(progress(3, 30)).task.attempt.progress_at


def test_usage_adds_up():
    """What each callback says was spent is added to the task, also by the one that ends the attempt."""
    spent = Usage(input_tokens=1, output_tokens=2, cost_microusd=3, tool_calls=4)
    task = given(*EXECUTING, heartbeat(usage=spent), submit_result(seq=3, usage=spent)).task
    assert Usage(input_tokens=2, output_tokens=4, cost_microusd=6, tool_calls=8) == task.spent


@pytest.mark.parametrize("budget", [Budget(tokens=10), Budget(cost_microusd=10)])
def test_over_its_budget_an_attempt_may_only_finish(budget: Budget):
    """The callback that passes the limit is taken, later ones are refused, and a result or failure still counts."""
    spent = Usage(input_tokens=6, output_tokens=5, cost_microusd=11)
    history = (create(budget=budget), admit(result_review=True), offer(), ack())

    over = given(*history, heartbeat(usage=spent))

    over.when(heartbeat(seq=3)).refused("budget_exceeded")
    assert "result_review" == over.and_then(submit_result(seq=3)).task.phase
    failed = over.and_then(fail("tool", seq=3), c.Retry(by="rita", reason=""))
    assert "input_required" == failed.and_then(offer(2)).task.phase


# Retries


@pytest.mark.parametrize(
    ("failure", "budget"), [(f, b) for f, b in RETRY_BUDGET.items() if f not in ("ack", "lease")]
)
def test_each_class_of_failure_has_its_own_budget_and_then_a_dead_letter(failure: str, budget: int):
    """A task is retried as often as the class allows, waits longer each time, and then needs an operator."""
    history = EXECUTING
    for done in range(budget):
        task = given(*history, fail(failure, attempt=done + 1)).task
        expected = at(20 + min(10 * 2**done, 300))
        assert ("retry_wait", expected) == (task.phase, task.retry_at)
        broke = replace(fail(failure, attempt=done + 1), message=f"It broke differently, {done}.")
        history = (*history, broke, fire("retry", f"{done + 1}", 9999))
        history = (*history, offer(done + 2), ack(attempt=done + 2))
    assert "dead_letter" == given(*history, fail(failure, attempt=budget + 1)).task.phase


@pytest.mark.parametrize("failure", ["budget", "cancelled", "unheard of"])
def test_a_class_without_a_budget_is_never_retried(failure: str):
    """What is in no table of retries goes straight to an operator."""
    assert "dead_letter" == given(*EXECUTING, fail(failure)).task.phase


@pytest.mark.parametrize(
    ("jitter", "asked", "wait"), [(0.0, None, 10), (0.5, None, 11), (0.0, 60, 60), (0.0, 5, 10)]
)
def test_the_wait_before_a_retry_is_spread_and_heeds_the_executor(
    jitter: float, asked: int | None, wait: float
):
    """Jitter adds up to a fifth, and a longer wait that the executor asked for is kept."""
    task = given(*EXECUTING, fail(jitter=jitter, retry_after_seconds=asked)).task
    assert at(20 + wait) == task.retry_at


def test_no_executor_can_put_a_task_off_for_more_than_a_day():
    """An absurd wait is cut."""
    assert at(20 + 86_400) == given(*EXECUTING, fail(retry_after_seconds=2**53 - 1)).task.retry_at


def test_budgets_of_failures_are_counted_by_class():
    """One class's retries do not use up another's."""
    history = (*EXECUTING, fail("tool"), fire("retry", "1", 9999), offer(2), ack(attempt=2))
    history += (fail("environment", attempt=2), fire("retry", "2", 9999), offer(3), ack(attempt=3))
    assert {"tool": 2, "environment": 1} == given(*history, fail("tool", attempt=3)).task.retries


@pytest.mark.parametrize("what", ["ack", "lease"])
def test_missed_deadlines_have_a_budget_too(what: str):
    """Executors that never answer, or fall silent, end in a dead letter as well."""
    history, number = DIRECT, 1
    while given(*history).task.phase != "dead_letter":
        history += (offer(number),) if what == "ack" else (offer(number), ack(attempt=number))
        history += (fire(what, f"{number}", 9999), fire("retry", f"{number}", 99999))
        number += 1
    assert RETRY_BUDGET[what] + 2 == number


def test_a_redrive_goes_on_and_a_fresh_one_forgets_the_counts():
    """An operator's retry sends a dead letter on: with its counts, or with none."""
    dead = (
        *EXECUTING,
        fail("tool"),
        fire("retry", "1", 9999),
        offer(2),
        ack(attempt=2),
        fail("budget", attempt=2),
    )
    kept = given(*dead, c.Retry(by="rita", reason="")).task
    assert ("ready", {"tool": 1, "budget": 1}) == (kept.phase, kept.retries)
    fresh = given(*dead, c.Retry(by="rita", reason="", fresh=True)).task
    assert ("ready", {}, 2) == (fresh.phase, fresh.retries, fresh.attempt.number)


def test_a_task_that_is_not_stuck_cannot_be_retried():
    """A retry neither disturbs an attempt at work nor revives what has ended."""
    for phase in set(PHASES) - {"ready", "retry_wait", "dead_letter", "input_required"}:
        given(*PHASES[phase]).when(c.Retry(by="rita", reason="")).refused("wrong_phase")


# Replanning


def test_an_infeasible_plan_is_planned_again():
    """The authorisation ends, and the next attempt is for a plan that differs."""
    history = (*EXECUTING_PLAN, fail("plan_infeasible", attempt=2))
    task = given(*history).task
    assert ("ready", "plan", 1, None) == (task.phase, task.next_step, task.replans, task.authorisation)
    again = (*history, offer(3), ack(attempt=3))
    given(*again).when(submit_plan("a", attempt=3)).refused("plan_unchanged")
    assert "plan_review" == given(*again, submit_plan("d", attempt=3)).task.phase


def test_replans_end_with_a_person():
    """A plan found infeasible once too often hands the task to a person."""
    history, number = PLANNED, 1
    for replan in range(REPLAN_CAP + 1):
        content = f"{replan}"
        history += (offer(number), ack(attempt=number), submit_plan(content, attempt=number))
        history += (cast(version=replan + 1, content=content), offer(number + 1), ack(attempt=number + 1))
        history += (fail("plan_infeasible", attempt=number + 1),)
        number += 2
    assert "input_required" == given(*history).task.phase


# Budget, policy


def test_the_budget_of_attempts_is_the_last_word():
    """After the last attempt of the budget no retry opens another."""
    history = (create(budget=Budget(attempts=2)), *EXECUTING[1:], fail(), fire("retry", "1", 99), offer(2))
    history += (ack(attempt=2), fail(attempt=2), fire("retry", "2", 999), offer(3))
    assert "input_required" == given(*history).task.phase
    again = given(*history, c.Retry(by="rita", reason="", fresh=True), offer(3)).task
    assert ("input_required", 2) == (again.phase, again.attempt.number)


def test_policy_is_asked_again_before_every_dispatch():
    """A denial at dispatch stops an authorised task too, and an operator's retry asks once more."""
    stopped = given(*EXECUTING_PLAN, fail(attempt=2), fire("retry", "2", 30), offer(3, decision="deny"))
    assert ("input_required", "deny", 2) == (
        stopped.task.phase,
        stopped.task.ruling.decision,
        stopped.task.attempt.number,
    )
    assert "dispatched" == stopped.and_then(c.Retry(by="rita", reason=""), offer(3)).task.phase


# Steering


@pytest.mark.parametrize("phase", sorted(LIVE))
def test_a_cancel_ends_a_task_in_any_live_phase(phase: str):
    """An open attempt loses its right to write before the task ends, and what is under review is withdrawn."""
    task = given(*PHASES[phase]).task
    events = [event.type for event in decide(CANCEL, task)]
    at_work = task.attempt is not None and task.attempt.is_open
    assert (["attempt.superseded"] if at_work else []) + ["task.cancelled"] == events
    after = given(*PHASES[phase], CANCEL).task
    open_after = [s for s in (after.plan, after.result) if s is not None and s.state == "open"]
    assert ("cancelled", []) == (after.phase, open_after)


@pytest.mark.parametrize("phase", ["completed", "rejected", "failed"])
@pytest.mark.parametrize("command", [CANCEL, REASSIGN])
def test_what_has_ended_cannot_be_steered(phase: str, command: c.Command):
    """An ended task is neither cancelled nor reassigned."""
    given(*PHASES[phase]).when(command).refused("wrong_phase")


@pytest.mark.parametrize("phase", sorted(LIVE))
def test_a_reassignment_fences_the_old_executor_off(phase: str):
    """In any live phase the task gets its new assignee, no open attempt, and no dead end."""
    task = given(*PHASES[phase], REASSIGN).task
    assert "bob" == task.assignee
    assert task.attempt is None or not task.attempt.is_open
    assert task.phase in ("received", "ready", "plan_review", "result_review")


def test_a_reassignment_to_the_same_executor_lets_it_try_again():
    """Naming the assignee once more lifts its exclusion, and frees a stuck task."""
    to_ada = c.Reassign(assignee="ada", reason="")
    history = (create(assignee="ada"), admit(), offer(), decline())
    assert ("ready", ()) == (given(*history, to_ada).task.phase, given(*history, to_ada).task.excluded)
    stuck = (create(assignee="ada"), *EXECUTING[1:], fail("budget"))
    assert "ready" == given(*stuck, to_ada).task.phase


# Quarantine


def test_one_plan_and_one_result_of_a_closed_attempt_are_kept_aside():
    """The first late plan and result of an attempt are kept, a second of either is not, and the task stays as it is."""
    ended = given(*PHASES["completed"])
    kept = ended.and_then(quarantine(), quarantine(kind="plan", quarantine_id="r"))
    assert [(1, "result"), (1, "plan")] == [(q.attempt, q.kind) for q in kept.task.quarantined]
    assert replace(ended.task, version=kept.task.version, quarantined=kept.task.quarantined) == kept.task
    kept.when(quarantine(quarantine_id="s", callback_id="another")).nothing()


def test_what_was_quarantined_is_never_merged():
    """A quarantined result is no result of the task."""
    assert None is given(*DIRECT, offer(), CANCEL, quarantine()).task.result


def test_a_refusal_says_what_to_do_next():
    """A refusal has a code, a message and what would help."""
    refusal = given(*PHASES["completed"]).when(CANCEL).refused("wrong_phase")
    assert ("wrong_phase", "The task is already completed.") == (refusal.rule, str(refusal))
    assert "Create a new task if there is more to do." == refusal.next
