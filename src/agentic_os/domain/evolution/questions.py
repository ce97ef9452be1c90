"""What questions and their answers change."""

from dataclasses import replace

from agentic_os.domain import events as e
from agentic_os.domain.evolution.attempts import closed, renewed
from agentic_os.domain.evolution.copying import changed
from agentic_os.domain.task import Answer, Phase, Question, Task


def asked(
    task: Task,
    event: e.EscalationRaised | e.EscalationRouted | e.EscalationAnswered | e.EscalationTimedOut,
) -> Task:
    """Apply what becomes of a question."""
    match event:
        case e.EscalationRaised():
            return _raised(task, event)
        case e.EscalationRouted(question_id=asked, ask=ask):
            routed = tuple(replace(q, ask=ask) if q.id == asked else q for q in task.questions)
            return changed(task, questions=routed)
        case e.EscalationTimedOut(question_id=asked):
            waiting = tuple(replace(q, deadline=None) if q.id == asked else q for q in task.questions)
            return changed(task, questions=waiting)
        case e.EscalationAnswered(question_id=asked):
            answered = tuple(
                Answer(
                    question_id=asked,
                    question=q.text,
                    option=event.option,
                    text=event.text,
                    by=event.by,
                    defaulted=event.defaulted,
                )
                for q in task.questions
                if q.id == asked
            )
            left = tuple(q for q in task.questions if q.id != asked)
            stopped = any(q.blocking for q in task.questions if q.id == asked)
            held_up = task.phase == "input_required" and stopped and not any(q.blocking for q in left)
            phase: Phase = "ready" if held_up else task.phase
            return changed(
                task,
                questions=left,
                answers=(*task.answers, *answered),
                phase=phase,
                waits="" if held_up else task.waits,
                stalled=None,
            )


def _raised(task: Task, event: e.EscalationRaised) -> Task:
    question = Question(
        id=event.question_id,
        text=event.question,
        options=event.options,
        default_option=event.default_option,
        blocking=event.blocking,
        executor=task.attempt.executor if task.attempt else "",
        deadline=event.answer_deadline,
    )
    asked = changed(task, questions=(*task.questions, question), asked=task.asked + 1)
    if not event.blocking:
        return renewed(asked, event)
    stopped = closed(asked, "submitted", event.seq, event.callback_id)
    return changed(stopped, phase="input_required", waits=event.question)
