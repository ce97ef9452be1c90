"""Assigning, and what it wakes."""

from contextlib import suppress

import pytest

from agentic_os.control_plane import (
    Assignment,
    Conflict,
    FieldChanged,
    IssueChanges,
    RunSeen,
    Unavailable,
)
from agentic_os.control_plane.conformance.harness import (
    ROBOT,
    TrackerHarness,
    new_draft,
    new_task,
    observed,
    read_feed,
)


async def _issue(tracker: TrackerHarness) -> tuple[str, Assignment]:
    """Make an issue, and the first assignment of its task."""
    draft = new_draft(tracker)
    first = Assignment(account=await tracker.agent(ROBOT), task_id=draft.task_id, attempt=1)
    return await tracker.plane.ensure_issue(draft), first


async def _assignment(tracker: TrackerHarness, key: str) -> Assignment | None:
    issue = (await tracker.plane.observe([key]))[key]
    assert issue is not None
    return issue.assignment


def _attempt(first: Assignment, attempt: int, account: str = "") -> Assignment:
    return Assignment(account=account or first.account, task_id=first.task_id, attempt=attempt)


class Assigning:
    """One attempt is one wake, however often it is projected."""

    async def test_an_assignment_wakes_once(self, tracker: TrackerHarness) -> None:
        """The same assignment again must wake nobody."""
        key, first = await _issue(tracker)
        for _ in range(3):
            await tracker.plane.assign(key, first)
        assert [first] == list(await tracker.wakes())
        assert first == await _assignment(tracker, key)

    async def test_an_assignment_whose_answer_was_lost_wakes_once(self, tracker: TrackerHarness) -> None:
        """An assignment that took effect unheard must not wake again when it is repeated."""
        key, first = await _issue(tracker)
        await tracker.fail_next(before=False)
        with pytest.raises(Unavailable):
            await tracker.plane.assign(key, first)
        await tracker.plane.assign(key, first)
        assert [first] == list(await tracker.wakes())

    async def test_an_assignment_that_failed_wakes_when_repeated(self, tracker: TrackerHarness) -> None:
        """An assignment that never reached the tracker must wake the second time, and only then."""
        key, first = await _issue(tracker)
        await tracker.fail_next(before=True)
        with pytest.raises(Unavailable):
            await tracker.plane.assign(key, first)
        assert list(await tracker.wakes()) == []
        await tracker.plane.assign(key, first)
        assert [first] == list(await tracker.wakes())

    async def test_the_next_attempt_wakes_again(self, tracker: TrackerHarness) -> None:
        """The same account must be woken for each attempt that it is given."""
        key, first = await _issue(tracker)
        second = _attempt(first, 2)
        await tracker.plane.assign(key, first)
        await tracker.plane.assign(key, second)
        await tracker.plane.assign(key, second)
        assert [first, second] == list(await tracker.wakes())
        assert second == await _assignment(tracker, key)

    async def test_an_attempt_that_is_over_wakes_nobody(self, tracker: TrackerHarness) -> None:
        """A projection that comes late, of an attempt before the newest, may be refused, and must never wake."""
        key, first = await _issue(tracker)
        second = _attempt(first, 2)
        await tracker.plane.assign(key, first)
        await tracker.plane.assign(key, second)
        with suppress(Conflict):
            await tracker.plane.assign(key, first)
        await tracker.plane.assign(key, second)
        assert [first, second] == list(await tracker.wakes())

    async def test_another_account_is_woken_alone(self, tracker: TrackerHarness) -> None:
        """An attempt that goes to somebody else must wake them, and not the one it is taken from."""
        key, first = await _issue(tracker)
        other = _attempt(first, 2, await tracker.agent("automaton"))
        await tracker.plane.assign(key, first)
        await tracker.plane.assign(key, other)
        assert [first, other] == list(await tracker.wakes())
        assert other == await _assignment(tracker, key)

    async def test_taking_the_assignee_away_wakes_nobody(self, tracker: TrackerHarness) -> None:
        """Neither taking the assignee away, twice, nor giving the same attempt back may wake."""
        key, first = await _issue(tracker)
        await tracker.plane.assign(key, first)
        await tracker.plane.assign(key, None)
        await tracker.plane.assign(key, None)
        assert await _assignment(tracker, key) is None
        await tracker.plane.assign(key, first)
        assert [first] == list(await tracker.wakes())

    async def test_two_tasks_wake_the_same_account_twice(self, tracker: TrackerHarness) -> None:
        """The key of a wake must be task and attempt, not the attempt alone."""
        (key, first), (other_key, other) = await _issue(tracker), await _issue(tracker)
        await tracker.plane.assign(key, first)
        await tracker.plane.assign(other_key, other)
        # In whichever order: the wakes of two issues have nothing to do with each other.
        assert [first, other] == sorted(await tracker.wakes(), key=[first, other].index)

    async def test_our_other_writes_wake_nobody(self, tracker: TrackerHarness) -> None:
        """A note, its edit and a changed field on an assigned issue must wake nobody."""
        key, first = await _issue(tracker)
        await tracker.plane.assign(key, first)
        note_id = await tracker.plane.post(key, "status", "Dispatched.")
        await tracker.plane.edit(key, note_id, "Executing.")
        await tracker.plane.apply(key, IssueChanges(state="executing", closed="completed"))
        assert [first] == list(await tracker.wakes())

    async def test_an_assignment_by_hand_is_observed_as_such(self, tracker: TrackerHarness) -> None:
        """A person's assignment must name its author, and never pass for an attempt of ours."""
        key, first = await _issue(tracker)
        ada = await tracker.person("ada")
        _, cursor = await read_feed(tracker.plane)
        await tracker.change_field(key, ada, "assignee", first.account)
        seen = await observed(tracker.plane, key, cursor)
        changes = [
            (change.field, change.author, change.value) for change in seen if isinstance(change, FieldChanged)
        ]
        assert [("assignee", ada, first.account)] == changes
        assignment = await _assignment(tracker, key)
        assert assignment is not None
        assert (first.account, 0) == (assignment.account, assignment.attempt)

    async def test_a_run_is_seen_alive_and_ended(self, tracker: TrackerHarness) -> None:
        """A run must be seen with the task and the attempt that it works for."""
        if not tracker.plane.capabilities.runs:
            pytest.skip("this tracker has no runs")
        key, first = await _issue(tracker)
        _, cursor = await read_feed(tracker.plane)
        await tracker.plane.assign(key, first)
        await tracker.report_run(key, first, "alive")
        await tracker.report_run(key, first, "ended")
        seen = [run for run in await observed(tracker.plane, key, cursor) if isinstance(run, RunSeen)]
        assert {(first.task_id, first.attempt)} == {(run.task_id, run.attempt) for run in seen}
        states = [run.state for run in seen]
        assert "alive" in states
        assert states[-1] == "ended"
        assert states.count("ended") == 1

    async def test_an_adopted_issue_wakes_like_any_other(self, tracker: TrackerHarness) -> None:
        """An issue that a person opened must wake for the task it was adopted as."""
        ada, account = await tracker.person("ada"), await tracker.agent(ROBOT)
        key = await tracker.open_issue(ada, "Count the beans", "All.", tracker.project, ())
        adopted = Assignment(account=account, task_id=new_task(), attempt=1)
        await tracker.plane.assign(key, adopted)
        assert [adopted] == list(await tracker.wakes())
        assert adopted == await _assignment(tracker, key)
