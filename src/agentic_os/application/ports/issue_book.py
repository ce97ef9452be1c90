"""What is known of the tracker's issues, and what came in from there."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol


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

    async def tracker_state(self, control_plane: str) -> TrackerState:
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
