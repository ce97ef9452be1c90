"""Two servers over one database: what one did, the other knows, whatever it remembers."""

from collections.abc import AsyncIterator
from datetime import datetime

import pytest
from tests.conftest import Database, OpenBackend
from tests.desk import Desk, assert_problem, callback, open_client, token

from agentic_os.application.backend import Backend

Two = tuple[Desk, Desk]


@pytest.fixture
async def desks(desk: Desk, open_test_backend: OpenBackend, database: Database) -> AsyncIterator[Two]:
    """Open a second server beside the first."""
    other: Backend
    async with open_test_backend() as other, open_client(other) as client:
        yield desk, Desk(other, client, database.owner)


async def at_work(desk: Desk) -> tuple[str, str]:
    """Have an executor at work with a heartbeat behind it, so that this server remembers the task."""
    await desk.executor()
    task_id = await desk.task()
    attempt_token = await desk.ack(task_id)
    assert 202 == (await desk.send(callback("heartbeat", task_id, 1, 2, {}), attempt_token)).status_code
    return task_id, attempt_token


async def test_an_attempt_that_the_other_server_closed_is_closed(desks: Two) -> None:
    """After a cancel on one server, the other one refuses the attempt, and keeps its late result aside once."""
    one, other = desks
    task_id, attempt_token = await at_work(one)
    await other.direct(task_id, "/cancel")
    for seq in (3, 4):
        answer = await one.send(callback("result", task_id, 1, seq), attempt_token)
        assert_problem(answer, 409, "attempt_superseded")
    assert 1 == (await one.events(task_id)).count("callback.quarantined")
    assert "result.submitted" not in await one.events(task_id)


async def test_a_token_that_the_other_server_replaced_is_expired(desks: Two) -> None:
    """After an ack on one server, the other one takes only the new token."""
    one, other = desks
    task_id, old = await at_work(one)
    new = await other.ack(task_id, token("coder"), seq=3)
    heartbeat = callback("heartbeat", task_id, 1, 4, {})
    assert_problem(await one.send(heartbeat, old), 401, "token_expired")
    assert 202 == (await one.send(heartbeat, new)).status_code


async def test_a_replay_may_come_to_the_other_server(desks: Two) -> None:
    """A client that tries again elsewhere gets the stored answer; other content under the id is refused there too."""
    one, other = desks
    task_id, attempt_token = await at_work(one)
    document = callback("evidence", task_id, 1, 3)
    first = await one.send(document, attempt_token)
    again = await other.send(document, attempt_token)
    assert (202, first.json(), "true") == (
        again.status_code,
        again.json(),
        again.headers["idempotent-replayed"],
    )
    changed = await other.send(document | {"seq": 9}, attempt_token)
    assert_problem(changed, 422, "idempotency_mismatch")


async def test_seq_is_one_order_over_both_servers(desks: Two) -> None:
    """What one server took without an event, as coalesced progress, makes an earlier seq stale on the other."""
    one, other = desks
    task_id, attempt_token = await at_work(one)
    assert 202 == (await one.send(callback("progress", task_id, 1, 3), attempt_token)).status_code
    assert 202 == (await other.send(callback("progress", task_id, 1, 7), attempt_token)).status_code
    for kind in ("heartbeat", "progress", "result"):
        answer = await one.send(callback(kind, task_id, 1, 6), attempt_token)
        assert_problem(answer, 409, "seq_stale", "/seq")
    assert 202 == (await one.send(callback("heartbeat", task_id, 1, 8, {}), attempt_token)).status_code


async def test_a_lease_that_the_other_server_renewed_holds(desks: Two) -> None:
    """A heartbeat on one server moves the deadline that the other one's worker fires."""
    one, other = desks
    task_id, attempt_token = await at_work(one)
    before = (await one.show(f"/api/tasks/{task_id}"))["attempt"]["lease_expires_at"]
    await other.send(callback("heartbeat", task_id, 1, 3, {}), attempt_token)
    after = (await one.show(f"/api/tasks/{task_id}"))["attempt"]["lease_expires_at"]
    assert before < after
    ((row,),) = await one.rows("select at from es.deadline where task_id = %s", task_id)
    assert datetime.fromisoformat(after) == row
