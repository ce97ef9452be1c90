"""Executors that are paused on the tracker get no work; what waits for them says so, and goes on when they resume."""

from datetime import UTC, datetime

from tests.conftest import Database, OpenBackend
from tests.desk import PEOPLE, Desk, bearer, open_client, token
from tests.tracked_desk import CountingTracker, RememberingPlane, TrackedDesk

from agentic_os.application.ports import Recorded
from agentic_os.control_plane import AgentSeen
from agentic_os.domain.executor_pauses import ExecutorPause, pauses_in, waits_for
from agentic_os.domain.policy import Obligations, Reviewers, Rule, RuleSet


async def pause(desk: TrackedDesk, name: str = "coder", by: str = "ada", detail: str = "budget") -> None:
    """Pause an agent on the tracker, and let the system hear of it. by: "" for the tracker itself."""
    desk.tracker.pause(desk.tracker.account(name), desk.tracker.account(by) if by else "", detail)
    await desk.listen()


async def resume(desk: TrackedDesk, name: str = "coder", by: str = "olga") -> None:
    """Resume an agent on the tracker, and let the system hear of it."""
    desk.tracker.resume(desk.tracker.account(name), desk.tracker.account(by))
    await desk.listen()


async def waiting(desk: TrackedDesk, task_id: str) -> str:
    """Ask what a task waits for."""
    return str((await desk.show(f"/api/tasks/{task_id}/why"))["waiting_for"]["what"])


async def facts(desk: TrackedDesk, name: str = "coder") -> list[Recorded]:
    """Read what is on record of an executor's pauses."""
    events = await desk.backend.log.read_stream(f"principal:{name}")
    return [event for event in events if event.type.startswith("executor.")]


async def outcomes(desk: TrackedDesk) -> list[tuple[str, str]]:
    """Read what became of what was seen of agents."""
    query = "select outcome, reason from es.inbox where observation ->> 'kind' = 'AgentSeen' order by id"
    return [(outcome, reason) for outcome, reason in await desk.rows(query)]


async def test_a_paused_executor_is_offered_nothing_until_it_is_resumed(desk: TrackedDesk) -> None:
    """The task waits and says by whom and why; resuming lets it go on at once, with one attempt and one wake."""
    await desk.executor()
    await pause(desk)
    task_id = await desk.task()
    assert "ready" == await desk.phase(task_id)
    assert "coder is paused on memory by ada (budget)" in await waiting(desk, task_id)
    assert "coder is paused on memory by ada (budget)" in (await desk.notes(task_id))["status"]
    assert desk.tracker.wakes == []
    await resume(desk)
    assert [(task_id, 1)] == [(wake.task_id, wake.attempt) for wake in desk.tracker.wakes]
    assert (await desk.notes(task_id))["status"].count("paused") == 0
    await desk.submit("result", task_id, await desk.ack(task_id))
    assert "completed" == await desk.phase(task_id)


async def test_another_executor_takes_the_task(desk: TrackedDesk) -> None:
    """While one is paused the usual routing goes past it, and whoever is busy is waited for by name as well."""
    await desk.executor()
    await desk.executor("other", capacity=1)
    await pause(desk)
    first, second = await desk.task(), await desk.task()
    assert [first] == [wake.task_id for wake in desk.tracker.wakes]
    what = await waiting(desk, second)
    assert "other to have a free hand" in what
    assert "coder is paused on memory by ada (budget)" in what
    await resume(desk)
    assert [desk.tracker.account("other"), desk.tracker.account("coder")] == [
        wake.account for wake in desk.tracker.wakes
    ]


async def test_an_attempt_that_was_not_acknowledged_is_taken_back(desk: TrackedDesk) -> None:
    """It is closed with the reason and costs no retry; the issue is taken away, and resuming opens the next attempt."""
    await desk.executor()
    task_id = await desk.task()
    await pause(desk, detail="")
    assert "ready" == await desk.phase(task_id)
    assert ["attempt.superseded", "retry.released"] == (await desk.events(task_id))[-2:]
    (superseded,) = [
        event for event in await desk.backend.log.read_stream(task_id) if event.type == "attempt.superseded"
    ]
    assert "coder is paused on memory by ada." == superseded.data["reason"]
    assert (await desk.issue(task_id)).assignment is None
    task = (await desk.backend.log.load(task_id)).task
    assert task is not None
    assert not task.retries
    await resume(desk)
    assert [1, 2] == [wake.attempt for wake in desk.tracker.wakes]


async def test_an_attempt_that_was_acknowledged_stays_with_its_executor(desk: TrackedDesk) -> None:
    """Whoever is at work may finish: a pause wakes nobody, and ends nothing that still reports."""
    await desk.executor()
    task_id = await desk.task()
    work = await desk.ack(task_id)
    await pause(desk)
    assert "executing" == await desk.phase(task_id)
    await desk.submit("result", task_id, work)
    assert "completed" == await desk.phase(task_id)


async def test_a_task_for_a_paused_executor_alone_waits_for_it(desk: TrackedDesk) -> None:
    """Neither before nor after it was offered is an executor that somebody named exchanged, or asked a person for."""
    await desk.executor()
    task_id = await desk.task(assignee="coder")
    await desk.executor("other")
    await pause(desk)
    assert "ready" == await desk.phase(task_id)
    assert "coder is paused" in await waiting(desk, task_id)


async def test_a_pause_before_the_account_was_linked_counts(desk: TrackedDesk) -> None:
    """What the tracker told of an account that was nobody's holds once it is an executor's, and is on record then."""
    desk.tracker.pause(desk.tracker.account("coder"), desk.tracker.account("ada"), "budget")
    await desk.listen()
    assert [("ignored", "the account is no executor's")] == await outcomes(desk)
    await desk.executor()
    task_id = await desk.task()
    assert "coder is paused on memory by ada (budget)" in await waiting(desk, task_id)
    assert ["executor.paused"] == [event.type for event in await facts(desk)]


async def test_linking_a_paused_account_takes_back_what_was_offered(desk: TrackedDesk) -> None:
    """An attempt that was offered before the account was known to be paused is not left to its deadline."""
    await Desk.executor(desk)
    task_id = await desk.task()
    assert "dispatched" == await desk.phase(task_id)
    desk.tracker.pause(desk.tracker.account("coder"))
    await desk.listen()
    account = {"control_plane": "memory", "account": desk.tracker.account("coder")}
    answer = await desk.client.put(
        "/api/principals/coder/accounts",
        json=account,
        headers=bearer(token("ada")),
    )
    assert answer.status_code == 200
    await desk.work()
    assert "coder is paused on memory" in await waiting(desk, task_id)


async def test_who_paused_and_resumed_is_on_record(desk: TrackedDesk) -> None:
    """The executor's stream has each change once, in the name of who did it, as far as that is known."""
    await desk.executor()
    await pause(desk)
    await pause(desk)
    await pause(desk, by="", detail="budget")
    await resume(desk)
    await pause(desk, by="stranger", detail="")
    await resume(desk, by="stranger")
    await pause(desk, by="", detail="budget")
    stranger = f"memory:{desk.tracker.account('stranger')}"
    assert [
        ("executor.paused", "ada", "budget"),
        ("executor.resumed", "olga", None),
        ("executor.paused", stranger, ""),
        ("executor.resumed", stranger, None),
        ("executor.paused", "system", "budget"),
    ] == [(fact.type, fact.actor, fact.data.get("detail")) for fact in await facts(desk)]
    assert [
        ("done", "coder is paused"),
        ("ignored", "that coder is paused was known"),
        ("ignored", "that coder is paused was known"),
        ("done", "coder is ready"),
    ] == (await outcomes(desk))[:4]


async def test_executors_and_the_doctor_say_who_is_paused(desk: TrackedDesk) -> None:
    """The list has by whom, why and since when; the doctor warns, and says what to do."""
    await desk.executor()
    await pause(desk)
    (coder,) = (await desk.show("/api/executors"))["items"]
    assert ("memory", "ada", "budget") == tuple(coder["paused"][n] for n in ("control_plane", "by", "detail"))
    assert "coder is paused on memory by ada (budget)" == coder["paused"]["says"]
    (check,) = [c for c in (await desk.show("/api/doctor"))["checks"] if c["name"] == "pauses"]
    assert check["status"] == "warning"
    assert check["detail"].startswith("coder is paused on memory by ada (budget), since ")
    assert "Resume them on memory" in check["next"]
    await resume(desk)
    (coder,) = (await desk.show("/api/executors"))["items"]
    assert coder["paused"] is None
    (check,) = [c for c in (await desk.show("/api/doctor"))["checks"] if c["name"] == "pauses"]
    assert ("ok", "") == (check["status"], check["next"])


async def test_an_offer_that_crossed_with_a_pause_is_taken_back(desk: TrackedDesk) -> None:
    """One that was made while the pause was being put on record is taken back before anybody is assigned."""
    await desk.executor()
    task_id = await desk.task(assignee="role:nobody")
    desk.tracker.pause(desk.tracker.account("coder"))
    receipt = await desk.post(f"/api/tasks/{task_id}/directives", {"text": "/reassign @coder"}, "ada")
    assert receipt.json()["outcome"] == "done"
    await desk.backend.dispatcher.advance(task_id)
    assert "dispatched" == await desk.phase(task_id)
    await desk.worker.look_around()
    await desk.work()
    assert "ready" == await desk.phase(task_id)
    assert (await desk.issue(task_id)).assignment is None
    assert desk.tracker.wakes == []


async def test_a_paused_reviewer_is_waited_for_and_exchanged_where_there_is_another(
    open_test_backend: OpenBackend, database: Database, tracker: CountingTracker
) -> None:
    """A review that was offered is taken back; it is left to people only where nobody could be asked at all."""
    reviewers = Obligations(mode="plan_first", reviewers=Reviewers(role="qa", by="anyone"))
    rule = Rule(id="qa-reviews", on="task.received", obligations=reviewers)
    policy, plane = RuleSet(bundle="sha256:qa", rules=(rule,)), RememberingPlane(tracker)
    async with (
        open_test_backend(policy=policy, control_plane=plane) as backend,
        open_client(backend) as client,
    ):
        desk = TrackedDesk(backend, client, database.owner)
        desk.plane, desk.tracker = plane, tracker
        await desk.staff()
        await desk.introduce(*PEOPLE)
        await desk.executor()
        await desk.executor("checker", role="qa")
        task_id = await desk.task(assignee="coder")
        await desk.submit("plan", task_id, await desk.ack(task_id))
        await pause(desk, "checker")
        assert "plan_review" == await desk.phase(task_id)
        assert "checker is paused on memory by ada (budget)" in await waiting(desk, task_id)
        assert "review.escalated" not in await desk.events(task_id)
        await desk.executor("other", role="qa")
        await desk.work()
        await pause(desk, "other")
        await resume(desk, "checker")
        offers = [(wake.attempt, wake.account) for wake in tracker.wakes]
        account = tracker.account
        assert [(1, "coder"), (2, "checker"), (3, "other"), (4, "checker")] == [
            (number, next(n for n in ("coder", "checker", "other") if account(n) == woken))
            for number, woken in offers
        ]


def test_what_is_waited_for_reads_as_it_was_written() -> None:
    """Whatever a name or a reason holds, it is the same again, and is found by the name alone."""
    at = datetime(2027, 1, 1, tzinfo=UTC)
    odd = ExecutorPause(executor='a"],b', control_plane="memory", author="", detail='"x":[', at=at)
    assert [odd] == pauses_in(["executor", odd.as_wait(), "capacity:b"])
    assert 'a"],b is paused on memory ("x":[)' == str(odd)
    assert odd.as_wait().startswith(waits_for('a"],b'))
    assert not odd.as_wait().startswith(waits_for("a"))


def test_what_is_seen_of_an_agent_belongs_to_it() -> None:
    """Observations of one agent must have one key, which is no issue's, so that they are acted on in order."""
    at = datetime(2027, 1, 1, tzinfo=UTC)
    seen = AgentSeen(delivery="1", account="a", state="ready", author="", detail="", at=at)
    assert "agent:a" == seen.key
