"""Between the board's JSON and the port's types: pure functions, which raise KeyError, TypeError or ValueError."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeAlias

from agentic_os.control_plane import (
    AgentSeen,
    Assignment,
    CommentSeen,
    FieldChanged,
    Issue,
    IssueChanges,
    IssueDeleted,
    IssueDraft,
    IssueOpened,
    Note,
    Observation,
    PlanEdited,
    Review,
    RunSeen,
)

Json: TypeAlias = Mapping[str, Any]
_COMMENTS = {"comment.created": "created", "comment.edited": "edited", "comment.deleted": "deleted"}
_RUNS = {"run.alive": "alive", "run.ended": "ended"}


def issue_from(document: Json) -> Issue:
    """Read an issue."""
    given = document["assignment"]
    notes = [Note(id=note["id"], marker=note["marker"], body=note["body"]) for note in document["notes"]]
    return Issue(
        key=document["key"],
        url=document["url"],
        title=document["title"],
        body=document["body"],
        state=document["state"],
        closed=document["closed"],
        labels=tuple(document["labels"]),
        assignment=Assignment(**given) if given else None,
        notes={note.marker: note for note in notes},
        reviews=tuple(document["reviews"]),
        project=document["project"],
        priority=document["priority"],
        parent=document["parent"] or "",
    )


def draft_to(draft: IssueDraft) -> dict[str, Any]:
    """Write the issue that a task wants."""
    return {
        "title": draft.title,
        "body": draft.body,
        "project": draft.project,
        "state": draft.state,
        "labels": list(draft.labels),
        "priority": draft.priority,
        "parent": int(draft.parent) if draft.parent else None,
    }


def changes_to(changes: IssueChanges) -> dict[str, Any]:
    """Write the fields that are to change."""
    given: dict[str, Any] = {
        "title": changes.title,
        "body": changes.body,
        "state": changes.state,
        "priority": changes.priority,
    }
    document = {field: value for field, value in given.items() if value is not None}
    if changes.labels is not None:
        document["labels"] = list(changes.labels)
    if changes.parent is not None:
        document["parent"] = int(changes.parent) if changes.parent else None
    if changes.closed is not None:
        document["closed"] = changes.closed or None
    return document


def review_to(review: Review) -> dict[str, Any]:
    """Write a gate."""
    return {
        "subject": review.subject,
        "version": review.version,
        "document": review.document,
        "answers": review.answers,
        "editable": review.editable,
        "directives": dict(review.directives),
    }


def observation_from(activity: Json) -> Observation | None:
    """Read what somebody else did; None for the backend's own doing."""
    if activity["own"]:
        return None
    kind = activity["kind"]
    if kind in _COMMENTS:
        return _comment(activity)
    if kind in _RUNS:
        return _run(activity)
    read = _READERS.get(kind)
    return read(activity) if read else None


def _where(activity: Json) -> dict[str, Any]:
    return {
        "delivery": activity["delivery"],
        "key": activity["issue"],
        "at": datetime.fromisoformat(activity["at"]),
    }


def _comment(activity: Json) -> CommentSeen:
    data = activity["data"]
    return CommentSeen(
        **_where(activity),
        comment_id=data["comment"],
        author=activity["actor"],
        body=data["body"],
        action=_COMMENTS[activity["kind"]],  # type: ignore[arg-type]  # the table's values are the literal's
    )


def _run(activity: Json) -> RunSeen:
    data = activity["data"]
    return RunSeen(
        **_where(activity),
        task_id=data["task_id"],
        attempt=data["attempt"],
        state=_RUNS[activity["kind"]],  # type: ignore[arg-type]  # the table's values are the literal's
        detail=_ended(data),
    )


def _ended(data: Json) -> str:
    """Say how a run ended and what its log said last; an activity of an earlier release has no log."""
    log_end = data.get("log_end", "")
    return f"{data['detail']}. Its log ends:\n{log_end}" if log_end else data["detail"]


def _field(activity: Json) -> FieldChanged:
    data = activity["data"]
    return FieldChanged(
        **_where(activity),
        field=data["field"],
        author=activity["actor"],
        value=_text(data["value"]),
        before=_text(data["before"]) if "before" in data else None,
    )


def _text(value: list[str] | str | None) -> str:
    return ", ".join(value) if isinstance(value, list) else value or ""


def _plan(activity: Json) -> PlanEdited:
    data = activity["data"]
    return PlanEdited(**_where(activity), digest=data["digest"], author=activity["actor"], text=data["text"])


def _opened(activity: Json) -> IssueOpened:
    data = activity["data"]
    return IssueOpened(
        **_where(activity),
        author=activity["actor"],
        title=data["title"],
        body=data["body"],
        project=data["project"],
        labels=tuple(data["labels"]),
        routine=data.get("routine", ""),
    )


def _deleted(activity: Json) -> IssueDeleted:
    return IssueDeleted(**_where(activity), author=activity["actor"])


def _deactivated(activity: Json) -> AgentSeen:
    account, actor = activity["data"]["account"], activity["actor"]
    return AgentSeen(
        delivery=activity["delivery"],
        account=account,
        state="paused",
        author="" if actor == account else actor,
        detail="deactivated",
        at=datetime.fromisoformat(activity["at"]),
    )


_READERS: Mapping[str, Callable[[Json], Observation]] = {
    "issue.changed": _field,
    "issue.opened": _opened,
    "plan.edited": _plan,
    "issue.deleted": _deleted,
    "agent.deactivated": _deactivated,
}
