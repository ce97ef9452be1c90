"""The demo, as somebody runs it who has just cloned the repository."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.stack_process import ENVIRONMENT, PATIENCE, command, folders_of, processes_of

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


def test_the_demo_plays_the_main_job_and_leaves_nothing(tmp_path: Path) -> None:
    """From another working folder it ends with the promised line of JSON, and no process or folder is left."""
    process = subprocess.Popen(
        command("demo", "--json"),
        cwd=tmp_path,
        env=ENVIRONMENT | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    folders: list[Path] = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("Starting a stack of its own in "):
            folders = [Path(line.removeprefix("Starting a stack of its own in ").removesuffix(" ...\n"))]
        if line.startswith("Skills are hydrated"):  # by now the stack runs
            folders = folders_of(folders[0])
            assert processes_of(*folders)
    assert 0 == process.wait(PATIENCE), "".join(lines)
    process.stdout.close()
    outcome = json.loads(lines[-1])
    expected = {"task_id", "phase", "attempts", "plan_digest", "events", "artifacts", "audit", "seconds"}
    assert expected == outcome.keys()
    assert ("completed", 2, "ok") == (outcome["phase"], outcome["attempts"], outcome["audit"])
    assert outcome["plan_digest"].startswith("sha256:")
    assert outcome["events"] >= 10
    assert outcome["artifacts"] >= 1
    assert {} == processes_of(*folders)
    assert [] == [folder for folder in folders if folder.exists()]
    assert [] == list(tmp_path.glob("agentic-os-*"))
