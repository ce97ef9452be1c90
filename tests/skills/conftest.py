"""Skills on disk, workspaces, and a backend on loopback that records what it is sent."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "skills" / "start-work" / "scripts"))


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Make an empty workspace."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture
def make_skill(tmp_path: Path) -> Callable[..., Path]:
    """Write a valid skill into a source root, `skills` unless another is named; returns its folder."""

    def make(name: str, root: str = "skills", text: str = "Do it.") -> Path:
        folder = tmp_path / root / name
        (folder / "scripts").mkdir(parents=True, exist_ok=True)
        (folder / "SKILL.md").write_text(f"---\nname: {name}\ndescription: Does {name}.\n---\n{text}\n")
        script = folder / "scripts" / "run.py"
        script.write_text("print('run')\n")
        script.chmod(0o755)
        return folder

    return make


@pytest.fixture
def make_definition(tmp_path: Path) -> Callable[..., Path]:
    """Write a skills.yaml over the source root `skills`; members given replace its own."""

    def make(*names: str, **members: Any) -> Path:
        (tmp_path / "skills").mkdir(exist_ok=True)
        file = tmp_path / "skills.yaml"
        document = {"source_roots": ["./skills"], "global_defaults": list(names)} | members
        file.write_text(json.dumps(document, indent=1))  # JSON is YAML
        return file

    return make


@dataclass
class RecordingBackend:
    """What the backend was sent, and what it answers: each answer once, the last one for ever."""

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    answers: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    def answer(self, status: int, **document: Any) -> None:
        """Add an answer."""
        self.answers.append((status, document))

    def accept(self, **document: Any) -> None:
        """Add an answer that accepts."""
        accepted = {"accepted": True, "directive": "continue", "lease_expires_at": "2026-11-20T12:15:00Z"}
        self.answer(202, **accepted, **document)


@pytest.fixture
def backend() -> Iterator[RecordingBackend]:
    """Run a small real server, on a free port, until the test ends."""
    recording = RecordingBackend()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.reply(body)

        def do_PUT(self) -> None:
            self.reply(len(self.rfile.read(int(self.headers["Content-Length"]))))

        def do_GET(self) -> None:
            self.reply(None)

        def reply(self, body: Any) -> None:
            recording.requests.append({"path": self.path, "headers": dict(self.headers), "body": body})
            status, document = (
                recording.answers.pop(0) if len(recording.answers) > 1 else recording.answers[0]
            )
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            for name, value in document.get("headers", {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Keep the output of the tests clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    recording.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield recording
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def run_script(workspace: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a skill's script as an agent does: in its workspace, with an environment of its own."""

    def run(script: Path, *arguments: str, stdin: str = "", **environment: str) -> Any:
        return subprocess.run(
            [sys.executable, str(script), *arguments],
            cwd=workspace,
            env={"PATH": "/usr/bin:/bin"} | environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run
