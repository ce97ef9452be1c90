"""The caps: what was returned or replanned too often goes on only afresh."""

import pytest
from tests.domain.kit import (
    DIRECT,
    PLANNED,
    Given,
    Step,
    accept,
    ack,
    cast,
    fail,
    given,
    offer,
    submit_plan,
    submit_result,
)

from agentic_os.domain import commands as c
from agentic_os.domain.attempts import REPLAN_CAP
from agentic_os.domain.reviews import REVISION_CAP, REWORK_CAP
from agentic_os.domain.waiting import waiting_for

RETRY = c.Retry(by="rita", reason="")
ITEMS = frozenset({"i1"})


def returned(attempt: int, subject: str) -> tuple[Step, ...]:
    """Go once through an attempt whose work is sent back."""
    content = "abcdef"[attempt % 6]
    begun = (offer(attempt), ack(attempt=attempt))
    if subject == "plan":
        work = submit_plan(content, answers=ITEMS, attempt=attempt)
        vote = cast("revise", version=attempt, content=content, items=("more",))
    else:
        work = submit_result(content, answers=ITEMS, attempt=attempt)
        vote = accept(vote="revise", version=attempt, content=content, items=("more",))
    return (*begun, work, vote)


def over(subject: str) -> Given:
    """Bring a task over the cap of a subject."""
    if subject != "replans":
        history = PLANNED if subject == "plan" else DIRECT
        cap = REVISION_CAP if subject == "plan" else REWORK_CAP
        return given(*history, *(step for n in range(1, cap + 2) for step in returned(n, subject)))
    task = given(*PLANNED)
    for round_ in range(REPLAN_CAP + 1):
        plan, execute = 2 * round_ + 1, 2 * round_ + 2
        content = "abcdef"[round_]
        task = task.and_then(
            offer(plan),
            ack(attempt=plan),
            submit_plan(content, attempt=plan),
            cast(version=round_ + 1, content=content),
            offer(execute),
            ack(attempt=execute),
            fail("plan_infeasible", attempt=execute),
        )
    return task


@pytest.mark.parametrize("subject", ["plan", "result", "replans"])
def test_over_a_cap_only_a_fresh_retry_goes_on(subject: str):
    """A plain retry is refused with the line that would do, and that line does."""
    stopped = over(subject)
    assert "input_required" == stopped.task.phase
    refusal = stopped.when(RETRY).refused("replan_cap")
    assert ("/retry fresh", "replan_cap") == (refusal.next, refusal.rule)
    assert "/retry fresh" in waiting_for(stopped.task).what
    fresh = stopped.and_then(c.Retry(by="rita", reason="", fresh=True)).task
    assert ("ready", 0, 0, 0) == (fresh.phase, fresh.revisions, fresh.reworks, fresh.replans)


def test_what_waits_for_another_reason_is_retried_as_before():
    """A task that never passed a cap, or was sent on afresh since, is retried without more."""
    again = over("plan").and_then(
        c.Retry(by="rita", reason="", fresh=True), c.RequireInput(reason="Nobody."), RETRY
    )
    assert "ready" == again.task.phase
    assert "ready" == given(*DIRECT, c.RequireInput(reason="Nobody."), RETRY).task.phase
