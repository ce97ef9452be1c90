"""The rows of agents' runs: one for each (task, attempt), ever."""

from typing import Any
from uuid import UUID

from agentic_os_board.clock import new_id

from .activity import record
from .database import Connection, Row
from .problems import Contradiction, Missing


async def enqueue_run(tx: Connection, issue: int, agent: UUID, task_id: str, attempt: int) -> None:
    """Have the agent woken once for this attempt; repeating it wakes nobody."""
    cursor = await tx.execute(
        "select coalesce(max(attempt), 0) as newest, max(agent::text) filter (where attempt = %s) as holder"
        " from runs where task_id = %s",
        (attempt, task_id),
    )
    row = await cursor.fetchone()
    if row and row["newest"] > attempt:
        raise Contradiction(f"attempt {row['newest']} of task {task_id} has begun; {attempt} is over")
    if row and row["holder"] not in {None, str(agent)}:
        raise Contradiction(f"attempt {attempt} of task {task_id} was given to another agent")
    await tx.execute(
        "insert into runs (id, issue, task_id, attempt, agent, state) values (%s, %s, %s, %s, %s, 'queued')"
        " on conflict (task_id, attempt) do nothing",
        (new_id(), issue, task_id, attempt, agent),
    )


async def stop_runs(tx: Connection, issue: int, reason: str) -> None:
    """Take the work away from the issue's runs: queued ones never start, running ones are told to stop."""
    await tx.execute(
        "update runs set stop_reason = %s where issue = %s and state = 'running' and stop_reason is null",
        (reason, issue),
    )
    cursor = await tx.execute(
        "update runs set state = 'killed', detail = %s, ended_at = clock_timestamp()"
        " where issue = %s and state = 'queued' returning *",
        (f"never started: {reason}", issue),
    )
    for row in await cursor.fetchall():
        await record(tx, row["agent"], issue, "run.ended", _run_data(row))


async def claim_run(tx: Connection) -> Row | None:
    """Take the oldest queued run that may start, with what its agent needs; from here on it has run.

    One in a shared folder waits while another runs in it and either of them wants it alone.
    """
    cursor = await tx.execute(
        "update runs set state = 'running', started_at = coalesce(started_at, clock_timestamp())"
        " from agents, accounts, issues"
        " where runs.id = (select waiting.id from runs as waiting join agents as own on own.account = waiting.agent"
        " where waiting.state = 'queued' and not exists"
        " (select 1 from runs as busy join agents as its on its.account = busy.agent"
        " where busy.state = 'running' and busy.id <> waiting.id"
        " and its.wake ->> 'workspace' = own.wake ->> 'workspace'"
        " and not coalesce((its.wake -> 'worktree')::boolean, false)"
        " and not coalesce((own.wake -> 'worktree')::boolean, false)"
        " and (coalesce((its.wake -> 'exclusive')::boolean, false)"
        " or coalesce((own.wake -> 'exclusive')::boolean, false)))"
        " order by waiting.created_at limit 1)"
        " and agents.account = runs.agent and accounts.id = runs.agent and issues.number = runs.issue"
        " returning runs.*, agents.wake, accounts.name as agent_name,"
        " issues.title, issues.body"
    )
    row = await cursor.fetchone()
    if row is not None:
        await record_alive(tx, row)
    return row


async def record_alive(tx: Connection, run: Row) -> None:
    """Say that a run is alive."""
    await record(tx, run["agent"], run["issue"], "run.alive", {**_run_data(run), "detail": ""})


async def note_worktree(tx: Connection, run: UUID, commit: str, folder: str) -> None:
    """Note what a run's worktree begins from and where it will be, before it is made."""
    await tx.execute("update runs set base_commit = %s, worktree = %s where id = %s", (commit, folder, run))


async def requeue_run(tx: Connection, run: UUID) -> None:
    """Have the hook of a run called again: it knows a repeat by the run's id."""
    await tx.execute(
        "update runs set state = 'queued' where id = %s and state = 'running' and stop_reason is null", (run,)
    )


async def attach_process(tx: Connection, run: UUID, pid: int, process_start: str) -> str | None:
    """Note the run's process; return why its work has been taken away meanwhile, None where it has not."""
    cursor = await tx.execute(
        "update runs set pid = %s, process_start = %s where id = %s returning stop_reason",
        (pid, process_start, run),
    )
    row = await cursor.fetchone()
    return "it is gone" if row is None else row["stop_reason"]


async def runs_to_stop(tx: Connection) -> list[Row]:
    """List the running runs whose work has been taken away."""
    cursor = await tx.execute(
        "select id, stop_reason from runs where state = 'running' and stop_reason is not null"
    )
    return await cursor.fetchall()


async def unfinished_runs(tx: Connection) -> list[Row]:
    """List the runs that were running when the server stopped without a word."""
    cursor = await tx.execute(
        "select runs.*, agents.wake from runs join agents on agents.account = agent where state = 'running'"
    )
    return await cursor.fetchall()


async def finish_run(
    tx: Connection,
    run: Row,
    state: str,
    exit_code: int | None,
    detail: str,
    *,
    left_behind: str = "",
    log_end: str = "",
) -> None:
    """Record how a run ended and what it left in its worktree, and tell the end of its log; its token ends with it."""
    cursor = await tx.execute(
        "update runs set state = %s, exit_code = %s, detail = %s, left_behind = %s, ended_at = clock_timestamp()"
        " where id = %s and state = 'running' returning *",
        (state, exit_code, detail[:2000], left_behind, run["id"]),
    )
    row = await cursor.fetchone()
    await tx.execute("delete from tokens where run = %s", (run["id"],))
    if row is not None:
        await record(tx, row["agent"], row["issue"], "run.ended", {**_run_data(row), "log_end": log_end})


async def hand_over_run(tx: Connection, run: Row, detail: str) -> None:
    """Record that a hook took the run; what becomes of it cannot be seen from here."""
    await tx.execute(
        "update runs set state = 'ended', detail = %s, ended_at = clock_timestamp() where id = %s",
        (detail, run["id"]),
    )


async def find_run(tx: Connection, run: UUID) -> Row:
    """Read a run with its agent's name. Raises Missing."""
    cursor = await tx.execute(
        "select runs.*, accounts.name as agent_name from runs join accounts on accounts.id = agent where runs.id = %s",
        (run,),
    )
    if (row := await cursor.fetchone()) is None:
        raise Missing(f"there is no run {run}")
    return row


async def list_runs(tx: Connection, issue: int) -> list[Row]:
    """List an issue's newest runs."""
    cursor = await tx.execute(
        "select runs.*, accounts.name as agent_name from runs join accounts on accounts.id = agent"
        " where issue = %s order by runs.created_at desc limit 10",
        (issue,),
    )
    return await cursor.fetchall()


def _run_data(row: Row) -> dict[str, Any]:
    return {
        "run": str(row["id"]),
        "task_id": row["task_id"],
        "attempt": row["attempt"],
        "state": row["state"],
        "exit_code": row["exit_code"],
        "detail": row["detail"],
    }
