"""What lies over any phase: a start to come, a due date, freezes and breakers; each says what moves the task next."""

import itertools
from dataclasses import replace

import pytest
from tests.domain.kit import (
    DIRECT,
    EXECUTING,
    LIVE,
    PHASES,
    Step,
    ack,
    admit,
    at,
    create,
    fail,
    fire,
    given,
    heartbeat,
    offer,
    submit_result,
)

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.waiting import Deadline, deadlines, waiting_for

FREEZE = c.FreezeTask(until=at(600), rule="year-end", reason="The books are closed.")
HOLD = c.PutOnHold(by="rita", reason="")
LATE = e.TaskOverdue(due=at(60), on_due="escalate")
ASKED = "It was due at 2030-01-01 12:01 UTC, and policy wants an operator to decide."


def due(seconds: float = 60, on_due: str = "notify") -> tuple[Step, ...]:
    """Ask for work that is due then, and let it in."""
    admitted = admit(result_review=True)
    verdict = replace(admitted.verdict, on_due="escalate" if on_due == "escalate" else "notify")
    return (create(due=at(seconds)), replace(admitted, verdict=verdict))


def test_a_start_that_is_to_come_keeps_attempts_closed():
    """Before its start a task is ready and not offered; its deadline lets it be, once."""
    waiting = given(create(not_before=at(60)), admit())
    assert "ready" == waiting.task.phase
    assert (Deadline(kind="not_before", ref="task", at=at(60)),) == deadlines(waiting.task)
    assert ("system", "its start", at(60), "it is dispatched") == tuple(
        getattr(waiting_for(waiting.task), name) for name in ("owner", "what", "deadline", "default")
    )
    waiting.when(offer()).refused("wrong_phase")
    waiting.when(fire("not_before", "task", 59.9)).nothing()
    begun = waiting.when(fire("not_before", "task", 60)).then(e.StartReached(not_before=at(60)))
    assert () == deadlines(begun.task)
    begun.when(fire("not_before", "task", 61)).nothing()
    assert "dispatched" == begun.and_then(offer()).task.phase


def test_a_start_that_has_passed_already_keeps_nothing():
    """A start before the request is kept with the task, and needs no deadline."""
    task = given(create(not_before=at(-1)), admit()).task
    assert (at(-1), False, ()) == (task.not_before, task.deferred, deadlines(task))


@pytest.mark.parametrize("phase", sorted(LIVE))
def test_a_task_is_overdue_once_in_whatever_phase(phase: str):
    """At its due date a live task is said to be late, once, and what is under way stays under way."""
    before = given(*_with_due(PHASES[phase]))
    assert Deadline(kind="due", ref="task", at=at(5000)) in deadlines(before.task)
    before.when(fire("due", "task", 4999)).nothing()
    after = before.when(fire("due", "task", 5000)).then(e.TaskOverdue(due=at(5000), on_due="notify"))
    assert (phase, True) == (after.task.phase, after.task.overdue)
    assert "due" not in {d.kind for d in deadlines(after.task)}
    after.when(fire("due", "task", 6000)).nothing()


@pytest.mark.parametrize("phase", sorted(frozenset(PHASES) - LIVE))
def test_what_has_ended_is_never_overdue(phase: str):
    """Nothing is due, frozen or deferred any more once a task has ended."""
    ended = given(*_with_due(PHASES[phase]))
    assert () == deadlines(ended.task)
    ended.when(fire("due", "task", 5000)).nothing()
    ended.when(FREEZE).nothing()


def _with_due(history: tuple[Step, ...]) -> tuple[Step, ...]:
    return (create(due=at(5000)), *history[1:])


@pytest.mark.parametrize("history", [(), (offer(), ack(), fail())], ids=["ready", "between two tries"])
def test_an_overdue_task_goes_to_an_operator_where_policy_asks_for_it(history: tuple[Step, ...]):
    """Where nothing runs, an operator is asked at once; asked once, the task goes on as they say."""
    late = given(*due(on_due="escalate"), *history)
    asked = late.when(fire("due", "task", 60)).then(LATE, e.InputRequired(reason=ASKED))
    assert ("input_required", "operator") == (asked.task.phase, waiting_for(asked.task).owner)
    again = asked.and_then(c.Retry(by="rita", reason="go on"))
    assert ("ready", False) == (again.task.phase, again.task.must_escalate)


def test_what_runs_is_not_stopped_because_it_is_late():
    """An overdue task that is worked on stays so, and is handed over when its attempt ends without a result."""
    late = given(*due(on_due="escalate"), offer(), ack(), fire("due", "task", 60))
    assert ("executing", True) == (late.task.phase, late.task.must_escalate)
    assert "result_review" == late.and_then(submit_result(seconds=70)).task.phase
    failed = late.and_then(fail(seconds=70), fire("retry", "1", 90))
    asked = failed.and_then(c.RequireInput(reason=ASKED)).task
    assert ("input_required", False) == (asked.phase, asked.must_escalate)


def test_a_freeze_stops_offers_and_nothing_that_runs():
    """Under a freeze no attempt is opened; an attempt under way goes on, and hands in its result."""
    frozen = given(*DIRECT, FREEZE)
    frozen.when(offer()).refused("wrong_phase")
    assert (Deadline(kind="freeze", ref="year-end", at=at(600)),) == deadlines(frozen.task)
    waiting = waiting_for(frozen.task)
    assert ("the end of the freeze year-end: The books are closed.", at(600)) == (
        waiting.what,
        waiting.deadline,
    )
    assert "result_review" == given(*EXECUTING, FREEZE, heartbeat(), submit_result(seq=3)).task.phase


def test_a_freeze_thaws_at_its_end_and_not_by_another_deadline():
    """The deadline of a freeze that was moved or replaced does nothing."""
    frozen = given(*DIRECT, FREEZE)
    frozen.when(fire("freeze", "year-end", 599)).nothing()
    frozen.when(fire("freeze", "other", 600)).nothing()
    moved = frozen.and_then(c.FreezeTask(until=at(900), rule="year-end", reason=""))
    moved.when(fire("freeze", "year-end", 600)).nothing()
    thawed = moved.and_then(fire("freeze", "year-end", 900))
    assert (None, at(900)) == (thawed.task.frozen, thawed.task.thawed_at)
    assert "dispatched" == thawed.and_then(offer()).task.phase


def test_a_breaker_holds_once_and_counts_anew_after_a_release():
    """A tripped breaker is a hold like any other; whoever releases it has the earlier attempts forgotten."""
    trip = c.TripBreaker(attempts=1, within_seconds=600)
    held = given(*DIRECT, offer(), ack(), fail(), fire("retry", "1", 30), trip)
    assert ["breaker"] == [h.cause for h in held.task.holds]
    held.when(trip).nothing()
    held.when(offer(2)).refused("wrong_phase")
    assert "operator" == waiting_for(held.task).owner
    assert 1 == held.and_then(c.ReleaseHold(by="rita", reason="")).task.counted_from


OVERLAYS = (HOLD, FREEZE, fire("due", "task", 5000), e.StartDeferred(not_before=at(9000)))


@pytest.mark.parametrize("phase", sorted(LIVE))
def test_a_live_task_always_says_what_moves_it(phase: str):
    """In every live phase, under every combination of overlays, somebody or something is named, with its default."""
    for count in range(len(OVERLAYS) + 1):
        for over in itertools.combinations(OVERLAYS, count):
            task = given(*_with_due(PHASES[phase]), *over).task
            waiting = waiting_for(task)
            assert waiting is not None
            assert waiting.owner
            assert waiting.what
            assert (waiting.deadline is None) == (waiting.default is None)
            assert waiting.deadline is None or waiting.deadline in {d.at for d in deadlines(task)}
