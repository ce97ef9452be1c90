"""`agentic-os executor run`: a program without a model that does work, and that checks the work of others."""

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.stack_process import ENVIRONMENT, PATIENCE, command, run, running_stack

from agentic_os.postgres.embedded import discard

POLICY = """rules:
  - id: checked-by-another
    on: task.received
    when: {all: [{field: task.labels, any_glob: [checked]}]}
    require: {reviewers: {role: checker, by: anyone}, evidence: {tests: independent}}
    reason: Whoever did the work does not witness it.
"""


@dataclass(frozen=True)
class Stack:
    """A running stack without a tracker, and its administrator."""

    home: Path
    client: httpx.Client
    folder: Path

    def executor(self, name: str, role: str) -> Path:
        """Register an executor; return the file that holds its credential."""
        done = run(
            *(
                "executor",
                "add",
                name,
                "--role",
                role,
                "--skills",
                "not-required",
                "--json",
                "--home",
                self.home,
            )
        )
        assert 0 == done.returncode, done.stderr
        file = self.folder / name
        file.write_text(json.loads(done.stdout)["credential"])
        return file

    def task(self, *labels: str, role: str = "worker", mode: str = "direct") -> str:
        """Ask for work."""
        wanted = {
            "title": "Work",
            "goal": "Do it.",
            "project": "default",
            "mode": mode,
            "assignee": f"role:{role}",
            "labels": labels,
            "acceptance": [{"id": "tests", "text": "The check passes."}],
        }
        return str(self.client.post("/api/tasks", json=wanted).raise_for_status().json()["id"])

    def show(self, task_id: str) -> Any:
        """Read the task."""
        return self.client.get(f"/api/tasks/{task_id}").raise_for_status().json()

    def offered(self, task_id: str, executor: str) -> None:
        """Wait until the executor has an attempt on offer."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            attempt = self.show(task_id)["attempt"]
            if attempt and (executor, "offered") == (attempt["executor"], attempt["state"]):
                return
            time.sleep(0.05)
        pytest.fail(f"nothing is offered to {executor}: {self.show(task_id)}")

    def work(self, task_id: str, credential: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command for the attempt on offer, as a control plane wakes it."""
        self.offered(task_id, credential.name)
        return subprocess.run(
            command("executor", "run", "--home", self.home, *words),
            env=ENVIRONMENT | {"AGENTIC_OS_TASK": task_id, "AGENTIC_OS_CREDENTIAL_FILE": str(credential)},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run one stack under a policy that has results checked by another executor."""
    folder = tmp_path_factory.mktemp("stack")
    (folder / "policy.yaml").write_text(POLICY)
    home = folder / "home"
    with running_stack(home, "--control-plane", "none", "--governance", folder) as running:
        headers = {"Authorization": f"Bearer {(home / 'admin.token').read_text().strip()}"}
        with httpx.Client(base_url=running.endpoint.url, headers=headers, trust_env=False) as client:
            yield Stack(home, client, folder)
    discard(home)


@pytest.fixture(scope="module")
def worker(stack: Stack) -> Path:
    """Register an executor that works."""
    return stack.executor("worker", "worker")


@pytest.fixture(scope="module")
def checker(stack: Stack) -> Path:
    """Register an executor that checks."""
    return stack.executor("checker", "checker")


def test_work_and_an_independent_check_complete_a_task(stack: Stack, worker: Path, checker: Path) -> None:
    """What one executor did and another one saw is done; no person and no model took part."""
    task_id = stack.task("checked")
    done = stack.work(task_id, worker, "--", "sh", "-c", "echo built")
    assert (0, "The task is result_review.") == (done.returncode, done.stdout.strip()[-26:]), done.stderr
    seen = stack.work(task_id, checker, "--criterion", "tests", "--", "sh", "-c", "echo all pass")
    assert (0, "The task is completed.") == (seen.returncode, seen.stdout.strip()[-22:]), seen.stderr
    shown = stack.show(task_id)
    (evidence,) = shown["evidence"]
    assert ("tests", "pass", "independent") == tuple(evidence[k] for k in ("criterion_id", "status", "rank"))
    assert [{"name": "output.txt", "version": 1}] == shown["artifacts"]


def test_a_failing_check_sends_the_result_back(stack: Stack, worker: Path, checker: Path) -> None:
    """The check that fails asks for rework, and says with which words it ended."""
    task_id = stack.task("checked")
    stack.work(task_id, worker, "--", "true")
    seen = stack.work(task_id, checker, "--", "sh", "-c", "echo 1 test fails; exit 3")
    assert 0 == seen.returncode, seen.stderr
    stack.offered(task_id, "worker")
    shown = stack.show(task_id)
    (item,) = shown["review_items"]
    assert "it ended with 3" in item["text"]
    assert "1 test fails" in item["text"]
    assert "returned" == shown["result"]["state"]


def test_a_command_that_fails_at_its_work_is_a_failure(stack: Stack, worker: Path) -> None:
    """The attempt fails with class tool and the end of the output, and is retried by the rules for that."""
    task_id = stack.task()
    done = stack.work(task_id, worker, "--", "sh", "-c", "echo no compiler >&2; exit 2")
    assert (0, "The task is retry_wait.") == (done.returncode, done.stdout.strip()[-23:]), done.stderr
    events = stack.client.get(f"/api/tasks/{task_id}/events").json()["items"]
    (failed,) = [e["data"] for e in events if e["type"] == "attempt.failed"]
    assert ("tool", True) == (failed["failure"], "no compiler" in failed["message"])


def test_a_command_that_hangs_is_ended_with_all_that_it_started(stack: Stack, worker: Path) -> None:
    """At its limit the whole process group is gone, and the attempt failed with class timeout."""
    task_id = stack.task()
    pid_file = stack.folder / "child"
    script = f"sleep 1000 & echo $! > {pid_file}; wait"
    done = stack.work(task_id, worker, "--time-limit", "1", "--", "sh", "-c", script)
    assert (0, "The task is retry_wait.") == (done.returncode, done.stdout.strip()[-23:]), done.stderr
    assert not _alive(int(pid_file.read_text()))


def test_a_plan_is_nothing_for_a_command(stack: Stack, worker: Path) -> None:
    """It declines an attempt to plan, so that somebody else gets it."""
    task_id = stack.task(mode="plan_first")
    done = stack.work(task_id, worker, "--", "true")
    assert (0, True) == (done.returncode, "declined" in done.stdout), done.stderr
    assert "declined" == stack.show(task_id)["attempt"]["state"]


def test_a_secret_in_the_output_is_not_handed_in(stack: Stack, worker: Path) -> None:
    """Where the output holds what looks like a secret, the result comes without it, and says nothing of it."""
    task_id = stack.task()
    secret = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    done = stack.work(task_id, worker, "--", "sh", "-c", f"echo {secret}")
    assert (0, "The task is completed.") == (done.returncode, done.stdout.strip()[-22:]), done.stderr
    assert [] == stack.show(task_id)["artifacts"]
    assert secret not in stack.client.get(f"/api/tasks/{task_id}/events").text


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--task", "nowhere"), 3, "scope_denied"),
        (("--task", "nowhere", "--credential-file", "/nonexistent/credential"), 4, "cannot be read"),
    ],
)
def test_what_is_wrong_is_said(
    stack: Stack, worker: Path, arguments: tuple[str, ...], status: int, words: str
) -> None:
    """A task of which nothing is on offer, or a credential that cannot be read, ends it with its exit code."""
    environment = ENVIRONMENT | {"AGENTIC_OS_CREDENTIAL_FILE": str(worker)}
    done = subprocess.run(
        command("executor", "run", "--home", stack.home, *arguments, "--", "true"),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert (status, True) == (done.returncode, words in done.stderr), done.stdout + done.stderr


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
