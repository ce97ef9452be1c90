"""The whole product, as a person runs it: `up`, a workspace, connected clients, tasks, and comments on the board."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tests.agents.clients import CLIENTS, surroundings
from tests.agents.model import Model, Request
from tests.stack_process import command, running_stack

from agentic_os.postgres.embedded import discard

PATIENCE = 100.0
_LOOK = 0.05
Document = dict[str, Any]
Connect = Callable[..., Path]
"""Connects a client under a name, with options of the command, to a repository of its own; returns that."""


@dataclass(frozen=True)
class Product:
    """A running stack whose agents find their clients and the model. place: where workspaces may be made."""

    home: Path
    place: Path
    api: httpx.Client
    board: httpx.Client
    model: Model
    environment: dict[str, str]

    def run(self, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run a command of the product, as the person whose clients these are."""
        return subprocess.run(
            command(name, "--home", self.home, *arguments),
            capture_output=True,
            text=True,
            check=False,
            env=self.environment,
            cwd="/",
            timeout=PATIENCE,
        )

    def connect(self, client: str, workspace: Path, name: str, *options: object) -> Document:
        """Connect a client; returns what the command says of it."""
        named = ("connect", client, "--workspace", workspace, "--name", name, "--yes", "--json")
        done = self.run(*named, *options)
        assert 0 == done.returncode, done.stdout + done.stderr
        said: Document = json.loads(done.stdout.splitlines()[-1])
        return said

    def ask(self, title: str, to: str, *, goal: str = "Do it well.", mode: str = "direct") -> str:
        """Ask an executor for work; returns the task's id."""
        wanted = {
            "title": title,
            "goal": goal,
            "project": "default",
            "mode": mode,
            "assignee": to,
            "acceptance": [{"id": "counted", "text": "All beans are counted."}],
        }
        made = self.api.post("/api/tasks", json=wanted)
        assert made.is_success, made.text
        return str(made.json()["id"])

    def show(self, task: str) -> Document:
        """Read a task."""
        shown: Document = self.api.get(f"/api/tasks/{task}").raise_for_status().json()
        return shown

    def events(self, task: str) -> list[Document]:
        """Read a task's history."""
        answer = self.api.get(f"/api/tasks/{task}/events", params={"limit": 500})
        events: list[Document] = answer.raise_for_status().json()["items"]
        return events

    def of_type(self, task: str, kind: str) -> list[Document]:
        """Read what a task's events of one type say."""
        return [event["data"] for event in self.events(task) if kind == event["type"]]

    def until(self, task: str, *phases: str) -> Document:
        """Read the task until it is in one of the phases, with its issue on the board."""
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            shown = self.show(task)
            if shown["phase"] in phases and shown["issue"]:
                return shown
            time.sleep(_LOOK)
        raise AssertionError(f"{task} is not {phases}:\n{self.story(task)}")

    def until_event(self, task: str, kind: str, number: int = 1) -> Document:
        """Wait until an event of the type came so many times; returns what the newest says."""
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            if len(found := self.of_type(task, kind)) >= number:
                return found[-1]
            time.sleep(_LOOK)
        raise AssertionError(f"no {kind} of {task}:\n{self.story(task)}")

    def story(self, task: str) -> str:
        """Tell what happened, for a test that fails."""
        told = [
            f"{event['type']} {event['actor']} {event['reason']} {json.dumps(event['data'])[:300]}"
            for event in self.events(task)
        ]
        return "\n".join([*told, *self.logs(task)])

    def logs(self, task: str) -> list[str]:
        """Read what the task's runs printed, from the board's files."""
        return [
            file.read_text(errors="replace")[-1500:]
            for file in sorted(self.home.rglob("*.log"))
            if task in file.read_text(errors="replace")
        ]

    def until_logged(self, task: str, words: str) -> None:
        """Wait until a log of the task's runs has the words."""
        give_up = time.monotonic() + PATIENCE
        while not any(words in log for log in self.logs(task)):
            assert time.monotonic() < give_up, f"no {words!r}:\n{self.story(task)}"
            time.sleep(_LOOK)

    def asked(self, task: str) -> list[Request]:
        """List what the model was asked for a task, whose id is in the name of the folder that a client works in."""
        return [request for request in self.model.requests if task in request.text]

    def comment(self, task: str, text: str) -> None:
        """Comment on the task's issue, as the operator."""
        key = self.show(task)["issue"]["key"]
        self.board.post(f"/api/issues/{key}/comments", json={"body": text}).raise_for_status()

    def approve(self, task: str) -> None:
        """Paste the line that the task waits for, as the operator."""
        line = self.show(task)["waiting_for"]["what"].rpartition(": ")[2]
        assert line.startswith("/approve"), line
        self.comment(task, line)

    def issue(self, task: str) -> str:
        """Read all that the board says of the task's issue, comments included, as text."""
        key = self.show(task)["issue"]["key"]
        texts: Sequence[str] = [
            self.board.get(f"/api/issues/{key}").text,
            self.board.get(f"/api/issues/{key}/comments").text,
        ]
        return "\n".join(texts)


@contextmanager
def running_product(place: Path, model: Model) -> Iterator[Product]:
    """Run the product in a folder until the end of the context."""
    environment = surroundings(place / "person", model.url, *CLIENTS)
    home = place / "home"
    with running_stack(home, environment=environment) as stack:
        bearer = {"Authorization": f"Bearer {(home / 'admin.token').read_text().strip()}"}
        password = (home / "board.password").read_text().strip()
        with (
            httpx.Client(base_url=stack.endpoint.url, headers=bearer, timeout=30, trust_env=False) as api,
            httpx.Client(base_url=stack.endpoint.board_url or "", timeout=30, trust_env=False) as board,
        ):
            signed = board.post("/api/sign-in", json={"name": "admin", "password": password})
            board.headers["Authorization"] = f"Bearer {signed.raise_for_status().json()['token']}"
            yield Product(home, place, api, board, model, environment)
    discard(home)
