"""Dispatch: a ready task goes to an executor that may have it, or says what it waits for, and goes on with it."""

import asyncio
from typing import Any

import pytest
from tests.conftest import Database, OpenBackend
from tests.desk import Desk, callback, open_client, token
from tests.tracked_desk import TrackedDesk

from agentic_os.domain.conditions import Condition
from agentic_os.domain.policy import Reviewers, Rule, RuleSet


async def attempt(desk: Desk, task_id: str) -> tuple[int, str] | None:
    """Look at who has the task, and in which attempt."""
    found: dict[str, Any] | None = (await desk.show(f"/api/tasks/{task_id}"))["attempt"]
    return found and (found["number"], found["executor"])


async def waiting(desk: Desk, task_id: str) -> str:
    """Ask what a task waits for."""
    return str((await desk.show(f"/api/tasks/{task_id}"))["waiting_for"]["what"])


async def test_a_full_executor_gets_no_more(desk: TrackedDesk) -> None:
    """With a capacity of one the second task waits, says for whom, and goes on when the first attempt closes."""
    await desk.executor(capacity=1)
    first, second = await desk.task(), await desk.task()
    assert ("dispatched", "ready") == (await desk.phase(first), await desk.phase(second))
    assert "coder to have a free hand" in await waiting(desk, second)
    assert "coder to have a free hand" in (await desk.notes(second))["status"]
    await desk.submit("result", first, await desk.ack(first))
    assert (1, "coder") == await attempt(desk, second)
    assert [first, second] == [w.task_id for w in desk.tracker.wakes]


@pytest.mark.parametrize("line", ["/cancel", "/reassign @other"])
async def test_an_end_by_the_operator_frees_capacity(desk: TrackedDesk, line: str) -> None:
    """Whatever closes the attempt frees the executor for the task that waits."""
    await desk.executor(capacity=1)
    first, second = await desk.task(assignee="coder"), await desk.task(assignee="coder")
    await desk.executor("other", capacity=1)
    await desk.direct(first, line)
    assert (1, "coder") == await attempt(desk, second)


async def test_what_is_wanted_sooner_goes_first(desk: TrackedDesk) -> None:
    """Of those that wait for the same hand the most urgent gets it, whichever came first, also after /priority."""
    await desk.executor(capacity=1)
    first = await desk.task()
    tasks = {p: await desk.task(priority=p) for p in ("low", "medium", "high")}
    late = await desk.task(priority="low")
    await desk.direct(late, "/priority critical")
    await desk.direct(first, "/cancel")
    assert "dispatched" == await desk.phase(late)
    assert {"ready"} == {await desk.phase(task_id) for task_id in tasks.values()}
    for cancelled, following in ((late, "high"), (tasks["high"], "medium"), (tasks["medium"], "low")):
        await desk.direct(cancelled, "/cancel")
        assert "dispatched" == await desk.phase(tasks[following])


async def test_a_more_urgent_task_that_takes_no_hand_keeps_nobody_waiting(desk: TrackedDesk) -> None:
    """What lets it go first looks again by itself."""
    await desk.executor(capacity=1)
    first = await desk.task()
    urgent, other = await desk.task(priority="critical"), await desk.task()
    await desk.backend.work.mark([urgent])
    await desk.execute("update es.stale set claimed_until = now() + interval '1 hour', claimed_by = 'dead'")
    await desk.direct(first, "/cancel")
    assert "ready" == await desk.phase(other)
    assert "coder to have a free hand" in await waiting(desk, other)
    assert [(True,)] == await desk.rows("select not_before > now() from es.stale where task_id = %s", other)
    await desk.execute("delete from es.stale where task_id = %s", urgent)
    await desk.execute("update es.stale set not_before = null")
    await desk.work()
    assert "dispatched" == await desk.phase(other)


async def test_capacity_is_never_exceeded_by_many_at_once(desk: TrackedDesk) -> None:
    """Ten tasks dispatched at the same time to an executor of capacity three: three are offered, the others wait."""
    await desk.executor(capacity=3)
    made = [
        (await desk.post("/api/tasks", {"title": "T", "goal": "G"}, "olga")).json()["id"] for _ in range(10)
    ]
    await asyncio.gather(*(desk.backend.dispatcher.advance(task_id) for task_id in made))
    await desk.work()
    phases = [await desk.phase(task_id) for task_id in made]
    assert (3, 7) == (phases.count("dispatched"), phases.count("ready"))
    for task_id in [t for t, phase in zip(made, phases, strict=True) if phase == "dispatched"]:
        await desk.submit("result", task_id, await desk.ack(task_id))
    phases = [await desk.phase(task_id) for task_id in made]
    assert (3, 3, 4) == (phases.count("completed"), phases.count("dispatched"), phases.count("ready"))


async def test_a_dependency_is_waited_for(desk: TrackedDesk) -> None:
    """A task goes on when the last of those that it depends on is completed, and names them until then."""
    await desk.executor()
    one, two = await desk.task(), await desk.task()
    last = await desk.task(depends_on=[one, two])
    assert sorted([one, two]) == sorted((await desk.show(f"/api/tasks/{last}"))["blocked_by"])
    await desk.submit("result", one, await desk.ack(one))
    assert ("ready", [two]) == (await desk.phase(last), (await desk.show(f"/api/tasks/{last}"))["blocked_by"])
    await desk.submit("result", two, await desk.ack(two))
    assert (1, "coder") == await attempt(desk, last)
    assert [] == (await desk.show(f"/api/tasks/{last}"))["blocked_by"]


@pytest.mark.parametrize("line", ["/cancel", "/reject v1"])
async def test_a_blocker_that_will_never_be_completed_needs_a_person(desk: TrackedDesk, line: str) -> None:
    """When a dependency ends otherwise than completed, the waiting task asks an operator."""
    blocker = await desk.planned()
    waits = await desk.task(depends_on=[blocker])
    assert "done" == (await desk.direct(blocker, line))["outcome"]
    assert "input_required" == await desk.phase(waits)
    assert f"{blocker} that this one depends on" in await waiting(desk, waits)


async def test_a_task_that_all_declined_needs_a_person(desk: TrackedDesk) -> None:
    """Each executor is asked once; when none is left, an operator decides, and a fresh retry asks them all again."""
    names = ("coder", "other")
    for name in names:
        await desk.executor(name)
    task_id = await desk.task()
    for number in (1, 2):
        found = await attempt(desk, task_id)
        assert found is not None
        assert number == found[0]
        await desk.send(callback("decline", task_id, number, 1), token(found[1]))
        await desk.work()
    assert "input_required" == await desk.phase(task_id)
    assert "declined" in await waiting(desk, task_id)
    await desk.direct(task_id, "/retry fresh")
    assert (3, "coder") == await attempt(desk, task_id)


async def test_an_unsafe_task_needs_a_person_at_once(desk: TrackedDesk) -> None:
    """A decline as unsafe is not passed on to the next executor."""
    await desk.executor()
    task_id = await desk.task()
    await desk.executor("other")
    await desk.send(
        callback("decline", task_id, 1, 1, {"reason": "unsafe", "detail": "It deletes."}), token("coder")
    )
    await desk.work()
    assert "input_required" == await desk.phase(task_id)
    assert "It deletes." in await waiting(desk, task_id)


async def test_an_executor_added_later_is_given_what_waits(desk: TrackedDesk) -> None:
    """A task that found nobody says so, and goes on as soon as an executor of its role is registered."""
    task_id = await desk.task(assignee="role:qa")
    assert "an executor that may take it" in await waiting(desk, task_id)
    await desk.post("/api/executors", {"name": "coder", "role": "developer"}, "ada")
    await desk.work()
    assert "ready" == await desk.phase(task_id)
    await desk.post("/api/executors", {"name": "tester", "role": "qa"}, "ada")
    await desk.work()
    assert (1, "tester") == await attempt(desk, task_id)


async def test_an_executor_added_later_relieves_a_full_one(desk: TrackedDesk) -> None:
    """A task that waits for a full executor goes to the next one that is registered."""
    await desk.executor(capacity=1)
    await desk.task()
    waits = await desk.task()
    assert "ready" == await desk.phase(waits)
    await desk.executor("other")
    await desk.work()
    assert (1, "other") == await attempt(desk, waits)


async def test_the_least_busy_executor_is_chosen(desk: TrackedDesk) -> None:
    """Of equals the one that holds the least gets the task; the author of the plan comes before any."""
    await desk.executor("anna")
    await desk.executor("bert")
    planned = await desk.task(mode="plan_first")
    assert (1, "anna") == await attempt(desk, planned)
    await desk.submit("plan", planned, await desk.ack(planned, token("anna")))
    for expected in ("anna", "bert", "anna"):
        assert (1, expected) == await attempt(desk, await desk.task())
    await desk.approve(planned)
    assert (2, "anna") == await attempt(desk, planned)


async def test_two_dispatchers_offer_one_attempt(desk: TrackedDesk) -> None:
    """Workers that advance a task at the same time offer it once."""
    await desk.executor("anna")
    await desk.executor("bert")
    task_id = (await desk.post("/api/tasks", {"title": "T", "goal": "G"}, "olga")).json()["id"]
    found = await asyncio.gather(
        *(desk.backend.dispatcher.advance(task_id) for _ in range(8)), return_exceptions=True
    )
    assert [] == [problem for problem in found if isinstance(problem, BaseException)]
    assert 1 == (await desk.events(task_id)).count("attempt.offered")
    accounts = await desk.rows("select name, reserved from es.account where reserved > 0")
    assert [("capacity:anna", 1)] == accounts


async def test_a_task_cancelled_at_its_dispatch_stays_cancelled(desk: TrackedDesk) -> None:
    """A cancel that comes between the look and the offer wins, and the pass ends without a fault."""
    await desk.executor()
    task_id = (await desk.post("/api/tasks", {"title": "T", "goal": "G"}, "olga")).json()["id"]
    executors = desk.backend.registry.executors

    async def cancelled_meanwhile() -> Any:
        found = await executors()
        await desk.post(f"/api/tasks/{task_id}/directives", {"text": "/cancel"}, "olga")
        return found

    desk.backend.registry.executors = cancelled_meanwhile  # type: ignore[method-assign]
    task = await desk.backend.dispatcher.advance(task_id)
    assert task is not None
    assert "cancelled" == task.phase
    assert [] == await desk.rows("select 1 from es.account where reserved > 0")
    await desk.work()
    assert [] == await desk.rows("select 1 from es.stale")


async def test_attempts_beyond_the_budget_need_a_person(desk: TrackedDesk) -> None:
    """A task whose attempts are used up is not offered again."""
    await desk.executor()
    task_id = await desk.task(budget={"attempts": 1})
    await desk.direct(task_id, "/reassign @coder")
    assert "input_required" == await desk.phase(task_id)


async def test_policy_is_asked_again_before_each_dispatch(
    open_test_backend: OpenBackend, database: Database
) -> None:
    """A rule at dispatch denies an executor, whoever admitted the task; the reason is what the task waits with."""
    risky = Condition(field="task.risk", operator="gte", value="high")
    rules = (
        Rule(id="gate", on="task.received", when=(risky,), obligations=_gate()),
        Rule(id="no-night", on="dispatch", when=(risky,), effect="deny", reason="Frozen tonight."),
    )
    policy = RuleSet(bundle="sha256:test", rules=rules)
    async with open_test_backend(policy=policy) as backend, open_client(backend) as client:
        desk = Desk(backend, client, database.owner)
        await desk.staff()
        await desk.executor()
        task_id = await desk.task(risk="high")
        shown = await desk.show(f"/api/tasks/{task_id}")
        assert ("input_required", "plan_first", "deny", ["no-night"]) == (
            shown["phase"],
            shown["mode"],
            shown["verdict"]["decision"],
            shown["verdict"]["rules"],
        )
        assert "Frozen tonight." in shown["waiting_for"]["what"]
        assert "dispatched" == await desk.phase(await desk.task())


def _gate() -> Any:
    obligations = RuleSet(bundle="", rules=()).defaults
    return type(obligations)(mode="plan_first", reviewers=Reviewers(quorum=2))
