"""What a task was, what changed between two of its versions, who took it and who judged it: answers of its events."""

import re
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any, Final, Protocol, TypeAlias

from agentic_os.application.backend import Backend
from agentic_os.application.ports import DirectiveReceipt, EventLog, Moment, Recorded
from agentic_os.application.task_view import task_view
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.task import Submission, Task

When: TypeAlias = int | datetime
"""A version of a task, or an instant."""

RECEIPTS: Final = 500
_VERSION: Final = re.compile(r"[0-9]+")
_BOOKKEEPING: Final = frozenset({"id", "version", "updated_at", "issue", "blocked_by", "asked"})
_TOLD_OTHERWISE: Final = frozenset(
    {
        "past",
        "waits",
        "spent",
        "spenders",
        "ruling",
        "items",
        "charged",
        "refused",
        "refused_children",
        "wall_spent",
        "exceeded",
    }
)
"""Fields of the fold that the view has under another name, or that say again what the attempts say."""


class NeverWas(Exception):
    """The task never had this version, or was not there yet at this instant. next: what would help."""

    def __init__(self, message: str, *, next_step: str) -> None:
        super().__init__(message)
        self.next = next_step


def read_when(text: str) -> When:
    """Read a version from 1 on, or an instant with its zone. Raises ValueError for anything else."""
    unreadable = f"{text!r} is neither a version from 1 on nor a time with its zone"
    try:
        when: When = int(text) if _VERSION.fullmatch(text) else datetime.fromisoformat(text)
    except ValueError as problem:
        raise ValueError(unreadable) from problem
    if when == 0 or (isinstance(when, datetime) and when.tzinfo is None):
        raise ValueError(unreadable)
    return when


async def moment_of(log: EventLog, task_id: str, when: When) -> Moment:
    """Fold a task up to a version or an instant. Raises NeverWas, and Rejected where there is no such task."""
    found: Moment | None = None
    born: datetime | None = None
    async with aclosing(log.replay(task_id, when if isinstance(when, int) else None)) as moments:
        async for moment in moments:
            born = born or moment.event.at
            if isinstance(when, datetime) and moment.event.at > when:
                break
            found = moment
    if born is None:
        raise Rejected("unknown_task", "There is no such task.")
    if isinstance(when, datetime):
        if found is None:
            raise NeverWas(
                f"The task was not there yet: its first event is of {born.isoformat()}.",
                next_step="Ask for a later time.",
            )
        return found
    return _reached(found, when)


def _reached(last: Moment | None, version: int) -> Moment:
    if last is None or last.event.version != version:
        raise NeverWas(
            f"The task has no version {version}: its last is {last.event.version if last else 0}.",
            next_step="Ask for a version that it has had; /events lists them.",
        )
    return last


async def as_it_was(backend: Backend, shown: dict[str, Any], when: When) -> dict[str, Any]:
    """Show a task as it was; `shown` is how it stands, and the answer while that version still holds.

    What a task that is ready waits for is in no event: of the tasks that it depends on it can be found out,
    of the executors that were busy it cannot.
    """
    moment = await moment_of(backend.log, shown["id"], when)
    if moment.task.version == shown["version"]:
        return shown
    at = when if isinstance(when, datetime) else moment.event.at
    # What is kept back is not asked what it waits for.
    looked = moment.task.phase == "ready" and not moment.task.kept_back
    waits = await _blockers(backend.log, moment.task, at) if looked else ()
    link = await backend.issues.link_of(moment.task.id)
    return task_view(moment.task, link=link, waits=waits, updated_at=moment.event.at)


async def _blockers(log: EventLog, task: Task, at: datetime) -> list[str]:
    found = []
    found += [f"task:{child.id}" for child in task.awaited_children]
    for task_id in task.depends_on:
        try:
            done = (await moment_of(log, task_id, at)).task.phase == "completed"
        except NeverWas:  # by another server's clock, which may be ahead
            done = False
        if not done:
            found.append(f"task:{task_id}")
    return found


async def difference(log: EventLog, task_id: str, before: int, after: int) -> dict[str, Any]:
    """Say what differs between two versions, and which events lie between them, in the order of the history."""
    low, high = sorted((before, after))
    tasks: dict[int, Task] = {}
    between: list[dict[str, Any]] = []
    last: Moment | None = None
    async with aclosing(log.replay(task_id, high)) as moments:
        async for moment in moments:
            last = moment
            if moment.event.version in (low, high):
                tasks[moment.event.version] = moment.task
            if moment.event.version > low:
                between.append(headline(moment.event))
    if last is None:
        raise Rejected("unknown_task", "There is no such task.")
    _reached(last, high)
    return {
        "from": before,
        "to": after,
        "changes": changes(tasks[before], tasks[after]),
        "events": between,
    }


def changes(before: Task, after: Task) -> list[dict[str, Any]]:
    """List the fields that differ, by name, each with both of its values as a whole."""
    old, new = _fields(before), _fields(after)
    return [
        {"field": name, "before": old[name], "after": new[name]}
        for name in sorted(new)
        if old[name] != new[name]
    ]


def _fields(task: Task) -> dict[str, Any]:
    """Draw a task as it is shown, with what of its state is not shown."""
    view = task_view(task, link=None, waits=(), updated_at=None)
    state = {f.name: _plain(getattr(task, f.name)) for f in fields(task) if f.name not in _TOLD_OTHERWISE}
    reviewed = {"plan": state["plan"], "result": state["result"]}
    return {name: value for name, value in {**state, **view, **reviewed}.items() if name not in _BOOKKEEPING}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, frozenset | set):
        return sorted(value)
    return value


def headline(event: Recorded) -> dict[str, Any]:
    """Say of an event what it was, when, and who did it why."""
    return {
        "version": event.version,
        "type": event.type,
        "at": event.at,
        "actor": event.actor,
        "reason": event.reason,
    }


async def why(backend: Backend, shown: dict[str, Any]) -> dict[str, Any]:
    """Say what moves a task next, which rule decided, and what was refused."""
    (last,) = await backend.log.read_stream(shown["id"], shown["version"] - 1, 1)
    receipts = await backend.issues.receipts(shown["id"], RECEIPTS)
    return {
        "phase": shown["phase"],
        "waiting_for": shown["waiting_for"],
        "decided_by": shown["verdict"],
        "refusals": refusals(receipts),
        "last": headline(last),
        "holds": shown["holds"],
        "blocked_by": shown["blocked_by"],
        "frozen": shown["frozen"],
        "overdue": shown["overdue"],
        "parent": shown["parent"],
        "children": shown["children"],
        "refused_children": shown["refused_children"],
    }


def refusals(receipts: Sequence[DirectiveReceipt]) -> list[dict[str, Any]]:
    """List the directives that were refused, in the order of the receipts. `actor` is null for a stranger."""
    return [
        {
            "at": r.at,
            "actor": r.principal,
            "what": r.text,
            "rule": r.rule,
            "message": r.message,
            "paste": r.paste,
        }
        for r in receipts
        if r.outcome == "refused"
    ]


class Attempts:
    """Every attempt of a task, gathered from its moments in their order."""

    def __init__(self) -> None:
        self._found: dict[int, dict[str, Any]] = {}
        self._used: dict[int, dict[tuple[str, str], int]] = {}

    def note(self, moment: Moment) -> None:
        """Take in one moment."""
        attempt = moment.task.attempt
        if attempt is None:
            return
        row = self._found.setdefault(
            attempt.number,
            {
                "number": attempt.number,
                "executor": attempt.executor,
                "step": attempt.step,
                "state": attempt.state,
                "brief_digest": attempt.brief_digest or None,
                "offered_at": moment.event.at,
                "closed_at": None,
                "tools": [],
            },
        )
        if moment.event.type == "report.recorded" and moment.event.data["kind"] == "tool_event":
            used = self._used.setdefault(attempt.number, {})
            for tool in moment.event.data["body"]["events"]:
                key = (tool["tool"], tool["outcome"])
                used[key] = used.get(key, 0) + 1
        row["state"] = attempt.state
        if row["closed_at"] is None and not attempt.is_open:
            row["closed_at"] = moment.event.at

    def rows(self) -> list[dict[str, Any]]:
        """List them by number, each with the tools that it used, by tool and outcome."""
        for number, used in self._used.items():
            counts = sorted(used.items())
            self._found[number]["tools"] = [{"tool": t, "outcome": o, "count": n} for (t, o), n in counts]
        return list(self._found.values())


class Reviews:
    """Every plan and result of a task with the votes on it, gathered from its moments in their order."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], dict[str, Any]] = {}

    def note(self, moment: Moment) -> None:
        """Take in one moment."""
        for subject, submission in (("plan", moment.task.plan), ("result", moment.task.result)):
            if submission is not None:
                self._submission(subject, submission)
        event = moment.event
        subject, _, what = event.type.partition(".")
        row = self._found.get((subject, event.data.get("version", 0))) if what == "voted" else None
        if row is not None:
            vote = {name: event.data[name] for name in ("voter", "vote", "words")}
            row["votes"].append({**vote, "at": event.at})

    def _submission(self, subject: str, submission: Submission) -> None:
        row = self._found.setdefault(
            (subject, submission.version),
            {
                "subject": subject,
                "version": submission.version,
                "digest": submission.digest,
                "state": submission.state,
                "executor": submission.executor,
                "author": submission.author,
                "attempt": submission.attempt,
                "submitted_at": submission.submitted_at,
                "timed_out": False,
                "escalated": "",
                "stage": 1,
                "votes": [],
            },
        )
        row["state"], row["timed_out"] = submission.state, submission.timed_out
        row["escalated"], row["stage"] = submission.escalated, submission.stage + 1

    def rows(self) -> list[dict[str, Any]]:
        """List them in the order of their submission."""
        return list(self._found.values())


class Gathered(Protocol):
    """Rows that a task's moments amount to, taken in their order."""

    def note(self, moment: Moment) -> None:
        """Take in one moment."""
        ...

    def rows(self) -> list[dict[str, Any]]:
        """List what was found."""
        ...


async def gather(log: EventLog, task_id: str, found: Gathered) -> list[dict[str, Any]]:
    """Go through a task's whole history. Raises Rejected where there is no such task."""
    moment: Moment | None = None
    async for moment in log.replay(task_id):
        found.note(moment)
    if moment is None:
        raise Rejected("unknown_task", "There is no such task.")
    return found.rows()
