"""A board of its own for a test: a real server process over a database that the test provides."""

import asyncio
import json
import ssl
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import httpx

__all__ = ["BoardProcess"]

BACKEND_TOKEN = "the-backend's-token-in-tests"  # noqa: S105 - of boards that live for a test
WEBHOOK_SECRET = "the-webhook-secret-in-tests"  # noqa: S105 - of boards that live for a test
OPERATOR, PASSWORD = "operator", "a password in tests"
_TIMEOUT_SECONDS = 30
# Boards in tests speak plain HTTP: no time goes into loading the certificates of authorities.
_NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class BoardProcess:
    """A server process: start it, speak to it, kill it, start it again over what it has stored."""

    def __init__(self, database_url: str, home: Path, **settings: Any) -> None:
        self.configuration: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": 0,
            "database_url": database_url,
            "home": str(home),
            "backend_token": BACKEND_TOKEN,
            "webhook_url": None,
            "webhook_secret": WEBHOOK_SECRET,
            "operator_name": OPERATOR,
            "operator_password": PASSWORD,
            "linger_seconds": 0,
        } | settings
        self.log = home.with_suffix(".log")
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._tokens: dict[str, str] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The server's process. Raises RuntimeError before the first start."""
        if self._process is None:
            raise RuntimeError("the board was not started")
        return self._process

    def spawn(self) -> "subprocess.Popen[bytes]":
        """Start a server without waiting for it, for tests of how it fails."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "agentic_os_board", "serve"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        if process.stdin is not None:
            process.stdin.write(json.dumps(self.configuration).encode() + b"\n")
            process.stdin.flush()
        return process

    def start(self) -> None:
        """Start the server and wait until it serves; a second time, on the same port. Raises RuntimeError."""
        self._process = self.spawn()
        line = self._process.stdout.readline().decode() if self._process.stdout else ""
        if not line.startswith("agentic-os-board: serving "):
            self._process.communicate(timeout=_TIMEOUT_SECONDS)
            raise RuntimeError(f"the board did not start: {self.log.read_text('utf-8')}")
        self.url = line.split()[-1]
        self.configuration["port"] = int(self.url.rpartition(":")[2])

    def stop(self) -> int:
        """End the server by ending its input; return its exit code."""
        process = self.process
        process.communicate(timeout=_TIMEOUT_SECONDS)
        return process.returncode

    def kill(self) -> None:
        """Kill the server as a crash would, leaving behind what it started."""
        self.process.kill()
        self.process.communicate(timeout=_TIMEOUT_SECONDS)

    def client(self, token: str = "") -> httpx.AsyncClient:
        """Speak to the board's API with a token, or as nobody."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.AsyncClient(
            base_url=self.url,
            headers=headers,
            timeout=_TIMEOUT_SECONDS,
            trust_env=False,
            verify=_NO_AUTHORITIES,
        )

    def backend(self) -> httpx.AsyncClient:
        """Speak to the board's API as the backend."""
        return self.client(BACKEND_TOKEN)

    async def operator(self) -> httpx.AsyncClient:
        """Speak to the board's API as its administrator."""
        if OPERATOR not in self._tokens:
            async with self.client() as client:
                answer = await client.post("/api/sign-in", json={"name": OPERATOR, "password": PASSWORD})
                self._tokens[OPERATOR] = answer.raise_for_status().json()["token"]
        return self.client(self._tokens[OPERATOR])

    async def acting(self, name: str) -> httpx.AsyncClient:
        """Speak to the board's API as a person or an agent that was added before."""
        if name not in self._tokens:
            async with await self.operator() as admin:
                path = f"/api/accounts/by-name/{name}/tokens"
                answer = await admin.post(path, json={"name": "test"})
                self._tokens[name] = answer.raise_for_status().json()["token"]
        return self.client(self._tokens[name])

    async def add_person(self, name: str, *, admin: bool = False) -> str:
        """Add a person; return the account id."""
        document = {"name": name, "password": PASSWORD, "admin": admin}
        return await self._add("/api/accounts", document)

    async def add_agent(self, name: str, command: list[str], workspace: Path, **wake: Any) -> str:
        """Add an agent that is woken by a command; return the account id."""
        configuration = {"kind": "command", "command": command, "workspace": str(workspace)} | wake
        return await self._add("/api/agents", {"name": name, "wake": configuration})

    async def runs(self) -> list[dict[str, Any]]:
        """List the newest runs of every agent, oldest first."""
        async with await self.operator() as admin:
            agents = (await admin.get("/api/agents")).raise_for_status().json()["items"]
        runs: list[dict[str, Any]] = [run for agent in agents for run in agent["runs"]]
        return sorted(runs, key=lambda run: str(run["created_at"]))

    async def until_runs(self, wanted: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Wait until the runs are as wanted. Raises TimeoutError."""
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            while not wanted(runs := await self.runs()):  # noqa: ASYNC110 - another process, with no call that waits
                await asyncio.sleep(0.05)
        return runs

    async def _add(self, path: str, document: Mapping[str, Any]) -> str:
        async with await self.operator() as admin:
            answer = await admin.post(path, json=document)
            return str(answer.raise_for_status().json()["id"])
