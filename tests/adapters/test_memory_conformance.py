"""The tracker in memory keeps the port's contract, and the suite notices a tracker that does not."""

import asyncio
import dataclasses
import json
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from agentic_os.control_plane import (
    Assignment,
    CommentSeen,
    Conflict,
    ControlPlane,
    ControlPlaneError,
    Cost,
    Denied,
    Document,
    FieldChanged,
    Invalid,
    Issue,
    IssueChanges,
    IssueDraft,
    Note,
    NotFound,
    Observation,
    RateLimited,
    ReviewOutcome,
    Unavailable,
)
from agentic_os.control_plane.conformance import ControlPlaneConformance, PostedComment, SpentOnIssue
from agentic_os.control_plane.conformance.harness import TEXT
from agentic_os.control_plane.memory import Delivery, MemoryControlPlane, MemoryIssue, MemoryTracker


class MemoryHarness:
    """People and faults, by way of the dictionaries."""

    project = "default"
    unknown_key = "issue-999999"

    def __init__(self, far: MemoryTracker, near: type[MemoryControlPlane] = MemoryControlPlane) -> None:
        self._far = far
        self._near = near
        self.plane: ControlPlane = near(far)
        self.page_size = far.page

    async def person(self, name: str) -> str:
        return self._far.account(name)

    async def agent(self, name: str) -> str:
        return self._far.account(name)

    async def open_issue(
        self, author: str, title: str, body: str, project: str, labels: Sequence[str]
    ) -> str:
        return self._far.open_issue(author, title, body, project, labels)

    async def comment(self, key: str, author: str, body: str) -> str:
        return self._far.comment(key, author, body)

    async def edit_comment(self, key: str, comment_id: str, author: str, body: str) -> None:
        self._far.edit_comment(key, comment_id, author, body)

    async def delete_comment(self, key: str, comment_id: str, author: str) -> None:
        self._far.delete_comment(key, comment_id, author)

    async def change_field(self, key: str, author: str, field: str, value: str) -> None:
        self._far.change_field(key, author, field, value)

    async def delete_issue(self, key: str, author: str) -> None:
        self._far.delete_issue(key, author)

    async def decide_review(
        self, key: str, digest: str, author: str, verdict: Literal["approve", "revise", "reject"]
    ) -> None:
        self._far.decide_review(key, digest, author, verdict)

    async def edit_plan(self, key: str, digest: str, author: str, text: str) -> None:
        self._far.edit_plan(key, digest, author, text)

    async def report_run(self, key: str, assignment: Assignment, state: Literal["alive", "ended"]) -> None:
        self._far.report_run(key, assignment, state)

    async def pause(self, account: str, author: str) -> None:
        self._far.pause(account, author)

    async def resume(self, account: str, author: str) -> None:
        self._far.resume(account, author)

    async def spent(self, key: str) -> SpentOnIssue:
        costs = [cost for issue, cost in self._far.costs.values() if issue == key]
        return SpentOnIssue(
            cents=sum((c.before + c.cost_microusd) // 10_000 - c.before // 10_000 for c in costs),
            input_tokens=sum(c.input_tokens for c in costs),
            output_tokens=sum(c.output_tokens for c in costs),
        )

    async def issues(self) -> Sequence[str]:
        return list(self._far.issues)

    async def comments(self, key: str) -> Sequence[PostedComment]:
        comments = self._far.issue(key).comments.values()
        return [PostedComment(id=one.id, author=one.author, body=one.body) for one in comments]

    async def wakes(self) -> Sequence[Assignment]:
        return list(self._far.wakes)

    async def deliveries(self) -> Sequence[Delivery]:
        return list(self._far.deliveries)

    async def sign(self, body: bytes, *, age: float) -> Mapping[str, str]:
        return self._far.sign(body, at=self._far.now() - timedelta(seconds=age))

    async def fail_next(self, *, before: bool) -> None:
        self._far.fail_next(before=before)

    async def limit_next(self, seconds: float) -> None:
        self._far.limit_next(seconds)

    async def stranger(self) -> ControlPlane:
        return self._near(self._far, account="account-of-nobody")

    async def restart(self) -> None:
        self.plane = self._near(self._far)


class TestMemoryControlPlane(ControlPlaneConformance):
    """The dictionaries against the whole suite."""

    @pytest.fixture
    def tracker(self) -> MemoryHarness:
        return MemoryHarness(MemoryTracker(page=5))


class BesideControlPlane(MemoryControlPlane):
    """The port to a tracker that keeps documents, and the status note in a place of its own."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more, beside=True)


class TestBesideControlPlane(ControlPlaneConformance):
    """The same with places beside the issue's text."""

    @pytest.fixture
    def tracker(self) -> MemoryHarness:
        return MemoryHarness(MemoryTracker(page=5), BesideControlPlane)


class TestMemoryTracker:
    """What the tracker in memory offers beyond the port."""

    async def test_a_limit_lasts_until_its_instant(self) -> None:
        """Every request must be refused until the tracker's own clock reaches the instant."""
        instant = datetime(2026, 1, 1, tzinfo=UTC)
        clock = [instant - timedelta(seconds=1)]
        far = MemoryTracker(now=lambda: clock[0])
        near = MemoryControlPlane(far)
        far.limit_until(instant)
        for _ in range(2):
            with pytest.raises(RateLimited) as caught:
                await near.identify("agentic-os")
            assert instant == caught.value.retry_at
        clock[0] = instant
        assert near.account == await near.identify("agentic-os")

    async def test_a_wake_can_be_awaited(self) -> None:
        """An agent of a test must be able to wait for its wake, without asking again and again."""
        near = MemoryControlPlane()
        wanted = Assignment(account=near.tracker.account("robot"), task_id="task-1", attempt=1)
        key = near.tracker.open_issue(near.tracker.account("ada"), "Count the beans")
        waiting = asyncio.create_task(near.tracker.woken.get())
        await near.assign(key, wanted)
        assert wanted == await waiting

    async def test_deliveries_are_taken_once(self) -> None:
        """A test that plays the network must get each webhook once."""
        far = MemoryTracker()
        far.open_issue(far.account("ada"), "Count the beans")
        assert len(far.take_deliveries()) == 1
        assert far.take_deliveries() == []

    async def test_both_live_secrets_are_accepted(self) -> None:
        """While a secret is changed, webhooks signed with the old one must still be believed, and no others."""
        far = MemoryTracker()
        far.open_issue(far.account("ada"), "Count the beans")
        ((headers, body),) = far.take_deliveries()
        assert await MemoryControlPlane(far, webhook_secrets=("new", far.webhook_secret)).receive(
            headers, body
        )
        with pytest.raises(Denied):
            await MemoryControlPlane(far, webhook_secrets=("new", "newer")).receive(headers, body)

    async def test_a_body_beyond_the_limit_is_invalid(self) -> None:
        """A text that the tracker will never take must be Invalid, and change nothing."""
        near = MemoryControlPlane(MemoryTracker(longest=10))
        key = near.tracker.open_issue(near.tracker.account("ada"), "Count the beans")
        for refused in (near.post(key, "status", "x" * 11), near.apply(key, IssueChanges(body="x" * 11))):
            with pytest.raises(Invalid):
                await refused
        assert (near.tracker.issue(key).body, near.tracker.issue(key).comments) == ("", {})


class IgnoresMarkers(MemoryControlPlane):
    async def post(self, key: str, marker: str, body: str) -> str:
        return self.tracker.comment(key, self.account, f"<!-- agentic-os:note {marker} -->\n{body}")


class BelievesMarkersOfAnybody(MemoryControlPlane):
    def _notes(self, issue: MemoryIssue) -> dict[str, Note]:
        claimed = {one.id: dataclasses.replace(one, author=self.account) for one in issue.comments.values()}
        return super()._notes(dataclasses.replace(issue, comments=claimed))


class ReadsOnePageOfNotes(MemoryControlPlane):
    def _notes(self, issue: MemoryIssue) -> dict[str, Note]:
        return dict(list(super()._notes(issue).items())[: self.tracker.page])


class TidiesText(MemoryTracker):
    def _accepted(self, body: str) -> str:
        return super()._accepted(unicodedata.normalize("NFC", body))

    def comment(self, key: str, author: str, body: str) -> str:
        return super().comment(key, author, self._accepted(body))


class ForgetsWhatItCreated(MemoryTracker):
    def open_issue(self, *arguments: Any, **options: Any) -> str:
        return super().open_issue(*arguments, **options | {"task_id": ""})


class WritesBeforeItIsLet(MemoryControlPlane):
    async def ensure_issue(self, draft: IssueDraft) -> str:
        key = self.tracker.open_issue(
            self.account, draft.title, draft.body, draft.project, draft.labels, task_id=draft.task_id
        )
        async with self._request(write=True):
            return key


class TakesNoRepeats(MemoryControlPlane):
    async def apply(self, key: str, changes: IssueChanges) -> None:
        if self.tracker.issue(key).title == changes.title:
            raise Conflict("it has this title")
        await super().apply(key, changes)

    async def edit(self, key: str, note_id: str, body: str) -> None:
        if self.tracker.issue(key).comments[note_id].body.endswith(body):
            raise Conflict("it says so")
        await super().edit(key, note_id, body)

    async def close_review(self, key: str, digest: str, outcome: ReviewOutcome) -> None:
        if digest not in self.tracker.issue(key).reviews:
            raise NotFound("there is no such gate")
        await super().close_review(key, digest, outcome)


class WakesOnEveryAssignment(MemoryTracker):
    def _wake(self, assignment: Assignment) -> None:
        self.wakes.append(assignment)


class WakesByAttemptAlone(MemoryTracker):
    def _wake(self, assignment: Assignment) -> None:
        if assignment.attempt not in {wake.attempt for wake in self.wakes}:
            self.wakes.append(assignment)


class WakesWhoeverIsNew(MemoryTracker):
    def assign(self, key: str, author: str, assignment: Assignment | None) -> None:
        before = self.issue(key).assignment
        super().assign(key, author, assignment)
        if assignment is not None and assignment != before:
            self.wakes.append(assignment)

    def _wake(self, assignment: Assignment) -> None:
        pass


class CountsEachReport(MemoryTracker):
    def report_cost(self, key: str, cost: Cost) -> None:
        super().report_cost(key, dataclasses.replace(cost, at=cost.at + timedelta(seconds=len(self.costs))))


class RoundsUp(MemoryTracker):
    def report_cost(self, key: str, cost: Cost) -> None:
        cents = -(-cost.cost_microusd // 10_000)
        super().report_cost(key, dataclasses.replace(cost, before=0, cost_microusd=cents * 10_000))


class KeepsWhatHasAPrice(MemoryTracker):
    def report_cost(self, key: str, cost: Cost) -> None:
        if cost.cost_microusd:
            super().report_cost(key, cost)


class TellsOfCosts(MemoryTracker):
    def report_cost(self, key: str, cost: Cost) -> None:
        super().report_cost(key, cost)
        self.comment(key, self.account("bookkeeper"), f"{cost.account} spent {cost.cost_microusd}")


class KeepsCostsOfNoIssue(MemoryTracker):
    def report_cost(self, key: str, cost: Cost) -> None:
        self.costs.setdefault((cost.account, cost.at), (key, cost))


class ObservesItself(MemoryControlPlane):
    async def observations(self, cursor: str) -> tuple[Sequence[Observation], str]:
        start = self._position(cursor)
        return [entry.observation for entry in self.tracker.feed[start:]], f"feed-{len(self.tracker.feed)}"


class TellsOfItsOwnIssuesOnly(MemoryControlPlane):
    """Tells of no change of a field of an issue that shows no task."""

    async def observations(self, cursor: str) -> tuple[Sequence[Observation], str]:
        seen, following = await super().observations(cursor)
        own = {key for key, issue in self.tracker.issues.items() if issue.task_id}
        return [one for one in seen if not isinstance(one, FieldChanged) or one.key in own], following


class EndsAtAPageOfItsOwn(MemoryControlPlane):
    async def observations(self, cursor: str) -> tuple[Sequence[Observation], str]:
        start = self._position(cursor)
        page = self.tracker.feed[start : start + self.tracker.page]
        return [
            one.observation for one in page if self.account not in one.owners
        ], f"feed-{start + len(page)}"


class ReadsTextsLate(MemoryControlPlane):
    """Reports each comment with the text that it has when the feed is read, as a poll of comments would."""

    async def observations(self, cursor: str) -> tuple[Sequence[Observation], str]:
        page, cursor = await super().observations(cursor)
        return [self._late(seen) for seen in page], cursor

    def _late(self, seen: Observation) -> Observation:
        if not isinstance(seen, CommentSeen) or seen.action == "deleted":
            return seen
        return dataclasses.replace(seen, body=self.tracker.issue(seen.key).comments[seen.comment_id].body)


class SeesEditsAsNew(MemoryTracker):
    def edit_comment(self, key: str, comment_id: str, author: str, body: str) -> None:
        comment = self.issue(key).comments[comment_id]
        comment.body = body
        self._log_comment(key, comment, author, "created")


class PausesInSilence(MemoryTracker):
    def _log_agent(self, *_: str) -> None:
        pass


class StartsAnewOnABadCursor(MemoryControlPlane):
    def _position(self, cursor: str) -> int:
        return int(cursor.removeprefix("feed-")) if cursor.startswith("feed-") else 0


class TakesSilenceForAbsence(MemoryControlPlane):
    async def observe(self, keys: Sequence[str]) -> Mapping[str, Issue | None]:
        try:
            return await super().observe(keys)
        except (Unavailable, Denied):
            return dict.fromkeys(keys)


class LeavesOutTheUnknown(MemoryControlPlane):
    async def observe(self, keys: Sequence[str]) -> Mapping[str, Issue | None]:
        return {key: issue for key, issue in (await super().observe(keys)).items() if issue is not None}


class AsksAboutNothing(MemoryControlPlane):
    async def observe(self, keys: Sequence[str]) -> Mapping[str, Issue | None]:
        await super().observe([*keys, "issue-0"])
        return await super().observe(keys)


class BelievesEveryWebhook(MemoryControlPlane):
    def _verify(self, headers: Mapping[str, str], body: bytes) -> None:
        pass


class BelievesOldWebhooks(MemoryControlPlane):
    def _verify(self, headers: Mapping[str, str], body: bytes) -> None:
        try:
            super()._verify(headers, body)
        except Denied as error:
            if "too far from now" not in str(error):
                raise


class StumblesOverGarbage(MemoryControlPlane):
    async def receive(self, headers: Mapping[str, str], body: bytes) -> Sequence[Observation]:
        self._verify(headers, body)
        json.loads(body)
        return await super().receive(headers, body)


class LosesTitles(BesideControlPlane):
    async def write(self, key: str, document: Document) -> None:
        await super().write(key, dataclasses.replace(document, title=""))


class WritesDocumentsOnce(BesideControlPlane):
    async def write(self, key: str, document: Document) -> None:
        if document.name not in self.tracker.issue(key).documents:
            await super().write(key, document)


class PutsTheStatusIntoTheText(BesideControlPlane):
    async def ensure_issue(self, draft: IssueDraft) -> str:
        return await super().ensure_issue(dataclasses.replace(draft, body=f"{draft.status}\n{draft.body}"))

    async def apply(self, key: str, changes: IssueChanges) -> None:
        await super().apply(key, dataclasses.replace(changes, body=changes.status or changes.body))


FAULTS: list[tuple[type[MemoryTracker] | type[MemoryControlPlane], str]] = [
    (IgnoresMarkers, "test_posting_twice_makes_one_note"),
    (IgnoresMarkers, "test_a_note_whose_answer_was_lost_is_there_once"),
    (BelievesMarkersOfAnybody, "test_a_copy_of_our_note_is_not_ours"),
    (ReadsOnePageOfNotes, "test_more_notes_than_one_page_are_all_found"),
    (TidiesText, "test_a_text_comes_back_as_it_was_posted"),
    (ForgetsWhatItCreated, "test_creating_twice_makes_one_issue"),
    (ForgetsWhatItCreated, "test_a_creation_whose_answer_was_lost_makes_one_issue"),
    (ForgetsWhatItCreated, "test_a_crash_after_creating_makes_one_issue"),
    (WritesBeforeItIsLet, "test_a_creation_that_came_too_soon_makes_nothing"),
    (TakesNoRepeats, "test_a_change_whose_answer_was_lost_can_be_repeated"),
    (TakesNoRepeats, "test_an_edit_whose_answer_was_lost_can_be_repeated"),
    (TakesNoRepeats, "test_a_close_whose_answer_was_lost_can_be_repeated"),
    (WakesWhoeverIsNew, "test_an_attempt_that_is_over_wakes_nobody"),
    (WakesOnEveryAssignment, "test_an_assignment_wakes_once"),
    (WakesOnEveryAssignment, "test_an_assignment_whose_answer_was_lost_wakes_once"),
    (WakesByAttemptAlone, "test_two_tasks_wake_the_same_account_twice"),
    (WakesWhoeverIsNew, "test_taking_the_assignee_away_wakes_nobody"),
    (PausesInSilence, "test_a_paused_agent_is_observed"),
    (PausesInSilence, "test_a_pause_is_told_of_again_from_the_beginning"),
    (CountsEachReport, "test_a_cost_is_on_the_issue_once"),
    (CountsEachReport, "test_a_cost_whose_answer_was_lost_counts_once"),
    (RoundsUp, "test_parts_of_a_cent_add_up"),
    (KeepsWhatHasAPrice, "test_tokens_without_a_price_are_on_record"),
    (TellsOfCosts, "test_a_cost_is_nobody_s_doing"),
    (KeepsCostsOfNoIssue, "test_a_cost_on_an_unknown_issue_is_not_found"),
    (ObservesItself, "test_our_own_writes_are_never_observed"),
    (TellsOfItsOwnIssuesOnly, "test_labels_that_a_person_gives_later_are_observed"),
    (EndsAtAPageOfItsOwn, "test_a_comment_behind_a_page_of_our_notes_is_observed"),
    (ReadsTextsLate, "test_an_edit_before_the_first_look_commands_nothing"),
    (SeesEditsAsNew, "test_an_edited_comment_is_never_created_again"),
    (StartsAnewOnABadCursor, "test_a_cursor_of_somebody_else_is_invalid"),
    (TakesSilenceForAbsence, "test_silence_is_unavailable"),
    (TakesSilenceForAbsence, "test_wrong_credentials_are_denied"),
    (LeavesOutTheUnknown, "test_an_unknown_key_is_observed_as_absent"),
    (AsksAboutNothing, "test_no_keys_make_no_request"),
    (BelievesEveryWebhook, "test_a_changed_body_is_denied"),
    (BelievesEveryWebhook, "test_an_unsigned_webhook_is_denied"),
    (BelievesOldWebhooks, "test_an_old_webhook_is_denied"),
    (StumblesOverGarbage, "test_signed_garbage_is_invalid"),
    (LosesTitles, "test_a_document_reads_as_it_was_written"),
    (WritesDocumentsOnce, "test_a_document_is_written_over"),
    (PutsTheStatusIntoTheText, "test_the_status_is_there_from_the_start"),
    (PutsTheStatusIntoTheText, "test_the_status_changes_by_itself"),
]


CASES: dict[str, dict[str, Any]] = {
    "test_a_text_comes_back_as_it_was_posted": {"body": TEXT},
    "test_silence_is_unavailable": {"call": lambda plane, key: plane.observe([key])},
    "test_wrong_credentials_are_denied": {"call": lambda plane, key: plane.observe([key])},
}


class TestTheSuiteItself:
    """A suite that a faulty tracker passes would prove nothing."""

    @pytest.mark.parametrize(
        ("fault", "name"), FAULTS, ids=[f"{fault.__name__}-{name}" for fault, name in FAULTS]
    )
    async def test_a_planted_fault_turns_the_suite_red(self, fault: type, name: str) -> None:
        """Each fault must be caught by the test that names it, which the faultless tracker passes."""
        test = getattr(ControlPlaneConformance(), name)
        case = CASES.get(name, {})
        whole = BesideControlPlane if issubclass(fault, BesideControlPlane) else MemoryControlPlane
        await test(MemoryHarness(MemoryTracker(page=5), whole), **case)
        near, far = (
            (fault, MemoryTracker) if issubclass(fault, MemoryControlPlane) else (MemoryControlPlane, fault)
        )
        with pytest.raises((AssertionError, pytest.fail.Exception, ValueError, ControlPlaneError)):
            await test(MemoryHarness(far(page=5), near), **case)
