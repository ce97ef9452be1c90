"""The gates: voting on exactly one digest of a plan or a result, and what happens when nobody does."""

from typing import Final

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.directive import line_of
from agentic_os.domain.documents import RISKS, Participant, ReviewItem, Risk
from agentic_os.domain.intake import refuse_ended, supersede
from agentic_os.domain.policy import REVIEWER_ROLES, SUPERIOR, OnTimeout
from agentic_os.domain.rejection import Rejected
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

PROCEED_CEILING: Final[Risk] = "medium"
"""Above this risk nothing proceeds because a deadline passed, whatever policy says."""


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
