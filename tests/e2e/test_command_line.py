"""The command line without a server: help for everything, and clear words when nobody answers."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.stack_process import run

from agentic_os.cli import main


def _commands(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from _commands(inner, (*path, name))


def test_every_command_has_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command and each verb answers --help with its usage, and exits with 0."""
    found: list[argparse.ArgumentParser] = []
    parse = argparse.ArgumentParser.parse_args

    def keep(parser: argparse.ArgumentParser, *arguments: Any) -> Any:
        found.append(parser)
        return parse(parser, *arguments)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", keep)
    with pytest.raises(SystemExit):
        main(["--version"])
    commands = list(_commands(found[0]))
    assert {("up",), ("demo",), ("task", "new"), ("audit", "verify"), ("db", "status")} <= set(commands)
    for path in commands:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*path, "--help"])
        assert 0 == ended.value.code
        assert " ".join(["usage: agentic-os", *path]) in capsys.readouterr().out


def test_the_command_is_installed() -> None:
    """`python -m agentic_os.cli` is the command, tells its version, and names its commands when given none."""
    version = run("--version")
    assert (0, "agentic-os") == (version.returncode, version.stdout.split()[0])
    nothing = run()
    assert 2 == nothing.returncode
    assert "COMMAND" in nothing.stderr


def test_without_a_server_the_message_says_how_to_start_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no stack or token is known, or none answers, the exit code is 4 and the message says what to do."""
    for name in ("URL", "TOKEN", "HOME"):
        monkeypatch.delenv(f"AGENTIC_OS_{name}", raising=False)
    assert 4 == main(["task", "list", "--home", str(tmp_path)])
    assert "agentic-os up" in capsys.readouterr().err
    monkeypatch.setenv("AGENTIC_OS_URL", "http://127.0.0.1:1")
    assert 4 == main(["task", "list", "--home", str(tmp_path)])
    assert "AGENTIC_OS_TOKEN" in capsys.readouterr().err
    (tmp_path / "admin.token").mkdir()
    assert 4 == main(["task", "list", "--home", str(tmp_path)])
    assert "cannot be read" in capsys.readouterr().err
    monkeypatch.setenv("AGENTIC_OS_TOKEN", "t")
    assert 4 == main(["task", "list", "--home", str(tmp_path)])
    assert "does not answer" in capsys.readouterr().err
