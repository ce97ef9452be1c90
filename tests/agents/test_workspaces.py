"""What connections and attempts leave in a person's workspace: nothing, and nothing of one in another."""

import json
from pathlib import Path

import pytest
from tests.agents.clients import CLIENTS, git, repository
from tests.agents.product import Connect, Product
from tests.agents.scripted import diligent

pytestmark = [pytest.mark.agents, pytest.mark.timeout(240)]
THEIRS = {
    ".claude/settings.local.json": '{"permissions": {"allow": ["Bash(make:*)"]},\n "theme": "dark"}\n',
    ".codex/config.toml": 'model = "theirs"  # a comment\n',
    ".opencode/notes.md": "mine\n",
    ".git/info/exclude": "# mine\n*.swp\n",
}


def test_disconnecting_all_clients_leaves_the_workspace_as_it_was(product: Product) -> None:
    """Five clients are connected to one workspace with a person's own settings, and taken out: not a byte differs."""
    workspace = repository(product.place / "workspaces" / "kept")
    for file, content in THEIRS.items():
        (workspace / file).parent.mkdir(parents=True, exist_ok=True)
        (workspace / file).write_text(content)
    before = contents(workspace)
    for client in CLIENTS:
        product.connect(client.name, workspace, f"kept-{client}", "--no-test")
    merged = json.loads((workspace / ".claude/settings.local.json").read_text())
    assert "dark" == merged["theme"]
    assert "Bash(make:*)" == merged["permissions"]["allow"][0]
    assert "Bash(python3 .claude/skills/start-work/scripts/start_work.py:*)" in merged["permissions"]["allow"]
    for client in CLIENTS:
        done = product.run("disconnect", f"kept-{client}", "--yes")
        assert 0 == done.returncode, done.stdout + done.stderr
    after = contents(workspace)
    assert before.keys() == after.keys()
    assert [] == [file for file, content in before.items() if content != after[file]]


def test_two_clients_at_once_share_no_file(product: Product, connected: Connect) -> None:
    """Two attempts on one repository at the same time work in folders and on branches of their own."""
    workspace = connected("codex", "left")
    product.connect("claude-code", workspace, "right", "--no-test")
    product.model.script = diligent
    tasks = [product.ask("Count the beans", name) for name in ("left", "right")]
    for task in tasks:
        product.until(task, "completed")
        work = git(workspace, "ls-tree", "--name-only", f"agentic-os/{task}/1").split()
        assert sorted(["README.md", f"work-{task}-1.txt"]) == work
    assert "" == git(workspace, "status", "--short")


def test_twenty_attempts_at_once_share_no_file(product: Product) -> None:
    """Each of twenty commands finds a folder with what was committed and nothing of the nineteen others."""
    workspace = repository(product.place / "workspaces" / "many")
    here = product.place / "here"
    here.mkdir()
    # Each says that it is there, waits for all, writes where all others write too, and shows what it sees.
    script = (
        f"touch {here}/$AGENTIC_OS_TASK; while [ ! -e {here}/all ]; do sleep 0.1; done; "
        "echo $AGENTIC_OS_TASK >> seen.txt; ls >> seen.txt"
    )
    command = ("--output", "seen.txt", "--no-test", "--", "sh", "-c", script)
    product.connect("command", workspace, "many", *command)
    tasks = [product.ask(f"Job {number}", "many") for number in range(20)]
    for task in tasks:
        product.until_event(task, "attempt.acked")
    while len(list(here.iterdir())) < len(tasks):
        product.show(tasks[0])
    (here / "all").touch()
    for task in tasks:
        product.until(task, "completed")
        (artifact,) = [
            found
            for found in product.api.get(f"/api/tasks/{task}/artifacts").json()["items"]
            if "seen.txt" == found["name"]
        ]
        seen = product.api.get(f"/api/artifacts/{artifact['digest']}").text
        assert [task, "README.md", "seen.txt"] == seen.split()
    assert "" == git(workspace, "status", "--short")


def contents(folder: Path) -> dict[str, bytes]:
    """Read a folder's files, links as what they name; what git writes about its own doings aside."""
    return {
        str(path.relative_to(folder)): str(path.readlink()).encode()
        if path.is_symlink()
        else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    } | {str(path.relative_to(folder)) + "/": b"" for path in folder.rglob("*") if path.is_dir()}
