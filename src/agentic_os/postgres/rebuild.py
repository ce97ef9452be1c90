"""Rebuild every read model from events, stream by stream, while the system runs. It fires nothing."""

from collections.abc import Callable
from typing import Final

import orjson
from psycopg.types.json import Jsonb

from agentic_os.application.accounts import totals
from agentic_os.domain.events import CallbackQuarantined, QuarantineAdopted, ResultSubmitted
from agentic_os.domain.evolution import evolve
from agentic_os.domain.task import Task
from agentic_os.postgres import codec
from agentic_os.postgres.parts import artifact_rows, deadline_rows, quarantine_row, task_columns
from agentic_os.postgres.pool import Pool

_PAGE: Final = 100
_STREAMS: Final = """
select s.stream_id from es.stream s where s.kind = 'task' and s.stream_id > %s order by s.stream_id limit %s
"""
_EVENTS: Final = """
select e.stream_id, e.payload from es.event e where e.stream_id = any(%s) order by e.stream_id, e.version
"""


class _Folding:
    """What the events of some streams amount to."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.updated: dict[str, str] = {}
        self.artifacts: list[dict[str, object]] = []
        self.quarantine: list[dict[str, object]] = []

    def add(self, stream: str, payload: str) -> None:
        event = codec.decode_payload(payload)
        self.tasks[stream] = evolve(self.tasks.get(stream), event)  # type: ignore[arg-type]
        self.updated[stream] = orjson.loads(payload)["at"]
        if isinstance(event, ResultSubmitted):
            self.artifacts += artifact_rows(stream, event)
        elif isinstance(event, CallbackQuarantined):
            self.quarantine.append(quarantine_row(stream, event))
        elif isinstance(event, QuarantineAdopted):
            self.quarantine = [row for row in self.quarantine if row["id"] != event.quarantine_id]


async def rebuild(pool: Pool, progress: Callable[[int], None]) -> int:
    """Replace the rows of every task by what its events say; return how many. `progress` hears the running count."""
    after, done = "", 0
    while True:
        async with pool.connection() as connection:
            streams = [
                row[0] for row in await (await connection.execute(_STREAMS, (after, _PAGE))).fetchall()
            ]
        if not streams:
            break
        await _rebuild_streams(pool, streams)
        after, done = streams[-1], done + len(streams)
        progress(done)
    async with pool.connection() as connection:
        for table in ("task", "deadline", "artifact", "quarantine"):
            await connection.execute(
                f"delete from es.{table} r where not exists (select from es.stream s where s.stream_id = r.task_id)"  # noqa: S608 - constants
            )
    await _rebuild_accounts(pool)
    return done


async def _rebuild_accounts(pool: Pool) -> None:
    """Add up all accounts from the tasks; nobody moves one meanwhile, so that rows and sums are of one instant."""
    sums: dict[str, tuple[int, int]] = {}
    async with pool.connection() as connection, connection.transaction():
        await connection.execute("lock table es.account in exclusive mode")
        async with connection.cursor(name="states") as states:
            await states.execute("select t.state from es.task t")
            async for (state,) in states:
                for account, (spent, reserved) in totals(codec.decode_task(state)).items():
                    before = sums.get(account, (0, 0))
                    sums[account] = (before[0] + spent, before[1] + reserved)
        rows = [{"name": a, "spent": spent, "reserved": reserved} for a, (spent, reserved) in sums.items()]
        await connection.execute("delete from es.account")
        await connection.execute(
            "insert into es.account select * from jsonb_populate_recordset(null::es.account, %s)",
            (Jsonb(rows),),
        )


async def _rebuild_streams(pool: Pool, streams: list[str]) -> None:
    async with pool.connection() as connection, connection.transaction():
        await connection.execute(
            "select pg_advisory_xact_lock(hashtextextended(s, 0)) from unnest(%s::text[]) s order by s",
            (streams,),
        )
        folding = _Folding()
        async for stream, payload in await connection.execute(_EVENTS, (streams,)):
            folding.add(stream, payload)
        for table in ("artifact", "quarantine", "deadline", "task"):
            await connection.execute(f"delete from es.{table} where task_id = any(%s)", (streams,))  # noqa: S608 - constants
        tasks = [
            {"task_id": task.id, "version": task.version, **task_columns(task, folding.updated[stream])}
            for stream, task in folding.tasks.items()
        ]
        due = [row for task in folding.tasks.values() for row in deadline_rows(task)]
        for table, rows in (("task", tasks), ("deadline", due)):
            await connection.execute(
                f"insert into es.{table} select * from jsonb_populate_recordset(null::es.{table}, %s)",  # noqa: S608
                (Jsonb(rows),),
            )
        await connection.execute(
            "select es.put_rows(%s)",
            (Jsonb({"artifact": folding.artifacts, "quarantine": folding.quarantine}),),
        )
