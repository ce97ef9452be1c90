"""Handing in plans and results, and editing a plan that is under review."""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from agentic_os.domain import children
from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.attempts import started
from agentic_os.domain.documents import Artifact, Participant, Step
from agentic_os.domain.evidence import suffices
from agentic_os.domain.intake import supersede
from agentic_os.domain.policy import Obligations, combine
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.scope import require_within
from agentic_os.domain.task import Submission, Task

EDITORS: Final = frozenset({"operator", "reviewer"})
"""Who may edit a plan that is under review: whoever has one of these roles."""

ITEM_SHOWN: Final = 80
"""How many characters of a review item are said of one that has no answer."""


def submit_plan(command: c.SubmitPlan, task: Task) -> list[e.Event]:
    """Hand in a plan; the attempt closes, and the gate opens."""
    return plan_submitted(command, task, started(command, task).step)


def plan_submitted(command: c.SubmitPlan, task: Task, step: Step) -> list[e.Event]:
    """Hand in a plan for an attempt that was, or would be, for this step."""
    if step != "plan":
        raise Rejected(
            "wrong_phase",
            "This attempt is not for planning.",
            next_step="Send a result, or a failure of class plan_infeasible when the plan does not work.",
        )
    _require_answers(task, command.answers)
    require_within(command.plan, task)
    if task.plan is not None and task.plan.digest == command.digest:
        raise Rejected(
            "plan_unchanged",
            f"This plan is the same as version {task.plan.version}, which was not accepted.",
            next_step="Change the plan so that it meets the review, or escalate.",
            pointers=("/body",),
        )
    if asked_for := command.plan.get("tasks"):
        children.require_rights(asked_for, task)
    required = _required(command, task)
    deadline = required.deadline_seconds
    submitted = e.PlanSubmitted(
        attempt=command.attempt,
        seq=command.seq,
        callback_id=command.callback_id,
        version=(task.plan.version if task.plan else 0) + 1,
        digest=command.digest,
        executor=command.executor,
        plan=command.plan,
        review_deadline=None if deadline is None else command.at + timedelta(seconds=deadline),
        at=command.at,
    )
    return [submitted, *_on_record(command, submitted, required)]


def edit_plan(command: c.EditPlan, task: Task) -> list[e.Event]:
    """Replace the plan under review by what a person made of it; its review begins anew, and is asked of others."""
    plan = task.plan
    if plan is not None and (plan.digest, plan.edited_by, plan.edits) == (
        command.digest,
        command.by.id,
        command.replaces,
    ):
        return []
    plan = editable_plan(command.by, command.replaces, task)
    if command.digest == plan.digest:
        raise Rejected(
            "plan_unchanged",
            f"This plan is the same as version {plan.version}, which is under review.",
            next_step="Change something, or decide on it as it is.",
            pointers=("/body",),
        )
    require_within(command.plan, task)
    if asked_for := command.plan.get("tasks"):
        children.require_rights(asked_for, task)
    required = _required(command, task)
    deadline = required.deadline_seconds
    edited = e.PlanEdited(
        version=plan.version + 1,
        digest=command.digest,
        replaces=plan.digest,
        author=command.by.id,
        plan=command.plan,
        review_deadline=None if deadline is None else command.at + timedelta(seconds=deadline),
        at=command.at,
    )
    return [*supersede(task, "the plan was edited"), edited, *_on_record(command, edited, required)]


def editable_plan(by: Participant, replaces: str, task: Task) -> Submission:
    """Give the plan under review to somebody who may edit exactly this version. Raises Rejected."""
    plan = task.plan
    if task.phase != "plan_review" or plan is None or plan.state != "open":
        raise Rejected(
            "wrong_phase",
            f"A plan is edited while it is under review; the task is {task.phase}.",
            next_step="/status",
        )
    _require_editor(by, task)
    if replaces != plan.digest:
        raise Rejected(
            "digest_mismatch",
            f"That is not the plan under review, which is version {plan.version}.",
            next_step="Read that version, and edit it.",
            pointers=("/replaces",),
        )
    return plan


def _require_editor(by: Participant, task: Task) -> None:
    """Let people with a say in the task edit its plan, but nobody of the lineage, whose plan goes back by /revise."""
    if by.id in task.lineage:
        raise Rejected(
            "self_review",
            "An executor that worked on this task does not edit its plan: it is sent back, and the next one answers.",
            next_step="Ask somebody else with the reviewer or operator role.",
        )
    if by.kind != "person" or EDITORS.isdisjoint(by.roles):
        raise Rejected(
            "not_permitted",
            "Editing a plan needs the role operator or reviewer.",
            next_step="Ask somebody with the role operator or reviewer.",
        )


def submit_result(command: c.SubmitResult, task: Task) -> list[e.Event]:
    """Hand in a result; it completes the task by itself where policy and evidence allow."""
    return result_submitted(command, task, started(command, task).step)


def result_submitted(command: c.SubmitResult, task: Task, step: Step) -> list[e.Event]:
    """Hand in a result for an attempt that was, or would be, for this step."""
    if step == "review":
        raise Rejected("wrong_phase", "This attempt is for reviewing.", next_step="Send a review.")
    if step == "plan":
        raise Rejected(
            "plan_unapproved",
            "This attempt is for planning: the plan must be approved before anything is executed.",
            next_step="Send a plan.",
        )
    if task.mode == "plan_first" and task.authorisation is None:
        raise Rejected("plan_unapproved", "There is no approved plan for this task.", next_step="Stop.")
    _require_answers(task, command.answers)
    _require_output(command)
    required = _required(command, task)
    deadline = required.deadline_seconds
    submitted = e.ResultSubmitted(
        attempt=command.attempt,
        seq=command.seq,
        callback_id=command.callback_id,
        version=(task.result.version if task.result else 0) + 1,
        digest=command.digest,
        executor=command.executor,
        outcome=command.outcome,
        result=command.result,
        evidence=command.evidence,
        artifacts=_versioned(task, command.artifacts),
        review_deadline=None if deadline is None else command.at + timedelta(seconds=deadline),
        at=command.at,
    )
    decided: list[e.Event] = [submitted, *_on_record(command, submitted, required)]
    if suffices(task, command.outcome, command.evidence, required=required):
        decided.append(e.TaskCompleted(version=submitted.version, digest=submitted.digest, accepted_by=()))
    return decided


def _required(command: c.SubmitPlan | c.EditPlan | c.SubmitResult, task: Task) -> Obligations:
    """Join what policy asks for this submission with what it asks for the task: it can only get stricter.

    Raises Rejected where policy does not take it at all.
    """
    if command.ruling is None:
        return task.obligations
    verdict = command.ruling.verdict
    if verdict.decision == "deny":
        what = "result" if isinstance(command, c.SubmitResult) else "plan"
        otherwise = "" if isinstance(command, c.EditPlan) else ", ask with an escalation, or fail"
        raise Rejected(
            "policy_denied",
            f"Policy takes no such {what} (rule {', '.join(verdict.rules)}). {' '.join(verdict.reasons)}".strip(),
            next_step=f"Send a {what} that keeps to it{otherwise}.",
            rule=verdict.rules[0],
            denial=verdict,
        )
    return combine(task.obligations, verdict.obligations)


def _on_record(
    command: c.SubmitPlan | c.EditPlan | c.SubmitResult,
    submitted: e.PlanSubmitted | e.PlanEdited | e.ResultSubmitted,
    required: Obligations,
) -> list[e.Event]:
    """Say what holds for this submission and by which rules; nothing where none matched."""
    if command.ruling is None or not command.ruling.verdict.rules:
        return []
    verdict = command.ruling.verdict
    return [
        e.ReviewRequired(
            subject="result" if isinstance(command, c.SubmitResult) else "plan",
            version=submitted.version,
            digest=submitted.digest,
            obligations=required,
            rules=verdict.rules,
        )
    ]


def _require_answers(task: Task, answers: frozenset[str]) -> None:
    open_items = [item for item in task.items if item.id not in answers]
    if open_items:
        named = "; ".join(f"{item.id} ({_short(item.text)})" for item in open_items)
        raise Rejected(
            "review_items_unanswered",
            f"Of {len(task.items)} review items, {len(open_items)} have no answer: {named}.",
            next_step="Say in responds_to how each item was met, by its item_id.",
            pointers=("/body/responds_to",),
        )


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= ITEM_SHOWN else words[:ITEM_SHOWN] + "..."


def _require_output(command: c.SubmitResult) -> None:
    if command.output_faults:
        raise Rejected(
            "output_invalid",
            "The output does not fit the task's output_schema: "
            + "; ".join(what for _, what in command.output_faults),
            next_step="Correct /body/output; the schema is in the brief as output_schema.",
            pointers=tuple(pointer for pointer, _ in command.output_faults),
        )


def _versioned(task: Task, artifacts: tuple[Artifact, ...]) -> tuple[Artifact, ...]:
    counts = dict(task.artifacts)
    numbered = []
    for artifact in artifacts:
        counts[artifact.name] = counts.get(artifact.name, 0) + 1
        numbered.append(replace(artifact, version=counts[artifact.name]))
    return tuple(numbered)
