"""Who works here, what for, and who reports to whom: what the board shows, and nobody's rights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from .accounts import Account, account_of, require_admin
from .database import Connection, Row
from .problems import Unacceptable


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Somebody's place. duty: what they are there for; run: what an agent does just now, None when idle."""

    account: Account
    duty: str
    reports_to: UUID | None
    run: Row | None
    reports: Sequence["Place"] = ()


async def read_places(tx: Connection) -> Mapping[UUID, Place]:
    """Read everybody's place by account, without the backend and those who left."""
    cursor = await tx.execute(
        "select accounts.*, busy.run from accounts left join lateral"
        " (select jsonb_build_object('id', id, 'issue', issue, 'attempt', attempt, 'state', state) as run from runs"
        "  where agent = accounts.id and state in ('queued', 'running') order by created_at limit 1) as busy on true"
        " where kind <> 'system' and deactivated_at is null order by kind desc, name"
    )
    return {
        row["id"]: Place(
            account=account_of(row), duty=row["duty"], reports_to=row["reports_to"], run=row["run"]
        )
        async for row in cursor
    }


def chart(places: Mapping[UUID, Place]) -> Sequence[Place]:
    """Hang everybody below whom they report to; who reports to nobody here stands on top."""
    below: dict[UUID | None, list[Place]] = {}
    for place in places.values():
        below.setdefault(place.reports_to if place.reports_to in places else None, []).append(place)
    return _hang(below, None)


def _hang(below: Mapping[UUID | None, Sequence[Place]], head: UUID | None) -> Sequence[Place]:
    return [
        Place(
            account=place.account,
            duty=place.duty,
            reports_to=place.reports_to,
            run=place.run,
            reports=_hang(below, place.account.id),
        )
        for place in below.get(head, ())
    ]


async def set_place(
    tx: Connection, actor: Account, account: Account, *, duty: str, reports_to: UUID | None
) -> None:
    """Say what somebody is there for and to whom they report. Raises Forbidden, Unacceptable."""
    require_admin(actor)
    if reports_to is not None:
        await _require_above(tx, account.id, reports_to)
    await tx.execute(
        "update accounts set duty = %s, reports_to = %s where id = %s", (duty, reports_to, account.id)
    )


async def _require_above(tx: Connection, account: UUID, head: UUID) -> None:
    # One change of the chart at a time: two that cross could make a circle.
    await tx.execute("lock table accounts in share row exclusive mode")
    cursor = await tx.execute(
        "with recursive line as (select id, kind, reports_to from accounts where id = %s"
        " union select accounts.id, accounts.kind, accounts.reports_to"
        " from accounts join line on accounts.id = line.reports_to) select id, kind from line",
        (head,),
    )
    line: dict[UUID, Any] = {row["id"]: row["kind"] for row in await cursor.fetchall()}
    if line.get(head) not in {"person", "agent"}:
        raise Unacceptable("whom they report to is no person and no agent of this board")
    if account in line:
        raise Unacceptable("nobody reports to themselves, nor to somebody below them")
