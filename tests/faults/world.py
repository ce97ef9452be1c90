"""A real server over a real store, seen from outside: it is asked over HTTP, killed, and its store read past it."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import psycopg
from tests.desk import DOOR, bearer, token

from agentic_os.domain.events import Event
from agentic_os.postgres.codec import decode_payload

PEOPLE = {"olga": "admin", "rita": "reviewer", "omar": "reviewer"}
EXECUTORS = ("ada", "bob", "eve")
_PATIENCE = 30
_SCRIPT = Path(__file__).with_name("timed_server.py")


@dataclass(frozen=True)
class Stored:
    """One event as it lies in the store."""

    version: int
    event_id: str
    cause: str
    event: Event


@dataclass
class World:
    """The server's process and the store under it. skew: how far its clock is ahead, in seconds."""

    dsn: str
    owner: str
    artifacts: Path
    skew: float = 0.0
    kills: int = 0
    process: subprocess.Popen[str] = field(init=False)
    client: httpx.Client = field(init=False)
    store: psycopg.Connection = field(init=False)

    def __enter__(self) -> Self:
        self.store = psycopg.connect(self.owner, autocommit=True)
        self._hire()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGKILL)
        self.store.close()

    def _hire(self) -> None:
        """Register people and executors, as an administrator would have."""
        rows = [(n, "person", [role]) for n, role in PEOPLE.items()]
        rows += [(n, "executor", ["developer"]) for n in EXECUTORS]
        for name, kind, roles in rows:
            self.store.execute(
                "insert into es.principal (id, name, kind, roles, skills) values (%s, %s, %s, %s, 'not-required')",
                (name, name, kind, roles),
            )
            secret = hashlib.sha256(token(name).encode()).digest()
            self.store.execute("insert into es.credential (hash, principal) values (%s, %s)", (secret, name))

    def start(self) -> None:
        """Start the server, on whatever its predecessor left."""
        self.process = subprocess.Popen(
            [sys.executable, str(_SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        wanted = {"dsn": self.dsn, "artifacts": str(self.artifacts), "skew": self.skew}
        port = self._say(wanted)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port.strip()}", timeout=_PATIENCE)

    def _say(self, document: dict[str, Any]) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(document) + "\n")
        self.process.stdin.flush()
        heard = self.process.stdout.readline()
        assert heard, "the server ended"
        return heard

    def stop(self, how: signal.Signals) -> None:
        """End the process at once."""
        self.process.send_signal(how)
        self.process.wait(_PATIENCE)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.client.close()

    def restart(self) -> None:
        """Kill the server where it stands, and start another."""
        self.kills += 1
        self.stop(signal.SIGKILL)
        self.start()

    def work(self) -> None:
        """Have the worker fire what is due and bring every task as far as it goes by itself."""
        assert "done" == self._say({"skew": self.skew}).strip()

    def send(self, document: dict[str, Any], credential: str) -> httpx.Response:
        """Send a callback."""
        return self.client.post(DOOR, json=document, headers=bearer(credential))

    def direct(self, task_id: str, text: str, name: str, key: str) -> httpx.Response:
        """Write a directive as somebody."""
        headers = bearer(token(name)) | {"Idempotency-Key": key}
        return self.client.post(f"/api/tasks/{task_id}/directives", json={"text": text}, headers=headers)

    def at_once(self, *calls: Callable[[], httpx.Response]) -> list[httpx.Response | None]:
        """Make several requests at once; None for one that got no answer."""
        answers: list[httpx.Response | None] = [None] * len(calls)

        def make(index: int) -> None:
            try:
                answers[index] = calls[index]()
            except httpx.HTTPError:
                answers[index] = None

        threads = [threading.Thread(target=make, args=(index,)) for index in range(len(calls))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    def killed_after_append(self, task_id: str, call: Callable[[], httpx.Response]) -> httpx.Response | None:
        """Make a request whose server is killed once the append is done and before it can answer, then restart it.

        A request that appends nothing is answered, and then nobody is killed.
        """
        answers: list[httpx.Response | None] = []
        with psycopg.connect(self.owner, autocommit=True) as holder:
            holder.execute("begin")
            holder.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (task_id,))
            sending = threading.Thread(target=lambda: answers.extend(self.at_once(call)))
            sending.start()
            while sending.is_alive() and not self._somebody_waits():
                pass
            if not sending.is_alive():
                holder.execute("rollback")
                return answers[0]
            self.process.send_signal(signal.SIGSTOP)
            holder.execute("commit")
            while self._somebody_waits() or self._somebody_writes():
                pass
            self.process.send_signal(signal.SIGKILL)
        sending.join()
        self.restart()
        return answers[0]

    def killed_at_any_moment(
        self, call: Callable[[], httpx.Response], microseconds: int
    ) -> httpx.Response | None:
        """Make a request whose server is killed a moment later, wherever it is by then, and restart it."""
        timer = threading.Timer(microseconds / 1_000_000, os.kill, (self.process.pid, signal.SIGKILL))
        timer.start()
        (answer,) = self.at_once(call)
        timer.join()
        self.restart()
        return answer

    def _somebody_waits(self) -> bool:
        return self._count("pg_locks where locktype = 'advisory' and not granted") > 0

    def _somebody_writes(self) -> bool:
        return self._count("pg_locks where locktype = 'advisory'") > 0

    def _count(self, what: str) -> int:
        row = self.store.execute(f"select count(*) from {what}".encode()).fetchone()
        assert row is not None
        return int(row[0])

    def events(self, task_id: str, after: int = 0) -> list[Stored]:
        """Read the events of a task from the store."""
        rows = self.store.execute(
            "select version, payload from es.event where stream_id = %s and version > %s order by version",
            (task_id, after),
        ).fetchall()
        found = []
        for version, payload in rows:
            envelope = json.loads(payload)
            found.append(
                Stored(
                    version=version,
                    event_id=envelope["event_id"],
                    cause=envelope.get("cause", ""),
                    event=decode_payload(payload),  # type: ignore[arg-type]
                )
            )
        return found

    def rows(self, query: str, *values: object) -> Sequence[tuple[Any, ...]]:
        """Ask the store itself."""
        return self.store.execute(query.encode(), values).fetchall()
