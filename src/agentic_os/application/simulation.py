"""Another policy over what was decided: each recorded decision once more, on exactly the facts that it rested on."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from agentic_os.application.decisions import BEGINNING, Decision, DecisionLog, decision_of
from agentic_os.application.ports import Recorded
from agentic_os.domain.comparison import Difference, Outcome, differences, is_loosened, outcome, weight
from agentic_os.domain.documents import JsonObject
from agentic_os.domain.policy import DecisionPoint, Obligations, Reviewers, Verdict, continued

LISTED: Final = 10_000
"""How many decisions a report lists of those that are loosened, and of the others; all are counted."""

_KINDS: Final = 1000
_PAGE: Final = 500
_BREATH: Final = 25
"""How many decisions are made before others have their turn."""
_NOT_OF_POLICY: Final = frozenset({"scope_denied", "budget_exceeded", "depends_on_refused"})
"""Rules in code that refuse a proposed task whatever policy says."""
_DIRECTIONS: Final = ("loosened", "mixed", "tightened")


class PolicyUnreadable(Exception):
    """The policy to be tried is none: file:line, and what is wrong."""


class AlreadySimulating(Exception):
    """This process simulates already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """Which decisions are replayed: the last so many, those since a time, or all."""

    last: int | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """How far a simulation is."""

    done: int
    total: int


@dataclass(kw_only=True)
class Report:
    """What a simulation found.

    skipped: decisions that were not policy's. listed decisions are the earliest of their direction.
    """

    bundle: str
    decisions: int = 0
    skipped: int = 0
    loosened: int = 0
    tightened: int = 0
    _transitions: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)
    _listed: dict[bool, int] = field(default_factory=lambda: {True: 0, False: 0})

    def note(self, decision: Decision, verdict: Verdict, found: tuple[Difference, ...]) -> None:
        """Take in one decision; `found` is what differs."""
        self.decisions += 1
        if not found:
            return
        loosens, tightens = is_loosened(found), any(d.tightened for d in found)
        self.loosened += loosens
        self.tightened += tightens and not loosens
        row = self._row(found, loosens=loosens, tightens=tightens)
        row["count"] += 1
        if self._listed[loosens] < LISTED:
            self._listed[loosens] += 1
            row["decisions"].append(
                {
                    "id": decision.id,
                    "task_id": decision.task_id,
                    "hook": decision.hook,
                    "at": decision.at,
                    "rules_before": list(decision.rules),
                    "rules": list(verdict.rules),
                    "reasons": list(verdict.reasons),
                }
            )

    def _row(self, found: tuple[Difference, ...], *, loosens: bool, tightens: bool) -> dict[str, Any]:
        direction = ("mixed" if tightens else "loosened") if loosens else "tightened"
        key = tuple(str(d) for d in found)
        if key not in self._transitions and len(self._transitions) >= _KINDS:
            key, found = (direction,), ()
        place = min((weight(d.name) for d in found), default=_KINDS)
        new = {"transition": "; ".join(key), "direction": direction, "count": 0, "decisions": [], "_": place}
        return self._transitions.setdefault(key, new)

    def as_json(self) -> dict[str, Any]:
        """Write it out: what is loosened first, and of that what is allowed and was denied."""
        rows = sorted(
            self._transitions.values(),
            key=lambda r: (_DIRECTIONS.index(r["direction"]), r["_"], r["transition"]),
        )
        return {
            "bundle": self.bundle,
            "decisions": self.decisions,
            "skipped": self.skipped,
            "differing": self.loosened + self.tightened,
            "loosened": self.loosened,
            "tightened": self.tightened,
            "transitions": [{k: v for k, v in row.items() if k != "_"} for row in rows],
            "unlisted": self.loosened + self.tightened - sum(self._listed.values()),
        }


class Replay:
    """Decides recorded decisions again, one event after the other in their order."""

    def __init__(self, policy: DecisionPoint) -> None:
        self._policy = policy
        self._proposed: dict[str, Obligations] = {}
        self.report = Report(bundle=policy.bundle)

    def take(self, event: Recorded, *, counted: bool) -> None:
        """Take in one event; one that does not count may still be needed for those after it."""
        if event.type == "parent.declared":
            self._proposed[event.stream] = read_obligations(event.data["obligations"])
            return
        received = event.type in ("task.allowed", "task.denied")
        proposed = self._proposed.pop(event.stream, None) if received else None
        if not counted:
            return
        decision = decision_of(event)
        if event.type == "child.refused" and len(decision.rules) == 1 and decision.rules[0] in _NOT_OF_POLICY:
            self.report.skipped += 1
            return
        verdict = self._policy.decide(decision.hook, decision.facts)
        found = differences(_recorded(decision), _reached(verdict, proposed))
        self.report.note(decision, verdict, found)


def _recorded(decision: Decision) -> Outcome:
    return Outcome(
        decision=decision.decision,
        obligations=None if decision.obligations is None else read_obligations(decision.obligations),
        then=decision.then,
        ask=decision.ask,
    )


def _reached(verdict: Verdict, proposed: Obligations | None) -> Outcome:
    found = outcome(verdict)
    if proposed is None or found.obligations is None:
        return found
    return replace(found, obligations=continued(proposed, found.obligations))


def read_obligations(data: JsonObject) -> Obligations:
    """Read obligations as an event holds them."""
    return Obligations(
        **{
            **data,
            "reviewers": Reviewers(**data["reviewers"]),
            "capabilities": tuple(data.get("capabilities", ())),
            "stages": tuple(Reviewers(**stage) for stage in data.get("stages", ())),
        }
    )


Reader = Callable[[Sequence[tuple[str, str]], tuple[str, str] | None], DecisionPoint]
"""Reads a policy from the names and texts of its files, and those of the organisation's. Raises PolicyUnreadable."""


class Simulations:
    """Simulations of other policies, one at a time."""

    def __init__(self, *, log: DecisionLog, read: Reader) -> None:
        self._log = log
        self._read = read
        self._busy = False

    def take_turn(self) -> None:
        """Be the one simulation of this process, until `end_turn`. Raises AlreadySimulating."""
        if self._busy:
            raise AlreadySimulating
        self._busy = True

    def end_turn(self) -> None:
        """Let the next simulation begin."""
        self._busy = False

    async def read(
        self, policy: Sequence[tuple[str, str]], organisation: tuple[str, str] | None
    ) -> DecisionPoint:
        """Read the policy to be tried, beside the loop. Raises PolicyUnreadable."""
        return await asyncio.to_thread(self._read, policy, organisation)

    async def run(self, policy: DecisionPoint, extent: Extent) -> AsyncGenerator[Done | Report, None]:
        """Replay the decisions, saying after each page how far it is, and at the end what was found."""
        total, after, skip = await self._log.count(), BEGINNING, 0
        if extent.last is not None:
            after, skip = await self._log.start_of(extent.last)
            total = min(total, extent.last)
        replay, done = Replay(policy), 0
        while True:
            events, after = await self._log.read(after, _PAGE)
            if not events:
                break
            for number, event in enumerate(events):
                if number % _BREATH == 0:
                    await asyncio.sleep(0)
                is_decision = event.type != "parent.declared"
                replay.take(event, counted=skip == 0 and (extent.since is None or event.at >= extent.since))
                done += is_decision and skip == 0
                skip -= is_decision and skip > 0
            yield Done(done=done, total=max(total, done))
        yield replay.report
