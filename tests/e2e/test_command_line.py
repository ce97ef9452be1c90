"""The command line without a server: help for everything, and clear words when nobody answers."""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.stack_process import ENVIRONMENT, run

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
        main(["--help"])
    commands = list(_commands(found[0]))
    assert {("up",), ("demo",), ("task", "new"), ("audit", "verify"), ("db", "status")} <= set(commands)
    for path in commands:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*path, "--help"])
        assert 0 == ended.value.code
        assert " ".join(["usage: agentic-os", *path]) in capsys.readouterr().out
        if path and path != ("executor", "launch"):  # found by itself, without all the others
            alone = list(_commands(found[-1]))
            assert path in alone
            assert len(alone) < len(commands)


def test_a_command_imports_what_it_needs() -> None:
    """Whoever asks a server for something does not wait for the parts that a server is made of."""
    code = "import sys; from agentic_os.cli import main; main(sys.argv[1:]);"
    heavy = {"fastapi", "sqlalchemy", "uvicorn", "psycopg"}
    for arguments in (
        ["task", "list", "--home", "/nonexistent"],
        ["executor", "list", "--home", "/nonexistent"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", f"{code} print(*sys.modules)", *arguments],
            capture_output=True,
            text=True,
            check=True,
            env=ENVIRONMENT,
        )
        assert "httpx" in done.stdout.split()
        assert heavy.isdisjoint(done.stdout.split())


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
