"""Which directives somebody may write now: found by trying each on the task, so that the list is never wrong."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, get_args

from agentic_os.application.verdicts import of_directive
from agentic_os.domain import commands as c
from agentic_os.domain.decide import decide
from agentic_os.domain.directive import ASKING
from agentic_os.domain.documents import Participant, Priority, Vote
from agentic_os.domain.escalations import answer_line
from agentic_os.domain.policy import DecisionPoint
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.reviews import review_lines
from agentic_os.domain.submissions import editable_plan
from agentic_os.domain.task import Task

VOTES: Final[dict[str, Vote]] = {
    "approve": "approve",
    "accept": "approve",
    "revise": "revise",
    "rework": "revise",
    "reject": "reject",
}
"""Verbs that decide on what is under review; who may write them is decided with the vote itself."""

PRIORITIES: Final[tuple[Priority, ...]] = get_args(Priority)

_ROLES: Final[dict[str, frozenset[str]]] = {
    **dict.fromkeys(VOTES, frozenset({"reviewer"})),
    **dict.fromkeys(
        ("cancel", "retry", "reassign", "answer", "hold", "unhold", "adopt", "priority", "mode"),
        frozenset({"operator"}),
    ),
    **dict.fromkeys(("default", "note"), frozenset({"operator", "reviewer"})),
    **dict.fromkeys(ASKING, frozenset({"viewer"})),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    """A line that could be written, what it means, and the command that it amounts to; None for what only asks."""

    verb: str
    line: str
    means: str
    command: c.Command | None = None


def roles_for(verb: str, task: Task | None) -> frozenset[str]:
    """List the roles of which one is needed for a directive; who may answer is said with each question."""
    if verb == "answer" and task is not None and task.questions:
        return frozenset({"admin", *(q.ask for q in task.questions)})
    return _ROLES[verb]


def require_role(participant: Participant, verb: str, task: Task | None) -> None:
    """Hold somebody to the role that a directive needs. Raises Rejected."""
    roles = roles_for(verb, task)
    if roles.isdisjoint(participant.roles) or participant.kind == "executor":
        needed = " or ".join(sorted(roles - {"admin"}) or ["admin"])
        raise Rejected(
            "not_permitted",
            f"/{verb} needs the role {needed}.",
            next_step=f"Ask somebody with the role {needed}.",
        )


def require_allowed(ruling: c.Ruling | None, verb: str) -> None:
    """Refuse a directive that policy does not let somebody write. Raises Rejected."""
    if ruling is not None and ruling.verdict.decision == "deny":
        verdict = ruling.verdict
        message = "; ".join(verdict.reasons) or f"Policy does not let you write /{verb} here."
        raise Rejected(
            "policy_denied",
            message,
            next_step="/help lists what you may write.",
            rule=verdict.rules[0],
            denial=verdict,
        )


def available(task: Task, participant: Participant, policy: DecisionPoint) -> str:
    """List what this person may do now, one directive a line; and how to edit the plan, which no directive does."""
    lines = [
        f"- `{offer.line}`: {offer.means}"
        for offer in _offers(task, participant)
        if _may(offer, task, participant, policy)
    ]
    if _may_edit(task, participant):
        lines.append(
            "- edit the plan, as its next version with you as author: on its review card, or with "
            f"`agentic-os task edit-plan {task.id}`"
        )
    return "\n".join(lines)


def _may(offer: _Offer, task: Task, participant: Participant, policy: DecisionPoint) -> bool:
    """Try it: whatever would be refused, or would change nothing, is not on offer."""
    try:
        if offer.verb not in VOTES:
            require_role(participant, offer.verb, task)
        require_allowed(of_directive(task, offer.verb, participant, policy), offer.verb)
        return offer.command is None or bool(decide(offer.command, task))
    except Rejected:
        return False


def _may_edit(task: Task, who: Participant) -> bool:
    try:
        editable_plan(who, task.plan.digest if task.plan else "", task)
    except Rejected:
        return False
    return True


def _offers(task: Task, who: Participant) -> Iterator[_Offer]:
    yield from _votes(task, who)
    for verb, line, means, command in (
        (
            "default",
            "/default off",
            "let no deadline decide this review",
            c.SwitchOffDefault(by=who.id, reason=""),
        ),
        *_answers(task, who),
        *_adoptions(task),
        *_retries(task, who),
        ("unhold", "/unhold", "release every hold", c.ReleaseHold(by=who.id, reason="")),
        ("hold", "/hold", "let no further attempt be opened", c.PutOnHold(by=who.id, reason="")),
        (
            "reassign",
            "/reassign @NAME",
            "give the task to another executor, or to a role with role:NAME",
            c.Reassign(assignee="@", reason=""),
        ),
        (
            "mode",
            "/mode plan_first",
            "have a plan approved before anything is executed",
            c.TightenMode(by=who.id, reason=""),
        ),
        (
            "priority",
            f"/priority {_other_priority(task)}",
            f"say how soon it is wanted: {', '.join(PRIORITIES)}; it is {task.priority}",
            c.Reprioritise(by=who.id, priority=_other_priority(task), reason=""),
        ),
        (
            "note",
            "/note TEXT",
            "leave a remark for whoever works on it next",
            c.TakeNote(note_id="", by=who.id, text="TEXT"),
        ),
        ("cancel", "/cancel", "call the task off", c.Cancel(by=who.id, reason="")),
        ("status", "/status", "say what the task waits for", None),
        ("why", "/why", "say why it stands where it does, and what would change that", None),
        ("help", "/help", "list what you may do now", None),
    ):
        yield _Offer(verb=verb, line=line, means=means, command=command)


def _votes(task: Task, who: Participant) -> Iterator[_Offer]:
    submission = task.under_review
    if submission is None:
        return
    subject = "plan" if task.phase == "plan_review" else "result"
    means = {
        "approve": f"accept exactly this version of the {subject}",
        "revise": f"send the {subject} back; write what to change, and each list item must be answered",
        "reject": f"refuse the {subject}, and end the task",
    }
    for vote, line in review_lines(subject, submission).items():
        verb = line[1:].split()[0]
        items = ("what to change",) if vote == "revise" else ()
        command = c.CastVote(
            subject="plan" if subject == "plan" else "result",
            voter=who,
            vote=VOTES[verb],
            words=line,
            version=submission.version,
            digest=line.rpartition("@")[2],
            seen_at=submission.submitted_at + timedelta(seconds=1),
            items=items,
            item_ids=tuple("" for _ in items),
        )
        yield _Offer(verb=verb, line=line, means=means[vote], command=command)


_Row = tuple[str, str, str, c.Command | None]


def _answers(task: Task, who: Participant) -> Iterator[_Row]:
    for question in task.questions:
        words = question.options[0].id if question.options else "..."
        command = c.Answer(by=who.id, question_id=question.id, text=words, roles=who.roles)
        yield "answer", answer_line(question), "answer an executor's question", command


def _adoptions(task: Task) -> Iterator[_Row]:
    if task.ended:
        return
    for kept in task.quarantined:
        if not kept.adopted:
            line = f"/adopt {kept.id} because ..."
            yield "adopt", line, f"take in a late {kept.kind} that is kept aside", None


def _retries(task: Task, who: Participant) -> Iterator[_Row]:
    make: Callable[[bool], c.Command] = lambda fresh: c.Retry(by=who.id, reason="", fresh=fresh)  # noqa: E731 - twice
    yield "retry", "/retry", "send the task on", make(False)  # noqa: FBT003 - as above
    if task.phase in ("input_required", "dead_letter"):
        yield "retry", "/retry fresh", "send the task on, and forget what it has tried", make(True)  # noqa: FBT003


def _other_priority(task: Task) -> Priority:
    """Give a priority that it does not have: the one above, or the one below the highest."""
    place = PRIORITIES.index(task.priority)
    return PRIORITIES[place + 1 if place + 1 < len(PRIORITIES) else place - 1]
