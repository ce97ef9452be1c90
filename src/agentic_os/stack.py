"""The whole stack in one process: the database, the API, the worker, and the control plane's own server beside them."""

import asyncio
import hashlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
import uvicorn
from pydantic import SecretStr

from agentic_os.application.backend import Backend
from agentic_os.application.governing import BundleInvalid
from agentic_os.application.inbox import Adoption
from agentic_os.application.ports import Principal
from agentic_os.application.rates import Rate, Rates
from agentic_os.bootstrap import Parts, open_backend, settle
from agentic_os.companion import CompanionFailed, running_companion
from agentic_os.control_plane import (
    Companion,
    CompanionSettings,
    ControlPlane,
    ControlPlaneError,
    Invalid,
    Plugin,
)
from agentic_os.control_plane import Settings as PlaneSettings
from agentic_os.control_plane.discovery import PluginError, open_plugin
from agentic_os.domain.documents import JsonObject
from agentic_os.domain.skill_lock import SkillLock, follow_roots, read_lock
from agentic_os.domain.skill_set import InvalidSkill
from agentic_os.domain.workspaces import WAIT, WorkspaceReport, mend
from agentic_os.governance import Governance, GovernanceInvalid, load_governance
from agentic_os.home import Endpoint, Home, HomeUnusable
from agentic_os.http.app import create_app
from agentic_os.hydration import (
    PACKAGE_ROOT,
    Definition,
    DefinitionError,
    against,
    hydrate_all,
    lock_folder,
)
from agentic_os.postgres.databases import Databases, DatabaseUnavailable, open_databases
from agentic_os.postgres.migrations import MigrationError, migrate
from agentic_os.postgres.wakeup import Wakeup
from agentic_os.settings import Settings
from agentic_os.worker import Worker

log = structlog.get_logger()

HOST: Final = "127.0.0.1"
OPERATOR: Final = "admin"
_COMPANION_READY: Final = 30.0
_DRAIN: Final = 4


class CannotStart(Exception):
    """Something that only the person at the keyboard can mend."""

    exit_code = 2


class WorkspacesOutOfStep(CannotStart):
    """Workspaces have not the skills in force, and none may be without them."""

    exit_code = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the person at the keyboard asked for. Port 0 takes a free one; control plane "none" shows tasks nowhere.

    strict: whether a workspace that cannot be hydrated keeps everything from starting, and not only its executors.
    """

    home: Home
    port: int = 8700
    board_port: int = 8701
    governance: Path | None = None
    public_url: str | None = None
    control_plane: str = "board"
    run_as: str = ""
    strict: bool = False


def say(message: str) -> None:
    """Tell the person at the keyboard."""
    print(message, file=sys.stderr, flush=True)  # noqa: T201 - a foreground process speaks


def serve(choices: Choices, settings: Settings) -> None:
    """Serve until a signal says stop. Raises CannotStart."""
    try:
        _serve(choices, settings)
    except (
        HomeUnusable,
        DatabaseUnavailable,
        MigrationError,
        GovernanceInvalid,
        DefinitionError,
        PluginError,
        Invalid,
        CompanionFailed,
    ) as problem:
        raise CannotStart(str(problem)) from problem


def _serve(choices: Choices, settings: Settings) -> None:
    """Open what blocks first (files, sockets, the database), then hand over to the loop."""
    folder = _governance_folder(choices)
    governance = load_governance(folder) if folder is not None else None
    definition, skills = lock_folder(folder)
    hydrated = hydrate_all(definition, skills)
    _say_hydrated(hydrated, strict=choices.strict)
    with _interrupted_by_sigterm(), _listen(choices.port, "--port") as listener:
        board_port = _free_port(choices.board_port) if choices.control_plane != "none" else 0
        with open_databases(
            choices.home.path,
            _revealed(settings.database_url),
            say=say,
            database_app_url=_revealed(settings.database_app_url),
            database_board_url=_revealed(settings.database_board_url),
        ) as databases:
            choices.home.prepare()  # the embedded server makes it first, with the rights that its user needs
            for name in migrate(databases.owner, databases.app):
                say(f"migrated: {name}")
            start = _Start(governance=governance, definition=definition, skills=skills, hydrated=hydrated)
            stack = _Stack(choices, settings, start, databases, listener, board_port)
            try:
                _runner()(stack.run())
            except KeyboardInterrupt:
                say("stopped")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """What lay in the folders when the stack was started. hydrated: what came of the workspaces."""

    governance: Governance | None
    definition: Definition
    skills: SkillLock
    hydrated: Sequence[WorkspaceReport]


def _say_hydrated(reports: Sequence[WorkspaceReport], *, strict: bool) -> None:
    """Say which workspaces are not in step. Raises WorkspacesOutOfStep where none may be."""
    amiss = [report for report in reports if report.state != "in_step"]
    for each in amiss:
        say(f"skills: {each.path} (project {each.project}) is not in step ({each.state}): {each.problem}")
        say("  its executors get no work until it is; when it is mended, run:")
        say(f"  {mend(each.path, each.project)}")
    if amiss and strict:
        raise WorkspacesOutOfStep(f"--strict: {len(amiss)} of {len(reports)} workspaces are not in step")


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, before and after the loop that has its own handler."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        say("stopped")
    finally:
        signal.signal(signal.SIGTERM, before)


def _runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    try:
        import uvloop  # noqa: PLC0415 - not on Windows
    except ImportError:
        return asyncio.run
    return uvloop.run


def _distant(name: str, settings: Settings) -> PlaneSettings:
    """Say where a tracker is that somebody else runs. Raises CannotStart."""
    if not settings.control_plane_url or settings.control_plane_token_file is None:
        raise CannotStart(
            f"nobody here runs the control plane {name!r}: say where it is with AGENTIC_OS_CONTROL_PLANE_URL,"
            " and as whom to speak to it with AGENTIC_OS_CONTROL_PLANE_TOKEN_FILE"
        )
    return PlaneSettings(
        url=settings.control_plane_url,
        token=_secret_in(settings.control_plane_token_file),
        webhook_secrets=tuple(_secret_in(file) for file in settings.control_plane_webhook_secret_files),
        options=settings.control_plane_options,
    )


def _secret_in(file: Path) -> str:
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CannotStart(f"{file} cannot be read: {error}") from None


def _revealed(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value is not None else None


def _governance_folder(choices: Choices) -> Path | None:
    if choices.governance is not None:
        return choices.governance
    default = choices.home.path / "governance"
    try:
        return default if default.is_dir() else None
    except OSError as problem:
        raise HomeUnusable(
            f"{choices.home.path} cannot be entered ({problem.strerror}): choose another folder with --home."
        ) from problem


def _listen(port: int, option: str) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(1024)
    except (OSError, OverflowError) as problem:
        listener.close()
        raise CannotStart(
            f"{HOST}:{port} is taken or refused ({problem}): choose another with {option}."
        ) from problem
    return listener


def _free_port(port: int) -> int:
    with _listen(port, "--board-port") as probe:
        return int(probe.getsockname()[1])


class _Stack:
    """What runs in the loop."""

    def __init__(  # noqa: PLR0917 - made once, just above
        self,
        choices: Choices,
        settings: Settings,
        start: _Start,
        databases: Databases,
        listener: socket.socket,
        board_port: int,
    ) -> None:
        self._choices = choices
        self._settings = settings
        self._governance = start.governance
        self._start = start
        self._databases = databases
        self._listener = listener
        self._url = f"http://{HOST}:{listener.getsockname()[1]}"
        self._board_url = f"http://{HOST}:{board_port}"
        self._board_port = board_port
        self._companion: asyncio.subprocess.Process | None = None

    async def run(self) -> None:
        """Serve until told to stop."""
        home = self._choices.home
        async with AsyncExitStack() as exits:
            companion, plane = await self._control_plane(exits)
            parts = Parts(
                dsn=self._databases.app,
                server_key=hashlib.sha256(home.secret("server.key").encode()).digest(),
                artifacts=home.path / "artifacts",
                policy=(self._governance or load_governance(None)).policy,
                skills=self._start.definition,
                public_url=self._choices.public_url or self._url,
                control_plane=plane,
                adoption=Adoption(label=self._settings.adopt_label, projects=self._settings.adopt_projects),
                rates=rates_of(self._settings),
            )
            backend = await exits.enter_async_context(open_backend(parts))
            await self._first_steps(backend)
            server = await exits.enter_async_context(self._api(backend))
            if plane is not None and companion is not None:
                await self._introduce(backend, plane)
            await exits.enter_async_context(self._working(backend, server))
            home.announce(
                Endpoint(url=self._url, board_url=self._board_url if companion else None, pid=os.getpid())
            )
            exits.callback(home.withdraw)
            settle()
            self._say_where()
            await server.stopped.wait()

    async def _control_plane(self, exits: AsyncExitStack) -> tuple[Companion | None, ControlPlane | None]:
        if self._choices.control_plane == "none":
            return None, None
        home = self._choices.home
        plugin: Plugin = open_plugin(self._choices.control_plane)
        token, secret = home.secret("board-backend.token"), home.secret("board-webhook.secret")
        folder = home.path / "board"
        folder.mkdir(mode=0o700, exist_ok=True)
        companion = plugin.companion(
            CompanionSettings(
                host=HOST,
                port=self._board_port,
                public_url=self._board_url,
                database_url=self._databases.board,
                home=str(folder),
                backend_token=token,
                webhook_url=f"{self._url}/api/webhooks/{self._choices.control_plane}",
                webhook_secret=secret,
                operator_name=OPERATOR,
                operator_password=home.secret("board.password"),
                run_as=self._choices.run_as,
            )
        )
        if companion is not None:
            self._companion = await exits.enter_async_context(running_companion(companion))
            near = PlaneSettings(url=self._board_url, token=token, webhook_secrets=(secret,))
            return companion, plugin.open(near)
        return None, plugin.open(_distant(self._choices.control_plane, self._settings))

    async def _first_steps(self, backend: Backend) -> None:
        """Make the administrator on the first start, give a new token when its file is gone, record the policy."""
        home = self._choices.home
        admin = await backend.registry.by_name(OPERATOR)
        if admin is None or not home.has("admin.token"):
            token = "aoso_" + home.secret("admin.token.new")
            digest = hashlib.sha256(token.encode()).digest()
            if admin is None:
                principal = Principal(id=OPERATOR, name=OPERATOR, kind="person", roles=("admin",))
                await backend.registry.add(principal, digest, None)
            else:
                await backend.registry.replace_credentials(OPERATOR, digest)
            home.write_secret("admin.token", token)
            (home.path / "admin.token.new").unlink()
        try:
            await self._govern(backend)
        except BundleInvalid as problem:
            raise GovernanceInvalid(
                f"The bundle that was applied last cannot be read any more ({problem}).\n"
                "  next: start with a folder that can: agentic-os up --governance DIR."
            ) from problem
        await self._report_workspaces(backend)
        if extended := await backend.extend_lapsed():  # before a callback can come, or a deadline can fire
            say(f"attempts that lapsed while nobody served, and have one lease more: {extended}")

    async def _govern(self, backend: Backend) -> None:
        """Put in force what the folder says; without one what was applied last, or the blank bundle at first."""
        applied = await backend.governing.current()
        skills = self._skills(None if applied is None else applied.skills)
        if self._governance is not None:
            await backend.governing.apply(self._governance, OPERATOR, "started with it", skills=skills)
        elif await backend.governing.follow():
            if skills != backend.skills():
                await backend.governing.renew_skills(skills, OPERATOR, "started with the package's skills")
        else:
            await backend.governing.apply(load_governance(None), OPERATOR, "started with it", skills=skills)

    def _skills(self, applied: JsonObject | None) -> SkillLock:
        """Say which skills come into force: those of a definition that changed, and of a newer package.

        What lies in other folders may have been changed by anybody, and counts once somebody applies it.
        """
        found = self._start.skills
        try:
            held = None if applied is None else read_lock(applied)
        except InvalidSkill:  # by another version: what is here can be read
            held = None
        if held is None or (held.text is None and found.text is None):
            return found
        if self._governance is None:
            return held
        if held.text != found.text:
            return found
        kept = follow_roots(held, found, frozenset({PACKAGE_ROOT}))
        for project in found.projects:
            now = {skill.name: skill for skill in found.of(project).skills}
            for skill in kept.of(project).skills:
                if skill != now.get(skill.name):
                    say(
                        f"skills: {skill.name} (project {project}) is not what was applied; that stays in force."
                    )
                    say("  next: put it back, or accept it: agentic-os apply")
        return kept

    async def _report_workspaces(self, backend: Backend) -> None:
        """Store how the workspaces stand to the skills in force. Raises WorkspacesOutOfStep."""
        reports = against(self._start.hydrated, self._start.definition, backend.skills())
        if reports != self._start.hydrated:
            _say_hydrated(reports, strict=self._choices.strict)
        await backend.registry.report_workspaces(reports)
        if reports:
            await backend.work.mark_waiting(WAIT)

    @asynccontextmanager
    async def _api(self, backend: Backend) -> AsyncIterator["_Server"]:
        config = uvicorn.Config(
            create_app(backend),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_DRAIN,
            h11_max_incomplete_event_size=64 * 1024,
        )
        server = _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[self._listener]))
        serving.add_done_callback(lambda _: server.stopped.set())
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn offers no event for it
            await asyncio.sleep(0.005)
        try:
            yield server
        finally:
            server.should_exit = True
            await serving

    async def _introduce(self, backend: Backend, plane: ControlPlane) -> None:
        """Wait until the control plane's server answers, and say whose the operator's account on it is."""
        give_up = asyncio.get_running_loop().time() + _COMPANION_READY
        account = None
        while account is None:
            if self._companion is not None and self._companion.returncode is not None:
                raise CompanionFailed(
                    f"The server of {plane.name} ended (exit {self._companion.returncode})."
                )
            try:
                account = await plane.identify(OPERATOR)
            except ControlPlaneError as problem:
                if asyncio.get_running_loop().time() > give_up:
                    raise CompanionFailed(
                        f"The server of {plane.name} does not answer: {problem}"
                    ) from problem
                await asyncio.sleep(0.05)
        await backend.registry.link(plane.name, account, OPERATOR)

    @asynccontextmanager
    async def _working(self, backend: Backend, server: "_Server") -> AsyncIterator[None]:
        wakeup = Wakeup(
            _revealed(self._settings.database_direct_url) or self._databases.app, backend.signals.wake_all
        )
        backend.signals.announce = wakeup.announce
        tasks = [asyncio.create_task(Worker(backend).run()), asyncio.create_task(wakeup.run())]
        for task in tasks:
            task.add_done_callback(lambda _: server.stopped.set())
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception):
                    log.error("the worker failed", exc_info=outcome)

    def _say_where(self) -> None:
        home = self._choices.home.path
        say(f"API    {self._url}   (token of the administrator: {home / 'admin.token'})")
        if self._companion is not None:
            say(f"board  {self._board_url}   (sign in as {OPERATOR}; password: {home / 'board.password'})")
        say("ready; Ctrl-C stops it")


def rates_of(settings: Settings) -> Rates:
    """Read the limits; 0 is none."""

    def rate(per_second: float, burst: int) -> Rate | None:
        return Rate(per_second=per_second, burst=burst) if per_second else None

    return Rates(
        callbacks=rate(settings.callbacks_per_second, settings.callback_burst),
        refusals=rate(settings.refusals_per_minute / 60, settings.refusal_burst),
    )


class _Server(uvicorn.Server):
    """A uvicorn server that says when it has stopped."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopped = asyncio.Event()
