"""The adapter: the port to trackers, spoken to a Paperclip server over HTTP."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from agentic_os.control_plane import (
    Assignment,
    Busy,
    Capabilities,
    Conflict,
    Cost,
    Document,
    Invalid,
    Issue,
    IssueChanges,
    IssueDraft,
    NotFound,
    Observation,
    Reaction,
    Review,
    ReviewOutcome,
    Stranded,
    Unavailable,
)

from .accounts import Accounts
from .clock import elapsed, now
from .costs import Costs
from .documents import (
    Json,
    card_to,
    cards_of,
    comment_of,
    document_from,
    document_to,
    marked,
    note_key,
    note_to,
    notes_of,
)
from .feed import Feed
from .labels import Labels
from .mapping import (
    STATE_LABEL,
    Record,
    assign_to,
    assignee_of,
    changes_to,
    draft_to,
    is_replaced,
    issue_from,
    labels_of,
    reconciled,
    record_of,
    replaced_to,
    state_of,
    unassign_to,
    wake_of,
)
from .nudge import Nudge
from .sights import Sights, items
from .transport import Transport

_COMMENTS_PAGE: Final = 500
_NEVER_RELEASED: Final = "environment has not finished releasing"
_NOBODY_WORKS: Final = frozenset({"done", "cancelled", "in_review"})
_IN_FLIGHT: Final = frozenset({"queued", "running"})
_LINGER_SECONDS: Final = 30.0
"""How long a run may go on after its attempt was closed; then it is ended with its assignment."""
_LOST_SECONDS: Final = 300.0
"""How long Paperclip may look after a failed run; then it never lets go, as while the run's process hangs on."""
_MOMENT_SECONDS: Final = 3.0
_LOOK_SECONDS: Final = 0.1
_WAKE_LOOKS: Final = 5
"""How often a wake is looked for: Paperclip makes it some milliseconds after the assignment was answered."""
_SOON: Final = timedelta(seconds=1)


class PaperclipClient:
    """A company on a Paperclip server, as the port to trackers sees it."""

    name = "paperclip"
    capabilities = Capabilities(
        reviews=True,
        reactions=False,
        runs=True,
        webhooks=False,
        plan_edits=True,
        nudges=True,
        documents=True,
        status=True,
        agents=True,
        costs=True,
    )

    def __init__(
        self,
        transport: Transport,
        *,
        nudge: Nudge | None = None,
        comments_page: int = _COMMENTS_PAGE,
        feed_page: int = 200,
    ) -> None:
        """Speak over a transport. nudge: what tells that something happened; the feed alone says what."""
        self._paperclip = transport
        self._labels = Labels(transport)
        self._accounts = Accounts(transport)
        self._feed = Feed(transport, self._labels, self._accounts, page=feed_page)
        self._nudge = nudge or Nudge(transport)
        self._sights = Sights(transport, comments_page=comments_page)
        self._costs = Costs(transport, self._sights, self._accounts)
        self._lingering: dict[str, float] = {}

    async def ensure_issue(self, draft: IssueDraft) -> str:
        """Return the key of the task's issue, creating it when it does not exist."""
        project = await self._labels.project(draft.project) if draft.project else None
        labels = await self._labels.ids([*draft.labels, f"{STATE_LABEL}{draft.state}"])
        generation = 0
        while True:
            key = f"agentic-os:{draft.task_id}:{generation}"
            made = await self._paperclip.of_company("POST", "/issues", draft_to(draft, project, labels, key))
            # A repeat is answered with the first issue, even one that is gone since.
            issue = await self._still_there(_text(made, "id"))
            if issue is None or issue["id"] == draft.replaces:
                generation += 1
                continue
            if draft.replaces:
                await self._give_up(draft, issue)
            return str(issue["id"])

    async def observe(self, keys: Sequence[str]) -> Mapping[str, Issue | None]:
        """Read issues as they are now; None means that Paperclip says it does not exist."""
        wanted = list(dict.fromkeys(keys))
        found = await asyncio.gather(*map(self._observe, wanted))
        return dict(zip(wanted, found, strict=True))

    async def apply(self, key: str, changes: IssueChanges) -> None:
        """Change the given fields; applying twice changes once."""
        # People's text and our note are written as one, and Paperclip keeps no edit from being overwritten.
        written_as_one = changes.body is not None or changes.status is not None
        issue = await self._sights.issue(key, anew=written_as_one)
        try:
            document = changes_to(changes, issue, now())
            labels = labels_of(issue) if changes.labels is None else changes.labels
            state = state_of(issue).partition(" ")[0] if changes.state is None else changes.state
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable("issue", error) from error
        if changes.labels is not None or changes.state is not None:
            wanted = await self._labels.ids([*labels, *([f"{STATE_LABEL}{state}"] if state else [])])
            if sorted(wanted) != sorted(issue["labelIds"]):
                document["labelIds"] = wanted
        if (
            document.get("status") in _NOBODY_WORKS
            and issue["assigneeAgentId"]
            and not await self._in_flight(issue)
        ):
            document = unassign_to(issue) | document
        if document:
            await self._sights.change(key, document)

    async def post(self, key: str, marker: str, body: str) -> str:
        """Post a note, or find the one that already carries this marker; return its id.

        A note is a comment where that wakes nobody. While an agent is assigned, whom Paperclip would wake for a
        comment, it is a document.
        """
        issue = await self._sights.issue(key)
        comments, documents = await asyncio.gather(self._sights.comments(key), self._sights.documents(key))
        user = (await self._paperclip.backend()).user
        if any(note.marker == marker for note in notes_of(comments, documents, user=user)):
            return marker
        if issue["assigneeAgentId"]:
            await self._put_note(key, marker, body, documents)
        else:
            await self._sights.add_comment(key, marked(body, marker))
        return marker

    async def edit(self, key: str, note_id: str, body: str) -> None:
        """Replace the text of a note of ours; Paperclip's comments cannot be edited, so one becomes a document."""
        comments, documents = await asyncio.gather(self._sights.comments(key), self._sights.documents(key))
        user = (await self._paperclip.backend()).user
        note = next((n for n in notes_of(comments, documents, user=user) if n.id == note_id), None)
        if note is None:
            raise NotFound(f"the issue {key} has no note {note_id}")
        if note.body == body:
            return
        await self._put_note(key, note.marker, body, documents)
        comment = comment_of(comments, note.marker, user=user)
        if comment is not None:
            await self._sights.write("DELETE", key, f"/comments/{comment['id']}")

    async def open_review(self, key: str, review: Review) -> None:
        """Show a gate: the document as a revision, and a card that is bound to it; one digest is one gate."""
        interactions, documents = await asyncio.gather(
            self._sights.interactions(key), self._sights.documents(key)
        )
        user = (await self._paperclip.backend()).user
        cards = [card for card in cards_of(interactions, user=user) if card.digest == review.digest]
        if any(card.pending for card in cards):
            return
        shown = Document(name=review.subject, title=review.title, body=review.text)
        document = await self._written(key, shown, documents, review.digest)
        card = card_to(review, review.subject, document, len(cards))
        await self._sights.write("POST", key, "/interactions", card)

    async def close_review(self, key: str, digest: str, outcome: ReviewOutcome) -> None:
        """Take a gate away, saying how it ended; one that is decided or unknown is not an error."""
        interactions = await self._sights.interactions(key)
        user = (await self._paperclip.backend()).user
        for card in cards_of(interactions, user=user):
            if card.digest == digest and card.pending:
                path = f"/interactions/{card.id}/withdraw"
                await self._sights.write("POST", key, path, {"reason": f"agentic-os: {outcome}"})

    async def assign(self, key: str, assignment: Assignment | None) -> None:
        """Assign the issue, which wakes the agent once per (task, attempt); None takes the assignee away.

        Raises Busy while a run of the assignee before goes on: taking its issue away would end it, and Paperclip wakes
        nobody on an issue whose run was ended. It has half a minute. Raises Stranded for an issue whose run was cut off
        when Paperclip itself was killed.
        """
        issue = await self._sights.issue(key)
        if assignment is None:
            if assignee_of(issue):
                await self._let_end(issue, _LINGER_SECONDS)
                await self._sights.change(key, unassign_to(issue))
            return
        record = record_of(issue)
        if record is not None and record.task == assignment.task_id:
            if record.attempt > assignment.attempt:
                raise Conflict(f"attempt {assignment.attempt} is over: {record.attempt} was assigned since")
            # It had its wake. One that was taken away since is not given back: its run was ended with that.
            if record.attempt == assignment.attempt:
                return
        if assignee_of(issue):
            # Whoever goes on with what another left need not wait for its last words as long.
            goes_on = assignee_of(issue) == assignment.account
            await self._let_end(issue, _LINGER_SECONDS if goes_on else _MOMENT_SECONDS)
        if issue.get("executionBlocker"):
            if await self._go_on_after_a_failed_run(issue, assignment):
                return
            issue = await self._sights.issue(key)
        if assignee_of(issue):
            await self._sights.change(key, unassign_to(issue))
        assigned = await self._sights.change(key, assign_to(issue, assignment, now()))
        await self._make_sure_it_wakes(assigned, assignment, record)

    async def write(self, key: str, document: Document) -> None:
        """Write a document of ours, as a revision; the same again writes nothing."""
        await self._written(key, document, await self._sights.documents(key))

    async def report_cost(self, key: str, cost: Cost) -> None:
        """Write what an agent spent into Paperclip's ledger, once; Paperclip's own reports are left to it."""
        await self._costs.report(key, cost)

    async def react(self, key: str, comment_id: str, reaction: Reaction) -> None:
        """Do nothing: Paperclip has no reactions, and the receipt is in the status note."""

    async def observations(self, cursor: str) -> tuple[Sequence[Observation], str]:
        """Read what others did since the cursor, up to its end or some hundreds, and the next cursor."""
        return await self._feed.read(cursor)

    async def receive(
        self,
        headers: Mapping[str, str],  # noqa: ARG002 - the port's
        body: bytes,  # noqa: ARG002
    ) -> Sequence[Observation]:
        """Refuse whatever claims to be a webhook: Paperclip sends none."""
        raise Invalid("Paperclip sends no webhooks; what it tells of is read from its feed")

    async def identify(self, name: str) -> str:
        """Find the account id of an agent by its name, or of a person by name or mail address. Raises NotFound."""
        return await self._accounts.identify(name)

    async def nudged(self) -> None:
        """Wait until something may have happened."""
        await self._nudge.wait()

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._nudge.aclose()
        await self._paperclip.aclose()

    async def _observe(self, key: str) -> Issue | None:
        try:
            seen = await self._sights.look(key)
        except NotFound:
            return None
        user = (await self._paperclip.backend()).user
        hanging = (seen.comments, seen.documents, seen.interactions)
        try:
            return issue_from(seen.issue, *hanging, user=user, url=self._paperclip.url)
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable("issue", error) from error

    async def _written(self, key: str, document: Document, known: Sequence[Json], digest: str = "") -> Json:
        """Make sure that a document reads so; return it as Paperclip has it. digest: of the version that it shows."""
        found = next((each for each in known if each["key"] == document.name), None)
        if found is not None and document_from(found) == document:
            return found
        base = found["latestRevisionId"] if found is not None else None
        written = document_to(document.title, document.body, base, digest)
        return await self._sights.put_document(key, document.name, written)

    async def _still_there(self, key: str) -> Json | None:
        """Read an issue; None for one that somebody deleted, or whose place another took."""
        try:
            issue = await self._sights.issue(key)
            return None if is_replaced(issue) else issue
        except NotFound:
            return None
        except (KeyError, TypeError) as error:
            raise _unreadable("issue", error) from error

    async def _give_up(self, draft: IssueDraft, other: Json) -> None:
        issue = await self._still_there(draft.replaces)
        if issue is not None:
            await self._sights.change(draft.replaces, replaced_to(issue, draft.task_id, other))

    async def _put_note(self, key: str, marker: str, body: str, documents: Sequence[Json]) -> None:
        name = note_key(marker)
        base = next((document["latestRevisionId"] for document in documents if document["key"] == name), None)
        await self._sights.put_document(key, name, note_to(marker, body, base))

    async def _let_end(self, issue: Json, patience: float) -> None:
        """Give the run that goes on the time to end by itself. patience: in seconds. Raises Busy."""
        until = elapsed() + _MOMENT_SECONDS
        while going := await self._in_flight(issue):
            since = min(self._lingering.setdefault(run, elapsed()) for run in going)
            if elapsed() - since >= patience:
                break
            if elapsed() >= until:
                raise Busy(f"the run {going[0]} on {issue['identifier']} has not ended yet", now() + _SOON)
            await asyncio.sleep(_LOOK_SECONDS)
        for run in going:
            self._lingering.pop(run, None)

    async def _in_flight(self, issue: Json) -> Sequence[str]:
        runs = items(await self._sights.ask(issue["id"], "/runs"), "runs")
        return [run.get("runId") or run["id"] for run in runs if run["status"] in _IN_FLIGHT]

    async def _go_on_after_a_failed_run(self, issue: Json, assignment: Assignment) -> bool:
        """Tell Paperclip what became of a run that failed, without which it wakes nobody on the issue again.

        Paperclip takes that only while the agent of that run is assigned, and then wakes it once: True where that is
        the wake of the assignment. Raises Busy while Paperclip still looks after the run itself.
        """
        key, failed = issue["id"], issue["executionBlocker"]["agentId"]
        written = assign_to(issue, assignment, now()) | {"assigneeAgentId": failed}
        if failed != assignment.account:
            written |= {"billingCode": issue["billingCode"]}
        await self._sights.change(key, written)
        self._sights.forget(key)
        blocker = (await self._sights.issue(key)).get("executionBlocker")
        if blocker:
            try:
                await self._sights.write("POST", key, "/recovery-actions/resolve", reconciled(blocker))
            except (Conflict, NotFound) as problem:
                await self._sights.change(key, {"billingCode": issue["billingCode"]})
                # What a killed server leaves behind: it never lets go of the run, and nobody can say so.
                since = self._lingering.setdefault(blocker["runId"], elapsed())
                if _NEVER_RELEASED in str(problem) or elapsed() - since >= _LOST_SECONDS:
                    raise Stranded(
                        f"Paperclip does not let go of the run {blocker['runId']} on {issue['identifier']}: {problem}"
                    ) from problem
                raise Busy(
                    f"Paperclip still looks after a failed run: {problem}", now() + _SOON * 5
                ) from problem
        if failed != assignment.account:
            return False
        await self._sights.change(key, written)
        return True

    async def _make_sure_it_wakes(
        self, assigned: Json, assignment: Assignment, before: Record | None
    ) -> None:
        """Take an assignment back whose wake Paperclip skipped, so that it is made again. Raises Busy."""
        key, status = assigned["id"], ""
        for _ in range(_WAKE_LOOKS):
            answer = await self._sights.ask(key, "/diagnostics/wakes")
            try:
                status = wake_of(answer["events"], assignment.account, since=assigned["updatedAt"])
            except (KeyError, TypeError, ValueError) as error:
                raise _unreadable("wakes", error) from error
            if status:
                break
            await asyncio.sleep(_LOOK_SECONDS)
        if status != "skipped":
            return
        issue = await self._sights.issue(key)
        record = before or Record(task=assignment.task_id, attempt=0, account="")
        await self._sights.change(key, unassign_to(issue) | {"billingCode": str(record)})
        raise Busy(f"Paperclip woke nobody for attempt {assignment.attempt} yet", now() + _SOON * 5)


def _text(answer: Any, field: str) -> str:
    try:
        return str(answer[field])
    except (KeyError, TypeError) as error:
        raise _unreadable(field, error) from error


def _unreadable(what: str, error: Exception) -> Unavailable:
    return Unavailable(f"Paperclip's {what} cannot be read: {error!r}")
