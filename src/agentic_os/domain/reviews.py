"""The gates: handing in plans and results, and voting on exactly one digest of them."""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from agentic_os.domain import children
from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.attempts import started
from agentic_os.domain.directive import line_of
from agentic_os.domain.documents import RISKS, Artifact, Participant, ReviewItem, Risk, Step
from agentic_os.domain.evidence import suffices
from agentic_os.domain.intake import refuse_ended, supersede
from agentic_os.domain.policy import REVIEWER_ROLES, SUPERIOR, Obligations, OnTimeout, combine
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.scope import require_within
from agentic_os.domain.task import Submission, Task

_DECISIONS: Final = (
    e.PlanApproved,
    e.PlanReturned,
    e.PlanRejected,
    e.TaskCompleted,
    e.ResultReturned,
    e.ResultRejected,
    e.ReviewStageOpened,
)
"""After these whoever was asked to review is asked no longer."""

REVISION_CAP: Final = 3
REWORK_CAP: Final = 3
SHORTEST_DIGEST: Final = 8
"""How many characters of a digest name a submission."""

EDITORS: Final = frozenset({"operator", "reviewer"})
"""Who may edit a plan that is under review: whoever has one of these roles."""

ITEM_SHOWN: Final = 80
"""How many characters of a review item are said of one that has no answer."""

PROCEED_CEILING: Final[Risk] = "medium"
"""Above this risk nothing proceeds because a deadline passed, whatever policy says."""


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


def vote(command: c.CastVote, task: Task) -> list[e.Event]:
    """Count a vote on exactly what is under review."""
    submission = task.plan if command.subject == "plan" else task.result
    if submission is not None and _already_counted(command, task, submission):
        return []
    phase = f"{command.subject}_review"
    if task.phase != phase or submission is None or submission.state != "open":
        raise Rejected(
            "wrong_phase",
            f"No {command.subject} is under review; the task is {task.phase}.",
            next_step="/status",
        )
    _require_same(command, submission)
    _require_right(command.voter, task, submission)
    voted = decided(command, task, submission)
    if any(isinstance(event, _DECISIONS) for event in voted):
        reason = f"the {command.subject} was decided"
        if isinstance(voted[-1], e.ReviewStageOpened):
            reason = "the next stage of the review decides"
        return [*supersede(task, reason), *voted]
    return voted


def decided(command: c.CastVote, task: Task, submission: Submission) -> list[e.Event]:
    """Say what a vote of somebody who may vote leads to."""
    match command.vote:
        case "approve":
            return _approve(command, task, submission)
        case "revise":
            return _revise(command, task, submission)
        case "reject":
            return _reject(command, submission)


def time_out(command: c.FireDeadline, task: Task) -> list[e.Event]:
    """Apply what policy says of a review that nobody decided in time; it is nobody's vote."""
    subject, _, version = command.ref.partition(":")
    submission = task.plan if subject == "plan" else task.result
    if submission is None or task.phase != f"{subject}_review" or str(submission.version) != version:
        return []
    if submission.review_deadline is None or command.at < submission.review_deadline:
        return []
    outcome = default_outcome(task, subject)
    timed_out = e.ReviewTimedOut(
        subject="plan" if subject == "plan" else "result",
        version=submission.version,
        digest=submission.digest,
        outcome=outcome,
    )
    if outcome == "block":
        return [timed_out]
    over = supersede(task, "the time for the review was over")
    if outcome == "escalate":
        return [*over, timed_out]
    bundle = task.ruling.bundle if task.ruling else ""
    return [
        *over,
        timed_out,
        e.PlanApproved(
            version=submission.version, digest=submission.digest, approvers=(), bundle=bundle, defaulted=True
        ),
    ]


def switch_off_default(command: c.SwitchOffDefault, task: Task) -> list[e.Event]:
    """Let the open review wait for people, whatever its deadline would have done."""
    refuse_ended(task)
    submission = task.under_review
    if submission is None:
        raise Rejected(
            "wrong_phase", f"Nothing is under review; the task is {task.phase}.", next_step="/status"
        )
    if submission.default_off:
        return []
    subject = "plan" if task.phase == "plan_review" else "result"
    if submission.review_deadline is None or default_outcome(task, subject) == "block":
        raise Rejected(
            "wrong_phase",
            f"The review of the {subject} has no default: it waits for people.",
            next_step="/status",
        )
    return [
        e.DefaultSwitchedOff(
            subject="plan" if subject == "plan" else "result",
            version=submission.version,
            digest=submission.digest,
            by=command.by,
            reason=command.reason,
        )
    ]


def default_outcome(task: Task, subject: str) -> OnTimeout:
    """Say what becomes of an undecided review: what policy says, but only a plan within the risk ceiling proceeds."""
    submission = task.under_review
    if submission is not None and submission.default_off:
        return "block"
    outcome = task.required.on_timeout
    risky = RISKS.index(task.risk) > RISKS.index(PROCEED_CEILING)
    return "block" if outcome == "proceed" and (subject != "plan" or risky) else outcome


def _subject(task: Task) -> str:
    return "plan" if task.phase == "plan_review" else "result"


def stage_of(task: Task) -> str:
    """Say which stage of the review decides, where there are several: " (stage 1 of 2)"."""
    stages, submission = task.required.in_order, task.under_review
    if submission is None or len(stages) == 1:
        return ""
    return f" (stage {submission.stage + 1} of {len(stages)})"


def hexadecimal(submission: Submission) -> str:
    """Give the digest without its algorithm."""
    return submission.digest.removeprefix("sha256:")


def approval_line(subject: str, submission: Submission) -> str:
    """Give the exact line that approves this submission and no other."""
    return review_lines(subject, submission)["approve"]


def review_lines(subject: str, submission: Submission) -> dict[str, str]:
    """Give the lines that decide on this submission and no other, by what they decide."""
    accept, rework = ("approve", "revise") if subject == "plan" else ("accept", "rework")
    short = hexadecimal(submission)[:SHORTEST_DIGEST]
    verbs = {"approve": accept, "revise": rework, "reject": "reject"}
    return {vote: line_of(verb, subject, submission.version, short) for vote, verb in verbs.items()}


def _names(command: c.CastVote, submission: Submission) -> bool:
    """Tell whether the vote names this submission, or names nothing; a few characters are no digest."""
    digest = command.digest
    same = digest is None or (
        len(digest) >= SHORTEST_DIGEST and hexadecimal(submission).startswith(digest.removeprefix("sha256:"))
    )
    return same and command.version in (None, submission.version)


def _already_counted(command: c.CastVote, task: Task, submission: Submission) -> bool:
    """Tell whether the vote was cast before: one person's approval counts once, however they write it."""
    if not _names(command, submission):
        return False
    match command.vote:
        case "approve":
            return command.voter.id in submission.approvals
        case "revise":
            return submission.state == "returned" and command.items == tuple(i.text for i in task.items)
        case "reject":
            return submission.state == "rejected"


def _require_same(command: c.CastVote, submission: Submission) -> None:
    """Hold a vote to the version and digest that the voter named."""
    if not _names(command, submission):
        raise Rejected(
            "digest_mismatch",
            f"That is not the {command.subject} under review, which is version {submission.version}.",
            next_step=approval_line(command.subject, submission),
        )


def require_apart(voter: Participant, task: Task, submission: Submission) -> None:
    """Keep duties apart. This is code and not policy: nobody of the author's lineage decides on its work."""
    if voter.id in task.lineage or voter.id == submission.executor:
        raise Rejected(
            "self_review",
            "An executor cannot decide on its own work, nor can any that worked on this task.",
            next_step="Ask somebody else with the reviewer role.",
        )


def _require_right(voter: Participant, task: Task, submission: Submission) -> None:
    """Hold a person to what policy asks of reviewers."""
    require_apart(voter, task, submission)
    if voter.kind != "person":
        raise Rejected(
            "not_permitted",
            "An executor's vote counts only as the callback of an attempt that asked for it.",
            next_step="Ask a person to review.",
        )
    if task.required.independent_human and voter.owns & task.lineage:
        raise Rejected(
            "self_review",
            "Policy asks for four eyes, and you own an executor that worked on this task.",
            next_step="Ask somebody else with the reviewer role.",
        )
    if task.required.independent_human and voter.id in task.editors:
        raise Rejected(
            "self_review",
            "Policy asks for four eyes, and you edited the plan of this task.",
            next_step="Ask somebody else with the reviewer role.",
        )
    # A role of agents stands in no person's token: there, whoever may review at all may vote.
    named = task.deciding.role
    if named == SUPERIOR and submission.executor in voter.headed - voter.beneath:
        raise Rejected(
            "not_permitted",
            f"Deciding on this {_subject(task)}{stage_of(task)} is for somebody above {submission.executor} in the "
            "organisation.",
            next_step="Ask somebody to whom it reports.",
        )
    scope = named if named in REVIEWER_ROLES else REVIEWER_ROLES[0]
    role = named if scope in voter.roles and named in voter.binding else scope
    if role not in voter.roles:
        raise Rejected(
            "not_permitted",
            f"Deciding on this {_subject(task)}{stage_of(task)} needs the role {role}.",
            next_step=f"Ask somebody with the role {role}.",
        )


def _approve(command: c.CastVote, task: Task, submission: Submission) -> list[e.Event]:
    if task.required.bar_requester and command.voter.id == task.requester:
        raise Rejected(
            "self_review",
            "Policy bars whoever asked for a task from approving it, and you asked for this one.",
            next_step="Ask somebody else with the reviewer role.",
        )
    if command.digest is None and not (
        task.required.bare_approve and command.seen_at > submission.submitted_at
    ):
        raise Rejected(
            "confirmation_required",
            f"An approval must name what it approves: version {submission.version} of the {command.subject}.",
            next_step=approval_line(command.subject, submission),
        )
    approvers = (*submission.approvals, command.voter.id)
    voted = _voted(command, submission)
    version, digest = submission.version, submission.digest
    if task.missing_approvals > 1:
        return [voted]
    if following := task.required.stages[submission.stage :]:
        opened = e.ReviewStageOpened(
            subject=command.subject,
            version=version,
            digest=digest,
            stage=submission.stage + 2,
            reviewers=following[0],
        )
        return [voted, opened]
    if command.subject == "result":
        return [voted, e.TaskCompleted(version=version, digest=digest, accepted_by=approvers)]
    approved = e.PlanApproved(
        version=version, digest=digest, approvers=approvers, bundle=command.bundle, defaulted=False
    )
    return [voted, approved]


def _revise(command: c.CastVote, task: Task, submission: Submission) -> list[e.Event]:
    if not command.items:
        raise Rejected(
            "items_required",
            "A revision must say what to change.",
            next_step="Write what to change after the command, one list item for each point.",
        )
    items = tuple(
        ReviewItem(id=i, text=text) for i, text in zip(command.item_ids, command.items, strict=True)
    )
    plan = command.subject == "plan"
    cap = REVISION_CAP if plan else REWORK_CAP
    capped = (task.revisions if plan else task.reworks) + 1 > cap
    returned = (e.PlanReturned if plan else e.ResultReturned)(
        version=submission.version, digest=submission.digest, items=items, capped=capped
    )
    decided: list[e.Event] = [_voted(command, submission), returned]
    if capped:
        decided.append(e.InputRequired(reason=f"The {command.subject} was returned more than {cap} times."))
    return decided


def _reject(command: c.CastVote, submission: Submission) -> list[e.Event]:
    rejected = (e.PlanRejected if command.subject == "plan" else e.ResultRejected)(
        version=submission.version, digest=submission.digest, by=command.voter.id, reason=command.words
    )
    return [_voted(command, submission), rejected]


def _voted(command: c.CastVote, submission: Submission) -> e.Event:
    return (e.PlanVoted if command.subject == "plan" else e.ResultVoted)(
        version=submission.version,
        digest=submission.digest,
        voter=command.voter.id,
        vote=command.vote,
        words=command.words,
    )


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
