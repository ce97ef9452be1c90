"""Holds: no attempt is opened while one stands, whoever put it there."""

from tests.domain.kit import DIRECT, EXECUTING, PHASES, ack, fail, fire, given, offer, submit_result

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.waiting import waiting_for

HOLD = c.PutOnHold(by="rita", reason="Release freeze.")
RELEASE = c.ReleaseHold(by="rita", reason="Thawed.")


def test_a_held_task_is_not_dispatched():
    """No attempt is opened under a hold, and everybody is told what would release it."""
    held = given(*DIRECT).when(HOLD).then(e.TaskHeld(reason="Release freeze.", by="rita", cause="operator"))

    held.when(offer()).refused("wrong_phase")
    assert "/unhold" in waiting_for(held.task).what
    held.when(HOLD).nothing()
    assert "dispatched" == held.and_then(RELEASE, offer()).task.phase


def test_a_hold_takes_nothing_from_an_attempt_under_way():
    """What runs may report its result: paid work is not thrown away."""
    held = given(*EXECUTING, HOLD, submit_result())

    assert "result_review" == held.task.phase


def test_releasing_nothing_changes_nothing():
    """A release without a hold is no event."""
    given(*DIRECT).when(RELEASE).nothing()


def test_what_has_ended_cannot_be_held():
    """A hold is for live tasks."""
    given(*PHASES["completed"]).when(HOLD).refused("wrong_phase")
    given(*EXECUTING, HOLD, c.Cancel(by="rita", reason="")).when(RELEASE).refused("wrong_phase")


def stuck(failure: str, message: str, attempt: int, seconds: float) -> c.ReportFailure:
    """Fail in these words."""
    command = fail(failure, attempt=attempt, seconds=seconds)
    return c.ReportFailure(
        **{f: getattr(command, f) for f in command.__dataclass_fields__} | {"message": message}
    )


def again(attempt: int, seconds: float) -> tuple[c.Command, ...]:
    """Try once more."""
    return (
        fire("retry", str(attempt - 1), seconds),
        offer(attempt, seconds=seconds),
        ack(attempt=attempt, seconds=seconds + 1),
    )


def test_no_progress_holds_instead_of_looping():
    """Two failures in a row in the same class and words, with nothing in between, put the task on hold."""
    once = given(*EXECUTING, stuck("tool", "npm: not found", 1, 30), *again(2, 100))

    held = once.and_then(stuck("tool", "npm: not found", 2, 110))

    assert ("retry_wait", ["system"]) == (held.task.phase, [h.by for h in held.task.holds])
    on = held.and_then(fire("retry", "2", 900))
    on.when(offer(3, seconds=900)).refused("wrong_phase")
    assert "dispatched" == on.and_then(RELEASE, offer(3, seconds=901)).task.phase


def test_other_words_or_passing_troubles_are_no_standstill():
    """Another message is progress of a kind, and what passes by waiting may repeat."""
    for failure, words in (("tool", "npm: EACCES"), ("provider", "npm: not found")):
        history = (*EXECUTING, stuck(failure, "npm: not found", 1, 30), *again(2, 100))
        assert () == given(*history, stuck(failure, words, 2, 110)).task.holds
