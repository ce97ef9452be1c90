"""What policy is asked about a task, and about what becomes of it."""

from dataclasses import replace
from typing import Any, Final

from agentic_os.application.handle import handle
from agentic_os.application.ports import Envelope, EventLog, Principal
from agentic_os.contracts.canonical import digest_of
from agentic_os.domain import commands as c
from agentic_os.domain.documents import RISKS, JsonObject, Participant
from agentic_os.domain.ends import missed
from agentic_os.domain.policy import DecisionPoint, Hook, Verdict
from agentic_os.domain.task import Task

RULED: Final[frozenset[type]] = frozenset({c.SubmitPlan, c.SubmitResult, c.ReportFailure, c.Escalate})
"""Commands of executors that policy is asked about, besides the tasks that they propose."""

_STOPPING: Final = frozenset({"hold", "cancel", "help", "status", "why"})
"""Directives that stop work or only ask: nobody is kept from them by a rule."""


def facts_of(task: Task) -> dict[str, Any]:
    """Give policy's declared input for a task."""
    return {
        "task.project": task.project,
        "task.risk": task.risk,
        "task.mode": task.mode,
        "task.paths": list(task.paths),
        "task.tools": list(task.tools),
        "task.labels": list(task.labels),
        "task.requester": task.requester,
        "task.assignee": task.assignee,
    }


def admission(task: Task, policy: DecisionPoint) -> c.AdmitTask:
    """Ask policy about a received task."""
    facts = facts_of(task)
    return c.AdmitTask(verdict=policy.decide("task.received", facts), facts_digest=digest_of(facts))


def facts_of_executor(executor: Principal | None) -> dict[str, Any]:
    """Give policy's declared input for an executor; of one that is not known, nothing is said."""
    return {
        "executor.name": executor.name if executor else None,
        "executor.roles": list(executor.roles) if executor else [],
        "executor.capabilities": list(executor.capabilities) if executor else [],
        "executor.tier": executor.tier if executor else None,
    }


def ruled(
    command: c.Command, task: Task | None, executor: Principal | None, policy: DecisionPoint
) -> c.Command:
    """Add what policy says of a command, where it is asked about such. executor: whose attempt it is."""
    if task is None or task.attempt is None:
        return command

    def ruling(hook: Hook, number: int, facts: JsonObject) -> c.Ruling:
        asked = {**facts_of(task), **facts_of_executor(executor), **_of_attempt(task, number), **facts}
        return c.Ruling(verdict=policy.decide(hook, asked), facts_digest=digest_of(asked))

    match command:
        case c.SubmitPlan(attempt=number):
            return replace(command, ruling=ruling("plan.submitted", number, _of_plan(command, task)))
        case c.EditPlan() if task.plan is not None:
            number = task.plan.attempt  # whose work the edited plan still is
            return replace(command, ruling=ruling("plan.submitted", number, _of_plan(command, task)))
        case c.SubmitResult(attempt=number):
            return replace(command, ruling=ruling("result.submitted", number, _of_result(command, task)))
        case c.Escalate(attempt=number):
            return replace(command, ruling=ruling("escalation.raised", number, _of_question(command)))
        case c.ReportFailure() | c.FireDeadline() if task.attempt.step == "review":
            return command  # a reviewer that fails is replaced, whatever policy says of executors
        case c.ReportFailure(attempt=number, failure=kind):
            return replace(command, ruling=ruling("attempt.ended", number, _of_end(kind, task)))
        case c.FireDeadline(kind="ack" | "lease"):
            facts = _of_end(missed(task.attempt), task)
            return replace(command, ruling=ruling("attempt.ended", task.attempt.number, facts))
        case _:
            return command


def _of_attempt(task: Task, number: int) -> dict[str, Any]:
    attempts = {a.number: a for a in (*task.past, *([task.attempt] if task.attempt else ()))}
    attempt = attempts.get(number)
    return {
        "executor.name": attempt.executor if attempt else None,
        "attempt.step": attempt.step if attempt else None,
        "attempt.number": number,
    }


def _of_plan(command: c.SubmitPlan | c.EditPlan, task: Task) -> dict[str, Any]:
    plan = command.plan
    steps = plan.get("steps", ())
    risks = [s["risk"] for s in steps if "risk" in s] + [r["level"] for r in plan.get("risks", ())]
    return {
        "plan.version": (task.plan.version if task.plan else 0) + 1,
        "plan.steps": len(steps),
        "plan.risk": max(risks, key=RISKS.index, default=None),
        "plan.paths": sorted({path for s in steps for path in s.get("paths", ())}),
        "plan.tools": sorted({tool for s in steps for tool in s.get("tools", ())}),
        "plan.tasks": len(plan.get("tasks", ())),
    }


def _of_result(command: c.SubmitResult, task: Task) -> dict[str, Any]:
    return {
        "result.version": (task.result.version if task.result else 0) + 1,
        "result.outcome": command.outcome,
        "result.artifacts": len(command.artifacts),
        "result.deviations": len(command.result.get("deviations", ())),
    }


def _of_question(command: c.Escalate) -> dict[str, Any]:
    return {
        "question.blocking": command.blocking,
        "question.options": len(command.options),
        "question.default": command.default_option is not None,
    }


def _of_end(kind: str, task: Task) -> dict[str, Any]:
    return {
        "attempt.class": kind,
        "attempt.count": task.retries.get(kind, 0) + 1,
        "task.cost_microusd": task.spent.cost_microusd,
        "task.tokens": task.spent.input_tokens + task.spent.output_tokens,
    }


def of_directive(task: Task, verb: str, participant: Participant, policy: DecisionPoint) -> c.Ruling | None:
    """Ask policy whether somebody may write a directive here; None for what stops work or only asks."""
    if verb in _STOPPING:
        return None
    asked = {
        **facts_of(task),
        "directive.verb": verb,
        "directive.by": participant.id,
        "directive.roles": sorted(participant.roles),
    }
    return c.Ruling(verdict=policy.decide("directive", asked), facts_digest=digest_of(asked))


async def put_on_record(log: EventLog, task_id: str, denial: Verdict, envelope: Envelope) -> None:
    """Put on record what policy did not let in: of which nothing else is kept."""
    ruling = c.Ruling(verdict=denial, facts_digest=digest_of(denial.facts))
    await handle(log, task_id, lambda _: c.RecordDenial(ruling=ruling), envelope)
