"""Too much in too short a time: 429 with Retry-After, for floods of callbacks and for guesses at credentials."""

from collections.abc import AsyncIterator

import httpx
import pytest
from tests.conftest import Database, OpenBackend
from tests.desk import Desk, assert_problem, bearer, callback, open_client, token

from agentic_os.application.rates import Rate, Rates


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.at


@pytest.fixture
def clock() -> Clock:
    """Begin at some time."""
    return Clock()


@pytest.fixture
async def slow(open_test_backend: OpenBackend, database: Database, clock: Clock) -> AsyncIterator[Desk]:
    """Open the API with small buckets: three callbacks at once, four wrong credentials."""
    limits = Rates(
        callbacks=Rate(per_second=0.5, burst=3), refusals=Rate(per_second=0.5, burst=4), clock=clock
    )
    async with open_test_backend(rates=limits) as backend, open_client(backend) as client:
        desk = Desk(backend, client, database.owner)
        await desk.staff()
        yield desk


def assert_limited(answer: httpx.Response, wait: str) -> None:
    """Hold a refusal to what the contract says of it."""
    problem = assert_problem(answer, 429, "rate_limited")
    assert (True, wait) == (problem["retryable"], answer.headers["retry-after"])


async def test_an_attempt_that_floods_is_slowed(slow: Desk, clock: Clock) -> None:
    """Beyond its burst each callback is refused until the bucket has filled, and nothing of it is stored."""
    await slow.executor()
    task_id = await slow.task()
    attempt_token = await slow.ack(task_id)
    for seq in (2, 3, 4):
        assert 202 == (await slow.send(callback("heartbeat", task_id, 1, seq), attempt_token)).status_code
    before = await slow.stored()
    beat = callback("heartbeat", task_id, 1, 5)
    assert_limited(await slow.send(beat, attempt_token), "2")
    assert_limited(await slow.send(callback("tool_event", task_id, 1, 5), attempt_token), "2")
    assert before == await slow.stored()
    clock.at += 2
    assert 202 == (await slow.send(beat, attempt_token)).status_code
    assert_limited(await slow.send(callback("heartbeat", task_id, 1, 6), attempt_token), "2")
    other = await slow.task()
    assert await slow.ack(other)


@pytest.mark.parametrize("kind", ["plan", "result", "failure"])
async def test_what_closes_an_attempt_is_always_let_in(slow: Desk, kind: str) -> None:
    """Work that is done is not thrown away for what was sent too fast before it."""
    await slow.executor()
    task_id = await slow.task(mode="plan_first" if kind == "plan" else "direct")
    attempt_token = await slow.ack(task_id)
    for seq in (2, 3, 4):
        await slow.send(callback("heartbeat", task_id, 1, seq), attempt_token)
    assert_limited(await slow.send(callback("heartbeat", task_id, 1, 5), attempt_token), "2")
    assert 202 == (await slow.send(callback(kind, task_id, 1, 5), attempt_token)).status_code


async def test_credentials_cannot_be_guessed_quickly(slow: Desk, clock: Clock) -> None:
    """After some wrong ones no credential of that address is looked at, right or wrong, until time has passed."""
    for number in range(4):
        answer = await slow.client.get("/api/tasks", headers=bearer(f"guess-{number}"))
        assert_problem(answer, 401, "credential_invalid")
    noted = await slow.rows("select count(*) from es.security_log")
    assert_limited(await slow.client.get("/api/tasks", headers=bearer("guess")), "2")
    assert_limited(await slow.get("/api/tasks"), "2")
    assert_limited(await slow.send(callback("heartbeat", "t", 1, 1), "guess"), "2")
    assert noted == await slow.rows("select count(*) from es.security_log")
    assert 200 == (await slow.client.get("/healthz")).status_code
    clock.at += 2
    assert 200 == (await slow.get("/api/tasks")).status_code


async def test_guesses_at_tokens_and_signatures_count_too(slow: Desk) -> None:
    """A wrong attempt token, a missing credential and a wrong signature use up the same bucket."""
    for answer in (
        await slow.send(callback("heartbeat", "t", 1, 1), "aosa_t.1.1.x"),
        await slow.client.get("/api/tasks"),
        await slow.client.post("/api/evidence/ci", content=b"{}"),
        await slow.client.get("/api/tasks", headers=bearer("guess")),
    ):
        assert_problem(answer, 401, "credential_invalid")
    assert_limited(await slow.send(callback("heartbeat", "t", 1, 1), "aosa_t.1.1.x"), "2")
    assert_limited(await slow.client.get("/api/tasks"), "2")
    assert_limited(await slow.client.post("/api/evidence/ci", content=b"{}"), "2")


async def test_an_attempt_at_work_goes_on_beside_guesses(slow: Desk) -> None:
    """An authentic attempt token, which nobody can guess, is let in from an address that guessed too often."""
    await slow.executor()
    task_id = await slow.task()
    attempt_token = await slow.ack(task_id)
    for number in range(5):
        await slow.client.get("/api/tasks", headers=bearer(f"guess-{number}"))
    assert_limited(await slow.client.get("/api/tasks", headers=bearer(token("ada"))), "2")
    assert 202 == (await slow.send(callback("heartbeat", task_id, 1, 2), attempt_token)).status_code
