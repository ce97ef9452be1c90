"""A task as the API shows it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agentic_os.application.acceptance import budget_left
from agentic_os.application.ports import IssueLink
from agentic_os.application.waits import describe_waits
from agentic_os.domain.drift import repaired
from agentic_os.domain.evidence import effective
from agentic_os.domain.family import Child
from agentic_os.domain.spending import wall_deadline
from agentic_os.domain.task import Submission, Task
from agentic_os.domain.waiting import WaitingFor, waiting_for


def task_view(task: Task, *, link: IssueLink | None, waits: Sequence[str], updated_at: Any) -> dict[str, Any]:
    """Draw a task; names and shapes are fixed for those who rely on them."""
    attempt = task.attempt
    return {
        "id": task.id,
        "title": task.title,
        "goal": task.goal,
        "project": task.project,
        "phase": task.phase,
        "mode": task.mode,
        "risk": task.risk,
        "priority": task.priority,
        "labels": list(task.labels),
        "paths": list(task.paths),
        "tools": list(task.tools),
        "acceptance": [{"id": c.id, "text": c.text, "rank": c.rank} for c in task.acceptance],
        "assignee": task.assignee,
        "requester": task.requester,
        "depends_on": list(task.depends_on),
        "due": task.due,
        "overdue": task.overdue and not task.ended,
        "not_before": task.not_before,
        "frozen": None
        if task.frozen is None or task.ended
        else {"until": task.frozen.until, "rule": task.frozen.rule, "reason": task.frozen.reason},
        "output_schema": task.output_schema,
        "input": task.input,
        "parent": None
        if task.parent is None
        else {"id": task.parent.id, "ref": task.parent.ref, "depth": task.parent.depth},
        "children": [_child(child) for child in task.children],
        "refused_children": [
            {"ref": r.ref, "title": r.title, "rules": list(r.rules), "reasons": list(r.reasons)}
            for r in task.refused_children
        ],
        "version": task.version,
        "attempt": None
        if attempt is None
        else {
            "number": attempt.number,
            "executor": attempt.executor,
            "step": attempt.step,
            "state": attempt.state,
            "lease_expires_at": attempt.lease_expires_at,
        },
        "plan": _submission(task.plan),
        "result": _submission(task.result),
        "waiting_for": _waiting(task, waits),
        "holds": [{"reason": h.reason, "by": h.by} for h in task.holds],
        "repairs_paused": [
            {"field": p.field, "by": p.author, "until": p.until}
            for p in task.pauses
            if not repaired(task, p.field)
        ],
        "blocked_by": [w.removeprefix("task:") for w in waits if w.startswith("task:")],
        "verdict": None
        if task.ruling is None
        else {
            "decision": task.ruling.decision,
            "rules": list(task.ruling.rules),
            "reasons": list(task.ruling.reasons),
            "bundle": task.ruling.bundle,
        },
        "questions": [
            {
                "id": q.id,
                "question": q.text,
                "options": [{"id": o.id, "label": o.label} for o in q.options],
                "default_option": q.default_option,
                "blocking": q.blocking,
                "asked_by": q.executor,
                "deadline": q.deadline,
            }
            for q in task.questions
        ],
        "review_items": [{"id": i.id, "text": i.text} for i in task.items],
        "evidence": [
            {"criterion_id": e.criterion_id, "status": e.status, "rank": e.rank, "claimed": e.claimed}
            for e in effective(task).values()
        ],
        "attested": [
            {
                "source": a.source,
                "criterion_id": a.evidence.criterion_id,
                "status": a.evidence.status,
                "subject_digest": a.subject_digest,
                "commit": a.commit,
                "url": a.url,
            }
            for a in task.attested
        ],
        "artifacts": [{"name": name, "version": version} for name, version in task.artifacts.items()],
        "issue": None
        if link is None
        else {"control_plane": link.control_plane, "key": link.key, "url": link.url},
        "budget": {
            "limit": {
                "cost_microusd": task.budget.cost_microusd,
                "tokens": task.budget.tokens,
                "wall_seconds": task.budget.wall_seconds,
                "attempts": task.budget.attempts,
            },
            "spent": {
                "cost_microusd": task.spent.cost_microusd,
                "tokens": task.spent.input_tokens + task.spent.output_tokens,
                "wall_seconds": None if task.budget.wall_seconds is None else task.wall_spent,
            },
            "left": budget_left(task),
            "wall_deadline": wall_deadline(task),
            "exceeded": [
                {"subject": x.subject, "version": x.version, "passed": x.passed} for x in task.exceeded
            ],
        },
        "created_at": task.created_at,
        "updated_at": updated_at,
    }


def _child(child: Child) -> dict[str, Any]:
    return {
        "id": child.id,
        "ref": child.ref,
        "title": child.title,
        "state": child.state,
        "waited": child.waited,
        "reserved": {"cost_microusd": child.reserved.cost_microusd, "tokens": child.reserved.tokens},
        "spent": {"cost_microusd": child.spent.cost_microusd, "tokens": child.spent.tokens},
    }


def _submission(submission: Submission | None) -> dict[str, Any] | None:
    if submission is None:
        return None
    return {
        "version": submission.version,
        "digest": submission.digest,
        "state": submission.state,
        "author": submission.author,
    }


def _waiting(task: Task, waits: Sequence[str]) -> dict[str, Any] | None:
    waiting = waiting_for(task)
    if waiting is None:
        return None
    if not waits or task.kept_back:
        return _waits(waiting)
    timed = any(
        w.startswith("budget:") for w in waits
    )  # a budget awaited before has no say in what is awaited now
    now = replace(waiting, what=describe_waits(waits))
    return _waits(now if timed else replace(now, deadline=None, default=None))


def _waits(waiting: WaitingFor) -> dict[str, Any]:
    return {
        "owner": waiting.owner,
        "what": waiting.what,
        "deadline": waiting.deadline,
        "default": waiting.default,
    }
