"""Make each stale task's issue look as it should: told which task, never what happened."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from agentic_os.application import brief
from agentic_os.application.costs import Costs
from agentic_os.application.dispatch import Dispatcher, resting, yields
from agentic_os.application.handle import handle
from agentic_os.application.inline_artifacts import inline_texts
from agentic_os.application.issue_view import STATUS_MARKER, Documents, IssueView, issue_view, outcome_of
from agentic_os.application.pacing import PacedControlPlane
from agentic_os.application.ports import (
    ArtifactStore,
    Envelope,
    EventLog,
    IssueBook,
    IssueLink,
    Registry,
    StaleMark,
    StoreUnavailable,
    WorkQueue,
)
from agentic_os.application.readable import gate_marker
from agentic_os.clock import now
from agentic_os.control_plane import (
    Assignment,
    Busy,
    ControlPlane,
    ControlPlaneError,
    Denied,
    Issue,
    IssueChanges,
    IssueDraft,
    NotFound,
    RateLimited,
    Stranded,
    Unavailable,
)
from agentic_os.domain import drift
from agentic_os.domain.commands import SeeDrift
from agentic_os.domain.task import Submission, Task

log = structlog.get_logger()

RECEIPTS_READ: Final = 25
"""How many of the latest directives are answered by notes, should they all come between two passes."""

CLAIM_LEASE: Final = timedelta(seconds=30)
_LONGEST_PASS: Final = timedelta(seconds=25)
"""Shorter than the claim: what a pass writes never comes after what the next holder of the claim wrote."""
POISONED_AFTER: Final = 8
"""How many failures in a row put a task on the list of those that are tried rarely."""
RARELY: Final = timedelta(hours=1)
_ITS_TURN: Final = timedelta(seconds=1)
_LATELY: Final = timedelta(minutes=1)
_ELSEWHERE: Final = (Unavailable, Denied, TimeoutError, StoreUnavailable)
"""Failures that are no task's own while nothing else succeeds either."""


class Reconciler:
    """Drains stale marks: advances the task, then projects it."""

    def __init__(
        self,
        *,
        log: EventLog,
        registry: Registry,
        work: WorkQueue,
        issues: IssueBook,
        costs: Costs,
        dispatcher: Dispatcher,
        control_plane: PacedControlPlane | None,
        artifacts: ArtifactStore,
        public_url: str,
        jitter: Callable[[], float],
    ) -> None:
        self._log = log
        self._registry = registry
        self._work = work
        self._issues = issues
        self._costs = costs
        self._dispatcher = dispatcher
        self._plane = control_plane
        self._artifacts = artifacts
        self._public_url = public_url
        self._jitter = jitter

    async def reconcile(self, mark: StaleMark) -> datetime | None:
        """Work on one claimed mark; what fails is put off, with growing patience, until the instant answered.

        So is a task that only waits for a breaker to let an executor go on.

        One task that cannot be worked on, for whatever reason, must not keep the others waiting.
        """
        try:
            async with asyncio.timeout(_LONGEST_PASS.total_seconds()):
                waits, busy = await self._pass(mark.task_id)
        except Exception as problem:  # noqa: BLE001 - logged and kept with the mark, whatever it is
            return await self._put_off(mark, problem)
        turn = [now() + _ITS_TURN] if yields(waits) else []
        again = min([*resting(waits).values(), *turn, *([busy] if busy else [])], default=None)
        if again is None:
            await self._work.settle(mark)
        else:
            await self._work.rest(mark, again)
        return again

    async def _pass(self, task_id: str) -> tuple[Sequence[str], datetime | None]:
        """Take the task as far as it goes, and show it; return what it waits for, and when to show the rest."""
        task = await self._dispatcher.advance(task_id)
        waits = await self._work.waits_of(task.id) if task is not None and task.phase == "ready" else ()
        busy = None
        if task is not None and self._plane is not None:
            busy = await self._project(task, waits, self._plane)
        return waits, busy

    async def _put_off(self, mark: StaleMark, problem: Exception) -> datetime:
        if not isinstance(problem, ControlPlaneError | TimeoutError):
            log.error("task cannot be reconciled", task=mark.task_id, exc_info=problem)
        counts = not isinstance(problem, RateLimited)
        # A tracker that is away poisons no task: it is the task's own fault only while the tracker does other things.
        elsewhere = isinstance(problem, _ELSEWHERE) and not (self._plane and self._plane.answers(_LATELY))
        poisoned = counts and not elsewhere and mark.failures + 1 >= POISONED_AFTER
        until = now() + (RARELY if poisoned else self._patience(mark, problem))
        message = f"{type(problem).__name__}: {problem}"
        if poisoned and mark.failures + 1 == POISONED_AFTER:
            log.warning("task is poisoned", task=mark.task_id, problem=message)
        await self._work.postpone(mark, until, message, counts=counts, poisoned=poisoned)
        return until

    def _patience(self, mark: StaleMark, problem: Exception) -> timedelta:
        if isinstance(problem, RateLimited):
            return max(problem.retry_at - now(), timedelta(seconds=1))
        return timedelta(seconds=min(2**mark.failures, 300) * (1 + self._jitter() / 2))

    async def _project(self, task: Task, waits: Sequence[str], plane: PacedControlPlane) -> datetime | None:
        """Make the issue look as it should, but for what a run keeps busy: that is due at the instant answered."""
        documents = await self._documents(task, waits)
        view = issue_view(task, documents, self._public_url, documented=plane.capabilities.documents)
        found = await self._issue(task, view, plane)
        if found is None:
            return None
        link, issue = found
        # State and gate go first: trackers react to an agent's end of run at once. What is only read comes last.
        await self._change(task, link.key, issue, view, plane)
        await self._review(task, link.key, issue, view, plane)
        await self._write(task, link.key, issue, view, plane)
        # Before anybody is woken: the tracker may have a budget that this uses up.
        untold = await self._costs.tell(task.id, link.key, view.spending)
        busy = None
        try:
            await self._assign(task, link.key, issue, view, plane)
        except Busy as problem:
            busy = problem.retry_at
        except Stranded as problem:
            return await self._replace(task, link, view, plane, problem)
        await self._note(task, link.key, issue, view, plane)
        if untold is not None:
            raise untold
        return busy

    async def _issue(
        self, task: Task, view: IssueView, plane: ControlPlane
    ) -> tuple[IssueLink, Issue] | None:
        """Find the issue, or make it; one that somebody deleted is made anew, once, while the task goes on."""
        link = await self._issues.link_of(task.id)
        if link is not None:
            issue = (await plane.observe([link.key]))[link.key]
            if issue is not None:
                return link, issue
            if task.ended:
                return None
            task = await self._deleted(task, link, plane)
            await self._issues.forget(task.id)
        if not drift.repaired(task, "issue"):
            return None
        return await self._make(task, view, plane)

    async def _make(
        self, task: Task, view: IssueView, plane: ControlPlane, *, replaces: str = ""
    ) -> tuple[IssueLink, Issue]:
        draft = IssueDraft(
            task_id=task.id,
            title=task.title,
            body=brief.with_section(task.goal, view.section or ""),
            project=task.project,
            state=view.state,
            labels=task.labels,
            priority=task.priority,
            parent=await self._parent_of(task),
            status=view.status,
            replaces=replaces,
        )
        key = await plane.ensure_issue(draft)
        made = (await plane.observe([key]))[key]
        if made is None:
            raise NotFound(f"the issue {key} was gone right after it was made")
        if replaces:
            await self._issues.forget(task.id)
        link = IssueLink(task_id=task.id, control_plane=plane.name, key=key, url=made.url)
        await self._issues.remember(link)
        return link, made

    async def _replace(
        self, task: Task, link: IssueLink, view: IssueView, plane: ControlPlane, problem: Stranded
    ) -> datetime:
        """Let the work go on at another issue, which is shown at the instant answered."""
        seen = SeeDrift(field="issue", author=plane.name, value=link.key, at=now(), forced=True)
        envelope = Envelope(
            actor="system",
            at=seen.at,
            reason=f"another issue takes the place of {link.key}: {problem}",
            meta={"control_plane": plane.name},
        )
        task = (await handle(self._log, task.id, lambda _: seen, envelope)).task
        if not drift.repaired(task, "issue"):
            raise problem
        await self._make(task, view, plane, replaces=link.key)
        return now()

    async def _parent_of(self, task: Task) -> str:
        """Name the issue of the parent; one that is not made yet is named when the child is next looked at."""
        link = await self._issues.link_of(task.parent.id) if task.parent else None
        return link.key if link else ""

    async def _deleted(self, task: Task, link: IssueLink, plane: ControlPlane) -> Task:
        """Put on record that the issue is gone, where nobody told of it before."""
        seen = SeeDrift(field="issue", author="unknown", value=link.key, at=now())
        envelope = Envelope(
            actor="system",
            at=seen.at,
            reason=f"the issue {link.key} is gone",
            meta={"control_plane": plane.name},
        )
        return (await handle(self._log, task.id, lambda _: seen, envelope)).task

    async def _change(self, task: Task, key: str, issue: Issue, view: IssueView, plane: ControlPlane) -> None:
        parent = await self._parent_of(task) if issue.parent is not None else None
        body = brief.with_section(issue.body, view.section) if view.section else issue.body
        closed = (view.closed or "") if view.closed != issue.closed else None
        changes = IssueChanges(
            body=body if body != issue.body and drift.repaired(task, "brief") else None,
            state=view.state if view.state != issue.state and drift.repaired(task, "state") else None,
            closed=closed if drift.repaired(task, "closed") else None,
            priority=task.priority if issue.priority not in {None, task.priority} else None,
            parent=parent if parent != issue.parent else None,
            status=view.status
            if plane.capabilities.status and view.status != issue.status and drift.repaired(task, "document")
            else None,
        )
        if changes != IssueChanges():
            await plane.apply(key, changes)

    async def _review(self, task: Task, key: str, issue: Issue, view: IssueView, plane: ControlPlane) -> None:
        wanted = view.review.digest if view.review else None
        decided = {s.digest: s for s in (task.plan, task.result) if s is not None}
        for digest in issue.reviews:
            if digest != wanted:
                await plane.close_review(key, digest, outcome_of(decided.get(digest)))
        if view.review is None or wanted in issue.reviews or not plane.capabilities.reviews:
            return
        await plane.open_review(key, view.review)
        if plane.capabilities.documents and task.under_review is not None:
            await self._issues.note_shown(task.id, gate_marker(task.under_review))

    async def _write(
        self, task: Task, key: str, issue: Issue, view: IssueView, plane: PacedControlPlane
    ) -> None:
        if not plane.capabilities.documents or not drift.repaired(task, "document"):
            return
        for document in view.documents:
            if issue.documents.get(document.name) != document:
                await plane.write(key, document)

    async def _assign(self, task: Task, key: str, issue: Issue, view: IssueView, plane: ControlPlane) -> None:
        account = await self._registry.account_of(plane.name, view.assignee) if view.assignee else None
        wanted = Assignment(account=account, task_id=task.id, attempt=view.attempt) if account else None
        if wanted != issue.assignment and drift.repaired(task, "assignee"):
            await plane.assign(key, wanted)

    async def _note(self, task: Task, key: str, issue: Issue, view: IssueView, plane: ControlPlane) -> None:
        for marker, text in view.notes:
            if marker not in issue.notes:
                await plane.post(key, marker, text)
                if task.under_review is not None and marker == gate_marker(task.under_review):
                    await self._issues.note_shown(task.id, marker)
        if plane.capabilities.status:
            return
        shown = issue.notes.get(STATUS_MARKER)
        if shown is None:
            await plane.post(key, STATUS_MARKER, view.status)
        elif shown.body != view.status:
            await plane.edit(key, shown.id, view.status)

    async def _documents(self, task: Task, waits: Sequence[str]) -> Documents:
        """Read what the view shows and the state only names."""
        section = None
        if task.attempt is not None:
            section = await brief.section_of(self._log, task.id, task.attempt.offered_in, self._public_url)
        result = await self._document(task, task.result, "result")
        return Documents(
            section=section,
            plan=await self._document(task, task.plan, "plan"),
            result=result,
            texts=await self._texts(task, result) if result is not None else {},
            before=await self._before(task),
            receipts=await self._issues.receipts(task.id, RECEIPTS_READ),
            waits=waits,
        )

    async def _texts(self, task: Task, result: dict[str, Any]) -> Mapping[str, str]:
        documented = self._plane is not None and self._plane.capabilities.documents
        return await inline_texts(self._artifacts, result) if task.ended or documented else {}

    async def _document(self, task: Task, submission: Submission | None, field: str) -> dict[str, Any] | None:
        if submission is None:
            return None
        return dict((await self._read(task.id, submission.submitted_in))[field])

    async def _before(self, task: Task) -> dict[str, Any] | None:
        submission = task.under_review
        if submission is None or not submission.replaces:
            return None
        field = "plan" if task.phase == "plan_review" else "result"
        return dict((await self._read(task.id, submission.replaces))[field])

    async def _read(self, task_id: str, version: int) -> Any:
        (event,) = await self._log.read_stream(task_id, after=version - 1, limit=1)
        return event.data
