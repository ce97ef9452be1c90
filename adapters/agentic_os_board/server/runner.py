"""Wakes agents: takes queued runs, runs their commands or calls their hooks, and records how they end."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from .accounts import add_token
from .agents import CommandWake, HookWake, wake_of
from .configuration import Configuration
from .database import Database, DatabaseError, Row
from .hook import HookRefused, call_hook
from .processes import (
    GatedProcess,
    end_leftovers,
    end_orphan,
    end_process,
    find_user,
    open_gate,
    shared_account,
    signal_group,
    start_gated,
    started_at,
)
from .run_log import RunLog
from .run_queue import (
    attach_process,
    claim_run,
    finish_run,
    hand_over_run,
    note_worktree,
    record_alive,
    requeue_run,
    runs_to_stop,
    unfinished_runs,
)
from .workspace import Base, NotPrepared, Workspaces

_logger = logging.getLogger(__name__)
_RETRY_SECONDS = 1.0
_TOKEN_MARGIN = timedelta(minutes=5)


@dataclass(slots=True)
class _LiveRun:
    """A run of this server. reason: why it is to stop, once that is so."""

    task: asyncio.Task[None]
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Ending:
    state: str
    exit_code: int | None
    detail: str


class Runner:
    """Runs agents, each (task, attempt) once. Woken by commits; sleeps while there is nothing to do."""

    def __init__(
        self, database: Database, configuration: Configuration, wrote: Callable[[str], None] = lambda _: None
    ) -> None:
        """Prepare. wrote: called with a run's id when its output grew."""
        self._database = database
        self._wrote = wrote
        self._linger = configuration.linger_seconds
        self._alive = configuration.alive_seconds
        self._hook_limit = timedelta(seconds=configuration.hook_seconds)
        self._user = find_user(configuration.run_as)
        self._address = configuration.address
        self._workspaces = Workspaces(configuration.home, configuration.local_url, self._user)
        self._logs = configuration.home / "logs"
        self._logs.mkdir(mode=0o700, exist_ok=True)
        self._live: dict[UUID, _LiveRun] = {}
        self._wake = asyncio.Event()
        self._wake.set()
        self._stopping = False
        database.on_commit(self._wake.set)

    @property
    def logs(self) -> Path:
        """The folder of captured output."""
        return self._logs

    @property
    def sharing(self) -> str:
        """What to tell people where agents have the rights of the server."""
        return shared_account(self._user)

    async def recover(self) -> None:
        """End the commands that a server that died left running, and never run them again; call its hooks again."""
        async with self._database.read() as tx:
            left = await unfinished_runs(tx)
        for run in left:
            if run["wake"]["kind"] == "hook" and run["pid"] is None:
                await self._recover_hook(run)
                continue
            if run["pid"] is not None:
                end_orphan(run["pid"], run["process_start"], str(run["id"]))
            left_behind = await self._workspaces.clear(run, _base_of(run))
            async with self._database.write() as tx:
                said = "the board stopped while this run was alive"
                log_end = self._log_end(run)
                await finish_run(tx, run, "lost", None, said, left_behind=left_behind, log_end=log_end)

    async def _recover_hook(self, run: Row) -> None:
        async with self._database.write() as tx:
            if run["stop_reason"] is None:
                await requeue_run(tx, run["id"])
            else:
                await finish_run(tx, run, "killed", None, run["stop_reason"])

    async def serve(self) -> None:
        """Start and stop runs as their rows ask, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._stop_unwanted()
                while await self._start_next():
                    pass
            except DatabaseError as error:
                _logger.warning("runs wait for the database: %s", error)
                asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._wake.set)

    async def stop(self) -> None:
        """End every live run."""
        self._stopping = True
        for live in self._live.values():
            live.reason = live.reason or "the board was stopped"
            live.stop.set()
        await asyncio.gather(*(live.task for live in self._live.values()), return_exceptions=True)
        self._workspaces.close()

    async def _stop_unwanted(self) -> None:
        async with self._database.read() as tx:
            rows = await runs_to_stop(tx)
        for row in rows:
            if live := self._live.get(row["id"]):
                live.reason = row["stop_reason"]
                live.stop.set()

    async def _start_next(self) -> bool:
        if self._stopping:
            return False
        async with self._database.read() as tx:
            cursor = await tx.execute("select 1 from runs where state = 'queued' limit 1")
            if await cursor.fetchone() is None:
                return False
        async with self._database.write() as tx:
            run = await claim_run(tx)
        if run is not None:
            task = asyncio.create_task(self._run(run))
            self._live[run["id"]] = _LiveRun(task)
            task.add_done_callback(lambda _: self._live.pop(run["id"], None))
        return run is not None

    async def _run(self, run: Row) -> None:
        """Run one attempt to its end; whatever goes wrong is the run's ending, not the server's."""
        base: Base | None = None
        ending: _Ending | None
        try:
            wake = wake_of(run["wake"])
            if isinstance(wake, HookWake):
                ending = await self._call(run, wake)
            else:
                base = await self._find_base(run, wake)
                ending = await self._execute(run, wake, base)
        except NotPrepared as error:
            ending = _Ending("ended", None, f"not started: {error}")
        except DatabaseError as error:
            ending = _Ending("lost", None, f"the board's database failed: {error}")
        except Exception as error:
            _logger.exception("run %s failed in the board itself", run["id"])
            ending = _Ending("lost", None, f"the board failed: {type(error).__name__}; its log says more")
        if ending is not None:
            await self._finish(run, ending, await self._workspaces.clear(run, base))

    async def _call(self, run: Row, wake: HookWake) -> _Ending | None:
        """Call the hook until it takes the run, its time is over, or its work is taken away."""
        live = self._live[run["id"]]
        limit = run["started_at"] + self._hook_limit
        calling = asyncio.create_task(call_hook(wake, run, self._address, limit))
        ordered = asyncio.create_task(live.stop.wait())
        try:
            await asyncio.wait({calling, ordered}, return_when=asyncio.FIRST_COMPLETED)
            if not calling.done():
                # A server that only stops calls again when it is back: the receiver knows the run by its id.
                return None if self._stopping else _Ending("killed", None, live.reason)
            detail = calling.result()
        except HookRefused as error:
            return _Ending("ended", None, str(error))
        finally:
            calling.cancel()
            ordered.cancel()
        async with self._database.write() as tx:
            await hand_over_run(tx, run, detail)
        return None

    async def _find_base(self, run: Row, wake: CommandWake) -> Base | None:
        base = await self._workspaces.base_of(run, wake)
        if base is not None:
            async with self._database.read() as tx:
                await note_worktree(tx, run["id"], base.commit, str(base.folder))
        return base

    async def _execute(self, run: Row, wake: CommandWake, base: Base | None) -> _Ending:
        lifetime = timedelta(seconds=wake.time_limit_seconds) + _TOKEN_MARGIN
        async with self._database.read() as tx:
            token = await add_token(tx, run["agent"], "run", run=run["id"], lifetime=lifetime)
        try:
            place = await self._workspaces.prepare(run, wake, token, base)
            started = await start_gated(
                wake.command, folder=place.folder, environment=place.environment, user=self._user
            )
        except OSError as error:
            return _Ending("ended", None, f"not started: {error}")
        return await self._attend(run, wake, started)

    async def _attend(self, run: Row, wake: CommandWake, started: GatedProcess) -> _Ending:
        process = started.process
        log = RunLog(self._logs, str(run["id"]))
        capture = asyncio.create_task(log.capture(started.output, lambda: self._wrote(str(run["id"]))))
        beat = asyncio.create_task(self._report_alive(run))
        try:
            async with self._database.write() as tx:
                unwanted = await attach_process(tx, run["id"], process.pid, started_at(process.pid))
            if unwanted is not None:
                await end_process(process)
                return _Ending("killed", process.returncode, unwanted)
            await open_gate(process)
            return await self._wait(run["id"], wake.time_limit_seconds, process)
        finally:
            beat.cancel()
            signal_group(process.pid, signal.SIGKILL)
            end_leftovers(str(run["id"]))
            await asyncio.wait([capture], timeout=_RETRY_SECONDS)
            capture.cancel()
            started.pipe.close()

    async def _wait(self, run: UUID, limit: float, process: asyncio.subprocess.Process) -> _Ending:
        """Wait for the command's end, for the order to stop, or for the time limit."""
        live = self._live[run]
        ended = asyncio.create_task(process.wait())
        ordered = asyncio.create_task(live.stop.wait())
        try:
            await asyncio.wait({ended, ordered}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if live.stop.is_set() and not self._stopping:
                # An agent that has handed in its work is just about to end by itself.
                await asyncio.wait({ended}, timeout=self._linger)
            if ended.done():
                return _Ending("ended", process.returncode, f"exit code {process.returncode}")
            await end_process(process)
            reason = live.reason or f"it exceeded its time limit of {limit:g} seconds"
            return _Ending("killed", process.returncode, reason)
        finally:
            ordered.cancel()
            ended.cancel()

    async def _report_alive(self, run: Row) -> None:
        while True:
            await asyncio.sleep(self._alive)
            with contextlib.suppress(DatabaseError):
                async with self._database.write() as tx:
                    await record_alive(tx, run)

    def _log_end(self, run: Row) -> str:
        return RunLog(self._logs, str(run["id"])).end()

    async def _finish(self, run: Row, ending: _Ending, left_behind: str) -> None:
        log_end = self._log_end(run)
        while True:
            try:
                async with self._database.write() as tx:
                    await finish_run(
                        tx,
                        run,
                        ending.state,
                        ending.exit_code,
                        ending.detail,
                        left_behind=left_behind,
                        log_end=log_end,
                    )
            except DatabaseError as error:
                _logger.warning("the end of run %s waits for the database: %s", run["id"], error)
                if self._stopping:
                    return
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return


def _base_of(run: Row) -> Base | None:
    """Read what was noted of a run's worktree."""
    return Base(commit=run["base_commit"], folder=Path(run["worktree"])) if run["worktree"] else None
