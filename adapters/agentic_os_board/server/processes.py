"""Agents' processes: started behind a gate, known by pid and start time, ended with all they started."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUN_VARIABLE = "AGENTIC_OS_BOARD_RUN"
# The command waits for a line before it runs. So its pid is on record before it does anything, and a server
# that dies in between leaves a gate behind that reads end-of-file and goes away.
_GATE = 'read -r go || exit 125; exec "$@" </dev/null'
_TERMINATE_SECONDS = 2.0
_SWEEPS = 20


@dataclass(frozen=True, slots=True)
class User:
    """The system user that agents run as; None stands for the server's own."""

    name: str
    uid: int
    gid: int
    home: str


def find_user(name: str) -> User | None:
    """Look up the user of run_as. Raises LookupError when there is none, or when only root could switch to it."""
    if not name:
        return None
    import pwd  # noqa: PLC0415 - absent on Windows, where run_as is refused by this very line

    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise LookupError(f"run_as: there is no system user {name!r}") from None
    if os.geteuid() not in {0, entry.pw_uid}:
        raise LookupError(f"run_as: only root can run agents as {name!r}")
    return User(name, entry.pw_uid, entry.pw_gid, entry.pw_dir) if os.geteuid() == 0 else None


def shared_account(user: User | None) -> str:
    """Say plainly that agents have the server's own rights; "" where they have a user of their own."""
    if user is not None or os.name != "posix":
        return ""
    whose = "run as root" if os.geteuid() == 0 else "share your account"
    return (
        f"agents {whose}: gates are cooperative; to part them, start as root and name another user in run_as"
    )


@dataclass(frozen=True, slots=True)
class GatedProcess:
    """A started command that waits at its gate, and what it writes."""

    process: asyncio.subprocess.Process
    output: asyncio.StreamReader
    pipe: asyncio.ReadTransport

    @property
    def pid(self) -> int:
        """The process, which leads its group."""
        return self.process.pid


async def start_gated(
    command: Sequence[str], *, folder: Path, environment: Mapping[str, str], user: User | None
) -> GatedProcess:
    """Start a command in a session of its own; it waits for open_gate. Raises OSError."""
    # A pipe of our own: with asyncio's, wait() would last until every descendant has closed it.
    reading, writing = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            _GATE,
            "agent",
            *command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=writing,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **switch_to(user),
        )
    except BaseException:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    output = asyncio.StreamReader()
    pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(output), os.fdopen(reading, "rb", buffering=0)
    )
    return GatedProcess(process, output, pipe)


def switch_to(user: User | None) -> dict[str, Any]:
    """Say what a subprocess needs to run as the user."""
    if user is None:
        return {}
    return {"user": user.uid, "group": user.gid, "extra_groups": os.getgrouplist(user.name, user.gid)}


async def open_gate(process: asyncio.subprocess.Process) -> None:
    """Let the command run."""
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(b"go\n")
            await process.stdin.drain()
        process.stdin.close()


async def end_process(process: asyncio.subprocess.Process) -> None:
    """Ask the process group to end, then end it."""
    if process.stdin is not None:
        process.stdin.close()
    signal_group(process.pid, signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_TERMINATE_SECONDS):
            await process.wait()
    signal_group(process.pid, signal.SIGKILL)
    await process.wait()


def signal_group(group: int, number: signal.Signals) -> None:
    """Signal a process group, if it is still there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def end_leftovers(run: str) -> None:
    """Kill what a run started and moved out of its process group, where the system lets us see it."""
    wanted = f"{RUN_VARIABLE}={run}".encode()
    for _ in range(_SWEEPS):
        # A process may have forked while we looked: look again until nothing is found.
        if not _kill_those_with(wanted):
            return


def _kill_those_with(variable: bytes) -> bool:
    found = False
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if variable in folder.joinpath("environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)
                found = True
    return found


def end_orphan(pid: int, process_start: str, run: str) -> None:
    """Kill the process group of a run that an earlier server left behind, if the pid is still that process."""
    if started_at(pid) == process_start:
        signal_group(pid, signal.SIGKILL)
    end_leftovers(run)


def started_at(pid: int) -> str:
    """Tell when a process started, in words that no other process of this pid shares; "" when it is gone."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        # The name of the command, in parentheses, may itself hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except FileNotFoundError:
        return "" if Path("/proc/self").exists() else _started_at_by_ps(pid)
    except ProcessLookupError:
        return ""
    return f"{boot}:{fields[19]}"


def _started_at_by_ps(pid: int) -> str:
    answer = subprocess.run(
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False, timeout=5
    )
    return answer.stdout.strip()
