"""What trackers were told of spending, and what is on its way to them."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb
from pydantic import TypeAdapter

from agentic_os.application.ports import RefusedCost
from agentic_os.clock import now
from agentic_os.control_plane import Cost
from agentic_os.domain.documents import Usage
from agentic_os.domain.task import Spender
from agentic_os.postgres.pool import Pool

_cost: Final = TypeAdapter(Cost)

_FIND: Final = """
insert into es.cost (control_plane, task_id, executor) values (%(plane)s, %(task)s, %(executor)s)
on conflict (control_plane, task_id, executor) do update set executor = excluded.executor
returning cost_microusd, input_tokens, output_tokens, report
"""
_DRAW: Final = """
insert into es.cost_account as a (control_plane, executor, cost_microusd, at)
values (%(plane)s, %(executor)s, %(cost)s, %(at)s)
on conflict (control_plane, executor) do update set cost_microusd = a.cost_microusd + excluded.cost_microusd,
    at = greatest(excluded.at, a.at + interval '1 millisecond')
returning cost_microusd - %(cost)s, at
"""
_SEND: Final = """
update es.cost set cost_microusd = cost_microusd + %(cost)s, input_tokens = input_tokens + %(input)s,
    output_tokens = output_tokens + %(output)s, report = %(report)s
where control_plane = %(plane)s and task_id = %(task)s and executor = %(executor)s
"""
_OF: Final = "where control_plane = %s and task_id = %s and executor = %s"


class PostgresCostBook:
    """The cost book over a pool of connections in autocommit."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def told(self, control_plane: str, task_id: str) -> Mapping[str, Usage]:
        """Say what a tracker is known to have been told of a task, by executor."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select executor, cost_microusd, input_tokens, output_tokens from es.cost "
                "where control_plane = %s and task_id = %s and report is null",
                (control_plane, task_id),
            )
            rows = await cursor.fetchall()
        return {executor: _usage(*amounts) for executor, *amounts in rows}

    async def report(
        self, control_plane: str, task_id: str, executor: str, spender: Spender, account: str
    ) -> Cost | None:
        """Say what to tell next, None for nothing; it is known from now on that it is on its way."""
        names = {"plane": control_plane, "task": task_id, "executor": executor}
        async with self._pool.connection() as connection, connection.transaction():
            row = await (await connection.execute(_FIND, names)).fetchone()
            assert row is not None
            *amounts, report = row
            if report is not None:
                cost = _cost.validate_python({"account": account, **report})
                if "account" not in report:
                    await self._send(connection, names, cost, Usage())
                return cost
            spent = spender.usage.less(_usage(*amounts))
            if not (spent.cost_microusd or spent.input_tokens or spent.output_tokens):
                return None
            at = now()
            drawn = {**names, "cost": spent.cost_microusd, "at": _whole_milliseconds(at)}
            found = await (await connection.execute(_DRAW, drawn)).fetchone()
            assert found is not None
            cost = Cost(
                account=account,
                task_id=task_id,
                model=spender.model or "",
                cost_microusd=spent.cost_microusd,
                input_tokens=spent.input_tokens,
                output_tokens=spent.output_tokens,
                before=int(found[0]),
                at=found[1],
            )
            await self._send(connection, names, cost, spent)
        return cost

    async def came(self, control_plane: str, task_id: str, executor: str) -> None:
        """Note that the tracker has what was on its way."""
        async with self._pool.connection() as connection:
            await connection.execute(
                f"update es.cost set report = null, problem = null, refused_at = null {_OF}",  # noqa: S608 - constants
                (control_plane, task_id, executor),
            )

    async def refused(self, control_plane: str, task_id: str, executor: str, problem: str) -> None:
        """Note why the tracker did not take what was on its way; it may go to another account next time."""
        async with self._pool.connection() as connection:
            await connection.execute(
                f"update es.cost set report = report - 'account', problem = %s, refused_at = %s {_OF}",  # noqa: S608 - constants
                (problem[:1000], now(), control_plane, task_id, executor),
            )

    async def refusals(self, control_plane: str, since: datetime, limit: int) -> Sequence[RefusedCost]:
        """List what was refused since then and did not come later, the newest first."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select task_id, executor, problem from es.cost where control_plane = %s and problem is not null "
                "and refused_at > %s order by refused_at desc limit %s",
                (control_plane, since, limit),
            )
            rows = await cursor.fetchall()
        return [RefusedCost(task_id=task, executor=executor, problem=why) for task, executor, why in rows]

    async def _send(
        self, connection: AsyncConnection[TupleRow], names: Mapping[str, str], cost: Cost, spent: Usage
    ) -> None:
        amounts = {
            "cost": spent.cost_microusd,
            "input": spent.input_tokens,
            "output": spent.output_tokens,
            "report": Jsonb(_cost.dump_python(cost, mode="json")),
        }
        await connection.execute(_SEND, {**names, **amounts})


def _usage(cost: Any, input_tokens: Any, output_tokens: Any) -> Usage:
    return Usage(cost_microusd=int(cost), input_tokens=int(input_tokens), output_tokens=int(output_tokens))


def _whole_milliseconds(at: datetime) -> datetime:
    return at - timedelta(microseconds=at.microsecond % 1000)
