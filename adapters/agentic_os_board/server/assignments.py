"""Giving an issue to an account, which wakes an agent once for each attempt."""

from uuid import UUID

from .accounts import Account, require_system
from .activity import record
from .database import Connection, Row
from .issues import find_issue
from .problems import Contradiction, Unacceptable
from .run_queue import enqueue_run, stop_runs


async def assign_issue(
    tx: Connection, system: Account, number: int, *, account: UUID, task_id: str, attempt: int
) -> None:
    """Assign the issue for an attempt. Raises Contradiction when the attempt is not the issue's, or over."""
    require_system(system)
    issue = await find_issue(tx, number)
    await _require_assignable(tx, issue, task_id)
    if (issue["assignee"], issue["assigned_attempt"]) == (account, attempt):
        return
    cursor = await tx.execute("select kind, deactivated_at from accounts where id = %s", (account,))
    if (row := await cursor.fetchone()) is None:
        raise Unacceptable("the assignee is not an account of this board")
    if row["kind"] == "agent" and row["deactivated_at"] is not None:
        raise Unacceptable("the assignee is an agent that was deactivated")
    await stop_runs(tx, number, "the issue was given to another attempt")
    if row["kind"] == "agent":
        await enqueue_run(tx, number, account, task_id, attempt)
    # An issue that a person opened becomes the task's with its first assignment.
    await tx.execute("update issues set task_id = %s where number = %s", (task_id, number))
    await _set(tx, system, issue, account, attempt)


async def unassign_issue(tx: Connection, system: Account, number: int) -> None:
    """Take the assignee away; a running agent is told to stop."""
    require_system(system)
    issue = await find_issue(tx, number)
    if issue["assignee"] is not None:
        await stop_runs(tx, number, "the issue was taken away")
        await _set(tx, system, issue, None, 0)


async def _set(tx: Connection, actor: Account, issue: Row, account: UUID | None, attempt: int) -> None:
    await tx.execute(
        "update issues set assignee = %s, assigned_attempt = %s, updated_at = clock_timestamp() where number = %s",
        (account, attempt, issue["number"]),
    )
    before = str(issue["assignee"]) if issue["assignee"] else None
    value = str(account) if account else None
    change = {"field": "assignee", "before": before, "value": value, "attempt": attempt}
    await record(tx, actor, issue["number"], "issue.changed", change)


async def _require_assignable(tx: Connection, issue: Row, task_id: str) -> None:
    cursor = await tx.execute(
        "select number from issues where task_id = %s and number <> %s", (task_id, issue["number"])
    )
    if (other := await cursor.fetchone()) is not None:
        raise Contradiction(f"task {task_id} has issue {other['number']}, not {issue['number']}")
    if issue["task_id"] not in {None, task_id}:
        raise Contradiction(f"issue {issue['number']} belongs to task {issue['task_id']}")
    if issue["closed"] is not None:
        raise Contradiction(f"issue {issue['number']} is closed; reopen it before assigning it")
