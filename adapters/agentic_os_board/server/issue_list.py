"""Finding issues: by open or closed, state, project, label, assignee, priority and words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from .database import Connection, Row
from .fields import Priority, Search, Word

PAGE_SIZE: Final = 25
CHOICES: Final = 100

_TABS: Final = {
    "open": "closed is null",
    "decision": "closed is null and in_review",
    "closed": "closed is not null",
    "all": "true",
}
_FILTERS: Final = {
    "state": "state = %(state)s",
    "project": "project = %(project)s",
    "label": "labels @> array[%(label)s]",
    "priority": "priority = %(priority)s",
}
_ORDERS: Final = {
    "updated": "updated_at desc, number desc",
    "newest": "number desc",
    "oldest": "number",
    "priority": "urgency desc, updated_at desc, number desc",
}
# The signs that the column `words` takes for spaces too: both sides must cut a text alike.
_SIGNS: Final = str.maketrans(dict.fromkeys("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", " "))


class IssueFilter(BaseModel):
    """What to list. show "decision": open issues with a review that waits for somebody.

    assignee: the id of an account, or "nobody". q: words that all begin words of the title or the text, or a number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    show: Literal["open", "decision", "closed", "all"] = "open"
    state: Word = ""
    project: Word = ""
    label: Word = ""
    priority: Priority = ""
    assignee: UUID | Literal["nobody", ""] = ""
    q: Search = ""
    sort: Literal["updated", "newest", "oldest", "priority"] = "updated"
    page: int = Field(default=1, ge=1, le=10_000)

    @property
    def narrows(self) -> bool:
        """Whether anything but the tab is asked for."""
        return any((self.state, self.project, self.label, self.priority, self.assignee, self.q))

    def but(self, **changes: Any) -> Mapping[str, Any]:
        """Return the fields for a link to the same list with something changed, from its first page on."""
        asked = self.model_dump() | {"page": 1} | changes
        return {
            name: value for name, value in asked.items() if value != IssueFilter.model_fields[name].default
        }


@dataclass(frozen=True, slots=True)
class IssuePage:
    """One page of issues; more: whether another follows; counts: how many match behind each tab."""

    rows: Sequence[Row]
    more: bool
    counts: Mapping[str, int]


async def list_issues(tx: Connection, wanted: IssueFilter) -> IssuePage:
    """Read one page of issues in the order that is asked for, and count what matches.

    What matches is found once, and by narrow columns; only the page is then looked up as a whole. Left to itself, the
    planner walks the order until a page is full, and so past everything when little matches.
    """
    condition, values = _condition(wanted)
    counts = ", ".join(f"count(*) filter (where {tab}) as in_{name}" for name, tab in _TABS.items())
    order = _ORDERS[wanted.sort]
    cursor = await tx.execute(
        "with waiting as (select distinct issue from reviews where outcome is null),"  # noqa: S608 - of our own constants
        " matches as materialized (select number, closed, updated_at, urgency, number in (table waiting) as in_review"
        f" from issues where {condition}), counts as (select {counts} from matches),"
        f" page as (select number, in_review from matches where {_TABS[wanted.show]}"
        f" order by {order} limit %(limit)s offset %(offset)s)"
        " select counts.*, issues.number, task_id, title, project, state, labels, priority, urgency, parent, closed,"
        " updated_at, in_review, accounts.name as assignee_name, accounts.kind as assignee_kind,"
        " (select count(*) from comments where issue = number and marker is null and deleted_at is null) as comments"
        " from counts left join (page join issues using (number)) on true"
        f" left join accounts on accounts.id = assignee order by {order}",
        values | {"limit": PAGE_SIZE + 1, "offset": (wanted.page - 1) * PAGE_SIZE},
    )
    rows = await cursor.fetchall()
    found = [row for row in rows if row["number"] is not None]
    return IssuePage(
        rows=found[:PAGE_SIZE],
        more=len(found) > PAGE_SIZE,
        counts={name: rows[0][f"in_{name}"] for name in _TABS},
    )


async def list_choices(tx: Connection) -> Mapping[str, Sequence[Any]]:
    """List the states, projects, labels and assignees that there are to choose from, a hundred of each."""
    assignees = await tx.execute(
        "select id, name, kind from accounts where exists (select from issues where assignee = accounts.id)"
        " order by name limit %s",
        (CHOICES,),
    )
    return {
        "states": await _distinct(tx, "state"),
        "projects": await _distinct(tx, "project"),
        "labels": await _labels(tx),
        "assignees": await assignees.fetchall(),
    }


async def _distinct(tx: Connection, column: Literal["state", "project"]) -> Sequence[str]:
    """Hop along the column's index from one value to the next, instead of reading every issue."""
    cursor = await tx.execute(
        f"with recursive hops as (select min({column}) as value from issues where {column} <> ''"  # noqa: S608 - of two names
        f" union all select (select min({column}) from issues where {column} > value)"
        " from hops where value is not null)"
        " select value from hops where value is not null limit %s",
        (CHOICES,),
    )
    return [row["value"] async for row in cursor]


async def _labels(tx: Connection) -> Sequence[str]:
    """List the labels of the issues that changed last; older ones can still be typed into the address."""
    cursor = await tx.execute(
        "select distinct label from"
        " (select labels from issues order by updated_at desc, number desc limit 1000) as recent,"
        " unnest(labels) as label order by label limit %s",
        (CHOICES,),
    )
    return [row["label"] async for row in cursor]


def _condition(wanted: IssueFilter) -> tuple[str, dict[str, Any]]:
    """Write what is asked for as SQL: only the filters that are set, so that the planner can choose an index."""
    parts = [condition for name, condition in _FILTERS.items() if getattr(wanted, name)]
    if wanted.assignee:
        parts.append("assignee is null" if wanted.assignee == "nobody" else "assignee = %(assignee)s")
    if wanted.q:
        number = wanted.q.removeprefix("#")
        if number.isascii() and number.isdigit() and len(number) < len(str(2**53)):
            parts.append("(words @@ to_tsquery('simple', %(words)s) or number = %(number)s)")
        else:
            parts.append("words @@ to_tsquery('simple', %(words)s)")
    values = {**wanted.model_dump(), "words": _tsquery(wanted.q), "number": None}
    if wanted.q.removeprefix("#").isdigit():
        values["number"] = int(wanted.q.removeprefix("#")[:16])
    return " and ".join(parts) or "true", values


def _tsquery(text: str) -> str:
    """Ask for every word of a text as the beginning of a word; signs alone ask for nothing, and find nothing."""
    return " & ".join(f"'{word}':*" for word in text.translate(_SIGNS).lower().split())
