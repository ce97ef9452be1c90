"""How it stands with the issues and the tracker, who may ask and act, and what the doctor says."""

import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.conftest import Database, OpenBackend
from tests.desk import PEOPLE, Desk, assert_problem, open_client
from tests.http.conftest import Command
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


async def heard(desk: Desk, **wanted: Any) -> list[tuple[str, ...]]:
    """List what was heard, the oldest first: of which issue, from whom, what it was, and what became of it."""
    found = (await desk.show("/api/observations", params=wanted))["items"]
    return [(e["issue"], e["principal"] or e["author"], e["kind"], e["detail"], e["outcome"]) for e in found][
        ::-1
    ]


async def test_whoever_asks_reads_what_became_of_each_thing_that_was_heard(tracked: TrackedDesk) -> None:
    """Comments, fields and issues are told with who did it and why it came to nothing, of a task, an issue or all."""
    task_id = await tracked.task()
    key = (await tracked.issue(task_id)).key
    tracker = tracked.tracker
    ada, olga, stranger = (tracker.account(name) for name in ("ada", "olga", "stranger"))
    tracker.comment(key, ada, "/hold Wait.")
    tracker.comment(key, stranger, "/cancel")
    tracker.change_field(key, olga, "title", "Fix it")
    elsewhere = tracker.open_issue(stranger, "Mine", labels=["agentic-os"])
    await tracked.listen()

    on_it = [
        (key, "ada", "comment", "created", "done"),
        (key, stranger, "comment", "created", "refused"),
        (key, "olga", "field", "title", "done"),
    ]
    opened = (elsewhere, stranger, "opened", "", "refused")
    assert [*on_it, opened] == await heard(tracked)
    assert on_it == await heard(tracked, task=task_id)
    assert [opened] == await heard(tracked, issue=elsewhere)
    assert [on_it[1], opened] == await heard(tracked, outcome="refused")
    assert [] == await heard(tracked, outcome="open")
    first = await tracked.show("/api/observations", params={"limit": 3})
    rest = await tracked.show("/api/observations", params={"limit": 3, "cursor": first["next"]})
    assert ([3, 1], None) == ([len(first["items"]), len(rest["items"])], rest["next"])
    (told,) = (await tracked.show("/api/observations", params={"issue": elsewhere}))["items"]
    assert "may not create tasks" in told["reason"]
    (of_task,) = {e["task_id"] for e in first["items"]} - {None}
    assert task_id == of_task


async def test_reconcile_heard_prints_what_became_of_each(
    tracked: TrackedDesk, command_line: Callable[[Desk], Command]
) -> None:
    """The command shows people who did what and what became of it, programs the document, and says when nothing was."""
    command = command_line(tracked)
    task_id = await tracked.task()
    key = (await tracked.issue(task_id)).key
    assert (0, "Nothing was heard.\n") == await command("reconcile", "heard")
    tracked.tracker.comment(key, tracked.tracker.account("vera"), "/cancel")
    await tracked.listen()
    code, text = await command("reconcile", "heard", task_id, "--outcome", "refused")
    headings, line = text.splitlines()
    assert (0, ["WHEN", "ISSUE", "WHO", "WHAT", "OUTCOME", "WHY"]) == (code, headings.split())
    assert [key, "vera", "comment", "created", "refused"] == line.split()[1:6]
    code, text = await command("reconcile", "heard", "--issue", key, "--json")
    assert await tracked.show("/api/observations", params={"issue": key}) == json.loads(text)
    code, text = await command("reconcile", "heard", "none")
    assert (3, True) == (code, "no such task" in text)


async def test_what_was_heard_and_not_read_yet_is_open(tracked: TrackedDesk) -> None:
    """What waits to be acted on is listed as open, with no reason yet."""
    key = (await tracked.issue(await tracked.task())).key
    tracked.tracker.comment(key, tracked.tracker.account("ada"), "/hold Wait.")
    await tracked.worker.look_around()
    assert [(key, "ada", "comment", "created", "open")] == await heard(tracked, outcome="open")


@pytest.mark.parametrize(
    ("wanted", "status", "code"),
    [
        ({"task": "none"}, 404, "unknown_task"),
        ({"outcome": "lost"}, 422, "schema_invalid"),
        ({"cursor": "x"}, 422, "schema_invalid"),
        ({"cursor": "9" * 30}, 422, "schema_invalid"),
        ({"limit": 0}, 422, "schema_invalid"),
    ],
)
async def test_what_cannot_be_listed_is_refused(
    tracked: TrackedDesk, wanted: dict[str, object], status: int, code: str
) -> None:
    """A task that is none, an outcome that is none, a cursor of somebody else's."""
    answer = await tracked.get("/api/observations", params=wanted)
    assert_problem(answer, status, code)


async def test_an_issue_that_was_meant_to_be_a_task_is_named_until_it_is_one(tracked: TrackedDesk) -> None:
    """The doctor says whose account nobody knows; once it is linked, and the label given again, all is in order."""
    tracker = tracked.tracker
    nobody = tracker.account("newcomer")
    key = tracker.open_issue(nobody, "Count the beans", labels=["agentic-os"])
    tracker.open_issue(nobody, "Something else", labels=["bug"])
    await tracked.listen()
    found = (await checks(tracked))["adoption"]
    assert "warning" == found["status"]
    assert f"{key} by the unknown account {nobody}" in found["detail"]
    assert "account link" in found["next"]

    olga = tracker.account("olga")
    tracker.change_field(key, olga, "labels", "")
    tracker.change_field(key, olga, "labels", "agentic-os")
    await tracked.listen()
    assert "ok" == (await checks(tracked))["adoption"]["status"]
