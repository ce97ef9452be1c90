"""The port to issue trackers: what an issue shows, what may be asked of it, and how a tracker refuses.

Deliberately small, and no tracker's whole API. The reconciler compares the issue that should be with
the issue that is, so every operation is safe to repeat: creating is keyed by the task, notes are keyed
by a marker, a review by its digest, and an assignment by (task, attempt).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol, TypeAlias, runtime_checkable

__all__ = [
    "AgentSeen",
    "Assignment",
    "Busy",
    "Capabilities",
    "CommentSeen",
    "Companion",
    "CompanionSettings",
    "Conflict",
    "ControlPlane",
    "ControlPlaneError",
    "Cost",
    "Costing",
    "Denied",
    "Document",
    "Documenting",
    "FieldChanged",
    "Invalid",
    "Issue",
    "IssueChanges",
    "IssueDeleted",
    "IssueDraft",
    "IssueOpened",
    "NotFound",
    "Note",
    "Nudging",
    "Observation",
    "PlanEdited",
    "Plugin",
    "RateLimited",
    "Reaction",
    "Review",
    "ReviewDecided",
    "ReviewOutcome",
    "RunSeen",
    "Settings",
    "Stranded",
    "Unavailable",
]

Reaction: TypeAlias = Literal["seen", "done", "refused"]
ReviewOutcome: TypeAlias = Literal["approved", "revised", "rejected", "withdrawn"]


class ControlPlaneError(Exception):
    """A tracker did not do what it was asked."""


class NotFound(ControlPlaneError):
    """The tracker answered, and says that the thing does not exist. Never raised for a doubtful answer."""


class Conflict(ControlPlaneError):
    """The thing changed since it was observed: observe again."""


class Denied(ControlPlaneError):
    """The tracker refuses our credentials or our rights; only an administrator can help."""


class Invalid(ControlPlaneError):
    """The tracker understood the request and will never accept it as it is."""


class Unavailable(ControlPlaneError):
    """No usable answer (time-out, 5xx, refused connection); the write may or may not have happened."""


class RateLimited(ControlPlaneError):
    """The tracker asks for patience until `retry_at`."""

    def __init__(self, message: str, retry_at: datetime) -> None:
        super().__init__(message)
        self.retry_at = retry_at


class Busy(ControlPlaneError):
    """A run still goes on that the change would end; nothing was changed. It may be asked again at `retry_at`."""

    def __init__(self, message: str, retry_at: datetime) -> None:
        super().__init__(message)
        self.retry_at = retry_at


class Stranded(ControlPlaneError):
    """The tracker can wake nobody on this issue any more, and nobody can mend that: another must take its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Who works on the issue. One assignment wakes its account exactly once: (task, attempt) is its key.

    account: the tracker's stable id of the assignee. attempt: the fence of the attempt it is given.
    """

    account: str
    task_id: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A comment of ours on an issue, recognised by its marker. `body` is markdown without the marker."""

    id: str
    marker: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """A gate shown to people: exactly one document version, named by its digest.

    subject: "plan" or "result". directives: verb -> the exact line that a button or a person would post. changes: what
    changed since the version before; answers: how each item of its review was answered. Both are markdown, "" where
    there is nothing to say, and no part of the document: a tracker that compares versions itself shows only answers.
    editable: a plan as marked text, which people may make the next version of (see PlanEdited); "" where they may not.
    """

    subject: Literal["plan", "result"]
    version: int
    digest: str
    document: str
    directives: Mapping[str, str]
    changes: str = ""
    answers: str = ""
    editable: str = ""

    @property
    def title(self) -> str:
        """Name this version for people, with the beginning of its digest, as directives do."""
        letter = "v" if self.subject == "plan" else "r"
        return (
            f"{self.subject.capitalize()} {letter}{self.version} · {self.digest.removeprefix('sha256:')[:8]}"
        )

    @property
    def text(self) -> str:
        """Write the version for people to read, and to edit where they may."""
        return self.editable or self.document


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text beside an issue, kept in versions by the tracker: "plan", "result", "evidence", "artifact-...".

    name: its key on the issue, of small letters, digits and hyphens, at most 60. body: markdown.
    """

    name: str
    title: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueDraft:
    """What a new issue starts as; `task_id` is its key, so creating twice yields the same issue.

    priority: "low", "medium", "high", "critical", or "" for none. parent: the key of the parent's issue, "" for none.
    status: the status note, where the tracker has a place for it (see Capabilities).
    replaces: the key of the issue that was `Stranded`, "" for none: it is closed, says where the work goes on, and is
    never found again for this task.
    """

    task_id: str
    title: str
    body: str
    project: str
    state: str
    labels: tuple[str, ...] = ()
    priority: str = ""
    parent: str = ""
    status: str = ""
    replaces: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """An issue as the tracker shows it now.

    body: markdown with our brief section somewhere in it. state: our state label, as last applied or as
    drifted; "" when it has none. closed: None while open. labels: everybody's, without our state label.
    notes: our own notes, by marker, as they read now. reviews: digests of the open reviews. assignment: the
    account that the issue is assigned to, with the attempt it was woken for (0 when a person assigned it by
    hand). project: by its name, "" for none. priority, parent: as in a draft; None where the tracker has no such thing,
    and so is not asked to change it.
    status, documents: as the capabilities say; what others wrote under our names is shown as it is.
    """

    key: str
    url: str
    title: str
    body: str
    state: str
    closed: Literal["completed", "not_planned"] | None
    labels: tuple[str, ...]
    assignment: Assignment | None
    notes: Mapping[str, Note]
    reviews: tuple[str, ...]
    project: str = ""
    priority: str | None = None
    parent: str | None = None
    status: str = ""
    documents: Mapping[str, Document] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueChanges:
    """The least change; a field that is None stays as it is. `closed=""` reopens, `parent=""` takes the parent away."""

    title: str | None = None
    body: str | None = None
    state: str | None = None
    labels: tuple[str, ...] | None = None
    closed: Literal["completed", "not_planned", ""] | None = None
    priority: str | None = None
    parent: str | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an account spent on an issue since it was last reported; (account, at) is its key.

    cost_microusd: millionths of a dollar, 0 where no price is known. model: the one last named, "" for none. before:
    what was reported of this account until then, on all issues together, in millionths of a dollar. A tracker that
    counts whole cents puts those on record that lie between `before` and `before + cost_microusd`: nothing is rounded
    up, and no rest is lost. at: when it was reported, in whole milliseconds.
    """

    account: str
    task_id: str
    model: str
    cost_microusd: int
    input_tokens: int
    output_tokens: int
    before: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CommentSeen:
    """A comment that is not ours was created, edited or deleted.

    author: the tracker's stable account id of whoever did it, which may not be who wrote the comment first.
    body: what the comment says now, "" for a deleted one. A text that was edited before it was first read is
    seen as edited, never as created. What people do to our own notes is not seen here but by `observe`.
    """

    delivery: str
    key: str
    comment_id: str
    author: str
    body: str
    action: Literal["created", "edited", "deleted"]
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewDecided:
    """Somebody decided a review through the tracker's own review widget rather than by a comment."""

    delivery: str
    key: str
    digest: str
    author: str
    verdict: Literal["approve", "revise", "reject"]
    body: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanEdited:
    """Somebody edited the plan that an open review shows; digest: of the version that they edited.

    text: all of what they made of `Review.editable`, whatever it is; the backend finds out whether it is a plan.
    """

    delivery: str
    key: str
    digest: str
    author: str
    text: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldChanged:
    """Somebody else changed a field of the issue.

    field: "title", "body", "state", "labels", "closed", "assignee", "priority" where the tracker has one, "project"
    where an issue can be moved to another, or "document" for one of ours but the plan under review (see PlanEdited).
    value: what it is now, as text: labels joined by commas, an account id for the assignee, "" for none and for an open
    issue, the name of a project or a document. before: what it was, as value; None where that is not known. Of
    labels and project it must be: a label that was there already asks for nothing.
    """

    delivery: str
    key: str
    field: str
    author: str
    value: str
    at: datetime
    before: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueOpened:
    """Somebody else opened an issue, which may be adopted as a task.

    routine: the name of the routine that opened it for its author, "" where the author did.
    """

    delivery: str
    key: str
    author: str
    title: str
    body: str
    project: str
    labels: tuple[str, ...]
    at: datetime
    routine: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueDeleted:
    """An issue is gone."""

    delivery: str
    key: str
    author: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSeen:
    """A run of an agent is alive, or has ended.

    It authorises nothing: only a callback is evidence of work. Alive, it renews the lease of the attempt that it is
    for, at most once in a third of the lease; ended, it leaves that attempt a minute. detail: of a run that ended, what
    helps a person: its exit code and the end of its log, in printable characters.
    """

    delivery: str
    key: str
    task_id: str
    attempt: int
    state: Literal["alive", "ended"]
    detail: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSeen:
    """An agent was paused, so that the tracker wakes it no more, or is ready to be woken again.

    Told of the agent as it is when the feed is read, and of what was so before anybody asked, too. author: who did it,
    "" where the tracker did it by itself or does not say. detail: why, in a word or two for people ("budget"), "" where
    nothing is known. One that will never be ready again is paused for good.
    """

    delivery: str
    account: str
    state: Literal["paused", "ready"]
    author: str
    detail: str
    at: datetime

    @property
    def key(self) -> str:
        """Say what it belongs to, among the observations of issues: those of one agent are in order."""
        return f"agent:{self.account}"


Observation: TypeAlias = (
    CommentSeen | ReviewDecided | PlanEdited | FieldChanged | IssueOpened | IssueDeleted | RunSeen | AgentSeen
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What this tracker can show; what it cannot, the reconciler writes into notes instead.

    reviews: a widget of its own for gates. reactions: marks on somebody's comment. runs: agents' runs are
    observed. webhooks: it sends signed notifications, which `receive` understands. writes_per_minute: how many
    writes it bears; None where it has no such limit. plan_edits: people can edit the plan that a review shows.
    nudges: it tells that its feed has news, as `Nudging` says. documents: texts beside an issue, as `Documenting` says;
    a review shows its own there, under its subject's name, so that no note repeats it. status: an issue has a place for
    the status note, which is changed with the issue's fields instead of being a note. agents: it tells which agents are
    paused. costs: it keeps what was spent, as `Costing` says.
    """

    reviews: bool
    reactions: bool
    runs: bool
    webhooks: bool
    writes_per_minute: int | None = None
    plan_edits: bool = False
    nudges: bool = False
    documents: bool = False
    status: bool = False
    agents: bool = False
    costs: bool = False


class ControlPlane(Protocol):
    """One issue tracker, as the backend sees it.

    Every method may raise a ControlPlaneError. None retries: a failure is raised as what it means, and the
    reconciler, which has the budget, asks again. An answer that could mean two things is Unavailable.
    """

    @property
    def name(self) -> str:
        """Name the tracker as the entry point does, for instance "board"."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """Say what this tracker can show."""
        ...

    async def ensure_issue(self, draft: IssueDraft) -> str:
        """Return the key of the task's issue, creating it when it does not exist."""
        ...

    async def observe(self, keys: Sequence[str]) -> Mapping[str, Issue | None]:
        """Read issues as they are now, one entry for each key asked for.

        None means that the tracker says it does not exist. No keys, no request.
        """
        ...

    async def apply(self, key: str, changes: IssueChanges) -> None:
        """Change the given fields; applying twice changes once. Raises NotFound for a deleted issue."""
        ...

    async def post(self, key: str, marker: str, body: str) -> str:
        """Post a note, or find the one that already carries this marker; return its id."""
        ...

    async def edit(self, key: str, note_id: str, body: str) -> None:
        """Replace the text of a note of ours, in place. Raises NotFound when somebody deleted it."""
        ...

    async def open_review(self, key: str, review: Review) -> None:
        """Show a gate; the same digest twice is one gate."""
        ...

    async def close_review(self, key: str, digest: str, outcome: ReviewOutcome) -> None:
        """Take a gate away, saying how it ended; an unknown digest is not an error."""
        ...

    async def assign(self, key: str, assignment: Assignment | None) -> None:
        """Assign the issue, waking the account once per (task, attempt); None takes the assignee away.

        Raises Busy where a run of the assignee before must end first, Stranded where nobody can be woken any more.
        """
        ...

    async def react(self, key: str, comment_id: str, reaction: Reaction) -> None:
        """Show on somebody's comment what became of it; a deleted comment is not an error."""
        ...

    async def observations(self, cursor: str) -> tuple[Sequence[Observation], str]:
        """Read what others did since the cursor, complete and in order, and say where to go on.

        The cursor "" is the beginning, and a cursor may be read again. An empty answer means that there is no
        more for now, so a page of nothing but our own changes is skipped. Raises Invalid for a cursor that
        this tracker did not give.
        """
        ...

    async def receive(self, headers: Mapping[str, str], body: bytes) -> Sequence[Observation]:
        """Turn a webhook into observations, each with the delivery id that it has in the feed.

        Raises Denied when the signature or the age is wrong, Invalid when the signed body is unreadable.
        """
        ...

    async def identify(self, name: str) -> str:
        """Find the stable account id behind a login name. Raises NotFound."""
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...


@runtime_checkable
class Nudging(Protocol):
    """A tracker that cannot send webhooks, and yet tells that its feed has news: what its capability `nudges` means."""

    async def nudged(self) -> None:
        """Wait until the feed may have news. One that is lost or too many is harmless; it raises nothing."""
        ...


@runtime_checkable
class Documenting(Protocol):
    """A tracker that keeps documents beside an issue: what its capability `documents` means."""

    async def write(self, key: str, document: Document) -> None:
        """Write a document of ours, in place of what has its name; the same again writes nothing."""
        ...


@runtime_checkable
class Costing(Protocol):
    """A tracker that keeps what its agents spend, and may act on it: what its capability `costs` means."""

    async def report_cost(self, key: str, cost: Cost) -> None:
        """Put a cost on record; the same one twice counts once. Raises NotFound for a deleted issue.

        A tracker that measures this account by itself does nothing.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion:
    """A server that belongs to a control plane and that `up` runs beside the backend.

    argv: the command. It gets its configuration as one JSON line on standard input and then must treat the
    end of standard input as the order to stop. ready_url answers 200 once it serves.
    """

    argv: tuple[str, ...]
    configuration: Mapping[str, object]
    ready_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a plugin is opened with.

    url: where the tracker is. token: our own account's token on it. webhook_secrets: the live ones, newest
    first. options: what the settings file says under the control plane's name; the plugin checks it itself.
    """

    url: str
    token: str
    webhook_secrets: tuple[str, ...]
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanionSettings:
    """What a companion server is told when `up` starts it.

    database_url: a connection as the companion's own role, which owns the schema of its name and nothing
    else. home: a folder of its own, 0700. backend_token: the account token that the backend will present.
    operator_name, operator_password: the first person's account. webhook_url: where to send signed webhooks.
    """

    host: str
    port: int
    public_url: str
    database_url: str
    home: str
    backend_token: str
    webhook_url: str
    webhook_secret: str
    operator_name: str
    operator_password: str
    run_as: str = ""


class Plugin(Protocol):
    """What an entry point of the group `agentic_os.control_planes` names."""

    def open(self, settings: Settings) -> ControlPlane:
        """Connect to the tracker; no request is made before the first call."""
        ...

    def companion(self, settings: CompanionSettings) -> Companion | None:
        """Say which server `up` should run for this control plane; None when it is somebody else's."""
        ...
