"""Between Paperclip's JSON and the port's types: pure functions, which raise KeyError, TypeError or ValueError."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from agentic_os.control_plane import Assignment, Issue, IssueChanges, IssueDraft

from .documents import Json, cards_of, document_from, notes_of
from .text import kept, told

STATE_LABEL: Final = "aos:"
"""How the label begins that shows the task's phase; people's labels never begin so."""
_RECORD: Final = "agentic-os:"
_REPLACED: Final = "agentic-os-replaced:"
_STATUS: Final = re.compile(
    r"<!-- agentic-os:status -->\n(.*?)\n<!-- agentic-os:status end -->\n{0,2}", re.DOTALL
)
_COMMENT: Final = "<!--"
_PARTED: Final = "<\u2060!--"
_FAR: Final = timedelta(days=365)
"""Paperclip's own watch never comes due: leases and deadlines are the backend's."""

_RECONCILED: Final = (
    "agentic-os closed the attempt of this run and revoked its token. What the run reported before is in the task's "
    "history; what comes later is quarantined and merged by nobody."
)

_CLOSED: Final[Mapping[str, Literal["completed", "not_planned"]]] = {
    "done": "completed",
    "cancelled": "not_planned",
}
_STATUS_OF_CLOSED: Final = {closed: status for status, closed in _CLOSED.items()}
_AT_WORK: Final = frozenset({"dispatched", "planning", "executing"})
_STATUSES: Final[Mapping[str, str]] = {
    "received": "todo",
    "ready": "todo",
    "retry_wait": "todo",
    "plan_review": "in_review",
    "result_review": "in_review",
    "input_required": "in_review",
    "dead_letter": "in_review",
}
_MEANT: Final[Mapping[str, frozenset[str]]] = {
    "todo": frozenset({"todo", "backlog", "in_progress"}),
    "in_review": frozenset({"in_review"}),
    "in_progress": frozenset({"in_progress", "in_review", "blocked"}),
}
"""Which statuses are no drift where another was set: Paperclip moves issues, too, and some mean the same to people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the issue's billing code says of its task: the newest attempt that somebody was woken for, and who.

    account: "" where the attempt's assignee was taken away. attempt: 0 before the first.
    """

    task: str
    attempt: int
    account: str

    def __str__(self) -> str:
        return f"{_RECORD}{self.task}:{self.attempt}:{self.account}"


def record_of(issue: Json) -> Record | None:
    """Read what we last wrote beside the assignee; None where nothing of ours is there, or somebody changed it."""
    code = issue["billingCode"] or ""
    parts = code.removeprefix(_RECORD).split(":")
    if not code.startswith(_RECORD) or len(parts) != len(("task", "attempt", "account")):
        return None
    task, attempt, account = parts
    if not task or not (attempt.isascii() and attempt.isdigit() and len(attempt) < len("1000000")):
        return None
    return Record(task=task, attempt=int(attempt), account=account)


def is_replaced(issue: Json) -> bool:
    """Tell whether another issue took this one's place."""
    return (issue["billingCode"] or "").startswith(_REPLACED)


def assignee_of(issue: Json) -> str:
    """Name the account that the issue is assigned to, "" for none."""
    return str(issue["assigneeAgentId"] or issue["assigneeUserId"] or "")


def assignment_of(issue: Json) -> Assignment | None:
    """Read who works on an issue; by hand, the attempt is 0."""
    account = assignee_of(issue)
    if not account:
        return None
    record = record_of(issue)
    given = record is not None and record.account == account
    return Assignment(
        account=account,
        task_id=record.task if record is not None else "",
        attempt=record.attempt if record is not None and given else 0,
    )


def status_for(state: str, *, at_work: bool) -> str | None:
    """Say which status shows a state; None where Paperclip has no word for it. at_work: an agent is assigned."""
    if state in _AT_WORK:
        return "in_progress" if at_work else "todo"
    return _STATUSES.get(state)


def state_of(issue: Json) -> str:
    """Read our state label, with what contradicts it, so that a status that somebody changed is repaired."""
    states = sorted(name for name in _label_names(issue) if name.startswith(STATE_LABEL))
    state = "+".join(name.removeprefix(STATE_LABEL) for name in states)
    wanted = status_for(state, at_work=bool(issue["assigneeAgentId"]))
    status = issue["status"]
    if wanted is None or status in _CLOSED or status in _MEANT[wanted]:
        return state
    return f"{state} ({status})"


def labels_of(issue: Json) -> tuple[str, ...]:
    """List everybody's labels, without our state label."""
    return tuple(name for name in _label_names(issue) if not name.startswith(STATE_LABEL))


def project_of(issue: Json) -> str:
    """Name the issue's project, "" for none."""
    return issue["project"]["name"] if issue["project"] else ""


def _label_names(issue: Json) -> Sequence[str]:
    return [label["name"] for label in issue["labels"]]


def closed_of(status: str) -> Literal["completed", "not_planned"] | None:
    """Say how a status closes an issue; None for one that is open."""
    return _CLOSED.get(status)


def issue_from(
    issue: Json,
    comments: Iterable[Json],
    documents: Iterable[Json],
    interactions: Iterable[Json],
    *,
    user: str,
    url: str,
) -> Issue:
    """Read an issue with all that hangs on it. user: our own account; url: where the server's pages are."""
    return Issue(
        key=issue["id"],
        url=issue_url(issue, url),
        title=issue["title"],
        body=body_of(issue["description"]),
        status=status_of(issue["description"]),
        state=state_of(issue),
        closed=closed_of(issue["status"]),
        labels=labels_of(issue),
        assignment=assignment_of(issue),
        notes={note.marker: note for note in notes_of(comments, documents, user=user)},
        reviews=tuple(card.digest for card in cards_of(interactions, user=user) if card.pending),
        project=project_of(issue),
        priority=issue["priority"],
        parent=issue["parentId"] or "",
        documents={each["key"]: document_from(each) for each in documents},
    )


def body_of(description: str | None) -> str:
    """Read the text of an issue, without our status note."""
    return told(_STATUS.sub("", description or "", count=1))


def status_of(description: str | None) -> str:
    """Read our status note, "" for none."""
    found = _STATUS.search(description or "")
    return told(found[1]).replace(_PARTED, _COMMENT) if found else ""


def description_to(body: str, status: str) -> str:
    """Write the text of an issue, with our status note above it; what is in the note ends no note."""
    note = kept(status.replace(_COMMENT, _PARTED))
    section = f"<!-- agentic-os:status -->\n{note}\n<!-- agentic-os:status end -->\n\n" if status else ""
    return section + kept(body)


def issue_url(issue: Json, url: str) -> str:
    """Say where people see the issue: below the prefix of its company."""
    identifier = str(issue["identifier"])
    return f"{url}/{identifier.rpartition('-')[0]}/issues/{identifier}"


def draft_to(draft: IssueDraft, project: str | None, labels: Sequence[str], key: str) -> dict[str, Any]:
    """Write the issue that a task wants. project, labels: their ids; key: what makes a repeat find the same issue."""
    document: dict[str, Any] = {
        "title": draft.title,
        "description": description_to(draft.body, draft.status),
        "status": status_for(draft.state, at_work=False) or "todo",
        "labelIds": list(labels),
        "billingCode": str(Record(task=draft.task_id, attempt=0, account="")),
        "idempotencyKey": key,
        # Without it, another task of the same title would be answered with that one's issue.
        "allowDuplicate": True,
    }
    given = {"projectId": project, "priority": draft.priority, "parentId": draft.parent}
    return document | {name: value for name, value in given.items() if value}


def changes_to(changes: IssueChanges, issue: Json, at: datetime) -> dict[str, Any]:
    """Write the fields that are to change, labels excepted; what is as it should be already is left out."""
    given = {"title": changes.title, "priority": changes.priority}
    document: dict[str, Any] = {
        name: value for name, value in given.items() if value is not None and value != (issue[name] or "")
    }
    before = issue["description"] or ""
    description = description_to(
        body_of(before) if changes.body is None else changes.body,
        status_of(before) if changes.status is None else changes.status,
    )
    if description != before and not (changes.body is None and changes.status is None):
        document["description"] = description
    if changes.parent is not None and changes.parent != (issue["parentId"] or ""):
        document["parentId"] = changes.parent or None
    status = _status_to(changes, issue)
    if status is not None and status != issue["status"]:
        document["status"] = status
    if issue["assigneeAgentId"] and document.get("status") == "in_progress":
        document["executionPolicy"] = watched(issue, at)
    return document


def _status_to(changes: IssueChanges, issue: Json) -> str | None:
    if changes.closed:
        return _STATUS_OF_CLOSED[changes.closed]
    is_open = changes.closed == "" or issue["status"] not in _CLOSED
    if not is_open or (changes.state is None and changes.closed is None):
        return None
    state = state_of(issue).partition(" ")[0] if changes.state is None else changes.state
    wanted = status_for(state, at_work=bool(issue["assigneeAgentId"]))
    if wanted is None:
        return "todo" if issue["status"] in _CLOSED else None
    return None if issue["status"] in _MEANT[wanted] else wanted


def assign_to(issue: Json, assignment: Assignment, at: datetime) -> dict[str, Any]:
    """Give the issue to an agent, which wakes it, and keep the attempt beside it in the same change."""
    gate = status_for(state_of(issue).partition(" ")[0], at_work=True) == "in_review"
    return {
        "assigneeAgentId": assignment.account,
        "assigneeUserId": None,
        "status": "in_review" if gate else "in_progress",
        "billingCode": str(
            Record(task=assignment.task_id, attempt=assignment.attempt, account=assignment.account)
        ),
        "executionPolicy": watched(issue, at),
    }


def unassign_to(issue: Json) -> dict[str, Any]:
    """Take the assignee away, and remember that its attempt has had its wake."""
    document: dict[str, Any] = {"assigneeAgentId": None, "assigneeUserId": None}
    record = record_of(issue)
    if record is not None and record.account:
        document["billingCode"] = str(Record(task=record.task, attempt=record.attempt, account=""))
    if issue["status"] == "in_progress":
        document["status"] = "todo"
    return document


def wake_of(events: Iterable[Json], agent: str, *, since: str) -> str:
    """Say what became of the wake of an agent for its assignment at an instant, "" where there is none yet."""
    at = datetime.fromisoformat(since)
    for event in events:
        mine = event["source"] == "assignment" and event["agentId"] == agent
        if mine and datetime.fromisoformat(event["requestedAt"]) >= at:
            return str(event["status"])
    return ""


def watched(issue: Json, at: datetime) -> dict[str, Any]:
    """Tell Paperclip that somebody watches over the work, so that the end of a run starts no recovery of its own."""
    policy = dict(issue["executionPolicy"] or {})
    policy["monitor"] = {
        "nextCheckAt": (at + _FAR).isoformat().replace("+00:00", "Z"),
        "kind": "external_service",
        "serviceName": "agentic-os",
        "notes": "agentic-os holds the lease of this attempt, and dispatches the next one.",
        "scheduledBy": "board",
    }
    return {"mode": "normal", "stages": [], **policy, "commentRequired": policy.get("commentRequired", False)}


def replaced_to(issue: Json, task: str, other: Json) -> dict[str, Any]:
    """Close an issue whose place another took, and say where the work goes on."""
    states = {label["id"] for label in issue["labels"] if label["name"].startswith(STATE_LABEL)}
    return {
        "billingCode": f"{_REPLACED}{task}",
        "status": "cancelled",
        "assigneeAgentId": None,
        "assigneeUserId": None,
        "labelIds": [each for each in issue["labelIds"] if each not in states],
        "comment": (
            f"**The work goes on at {other['identifier']}.** Paperclip does not let go of a run on this issue, and "
            "wakes nobody here any more. What is written here is still read."
        ),
    }


def reconciled(blocker: Json) -> dict[str, Any]:
    """Say what became of a run that failed, so that Paperclip lets its agent go on."""
    return {
        "actionId": blocker["recoveryActionId"],
        "outcome": "restored",
        "sourceIssueStatus": "todo",
        "resolutionNote": "agentic-os dispatches the next attempt.",
        "executionReconciliation": {
            "runId": blocker["runId"],
            "providerStopped": True,
            "actionOutcome": "mixed",
            "outcomeEvidence": _RECONCILED,
        },
    }
