"""Whom Paperclip wakes: the agents as they are now, compared with what was told of them before."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from agentic_os.control_plane import AgentSeen, Unavailable

from .clock import now
from .documents import Json
from .sights import items
from .transport import Transport

_COMPANY: Final = "company"
_GONE: Final = frozenset({"agent.terminated", "agent.deleted"})
_BY_BUDGET: Final = frozenset({"budget.hard_threshold_crossed", "budget.policy_upserted"})
_RESUMES: Final = frozenset(
    {
        "agent.resumed",
        "agent.approved",
        "agent.error_cleared",
        "budget.incident_resolved",
        "budget.policy_upserted",
        "company.updated",
    }
)
_LONG_AGO: Final = "1970-01-01T00:00:00Z"
"""When an agent was terminated of which nothing is left that says it."""
_LOOK: Final = frozenset(
    {
        "cost.reported",
        "environment.lease_released",
        "company.archived",
        "company.budget_updated",
        "company.updated",
    }
)
"""What may have paused somebody and does not say so: a budget that is exceeded again stops without a row of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """That an agent is not woken. why: "" where somebody paused it and gave no reason. at: "" where nobody noted it."""

    why: str
    at: str


class Pauses:
    """Looks at the agents at the beginning, and where a row gives cause to or a budget begins anew.

    A row itself proves nothing.
    """

    def __init__(self, transport: Transport) -> None:
        self._paperclip = transport
        self._changed: Mapping[str, str] = {}
        self._paused: Mapping[str, Pause] | None = None
        self._followed: frozenset[str] = frozenset()
        self._until: datetime | None = None

    async def compare(self, told: Mapping[str, str], rows: Sequence[Json]) -> Sequence[AgentSeen]:
        """Tell who is paused now and was not before, or for another reason, and who no more.

        told: the agents that were told to be paused -> why. rows: what was done since, the oldest first.
        """
        hints = [row for row in rows if _is_hint(row)]
        unfollowed = {row["id"] for row in hints} - self._followed
        if self._paused is None or unfollowed or (self._until is not None and now() >= self._until):
            gone = {row["entityId"] for row in hints if row["action"] in _GONE}
            self._paused = await self._look(gone | told.keys())
            self._followed = frozenset(row["id"] for row in hints)
        seen = []
        for agent, pause in sorted(self._paused.items()):
            row = _by_whom(hints, agent, pause)
            # Who did it may be told later than what came of it: the runs that it ended are told of first.
            if told.get(agent) != pause.why or _author(row):
                at = pause.at or (row["createdAt"] if row else self._changed.get(agent, _LONG_AGO))
                seen.append(AgentSeen(**_seen(agent, "paused", row, at), detail=pause.why))
        for agent in sorted(told.keys() - self._paused.keys()):
            done = [row for row in hints if row["action"] in _RESUMES and _is_about(row, agent)]
            at = done[-1]["createdAt"] if done else self._changed.get(agent, _LONG_AGO)
            seen.append(AgentSeen(**_seen(agent, "ready", done[-1] if done else None, at), detail=""))
        return seen

    async def _look(self, missed: set[str]) -> Mapping[str, Pause]:
        """Read how the agents stand. missed: those that are paused for good where the list has them no more."""
        agents, company, budgets = await asyncio.gather(
            self._paperclip.of_company("GET", "/agents"),
            self._paperclip.of_company("GET", ""),
            self._paperclip.of_company("GET", "/budgets/overview"),
        )
        try:
            stops = [policy for policy in budgets["policies"] if _stops(policy)]
            whys = {agent["id"]: _why(agent, company, stops) for agent in items(agents, "agents")}
            since = {agent["id"]: agent["pausedAt"] or "" for agent in agents}
            self._changed = {agent["id"]: agent["updatedAt"] for agent in agents}
            self._until = min((datetime.fromisoformat(each["windowEnd"]) for each in stops), default=None)
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable(f"Paperclip's agents cannot be read: {error!r}") from error
        found = {agent: Pause(why=why, at=since[agent]) for agent, why in whys.items() if why is not None}
        return found | {agent: Pause(why="terminated", at="") for agent in missed - whys.keys()}


def _stops(policy: Json) -> bool:
    """Tell whether a budget lets nobody be woken, be it that somebody resumed them by hand meanwhile."""
    return bool(policy["isActive"] and policy["hardStopEnabled"] and policy["status"] == "hard_stop")


def _why(agent: Json, company: Json, stops: Sequence[Json]) -> str | None:
    """Say why Paperclip wakes an agent for nothing; None where it does wake it."""
    match agent["status"]:
        case "paused":
            reason = agent["pauseReason"] or ""
            return "" if reason == "manual" else str(reason)
        case "terminated":
            return "terminated"
        case "pending_approval":
            return "not approved yet"
    if (agent.get("orgChainHealth") or {}).get("status") == "invalid_org_chain":
        return "its reporting chain is broken"
    if company["status"] != "active":
        return f"the company is {company['status']}"
    if any(stop["scopeType"] == _COMPANY for stop in stops):
        return "the company's budget"
    if any((stop["scopeType"], stop["scopeId"]) == ("agent", agent["id"]) for stop in stops):
        return "budget"
    return None


def _actions(why: str) -> frozenset[str]:
    """List the rows by which somebody may have paused an agent for this reason."""
    if why.startswith("the company"):
        return _BY_BUDGET | {"company.archived", "company.updated"}
    return {"": frozenset({"agent.paused"}), "budget": _BY_BUDGET, "terminated": _GONE}.get(why, frozenset())


def _is_hint(row: Json) -> bool:
    return row["action"].startswith(("agent.", "budget.")) or row["action"] in _LOOK


def _by_whom(hints: Sequence[Json], agent: str, pause: Pause) -> Json | None:
    """Find the row of who paused an agent: Paperclip writes it after the pause, so one from before is another's."""
    if pause.why == "budget" and not pause.at:
        return None  # it stops by what was spent, and nobody paused it
    actions = _actions(pause.why)
    done = (r for r in hints if r["action"] in actions and _is_about(r, agent) and r["createdAt"] >= pause.at)
    return next(done, None)


def _is_about(row: Json, agent: str) -> bool:
    return _scope(row) in {agent, _COMPANY}


def _scope(row: Json) -> str:
    """Say whom a row is about: an agent, or the company."""
    if row["action"].startswith("agent."):
        return str(row["entityId"])
    details = row["details"] or {}
    if row["action"].startswith("company.") or details.get("scopeType") == _COMPANY:
        return _COMPANY
    return str(details["scopeId"]) if details.get("scopeType") == "agent" else ""


def _author(row: Json | None) -> str:
    """Name the account that did it; a budget is nobody's."""
    return "" if row is None or row["actorType"] == "system" else str(row["actorId"])


def _seen(agent: str, state: str, row: Json | None, at: str) -> dict[str, Any]:
    return {
        "delivery": f"{row['id']}:{agent}:{state}" if row else f"{agent}:{state}:{at}",
        "account": agent,
        "state": state,
        "author": _author(row),
        "at": datetime.fromisoformat(at),
    }
