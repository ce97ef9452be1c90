"""Values that are written in one transaction, and the log that holds every event."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from agentic_os.domain.documents import JsonObject
from agentic_os.domain.events import Event
from agentic_os.domain.governance import RegistryEvent
from agentic_os.domain.task import Task


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
