"""Executors in other languages, against a real stack: the contract needs no Python, and nothing of ours."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.stack_process import PATIENCE, run, running_stack

from agentic_os.contracts.canonical import digest_of
from agentic_os.postgres.embedded import discard

_FOLDER = Path(__file__).parent / "executors"
_REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "contract.md"
_NEEDED = {"sh": ("sh", "curl", "sha256sum"), "mjs": ("node",), "page": ("sh", "curl", "sha256sum")}
"""What each executor needs; `page` is the one that the reference shows."""

_TITLE = 'Write "step":"review" } and ],"answers":[ in one line, überall'
"""What a careless reader of the brief takes for its members."""


@dataclass(frozen=True)
class Backend:
    """A running stack, as its administrator and its reviewer see it."""

    home: Path
    client: httpx.Client
    reviewer: str
    credentials: dict[str, str] = field(default_factory=dict)

    def executor(self, name: str) -> str:
        """Register an executor, once, since tests may come back to one; return its credential."""
        if name not in self.credentials:
            made = self._command("executor", "add", name, "--role", "developer", "--skills", "not-required")
            self.credentials[name] = str(made["credential"])
        return self.credentials[name]

    def task(self, executor: str, mode: str, rank: str = "self_reported") -> str:
        """Ask for work with two criteria, and wait until it is offered."""
        criteria = [
            {"id": "written", "text": _TITLE, "rank": rank},
            {"id": "short", "text": "It is short."},
        ]
        wanted = {"title": _TITLE, "goal": _TITLE, "project": "default", "mode": mode, "assignee": executor}
        made = self.client.post("/api/tasks", json=wanted | {"acceptance": criteria})
        assert 201 == made.status_code, made.text
        task_id = str(made.json()["id"])
        self.wait(task_id, attempt=1)
        return task_id

    def wait(self, task_id: str, *, attempt: int) -> None:
        """Wait until the attempt is offered."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            found = self.show(task_id)["attempt"]
            if found and (attempt, "offered") == (found["number"], found["state"]):
                return
            time.sleep(0.05)
        pytest.fail(f"attempt {attempt} is not offered: {self.show(task_id)}")

    def show(self, task_id: str) -> Any:
        """Read the task."""
        return self.client.get(f"/api/tasks/{task_id}").raise_for_status().json()

    def review(self, task_id: str, verb: str, items: str = "") -> None:
        """Have the reviewer approve or revise the plan under review."""
        plan = self.show(task_id)["plan"]
        text = f"/{verb} v{plan['version']}@{plan['digest'].removeprefix('sha256:')[:8]}{items}"
        headers = {"Authorization": f"Bearer {self.reviewer}"}
        answer = self.client.post(f"/api/tasks/{task_id}/directives", json={"text": text}, headers=headers)
        assert "done" == answer.raise_for_status().json()["outcome"], answer.text

    def _command(self, *arguments: str) -> Any:
        return _command(self.home, *arguments)


def _command(home: Path, *arguments: str) -> Any:
    done = run(*arguments, "--json", "--home", home)
    assert 0 == done.returncode, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """Run one stack, without a tracker, for all executors."""
    home = tmp_path_factory.mktemp("stack") / "home"
    with running_stack(home, "--control-plane", "none") as stack:
        reviewer = _command(home, "token", "add", "rita", "--role", "reviewer")["token"]
        token = (home / "admin.token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=stack.endpoint.url, headers=headers, trust_env=False) as client:
            yield Backend(home, client, reviewer)
    discard(home)


@dataclass(frozen=True)
class Executor:
    """An executor of another language, registered under its name."""

    backend: Backend
    name: str
    command: tuple[str, ...]
    credential: str

    @property
    def rank(self) -> str:
        """Say at which rank it delivers evidence."""
        return "self_reported" if self.name == "worker-page" else "observed"

    def work(self, task_id: str) -> None:
        """Run it once, as a control plane would wake it."""
        environment = {
            "PATH": os.defpath,
            "AGENTIC_OS_URL": str(self.backend.client.base_url).rstrip("/"),
            "AGENTIC_OS_CREDENTIAL": self.credential,
            "TASK_ID": task_id,
        }
        done = subprocess.run(
            self.command, capture_output=True, text=True, check=False, env=environment, timeout=PATIENCE
        )
        assert (0, "") == (done.returncode, done.stderr), done.stdout


@pytest.fixture(scope="module", params=_NEEDED)
def executor(
    request: pytest.FixtureRequest, backend: Backend, tmp_path_factory: pytest.TempPathFactory
) -> Executor:
    """Register one of the executors, if the programs that it needs are there."""
    needed = _NEEDED[request.param]
    paths = [shutil.which(program) for program in needed]
    for program, path in zip(needed, paths, strict=True):
        if path is None:
            pytest.skip(f"{program} is not installed, so the executor {request.param!r} cannot run")
    file = _FOLDER / f"executor.{request.param}"
    if request.param == "page":
        file = tmp_path_factory.mktemp("page") / "executor.sh"
        (text,) = re.findall(r"```sh\n(#!/bin/sh\n.*?)```", _REFERENCE.read_text(), re.DOTALL)
        file.write_text(text)
    name = f"worker-{request.param}"
    return Executor(backend, name, (str(paths[0]), str(file)), backend.executor(name))


def test_a_task_is_done_directly(backend: Backend, executor: Executor) -> None:
    """One run of the executor takes a direct task to completed, with evidence at the rank that its means allow."""
    task_id = backend.task(executor.name, "direct", executor.rank)
    executor.work(task_id)
    task = backend.show(task_id)
    assert "completed" == task["phase"]
    assert {("written", "pass", executor.rank), ("short", "pass", executor.rank)} == {
        (e["criterion_id"], e["status"], e["rank"]) for e in task["evidence"]
    }


def test_a_plan_is_approved_before_it_is_executed(backend: Backend, executor: Executor) -> None:
    """The first run hands in a plan, and after its approval the second one executes it in another attempt."""
    task_id = backend.task(executor.name, "plan_first", executor.rank)
    executor.work(task_id)
    assert "plan_review" == backend.show(task_id)["phase"]
    backend.review(task_id, "approve")
    backend.wait(task_id, attempt=2)
    executor.work(task_id)
    task = backend.show(task_id)
    assert ("completed", 2) == (task["phase"], task["attempt"]["number"])


def test_a_review_is_answered_item_by_item(backend: Backend, executor: Executor) -> None:
    """A plan that was sent back comes again in a second version, with an answer to each item of the review."""
    if executor.name == "worker-page":
        pytest.skip("the short example of the reference says that it does not answer reviews")
    task_id = backend.task(executor.name, "plan_first")
    executor.work(task_id)
    backend.review(task_id, "revise", '\n\n- Say `when`.\n- Say "how".\n')
    backend.wait(task_id, attempt=2)
    executor.work(task_id)
    assert 2 == backend.show(task_id)["plan"]["version"]
    backend.review(task_id, "approve")


def test_the_brief_is_answered_as_its_canonical_text_stands(backend: Backend, executor: Executor) -> None:
    """The bytes of the brief in the answer are those that the digest is of, so that a shell can cut them out."""
    task_id = backend.task(executor.name, "direct")
    headers = {"Authorization": f"Bearer {executor.credential}"}
    answer = backend.client.get(f"/api/tasks/{task_id}/brief", headers=headers).raise_for_status()
    found = answer.json()
    sealed = answer.content.removeprefix(
        f'{{"attempt":1,"digest":"{found["digest"]}","brief":'.encode()
    ).removesuffix(b"}")
    assert found["brief"] == json.loads(sealed)
    assert found["digest"] == digest_of(found["brief"]) == "sha256:" + hashlib.sha256(sealed).hexdigest()
