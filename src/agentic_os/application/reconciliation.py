"""How it stands with the issues and the tracker, for those who ask; and trying again what does not get on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from agentic_os.application.handle import handle
from agentic_os.application.observations import NOT_THEIRS, ObservationLog
from agentic_os.application.pacing import PacedControlPlane
from agentic_os.application.ports import (
    BacklogItem,
    CostBook,
    Envelope,
    EventLog,
    IssueBook,
    Registry,
    SkillsInForce,
    StoreUnavailable,
    WorkQueue,
)
from agentic_os.clock import now
from agentic_os.domain.commands import ResumeRepairs
from agentic_os.domain.executor_pauses import ExecutorPause
from agentic_os.domain.organisation import Organisation
from agentic_os.domain.workspaces import WAIT as SKILLS
from agentic_os.domain.workspaces import gaps_in, standing, undefined

_SILENT: Final = timedelta(minutes=3)
"""A worker looks around once a minute; after three looks that were missing, it is not there."""
_TOLD: Final = 5
"""How many of a kind a check names."""
_BEHIND: Final = timedelta(minutes=5)
_LATELY: Final = timedelta(days=1)
_ON_ITS_WAY: Final = timedelta(minutes=1)
"""How much later than what it tells of a webhook may come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at. next: what to do about it, "" where nothing is to be done."""

    name: str
    status: Literal["ok", "warning", "fault"]
    detail: str
    next: str = ""


class Reconciliation:
    """Reports on the reconciler and the inbox, and redrives."""

    def __init__(
        self,
        *,
        log: EventLog,
        registry: Registry,
        work: WorkQueue,
        issues: IssueBook,
        costs: CostBook,
        observations: ObservationLog,
        control_plane: PacedControlPlane | None,
        skills: SkillsInForce,
        organisation: Callable[[], Organisation],
    ) -> None:
        self._log = log
        self._registry = registry
        self._work = work
        self._issues = issues
        self._costs = costs
        self._observations = observations
        self._plane = control_plane
        self._skills = skills
        self._organisation = organisation

    async def report(self, limit: int, task_id: str | None = None) -> dict[str, Any]:
        """Say how far behind the issues are, and why; of one task where it is named."""
        backlog = await self._work.backlog(limit, task_id)
        at = now()
        return {
            "at": at,
            "worker": {"served_at": await self._work.served_at()},
            "tracker": None if self._plane is None else await self._tracker(self._plane, at),
            "tasks": {
                "stale": backlog.stale,
                "poisoned": backlog.poisoned,
                "oldest": backlog.oldest,
                "lag_seconds": _seconds(backlog.oldest, at),
            },
            "inbox": {
                "open": backlog.inbox,
                "oldest": backlog.inbox_oldest,
                "lag_seconds": _seconds(backlog.inbox_oldest, at),
            },
            "items": [_item(item, at) for item in backlog.items],
        }

    async def redrive(self, task_id: str, actor: str) -> None:
        """Try a task again at once, as if it had never failed, and put back again what was left. Raises Rejected."""
        envelope = Envelope(actor=actor, at=now(), reason="redriven")
        await handle(self._log, task_id, lambda _: ResumeRepairs(reason="redriven"), envelope)
        await self._work.redrive(task_id)

    async def diagnose(self) -> Sequence[Check]:
        """Look at all that must be in order for work to go on."""
        try:
            report = await self.report(10)
        except StoreUnavailable as problem:
            return [Check(name="database", status="fault", detail=str(problem), next="Start the database.")]
        checks = [Check(name="database", status="ok", detail="it answers"), _worker(report)]
        if report["tracker"] is not None:
            checks += [_reachable(report), _feed(report), _webhooks(report)]
        if self._plane is not None:
            checks.append(await self._adopted(self._plane))
        if self._plane is not None and self._plane.capabilities.costs:
            checks.append(await self._costs_told(self._plane))
        checks += [_poisoned(report), _lag(report), await self._repairs(), *await self._executors()]
        return [*checks, self._required_skills(), await self._workspaces(), await self._kept_away()]

    async def _tracker(self, plane: PacedControlPlane, at: datetime) -> Mapping[str, Any]:
        stored, seen = await self._issues.tracker_state(plane.name), plane.state
        failed = _later(stored.failed_at, seen.failed_at)
        reached = _later(stored.reached_at, seen.reached_at)
        paused = _later(stored.paused_until, seen.paused_until)
        read = _later(stored.read_at, seen.read_at)
        problem = (seen if failed == seen.failed_at else stored).problem
        return {
            "name": plane.name,
            "health": _health(reached, failed, paused, at),
            "reached_at": reached,
            "failed_at": failed,
            "problem": problem,
            "paused_until": paused if paused is not None and paused > at else None,
            "sends_webhooks": plane.capabilities.webhooks,
            "last_webhook_at": _later(stored.webhook_at, seen.webhook_at),
            "last_heard_at": stored.heard_at,
            "last_feed_read_at": read,
            "feed_lag_seconds": _seconds(read, at),
            "writes_per_minute": plane.capabilities.writes_per_minute,
        }

    async def _repairs(self) -> Check:
        paused = await self._work.paused_repairs(10)
        if not paused:
            return Check(name="repairs", status="ok", detail="nobody fights over an issue")
        return Check(
            name="repairs",
            status="warning",
            detail=f"something on the issues of {', '.join(paused)} is not put back: others change it again and again",
            next="Find who changes it (agentic-os task log TASK), then agentic-os reconcile redrive TASK.",
        )

    async def _costs_told(self, plane: PacedControlPlane) -> Check:
        refused = await self._costs.refusals(plane.name, now() - _LATELY, _TOLD + 1)
        if not refused:
            return Check(name="costs", status="ok", detail=f"{plane.name} takes what it is told of spending")
        more = "; and more" if len(refused) > _TOLD else ""
        named = "; ".join(f"{r.executor} on {r.task_id}: {r.problem}" for r in refused[:_TOLD])
        return Check(
            name="costs",
            status="warning",
            detail=f"{plane.name} does not count what was spent ({named}{more})",
            next="agentic-os account link NAME PLANE ACCOUNT with one that it has; agentic-os reconcile now TASK.",
        )

    async def _adopted(self, plane: PacedControlPlane) -> Check:
        """Name the issues that somebody meant to be tasks and that are none, since nothing on them says so."""
        found = await self._observations.refused(plane.name, NOT_THEIRS, now() - _LATELY, _TOLD + 1)
        if not found:
            return Check(name="adoption", status="ok", detail="each issue that was meant to be a task is one")
        more = "; and more" if len(found) > _TOLD else ""
        named = "; ".join(
            f"{each.issue} by {each.principal or f'the unknown account {each.author}'}"
            for each in found[:_TOLD]
        )
        return Check(
            name="adoption",
            status="warning",
            detail=f"issues are no tasks, since who opened or marked them may not create any ({named}{more})",
            next=f"Whose account it is, if they may: agentic-os account link NAME {plane.name} ACCOUNT. Then the label "
            "once more, taken away and given again by somebody who may.",
        )

    async def _executors(self) -> Sequence[Check]:
        mute = await self._registry.without_credential()
        checks = [
            Check(name="executors", status="ok", detail="each has a credential that counts")
            if not mute
            else Check(
                name="executors",
                status="fault",
                detail=f"no credential of {', '.join(mute)} counts",
                next="agentic-os executor rotate NAME, or executor revoke NAME.",
            )
        ]
        executors = await self._registry.executors()
        checks.append(_pauses([e.pause for e in executors if e.pause is not None]))
        if self._plane is not None:
            plane = self._plane.name
            names = [e.name for e in executors]
            absent = [n for n in names if await self._registry.account_of(plane, n) is None]
            if absent:
                checks.append(
                    Check(
                        name="accounts",
                        status="warning",
                        detail=f"{', '.join(absent)} cannot be woken: no account on {plane}",
                        next=f"agentic-os account link NAME {plane} ACCOUNT.",
                    )
                )
        return checks

    def _required_skills(self) -> Check:
        missing = undefined(self._organisation(), self._skills())
        if not missing:
            return Check(name="skills", status="ok", detail="a project has each skill that a role requires")
        named = "; ".join(f"{role}: {', '.join(skills)}" for role, skills in sorted(missing.items()))
        return Check(
            name="skills",
            status="fault",
            detail=f"roles require skills that no project has, and get no work ({named})",
            next="Add them to governance/skills.yaml, then agentic-os apply governance.",
        )

    async def _workspaces(self) -> Check:
        """Look at what was reported of workspaces, the worst first."""
        lock = self._skills()
        used = {executor.workspace for executor in await self._registry.executors()}
        found = [
            (report, standing(report, lock.of(report.project)))
            for report in await self._registry.workspaces()
            if report.path in used or lock.of(report.project).workspace is not None
        ]
        amiss = sorted(
            ((r, s) for r, s in found if s.state != "in_step"), key=lambda each: each[1].state == "unknown"
        )
        if not amiss:
            detail = f"{len(found)} are known, with the skills in force" if found else "none was reported"
            return Check(name="workspaces", status="ok", detail=detail)
        told = [f"{r.path} ({r.project}): {s.state}, {s.problem}" for r, s in amiss[:_TOLD]]
        more = f"; and {len(amiss) - _TOLD} more" if len(amiss) > _TOLD else ""
        return Check(
            name="workspaces",
            status="warning" if amiss[0][1].state == "unknown" else "fault",
            detail="; ".join(told) + more,
            next=amiss[0][1].next,
        )

    async def _kept_away(self) -> Check:
        found = gaps_in(await self._work.waited_for(SKILLS, _TOLD + 1))
        if not found:
            return Check(
                name="dispatch", status="ok", detail="skills keep no executor from a task that waits"
            )
        more = "; and more" if len(found) > _TOLD else ""
        return Check(
            name="dispatch",
            status="warning",
            detail="tasks wait for skills: " + "; ".join(str(gap) for gap in found[:_TOLD]) + more,
            next="Do what stands in brackets; agentic-os task why TASK has it of each task.",
        )


def _pauses(found: Sequence[ExecutorPause]) -> Check:
    if not found:
        return Check(name="pauses", status="ok", detail="no executor is paused on the tracker")
    named = "; ".join(f"{pause}, since {pause.at:%Y-%m-%d %H:%M} UTC" for pause in found[:_TOLD])
    more = f"; and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
    return Check(
        name="pauses",
        status="warning",
        detail=named + more,
        next=f"Resume them on {found[0].control_plane}: what waits for them goes on by itself. "
        "For those who do not come back: agentic-os executor revoke NAME.",
    )


def _health(
    reached: datetime | None, failed: datetime | None, paused: datetime | None, at: datetime
) -> Literal["ok", "failing", "paused", "unknown"]:
    if paused is not None and paused > at:
        return "paused"
    if reached is None and failed is None:
        return "unknown"
    return "failing" if reached is None or (failed is not None and failed > reached) else "ok"


def _item(item: BacklogItem, at: datetime) -> dict[str, Any]:
    state = (
        "poisoned"
        if item.poisoned_at is not None
        else "working"
        if item.claimed
        else "at_rest"
        if item.at_rest
        else "failing"
        if item.problem is not None
        else "waiting"
    )
    return {
        "task_id": item.task_id,
        "state": state,
        "since": item.since,
        "lag_seconds": None if item.at_rest else _seconds(item.since, at),
        "failures": item.failures,
        "problem": item.problem,
        "next_try_at": item.again,
        "poisoned_at": item.poisoned_at,
    }


def _worker(report: Mapping[str, Any]) -> Check:
    served, at = report["worker"]["served_at"], report["at"]
    if served is not None and at - served <= _SILENT:
        return Check(name="worker", status="ok", detail=f"it looked around at {served:%H:%M:%S} UTC")
    seen = "never" if served is None else f"last at {served:%Y-%m-%d %H:%M:%S} UTC"
    return Check(
        name="worker",
        status="fault",
        detail=f"nobody works: a worker was seen {seen}",
        next="agentic-os up, and look at what it logs.",
    )


def _reachable(report: Mapping[str, Any]) -> Check:
    tracker = report["tracker"]
    match tracker["health"]:
        case "ok":
            return Check(name="tracker", status="ok", detail=f"{tracker['name']} answers")
        case "paused":
            until = f"{tracker['paused_until']:%H:%M:%S}"
            return Check(
                name="tracker",
                status="warning",
                detail=f"{tracker['name']} asked for patience until {until} UTC",
            )
        case "unknown":
            return Check(name="tracker", status="warning", detail=f"{tracker['name']} was not asked yet")
        case _:
            return Check(
                name="tracker",
                status="fault",
                detail=f"{tracker['name']} does not do what it is asked: {tracker['problem']}",
                next="Check its address and our account's token on it.",
            )


def _feed(report: Mapping[str, Any]) -> Check:
    read, at = report["tracker"]["last_feed_read_at"], report["at"]
    if read is not None and at - read <= _SILENT:
        return Check(name="feed", status="ok", detail=f"read to its end at {read:%H:%M:%S} UTC")
    seen = "never" if read is None else f"last at {read:%Y-%m-%d %H:%M:%S} UTC"
    return Check(
        name="feed",
        status="warning",
        detail=f"the tracker's feed was read to its end {seen}",
        next="agentic-os reconcile status shows what the tracker answered.",
    )


def _webhooks(report: Mapping[str, Any]) -> Check:
    tracker = report["tracker"]
    if not tracker["sends_webhooks"]:
        return Check(name="webhooks", status="ok", detail=f"{tracker['name']} sends none; its feed is read")
    last, heard = tracker["last_webhook_at"], tracker["last_heard_at"]
    if heard is None or (last is not None and heard <= last + _ON_ITS_WAY):
        came = "nobody did anything yet" if last is None else f"the last came at {last:%Y-%m-%d %H:%M:%S} UTC"
        return Check(name="webhooks", status="ok", detail=came)
    came = "none ever came" if last is None else f"the last came at {last:%Y-%m-%d %H:%M:%S} UTC"
    return Check(
        name="webhooks",
        status="warning",
        detail=f"{came}: comments are heard up to a minute late, by the feed",
        next=f"Let {tracker['name']} send them to /api/webhooks/{tracker['name']}, with our secret.",
    )


def _poisoned(report: Mapping[str, Any]) -> Check:
    poisoned = [i for i in report["items"] if i["state"] == "poisoned"]
    if not poisoned:
        return Check(name="poisoned", status="ok", detail="no task fails again and again")
    more = report["tasks"]["poisoned"] - len(poisoned)
    named = "; ".join(f"{i['task_id']}: {i['problem']}" for i in poisoned)
    return Check(
        name="poisoned",
        status="fault",
        detail=named + (f"; and {more} more" if more > 0 else ""),
        next="Remove the cause, then agentic-os reconcile redrive TASK.",
    )


def _lag(report: Mapping[str, Any]) -> Check:
    longest = max(report["tasks"]["lag_seconds"] or 0, report["inbox"]["lag_seconds"] or 0)
    waiting = f"{report['tasks']['stale']} tasks and {report['inbox']['open']} observations"
    detail = f"{waiting} wait, {longest:.0f} s at most"
    if longest <= _BEHIND.total_seconds():
        return Check(name="lag", status="ok", detail=detail)
    return Check(
        name="lag",
        status="warning",
        detail=detail,
        next="agentic-os reconcile status says what holds them up.",
    )


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((each for each in (one, other) if each is not None), default=None)


def _seconds(since: datetime | None, at: datetime) -> float | None:
    return None if since is None else round(max((at - since).total_seconds(), 0.0), 3)
