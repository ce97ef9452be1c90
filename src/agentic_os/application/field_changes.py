"""What others change on an issue: taken over where it is theirs, carried out where it is meant, else put back."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

from agentic_os.application import brief
from agentic_os.application.directives import outcome_of
from agentic_os.application.handle import handle
from agentic_os.application.ports import (
    DirectiveReceipt,
    Envelope,
    EventLog,
    IssueBook,
    Principal,
    Registry,
    WorkQueue,
)
from agentic_os.clock import now
from agentic_os.control_plane import ControlPlane, FieldChanged, IssueDeleted
from agentic_os.domain import commands as c
from agentic_os.domain.documents import OurField, TheirField
from agentic_os.domain.task import Task

Execute: TypeAlias = Callable[[str, str, FieldChanged], Awaitable[Sequence[DirectiveReceipt]]]
"""Carry out, on a task, the directive that somebody's change stands for."""

_THEIRS: Final[dict[str, TheirField]] = {"title": "title", "labels": "labels", "priority": "priority"}


class FieldChanges:
    """Acts on changed fields and deleted issues; each ends with an outcome and a reason."""

    def __init__(
        self,
        *,
        log: EventLog,
        registry: Registry,
        issues: IssueBook,
        work: WorkQueue,
        control_plane: ControlPlane,
        committed: Callable[[Task], None],
        public_url: str,
        execute: Execute,
    ) -> None:
        self._log = log
        self._registry = registry
        self._issues = issues
        self._work = work
        self._plane = control_plane
        self._committed = committed
        self._public_url = public_url
        self._execute = execute

    async def changed(self, seen: FieldChanged) -> tuple[str, str]:
        """Take over what is theirs, carry out what a permitted person meant, and have the rest put back."""
        task_id = await self._issues.task_of(self._plane.name, seen.key)
        if task_id is None:
            return "ignored", "the issue shows no task"
        if await self._issues.overtaken(self._plane.name, seen.key, seen.field, seen.at):
            await self._work.mark([task_id])
            return "ignored", f"a later change of the {seen.field} is known"
        principal = await self._registry.by_account(self._plane.name, seen.author)
        task = (await self._log.load(task_id)).task
        if task is None:
            return "ignored", "the issue shows no task"
        match seen.field:
            case "title" | "labels" | "priority":
                return await self._adopted(task, _THEIRS[seen.field], seen.value, seen, principal)
            case "body":
                return await self._body(task, seen, principal)
            case "assignee":
                return await self._assigned(task, seen, principal)
            case "closed" if seen.value and not task.ended and may_steer(principal):
                return await self._meant(task, f"/cancel it was closed as {seen.value}", "closed", seen)
            case "closed":
                return await self._drifted(task, "closed", seen.value, seen, principal)
            case "state" | "document":
                return await self._drifted(task, seen.field, seen.value, seen, principal)
            case _:
                return "ignored", f"nothing is known of the field {seen.field}"

    async def _adopted(
        self, task: Task, field: TheirField, value: str, seen: FieldChanged, principal: Principal | None
    ) -> tuple[str, str]:
        """Take over what people may change, with the editor as author."""
        command = c.AdoptField(
            field=field, value=value, permitted=may_steer(principal), at=min(seen.at, now())
        )
        handled = await handle(self._log, task.id, lambda _: command, self._of(seen, principal))
        if not handled.events:
            return "ignored", f"the {field} is that already, or the task has ended"
        self._committed(handled.task)
        (event,) = handled.events[-1:]
        if event.type == "field.adopted":
            return "done", f"adopted: {field}"
        return "ignored", getattr(event, "reason", "")

    async def _body(self, task: Task, seen: FieldChanged, principal: Principal | None) -> tuple[str, str]:
        """Take over the text around the brief, and have a brief that somebody changed put back."""
        drifted = await self._brief_drifted(task, seen)
        if drifted:
            await self._drifted(task, "brief", drifted, seen, principal)
        text = brief.free_text(seen.value)
        if text is None:
            return "done", "the brief is put back; the text around it cannot be told from it"
        outcome, reason = await self._adopted(task, "goal", text, seen, principal)
        return ("done", f"the brief is put back; {reason}") if drifted else (outcome, reason)

    async def _brief_drifted(self, task: Task, seen: FieldChanged) -> str:
        """Say what became of the brief in the body; "" when it is one that we wrote, if only for an earlier attempt."""
        offered = {a.number: a.offered_in for a in (*task.past, *([task.attempt] if task.attempt else ()))}
        section = brief.last_section(seen.value)
        if section is None:
            offer = offered.get(1)
            if not offer:
                return ""
            (event,) = await self._log.read_stream(task.id, after=offer - 1, limit=1)
            return "taken away" if event.at < seen.at else ""
        number = brief.attempt_of(section)
        offer = offered.get(number)
        if number in offered and not offer:  # where it was opened was not kept in the history then
            return ""
        if offer and section == await brief.section_of(self._log, task.id, offer, self._public_url):
            return ""
        return "changed"

    async def _assigned(self, task: Task, seen: FieldChanged, principal: Principal | None) -> tuple[str, str]:
        """Carry out as /reassign what a permitted person did; have the rest put back."""
        assignee = await self._registry.by_account(self._plane.name, seen.value) if seen.value else None
        attempt = task.attempt
        holder = attempt.executor if attempt is not None and attempt.is_open else None
        if (assignee.name if assignee else None) == holder and (assignee or not seen.value):
            await self._work.mark([task.id])
            return "ignored", "the assignee is the right one"
        if assignee is not None and assignee.kind == "executor" and may_steer(principal) and not task.ended:
            return await self._meant(task, f"/reassign @{assignee.name}", "assignee", seen)
        return await self._drifted(task, "assignee", seen.value, seen, principal)

    async def _meant(self, task: Task, line: str, field: OurField, seen: FieldChanged) -> tuple[str, str]:
        """Carry out the directive that a person's change stands for; where it is refused, have the change put back."""
        receipts = await self._execute(task.id, line, seen)
        outcome, reason = outcome_of(receipts)
        if outcome != "done":
            principal = await self._registry.by_account(self._plane.name, seen.author)
            await self._drifted(task, field, seen.value, seen, principal)
        return outcome, reason

    async def _drifted(
        self,
        task: Task,
        field: OurField,
        value: str,
        seen: FieldChanged | IssueDeleted,
        principal: Principal | None,
    ) -> tuple[str, str]:
        """Put on record who changed what is ours, and have the issue compared again."""
        command = c.SeeDrift(
            field=field, author=self._author(seen, principal), value=value, at=min(seen.at, now())
        )
        handled = await handle(self._log, task.id, lambda _: command, self._of(seen, principal))
        if handled.events:
            self._committed(handled.task)
        await self._work.mark([task.id])
        if not handled.events:
            return "done", "the issue is compared again"
        if any(p.field == field for p in handled.task.pauses):
            return "done", f"the {field} is changed again and again, and not put back for now"
        return "done", f"the {field} is put back"

    async def deleted(self, seen: IssueDeleted) -> tuple[str, str]:
        """Put on record who deleted the issue; the reconciler finds out by itself that it is gone."""
        task_id = await self._issues.task_of(self._plane.name, seen.key)
        task = (await self._log.load(task_id)).task if task_id else None
        if task is None:
            return "ignored", "the issue shows no task"
        principal = await self._registry.by_account(self._plane.name, seen.author)
        return await self._drifted(task, "issue", seen.key, seen, principal)

    def _author(self, seen: FieldChanged | IssueDeleted, principal: Principal | None) -> str:
        return principal.name if principal is not None else f"{self._plane.name}:{seen.author}"

    def _of(self, seen: FieldChanged | IssueDeleted, principal: Principal | None) -> Envelope:
        what = f"changed the {seen.field}" if isinstance(seen, FieldChanged) else "deleted the issue"
        return Envelope(
            actor=self._author(seen, principal),
            at=now(),
            reason=f"{what} on {self._plane.name}",
            cause=seen.delivery,
            meta={"control_plane": self._plane.name},
        )


def may_steer(principal: Principal | None) -> bool:
    """Tell whether somebody's changes of an issue count: a person who is operator or administrator."""
    return (
        principal is not None
        and not principal.revoked
        and principal.kind == "person"
        and bool({"operator", "admin"} & set(principal.roles))
    )
