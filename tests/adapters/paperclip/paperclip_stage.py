"""A whole stage on a real Paperclip: a company, people, a process agent with hydrated skills, and a running backend."""

import json
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from tests.adapters.paperclip.paperclip_company import Company
from tests.desk import NO_SKILLS, callback
from tests.stack_process import StackProcess, processes_of, run, running_stack

from agentic_os.control_plane import Settings
from agentic_os.home import Home
from agentic_os.postgres.embedded import discard

PATIENCE = 200.0
ROUTINES = "Routines"
"""The project in which each issue becomes a task."""
POLICY = """rules:
  - id: plan-first
    on: task.received
    when: {not: {field: task.labels, any_glob: [direct]}}
    require: {mode: plan_first, reviewers: {role: reviewer, quorum: 1, by: people}}
    reason: Work on this stage is planned first, unless it is labelled otherwise.
breakers:
  task: {attempts: 10, within: 1h}
"""
GOAL = 'All of them.\n\n- Count "twice"\n- Write C:\\beans'
"""Of several lines, and with what JSON escapes: the brief has it, and Paperclip must not change it."""
_BODIES = {
    "plan": {
        "summary": "Count the beans.",
        "steps": [{"id": "s1", "title": "Count", "risk": "low"}],
        "acceptance": [],
        "risks": [],
    },
    "result": {"outcome": "success", "summary": "42 beans.", "evidence": [], "changes": []},
}
AGENT = """
import json, pathlib, re, subprocess, sys, time
skills = pathlib.Path(".agents/skills")
def use(skill, script, *more):
    return subprocess.run([sys.executable, skills / skill / "scripts" / script, *more]).returncode
code = use("bridge-paperclip", "bridge_paperclip.py", "--runtime", "test")
if code:
    sys.exit(0 if code == 8 else code)
text = pathlib.Path(".agentic-os/brief.md").read_text()
step = re.search(r'"step":"(\\w+)"', text)[1]
while pathlib.Path("hold").exists():
    time.sleep(0.05)
if step == "plan":
    pathlib.Path(".agentic-os/plan.md").write_text(
        "## Summary\\nCount the beans.\\n\\n## Steps\\n- [s1] Count (risk: low)\\n\\n"
        "## Acceptance\\nnone\\n\\n## Risks\\nnone\\n"
    )
    sys.exit(use("submit-plan", "submit_plan.py", ".agentic-os/plan.md"))
pathlib.Path("count.txt").write_text("There are 42 beans.\\n")
pathlib.Path(".agentic-os/result.json").write_text(json.dumps({
    "outcome": "success", "summary": "42 beans.", "changes": [], "evidence": [], "deviations": [], "follow_ups": []
}))
sys.exit(use("submit-result", "submit_result.py", ".agentic-os/result.json", "--artifact", "count.txt"))
"""


class Stage:
    """The backend and the company beside each other."""

    def __init__(self, company: Company, folder: Path) -> None:
        self.company = company
        self.folder = folder
        self.home = folder / "home"
        self.keys = folder / "keys"
        self.workspace = folder / "workspace"
        self.credential = folder / "coder.credential"
        self.stack: StackProcess | None = None
        self.agent = ""

    @property
    def client(self) -> httpx.Client:
        assert self.stack is not None
        token = (self.home / "admin.token").read_text().strip()
        headers = {"authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.stack.endpoint.url, headers=headers, trust_env=False)

    def command(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run `agentic-os-paperclip`."""
        command = [
            sys.executable,
            "-c",
            "from agentic_os_paperclip.cli import main; raise SystemExit(main())",
        ]
        return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=False)

    def connect(self, *more: object) -> str:
        """Make the company ready; return what is told."""
        owner = self.folder / "owner.key"
        owner.write_text(self.company.people.key("founder"))
        where = ("--url", self.company.server.url, "--key-file", owner, "--company", self.company.id)
        done = self.command("connect", *where, "--into", self.keys, *more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def settings(self) -> Mapping[str, str]:
        lines = (self.keys / "paperclip.env").read_text().splitlines()
        named = [line.removeprefix("export ").partition("=") for line in lines]
        return {name: "".join(shlex.split(value)) for name, _, value in named}

    def plane_settings(self) -> Settings:
        """Say how the adapter is opened that the backend uses."""
        given = self.settings()
        return Settings(
            url=given["AGENTIC_OS_CONTROL_PLANE_URL"],
            token=Path(given["AGENTIC_OS_CONTROL_PLANE_TOKEN_FILE"]).read_text().strip(),
            webhook_secrets=(),
            options=json.loads(given["AGENTIC_OS_CONTROL_PLANE_OPTIONS"]),
        )

    def prepare(self, agent: Callable[["Stage"], Mapping[str, Any]]) -> None:
        """Make the agent's workspace, and the agent, which is made as a document of Paperclip's says."""
        governance = self.folder / "governance"
        governance.mkdir()
        (governance / "policy.yaml").write_text(POLICY)
        skills = ["bridge-paperclip", "start-work", "submit-plan", "submit-result"]
        definition = {"source_roots": ["package:agentic_os"], "global_defaults": skills}
        (governance / "skills.yaml").write_text(json.dumps(definition))
        self.workspace.mkdir()
        hydrated = run(
            *("skills", "hydrate", "--definition", governance / "skills.yaml"),
            *("--workspace", self.workspace, "--mode", "copy"),
        )
        assert hydrated.returncode == 0, hydrated.stderr
        document = dict(agent(self))
        kind, configuration = document.pop("adapterType"), document.pop("adapterConfig")
        self.agent = self.company.admin.agent(self.company.id, "coder", kind, configuration, **document)

    @contextmanager
    def running(self) -> Iterator[StackProcess]:
        """Run the backend."""
        options = ["--control-plane", "paperclip", "--governance", self.folder / "governance"]
        if self.stack is not None:  # where the briefs say that it is
            options += ["--port", self.stack.endpoint.url.rpartition(":")[2]]
        with running_stack(self.home, *options, environment=self.settings()) as stack:
            self.stack = stack
            yield stack

    def introduce(self) -> None:
        """Say who is who: the agent by the command, people by their accounts."""
        assert self.stack is not None
        token = self.home / "admin.token"
        self.connect("--backend", self.stack.endpoint.url, "--backend-token-file", token)
        lend(self.keys / "coder.credential", self.credential)
        for name, role in (("ada", "operator"), ("bob", "reviewer")):
            board = self.company.board(name)
            assert board is not None
            with self.client as client:
                repeat = {"idempotency-key": name}
                client.post(
                    "/api/tokens", json={"name": name, "role": role}, headers=repeat
                ).raise_for_status()
                link = {"control_plane": "paperclip", "account": self.company.people.ids[name]}
                client.put(f"/api/principals/{name}/accounts", json=link).raise_for_status()

    def open_issue(self) -> str:
        """Let ada open an issue for us."""
        board, company = self.company.board("ada"), self.company.id
        labels = {each["name"]: each["id"] for each in board.ask("GET", f"/companies/{company}/labels")}
        document = {
            "title": "Count the beans",
            "description": GOAL,
            "labelIds": [labels["agentic-os"]],
            "allowDuplicate": True,
        }
        return str(board.ask("POST", f"/companies/{company}/issues", document)["id"])

    def accept(self, key: str, card: str) -> None:
        """Let bob, who is not who asked for the work, accept a card, once whoever submitted it has had its last words.

        Within the same milliseconds Paperclip would queue a wake of whoever is just leaving, and cancel it.
        """
        until(lambda: self.issue(key)["assigneeAgentId"] is None, "nobody is assigned while people decide")
        self.company.board("bob").ask("POST", f"/issues/{key}/interactions/{card}/accept", {})

    def hold(self) -> None:
        """Let the agent wait in the middle of its run from now on."""
        (self.workspace / "hold").touch()

    def go_on(self) -> None:
        """Let the agent go on."""
        (self.workspace / "hold").unlink()

    def at_work(self, task_id: str) -> int:
        """Wait until the agent has acknowledged its attempt; return the attempt's number."""

        def acknowledged() -> Any:
            attempt = self.show(task_id)["attempt"]
            return attempt["number"] if attempt and attempt["state"] in {"acked", "running"} else None

        return int(until(acknowledged, "the agent is at work"))

    def agents(self) -> list[int]:
        """Find the processes of the agent that work now."""
        return [pid for pid in processes_of(self.workspace) if Path(f"/proc/{pid}/cwd").exists()]

    def adopted(self, key: str) -> str:
        """Wait until an issue has become a task; return the task's id."""

        def task() -> Any:
            with self.client as client:
                items = client.get("/api/tasks").raise_for_status().json()["items"]
            return next((t["id"] for t in items if t["issue"] and t["issue"]["key"] == key), None)

        return str(until(task, "the issue is adopted"))

    def show(self, task_id: str) -> Any:
        with self.client as client:
            return client.get(f"/api/tasks/{task_id}").raise_for_status().json()

    def problem_of(self, task_id: str) -> str:
        """Read why the task's issue is not shown as it should be."""
        with self.client as client:
            found = client.get("/api/reconcile").raise_for_status().json()["items"]
        return next((each["problem"] or "" for each in found if each["task_id"] == task_id), "")

    def issue_of(self, task_id: str, *, other: str) -> str | None:
        """Name the issue of a task, once it is another one."""
        issue = self.show(task_id)["issue"]
        return issue["key"] if issue and issue["key"] != other else None

    def phase(self, task_id: str, wanted: str) -> Any:
        """Wait until a task is in a phase."""
        seen: list[str] = []

        def there() -> Any:
            task = self.show(task_id)
            if [task["phase"]] != seen[-1:]:
                seen.append(task["phase"])
            return task if task["phase"] == wanted else None

        return until(there, f"the task is {wanted}; it was {seen}")

    def events(self, task_id: str) -> list[dict[str, Any]]:
        with self.client as client:
            return list(
                client.get(f"/api/tasks/{task_id}/events?limit=200").raise_for_status().json()["items"]
            )

    def card(self, key: str) -> dict[str, Any]:
        """Wait for the pending confirmation on an issue."""

        def pending() -> Any:
            found = self.company.admin.ask("GET", f"/issues/{key}/interactions")
            return next((each for each in found if each["status"] == "pending"), None)

        return dict(until(pending, "a card asks for a decision"))

    def issue(self, key: str) -> dict[str, Any]:
        return dict(self.company.admin.ask("GET", f"/issues/{key}"))

    def runs(self, key: str) -> list[tuple[str, str]]:
        """List the runs on an issue, the oldest first: why somebody was woken, and how it ended."""
        found = []
        for each in reversed(self.company.admin.ask("GET", f"/issues/{key}/runs")):
            run = self.company.admin.ask("GET", f"/heartbeat-runs/{each.get('runId') or each['id']}")
            found.append((run["contextSnapshot"]["wakeReason"], run["status"]))
        return found

    def actions(self, key: str) -> list[str]:
        """List what Paperclip's audit says was done to an issue."""
        path = f"/companies/{self.company.id}/audit/agent-actions?actorScope=all&limit=200&entityId={key}"
        return [row["action"] for row in reversed(self.company.admin.ask("GET", path)["items"])]


class HookAgent:
    """An agent behind a hook: it answers at once, and works on after Paperclip's run has ended.

    spends: what it says that it spent, with the callback of each kind ("plan", "result"). One that spends something
    with a "heartbeat" shows life once it may `go_on`, and hands in nothing.
    """

    def __init__(
        self, stage: Stage, name: str, *, spends: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        self.spends = dict(spends or {})
        self.go_on = threading.Event()
        self.woken: list[tuple[str, int, float]] = []
        self.submitted: dict[tuple[str, int], float] = {}
        self.problems: list[str] = []
        self.name = name
        self._stage = stage
        origin = stage.company.hooks.origin
        configuration = {"url": f"{origin}/{name}", "method": "POST"}
        self.account = stage.company.admin.agent(stage.company.id, name, "http", configuration)
        with stage.client as client:
            document = {"name": name, "role": "developer", "skills": "not-required"}
            repeat = {"idempotency-key": name}
            made = client.post("/api/executors", json=document, headers=repeat).raise_for_status().json()
            link = {"control_plane": "paperclip", "account": self.account}
            client.put(f"/api/principals/{name}/accounts", json=link).raise_for_status()
        assert stage.stack is not None
        self._credential = made["credential"]
        self._http = httpx.Client(base_url=stage.stack.endpoint.url, trust_env=False, timeout=30)
        self._hands = ThreadPoolExecutor(8)
        stage.company.hooks.heard.append(self._heard)

    def close(self) -> None:
        self._stage.company.hooks.heard.remove(self._heard)
        self._hands.shutdown()
        self._http.close()

    def _heard(self, body: Mapping[str, Any]) -> None:
        # For a comment Paperclip wakes whoever is assigned once more; another ack would take the attempt from itself.
        if body["agentId"] == self.account and body["context"]["wakeReason"] != "issue_commented":
            self._hands.submit(
                self._work, body["context"]["paperclipWake"]["issue"]["description"], time.monotonic()
            )

    def _work(self, description: str, at: float) -> None:
        try:
            heading = re.search(r"<!-- agentic-os:brief v1 task=(\S+) attempt=(\d+) ", description)
            assert heading is not None, description
            self.woken.append((heading[1], int(heading[2]), at))
            own = {"authorization": f"Bearer {self._credential}"}
            offer = self._http.get(f"/api/tasks/{heading[1]}/brief", headers=own).raise_for_status().json()
            step, attempt = offer["brief"]["step"], offer["attempt"]
            ack = {
                "brief_digest": offer["digest"],
                "skillset_digest": NO_SKILLS,
                "runtime": {"name": "test"},
            }
            given = self._send(callback("ack", heading[1], attempt, 1, ack), self._credential)
            if "heartbeat" in self.spends:
                assert self.go_on.wait(PATIENCE)
                life = callback("heartbeat", heading[1], attempt, 2, usage=self.spends["heartbeat"])
                self._send(life, given["attempt_token"])
                return
            kind = "plan" if step == "plan" else "result"
            spent = {"usage": self.spends[kind]} if kind in self.spends else {}
            self._send(callback(kind, heading[1], attempt, 2, _BODIES[kind], **spent), given["attempt_token"])
            self.submitted[heading[1], int(heading[2])] = time.monotonic()
        except Exception as problem:  # noqa: BLE001 - told at the end, by whoever made the agent
            self.problems.append(repr(problem))

    def _send(self, document: Mapping[str, Any], token: str) -> Any:
        headers = {"authorization": f"Bearer {token}"}
        answer = self._http.post("/api/executions/callback", json=document, headers=headers)
        assert answer.is_success, answer.text
        return answer.json()


def until(found: Callable[[], Any], what: str) -> Any:
    """Wait for something that only polling tells."""
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        value = found()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(what)


def lend(source: Path, target: Path) -> None:
    """Copy a secret to where the server's user, as whom agents run, may read it."""
    shutil.copy(source, target)
    target.chmod(0o600)
    own(target)


def own(path: Path) -> None:
    """Give a file to the user as whom root runs the server."""
    if os.geteuid() == 0:
        account = pwd.getpwnam("nobody")
        os.chown(path, account.pw_uid, account.pw_gid)


def process_agent(stage: Stage) -> Mapping[str, Any]:
    """Write a process that runs the skills as a script says, without a model."""
    (stage.workspace / "agent.py").write_text(AGENT)
    configuration = {
        "command": "/usr/bin/env",
        "args": ["python3", "agent.py"],
        "cwd": str(stage.workspace),
        "env": {"AGENTIC_OS_CREDENTIAL_FILE": str(stage.credential)},
    }
    return {"adapterType": "process", "adapterConfig": configuration}


@contextmanager
def staged(company: Company, agent: Callable[[Stage], Mapping[str, Any]] = process_agent) -> Iterator[Stage]:
    """Set up a company's agent and backend, which runs until the end of the context."""
    folder = Path(tempfile.mkdtemp(prefix="aos-stage-"))
    folder.chmod(0o755)
    stage = Stage(company, folder)
    try:
        stage.prepare(agent)
        for path in (stage.workspace, *stage.workspace.rglob("*")):
            own(path)
        stage.connect("--project", "Beans", "--adopt-project", ROUTINES)
        with stage.running():
            stage.introduce()
            yield stage
    finally:
        discard(Home(stage.home).path)
        shutil.rmtree(folder, ignore_errors=True)
