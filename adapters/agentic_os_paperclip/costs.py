"""Paperclip's ledger of costs, on which its budgets act: each of ours is written into it once."""

from datetime import UTC, datetime
from typing import Any, Final

from agentic_os.control_plane import Cost, Unavailable

from .accounts import Accounts
from .documents import Json
from .sights import Sights, items
from .transport import Transport

_BILLER: Final = "agentic-os"
_CENT: Final = 10_000
"""Millionths of a dollar."""
_MOST_TOKENS: Final = 2**31 - 1
"""What a column of the ledger holds; Paperclip answers a larger number with a fault, again and again."""
_MOST_CENTS: Final = 100_000_000
"""A million dollars: more is no cost but a mistake, and Paperclip's budgets no longer act once its sums overflow."""


class Costs:
    """Writes cost events."""

    def __init__(self, transport: Transport, sights: Sights, accounts: Accounts) -> None:
        self._paperclip = transport
        self._sights = sights
        self._accounts = accounts

    async def report(self, key: str, cost: Cost) -> None:
        """Write a cost event, unless it is there; none for an agent whose runs Paperclip measures, nor for nothing.

        Paperclip takes no idempotency key. An event of ours is found by its agent and its instant, which no other has.
        """
        issue = await self._sights.issue(key)
        event = event_to(cost, issue)
        if not any(event[name] for name in ("costCents", "inputTokens", "outputTokens")):
            return
        if await self._accounts.is_measured(cost.account):
            return
        instant = {"from": event["occurredAt"], "to": event["occurredAt"]}
        rows = await self._paperclip.of_company("GET", "/costs/by-agent-model", parameters=instant)
        try:
            there = any(row["agentId"] == cost.account for row in items(rows, "costs"))
        except (KeyError, TypeError) as error:
            raise Unavailable(f"Paperclip's costs cannot be read: {error!r}") from error
        if not there:
            await self._paperclip.of_company("POST", "/cost-events", event)


def event_to(cost: Cost, issue: Json) -> dict[str, Any]:
    """Write a cost as Paperclip's cost event. Cents are whole: those that `before` has not reached, and this does."""
    cents = (cost.before + cost.cost_microusd) // _CENT - cost.before // _CENT
    maker, _, model = cost.model.rpartition("/")
    return {
        "agentId": cost.account,
        "issueId": issue["id"],
        "projectId": issue.get("projectId"),
        "billingCode": f"agentic-os:{cost.task_id}",
        "provider": maker or "unknown",
        "biller": _BILLER,
        "costStatus": "reported" if cost.cost_microusd else "unpriced",
        "model": model or "unknown",
        "inputTokens": min(cost.input_tokens, _MOST_TOKENS),
        "outputTokens": min(cost.output_tokens, _MOST_TOKENS),
        "costCents": min(cents, _MOST_CENTS),
        "occurredAt": _instant(cost.at),
    }


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
