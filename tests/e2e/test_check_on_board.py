"""On the board: one agent does the work and another is woken to check it, both by assignment, and nobody else acts."""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.stack_process import PATIENCE, run, running_stack

from agentic_os.postgres.embedded import discard

POLICY = """rules:
  - id: checked-by-another
    on: task.received
    require: {reviewers: {role: checker, by: anyone}, evidence: {tests: independent}}
"""


@dataclass(frozen=True)
class Board:
    """A running stack with its board, and its administrator on both."""

    home: Path
    api: httpx.Client
    board: httpx.Client

    def agent(self, name: str, role: str, workspace: Path, *command: str) -> None:
        """Register an executor and the board's agent for it, which runs a command when it is woken."""
        words = ("executor", "add", name, "--role", role, "--skills", "not-required", "--json")
        done = run(*words, "--home", self.home)
        assert 0 == done.returncode, done.stderr
        credential = self.home / f"{name}.credential"
        credential.write_text(json.loads(done.stdout)["credential"])
        credential.chmod(0o600)
        workspace.mkdir(exist_ok=True)
        wake = {
            "kind": "command",
            "command": [sys.executable, "-m", "agentic_os.cli", "executor", "run", "--", *command],
            "workspace": str(workspace),
            "environment": {"AGENTIC_OS_URL": str(self.api.base_url)},
            "secret_files": {"AGENTIC_OS_CREDENTIAL_FILE": str(credential)},
            "time_limit_seconds": 60,
        }
        made = self.board.post("/api/agents", json={"name": name, "wake": wake}).raise_for_status().json()
        account = {"control_plane": "board", "account": made["id"]}
        self.api.put(f"/api/principals/{name}/accounts", json=account).raise_for_status()

    def ended(self, task_id: str) -> dict[str, Any]:
        """Wait for the end of a task."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            task: dict[str, Any] = self.api.get(f"/api/tasks/{task_id}").raise_for_status().json()
            if task["phase"] in ("completed", "failed", "dead_letter", "input_required"):
                return task
            time.sleep(0.1)
        pytest.fail(f"the task does not end: {task}\n{self.board.get('/api/agents').text}")

    def closed(self, key: str) -> dict[str, Any]:
        """Wait until an issue is closed, which follows the end of its task."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            issue: dict[str, Any] = self.board.get(f"/api/issues/{key}").raise_for_status().json()
            if issue["closed"] is not None:
                return issue
            time.sleep(0.1)
        pytest.fail(f"the issue is not closed: {issue}")


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    """Run a stack with the board, under a policy that has every result checked by another executor."""
    governance = tmp_path / "governance"
    governance.mkdir()
    (governance / "policy.yaml").write_text(POLICY)
    home = tmp_path / "home"
    with running_stack(home, "--governance", governance) as stack:
        token = {"Authorization": f"Bearer {(home / 'admin.token').read_text().strip()}"}
        with (
            httpx.Client(base_url=stack.endpoint.url, headers=token, trust_env=False) as api,
            httpx.Client(base_url=stack.endpoint.board_url or "", trust_env=False) as board,
        ):
            password = (home / "board.password").read_text().strip()
            signed_in = board.post("/api/sign-in", json={"name": "admin", "password": password})
            board.headers["Authorization"] = f"Bearer {signed_in.raise_for_status().json()['token']}"
            yield Board(home, api, board)
    discard(home)


@pytest.mark.timeout(180)
def test_a_result_that_another_agent_checked_is_done(board: Board, tmp_path: Path) -> None:
    """The first result fails its check, the second passes: both agents were woken for each of their attempts."""
    shared = tmp_path / "shared"
    board.agent("worker", "worker", tmp_path / "worker", "sh", "-c", f"echo x >>{shared}; cat {shared}")
    board.agent("checker", "checker", tmp_path / "checker", "sh", "-c", f'test "$(wc -l <{shared})" -ge 2')
    wanted = {
        "title": "Write two lines",
        "goal": "One at a time.",
        "assignee": "role:worker",
        "acceptance": [{"id": "tests", "text": "There are two lines."}],
    }
    task_id = board.api.post("/api/tasks", json=wanted).raise_for_status().json()["id"]
    task = board.ended(task_id)
    assert "completed" == task["phase"], task
    (evidence,) = task["evidence"]
    assert ("pass", "independent") == (evidence["status"], evidence["rank"])
    rows = board.api.get(f"/api/tasks/{task_id}/attempts").raise_for_status().json()["items"]
    assert [
        ("worker", "execute"),
        ("checker", "review"),
        ("worker", "execute"),
        ("checker", "review"),
    ] == [(row["executor"], row["step"]) for row in rows]
    assert "completed" == board.closed(task["issue"]["key"])["closed"]
