"""`agentic-os connect` to `disconnect`, on a real stack, with a client that is a program of its own."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.stack_process import ENVIRONMENT, PATIENCE, command, running_stack

from agentic_os.contracts.canonical import canonical_json
from agentic_os.postgres.embedded import discard

GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org")
PROFILE = """\
name: standin
title: Stand-in
client: {command: standin, version: [--version], known: ["1.2.3"], install: "write it"}
skills: [.agents/skills]
settings:
  - file: .standin/settings.json
    format: json
    merge: {allow: ["run {script}"], network: true}
commands:
  - file: .standin/commands/plan.md
    text: "Use the skill submit-plan.\\n"
environment: {STANDIN: "1"}
passes: [STANDIN_KEY]
launch: [standin, new, "{prompt}", "{session}"]
resume: [standin, again, "{prompt}", "{session}"]
session: {chosen: true}
prompt: "Read {brief}; skills are in {skills}."
"""
CLIENT = '''#!{python}
"""A client without a model: it does what the goal of its brief names."""
import json, os, subprocess, sys, time
from pathlib import Path

if sys.argv[1:] == ["--version"]:
    print("standin 1.2.3 (test)")
    sys.exit()
how, prompt, session = sys.argv[1:]
brief = Path(".agentic-os/brief.md").read_text()
state = Path(".agentic-os")
assert json.loads(Path(".standin/settings.json").read_text())["network"], "its settings are there"
assert prompt == "Read .agentic-os/brief.md; skills are in .agents/skills."
assert not [name for name in os.environ if "BOARD" in name or name == "AGENTIC_OS_CONNECTION_FILE"]
print(json.dumps({"how": how, "session": session, "environment": sorted(os.environ)}), flush=True)

def skill(name, *arguments):
    script = f".agents/skills/{name}/scripts/{name.replace('-', '_')}.py"
    return subprocess.run([sys.executable, script, *arguments], check=True, capture_output=True, text=True).stdout

if "be-silent" in brief:
    print("thinking of nothing")
    sys.exit()
if "lose-session" in brief and how == "again":
    print("No conversation found")
    sys.exit(1)
said = skill("start-work", "--brief", ".agentic-os/brief.md")
if "ack-twice" in brief:
    skill("start-work", "--brief", ".agentic-os/brief.md")
if "lose-model" in brief:
    print("API error: connection refused by the model")
    sys.exit(3)
if "hold-open" in brief:
    time.sleep(1000)
if "fork-and-leave" in brief:
    subprocess.Popen(["sleep", "1000"])
    sys.exit()
if "step: plan" in said:
    (state / "plan.json").write_text(json.dumps({"summary": "Write it.",
        "steps": [{"id": "s1", "title": "Write", "paths": ["out.txt"]}],
        "acceptance": [{"criterion_id": "done", "how": "look"}], "risks": []}))
    skill("submit-plan", ".agentic-os/plan.json")
else:
    Path("out.txt").write_text(session)
    if Path(".git").exists():
        subprocess.run(["git", "add", "-A"], check=True)
        subprocess.run(["git", "commit", "-qm", "Work"], check=True)
    (state / "result.json").write_text(json.dumps({"outcome": "success", "summary": "Written.",
        "evidence": [{"criterion_id": "done", "rank": "self_reported", "status": "pass"}]}))
    skill("submit-result", ".agentic-os/result.json")
'''


@dataclass(frozen=True)
class Stack:
    """A running stack, its administrator, and a folder for workspaces."""

    home: Path
    client: httpx.Client
    folder: Path
    board_url: str

    def cli(self, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a person whose PATH has the client."""
        path = f"{self.folder / 'bin'}{os.pathsep}{os.defpath}"
        before, after = (
            (words[: words.index("--")], words[words.index("--") :]) if "--" in words else (words, ())
        )
        return subprocess.run(
            command(*before, "--home", self.home, *after),
            env=ENVIRONMENT | {"PATH": path} | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE * 2,
        )

    def connect(self, *words: object) -> Any:
        """Connect, and read what came of it."""
        done = self.cli("connect", *_with_options(words, "--yes", "--json"))
        assert 0 == done.returncode, done.stdout + done.stderr
        return json.loads(done.stdout)

    def idle(self, name: str) -> None:
        """Wait until no run of an agent lives, and what each left is cleared away."""
        give_up = time.monotonic() + PATIENCE
        while any(run["state"] in {"queued", "running"} for run in self.agents()[name]["runs"]):
            assert time.monotonic() < give_up, self.agents()[name]
            time.sleep(0.05)

    def disconnect(self, name: str) -> None:
        """Take a connection back."""
        self.idle(name)
        done = self.cli("disconnect", name, "--yes", "--force", "--json")
        assert 0 == done.returncode, done.stdout + done.stderr

    def task(self, executor: str, goal: str, mode: str = "direct") -> str:
        """Ask for work."""
        wanted = {
            "title": "Work",
            "goal": goal,
            "mode": mode,
            "assignee": executor,
            "acceptance": [{"id": "done", "text": "It is written."}],
        }
        return str(self.client.post("/api/tasks", json=wanted).raise_for_status().json()["id"])

    def until(self, task_id: str, *phases: str, of: str = "phase") -> Any:
        """Wait until the task is in one of the phases."""
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            task = self.client.get(f"/api/tasks/{task_id}").raise_for_status().json()
            if task[of] in phases:
                return task
            time.sleep(0.05)
        pytest.fail(f"{task}\n{self.events(task_id)}\n{self.agents()}")

    def events(self, task_id: str) -> list[dict[str, Any]]:
        """Read what happened to a task."""
        path = f"/api/tasks/{task_id}/events"
        items: list[dict[str, Any]] = self.client.get(path, params={"limit": 500}).json()["items"]
        return items

    def event(self, task_id: str, kind: str) -> dict[str, Any]:
        """Wait for something to happen to a task; return what is told of it."""
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            if found := [event["data"] for event in self.events(task_id) if event["type"] == kind]:
                return dict(found[-1])
            time.sleep(0.05)
        pytest.fail(f"no {kind}: {self.events(task_id)}\n{self.agents()}")

    def agents(self) -> dict[str, Any]:
        """Read the board's agents by name."""
        password = (self.home / "board.password").read_text().strip()
        with httpx.Client(base_url=self.board_url, trust_env=False) as board:
            token = board.post("/api/sign-in", json={"name": "admin", "password": password}).json()["token"]
            items = board.get("/api/agents", headers={"Authorization": f"Bearer {token}"}).json()["items"]
        return {agent["name"]: agent for agent in items}


def _with_options(words: tuple[object, ...], *options: str) -> tuple[object, ...]:
    at = words.index("--") if "--" in words else len(words)
    return (*words[:at], *options, *words[at:])


def git(folder: Path, *arguments: str) -> str:
    """Run git."""
    done = subprocess.run([*GIT, "-C", str(folder), *arguments], check=True, capture_output=True, text=True)
    return done.stdout


def tree(folder: Path) -> dict[str, object]:
    """Read a folder with every byte, link and permission."""
    return {
        str(path.relative_to(folder)): (
            path.readlink() if path.is_symlink() else "folder" if path.is_dir() else path.read_bytes(),
            path.lstat().st_mode,
        )
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run one stack with its board, and put the client where a person has it."""
    folder = tmp_path_factory.mktemp("stack")
    home = folder / "home"
    (folder / "bin").mkdir()
    client = folder / "bin" / "standin"
    client.write_text(CLIENT.replace("{python}", sys.executable))
    client.chmod(0o755)
    with running_stack(home) as running:
        (home / "profiles").mkdir()
        (home / "profiles" / "standin.yaml").write_text(PROFILE)
        headers = {"Authorization": f"Bearer {(home / 'admin.token').read_text().strip()}"}
        with httpx.Client(base_url=running.endpoint.url, headers=headers, trust_env=False) as api:
            assert running.endpoint.board_url
            yield Stack(home, api, folder, running.endpoint.board_url)
    discard(home)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Make a repository for one test."""
    return repository(tmp_path / "workspace")


def repository(folder: Path) -> Path:
    """Make a repository with a commit, and with a settings file of a person's."""
    (folder / ".standin").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / ".gitignore").write_text(".standin/settings.json\n")
    git(folder, "add", ".gitignore")
    git(folder, "commit", "-qm", "Begin")
    (folder / ".standin/settings.json").write_text('{"mine": 1}')
    return folder


def test_a_client_is_connected_works_through_a_plan_and_is_taken_back(stack: Stack, workspace: Path) -> None:
    """It plans, is approved, goes on in its session and commits nothing of ours; then every byte is as it was."""
    before = tree(workspace)
    made = stack.connect("standin", "--workspace", workspace, "--role", "worker", "--name", "planner")
    assert ("planner", "connected", True) == (made["name"], made["status"], made["test"]["passed"])
    assert {"done"} == {step["status"] for step in made["steps"]}
    credential = stack.home / "connections/planner/credential"
    assert 0o600 == credential.stat().st_mode & 0o777
    assert "" == git(workspace, "status", "--porcelain")
    assert "cancelled" == stack.until(made["test"]["task"], "cancelled")["phase"]
    task_id = stack.task("planner", "Write out.txt.", "plan_first")
    planned = stack.until(task_id, "plan_review")
    line = planned["waiting_for"]["what"].rpartition(": ")[2]
    stack.client.post(f"/api/tasks/{task_id}/directives", json={"text": line}).raise_for_status()
    stack.until(task_id, "completed")
    acks = [event["data"] for event in stack.events(task_id) if event["type"] == "attempt.acked"]
    sessions = [ack["runtime"]["session"] for ack in acks]
    assert {"standin"} == {ack["runtime"]["name"] for ack in acks}
    assert ("1.2.3", 2, 1) == (acks[0]["runtime"]["version"], len(sessions), len(set(sessions)))
    branch = f"agentic-os/{task_id}/2"
    assert [".gitignore", "out.txt"] == git(workspace, "ls-tree", "-r", "--name-only", branch).split()
    assert sessions[0] == git(workspace, "show", f"{branch}:out.txt")
    assert "planner\n" == git(workspace, "log", "-1", "--format=%an", branch)
    stack.idle("planner")
    git(workspace, "update-ref", "-d", f"refs/heads/{branch}")
    stack.disconnect("planner")
    assert not (stack.home / "connections/planner").exists()
    assert not stack.agents()["planner"]["active"]
    after = tree(workspace)
    objects = {path for path in after if path.startswith(".git/objects/")}
    assert before == {path: held for path, held in after.items() if path in before or path not in objects}


def test_connected_again_nothing_changes(stack: Stack, workspace: Path) -> None:
    """The same choices are told to be in force; others are shown, and what cannot change is refused."""
    made = stack.connect("standin", "--workspace", workspace, "--no-test")
    name = made["name"]
    before = tree(workspace), (stack.home / "connections" / name / "connection.json").read_bytes()
    again = stack.connect("standin", "--workspace", workspace)
    assert (name, "unchanged", None) == (again["name"], again["status"], again["test"])
    assert before == (tree(workspace), (stack.home / "connections" / name / "connection.json").read_bytes())
    shown = stack.cli("connect", "standin", "--workspace", workspace, "--sessions", "fresh", "--dry-run")
    assert "sessions: resume -> fresh" in shown.stdout
    refused = stack.cli(
        "connect", "standin", "--workspace", workspace, "--name", name, "--role", "other", "--yes"
    )
    assert (1, True) == (refused.returncode, "role: worker -> other" in refused.stderr)
    assert before == (tree(workspace), (stack.home / "connections" / name / "connection.json").read_bytes())
    (workspace / ".standin/settings.json").write_text('{"mine": 2}')
    found = {c["detail"]: c for c in _doctor(stack) if c["name"] == name}
    (lacks,) = [detail for detail in found if "lacks /allow" in detail]
    assert "agentic-os connect standin" in found[lacks]["next"]
    mended = stack.connect("standin", "--workspace", workspace, "--sessions", "fresh")
    assert ("connected", True) == (mended["status"], mended["test"]["passed"])
    assert {"ok"} == {check["status"] for check in _doctor(stack) if check["name"] == name}
    stack.disconnect(name)
    assert {"mine": 2} == json.loads((workspace / ".standin/settings.json").read_text())


def _doctor(stack: Stack) -> Any:
    return json.loads(stack.cli("doctor", "--json").stdout)["checks"]


@pytest.fixture(scope="module")
def connected(stack: Stack) -> Iterator[str]:
    """Connect the client for those tests that only give it work."""
    workspace = repository(stack.folder / "shared")
    yield str(stack.connect("standin", "--workspace", workspace, "--name", "shared", "--no-test")["name"])
    stack.disconnect("shared")


def test_a_client_that_reports_nothing_is_told_in_plain_words(stack: Stack, connected: str) -> None:
    """That it ended with exit 0 is no evidence: its attempt comes to nothing, with its own last words."""
    task_id = stack.task(connected, "be-silent")
    ended = stack.event(task_id, "run.ended")
    assert "thinking of nothing" in ended["detail"]
    assert "Stand-in ended with exit 0 and reported nothing." in ended["detail"]
    stack.client.post(f"/api/tasks/{task_id}/directives", json={"text": "/cancel enough"}).raise_for_status()


def test_a_client_whose_model_is_away_fails_its_attempt(stack: Stack, connected: str) -> None:
    """It acknowledged, so the launcher reports a failure, with the words of the client's log."""
    task_id = stack.task(connected, "lose-model")
    failed = stack.event(task_id, "attempt.failed")
    assert ("environment", True) == (
        failed["failure"],
        failed["message"].startswith("Stand-in ended with exit 3"),
    )
    assert "API error: connection refused by the model" in failed["message"]
    stack.client.post(f"/api/tasks/{task_id}/directives", json={"text": "/cancel enough"}).raise_for_status()


def test_a_client_that_leaves_something_running_is_not_waited_for(stack: Stack, connected: str) -> None:
    """What holds its output open does not keep the attempt open."""
    task_id = stack.task(connected, "fork-and-leave")
    assert "Stand-in ended with exit 0" in stack.event(task_id, "attempt.failed")["message"]
    stack.client.post(f"/api/tasks/{task_id}/directives", json={"text": "/cancel enough"}).raise_for_status()


def test_a_client_that_acknowledges_twice_goes_on(stack: Stack, connected: str) -> None:
    """The second acknowledgement gets a token of its own, with which it reports."""
    task_id = stack.task(connected, "ack-twice")
    assert "completed" == stack.until(task_id, "completed", "failed", "retry_wait")["phase"]


def test_a_session_that_is_lost_is_begun_anew(stack: Stack, connected: str) -> None:
    """The plan is approved, its session is gone, and the work is done all the same."""
    task_id = stack.task(connected, "lose-session", "plan_first")
    line = stack.until(task_id, "plan_review")["waiting_for"]["what"].rpartition(": ")[2]
    stack.client.post(f"/api/tasks/{task_id}/directives", json={"text": line}).raise_for_status()
    stack.until(task_id, "completed")
    acks = [event["data"] for event in stack.events(task_id) if event["type"] == "attempt.acked"]
    assert 2 == len({ack["runtime"]["session"] for ack in acks})


def test_a_folder_that_is_no_repository_is_worked_in_one_at_a_time(stack: Stack, tmp_path: Path) -> None:
    """That is said, one attempt is on offer at a time, and the folder is given back as it was."""
    folder = tmp_path / "plain"
    folder.mkdir()
    shown = stack.cli("connect", "standin", "--workspace", folder, "--name", "plain", "--dry-run")
    assert "run one at a time" in shown.stdout
    assert {} == tree(folder)
    stack.connect("standin", "--workspace", folder, "--name", "plain")
    wake = stack.agents()["plain"]["wake"]
    assert (False, True) == (wake["worktree"], wake["exclusive"])
    tasks = [stack.task("plain", f"Write out.txt, {n}.") for n in range(2)]
    for task_id in tasks:
        stack.until(task_id, "completed")
    (folder / "out.txt").unlink()
    stack.disconnect("plain")
    assert {} == tree(folder)


def test_a_command_is_an_executor(stack: Stack, workspace: Path) -> None:
    """What it writes and the file that it declares are artifacts; a file that it does not make is a failure."""
    script = 'echo seen; cat .gitignore > copy.txt; test -z "$AGENTIC_OS_CREDENTIAL_FILE"'
    made = stack.connect(
        "command",
        "--workspace",
        workspace,
        "--name",
        "copier",
        "--output",
        "copy.txt",
        "--",
        "sh",
        "-c",
        script,
    )
    assert ("copier", True) == (made["name"], made["test"]["passed"])
    task_id = stack.task("copier", "Copy it.")
    stack.until(task_id, "completed")
    artifacts = stack.client.get(f"/api/tasks/{task_id}/artifacts").json()["items"]
    assert {"copy.txt", "output.txt"} == {artifact["name"] for artifact in artifacts}
    (copy,) = [artifact for artifact in artifacts if artifact["name"] == "copy.txt"]
    assert ".standin/settings.json\n" == stack.client.get(f"/api/artifacts/{copy['digest']}").text
    stack.idle("copier")
    assert {""} == {run["left_behind"] for run in stack.agents()["copier"]["runs"]}
    stack.disconnect("copier")
    made = stack.connect(
        *("command", "--workspace", workspace, "--name", "forgetful", "--no-test", "--output", "none.txt"),
        *("--input", ".gitignore", "--", "true"),
    )
    failed = stack.event(stack.task("forgetful", "Make it."), "attempt.failed")
    assert ("tool", True) == (
        failed["failure"],
        "its declared output none.txt is not there" in failed["message"],
    )
    stack.disconnect("forgetful")


def _unparsable(folder: Path) -> None:
    (folder / ".standin/settings.json").write_text('{"mine": 1,}')


def _other(folder: Path) -> None:
    (folder / ".standin/settings.json").write_text('{"network": false}')


def _taken(folder: Path) -> None:
    (folder / ".standin/commands").mkdir()
    (folder / ".standin/commands/plan.md").write_text("mine")


def _no_commit(folder: Path) -> None:
    git(folder, "update-ref", "-d", "HEAD")


def _skill(folder: Path) -> None:
    (folder / ".agents/skills/start-work").mkdir(parents=True)


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (_unparsable, r"settings\.json is not JSON: line 1, column"),
        (_other, r"/network is false, and would have to be true"),
        (_taken, r"plan\.md is a file of yours"),
        (_no_commit, r"has no commit.*git commit --allow-empty"),
        (_skill, r"start-work is a folder that is not ours"),
    ],
)
def test_what_is_in_the_way_is_told_and_nothing_is_changed(
    stack: Stack, workspace: Path, prepare: Any, said: str
) -> None:
    """One message that says where and what to do; no file, no executor, no agent more than before."""
    prepare(workspace)
    before = tree(workspace), stack.client.get("/api/executors").json(), set(stack.agents())
    done = stack.cli("connect", "standin", "--workspace", workspace, "--yes")
    assert 1 == done.returncode, done.stdout
    assert re.search(said, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert before == (tree(workspace), stack.client.get("/api/executors").json(), set(stack.agents()))


def test_wrong_usage_is_told(stack: Stack, workspace: Path) -> None:
    """Unknown clients, missing options, places that hold secrets, and names that are taken."""
    inside = stack.home / "inside"
    inside.mkdir()
    (stack.home / "profiles/faulty.yaml").write_text("name: faulty\ntitel: Faulty\n")
    for words, code, said in (
        (("connect",), 2, "name a client: claude-code"),
        (("connect", "none", "--workspace", workspace), 2, "no client 'none' (known: "),
        (("connect", "standin"), 2, "--workspace DIR is missing"),
        (("connect", "faulty", "--workspace", workspace), 1, "faulty.yaml:"),
        (("connect", "standin", "--workspace", inside, "--yes"), 1, "inside the home"),
        (("connect", "standin", "--workspace", stack.folder, "--yes"), 1, "agents would find its secrets"),
        (("connect", "standin", "--workspace", workspace / "x", "--yes"), 1, "is no folder"),
        (("connect", "standin", "--workspace", workspace, "--name", "admin", "--yes"), 1, "is taken"),
        (
            ("connect", "standin", "--workspace", workspace, "--name", "../x", "--yes"),
            2,
            "a name is lower case",
        ),
        (("connect", "standin", "--workspace", workspace), 2, "say --yes"),
        (("connect", "gemini", "--workspace", workspace, "--yes"), 1, "not on PATH"),
        (("connect", "command", "--workspace", workspace), 2, "what it runs comes after --"),
        (("disconnect", "nobody", "--yes"), 1, "nothing is connected as 'nobody'"),
        (
            ("connect", "standin", "--workspace", workspace, "--project", "none", "--yes"),
            1,
            "no project 'none'",
        ),
    ):
        done = stack.cli(*words)
        assert (code, True) == (done.returncode, said in done.stderr), (words, done.stdout, done.stderr)
    inside.rmdir()
    (stack.home / "profiles/faulty.yaml").unlink()


def test_a_failed_test_wake_undoes_all(stack: Stack, workspace: Path) -> None:
    """A client that vanished is seen by the wake, told with the log's end, and nothing stays behind."""
    before = tree(workspace)
    dying = stack.folder / "dying"
    dying.mkdir()
    marker = dying / "asked"
    script = f"#!/bin/sh\n[ -e {marker} ] && {{ echo it broke >&2; exit 4; }}\n: > {marker}\necho 1.2.3\n"
    (dying / "standin").write_text(script)
    (dying / "standin").chmod(0o755)
    done = stack.cli(
        *("connect", "standin", "--workspace", workspace, "--name", "dying", "--yes", "--json"),
        PATH=f"{dying}{os.pathsep}{os.defpath}",
    )
    told = json.loads(done.stdout)
    assert (1, "failed", False) == (done.returncode, told["status"], told["test"]["passed"])
    assert "does not say its version (exit 4): it broke" in told["test"]["log"]
    assert "failed" == told["steps"][-1]["status"]
    assert before == tree(workspace)
    assert "dying" not in {e["name"] for e in stack.client.get("/api/executors").json()["items"]}
    assert not stack.agents()["dying"]["active"]
    assert not (stack.home / "connections/dying").exists()


def test_two_connections_share_a_workspace(stack: Stack, workspace: Path) -> None:
    """When one is taken back the other goes on; when both are, the workspace is as it was."""
    before = tree(workspace)
    for name, role in (("first", "worker"), ("second", "reviewer")):
        stack.connect("standin", "--workspace", workspace, "--name", name, "--role", role, "--no-test")
    stack.disconnect("first")
    assert {"ok"} == {check["status"] for check in _doctor(stack) if check["name"] == "second"}
    stack.disconnect("second")
    assert before == tree(workspace)


def test_a_connection_at_work_is_not_taken_back_by_chance(stack: Stack, workspace: Path) -> None:
    """It says what is open, and goes only when it is forced to; the work then waits for another."""
    stack.connect("standin", "--workspace", workspace, "--name", "busy", "--no-test")
    task_id = stack.task("busy", "hold-open")
    stack.event(task_id, "attempt.acked")
    refused = stack.cli("disconnect", "busy", "--yes")
    assert (1, True) == (refused.returncode, "works on 1 attempts" in refused.stderr), refused.stderr
    assert (stack.home / "connections/busy").exists()
    done = stack.cli("disconnect", "busy", "--yes", "--force")
    assert (0, True) == (done.returncode, f"the task {task_id} goes to another" in done.stdout), done.stderr
    stack.client.post(f"/api/tasks/{task_id}/directives", json={"text": "/cancel enough"}).raise_for_status()
    stack.idle("busy")


def test_a_connect_that_was_killed_is_taken_back(stack: Stack, workspace: Path) -> None:
    """What it had begun is on record, and `disconnect` undoes it."""
    before = tree(workspace)
    hanging = stack.folder / "hanging"
    hanging.mkdir()
    marker = hanging / "asked"
    (hanging / "standin").write_text(f"#!/bin/sh\n[ -e {marker} ] && sleep 1000\n: > {marker}\necho 1.2.3\n")
    (hanging / "standin").chmod(0o755)
    process = subprocess.Popen(
        command(
            "connect", "standin", "--workspace", workspace, "--name", "cut", "--yes", "--home", stack.home
        ),
        env=ENVIRONMENT | {"PATH": f"{hanging}{os.pathsep}{os.defpath}"},
        stdout=subprocess.DEVNULL,
    )
    give_up = time.monotonic() + PATIENCE
    while not stack.agents().get("cut", {}).get("runs"):
        assert time.monotonic() < give_up
        time.sleep(0.05)
    process.kill()
    process.wait()
    refused = stack.cli("connect", "standin", "--workspace", workspace, "--name", "cut", "--yes")
    assert (1, True) == (refused.returncode, "agentic-os disconnect cut" in refused.stderr), refused.stderr
    assert 0 == stack.cli("disconnect", "cut", "--yes", "--force").returncode
    stack.idle("cut")
    assert before == tree(workspace)


def test_settings_that_were_broken_meanwhile_are_taken_back_later(stack: Stack, workspace: Path) -> None:
    """Nothing is guessed of a file that does not parse; once it does, the same command ends what it began."""
    stack.connect("standin", "--workspace", workspace, "--name", "broken", "--no-test")
    file = workspace / ".standin/settings.json"
    written = file.read_text()
    file.write_text(written + "}")
    done = stack.cli("disconnect", "broken", "--yes")
    assert (1, True) == (done.returncode, "settings.json: is not JSON" in done.stderr), done.stderr
    assert not (stack.home / "connections/broken/credential").exists()
    file.write_text(written.replace('"mine": 1', '"mine": 2'))
    assert 0 == stack.cli("disconnect", "broken", "--yes").returncode
    assert {"mine": 2} == json.loads(file.read_text())


def test_skills_that_are_not_in_force_are_refused(stack: Stack, workspace: Path) -> None:
    """No agent is connected that would be refused when it acknowledges; the skills that differ are named."""
    before = tree(workspace)
    governance = stack.home / "governance"
    governance.mkdir()
    (governance / "skills.yaml").write_text(
        "source_roots: [package:agentic_os]\nglobal_defaults: [start-work, submit-plan]\n"
    )
    done = stack.cli("connect", "standin", "--workspace", workspace, "--yes")
    (governance / "skills.yaml").unlink()
    governance.rmdir()
    assert 1 == done.returncode, done.stdout
    assert "submit-result" in done.stderr
    assert "agentic-os apply" in done.stderr
    assert before == tree(workspace)


def test_a_person_is_asked(stack: Stack, workspace: Path) -> None:
    """Whoever says no has an unchanged workspace, and was told of uncommitted work and of an untested version."""
    (workspace / "dirty").write_text("")
    before = tree(workspace)
    newer = stack.folder / "newer"
    newer.mkdir(exist_ok=True)
    (newer / "standin").write_text("#!/bin/sh\necho v9.9.9\n")
    (newer / "standin").chmod(0o755)
    ours, theirs = os.openpty()
    os.write(ours, b"n\n")
    done = subprocess.run(
        command("connect", "standin", "--workspace", workspace, "--name", "asked", "--home", stack.home),
        env=ENVIRONMENT | {"PATH": f"{newer}{os.pathsep}{os.defpath}"},
        stdin=theirs,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    os.close(ours)
    os.close(theirs)
    assert 2 == done.returncode, done.stderr
    for said in (
        "Not committed: 1. Attempts begin from",
        "9.9.9 was not tested",
        "Do this? [y/N]",
        "Nothing was done.",
    ):
        assert said in done.stdout
    assert before == tree(workspace)


def test_a_name_that_only_the_history_knows_is_refused_and_all_is_undone(
    stack: Stack, workspace: Path
) -> None:
    """The server says so in the middle; files that were written by then are as they were."""
    before = tree(workspace)
    stack.client.post("/api/executors", json={"name": "spent", "role": "worker"}).raise_for_status()
    stack.client.delete("/api/executors/spent").raise_for_status()
    done = stack.cli("connect", "standin", "--workspace", workspace, "--name", "spent", "--yes", "--json")
    told = json.loads(done.stdout)
    statuses = {step["step"]: step["status"] for step in told["steps"]}
    assert (1, "failed") == (done.returncode, told["status"])
    assert ("done", "failed", "planned") == tuple(statuses[s] for s in ("skills", "executor", "agent"))
    assert "names are never given again" in " ".join(
        next(s["detail"] for s in told["steps"] if s["step"] == "executor")
    )
    assert before == tree(workspace)
    assert not (stack.home / "connections/spent").exists()


def test_a_credential_that_others_can_read_is_not_used(stack: Stack, workspace: Path, connected: str) -> None:
    """The launcher starts nothing with it, and doctor says what to do."""
    file = stack.home / "connections" / connected / "credential"
    brief = workspace.parent / "brief.md"
    brief.write_text("be-silent")
    file.chmod(0o644)
    done = stack.cli(
        *("executor", "launch", connected),
        AGENTIC_OS_TASK="t",
        AGENTIC_OS_ATTEMPT="1",
        AGENTIC_OS_BRIEF=str(brief),
    )
    assert (1, True) == (done.returncode, "others can read the credential" in done.stdout), done.stderr
    faults = [c for c in _doctor(stack) if c["name"] == connected and c["status"] == "fault"]
    assert [True] == ["others can read" in fault["detail"] for fault in faults]
    file.chmod(0o600)


def test_without_a_tracker_it_says_what_to_run(stack: Stack, workspace: Path, tmp_path: Path) -> None:
    """The executor is there, and what is printed is all that its waking takes."""
    home = tmp_path / "home"
    with running_stack(home, "--control-plane", "none") as running:
        (home / "profiles").mkdir()
        (home / "profiles/standin.yaml").write_text(PROFILE)
        path = f"{stack.folder / 'bin'}{os.pathsep}{os.defpath}"
        words = ("connect", "standin", "--workspace", workspace, "--name", "lone", "--yes", "--home", home)
        done = subprocess.run(
            command(*words), env=ENVIRONMENT | {"PATH": path}, capture_output=True, text=True, check=False
        )
        assert 0 == done.returncode, done.stderr
        assert "No tracker wakes it." in done.stdout
        printed = done.stdout[done.stdout.index("  AGENTIC_OS_URL=") :].replace("\\\n", "")
        headers = {"Authorization": f"Bearer {(home / 'admin.token').read_text().strip()}"}
        with httpx.Client(base_url=running.endpoint.url, headers=headers, trust_env=False) as api:
            wanted = {
                "title": "Work",
                "goal": "Write.",
                "assignee": "lone",
                "acceptance": [{"id": "done", "text": "It is."}],
            }
            task_id = api.post("/api/tasks", json=wanted).raise_for_status().json()["id"]
            give_up = time.monotonic() + PATIENCE
            while (task := api.get(f"/api/tasks/{task_id}").json())["attempt"] is None:
                assert time.monotonic() < give_up, task
                time.sleep(0.05)
            events = api.get(f"/api/tasks/{task_id}/events").json()["items"]
            offered = next(event["data"] for event in events if event["type"] == "attempt.offered")
            heading = f"task={task_id} attempt=1 digest={offered['brief_digest']}"
            line = canonical_json(offered["brief"]).decode()
            brief = tmp_path / "brief.md"
            brief.write_text(
                f"<!-- agentic-os:brief v1 {heading} -->\n```json\n{line}\n```\n<!-- agentic-os:end -->\n"
            )
            ended = subprocess.run(
                [
                    "/bin/sh",
                    "-c",
                    f"AGENTIC_OS_TASK={task_id} AGENTIC_OS_ATTEMPT=1 AGENTIC_OS_BRIEF={brief} {printed}",
                ],
                cwd=workspace,
                env=ENVIRONMENT,
                capture_output=True,
                text=True,
                check=False,
            )
            assert 0 == ended.returncode, ended.stdout + ended.stderr
            assert "completed" == api.get(f"/api/tasks/{task_id}").json()["phase"]
    discard(home)


def test_without_a_server_nothing_is_done(stack: Stack, workspace: Path, tmp_path: Path) -> None:
    """The message says how to start one."""
    before = tree(workspace)
    done = subprocess.run(
        command("connect", "command", "--workspace", workspace, "--home", tmp_path / "none", "--", "true"),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (4, True) == (done.returncode, "start one with `agentic-os up`" in done.stderr)
    assert before == tree(workspace)
