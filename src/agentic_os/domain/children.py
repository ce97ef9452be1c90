"""Tasks that come of tasks: never with more rights than their parent has, and with a share of its budget."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.attempts import report, started
from agentic_os.domain.documents import Budget, Criterion, JsonObject
from agentic_os.domain.family import Parentage
from agentic_os.domain.policy import Obligations
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.scope import outside
from agentic_os.domain.shadow import differed
from agentic_os.domain.task import Task

MAX_DEPTH: Final = 5
MAX_CHILDREN: Final = 100
_SHOWN: Final = 10

_Reasons = dict[str, tuple[str, str]]
"""ref -> rule and reason."""


def request(command: c.RequestTasks, task: Task) -> list[e.Event]:
    """Keep the request with the task, and decide each task that it proposes."""
    recorded = report(command, task)
    require_rights([p.item for p in command.proposals], task)
    if _used_up(share(task, len(command.proposals))):
        raise Rejected(
            "budget_exceeded",
            "Too little of the task's budget is left to share it with other tasks.",
            next_step="Ask for fewer tasks, or go on without them.",
        )
    decided = _decide(command.proposals, task, attempt=started(command, task).number, planned=False)
    return [*recorded, *decided]


def create(command: c.CreateChildren, task: Task) -> list[e.Event]:
    """Decide each task of the approved plan; one that is refused leaves the plan to a person."""
    plan = task.plan
    if task.phase != "ready" or not task.undecided or plan is None or plan.version != command.plan:
        return []
    decided = _decide(command.proposals, task, attempt=plan.attempt, planned=True)
    refused = [f"{d.ref} ({'; '.join(d.reasons)})" for d in decided if isinstance(d, e.ChildRefused)]
    if not refused:
        return decided
    return [*decided, e.InputRequired(reason=f"Tasks of the plan were refused: {', '.join(refused)}.")]


def end(command: c.EndChild, task: Task) -> list[e.Event]:
    """Take note of a child's end, once; the parent may have ended before."""
    child = next((found for found in task.children if found.id == command.child_id), None)
    if child is None or child.state != "open":
        return []
    return [e.ChildEnded(child_id=child.id, ref=child.ref, phase=command.phase, spent=command.spent)]


def require_rights(items: Sequence[JsonObject], parent: Task) -> None:
    """Refuse what the parent could not grant. Raises Rejected scope_denied, which points at the offending entries."""
    if parent.depth >= MAX_DEPTH:
        raise Rejected(
            "scope_denied",
            f"A task may have {MAX_DEPTH} tasks above it, and this one has them.",
            next_step="Do the work within this task.",
            pointers=("/body/tasks",),
        )
    if len(parent.children) + len(items) > MAX_CHILDREN:
        raise Rejected(
            "scope_denied",
            f"A task has at most {MAX_CHILDREN} children; this one has {len(parent.children)}, "
            f"and {len(items)} more were asked for.",
            next_step="Ask for fewer tasks, each of which may have children of its own.",
            pointers=("/body/tasks",),
        )
    places: list[str] = []
    for number, item in enumerate(items):
        for name, index in _surplus(item, parent):
            places.append(f"/body/tasks/{number}/{name}/{index}")
        if len(places) >= _SHOWN:
            break
    if places:
        raise Rejected(
            "scope_denied",
            "A task cannot give what it does not have itself: " + ", ".join(places[:_SHOWN]) + ".",
            next_step="Keep to the paths and tools of your brief, or leave them out to pass on all of them.",
            pointers=tuple(places[:_SHOWN]),
        )


def _surplus(item: JsonObject, parent: Task) -> list[tuple[str, int]]:
    """List the paths and tools beyond the parent's, which has no limit where it names none."""
    found: list[tuple[str, int]] = []
    if parent.paths:
        found += [("paths", index) for index in outside(item.get("paths", ()), parent.paths)]
    if parent.tools:
        tools = enumerate(item.get("tools", ()))
        found += [("tools", index) for index, tool in tools if tool not in parent.tools]
    return found


def share(parent: Task, count: int) -> Budget:
    """Give the budget of each of so many children: equal parts of what is left, and one of them is the parent's own.

    Time and attempts limit each task by itself, so that they are the parent's.
    """
    limits, committed = parent.budget, parent.committed

    def part(limit: int | None, gone: int) -> int | None:
        return None if limit is None else max(limit - gone, 0) // (count + 1)

    return Budget(
        cost_microusd=part(limits.cost_microusd, committed.cost_microusd),
        tokens=part(limits.tokens, committed.tokens),
        wall_seconds=limits.wall_seconds,
        attempts=limits.attempts,
    )


def _used_up(budget: Budget) -> bool:
    return 0 in (budget.cost_microusd, budget.tokens)


def commission(
    parent: Task,
    item: JsonObject,
    *,
    child_id: str,
    at: datetime,
    planned: bool,
    depends_on: tuple[str, ...] = (),
    budget: Budget | None = None,
    obligations: Obligations | None = None,
) -> c.CreateTask:
    """Say what the child is to be: what the item leaves out, and what it has no word for, is as with the parent.

    Nobody approved what is asked for during the work, so that its mode is at least the parent's; a task of a plan
    that reviewers approved is of the mode that it asks for, or that policy does.
    """
    approved = planned and parent.authorisation is not None and bool(parent.authorisation.approvers)
    strict = item.get("mode") == "plan_first" or (parent.mode == "plan_first" and not approved)
    role = item.get("role")
    return c.CreateTask(
        task_id=child_id,
        title=item["title"],
        goal=item["goal"],
        project=parent.project,
        requester=parent.requester,
        at=at,
        acceptance=tuple(Criterion(**criterion) for criterion in item["acceptance"]),
        mode="plan_first" if strict else "direct",
        risk=parent.risk,
        paths=tuple(item.get("paths", ())) or parent.paths,
        tools=tuple(item.get("tools", ())) or parent.tools,
        labels=parent.labels,
        assignee=None if role is None else f"role:{role}",
        depends_on=depends_on,
        budget=budget or Budget(),
        priority=item.get("priority", parent.priority),
        due=parent.due,
        origin=f"child:{parent.id}",
        output_schema=item.get("output_schema"),
        input=item.get("input"),
        parent=Parentage(
            id=parent.id, ref=item["ref"], depth=parent.depth + 1, obligations=obligations or Obligations()
        ),
    )


def _decide(proposals: Sequence[c.Proposal], task: Task, *, attempt: int, planned: bool) -> list[e.Event]:
    refused = _refused(proposals, task)
    ids = {p.item["ref"]: p.child_id for p in proposals}
    budget = share(task, len(proposals) - len(refused))
    decided: list[e.Event] = []
    for proposal in proposals:
        verdict, ref = proposal.verdict, proposal.item["ref"]
        said: dict[str, Any] = {
            "attempt": attempt,
            "ref": ref,
            "item": proposal.item,
            "planned": planned,
            "bundle": verdict.bundle,
            "facts": verdict.facts,
            "facts_digest": proposal.facts_digest,
        }
        if ref in refused:
            rule, reason = refused[ref]
            rules, reasons = ((rule,), (reason,)) if rule else (verdict.rules, verdict.reasons)
            shadowed = [] if rule else differed(verdict)
            decided += [*shadowed, e.ChildRefused(**said, rules=rules, reasons=reasons)]
            continue
        decided += differed(verdict)
        decided.append(
            e.ChildAccepted(
                **said,
                child_id=proposal.child_id,
                depends_on=tuple(ids[name] for name in proposal.item.get("depends_on", ())),
                budget=budget,
                rules=verdict.rules,
                reasons=verdict.reasons,
                obligations=verdict.obligations,
            )
        )
    return decided


def _refused(proposals: Sequence[c.Proposal], task: Task) -> _Reasons:
    """Find which of the proposals are refused; the rule is "" where it is policy that says so."""
    items = {p.item["ref"]: p.item for p in proposals}
    try:
        require_rights(list(items.values()), task)
    except (
        Rejected
    ) as refusal:  # of a plan that was submitted before its task had these children, or these checks
        return dict.fromkeys(items, (refusal.rule, refusal.message))
    if _used_up(share(task, len(items))):
        return dict.fromkeys(items, ("budget_exceeded", "Too little of the parent's budget is left."))
    denied: _Reasons = {p.item["ref"]: ("", "") for p in proposals if p.verdict.decision == "deny"}
    return denied | _stranded(items, denied)


def _stranded(items: Mapping[str, JsonObject], denied: _Reasons) -> _Reasons:
    """Find those that depend, at whatever remove, on what is not created."""
    fine: set[str] = set()
    while ready := [
        ref
        for ref, item in items.items()
        if ref not in fine and ref not in denied and fine.issuperset(item.get("depends_on", ()))
    ]:
        fine.update(ready)
    reason = ("depends_on_refused", "A task that it depends on was refused.")
    return {ref: reason for ref in items if ref not in fine and ref not in denied}
