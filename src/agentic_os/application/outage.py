"""After an outage of ours: what lapsed while nobody could hear it gets one lease more."""

from collections.abc import Callable

from agentic_os.application.handle import handle
from agentic_os.application.ports import Envelope, EventLog, WorkQueue
from agentic_os.clock import now
from agentic_os.domain.commands import ExtendLease
from agentic_os.domain.task import Task


async def extend_lapsed(log: EventLog, work: WorkQueue, committed: Callable[[Task], None]) -> int:
    """Extend what fell due since somebody last served and still stands; return how many attempts that helped.

    It runs before anything is served or fired again. Who serves says so once a minute: what fell due in that minute
    and was fired is gone from the list, so that the coarse instant extends nothing that somebody watched. The new
    instant is noted last, so that a fault on the way is made up for by the next start.
    """
    since, extended = await work.served_at(), 0
    at = now()
    for lapsed in await work.lapsed(since, at) if since is not None else ():
        command = ExtendLease(attempt=int(lapsed.deadline.ref), since=since or at, at=at)
        envelope = Envelope(actor="system", at=at, reason="nobody served when it fell due")
        handled = await handle(log, lapsed.task_id, lambda _, command=command: command, envelope)  # type: ignore[misc]
        if handled.events:
            committed(handled.task)
            extended += 1
    await work.look()
    return extended
