"""Looks at all that must be in order between the backend and a company on Paperclip."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agentic_os.control_plane import ControlPlaneError

from .accounts import Accounts
from .board import AUDIT, LISTENER
from .chart import differences
from .feed import Feed
from .labels import Labels
from .nudge import Nudge
from .transport import Transport

_STREAM_SECONDS: Final = 5.0
_AGAIN: Final = "agentic-os-paperclip connect, with the same --into"
_HELD: Final = "Configure it as the profile says (Claude Code and Codex on Paperclip)."
_UNASKED: Final[Mapping[str, str]] = {
    "claude_local": "dangerouslySkipPermissions",
    "codex_local": "dangerouslyBypassApprovalsAndSandbox",
}
"""By which setting an agent of Paperclip's own asks nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at. next: what to do about it, "" where nothing is to be done."""

    name: str
    ok: bool
    detail: str
    next: str = ""


async def diagnose(
    url: str, token: str, company: str, stream_key: str, organisation: str | None = None
) -> Sequence[Check]:
    """Look, as the backend would, at the server, our account, the feed, the stream, the agents and the routines.

    organisation: the text of the backend's organisation.yaml, where the chart is to be held against it.
    """
    transport = Transport(url, token, company)
    try:
        try:
            user = (await transport.backend()).user
        except ControlPlaneError as problem:
            return [Check(name="server", ok=False, detail=str(problem), next=_AGAIN)]
        checks = [Check(name="server", ok=True, detail=f"it runs authenticated, and knows us as {user}")]
        try:
            await Feed(transport, Labels(transport), Accounts(transport), page=1).probe()
            checks.append(Check(name="feed", ok=True, detail="it says who did what"))
        except ControlPlaneError as problem:
            checks.append(Check(name="feed", ok=False, detail=str(problem), next=f"grant {AUDIT}: {_AGAIN}"))
        checks.append(await _stream(transport, stream_key))
        agents = await transport.of_company("GET", "/agents")
        checks += _agents(agents)
        checks += _routines(await transport.of_company("GET", "/routines"), agents)
        if organisation is not None:
            checks.append(_chart(agents, organisation))
        return checks
    finally:
        await transport.aclose()


async def _stream(transport: Transport, key: str) -> Check:
    if not key:
        return Check(name="stream", ok=True, detail="no key: the feed is read every twelve seconds")
    nudge = Nudge(transport, key)
    try:
        problem = await asyncio.wait_for(nudge.connect(), _STREAM_SECONDS)
    except TimeoutError:
        problem = "it does not answer"
    finally:
        await nudge.aclose()
    if problem:
        lag = "Decisions are heard up to twelve seconds late. Remove listener.key, then connect again."
        return Check(name="stream", ok=False, detail=f"events cannot be heard: {problem}", next=lag)
    return Check(name="stream", ok=True, detail="events are heard at once")


def _agents(agents: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Find the agents that an assignment would not wake, that a clock wakes behind our back, or that nothing holds."""
    checks = []
    for agent in agents:
        if agent["name"] == LISTENER or agent["status"] == "terminated":
            continue
        problem, mend = _fault_of(agent)
        checks.append(
            Check(
                name=f"agent {agent['name']}",
                ok=not problem,
                detail=problem or "an assignment wakes it",
                next=mend,
            )
        )
    return checks


def _fault_of(agent: Mapping[str, Any]) -> tuple[str, str]:
    """Say what is wrong with an agent, and what to do; "" where nothing is."""
    heartbeat = (agent["runtimeConfig"] or {}).get("heartbeat") or {}
    configuration = agent["adapterConfig"] or {}
    unasked = _UNASKED.get(agent["adapterType"])
    if heartbeat.get("enabled"):
        return "a timer wakes it, without an assignment", _AGAIN
    if heartbeat.get("wakeOnDemand") is False:
        return "an assignment does not wake it", _AGAIN
    if agent["status"] in {"paused", "pending_approval", "error"}:
        reason = agent["pauseReason"] or agent["errorReason"] or "no reason given"
        return f"it is {agent['status']} ({reason})", "resume it on Paperclip"
    # Without configuration we are not told of it; absent, Paperclip takes the setting for true.
    if unasked and configuration and configuration.get(unasked) is not False:
        return f"it asks for no permission, so that it may close its issue itself ({unasked})", _HELD
    return "", ""


def _routines(routines: Sequence[Mapping[str, Any]], agents: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Find the routines that wake an agent before anybody could decide on their issue."""
    names = {agent["id"]: agent["name"] for agent in agents}
    early = [
        f"{routine['title']} ({names.get(routine['assigneeAgentId'], 'somebody')})"
        for routine in routines
        if routine["status"] == "active"
        and routine["assigneeAgentId"]
        and names.get(routine["assigneeAgentId"]) != LISTENER
    ]
    if not early:
        return []
    detail = f"Paperclip wakes their agent before the backend decides: {', '.join(sorted(early))}"
    return [Check(name="routines", ok=False, detail=detail, next=f"Let {LISTENER} be their agent.")]


def _chart(agents: Sequence[Mapping[str, Any]], organisation: str) -> Check:
    """Hold the chart against the organisation, which is what policy reads."""
    hired = [agent for agent in agents if agent["name"] != LISTENER and agent["status"] != "terminated"]
    try:
        found = differences(hired, organisation)
    except ValueError as problem:
        return Check(
            name="chart", ok=False, detail=str(problem), next="agentic-os policy lint says what is wrong."
        )
    if found:
        mend = "Policy reads organisation.yaml alone. Change it and apply, or change Paperclip's chart."
        return Check(name="chart", ok=False, detail="; ".join(found), next=mend)
    return Check(name="chart", ok=True, detail="who reports to whom is the same in the organisation")
