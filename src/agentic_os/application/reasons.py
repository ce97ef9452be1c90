"""Why a task stands where it does, in plain words: what moves it, who decided, by which rules, what would change it."""

import re
from datetime import UTC, datetime
from typing import Final

from agentic_os.application.decisions import DecisionLog
from agentic_os.application.explanation import describe
from agentic_os.application.governing import BundleInvalid
from agentic_os.application.ports import EventLog, IssueBook, Recorded, WorkQueue
from agentic_os.application.recorded_verdicts import Explanations
from agentic_os.application.waits import describe_waits
from agentic_os.domain.agent_reviews import awaits_attempt
from agentic_os.domain.reviews import stage_of
from agentic_os.domain.task import Submission, Task

REFUSALS_TOLD: Final = 3
LOOKED_THROUGH: Final = 50
"""Among how many receipts the refusals are looked for."""

WORDS_TOLD: Final = 6000
"""How many characters of an explanation of policy are told; `agentic-os policy explain` has all of it."""


class Reasons:
    """Says why, from what was recorded."""

    def __init__(
        self,
        *,
        log: EventLog,
        work: WorkQueue,
        issues: IssueBook,
        decisions: DecisionLog,
        explanations: Explanations,
    ) -> None:
        self._log = log
        self._work = work
        self._issues = issues
        self._decisions = decisions
        self._explanations = explanations

    async def of(self, task: Task, standing: str) -> str:
        """Say why, in markdown. standing: where the task is and what moves it next, in a sentence."""
        (last,) = await self._log.read_stream(task.id, task.version - 1, 1)
        reason = f": {_one_line(last.reason)}" if last.reason else ""
        lines = [
            standing + await self.waits(task),
            "",
            f"- It came to this by `{last.type}`, {last.actor}, {_minute(last.at)}{reason}",
        ]
        lines += [f"- {said}" for said in _decided(task)]
        receipts = await self._issues.receipts(task.id, LOOKED_THROUGH)
        refused = [r for r in receipts if r.outcome == "refused"][:REFUSALS_TOLD]
        lines += [
            f"- Refused: `{_one_line(r.text)}`, {r.principal or 'an unknown account'}, {_minute(r.at)}, "
            f"by {r.rule}: {_one_line(r.message)}"
            for r in refused
        ]
        return "\n".join([*lines, "", *(await self._policy(task)), "", "`/help` lists what you may do now."])

    async def waits(self, task: Task) -> str:
        """Say what keeps its next attempt from being opened, as one more sentence, "" where nothing is known to."""
        if task.kept_back or not awaits_attempt(task):
            return ""
        found = await self._work.waits_of(task.id)
        return f" It waits for {describe_waits(found)}." if found else ""

    async def _policy(self, task: Task) -> list[str]:
        """Explain the decision that the task stands under: the denial that stopped it, or else its admission."""
        event = await self._decision(task)
        if event is None:
            return ["Policy has decided nothing about it yet."]
        by = "; ".join([", ".join(event.data["rules"]) or "no rule", *event.data["reasons"]])
        try:
            found = await self._explanations.of(event.event_id)
        except BundleInvalid as problem:
            return [f"Policy decided by {by}, and its explanation cannot be read here: {problem}"]
        if found is None:
            return [f"Policy decided by {by}."]
        words = describe(found.replay)
        if len(words) > WORDS_TOLD:
            words = f"{words[:WORDS_TOLD]}\n... `agentic-os policy explain {event.event_id}` has the rest."
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", words)), default=0))
        return [f"{fence}text", words, fence]

    async def _decision(self, task: Task) -> Recorded | None:
        if task.ruling is not None and task.ruling.decision == "deny" and task.phase != "rejected":
            events, _ = await self._decisions.page(
                hook="dispatch", decision="deny", task_id=task.id, before=None, limit=1
            )
            if events:
                return events[0]
        events, _ = await self._decisions.page(
            hook="task.received", decision=None, task_id=task.id, before=None, limit=1
        )
        return events[0] if events else None


def _decided(task: Task) -> list[str]:
    """Say who decided on its plan and its result."""
    found = []
    if task.plan is not None:
        found.append(_said_of("plan", "v", task.plan, task))
    if task.result is not None:
        found.append(_said_of("result", "r", task.result, task))
    found += [f"On hold by {h.by}: {_one_line(h.reason)}" for h in task.holds]
    return found


def _said_of(subject: str, letter: str, submission: Submission, task: Task) -> str:
    stage = stage_of(task) if submission is task.under_review else ""
    by = f", with the approval of {', '.join(submission.approvals)}" if submission.approvals else ""
    defaulted = " (nobody decided in time)" if submission.timed_out else ""
    name = f"The {subject} {letter}{submission.version} by {submission.executor}"
    if submission.edited_by:
        name += f", edited by {submission.edited_by},"
    return f"{name} is {submission.state}{stage}{by}{defaulted}"


def _minute(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _one_line(text: str) -> str:
    words = " ".join(text.split()).replace("`", "'")
    return words if len(words) <= 200 else words[:200] + "..."  # noqa: PLR2004 - about two lines
