"""Operators' directives: a line of a comment becomes a command, or a refusal that says what to write instead."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

from agentic_os.application import translate
from agentic_os.application.handle import handle
from agentic_os.application.permitted import (
    PRIORITIES,
    VOTES,
    available,
    require_allowed,
    require_role,
)
from agentic_os.application.ports import (
    CredentialRevoked,
    DirectiveReceipt,
    Envelope,
    EventLog,
    IssueBook,
    Principal,
    Receipt,
    Registry,
)
from agentic_os.application.readable import gate_marker
from agentic_os.application.reasons import Reasons
from agentic_os.application.verdicts import of_directive, put_on_record, ruled
from agentic_os.clock import new_id, now
from agentic_os.domain import commands as c
from agentic_os.domain.directive import ASKING, DECIDING, VERBS, Directive, parse
from agentic_os.domain.documents import Participant
from agentic_os.domain.policy import DecisionPoint, Verdict
from agentic_os.domain.quarantine import found
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.reviews import approval_line
from agentic_os.domain.task import Task
from agentic_os.domain.waiting import waiting_for

ANSWERED: Final = 10
"""How many notes an hour answer one author's directives on one issue: a robot that answers ours must come to rest."""

NOTE_LENGTH: Final = 2000
_RECEIPTS: Final = UUID("5b3d0d6e-6c2f-5c55-9a57-0d2f3c1b7a10")
"""The name space of the receipts of what was written on trackers: read again, it is the same receipt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a directive was written. seen_at: when its author wrote it, by the tracker's clock.

    credential: the hash of the token that it came with, which must still be valid when it is written down.
    """

    seen_at: datetime
    cause: str
    control_plane: str | None = None
    comment_id: str | None = None
    credential: bytes | None = None


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
        reasons: Reasons,
    ) -> None:
        self._policy = policy
        self._reasons = reasons
        self._log = log
        self._registry = registry
        self._issues = issues
        self._committed = committed

    async def execute(
        self, task_id: str, text: str, principal: Principal | None, source: Source
    ) -> Sequence[DirectiveReceipt]:
        """Carry out the directives of a text, each with a receipt; none found, none given.

        What was written on a tracker and has its receipt already is not carried out again.
        """
        directives = parse(text)
        deciding = [d for d in directives if d.verb in DECIDING]
        receipts = []
        for place, directive in enumerate(directives):
            receipt = _receipt(task_id, directive, principal, source, place)
            earlier = await self._issues.receipt_of(receipt.id) if source.control_plane else None
            if earlier is not None and earlier.outcome != "received":
                receipts.append(earlier)
                continue
            await self._issues.receipt(receipt)
            try:
                _require_one(deciding)
                message = await self._carry_out(receipt, directive, principal, source)
                receipt = replace(receipt, outcome="done", message=message)
            except Rejected as refusal:
                if refusal.denial is not None:
                    await self._record_denial(task_id, directive, principal, refusal.denial)
                receipt = _refusal(receipt, refusal)
            receipts.append(await self.put_down(receipt))
        return receipts

    async def put_down(self, receipt: DirectiveReceipt) -> DirectiveReceipt:
        """Store what became of a directive; from a certain number an hour on, no note answers its author."""
        answered = receipt.outcome == "refused" or receipt.verb in ASKING
        if answered and receipt.control_plane is not None:
            since = receipt.at - timedelta(hours=1)
            told = await self._issues.answered(receipt.task_id, receipt.principal, since)
            receipt = replace(receipt, quiet=told >= ANSWERED)
        await self._issues.receipt(receipt)
        return receipt

    async def _carry_out(
        self, receipt: DirectiveReceipt, directive: Directive, principal: Principal | None, source: Source
    ) -> str:
        task_id = receipt.task_id
        if principal is None:
            raise Rejected(
                "not_permitted",
                "This account is not known here.",
                next_step="Ask an administrator to link your account to a principal.",
            )
        if directive.verb not in VERBS:
            raise _refused("unknown_directive", f"There is no directive /{directive.verb}.", "/help")
        participant = await self._registry.participant(principal.name)
        once = _once(receipt, principal) if source.control_plane else None
        if once is not None and (done := (await self._log.load(task_id, once)).answer) is not None:
            return done
        task = await self._task(task_id)
        if directive.verb not in VOTES:
            require_role(participant, directive.verb, task)
        if directive.verb in ASKING:
            return await self._asked(directive.verb, task, participant)
        ruling = of_directive(task, directive.verb, participant, self._policy())
        require_allowed(ruling, directive.verb)
        command = await self._command(task, directive, participant, source, receipt.id)

        async def still_allowed() -> None:
            if await self._registry.participant(principal.name) != participant:
                raise _refused(
                    "rights_changed", "Your rights changed while this was carried out.", directive.line
                )
            require_allowed(of_directive(task, directive.verb, participant, self._policy()), directive.verb)

        envelope = Envelope(
            actor=principal.name,
            at=now(),
            reason=directive.line,
            cause=source.cause,
            meta={"control_plane": source.control_plane, "comment": source.comment_id}
            if source.control_plane
            else {},
        )
        try:
            handled = await handle(
                self._log,
                task_id,
                lambda _: command,
                envelope,
                ruling=ruling,
                receipt=once,
                answer=lambda after, _: status_line(after),
                credential=source.credential,
                before_append=still_allowed,
            )
        except CredentialRevoked as problem:
            raise _refused(
                "rights_changed",
                "Your token was revoked while this was carried out.",
                "Ask an administrator for another.",
            ) from problem
        self._committed(handled.task)
        unchanged = "" if handled.events else "That changed nothing: it was so already. "
        return unchanged + status_line(handled.task)

    async def _asked(self, verb: str, task: Task, participant: Participant) -> str:
        if verb == "help":
            return available(task, participant, self._policy())
        if verb == "why":
            return await self._reasons.of(task, status_line(task))
        return status_line(task) + await self._reasons.waits(task)

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
        self, task: Task, directive: Directive, voter: Participant, source: Source, receipt_id: str
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
            case "adopt":
                return await self._adopt(task, directive, voter, source)
            case "default" | "priority" | "mode" | "note":
                return _word(directive, voter.id, receipt_id)
            case _:
                return await self._vote(task, directive, voter, source)

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

    async def _vote(self, task: Task, directive: Directive, voter: Participant, source: Source) -> c.CastVote:
        subject = {"approve": "plan", "revise": "plan", "accept": "result", "rework": "result"}.get(
            directive.verb, directive.subject or ("result" if task.phase == "result_review" else "plan")
        )
        if directive.subject is not None and directive.subject != subject:
            raise _refused(
                "wrong_target", f"/{directive.verb} takes a {subject}.", _right_line(task, subject)
            )
        items = directive.items
        vote = VOTES[directive.verb]
        if vote == "approve" and directive.digest is None:
            await self._require_shown(task, source)
        return c.CastVote(
            subject="plan" if subject == "plan" else "result",
            voter=voter,
            vote=vote,
            words=directive.line,
            version=directive.version,
            digest=directive.digest,
            seen_at=source.seen_at,
            items=items,
            item_ids=tuple(str(new_id()) for _ in items),
            bundle=task.ruling.bundle if task.ruling else "",
        )

    async def _require_shown(self, task: Task, source: Source) -> None:
        """Let an approval that names no digest count only for what its author can have read before writing it."""
        submission = task.under_review
        if source.control_plane is None or submission is None:
            return
        shown = await self._issues.shown_at(task.id, gate_marker(submission))
        if shown is None or source.seen_at <= shown:
            subject = "plan" if task.phase == "plan_review" else "result"
            raise Rejected(
                "confirmation_required",
                f"When this was written, version {submission.version} of the {subject} was not on the issue yet.",
                next_step=approval_line(subject, submission),
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


def _require_one(deciding: Sequence[Directive]) -> None:
    if len(deciding) > 1:
        verbs = ", ".join(f"/{d.verb}" for d in deciding)
        raise _refused(
            "one_directive",
            f"This text holds {len(deciding)} deciding directives ({verbs}), so nothing of it was carried out.",
            "Write each in a comment of its own.",
        )


def _word(directive: Directive, by: str, receipt_id: str) -> c.Command:
    """Read a directive whose words are all that it takes. Raises Rejected for words that it does not take."""
    first, _ = _first_word(directive.text)
    match directive.verb:
        case "default":
            if directive.text.split() != ["off"]:
                raise _refused("unknown_directive", "A default can only be switched off.", "/default off")
            return c.SwitchOffDefault(by=by, reason=directive.line)
        case "priority":
            if first not in PRIORITIES:
                known = ", ".join(PRIORITIES)
                raise _refused(
                    "unknown_priority", f"A priority is one of {known}.", f"/priority {PRIORITIES[-1]}"
                )
            (priority,) = (p for p in PRIORITIES if p == first)
            return c.Reprioritise(by=by, priority=priority, reason=directive.line)
        case "mode":
            if first != "plan_first":
                raise _refused(
                    "only_stricter",
                    "The mode of a task only ever gets stricter, from direct to plan_first.",
                    "/mode plan_first",
                )
            return c.TightenMode(by=by, reason=directive.line)
        case _:
            if not 1 <= len(directive.text) <= NOTE_LENGTH:
                raise _refused(
                    "note_length",
                    f"A note has 1 to {NOTE_LENGTH} characters; this one has {len(directive.text)}.",
                    "Write it shorter, or in several notes.",
                )
            return c.TakeNote(note_id=receipt_id, by=by, text=directive.text)


def _receipt(
    task_id: str, directive: Directive, principal: Principal | None, source: Source, place: int
) -> DirectiveReceipt:
    name = f"{source.control_plane}\n{source.cause}\n{place}"
    return DirectiveReceipt(
        id=str(uuid5(_RECEIPTS, name) if source.control_plane else new_id()),
        task_id=task_id,
        verb=directive.verb,
        text=directive.line,
        outcome="received",
        message="",
        at=now(),
        principal=principal.name if principal else None,
        control_plane=source.control_plane,
        comment_id=source.comment_id,
    )


def _once(receipt: DirectiveReceipt, principal: Principal) -> Receipt:
    """Make what was written on a tracker repeatable: whoever reads it again, after a crash, finds that it was done."""
    digest = hashlib.sha256(receipt.text.encode()).digest()
    return Receipt(principal=principal.name, route="directive", key=receipt.id, fingerprint=digest)


def _refusal(receipt: DirectiveReceipt, refusal: Rejected) -> DirectiveReceipt:
    paste = refusal.next if refusal.next.startswith("/") else None
    message = refusal.message if paste else f"{refusal.message} {refusal.next}".strip()
    return replace(receipt, outcome="refused", message=message, rule=refusal.rule, paste=paste)


def _first_word(text: str) -> tuple[str, str]:
    """Split what is named from what is said of it, on the same line or the next."""
    first, *rest = [*text.split(maxsplit=1), ""]
    return first, rest[0].strip() if rest else ""


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


def _refused(rule: str, message: str, next_step: str) -> Rejected:
    return Rejected("not_permitted", message, next_step=next_step, rule=rule)


def outcome_of(receipts: Sequence[DirectiveReceipt]) -> tuple[str, str]:
    """Say what came of a comment's directives, and why."""
    for receipt in receipts:
        if receipt.outcome == "refused":
            return "refused", receipt.rule or receipt.message
    return "done", ", ".join(f"/{r.verb}" for r in receipts)
