"""Questions of executors: asked, answered by a person, or by the executor's own default where policy lets it."""

from datetime import timedelta

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.attempts import lease, require_budget, started
from agentic_os.domain.documents import RISKS
from agentic_os.domain.intake import refuse_ended
from agentic_os.domain.policy import ASKABLE
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.reviews import PROCEED_CEILING
from agentic_os.domain.task import Question, Task


def escalate(command: c.Escalate, task: Task) -> list[e.Event]:
    """Put a question to a person; a blocking one closes the attempt."""
    attempt = started(command, task)
    if command.blocking and attempt.step == "review":
        raise Rejected(
            "wrong_phase",
            "A reviewer's question does not stop the task.",
            next_step="Vote revise with the question as an item, or ask with blocking false.",
        )
    require_budget(task)
    wait = task.obligations.deadline_seconds
    raised = e.EscalationRaised(
        attempt=attempt.number,
        seq=command.seq,
        callback_id=command.callback_id,
        lease_expires_at=lease(attempt, command.at),
        question_id=f"q{task.asked + 1}",
        question=command.question,
        context=command.context,
        options=command.options,
        default_option=command.default_option,
        blocking=command.blocking,
        answer_deadline=None if wait is None else command.at + timedelta(seconds=wait),
        at=command.at,
    )
    return [raised, *_routed(command.ruling, raised.question_id)]


def _routed(ruling: c.Ruling | None, question_id: str) -> list[e.Event]:
    """Say who is to answer where rules do; a policy that could not be evaluated asks an administrator."""
    if ruling is None:
        return []
    verdict = ruling.verdict
    ask = ASKABLE[-1] if verdict.decision == "deny" else verdict.ask
    if ask is None:
        return []
    return [
        e.EscalationRouted(
            question_id=question_id,
            ask=ask,
            rules=verdict.rules,
        )
    ]


def answer(command: c.Answer, task: Task) -> list[e.Event]:
    """Answer an open question. Raises Rejected for one that is not open, or an option that it does not have."""
    if any((a.question_id, a.text) == (command.question_id, command.text) for a in task.answers):
        return []
    refuse_ended(task)
    question = next((q for q in task.questions if q.id == command.question_id), None)
    if question is None:
        lines = ", ".join(answer_line(q) for q in task.questions) or "none is open"
        raise Rejected(
            "wrong_phase", f"No question {command.question_id} is open: {lines}.", next_step="/status"
        )
    if command.roles.isdisjoint({question.ask, "admin"}):
        raise Rejected(
            "not_permitted",
            f"Policy asks somebody with the role {question.ask} for the answer to {question.id}.",
            next_step=f"Ask somebody with the role {question.ask}.",
        )
    return [
        e.EscalationAnswered(
            question_id=question.id,
            option=_option(question, command.text),
            text=command.text,
            by=command.by,
            defaulted=False,
        )
    ]


def time_out(command: c.FireDeadline, task: Task) -> list[e.Event]:
    """Let the executor's own default stand in where policy permits; else the question waits on, without a deadline."""
    question = next((q for q in task.questions if q.id == command.ref), None)
    if task.ended or question is None or question.deadline is None or command.at < question.deadline:
        return []
    if not may_default(task, question):
        return [e.EscalationTimedOut(question_id=question.id)]
    return [
        e.EscalationAnswered(
            question_id=question.id, option=question.default_option, text="", by="", defaulted=True
        )
    ]


def may_default(task: Task, question: Question) -> bool:
    """Tell whether the executor's default may stand in for an answer: as with reviews, and under the same ceiling."""
    risky = RISKS.index(task.risk) > RISKS.index(PROCEED_CEILING)
    return question.default_option is not None and task.obligations.on_timeout == "proceed" and not risky


def answer_line(question: Question) -> str:
    """Give the line that answers a question."""
    return f"/answer {question.id} {'|'.join(o.id for o in question.options) or 'TEXT'}"


def _option(question: Question, text: str) -> str | None:
    known = {o.id.lower(): o.id for o in question.options} | {o.label.lower(): o.id for o in question.options}
    found = known.get(text.strip().lower())
    if found is None and (question.options or not text.strip()):
        raise Rejected(
            "items_required",
            f"That is no answer to {question.id}: {question.text}",
            next_step=answer_line(question),
        )
    return found
