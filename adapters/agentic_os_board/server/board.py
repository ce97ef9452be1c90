"""The parts of a running board, put together once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from .accounts import Passwords, ensure_first_accounts
from .configuration import Configuration
from .database import Database, open_database
from .live import Live
from .run_log import RunLog
from .runner import Runner
from .scheduler import Scheduler
from .webhooks import WebhookSender


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """What requests work with. background: ends only when something is broken."""

    configuration: Configuration
    database: Database
    passwords: Passwords
    runner: Runner
    live: Live
    scheduler: Scheduler
    background: asyncio.Task[None]

    def issue_url(self, number: int) -> str:
        """Link to an issue from outside."""
        return f"{self.configuration.address}/issues/{number}"

    def log_of(self, run: str) -> RunLog:
        """Find a run's captured output."""
        return RunLog(self.runner.logs, run)


@asynccontextmanager
async def open_board(configuration: Configuration) -> AsyncIterator[Board]:
    """Open the database, clear up after a crash, and run agents, routines and webhooks until the end of the context."""
    configuration.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with open_database(configuration.database_url.get_secret_value()) as database:
        passwords = Passwords()
        await ensure_first_accounts(
            database,
            passwords,
            backend_token=configuration.backend_token.get_secret_value(),
            operator=configuration.operator_name,
            password=configuration.operator_password.get_secret_value(),
        )
        live = Live(database)
        runner = Runner(database, configuration, wrote=lambda run: live.touch(f"run:{run}"))
        scheduler = Scheduler(database)
        await runner.recover()
        background = asyncio.create_task(_work(database, runner, live, scheduler, configuration))
        try:
            yield Board(
                configuration=configuration,
                database=database,
                passwords=passwords,
                runner=runner,
                live=live,
                scheduler=scheduler,
                background=background,
            )
        finally:
            await runner.stop()
            background.cancel()
            await asyncio.wait([background])


async def _work(
    database: Database, runner: Runner, live: Live, scheduler: Scheduler, configuration: Configuration
) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(runner.serve())
        tasks.create_task(live.serve())
        tasks.create_task(scheduler.serve())
        if configuration.webhook_url:
            secret = configuration.webhook_secret.get_secret_value()
            tasks.create_task(WebhookSender(database, configuration.webhook_url, secret).serve())
