"""Tasks, as they are listed, filtered and paged."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Column, DateTime, Integer, String, Table, any_, select, tuple_
from sqlalchemy.dialects.postgresql import array

from agentic_os.application.ports import TaskRow
from agentic_os.postgres import selects
from agentic_os.postgres.codec import decode_task
from agentic_os.postgres.pool import Pool

_task: Final = Table(
    "task",
    selects.SCHEMA,
    Column("task_id", String, primary_key=True),
    Column("phase", String),
    Column("project", String),
    Column("title", String),
    Column("executor", String),
    Column("state", String),
    Column("created_at", DateTime(timezone=True)),
    Column("updated_at", DateTime(timezone=True)),
)
_artifact: Final = Table(
    "artifact",
    selects.SCHEMA,
    *(
        Column(name, String)
        for name in ("task_id", "name", "digest", "media_type", "criterion_id", "step_id")
    ),
    *(Column(name, Integer) for name in ("version", "size", "attempt")),
)
_quarantine: Final = Table(
    "quarantine",
    selects.SCHEMA,
    *(Column(name, String) for name in ("id", "task_id", "kind", "reason")),
    Column("attempt", Integer),
    Column("at", DateTime(timezone=True)),
)


def _names(table: Table) -> list[str]:
    return [
        str(column.name) for column in table.c
    ]  # SQLAlchemy's own str, which orjson does not take for one


class PostgresTaskList:
    """Queries over the read models."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def one(self, task_id: str) -> TaskRow | None:
        """Find the row of a task."""
        rows = await selects.run(
            self._pool, select(_task.c.state, _task.c.updated_at).where(_task.c.task_id == task_id)
        )
        return TaskRow(task=decode_task(rows[0][0]), updated_at=rows[0][1]) if rows else None

    async def page(
        self,
        *,
        phase: str | None = None,
        project: str | None = None,
        executor: str | None = None,
        text: str | None = None,
        ids: Sequence[str] | None = None,
        before: tuple[datetime, str] | None = None,
        limit: int = 50,
    ) -> Sequence[TaskRow]:
        """List tasks, the newest first, after the given (created_at, id); of `ids` only, where they are given."""
        query = select(_task.c.state, _task.c.updated_at)
        for column, value in (
            (_task.c.phase, phase),
            (_task.c.project, project),
            (_task.c.executor, executor),
        ):
            if value is not None:
                query = query.where(column == value)
        if ids is not None:
            query = query.where(_task.c.task_id == any_(array(ids, type_=String)))
        if text:
            query = query.where(_task.c.title.icontains(text, autoescape=True))
        if before is not None:
            query = query.where(tuple_(_task.c.created_at, _task.c.task_id) < before)
        query = query.order_by(_task.c.created_at.desc(), _task.c.task_id.desc()).limit(limit)
        return [
            TaskRow(task=decode_task(state), updated_at=at)
            for state, at in await selects.run(self._pool, query)
        ]

    async def artifact(self, digest: str, task_id: str | None = None) -> dict[str, Any] | None:
        """Find what is known of some bytes, by the first name that they were delivered under."""
        query = select(_artifact).where(_artifact.c.digest == digest)
        if task_id is not None:
            query = query.where(_artifact.c.task_id == task_id)
        query = query.order_by(_artifact.c.task_id, _artifact.c.name, _artifact.c.version)
        rows = await selects.run(self._pool, query.limit(1))
        return dict(zip(_names(_artifact), rows[0], strict=True)) if rows else None

    async def held_by(self, executor: str) -> Sequence[str]:
        """List the tasks of which an executor has the open attempt, the oldest first."""
        query = select(_task.c.task_id).where(_task.c.executor == executor).order_by(_task.c.created_at)
        return [task_id for (task_id,) in await selects.run(self._pool, query)]

    async def quarantined(self, after: str, limit: int) -> Sequence[dict[str, Any]]:
        """List what is kept aside, by id."""
        query = select(_quarantine).where(_quarantine.c.id > after).order_by(_quarantine.c.id).limit(limit)
        return [
            dict(zip(_names(_quarantine), row, strict=True)) for row in await selects.run(self._pool, query)
        ]
