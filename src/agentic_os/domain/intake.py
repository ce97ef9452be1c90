"""How a task comes in, and how people steer it."""

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.policy import Obligations, Verdict, continued
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.shadow import differed
from agentic_os.domain.task import Task

_REDRIVABLE = ("retry_wait", "dead_letter", "input_required")


def create(command: c.CreateTask, task: Task | None) -> list[e.Event]:
    """Open the stream."""
    if task is not None:
        return []
    declared: list[e.Event] = []
    if command.output_schema is not None:
        declared.append(e.OutputDeclared(output_schema=command.output_schema))
    if command.not_before is not None:
        declared.append(e.StartDeferred(not_before=command.not_before))
    if command.input is not None:
        declared.append(e.InputGiven(input=command.input))
    if (parent := command.parent) is not None:
        declared.append(
            e.ParentDeclared(
                parent=parent.id, ref=parent.ref, depth=parent.depth, obligations=parent.obligations
            )
        )
    return [
        e.TaskCreated(
            task_id=command.task_id,
            title=command.title,
            goal=command.goal,
            project=command.project,
            acceptance=command.acceptance,
            mode=command.mode,
            risk=command.risk,
            paths=command.paths,
            tools=command.tools,
            labels=command.labels,
            assignee=command.assignee,
            depends_on=command.depends_on,
            budget=command.budget,
            priority=command.priority,
            due=command.due,
            origin=command.origin,
            requester=command.requester,
            at=command.at,
        ),
        *declared,
    ]


def admit(command: c.AdmitTask, task: Task) -> list[e.Event]:
    """Apply the verdict on a received task, once; a child keeps what was asked for when it was proposed."""
    if task.phase != "received":
        return []
    verdict = command.verdict
    if verdict.decision == "deny":
        return [
            *differed(verdict),
            e.TaskDenied(
                bundle=verdict.bundle,
                rules=verdict.rules,
                reasons=verdict.reasons,
                facts=verdict.facts,
                facts_digest=command.facts_digest,
            ),
        ]
    obligations = _asked(task, verdict)
    allowed = e.TaskAllowed(
        bundle=verdict.bundle,
        rules=verdict.rules,
        reasons=verdict.reasons,
        obligations=obligations,
        facts=verdict.facts,
        facts_digest=command.facts_digest,
    )
    escalates = verdict.on_due == "escalate" and task.due is not None
    shadowed = differed(verdict, lambda said: _asked(task, said))
    return [*shadowed, allowed, *([e.DueEscalates(rules=verdict.rules)] if escalates else ())]


def _asked(task: Task, verdict: Verdict) -> Obligations:
    """Join what was asked for when a child was proposed with what is asked for now."""
    return continued(task.parent.obligations, verdict.obligations) if task.parent else verdict.obligations


def require_input(command: c.RequireInput, task: Task) -> list[e.Event]:
    """Hand a task that cannot be dispatched to a person."""
    if task.phase != "ready":
        return []
    return [e.InputRequired(reason=command.reason)]


def cancel(command: c.Cancel, task: Task) -> list[e.Event]:
    """Call the task off; the attempt loses its right to write first."""
    if task.phase == "cancelled":
        return []
    refuse_ended(task)
    ended = e.TaskCancelled(reason=command.reason, by=command.by)
    return [*supersede(task, "the task was cancelled"), ended]


def retry(command: c.Retry, task: Task) -> list[e.Event]:
    """Send a stuck task on."""
    if task.phase == "ready":
        return []
    if task.phase not in _REDRIVABLE:
        raise Rejected(
            "wrong_phase",
            f"The task is {task.phase}; only {', '.join(_REDRIVABLE)} can be retried.",
            next_step="Wait, or use /cancel to stop it.",
        )
    return [e.RetryReleased(reason=command.reason, fresh=command.fresh)]


def reassign(command: c.Reassign, task: Task) -> list[e.Event]:
    """Give the task to somebody else; an open attempt is fenced off."""
    refuse_ended(task)
    superseded = [] if task.under_review else supersede(task, "the task was reassigned")
    stuck = task.phase in _REDRIVABLE or bool(task.excluded) or task.least_tier is not None
    if not superseded and command.assignee == task.assignee and not stuck:
        return []
    return [*superseded, e.TaskReassigned(assignee=command.assignee, reason=command.reason)]


def fence_off(command: c.FenceOff, task: Task) -> list[e.Event]:
    """Take the open attempt from its executor; the task goes to another, or to a person where it was for this one."""
    if task.attempt is None or task.attempt.executor != command.executor:
        return []
    superseded = supersede(task, command.reason)
    if not superseded or task.phase in ("plan_review", "result_review"):
        return superseded  # the phase of what is under review is not its reviewer's
    if task.assignee == command.executor:
        return [
            *superseded,
            e.InputRequired(reason=f"{command.reason} The task was for it alone: /reassign."),
        ]
    return [*superseded, e.RetryReleased(reason=command.reason, fresh=False)]


def take_back(command: c.TakeBack, task: Task) -> list[e.Event]:
    """Take an attempt back that was offered and not acknowledged; the task waits on, and no retry is counted."""
    attempt = task.attempt
    if attempt is None or (attempt.number, attempt.executor) != (command.attempt, command.executor):
        return []
    if attempt.state != "offered":
        return []  # it was acknowledged, or is over: that is no longer the one to take back
    superseded = supersede(task, command.reason)
    if attempt.step == "review":
        return superseded
    return [*superseded, e.RetryReleased(reason=command.reason, fresh=False)]


def hold(command: c.PutOnHold, task: Task) -> list[e.Event]:
    """Let no further attempt be opened; one that is under way is told at its next callback."""
    refuse_ended(task)
    if any(h.by == command.by for h in task.holds):
        return []
    return [e.TaskHeld(reason=command.reason, by=command.by, cause="operator")]


def unhold(command: c.ReleaseHold, task: Task) -> list[e.Event]:
    """Release every hold."""
    if not task.holds:
        return []
    refuse_ended(task)
    return [e.HoldReleased(reason=command.reason, by=command.by)]


def reprioritise(command: c.Reprioritise, task: Task) -> list[e.Event]:
    """Say anew how soon the task should get what it waits for."""
    refuse_ended(task)
    if command.priority == task.priority:
        return []
    return [e.TaskReprioritised(priority=command.priority, by=command.by, reason=command.reason)]


def tighten_mode(command: c.TightenMode, task: Task) -> list[e.Event]:
    """Have a plan approved first; an attempt that nobody took yet is called back, and its work is planned."""
    refuse_ended(task)
    if task.mode == "plan_first":
        return []
    if task.phase == "received":
        raise Rejected(
            "wrong_phase",
            "Policy has not let the task in yet.",
            next_step="/mode plan_first",
        )
    if task.under_review is not None:
        raise Rejected(
            "wrong_phase",
            f"Its result {task.under_review.version} is under review already, so there is nothing to plan.",
            next_step="Use /rework or /reject.",
        )
    attempt = task.attempt
    if attempt is not None and attempt.is_open and attempt.state != "offered":
        raise Rejected(
            "wrong_phase",
            f"Attempt {attempt.number} by {attempt.executor} executes already.",
            next_step=f"To stop it and have a plan first, write /hold, /reassign @{attempt.executor}, "
            "/mode plan_first and /unhold, each in a comment.",
        )
    superseded = supersede(task, "a plan is wanted first")
    return [*superseded, e.ModeTightened(by=command.by, reason=command.reason)]


def take_note(command: c.TakeNote, task: Task) -> list[e.Event]:
    """Keep a remark; it decides nothing."""
    if any(note.id == command.note_id for note in task.notes):
        return []
    refuse_ended(task)
    return [e.NoteTaken(note_id=command.note_id, by=command.by, text=command.text)]


def supersede(task: Task, reason: str) -> list[e.Event]:
    """Fence off the attempt that is under way, if there is one."""
    if task.attempt is None or not task.attempt.is_open:
        return []
    return [e.AttemptSuperseded(attempt=task.attempt.number, reason=reason)]


def refuse_ended(task: Task) -> None:
    """Refuse what only a live task can be put to."""
    if task.ended:
        raise Rejected(
            "wrong_phase",
            f"The task is already {task.phase}.",
            next_step="Create a new task if there is more to do.",
        )
