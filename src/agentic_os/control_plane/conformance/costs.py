"""What agents spent, where a tracker keeps it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentic_os.clock import now
from agentic_os.control_plane import ControlPlane, Cost, Costing, NotFound, Unavailable
from agentic_os.control_plane.conformance.harness import (
    ROBOT,
    SpentOnIssue,
    TrackerHarness,
    new_draft,
    observed,
    read_feed,
)

_CENT = 10_000


def _costing(tracker: TrackerHarness) -> Costing:
    plane: ControlPlane = tracker.plane
    if not plane.capabilities.costs:
        pytest.skip("this tracker keeps no costs")
    assert isinstance(plane, Costing)
    return plane


async def _issue(tracker: TrackerHarness) -> tuple[str, Callable[..., Cost]]:
    """Make an issue, and say how costs on it are written."""
    draft, account = new_draft(tracker), await tracker.agent(ROBOT)
    at = now().replace(microsecond=0).astimezone(UTC)

    def cost(number: int = 0, **more: Any) -> Cost:
        instant: datetime = at + timedelta(milliseconds=number)
        amounts: dict[str, Any] = {"cost_microusd": 3 * _CENT, "input_tokens": 100, "output_tokens": 20}
        named: dict[str, Any] = {"account": account, "task_id": draft.task_id, "model": "m", "before": 0}
        return Cost(at=instant, **named | amounts | more)

    return await tracker.plane.ensure_issue(draft), cost


class Costs:
    """Each cost is on record once, and never more than was spent."""

    async def test_a_cost_is_on_the_issue_once(self, tracker: TrackerHarness) -> None:
        """A report that is repeated must count once, and another one must be added."""
        plane = _costing(tracker)
        key, cost = await _issue(tracker)
        for _ in range(2):
            await plane.report_cost(key, cost())
        assert SpentOnIssue(cents=3, input_tokens=100, output_tokens=20) == await tracker.spent(key)
        await plane.report_cost(key, cost(1, before=3 * _CENT, cost_microusd=2 * _CENT, input_tokens=1))
        assert SpentOnIssue(cents=5, input_tokens=101, output_tokens=40) == await tracker.spent(key)

    async def test_a_cost_whose_answer_was_lost_counts_once(self, tracker: TrackerHarness) -> None:
        """A report that took effect unheard must not count again, also after a restart."""
        plane = _costing(tracker)
        key, cost = await _issue(tracker)
        await tracker.fail_next(before=False)
        with pytest.raises(Unavailable):
            await plane.report_cost(key, cost())
        await plane.report_cost(key, cost())
        await tracker.restart()
        await _costing(tracker).report_cost(key, cost())
        assert SpentOnIssue(cents=3, input_tokens=100, output_tokens=20) == await tracker.spent(key)

    async def test_parts_of_a_cent_add_up(self, tracker: TrackerHarness) -> None:
        """What is less than a cent must not be rounded up, and must count with what comes later."""
        plane = _costing(tracker)
        key, cost = await _issue(tracker)
        for number in range(4):
            part = cost(number, before=number * 6_000, cost_microusd=6_000, input_tokens=0, output_tokens=1)
            await plane.report_cost(key, part)
        assert SpentOnIssue(cents=2, input_tokens=0, output_tokens=4) == await tracker.spent(key)

    async def test_tokens_without_a_price_are_on_record(self, tracker: TrackerHarness) -> None:
        """Tokens whose price nobody knows must be there, and cost nothing; a model without a name is no fault."""
        plane = _costing(tracker)
        key, cost = await _issue(tracker)
        await plane.report_cost(key, cost(cost_microusd=0, model=""))
        assert SpentOnIssue(cents=0, input_tokens=100, output_tokens=20) == await tracker.spent(key)

    async def test_a_cost_is_nobody_s_doing(self, tracker: TrackerHarness) -> None:
        """A report of ours must change nothing else on the issue, wake nobody, and not be observed."""
        plane = _costing(tracker)
        key, cost = await _issue(tracker)
        before = await tracker.plane.observe([key])
        _, cursor = await read_feed(tracker.plane)
        await plane.report_cost(key, cost())
        assert list(await tracker.wakes()) == []
        assert await observed(tracker.plane, key, cursor) == []
        assert before == await tracker.plane.observe([key])

    async def test_a_cost_on_an_unknown_issue_is_not_found(self, tracker: TrackerHarness) -> None:
        """A report for an issue that never was must say so, and be on no record."""
        plane = _costing(tracker)
        key, cost = await _issue(tracker)
        with pytest.raises(NotFound):
            await plane.report_cost(tracker.unknown_key, cost())
        await plane.report_cost(key, cost())
        assert SpentOnIssue(cents=3, input_tokens=100, output_tokens=20) == await tracker.spent(key)
