"""The far side: accounts, issues, a feed, signed webhooks, wakes, and the faults that a test plants."""

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, TypeAlias, get_args

from pydantic import TypeAdapter

from agentic_os import clock
from agentic_os.control_plane import (
    AgentSeen,
    Assignment,
    CommentSeen,
    Cost,
    Denied,
    Document,
    FieldChanged,
    Invalid,
    IssueDeleted,
    IssueOpened,
    NotFound,
    Observation,
    PlanEdited,
    RateLimited,
    Reaction,
    Review,
    ReviewDecided,
    RunSeen,
    Stranded,
    Unavailable,
)

__all__ = [
    "ENVELOPE",
    "OBSERVATIONS",
    "Delivery",
    "Entry",
    "Envelope",
    "MemoryComment",
    "MemoryIssue",
    "MemoryTracker",
    "signature",
]

Delivery: TypeAlias = tuple[Mapping[str, str], bytes]

OBSERVATIONS = {kind.__name__: TypeAdapter(kind) for kind in get_args(Observation)}
"""The codec of each kind of observation in a webhook, by its name."""


@dataclass(slots=True, kw_only=True)
class MemoryComment:
    """A comment as the tracker stores it, whoever wrote it."""

    id: str
    author: str
    body: str
    reactions: set[Reaction] = field(default_factory=set)


@dataclass(slots=True, kw_only=True)
class MemoryIssue:
    """An issue as the tracker stores it. `task_id` is the key that its creator gave, "" for a person's."""

    key: str
    task_id: str
    title: str
    body: str
    project: str
    state: str
    labels: tuple[str, ...]
    priority: str = ""
    parent: str = ""
    status: str = ""
    closed: Literal["completed", "not_planned"] | None = None
    assignment: Assignment | None = None
    comments: dict[str, MemoryComment] = field(default_factory=dict)
    reviews: dict[str, Review] = field(default_factory=dict)
    documents: dict[str, Document] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the feed. owners: who did it and, for a comment, who wrote it."""

    observation: Observation
    owners: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """The body of a webhook."""

    kind: str
    owners: tuple[str, ...]
    observation: dict[str, object]


ENVELOPE = TypeAdapter(Envelope)


class MemoryTracker:
    """An issue tracker in dictionaries: accounts, issues, a feed, signed webhooks, wakes and planted faults.

    now: the tracker's clock. latency: seconds that each request takes. page: entries on one page of the feed.
    longest: the most characters of a body. costs: what was spent, by account and instant, with its issue. stranded:
    the issues on which nobody can be woken any more.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = clock.now,
        latency: float = 0.0,
        page: int = 50,
        longest: int = 65_536,
    ) -> None:
        self.now = now
        self.latency = latency
        self.page = page
        self.longest = longest
        self.accounts: dict[str, str] = {}
        self.issues: dict[str, MemoryIssue] = {}
        self.feed: list[Entry] = []
        self.costs: dict[tuple[str, datetime], tuple[str, Cost]] = {}
        self.wakes: list[Assignment] = []
        self.woken: asyncio.Queue[Assignment] = asyncio.Queue()
        self.deliveries: list[Delivery] = []
        self.stranded: set[str] = set()
        self.webhook_secret = secrets.token_hex(32)
        self._keys: dict[str, str] = {}
        self.paused: set[str] = set()
        self._woken: set[tuple[str, int]] = set()
        self._numbers = 0
        self._fault: Unavailable | RateLimited | None = None
        self._fault_comes: Literal["before", "after"] = "before"
        self._limited_until: datetime | None = None

    # What people and agents do; each returns what the tracker's own page would show them.

    def account(self, name: str) -> str:
        """Find or make the account of this login name; return its stable id."""
        return self.accounts.setdefault(name, f"account-{len(self.accounts) + 1}")

    def issue(self, key: str) -> MemoryIssue:
        """Look at an issue. Raises NotFound."""
        if key not in self.issues:
            raise NotFound(f"there is no issue {key!r}")
        return self.issues[key]

    def open_issue(
        self,
        author: str,
        title: str,
        body: str = "",
        project: str = "default",
        labels: Sequence[str] = (),
        *,
        task_id: str = "",
        state: str = "",
        priority: str = "",
        parent: str = "",
        routine: str = "",
        replaces: str = "",
        status: str = "",
    ) -> str:
        """Open an issue, or find the one of the same `task_id`; return its key. replaces: as in a draft."""
        existing = self._keys.get(task_id) if task_id else None
        if existing in self.issues and existing != replaces:
            return existing
        key = self._next("issue")
        self.issues[key] = MemoryIssue(
            key=key,
            task_id=task_id,
            title=title,
            body=self._accepted(body),
            project=project,
            state=state,
            labels=tuple(labels),
            priority=priority,
            parent=parent,
            status=status,
        )
        self._keys[task_id] = key
        if replaces in self.issues:
            self.set_field(replaces, author, "closed", "not_planned")
            self.comment(replaces, author, f"The work goes on at {key}.")
        self._log(
            IssueOpened(
                delivery=self._next("delivery"),
                key=key,
                author=author,
                title=title,
                body=body,
                project=project,
                labels=tuple(labels),
                at=self.now(),
                routine=routine,
            ),
            author,
        )
        return key

    def delete_issue(self, key: str, author: str) -> None:
        """Delete an issue with all that is on it."""
        del self.issues[self.issue(key).key]
        self._log(
            IssueDeleted(delivery=self._next("delivery"), key=key, author=author, at=self.now()), author
        )

    def comment(self, key: str, author: str, body: str) -> str:
        """Write a comment; return its id."""
        comment = MemoryComment(id=self._next("comment"), author=author, body=self._accepted(body))
        self.issue(key).comments[comment.id] = comment
        self._log_comment(key, comment, author, "created")
        return comment.id

    def edit_comment(self, key: str, comment_id: str, author: str, body: str) -> None:
        """Rewrite a comment, one's own or somebody else's. Raises NotFound."""
        comment = self._comment(key, comment_id)
        if comment.body != self._accepted(body):
            comment.body = body
            self._log_comment(key, comment, author, "edited")

    def delete_comment(self, key: str, comment_id: str, author: str) -> None:
        """Delete a comment, one's own or somebody else's. Raises NotFound."""
        comment = self._comment(key, comment_id)
        del self.issue(key).comments[comment_id]
        self._log_comment(key, comment, author, "deleted")

    def change_field(self, key: str, author: str, name: str, value: str) -> None:
        """Change a field by hand, with the value as text (see FieldChanged)."""
        match name:
            case "assignee":
                hand = Assignment(account=value, task_id=self.issue(key).task_id, attempt=0)
                self.assign(key, author, hand if value else None)
            case "closed":
                self.set_field(key, author, name, value or None)
            case "labels":
                self.set_field(key, author, name, tuple(filter(None, map(str.strip, value.split(",")))))
            case "title" | "body" | "state" | "priority" | "project":
                self.set_field(key, author, name, value)
            case _:
                raise Invalid(f"an issue has no field {name!r}")

    def set_field(self, key: str, author: str, name: str, value: str | tuple[str, ...] | None) -> None:
        """Set a field to a value of its own type; the same value is no change."""
        issue = self.issue(key)
        if name == "body":
            self._accepted(str(value))
        before = getattr(issue, name)
        if before != value:
            setattr(issue, name, value)
            self._log_field(key, author, name, _text(value), _text(before))

    def assign(self, key: str, author: str, assignment: Assignment | None) -> None:
        """Give the issue to an account, or to none; attempt 0 is an assignment by hand and wakes nobody."""
        issue = self.issue(key)
        if assignment is not None and assignment.attempt and key in self.stranded:
            raise Stranded(f"nobody can be woken on {key} any more")
        before, issue.assignment = issue.assignment, assignment
        account = assignment.account if assignment else ""
        if account != (before.account if before else ""):
            self._log_field(key, author, "assignee", account)
        if assignment is not None and assignment.attempt:
            self._wake(assignment)

    def report_cost(self, key: str, cost: Cost) -> None:
        """Keep what an account spent on an issue, each report once. Raises NotFound, and Invalid for no account."""
        if cost.account not in self.accounts.values():
            raise Invalid(f"there is no account {cost.account!r}")
        self.costs.setdefault((cost.account, cost.at), (self.issue(key).key, cost))

    def decide_review(
        self,
        key: str,
        digest: str,
        author: str,
        verdict: Literal["approve", "revise", "reject"],
        body: str = "",
    ) -> None:
        """Press a button of an open review. Raises NotFound when it is not open."""
        if digest not in self.issue(key).reviews:
            raise NotFound(f"issue {key!r} has no open review of {digest!r}")
        seen = ReviewDecided(
            delivery=self._next("delivery"),
            key=key,
            digest=digest,
            author=author,
            verdict=verdict,
            body=body,
            at=self.now(),
        )
        self._log(seen, author)

    def edit_document(self, key: str, author: str, document: Document) -> None:
        """Write a document by hand."""
        self.issue(key).documents[document.name] = document
        self._log_field(key, author, "document", document.name)

    def edit_plan(self, key: str, digest: str, author: str, text: str) -> None:
        """Edit the plan of an open review. Raises NotFound when it is not open, Invalid when it is not editable."""
        review = self.issue(key).reviews.get(digest)
        if review is None:
            raise NotFound(f"issue {key!r} has no open review of {digest!r}")
        if not review.editable:
            raise Invalid(f"the {review.subject} {digest!r} cannot be edited")
        seen = PlanEdited(
            delivery=self._next("delivery"), key=key, digest=digest, author=author, text=text, at=self.now()
        )
        self._log(seen, author)

    def report_run(
        self, key: str, assignment: Assignment, state: Literal["alive", "ended"], detail: str = ""
    ) -> None:
        """Let the tracker see the run of a woken agent."""
        seen = RunSeen(
            delivery=self._next("delivery"),
            key=self.issue(key).key,
            task_id=assignment.task_id,
            attempt=assignment.attempt,
            state=state,
            detail=detail,
            at=self.now(),
        )
        self._log(seen, assignment.account)

    def pause(self, account: str, author: str = "", detail: str = "") -> None:
        """Pause an agent: an assignment wakes it no more. author: "" for the tracker itself."""
        self.paused.add(account)
        self._log_agent(account, author, detail, "paused")

    def resume(self, account: str, author: str = "") -> None:
        """Let an agent be woken again; what it was assigned meanwhile wakes it no more."""
        self.paused.discard(account)
        self._log_agent(account, author, "", "ready")

    # Faults, and what a test needs to play the network.

    def fail_next(self, *, before: bool) -> None:
        """Fail the next request before it does anything, or the next write after it took effect."""
        self._fault = Unavailable("the tracker did not answer")
        self._fault_comes = "before" if before else "after"

    def limit_next(self, seconds: float) -> None:
        """Refuse the next request, asking for this much patience."""
        self._fault = RateLimited("too many requests", self.now() + timedelta(seconds=seconds))
        self._fault_comes = "before"

    def limit_until(self, instant: datetime) -> None:
        """Refuse every request until the instant."""
        self._limited_until = instant

    def take_deliveries(self) -> list[Delivery]:
        """Hand over the webhooks sent since the last call; a test loses, doubles and reorders the list."""
        taken, self.deliveries = self.deliveries, []
        return taken

    def sign(self, body: bytes, *, at: datetime, delivery: str = "delivery-0") -> Mapping[str, str]:
        """Make the headers with which the tracker would have sent this body at that time."""
        timestamp = str(int(at.timestamp()))
        return {
            "webhook-id": delivery,
            "webhook-timestamp": timestamp,
            "webhook-signature": signature(self.webhook_secret, delivery, timestamp, body),
        }

    @asynccontextmanager
    async def request(self, account: str, *, write: bool) -> AsyncIterator[None]:
        """Be the wire between an account and the tracker: latency, credentials, limits, planted faults."""
        await asyncio.sleep(self.latency)
        if account not in self.accounts.values():
            raise Denied("the tracker does not know these credentials")
        if self._limited_until is not None and self.now() < self._limited_until:
            raise RateLimited("too many requests", self._limited_until)
        if self._fault_comes == "before":
            self._raise_fault()
        yield
        if write and self._fault_comes == "after":
            self._raise_fault()

    def _raise_fault(self) -> None:
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault

    def _next(self, kind: str) -> str:
        self._numbers += 1
        return f"{kind}-{self._numbers}"

    def _accepted(self, body: str) -> str:
        if len(body) > self.longest:
            raise Invalid(f"the body has {len(body)} characters, {self.longest} are allowed")
        return body

    def _comment(self, key: str, comment_id: str) -> MemoryComment:
        comment = self.issue(key).comments.get(comment_id)
        if comment is None:
            raise NotFound(f"issue {key!r} has no comment {comment_id!r}")
        return comment

    def _wake(self, assignment: Assignment) -> None:
        wake = (assignment.task_id, assignment.attempt)
        if wake not in self._woken:
            self._woken.add(wake)
            if assignment.account not in self.paused:
                self.wakes.append(assignment)
                self.woken.put_nowait(assignment)

    def _log_comment(
        self, key: str, comment: MemoryComment, author: str, action: Literal["created", "edited", "deleted"]
    ) -> None:
        seen = CommentSeen(
            delivery=self._next("delivery"),
            key=key,
            comment_id=comment.id,
            author=author,
            body="" if action == "deleted" else comment.body,
            action=action,
            at=self.now(),
        )
        self._log(seen, author, comment.author)

    def _log_field(self, key: str, author: str, name: str, value: str, before: str | None = None) -> None:
        seen = FieldChanged(
            delivery=self._next("delivery"),
            key=key,
            field=name,
            author=author,
            value=value,
            before=before,
            at=self.now(),
        )
        self._log(seen, author)

    def _log_agent(self, account: str, author: str, detail: str, state: Literal["paused", "ready"]) -> None:
        seen = AgentSeen(
            delivery=self._next("delivery"),
            account=account,
            state=state,
            author=author,
            detail=detail,
            at=self.now(),
        )
        self._log(seen, author)

    def _log(self, observation: Observation, *owners: str) -> None:
        self.feed.append(Entry(observation=observation, owners=owners))
        kind = type(observation).__name__
        document = OBSERVATIONS[kind].dump_python(observation, mode="json")
        body = ENVELOPE.dump_json(Envelope(kind=kind, owners=owners, observation=document))
        headers = self.sign(body, at=self.now(), delivery=observation.delivery)
        self.deliveries.append((headers, body))


def signature(secret: str, delivery: str, timestamp: str, body: bytes) -> str:
    """Sign a webhook as Standard Webhooks lay down."""
    signed = hmac.new(secret.encode(), f"{delivery}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed.digest()).decode()}"


def _text(value: str | tuple[str, ...] | None) -> str:
    return ",".join(value) if isinstance(value, tuple) else value or ""
