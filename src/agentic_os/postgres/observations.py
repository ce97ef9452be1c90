"""What was heard from the tracker, and what became of each."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Select,
    String,
    Table,
    case,
    func,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB

from agentic_os.application.observations import Heard, Outcome
from agentic_os.postgres import selects
from agentic_os.postgres.pool import Pool

_KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "CommentSeen": ("comment", "action"),
    "ReviewDecided": ("decision", "verdict"),
    "PlanEdited": ("plan_edit", ""),
    "FieldChanged": ("field", "field"),
    "IssueOpened": ("opened", ""),
    "IssueDeleted": ("deleted", ""),
    "RunSeen": ("run", "state"),
    "AgentSeen": ("agent", "state"),
}
"""Type of an observation -> what people call it, and which part of it says more."""

_inbox: Final = Table(
    "inbox",
    selects.SCHEMA,
    Column("id", BigInteger, primary_key=True),
    *(Column(name, String) for name in ("control_plane", "key", "outcome", "reason")),
    *(Column(name, DateTime(timezone=True)) for name in ("at", "received_at", "done_at")),
    Column("observation", JSONB),
)
_account: Final = Table(
    "external_account",
    selects.SCHEMA,
    *(Column(name, String) for name in ("control_plane", "account", "principal")),
)
_links: Final = [
    Table(name, selects.SCHEMA, *(Column(part, String) for part in ("task_id", "control_plane", "key")))
    for name in ("issue", "former_issue")
]


def _part(*path: str) -> Any:
    return func.jsonb_extract_path_text(_inbox.c.observation, *path)


_KIND: Final = _part("kind")
_AUTHOR: Final = func.coalesce(_part("seen", "author"), "")
_DETAIL: Final = case({kind: _part("seen", part) for kind, (_, part) in _KINDS.items() if part}, value=_KIND)
_TASK: Final = func.coalesce(
    *(
        select(link.c.task_id)
        .where(link.c.control_plane == _inbox.c.control_plane, link.c.key == _inbox.c.key)
        .scalar_subquery()
        for link in _links
    )
)
_ALL: Final[Select[Any]] = select(
    _inbox.c.id,
    _inbox.c.control_plane,
    _inbox.c.key.label("issue"),
    _TASK.label("task_id"),
    _KIND.label("kind"),
    func.coalesce(_DETAIL, "").label("detail"),
    _AUTHOR.label("author"),
    _account.c.principal,
    _inbox.c.at,
    _inbox.c.received_at,
    func.coalesce(_inbox.c.outcome, "open").label("outcome"),
    func.coalesce(_inbox.c.reason, "").label("reason"),
    _inbox.c.done_at,
).outerjoin(_account, (_account.c.control_plane == _inbox.c.control_plane) & (_account.c.account == _AUTHOR))


class PostgresObservations:
    """The inbox over a pool of connections in autocommit."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def page(
        self,
        *,
        task_id: str | None = None,
        issue: str | None = None,
        outcome: Outcome | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> Sequence[Heard]:
        """List what was heard, the newest first; before: an id, behind which the list goes on."""
        query = _ALL
        if task_id is not None:
            issues = union_all(
                *(
                    select(link.c.control_plane, link.c.key).where(link.c.task_id == task_id)
                    for link in _links
                )
            )
            query = query.where(tuple_(_inbox.c.control_plane, _inbox.c.key).in_(issues))
        if issue is not None:
            query = query.where(_inbox.c.key == issue)
        if outcome == "open":
            query = query.where(_inbox.c.outcome.is_(None), _inbox.c.done_at.is_(None))
        elif outcome is not None:
            query = query.where(_inbox.c.outcome == outcome)
        if before is not None:
            query = query.where(_inbox.c.id < before)
        return await self._heard(query, limit)

    async def refused(self, control_plane: str, reason: str, since: datetime, limit: int) -> Sequence[Heard]:
        """List what was refused for this reason since then, the newest first, but of issues that show a task now."""
        wanted = (
            _inbox.c.outcome == "refused",
            _inbox.c.control_plane == control_plane,
            _inbox.c.reason == reason,
            _inbox.c.done_at >= since,
            _TASK.is_(None),
        )
        return await self._heard(_ALL.where(*wanted), limit)

    async def _heard(self, query: Select[Any], limit: int) -> Sequence[Heard]:
        rows = await selects.run(self._pool, query.order_by(_inbox.c.id.desc()).limit(limit))
        return [_heard(row) for row in rows]


def _heard(row: Sequence[Any]) -> Heard:
    values = dict(zip(_ALL.selected_columns.keys(), row, strict=True))
    kind, _ = _KINDS[values["kind"]]
    return Heard(**values | {"kind": kind, "issue": "" if kind == "agent" else values["issue"]})
