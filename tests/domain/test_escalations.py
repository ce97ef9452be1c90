"""Questions of executors: what a person's answer does, and what their silence does."""

from dataclasses import replace
from typing import Any

import pytest
from tests.domain.kit import (
    DEADLINE_SECONDS,
    EXECUTING,
    PLANNED,
    Given,
    ack,
    admit,
    create,
    fail,
    fire,
    given,
    offer,
    quarantine,
    sender,
    submit_result,
)

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.documents import Option
from agentic_os.domain.waiting import deadlines, waiting_for

THREE, FIVE = Option(id="three", label="3 tries"), Option(id="five", label="5 tries")


def ask(*, blocking: bool = True, default: str | None = None, **changes: Any) -> c.Escalate:
    """Ask which limit."""
    return c.Escalate(
        **sender(**{"seq": 2} | changes),
        question="Which limit?",
        blocking=blocking,
        options=(THREE, FIVE),
        default_option=default,
    )


def answer(text: str = "three", question_id: str = "q1") -> c.Answer:
    """Answer the first question."""
    return c.Answer(by="rita", question_id=question_id, text=text)


def test_nobodys_lease_runs_while_a_person_thinks():
    """A blocking question closes its attempt, and the task waits for a person who is named the line to write."""
    asked = given(*EXECUTING, ask())

    assert ("input_required", "submitted") == (asked.task.phase, asked.task.attempt.state)
    assert ["escalation"] == [d.kind for d in deadlines(asked.task)]
    waiting = waiting_for(asked.task)
    assert ("operator", True) == (waiting.owner, "/answer q1 three|five" in waiting.what)
    asked.when(sender_heartbeat()).refused("wrong_phase")


def sender_heartbeat() -> c.Heartbeat:
    """Call back after the question."""
    return c.Heartbeat(**sender(seq=3))


@pytest.mark.parametrize("text", ["three", "THREE", " 3 tries "])
def test_an_answer_opens_a_new_attempt_and_costs_no_retry(text: str):
    """An option may be named by its id or its words; the task is ready again, and no retry is counted."""
    answered = given(*EXECUTING, ask()).when(answer(text))

    ready = answered.then(
        e.EscalationAnswered(question_id="q1", option="three", text=text, by="rita", defaulted=False)
    )
    assert ("ready", {}, ()) == (ready.task.phase, ready.task.retries, ready.task.questions)
    assert ["three"] == [a.option for a in ready.task.answers]
    ready.when(answer(text)).nothing()
    assert "executing" == ready.and_then(offer(2), ack(attempt=2)).task.phase


@pytest.mark.parametrize(
    ("text", "question", "code"), [("seven", "q1", "items_required"), ("three", "q9", "wrong_phase")]
)
def test_what_is_no_answer_is_refused_with_the_line_to_write(text: str, question: str, code: str):
    """A word that is no option, and a question that is not open, are refused and change nothing."""
    refusal = given(*EXECUTING, ask()).when(answer(text, question)).refused(code)

    assert refusal.next in ("/answer q1 three|five", "/status")


def test_a_question_in_passing_does_not_stop_the_work():
    """A question that does not block renews the lease; its answer is kept for the next brief."""
    asked = given(*EXECUTING, ask(blocking=False))
    assert ("executing", "running") == (asked.task.phase, asked.task.attempt.state)

    answered = asked.and_then(answer("five"))
    assert ("executing", "five") == (answered.task.phase, answered.task.answers[0].option)


@pytest.mark.parametrize(
    ("on_timeout", "risk", "default", "outcome"),
    [
        ("proceed", "low", "three", "ready"),
        ("block", "low", "three", "input_required"),
        ("proceed", "high", "three", "input_required"),
        ("proceed", "low", None, "input_required"),
    ],
)
def test_a_default_stands_in_only_where_policy_permits(
    on_timeout: str, risk: str, default: str | None, outcome: str
):
    """The executor's own default answers at the deadline only under `proceed` and the ceiling; it is nobody's act."""
    history = (
        create(risk=risk),
        admit(on_timeout=on_timeout, deadline_seconds=DEADLINE_SECONDS),
        offer(),
        ack(),
    )
    asked = given(*history, ask(default=default))
    asked.when(fire("escalation", "q1", DEADLINE_SECONDS)).nothing()

    passed = asked.and_then(fire("escalation", "q1", 20 + DEADLINE_SECONDS))

    assert outcome == passed.task.phase
    assert () == deadlines(passed.task)
    if outcome == "ready":
        assert [("", True)] == [(a.by, a.defaulted) for a in passed.task.answers]
    else:
        assert "ready" == passed.and_then(answer()).task.phase
    passed.when(fire("escalation", "q1", 30 + DEADLINE_SECONDS)).nothing()


def test_a_vote_that_came_first_wins():
    """A deadline that fires after the answer does nothing."""
    answered = given(*EXECUTING, ask(default="three"), answer("five"))

    answered.when(fire("escalation", "q1", 20 + DEADLINE_SECONDS)).nothing()


def test_whoever_sends_the_task_on_withdraws_its_question():
    """A retry or a reassignment goes on without an answer, which then can no longer be given."""
    for command in (c.Retry(by="rita", reason=""), c.Reassign(assignee="bob", reason="")):
        moved = given(*EXECUTING, ask(), command)
        assert ("ready", ()) == (moved.task.phase, moved.task.questions)
        moved.when(answer()).refused("wrong_phase")


def test_a_question_while_planning_leads_back_to_planning():
    """The attempt after the answer is for the step that asked."""
    answered = given(*PLANNED, offer(), ack(), ask(), answer(), offer(2), ack(attempt=2))

    assert "planning" == answered.task.phase


def test_an_end_ends_its_questions():
    """No deadline of a question outlives the task, and nobody answers to what has ended."""
    for history in ((*EXECUTING, ask()), (*EXECUTING, ask(blocking=False))):
        over = given(*history, c.Cancel(by="rita", reason=""))
        assert () == deadlines(over.task)
        over.when(fire("escalation", "q1", 30 + DEADLINE_SECONDS)).nothing()
        over.when(answer()).refused("wrong_phase")


def test_an_answer_in_passing_lifts_no_other_need_of_a_person():
    """A question that did not stop the task does not set it going when something else needs a person."""
    asked = given(*EXECUTING, ask(blocking=False), fail("plan_infeasible", seq=3)).task
    assert "ready" == asked.phase
    needed = Given(replace(asked, phase="input_required", waits="Nobody is left."))

    assert ("input_required", "Nobody is left.") == (
        needed.and_then(answer()).task.phase,
        needed.and_then(answer()).task.waits,
    )


def test_an_adoption_leaves_no_question_behind():
    """What was adopted makes the question of the attempt before it void."""
    late = (
        quarantine(),
        c.Adopt(quarantine_id="q", by="rita", reason="Good.", late=submit_result(generation=0)),
    )
    adopted = given(*EXECUTING, ask(), *late)

    assert ("result_review", ()) == (adopted.task.phase, adopted.task.questions)
