"""Agents that are paused on the tracker: told of once, by whom, and whenever it happened."""

import pytest

from agentic_os.control_plane import AgentSeen
from agentic_os.control_plane.conformance.harness import TrackerHarness, read_feed

SLEEPER = "sleeper"
"""An agent of these tests alone: a tracker may know no way to wake it again."""


class Agents:
    """Whoever is not woken must be known as such, or work is offered to nobody."""

    async def test_a_paused_agent_is_observed(self, tracker: TrackerHarness) -> None:
        """Both a pause and its end must be seen once, with the agent and with who did it."""
        ada, account = await _paused(tracker)
        seen, cursor = await _seen(tracker, account, "")
        assert [("paused", ada)] == [(one.state, one.author) for one in seen]
        assert (await _seen(tracker, account, cursor))[0] == []
        await tracker.resume(account, ada)
        seen, _ = await _seen(tracker, account, cursor)
        assert [("ready", ada)] == [(one.state, one.author) for one in seen]
        assert all(one.at.tzinfo is not None for one in seen)

    async def test_a_pause_is_told_of_again_from_the_beginning(self, tracker: TrackerHarness) -> None:
        """Who begins to read while an agent is paused must hear of it, also over a connection that is new."""
        _, account = await _paused(tracker)
        await _seen(tracker, account, "")
        await tracker.restart()
        seen, _ = await _seen(tracker, account, "")
        assert [one.state for one in seen][-1:] == ["paused"]

    async def test_a_pause_has_one_delivery(self, tracker: TrackerHarness) -> None:
        """Read again from the same place, a pause must be known by its delivery, which no other has."""
        ada, account = await _paused(tracker)
        before, cursor = await _seen(tracker, account, "")
        again, _ = await _seen(tracker, account, "")
        assert [one.delivery for one in before] == [one.delivery for one in again]
        await tracker.resume(account, ada)
        await tracker.pause(account, ada)
        later, _ = await _seen(tracker, account, cursor)
        assert not {one.delivery for one in before} & {one.delivery for one in later}


async def _paused(tracker: TrackerHarness) -> tuple[str, str]:
    """Pause an agent; return who did it, and the agent."""
    if not tracker.plane.capabilities.agents:
        pytest.skip("this tracker does not tell which agents are paused")
    ada, account = await tracker.person("ada"), await tracker.agent(SLEEPER)
    await tracker.pause(account, ada)
    return ada, account


async def _seen(tracker: TrackerHarness, account: str, cursor: str) -> tuple[list[AgentSeen], str]:
    seen, cursor = await read_feed(tracker.plane, cursor)
    return [one for one in seen if isinstance(one, AgentSeen) and one.account == account], cursor
