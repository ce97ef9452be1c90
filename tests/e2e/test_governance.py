"""`agentic-os init`, `diff` and `apply`: a preset is written, shown, and put in force on a stack that runs on."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.stack_process import ENVIRONMENT, PATIENCE, command, run, running_stack

from agentic_os.cli import main
from agentic_os.postgres.embedded import discard

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
NAMES = {"organisation.yaml", "policy.yaml", "policy_tests.yaml", "skills.yaml", "README.md"}
PRESET = ("--team", "software", "--operating-model", "balanced")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Choose a home, and forget what this shell's settings say; its database may lie elsewhere, and goes with it."""
    for name in ("URL", "TOKEN", "HOME", "GOVERNANCE"):
        monkeypatch.delenv(f"AGENTIC_OS_{name}", raising=False)
    yield tmp_path / "home"
    discard(tmp_path / "home")


def said(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    """Run a command in this process; return what it printed."""
    capsys.readouterr()
    found = main([str(a) for a in arguments])
    output = capsys.readouterr()
    assert code == found, output.out + output.err
    return output.out + output.err


def test_a_preset_is_shown_before_it_is_written(tmp_path: Path) -> None:
    """Without anybody to answer it is only shown, and `--yes` writes exactly what was shown."""
    folder = tmp_path / "governance"
    shown = run("init", *PRESET, "--into", folder)
    assert (1, "Nothing was written; --yes writes it.") == (shown.returncode, shown.stderr.strip())
    assert not folder.exists()
    written = run("init", *PRESET, "--into", folder, "--yes")
    assert 0 == written.returncode, written.stderr
    assert NAMES == {path.name for path in folder.iterdir()}
    for path in folder.iterdir():
        assert f"--- {path}\n{path.read_text()}" in shown.stdout


def test_what_is_there_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One file that is there already keeps all from being written, unless it is forced."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("rules: []\n")
    problem = said(capsys, 1, "init", *PRESET, "--into", tmp_path, "--yes")
    assert "has policy.yaml already; --force overwrites." in problem
    assert ([policy], "rules: []\n") == ([*tmp_path.iterdir()], policy.read_text())
    said(capsys, 0, "init", *PRESET, "--into", tmp_path, "--yes", "--force")
    assert NAMES == {path.name for path in tmp_path.iterdir()}
    assert "high-risk" in policy.read_text()


def test_a_preset_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json it is one document, which says whether anything was written."""
    for options, code in (((), 1), (("--yes",), 0)):
        found = said(capsys, code, "init", *PRESET, "--into", tmp_path / "g", "--json", *options)
        document = json.JSONDecoder().raw_decode(found)[0]
        assert (NAMES, code == 0) == (document["files"].keys(), document["written"])


@pytest.mark.parametrize(("answered", "written"), [(b"y\n", True), (b"n\n", False), (b"\n", False)])
def test_somebody_at_a_terminal_is_asked(tmp_path: Path, answered: bytes, written: bool) -> None:  # noqa: FBT001
    """The files are shown first, and only a yes writes them."""
    ours, theirs = pty.openpty()
    arguments = command("init", "--team", "blank", "--operating-model", "trusting", "--into", tmp_path / "g")
    process = subprocess.Popen(arguments, stdin=theirs, stdout=theirs, stderr=theirs, env=ENVIRONMENT)
    os.close(theirs)
    shown = b""
    while b"[y/N]" not in shown:
        shown += os.read(ours, 4096)
    assert not (tmp_path / "g").exists()
    os.write(ours, answered)
    while True:
        try:
            if not os.read(ours, 4096):
                break
        except OSError:  # how a terminal ends
            break
    os.close(ours)
    assert (0 if written else 1) == process.wait(PATIENCE)
    assert written == (tmp_path / "g" / "policy.yaml").exists()


def test_a_folder_with_a_fault_is_not_sent(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """File and line are said without asking any server."""
    (tmp_path / "policy.yaml").write_text("rules:\n  - id: a\n    on: never\n    deny: true\n")
    for verb in (("diff",), ("apply", "--reason", "R")):
        found = said(capsys, 2, verb[0], tmp_path, *verb[1:], "--home", home)
        assert f"{tmp_path / 'policy.yaml'}:3: fault invalid: 'never' is none of" in found


def mode_of(capsys: pytest.CaptureFixture[str], home: Path, *options: str) -> str:
    """Ask for a task, and say how it is to be done."""
    made = json.loads(said(capsys, 0, "task", "new", "T", *options, "--home", home, "--json"))
    shown: Any = json.loads(said(capsys, 0, "task", "show", made["id"], "--home", home, "--json"))
    return str(shown["mode"])


def in_parts(folder: Path, into: Path) -> Path:
    """Write a governance folder again, with its policy in two files."""
    (into / "policy").mkdir(parents=True)
    for name in ("organisation.yaml", "skills.yaml"):
        (into / name).write_text((folder / name).read_text())
    base, rules, more = (folder / "policy.yaml").read_text().partition("\nrules:\n")
    (into / "policy" / "10-base.yaml").write_text(base)
    (into / "policy" / "20-rules.yaml").write_text(rules + more)
    return into


def test_a_running_stack_changes_its_policy(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is applied holds at once, without a restart, and after one; a folder at the start goes before it."""
    folder = tmp_path / "governance"
    feature = ("--label", "feature")
    said(capsys, 0, "init", *PRESET, "--into", folder, "--yes")
    with running_stack(home, "--control-plane", "none"):
        assert "direct" == mode_of(capsys, home, *feature)
        assert "+ rule high-risk" in said(capsys, 1, "diff", folder, "--home", home)
        done = said(capsys, 0, "apply", folder, "--reason", "We begin.", "--home", home)
        assert "+ role tech-lead" in done
        assert "in force: sha256:" in done
        assert "plan_first" == mode_of(capsys, home, *feature)
        assert "No difference" in said(capsys, 0, "diff", folder, "--home", home)
        assert "in force already" in said(capsys, 0, "apply", folder, "--reason", "Again.", "--home", home)
        parts = in_parts(folder, tmp_path / "parts")
        assert "No difference" in said(capsys, 0, "diff", parts, "--home", home)
        assert "in force already" in said(capsys, 0, "apply", parts, "--reason", "Again.", "--home", home)
        assert "0 differ" in said(capsys, 0, "policy", "simulate", parts, "--last", 1, "--home", home)
        (parts / "policy" / "30-more.yaml").write_text("defaults: {}\n")
        fault = said(capsys, 2, "apply", parts, "--reason", "R", "--home", home)
        assert f"{parts / 'policy' / '30-more.yaml'}:1: fault one_file_only: " in fault
        assert f"{parts / 'policy' / '30-more.yaml'}:1: 'defaults'" in said(
            capsys, 3, "policy", "simulate", parts, "--home", home
        )
    with running_stack(home, "--control-plane", "none"):
        assert "plan_first" == mode_of(capsys, home, *feature)
    (tmp_path / "other" / "policy").mkdir(parents=True)
    (tmp_path / "other" / "policy" / "10-none.yaml").write_text("rules: []\n")
    with running_stack(home, "--control-plane", "none", "--governance", tmp_path / "other"):
        assert "direct" == mode_of(capsys, home, *feature)
        changes = json.loads(said(capsys, 1, "diff", folder, "--home", home, "--json"))["changes"]
        assert {"added"} == {change["change"] for change in changes}
