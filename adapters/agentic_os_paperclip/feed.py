"""What others did, read from the company's audit: complete, in order, and checked against the things themselves."""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from agentic_os.control_plane import (
    AgentSeen,
    CommentSeen,
    Denied,
    FieldChanged,
    Invalid,
    IssueDeleted,
    IssueOpened,
    NotFound,
    Observation,
    PlanEdited,
    ReviewDecided,
    RunSeen,
    Unavailable,
)

from .accounts import Accounts
from .documents import PLAN, Json, cards_of, edited_version, is_ours
from .labels import Labels
from .mapping import STATE_LABEL, Record, body_of, closed_of, labels_of, project_of, record_of, status_of
from .pauses import Pauses
from .text import told
from .transport import Transport

_OVERLAP: Final = timedelta(seconds=10)
"""How much later than a row of a later instant a row may appear: rows are stamped before they are committed."""
_ENOUGH: Final = 500
_OF_A_RUN: Final = {
    "environment.lease_acquired": "alive",
    "environment.lease_released": "ended",
    "issue.stale_lock_cleared": "ended",
    "issue.execution_recovery_settled": "ended",
}
"""What tells of runs. The last two are all that is told of one that ended with its server."""
_OF_A_DOCUMENT: Final = (
    "issue.document_created",
    "issue.document_updated",
    "issue.document_restored",
    "issue.document_deleted",
)
_OWN_SUMMARY: Final = "run_presentation_resolver"
"""The source of comments that Paperclip writes about a run in the agent's name."""
_DRIFT: Final = frozenset({"backlog", "blocked", "todo"})
_FIELDS: Final = {"title": "title", "description": "body", "priority": "priority"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where a reader is: the instant of the newest row that it has seen, and the rows seen shortly before that.

    seen: the id of a row -> its instant. paused: the agents that were told to be paused -> why.
    """

    at: datetime | None = None
    seen: Mapping[str, datetime] = field(default_factory=dict)
    paused: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.at is None and not self.paused:
            return ""
        written: dict[str, Any] = {} if self.at is None else {"at": _instant(self.at)}
        written["seen"] = {each: _instant(at) for each, at in sorted(self.seen.items())}
        if self.paused:
            written["paused"] = dict(sorted(self.paused.items()))
        return json.dumps(written)

    def after(self, row: Json) -> "Cursor":
        """Move on behind a row, and keep of those seen the ones that the overlap would bring again."""
        at = _at(row["createdAt"])
        newest = at if self.at is None else max(self.at, at)
        kept = {each: when for each, when in self.seen.items() if when >= newest - _OVERLAP}
        return replace(self, at=newest, seen={**kept, row["id"]: at})

    def having_told(self, seen: Sequence[AgentSeen]) -> "Cursor":
        """Remember who is paused now, and why."""
        now_paused = {each.account: each.detail for each in seen if each.state == "paused"}
        ready = {each.account for each in seen if each.state == "ready"}
        kept = {agent: why for agent, why in self.paused.items() if agent not in ready}
        return replace(self, paused=kept | now_paused)


def cursor_from(text: str) -> Cursor:
    """Read a cursor. Raises Invalid for one that this adapter did not give."""
    if not text:
        return Cursor()
    try:
        document = json.loads(text)
        found = Cursor(
            at=_at(document["at"]) if "at" in document else None,
            seen={each: _at(when) for each, when in document["seen"].items()},
            paused={str(agent): str(why) for agent, why in document.get("paused", {}).items()},
        )
        instants = [*found.seen.values(), *([found.at] if found.at else [])]
        known = all(at.tzinfo is not None for at in instants) and (found.at is not None or not found.seen)
    except (AttributeError, KeyError, TypeError, ValueError):
        known, found = False, Cursor()
    if not known:
        raise Invalid(f"this is no cursor of Paperclip's feed: {text[:80]!r}")
    return found


class Feed:
    """Reads the audit, and the things that its rows name: what a row says of a text or an author is only a hint."""

    def __init__(self, transport: Transport, labels: Labels, accounts: Accounts, *, page: int) -> None:
        self._paperclip = transport
        self._labels = labels
        self._accounts = accounts
        self._pauses = Pauses(transport)
        self._page = page
        self._ahead: tuple[str, list[Json]] = ("", [])
        self._readers: Mapping[str, Callable[[Json, str], AsyncIterator[Observation]]] = {
            "issue.updated": self._changed,
            "issue.created": self._opened,
            "issue.child_created": self._opened,
            "routine.run_triggered": self._routine_ran,
            "issue.deleted": self._deleted,
            "issue.comment_added": self._comment,
            "issue.comment_deleted": self._comment,
            "issue.comment_cancelled": self._comment,
            "issue.thread_interaction_accepted": self._decided,
            "issue.thread_interaction_rejected": self._decided,
            **dict.fromkeys(_OF_A_DOCUMENT, self._document),
            **dict.fromkeys(_OF_A_RUN, self._run),
        }

    async def read(self, cursor: str) -> tuple[Sequence[Observation], str]:
        """Read on from a cursor, up to the end of the audit or some hundreds of observations; agents come first."""
        position = cursor_from(cursor)
        rows = self._ahead[1] if self._ahead[1] and self._ahead[0] == cursor else await self._rows(position)
        try:
            agents = await self._pauses.compare(position.paused, rows)
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable(error) from error
        position = position.having_told(agents)
        observed: list[Observation] = list(agents)
        for taken, row in enumerate(rows, start=1):
            observed += [each async for each in self._observations(row)]
            position = position.after(row)
            if len(observed) >= _ENOUGH:
                self._ahead = (str(position), rows[taken:])
                return observed, str(position)
        self._ahead = ("", [])
        return observed, str(position)

    async def probe(self) -> None:
        """Make sure that the feed can be read. Raises what hinders it."""
        await self._page_of({"actorScope": "all", "limit": 1})

    async def _page_of(self, parameters: Mapping[str, Any]) -> tuple[Sequence[Json], str | None]:
        page = await self._paperclip.of_company("GET", "/audit/agent-actions", parameters=parameters)
        try:
            if page["accessTier"] != "full":
                raise Denied("our account may not read who did what: agentic-os-paperclip connect grants it")
            return page["items"], page["nextCursor"]
        except (KeyError, TypeError) as error:
            raise _unreadable(error) from error

    async def _rows(self, position: Cursor) -> list[Json]:
        """Read the rows that were not seen yet, oldest first. The audit lists the newest first."""
        parameters: dict[str, Any] = {"actorScope": "all", "limit": self._page}
        if position.at is not None:
            parameters["from"] = _instant(position.at - _OVERLAP)
        found: list[Json] = []
        while True:
            page, following = await self._page_of(parameters)
            found += [row for row in page if row["id"] not in position.seen]
            if not following:
                return sorted(found, key=_order)
            parameters["cursor"] = following

    async def _observations(self, row: Json) -> AsyncIterator[Observation]:
        user = (await self._paperclip.backend()).user
        try:
            read = self._readers.get(row["action"])
            if read is None or (row["actorId"] == user and row["action"] not in _OF_A_RUN):
                return
            async for each in read(row, user):
                yield each
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable(error) from error

    async def _deleted(self, row: Json, _user: str) -> AsyncIterator[Observation]:
        yield IssueDeleted(**_where(row, row["entityId"]), author=row["actorId"])

    async def _comment(self, row: Json, user: str) -> AsyncIterator[Observation]:
        """See a comment as it is now: anybody of the board may write rows, nobody another's comment."""
        details = row["details"] or {}
        if details.get("source") == _OWN_SUMMARY or "commentId" not in details:
            return
        key, comment_id = row["entityId"], details["commentId"]
        try:
            comment = await self._paperclip.ask("GET", f"/issues/{key}/comments/{comment_id}")
        except NotFound:
            return
        author = comment["authorUserId"] or comment["authorAgentId"]
        if author is None or author == user:
            return
        if row["action"] == "issue.comment_added":
            if comment["deletedAt"]:
                return
            edited = _at(comment["updatedAt"]) > _at(comment["createdAt"])
            yield CommentSeen(
                **_where(row, key),
                comment_id=comment_id,
                author=author,
                body=comment["body"],
                action="edited" if edited else "created",
            )
        elif comment["deletedAt"]:
            by = comment["deletedByUserId"] or comment["deletedByAgentId"] or row["actorId"]
            yield CommentSeen(**_where(row, key), comment_id=comment_id, author=by, body="", action="deleted")

    async def _document(self, row: Json, user: str) -> AsyncIterator[Observation]:
        """See what somebody made of a document of ours: of the plan, another version."""
        details = row["details"] or {}
        key, name, number = row["entityId"], details.get("key") or "", details.get("revisionNumber")
        if name == PLAN and number is not None:
            try:
                revisions = await self._paperclip.ask("GET", f"/issues/{key}/documents/{PLAN}/revisions")
            except NotFound:
                revisions = []
            found = edited_version(revisions, number, user=user)
            author = (found[0]["createdByUserId"] or found[0]["createdByAgentId"]) if found else None
            if found is not None and author and author != user:
                yield PlanEdited(
                    **_where(row, key), digest=found[1], author=author, text=told(found[0]["body"])
                )
                return
        if is_ours(name):
            yield _field(row, "document", name)

    async def _decided(self, row: Json, user: str) -> AsyncIterator[Observation]:
        """See a decision on a gate of ours, by whoever Paperclip says made it; an agent's is no vote."""
        key, interaction = row["entityId"], row["details"]["interactionId"]
        try:
            interactions = await self._paperclip.ask("GET", f"/issues/{key}/interactions")
        except NotFound:
            return
        found = next((each for each in interactions if each["id"] == interaction), None)
        cards = cards_of([found] if found else [], user=user)
        if found is None or not cards or not found["resolvedByUserId"] or found["resolvedByUserId"] == user:
            return
        accepted = found["status"] == "accepted"
        if not accepted and found["status"] != "rejected":
            return
        yield ReviewDecided(
            **_where(row, key),
            digest=cards[0].digest,
            author=found["resolvedByUserId"],
            verdict="approve" if accepted else "revise",
            body=(found["result"] or {}).get("reason") or "",
        )

    async def _routine_ran(self, row: Json, user: str) -> AsyncIterator[Observation]:
        """See the issue that a routine opened, of which the audit tells only that the routine ran."""
        try:
            runs = await self._paperclip.ask("GET", f"/routines/{row['details']['routineId']}/runs")
        except NotFound:
            return
        key = next((run["linkedIssueId"] for run in runs if run["id"] == row["entityId"]), None)
        if key:
            async for each in self._opened({**row, "entityId": key}, user):
                yield each

    async def _opened(self, row: Json, user: str) -> AsyncIterator[Observation]:
        """See an issue that somebody opened, as it is now."""
        try:
            issue = await self._paperclip.ask("GET", f"/issues/{row['entityId']}")
        except NotFound:
            return
        author = issue["createdByUserId"] or issue["createdByAgentId"] or ""
        routine = ""
        if issue["originKind"] == "routine_execution" and issue["originId"]:
            author, routine = await self._routine(issue["originId"], author)
        if author == user:
            return
        yield IssueOpened(
            **_where(row, issue["id"]),
            author=author,
            title=issue["title"],
            body=body_of(issue["description"]),
            project=project_of(issue),
            labels=labels_of(issue),
            routine=routine,
        )

    async def _routine(self, routine: str, author: str) -> tuple[str, str]:
        """Say whose routine opened an issue, and what it is called."""
        try:
            found = await self._paperclip.ask("GET", f"/routines/{routine}")
        except NotFound:
            return author, routine
        return found["createdByUserId"] or author, found["title"]

    async def _changed(self, row: Json, _user: str) -> AsyncIterator[Observation]:
        """See the fields that somebody changed, each by itself."""
        details = row["details"] or {}
        changes = details.get("changes") or {}
        for name, ours in _FIELDS.items():
            if name in changes:
                value = details.get(name, changes[name]["to"]) or ""
                yield _field(row, ours, body_of(value) if ours == "body" else value)
                before = (details.get("_previous") or {}).get(name)
                if ours == "body" and status_of(value) != status_of(before):
                    yield _field(row, "document", "status")
        if "labelIds" in changes:
            async for each in self._labelled(row, changes["labelIds"]):
                yield each
        if "projectId" in changes:
            after, before = [await self._project(changes["projectId"][end]) for end in ("to", "from")]
            yield _field(row, "project", after, before)
        if "status" in changes:
            for each in _status_changed(row, changes["status"]):
                yield each
        if "assigneeAgentId" in changes or "assigneeUserId" in changes:
            to = [(changes.get(name) or {}).get("to") for name in ("assigneeAgentId", "assigneeUserId")]
            yield _field(row, "assignee", next((account for account in to if account), ""))

    async def _project(self, project: str | None) -> str:
        """Name a project, "" for none and one that is gone."""
        try:
            return (await self._paperclip.ask("GET", f"/projects/{project}"))["name"] if project else ""
        except NotFound:
            return ""

    async def _labelled(self, row: Json, change: Json) -> AsyncIterator[Observation]:
        before, after = await self._labels.names(change["from"]), await self._labels.names(change["to"])
        ours = [[name for name in names if name.startswith(STATE_LABEL)] for names in (before, after)]
        others = [[name for name in names if not name.startswith(STATE_LABEL)] for names in (before, after)]
        if sorted(others[0]) != sorted(others[1]):
            yield _field(row, "labels", ", ".join(others[1]), ", ".join(others[0]))
        if sorted(ours[0]) != sorted(ours[1]):
            yield _field(row, "state", "+".join(name.removeprefix(STATE_LABEL) for name in ours[1]))

    async def _run(self, row: Json, _user: str) -> AsyncIterator[Observation]:
        """See a run of an agent that works within its runs, for the attempt that it was started for."""
        details = row["details"] or {}
        run_id = row["runId"] or details.get("clearedExecutionRunId")
        if not run_id:
            return
        try:
            run = await self._paperclip.ask("GET", f"/heartbeat-runs/{run_id}")
            key = (run["contextSnapshot"] or {}).get("issueId")
            if not key or not await self._accounts.works_in_its_run(run["agentId"]):
                return
            record = await self._record_at(key, run["createdAt"])
        except NotFound:
            return
        if record is None or record.account != run["agentId"]:
            return
        yield RunSeen(
            **_where(row, key),
            task_id=record.task,
            attempt=record.attempt,
            state=_OF_A_RUN[row["action"]],  # type: ignore[arg-type]  # the table's values are the literal's
            detail=details.get("failureReason") or "",
        )

    async def _record_at(self, key: str, at: str) -> Record | None:
        """Find which attempt an issue was assigned for at an instant: the last that we wrote before."""
        parameters = {
            "actorScope": "all",
            "limit": self._page,
            "entityType": "issue",
            "entityId": key,
            "action": "issue.updated",
            "to": at,
        }
        while True:
            page, following = await self._page_of(parameters)
            for row in page:
                code = ((row["details"] or {}).get("changes") or {}).get("billingCode")
                record = record_of({"billingCode": code["to"]}) if code else None
                if record is not None and record.account:
                    return record
            if not following:
                return None
            parameters["cursor"] = following


def _status_changed(row: Json, change: Json) -> Sequence[Observation]:
    """Tell closing and reopening, and any other change that contradicts what we show."""
    before, after = closed_of(change["from"]), closed_of(change["to"])
    if before != after:
        return [_field(row, "closed", after or "")]
    # Paperclip moves issues by itself while an agent works; that is no drift.
    if row["actorType"] == "user" and change["to"] in _DRIFT | {"in_progress", "in_review"}:
        return [_field(row, "state", change["to"])]
    if row["actorType"] == "agent" and change["to"] in _DRIFT:
        return [_field(row, "state", change["to"])]
    return []


def _field(row: Json, name: str, value: str, before: str | None = None) -> FieldChanged:
    where = _where(row, row["entityId"])
    where["delivery"] = f"{where['delivery']}:{name}"
    return FieldChanged(**where, field=name, author=row["actorId"], value=value, before=before)


def _where(row: Json, key: str) -> dict[str, Any]:
    return {"delivery": row["id"], "key": key, "at": _at(row["createdAt"])}


def _order(row: Json) -> tuple[str, str]:
    return row["createdAt"], row["id"]


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _instant(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _unreadable(error: Exception) -> Unavailable:
    return Unavailable(f"Paperclip's feed cannot be read: {error!r}")
