"""`agentic-os executor launch`: what a control plane runs to have a connected client work on one attempt.

What is imported at the top is imported before every client starts; the rest waits until it is needed.
"""

import argparse
import json
import re
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agentic_os.clock import elapsed
from agentic_os.connection import launching
from agentic_os.connection.launching import ClientUnusable, Run, State, VersionAsked
from agentic_os.connection.profile import Profile, command_line, profile_of, with_scripts
from agentic_os.connection.record import (
    CREDENTIAL,
    Connection,
    Connections,
    ConnectionUnknown,
    ConnectionUnreadable,
    read_connection,
)
from agentic_os.connection.repository import Repository, WorkspaceUnfit, identity, look_at, tracked
from agentic_os.connection.workspace import STATE, Unmergeable, prepare_attempt, scripts_of
from agentic_os.home import Home
from agentic_os.hydration import DefinitionError, WorkspaceError, load_definition, packaged_skills, resolve

REPORTED, UNREPORTED, REFUSED, NO_SERVER = 0, 1, 3, 4
_ATTEMPT: Final = ("AGENTIC_OS_TASK", "AGENTIC_OS_ATTEMPT", "AGENTIC_OS_BRIEF")
_HEADING: Final = re.compile(r"<!-- agentic-os:brief v1 task=(?P<task>\S+) attempt=(?P<attempt>\d+) ")
_TOLD_BYTES: Final = 2500


class NotLaunched(Exception):
    """The client was not started; the message says why."""


def launch_main(argv: list[str]) -> int:
    """Do one attempt with a connected client; returns the exit code."""
    parser = make_parser(argparse.ArgumentParser(prog="agentic-os executor launch"))
    return run(parser.parse_args(argv))


def make_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the options."""
    parser.description = (
        "Have a connected client do one attempt, in this folder. The control plane runs it: the attempt comes from "
        "AGENTIC_OS_TASK, AGENTIC_OS_ATTEMPT and AGENTIC_OS_BRIEF."
    )
    parser.epilog = (
        "Exit: 0 the client reported, 1 it did not, or was not started, 2 usage, 3 refused, 4 no server."
    )
    parser.add_argument("connection", help="the name that it was connected under")
    parser.add_argument("--home", type=Path, help="home of a local stack")
    parser.add_argument(
        "--test", metavar="WORD", help="a brief with this word is acknowledged, without the client"
    )
    parser.set_defaults(run=run)
    return parser


@dataclass(frozen=True, kw_only=True)
class Wake:
    """What whoever woke us gave. credential: the file of the executor's own."""

    connection: Connection
    home: Home
    task: str
    attempt: str
    brief: str
    credential: Path
    url: str
    given: Mapping[str, str]
    test: bool


def run(args: argparse.Namespace) -> int:
    """Do one attempt."""
    began = elapsed()
    try:
        wake = _wake(args)
        if wake.connection.kind == "command":
            return _run_command(wake)
        return _Attempt(wake, profile_of(wake.connection.profile), Path.cwd()).do(began)
    except (NotLaunched, ConnectionUnreadable, ClientUnusable, WorkspaceUnfit) as problem:
        return _not_started(str(problem))
    except (Unmergeable, WorkspaceError, DefinitionError, OSError) as problem:
        return _not_started(f"the attempt's folder cannot be prepared: {problem}")


def _not_started(why: str) -> int:
    # Last of all that is written, since the end of a run's log is what people are shown.
    print(f"agentic-os: the client was not started: {why}", flush=True)
    return UNREPORTED


def _wake(args: argparse.Namespace) -> Wake:
    given = launching.present()
    home = Home(args.home or Path(given.get("AGENTIC_OS_HOME") or "~/.agentic-os"))
    connection = _connection(args.connection, home, given)
    task, attempt, text = woken_for(given, Path.cwd())
    endpoint = home.endpoint()
    url = endpoint.url if endpoint else given.get("AGENTIC_OS_URL")
    if not url:
        raise NotLaunched(
            f"no server is known: {home.path} has no endpoint.json, and AGENTIC_OS_URL is not set"
        )
    return Wake(
        connection=connection,
        home=home,
        task=task,
        attempt=attempt,
        brief=text,
        credential=_credential(connection, home, given),
        url=url,
        given=given,
        test=bool(args.test) and args.test in text,
    )


def woken_for(given: Mapping[str, str], folder: Path) -> tuple[str, str, str]:
    """Find task, attempt and brief: as the board gives them, else as Paperclip does. Raises NotLaunched."""
    missing = [name for name in _ATTEMPT if not given.get(name)]
    if not missing:
        task, attempt, brief = (given[name] for name in _ATTEMPT)
        return task, attempt, _brief(Path(brief))
    if not given.get("PAPERCLIP_RUN_ID"):
        raise NotLaunched(f"{' and '.join(missing)} not set: a control plane runs this, for one attempt")
    bridge = packaged_skills() / "bridge-paperclip" / "scripts" / "bridge_paperclip.py"
    command = [sys.executable, str(bridge), "--only-save", "--workspace", str(folder)]
    done = subprocess.run(command, env=dict(given), capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotLaunched(f"what Paperclip woke us for is not known: {done.stderr.strip()}")
    print(done.stderr, end="", flush=True)
    text = _brief(folder / STATE / "brief.md")
    found = list(_HEADING.finditer(text))[-1]  # the last one counts, as for start-work
    return found["task"], found["attempt"], text


def _brief(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise NotLaunched(f"the brief {file} cannot be read: {problem}") from problem


def _connection(name: str, home: Home, given: Mapping[str, str]) -> Connection:
    try:
        # Where agents run as another user, the control plane hands over a copy: the home is closed to them.
        if copy := given.get("AGENTIC_OS_CONNECTION_FILE"):
            return read_connection(Path(copy))
        return Connections(home.path).read(name)
    except ConnectionUnknown:
        raise NotLaunched(
            f"nothing is connected as {name!r} in {home.path}; agentic-os connect --list"
        ) from None


def _credential(connection: Connection, home: Home, given: Mapping[str, str]) -> Path:
    named = given.get("AGENTIC_OS_CREDENTIAL_FILE")
    file = Path(named) if named else Connections(home.path).at(connection.name) / CREDENTIAL
    try:
        mode = file.stat().st_mode
    except OSError as problem:
        raise NotLaunched(f"the credential {file} cannot be read: {problem.strerror}") from problem
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise NotLaunched(f"others can read the credential {file}; rotate it, and give it mode 0600")
    return file


@dataclass
class _Attempt:
    """One attempt, in its folder."""

    wake: Wake
    profile: Profile
    folder: Path
    client: str = ""
    version: str = ""
    repository: Repository | None = None
    scripts: Sequence[str] = ()

    def do(self, began: float) -> int:
        """Prepare, run, and look at what became of it."""
        connection = self.wake.connection
        self.client = launching.find_client(self.profile, connection.client)
        asked = VersionAsked(self.profile, self.client)
        self.repository = self._prepare()
        self.version = asked.answer()
        if self.wake.test:
            return self._acknowledge()
        state = State(self._state_folder())
        session = state.session_of(self.wake.task) if connection.sessions == "resume" else None
        resumed = session is not None and self.profile.resume is not None
        run = self._start(state, session if resumed else None, began)
        if resumed and run.code and not run.stopped and self._attempt() is None:
            print(
                f"agentic-os: the session {session} could not be taken up again; starting afresh.", flush=True
            )
            run = self._start(state, None, elapsed())
        return self._ended(run)

    def _prepare(self) -> Repository | None:
        connection = self.wake.connection
        definition = load_definition(Path(connection.definition) if connection.definition else None)
        skill_set = resolve(definition, connection.project)
        repository = prepare_attempt(self.folder, self.profile, skill_set, connection.changes)
        self.scripts = scripts_of(self.profile, skill_set)
        (self.folder / STATE / "brief.md").write_text(self.wake.brief, encoding="utf-8")
        return repository

    def _ours(self, session: str | None) -> dict[str, str]:
        ours = {
            "AGENTIC_OS_TASK": self.wake.task,
            "AGENTIC_OS_ATTEMPT": self.wake.attempt,
            "AGENTIC_OS_BRIEF": str(self.folder / STATE / "brief.md"),
            "AGENTIC_OS_CREDENTIAL_FILE": str(self.wake.credential),
            "AGENTIC_OS_URL": self.wake.url,
            "AGENTIC_OS_RUNTIME": self.profile.name,
            "AGENTIC_OS_RUNTIME_VERSION": self.version,
        }
        # Some clients keep the person's own configuration from git, and no commit fails for want of a name.
        author = identity(self.folder, self.wake.connection.name) if self.repository else {}
        return ours | author | ({"AGENTIC_OS_SESSION": session} if session else {})

    def _acknowledge(self) -> int:
        """Do what a client does first, and no more: no model is called."""
        environment = launching.environment_of(self.profile, self.client, self._ours(None), self.wake.given)
        script = f"{self.profile.skills[0]}/start-work/scripts/start_work.py"
        done = subprocess.run(
            ["python3", script, "--brief", f"{STATE}/brief.md"],  # noqa: S607 - as the client finds it
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        print(
            f"agentic-os: {self.profile.title} {self.version} is ready; start-work ended with {done.returncode}.",
            flush=True,
        )
        return REPORTED if done.returncode == 0 else UNREPORTED

    def _start(self, state: State, resume: str | None, began: float) -> Run:
        """Run the client in a session of before, or in a new one."""
        profile, task = self.profile, self.wake.task
        session = resume or (launching.new_session() if profile.session.chosen else None)
        template = profile.resume if resume and profile.resume else profile.launch
        if session:
            state.keep_session(task, session)
        values = {"prompt": profile.told(brief=f"{STATE}/brief.md"), "session": session or ""}
        template = with_scripts(list(template), self.scripts)
        command = command_line(template, values | launching.places_of(self.repository, template))
        command[0] = self.client if command[0] == profile.client.command else command[0]
        environment = launching.environment_of(profile, self.client, self._ours(session), self.wake.given)

        def seen(document: Any) -> None:
            if found := profile.session.in_line(document):
                state.keep_session(task, found)

        how = "takes up its session again" if resume else "starts"
        print(
            f"agentic-os: {profile.title} {self.version} {how} after {elapsed() - began:.2f} s.", flush=True
        )
        with state.open_log(task, self.wake.attempt) as log:
            return launching.run_client(command, self.folder, environment, log, seen)

    def _state_folder(self) -> Path:
        """Find where sessions and logs are kept; another user than the server's has a place of its own."""
        folder = Connections(self.wake.home.path).at(self.wake.connection.name)
        try:
            (folder / "sessions").exists()
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            own = Path(self.wake.given.get("HOME") or "~").expanduser()
            return own / ".local/state/agentic-os" / self.wake.connection.name
        return folder

    def _attempt(self) -> dict[str, Any] | None:
        """Read what the skills' scripts noted of this attempt; None while none of them has begun it."""
        try:
            found = json.loads((self.folder / STATE / "attempt.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if (found.get("task_id"), str(found.get("attempt"))) != (self.wake.task, self.wake.attempt):
            return None
        return found if found.get("token") or found.get("closed") else None

    def _ended(self, run: Run) -> int:
        """Say what became of the attempt. That the client ended well is no evidence; that it reported is."""
        attempt = self._attempt()
        if attempt is not None and attempt.get("closed"):
            print(f"agentic-os: {self.profile.title} reported, and ended with exit {run.code}.", flush=True)
            return REPORTED
        if run.stopped:
            print(f"agentic-os: {self.profile.title} was stopped, as its work was taken away.", flush=True)
            return UNREPORTED
        ending = f"signal {-run.code}" if run.code < 0 else f"exit {run.code}"
        words = f"{self.profile.title} ended with {ending} and reported nothing."
        if attempt is None:
            print(f"agentic-os: {words} It did not even acknowledge its brief.", flush=True)
            return UNREPORTED
        tail = run.tail[-_TOLD_BYTES:].decode(errors="replace").replace("\0", " ").strip()
        return _fail(self.wake, attempt, words, f"Its log ends:\n\n{tail}" if tail else "It wrote nothing.")


def _fail(wake: Wake, attempt: Mapping[str, Any], words: str, log: str) -> int:
    """Report that the attempt came to nothing, since the client did not."""
    from agentic_os.cli.client import Client, ServerRefused, ServerUnavailable  # noqa: PLC0415 - few need it
    from agentic_os.cli.command_executor import Attempt  # noqa: PLC0415

    client = Client(wake.url, str(attempt["token"]))
    sender = Attempt(client, wake.task, int(wake.attempt), seq=int(attempt["next_seq"]) - 1)
    message = f"{words} {log}"
    try:
        answer = sender.send("failure", {"class": "environment", "message": message, "retryable": True})
    except ServerRefused as refusal:
        print(f"agentic-os: {words} The server takes no report of it: {refusal}", flush=True)
        return UNREPORTED
    except ServerUnavailable as problem:
        print(f"agentic-os: {words} {problem}", flush=True)
        return NO_SERVER
    print(f"agentic-os: {words} This was reported as a failure; the task is {answer['phase']}.", flush=True)
    return UNREPORTED


def _run_command(wake: Wake) -> int:
    """Have the declared command do the attempt."""
    from agentic_os.cli.client import ServerRefused, ServerUnavailable  # noqa: PLC0415

    try:
        return _do_job(wake)
    except ServerRefused as refusal:
        print(f"agentic-os: {refusal}", file=sys.stderr, flush=True)
        return REFUSED
    except ServerUnavailable as problem:
        print(f"agentic-os: {problem}", file=sys.stderr, flush=True)
        return NO_SERVER


def _do_job(wake: Wake) -> int:
    from agentic_os.cli.command_executor import Job, acknowledge_only, do_attempt  # noqa: PLC0415

    connection = wake.connection
    credential = wake.credential.read_text(encoding="utf-8").strip()
    if wake.test:
        return acknowledge_only(wake.url, wake.task, credential)
    job = Job(
        command=tuple(connection.command),
        outputs=tuple(connection.outputs),
        inputs=tuple(connection.inputs),
    )
    code = do_attempt(wake.url, wake.task, credential, job)
    if code == REPORTED:
        _clear_away(Path.cwd(), connection.outputs)
    return code


def _clear_away(folder: Path, outputs: Sequence[str]) -> None:
    """Remove what was delivered from the attempt's own worktree, which is kept for what is in it otherwise."""
    repository = look_at(folder)
    if repository is not None and repository.git != repository.shared:
        for name in set(outputs) - tracked(folder, outputs):
            (folder / name).unlink(missing_ok=True)
