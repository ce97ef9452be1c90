"""The brief: what an executor is given, as sealed JSON, and as the section of an issue that carries it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from typing import Any, Final, Literal

from agentic_os.application.ports import EventLog
from agentic_os.application.readable import document_markdown
from agentic_os.contracts.canonical import canonical_json
from agentic_os.domain.task import Answer, Submission, Task

CONTRACT: Final = "aos.execution/1"
END: Final = "<!-- agentic-os:end -->"
INLINE_LIMIT: Final = 48 * 1024
_HEAD: Final = "<!-- agentic-os:brief v1 "
_SECTION: Final = re.compile(
    # Whole lines only, and from the last heading to the end after it: a heading that somebody wrote into a goal
    # neither swallows ours nor passes for it.
    r"^<!-- agentic-os:brief v1 [^\n]*-->\n(?:(?!<!-- agentic-os:brief v1 )[^\n]*\n)*?<!-- agentic-os:end -->$",
    re.MULTILINE,
)
_NEXT: Final = {
    "plan": "Ack this brief, write a plan, submit it, and stop: execution is another attempt, after approval.",
    "execute": "Ack this brief, do the work within the approved plan or the goal, submit a result, and stop.",
    "review": "Ack this brief, review the document, submit your vote, and stop.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What an attempt is given beyond its task: the approved plan, the last checkpoint, hand-offs to its role.

    charter: of the executor's roles. children: what became of the tasks that came of this one. notes: remarks of
    people, the oldest first, as the events hold them.
    """

    plan: Mapping[str, Any] | None = None
    checkpoint: Mapping[str, Any] | None = None
    handoffs: Sequence[Mapping[str, Any]] = ()
    charter: str = ""
    children: Sequence[Mapping[str, Any]] = ()
    review: "Reviewed | None" = None
    notes: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewed:
    """What a reviewer is to look at: the document, and the version before it, if there was one."""

    subject: Literal["plan", "result"]
    submission: Submission
    document: Mapping[str, Any]
    before: Mapping[str, Any] | None


def compose(
    task: Task, attempt: int, *, carried: Carried, lease_seconds: int, callback_url: str
) -> dict[str, Any]:
    """Compose the brief of an attempt."""
    plan = carried.plan
    step = task.next_step
    approved = None
    if task.authorisation is not None and plan is not None:
        approved = {
            "version": task.authorisation.version,
            "digest": task.authorisation.digest,
            "steps": list(plan.get("steps", ())),
        }
    return {
        "contract": CONTRACT,
        "task_id": task.id,
        "attempt": attempt,
        "step": step,
        "mode": task.mode,
        "title": task.title,
        "goal": task.goal,
        "charter": carried.charter,
        "acceptance": [{"id": c.id, "text": c.text, "rank": c.rank} for c in task.acceptance],
        "constraints": [],
        "paths": list(task.paths),
        "tools": list(task.tools),
        "plan": approved,
        "review_items": [{"id": i.id, "text": i.text} for i in task.items],
        "review": None if carried.review is None else _review(carried.review),
        "answers": [_answer(a) for a in task.answers],
        "handoffs": [
            {"to_role": h["to_role"], "reason": h["reason"], "payload": h["payload"]}
            for h in carried.handoffs
        ],
        "notes": [{"by": note["by"], "text": note["text"]} for note in carried.notes],
        "input": None if task.input is None else dict(task.input),
        "children": [dict(child) for child in carried.children],
        "resume": _resume(task, carried),
        "output_schema": None if task.output_schema is None else dict(task.output_schema),
        "budget": {
            "cost_microusd": task.budget.cost_microusd,
            "tokens": task.budget.tokens,
            "wall_seconds": task.budget.wall_seconds,
            "attempts": task.budget.attempts,
        },
        "lease_seconds": lease_seconds,
        "callback_url": callback_url,
        "next": _NEXT[step],
    }


def _review(reviewed: Reviewed) -> dict[str, Any]:
    return {
        "subject": reviewed.subject,
        "version": reviewed.submission.version,
        "digest": reviewed.submission.digest,
        "document": dict(reviewed.document),
        "diff": None if reviewed.before is None else _difference(reviewed),
    }


def _difference(reviewed: Reviewed) -> str:
    """Compare two versions as a reader would: line by line, as they are written for people."""
    version = reviewed.submission.version
    assert reviewed.before is not None
    old = document_markdown(reviewed.subject, reviewed.before).splitlines()
    new = document_markdown(reviewed.subject, reviewed.document).splitlines()
    return "\n".join(unified_diff(old, new, f"version {version - 1}", f"version {version}", lineterm=""))


def _answer(given: Answer) -> dict[str, Any]:
    return {
        "id": given.question_id,
        "question": given.question,
        "option": given.option,
        "text": given.text,
        "by": given.by,
        "defaulted": given.defaulted,
    }


def _resume(task: Task, carried: Carried) -> dict[str, Any] | None:
    checkpoint = None
    if carried.checkpoint is not None:
        checkpoint = {"note": carried.checkpoint["note"], "state": carried.checkpoint.get("state")}
    if carried.review is not None or (checkpoint is None and task.session is None):
        return None  # what the author kept is not a reviewer's to resume
    return {"checkpoint": checkpoint, "session": task.session}


def section(brief: Mapping[str, Any], digest: str, brief_url: str) -> str:
    """Write the part of an issue's body that carries the brief: for people above, the sealed line below."""
    sealed = canonical_json(dict(brief)).decode()
    head = f"<!-- agentic-os:brief v1 task={brief['task_id']} attempt={brief['attempt']} digest={digest} -->"
    if len(sealed) > INLINE_LIMIT:
        machine = f"The brief is too long for an issue. Read it at {brief_url}\n"
    else:
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", sealed)), default=0))
        machine = f"{fence}json\n{sealed}\n{fence}\n"
    return f"{head}\n{_readable(brief)}\n{machine}{END}"


async def section_of(log: EventLog, task_id: str, offered_in: int, public_url: str) -> str:
    """Write the section of the attempt that was opened by this event."""
    (event,) = await log.read_stream(task_id, after=offered_in - 1, limit=1)
    offered: Any = event.data
    return section(offered["brief"], offered["brief_digest"], f"{public_url}/api/tasks/{task_id}/brief")


def last_section(body: str) -> str | None:
    """Find the section that counts in a body."""
    found = _SECTION.findall(body)
    return str(found[-1]) if found else None


def attempt_of(section_text: str) -> int:
    """Read for which attempt a section says that it is; 0 where it says nothing."""
    found = re.match(r"<!-- agentic-os:brief v1 task=\S+ attempt=(\d{1,9}) ", section_text)
    return int(found[1]) if found else 0


def free_text(body: str) -> str | None:
    """Give what people wrote around the section; None where its markers are broken, so that nobody can tell."""
    if body.count(_HEAD) > 1 or body.count(END) > 1:
        return None
    rest = _SECTION.sub("", body)
    return None if _HEAD in rest or END in rest else rest.strip()


def with_section(body: str, new: str) -> str:
    """Put the section into a body, in place of the last one or at its end; all else stays as people wrote it."""
    sections = list(_SECTION.finditer(body))
    if sections:
        return body[: sections[-1].start()] + new + body[sections[-1].end() :]
    return f"{body.rstrip()}\n\n{new}".lstrip() if new else body


def _readable(brief: Mapping[str, Any]) -> str:
    lines = [f"## Brief: {brief['step']}, attempt {brief['attempt']}", "", f"**Next:** {brief['next']}", ""]
    lines += _list(
        "Acceptance", [f"`{c['id']}` {c['text']} (evidence: {c['rank']})" for c in brief["acceptance"]]
    )
    lines += _list("Review items to answer", [f"`{i['id']}` {i['text']}" for i in brief["review_items"]])
    lines += _list(
        "Answers", [f"`{a['id']}` {a['question']} → {a['option'] or a['text']}" for a in brief["answers"]]
    )
    lines += _list(
        "Notes of people, which decide nothing", [f"{n['by']}: {n['text']}" for n in brief["notes"]]
    )
    if brief["review"]:
        what = f"{brief['review']['subject']}, version {brief['review']['version']}"
        lines += [
            f"**Under review: {what}**",
            "",
            document_markdown(brief["review"]["subject"], brief["review"]["document"]),
            "",
        ]
    if brief["plan"]:
        steps = [f"`{s['id']}` {s['title']}" for s in brief["plan"]["steps"]]
        lines += _list(f"Approved plan, version {brief['plan']['version']}", steps)
    lines += _list("Children", [_child_line(child) for child in brief["children"]])
    lines += _list("Paths", [f"`{p}`" for p in brief["paths"]])
    lines += _list("Tools", [f"`{t}`" for t in brief["tools"]])
    return "\n".join(lines)


def _child_line(child: Mapping[str, Any]) -> str:
    summary = f": {child['summary']}" if child["summary"] else ""
    return f"`{child['ref']}` {child['title']} ({child['phase']}){summary}"


def _list(title: str, items: Sequence[str]) -> list[str]:
    return [f"**{title}**", "", *(f"- {' '.join(item.split())}" for item in items), ""] if items else []
