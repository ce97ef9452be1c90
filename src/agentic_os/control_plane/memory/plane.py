"""The near side: the port to a tracker in memory, which it reaches only as any account would."""

import hmac
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from agentic_os.control_plane import (
    Assignment,
    Capabilities,
    Cost,
    Denied,
    Document,
    Invalid,
    Issue,
    IssueChanges,
    IssueDraft,
    Note,
    NotFound,
    Observation,
    Reaction,
    Review,
    ReviewOutcome,
)
from agentic_os.control_plane.memory.tracker import (
    ENVELOPE,
    OBSERVATIONS,
    MemoryIssue,
    MemoryTracker,
    signature,
)

_WEBHOOK_TOLERANCE = timedelta(minutes=5)


class MemoryControlPlane:
    """The port to a MemoryTracker, as an account of it.

    tracker: the far side, a new one by default. account: whose credentials are used, by default one of its
    own. webhook_secrets: the live ones, by default the tracker's. beside: keep documents and the status note in places
    of their own, as some trackers do.
    """

    def __init__(
        self,
        tracker: MemoryTracker | None = None,
        *,
        account: str | None = None,
        webhook_secrets: Sequence[str] | None = None,
        beside: bool = False,
    ) -> None:
        self.tracker = tracker or MemoryTracker()
        self.account = account or self.tracker.account("agentic-os")
        self._beside = beside
        self._webhook_secrets = webhook_secrets or (self.tracker.webhook_secret,)

    @property
    def name(self) -> str:
        """Name the tracker."""
        return "memory"

    @property
    def capabilities(self) -> Capabilities:
        """Say that everything can be shown."""
        return Capabilities(
            reviews=True,
            reactions=True,
            runs=True,
            webhooks=True,
            plan_edits=True,
            documents=self._beside,
            status=self._beside,
            agents=True,
            costs=True,
        )

    async def ensure_issue(self, draft: IssueDraft) -> str:
        """Return the key of the task's issue, creating it when it does not exist."""
        async with self._request(write=True):
            return self.tracker.open_issue(
                self.account,
                draft.title,
                draft.body,
                draft.project,
                draft.labels,
                task_id=draft.task_id,
                state=draft.state,
                priority=draft.priority,
                parent=draft.parent,
                replaces=draft.replaces,
                status=draft.status,
            )

    async def observe(self, keys: Sequence[str]) -> Mapping[str, Issue | None]:
        """Read issues as they are now; None for those that do not exist."""
        if not keys:
            return {}
        async with self._request(write=False):
            found = {key: self.tracker.issues.get(key) for key in keys}
            return {key: None if issue is None else self._view(issue) for key, issue in found.items()}

    async def apply(self, key: str, changes: IssueChanges) -> None:
        """Change the given fields."""
        async with self._request(write=True):
            self.tracker.issue(key)
            for name in ("title", "body", "state", "labels", "priority", "parent", "status"):
                value = getattr(changes, name)
                if value is not None:
                    self.tracker.set_field(key, self.account, name, value)
            if changes.closed is not None:
                self.tracker.set_field(key, self.account, "closed", changes.closed or None)

    async def post(self, key: str, marker: str, body: str) -> str:
        """Post a note, or find the one that already carries this marker."""
        async with self._request(write=True):
            note = self._notes(self.tracker.issue(key)).get(marker)
            if note is not None:
                return note.id
            return self.tracker.comment(key, self.account, _marked(marker, body))

    async def edit(self, key: str, note_id: str, body: str) -> None:
        """Replace the text of a note of ours, in place."""
        async with self._request(write=True):
            notes = self._notes(self.tracker.issue(key)).values()
            marker = next((note.marker for note in notes if note.id == note_id), None)
            if marker is None:
                raise NotFound(f"issue {key!r} has no note {note_id!r} of ours")
            self.tracker.edit_comment(key, note_id, self.account, _marked(marker, body))

    async def open_review(self, key: str, review: Review) -> None:
        """Show a gate; the same digest twice is one gate."""
        async with self._request(write=True):
            issue = self.tracker.issue(key)
            issue.reviews.setdefault(review.digest, review)
            if self._beside:
                shown = Document(name=review.subject, title=review.title, body=review.text)
                issue.documents[review.subject] = shown

    async def write(self, key: str, document: Document) -> None:
        """Write a document beside the issue."""
        async with self._request(write=True):
            self.tracker.issue(key).documents[document.name] = document

    async def close_review(self, key: str, digest: str, outcome: ReviewOutcome) -> None:  # noqa: ARG002 - the dictionary keeps open gates only
        """Take a gate away; an unknown digest is not an error."""
        async with self._request(write=True):
            self.tracker.issue(key).reviews.pop(digest, None)

    async def assign(self, key: str, assignment: Assignment | None) -> None:
        """Assign the issue, waking the account once per (task, attempt)."""
        async with self._request(write=True):
            self.tracker.assign(key, self.account, assignment)

    async def report_cost(self, key: str, cost: Cost) -> None:
        """Put a cost on record; the same one twice counts once."""
        async with self._request(write=True):
            self.tracker.report_cost(key, cost)

    async def react(self, key: str, comment_id: str, reaction: Reaction) -> None:
        """Show on somebody's comment what became of it; a deleted comment is not an error."""
        async with self._request(write=True):
            comment = self.tracker.issue(key).comments.get(comment_id)
            if comment is not None:
                comment.reactions = {reaction}

    async def observations(self, cursor: str) -> tuple[Sequence[Observation], str]:
        """Read a page of what others did since the cursor."""
        async with self._request(write=False):
            position, feed = self._position(cursor), self.tracker.feed
            page: list[Observation] = []
            while position < len(feed) and len(page) < self.tracker.page:
                if self.account not in feed[position].owners:
                    page.append(feed[position].observation)
                position += 1
            return page, f"feed-{position}"

    async def receive(self, headers: Mapping[str, str], body: bytes) -> Sequence[Observation]:
        """Turn a webhook into observations. Raises Denied and Invalid."""
        self._verify({name.lower(): value for name, value in headers.items()}, body)
        try:
            envelope = ENVELOPE.validate_json(body)
            observation = OBSERVATIONS[envelope.kind].validate_python(envelope.observation)
        except (ValidationError, KeyError) as error:
            raise Invalid("the webhook's body is not one of this tracker's") from error
        return () if self.account in envelope.owners else (observation,)

    async def identify(self, name: str) -> str:
        """Find the stable account id behind a login name. Raises NotFound."""
        async with self._request(write=False):
            if name not in self.tracker.accounts:
                raise NotFound(f"there is no account {name!r}")
            return self.tracker.accounts[name]

    async def aclose(self) -> None:
        """Let go of nothing: dictionaries need no connection."""

    def _request(self, *, write: bool) -> AbstractAsyncContextManager[None]:
        return self.tracker.request(self.account, write=write)

    def _view(self, issue: MemoryIssue) -> Issue:
        return Issue(
            key=issue.key,
            url=f"memory:{issue.key}",
            title=issue.title,
            body=issue.body,
            state=issue.state,
            closed=issue.closed,
            labels=issue.labels,
            assignment=issue.assignment,
            notes=self._notes(issue),
            reviews=tuple(issue.reviews),
            project=issue.project,
            status=issue.status,
            documents=dict(issue.documents),
            priority=issue.priority,
            parent=issue.parent,
        )

    def _notes(self, issue: MemoryIssue) -> dict[str, Note]:
        """Recognise our notes by author and marker: a marker alone can be copied by anybody."""
        notes: dict[str, Note] = {}
        for comment in issue.comments.values():
            marker, body = _unmarked(comment.body)
            if comment.author == self.account and marker:
                notes.setdefault(marker, Note(id=comment.id, marker=marker, body=body))
        return notes

    def _position(self, cursor: str) -> int:
        name, _, number = (cursor or "feed-0").partition("-")
        if name != "feed" or not number.isdecimal() or int(number) > len(self.tracker.feed):
            raise Invalid(f"{cursor!r} is no cursor of this tracker: read from the beginning")
        return int(number)

    def _verify(self, headers: Mapping[str, str], body: bytes) -> None:
        delivery, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        given = headers.get("webhook-signature", "").encode()
        signatures = [signature(secret, delivery, timestamp, body) for secret in self._webhook_secrets]
        if not any(hmac.compare_digest(expected.encode(), given) for expected in signatures):
            raise Denied("the webhook's signature is not by a live secret")
        sent = datetime.fromtimestamp(int(timestamp), tz=UTC)
        if abs(self.tracker.now() - sent) > _WEBHOOK_TOLERANCE:
            raise Denied(f"the webhook was sent at {sent.isoformat()}, too far from now")


def _marked(marker: str, body: str) -> str:
    return f"<!-- agentic-os:note {marker} -->\n{body}"


def _unmarked(raw: str) -> tuple[str, str]:
    """Split a comment into its marker, "" when it has none, and the text below."""
    first, _, body = raw.partition("\n")
    marker = first.removeprefix("<!-- agentic-os:note ").removesuffix(" -->")
    return (marker, body) if first == f"<!-- agentic-os:note {marker} -->" else ("", raw)
