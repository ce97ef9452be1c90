"""Starting a client for one attempt: with the least environment, in its session, seen to its end."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final
from uuid import UUID

from agentic_os.connection.profile import Profile
from agentic_os.connection.record import write_private
from agentic_os.connection.repository import Repository

PROXIES: Final = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy")
CERTIFICATES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS")
_PLAIN: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "USER", "LOGNAME", "SHELL", "TERM", "TZ")
_BASE: Final = "AGENTIC_OS_BASE_COMMIT"
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_PATIENCE: Final = 30.0
_TAIL_BYTES: Final = 4000
_SESSIONS_KEPT: Final = 500
_LOGS_KEPT: Final = 50
_DRAIN_SECONDS: Final = 2.0
_OUR_SECRETS = re.compile(rb"(aos[aox]_)[\w.-]{20,}")
"""Tokens and credentials of agentic-os, which an agent can be talked into printing; many people read logs."""


class ClientUnusable(Exception):
    """The client cannot be started; the message says why, and how a person gets one that can."""


def present() -> Mapping[str, str]:
    """Read the environment that this process was given."""
    return os.environ  # noqa: TID251 - a client gets the named variables of it, and no others


def find_client(profile: Profile, known: str = "") -> str:
    """Find the client: where it was when it was connected, else on PATH. Raises ClientUnusable."""
    if known and os.access(known, os.X_OK):
        return known
    found = shutil.which(profile.client.command)
    if found is None:
        raise ClientUnusable(
            f"{profile.title} is not on PATH (no program {profile.client.command!r});"
            f" install it: {profile.client.install}"
        )
    return os.path.abspath(found)  # noqa: PTH100 - links stay: a package's program is found beside its own


class VersionAsked:
    """The question for a client's version, which it may answer while other things are done."""

    def __init__(self, profile: Profile, client: str) -> None:
        self._title = profile.title
        try:
            self._process = subprocess.Popen(
                [client, *profile.client.version],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=_plain_environment(client),
            )
        except OSError as problem:
            raise ClientUnusable(f"{client} cannot be started: {problem.strerror}") from problem

    def answer(self) -> str:
        """Wait for the version. Raises ClientUnusable."""
        try:
            output, _ = self._process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise ClientUnusable(f"{self._title} does not say its version within {_PATIENCE:g} s") from None
        text = output.decode(errors="replace")
        found = _VERSION.search(text)
        if self._process.returncode or found is None:
            said = text.strip()[-300:] or "nothing"
            raise ClientUnusable(
                f"{self._title} does not say its version (exit {self._process.returncode}): {said}"
            )
        return found.group()


def environment_of(
    profile: Profile, client: str, ours: Mapping[str, str], given: Mapping[str, str]
) -> dict[str, str]:
    """Compose the least environment: what every program needs, what the profile names, what is ours."""
    wanted = (_BASE, *profile.passes, *PROXIES, *CERTIFICATES)
    passed = {name: given[name] for name in wanted if name in given}
    return {**_plain_environment(client, given), **passed, **profile.environment, **ours}


def _plain_environment(client: str, given: Mapping[str, str] | None = None) -> dict[str, str]:
    source = present() if given is None else given
    environment = {name: source[name] for name in _PLAIN if name in source}
    # A client that is a script finds its interpreter where it was installed with it.
    folder = str(Path(client).parent)
    path = environment.get("PATH", os.defpath)
    return environment | {"PATH": path if folder in path.split(os.pathsep) else f"{path}{os.pathsep}{folder}"}


class State:
    """What the launcher keeps from one attempt to the next: sessions by task, and logs; attempts may run at once."""

    def __init__(self, folder: Path) -> None:
        self._sessions, self._logs = folder / "sessions", folder / "logs"
        for place in (folder, self._sessions, self._logs):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)

    def session_of(self, task: str) -> str | None:
        """Find the session in which a task was worked on."""
        try:
            return (self._sessions / _file_name(task)).read_text(encoding="utf-8").strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def keep_session(self, task: str, session: str) -> None:
        """Note the session of a task; the oldest go when there are too many."""
        _keep_newest(self._sessions, _SESSIONS_KEPT)
        write_private(self._sessions / _file_name(task), session)

    def open_log(self, task: str, attempt: str) -> IO[bytes]:
        """Open the file of the client's words, which only its owner can read."""
        _keep_newest(self._logs, _LOGS_KEPT)
        name = f"{_file_name(f'{task}-{attempt}')}.log"
        return os.fdopen(os.open(self._logs / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", text)


def _keep_newest(folder: Path, count: int) -> None:
    with contextlib.suppress(FileNotFoundError):  # another attempt may have been before us
        for old in sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime)[:-count]:
            old.unlink(missing_ok=True)


def new_session() -> str:
    """Draw the id of a session; some clients take only a UUID of version 4."""
    return str(UUID(bytes=os.urandom(16), version=4))


def places_of(repository: Repository | None, arguments: Sequence[str]) -> dict[str, str | None]:
    """Give the git folders that a command line may name, and make those below them that it lets the client write to."""
    if repository is None:
        return {"git": None, "repository": None}
    for found in re.findall(r"\{repository\}(/[A-Za-z0-9._/-]+)", " ".join(arguments)):
        Path(f"{repository.shared}{found}").mkdir(parents=True, exist_ok=True)
    return {"git": str(repository.git), "repository": str(repository.shared)}


@dataclass
class Run:
    """How a client ran. code: below zero for a signal. tail: the end of its words. stopped: by who woke us."""

    code: int
    tail: bytes
    stopped: bool


@dataclass
class _Output:
    """What a client writes: passed on, kept, and looked through for its session."""

    log: IO[bytes]
    session: Callable[[Any], None]
    tail: deque[bytes] = field(default_factory=deque)
    size: int = 0

    def take(self, stream: IO[bytes]) -> None:
        for said in stream:
            line = _OUR_SECRETS.sub(rb"\1(taken out)", said)
            with contextlib.suppress(OSError):  # whoever read along may be gone; the client goes on
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()
            self.log.write(line)
            self.tail.append(line[-_TAIL_BYTES:])
            self.size += len(self.tail[-1])
            while self.size - len(self.tail[0]) >= _TAIL_BYTES:
                self.size -= len(self.tail.popleft())
            if line.startswith(b"{"):
                with contextlib.suppress(ValueError):
                    self.session(json.loads(line))


def run_client(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    log: IO[bytes],
    session: Callable[[Any], None],
) -> Run:
    """Run a client to its end; its words go to standard output and to the log. Raises ClientUnusable."""
    try:
        process = subprocess.Popen(
            list(command),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except OSError as problem:
        raise ClientUnusable(f"{command[0]} cannot be started: {problem.strerror}") from problem
    assert process.stdout is not None
    output = _Output(log, session)
    reader = threading.Thread(target=output.take, args=(process.stdout,), daemon=True)
    with _passing_on_the_order_to_stop(process) as ordered:
        reader.start()
        code = process.wait()
        # What it left running in the background may hold its output open for ever.
        reader.join(_DRAIN_SECONDS)
        if not reader.is_alive():
            process.stdout.close()
    log.flush()
    return Run(code, b"".join(list(output.tail)), bool(ordered))


@contextlib.contextmanager
def _passing_on_the_order_to_stop(process: "subprocess.Popen[bytes]") -> Iterator[list[int]]:
    ordered: list[int] = []

    def stop(number: int, _: object) -> None:
        ordered.append(number)
        process.terminate()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield ordered
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
