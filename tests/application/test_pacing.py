"""A tracker's limits: a budget of writes, one pause for all, and what is known of how it does."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from agentic_os.application.pacing import PacedControlPlane, WriteBudget
from agentic_os.control_plane import (
    Capabilities,
    Cost,
    Denied,
    IssueDraft,
    NotFound,
    RateLimited,
    Unavailable,
)
from agentic_os.control_plane.memory import MemoryControlPlane, MemoryTracker

DRAFT = IssueDraft(task_id="t", title="T", body="", project="default", state="ready")


@dataclass
class Time:
    """A clock that is set by hand."""

    at: datetime = field(default=datetime(2027, 1, 5, tzinfo=UTC))

    def now(self) -> datetime:
        """Tell the time."""
        return self.at

    def elapsed(self) -> float:
        """Count the seconds."""
        return self.at.timestamp()

    def go_on(self, seconds: float) -> None:
        """Let time pass."""
        self.at += timedelta(seconds=seconds)


class LimitedPlane(MemoryControlPlane):
    """A tracker that bears sixty writes a minute."""

    @property
    def capabilities(self) -> Capabilities:
        """Say so."""
        return replace(super().capabilities, writes_per_minute=60)


class KeepsNoCosts(MemoryControlPlane):
    """A tracker without costs."""

    @property
    def capabilities(self) -> Capabilities:
        """Say so."""
        return replace(super().capabilities, costs=False)


@pytest.fixture
def time() -> Time:
    """Start a clock."""
    return Time()


@pytest.fixture
def tracker(time: Time) -> MemoryTracker:
    """Open a tracker that goes by it."""
    return MemoryTracker(now=time.now)


def paced(plane: MemoryControlPlane, time: Time) -> PacedControlPlane:
    """Keep to the limits of a tracker, by the clock."""
    return PacedControlPlane(plane, now=time.now, elapsed=time.elapsed)


def test_a_budget_is_spent_and_comes_back(time: Time) -> None:
    """The writes of ten seconds may come at once; then each waits for its second, and one too far off is not taken."""
    budget = WriteBudget(60, time.elapsed)
    assert {timedelta(0)} == {budget.take() for _ in range(10)}
    assert [1, 2, 3, 4, 5, 6, 6] == [budget.take().total_seconds() for _ in range(7)]
    time.go_on(8)
    assert [0, 0, 0] == [budget.take().total_seconds() for _ in range(3)]
    assert 1 == budget.take().total_seconds()


def test_no_limit_is_no_wait(time: Time) -> None:
    """Where a tracker names no limit, writes never wait."""
    budget = WriteBudget(None, time.elapsed)
    assert {timedelta(0)} == {budget.take() for _ in range(10_000)}


async def test_costs_are_writes(tracker: MemoryTracker, time: Time) -> None:
    """A cost falls under the budget of writes, and a tracker that keeps none is not asked."""
    plane = LimitedPlane(tracker)
    key = await paced(plane, time).ensure_issue(DRAFT)
    cost = Cost(
        account=plane.account,
        task_id="t",
        model="",
        cost_microusd=1,
        input_tokens=0,
        output_tokens=0,
        before=0,
        at=time.now(),
    )
    limited = paced(plane, time)
    limited._writes._left = -5.0
    with pytest.raises(RateLimited):
        await limited.report_cost(key, cost)
    await paced(KeepsNoCosts(tracker), time).report_cost(key, cost)
    assert {} == tracker.costs
    await paced(plane, time).report_cost(key, cost)
    assert [(key, cost)] == list(tracker.costs.values())


async def test_beyond_the_budget_is_refused_with_its_time(tracker: MemoryTracker, time: Time) -> None:
    """A write that would wait long is not made, and says when it may be; reads need no budget."""
    plane = paced(LimitedPlane(tracker), time)
    key = await plane.ensure_issue(DRAFT)
    plane._writes._left = -5.0
    with pytest.raises(RateLimited) as refusal:
        await plane.post(key, "m", "b")
    assert time.now() + timedelta(seconds=6) == refusal.value.retry_at
    assert {} == tracker.issue(key).comments
    assert (await plane.observe([key])).keys() == {key}
    assert plane.state.paused_until is None


async def test_a_pause_is_everybodys(tracker: MemoryTracker, time: Time) -> None:
    """After the tracker asked for patience nothing is asked of it until then, and the pause is known."""
    plane = paced(MemoryControlPlane(tracker), time)
    key = await plane.ensure_issue(DRAFT)
    tracker.limit_next(30)
    with pytest.raises(RateLimited):
        await plane.observe([key])
    for _ in range(3):
        with pytest.raises(RateLimited) as refusal:
            await plane.post(key, "m", "b")  # the tracker itself would take it
        assert time.now() + timedelta(seconds=30) == refusal.value.retry_at
    assert {} == tracker.issue(key).comments
    time.go_on(30)
    await plane.post(key, "m", "b")
    assert 1 == len(tracker.issue(key).comments)


async def test_what_is_known_of_the_tracker(tracker: MemoryTracker, time: Time) -> None:
    """An answer is an answer, be it a refusal; what is none is a failure, with its words."""
    plane = paced(MemoryControlPlane(tracker), time)
    assert not plane.answers(timedelta(minutes=1))
    with pytest.raises(NotFound):
        await plane.post("issue-99", "m", "b")
    assert plane.answers(timedelta(minutes=1))
    time.go_on(61)
    assert not plane.answers(timedelta(minutes=1))
    tracker.fail_next(before=True)
    with pytest.raises(Unavailable):
        await plane.observations("")
    assert (time.now(), "Unavailable: the tracker did not answer") == (
        plane.state.failed_at,
        plane.state.problem,
    )
    assert None is plane.state.read_at
    await plane.observations("")
    assert time.now() == plane.state.read_at


async def test_webhooks_are_known_to_come(tracker: MemoryTracker, time: Time) -> None:
    """A webhook counts when its signature is right, whatever it brings."""
    plane = paced(MemoryControlPlane(tracker), time)
    await plane.ensure_issue(DRAFT)
    ((headers, body),) = tracker.take_deliveries()
    with pytest.raises(Denied):
        await plane.receive(headers, body + b" ")
    assert None is plane.state.webhook_at
    assert () == await plane.receive(headers, body)
    assert time.now() == plane.state.webhook_at
