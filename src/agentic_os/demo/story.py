"""The demo: a stack of its own, a real executor, an operator who approves on the board, and the audit at the end."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import httpx

from agentic_os.home import Home
from agentic_os.hydration import DEFAULT_PROJECT, hydrate, load_definition, resolve
from agentic_os.postgres.embedded import discard

_START: Final = 60.0
_PATIENCE: Final = 60.0
_STOP: Final = 15.0
_LOOK: Final = 0.05


class DemoFailed(Exception):
    """The main job did not come to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the demo came to."""

    task_id: str
    phase: str
    attempts: int
    plan_digest: str
    events: int
    artifacts: int
    audit: str
    seconds: float


def run_demo(home: Path | None, tell: Callable[[str], None]) -> Outcome:
    """Play the main job. Raises DemoFailed."""
    began = time.monotonic()
    with _home(home) as folder:
        tell(f"Starting a stack of its own in {folder} ...")
        with _stack(folder) as (api, board):
            outcome = _play(folder, api, board, tell)
        tell("Everything is stopped.")
    return Outcome(**outcome, seconds=round(time.monotonic() - began, 1))


@contextmanager
def _home(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield Path(os.path.abspath(given.expanduser()))  # noqa: PTH100 - links stay as they were given
        return
    outer = Path(tempfile.mkdtemp(prefix="agentic-os-demo-"))
    outer.chmod(0o711)  # as root, the database's own user must be able to pass through
    try:
        yield outer / "home"
    finally:
        discard(outer / "home")
        shutil.rmtree(outer, ignore_errors=True)


@contextmanager
def _stack(folder: Path) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Run `up` as a process of its own, as a person would, and speak to it over HTTP."""
    home = Home(folder)
    home.withdraw()
    command = [
        sys.executable,
        "-m",
        "agentic_os.cli",
        "up",
        "--home",
        str(folder),
        "--port",
        "0",
        "--board-port",
        "0",
    ]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            yield from _connected(home, process, log)
        finally:
            process.terminate()
            try:
                process.wait(_STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _connected(
    home: Home, process: "subprocess.Popen[bytes]", log: IO[bytes]
) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Wait until the stack answers, and give clients of the API and of the board."""
    give_up = time.monotonic() + _START
    while (endpoint := home.endpoint()) is None:
        if process.poll() is not None or time.monotonic() > give_up:
            log.seek(0)
            raise DemoFailed(f"The stack did not start:\n{log.read().decode(errors='replace')[-2000:]}")
        time.sleep(_LOOK)
    bearer = {"Authorization": f"Bearer {home.secret('admin.token')}"}
    with (
        httpx.Client(base_url=endpoint.url, headers=bearer, timeout=30, trust_env=False) as api,
        httpx.Client(base_url=endpoint.board_url or "", timeout=30, trust_env=False) as board,
    ):
        yield api, board


def _play(
    folder: Path, api: httpx.Client, board: httpx.Client, tell: Callable[[str], None]
) -> dict[str, Any]:
    repository = _repository()
    workspace = _workspace(folder)
    tell(f"Skills are hydrated into the workspace {workspace}.")
    _sign_in(board, folder)
    name = _register(folder, api, board, workspace, repository)
    tell(f"The executor {name} is registered, and its agent on the board is linked to it.")
    task = _ask(api, repository, name)
    tell(f"Task {task['id']}: {task['title']}. Policy says: {task['mode']}.")
    task = _await(api, task["id"], {"plan_review"}, board)
    tell(
        f"Issue {task['issue']['url']}: the assignment woke the executor; it acknowledged its brief and planned."
    )
    line = task["waiting_for"]["what"].rpartition(": ")[2]
    tell(
        f"Its plan is version {task['plan']['version']}, {task['plan']['digest']}. The operator comments: {line}"
    )
    _ok(board.post(f"/api/issues/{task['issue']['key']}/comments", json={"body": line}))
    task = _await(api, task["id"], {"completed"}, board)
    evidence = ", ".join(f"{e['criterion_id']}: {e['status']} ({e['rank']})" for e in task["evidence"])
    tell(f"Attempt {task['attempt']['number']} executed exactly that plan. Evidence: {evidence}.")
    return _outcome(api, task, tell)


def _outcome(api: httpx.Client, task: dict[str, Any], tell: Callable[[str], None]) -> dict[str, Any]:
    artifacts = _ok(api.get(f"/api/tasks/{task['id']}/artifacts"))["items"]
    for artifact in artifacts:
        tell(f"Artifact {artifact['name']} version {artifact['version']}, {artifact['digest']}:")
        content = api.get(f"/api/artifacts/{artifact['digest']}").text
        tell("\n".join(f"    {line}" for line in content.splitlines()[:12]))
    events = _ok(api.get(f"/api/tasks/{task['id']}/events", params={"limit": 500}))["items"]
    for event in events:
        tell(f"  {event['version']:3} {event['type']:18} by {event['actor']:14} {event['reason']}".rstrip())
    audit = _ok(api.post("/api/audit/verify"))
    tell(f"Audit of {audit['events']} events: {audit['audit']}.")
    return {
        "task_id": task["id"],
        "phase": task["phase"],
        "attempts": task["attempt"]["number"],
        "plan_digest": task["plan"]["digest"],
        "events": len(events),
        "artifacts": len(artifacts),
        "audit": audit["audit"],
    }


def _repository() -> Path:
    """Choose what is inspected: the repository that the demo is run in, else the one that it comes from."""
    for start in (Path.cwd(), Path(__file__).resolve().parent):
        for folder in (start, *start.parents):
            if (folder / ".git").exists():
                return folder
    return Path(__file__).resolve().parents[1]


def _workspace(folder: Path) -> Path:
    workspace = folder / "workspace"
    workspace.mkdir(mode=0o700, exist_ok=True)
    hydrate(
        workspace, resolve(load_definition(None), DEFAULT_PROJECT), mode="link", prune=True, dry_run=False
    )
    return workspace


def _sign_in(board: httpx.Client, folder: Path) -> None:
    answer = _ok(
        board.post("/api/sign-in", json={"name": "admin", "password": Home(folder).secret("board.password")})
    )
    board.headers["Authorization"] = f"Bearer {answer['token']}"


def _register(folder: Path, api: httpx.Client, board: httpx.Client, workspace: Path, repository: Path) -> str:
    """Register an executor, and an agent on the board whose wake runs it; a home that is kept may have one already."""
    taken = {e["name"] for e in _ok(api.get("/api/executors"))["items"]}
    name = next(n for n in (f"inspector-{i}" for i in range(1, 10_000)) if n not in taken)
    made = _ok(api.post("/api/executors", json={"name": name, "role": "inspector"}))
    home = Home(folder)
    home.write_secret(f"{name}.credential", made["credential"])
    wake = {
        "kind": "command",
        "command": [sys.executable, "-m", "agentic_os.demo.executor", str(repository)],
        "workspace": str(workspace),
        "environment": {"AGENTIC_OS_URL": str(api.base_url)},
        "secret_files": {"AGENTIC_OS_CREDENTIAL_FILE": str(home.path / f"{name}.credential")},
        "time_limit_seconds": 60,
    }
    agent = _ok(board.post("/api/agents", json={"name": name, "wake": wake}))
    account = {"control_plane": "board", "account": agent["id"]}
    _ok(api.put(f"/api/principals/{name}/accounts", json=account))
    return name


def _ask(api: httpx.Client, repository: Path, executor: str) -> dict[str, Any]:
    body = {
        "title": f"Inspect {repository.name}",
        "goal": "Find out what this repository consists of, and write a report for people.",
        "mode": "plan_first",
        "assignee": executor,
        "acceptance": [{"id": "report", "text": "A report is delivered as an artifact.", "rank": "observed"}],
        "paths": ["report.md"],
    }
    task: dict[str, Any] = _ok(api.post("/api/tasks", json=body))
    return task


def _await(api: httpx.Client, task_id: str, phases: Collection[str], board: httpx.Client) -> dict[str, Any]:
    """Watch a task until it is in one of the phases. Raises DemoFailed with the runs' logs when it is not."""
    give_up = time.monotonic() + _PATIENCE
    while True:
        task: dict[str, Any] = _ok(api.get(f"/api/tasks/{task_id}"))
        if task["phase"] in phases and task["issue"]:
            return task
        if time.monotonic() > give_up or task["phase"] in {
            "failed",
            "dead_letter",
            "retry_wait",
            "input_required",
        }:
            runs = board.get("/api/agents").text
            raise DemoFailed(f"The task is {task['phase']}:\n{json.dumps(task, indent=1)}\n{runs}")
        time.sleep(_LOOK)


def _ok(response: httpx.Response) -> Any:
    if response.is_error:
        raise DemoFailed(f"{response.request.method} {response.request.url} answered {response.text}")
    return response.json() if response.content else None
