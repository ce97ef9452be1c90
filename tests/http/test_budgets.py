"""Budgets over HTTP and the real store: reserved when an attempt opens, booked whatever becomes of a callback."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.conftest import Database, OpenBackend
from tests.desk import BODIES, Desk, assert_problem, callback, open_client, token

from agentic_os.application.handle import handle
from agentic_os.application.ports import Envelope
from agentic_os.clock import new_id, now
from agentic_os.domain import commands as c
from agentic_os.domain.budgets import Amounts, Budgets
from agentic_os.domain.policy import RuleSet

CENT = 10_000
PROJECT = "cost:project:payments"
DAY = "cost:day:"


def policy(**budgets: Any) -> RuleSet:
    """Give a policy of budgets and no rules."""
    return RuleSet(bundle="b", rules=(), budgets=Budgets(**budgets))


def spent(cost: int, **more: int) -> dict[str, int]:
    """Say what a callback says that it cost."""
    return {"input_tokens": 0, "output_tokens": 0, "cost_microusd": cost} | more


@pytest.fixture
async def desk(open_test_backend: OpenBackend, database: Database) -> AsyncIterator[Desk]:
    """Open a desk whose policy gives the project payments fifty cents, ten of them for an attempt."""
    limited = policy(
        project={"payments": Amounts(cost_microusd=50 * CENT)}, attempt=Amounts(cost_microusd=10 * CENT)
    )
    async with open_test_backend(policy=limited) as backend, open_client(backend) as client:
        found = Desk(backend, client, database.owner)
        await found.staff()
        await found.executor()
        yield found


async def accounts(desk: Desk) -> dict[str, tuple[int, int]]:
    """Read what is spent and reserved on each budget's account."""
    query = "select name, spent, reserved from es.account where name not like 'capacity:%%'"
    return {name: (used, held) for name, used, held in await desk.rows(query)}


async def waiting(desk: Desk, task_id: str) -> dict[str, Any]:
    """Ask what a task waits for."""
    return dict((await desk.show(f"/api/tasks/{task_id}"))["waiting_for"])


async def at_work(desk: Desk, **fields: Any) -> tuple[str, str]:
    """Have an executor at work for payments; give the task and the attempt's token."""
    task_id = await desk.task(project="payments", **fields)
    return task_id, await desk.ack(task_id)


async def fire(desk: Desk, task_id: str, kind: str, ref: str, at: datetime) -> None:
    """Let a deadline come, as the worker would when its instant is there."""
    command = c.FireDeadline(kind=kind, ref=ref, at=at)
    await handle(desk.backend.log, task_id, lambda _: command, Envelope(actor="system", at=at))
    await desk.work()


async def test_many_at_once_never_pass_the_budget(desk: Desk) -> None:
    """Of twenty tasks dispatched at once five are paid for, the others wait by name, and go on as those end."""
    wanted = {"title": "T", "goal": "G", "project": "payments"}
    made = [(await desk.post("/api/tasks", wanted, "olga")).json()["id"] for _ in range(20)]
    await asyncio.gather(*(desk.backend.dispatcher.advance(task_id) for task_id in made))
    await desk.work()

    phases = [await desk.phase(task_id) for task_id in made]
    assert (5, 15) == (phases.count("dispatched"), phases.count("ready"))
    assert {PROJECT: (0, 50 * CENT)} == await accounts(desk)
    idle = made[phases.index("ready")]
    assert ["budget:project:payments"] == list(await desk.backend.work.waits_of(idle))
    assert "budget of the project payments" in (await waiting(desk, idle))["what"]
    assert ["task.created", "task.allowed", "budget.awaited"] == await desk.events(idle)

    at_it = [t for t, phase in zip(made, phases, strict=True) if phase == "dispatched"]
    for task_id in at_it:
        attempt_token = await desk.ack(task_id)
        answer = await desk.send(callback("heartbeat", task_id, 1, 2, usage=spent(4 * CENT)), attempt_token)
        assert "continue" == answer.json()["directive"]
    assert {PROJECT: (20 * CENT, 30 * CENT)} == await accounts(desk)
    for task_id in at_it:
        await desk.direct(task_id, "/cancel")

    phases = [await desk.phase(task_id) for task_id in made]
    assert (3, 12) == (phases.count("dispatched"), phases.count("ready"))
    assert {PROJECT: (20 * CENT, 30 * CENT)} == await accounts(desk)


@pytest.mark.parametrize("end", ["result", "failure", "/cancel", "/reassign role:nobody", "lease", "decline"])
async def test_whatever_closes_an_attempt_gives_back_what_it_left(desk: Desk, end: str) -> None:
    """The reservation less what was spent comes back with a result, a failure, an operator's word or a deadline."""
    task_id = await desk.task(project="payments")
    assert {PROJECT: (0, 10 * CENT)} == await accounts(desk)
    if end == "decline":
        await desk.send(callback("decline", task_id, 1, 1, usage=spent(3 * CENT)), token("coder"))
    else:
        attempt_token = await desk.ack(task_id)
        await desk.send(callback("progress", task_id, 1, 2, usage=spent(3 * CENT)), attempt_token)
        assert {PROJECT: (3 * CENT, 7 * CENT)} == await accounts(desk)
    if end == "lease":
        await fire(desk, task_id, "lease", "1", now() + timedelta(hours=1))
    elif end.startswith("/"):
        await desk.direct(task_id, end)
    elif end != "decline":
        answer = await desk.send(callback(end, task_id, 1, 3), attempt_token)
        assert 202 == answer.status_code, answer.text
    assert {PROJECT: (3 * CENT, 0)} == await accounts(desk)


async def test_a_task_reserves_what_its_own_budget_has_left(desk: Desk) -> None:
    """The task's budget goes before what policy thinks of attempts; the second attempt reserves what the first left."""
    task_id, attempt_token = await at_work(desk, budget={"cost_microusd": 30 * CENT})
    assert {PROJECT: (0, 30 * CENT)} == await accounts(desk)
    failed = callback("failure", task_id, 1, 2, usage=spent(12 * CENT))
    await desk.send(failed, attempt_token)
    await desk.direct(task_id, "/retry")
    assert {PROJECT: (12 * CENT, 18 * CENT)} == await accounts(desk)


async def test_an_attempt_may_not_spend_more_than_was_reserved_for_it(desk: Desk) -> None:
    """Where only policy says what an attempt needs, that is its limit, so that the project's holds too."""
    task_id, attempt_token = await at_work(desk)
    over = await desk.send(callback("heartbeat", task_id, 1, 2, usage=spent(11 * CENT)), attempt_token)
    assert "stop" == over.json()["directive"]
    assert_problem(
        await desk.send(callback("heartbeat", task_id, 1, 3), attempt_token), 402, "budget_exceeded"
    )
    assert {PROJECT: (11 * CENT, 0)} == await accounts(desk)


async def test_a_cap_is_passed_by_one_callback_at_most(desk: Desk) -> None:
    """Half a dollar, reported in sevenths of one: the executor that obeys has passed it by less than one report."""
    task_id, attempt_token = await at_work(desk, budget={"cost_microusd": 500_000})
    step, seq, directive = 142_857, 1, "continue"
    while directive == "continue":
        seq += 1
        sent = callback("heartbeat", task_id, 1, seq, usage=spent(step))
        directive = (await desk.send(sent, attempt_token)).json()["directive"]
    budget = (await desk.show(f"/api/tasks/{task_id}"))["budget"]
    assert (571_428, 0) == (budget["spent"]["cost_microusd"], budget["left"]["cost_microusd"])
    assert budget["spent"]["cost_microusd"] < 500_000 + step
    for kind in ("heartbeat", "progress", "evidence", "checkpoint", "tool_event", "escalation"):
        refused = await desk.send(callback(kind, task_id, 1, seq + 1), attempt_token)
        assert_problem(refused, 402, "budget_exceeded")


async def test_a_result_over_the_budget_is_accepted_and_flagged(desk: Desk) -> None:
    """What is finished is paid for: the result that passes the limit is taken, with a flag that task and log show."""
    task_id, attempt_token = await at_work(desk, budget={"tokens": 10})
    answer = await desk.send(
        callback("result", task_id, 1, 2, usage=spent(0, output_tokens=11)), attempt_token
    )
    assert 202 == answer.status_code, answer.text
    flags = (await desk.show(f"/api/tasks/{task_id}"))["budget"]["exceeded"]
    assert [{"subject": "result", "version": 1, "passed": "tokens 11 of 10"}] == flags
    assert "budget.exceeded" in await desk.events(task_id)


async def test_what_a_refused_callback_spent_is_booked_once(desk: Desk) -> None:
    """Sent ten times at once, and then accepted under the same id, it is booked once, with what came on top."""
    task_id, attempt_token = await at_work(desk)
    await desk.send(callback("heartbeat", task_id, 1, 5), attempt_token)
    refused = callback("heartbeat", task_id, 1, 3, usage=spent(2 * CENT, tool_calls=1))
    for answer in await asyncio.gather(*(desk.send(refused, attempt_token) for _ in range(10))):
        assert_problem(answer, 409, "seq_stale")
    assert {PROJECT: (2 * CENT, 8 * CENT)} == await accounts(desk)
    (charged,) = [e for e in await desk.backend.log.read_stream(task_id) if e.type == "refusal.charged"]
    assert ("coder", refused["callback_id"]) == (charged.actor, charged.cause)

    corrected = refused | {"seq": 6, "usage": spent(3 * CENT, tool_calls=1)}
    for _ in range(2):
        assert 202 == (await desk.send(corrected, attempt_token)).status_code
    assert {PROJECT: (3 * CENT, 7 * CENT)} == await accounts(desk)
    assert_problem(await desk.send(refused, attempt_token), 422, "idempotency_mismatch")
    assert {PROJECT: (3 * CENT, 7 * CENT)} == await accounts(desk)


async def test_the_same_callback_accepted_and_refused_at_once_is_booked_once(desk: Desk) -> None:
    """Twenty copies of a failure at once: one is accepted, the others are answered as it was, and one is booked."""
    task_id, attempt_token = await at_work(desk)
    sent = callback("failure", task_id, 1, 2, usage=spent(CENT))
    answers = await asyncio.gather(*(desk.send(sent, attempt_token) for _ in range(20)))
    assert {202} == {answer.status_code for answer in answers}
    assert {PROJECT: (CENT, 0)} == await accounts(desk)


async def test_what_a_closed_attempt_spent_is_booked_on_its_accounts(desk: Desk) -> None:
    """A late callback is refused, and what it spent is booked, also after the end and when it is kept aside."""
    task_id, old = await at_work(desk)
    await desk.direct(task_id, "/reassign role:developer")
    new = await desk.ack(task_id)
    for sent in (
        callback("heartbeat", task_id, 1, 2, usage=spent(CENT)),
        callback("result", task_id, 1, 3, usage=spent(CENT)),
    ):
        for _ in range(2):
            assert_problem(await desk.send(sent, old), 409, "attempt_superseded")
    assert {PROJECT: (2 * CENT, 10 * CENT)} == await accounts(desk)
    await desk.submit("result", task_id, new, 2, 2)
    late = callback("heartbeat", task_id, 2, 3, usage=spent(CENT))
    assert_problem(await desk.send(late, new), 409, "wrong_phase")
    assert {PROJECT: (3 * CENT, 0)} == await accounts(desk)
    assert "completed" == await desk.phase(task_id)


REFUSED = {
    "402": (lambda t: callback("heartbeat", t, 1, 3), 402, True),
    "unanswered": (lambda t: callback("result", t, 1, 3, BODIES["result"] | {"output": {"x": 1}}), 422, True),
    "wrong kind": (lambda t: callback("plan", t, 1, 3), 409, True),
    "broken schema": (lambda t: callback("heartbeat", t, 1, 3, {"phase": "done"}), 422, False),
    "another task": (lambda _: callback("heartbeat", str(new_id()), 1, 3), 403, False),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_every_refusal_after_the_schema_books(desk: Desk, name: str) -> None:
    """What the decision refuses is booked, whatever its status; what breaks the schema or the scope is not."""
    make, status, books = REFUSED[name]
    schema = {"type": "object", "required": ["count"]}
    task_id, attempt_token = await at_work(desk, budget={"cost_microusd": 5}, output_schema=schema)
    await desk.send(callback("heartbeat", task_id, 1, 2, usage=spent(6)), attempt_token)
    answer = await desk.send(make(task_id) | {"usage": spent(10)}, attempt_token)
    assert status == answer.status_code, answer.text
    assert {PROJECT: (16 if books else 6, 0)} == await accounts(desk)
    assert books == ("refusal.charged" in await desk.events(task_id))


async def test_nobody_books_on_the_attempt_of_another(desk: Desk) -> None:
    """An executor that acknowledges what was offered to somebody else is refused, and books nothing there."""
    task_id = await desk.task(project="payments")
    other = await desk.executor("other")
    body = BODIES["ack"]
    answer = await desk.send(callback("ack", task_id, 1, 1, body, usage=spent(5)), other)
    assert_problem(answer, 403, "scope_denied")
    assert {PROJECT: (0, 10 * CENT)} == await accounts(desk)


async def test_a_token_that_was_replaced_books_nothing(desk: Desk) -> None:
    """The token of an attempt that another process took over counts no more, nor does what it says it spent."""
    task_id, old = await at_work(desk)
    await desk.ack(task_id, seq=2)
    answer = await desk.send(callback("heartbeat", task_id, 1, 3, usage=spent(5)), old)
    assert_problem(answer, 401, "token_expired")
    assert {PROJECT: (0, 10 * CENT)} == await accounts(desk)


async def test_an_account_that_is_used_up_lets_nobody_begin(
    open_test_backend: OpenBackend, database: Database
) -> None:
    """Where nobody says what an attempt needs, nothing is reserved, it spends all the same, and the next one waits."""
    limited = policy(project={"*": Amounts(tokens=10)})
    async with open_test_backend(policy=limited) as backend, open_client(backend) as client:
        desk = Desk(backend, client, database.owner)
        await desk.staff()
        await desk.executor()
        task_id, attempt_token = await at_work(desk)
        assert {"tokens:project:payments": (0, 0)} == await accounts(desk)
        usage = spent(5, input_tokens=12)
        answer = await desk.send(callback("heartbeat", task_id, 1, 2, usage=usage), attempt_token)
        assert "continue" == answer.json()["directive"]
        assert {"tokens:project:payments": (12, 0)} == await accounts(desk)
        second = await desk.task(project="payments")
        assert "budget of the project payments" in (await waiting(desk, second))["what"]
        assert "dispatched" == await desk.phase(await desk.task(project="elsewhere"))

    async with (
        open_test_backend(policy=policy(project={"*": Amounts(tokens=99)})) as backend,
        open_client(backend) as client,
    ):
        raised = Desk(backend, client, database.owner)
        await backend.work.mark_waiting("budget:")
        await raised.work()
        assert "dispatched" == await raised.phase(second)


@pytest.fixture
async def pair(open_test_backend: OpenBackend, database: Database) -> AsyncIterator[Desk]:
    """Open a desk with two executors that have twenty cents each, ten of them for an attempt."""
    limited = policy(
        executor={"*": Amounts(cost_microusd=20 * CENT)}, attempt=Amounts(cost_microusd=10 * CENT)
    )
    async with open_test_backend(policy=limited) as backend, open_client(backend) as client:
        found = Desk(backend, client, database.owner)
        await found.staff()
        for name in ("coder", "other"):
            await found.executor(name)
        yield found


async def executor_of(desk: Desk, task_id: str) -> str | None:
    """Say who has the attempt of a task."""
    attempt = (await desk.show(f"/api/tasks/{task_id}"))["attempt"]
    return attempt and str(attempt["executor"])


async def test_an_executor_without_room_is_passed_over(pair: Desk) -> None:
    """Of six tasks at once each executor gets what its budget pays for, and the others wait for either by name."""
    wanted = {"title": "T", "goal": "G"}
    made = [(await pair.post("/api/tasks", wanted, "olga")).json()["id"] for _ in range(6)]
    await asyncio.gather(*(pair.backend.dispatcher.advance(task_id) for task_id in made))
    await pair.work()

    executors = [await executor_of(pair, task_id) for task_id in made]
    assert (2, 2, 2) == tuple(executors.count(name) for name in ("coder", "other", None))
    full = {f"cost:executor:{name}": (0, 20 * CENT) for name in ("coder", "other")}
    assert full == await accounts(pair)
    idle = [task_id for task_id, executor in zip(made, executors, strict=True) if executor is None]
    names = ["budget:executor:coder", "budget:executor:other", "executor"]
    for task_id in idle:
        assert names == list(await pair.backend.work.waits_of(task_id))
        what = (await waiting(pair, task_id))["what"]
        assert "budget of the executor coder" in what
        assert "budget of the executor other" in what
        assert ["task.created", "task.allowed", "budget.awaited"] == await pair.events(task_id)
        await pair.backend.dispatcher.advance(task_id)
        assert 1 == (await pair.events(task_id)).count("budget.awaited")

    mine = made[executors.index("other")]
    await pair.direct(mine, "/cancel")
    phases = {await pair.phase(task_id) for task_id in idle}
    assert {"dispatched", "ready"} == phases
    assert full == await accounts(pair)


async def test_what_an_executor_spent_counts_for_ever(pair: Desk) -> None:
    """What was spent stays with the executor, for the accepted and the refused alike, and a higher limit frees it."""
    task_id = await pair.task(assignee="coder")
    attempt_token = await pair.ack(task_id)
    await pair.send(callback("heartbeat", task_id, 1, 2, usage=spent(3 * CENT)), attempt_token)
    await pair.send(callback("heartbeat", task_id, 1, 2, usage=spent(9 * CENT)), attempt_token)
    await pair.direct(task_id, "/cancel")
    assert (12 * CENT, 0) == (await accounts(pair))["cost:executor:coder"]
    bound = await pair.task(assignee="coder")
    assert "ready" == await pair.phase(bound)
    assert "budget of the executor coder" in (await waiting(pair, bound))["what"]
    assert "dispatched" == await pair.phase(await pair.task())
    assert (12 * CENT, 0) == (await accounts(pair))["cost:executor:coder"]


async def test_a_full_project_is_waited_for_whoever_is_passed_over(
    open_test_backend: OpenBackend, database: Database
) -> None:
    """Where the next candidate finds the project's budget used up, that is what the task waits for."""
    limited = policy(
        project={"*": Amounts(cost_microusd=15)},
        executor={"coder": Amounts(cost_microusd=5)},
        attempt=Amounts(cost_microusd=10),
    )
    async with open_test_backend(policy=limited) as backend, open_client(backend) as client:
        desk = Desk(backend, client, database.owner)
        await desk.staff()
        for name in ("coder", "other"):
            await desk.executor(name)
        assert "other" == await executor_of(desk, await desk.task())
        second = await desk.task()
        assert ["budget:project:default"] == list(await backend.work.waits_of(second))
        third = await desk.task(assignee="coder", project="else")
        assert ["budget:executor:coder", "executor"] == list(await backend.work.waits_of(third))


async def test_a_new_day_has_a_new_budget(open_test_backend: OpenBackend, database: Database) -> None:
    """A task that waits for the day's budget has a deadline at midnight, and goes on when it comes."""
    limited = policy(day=Amounts(cost_microusd=5), attempt=Amounts(cost_microusd=5))
    async with open_test_backend(policy=limited) as backend, open_client(backend) as client:
        desk = Desk(backend, client, database.owner)
        await desk.staff()
        await desk.executor()
        await desk.task()
        second = await desk.task()
        (day,) = await accounts(desk)
        midnight = datetime.fromisoformat(day.removeprefix(DAY)).replace(tzinfo=UTC) + timedelta(days=1)
        assert [("budget", midnight)] == await desk.rows(
            "select kind, at from es.deadline where task_id = %s", second
        )
        assert (midnight.isoformat(), "try again") == (
            datetime.fromisoformat((await waiting(desk, second))["deadline"]).isoformat(),
            (await waiting(desk, second))["default"],
        )
        await desk.execute("delete from es.account where name = %s", day)
        await desk.work()
        assert "ready" == await desk.phase(second)  # nobody polls: only the deadline, or a closing, tells
        await fire(desk, second, "budget", f"day:{day.removeprefix(DAY)}", midnight)
        assert "dispatched" == await desk.phase(second)


async def test_the_wall_time_of_a_task_ends(desk: Desk) -> None:
    """When the time is over the attempt closes, a person decides, its result is kept aside, and a retry opens none."""
    task_id, attempt_token = await at_work(desk, budget={"wall_seconds": 60})
    view = (await desk.show(f"/api/tasks/{task_id}"))["budget"]
    ends = datetime.fromisoformat(view["wall_deadline"])
    assert 0 == view["spent"]["wall_seconds"]
    assert [("wall", ends)] == await desk.rows("select kind, at from es.deadline where kind = 'wall'")
    await fire(desk, task_id, "wall", "1", ends)
    assert "input_required" == await desk.phase(task_id)
    assert "wall time of the budget is used up: 60 seconds" in (await waiting(desk, task_id))["what"]
    assert 60 == (await desk.show(f"/api/tasks/{task_id}"))["budget"]["spent"]["wall_seconds"]
    assert_problem(await desk.send(callback("result", task_id, 1, 2), attempt_token), 409, "lease_lost")
    assert "callback.quarantined" in await desk.events(task_id)
    await desk.direct(task_id, "/retry")
    assert "input_required" == await desk.phase(task_id)
    assert {PROJECT: (0, 0)} == await accounts(desk)
    assert [] == await desk.rows("select kind from es.deadline")
