"""The cost book: what trackers were told of spending, and what may have been told."""

import asyncio
from datetime import timedelta

import pytest

from agentic_os.clock import now
from agentic_os.control_plane import Cost
from agentic_os.domain.documents import Usage
from agentic_os.domain.task import Spender
from agentic_os.postgres.cost_book import PostgresCostBook
from agentic_os.postgres.pool import Pool

LARGE = 2**60


@pytest.fixture
def book(pool: Pool) -> PostgresCostBook:
    """Give the cost book as the application has it."""
    return PostgresCostBook(pool)


def spender(cost: int = 0, tokens: int = 0, model: str | None = None) -> Spender:
    """Say what somebody spent so far."""
    return Spender(
        usage=Usage(cost_microusd=cost, input_tokens=tokens, output_tokens=tokens, tool_calls=9), model=model
    )


async def reported(book: PostgresCostBook, task_id: str, spent: Spender, account: str = "a1") -> Cost:
    """Draw the next report of ada, which there is."""
    cost = await book.report("memory", task_id, "ada", spent, account)
    assert cost is not None
    return cost


async def test_the_difference_is_reported_and_comes(book: PostgresCostBook) -> None:
    """Amounts add up to what was spent, also very large ones, and only what came counts as told."""
    first = await reported(book, "t1", spender(5, 1))
    assert {} == await book.told("memory", "t1")
    await book.came("memory", "t1", "ada")
    second = await reported(book, "t1", spender(LARGE, 3, "m"))
    await book.came("memory", "t1", "ada")
    assert None is await book.report("memory", "t1", "ada", spender(LARGE, 3), "a1")
    assert [(5, 1, 1, 0, ""), (LARGE - 5, 2, 2, 5, "m")] == [
        (c.cost_microusd, c.input_tokens, c.output_tokens, c.before, c.model) for c in (first, second)
    ]
    told = Usage(cost_microusd=LARGE, input_tokens=3, output_tokens=3)
    assert {"ada": told} == await book.told("memory", "t1")
    assert {} == await book.told("memory", "t2") == await book.told("board", "t1")


async def test_what_may_have_come_is_repeated_as_it_was(book: PostgresCostBook) -> None:
    """Until it is known that a report came, it is the next one, with its account and its instant."""
    first = await reported(book, "t1", spender(5))
    assert first == await reported(book, "t1", spender(50, 5), "a2")
    await book.came("memory", "t1", "ada")
    assert (45, "a2") == (
        (rest := await reported(book, "t1", spender(50, 5), "a2")).cost_microusd,
        rest.account,
    )


async def test_what_was_refused_may_be_another_account_s(book: PostgresCostBook) -> None:
    """A report that had no effect goes to the executor's account of then, and its reason is kept until it came."""
    since = now() - timedelta(minutes=1)
    first = await reported(book, "t1", spender(5))
    await book.refused("memory", "t1", "ada", "NotFound: gone")
    assert [("t1", "ada", "NotFound: gone")] == [
        (r.task_id, r.executor, r.problem) for r in await book.refusals("memory", since, 5)
    ]
    assert [] == await book.refusals("memory", now() + timedelta(minutes=1), 5)
    again = await reported(book, "t1", spender(5), "a2")
    assert (first.at, 5, "a2") == (again.at, again.cost_microusd, again.account)
    assert again == await reported(book, "t1", spender(5), "a3")
    await book.came("memory", "t1", "ada")
    assert [] == await book.refusals("memory", since, 5)


async def test_no_two_reports_of_an_executor_share_an_instant(book: PostgresCostBook) -> None:
    """Of many tasks at once, each report has a millisecond of its own, and begins where another one ends."""
    costs = await asyncio.gather(*(reported(book, f"t{n}", spender(7)) for n in range(20)))
    assert 20 == len({cost.at for cost in costs})
    assert {0} == {cost.at.microsecond % 1000 for cost in costs}
    assert [7 * n for n in range(20)] == sorted(cost.before for cost in costs)


async def test_nothing_spent_is_nothing_to_report(book: PostgresCostBook) -> None:
    """Calls of tools are no costs, and less than was told is none either."""
    assert None is await book.report("memory", "t1", "ada", spender(), "a1")
    await reported(book, "t1", spender(5))
    await book.came("memory", "t1", "ada")
    assert None is await book.report("memory", "t1", "ada", spender(3), "a1")
