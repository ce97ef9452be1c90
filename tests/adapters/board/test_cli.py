"""The command line administers a running board."""

import json
from pathlib import Path

import pytest

from agentic_os_board.cli import main
from agentic_os_board.testing import OPERATOR, PASSWORD, BoardProcess


@pytest.fixture
def signed(board: BoardProcess, tmp_path: Path) -> list[str]:
    """Say who acts, as options."""
    password = tmp_path / "operator.password"
    password.write_text(PASSWORD + "\n")
    return ["--url", board.url, "--operator", OPERATOR, "--operator-password-file", str(password)]


async def test_an_agent_is_added_and_woken(
    board: BoardProcess, signed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was given on the command line must be what runs, its own options included."""
    add = ["agent", "add", "printer", "--workspace", str(tmp_path), "--json", *signed]
    assert main([*add, "--env", "WHO=world", "--", "/bin/sh", "-c", "echo hello $WHO > said"]) == 0
    agent = json.loads(capsys.readouterr().out)
    draft = {"title": "Greet", "body": "", "project": "", "state": "", "labels": []}
    async with board.backend() as backend:
        key = (await backend.put("/api/tasks/cli-1/issue", json=draft)).json()["key"]
        document = {"account": agent["id"], "task_id": "cli-1", "attempt": 1}
        await backend.put(f"/api/issues/{key}/assignment", json=document)
    await board.until_runs(lambda runs: any(run["state"] == "ended" for run in runs))
    assert (tmp_path / "said").read_text() == "hello world\n"
    assert main(["agent", "list", *signed]) == 0
    assert "exit code 0" in capsys.readouterr().out


async def test_a_person_is_added_and_gets_a_token(
    board: BoardProcess, signed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A new account must be able to act with the token that was issued for it."""
    password = tmp_path / "grace.password"
    password.write_text("a long password")
    assert main(["account", "add", "grace", "--password-file", str(password), *signed]) == 0
    capsys.readouterr()
    assert main(["account", "token", "grace", "--json", *signed]) == 0
    async with board.client(json.loads(capsys.readouterr().out)["token"]) as grace:
        assert (await grace.get("/api/me")).json()["name"] == "grace"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["agent", "list"], "say who you are"),
        (["agent", "list", "--token-file", "/no/such/file"], "cannot be read"),
        (["agent", "list", "--url", "http://127.0.0.1:1", "--token-file", __file__], "is it running?"),
    ],
)
def test_a_failure_says_what_to_do(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What went wrong must be said in one line, with a failing exit code."""
    assert main(arguments) == 1
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1


def test_an_agent_needs_a_command(
    signed: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a command or a hook there is nothing to wake."""
    assert main(["agent", "add", "nobody", "--workspace", str(tmp_path), *signed]) == 1
    assert "its command after --" in capsys.readouterr().err
