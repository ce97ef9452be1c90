"""The breaker of the tasks that executors ask for: nothing beyond it, and nothing lost of what is approved."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from tests.conftest import Database, OpenBackend
from tests.desk import Desk, assert_problem, callback, open_client, token
from tests.http.test_children import at_work, children, item

from agentic_os.domain.policy import Breakers, RateBreaker, RuleSet

HOUR = timedelta(hours=1)
POLICY = RuleSet(
    bundle="sha256:b", rules=(), breakers=Breakers(task_request=RateBreaker(count=3, within=HOUR))
)


@pytest.fixture
async def desk(open_test_backend: OpenBackend, database: Database) -> AsyncIterator[Desk]:
    """Open a desk under whose policy each executor may ask for three tasks an hour."""
    async with open_test_backend(policy=POLICY) as backend, open_client(backend) as client:
        found = Desk(backend, client, database.owner)
        await found.staff()
        yield found


def asking(task_id: str, seq: int, *refs: str, **more: Any) -> dict[str, Any]:
    """Compose a request for tasks of these refs."""
    return callback(
        "task_request", task_id, 1, seq, {"reason": "Why", "tasks": [item(r) for r in refs]}, **more
    )


async def counted(desk: Desk) -> list[Any]:
    """Read how many tasks count, by breaker."""
    return await desk.rows("select breaker, count(*) from es.counted group by 1 order by 1")


async def trips(desk: Desk, stream: str = "principal:coder") -> list[dict[str, Any]]:
    """Read which breakers of a stream tripped."""
    events = await desk.backend.log.read_stream(stream)
    return [dict(e.data) for e in events if e.type == "breaker.tripped"]


async def test_requests_beyond_the_breaker_are_refused_and_count_nothing(desk: Desk) -> None:
    """What no longer fits is 429 with a time to wait, leaves no task, and what fits is still let in."""
    task_id, attempt_token = await at_work(desk)
    assert 202 == (await desk.send(asking(task_id, 2, "a", "b"), attempt_token)).status_code
    usage = {"input_tokens": 0, "output_tokens": 0, "cost_microusd": 7}
    beyond = asking(task_id, 3, "c", "d", usage=usage)
    for _ in range(2):
        answer = await desk.send(beyond, attempt_token)
        problem = assert_problem(answer, 429, "rate_limited")
        assert (
            "coder asked for as many tasks lately as policy allows (3 within 3600 seconds)"
            in problem["detail"]
        )
        assert 3500 < int(answer.headers["retry-after"]) <= 3600
    assert {"a", "b"} == set(await children(desk, task_id))
    assert [("task_request:coder", 2)] == await counted(desk)
    assert 7 == (await desk.show(f"/api/tasks/{task_id}"))["budget"]["spent"]["cost_microusd"]
    (trip,) = await trips(desk)
    assert ("task_request", "coder", 3, 3600) == (
        trip["breaker"],
        trip["executor"],
        trip["attempts"],
        trip["within_seconds"],
    )
    assert 202 == (await desk.send(asking(task_id, 3, "c"), attempt_token)).status_code
    await desk.execute("update es.counted set at = at - interval '1 hour'")
    assert 202 == (await desk.send(asking(task_id, 4, "d", "e", "f"), attempt_token)).status_code
    assert [("task_request:coder", 3)] == await counted(desk)


async def test_a_request_that_came_twice_counts_once(desk: Desk) -> None:
    """The same callback, at once or later, is answered as it was and takes no room of the breaker."""
    task_id, attempt_token = await at_work(desk)
    request = asking(task_id, 2, "a", "b", "c")
    answers = await asyncio.gather(*(desk.send(request, attempt_token) for _ in range(4)))
    assert {202} == {a.status_code for a in answers}
    assert [("task_request:coder", 3)] == await counted(desk)
    await desk.execute("delete from es.counted")
    assert 202 == (await desk.send(request, attempt_token)).status_code
    assert [] == await counted(desk)


async def test_the_same_request_is_let_in_later(desk: Desk) -> None:
    """Refused for the breaker and sent again when it may be, unchanged, it is accepted, and its usage booked once."""
    task_id, attempt_token = await at_work(desk)
    await desk.send(asking(task_id, 2, "a", "b"), attempt_token)
    usage = {"input_tokens": 0, "output_tokens": 0, "cost_microusd": 7}
    beyond = asking(task_id, 3, "c", "d", usage=usage)
    assert 429 == (await desk.send(beyond, attempt_token)).status_code
    await desk.execute("update es.counted set at = at - interval '1 hour'")
    for replayed in (None, "true"):
        answer = await desk.send(beyond, attempt_token)
        assert (202, replayed) == (answer.status_code, answer.headers.get("idempotent-replayed"))
    assert {"a", "b", "c", "d"} == set(await children(desk, task_id))
    assert [("task_request:coder", 2)] == await counted(desk)
    assert 7 == (await desk.show(f"/api/tasks/{task_id}"))["budget"]["spent"]["cost_microusd"]


async def test_asking_for_much_and_for_little_in_turns_records_no_more(desk: Desk) -> None:
    """More at once must wait longer; that the breaker holds until then is recorded, and nothing earlier after it."""
    task_id, attempt_token = await at_work(desk)
    for seq, ref in ((2, "a"), (3, "b")):
        await desk.send(asking(task_id, seq, ref), attempt_token)
    for refs in (("c", "d"), ("c", "d", "e")) * 3:
        assert 429 == (await desk.send(asking(task_id, 4, *refs), attempt_token)).status_code
    first, second = [datetime.fromisoformat(t["until"]) for t in await trips(desk)]
    assert first < second


async def test_what_is_refused_after_it_was_counted_is_counted_no_longer(desk: Desk) -> None:
    """The task was cancelled while its request was being counted: nothing comes of it, and it takes no room."""
    task_id, attempt_token = await at_work(desk)
    async with await psycopg.AsyncConnection.connect(desk.dsn) as holder:
        await holder.execute(
            "select pg_advisory_xact_lock(hashtextextended('counted:task_request:coder', 0))"
        )
        sending = asyncio.create_task(desk.send(asking(task_id, 2, "a"), attempt_token))
        while [] == await desk.rows("select 1 from pg_locks where locktype = 'advisory' and not granted"):
            pass
        await desk.direct(task_id, "/cancel The customer left.", "olga")
    assert_problem(await sending, 409, "attempt_superseded")
    assert [] == await counted(desk)


async def test_what_is_refused_for_another_reason_counts_nothing(desk: Desk) -> None:
    """A request that asks for more rights than its task has, or for more tasks than may ever be, takes no room."""
    task_id, attempt_token = await at_work(desk, paths=["src/a/**"])
    too_far = callback("task_request", task_id, 1, 2, {"reason": "Why", "tasks": [item(paths=["src/b"])]})
    assert_problem(await desk.send(too_far, attempt_token), 403, "scope_denied")
    too_many = asking(task_id, 2, "a", "b", "c", "d")
    problem = assert_problem(await desk.send(too_many, attempt_token), 403, "policy_denied", "/body/tasks")
    assert "may ask for 3 tasks within 3600 seconds; these are 4" in problem["detail"]
    assert [] == await counted(desk)
    assert [] == await trips(desk)


async def test_each_executor_has_a_breaker_of_its_own(desk: Desk) -> None:
    """What one asked for keeps no other from asking."""
    task_id, attempt_token = await at_work(desk)
    await desk.send(asking(task_id, 2, "a", "b", "c"), attempt_token)
    await desk.executor("other")
    second = await desk.task(assignee="other")
    other_token = await desk.ack(second, token("other"))
    assert 202 == (await desk.send(asking(second, 2, "a"), other_token)).status_code
    assert [("task_request:coder", 3), ("task_request:other", 1)] == await counted(desk)


async def test_two_servers_count_together(
    desk: Desk, open_test_backend: OpenBackend, database: Database
) -> None:
    """Of six requests at once, to two servers of one store, as many are let in as the breaker allows."""
    tasks = [await at_work(desk)]
    for _ in range(5):
        task_id = await desk.task(assignee="coder")
        tasks.append((task_id, await desk.ack(task_id)))
    async with open_test_backend(policy=POLICY) as backend, open_client(backend) as client:
        second = Desk(backend, client, database.owner)
        answers = await asyncio.gather(
            *(
                (desk, second)[n % 2].send(asking(task_id, 2, "a"), attempt_token)
                for n, (task_id, attempt_token) in enumerate(tasks)
            )
        )
    codes = [a.status_code for a in answers]
    assert (3, 3) == (codes.count(202), codes.count(429))
    assert [("task_request:coder", 3)] == await counted(desk)


async def test_tasks_of_an_approved_plan_wait_for_the_breaker(
    desk: Desk, open_test_backend: OpenBackend, database: Database
) -> None:
    """What people approved is not refused: it is created as soon as the breaker lets it, and nothing begins before."""
    first, first_token = await at_work(desk)
    await desk.send(asking(first, 2, "a", "b"), first_token)
    task_id = await desk.task(assignee="coder", mode="plan_first")
    attempt_token = await desk.ack(task_id)
    await desk.submit("plan", task_id, attempt_token, tasks=[item("x"), item("y")])
    await desk.approve(task_id)

    shown = await desk.show(f"/api/tasks/{task_id}")
    assert ("ready", []) == (shown["phase"], shown["children"])
    assert "coder to be let on by its breaker at" in shown["waiting_for"]["what"]
    (trip,) = await trips(desk)
    ((put_off,),) = await desk.rows("select not_before from es.stale where task_id = %s", task_id)
    assert datetime.fromisoformat(trip["until"]) == put_off

    await desk.execute("update es.counted set at = at - interval '1 hour'")
    await desk.execute("update es.stale set not_before = now()")
    await desk.work()
    assert {"x", "y"} == set(await children(desk, task_id))
    assert [("task_request:coder", 2)] == await counted(desk)

    looser = replace(POLICY, breakers=Breakers(task_request=RateBreaker(count=1, within=HOUR)))
    async with open_test_backend(policy=looser) as backend, open_client(backend) as client:
        tighter = Desk(backend, client, database.owner)
        third = await tighter.task(assignee="coder", mode="plan_first")
        refused = callback("plan", third, 1, 2)
        refused["body"] |= {"tasks": [item("x"), item("y")]}
        third_token = await tighter.ack(third)
        assert_problem(await tighter.send(refused, third_token), 403, "policy_denied", "/body/tasks")
