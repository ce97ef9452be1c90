"""`agentic-os up`: started, used, stopped, killed and started again, as a process of its own."""

import json
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.stack_process import (
    ENVIRONMENT,
    StackProcess,
    children_of,
    command,
    folders_of,
    processes_of,
    run,
    running_stack,
    wait_for_end,
)

from agentic_os import stack
from agentic_os.cli import main
from agentic_os.control_plane import Settings as PlaneSettings
from agentic_os.postgres.embedded import discard
from agentic_os.settings import Settings

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
_AS_ORDINARY_USER = """
import contextlib, io, os, sys
import agentic_os.stack
from agentic_os.cli import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main(["up", "--help"])
if os.geteuid() == 0:  # only after all imports, since nobody may not be able to read this checkout
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""


class CommandLine:
    """The commands of a person whose stack has this home."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._home = home
        self._capsys = capsys

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run a command in this process; return what it printed."""
        self._capsys.readouterr()
        found = main([*arguments, "--home", str(self._home)])
        output = self._capsys.readouterr()
        assert code == found, output.out + output.err
        return output.out + output.err

    def json(self, *arguments: str) -> Any:
        """Run a command with --json."""
        return json.loads(self.run(*arguments, "--json"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Choose a home, and forget what this shell's settings say; its database may lie elsewhere, and goes with it."""
    for name in ("URL", "TOKEN", "HOME", "GOVERNANCE"):
        monkeypatch.delenv(f"AGENTIC_OS_{name}", raising=False)
    yield tmp_path / "home"
    discard(tmp_path / "home")


def test_a_stack_serves_its_commands_and_stops_cleanly(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From start to SIGTERM: secrets are private, commands work, a second start is refused, and nothing is left."""
    with running_stack(home) as stack:
        _assert_announced(stack)
        commands = CommandLine(home, capsys)
        credential, token = _assert_administration_works(commands)
        _assert_tasks_work(commands)
        _assert_history_works(commands)
        secrets_shown = _assert_credentials_work(commands)
        _assert_a_second_start_is_refused(home, stack)
        secrets = [credential, token, *secrets_shown, *_secrets(home)]
        children = [*children_of(stack.process.pid)]
        folders = folders_of(home)
        assert len(children) >= 2, "a database and a board"
        assert 0 == stack.terminate()
    assert {} == processes_of(*folders)
    wait_for_end(children)
    assert not (home / "endpoint.json").exists()
    said = "".join(stack.lines) + (home / "postgres.log").read_text(errors="replace")
    assert [] == [secret for secret in secrets if secret in said]
    assert "Traceback" not in said


def _assert_announced(stack: StackProcess) -> None:
    home, endpoint = stack.home, stack.endpoint
    assert stack.process.pid == endpoint.pid
    assert endpoint.url.startswith("http://127.0.0.1:")
    private = ["admin.token", "endpoint.json", "server.key", "board.password", "board-backend.token"]
    assert {0o600} == {stat.S_IMODE((home / name).stat().st_mode) for name in private}
    assert 0 == stat.S_IMODE(home.stat().st_mode) & 0o027
    for path in ("/healthz", "/readyz"):
        assert 200 == httpx.get(endpoint.url + path, trust_env=False).status_code
    assert 401 == httpx.get(endpoint.url + "/api/tasks", trust_env=False).status_code
    assert endpoint.board_url is not None
    assert httpx.get(endpoint.board_url, follow_redirects=True, trust_env=False).is_success


def _assert_administration_works(commands: CommandLine) -> tuple[str, str]:
    executor = commands.json("executor", "add", "coder", "--role", "developer", "--skills", "not-required")
    assert {"id", "name", "credential"} == executor.keys()
    person = commands.json("token", "add", "paul", "--role", "viewer")
    assert {"id", "token"} == person.keys()
    assert "coder" in commands.run("executor", "list")
    assert "coder is registered" not in commands.run("executor", "add", "coder", "--role", "qa", code=3)
    assert "board account a-1 is paul's." in commands.run("account", "link", "paul", "board", "a-1")
    return executor["credential"], person["token"]


def _assert_credentials_work(commands: CommandLine) -> list[str]:
    source = commands.json("ci", "add", "build", "--project", "default")
    assert {"name", "project", "secret"} == source.keys()
    assert "/api/evidence/nightly" in commands.run("ci", "add", "nightly")
    assert "build" in commands.run("ci", "list")
    rotated = commands.json("ci", "rotate", "build")["secret"]
    assert rotated != source["secret"]
    credential = commands.json("executor", "rotate", "coder")["credential"]
    token = commands.json("token", "rotate", "paul")["token"]
    assert "shown this once" in commands.run("token", "rotate", "paul")
    assert "paul" in commands.run("token", "list")
    for kind, name in (("executor", "coder"), ("token", "paul"), ("ci", "build")):
        assert f"{name} is revoked." in commands.run(kind, "revoke", name)
        assert "not_found" in commands.run(kind, "rotate", name, code=3)
    assert "last administrator" in commands.run("token", "revoke", "admin", code=3)
    assert "revoked" in commands.run("token", "list")
    return [source["secret"], rotated, credential, token]


def _assert_tasks_work(commands: CommandLine) -> None:
    new = ("task", "new", "Say hello", "--accept", "said=It is said.", "--assignee", "coder", "--key", "k")
    task = commands.json(*new)
    assert task["id"] == commands.json(*new)["id"]
    assert task["id"] in commands.run("task", "list")
    assert "Say hello" in commands.run("task", "show", task["id"])
    assert "task.created" in commands.run("task", "log", task["id"])
    assert "version 1" in commands.run("task", "show", task["id"], "--at", "1")
    assert "task.allowed" in commands.run("task", "diff", task["id"], "1", "2")
    assert "allow by no rule, the defaults" in commands.run("task", "why", task["id"])
    assert "/cancel" in commands.run("task", "directive", task["id"], "/help")
    assert "refused" in commands.run("task", "directive", task["id"], "/approve", code=1)
    assert "done" == commands.json("task", "directive", task["id"], "/cancel")["outcome"]
    assert "cancelled" == commands.json("task", "show", task["id"])["phase"]
    assert "unknown_task" in commands.run("task", "show", "nothing", code=3)
    assert "--accept takes ID=TEXT" in commands.run("task", "new", "T", "--accept", "said", code=2)


def _assert_history_works(commands: CommandLine) -> None:
    report = commands.json("audit", "verify")
    assert ("ok", None) == (report["audit"], report["problem"])
    assert commands.run("audit", "verify").startswith("ok: ")
    assert {"tasks": 1} == commands.json("projections", "rebuild")
    assert "in use by process" in commands.run("db", "status", code=2)


def _assert_a_second_start_is_refused(home: Path, stack: StackProcess) -> None:
    second = run("up", "--home", home, "--port", 0, "--board-port", 0)
    assert 2 == second.returncode, second.stderr
    assert f"in use by process {stack.process.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    assert stack.process.pid == stack.endpoint.pid
    assert 200 == httpx.get(stack.endpoint.url + "/readyz", trust_env=False).status_code


def _secrets(home: Path) -> list[str]:
    names = ["admin.token", "server.key", "board.password", "board-backend.token", "board-webhook.secret"]
    files = [home / name for name in names] + list((home / "secrets").iterdir())
    return [text for file in files if (text := file.read_text().strip())]


def test_a_killed_stack_starts_again(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After SIGKILL the board ends by itself, and the next start takes the database over as it was."""
    commands = CommandLine(home, capsys)
    with running_stack(home) as stack:
        task = commands.json("task", "new", "Survive")
        board = [pid for pid, line in children_of(stack.process.pid).items() if "board" in line]
        assert board
        stack.process.send_signal(signal.SIGKILL)
        assert -signal.SIGKILL == stack.process.wait(10)
        wait_for_end(board)
        assert "does not answer" in commands.run("task", "list", code=4)
    token = (home / "admin.token").read_text()
    with running_stack(home) as stack:
        assert token == (home / "admin.token").read_text()
        assert "Survive" == commands.json("task", "show", task["id"])["title"]
        assert "ok" == commands.json("audit", "verify")["audit"]
        folders = folders_of(home)
        assert 0 == stack.terminate()
    assert {} == processes_of(*folders)
    assert commands.run("db", "status")
    assert {} == processes_of(*folders)


def test_a_stop_is_heard_during_the_start(home: Path) -> None:
    """SIGTERM at the first word of a start ends it as cleanly as later on."""
    process = subprocess.Popen(
        command("up", "--home", home, "--port", 0, "--board-port", 0),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=10)
    assert (0, True) == (process.returncode, said.endswith("stopped\n")), first + said
    folders = folders_of(home)
    assert {} == processes_of(*folders)


def test_a_taken_port_is_named(home: Path) -> None:
    """A port that somebody else has ends the start with the option to change, for both ports."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for option, other in (("--port", "--board-port"), ("--board-port", "--port")):
            refused = run("up", "--home", home, option, port, other, 0)
            assert 2 == refused.returncode
            assert f"127.0.0.1:{port} is taken" in refused.stderr
            assert f"choose another with {option}" in refused.stderr
            assert 1 == len(refused.stderr.splitlines()), refused.stderr


@pytest.mark.parametrize("port", [-1, 65536, "http"])
def test_an_impossible_port_is_named(home: Path, port: object) -> None:
    """What is no port is refused before anything is started."""
    refused = run("up", "--home", home, "--port", port)
    assert 2 == refused.returncode
    assert "--port" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_home_that_is_no_folder_is_named(tmp_path: Path) -> None:
    """A home below a file cannot be one, and the message says which option to change."""
    (tmp_path / "file").touch()
    refused = run("up", "--home", tmp_path / "file" / "home", "--port", 0, "--board-port", 0)
    assert 2 == refused.returncode, refused.stderr
    assert str(tmp_path / "file") in refused.stderr
    assert "--home" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_home_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    """An ordinary user who may not write the home is told so, and what to do."""
    tmp_path.chmod(0o555)
    arguments = ["up", "--home", str(tmp_path / "home"), "--port", "0", "--board-port", "0"]
    refused = subprocess.run(
        [sys.executable, "-c", _AS_ORDINARY_USER, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )
    tmp_path.chmod(0o700)
    assert 2 == refused.returncode, refused.stderr
    assert str(tmp_path / "home") in refused.stderr
    assert "--home" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            "rules:\n  - id: a\n    on: task.received\n    require:\n      mood: strict\n",
            5,
            "unknown field 'mood'",
        ),
        ("defaults:\n  mode: [\n", 3, ""),
    ],
    ids=["unknown field", "no YAML"],
)
def test_a_bad_governance_file_is_named_by_line(home: Path, text: str, line: int, words: str) -> None:
    """A policy that cannot be read stops the start, with file and line, before anything is started."""
    governance = home.parent / "governance"
    governance.mkdir()
    (governance / "policy.yaml").write_text(text)
    refused = run("up", "--home", home, "--governance", governance, "--port", 0, "--board-port", 0)
    assert 2 == refused.returncode, refused.stderr
    assert f"{governance / 'policy.yaml'}:{line}" in refused.stderr
    assert words in refused.stderr
    assert not home.exists()


def test_a_missing_governance_folder_is_named(home: Path) -> None:
    """A folder that was asked for and is not there stops the start, rather than the blank preset being in force."""
    refused = run("up", "--home", home, "--governance", home / "nowhere", "--port", 0, "--board-port", 0)
    assert 2 == refused.returncode
    assert str(home / "nowhere") in refused.stderr


def test_a_tracker_that_somebody_else_runs_is_reached_as_it_was_said(tmp_path: Path) -> None:
    """The plugin of a distant tracker must get its address, its token, the live secrets and its options."""
    token, newer, older = (tmp_path / name for name in ("token", "newer", "older"))
    for file in (token, newer, older):
        file.write_text(f"{file.name} secret\n")
    settings = Settings(
        control_plane_url="https://tracker.example.org",
        control_plane_token_file=token,
        control_plane_webhook_secret_files=(newer, older),
        control_plane_options={"project": "beans"},
    )
    assert stack._distant("beans", settings) == PlaneSettings(
        url="https://tracker.example.org",
        token="token secret",
        webhook_secrets=("newer secret", "older secret"),
        options={"project": "beans"},
    )


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "AGENTIC_OS_CONTROL_PLANE_URL"),
        ({"control_plane_url": "https://tracker.example.org"}, "AGENTIC_OS_CONTROL_PLANE_TOKEN_FILE"),
        (
            {"control_plane_url": "https://t.example.org", "control_plane_token_file": "/no/such/file"},
            "/no/such/file cannot be read",
        ),
    ],
)
def test_a_tracker_without_an_address_or_a_token_is_refused(said: dict[str, Any], words: str) -> None:
    """What is missing must be named, before anything is sent anywhere."""
    with pytest.raises(stack.CannotStart, match=words):
        stack._distant("beans", Settings(**said))
