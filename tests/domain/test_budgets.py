"""What a task spends of budgets and of time: pure, and each of it counted once."""

from typing import Any

import pytest
from tests.domain.kit import (
    DIRECT,
    ack,
    admit,
    at,
    create,
    fail,
    fire,
    given,
    heartbeat,
    offer,
    quarantine,
    submit_result,
)

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.attempts import over_budget
from agentic_os.domain.budgets import Amounts, Budgets, Ceiling, renewal, scope_of
from agentic_os.domain.documents import Budget, Reservation, Usage
from agentic_os.domain.spending import remaining
from agentic_os.domain.task import REMEMBERED_REFUSALS, Spender
from agentic_os.domain.waiting import deadlines

COST = Ceiling(account="cost:project:p", limit=100)
TOKENS = Ceiling(account="tokens:day:2030-01-01", limit=200)
LIMITED = (create(budget=Budget(wall_seconds=100)), *DIRECT[1:])


def charge(number: int = 1, call: str = "refused", **usage: int) -> c.ChargeRefusal:
    """Charge what a refused heartbeat had spent."""
    return c.ChargeRefusal(
        executor="ada",
        attempt=number,
        callback_id=call,
        kind="heartbeat",
        code="seq_stale",
        usage=Usage(**usage),
    )


@pytest.mark.parametrize(
    ("budget", "allowance", "amounts"),
    [
        (Budget(), Amounts(), (0, 0)),
        (Budget(), Amounts(cost_microusd=5), (5, 0)),
        (Budget(cost_microusd=9), Amounts(cost_microusd=5, tokens=6), (9, 6)),
        (Budget(cost_microusd=0, tokens=3), Amounts(cost_microusd=5), (0, 3)),
    ],
)
def test_what_is_reserved(budget: Budget, allowance: Amounts, amounts: tuple[int, int]):
    """The task's own budget goes before what policy thinks of an attempt, in each unit by itself."""
    opened = given(create(budget=budget), admit()).and_then(
        offer(ceilings=(COST, TOKENS), allowance=allowance)
    )
    assert amounts == tuple(h.amount for h in opened.task.attempt.held)
    assert {COST.account: 0, TOKENS.account: 0} == opened.task.charged


def test_usage_moves_from_reserved_to_spent_and_never_below_nothing():
    """What is left of a reservation shrinks by what is spent, in the account's unit, and ends with the attempt."""
    opened = offer(ceilings=(COST, TOKENS), allowance=Amounts(cost_microusd=10, tokens=10))
    begun = given(create(), admit(), opened, ack())
    usage = Usage(cost_microusd=4, input_tokens=7, output_tokens=8)
    spent = begun.and_then(heartbeat(usage=usage)).task
    assert {COST.account: 6, TOKENS.account: 0} == remaining(spent.attempt)
    assert {COST.account: 4, TOKENS.account: 15} == spent.charged
    assert "attempt 1, tokens 15 of 10" == over_budget(spent)
    closed = begun.and_then(heartbeat(usage=usage), fail(seq=3)).task
    assert ({}, "") == (remaining(closed.attempt), over_budget(closed))


def test_a_task_with_no_accounts_has_no_reservation():
    """Without budgets in policy an offer is what it always was."""
    assert () == given(*DIRECT, offer(allowance=Amounts(tokens=5))).task.attempt.held


def test_a_refusal_is_charged_once_under_its_id():
    """Again it books nothing, with more only the difference, and accepted only what is beyond."""
    begun = given(*DIRECT, offer(), ack(), charge(cost_microusd=3))
    begun.when(charge(cost_microusd=3)).nothing()
    begun.when(charge(cost_microusd=2)).nothing()
    more = begun.and_then(charge(cost_microusd=5, tool_calls=1))
    assert Usage(cost_microusd=5, tool_calls=1) == more.task.spent
    accepted = more.and_then(heartbeat(callback_id="refused", usage=Usage(cost_microusd=6, tool_calls=1)))
    assert Usage(cost_microusd=6, tool_calls=1) == accepted.task.spent
    accepted.when(charge(cost_microusd=9)).nothing()


def test_the_memory_of_refusals_is_bounded():
    """The oldest refusal is forgotten first, and then charged again."""
    history: list[Any] = [charge(call=f"c{n}", tool_calls=1) for n in range(REMEMBERED_REFUSALS + 1)]
    task = given(*DIRECT, offer(), ack(), *history)
    assert REMEMBERED_REFUSALS == len(task.task.refused)
    task.when(charge(call="c1", tool_calls=1)).nothing()
    assert REMEMBERED_REFUSALS + 2 == task.and_then(charge(call="c0", tool_calls=1)).task.spent.tool_calls


def test_nobody_is_charged_for_the_attempt_of_another():
    """A refusal books on the attempt of its sender, open or closed, and on no other."""
    begun = given(*DIRECT, offer(), ack(), fail(), fire("retry", "1", 99), offer(2, "bob"))
    assert 1 == begun.and_then(charge(1, tool_calls=1)).task.spent.tool_calls
    for number in (2, 3):
        begun.when(charge(number, tool_calls=1)).nothing()


def test_what_is_spent_is_known_by_executor():
    """Whatever an executor spends is its own, late or refused, over all of its attempts, with the model named last."""
    usage = Usage(input_tokens=1, cost_microusd=10)
    begun = given(
        *DIRECT, offer(), ack(usage=usage, model="small"), fail(usage=usage), fire("retry", "1", 99)
    )
    second = begun.and_then(offer(2, "bob"), ack(attempt=2, executor="bob"), charge(1, input_tokens=5))
    third = second.and_then(
        heartbeat(attempt=2, executor="bob", usage=usage, model="large"),
        heartbeat(attempt=2, executor="bob", usage=usage, seq=3),
    ).task
    assert {
        "ada": Spender(usage=Usage(input_tokens=7, cost_microusd=20), model="small"),
        "bob": Spender(usage=Usage(input_tokens=2, cost_microusd=20), model="large"),
    } == third.spenders
    assert third.spent == third.spenders["ada"].usage.plus(third.spenders["bob"].usage)


def test_each_wait_is_noted_once_and_ends_with_the_day_or_an_offer():
    """Waiting for the same budget again is no news; another one is, and an attempt ends the wait."""
    day = c.AwaitBudget(scope="day:2030-01-01", until=at(43_200))
    waits = given(*DIRECT, day)
    assert [("budget", at(43_200))] == [(d.kind, d.at) for d in deadlines(waits.task)]
    waits.when(day).nothing()
    waits.when(fire("budget", "day:2030-01-01", 43_199)).nothing()
    waits.when(c.AwaitBudget(scope="project:p", until=None)).then(
        e.BudgetAwaited(scope="project:p", until=None)
    )
    assert () == deadlines(waits.and_then(c.AwaitBudget(scope="project:p", until=None)).task)
    assert None is waits.and_then(offer()).task.awaited


def test_an_attempt_falls_under_the_budget_of_its_executor():
    """The executor's own budget goes before that of every other, and each counts by itself."""
    budgets = Budgets(executor={"ada": Amounts(tokens=5), "*": Amounts(cost_microusd=7)})
    assert (Ceiling(account="tokens:executor:ada", limit=5),) == budgets.ceilings("p", "ada", at(0))
    assert (Ceiling(account="cost:executor:bob", limit=7),) == budgets.ceilings("p", "bob", at(0))
    assert (None, "executor:bob") == (renewal("executor:bob"), scope_of("cost:executor:bob"))


def test_scopes_and_their_renewal():
    """Only the accounts of budgets have a scope, and only a day's is renewed by itself, at midnight."""
    assert ("project:a:b", None) == (scope_of("cost:project:a:b"), scope_of("capacity:ada"))
    assert (None, at(43_200)) == (renewal("project:2030-01-01"), renewal("day:2030-01-01"))


@pytest.mark.parametrize(
    ("closing", "seconds"),
    [
        (fail(seq=3, generation=2, seconds=40), 30),
        (submit_result(seq=3, generation=2, seconds=40.5), 31),
        (fire("lease", "1", 5000), 902),
        (c.Cancel(by="rita", reason="", at=at(25)), 15),
        (c.Cancel(by="rita", reason=""), 902),
        (c.Reassign(assignee="bob", reason="", at=at(25)), 15),
    ],
)
def test_the_time_of_an_attempt_is_booked_when_it_closes(closing: c.Command, seconds: int):
    """From its first ack to its end, whatever ends it, in whole seconds, and not beyond its lease."""
    twice = (offer(), ack(), ack(seq=2, seconds=12))
    assert seconds == given(*LIMITED, *twice, closing).task.wall_spent
    assert 0 == given(*DIRECT, *twice, closing).task.wall_spent


def test_wall_time_adds_up_over_attempts():
    """The second attempt has what the first one left, its deadline says so, and one not acknowledged spends none."""
    second = given(*LIMITED, offer(), ack(), fail(seconds=40), fire("retry", "1", 60), offer(2, seconds=60))
    assert ["ack"] == [d.kind for d in deadlines(second.task)]
    begun = second.and_then(ack(attempt=2, seconds=70))
    assert [("lease", at(970)), ("wall", at(140))] == [(d.kind, d.at) for d in deadlines(begun.task)]
    begun.when(fire("wall", "1", 150)).nothing()
    begun.when(fire("wall", "2", 139)).nothing()
    over = begun.and_then(fire("wall", "2", 141))
    assert ("input_required", "expired", 101) == (
        over.task.phase,
        over.task.attempt.state,
        over.task.wall_spent,
    )
    over.when(heartbeat(attempt=2, seq=2, seconds=142)).refused("lease_lost")
    assert 1 == len(over.and_then(quarantine(attempt=2)).task.quarantined)


def test_reservations_of_closed_attempts_name_their_accounts():
    """What an attempt that is long over spent late is booked on the accounts that it fell under."""
    first = offer(ceilings=(COST,), allowance=Amounts(cost_microusd=10))
    history = (*DIRECT, first, ack(), fail(), fire("retry", "1", 99), offer(2))
    assert (COST.account,) == given(*history).task.past[0].accounts
    assert {COST.account: 4} == given(*history, charge(1, cost_microusd=4)).task.charged


def test_the_reservation_says_under_which_limit():
    """The event holds the account, the amount and the limit that it was granted under."""
    given(*DIRECT).when(offer(ceilings=(COST,), allowance=Amounts(cost_microusd=10))).then(
        e.DispatchAllowed(
            attempt=1,
            bundle=offer().verdict.bundle,
            rules=("rule",),
            reasons=("because",),
            facts=offer().verdict.facts,
            facts_digest=offer().facts_digest,
        ),
        e.AttemptOffered(
            attempt=1,
            executor="ada",
            step="execute",
            brief=offer().brief,
            brief_digest=offer().brief_digest,
            bundle=offer().verdict.bundle,
            ack_deadline=offer().ack_deadline,
            lease_seconds=offer().lease_seconds,
        ),
        e.BudgetReserved(attempt=1, reservations=(Reservation(account=COST.account, amount=10, limit=100),)),
    )
