"""How it stands with the issues and the tracker, who may ask and act, and what the doctor says."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from tests.conftest import Database, OpenBackend
from tests.desk import PEOPLE, Desk, assert_problem, open_client
from tests.tracked_desk import CountingTracker, RememberingPlane, TrackedDesk

from agentic_os.clock import new_id, now


@pytest.fixture
async def tracked(open_test_backend: OpenBackend, database: Database) -> AsyncIterator[TrackedDesk]:
    """Open the API over a backend with a tracker."""
    tracker = CountingTracker()
    plane = RememberingPlane(tracker)
    async with open_test_backend(control_plane=plane) as backend, open_client(backend) as client:
        found = TrackedDesk(backend, client, database.owner)
        found.plane, found.tracker = plane, tracker
        await found.staff()
        await found.introduce(*PEOPLE)
        yield found


async def checks(desk: Desk) -> dict[str, dict[str, Any]]:
    """Ask the doctor."""
    return {c["name"]: c for c in (await desk.show("/api/doctor"))["checks"]}


async def test_a_stack_in_order_has_no_fault(tracked: TrackedDesk) -> None:
    """With a worker, a tracker that answers and executors who may write, all is well, and nobody did anything."""
    await tracked.executor()
    await tracked.task()
    await tracked.listen()
    found = await checks(tracked)
    assert set() == {name for name, check in found.items() if check["status"] != "ok"}, found
    report = await tracked.show("/api/reconcile")
    assert ("memory", "ok", None) == (
        report["tracker"]["name"],
        report["tracker"]["health"],
        report["tracker"]["problem"],
    )
    assert 0 <= report["tracker"]["feed_lag_seconds"] < 60
    assert (0, None, []) == (report["tasks"]["stale"], report["tasks"]["lag_seconds"], report["items"])
    assert "ok" == (await tracked.show("/api/doctor"))["status"]


async def test_what_only_the_feed_tells_of_is_a_webhook_that_is_missed(tracked: TrackedDesk) -> None:
    """Somebody commented, the feed brought it, and no webhook did."""
    key = (await tracked.issue(await tracked.task())).key
    tracked.tracker.comment(key, tracked.tracker.account("ada"), "Hello")
    await tracked.worker.look_around()
    found = await checks(tracked)
    assert {"webhooks": "warning"} == {name: c["status"] for name, c in found.items() if c["status"] != "ok"}
    assert "none ever came" in found["webhooks"]["detail"]


async def test_webhooks_are_seen_to_come(tracked: TrackedDesk) -> None:
    """After a signed webhook the question whether any come is answered, here and, after a look, by other servers."""
    await tracked.task()
    headers, body = tracked.tracker.take_deliveries()[0]
    before = now()
    answer = await tracked.client.post("/api/webhooks/memory", content=body, headers=dict(headers))
    assert 202 == answer.status_code
    await tracked.worker.look_around()
    assert "ok" == (await checks(tracked))["webhooks"]["status"]
    ((stored,),) = await tracked.rows("select webhook_at from es.tracker")
    assert before <= stored <= now()


async def test_faults_are_named_with_what_to_do(tracked: TrackedDesk) -> None:
    """No worker, a tracker that is away, an executor without credential: each is a fault that says what helps."""
    await tracked.executor()
    await tracked.execute("update es.credential set revoked_at = now() where principal = 'coder'")
    await tracked.execute("insert into es.served (at) values (%s)", now() - timedelta(minutes=10))
    tracked.tracker.fail_next(before=True)
    await tracked.task()
    found = await checks(tracked)
    assert {"worker", "tracker", "executors"} == {n for n, c in found.items() if c["status"] == "fault"}
    assert all(c["next"] for c in found.values() if c["status"] == "fault")
    assert "coder" in found["executors"]["detail"]
    assert "fault" == (await tracked.show("/api/doctor"))["status"]


async def test_the_lag_of_a_task_is_shown(tracked: TrackedDesk) -> None:
    """A task that is not shown yet is listed with its age, its last problem and its next try."""
    tracked.tracker.fail_next(before=True)
    task_id = await tracked.task()
    await tracked.execute("update es.stale set since = %s", now() - timedelta(seconds=90))
    report = await tracked.show(f"/api/reconcile?task={task_id}")
    (item,) = report["items"]
    assert (task_id, "failing", 1) == (item["task_id"], item["state"], item["failures"])
    assert item["lag_seconds"] >= 90
    assert report["tasks"]["lag_seconds"] >= 90
    assert "Unavailable" in item["problem"]
    assert item["next_try_at"]
    assert [] == (await tracked.show("/api/reconcile?task=other"))["items"]


async def test_issues_are_compared_again_on_demand(tracked: TrackedDesk) -> None:
    """One issue, or that of every task that goes on, is looked at again, without anything having happened."""
    await tracked.executor()
    one, two = await tracked.task(), await tracked.task()
    await tracked.direct(two, "/cancel")
    tracked.tracker.forget()
    answer = await tracked.post("/api/reconcile", {}, "olga")
    assert (202, {"marked": 1}) == (answer.status_code, answer.json())
    await tracked.work()
    assert (1, 0) == (tracked.tracker.reads, tracked.tracker.writes)
    answer = await tracked.post(f"/api/reconcile/{one}", {}, "olga")
    assert (202, {"marked": 1, "redriven": False}) == (answer.status_code, answer.json())
    await tracked.work()
    assert (2, 0) == (tracked.tracker.reads, tracked.tracker.writes)


async def test_who_may_ask_and_act(desk: Desk) -> None:
    """Viewers look, operators act; an unknown task and a surplus field are refused."""
    task_id = await desk.task()
    for path in ("/api/reconcile", f"/api/reconcile/{task_id}"):
        assert_problem(await desk.post(path, {}, "vera"), 403, "scope_denied")
    assert_problem(await desk.post(f"/api/reconcile/{new_id()}", {}, "olga"), 404, "unknown_task")
    surplus = await desk.post(f"/api/reconcile/{task_id}", {"hard": True}, "olga")
    assert_problem(surplus, 422, "schema_invalid", "/hard")
    assert None is (await desk.show("/api/reconcile"))["tracker"]
    assert 401 == (await desk.client.get("/api/doctor")).status_code
