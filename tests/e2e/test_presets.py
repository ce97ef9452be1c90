"""Presets on a running stack: what the table of each README says of each kind of task is what such a task gets."""

import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.desk import BODIES, NO_SKILLS, callback
from tests.stack_process import PATIENCE, running_stack

from agentic_os.cli import main
from agentic_os.governance.preset import MODELS, TEAMS
from agentic_os.postgres.embedded import discard

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
ROW = re.compile(
    r"\| (?P<what>[^|]+) \| (?:`(?P<label>[^`]+)`)? \| (?P<begins>[^|]+) \| (?P<review>[^|]*) \|"
)
REVIEW = re.compile(
    r"(plan and result|plan|result): (a person|[0-9]+ people|an executor) with the role ([a-z-]+)"
)
RISKY = "anything of high risk"
REFUSED = "a child that asks for a child"


@dataclass(frozen=True)
class Kind:
    """A row of the table, as a reader understands it: what of a task is reviewed, and by whom."""

    what: str
    label: str
    mode: str
    reviewed: frozenset[str]
    reviewers: Mapping[str, Any] | None

    @classmethod
    def of(cls, what: str, label: str, begins: str, review: str) -> "Kind":
        """Read the cells of a row that lets tasks in."""
        mode = {"a plan": "plan_first", "the work": "direct"}[begins]
        if review == "nobody":
            return cls(what, label.strip("`"), mode, frozenset(), None)
        found = REVIEW.fullmatch(review)
        assert found is not None, review
        reviewed, who, role = found.groups()
        number = who.split()[0]
        reviewers = {
            "role": role,
            "quorum": int(number) if number.isdigit() else 1,
            "by": "anyone" if who == "an executor" else "people",
        }
        return cls(what, label.strip("`"), mode, frozenset(reviewed.split(" and ")), reviewers)


@dataclass
class Stack:
    """A running stack, whose executors the test plays."""

    home: Path
    api: httpx.Client
    credentials: dict[str, str] = field(default_factory=dict)

    def executor(self, name: str, role: str) -> str:
        """Register an executor, once; return its name."""
        if name not in self.credentials:
            body = {"name": name, "role": role, "skills": "not-required"}
            made = self.api.post("/api/executors", json=body).raise_for_status()
            self.credentials[name] = made.json()["credential"]
        return name

    def get(self, path: str, **query: Any) -> Any:
        """Read what must be there."""
        return self.api.get(path, params=query).raise_for_status().json()

    def task(self, **wanted: Any) -> str:
        """Ask for a task."""
        body = {"title": "T", "goal": "G"} | wanted
        return str(self.api.post("/api/tasks", json=body).raise_for_status().json()["id"])

    def offered(self, task_id: str, executor: str | None = None) -> dict[str, Any]:
        """Follow a task until an attempt is on offer, to this executor; return the task."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            task: dict[str, Any] = self.get(f"/api/tasks/{task_id}")
            attempt = task["attempt"]
            if attempt and attempt["state"] == "offered" and executor in (None, attempt["executor"]):
                return task
        pytest.fail(f"nothing is offered: {task}")

    def send(self, credential: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Send a callback that is accepted."""
        headers = {"Authorization": f"Bearer {credential}"}
        answer = self.api.post("/api/executions/callback", json=document, headers=headers)
        assert 202 == answer.status_code, answer.text
        return dict(answer.json())

    def ack(self, task_id: str, executor: str) -> str:
        """Take up the attempt on offer; return its token."""
        headers = {"Authorization": f"Bearer {self.credentials[executor]}"}
        offer = self.api.get(f"/api/tasks/{task_id}/brief", headers=headers).raise_for_status().json()
        body = {"brief_digest": offer["digest"], "skillset_digest": NO_SKILLS, "runtime": {"name": "test"}}
        document = callback("ack", task_id, offer["attempt"], 1, body)
        return str(self.send(self.credentials[executor], document)["attempt_token"])

    def hand_in(self, task_id: str, executor: str, kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Take up the attempt on offer, and send one callback; return the task as it stands then."""
        self.offered(task_id, executor)
        self.send(self.ack(task_id, executor), callback(kind, task_id, 1, 2, body))
        return dict(self.get(f"/api/tasks/{task_id}"))


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """Run one stack, without any folder of its own."""
    for name in ("URL", "TOKEN", "HOME", "GOVERNANCE"):
        monkeypatch.delenv(f"AGENTIC_OS_{name}", raising=False)
    home = tmp_path / "home"
    with running_stack(home, "--control-plane", "none") as running:
        headers = {"Authorization": f"Bearer {(home / 'admin.token').read_text().strip()}"}
        with httpx.Client(base_url=running.endpoint.url, headers=headers, trust_env=False) as api:
            yield Stack(home, api)
    discard(home)


def table(folder: Path) -> list[list[str]]:
    """Read the rows of the README's table, cell by cell."""
    lines = (folder / "README.md").read_text().splitlines()
    start = lines.index("| kind of task | label | begins with | plan and result are reviewed by |") + 2
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines[start : lines.index("", start)]
    ]


@pytest.mark.timeout(180)
def test_each_preset_holds_what_its_table_says(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    """Each is written in order, its cases cover its rules, and a task of each kind gets what its row says."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        code = main([*map(str, arguments)])
        said = capsys.readouterr()
        assert 0 == code, said.out + said.err
        return said.out

    for team, model in product(TEAMS, MODELS):
        with subtests.test(f"{team} {model}"):
            folder = tmp_path / f"{team}-{model}"
            run("init", "--team", team, "--operating-model", model, "--into", folder, "--yes")
            assert f"{folder}: in order, 0 hints\n" == run("policy", "lint", folder)
            tested = json.loads(run("policy", "test", folder, "--require-coverage", "--json"))
            run("apply", folder, "--reason", "We try it.", "--home", stack.home)
            rows = table(folder)
            assert [case["name"] for case in tested["cases"]] == [what for what, *_ in rows]
            worker = stack.executor(f"{team}-{model}", f"{team}-{model}")
            refused = [what for what, _, begins, _ in rows if begins == "is refused"]
            assert ([REFUSED] if model == "strict" else []) == refused
            kinds = [Kind.of(*row) for row in rows if row[0] not in refused]
            tasks = [_asked(stack, kind, worker) for kind in kinds]
            for kind, task_id in zip(kinds, tasks, strict=True):
                _holds(stack, kind, task_id, worker)
            (decision,) = stack.get("/api/decisions", task=tasks[0], hook="task.received")["items"]
            assert "as it was recorded" in run("policy", "explain", decision["id"], "--home", stack.home)
            for kind in kinds:
                if kind.label and kind.reviewers and kind.reviewers["by"] == "anyone":
                    _is_decided_by_people(stack, kind, worker)
            if refused:
                _refuses(stack, worker)


def _asked(stack: Stack, kind: Kind, worker: str) -> str:
    labels = [kind.label] if kind.label else []
    return stack.task(labels=labels, risk="high" if kind.what == RISKY else "low", assignee=worker)


def _holds(stack: Stack, kind: Kind, task_id: str, worker: str) -> None:
    """Hold a task to its row: by what was decided on it, and by whom it waits for once its first piece is handed in."""
    assert kind.mode == stack.get(f"/api/tasks/{task_id}")["mode"], kind
    (decision,) = stack.get("/api/decisions", task=task_id, hook="task.received")["items"]
    obligations = decision["obligations"]
    reviewed = {"plan"} if obligations["mode"] == "plan_first" else set()
    assert kind.reviewed == reviewed | ({"result"} if obligations["result_review"] else set()), kind
    if kind.reviewers is not None:
        assert kind.reviewers == {
            **obligations["reviewers"],
            "by": obligations["reviewers"]["by"] or "people",
        }
        if kind.reviewers["by"] == "anyone":
            role = str(kind.reviewers["role"])
            stack.executor(f"a-{role}", role)
    first = "plan" if kind.mode == "plan_first" else "result"
    body = BODIES[first] if first == "plan" else BODIES[first] | {"evidence": [], "artifacts": []}
    waits = stack.hand_in(task_id, worker, first, body)["waiting_for"]
    if kind.reviewers is None:
        assert "completed" == stack.get(f"/api/tasks/{task_id}")["phase"], waits
    elif kind.reviewers["by"] == "anyone":
        attempt = stack.offered(task_id, f"a-{kind.reviewers['role']}")["attempt"]
        assert "review" == attempt["step"]
    else:
        assert f"role:{kind.reviewers['role']}" == waits["owner"], waits
        assert f"{kind.reviewers['quorum']} approval(s) of {first} version 1" in waits["what"], waits


def _is_decided_by_people(stack: Stack, kind: Kind, worker: str) -> None:
    """Have what executors review otherwise be of high risk: a person approves its plan, and it goes on."""
    task_id = stack.task(labels=[kind.label], risk="high", assignee=worker)
    task = stack.hand_in(task_id, worker, "plan", BODIES["plan"])
    assert "plan_review" == task["phase"]
    assert "whoever may review decides" in task["waiting_for"]["what"]
    text = f"/approve v1@{task['plan']['digest'][7:15]}"
    receipt = (
        stack.api.post(f"/api/tasks/{task_id}/directives", json={"text": text}).raise_for_status().json()
    )
    assert "done" == receipt["outcome"], receipt
    assert "execute" == stack.offered(task_id, worker)["attempt"]["step"]


def _refuses(stack: Stack, worker: str) -> None:
    """Have a task's child ask for a child of its own."""
    parent = stack.task(assignee=worker)
    for depth in (0, 1):
        item = {"ref": "one", "title": "T", "goal": "G", "role": worker}
        item["acceptance"] = [{"id": "done", "text": "It is done"}]
        found = stack.hand_in(parent, worker, "task_request", {"reason": "Why", "tasks": [item]})
        if depth == 0:
            (child,) = found["children"]
            parent = child["id"]
    (refused,) = found["refused_children"]
    assert ["children-ask-for-no-children"] == refused["rules"]
