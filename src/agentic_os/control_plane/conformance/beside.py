"""What stands beside an issue's text where a tracker has places for it: our documents, and the status note."""

from dataclasses import replace

import pytest

from agentic_os.control_plane import Document, Documenting, Issue, IssueChanges, Review, Unavailable
from agentic_os.control_plane.conformance.harness import TEXT, TrackerHarness, new_draft, observed, read_feed

_RESULT = Document(name="result", title="Result r1 · sha256:" + "0" * 64, body=TEXT)
_TABLE = Document(name="evidence", title="Evidence", body="| a | b |\n|---|---|\n| 1 | `\\n` |")
_STATUS = "**executing** · coder has it.\n\n| directive | by |\n|---|---|\n| `/hold <!-- x -->` | ada |"


async def _seen(tracker: TrackerHarness, key: str) -> Issue:
    issue = (await tracker.plane.observe([key]))[key]
    assert issue is not None
    return issue


async def _issue_with_documents(tracker: TrackerHarness) -> tuple[str, Documenting]:
    plane = tracker.plane
    if not plane.capabilities.documents:
        pytest.skip("this tracker has no documents")
    assert isinstance(plane, Documenting)
    return await plane.ensure_issue(new_draft(tracker)), plane


def _needs_status(tracker: TrackerHarness) -> None:
    if not tracker.plane.capabilities.status:
        pytest.skip("this tracker has no place for the status note")


class Documents:
    """A document is named, is there once, and reads as it was written."""

    async def test_a_document_reads_as_it_was_written(self, tracker: TrackerHarness) -> None:
        """Written twice, a document must be there once, to the letter, and another beside it."""
        key, plane = await _issue_with_documents(tracker)
        for document in (_RESULT, _RESULT, _TABLE):
            await plane.write(key, document)
        assert (await _seen(tracker, key)).documents == {"result": _RESULT, "evidence": _TABLE}

    async def test_a_document_is_written_over(self, tracker: TrackerHarness) -> None:
        """The name decides which document it is: another title and text take the place of what was there."""
        key, plane = await _issue_with_documents(tracker)
        await plane.write(key, _TABLE)
        other = replace(_TABLE, title="Evidence, again", body="None.")
        await plane.write(key, other)
        assert {"evidence": other} == (await _seen(tracker, key)).documents

    async def test_a_document_whose_answer_was_lost_is_there_once(self, tracker: TrackerHarness) -> None:
        """What was written unheard must be found, and may be written again."""
        key, plane = await _issue_with_documents(tracker)
        await tracker.fail_next(before=False)
        with pytest.raises(Unavailable):
            await plane.write(key, _RESULT)
        await plane.write(key, _RESULT)
        assert (await _seen(tracker, key)).documents == {"result": _RESULT}

    async def test_a_review_s_document_is_the_one_of_its_subject(self, tracker: TrackerHarness) -> None:
        """What a review shows must be the document of its subject, so that it stays when the review is over."""
        key, plane = await _issue_with_documents(tracker)
        review = Review(
            subject="plan", version=1, digest="sha256:" + "1" * 64, document="1. Count.", directives={}
        )
        await tracker.plane.open_review(key, review)
        shown = Document(name="plan", title=review.title, body=review.text)
        assert {"plan": shown} == (await _seen(tracker, key)).documents
        await plane.write(key, shown)
        assert (review.digest,) == (await _seen(tracker, key)).reviews

    async def test_our_documents_are_not_observed(self, tracker: TrackerHarness) -> None:
        """What we write ourselves must not come back as somebody's doing."""
        key, plane = await _issue_with_documents(tracker)
        _, cursor = await read_feed(tracker.plane)
        await plane.write(key, _RESULT)
        assert await observed(tracker.plane, key, cursor) == []


class StatusNote:
    """The status note has a place of its own, and the text of the issue stays as people wrote it."""

    async def test_the_status_is_there_from_the_start(self, tracker: TrackerHarness) -> None:
        """A new issue must show its status, apart from its text."""
        _needs_status(tracker)
        draft = replace(new_draft(tracker, body=TEXT), status=_STATUS)
        issue = await _seen(tracker, await tracker.plane.ensure_issue(draft))
        assert (issue.status, issue.body) == (_STATUS, TEXT)

    async def test_the_status_changes_by_itself(self, tracker: TrackerHarness) -> None:
        """A change of the status must leave the text as it is, one of the text the status; both may come at once."""
        _needs_status(tracker)
        key = await tracker.plane.ensure_issue(new_draft(tracker, body=TEXT))
        assert not (await _seen(tracker, key)).status
        await tracker.plane.apply(key, IssueChanges(status=_STATUS, state="executing"))
        issue = await _seen(tracker, key)
        assert (issue.status, issue.body, issue.state) == (_STATUS, TEXT, "executing")
        await tracker.plane.apply(key, IssueChanges(body="None of them."))
        issue = await _seen(tracker, key)
        assert (issue.status, issue.body) == (_STATUS, "None of them.")
        await tracker.plane.apply(key, IssueChanges(status="**completed**", body="All."))
        issue = await _seen(tracker, key)
        assert (issue.status, issue.body) == ("**completed**", "All.")
