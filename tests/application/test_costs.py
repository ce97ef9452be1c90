"""What is spent is told to a tracker that keeps costs: once, on the account of whoever spent it."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.conftest import Database, OpenBackend
from tests.desk import PEOPLE, callback, open_client, token
from tests.tracked_desk import CountingTracker, RememberingPlane, TrackedDesk

from agentic_os.application.costs import SOON
from agentic_os.clock import now
from agentic_os.control_plane import Capabilities, Cost, Unavailable

CENT = 10_000


def usage(cents: float = 0, tokens: int = 0, **more: Any) -> dict[str, Any]:
    """Say what a callback says was spent."""
    return {"cost_microusd": int(cents * CENT), "input_tokens": tokens, "output_tokens": 1, **more}


def told(desk: TrackedDesk, name: str = "coder") -> list[tuple[float, int, int, str]]:
    """List what the tracker was told of an executor: cents, tokens of input and output, model."""
    account = desk.tracker.account(name)
    return [
        (cost.cost_microusd / CENT, cost.input_tokens, cost.output_tokens, cost.model)
        for _, cost in desk.tracker.costs.values()
        if cost.account == account
    ]


async def spend(desk: TrackedDesk, task_id: str, attempt_token: str, seq: int, **spent: Any) -> None:
    """Show life, having spent something."""
    document = callback("heartbeat", task_id, 1, seq, usage=usage(**spent))
    answer = await desk.send(document, attempt_token)
    assert 202 == answer.status_code, answer.text


async def test_what_changed_is_told_and_nothing_else(desk: TrackedDesk) -> None:
    """Each difference is one write; a task that spent nothing more, or nothing at all, costs none."""
    await desk.executor()
    task_id = await desk.task()
    attempt = await desk.ack(task_id)
    await desk.pass_over(task_id)
    assert {} == desk.tracker.costs
    await spend(desk, task_id, attempt, 2, cents=2, tokens=10, model="small")
    await spend(desk, task_id, attempt, 3, cents=0.5)
    desk.tracker.forget()
    for _ in range(2):
        await desk.pass_over(task_id)
    assert (1, [(2.5, 10, 2, "small")]) == (desk.tracker.writes, told(desk))
    await spend(desk, task_id, attempt, 4, cents=0.5, model="large")
    await desk.pass_over(task_id)
    assert [(2.5, 10, 2, "small"), (0.5, 0, 1, "large")] == told(desk)
    issue = (await desk.issue(task_id)).key
    assert [issue] * 2 == [key for key, _ in desk.tracker.costs.values()]
    befores = [cost.before for _, cost in desk.tracker.costs.values()]
    assert [0, 2.5 * CENT] == befores


async def test_what_is_spent_in_the_middle_of_an_attempt_is_told_soon(desk: TrackedDesk) -> None:
    """A callback that alone gives nobody work has its task looked at within seconds, once for several of them."""
    await desk.executor()
    task_id = await desk.task()
    attempt = await desk.ack(task_id)
    await desk.work()
    assert [] == await desk.rows("select 1 from es.stale")
    for seq in (2, 3):
        await spend(desk, task_id, attempt, seq, cents=1)
    ((generation, until),) = await desk.rows("select generation, not_before from es.stale")
    assert timedelta() < until - now() <= SOON
    await desk.work()
    assert [] == told(desk)
    await desk.hasten()
    await desk.work()
    assert (1, [(2, 0, 2, "")]) == (generation, told(desk))
    assert [] == await desk.rows("select 1 from es.stale")


async def test_the_worker_is_woken_for_it(desk: TrackedDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to look around for what was spent: the worker of this process is woken in time."""
    await desk.executor()
    task_id = await desk.task()
    attempt = await desk.ack(task_id)
    await desk.work()
    monkeypatch.setattr("agentic_os.application.costs.SOON", timedelta(milliseconds=1))
    woken = desk.backend.signals.work
    woken.clear()
    await spend(desk, task_id, attempt, 2, cents=1)
    await asyncio.wait_for(woken.wait(), 30)
    await desk.work()
    assert [(1, 0, 1, "")] == told(desk)


async def test_what_a_refused_callback_spent_is_told_soon(desk: TrackedDesk) -> None:
    """What was spent was spent, also by a callback that comes out of order."""
    await desk.executor()
    task_id = await desk.task()
    attempt = await desk.ack(task_id)
    await spend(desk, task_id, attempt, 3, cents=1)
    await desk.pass_over(task_id)
    answer = await desk.send(callback("heartbeat", task_id, 1, 2, usage=usage(3)), attempt)
    assert 409 == answer.status_code, answer.text
    await desk.hasten()
    await desk.work()
    assert [(1, 0, 1, ""), (3, 0, 1, "")] == told(desk)


async def test_each_pays_for_itself(desk: TrackedDesk) -> None:
    """A second attempt by somebody else is on that one's account, and what the first one spent stays on its own."""
    await desk.executor()
    task_id = await desk.task()
    attempt = await desk.ack(task_id)
    await desk.executor("tester")
    await desk.direct(task_id, "/reassign @tester")
    late = await desk.send(callback("heartbeat", task_id, 1, 2, usage=usage(3)), attempt)
    assert 409 == late.status_code, late.text
    second = await desk.ack(task_id, token("tester"))
    await desk.send(callback("heartbeat", task_id, 2, 2, usage=usage(1)), second)
    await desk.pass_over(task_id)
    assert ([(3, 0, 1, "")], [(1, 0, 1, "")]) == (told(desk), told(desk, "tester"))


@pytest.mark.parametrize("before", [True, False], ids=["before the write", "after the write"])
async def test_a_failure_at_any_request_tells_nothing_twice(desk: TrackedDesk, *, before: bool) -> None:
    """Whichever request fails, all that was spent is told once, and what was spent meanwhile as well."""
    await desk.executor()
    task_id = await desk.task()
    attempt = await desk.ack(task_id)
    for skipped in range(5):
        await spend(desk, task_id, attempt, 2 + skipped, cents=1)
        desk.tracker.forget()
        desk.tracker.fail_at(skipped, before=before)
        await desk.pass_over(task_id)
    desk.tracker.fail_at(None, before=before)
    await desk.pass_over(task_id)
    assert (5, 5) == tuple(map(sum, zip(*[(c, out) for c, _, out, _ in told(desk)], strict=True)))


async def test_a_report_whose_answer_was_lost_is_repeated_as_it_was(
    desk: TrackedDesk, database: Database, open_test_backend: OpenBackend
) -> None:
    """A process that comes after a crash says the same of the same instant, and then what was spent since."""
    await desk.executor()
    task_id = await desk.task()
    attempt = await desk.ack(task_id)
    await desk.pass_over(task_id)
    await spend(desk, task_id, attempt, 2, cents=1)
    desk.tracker.fail_next(before=False)
    await desk.pass_over(task_id)
    seen = dict(desk.tracker.costs)
    desk.tracker.costs.clear()
    await spend(desk, task_id, attempt, 3, cents=2)
    async with open_test_backend(control_plane=desk.plane) as backend, open_client(backend) as client:
        later = TrackedDesk(backend, client, database.owner)
        later.plane, later.tracker = desk.plane, desk.tracker
        await later.pass_over(task_id)
    repeated, (_, rest) = desk.tracker.costs.values()
    assert [repeated] == list(seen.values())
    assert (2 * CENT, CENT) == (rest.cost_microusd, rest.before)


async def test_an_issue_that_is_made_anew_has_what_is_spent_from_then_on(desk: TrackedDesk) -> None:
    """What was told on the issue that is gone stays with its executor, and is not told again."""
    await desk.executor()
    task_id = await desk.task()
    attempt = await desk.ack(task_id)
    await spend(desk, task_id, attempt, 2, cents=1)
    await desk.pass_over(task_id)
    old = (await desk.issue(task_id)).key
    desk.tracker.delete_issue(old, desk.tracker.account("ada"))
    await desk.listen()
    assert old != (await desk.issue(task_id)).key
    assert [(1, 0, 1, "")] == told(desk)
    await spend(desk, task_id, attempt, 3, cents=2)
    await desk.pass_over(task_id)
    assert [(old, CENT), ((await desk.issue(task_id)).key, 2 * CENT)] == [
        (key, cost.cost_microusd) for key, cost in desk.tracker.costs.values()
    ]


async def test_a_refused_cost_keeps_nothing_else_from_being_shown(desk: TrackedDesk) -> None:
    """The issue is shown, the refusal is told by doctor and no failure, and the cost goes to the next account."""
    await desk.executor()
    task_id = await desk.task()
    attempt = await desk.ack(task_id)
    account = "update es.external_account set account = %s where principal = 'coder'"
    await desk.execute(account, "account-gone")
    answer = await desk.send(callback("result", task_id, 1, 2, usage=usage(1, model="m")), attempt)
    assert 202 == answer.status_code, answer.text
    await desk.work()
    assert "completed" == (await desk.issue(task_id)).closed
    assert "end:completed" in await desk.notes(task_id)
    assert [] == await desk.rows("select 1 from es.stale")
    (check,) = [c for c in (await desk.show("/api/doctor"))["checks"] if c["name"] == "costs"]
    assert "warning" == check["status"]
    assert f"coder on {task_id}: Invalid: there is no account 'account-gone'" in check["detail"]

    await desk.execute(account, desk.tracker.account("coder"))
    await desk.pass_over(task_id)
    assert [(1, 0, 1, "m")] == told(desk)
    (check,) = [c for c in (await desk.show("/api/doctor"))["checks"] if c["name"] == "costs"]
    assert "ok" == check["status"]


async def test_what_could_not_be_told_is_tried_again_after_the_rest_was_shown(desk: TrackedDesk) -> None:
    """A tracker that fails at costs alone shows the end of the task all the same, and is told later."""
    await desk.executor()
    task_id = await desk.task()
    attempt = await desk.ack(task_id)
    report = desk.tracker.report_cost

    def away(*_: object) -> None:
        raise Unavailable("the books are closed")

    desk.tracker.report_cost = away  # type: ignore[method-assign]
    answer = await desk.send(callback("result", task_id, 1, 2, usage=usage(1)), attempt)
    assert 202 == answer.status_code, answer.text
    await desk.work()
    assert "completed" == (await desk.issue(task_id)).closed
    assert "end:completed" in await desk.notes(task_id)
    failures, _, problem = await desk.stale(task_id)
    assert (1, "Unavailable: the books are closed") == (failures, problem)
    desk.tracker.report_cost = report  # type: ignore[method-assign]
    await desk.hasten()
    await desk.work()
    assert [(1, 0, 1, "")] == told(desk)
    assert [] == await desk.rows("select 1 from es.stale")


async def test_one_without_an_account_is_told_of_once_it_has_one(desk: TrackedDesk) -> None:
    """An executor that the tracker does not know costs no request, and is caught up with later."""
    await desk.executor()
    task_id = await desk.task()
    attempt = await desk.ack(task_id)
    await desk.execute("delete from es.external_account where principal = 'coder'")
    await spend(desk, task_id, attempt, 2, cents=1)
    await desk.pass_over(task_id)
    assert {} == desk.tracker.costs
    await desk.introduce("coder")
    await desk.pass_over(task_id)
    assert [(1, 0, 1, "")] == told(desk)


class KeepsNoCosts(RememberingPlane):
    @property
    def capabilities(self) -> Capabilities:
        return replace(super().capabilities, costs=False)

    async def report_cost(self, key: str, cost: Cost) -> None:
        raise AssertionError((key, cost))


async def test_a_tracker_that_keeps_no_costs_is_never_asked(
    database: Database, open_test_backend: OpenBackend
) -> None:
    """Neither a pass nor a callback does anything for it."""
    plane = KeepsNoCosts(CountingTracker())
    async with open_test_backend(control_plane=plane) as backend, open_client(backend) as client:
        desk = TrackedDesk(backend, client, database.owner)
        desk.plane, desk.tracker = plane, plane.tracker
        await desk.staff()
        await desk.introduce(*PEOPLE)
        await desk.executor()
        task_id = await desk.task()
        attempt = await desk.ack(task_id)
        await desk.work()
        await spend(desk, task_id, attempt, 2, cents=1)
        assert [] == await desk.rows("select 1 from es.stale")
        await desk.pass_over(task_id)
        assert [] == await desk.rows("select 1 from es.cost")
        assert [] == [c for c in (await desk.show("/api/doctor"))["checks"] if c["name"] == "costs"]


async def test_the_cost_is_told_before_the_next_is_woken(desk: TrackedDesk) -> None:
    """A tracker whose budget is used up by one attempt hears of that before it is given the next."""
    order: list[str] = []
    report, assign = desk.tracker.report_cost, desk.tracker.assign

    def noted(name: str, do: Callable[..., None]) -> Callable[..., None]:
        def noting(*given: Any) -> None:
            order.append(name)
            do(*given)

        return noting

    await desk.executor()
    task_id = await desk.task()
    attempt = await desk.ack(task_id)
    await desk.work()
    desk.tracker.report_cost = noted("cost", report)  # type: ignore[method-assign]
    desk.tracker.assign = noted("assign", assign)  # type: ignore[method-assign]
    body = {"class": "transient", "message": "No.", "retryable": True}
    answer = await desk.send(callback("failure", task_id, 1, 2, body, usage=usage(1)), attempt)
    assert 202 == answer.status_code, answer.text
    await desk.direct(task_id, "/retry")
    assert "cost" == order[0]
    assert 2 == len(desk.tracker.wakes)
