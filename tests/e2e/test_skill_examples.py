"""What each SKILL.md tells an agent to do, done word for word in hydrated workspaces against a running stack.

Its documents and commands are taken out of the text, so that an example which does not work fails here, and so does
an exit code that a table promises and no script gives.
"""

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.stack_process import PATIENCE, StackProcess, run, running_stack

from agentic_os.contracts.canonical import canonical_json, digest_of
from agentic_os.hydration import hydrate, load_definition, packaged_skills, resolve
from agentic_os.postgres.embedded import discard

SKILLS = sorted(path.parent.name for path in packaged_skills().glob("*/SKILL.md"))
TARGETS = (".agents/skills", ".claude/skills")
POLICY = """rules:
  - id: checked-by-another
    on: task.received
    when: {all: [{field: task.labels, any_glob: [checked]}]}
    require: {reviewers: {role: checker, by: anyone}, evidence: {tests: observed}}
    reason: Whoever did the work does not witness it.
"""
DEFINITION = {"source_roots": ["package:agentic_os"], "global_defaults": SKILLS}  # JSON is YAML


@dataclass(frozen=True)
class Example:
    """What a SKILL.md shows. documents: by the path to which it says they go; commands: its blocks of them."""

    documents: dict[str, str]
    commands: tuple[str, ...]
    exit_codes: tuple[int, ...]


def example_of(skill: str) -> Example:
    """Read the example, and the exit codes of the table, out of a SKILL.md."""
    text = (packaged_skills() / skill / "SKILL.md").read_text(encoding="utf-8")
    documents, commands, path = {}, [], ""
    for number, part in enumerate(re.split(r"(?m)^```\n", text)):
        if number % 2 and part.startswith("python3 "):
            commands.append(part.strip())
        elif number % 2:
            documents[path] = part
        else:
            path = next(iter(re.findall(r"`(\.agentic-os/[\w.]+)`", part)), "")
    codes = [int(code) for cell in re.findall(r"(?m)^\| ([\d, ]+) \|", text) for code in cell.split(",")]
    return Example(documents, tuple(commands), tuple(codes))


def as_issue(brief: dict[str, Any]) -> str:
    """Write a brief into an issue's text, as a tracker has it."""
    heading = f"task={brief['task_id']} attempt={brief['attempt']} digest={digest_of(brief)}"
    line = canonical_json(brief).decode()
    return f"<!-- agentic-os:brief v1 {heading} -->\n{line}\n<!-- agentic-os:end -->\n"


@dataclass
class Stack:
    """A running stack without a tracker, its administrator, and where agents work."""

    home: Path
    folder: Path
    client: httpx.Client
    credentials: dict[str, Path] = field(default_factory=dict)

    def executor(self, name: str, role: str) -> None:
        """Register an executor whose skills are required, and keep its credential."""
        done = run("executor", "add", name, "--role", role, "--json", "--home", self.home)
        assert 0 == done.returncode, done.stderr
        file = self.folder / f"{name}.credential"
        file.write_text(json.loads(done.stdout)["credential"])
        file.chmod(0o600)
        self.credentials[name] = file

    def task(self, *labels: str, mode: str = "direct") -> str:
        """Ask for work."""
        wanted = {
            "title": "Retry limit",
            "goal": "It is a constant today.",
            "project": "default",
            "mode": mode,
            "assignee": "role:developer",
            "labels": labels,
            "acceptance": [{"id": "tests", "text": "The tests pass."}],
        }
        return str(self.client.post("/api/tasks", json=wanted).raise_for_status().json()["id"])

    def show(self, task_id: str) -> Any:
        """Read a task."""
        return self.client.get(f"/api/tasks/{task_id}").raise_for_status().json()

    def events(self, task_id: str) -> list[dict[str, Any]]:
        """Read the events of a task."""
        answer = self.client.get(f"/api/tasks/{task_id}/events").raise_for_status()
        return list(answer.json()["items"])

    def direct(self, task_id: str, text: str) -> None:
        """Steer a task as its administrator."""
        answer = self.client.post(f"/api/tasks/{task_id}/directives", json={"text": text}).raise_for_status()
        assert "done" == answer.json()["outcome"], answer.text

    def offered(self, task_id: str, step: str) -> str:
        """Wait until an attempt at a step is on offer; return the issue's text that a tracker would have."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            attempt = self.show(task_id)["attempt"]
            if attempt and (step, "offered") == (attempt["step"], attempt["state"]):
                offer = self.client.get(f"/api/tasks/{task_id}/brief").raise_for_status().json()
                return as_issue(offer["brief"])
            time.sleep(0.05)
        pytest.fail(f"no {step} is offered: {self.show(task_id)}")


@dataclass(frozen=True)
class Workspace:
    """A hydrated workspace, and the agent in it that knows nothing but the SKILL.md files."""

    folder: Path
    target: str
    stack: Stack
    agent: str = "coder"

    def use(
        self, skill: str, *more: str, code: int = 0, documents: str | None = None, **replaced: str
    ) -> subprocess.CompletedProcess[str]:
        """Follow a SKILL.md: write its documents, or another, then run its command; placeholders are replaced."""
        example = example_of(skill)
        for path, text in example.documents.items():
            file = self.folder / path
            file.parent.mkdir(exist_ok=True)
            file.write_text(_replaced(documents or text, replaced))
        (command,) = example.commands
        return self.run(_replaced(command, replaced), *more, code=code)

    def run(self, command: str, *more: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command of a SKILL.md from the workspace, where the skills are found in one target only."""
        if self.target != ".agents/skills":
            command = command.replace(".agents/skills", self.target)
        done = subprocess.run(
            [*shlex.split(command), *more],
            cwd=self.folder,
            env={
                "PATH": str(Path(sys.executable).parent),
                "AGENTIC_OS_CREDENTIAL_FILE": str(self.stack.credentials[self.agent]),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert code == done.returncode, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def start(self, task_id: str, step: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Save the issue's text, and start work."""
        (self.folder / "brief.md").write_text(self.stack.offered(task_id, step))
        return self.use("start-work", code=code)


def _replaced(text: str, placeholders: dict[str, str]) -> str:
    for old, new in placeholders.items():
        text = text.replace({"digest": "sha256:...", "artifact": "sha256:DIGEST"}[old], new)
    return text


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run one stack, with an executor that works and one that checks; both must have all skills."""
    folder = tmp_path_factory.mktemp("stack")
    governance = folder / "governance"
    governance.mkdir()
    (governance / "policy.yaml").write_text(POLICY)
    (governance / "skills.yaml").write_text(json.dumps(DEFINITION))
    home = folder / "home"
    options = (home, "--control-plane", "none", "--governance", governance)
    with running_stack(*options) as running, client_of(running) as client:
        found = Stack(home, folder, client)
        found.executor("coder", "developer")
        found.executor("checker", "checker")
        yield found
    discard(home)


def hydrated(stack: Stack, folder: Path, target: str = ".agents/skills", agent: str = "coder") -> Workspace:
    """Make a workspace that has all skills, in that one target only."""
    folder.mkdir()
    definition = folder.with_suffix(".yaml")
    definition.write_text(json.dumps(DEFINITION | {"targets": [target]}))
    hydrate(folder, resolve(load_definition(definition), "default"), mode="copy")
    return Workspace(folder, target, stack, agent)


@pytest.mark.parametrize("target", TARGETS)
def test_the_examples_take_a_task_from_its_plan_to_its_review(stack: Stack, tmp_path: Path, target: str):
    """Plan, approval, reports, artifact, evidence, hand-off, proposal, result, and a review that asks for rework."""
    coder = hydrated(stack, tmp_path / "coder", target)
    task_id = stack.task("checked", mode="plan_first")
    assert "submit-plan" in coder.start(task_id, "plan").stdout
    coder.use("submit-plan")
    plan = stack.show(task_id)["plan"]
    stack.direct(task_id, f"/approve v{plan['version']}@{plan['digest'][7:15]}")

    assert "submit-result" in coder.start(task_id, "execute").stdout
    coder.use("report-progress")
    coder.use("save-checkpoint")
    (coder.folder / "report.txt").write_text("passed\n")
    named = coder.use("attach-artifact").stdout.splitlines()[1]
    coder.use("record-evidence", artifact=json.loads(named)["digest"])
    coder.use("hand-off")
    coder.use("create-remediation")
    coder.use("submit-result")

    checker = hydrated(stack, tmp_path / "checker", target, "checker")
    assert "submit-review" in checker.start(task_id, "review").stdout
    checker.use("submit-review", digest=stack.show(task_id)["result"]["digest"])
    types = {event["type"] for event in stack.events(task_id)}
    assert types >= {
        "plan.submitted",
        "progress.reported",
        "report.recorded",
        "evidence.added",
        "result.submitted",
        "review.submitted",
    }, types
    again = coder.start(task_id, "execute")
    assert "Make test_retry pass." in again.stdout


@pytest.mark.parametrize("skill", ["start-work", "decline"])
def test_a_brief_comes_from_the_backend_where_no_issue_has_it(stack: Stack, tmp_path: Path, skill: str):
    """What these two say of a missing issue works as it stands, with the address that they ask for."""
    coder = hydrated(stack, tmp_path / "coder")
    task_id = stack.task()
    stack.offered(task_id, "execute")
    text = (packaged_skills() / skill / "SKILL.md").read_text(encoding="utf-8")
    assert "`AGENTIC_OS_URL`" in text
    (said,) = re.findall(r"(--from-backend --task )TASK_ID", text)
    command = example_of(skill).commands[0].replace("--brief brief.md", said + task_id)
    coder.run(command, "--url", str(stack.client.base_url))
    state = json.loads((coder.folder / ".agentic-os/attempt.json").read_text())
    assert (task_id, skill == "decline") == (state["task_id"], state["closed"])


def test_the_examples_that_end_an_attempt_early(stack: Stack, tmp_path: Path):
    """A question closes the attempt and waits for a person; a task that is declined is given back."""
    coder = hydrated(stack, tmp_path / "coder")
    asked = stack.task()
    coder.start(asked, "execute")
    coder.use("escalate")
    declined = stack.task()
    (coder.folder / "brief.md").write_text(stack.offered(declined, "execute"))
    coder.use("decline")
    assert "attempt.declined" in [event["type"] for event in stack.events(declined)]
    assert "There is no compiler here." in json.dumps(stack.events(declined))


STARTING = ("start-work", "decline")
BRIDGES = ("bridge-paperclip", "bridge-github")  # tests/skills/test_bridges.py has theirs
PROMISED = [
    (skill, code) for skill in SKILLS if skill not in BRIDGES for code in example_of(skill).exit_codes
]
WRONG: dict[str, tuple[str, ...]] = {
    "start-work": ("--runtime", ""),
    "decline": ("--detail", "x" * 10_000),
    "report-progress": ("--fraction", "2"),
    "record-evidence": ("--command", "x" * 10_000),
    "escalate": ("--option", "not an id=Keep it"),
    "save-checkpoint": ("--state", "report.txt"),
}
"""What a script finds to be against the contract, or the backend does; other skills get an empty document."""


@dataclass(frozen=True)
class Refusals:
    """A workspace with what is needed to be refused. states: of an open attempt, and of one that is over."""

    workspace: Workspace
    states: dict[str, dict[str, Any]]
    briefs: dict[str, str]

    def arrange(self, state: str | None, brief: str = "open", **changes: Any) -> None:
        """Put a state and a brief into the workspace, with some members otherwise."""
        folder = self.workspace.folder / ".agentic-os"
        shutil.rmtree(folder, ignore_errors=True)
        if state:
            folder.mkdir(mode=0o700)
            (folder / "attempt.json").write_text(json.dumps(self.states[state] | changes))
        found = json.loads(self.briefs[brief].split("\n")[1])
        text = as_issue(found | {name: value for name, value in changes.items() if name in found})
        (self.workspace.folder / "brief.md").write_text(text)
        (self.workspace.folder / "report.txt").write_text("passed\n")


@pytest.fixture(scope="module")
def refusals(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Refusals:
    """Bring one task to an open attempt, one to an offer, and cancel one at work."""
    workspace = hydrated(stack, tmp_path_factory.mktemp("refusals") / "coder")
    states, briefs = {}, {}
    for name in ("over", "open"):
        task_id = stack.task()
        workspace.start(task_id, "execute")
        states[name] = json.loads((workspace.folder / ".agentic-os/attempt.json").read_text())
        briefs[name] = (workspace.folder / "brief.md").read_text()
        if name == "over":
            stack.direct(task_id, "/cancel No longer needed.")
    briefs["open"] = stack.offered(stack.task(), "execute")
    return Refusals(workspace, states, briefs)


def go_wrong(refusals: Refusals, skill: str, code: int) -> tuple[str, ...]:
    """Bring about one exit code; returns what to add to the command."""
    given = None if skill in STARTING else "open"
    folder = refusals.workspace.folder
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}/api/executions/callback"
    changes: dict[str, Any] = {
        3: {"task_id": "0199f0aa-3c1e-7b52-9f0e-5d1f6f0a7c11"} if given is None else {"next_seq": 1},
        4: {"token": "another"},
        6: {"callback_url": closed},
    }.get(code, {})
    if (skill, code) == ("attach-artifact", 3):
        changes = {"callback_url": refusals.states["open"]["callback_url"] + "/elsewhere"}
    state = None if code == 7 else "over" if given and code == 8 else given
    refusals.arrange(state, "over" if code == 8 else "open", **changes)
    if (code, given) == (4, None):
        (folder / "credential").write_text("another")
        return ("--credential-file", "credential")
    if code == 5:
        changed = folder / ".agents/skills/submit-plan/SKILL.md"
        changed.write_bytes(changed.read_bytes() + b"Do it twice.")
    if code == 9:
        (folder / "report.txt").write_text("token = ghp_" + "a1B2c3D4e5F6" * 3)
    if code == 10:
        brief = folder / "brief.md"
        brief.write_text(brief.read_text().replace("Retry limit", "Delete all"))
    return {2: ("--no-such-option",), 9: WRONG.get(skill, ())}.get(code, ())


@pytest.mark.parametrize(("skill", "code"), PROMISED)
def test_each_exit_code_of_each_table_comes(refusals: Refusals, skill: str, code: int):
    """What a table promises for an exit code is what an agent gets, from the example with one thing wrong."""
    workspace = refusals.workspace
    skills = workspace.folder / ".agents/skills/submit-plan/SKILL.md"
    whole = skills.read_bytes()
    more = ("--retry-delay", "0.001", *go_wrong(refusals, skill, code))
    placeholder = {"record-evidence": "artifact", "submit-review": "digest"}.get(skill)
    replaced = {placeholder: "sha256:" + "0" * 64} if placeholder else {}
    done = workspace.use(skill, *more, code=code, documents="[]" if code == 9 else None, **replaced)
    skills.write_bytes(whole)
    assert done.stderr.strip()


def test_every_table_promises_what_every_script_can_do():
    """All skills have a table, and no code is promised that is not among those of the scripts."""
    assert {skill for skill, _ in PROMISED} == set(SKILLS) - set(BRIDGES)
    assert {code for _, code in PROMISED} == set(range(2, 11))


def test_what_was_kept_while_the_backend_was_dead_counts_once(tmp_path: Path):
    """Three reports that are kept go out after the restart, and count once even where two processes send them."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    home = tmp_path / "home"
    options = (home, "--control-plane", "none", "--port", port)
    try:
        with running_stack(*options) as running, client_of(running) as client:
            stack = Stack(home, tmp_path, client)
            stack.executor("coder", "developer")
            task_id = stack.task()
            folder = tmp_path / "workspace"
            folder.mkdir()
            hydrate(folder, resolve(load_definition(None), "default"))
            workspace = Workspace(folder, ".agents/skills", stack)
            workspace.start(task_id, "execute")
            running.process.kill()
            running.process.wait(PATIENCE)
        state = folder / ".agentic-os/attempt.json"
        for skill in ("report-progress", "save-checkpoint", "hand-off"):
            done = workspace.use(skill, "--retry-delay", "0.001", code=6)
            assert "The message is kept" in done.stderr
        kept = state.read_text()
        queue = json.loads(kept)["queue"]
        assert ["progress", "checkpoint", "handoff"] == [message["kind"] for message in queue]
        with running_stack(*options) as running, client_of(running) as stack.client:
            workspace.use("report-progress")
            state.write_text(json.dumps(json.loads(kept) | {"next_seq": 9}))
            workspace.use("report-progress")
            events = stack.events(task_id)
    finally:
        discard(home)
    told = [event["type"] for event in events]
    assert (told.count("progress.reported"), told.count("report.recorded")) == (1, 2), events


def client_of(running: StackProcess) -> httpx.Client:
    """Speak to a stack as its administrator."""
    token = (running.home / "admin.token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=running.endpoint.url, headers=headers, trust_env=False)
