"""What the application needs of storage: values to write in one transaction, and the protocols to do it."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol, TypeAlias

from agentic_os.control_plane import AgentSeen, Cost
from agentic_os.domain.documents import JsonObject, Participant, Usage
from agentic_os.domain.events import Event
from agentic_os.domain.executor_pauses import ExecutorPause
from agentic_os.domain.governance import BreakerTripped, RegistryEvent
from agentic_os.domain.policy import Breaker, RateBreaker
from agentic_os.domain.skill_lock import SkillLock
from agentic_os.domain.task import Spender, Task
from agentic_os.domain.waiting import Deadline
from agentic_os.domain.workspaces import WorkspaceReport


class StoreUnavailable(Exception):
    """The database does not answer."""


class VersionConflict(Exception):
    """Somebody else appended to the stream first: load it again."""


class DigestMismatch(Exception):
    """The bytes are not the ones that the digest names."""


class TooLarge(Exception):
    """More bytes came than an artifact may have."""


class StorageFull(Exception):
    """There is no room for the bytes; nothing of them is kept."""


class ReceiptMismatch(Exception):
    """The key was used before, with other content."""


class CredentialRevoked(Exception):
    """The credential was revoked between the check and the append."""


class AccountExhausted(Exception):
    """A movement would put an account over its limit; nothing was written."""

    def __init__(self, account: str) -> None:
        super().__init__(account)
        self.account = account


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """Who appends, why, and because of what. `cause` is the callback's, directive's or delivery's id."""

    actor: str
    at: datetime
    reason: str = ""
    cause: str = ""
    meta: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Makes a request repeatable: the answer is stored with the events, under (principal, route, key)."""

    principal: str
    route: str
    key: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """A change of an account; refused as a whole when spent + reserved would pass the limit.

    One of nothing, with a limit, asks whether anything is left.
    """

    account: str
    reserved: int = 0
    spent: int = 0
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The latest progress of an attempt, kept between two events of it."""

    attempt: int
    generation: int
    seq: int
    message: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SeqGuard:
    """What the append checks of the task's coalesced progress, which leaves no event: none is at or after this seq."""

    attempt: int
    generation: int
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskChange:
    """Events for one task's stream, and the task as they make it."""

    before: Task | None
    after: Task
    events: Sequence[Event]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryChange:
    """Events for the stream of one principal or of the governance bundle."""

    stream: str
    expected: int
    events: Sequence[RegistryEvent]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """All that one append writes, or none of it.

    answer: built from the event ids before the write, and stored with the receipt. clears: what waiting tasks
    may go on now. credential: the hash of the credential, which must still be valid when the write happens. marked:
    whoever writes holds the stale mark of the tasks that change, and shows them as they then are, so none is set.
    """

    envelope: Envelope
    changes: Sequence[TaskChange] = ()
    registry: Sequence[RegistryChange] = ()
    receipt: Receipt | None = None
    answer: Callable[[Sequence[str]], str] | None = None
    movements: Sequence[Movement] = ()
    progress: Progress | None = None
    seq_guard: SeqGuard | None = None
    clears: Sequence[str] = ()
    credential: bytes | None = None
    stale: Sequence[str] = ()
    marked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """What an append answered: new events, or the stored answer of an earlier one."""

    answer: str
    replayed: bool
    event_ids: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A task as it stands, with what the same round trip found of the request's receipt."""

    task: Task | None
    progress: Progress | None = None
    fingerprint: bytes | None = None
    answer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An event as it was stored."""

    stream: str
    version: int
    event_id: str
    type: str
    actor: str
    reason: str
    cause: str
    at: datetime
    data: JsonObject
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """An event, and the task as it made it."""

    event: Recorded
    task: Task


class EventLog(Protocol):
    """The append-only history, and the tasks folded from it."""

    async def load(self, task_id: str, receipt: Receipt | None = None) -> Loaded:
        """Read the task's row, folding its events again when the row is missing or of another fold."""
        ...

    def recall(self, task_id: str) -> Loaded | None:
        """Give the task as this process last saw it; only an append at its version tells whether it still is so."""
        ...

    async def append(self, batch: Batch) -> Appended:
        """Write the batch. Raises VersionConflict, ReceiptMismatch, CredentialRevoked or AccountExhausted."""
        ...

    async def read_stream(self, stream: str, after: int = 0, limit: int = 500) -> Sequence[Recorded]:
        """Read a stream in the order of its versions."""
        ...

    def replay(self, task_id: str, until: int | None = None) -> AsyncGenerator[Moment, None]:
        """Fold a task again from its first event on, up to that version, reading a page at a time as it is asked."""
        ...

    async def read_all(self, cursor: str, limit: int = 1000) -> tuple[Sequence[Recorded], str]:
        """Read every stream, nothing missed and each in order, from the opaque cursor ("" is the beginning) on."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Anyone with an identity; the name is the id, and is never given to anybody else.

    workspace: the folder where an executor works, if it was told. hydrated: what is known of that folder's skills.
    capacity: how many attempts an executor may hold at once, None for any number. load: how many it holds.
    capabilities, tier: what the organisation says of an executor. pause: who paused it on the connected tracker.
    """

    id: str
    name: str
    kind: Literal["person", "executor", "system"]
    roles: tuple[str, ...]
    owner: str | None = None
    skills: Literal["required", "not-required"] = "required"
    capacity: int | None = None
    revoked: bool = False
    load: int = 0
    capabilities: tuple[str, ...] = ()
    tier: int | None = None
    workspace: str | None = None
    hydrated: WorkspaceReport | None = None
    pause: ExecutorPause | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A credential that is known, and whether it still counts."""

    principal: Principal
    hash: bytes
    valid: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedBundle:
    """A bundle that was put in force: by whom, why and when. version: that of the event in the bundle's stream.

    shadow: the document of the policy that is on trial beside it. skills: the lock of the skills in force with it, None
    where it was applied before skills were part of bundles.
    """

    version: int
    bundle: str
    document: JsonObject
    shadow: JsonObject | None = None
    skills: JsonObject | None = None
    actor: str
    reason: str
    at: datetime


class Registry(Protocol):
    """Who may act."""

    async def credential(self, digest: bytes) -> Credential | None:
        """Find a credential by its hash; None for one that was never issued."""
        ...

    async def add(
        self, principal: Principal, credential: bytes, expires_at: datetime | None, *, actor: str = "system"
    ) -> None:
        """Store a principal with its first credential. Raises NameTaken."""
        ...

    async def replace_credentials(self, name: str, credential: bytes, *, actor: str = "system") -> None:
        """Revoke all credentials of a principal, give it a new one of the same lifetime, and record that."""
        ...

    async def record_bundle(
        self,
        bundle: str,
        document: JsonObject,
        actor: str,
        reason: str = "started with it",
        *,
        shadow: JsonObject | None = None,
        skills: JsonObject | None = None,
    ) -> bool:
        """Record that a policy came into force, unless it is in force already, beside the same shadow and skills."""
        ...

    async def report_workspaces(self, reports: Sequence[WorkspaceReport]) -> None:
        """Store what was found in workspaces, in place of what was found before."""
        ...

    async def workspaces(self) -> Sequence[WorkspaceReport]:
        """List what is known of workspaces, by their paths."""
        ...

    async def bundle_named(self, digest: str) -> AppliedBundle | None:
        """Find a bundle that was applied at any time, by its digest."""
        ...

    async def applied_bundle(self, after: int = 0) -> AppliedBundle | None:
        """Give the bundle that was applied last; None for none after that version of the bundle's stream."""
        ...

    async def record_trip(self, trip: BreakerTripped) -> bool:
        """Record that a breaker tripped, unless it is known already that it holds so long."""
        ...

    async def by_name(self, name: str) -> Principal | None:
        """Find a principal by its name."""
        ...

    async def executor(self, name: str) -> Principal | None:
        """Find an executor by its name, with what the organisation says of it, but not how much it holds."""
        ...

    async def executors(self) -> Sequence[Principal]:
        """List the executors that were not revoked, by name."""
        ...

    async def without_credential(self) -> Sequence[str]:
        """List the executors that were not revoked and have no credential that counts."""
        ...

    async def participant(self, principal_id: str) -> Participant:
        """Describe a principal as the separation of duties sees it."""
        ...

    async def by_account(self, control_plane: str, account: str) -> Principal | None:
        """Find who is behind an account of a tracker."""
        ...

    async def account_of(self, control_plane: str, principal_id: str) -> str | None:
        """Find a principal's account on a tracker."""
        ...

    async def link(
        self, control_plane: str, account: str, principal_id: str, *, actor: str = "system"
    ) -> None:
        """Say that this account is that principal's."""
        ...


class NameTaken(Exception):
    """There is a principal of that name already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentKnown:
    """What came of an observation of an agent. executor: whose account it is, "" for nobody's. changed: it was news."""

    executor: str
    changed: bool


class AgentBook(Protocol):
    """Which agents the connected tracker wakes, and which are paused there."""

    async def see(self, seen: AgentSeen) -> AgentKnown:
        """Keep how an account stands; of an executor's, what changed is put on record, and its tasks are marked."""
        ...

    async def pause_of(self, executor: str) -> ExecutorPause | None:
        """Say by whom and why an executor is paused, None where it is not."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleMark:
    """A task that may have to be worked on; it goes only when its generation is unchanged."""

    task_id: str
    generation: int
    failures: int
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BacklogItem:
    """A stale task. since: its oldest change that may not be shown yet. again: when it is tried next, None for now.

    at_rest: it waits for its own reasons and not for its issue, so that it lags behind nothing.
    """

    task_id: str
    since: datetime
    failures: int
    problem: str | None
    again: datetime | None
    poisoned_at: datetime | None
    claimed: bool
    at_rest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What is stale and not yet worked on, in numbers, and the first of it. oldest: of what is not at rest."""

    stale: int
    poisoned: int
    oldest: datetime | None
    inbox: int
    inbox_oldest: datetime | None
    items: Sequence[BacklogItem]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerState:
    """How it stood with a tracker when somebody last looked; None for what never was.

    reached_at: it answered. problem: what was wrong at failed_at. read_at: its feed was read to the end. heard_at: when
    somebody else did there what was heard of last, however it was.
    """

    reached_at: datetime | None = None
    failed_at: datetime | None = None
    problem: str | None = None
    paused_until: datetime | None = None
    webhook_at: datetime | None = None
    read_at: datetime | None = None
    heard_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DueDeadline:
    """A deadline that has come."""

    task_id: str
    deadline: Deadline


class WorkQueue(Protocol):
    """Stale marks, deadlines, and what waits for what."""

    async def claim(self, worker: str, limit: int, lease: timedelta) -> Sequence[StaleMark]:
        """Take marks in a short committed transaction; nobody else gets them until the lease ends."""
        ...

    async def settle(self, mark: StaleMark) -> None:
        """Remove the mark if nothing came in meanwhile, else give it free."""
        ...

    async def postpone(
        self, mark: StaleMark, until: datetime, problem: str, *, counts: bool = True, poisoned: bool = False
    ) -> None:
        """Put the mark off after a failure, counted unless it is nobody's fault; a poisoned one is shown as such."""
        ...

    async def redrive(self, task_id: str) -> None:
        """Mark the task stale, with no failure counted and nothing put off."""
        ...

    async def mark_issues(self) -> int:
        """Mark every task stale that has an issue and has not ended; say how many."""
        ...

    async def waited_for(self, kind: str, limit: int) -> Sequence[str]:
        """List what of this kind tasks wait for, each once."""
        ...

    async def paused_repairs(self, limit: int) -> Sequence[str]:
        """List tasks of which something on the issue is not put back for now."""
        ...

    async def backlog(self, limit: int, task_id: str | None = None) -> "Backlog":
        """Say what is stale, poisoned tasks first and then the oldest, of one task where it is named."""
        ...

    async def rest(self, mark: StaleMark, until: datetime) -> None:
        """Put the mark off until then without calling it a failure; one that was renewed meanwhile is due at once."""
        ...

    async def mark(self, task_ids: Sequence[str]) -> None:
        """Mark tasks stale."""
        ...

    async def mark_by(self, task_id: str, at: datetime) -> None:
        """Mark a task stale from then on, if it is not anyway."""
        ...

    async def mark_waiting(self, kind: str) -> None:
        """Mark the tasks stale that wait for anything of this kind ("budget:")."""
        ...

    async def wait(self, task_id: str, what: str) -> None:
        """Note that the task may go on once `what` is cleared."""
        ...

    async def wait_for(self, task_id: str, obstacles: Sequence[str], rank: int) -> None:
        """Note that the task may go on once any of these is cleared, and that it waits for nothing else.

        rank: how urgent it is, 0 for the most.
        """
        ...

    async def outranked(self, task_id: str, what: str, rank: int) -> bool:
        """Tell whether a more urgent task waits for the same, and is about to be looked at."""
        ...

    async def waits_of(self, task_id: str) -> Sequence[str]:
        """List what the task waits for."""
        ...

    async def forget_waits(self, task_id: str) -> None:
        """Note that the task waits for nothing any more."""
        ...

    async def due(self, at: datetime, limit: int) -> Sequence[DueDeadline]:
        """List deadlines that have come, the oldest first."""
        ...

    async def outlook(self) -> "Outlook":
        """Ask, in one query, when there will be work next."""
        ...

    async def look(self, control_plane: str | None = None, state: "TrackerState | None" = None) -> "Outlook":
        """Ask the same, and note in the same query that somebody serves now, and how it stands with the tracker.

        Of the tracker's state, what is None stays as it was known.
        """
        ...

    async def served_at(self) -> datetime | None:
        """Say when somebody last noted that it serves; None where nobody ever did."""
        ...

    async def lapsed(self, since: datetime, at: datetime) -> Sequence["DueDeadline"]:
        """List the leases and acknowledgements that fell due in this span and still stand, the oldest first."""
        ...

    async def take_turn(
        self, executor: str, task_id: str, attempt: int, at: datetime, breaker: Breaker
    ) -> datetime | None:
        """Count an attempt that an executor is about to get, or say when it may have one again."""
        ...

    async def give_turn_back(self, task_id: str, attempt: int) -> None:
        """Count the attempt no longer, since it was not opened."""
        ...

    async def count(
        self, account: str, refs: Sequence[str], at: datetime, breaker: RateBreaker
    ) -> datetime | None:
        """Count all of these, or none and say when they may be; more than the breaker allows may be alone."""
        ...

    async def uncount(self, account: str, refs: Sequence[str]) -> None:
        """Count these no longer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """When there is work next: None is never, as far as anyone knows. bundle: the version of the bundle's stream."""

    deadline: datetime | None
    mark: datetime | None
    inbox: bool
    bundle: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueLink:
    """Which issue shows a task."""

    task_id: str
    control_plane: str
    key: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectiveReceipt:
    """What became of a directive. rule: what refused it. paste: the line that would have been right.

    outcome: received until it is known what became of it. quiet: no note on the issue answers it.
    """

    id: str
    task_id: str
    verb: str
    text: str
    outcome: Literal["received", "done", "refused"]
    message: str
    at: datetime
    rule: str | None = None
    paste: str | None = None
    principal: str | None = None
    control_plane: str | None = None
    comment_id: str | None = None
    quiet: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxItem:
    """An observation that was stored and not yet acted on. held: whether it was held back before."""

    id: int
    control_plane: str
    observation: Any
    held: bool = False


class IssueBook(Protocol):
    """What is known of the tracker: which issue is whose, what came in, and what became of it."""

    async def link_of(self, task_id: str) -> IssueLink | None:
        """Find the issue of a task."""
        ...

    async def task_of(self, control_plane: str, key: str) -> str | None:
        """Find the task of an issue, be it one that is gone."""
        ...

    async def remember(self, link: IssueLink) -> None:
        """Store which issue shows a task."""
        ...

    async def forget(self, task_id: str) -> None:
        """Drop the link of a task whose issue is gone; what was written there is still heard."""
        ...

    async def take_in(self, control_plane: str, observations: Sequence[Any], cursor: str | None) -> int:
        """Store observations not seen before, and the feed's cursor with them; return how many were new.

        Without a cursor they are a webhook's, and wait until the feed brings them in their order; then they are new.
        """
        ...

    async def cursor(self, control_plane: str) -> str:
        """Say how far the feed was read."""
        ...

    async def open_items(self, limit: int) -> Sequence[InboxItem]:
        """List what was not acted on and is not held back, in the order of arrival."""
        ...

    async def hold_back(self, item: InboxItem, until: datetime, reason: str) -> None:
        """Put an observation off until then."""
        ...

    async def claim(self, worker: str, limit: int, lease: timedelta) -> Sequence[InboxItem]:
        """Take the oldest open items, in order; nobody else gets any of their issues until they are done or lapse."""
        ...

    async def unconfirmed(self, control_plane: str) -> bool:
        """Tell whether webhooks brought anything that the feed did not bring yet."""
        ...

    async def keep(self, worker: str, item: InboxItem, lease: timedelta) -> bool:
        """Keep a claimed item for as long again; False when it is no longer this worker's."""
        ...

    async def put_off(self, worker: str, items: Sequence[InboxItem], pause: timedelta) -> None:
        """Give claimed items back, to be taken again after the pause, and with them all of their issues."""
        ...

    async def overtaken(self, control_plane: str, key: str, field: str, at: datetime) -> bool:
        """Tell whether a later change of the same field of the issue is known."""
        ...

    async def tracker_state(self, control_plane: str) -> "TrackerState":
        """Say how it stood with a tracker."""
        ...

    async def finish(self, item: InboxItem, outcome: str, reason: str) -> None:
        """Say what became of an observation."""
        ...

    async def receipt(self, receipt: DirectiveReceipt) -> None:
        """Store what became of a directive; one that was only received is overwritten, an outcome stays."""
        ...

    async def receipt_of(self, receipt_id: str) -> DirectiveReceipt | None:
        """Find a receipt."""
        ...

    async def receipts_of(self, control_plane: str, comment_id: str) -> Sequence[DirectiveReceipt]:
        """List what became of the directives of a comment, the oldest first."""
        ...

    async def answered(self, task_id: str, principal: str | None, since: datetime) -> int:
        """Count the notes that answered somebody's directives on a task's issue; None for all unknown accounts."""
        ...

    async def note_shown(self, task_id: str, marker: str) -> None:
        """Note that a note of ours is on the task's issue from now on."""
        ...

    async def shown_at(self, task_id: str, marker: str) -> datetime | None:
        """Say since when it is known to be there; None where that is not known."""
        ...

    async def receipts(self, task_id: str, limit: int) -> Sequence[DirectiveReceipt]:
        """List the latest receipts of a task, the newest first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedCost:
    """What a tracker would not take of what an executor spent on a task, and why."""

    task_id: str
    executor: str
    problem: str


class CostBook(Protocol):
    """What trackers were told of spending. It belongs to the task, whichever issue shows it."""

    async def told(self, control_plane: str, task_id: str) -> Mapping[str, Usage]:
        """Say what a tracker is known to have been told of a task, by executor; none of whom that is not known."""
        ...

    async def report(
        self, control_plane: str, task_id: str, executor: str, spender: Spender, account: str
    ) -> Cost | None:
        """Say what to tell next, None for nothing; it is on its way from then on.

        That is what was on its way before, as it was, and after that what was spent since. account: whose it is to be.
        """
        ...

    async def came(self, control_plane: str, task_id: str, executor: str) -> None:
        """Note that the tracker has what was on its way."""
        ...

    async def refused(self, control_plane: str, task_id: str, executor: str, problem: str) -> None:
        """Note that the tracker did certainly not take what was on its way; it may be another account's next time."""
        ...

    async def refusals(self, control_plane: str, since: datetime, limit: int) -> Sequence[RefusedCost]:
        """List what was refused since then and did not come later, the newest first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """A task as the read model holds it."""

    task: Task
    updated_at: datetime


class TaskList(Protocol):
    """Queries over the read models."""

    async def one(self, task_id: str) -> TaskRow | None:
        """Find the row of a task."""
        ...

    async def page(
        self,
        *,
        phase: str | None = None,
        project: str | None = None,
        executor: str | None = None,
        text: str | None = None,
        ids: Sequence[str] | None = None,
        before: tuple[datetime, str] | None = None,
        limit: int = 50,
    ) -> Sequence[TaskRow]:
        """List tasks, the newest first, after the given (created_at, id); of `ids` only, where they are given."""
        ...

    async def artifact(self, digest: str, task_id: str | None = None) -> dict[str, Any] | None:
        """Find what is known of some bytes; None when no result, of that task where one is named, delivered them."""
        ...

    async def held_by(self, executor: str) -> Sequence[str]:
        """List the tasks of which an executor has the open attempt."""
        ...

    async def quarantined(self, after: str, limit: int) -> Sequence[dict[str, Any]]:
        """List what is kept aside, by id."""
        ...


class ArtifactStore(Protocol):
    """Bytes by digest."""

    async def put(self, digest: str, content: bytes) -> None:
        """Keep bytes; the digest was checked. The same bytes twice are kept once."""
        ...

    async def write(self, digest: str, chunks: AsyncIterator[bytes], limit: int) -> int:
        """Keep a stream of at most `limit` bytes; return the size. Raises DigestMismatch, TooLarge or StorageFull."""
        ...

    def open(self, digest: str, start: int = 0, count: int | None = None) -> AsyncIterator[bytes] | None:
        """Stream `count` bytes from `start` on, or all that follow; None when they are not held."""
        ...

    def size(self, digest: str) -> int | None:
        """Count bytes; None when they are not held."""
        ...


SkillsInForce: TypeAlias = Callable[[], SkillLock]
"""Gives the skills that are in force now."""
