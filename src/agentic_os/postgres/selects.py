"""Queries of the read side, composed with SQLAlchemy Core and run over the same pool as all else."""

from typing import Any, Final

from sqlalchemy import MetaData, Select
from sqlalchemy.dialects import postgresql

from agentic_os.postgres.pool import Pool

SCHEMA: Final = MetaData(schema="es")
_DIALECT: Final = postgresql.dialect(paramstyle="pyformat")  # type: ignore[no-untyped-call]


async def run(pool: Pool, query: Select[Any]) -> list[tuple[Any, ...]]:
    """Run a query; return its rows."""
    compiled = query.compile(dialect=_DIALECT)
    async with pool.connection() as connection:
        cursor = await connection.execute(str(compiled).encode(), compiled.params)
        return await cursor.fetchall()
