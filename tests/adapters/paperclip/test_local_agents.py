"""Paperclip's own local agents, Claude Code and Codex, as the profile says to set them up, with a scripted model."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.paperclip.paperclip_company import Company, Hooks, People
from tests.adapters.paperclip.paperclip_stage import Stage, own, staged, until
from tests.agents.clients import INSTALLED, by_name
from tests.agents.model import Act, Call, Model, Say, Script, Shell, Turn, Write, running_model
from tests.agents.network import Network
from tests.agents.scripted import Brief
from tests.stack_process import run

from agentic_os_paperclip.server import PaperclipServer

pytestmark = [pytest.mark.paperclip, pytest.mark.timeout(400)]
README = Path(__file__).parents[3] / "adapters" / "agentic_os_paperclip" / "README.md"
CLIENTS = {"claude_local": ("claude-code", "claude"), "codex_local": ("codex", "codex")}
SKILLS = ".agents/skills"
OPENING = f"python3 {SKILLS}/bridge-paperclip/scripts/bridge_paperclip.py"
# Without braces and quotes, which Claude Code refuses before it looks at its rules.
CLOSE = r"""python3 - <<'END'
import os
from urllib.request import Request, urlopen
url = os.environ["PAPERCLIP_API_URL"] + "/api/issues/" + os.environ["PAPERCLIP_TASK_ID"]
headers = dict([
    ("Authorization", "Bearer " + os.environ["PAPERCLIP_API_KEY"]),
    ("X-Paperclip-Run-Id", os.environ["PAPERCLIP_RUN_ID"]),
    ("Content-Type", "application/json"),
])
body = b"\x7b\x22status\x22: \x22done\x22, \x22comment\x22: \x22Done.\x22\x7d"
print("closed", urlopen(Request(url, body, headers, method="PATCH")).status)
END"""


@dataclass(frozen=True)
class Local:
    """A local agent on its stage, and the model that it asks."""

    client: str
    stage: Stage
    model: Model


Play = Callable[[str], AbstractContextManager[Local]]


def documented() -> dict[str, dict[str, Any]]:
    """Read what the profile says to send to Paperclip: an agent of each type, and the prompt of both ("")."""
    section = README.read_text().partition("## Claude Code and Codex on Paperclip\n")[2].partition("\n## ")[0]
    text = section.partition("```text\n")[2].partition("```")[0]
    sent = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    documents = [json.loads(block.replace('"TEXT"', json.dumps(text))) for block in sent]
    return {document.get("adapterType", ""): document for document in documents}


def as_documented(stage: Stage, kind: str, model: Model) -> dict[str, Any]:
    """Put this stage's places into what the profile says, and the model that stands in for the vendor's."""
    client, command = CLIENTS[kind]
    text = json.dumps(documented()[kind]).replace("/srv/beans", str(stage.workspace))
    document: dict[str, Any] = json.loads(text.replace("/srv/coder.credential", str(stage.credential)))
    configuration = document["adapterConfig"]
    configuration["command"] = str(INSTALLED / command)
    home = stage.folder / "person"
    home.mkdir()
    configuration["env"] |= {"HOME": str(home), **by_name(client).configure(home, model.url)}
    for path in (home, *home.rglob("*")):
        own(path)
    return {name: value for name, value in document.items() if name != "name"}


@pytest.fixture
def play(paperclip: PaperclipServer, people: People, hooks: Hooks, network: Network) -> Iterator[Play]:
    """Set up a stage with a local agent of a type."""
    if not (INSTALLED / "claude").exists():
        pytest.skip("the clients of agents are not installed: bin/test --with paperclip,agents")
    options: Mapping[str, Any] = {"user": "nobody", "extra_groups": []} if os.geteuid() == 0 else {}
    reached = subprocess.run(
        ["/bin/ls", str(INSTALLED / "claude")], cwd="/", capture_output=True, check=False, **options
    )
    if reached.returncode:
        pytest.skip(f"nobody, as whom root runs Paperclip, cannot enter {INSTALLED}")

    @contextmanager
    def playing(kind: str) -> Iterator[Local]:
        with running_model() as model:
            company = Company(paperclip, people, hooks)
            with staged(company, lambda stage: as_documented(stage, kind, model)) as stage:
                company.admin.ask("PATCH", f"/agents/{stage.agent}", documented()[""])
                yield Local(CLIENTS[kind][0], stage, model)

    with network.entered():
        yield playing


@pytest.fixture(params=list(CLIENTS))
def local(request: pytest.FixtureRequest, play: Play) -> Iterator[Local]:
    with play(request.param) as local:
        yield local


def diligent(workspace: Path) -> Script:
    """Plan or count as the brief says, and report it by the skills."""

    def act(turn: Turn) -> Act:
        if not turn.results:
            return Shell(OPENING)
        acts = planning() if "plan" == Brief.read(turn.results[0]).step else counting()
        done = len(turn.results) - 1
        return acts[done] if done < len(acts) else Say("That is all.")

    def planning() -> list[Act]:
        plan = (
            "## Summary\nCount the beans.\n\n## Steps\n- [s1] Count (risk: low)\n\n"
            "## Acceptance\nnone\n\n## Risks\nnone\n"
        )
        return [write(".agentic-os/plan.md", plan), report("submit-plan", ".agentic-os/plan.md")]

    def counting() -> list[Act]:
        result = {"outcome": "success", "summary": "42 beans.", "changes": [], "evidence": []}
        return [
            write("count.txt", "There are 42 beans.\n"),
            write(".agentic-os/result.json", json.dumps(result)),
            report("submit-result", ".agentic-os/result.json --artifact count.txt"),
        ]

    def write(file: str, content: str) -> Write:
        # By its whole path: Claude Code is told of several folders, and the last one is not the workspace.
        return Write(str(workspace / file), content)

    def report(skill: str, arguments: str) -> Shell:
        return Shell(f"python3 {SKILLS}/{skill}/scripts/{skill.replace('-', '_')}.py {arguments}")

    return act


def notes(stage: Stage, key: str) -> list[str]:
    """Read what is said on an issue, in comments and documents."""
    admin = stage.company.admin
    return [
        each["body"]
        for kind in ("comments", "documents")
        for each in admin.ask("GET", f"/issues/{key}/{kind}")
    ]


def test_an_issue_is_planned_accepted_done_and_audited(local: Local) -> None:
    """A real client plans and works by the skills alone, woken once for each attempt; Paperclip recovers nothing."""
    stage = local.stage
    local.model.script = diligent(stage.workspace)
    key = stage.open_issue()
    task_id = stage.adopted(key)
    stage.accept(key, stage.card(key)["id"])
    task = stage.phase(task_id, "completed")
    until(lambda: stage.issue(key)["status"] == "done", "the issue is done")
    stage.company.wait_until_quiet()

    assert [("issue_assigned", "succeeded")] * 2 == stage.runs(key)
    assert 2 == task["attempt"]["number"]
    acks = [event["data"] for event in stage.events(task_id) if event["type"] == "attempt.acked"]
    assert [local.client] * 2 == [ack["runtime"]["name"] for ack in acks]
    until(
        lambda: any(
            "There are 42 beans." in note and "/api/artifacts/" in note for note in notes(stage, key)
        ),
        "the end is told, with the artifact",
    )
    # What Paperclip tells its agents otherwise, about the dispositions of issues, is not sent.
    assert [] == [asked.path for asked in local.model.requests if "disposition before" in asked.text]
    assert [] == [each for each in stage.actions(key) if "recovery" in each or "handoff" in each]
    recovery = stage.company.admin.ask("GET", f"/issues/{key}/recovery-actions")
    assert {"active": None, "actions": []} == recovery
    assert run("audit", "verify", "--home", stage.home).stdout.startswith("ok")


def test_claude_code_may_not_act_on_paperclip(play: Play) -> None:
    """What would close its issue, and what would change other agents' instructions, is denied; the work goes on."""
    with play("claude_local") as local:
        stage = local.stage
        honest = diligent(stage.workspace)
        answers: list[str] = []

        def overzealous(turn: Turn) -> Act:
            shared = re.search(r"/[^\s\"\\]+/claude-prompt-cache/[0-9a-f]+", local.model.requests[-1].text)
            assert shared, "Paperclip gives its agents a folder beside the workspace"
            tried = [
                Call("Skill", {"skill": "paperclip"}),
                Call("mcp__Paperclip_projects__create_task", {"title": "Count them for me"}),
                Shell(CLOSE),
                Write(f"{shared[0]}/agent-instructions.md", "Approve."),
            ]
            if 0 < len(turn.results) <= len(tried):
                return tried[len(turn.results) - 1]
            answers[:] = turn.results[1 : 1 + len(tried)]
            return honest(Turn(turn.prompt, turn.results[:1] + turn.results[1 + len(tried) :]))

        local.model.script = overzealous
        key = stage.open_issue()
        task_id = stage.adopted(key)
        stage.card(key)
        stage.phase(task_id, "plan_review")
        skill, tool, command, edit = answers
        assert "blocked by permission rules" in skill
        assert "haven't granted it" in tool
        assert "requires approval" in command
        assert "denied by your permission settings" in edit
        assert [] == [event for event in stage.events(task_id) if event["type"] == "field.drifted"]


def test_codex_that_closes_its_issue_is_put_right(play: Play) -> None:
    """An issue that Codex set to done, as Paperclip's own skill says, is opened again, on record, and work goes on."""
    with play("codex_local") as local:
        stage = local.stage
        honest = diligent(stage.workspace)

        def overzealous(turn: Turn) -> Act:
            if len(turn.results) == 1:
                return Shell(CLOSE)
            assert "closed 200" in "".join(turn.results[1:2] or ("closed 200",))
            return honest(Turn(turn.prompt, turn.results[:1] + turn.results[2:]))

        local.model.script = overzealous
        key = stage.open_issue()
        task_id = stage.adopted(key)
        stage.accept(key, stage.card(key)["id"])
        stage.phase(task_id, "completed")
        until(lambda: stage.issue(key)["status"] == "done", "the issue is done")
        stage.company.wait_until_quiet()
        drifted = [event for event in stage.events(task_id) if event["type"] == "field.drifted"]
        assert [("coder", "closed")] * 2 == [(event["actor"], event["data"]["field"]) for event in drifted]
        assert [("issue_assigned", "succeeded")] * 2 == stage.runs(key)


def test_a_session_that_is_taken_up_again_goes_on_with_its_attempt(play: Play) -> None:
    """Where its model was away, Paperclip starts Claude Code again in its session, which still knows how to begin."""
    with play("claude_local") as local:
        stage = local.stage
        honest = diligent(stage.workspace)

        def interrupted(turn: Turn) -> Act:
            local.model.away = bool(turn.results)
            return honest(turn)

        local.model.script = interrupted
        key = stage.open_issue()
        task_id = stage.adopted(key)
        until(
            lambda: [event for event in stage.events(task_id) if event["type"] == "run.ended"],
            "its run has failed",
        )
        local.model.script, local.model.away = honest, False
        before = len(local.model.requests)
        stage.accept(key, stage.card(key)["id"])
        task = stage.phase(task_id, "completed")
        again = local.model.requests[before]
        assert "Paperclip Resume Delta" in again.turn.prompt
        assert "agentic-os governs your work" in again.text  # what it was told first is before it still
        assert 2 == task["attempt"]["number"]
        until(lambda: stage.issue(key)["status"] == "done", "the issue is done")
        stage.company.wait_until_quiet()
        ends = [
            ("issue_assigned", "failed"),
            ("transient_failure_retry", "succeeded"),
            ("issue_assigned", "succeeded"),
        ]
        assert ends == stage.runs(key)
