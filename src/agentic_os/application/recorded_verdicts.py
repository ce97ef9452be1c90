"""A verdict as a task's events hold it: whether policy decides the same again, and why."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agentic_os.application.decisions import GENERAL, DecisionLog, Ruling, ruling_of
from agentic_os.application.explanation import Explanation, explain
from agentic_os.application.governing import BundleInvalid, Governing
from agentic_os.application.ports import EventLog, Recorded
from agentic_os.application.simulation import read_obligations
from agentic_os.contracts.canonical import digest_of
from agentic_os.domain.documents import JsonObject
from agentic_os.domain.policy import RULE_ERROR, UNLISTED, Hook, RuleSet, Verdict, continued

_BEGINNING: Final = 100
"""How many events of a task hold all that is said before it is first decided on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedVerdict:
    """What was decided, and on what: the event as the API shows it.

    task_id: whose history holds it. inherited: obligations from when the task was proposed, None for no child's.
    """

    task_id: str
    event: Mapping[str, Any]
    hook: Hook
    decision: Ruling
    inherited: Mapping[str, Any] | None

    @property
    def data(self) -> Mapping[str, Any]:
        """Give the event's own fields."""
        data: Mapping[str, Any] = self.event["data"]
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A recorded verdict that was decided again. differences: in what the two differ.

    by_policy: whether it was policy that decided; else the replay says only what policy would have.
    """

    recorded: RecordedVerdict
    replay: Explanation
    by_policy: bool
    differences: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Describe it for programs."""
        event = self.recorded.event
        return {
            "id": event["event_id"],
            "task_id": self.recorded.task_id,
            "version": event["version"],
            "type": event["type"],
            "at": event["at"],
            "by_policy": self.by_policy,
            "as_recorded": not self.differences,
            "differences": list(self.differences),
            "replay": self.replay.as_json(),
        }


def verdicts(task_id: str, events: Iterable[Mapping[str, Any]]) -> Iterator[RecordedVerdict]:
    """Find the verdicts in the events of a task, as the API gives them, in their order."""
    inherited: Mapping[str, Any] | None = None
    for event in events:
        if event["type"] == "parent.declared":
            inherited = event["data"]["obligations"]
        found = ruling_of(event["type"], event["data"])
        if found is not None:
            hook, decision = found
            yield RecordedVerdict(
                task_id=task_id,
                event=event,
                hook=hook,
                decision=decision,
                inherited=inherited if hook == "task.received" else None,
            )


def latest_verdict(
    found: Iterable[RecordedVerdict], *, child: str | None = None, hook: Hook | None = None
) -> RecordedVerdict | None:
    """Choose the last verdict on a task, or on its child of this ref; of any hook, or of this one.

    One that let something through and asks for nothing is of no interest: of any hook the admission stands in for it.
    """
    latest: RecordedVerdict | None = None
    admission: RecordedVerdict | None = None
    for verdict in found:
        if child != (verdict.data["ref"] if verdict.hook == "task.proposed" else None):
            continue
        if hook in (None, verdict.hook):
            latest = verdict
        if verdict.hook == "task.received":
            admission = verdict
    if hook is None and latest is not None and latest.decision == "allow" and not latest.data["rules"]:
        return admission or latest
    return latest


def by_policy(recorded: RecordedVerdict, policy: RuleSet) -> bool:
    """Tell whether it was policy that decided: a child may also be refused for want of budget, room or a dependency."""
    names = {rule.id for rule in policy.rules} | {RULE_ERROR, UNLISTED}
    return recorded.event["type"] != "child.refused" or names.issuperset(recorded.data["rules"])


def explained(recorded: RecordedVerdict, policy: RuleSet, document: JsonObject) -> Explained:
    """Decide again on the recorded facts, and compare. policy, document: of the bundle that the verdict names."""
    replay = explain(policy, recorded.hook, recorded.data["facts"])
    ours = by_policy(recorded, policy)
    found = []
    if digest_of(document) != policy.bundle:
        found.append("the document is not the one that the bundle's digest names")
    if ours:
        found += _differences(recorded, replay.verdict)
    return Explained(recorded=recorded, replay=replay, by_policy=ours, differences=tuple(found))


def _differences(recorded: RecordedVerdict, verdict: Verdict) -> list[str]:
    """Say in what a verdict that was reached again is not the one that was recorded."""
    found = []
    if digest_of(recorded.data["facts"]) != recorded.data["facts_digest"]:
        found.append("the facts are not those that their digest names")
    if recorded.decision != verdict.decision:
        found.append(f"the decision was {recorded.decision}, and is {verdict.decision}")
    for name, again in (("rules", verdict.rules), ("reasons", verdict.reasons)):
        if list(recorded.data[name]) != list(again):
            found.append(f"the {name} were {list(recorded.data[name])}, and are {list(again)}")
    obligations, inherited = (
        None if said is None else read_obligations(said)
        for said in (recorded.data.get("obligations"), recorded.inherited)
    )
    expected = continued(inherited, verdict.obligations) if inherited else verdict.obligations
    if verdict.decision == "allow" and obligations is not None and obligations != expected:
        found.append(f"the obligations were {obligations}, and are {expected}")
    if recorded.event["type"] == GENERAL:
        for name, value in (("then", verdict.then), ("ask", verdict.ask)):
            if recorded.data[name] != value:
                found.append(f"`{name}` was {recorded.data[name]}, and is {value}")
    return found


class Explanations:
    """Explains decisions by the ids of their events. read: reads a bundle by its digest and its document."""

    def __init__(
        self,
        *,
        decisions: DecisionLog,
        log: EventLog,
        governing: Governing,
        read: Callable[[str, JsonObject], RuleSet],
    ) -> None:
        self._decisions = decisions
        self._log = log
        self._governing = governing
        self._read = read
        self._turn = asyncio.Lock()

    async def of(self, event_id: str) -> Explained | None:
        """Explain a decision; None where the event is none. Raises BundleInvalid where its bundle cannot be read."""
        event = await self._decisions.one(event_id)
        if event is None:
            return None
        (recorded,) = verdicts(event.stream, [*(await self._before(event)), _shown(event)])
        bundle = str(recorded.data["bundle"])
        applied = await self._governing.named(bundle)
        if applied is None:
            raise BundleInvalid(f"{bundle}: no bundle of this name was ever in force")
        async with self._turn:  # the search takes a while, and one at a time leaves the rest to callbacks
            return await asyncio.to_thread(self._explained, recorded, applied.document)

    async def _before(self, event: Recorded) -> list[Mapping[str, Any]]:
        """Read what a decision on a received task rests on besides: what its parent asked for."""
        if event.type != "task.allowed":
            return []
        events = await self._log.read_stream(event.stream, limit=min(event.version, _BEGINNING))
        return [_shown(e) for e in events if e.type == "parent.declared"]

    def _explained(self, recorded: RecordedVerdict, document: JsonObject) -> Explained:
        return explained(recorded, self._read(recorded.data["bundle"], document), document)


def _shown(event: Recorded) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "version": event.version,
        "type": event.type,
        "at": event.at,
        "data": event.data,
    }
