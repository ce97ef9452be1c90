"""Operators' directives: a line of a comment becomes a command, or a refusal that says what to write instead."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from uuid import NAMESPACE_OID, uuid5

from agentic_os.application import translate
from agentic_os.application.handle import handle
from agentic_os.application.ports import (
    DirectiveReceipt,
    Envelope,
    EventLog,
    IssueBook,
    Principal,
    Receipt,
    Registry,
)
from agentic_os.application.verdicts import of_directive, put_on_record, ruled
from agentic_os.clock import new_id, now
from agentic_os.domain import commands as c
from agentic_os.domain.directive import DECIDING, VERBS, Directive, parse
from agentic_os.domain.documents import Participant
from agentic_os.domain.escalations import answer_line
from agentic_os.domain.policy import DecisionPoint, Verdict
from agentic_os.domain.quarantine import found
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.reviews import approval_line
from agentic_os.domain.task import Task
from agentic_os.domain.waiting import waiting_for

_ROLE: Final = {
    "approve": "reviewer",
    "revise": "reviewer",
    "reject": "reviewer",
    "accept": "reviewer",
    "rework": "reviewer",
    "cancel": "operator",
    "retry": "operator",
    "reassign": "operator",
    "answer": "operator",
    "hold": "operator",
    "unhold": "operator",
    "adopt": "operator",
    "default": "operator",
    "status": "viewer",
    "help": "viewer",
}
_MEANING: Final = {
    "approve": "approve exactly this version of the plan",
    "revise": "send the plan back; each list item must be answered",
    "reject": "refuse the plan or result, and end the task",
    "accept": "accept exactly this version of the result",
    "rework": "send the result back; each list item must be answered",
    "cancel": "call the task off",
    "retry": "send a stuck task on; `/retry fresh` forgets its counts",
    "reassign": "give the task to another executor (@name) or role (role:name)",
    "answer": "answer an executor's question, with one of its options or in words",
    "hold": "let no further attempt be opened",
    "unhold": "release every hold",
    "default": "`/default off`: let no deadline decide this review",
    "adopt": "take in a late plan or result that is kept aside",
    "status": "say what the task waits for",
    "help": "list what you may do now",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a directive was written. seen_at: when its author wrote it, by the tracker's clock."""

    seen_at: datetime
    cause: str
    control_plane: str | None = None
    comment_id: str | None = None

    def receipt(self, principal: str, line: str) -> Receipt | None:
        """Make a directive of a tracker repeatable: whoever reads it again, after a crash, finds that it was done."""
        if self.control_plane is None:
            return None
        digest = hashlib.sha256(line.encode()).digest()
        key = f"{self.control_plane}:{self.cause}:{digest.hex()[:16]}"
        return Receipt(principal=principal, route="directive", key=key, fingerprint=digest)


class Directives:
    """Carries out what people write."""

    def __init__(
        self,
        *,
        log: EventLog,
        registry: Registry,
        issues: IssueBook,
        committed: Callable[[Task], None],
        policy: Callable[[], DecisionPoint],
    ) -> None:
        self._policy = policy
        self._log = log
        self._registry = registry
        self._issues = issues
        self._committed = committed

    async def execute(
        self, task_id: str, text: str, principal: Principal | None, source: Source
    ) -> Sequence[DirectiveReceipt]:
        """Carry out the directives of a text, and store a receipt for each; none found, none given."""
        directives = parse(text)
        deciding = [d for d in directives if d.verb in DECIDING]
        receipts = []
        for directive in directives:
            try:
                if len(deciding) > 1:
                    raise _refused(
                        "one_directive",
                        f"This text holds {len(deciding)} deciding directives, so none was carried out.",
                        "Write one directive in a comment.",
                    )
                message = await self._carry_out(task_id, directive, principal, source)
                receipt = replace(_receipt(task_id, directive, principal, source), message=message)
            except Rejected as refusal:
                if refusal.denial is not None:
                    await self._record_denial(task_id, directive, principal, refusal.denial)
                receipt = _refusal(_receipt(task_id, directive, principal, source), refusal)
            await self._issues.receipt(receipt)
            receipts.append(receipt)
        return receipts

    async def _carry_out(
        self, task_id: str, directive: Directive, principal: Principal | None, source: Source
    ) -> str:
        if principal is None:
            raise Rejected(
                "not_permitted",
                "This account is not known here.",
                next_step="Ask an administrator to link your account to a principal.",
            )
        if directive.verb not in VERBS:
            raise _refused("unknown_directive", f"There is no directive /{directive.verb}.", "/help")
        participant = await self._registry.participant(principal.name)
        if directive.verb not in ("approve", "accept", "reject", "revise", "rework"):
            task = await self._task(task_id) if directive.verb == "answer" else None
            _require_role(participant, directive.verb, task)
        if directive.verb == "help":
            return available(await self._task(task_id), participant)
        if directive.verb == "status":
            return status_line(await self._task(task_id))
        once = source.receipt(principal.name, directive.line)
        if once is not None and (done := (await self._log.load(task_id, once)).answer) is not None:
            return done
        task = await self._task(task_id)
        ruling = of_directive(task, directive.verb, participant, self._policy())
        _require_allowed(ruling, directive.verb)
        command = await self._command(task_id, directive, participant, source)
        envelope = Envelope(
            actor=principal.name,
            at=now(),
            reason=directive.line,
            cause=source.cause,
            meta={"control_plane": source.control_plane, "comment": source.comment_id}
            if source.control_plane
            else {},
        )
        handled = await handle(
            self._log,
            task_id,
            lambda _: command,
            envelope,
            ruling=ruling,
            receipt=once,
            answer=lambda after, _: status_line(after),
        )
        self._committed(handled.task)
        return status_line(handled.task)

    async def _record_denial(
        self, task_id: str, directive: Directive, principal: Principal | None, denial: Verdict
    ) -> None:
        actor = principal.name if principal else "unknown"
        envelope = Envelope(actor=actor, at=now(), reason=directive.line)
        await put_on_record(self._log, task_id, denial, envelope)

    async def _task(self, task_id: str) -> Task:
        task = (await self._log.load(task_id)).task
        if task is None:
            raise Rejected("unknown_task", "There is no such task.")
        return task

    async def _command(
        self, task_id: str, directive: Directive, voter: Participant, source: Source
    ) -> c.Command:
        match directive.verb:
            case "cancel":
                return c.Cancel(by=voter.id, reason=directive.text, at=now())
            case "retry":
                fresh = directive.text.split()[:1] == ["fresh"]
                return c.Retry(by=voter.id, reason=directive.text, fresh=fresh)
            case "reassign":
                assignee = await self._assignee(directive.text)
                return c.Reassign(assignee=assignee, reason=directive.line, at=now())
            case "hold":
                return c.PutOnHold(by=voter.id, reason=directive.text)
            case "unhold":
                return c.ReleaseHold(by=voter.id, reason=directive.text)
            case "answer":
                question_id, words = _first_word(directive.text)
                return c.Answer(by=voter.id, question_id=question_id, text=words, roles=voter.roles)
            case "default":
                if directive.text.split() != ["off"]:
                    raise _refused("unknown_directive", "A default can only be switched off.", "/default off")
                return c.SwitchOffDefault(by=voter.id, reason=directive.line)
            case "adopt":
                return await self._adopt(await self._task(task_id), directive, voter, source)
            case _:
                return self._vote(await self._task(task_id), directive, voter, source)

    async def _adopt(self, task: Task, directive: Directive, voter: Participant, source: Source) -> c.Command:
        wanted, reason = _first_word(directive.text)
        kept = found(task, wanted)
        if not reason:
            raise _refused(
                "reason_required", "Say why it is taken in after all.", f"/adopt {kept.id} because ..."
            )
        (event,) = await self._log.read_stream(task.id, after=kept.kept_in - 1, limit=1)
        executors = {a.number: a.executor for a in (*task.past, *([task.attempt] if task.attempt else ()))}
        late = translate.late_submission(
            kept.kind,
            event.data["body"],
            executor=executors[kept.attempt],
            attempt=kept.attempt,
            callback_id=str(event.data["callback_id"]),
            at=source.seen_at,
            output_schema=task.output_schema,
        )
        executor = await self._registry.executor(late.executor)
        judged = ruled(late, task, executor, self._policy())
        assert isinstance(judged, c.SubmitPlan | c.SubmitResult)
        return c.Adopt(quarantine_id=kept.id, by=voter.id, reason=reason, late=judged)

    def _vote(self, task: Task, directive: Directive, voter: Participant, source: Source) -> c.CastVote:
        subject = {"approve": "plan", "revise": "plan", "accept": "result", "rework": "result"}.get(
            directive.verb, directive.subject or ("result" if task.phase == "result_review" else "plan")
        )
        if directive.subject is not None and directive.subject != subject:
            raise _refused(
                "wrong_target", f"/{directive.verb} takes a {subject}.", _right_line(task, subject)
            )
        vote = {"accept": "approve", "rework": "revise"}.get(directive.verb, directive.verb)
        items = directive.items
        return c.CastVote(
            subject="plan" if subject == "plan" else "result",
            voter=voter,
            vote="approve" if vote == "approve" else "revise" if vote == "revise" else "reject",
            words=directive.line,
            version=directive.version,
            digest=directive.digest,
            seen_at=source.seen_at,
            items=items,
            item_ids=tuple(str(new_id()) for _ in items),
            bundle=task.ruling.bundle if task.ruling else "",
        )

    async def _assignee(self, text: str) -> str:
        words = text.split()
        wanted = words[0].removeprefix("@") if words else ""
        if wanted.startswith("role:"):
            return wanted
        principal = await self._registry.by_name(wanted) if wanted else None
        if principal is None or principal.kind != "executor" or principal.revoked:
            raise _refused(
                "unknown_executor", f"There is no executor {wanted!r}.", "/reassign @NAME or role:ROLE"
            )
        return principal.name


def _receipt(
    task_id: str, directive: Directive, principal: Principal | None, source: Source
) -> DirectiveReceipt:
    return DirectiveReceipt(
        id=_receipt_id(directive, source),
        task_id=task_id,
        verb=directive.verb,
        text=directive.line,
        outcome="done",
        message="",
        at=now(),
        principal=principal.name if principal else None,
        control_plane=source.control_plane,
        comment_id=source.comment_id,
    )


def _receipt_id(directive: Directive, source: Source) -> str:
    """Name the receipt by what it is for, so that a comment that is read again after a crash leaves no second one."""
    if source.control_plane is None:
        return str(new_id())
    return str(uuid5(NAMESPACE_OID, f"{source.control_plane}:{source.cause}:{directive.line}"))


def _refusal(receipt: DirectiveReceipt, refusal: Rejected) -> DirectiveReceipt:
    paste = refusal.next if refusal.next.startswith("/") else None
    message = refusal.message if paste else f"{refusal.message} {refusal.next}".strip()
    return replace(receipt, outcome="refused", message=message, rule=refusal.rule, paste=paste)


def available(task: Task, participant: Participant) -> str:
    """List what this person may do now, one directive a line."""
    open_verbs = {"help", "status"}
    if not task.ended:
        open_verbs |= {"cancel", "reassign", "unhold" if task.holds else "hold"}
        open_verbs |= {"answer"} if task.questions else set()
        open_verbs |= {"adopt"} if any(not q.adopted for q in task.quarantined) else set()
    match task.phase:
        case "plan_review":
            open_verbs |= {"approve", "revise", "reject"} | _defaults(task)
        case "result_review":
            open_verbs |= {"accept", "rework", "reject"} | _defaults(task)
        case "retry_wait" | "dead_letter" | "input_required":
            open_verbs |= {"retry"}
    lines = []
    for verb in (
        v for v in _MEANING if v in open_verbs and not _roles(v, task).isdisjoint(participant.roles)
    ):
        line = _whole_line(task, verb)
        lines.append(f"- `{line or '/' + verb}`: {_MEANING[verb]}")
    return "\n".join(lines)


def _defaults(task: Task) -> set[str]:
    waiting = waiting_for(task)
    return {"default"} if waiting is not None and waiting.default in ("proceed", "escalate") else set()


def _first_word(text: str) -> tuple[str, str]:
    """Split what is named from what is said of it, on the same line or the next."""
    first, *rest = [*text.split(maxsplit=1), ""]
    return first, rest[0].strip() if rest else ""


def _whole_line(task: Task, verb: str) -> str:
    """Give the line to paste where a verb alone would not do."""
    match verb:
        case "approve" | "accept":
            return _right_line(task, "plan" if verb == "approve" else "result")
        case "default":
            return "/default off"
        case "answer":
            return answer_line(task.questions[0])
        case "adopt":
            return f"/adopt {next(q.id for q in task.quarantined if not q.adopted)} because ..."
        case _:
            return ""


def status_line(task: Task) -> str:
    """Say where the task is and what moves it next, in a sentence."""
    waiting = waiting_for(task)
    if waiting is None:
        return f"The task is {task.phase}."
    # A lease moves with every callback: an instant of it in a note would be wrong a moment later.
    leased = task.attempt is not None and task.attempt.is_open and task.attempt.state != "offered"
    deadline = ""
    if waiting.deadline is not None and not leased:
        deadline = f", by {waiting.deadline.astimezone(UTC):%Y-%m-%d %H:%M} UTC, else: {waiting.default}"
    return f"The task is {task.phase}. Next: {waiting.owner}, {waiting.what}{deadline}."


def _right_line(task: Task, subject: str) -> str:
    submission = task.plan if subject == "plan" else task.result
    return approval_line(subject, submission) if submission is not None and submission.state == "open" else ""


def _roles(verb: str, task: Task | None) -> set[str]:
    """List the roles of which one is needed for a directive; who may answer is said with each question."""
    if verb == "default":
        return {_ROLE[verb], "reviewer"}
    if verb == "answer" and task is not None and task.questions:
        return {"admin", *(q.ask for q in task.questions)}
    return {_ROLE[verb]}


def _require_allowed(ruling: c.Ruling | None, verb: str) -> None:
    """Refuse a directive that policy does not let somebody write. Raises Rejected."""
    if ruling is not None and ruling.verdict.decision == "deny":
        verdict = ruling.verdict
        message = "; ".join(verdict.reasons) or f"Policy does not let you write /{verb} here."
        raise Rejected("policy_denied", message, rule=verdict.rules[0], denial=verdict)


def _require_role(participant: Participant, verb: str, task: Task | None) -> None:
    roles = _roles(verb, task)
    if roles.isdisjoint(participant.roles) or participant.kind == "executor":
        needed = " or ".join(sorted(roles - {"admin"}) or ["admin"])
        raise Rejected(
            "not_permitted",
            f"/{verb} needs the role {needed}.",
            next_step=f"Ask somebody with the role {needed}.",
        )


def _refused(rule: str, message: str, next_step: str) -> Rejected:
    return Rejected("not_permitted", message, next_step=next_step, rule=rule)
