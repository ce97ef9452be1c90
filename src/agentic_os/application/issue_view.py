"""What the issue of a task should look like: pure, so that drift is a comparison and nothing else."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import Any, Final, Literal

from agentic_os.application.directives import status_line
from agentic_os.application.ports import DirectiveReceipt
from agentic_os.application.readable import document_markdown, fenced, gate_marker, result_markdown
from agentic_os.application.revision import answers_markdown, changes_markdown
from agentic_os.application.waits import describe_waits
from agentic_os.contracts.edited_plan import editable_text
from agentic_os.contracts.marked import NotExpressible
from agentic_os.control_plane import Document, Review
from agentic_os.domain import drift
from agentic_os.domain.directive import ASKING
from agentic_os.domain.escalations import answer_line
from agentic_os.domain.evidence import effective
from agentic_os.domain.policy import SUPERIOR, Reviewers
from agentic_os.domain.reviews import approval_line, hexadecimal, review_lines, stage_of
from agentic_os.domain.task import ENDS, Pause, Question, Spender, Submission, Task

STATUS_MARKER: Final = "status"
RECEIPTS_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueView:
    """The part of an issue that is ours.

    section: the brief section of the body, None while there is no brief. assignee, attempt: who should be woken,
    for which attempt. notes: marker -> text, in the order in which they must exist; the status note is edited in
    place, the others are written once. spending: what each executor spent. documents: what stands beside the issue,
    where its tracker keeps that.
    """

    state: str
    closed: Literal["completed", "not_planned"] | None
    section: str | None
    assignee: str | None
    attempt: int
    review: Review | None
    status: str
    notes: tuple[tuple[str, str], ...]
    spending: Mapping[str, Spender]
    documents: tuple[Document, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """What the view shows and the task's state only names: the documents, and the latest receipts, the newest first.

    before: the version that the one under review replaces. texts: the small artifacts of the result that can be read
    where they are shown, digest -> text.
    """

    section: str | None = None
    plan: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    before: dict[str, Any] | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    receipts: Sequence[DirectiveReceipt] = ()
    waits: Sequence[str] = ()


def issue_view(task: Task, documents: Documents, public_url: str, *, documented: bool = False) -> IssueView:
    """Draw the issue of a task. documented: its tracker keeps documents, so that no note says the same."""
    attempt = task.attempt
    at_work = attempt is not None and attempt.is_open
    review = _review(task, documents, public_url)
    return IssueView(
        state=task.phase,
        closed=drift.closed_as(task),
        section=documents.section,
        assignee=attempt.executor if attempt and at_work else None,
        attempt=attempt.number if attempt and at_work else 0,
        review=review,
        status=_status(task, documents),
        notes=_notes(task, documents, review, public_url, documented=documented),
        documents=_beside(task, documents, review, public_url) if documented else (),
        spending=task.spenders,
    )


def _review(task: Task, documents: Documents, public_url: str) -> Review | None:
    if task.phase not in ("plan_review", "result_review"):
        return None
    return _version(task, documents, "plan" if task.phase == "plan_review" else "result", public_url)


def _version(
    task: Task, documents: Documents, subject: Literal["plan", "result"], public_url: str
) -> Review | None:
    """Show the latest plan or result, be it under review or not."""
    submission = task.plan if subject == "plan" else task.result
    document = documents.plan if subject == "plan" else documents.result
    if submission is None or document is None:
        return None
    under_review = submission is task.under_review
    before = documents.before if under_review else None
    links = _links(document, public_url)
    return Review(
        subject=subject,
        version=submission.version,
        digest=submission.digest,
        document="\n".join([document_markdown(subject, document), *links]),
        directives=review_lines(subject, submission) if under_review else {},
        changes=changes_markdown(submission.version - 1, before, document) if before is not None else "",
        answers=answers_markdown(document, submission.answers_to),
        editable=_editable(task, submission, document) if subject == "plan" else "",
    )


def _links(document: Mapping[str, Any], public_url: str) -> list[str]:
    artifacts = document.get("artifacts", ())
    lines = [
        f"- [{_name(a['name'])}]({public_url}/api/artifacts/{a['digest']}) ({a['size']} bytes)"
        for a in artifacts
    ]
    return ["", "**Artifacts**", "", *lines] if lines else []


def _beside(task: Task, documents: Documents, review: Review | None, public_url: str) -> tuple[Document, ...]:
    """List the documents beside the issue; the one that a review shows is the review's."""
    subjects: tuple[Literal["plan", "result"], ...] = ("plan", "result")
    versions = [_version(task, documents, subject, public_url) for subject in subjects]
    shown = [
        Document(name=version.subject, title=version.title, body=version.text)
        for version in versions
        if version is not None and (review is None or version.subject != review.subject)
    ]
    if task.result is not None and task.acceptance:
        shown.append(Document(name="evidence", title="Evidence", body="\n".join(_evidence(task))))
    artifacts = documents.result.get("artifacts", ()) if documents.result is not None else ()
    taken: set[str] = set()
    for a in artifacts:
        if (text := documents.texts.get(a["digest"])) is not None:
            slug = _slug(a["name"])
            name = slug if slug not in taken else f"artifact-{a['digest'].rpartition(':')[2][:16]}"
            taken.add(name)
            link = f"[{a['digest']}]({public_url}/api/artifacts/{a['digest']}) ({a['size']} bytes)"
            shown.append(Document(name=name, title=_cell(a["name"]), body=f"{link}\n\n{fenced(text)}"))
    return tuple(shown)


def _slug(name: str) -> str:
    """Name an artifact's document, so that the next version of it has the same name."""
    return "artifact-" + (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "file")


def _editable(task: Task, submission: Submission, document: dict[str, Any]) -> str:
    try:
        return editable_text(document, task_id=task.id, attempt=submission.attempt)
    except NotExpressible:
        return ""


def _status(task: Task, documents: Documents) -> str:
    lines = [f"**{task.phase}** · {status_line(task)}"]
    if task.overdue and task.due is not None and not task.ended:
        lines.append(f"\n**Overdue**: it was due at {task.due.astimezone(UTC):%Y-%m-%d %H:%M} UTC.")
    lines += [f"\n{_paused(p)}" for p in task.pauses if not drift.repaired(task, p.field)]
    if documents.waits and not task.kept_back:
        lines.append(f"\nIt waits for {describe_waits(documents.waits)}.")
    for name, letter, submission in (("Plan", "v", task.plan), ("Result", "r", task.result)):
        if submission is not None:
            lines.append(
                f"\n{name} {letter}{submission.version} `{hexadecimal(submission)[:8]}`: {submission.state}"
                f"{_by(submission)}."
            )
            lines += [
                f"It came over the budget ({flag.passed})."
                for flag in task.exceeded
                if (flag.subject, flag.version) == (name.lower(), submission.version)
            ]
            if submission.state == "open":
                lines.append(f"To accept exactly this: `{approval_line(name.lower(), submission)}`")
    if task.parent is not None:
        lines.append(f"\nIt is a child (`{task.parent.ref}`) of task {task.parent.id}.")
    if task.children or task.refused_children:
        lines.append("\nChildren:\n")
        lines += [f"- `{c.ref}` {_cell(c.title)}: {c.state} ({c.id})" for c in task.children]
        lines += [
            f"- `{r.ref}` {_cell(r.title)}: refused. {_cell('; '.join(r.reasons))}".rstrip()
            for r in task.refused_children
        ]
    if documents.receipts:
        lines.append("\n| directive | by | outcome |\n|---|---|---|")
        lines += [
            f"| `{_cell(r.text)}` | {r.principal or 'unknown'} | {_outcome(r)} |"
            for r in documents.receipts[:RECEIPTS_SHOWN]
        ]
    return "\n".join(lines)


def _by(submission: Submission) -> str:
    return f", edited by {submission.edited_by}" if submission.edited_by else ""


def _paused(pause: Pause) -> str:
    if pause.field == "issue":
        return "Its issue was deleted again and again, so no other is made."
    return (
        f"**The {pause.field} of this issue is not put back for now**: others change it again and again, "
        f"the last time {_cell(pause.author)}."
    )


def _paused_note(task: Task, pause: Pause) -> str:
    return (
        f"{_paused(pause)} It is put back again once nobody changed it for about an hour, or after "
        f"`agentic-os reconcile redrive {task.id}`. Two programs may be set up against each other here."
    )


def _outcome(receipt: DirectiveReceipt) -> str:
    return f"refused: {_cell(receipt.message)}" if receipt.outcome == "refused" else receipt.outcome


def _cell(text: str) -> str:
    first = text.splitlines()[0] if text else ""
    return first.replace("|", "\\|").replace("`", "'")[:160]


def _notes(
    task: Task, documents: Documents, review: Review | None, public_url: str, *, documented: bool
) -> tuple[tuple[str, str], ...]:
    """List the comments that must exist: where a gate opened or a question was asked, for a refusal, at the end."""
    notes = []
    if review is not None:
        notes += _gates(task, review)[1 if documented else 0 :]
    notes += [(f"question:{q.id}", _asked(q)) for q in task.questions]
    notes += [
        (f"hold:{h.placed_in}", f"**The task is on hold.** {h.reason} To let it go on, write: `/unhold`")
        for h in task.holds
        if h.cause != "operator"
    ]
    notes += [
        (
            f"refused:{r.id}",
            f"`{_cell(r.text)}` was refused: {r.message}" + (f"\n\nWrite: `{r.paste}`" if r.paste else ""),
        )
        for r in reversed(documents.receipts)
        if r.outcome == "refused" and r.control_plane is not None and not r.quiet
    ]
    notes += [
        (f"answer:{r.id}", r.message)
        for r in reversed(documents.receipts)
        if r.verb in ASKING and r.outcome == "done" and r.control_plane is not None and not r.quiet
    ]
    notes += [
        (
            f"paused:{p.field}:{p.placed_in}",
            _paused_note(task, p),
        )
        for p in task.pauses
        if p.field != "issue"
    ]
    if task.phase in ENDS:
        notes.append((f"end:{task.phase}", _ending(task, documents, public_url, documented=documented)))
    return tuple(notes)


def _gates(task: Task, review: Review) -> list[tuple[str, str]]:
    """Ask for the decision: once with all that it is about, and shortly when a later stage of the review opens."""
    submission, stages = task.under_review, task.required.in_order
    assert submission is not None
    letter = "v" if review.subject == "plan" else "r"
    name = f"{review.subject.capitalize()} {letter}{review.version}"
    lines = "\n".join(f"- {verb}: `{line}`" for verb, line in review.directives.items())
    decide = f"To decide, write one of:\n\n{lines}"
    ordered = ""
    if len(stages) > 1:
        ordered = "\n\nIt is reviewed in stages, each once the one before has agreed:\n\n" + "\n".join(
            f"1. {_stage(stage)}" for stage in stages
        )
    first = replace(submission, stage=0)
    told = "\n\n".join(part for part in (review.document, review.changes, review.answers) if part)
    edited = f"{_by(submission)}," if submission.edited_by else ""
    opened = f"**{name}{edited} awaits its review.**\n\n{told}{ordered}\n\n{decide}"
    notes = [(gate_marker(first), opened)]
    if submission.stage:
        words = f"**{name} awaits the next stage of its review{stage_of(task)}:** {_stage(task.deciding)}."
        notes.append((gate_marker(submission), f"{words}\n\n{decide}"))
    return notes


def _stage(reviewers: Reviewers) -> str:
    many = f"{reviewers.quorum} approvals" if reviewers.quorum > 1 else "an approval"
    who = "whom the author reports to" if reviewers.role == SUPERIOR else f"the role {reviewers.role}"
    return f"{many} of {who}" + (", executors included" if reviewers.by == "anyone" else "")


def _asked(question: Question) -> str:
    lines = [f"**{question.executor} asks ({question.id}):** {question.text}", ""]
    lines += [f"- `{o.id}`: {o.label}" for o in question.options]
    waits = "It waits for the answer. " if question.blocking else "It goes on meanwhile. "
    return "\n".join([*lines, "", f"{waits}To answer, write: `{answer_line(question)}`"])


def _ending(task: Task, documents: Documents, public_url: str, *, documented: bool) -> str:
    lines = [f"**The task is {task.phase}.** {task.waits}".strip()]
    if documents.result is not None:
        lines += ["", result_markdown(documents.result)]
    if task.acceptance and not documented:
        lines += ["", *_evidence(task)]
    if documents.result is None:
        return "\n".join(lines)
    lines += _links(documents.result, public_url)
    for a in documents.result.get("artifacts", ()):
        if not documented and (text := documents.texts.get(a["digest"])) is not None:
            lines += ["", f"**{_name(a['name'])}**", "", fenced(text)]
    return "\n".join(lines)


def _evidence(task: Task) -> list[str]:
    """Say of each criterion by what it is met."""
    lines = ["| criterion | evidence | rank |", "|---|---|---|"]
    evidence = effective(task)
    for criterion in task.acceptance:
        found = evidence.get(criterion.id)
        shown = (found.status, found.rank) if found else ("none", "")
        lines.append(f"| `{criterion.id}` {_cell(criterion.text)} | {shown[0]} | {shown[1]} |")
    return lines


def _name(name: str) -> str:
    """Write an artifact's name so that it stays one, whatever is in it."""
    return "".join(f"\\{c}" if c in "\\`*_[]()<>#|~" else c for c in _cell(name))


def outcome_of(submission: Submission | None) -> Literal["approved", "revised", "rejected", "withdrawn"]:
    """Say how a review ended, in the words of the port."""
    match submission.state if submission else "withdrawn":
        case "approved":
            return "approved"
        case "returned":
            return "revised"
        case "rejected":
            return "rejected"
        case _:
            return "withdrawn"
