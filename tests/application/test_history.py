"""What is made of a task's moments: attempts, reviews, the fields that differ, and how a point in time is read."""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from tests.domain import kit

from agentic_os.application.history import Attempts, Reviews, changes, read_when, refusals
from agentic_os.application.ports import DirectiveReceipt, Moment, Recorded
from agentic_os.domain.decide import decide
from agentic_os.domain.evolution import evolve
from agentic_os.domain.task import Task


def moments(*steps: kit.Step) -> list[Moment]:
    """Play commands, each event a second after the last."""
    task: Task | None = None
    found: list[Moment] = []
    for step in steps:
        command: Any = step(task) if callable(step) and task else step
        for event in decide(command, task):
            task = evolve(task, event)
            recorded = Recorded(
                stream=task.id,
                version=task.version,
                event_id="e",
                type=event.type,
                actor="rita",
                reason="",
                cause="",
                at=kit.at(task.version),
                data=asdict(event),
                hash="",
            )
            found.append(Moment(event=recorded, task=task))
    return found


def gathered(found: Attempts | Reviews, history: Iterable[Moment]) -> list[dict[str, Any]]:
    """Take all of a history in."""
    for moment in history:
        found.note(moment)
    return found.rows()


def at_version(history: list[Moment], version: int) -> Task:
    """Pick the task as one event made it."""
    return history[version - 1].task


def instant_of(history: list[Moment], kind: str) -> datetime:
    """Find when the last event of a type was."""
    return [m.event.at for m in history if m.event.type == kind][-1]


async def test_attempts_tell_when_each_was_offered_and_closed() -> None:
    """Each attempt has its own times, brief and end, whatever closed it, and the open one has no end."""
    history = moments(*kit.AUTHORISED, kit.offer(2, "eve"), kit.ack(attempt=2, executor="eve"))
    first, second = gathered(Attempts(), history)
    assert {
        "number": 1,
        "executor": "ada",
        "step": "plan",
        "state": "submitted",
        "brief_digest": kit.BRIEF_DIGEST,
        "offered_at": kit.at(4),
        "closed_at": instant_of(history, "plan.submitted"),
        "tools": [],
    } == first
    assert (2, "eve", "execute", "acked", None) == tuple(
        second[name] for name in ("number", "executor", "step", "state", "closed_at")
    )


@pytest.mark.parametrize(
    ("last", "state"), [(kit.decline(), "declined"), (kit.fire("ack", "1", 301), "expired")]
)
async def test_an_attempt_that_came_to_nothing_is_listed(last: kit.Step, state: str) -> None:
    """An attempt that was declined or never acknowledged is closed by that event."""
    history = moments(*kit.DIRECT, kit.offer(), last)
    (attempt,) = gathered(Attempts(), history)
    assert (state, kit.at(5)) == (attempt["state"], attempt["closed_at"])


async def test_a_task_without_attempts_lists_none() -> None:
    """Before the first offer there are neither attempts nor reviews."""
    history = moments(*kit.DIRECT)
    assert [] == gathered(Attempts(), history)
    assert [] == gathered(Reviews(), history)


async def test_reviews_keep_each_version_and_the_votes_on_it() -> None:
    """A returned plan and the approved one after it are both listed, each with its own votes in the voters' words."""
    again = (kit.offer(2), kit.ack(attempt=2), kit.submit_plan("b", frozenset({"i1"}), attempt=2))
    approved = kit.cast(version=2, content="b", voter=kit.OMAR)
    history = moments(*kit.IN_PLAN_REVIEW, kit.cast("revise", items=("Smaller.",)), *again, approved)
    first, second = gathered(Reviews(), history)
    assert ("plan", 1, kit.digest("a"), "returned") == _head(first)
    assert ("plan", 2, kit.digest("b"), "approved") == _head(second)
    voted = [m.event.at for m in history if m.event.type == "plan.voted"]
    assert [{"voter": "rita", "vote": "revise", "words": "/revise", "at": voted[0]}] == first["votes"]
    assert [{"voter": "omar", "vote": "approve", "words": "/approve", "at": voted[1]}] == second["votes"]


def _head(review: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(review[name] for name in ("subject", "version", "digest", "state"))


async def test_plans_and_results_of_one_version_are_told_apart() -> None:
    """A vote on result 1 is not a vote on plan 1."""
    executing = (*kit.EXECUTING_PLAN, kit.submit_result(attempt=2))
    plan, result = gathered(Reviews(), moments(*executing, kit.accept(voter=kit.OMAR)))
    assert (["rita"], ["omar"]) == tuple([v["voter"] for v in r["votes"]] for r in (plan, result))
    assert ("result", "approved") == (result["subject"], result["state"])


async def test_changes_are_the_fields_that_differ_by_name() -> None:
    """Whole values are compared, sorted by field; versions and times of change are no fields of their own."""
    history = moments(*kit.IN_PLAN_REVIEW)
    before, after = at_version(history, 2), at_version(history, len(history))
    found = changes(before, after)
    names = [c["field"] for c in found]
    assert ["attempt", "phase", "plan", "waiting_for"] == names
    assert ("ready", "plan_review") == next((c["before"], c["after"]) for c in found if c["field"] == "phase")
    assert [] == changes(after, after)
    mirrored = [{"field": c["field"], "before": c["after"], "after": c["before"]} for c in found]
    assert mirrored == changes(after, before)


async def test_changes_tell_what_the_view_leaves_out() -> None:
    """What counts without being shown, such as the authorisation, the approvals and the retries, is compared too."""
    history = moments(*kit.AUTHORISED)
    before = next(m.task for m in history if m.event.type == "plan.submitted")
    found = {c["field"]: c for c in changes(before, history[-1].task)}
    assert ["rita"] == found["plan"]["after"]["approvals"]
    assert kit.digest("a") == found["authorisation"]["after"]["digest"]
    failed = moments(*kit.PHASES["retry_wait"])
    retried = {c["field"]: c["after"] for c in changes(failed[-2].task, failed[-1].task)}
    assert {"transient": 1} == retried["retries"]


async def test_only_refused_directives_are_refusals() -> None:
    """What was done is left out, and a stranger is nobody."""
    refused = DirectiveReceipt(
        id="1",
        task_id="t-1",
        verb="approve",
        text="/approve",
        outcome="refused",
        message="Name it.",
        at=kit.START,
        rule="confirmation_required",
        paste="/approve v1@aaaaaaaa",
    )
    done = DirectiveReceipt(
        id="2", task_id="t-1", verb="help", text="/help", outcome="done", message="", at=kit.START
    )
    assert [
        {
            "at": kit.START,
            "actor": None,
            "what": "/approve",
            "rule": "confirmation_required",
            "message": "Name it.",
            "paste": "/approve v1@aaaaaaaa",
        }
    ] == refusals([done, refused])


async def test_a_point_is_a_version_or_an_instant_with_its_zone() -> None:
    """Digits are a version, ISO 8601 with a zone is an instant."""
    assert 12 == read_when("12")
    assert datetime(2030, 1, 1, 12, tzinfo=UTC) == read_when("2030-01-01T12:00:00Z")
    east = timezone(timedelta(hours=2))
    assert datetime(2030, 1, 1, 12, tzinfo=east) == read_when("2030-01-01T12:00:00+02:00")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "1.5",
        "now",
        "2030-01-01",
        "2030-01-01T12:00:00",
        "2030-13-01T12:00:00Z",
        "\0",
        "9" * 5000,
    ],
)
async def test_anything_else_is_no_point(text: str) -> None:
    """No version, no instant, an instant without a zone, and digits without end are refused."""
    with pytest.raises(ValueError, match="neither a version"):
        read_when(text)
