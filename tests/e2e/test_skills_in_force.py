"""Skills on a whole stack: hydrated before it serves, one bad workspace stops its executors only, or all if strict."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.stack_process import PATIENCE, run, running_stack

from agentic_os.clock import new_id
from agentic_os.home import Home
from agentic_os.hydration import load_definition, resolve
from agentic_os.postgres.embedded import discard

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Choose a home; its database may lie elsewhere, and goes with it."""
    yield tmp_path / "home"
    discard(tmp_path / "home")


@pytest.fixture
def governance(tmp_path: Path) -> Path:
    """Write a governance folder with a skill of its own and two workspaces."""
    folder = tmp_path / "governance"
    write_skill(folder, "Do it.")
    (folder / "policy.yaml").write_text("rules: []\n")
    (folder / "skills.yaml").write_text(
        "source_roots: [./skills]\nglobal_defaults: [deploy]\n"
        f"workspaces: {{good: {tmp_path / 'good'}, bad: {tmp_path / 'bad'}}}\n"
    )
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
    return folder


def write_skill(folder: Path, text: str) -> None:
    """Write the skill `deploy`."""
    skill = folder / "skills" / "deploy"
    skill.mkdir(parents=True, exist_ok=True)
    (skill / "SKILL.md").write_text(f"---\nname: deploy\ndescription: Deploys.\n---\n{text}\n")


def said(code: int, *arguments: object) -> str:
    """Run a command of the product; return what it printed."""
    done = run(*arguments)
    assert code == done.returncode, done.stdout + done.stderr
    return done.stdout + done.stderr


def asked(home: Path, path: str) -> Any:
    """GET as the administrator."""
    endpoint = Home(home).endpoint()
    assert endpoint is not None
    token = (home / "admin.token").read_text().strip()
    answer = httpx.get(endpoint.url + path, headers={"Authorization": f"Bearer {token}"}, trust_env=False)
    assert 200 == answer.status_code, answer.text
    return answer.json()


def acknowledge(home: Path, task_id: str, credential: str, digest: str) -> httpx.Response:
    """Acknowledge attempt 1 with these skills."""
    endpoint = Home(home).endpoint()
    assert endpoint is not None
    with httpx.Client(
        base_url=endpoint.url, headers={"Authorization": f"Bearer {credential}"}, trust_env=False
    ) as client:
        offer = client.get(f"/api/tasks/{task_id}/brief").json()
        body = {"brief_digest": offer["digest"], "skillset_digest": digest, "runtime": {"name": "t"}}
        envelope = {"contract": "aos.execution/1", "callback_id": str(new_id()), "task_id": task_id}
        envelope |= {"attempt": 1, "seq": 1, "kind": "ack", "occurred_at": "2026-11-20T12:00:00Z"}
        return client.post("/api/executions/callback", json=envelope | {"body": body})


def executor(home: Path, name: str, workspace: Path) -> str:
    """Register an executor that works there; return its credential."""
    options = ("--role", name, "--workspace", workspace, "--home", home, "--json")
    return str(json.loads(said(0, "executor", "add", name, *options))["credential"])


def task(home: Path, project: str) -> dict[str, Any]:
    """Ask for a task of a project, for its own role, and show it once the system has looked at it."""
    options = ("--project", project, "--assignee", f"role:{project}", "--home", home, "--json")
    made = json.loads(said(0, "task", "new", "T", *options))
    return dict(made)


def wait_for(home: Path, task_id: str, phase: str) -> None:
    """Wait until the task is in the phase."""
    give_up = time.monotonic() + PATIENCE
    while (shown := asked(home, f"/api/tasks/{task_id}"))["phase"] != phase:
        assert time.monotonic() < give_up, shown
        time.sleep(0.05)


def test_a_workspace_that_cannot_be_hydrated_stops_its_executors_only(
    home: Path, governance: Path, tmp_path: Path
) -> None:
    """The other is served; the bad one is told everywhere, and freed by hydrate --report without a restart."""
    mine = tmp_path / "bad" / ".agents" / "skills" / "deploy"
    mine.mkdir(parents=True)
    with running_stack(home, "--control-plane", "none", "--governance", governance) as stack:
        text = "".join(stack.lines)
        assert f"{tmp_path / 'bad'} (project bad) is not in step (conflict)" in text
        assert (tmp_path / "good" / ".agents" / "skills" / "deploy" / "SKILL.md").is_file()
        executor(home, "good", tmp_path / "good")
        executor(home, "bad", tmp_path / "bad")
        good, bad = task(home, "good"), task(home, "bad")
        (shown,) = asked(home, "/api/skills/bad")["workspaces"]
        assert ("conflict", ["bad"]) == (shown["state"], shown["executors"])
        assert "in_step" == asked(home, "/api/skills/good")["workspaces"][0]["state"]
        assert "conflict" in said(0, "executor", "list", "--home", home)
        assert "fault    workspaces" in said(1, "doctor", "--home", home)
        wait_for(home, good["id"], "dispatched")
        assert "ready" == asked(home, f"/api/tasks/{bad['id']}")["phase"]
        why = said(0, "task", "why", bad["id"], "--home", home)
        mend = f"agentic-os skills hydrate --project bad --workspace {tmp_path / 'bad'} --report"
        assert mend in why
        mine.rmdir()
        arguments = (*mend.split()[1:], "--definition", governance / "skills.yaml", "--home", home)
        assert "is in_step" in said(0, *arguments)
        wait_for(home, bad["id"], "dispatched")


def test_strict_starts_nothing(home: Path, governance: Path, tmp_path: Path) -> None:
    """With --strict one workspace that cannot be hydrated ends the start with exit code 3, before any service."""
    (tmp_path / "bad").rmdir()
    done = run("up", "--home", home, "--port", 0, "--strict", "--governance", governance)
    assert 3 == done.returncode, done.stderr
    assert f"{tmp_path / 'bad'} is no folder" in done.stderr
    assert "--strict: 1 of 2 workspaces are not in step" in done.stderr
    assert not home.exists()
    (tmp_path / "bad").mkdir()
    with running_stack(home, "--control-plane", "none", "--strict", "--governance", governance):
        assert "in_step" == asked(home, "/api/skills/bad")["workspaces"][0]["state"]


def test_a_tampered_source_is_no_definition_until_it_is_applied(
    home: Path, governance: Path, tmp_path: Path
) -> None:
    """After a change behind everybody's back the ack is refused, also after a restart; apply makes it the rule."""
    options = ("--control-plane", "none", "--governance", governance)
    definition = governance / "skills.yaml"
    with running_stack(home, *options):
        first = asked(home, "/api/skills/good")["digest"]
        assert "No difference" in said(0, "diff", governance, "--home", home)
        credential = executor(home, "good", tmp_path / "good")
        task_id = task(home, "good")["id"]
        wait_for(home, task_id, "dispatched")
        write_skill(governance, "Do eviL.")
        drift = said(1, "skills", "check", "--definition", definition, "--project", "good")
        assert "deploy/SKILL.md was changed" in drift
        found = resolve(load_definition(definition), "good").digest
        refused = acknowledge(home, task_id, credential, found)
        assert (409, "skill_drift") == (refused.status_code, refused.json()["code"])
        assert first == refused.json()["expected"]["digest"]
        logged = f"skills.drifted  (good has the skills {found[:19]}, in force are {first[:19]})"
        assert logged in said(0, "task", "log", task_id, "--home", home)
        assert "refused so far" in said(0, "task", "why", task_id, "--home", home)
    with running_stack(home, *options) as stack:
        assert "deploy (project good) is not what was applied" in "".join(stack.lines)
        assert first == asked(home, "/api/skills/good")["digest"]
        assert "drift" == asked(home, "/api/skills/good")["workspaces"][0]["state"]
        told = said(1, "diff", governance, "--home", home)
        assert "~ skill good/deploy" in told
        assert "~ file skills.yaml" not in told
        assert "~ skill good/deploy" in said(0, "apply", governance, "--reason", "Ours.", "--home", home)
        assert found == asked(home, "/api/skills/good")["digest"]
        assert 202 == acknowledge(home, task_id, credential, found).status_code


def test_a_bad_skills_file_refuses_the_whole_folder(home: Path, governance: Path) -> None:
    """File and line are said, by diff, apply and up alike, and nothing else of the folder counts."""
    (governance / "skills.yaml").write_text(
        "source_roots: [./skills]\nglobal_defaults: [nothing-here]\nmore: 1\n"
    )
    words = f"{governance / 'skills.yaml'}:3: unknown key 'more'"
    for arguments in (("diff", governance), ("apply", governance, "--reason", "R")):
        assert words in said(2, *arguments, "--home", home)
    assert words in said(2, "up", "--home", home, "--governance", governance)


def test_the_packages_own_skills_are_recorded_once(home: Path) -> None:
    """Without a skills.yaml the package's own skills are in the bundle, and the same package records none again."""
    with running_stack(home, "--control-plane", "none"):
        first = asked(home, "/api/governance")
        assert first["skills"]["text"] is None
        assert first["skills"]["others"]["digest"] == resolve(load_definition(None), "default").digest
    with running_stack(home, "--control-plane", "none"):
        assert first == asked(home, "/api/governance")
