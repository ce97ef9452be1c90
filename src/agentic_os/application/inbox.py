"""What others did on the tracker: stored once, then acted on; every observation ends with an outcome and a reason."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, get_args
from uuid import UUID, uuid5

from agentic_os.application.breakers import RateBreakers
from agentic_os.application.directives import Directives, Source, outcome_of
from agentic_os.application.field_changes import FieldChanges, may_steer
from agentic_os.application.handle import handle
from agentic_os.application.observations import NOT_THEIRS
from agentic_os.application.plan_edits import PlanEdits
from agentic_os.application.ports import (
    AgentBook,
    DirectiveReceipt,
    Envelope,
    EventLog,
    InboxItem,
    IssueBook,
    IssueLink,
    Registry,
    VersionConflict,
    WorkQueue,
)
from agentic_os.application.tasks import create_task
from agentic_os.clock import new_id, now
from agentic_os.contracts.redaction import redact
from agentic_os.control_plane import (
    AgentSeen,
    CommentSeen,
    ControlPlane,
    ControlPlaneError,
    FieldChanged,
    Issue,
    IssueDeleted,
    IssueOpened,
    NotFound,
    Observation,
    PlanEdited,
    Reaction,
    ReviewDecided,
    RunSeen,
)
from agentic_os.domain import commands as c
from agentic_os.domain.directive import ASKING, parse
from agentic_os.domain.documents import Priority
from agentic_os.domain.governance import RateName
from agentic_os.domain.policy import DecisionPoint
from agentic_os.domain.reviews import review_lines
from agentic_os.domain.task import Task

_EDITS: Final = UUID("2f0a7c8e-9d3b-5f61-8a1e-4c7be9d0a352")
"""The name space of the receipts of edits and deletions: heard again, each is the same one."""
_RUN_DETAIL: Final = 4000
"""How many characters are kept of how a run ended: the last ones, where its log says what went wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """Which issues of people become tasks: those with this label, and all in these projects."""

    label: str = "agentic-os"
    projects: frozenset[str] = frozenset()

    def takes(self, labels: Sequence[str], project: str) -> bool:
        """Tell whether an issue is one of those."""
        return self.label in labels or project in self.projects

    def marked_by(self, change: FieldChanged) -> bool:
        """Tell whether an issue is one of those by this change, and was none before it.

        Whoever changes another label of an issue that somebody else marked, in vain perhaps, asks for nothing.
        """
        if change.before is None or change.field not in ("labels", "project"):
            return False
        before, after = (
            self.takes([label.strip() for label in text.split(",")], "")
            if change.field == "labels"
            else self.takes([], text)
            for text in (change.before, change.value)
        )
        return after and not before


class _HeldBack(Exception):
    """A breaker lets no further issue become a task before `until`. breaker: of what, in the plural."""

    def __init__(self, key: str, breaker: str, until: datetime) -> None:
        super().__init__(key)
        self.key = key
        self.breaker = breaker
        self.until = until


class Inbox:
    """Acts on observations, each once."""

    def __init__(
        self,
        *,
        log: EventLog,
        registry: Registry,
        agents: AgentBook,
        issues: IssueBook,
        work: WorkQueue,
        directives: Directives,
        plan_edits: PlanEdits,
        control_plane: ControlPlane,
        policy: Callable[[], DecisionPoint],
        committed: Callable[[Task], None],
        adoption: Adoption,
        breakers: RateBreakers,
        public_url: str,
    ) -> None:
        self._log = log
        self._registry = registry
        self._agents = agents
        self._issues = issues
        self._work = work
        self._directives = directives
        self._plan_edits = plan_edits
        self._plane = control_plane
        self._policy = policy
        self._committed = committed
        self._adoption = adoption
        self._breakers = breakers
        self._fields = FieldChanges(
            log=log,
            registry=registry,
            issues=issues,
            work=work,
            control_plane=control_plane,
            committed=committed,
            public_url=public_url,
            execute=self._meant,
        )
        self._cursor: str | None = None
        self._reading = asyncio.Lock()

    async def pull(self) -> int:
        """Read the tracker's feed to its end: the truth, of which webhooks are only the quick part."""
        async with self._reading:
            return await self._pull()

    async def order(self) -> None:
        """Read the feed where webhooks brought anything: they may be lost or come in any order, the feed has one."""
        if await self._issues.unconfirmed(self._plane.name):
            await self.pull()

    async def _pull(self) -> int:
        taken = 0
        if self._cursor is None:
            self._cursor = await self._issues.cursor(self._plane.name)
        while True:
            observations, following = await self._plane.observations(self._cursor)
            if not observations:
                return taken
            taken += await self._issues.take_in(self._plane.name, observations, following)
            self._cursor = following

    async def receive(self, observations: Sequence[Observation]) -> int:
        """Store what a webhook brought."""
        return await self._issues.take_in(self._plane.name, observations, None)

    async def act(self, item: InboxItem) -> datetime | None:
        """Act on one stored observation, and say what became of it, or until when it is held back."""
        try:
            outcome, reason = await self._judge(item.observation, held=item.held)
            await self._issues.finish(item, outcome, reason)
        except _HeldBack as held:
            return await self._hold_back(item, held)
        return None

    async def _hold_back(self, item: InboxItem, held: _HeldBack) -> datetime | None:
        """Put the adoption of an issue off, and tell so on it, once."""
        if not item.held:
            try:
                await self._plane.post(held.key, "adoption:held", _not_yet(held.until))
            except NotFound:
                await self._issues.finish(item, "ignored", "the issue is gone")
                return None
        await self._issues.hold_back(item, held.until, f"the breaker of {held.breaker}")
        return held.until

    async def _judge(self, seen: Observation, *, held: bool = False) -> tuple[str, str]:
        match seen:
            case CommentSeen():
                return await self._comment(seen)
            case ReviewDecided():
                return await self._decision(seen)
            case PlanEdited():
                return await self._plan_edited(seen)
            case IssueOpened():
                return await self._opened(seen, held=held)
            case FieldChanged():
                return await self._changed(seen, held=held)
            case IssueDeleted():
                return await self._fields.deleted(seen)
            case RunSeen():
                return await self._run(seen)
            case AgentSeen():
                return await self._agent(seen)

    async def _comment(self, seen: CommentSeen) -> tuple[str, str]:
        task_id = await self._issues.task_of(self._plane.name, seen.key)
        if task_id is None:
            return "ignored", "the issue shows no task"
        if seen.action != "created":
            return await self._edited(task_id, seen)
        if not parse(seen.body):
            return "ignored", "no directive in it"
        await self._react(seen, "seen")
        receipts = await self._execute(task_id, seen.author, seen.body, seen.comment_id, seen)
        refused = any(r.outcome == "refused" for r in receipts)
        await self._react(seen, "refused" if refused else "done")
        return outcome_of(receipts)

    async def _edited(self, task_id: str, seen: CommentSeen) -> tuple[str, str]:
        """Answer an edit or a deletion; only what was written at first counts, and what it did stays."""
        earlier = await self._issues.receipts_of(self._plane.name, seen.comment_id)
        done = [r for r in earlier if r.outcome == "done" and r.verb not in ASKING]
        written = parse(seen.body)
        if not written and not done:
            return "ignored", "no directive in it"
        message = f"The comment was {seen.action} after it was read."
        if done:
            message += f" What it did stays: {', '.join(f'/{r.verb}' for r in done)}."
        if written:
            message += " Only new comments are carried out: write it again."
        principal = await self._registry.by_account(self._plane.name, seen.author)
        await self._directives.put_down(
            DirectiveReceipt(
                id=str(uuid5(_EDITS, f"{self._plane.name}\n{seen.delivery}")),
                task_id=task_id,
                verb=written[0].verb if written else done[0].verb,
                text=written[0].line if written else done[0].text,
                outcome="refused",
                message=message,
                at=now(),
                rule="created_only",
                principal=principal.name if principal else None,
                control_plane=self._plane.name,
                comment_id=seen.comment_id,
            )
        )
        await self._work.mark([task_id])
        return "refused", "created_only"

    async def _decision(self, decided: ReviewDecided) -> tuple[str, str]:
        """Turn a decision made on the tracker's own widget into the directive that it stands for."""
        task_id = await self._issues.task_of(self._plane.name, decided.key)
        task = (await self._log.load(task_id)).task if task_id else None
        if task is None:
            return "ignored", "the issue shows no task"
        for subject, submission in (("plan", task.plan), ("result", task.result)):
            if submission is not None and submission.digest == decided.digest:
                text = f"{review_lines(subject, submission)[decided.verdict]} {decided.body}".strip()
                return outcome_of(await self._execute(task.id, decided.author, text, None, decided))
        return "refused", "the digest is not that of the latest plan or result"

    async def _plan_edited(self, seen: PlanEdited) -> tuple[str, str]:
        """Take in a plan that somebody edited, or answer on the issue what is wrong with it."""
        task_id = await self._issues.task_of(self._plane.name, seen.key)
        if task_id is None or (await self._log.load(task_id)).task is None:
            return "ignored", "the issue shows no task"
        receipt = await self._plan_edits.on_tracker(task_id, seen, self._plane.name)
        await self._work.mark([task_id])
        return outcome_of([receipt]) if receipt.outcome == "refused" else ("done", "the plan was edited")

    async def _execute(
        self,
        task_id: str,
        author: str,
        text: str,
        comment_id: str | None,
        seen: CommentSeen | ReviewDecided | FieldChanged,
    ) -> Sequence[DirectiveReceipt]:
        principal = await self._registry.by_account(self._plane.name, author)
        source = Source(
            seen_at=seen.at, cause=seen.delivery, control_plane=self._plane.name, comment_id=comment_id
        )
        receipts = await self._directives.execute(task_id, text, principal, source)
        await self._work.mark([task_id])
        return receipts

    async def _meant(self, task_id: str, line: str, seen: FieldChanged) -> Sequence[DirectiveReceipt]:
        """Carry out the directive that a person's change of a field stands for."""
        return await self._execute(task_id, seen.author, line, None, seen)

    async def _react(self, seen: CommentSeen, reaction: Reaction) -> None:
        """Show the outcome on the comment. The receipt is what counts, so a tracker that is away is no failure."""
        if not self._plane.capabilities.reactions:
            return
        try:
            await self._plane.react(seen.key, seen.comment_id, reaction)
        except ControlPlaneError:
            return

    async def _opened(self, opened: IssueOpened, *, held: bool) -> tuple[str, str]:
        """Adopt an issue that a known person opened for us; policy decides the rest."""
        if not self._adoption.takes(opened.labels, opened.project):
            return "ignored", f"it has no label {self._adoption.label}, and is in no project of ours"
        principal = await self._registry.by_account(self._plane.name, opened.author)
        if principal is None or not may_steer(principal):
            return "refused", NOT_THEIRS
        return await self._adopt(opened, principal.name, held=held)

    async def _changed(self, seen: FieldChanged, *, held: bool) -> tuple[str, str]:
        """Take in what changed on an issue of ours; one that shows no task may become ours by the change."""
        if not self._adoption.marked_by(seen) or await self._shows_a_task(seen.key):
            return await self._fields.changed(seen)
        principal = await self._registry.by_account(self._plane.name, seen.author)
        if principal is None or not may_steer(principal):
            return "refused", NOT_THEIRS
        issue = (await self._plane.observe([seen.key])).get(seen.key)
        if issue is None or self._withdrawn(issue, issue.project):
            return "ignored", "the issue is gone" if issue is None else "it was withdrawn meanwhile"
        opened = IssueOpened(
            delivery=seen.delivery,
            key=seen.key,
            author=seen.author,
            title=issue.title,
            body=issue.body,
            project=issue.project,
            labels=issue.labels,
            at=seen.at,
        )
        return await self._adopt(opened, principal.name, held=held)

    async def _shows_a_task(self, key: str) -> bool:
        """Tell whether a task is shown there; a link alone is what a crash in the middle of an adoption left."""
        task_id = await self._issues.task_of(self._plane.name, key)
        return task_id is not None and (await self._log.load(task_id)).task is not None

    async def _adopt(self, opened: IssueOpened, requester: str, *, held: bool) -> tuple[str, str]:
        # The link goes first: a reconciler that met the task before its link would make a second issue for it.
        task_id = await self._issues.task_of(self._plane.name, opened.key)
        if task_id is None:
            counted = f"{self._plane.name}:{opened.key}"
            breaker: RateName = "routine" if opened.routine else "adoption"
            counts = self._breakers.routine if opened.routine else self._breakers.adoption
            until = await counts(counted)
            if until is not None:
                raise _HeldBack(opened.key, f"{breaker}s", until)
            issue = (await self._plane.observe([opened.key])).get(opened.key)
            if issue is None or (held and self._withdrawn(issue, opened.project)):
                await self._breakers.give_back(breaker, [counted])
                return "ignored", "the issue is gone" if issue is None else "it was withdrawn meanwhile"
            if held:
                opened = replace(opened, title=issue.title, body=issue.body, labels=issue.labels)
            task_id = str(new_id())
            link = IssueLink(task_id=task_id, control_plane=self._plane.name, key=opened.key, url=issue.url)
            await self._issues.remember(link)
        command = c.CreateTask(
            task_id=task_id,
            title=opened.title,
            goal=opened.body or opened.title,
            project=opened.project or "default",
            labels=opened.labels,
            priority=_priority(opened.labels),
            requester=requester,
            origin=f"{self._plane.name}:{opened.key}",
            at=now(),
        )
        try:
            await create_task(
                self._log,
                command,
                self._policy(),
                receipt=None,
                committed=self._committed,
                cause=opened.delivery,
            )
        except VersionConflict:
            return "done", f"task {task_id} exists already"
        return "done", f"adopted as task {task_id}"

    def _withdrawn(self, issue: Issue, project: str) -> bool:
        """Tell whether somebody took back what had to wait: the issue is closed, or has our label no more."""
        return issue.closed is not None or not self._adoption.takes(issue.labels, project)

    async def _run(self, seen: RunSeen) -> tuple[str, str]:
        """Let a run that was seen move the lease of the attempt that it is for; it authorises nothing else."""
        if await self._issues.task_of(self._plane.name, seen.key) != seen.task_id:
            return "ignored", "the issue does not show this task"
        at = now()
        alive = seen.state == "alive"
        # The end of a log is a text of the agent's: what is secret in it is kept nowhere.
        told, _ = redact({"detail": seen.detail})
        command = c.SeeRun(
            attempt=seen.attempt,
            alive=alive,
            seen_at=min(seen.at, at),
            at=at,
            detail=None if alive else told["detail"].strip()[-_RUN_DETAIL:] or None,
        )
        envelope = Envelope(actor="system", at=at, reason=f"its run is {seen.state}", cause=seen.delivery)
        handled = await handle(self._log, seen.task_id, lambda _: command, envelope)
        if not handled.events:
            return "ignored", "it changes no lease"
        self._committed(handled.task)
        return "done", "the lease was renewed" if alive else "the lease was shortened"

    async def _agent(self, seen: AgentSeen) -> tuple[str, str]:
        """Keep whether an agent is woken; the tasks that it concerns are looked at again, and no other."""
        known = await self._agents.see(seen)
        if not known.executor:
            return "ignored", "the account is no executor's"
        if not known.changed:
            return "ignored", f"that {known.executor} is {seen.state} was known"
        return "done", f"{known.executor} is {seen.state}"


def _not_yet(until: datetime) -> str:
    return (
        "**This issue is no task yet.** As many issues became tasks lately as policy allows. This one becomes a task "
        f"by itself, not before {until.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, unless it is closed or loses its label. "
        "Directives on it count only from then on."
    )


def _priority(labels: Sequence[str]) -> Priority:
    """Read the priority that an issue was opened with, from a label such as priority:high; medium without one."""
    known: Sequence[Priority] = get_args(Priority)
    return next((each for each in known if f"priority:{each}" in labels), "medium")
