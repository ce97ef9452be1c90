"""Refused credentials: a bounded log beside the history, for whoever watches the doors."""

from typing import Final

from agentic_os.postgres.pool import Pool

_KEPT: Final = 10_000
_NOTE: Final = """
with noted as (insert into es.security_log (route, code, detail) values (%s, %s, '') returning id)
delete from es.security_log s using noted where s.id <= noted.id - %s
"""


class PostgresSecurityLog:
    """Keeps the latest refusals."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def note(self, route: str, code: str) -> None:
        """Note a refusal, and drop the oldest beyond the bound."""
        async with self._pool.connection() as connection:
            await connection.execute(_NOTE, (route, code, _KEPT))
