"""People edit the plan that is under review: over the API, or on the tracker, with a receipt as directives have."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID, uuid5

from agentic_os.application.breakers import require_few
from agentic_os.application.directives import Directives, Source, status_line
from agentic_os.application.handle import handle
from agentic_os.application.permitted import require_allowed
from agentic_os.application.ports import (
    CredentialRevoked,
    DirectiveReceipt,
    Envelope,
    EventLog,
    IssueBook,
    Loaded,
    Principal,
    Receipt,
    ReceiptMismatch,
    Registry,
)
from agentic_os.application.verdicts import of_directive, put_on_record, ruled
from agentic_os.clock import now
from agentic_os.contracts.callback import check_plan
from agentic_os.contracts.canonical import document_digest
from agentic_os.contracts.edited_plan import editable_text, read_edited, with_answers
from agentic_os.contracts.marked import NotExpressible
from agentic_os.contracts.redaction import redact
from agentic_os.contracts.violation import ContractViolation
from agentic_os.control_plane import PlanEdited
from agentic_os.domain import commands as c
from agentic_os.domain.documents import Participant
from agentic_os.domain.policy import DecisionPoint
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.submissions import editable_plan
from agentic_os.domain.task import Submission, Task

VERB: Final = "edit"
"""What policy is told at the hook `directive`, and what the receipts of edits are named."""

ROUTE: Final = "plan_edit"
_RECEIPTS: Final = UUID("c2b0a6d4-31f9-5c0e-8f0b-6f1f0f6d7a53")
"""The name space of the receipts of edits on trackers: heard again, each is the same one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedPlan:
    """What somebody made of the plan with the digest `replaces`: as marked text, or structured."""

    replaces: str
    marked_text: str | None = None
    plan: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """Where the task is after an edit, in a sentence, and whether the edit had been made before."""

    standing: str
    replayed: bool


class PlanEdits:
    """Takes in the plans that people edited."""

    def __init__(
        self,
        *,
        log: EventLog,
        registry: Registry,
        issues: IssueBook,
        directives: Directives,
        committed: Callable[[Task], None],
        policy: Callable[[], DecisionPoint],
    ) -> None:
        self._log = log
        self._registry = registry
        self._issues = issues
        self._directives = directives
        self._committed = committed
        self._policy = policy

    async def edit(
        self,
        task_id: str,
        wanted: WantedPlan,
        principal: Principal,
        source: Source,
        once: Receipt | None = None,
    ) -> Edited:
        """Make what somebody edited the next version of the plan under review, and say where the task is then.

        once: what it is done under, so that it is done once. Raises Rejected, ContractViolation, ReceiptMismatch.
        """
        loaded = await self._log.load(task_id, once)
        if once is not None and loaded.fingerprint is not None:
            if loaded.fingerprint != once.fingerprint:
                raise ReceiptMismatch
            return Edited(standing=loaded.answer or "", replayed=True)
        task = loaded.task
        if task is None:
            raise Rejected("unknown_task", "There is no such task.")
        by = await self._registry.participant(principal.name)
        try:
            return await self._edited(task, wanted, by, source, once)
        except Rejected as refusal:
            if refusal.denial is not None:
                envelope = Envelope(actor=principal.name, at=now(), reason=_reason(source))
                await put_on_record(self._log, task_id, refusal.denial, envelope)
            raise _placed(refusal, wanted) from refusal

    async def _edited(
        self, task: Task, wanted: WantedPlan, by: Participant, source: Source, once: Receipt | None
    ) -> Edited:
        before = editable_plan(by, wanted.replaces, task)
        ruling = of_directive(task, VERB, by, self._policy())
        require_allowed(ruling, VERB)
        plan, findings = redact(await self._read(task, before, wanted))
        policy = self._policy()
        require_few(plan.get("tasks", ()), policy)
        executor = await self._registry.executor(before.executor)
        at = now()
        sent = c.EditPlan(by=by, replaces=wanted.replaces, plan=plan, digest=document_digest(plan), at=at)

        def command_for(found: Loaded) -> c.Command:
            return ruled(sent, found.task, executor, policy)

        async def still_allowed() -> None:
            if await self._registry.participant(by.id) != by:
                raise Rejected(
                    "not_permitted",
                    "Your rights changed while this was carried out.",
                    next_step="Send it again.",
                    rule="rights_changed",
                )
            require_allowed(of_directive(task, VERB, by, self._policy()), VERB)

        meta: dict[str, Any] = {"control_plane": source.control_plane} if source.control_plane else {}
        if findings:
            meta["redacted"] = {finding.kind: finding.count for finding in findings}
        try:
            handled = await handle(
                self._log,
                task.id,
                command_for,
                Envelope(actor=by.id, at=at, reason=_reason(source), cause=source.cause, meta=meta),
                ruling=ruling,
                receipt=once,
                answer=lambda after, _: status_line(after),
                credential=source.credential,
                before_append=still_allowed,
            )
        except CredentialRevoked as problem:
            raise Rejected(
                "not_permitted",
                "Your token was revoked while this was carried out.",
                next_step="Ask an administrator for another.",
                rule="rights_changed",
            ) from problem
        self._committed(handled.task)
        replayed = handled.appended is not None and handled.appended.replayed
        return Edited(standing=status_line(handled.task), replayed=replayed)

    async def shown(self, task_id: str) -> dict[str, Any] | None:
        """Show the latest plan of a task, with the text to edit while it can be edited; None where there is none."""
        task = (await self._log.load(task_id)).task
        if task is None:
            raise Rejected("unknown_task", "There is no such task.")
        if task.plan is None:
            return None
        document = await self._document(task, task.plan)
        text: str | None = None
        if task.phase == "plan_review":
            with suppress(NotExpressible):
                text = editable_text(document, task_id=task.id, attempt=task.plan.attempt)
        return {
            "version": task.plan.version,
            "digest": task.plan.digest,
            "state": task.plan.state,
            "author": task.plan.author,
            "plan": document,
            "marked_text": text,
        }

    async def _document(self, task: Task, plan: Submission) -> dict[str, Any]:
        (event,) = await self._log.read_stream(task.id, after=plan.submitted_in - 1, limit=1)
        return dict(event.data["plan"])

    async def _read(self, task: Task, before: Submission, wanted: WantedPlan) -> dict[str, Any]:
        """Read what was sent as a plan. Raises ContractViolation."""
        replaced = await self._document(task, before)
        if wanted.marked_text is not None:
            return read_edited(wanted.marked_text, replaced, task_id=task.id, attempt=before.attempt)
        plan = dict(wanted.plan or {})
        check_plan(plan, at="/plan")
        return with_answers(plan, replaced)

    async def on_tracker(self, task_id: str, seen: PlanEdited, control_plane: str) -> DirectiveReceipt:
        """Take in what somebody edited on the tracker, once, and keep a receipt of what became of it."""
        principal = await self._registry.by_account(control_plane, seen.author)
        receipt = DirectiveReceipt(
            id=str(uuid5(_RECEIPTS, f"{control_plane}\n{seen.delivery}")),
            task_id=task_id,
            verb=VERB,
            text=f"edit of the plan {seen.digest.removeprefix('sha256:')[:8]}",
            outcome="received",
            message="",
            at=now(),
            principal=principal.name if principal else None,
            control_plane=control_plane,
        )
        earlier = await self._issues.receipt_of(receipt.id)
        if earlier is not None and earlier.outcome != "received":
            return earlier
        await self._issues.receipt(receipt)
        try:
            message = await self._of_account(task_id, seen, principal, control_plane, receipt.id)
            receipt = replace(receipt, outcome="done", message=message)
        except Rejected as refusal:
            words = f"{refusal.message} {refusal.next}".strip()
            receipt = replace(receipt, outcome="refused", message=words, rule=refusal.rule)
        except ContractViolation as violation:
            words = f"{violation.message}. Correct it, and edit the plan again."
            receipt = replace(receipt, outcome="refused", message=words, rule=violation.code)
        return await self._directives.put_down(receipt)

    async def _of_account(
        self, task_id: str, seen: PlanEdited, principal: Principal | None, control_plane: str, receipt_id: str
    ) -> str:
        if principal is None:
            raise Rejected(
                "not_permitted",
                "This account is not known here.",
                next_step="Ask an administrator to link your account to a principal.",
            )
        fingerprint = hashlib.sha256(f"{seen.digest}\n{seen.text}".encode("utf-8", "replace")).digest()
        edited = await self.edit(
            task_id,
            WantedPlan(replaces=seen.digest, marked_text=seen.text),
            principal,
            Source(seen_at=seen.at, cause=seen.delivery, control_plane=control_plane),
            Receipt(principal=principal.name, route=ROUTE, key=receipt_id, fingerprint=fingerprint),
        )
        return edited.standing


def _reason(source: Source) -> str:
    return f"edited the plan on {source.control_plane}" if source.control_plane else "edited the plan"


def _placed(refusal: Rejected, wanted: WantedPlan) -> Rejected:
    """Point to the place in what was sent; within a text there is none, so it is said in words."""
    inside = [p.removeprefix("/body") for p in refusal.pointers if p.startswith("/body")]
    if not inside:
        return refusal
    message, pointers = refusal.message, tuple(f"/plan{place}" for place in inside)
    if wanted.marked_text is not None:
        pointers = ("/marked_text",)
        if named := ", ".join(place for place in inside if place):
            message = f"{message} It is at {named}."
    return Rejected(
        refusal.code,
        message,
        next_step=refusal.next,
        pointers=pointers,
        rule=refusal.rule,
        denial=refusal.denial,
    )
