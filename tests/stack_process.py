"""`agentic-os up` as a process of its own, as a person would start it, and what the kernel knows of its processes."""

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agentic_os.home import Endpoint, Home

READY = "ready; Ctrl-C stops it"
ENVIRONMENT = {"PATH": os.defpath, "HOME": "/nonexistent", "LANG": "C.UTF-8"}
PATIENCE = 60.0


def command(*arguments: object) -> list[str]:
    """Compose a command line of the product, by the interpreter that runs the tests."""
    return [sys.executable, "-m", "agentic_os.cli", *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with nothing of the tests' own environment."""
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
        timeout=PATIENCE,
    )


@dataclass
class StackProcess:
    """A running `up`. lines: what it said so far, its log included."""

    home: Path
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    ready: threading.Event = field(default_factory=threading.Event)

    @property
    def endpoint(self) -> Endpoint:
        """Find where it answers."""
        found = Home(self.home).endpoint()
        assert found is not None
        return found

    def listen(self) -> None:
        """Take in what it says until it ends."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if READY in line:
                self.ready.set()
        self.ready.set()

    def terminate(self) -> int:
        """Ask it to stop; return its exit code. Raises TimeoutExpired when it takes more than ten seconds."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


@contextmanager
def running_stack(
    home: Path, *options: object, environment: dict[str, str] = ENVIRONMENT
) -> Iterator[StackProcess]:
    """Run `up` on free ports until the end of the context, ready to serve."""
    arguments = command("up", "--home", home, "--port", 0, "--board-port", 0, *options)
    process = subprocess.Popen(
        arguments,
        cwd="/",
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    stack = StackProcess(home, process)
    listener = threading.Thread(target=stack.listen)
    listener.start()
    try:
        assert stack.ready.wait(PATIENCE), "it says nothing"
        assert process.poll() is None, "".join(stack.lines)
        yield stack
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(PATIENCE)
        listener.join()
        assert process.stdout is not None
        process.stdout.close()


def processes_of(*folders: Path) -> dict[int, str]:
    """Find the processes that name one of the folders, or lie in one: pid -> command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            lies_in = str((entry / "cwd").readlink())
        except OSError:
            continue
        if any(str(folder) in line or lies_in.startswith(str(folder)) for folder in folders):
            found[int(entry.name)] = line
    return found


def folders_of(home: Path) -> list[Path]:
    """List the home, and the folder of its database where that lies elsewhere."""
    pointer = home / "postgres.location"
    return [home, *([Path(pointer.read_text().strip())] if pointer.exists() else [])]


def children_of(pid: int) -> dict[int, str]:
    """Find the direct children of a process: pid -> command line."""
    found = {}
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            line = Path(f"/proc/{child}/cmdline").read_bytes()
            found[int(child)] = line.replace(b"\0", b" ").decode(errors="replace")
    return found


def wait_for_end(pids: Sequence[int]) -> None:
    """Wait until processes that are not ours to wait for have ended."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            ended, _, _ = select.select([descriptor], [], [], PATIENCE)
            assert ended, f"process {pid} goes on: {Path(f'/proc/{pid}/cmdline').read_bytes()!r}"
        finally:
            os.close(descriptor)
