"""Finding issues: by open or closed, state, project and words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from .database import Connection, Row
from .fields import Search, Word

PAGE_SIZE = 25


class IssueFilter(BaseModel):
    """What to list. show "decision": open issues with a review that waits for somebody."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    show: Literal["open", "decision", "closed", "all"] = "open"
    state: Word = ""
    project: Word = ""
    q: Search = ""
    page: int = Field(default=1, ge=1, le=10_000)


@dataclass(frozen=True, slots=True)
class IssuePage:
    """One page of issues; more: whether another follows."""

    rows: Sequence[Row]
    more: bool


async def list_issues(tx: Connection, wanted: IssueFilter) -> IssuePage:
    """Read one page of issues, last changed first."""
    pattern = "%" + wanted.q.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    cursor = await tx.execute(
        "select issues.*, accounts.name as assignee_name, accounts.kind as assignee_kind,"
        " exists (select from reviews where issue = number and outcome is null) as in_review,"
        " (select count(*) from comments where issue = number and marker is null and deleted_at is null) as comments"
        " from issues left join accounts on accounts.id = assignee"
        " where (%(show)s = 'all' or (closed is not null) = (%(show)s = 'closed'))"
        " and (%(show)s <> 'decision' or exists (select from reviews where issue = number and outcome is null))"
        " and (%(state)s = '' or state = %(state)s) and (%(project)s = '' or project = %(project)s)"
        " and (%(q)s = '' or title ilike %(pattern)s or body ilike %(pattern)s or number::text = %(q)s)"
        " order by issues.updated_at desc, number desc limit %(limit)s offset %(offset)s",
        {
            **wanted.model_dump(),
            "pattern": pattern,
            "limit": PAGE_SIZE + 1,
            "offset": (wanted.page - 1) * PAGE_SIZE,
        },
    )
    rows = await cursor.fetchall()
    return IssuePage(rows[:PAGE_SIZE], len(rows) > PAGE_SIZE)


async def count_issues(tx: Connection) -> Row:
    """Count the issues behind each tab of the list."""
    cursor = await tx.execute(
        "select count(*) filter (where closed is null) as open,"
        " count(*) filter (where closed is not null) as closed, count(*) as all,"
        " count(*) filter (where closed is null and exists"
        "   (select from reviews where issue = number and outcome is null)) as decision from issues"
    )
    row = await cursor.fetchone()
    return row or {}


async def list_filters(tx: Connection) -> tuple[Sequence[str], Sequence[str]]:
    """List the states and the projects that there are to choose from."""
    states = await tx.execute("select distinct state from issues where state <> '' order by state limit 100")
    projects = await tx.execute(
        "select distinct project from issues where project <> '' order by project limit 100"
    )
    return [row["state"] async for row in states], [row["project"] async for row in projects]
