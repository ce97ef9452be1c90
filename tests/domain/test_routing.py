"""Who gets a task: whoever has what it needs, the weakest and least busy of them first."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from tests.domain.kit import ack, admit, cast, create, ended, fail, fire, given, offer, submit_plan

from agentic_os.domain import commands as c
from agentic_os.domain.policy import Reviewers
from agentic_os.domain.routing import Candidate, Needs, missing, needs_of, preference, tier_above

IDLE = Candidate(name="m", tier=1, load=0, capacity=4)
TIERS = st.none() | st.integers(0, 4)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"author": True, "tier": 9, "load": 4, "name": "z"}, {}),
        ({"tier": None, "load": 4, "name": "z"}, {}),
        ({"tier": 0, "load": 4, "name": "z"}, {}),
        ({"load": 2, "capacity": 20, "name": "z"}, {"load": 1, "capacity": 4}),
        ({"load": 3, "capacity": None, "name": "z"}, {"load": 1, "capacity": 4}),
        ({"load": 1, "capacity": None, "name": "z"}, {"load": 2, "capacity": None}),
        ({"load": 1, "capacity": 2, "name": "z"}, {"load": 2, "capacity": 4}),
        ({"name": "a"}, {}),
    ],
    ids=["author", "no tier", "lower tier", "share", "no limit", "load", "load of one share", "name"],
)
def test_each_reason_goes_before_all_that_come_after_it(first: dict[str, Any], second: dict[str, Any]):
    """The plan's author, then the lowest tier, the share of capacity in use, the load, the name."""
    found = [replace(IDLE, **first), replace(IDLE, **second)]
    for order in permutations(found):
        assert found == sorted(order, key=preference)


@pytest.mark.parametrize(
    ("needs", "capabilities", "tier", "met"),
    [
        (Needs(), (), None, True),
        (Needs(capabilities=("gpu",)), ("sql", "gpu"), None, True),
        (Needs(capabilities=("gpu", "sql")), ("gpu",), 9, False),
        (Needs(tier=2), (), 2, True),
        (Needs(tier=2), ("gpu",), 1, False),
        (Needs(tier=0), (), None, False),
        (Needs(tier=0), (), 0, True),
    ],
)
def test_needs_are_met_by_all_capabilities_and_at_least_the_tier(
    needs: Needs, capabilities: tuple[str, ...], tier: int | None, met: Any
):
    """A tier that nobody said is below every other."""
    assert met == needs.met_by(capabilities, tier)


@pytest.mark.parametrize(
    ("offered", "expected", "words"),
    [
        (
            [],
            Needs(capabilities=("gpu", "sql"), tier=2),
            "the capabilities gpu and sql, and tier 2 or higher",
        ),
        ([(("gpu",), 3)], Needs(capabilities=("sql",)), "the capability sql"),
        ([(("gpu", "sql"), 1)], Needs(tier=2), "tier 2 or higher"),
        (
            [(("gpu", "sql"), 1), ((), 2)],
            Needs(capabilities=("gpu", "sql"), tier=2),
            "the capabilities gpu and sql, and tier 2 or higher",
        ),
    ],
)
def test_what_is_missing_is_what_nobody_has(offered: Any, expected: Needs, words: str):
    """Where each need is met by somebody, but never together, all of them are missing."""
    found = missing(Needs(capabilities=("gpu", "sql"), tier=2), offered)
    assert (expected, words) == (found, str(found))


@drawn(TIERS, TIERS)
def test_the_tier_above_is_met_by_the_higher_ones_only(failed: int | None, other: int | None):
    """Above a tier that nobody said is any that somebody did."""
    higher = (-1 if other is None else other) > (-1 if failed is None else failed)
    assert higher == Needs(tier=tier_above(failed)).met_by((), other)


def test_an_offer_is_held_to_what_policy_asks_of_the_executor():
    """An executor without the capability, or below the tier, gets no attempt, whoever chose it; a reviewer may."""
    asked = given(
        create(),
        admit(
            mode="plan_first",
            capabilities=("gpu",),
            tier=2,
            reviewers=Reviewers(role="qa", by="anyone"),
        ),
    )
    assert Needs(capabilities=("gpu",), tier=2) == needs_of(asked.task)
    asked.when(offer(tier=2)).refused("not_permitted")
    refusal = asked.when(offer(tier=1, capabilities=("gpu",))).refused("not_permitted")
    assert "the capability gpu, and tier 2 or higher" in refusal.message
    fits = {"tier": 3, "capabilities": ("sql", "gpu")}
    reviewed = asked.and_then(offer(**fits), ack(), submit_plan(), offer(2, "bob"))
    assert ("plan_review", "bob") == (reviewed.task.phase, reviewed.task.attempt.executor)
    approved = asked.and_then(offer(**fits), ack(), submit_plan(), cast())
    approved.when(offer(2, "eve")).refused("not_permitted")
    assert "dispatched" == approved.and_then(offer(2, "eve", **fits)).task.phase


@drawn(
    asked=TIERS,
    rounds=st.lists(st.tuples(TIERS, st.sampled_from(["retry", "stronger_tier"])), min_size=1, max_size=4),
    following=TIERS,
)
def test_after_a_stronger_tier_was_asked_for_no_weaker_one_gets_an_attempt(
    asked: int | None, rounds: list[tuple[int | None, Any]], following: int | None
):
    """Whatever else comes between: nobody at or below the highest that failed so, until it is cleared."""
    task, least, number = given(create(), admit(tier=asked)), asked, 1
    for tier, then in rounds:
        if not Needs(tier=least).met_by((), tier):
            task.when(offer(number, tier=tier)).refused("not_permitted")
            continue
        failed = fail("tool", attempt=number, ruling=ended(then))
        task = task.and_then(offer(number, tier=tier), ack(attempt=number), failed)
        if then == "stronger_tier":
            least = tier_above(tier)
        if task.task.phase != "retry_wait":
            return
        held = (c.ReleaseHold(by="rita", reason=""),) if task.task.holds else ()
        task = task.and_then(*held, fire("retry", str(number), 9999))
        number += 1
    if Needs(tier=least).met_by((), following):
        assert "dispatched" == task.and_then(offer(number, tier=following)).task.phase
    else:
        task.when(offer(number, tier=following)).refused("not_permitted")


@pytest.mark.parametrize(
    "clearing",
    [
        c.Reassign(assignee=None, reason="/reassign"),
        c.Reassign(assignee="ada", reason="/reassign @ada"),
        c.Retry(by="rita", reason="fresh", fresh=True),
    ],
)
def test_a_reassignment_and_a_fresh_start_let_the_weaker_try_again(clearing: c.Command):
    """As they do for executors that were set aside; a plain retry does not."""
    failed = given(create(), admit(), offer(tier=1), ack(), fail("tool", ruling=ended("stronger_tier")))
    assert 2 == failed.task.least_tier
    again = failed.and_then(c.Retry(by="rita", reason="", fresh=False))
    assert ("ready", 2) == (again.task.phase, again.task.least_tier)
    again.when(offer(2, tier=1)).refused("not_permitted")
    cleared = failed.and_then(clearing)
    assert ("ready", None) == (cleared.task.phase, cleared.task.least_tier)
    assert "dispatched" == cleared.and_then(offer(2, tier=1)).task.phase


def test_a_task_that_is_ready_is_cleared_too():
    """A reassignment to nobody new is no repeat while weaker executors are ruled out."""
    ready = given(
        create(),
        admit(),
        offer(tier=1),
        ack(),
        fail("tool", ruling=ended("stronger_tier")),
        fire("retry", "1", 99),
    )
    assert ("ready", 2) == (ready.task.phase, ready.task.least_tier)
    clearing = c.Reassign(assignee=None, reason="/reassign")
    assert ready.and_then(clearing).task.least_tier is None
    ready.and_then(clearing).when(clearing).nothing()


def test_a_plan_that_was_found_infeasible_is_made_anew_by_a_stronger_one():
    """The approval is void as ever, and the weaker are ruled out."""
    planned = (create(), admit(mode="plan_first"), offer(tier=1), ack(), submit_plan(), cast())
    failed = fail("plan_infeasible", attempt=2, ruling=ended("stronger_tier"))
    task = given(*planned, offer(2, tier=1), ack(attempt=2), failed).task
    assert ("ready", 2, None) == (task.phase, task.least_tier, task.authorisation)
