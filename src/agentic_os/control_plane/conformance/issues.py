"""Creating issues, seeing them as they are, and changing them."""

from dataclasses import replace

import pytest

from agentic_os.control_plane import (
    ControlPlane,
    Issue,
    IssueChanges,
    NotFound,
    RateLimited,
    Unavailable,
)
from agentic_os.control_plane.conformance.harness import TEXT, TrackerHarness, new_draft

_LONG = 60_000


async def _see(plane: ControlPlane, key: str) -> Issue:
    issue = (await plane.observe([key]))[key]
    assert issue is not None
    return issue


class CreatingIssues:
    """One task has one issue, whatever happens on the way."""

    async def test_creating_twice_makes_one_issue(self, tracker: TrackerHarness) -> None:
        """The same task must get the same issue, however often it is asked for."""
        draft, before = new_draft(tracker), await tracker.issues()
        key = await tracker.plane.ensure_issue(draft)
        assert key == await tracker.plane.ensure_issue(draft)
        assert [key] == sorted(set(await tracker.issues()) - set(before))

    async def test_tasks_of_one_title_have_issues_of_their_own(self, tracker: TrackerHarness) -> None:
        """Two tasks must never share an issue because they read alike."""
        first = await tracker.plane.ensure_issue(new_draft(tracker))
        assert first != await tracker.plane.ensure_issue(new_draft(tracker))

    async def test_a_new_issue_shows_its_draft(self, tracker: TrackerHarness) -> None:
        """A new issue must be open, unassigned, without notes and gates, and read as drafted."""
        draft = new_draft(tracker)
        key = await tracker.plane.ensure_issue(draft)
        issue = await _see(tracker.plane, key)
        assert (key, draft.title, draft.body) == (issue.key, issue.title, issue.body)
        assert (draft.state, draft.labels) == (issue.state, issue.labels)
        assert (issue.closed, issue.assignment, dict(issue.notes), issue.reviews) == (None, None, {}, ())
        assert issue.url

    async def test_a_child_shows_its_parent_and_priority(self, tracker: TrackerHarness) -> None:
        """Where a tracker has parents and priorities, an issue must show those of its draft, and take others."""
        parent = await tracker.plane.ensure_issue(new_draft(tracker))
        key = await tracker.plane.ensure_issue(replace(new_draft(tracker), parent=parent, priority="high"))
        issue = await _see(tracker.plane, key)
        assert issue.parent in {parent, None}
        assert issue.priority in {"high", None}
        wanted = IssueChanges(parent=issue.parent and "", priority=issue.priority and "low")
        await tracker.plane.apply(key, wanted)
        issue = await _see(tracker.plane, key)
        assert (wanted.parent, wanted.priority) == (issue.parent, issue.priority)

    async def test_a_creation_whose_answer_was_lost_makes_one_issue(self, tracker: TrackerHarness) -> None:
        """A crash between creating and remembering must not leave a twin behind."""
        draft, before = new_draft(tracker), await tracker.issues()
        await tracker.fail_next(before=False)
        with pytest.raises(Unavailable):
            await tracker.plane.ensure_issue(draft)
        key = await tracker.plane.ensure_issue(draft)
        assert [key] == sorted(set(await tracker.issues()) - set(before))
        assert draft.title == (await _see(tracker.plane, key)).title

    async def test_a_creation_that_failed_can_be_repeated(self, tracker: TrackerHarness) -> None:
        """A creation that never reached the tracker must succeed the second time."""
        draft, before = new_draft(tracker), await tracker.issues()
        await tracker.fail_next(before=True)
        with pytest.raises(Unavailable):
            await tracker.plane.ensure_issue(draft)
        assert sorted(before) == sorted(await tracker.issues())
        await _see(tracker.plane, await tracker.plane.ensure_issue(draft))

    async def test_a_crash_after_creating_makes_one_issue(self, tracker: TrackerHarness) -> None:
        """When neither side remembers the answer, for both began anew, the issue must still be found."""
        draft, before = new_draft(tracker), await tracker.issues()
        await tracker.fail_next(before=False)
        with pytest.raises(Unavailable):
            await tracker.plane.ensure_issue(draft)
        await tracker.restart()
        key = await tracker.plane.ensure_issue(draft)
        assert [key] == sorted(set(await tracker.issues()) - set(before))

    async def test_a_creation_that_came_too_soon_makes_nothing(self, tracker: TrackerHarness) -> None:
        """A creation that was refused for haste must have had no effect, and succeed later."""
        draft, before = new_draft(tracker), await tracker.issues()
        await tracker.limit_next(1)
        with pytest.raises(RateLimited):
            await tracker.plane.ensure_issue(draft)
        assert sorted(before) == sorted(await tracker.issues())

    async def test_a_task_whose_issue_was_deleted_gets_a_new_one(self, tracker: TrackerHarness) -> None:
        """A key of an issue that is gone must never be handed out again."""
        draft = new_draft(tracker)
        gone = await tracker.plane.ensure_issue(draft)
        await tracker.delete_issue(gone, await tracker.person("ada"))
        key = await tracker.plane.ensure_issue(draft)
        assert gone != key
        await _see(tracker.plane, key)


class ObservingIssues:
    """What exists is seen, and absence is only what the tracker itself says."""

    async def test_more_issues_than_one_page_are_all_observed(self, tracker: TrackerHarness) -> None:
        """No issue may be missed because a list has a second page."""
        keys = [await tracker.plane.ensure_issue(new_draft(tracker)) for _ in range(tracker.page_size + 1)]
        issues = await tracker.plane.observe(keys)
        assert sorted(keys) == sorted(issue.key for issue in issues.values() if issue is not None)

    async def test_an_unknown_key_is_observed_as_absent(self, tracker: TrackerHarness) -> None:
        """A key that the tracker does not know must be answered with None, and not be left out."""
        assert {tracker.unknown_key: None} == dict(await tracker.plane.observe([tracker.unknown_key]))

    async def test_a_deleted_issue_is_absent_beside_one_that_lives(self, tracker: TrackerHarness) -> None:
        """Deleting one issue must make that one absent and no other."""
        gone = await tracker.plane.ensure_issue(new_draft(tracker))
        kept = await tracker.plane.ensure_issue(new_draft(tracker))
        await tracker.delete_issue(gone, await tracker.person("ada"))
        issues = await tracker.plane.observe([gone, kept])
        assert {gone, kept} == set(issues)
        assert issues[gone] is None
        assert issues[kept] is not None

    async def test_no_keys_make_no_request(self, tracker: TrackerHarness) -> None:
        """Observing nothing must cost nothing: a fault planted for the next request stays where it is."""
        await tracker.fail_next(before=True)
        assert dict(await tracker.plane.observe([])) == {}
        with pytest.raises(Unavailable):
            await tracker.plane.observe([tracker.unknown_key])

    async def test_a_change_by_hand_is_observed(self, tracker: TrackerHarness) -> None:
        """What a person changed must be seen as it is now, for drift can only be repaired when it shows."""
        key, ada = await tracker.plane.ensure_issue(new_draft(tracker)), await tracker.person("ada")
        await tracker.change_field(key, ada, "title", "Count the peas")
        await tracker.change_field(key, ada, "closed", "not_planned")
        issue = await _see(tracker.plane, key)
        assert (issue.title, issue.closed) == ("Count the peas", "not_planned")


class ChangingIssues:
    """What is applied is what is seen, once."""

    async def test_what_was_applied_is_observed(self, tracker: TrackerHarness) -> None:
        """An applied issue must be observed equal, or the reconciler would never come to rest."""
        key = await tracker.plane.ensure_issue(new_draft(tracker))
        wanted = IssueChanges(
            title="Count the peas",
            body=TEXT,
            state="executing",
            labels=("peas", "urgent"),
            closed="completed",
        )
        await tracker.plane.apply(key, wanted)
        issue = await _see(tracker.plane, key)
        assert (wanted.title, wanted.body, wanted.state) == (issue.title, issue.body, issue.state)
        assert (sorted(issue.labels), issue.closed) == (["peas", "urgent"], "completed")

    async def test_applying_twice_changes_once(self, tracker: TrackerHarness) -> None:
        """The same change again must leave the issue as it was."""
        key = await tracker.plane.ensure_issue(new_draft(tracker))
        changes = IssueChanges(state="executing", labels=("peas",), closed="completed")
        await tracker.plane.apply(key, changes)
        once = await _see(tracker.plane, key)
        await tracker.plane.apply(key, changes)
        assert once == await _see(tracker.plane, key)

    async def test_a_change_whose_answer_was_lost_can_be_repeated(self, tracker: TrackerHarness) -> None:
        """A change that took effect unheard must be no obstacle to the same change again."""
        key = await tracker.plane.ensure_issue(new_draft(tracker))
        changes = IssueChanges(title="Count the peas", state="executing")
        await tracker.fail_next(before=False)
        with pytest.raises(Unavailable):
            await tracker.plane.apply(key, changes)
        await tracker.plane.apply(key, changes)
        issue = await _see(tracker.plane, key)
        assert (issue.title, issue.state) == ("Count the peas", "executing")

    async def test_fields_that_are_left_out_stay(self, tracker: TrackerHarness) -> None:
        """A change of one field must not touch another."""
        draft = new_draft(tracker)
        key = await tracker.plane.ensure_issue(draft)
        await tracker.plane.apply(key, IssueChanges(state="executing"))
        issue = await _see(tracker.plane, key)
        assert (draft.title, draft.body, draft.labels) == (issue.title, issue.body, issue.labels)
        assert (issue.state, issue.closed) == ("executing", None)

    async def test_labels_are_replaced_and_cleared(self, tracker: TrackerHarness) -> None:
        """Labels must be exactly those applied, none of them our state label, and () must clear them."""
        key = await tracker.plane.ensure_issue(new_draft(tracker))
        await tracker.plane.apply(key, IssueChanges(labels=("peas", "lentils")))
        assert sorted((await _see(tracker.plane, key)).labels) == ["lentils", "peas"]
        await tracker.plane.apply(key, IssueChanges(labels=()))
        issue = await _see(tracker.plane, key)
        assert (issue.labels, issue.state) == ((), "ready")

    async def test_an_issue_closes_and_reopens(self, tracker: TrackerHarness) -> None:
        """Both ways to close must be told apart, and "" must reopen."""
        key = await tracker.plane.ensure_issue(new_draft(tracker))
        for outcome in ("completed", "", "not_planned", "completed"):
            await tracker.plane.apply(key, IssueChanges(closed=outcome))
            assert (outcome or None) == (await _see(tracker.plane, key)).closed

    async def test_a_long_body_is_kept(self, tracker: TrackerHarness) -> None:
        """A brief of 60,000 characters must come back whole."""
        key = await tracker.plane.ensure_issue(new_draft(tracker))
        body = ("ž" * 99 + "\n") * (_LONG // 100 - 1) + "z" * 100
        await tracker.plane.apply(key, IssueChanges(body=body))
        assert body == (await _see(tracker.plane, key)).body

    async def test_writing_to_an_unknown_key_is_not_found(self, tracker: TrackerHarness) -> None:
        """A write to an issue that never was must say so."""
        await _refuses_writes(tracker.plane, tracker.unknown_key)

    async def test_writing_to_a_deleted_issue_is_not_found(self, tracker: TrackerHarness) -> None:
        """A write to an issue that is gone must say so, and not bring it back."""
        key = await tracker.plane.ensure_issue(new_draft(tracker))
        await tracker.delete_issue(key, await tracker.person("ada"))
        await _refuses_writes(tracker.plane, key)
        assert (await tracker.plane.observe([key]))[key] is None


async def _refuses_writes(plane: ControlPlane, key: str) -> None:
    with pytest.raises(NotFound):
        await plane.apply(key, IssueChanges(title="Count the peas"))
    with pytest.raises(NotFound):
        await plane.post(key, "status", "Ready.")
    with pytest.raises(NotFound):
        await plane.edit(key, "999999", "Ready.")
    with pytest.raises(NotFound):
        await plane.assign(key, None)
