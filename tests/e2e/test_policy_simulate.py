"""`agentic-os policy simulate` against a running stack."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.stack_process import running_stack

from agentic_os.cli import main
from agentic_os.cli.simulate import bar
from agentic_os.postgres.embedded import discard

POLICY = """
rules:
  - id: no-critical-work
    on: task.received
    when: {all: [{field: task.risk, eq: critical}]}
    deny: true
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Choose a home, and forget what this shell's settings say."""
    for name in ("URL", "TOKEN", "HOME", "GOVERNANCE"):
        monkeypatch.delenv(f"AGENTIC_OS_{name}", raising=False)
    yield tmp_path / "home"
    discard(tmp_path / "home")


def folder(path: Path, policy: str) -> Path:
    """Write a governance folder."""
    path.mkdir()
    (path / "policy.yaml").write_text(policy)
    return path


def test_a_simulation_answers_with_a_table_and_an_exit_code(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unchanged, nothing differs; with the rule gone, its task is named, and --fail-on says so by the exit code."""
    same = folder(tmp_path / "governance", POLICY)
    folder(same / "shadow", "rules: []\n")
    looser = folder(tmp_path / "looser", POLICY.replace("eq: critical", "eq: high"))
    (looser / "organisation.yaml").write_text("roles: {qa: {charter: Try it.}}\n")
    broken = folder(tmp_path / "broken", "rules:\n  - id: a\n")
    with running_stack(home, "--governance", same, "--control-plane", "none"):

        def run(*arguments: object) -> tuple[int, str, str]:
            code = main([*map(str, arguments), "--home", str(home)])
            said = capsys.readouterr()
            return code, said.out, said.err

        made = json.loads(run("task", "new", "Move the keys", "--risk", "critical", "--json")[1])
        run("task", "new", "Tidy up")
        code, out, err = run("policy", "simulate", same, "--fail-on", "any")
        assert (0, "", "2 decisions, 0 differ: 0 loosened, 0 tightened.\n") == (code, err, out)
        code, out, _ = run("policy", "simulate", looser, "--fail-on", "loosened")
        assert 1 == code
        assert "loosened: deny -> allow (1)" in out
        assert made["id"] in out
        assert "no-critical-work" in out
        assert "the defaults" in out
        assert 0 == run("policy", "simulate", looser)[0]
        code, out, _ = run("policy", "simulate", looser, "--last", 1, "--fail-on", "any", "--json")
        report: dict[str, Any] = json.loads(out)
        assert (0, 1, 0) == (code, report["decisions"], report["differing"])
        code, _, err = run("policy", "simulate", broken)
        assert 3 == code
        assert f"{broken / 'policy.yaml'}:2: " in err
        assert 2 == run("policy", "simulate", tmp_path / "nowhere")[0]
        assert 3 == run("policy", "simulate", same, "--since", "yesterday")[0]


def test_the_bar_fills_up() -> None:
    """The bar is empty at the beginning, full at the end, and right where there is nothing to do."""
    assert bar(0, 10).startswith("[" + " " * 30 + "]")
    assert f"[{'#' * 15}{' ' * 15}] 5,000 of 10,000 decisions" == bar(5000, 10_000)
    assert bar(0, 0).endswith("0 of 0 decisions")
