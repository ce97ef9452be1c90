"""The board's server as a process: how it starts, refuses to start, and stops."""

import json
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from agentic_os.control_plane import CompanionSettings
from agentic_os_board import PLUGIN
from agentic_os_board.testing import BACKEND_TOKEN, OPERATOR, PASSWORD, WEBHOOK_SECRET, BoardProcess


async def test_health_needs_no_login(board: BoardProcess) -> None:
    """Whoever started the server must learn without a credential that it serves."""
    async with board.client() as nobody:
        answer = await nobody.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_the_end_of_the_input_stops_the_server(new_board: Callable[..., BoardProcess]) -> None:
    """A server whose parent is gone must end, and call it success."""
    assert new_board().stop() == 0


def test_sigterm_stops_the_server(new_board: Callable[..., BoardProcess]) -> None:
    """SIGTERM must end the server as the end of its input does."""
    process = new_board().process
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_a_taken_port_is_said(new_database: Callable[[], str], tmp_path: Path) -> None:
    """A port that somebody else listens on must end the start with code 2 and the port's number."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        failing = BoardProcess(new_database(), tmp_path / "home", port=port)
        process = failing.spawn()
        process.communicate(timeout=30)
    assert process.returncode == 2
    assert f"port {port} of 127.0.0.1 is taken" in failing.log.read_text()


def test_one_database_has_one_server(new_board: Callable[..., BoardProcess], tmp_path: Path) -> None:
    """A second server over the same database must refuse to start, for it would kill the first one's runs."""
    url = new_board().configuration["database_url"]
    second = BoardProcess(url, tmp_path / "second")
    process = second.spawn()
    process.communicate(timeout=30)
    assert process.returncode == 2
    assert "another board serves this database" in second.log.read_text()


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"backend_token": "short-secret"}, "backend_token"),
        ({"port": "many"}, "port"),
        ({"surplus": "short-secret"}, "surplus"),
        ({"run_as": "nobody-of-this-name"}, "run_as"),
    ],
    ids=["secret", "port", "surplus", "user"],
)
def test_a_wrong_configuration_is_named_without_its_secrets(
    new_database: Callable[[], str], tmp_path: Path, wrong: dict[str, object], place: str
) -> None:
    """What cannot be used must be named, and its value never shown."""
    failing = BoardProcess(new_database(), tmp_path / "home", **wrong)
    process = failing.spawn()
    process.communicate(timeout=30)
    said = failing.log.read_text()
    assert process.returncode == 2
    assert place in said
    assert "Traceback" not in said
    assert "short-secret" not in said


def test_the_companion_can_be_run_as_it_is_described(new_database: Callable[[], str], tmp_path: Path) -> None:
    """What the plugin says about its server must be what the server understands."""
    settings = CompanionSettings(
        host="127.0.0.1",
        port=8701,
        public_url="https://board.example.org/",
        database_url=new_database(),
        home=str(tmp_path / "home"),
        backend_token=BACKEND_TOKEN,
        webhook_url="",
        webhook_secret=WEBHOOK_SECRET,
        operator_name=OPERATOR,
        operator_password=PASSWORD,
    )
    companion = PLUGIN.companion(settings)
    assert companion.argv[1:] == ("-m", "agentic_os_board", "serve")
    assert companion.ready_url == "http://127.0.0.1:8701/healthz"
    configuration = json.loads(json.dumps(dict(companion.configuration))) | {"port": 0}
    with BoardProcess(
        configuration.pop("database_url"), Path(configuration.pop("home")), **configuration
    ) as board:
        assert board.url.startswith("http://127.0.0.1:")


async def test_what_was_stored_survives_a_crash(new_board: Callable[..., BoardProcess]) -> None:
    """A server that is killed must find its issues when it starts again, and create none of them twice."""
    board = new_board()
    draft = {"title": "Count the beans", "body": "", "project": "default", "state": "ready", "labels": []}
    async with board.backend() as backend:
        first = (await backend.put("/api/tasks/task-1/issue", json=draft)).json()
    board.kill()
    board.start()
    async with board.backend() as backend:
        again = await backend.put("/api/tasks/task-1/issue", json=draft)
    assert (again.status_code, again.json()) == (200, first)


async def test_the_backend_s_token_can_be_changed(new_board: Callable[..., BoardProcess]) -> None:
    """A new token in the configuration must be the only one that the backend has."""
    board = new_board()
    board.stop()
    board.configuration["backend_token"] = "another-token-of-the-backend"
    board.start()
    async with board.client("another-token-of-the-backend") as new, board.backend() as old:
        assert (await new.get("/api/me")).json()["name"] == "agentic-os"
        assert (await old.get("/api/me")).status_code == 401
