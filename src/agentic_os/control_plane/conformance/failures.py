"""How a tracker refuses, is silent, and comes back."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeAlias

import pytest

from agentic_os.clock import now
from agentic_os.control_plane import (
    Assignment,
    ControlPlane,
    Denied,
    IssueChanges,
    NotFound,
    RateLimited,
    Unavailable,
)
from agentic_os.control_plane.conformance.harness import (
    ROBOT,
    TrackerHarness,
    new_draft,
    observed,
    read_feed,
)

_Call: TypeAlias = Callable[[ControlPlane, str], Awaitable[object]]

_CALLS: dict[str, _Call] = {
    "observe": lambda plane, key: plane.observe([key]),
    "observations": lambda plane, _key: plane.observations(""),
    "identify": lambda plane, _key: plane.identify(ROBOT),
    "apply": lambda plane, key: plane.apply(key, IssueChanges(title="Count the peas")),
    "post": lambda plane, key: plane.post(key, "status", "Ready."),
    "assign": lambda plane, key: plane.assign(key, None),
}
_EACH_CALL = pytest.mark.parametrize("call", _CALLS.values(), ids=_CALLS)


class Failures:
    """Each failure is raised as what it means to the caller."""

    @_EACH_CALL
    async def test_silence_is_unavailable(self, tracker: TrackerHarness, call: _Call) -> None:
        """No answer must be Unavailable: never NotFound, never an issue that is absent, never an empty page."""
        key = await _issue_of_an_agent(tracker)
        await tracker.fail_next(before=True)
        with pytest.raises(Unavailable):
            await call(tracker.plane, key)

    @_EACH_CALL
    async def test_a_rate_limit_says_when_to_come_back(self, tracker: TrackerHarness, call: _Call) -> None:
        """A refusal for haste must carry the instant, in the near future, from which to try again."""
        key = await _issue_of_an_agent(tracker)
        await tracker.limit_next(30)
        with pytest.raises(RateLimited) as caught:
            await call(tracker.plane, key)
        assert timedelta() < caught.value.retry_at - now() <= timedelta(minutes=1)

    @_EACH_CALL
    async def test_wrong_credentials_are_denied(self, tracker: TrackerHarness, call: _Call) -> None:
        """A tracker that does not know us must be Denied, and never look like one without issues."""
        key = await _issue_of_an_agent(tracker)
        stranger: ControlPlane = await tracker.stranger()
        try:
            with pytest.raises(Denied):
                await call(stranger, key)
        finally:
            await stranger.aclose()

    async def test_a_creation_by_a_stranger_is_denied(self, tracker: TrackerHarness) -> None:
        """Wrong credentials must create nothing."""
        before, stranger = await tracker.issues(), await tracker.stranger()
        try:
            with pytest.raises(Denied):
                await stranger.ensure_issue(new_draft(tracker))
        finally:
            await stranger.aclose()
        assert sorted(before) == sorted(await tracker.issues())


class Identities:
    """Accounts are known by stable ids, found by login names."""

    async def test_an_account_is_found_by_its_login_name(self, tracker: TrackerHarness) -> None:
        """The id found must be the one that observations carry, for people and for agents."""
        assert await tracker.person("ada") == await tracker.plane.identify("ada")
        assert await tracker.agent(ROBOT) == await tracker.plane.identify(ROBOT)

    async def test_an_unknown_login_name_is_not_found(self, tracker: TrackerHarness) -> None:
        """A name must match whole: neither part of another's nor nothing at all may find an account."""
        await tracker.person("ada")
        for name in ("ad", "nobody-of-this-name", ""):
            with pytest.raises(NotFound):
                await tracker.plane.identify(name)


class Restarts:
    """What was done once stays done when the tracker and the backend start anew."""

    async def test_a_restart_repeats_nothing(self, tracker: TrackerHarness) -> None:
        """After a restart the same requests must find their issue, note and wake, and the cursor its place."""
        draft, ada = new_draft(tracker), await tracker.person("ada")
        assignment = Assignment(account=await tracker.agent(ROBOT), task_id=draft.task_id, attempt=1)
        key = await tracker.plane.ensure_issue(draft)
        note_id = await tracker.plane.post(key, "status", "Ready.")
        await tracker.plane.assign(key, assignment)
        before = list(await tracker.wakes())
        await tracker.comment(key, ada, "/status")
        _, cursor = await read_feed(tracker.plane)
        await tracker.comment(key, ada, "/approve")
        await tracker.restart()
        assert key == await tracker.plane.ensure_issue(draft)
        assert note_id == await tracker.plane.post(key, "status", "Ready.")
        await tracker.plane.assign(key, assignment)
        assert [assignment] == before == list(await tracker.wakes())
        bodies = [getattr(seen, "body", "") for seen in await observed(tracker.plane, key, cursor)]
        assert bodies == ["/approve"]


async def _issue_of_an_agent(tracker: TrackerHarness) -> str:
    await tracker.agent(ROBOT)
    return await tracker.plane.ensure_issue(new_draft(tracker))
