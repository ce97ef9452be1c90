"""The policies that were in force, as the history holds them."""

from collections.abc import AsyncIterator
from typing import Any, Final

from agentic_os.application.ports import EventLog, Recorded

BUNDLE_STREAM: Final = "governance:policy"
_PAGE: Final = 100


async def bundle_in_force(log: EventLog) -> dict[str, Any] | None:
    """Find the policy that came into force last, with its document; None where none did yet."""
    last = None
    async for event in _applied(log):
        last = event
    return _shown(last) if last else None


async def bundle_named(log: EventLog, digest: str) -> dict[str, Any] | None:
    """Find a policy by its digest, as it was applied last; None where it never was."""
    last = None
    async for event in _applied(log):
        if event.data["bundle"] == digest:
            last = event
    return _shown(last) if last else None


async def _applied(log: EventLog) -> AsyncIterator[Recorded]:
    after = 0
    while page := await log.read_stream(BUNDLE_STREAM, after, _PAGE):
        for event in page:
            if event.type == "bundle.applied":
                yield event
        after = page[-1].version


def _shown(event: Recorded) -> dict[str, Any]:
    return {
        "bundle": event.data["bundle"],
        "document": event.data["document"],
        "applied_at": event.at,
        "actor": event.actor,
        "reason": event.reason,
    }
