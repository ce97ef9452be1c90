"""What others did, read from the feed and from webhooks."""

from collections.abc import Sequence

import pytest

from agentic_os.control_plane import (
    Assignment,
    CommentSeen,
    Denied,
    FieldChanged,
    Invalid,
    IssueChanges,
    IssueDeleted,
    IssueOpened,
    Observation,
    PlanEdited,
    Review,
    RunSeen,
)
from agentic_os.control_plane.conformance.harness import (
    ROBOT,
    TrackerHarness,
    new_draft,
    observed,
    read_feed,
)


async def _issue(tracker: TrackerHarness) -> tuple[str, str, str]:
    """Make an issue and a person; return key, person, and the cursor at the end of the feed."""
    key, ada = await tracker.plane.ensure_issue(new_draft(tracker)), await tracker.person("ada")
    return key, ada, (await read_feed(tracker.plane))[1]


def _comments(seen: Sequence[Observation]) -> list[tuple[str, str]]:
    return [(one.action, one.body) for one in seen if isinstance(one, CommentSeen)]


async def _write_everything(tracker: TrackerHarness) -> str:
    """Do each kind of write once, as the backend; return the issue's key."""
    draft = new_draft(tracker)
    key, ada = await tracker.plane.ensure_issue(draft), await tracker.person("ada")
    comment_id = await tracker.comment(key, ada, "/status")
    await tracker.plane.react(key, comment_id, "done")
    note_id = await tracker.plane.post(key, "status", "Ready.")
    await tracker.plane.edit(key, note_id, "/approve")
    review = Review(subject="plan", version=1, digest="sha256:" + "0" * 64, document="Count.", directives={})
    await tracker.plane.open_review(key, review)
    await tracker.plane.close_review(key, review.digest, "withdrawn")
    assignment = Assignment(account=await tracker.agent(ROBOT), task_id=draft.task_id, attempt=1)
    await tracker.plane.assign(key, assignment)
    await tracker.plane.assign(key, None)
    await tracker.plane.apply(
        key, IssueChanges(title="Done", body="Done.", state="completed", labels=("peas",), closed="completed")
    )
    return key


class Feed:
    """The feed alone is complete, in order, and holds nothing of our own."""

    async def test_a_comment_is_observed(self, tracker: TrackerHarness) -> None:
        """A comment must be seen once, with the id and the author that the tracker gave it."""
        key, ada, cursor = await _issue(tracker)
        comment_id = await tracker.comment(key, ada, "/approve\n\nGo, 🚀.")
        (seen,) = await observed(tracker.plane, key, cursor)
        assert isinstance(seen, CommentSeen)
        assert ("created", comment_id, ada) == (seen.action, seen.comment_id, seen.author)
        assert seen.body == "/approve\n\nGo, 🚀."
        assert seen.at.tzinfo is not None

    async def test_an_agent_s_comment_is_observed_as_its_own(self, tracker: TrackerHarness) -> None:
        """Whoever comments must be seen under their own account, or an agent could pass for a person."""
        key, ada, cursor = await _issue(tracker)
        robot = await tracker.agent(ROBOT)
        await tracker.comment(key, robot, "/approve")
        await tracker.comment(key, ada, "/approve")
        seen = await observed(tracker.plane, key, cursor)
        assert [robot, ada] == [one.author for one in seen if isinstance(one, CommentSeen)]

    async def test_an_edited_comment_is_never_created_again(self, tracker: TrackerHarness) -> None:
        """An edit must be seen as one, with the new text."""
        key, ada, cursor = await _issue(tracker)
        comment_id = await tracker.comment(key, ada, "Looks good.")
        first, cursor = await read_feed(tracker.plane, cursor)
        assert _comments(first) == [("created", "Looks good.")]
        await tracker.edit_comment(key, comment_id, ada, "/approve")
        assert _comments(await observed(tracker.plane, key, cursor)) == [("edited", "/approve")]

    async def test_an_edit_before_the_first_look_commands_nothing(self, tracker: TrackerHarness) -> None:
        """A text that somebody put into another's comment must never be seen as created by its author."""
        key, ada, cursor = await _issue(tracker)
        comment_id = await tracker.comment(key, ada, "Looks good.")
        await tracker.edit_comment(key, comment_id, await tracker.person("mallory"), "/approve")
        seen = _comments(await observed(tracker.plane, key, cursor))
        assert seen[-1] == ("edited", "/approve")
        assert seen[:-1] in ([], [("created", "Looks good.")])

    async def test_a_deleted_comment_is_observed(self, tracker: TrackerHarness) -> None:
        """A deletion must be seen, naming the comment."""
        key, ada, cursor = await _issue(tracker)
        comment_id = await tracker.comment(key, ada, "/approve")
        _, cursor = await read_feed(tracker.plane, cursor)
        await tracker.delete_comment(key, comment_id, ada)
        (seen,) = await observed(tracker.plane, key, cursor)
        assert isinstance(seen, CommentSeen)
        assert ("deleted", comment_id) == (seen.action, seen.comment_id)

    async def test_a_changed_field_is_observed(self, tracker: TrackerHarness) -> None:
        """A change by hand must be seen with its field, its author and the new value."""
        key, ada, cursor = await _issue(tracker)
        await tracker.change_field(key, ada, "title", "Count the peas")
        await tracker.change_field(key, ada, "closed", "not_planned")
        seen = await observed(tracker.plane, key, cursor)
        changes = [(one.field, one.author, one.value) for one in seen if isinstance(one, FieldChanged)]
        assert [("title", ada, "Count the peas"), ("closed", ada, "not_planned")] == changes

    async def test_an_edit_of_a_plan_is_observed(self, tracker: TrackerHarness) -> None:
        """What a person made of the plan under review must be seen word for word, with its author and what it edits."""
        if not tracker.plane.capabilities.plan_edits:
            pytest.skip("nobody can edit a plan on this tracker")
        key, ada, cursor = await _issue(tracker)
        text = "AOS:PLAN v1 task=t attempt=1\n\n## Summary\nCount.\n  Čtvrtek, <b>木曜日</b> &amp; 🚀\n\nAOS:END\n"
        review = Review(
            subject="plan",
            version=1,
            digest="sha256:" + "1" * 64,
            document="Count.",
            directives={},
            editable=text,
        )
        await tracker.plane.open_review(key, review)
        await tracker.edit_plan(key, review.digest, ada, text + "/approve\n")
        (seen,) = await observed(tracker.plane, key, cursor)
        assert isinstance(seen, PlanEdited)
        assert (review.digest, ada) == (seen.digest, seen.author)
        assert text + "/approve\n" == seen.text.replace("\r\n", "\n")
        assert seen.at.tzinfo is not None

    async def test_an_opened_issue_is_observed(self, tracker: TrackerHarness) -> None:
        """An issue that a person opened must be seen with all that policy decides on."""
        _, ada, cursor = await _issue(tracker)
        key = await tracker.open_issue(ada, "Count the peas", "All of them.", tracker.project, ("agents",))
        seen = [one for one in await observed(tracker.plane, key, cursor) if isinstance(one, IssueOpened)]
        (opened,) = seen
        assert (opened.title, opened.body) == ("Count the peas", "All of them.")
        assert (ada, tracker.project, ("agents",)) == (opened.author, opened.project, opened.labels)
        shown = (await tracker.plane.observe([key]))[key]
        assert shown is not None
        assert (tracker.project, ("agents",)) == (shown.project, shown.labels)

    async def test_labels_that_a_person_gives_later_are_observed(self, tracker: TrackerHarness) -> None:
        """People mark what is there already: labels must be told of where the issue shows nothing of ours, too."""
        _, ada, _ = await _issue(tracker)
        key = await tracker.open_issue(ada, "Count the peas", "All of them.", tracker.project, ())
        _, cursor = await read_feed(tracker.plane)
        await tracker.change_field(key, ada, "labels", "agents, peas")
        seen = [one for one in await observed(tracker.plane, key, cursor) if isinstance(one, FieldChanged)]
        (change,) = seen
        assert ("labels", ada, "") == (change.field, change.author, change.before)
        assert sorted(label.strip() for label in change.value.split(",")) == ["agents", "peas"]
        shown = (await tracker.plane.observe([key]))[key]
        assert shown is not None
        assert tuple(sorted(shown.labels)) == ("agents", "peas")

    async def test_a_deleted_issue_is_observed(self, tracker: TrackerHarness) -> None:
        """The end of an issue must be seen once."""
        key, ada, cursor = await _issue(tracker)
        await tracker.delete_issue(key, ada)
        seen = await observed(tracker.plane, key, cursor)
        assert [key] == [one.key for one in seen if isinstance(one, IssueDeleted)]

    async def test_our_own_writes_are_never_observed(self, tracker: TrackerHarness) -> None:
        """Nothing that we did may come back to us as somebody's doing."""
        _, ada, cursor = await _issue(tracker)
        key = await _write_everything(tracker)
        seen = [one for one in await observed(tracker.plane, key, cursor) if not isinstance(one, RunSeen)]
        assert _comments(seen) == [("created", "/status")]
        assert [ada] == [one.author for one in seen]

    async def test_a_comment_behind_a_page_of_our_notes_is_observed(self, tracker: TrackerHarness) -> None:
        """Our own writes must not end the feed early: an empty page means that there is no more."""
        key, ada, cursor = await _issue(tracker)
        for number in range(tracker.page_size + 1):
            await tracker.plane.post(key, f"note:{number}", "Noted.")
        await tracker.comment(key, ada, "/approve")
        assert _comments(await observed(tracker.plane, key, cursor)) == [("created", "/approve")]

    async def test_more_observations_than_one_page_are_complete_and_in_order(
        self, tracker: TrackerHarness
    ) -> None:
        """Paging must neither lose, repeat nor reorder."""
        key, ada, cursor = await _issue(tracker)
        bodies = [f"Comment {number}." for number in range(tracker.page_size * 2 + 1)]
        for body in bodies:
            await tracker.comment(key, ada, body)
        seen = await observed(tracker.plane, key, cursor)
        assert [("created", body) for body in bodies] == _comments(seen)
        assert len(bodies) == len({one.delivery for one in seen})

    async def test_a_cursor_resumes_without_gap_or_repeat(self, tracker: TrackerHarness) -> None:
        """Reading while others write must yield each observation once."""
        key, ada, cursor = await _issue(tracker)
        bodies, seen = [f"Comment {number}." for number in range(5)], []
        for body in bodies:
            await tracker.comment(key, ada, body)
            page, cursor = await read_feed(tracker.plane, cursor)
            seen += page
        assert [("created", body) for body in bodies] == _comments(seen)
        assert (await read_feed(tracker.plane, cursor))[0] == []

    async def test_a_cursor_can_be_read_again(self, tracker: TrackerHarness) -> None:
        """A reader that crashed before it remembered where it was must see the same observations again."""
        key, ada, cursor = await _issue(tracker)
        await tracker.comment(key, ada, "/approve")
        await tracker.change_field(key, ada, "title", "Count the peas")
        assert await observed(tracker.plane, key, cursor) == await observed(tracker.plane, key, cursor)

    async def test_the_beginning_holds_everything(self, tracker: TrackerHarness) -> None:
        """The empty cursor must read from before the first comment."""
        key, ada, _ = await _issue(tracker)
        await tracker.comment(key, ada, "/approve")
        assert _comments(await observed(tracker.plane, key, "")) == [("created", "/approve")]

    async def test_a_cursor_of_somebody_else_is_invalid(self, tracker: TrackerHarness) -> None:
        """A cursor that cannot be understood must be refused, and never read as "nothing new"."""
        with pytest.raises(Invalid):
            await tracker.plane.observations("a cursor of another tracker")


class Webhooks:
    """A webhook says earlier what the feed says, and is believed only when it is the tracker's."""

    async def test_a_webhook_says_what_the_feed_says(self, tracker: TrackerHarness) -> None:
        """A notification and its line in the feed must be equal, so that the delivery id finds the repeat."""
        _needs_webhooks(tracker)
        key, ada, cursor = await _issue(tracker)
        await tracker.comment(key, ada, "/approve\n\nGo, 🚀.")
        received = await _receive_all(tracker, key)
        assert _comments(received) == [("created", "/approve\n\nGo, 🚀.")]
        feed = {one.delivery: one for one in await observed(tracker.plane, key, cursor)}
        assert received == [feed.get(one.delivery) for one in received]

    async def test_notifications_lost_repeated_and_reordered_change_nothing(
        self, tracker: TrackerHarness
    ) -> None:
        """Whatever the network does to notifications, the feed must stay complete and deliveries known by id."""
        _needs_webhooks(tracker)
        key, ada, cursor = await _issue(tracker)
        bodies = [f"Comment {number}." for number in range(4)]
        for text in bodies:
            await tracker.comment(key, ada, text)
        kept = list(await tracker.deliveries())[::2]
        received: list[Observation] = []
        for headers, body in [*reversed(kept), *kept]:
            received += await tracker.plane.receive(headers, body)
        feed = await observed(tracker.plane, key, cursor)
        assert [("created", text) for text in bodies] == _comments(feed)
        ours = [one.delivery for one in received if one.key == key]
        assert {one.delivery for one in feed} >= set(ours)
        assert len(ours) == 2 * len(set(ours))

    async def test_our_own_writes_come_back_by_no_webhook(self, tracker: TrackerHarness) -> None:
        """A notification of our own doing must be accepted and yield nothing."""
        _needs_webhooks(tracker)
        key = await _write_everything(tracker)
        seen = [one for one in await _receive_all(tracker, key) if not isinstance(one, RunSeen)]
        assert _comments(seen) == [("created", "/status")]
        assert len(seen) == 1

    async def test_the_case_of_header_names_does_not_matter(self, tracker: TrackerHarness) -> None:
        """Headers must be found however a server or a proxy writes their names."""
        headers, body = await _delivery(tracker)
        plain = await tracker.plane.receive(headers, body)
        assert plain == await tracker.plane.receive(
            {name.lower(): value for name, value in headers.items()}, body
        )
        assert plain == await tracker.plane.receive(
            {name.upper(): value for name, value in headers.items()}, body
        )

    async def test_a_changed_body_is_denied(self, tracker: TrackerHarness) -> None:
        """A body that is not the signed one must be refused, even by a single byte."""
        headers, body = await _delivery(tracker)
        for forged in (body + b" ", body[:-1], b"", b"\x00garbage\xff"):
            with pytest.raises(Denied):
                await tracker.plane.receive(headers, forged)

    async def test_an_unsigned_webhook_is_denied(self, tracker: TrackerHarness) -> None:
        """A request without the tracker's headers, or with nonsense in them, must be refused."""
        headers, body = await _delivery(tracker)
        for forged in ({}, dict.fromkeys(headers, ""), dict.fromkeys(headers, "žš,=,=")):
            with pytest.raises(Denied):
                await tracker.plane.receive(forged, body)

    async def test_an_old_webhook_is_denied(self, tracker: TrackerHarness) -> None:
        """A recorded notification must be worthless a day later, though it is truly signed."""
        _, body = await _delivery(tracker)
        assert await tracker.plane.receive(await tracker.sign(body, age=0), body) is not None
        with pytest.raises(Denied):
            await tracker.plane.receive(await tracker.sign(body, age=86_400), body)

    async def test_signed_garbage_is_invalid(self, tracker: TrackerHarness) -> None:
        """What is truly signed and yet unreadable must be Invalid, and never an error of our own."""
        _needs_webhooks(tracker)
        for body in (b"", b"\x00garbage\xff", b"[]", b"null", b'{"kind":', b'"text"'):
            headers = await tracker.sign(body, age=0)
            with pytest.raises(Invalid):
                await tracker.plane.receive(headers, body)


def _needs_webhooks(tracker: TrackerHarness) -> None:
    if not tracker.plane.capabilities.webhooks:
        pytest.skip("this tracker has no webhooks")


async def _delivery(tracker: TrackerHarness) -> tuple[dict[str, str], bytes]:
    """Let a person comment; return the last webhook that tells of it."""
    _needs_webhooks(tracker)
    key, ada, _ = await _issue(tracker)
    await tracker.comment(key, ada, "/approve")
    headers, body = (await tracker.deliveries())[-1]
    return dict(headers), body


async def _receive_all(tracker: TrackerHarness, key: str) -> list[Observation]:
    received: list[Observation] = []
    for headers, body in await tracker.deliveries():
        received += await tracker.plane.receive(headers, body)
    return [one for one in received if one.key == key]
