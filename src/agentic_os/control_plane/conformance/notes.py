"""Our notes, recognised among everybody's comments; gates; and marks on what people wrote."""

import pytest

from agentic_os.control_plane import (
    CommentSeen,
    Note,
    NotFound,
    Observation,
    Review,
    ReviewDecided,
    Unavailable,
)
from agentic_os.control_plane.conformance.harness import TEXT, TrackerHarness, new_draft, observed, read_feed

_LONG = 60_000
_REVIEW = Review(
    subject="plan",
    version=2,
    digest="sha256:" + "9f2c1a7b" * 8,
    document="# Plan\n\n1. Count.",
    directives={"approve": "/approve v2@9f2c1a7b", "reject": "/reject v2@9f2c1a7b"},
)


async def _issue(tracker: TrackerHarness) -> str:
    return await tracker.plane.ensure_issue(new_draft(tracker))


async def _notes(tracker: TrackerHarness, key: str) -> dict[str, Note]:
    issue = (await tracker.plane.observe([key]))[key]
    assert issue is not None
    return dict(issue.notes)


async def _reviews(tracker: TrackerHarness, key: str) -> tuple[str, ...]:
    issue = (await tracker.plane.observe([key]))[key]
    assert issue is not None
    return issue.reviews


class Notes:
    """A note is named by its marker, is ours by its author, and is there once."""

    async def test_posting_twice_makes_one_note(self, tracker: TrackerHarness) -> None:
        """The same marker must find the note that is there, and leave its text to `edit`."""
        key = await _issue(tracker)
        note_id = await tracker.plane.post(key, "status", "Ready.")
        assert note_id == await tracker.plane.post(key, "status", "Executing.")
        assert [note_id] == [comment.id for comment in await tracker.comments(key)]
        assert {"status": Note(id=note_id, marker="status", body="Ready.")} == await _notes(tracker, key)

    async def test_a_note_whose_answer_was_lost_is_there_once(self, tracker: TrackerHarness) -> None:
        """A note that took effect unheard must be found by its marker, not posted again."""
        key = await _issue(tracker)
        await tracker.fail_next(before=False)
        with pytest.raises(Unavailable):
            await tracker.plane.post(key, "status", "Ready.")
        note_id = await tracker.plane.post(key, "status", "Ready.")
        assert [note_id] == [comment.id for comment in await tracker.comments(key)]

    async def test_a_note_that_failed_can_be_posted_again(self, tracker: TrackerHarness) -> None:
        """A note that never reached the tracker must be posted the second time."""
        key = await _issue(tracker)
        await tracker.fail_next(before=True)
        with pytest.raises(Unavailable):
            await tracker.plane.post(key, "status", "Ready.")
        assert list(await tracker.comments(key)) == []
        note_id = await tracker.plane.post(key, "status", "Ready.")
        assert [note_id] == [comment.id for comment in await tracker.comments(key)]

    async def test_markers_tell_notes_apart(self, tracker: TrackerHarness) -> None:
        """Notes of the same text, and of markers that begin alike, must stay two notes."""
        key = await _issue(tracker)
        first = await tracker.plane.post(key, "gate:plan:1", "Please review.")
        second = await tracker.plane.post(key, "gate:plan:11", "Please review.")
        notes = await _notes(tracker, key)
        assert {"gate:plan:1": first, "gate:plan:11": second} == {
            name: note.id for name, note in notes.items()
        }

    async def test_a_note_is_edited_in_place(self, tracker: TrackerHarness) -> None:
        """An edit must keep the note's id and marker, and add no comment."""
        key = await _issue(tracker)
        note_id = await tracker.plane.post(key, "status", "Ready.")
        await tracker.plane.edit(key, note_id, "Executing.")
        await tracker.plane.edit(key, note_id, "Executing.")
        assert {"status": Note(id=note_id, marker="status", body="Executing.")} == await _notes(tracker, key)
        assert [note_id] == [comment.id for comment in await tracker.comments(key)]

    async def test_an_edit_whose_answer_was_lost_can_be_repeated(self, tracker: TrackerHarness) -> None:
        """An edit that took effect unheard must be accepted again, and stay one note."""
        key = await _issue(tracker)
        note_id = await tracker.plane.post(key, "status", "Ready.")
        await tracker.fail_next(before=False)
        with pytest.raises(Unavailable):
            await tracker.plane.edit(key, note_id, "Executing.")
        await tracker.plane.edit(key, note_id, "Executing.")
        assert {"status": Note(id=note_id, marker="status", body="Executing.")} == await _notes(tracker, key)
        assert [note_id] == [comment.id for comment in await tracker.comments(key)]

    async def test_more_notes_than_one_page_are_all_found(self, tracker: TrackerHarness) -> None:
        """A note must be recognised wherever it stands among the comments, or it would be posted again."""
        key = await _issue(tracker)
        markers = [f"note:{number}" for number in range(tracker.page_size + 1)]
        posted = {marker: await tracker.plane.post(key, marker, "Noted.") for marker in markers}
        notes = await _notes(tracker, key)
        assert posted == {marker: note.id for marker, note in notes.items()}
        for marker in (markers[0], markers[-1]):
            assert posted[marker] == await tracker.plane.post(key, marker, "Noted.")
        assert len(markers) == len(await tracker.comments(key))

    @pytest.mark.parametrize("body", [TEXT, "x" * (_LONG - 1) + "ž"], ids=["markdown", "long"])
    async def test_a_text_comes_back_as_it_was_posted(self, tracker: TrackerHarness, body: str) -> None:
        """Markdown, Unicode and 60,000 characters must survive posting and editing, byte for byte."""
        key = await _issue(tracker)
        note_id = await tracker.plane.post(key, "posted", body)
        edited = await tracker.plane.post(key, "edited", "Soon.")
        await tracker.plane.edit(key, edited, body)
        notes = await _notes(tracker, key)
        assert {note_id: body, edited: body} == {note.id: note.body for note in notes.values()}

    async def test_a_copy_of_our_note_is_not_ours(self, tracker: TrackerHarness) -> None:
        """A stranger's comment with our marker in it must count as theirs: seen, and never edited as a note."""
        key, robot = await _issue(tracker), await tracker.agent("robot")
        _, cursor = await read_feed(tracker.plane)
        source = await _issue(tracker)
        await tracker.plane.post(source, "status", "Approved by everybody.")
        raw = (await tracker.comments(source))[0].body
        copy_id = await tracker.comment(key, robot, raw)
        assert await _notes(tracker, key) == {}
        note_id = await tracker.plane.post(key, "status", "Ready.")
        assert copy_id != note_id
        assert (await _notes(tracker, key))["status"].body == "Ready."
        comments = _comments(await observed(tracker.plane, key, cursor))
        assert [(copy_id, robot)] == [(seen.comment_id, seen.author) for seen in comments]

    async def test_a_deleted_note_can_be_posted_again(self, tracker: TrackerHarness) -> None:
        """A note that somebody deleted must be absent, refuse edits, and come back by its marker."""
        key, ada = await _issue(tracker), await tracker.person("ada")
        gone = await tracker.plane.post(key, "status", "Ready.")
        await tracker.delete_comment(key, gone, ada)
        assert await _notes(tracker, key) == {}
        with pytest.raises(NotFound):
            await tracker.plane.edit(key, gone, "Executing.")
        note_id = await tracker.plane.post(key, "status", "Executing.")
        assert [note_id] == [comment.id for comment in await tracker.comments(key)]

    async def test_an_edit_of_our_note_by_hand_commands_nothing(self, tracker: TrackerHarness) -> None:
        """What a person writes into our note must show in `observe`, to be repaired, and be no comment."""
        key, ada = await _issue(tracker), await tracker.person("ada")
        note_id = await tracker.plane.post(key, "status", "Ready.")
        _, cursor = await read_feed(tracker.plane)
        raw = (await tracker.comments(key))[0].body
        await tracker.edit_comment(key, note_id, ada, raw.replace("Ready.", "/approve"))
        assert (await _notes(tracker, key))["status"].body == "/approve"
        assert _comments(await observed(tracker.plane, key, cursor)) == []


class Reactions:
    """What became of a comment is shown on it, where the tracker can."""

    async def test_a_reaction_can_be_repeated(self, tracker: TrackerHarness) -> None:
        """Seen, then done, and done again must all be accepted."""
        _needs(tracker, "reactions")
        key, ada = await _issue(tracker), await tracker.person("ada")
        comment_id = await tracker.comment(key, ada, "/approve")
        await tracker.plane.react(key, comment_id, "seen")
        await tracker.plane.react(key, comment_id, "done")
        await tracker.plane.react(key, comment_id, "done")

    async def test_a_reaction_to_a_deleted_comment_is_no_error(self, tracker: TrackerHarness) -> None:
        """A comment that is gone needs no answer."""
        _needs(tracker, "reactions")
        key, ada = await _issue(tracker), await tracker.person("ada")
        comment_id = await tracker.comment(key, ada, "/approve")
        await tracker.delete_comment(key, comment_id, ada)
        await tracker.plane.react(key, comment_id, "refused")


class Gates:
    """A gate is named by the digest under review, and is open once."""

    async def test_a_review_opens_once_for_its_digest(self, tracker: TrackerHarness) -> None:
        """The same digest again must be the same gate, another digest another."""
        _needs(tracker, "reviews")
        key = await _issue(tracker)
        await tracker.plane.open_review(key, _REVIEW)
        await tracker.plane.open_review(key, _REVIEW)
        assert (_REVIEW.digest,) == await _reviews(tracker, key)

    async def test_a_review_whose_answer_was_lost_is_open_once(self, tracker: TrackerHarness) -> None:
        """A gate that opened unheard must be found by its digest, not opened again."""
        _needs(tracker, "reviews")
        key = await _issue(tracker)
        await tracker.fail_next(before=False)
        with pytest.raises(Unavailable):
            await tracker.plane.open_review(key, _REVIEW)
        await tracker.plane.open_review(key, _REVIEW)
        assert (_REVIEW.digest,) == await _reviews(tracker, key)

    async def test_a_closed_review_is_gone(self, tracker: TrackerHarness) -> None:
        """Closing must take that gate away, and may be repeated, or name a digest that was never open."""
        _needs(tracker, "reviews")
        key = await _issue(tracker)
        await tracker.plane.open_review(key, _REVIEW)
        await tracker.plane.close_review(key, "sha256:" + "0" * 64, "withdrawn")
        assert (_REVIEW.digest,) == await _reviews(tracker, key)
        await tracker.plane.close_review(key, _REVIEW.digest, "approved")
        await tracker.plane.close_review(key, _REVIEW.digest, "approved")
        assert await _reviews(tracker, key) == ()

    async def test_a_close_whose_answer_was_lost_can_be_repeated(self, tracker: TrackerHarness) -> None:
        """A gate that was taken away unheard must stay away when that is repeated."""
        _needs(tracker, "reviews")
        key = await _issue(tracker)
        await tracker.plane.open_review(key, _REVIEW)
        await tracker.fail_next(before=False)
        with pytest.raises(Unavailable):
            await tracker.plane.close_review(key, _REVIEW.digest, "approved")
        await tracker.plane.close_review(key, _REVIEW.digest, "approved")
        assert await _reviews(tracker, key) == ()

    async def test_a_pressed_button_is_observed(self, tracker: TrackerHarness) -> None:
        """A decision must name its author and its digest, or be the very line that names it."""
        _needs(tracker, "reviews")
        key, ada = await _issue(tracker), await tracker.person("ada")
        _, cursor = await read_feed(tracker.plane)
        await tracker.plane.open_review(key, _REVIEW)
        await tracker.decide_review(key, _REVIEW.digest, ada, "approve")
        decisions = [_decision(seen) for seen in await observed(tracker.plane, key, cursor)]
        assert [(ada, "approve")] == [decision for decision in decisions if decision is not None]


def _needs(tracker: TrackerHarness, capability: str) -> None:
    if not getattr(tracker.plane.capabilities, capability):
        pytest.skip(f"this tracker has no {capability}")


def _comments(observations: list[Observation]) -> list[CommentSeen]:
    return [seen for seen in observations if isinstance(seen, CommentSeen)]


def _decision(seen: Observation) -> tuple[str, str] | None:
    match seen:
        case ReviewDecided(digest=_REVIEW.digest):
            return seen.author, seen.verdict
        case CommentSeen(action="created") if seen.body.startswith(_REVIEW.directives["approve"]):
            return seen.author, "approve"
        case _:
            return None
