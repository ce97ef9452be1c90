"""The bridges: an agent that a tracker woke gets its brief there, and starts work.

What Paperclip answers was recorded, and cut to some members; its list of a run's issues is as its source writes it.
The issue and the event of GitHub are examples that octokit/webhooks publishes (MIT), its refusals as documented.
"""

import json
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agentic_os.contracts.callback import parse_callback
from agentic_os.contracts.canonical import canonical_json, digest_of
from agentic_os.hydration import hydrate, load_definition, packaged_skills, resolve

Run = Callable[..., Any]
RECORDED = json.loads(Path(__file__).with_name("exchanges.json").read_text(encoding="utf-8"))
PAPERCLIP, GITHUB = (
    packaged_skills() / f"bridge-{name}/scripts/bridge_{name}.py" for name in ("paperclip", "github")
)
ISSUE = RECORDED["paperclip"]["issue"]["body"]["id"]
RUN = "d29f1aae-2814-4dad-bc28-ca3beab07e64"
KEYS = ("tracker-key", "executor-secret", "attempt-secret")
TASK = "0199f0aa-3c1e-7b52-9f0e-5d1f6f0a7c11"


@dataclass
class RecordedTracker:
    """A tracker on loopback: its answers by path, and who asked for what."""

    url: str = ""
    answers: dict[str, tuple[int, Any, dict[str, str]]] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def answer(self, path: str, recorded: dict[str, Any], *, text: str | None = None, **headers: str) -> None:
        """Answer a path as it was recorded, with another text where one is given."""
        body = recorded["body"]
        if text is not None:
            body = body | {"description" if "description" in body else "body": text}
        self.answers[path] = (recorded["status"], body, headers)


@pytest.fixture
def tracker() -> Iterator[RecordedTracker]:
    """Run it on a free port until the test ends; what it does not know it answers as Paperclip does."""
    recorded = RecordedTracker()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            recorded.asked.append((self.path, self.headers["Authorization"]))
            absent = RECORDED["paperclip"]["no issue"]
            status, body, headers = recorded.answers.get(self.path, (absent["status"], absent["body"], {}))
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Keep the output of the tests clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    recorded.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield recorded
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def issue_text(backend: Any) -> str:
    """Write a brief for the backend into an issue's text."""
    brief = {
        "contract": "aos.execution/1",
        "task_id": TASK,
        "attempt": 2,
        "step": "plan",
        "title": "Retry limit",
        "callback_url": f"{backend.url}/api/executions/callback",
    }
    heading = f"task={TASK} attempt=2 digest={digest_of(brief)}"
    line = canonical_json(brief).decode()
    return f"Hello.\r\n<!-- agentic-os:brief v1 {heading} -->\r\n{line}\r\n<!-- agentic-os:end -->\r\nBye."


@pytest.fixture
def credential(tmp_path: Path) -> Path:
    """Write an executor's credential into a file of its own."""
    file = tmp_path / "credential"
    file.write_text("executor-secret\n")
    file.chmod(0o600)
    return file


@pytest.fixture
def bridge(run_script: Run, tracker: RecordedTracker, backend: Any, credential: Path) -> Run:
    """Run one of the bridges as its tracker would, and see that no key is printed."""

    def run(script: Path, *arguments: str, **environment: str) -> Any:
        backend.accept(attempt_token="attempt-secret")
        given = {
            "PAPERCLIP_API_URL": tracker.url,
            "PAPERCLIP_API_KEY": "tracker-key",
            "PAPERCLIP_RUN_ID": RUN,
            "GITHUB_API_URL": tracker.url,
            "GITHUB_TOKEN": "tracker-key",
            "AGENTIC_OS_CREDENTIAL_FILE": str(credential),
        }
        chosen = {name: value for name, value in (given | environment).items() if value}
        done = run_script(script, "--retry-delay", "0.001", *arguments, **chosen)
        assert not [key for key in KEYS if key in done.stdout + done.stderr]
        return done

    return run


def test_an_agent_that_paperclip_woke_starts_work(
    bridge: Run, tracker: RecordedTracker, backend: Any, workspace: Path, issue_text: str
):
    """The issue of the run is read with the run's key, its text kept privately, and its brief acknowledged."""
    tracker.answer(f"/api/heartbeat-runs/{RUN}/issues", RECORDED["paperclip"]["issues of the run"])
    tracker.answer(f"/api/issues/{ISSUE}", RECORDED["paperclip"]["issue"], text=issue_text)
    done = bridge(PAPERCLIP, "--runtime", "claude-code")
    assert (done.returncode, done.stderr) == (0, "")
    assert "submit-plan" in done.stdout
    assert [path for path, _ in tracker.asked] == [
        f"/api/heartbeat-runs/{RUN}/issues",
        f"/api/issues/{ISSUE}",
    ]
    assert {key for _, key in tracker.asked} == {"Bearer tracker-key"}
    (request,) = backend.requests
    callback = parse_callback(json.dumps(request["body"]).encode())
    assert (callback.kind, callback.task_id, callback.body["runtime"]) == (
        "ack",
        TASK,
        {"name": "claude-code"},
    )
    assert request["headers"]["Authorization"] == "Bearer executor-secret"
    saved = workspace / ".agentic-os/brief.md"
    assert (saved.read_bytes().decode(), stat.S_IMODE(saved.stat().st_mode)) == (issue_text, 0o600)


def test_a_run_without_an_issue_looks_into_the_inbox(
    bridge: Run, tracker: RecordedTracker, backend: Any, issue_text: str
):
    """Of the issues there the one with a brief is taken; of two, an agent must name one."""
    tracker.answer(f"/api/heartbeat-runs/{RUN}/issues", {"status": 200, "body": []})
    inbox = [{"id": ISSUE, "identifier": "LAB-13"}, {"id": "other", "identifier": "LAB-14"}]
    tracker.answer("/api/agents/me/inbox-lite", {"status": 200, "body": inbox})
    tracker.answer(f"/api/issues/{ISSUE}", RECORDED["paperclip"]["issue"], text=issue_text)
    tracker.answer("/api/issues/other", RECORDED["paperclip"]["issue"])
    assert bridge(PAPERCLIP).returncode == 0
    tracker.answer("/api/issues/other", RECORDED["paperclip"]["issue"], text=issue_text)
    backend.requests.clear()
    done = bridge(PAPERCLIP)
    assert (done.returncode, "name one with --issue" in done.stderr, backend.requests) == (10, True, [])
    assert bridge(PAPERCLIP, "--issue", ISSUE).returncode == 0


def test_the_command_that_starts_work_can_be_printed_only(
    bridge: Run, tracker: RecordedTracker, workspace: Path, *, backend: Any, issue_text: str, run_script: Run
):
    """Nothing is sent to the backend; the printed command then does just that, and decline can be used instead."""
    hydrate(workspace, resolve(load_definition(None), "default"))
    tracker.answer(f"/api/issues/{ISSUE}", RECORDED["paperclip"]["issue"], text=issue_text)
    script = workspace / ".claude/skills/bridge-paperclip/scripts/bridge_paperclip.py"
    done = bridge(script, "--only-save", "--runtime", "codex", PAPERCLIP_TASK_ID=ISSUE)
    assert (done.returncode, done.stderr, backend.requests) == (0, "", [])
    command = done.stdout.splitlines()[-1].removeprefix("What to do next: python3 ").split()
    assert command[0] == str(workspace / ".claude/skills/start-work/scripts/start_work.py")
    started = run_script(
        Path(command[0]), *command[1:], AGENTIC_OS_CREDENTIAL_FILE=str(workspace.parent / "credential")
    )
    assert (started.returncode, started.stderr) == (0, "")
    assert backend.requests[0]["body"]["body"]["runtime"] == {"name": "codex"}


def test_a_job_of_github_actions_starts_work_on_its_issue(
    bridge: Run, tracker: RecordedTracker, backend: Any, tmp_path: Path, issue_text: str
):
    """The issue is that of the job's event, or the one that is named; the token is read from a file, too."""
    event = tmp_path / "event.json"
    event.write_text(json.dumps(RECORDED["github"]["event"]))
    path = "/repos/Codertocat/Hello-World/issues/1"
    tracker.answer(path, RECORDED["github"]["issue"], text=issue_text)
    job = {"GITHUB_EVENT_PATH": str(event), "GITHUB_REPOSITORY": "Codertocat/Hello-World"}
    done = bridge(GITHUB, **job)
    assert (done.returncode, done.stderr) == (0, "")
    token = tmp_path / "token"
    token.write_text("another-key\n")
    named = ("--issue", "Codertocat/Hello-World#1", "--token-file", str(token))
    assert bridge(GITHUB, *named, GITHUB_TOKEN="").returncode == 0
    assert tracker.asked == [(path, "Bearer tracker-key"), (path, "Bearer another-key")]
    assert [request["body"]["kind"] for request in backend.requests] == ["ack", "ack"]


PATHS = {
    PAPERCLIP: (f"/api/issues/{ISSUE}", ("--issue", ISSUE)),
    GITHUB: ("/repos/a/b/issues/1", ("--issue", "a/b#1")),
}


@pytest.mark.parametrize("script", PATHS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    ("status", "headers", "exit_code"),
    [
        (401, {}, 4),
        (403, {}, 3),
        (404, {}, 3),
        (403, {"X_RateLimit_Remaining": "0"}, 6),
        (429, {}, 6),
        (503, {}, 6),
        (307, {"Location": "https://elsewhere.example"}, 3),
    ],
)
def test_each_refusal_of_a_tracker_has_its_exit_code(
    bridge: Run,
    tracker: RecordedTracker,
    backend: Any,
    *,
    script: Path,
    status: int,
    headers: dict[str, str],
    exit_code: int,
):
    """Nothing is sent to the backend, no redirect is followed, and only what may pass is asked again."""
    path, arguments = PATHS[script]
    recorded = RECORDED["paperclip"]["bad key"] if status == 401 else RECORDED["github"]["rate limit"]
    tracker.answer(path, recorded | {"status": status}, **headers)
    done = bridge(script, *arguments)
    assert exit_code == done.returncode, done.stderr
    assert len(tracker.asked) == (5 if status == 503 else 1)
    assert backend.requests == []
    if status == 401:
        assert "did not verify" in done.stderr


@pytest.mark.parametrize("script", PATHS, ids=lambda path: path.stem)
def test_an_issue_without_its_whole_brief_starts_nothing(
    bridge: Run, tracker: RecordedTracker, backend: Any, *, script: Path, issue_text: str
):
    """No brief, and one that was changed, end with the exit code for briefs."""
    path, arguments = PATHS[script]
    recorded = RECORDED["paperclip" if script == PAPERCLIP else "github"]["issue"]
    for text, words in (
        (None, "holds no brief"),
        (issue_text.replace("Retry", "Delete"), "No line of the brief has the digest"),
    ):
        tracker.answer(path, recorded, text=text)
        done = bridge(script, *arguments)
        assert (done.returncode, words in done.stderr) == (10, True), done.stderr
    assert backend.requests == []


@pytest.mark.parametrize(
    ("script", "arguments", "environment", "exit_code", "words"),
    [
        (PAPERCLIP, (), {"PAPERCLIP_API_URL": ""}, 2, "Paperclip did not start this run"),
        (PAPERCLIP, (), {"PAPERCLIP_API_KEY": ""}, 4, "no key for Paperclip"),
        (PAPERCLIP, ("--issue", "x"), {"PAPERCLIP_API_URL": "file:///etc"}, 2, "no address of Paperclip"),
        (PAPERCLIP, (), {}, 10, "has no issue for this run"),
        (GITHUB, ("--issue", "1"), {}, 2, "The repository is not known"),
        (GITHUB, ("--issue", "../x#1"), {}, 2, "names no issue"),
        (GITHUB, ("--issue", "a/..#1"), {}, 2, "names no issue"),
        (GITHUB, (), {}, 2, "names no issue"),
        (GITHUB, ("--issue", "a/b#1"), {"GITHUB_TOKEN": ""}, 4, "No token for GitHub"),
        (
            GITHUB,
            ("--issue", "a/b#1"),
            {"GITHUB_API_URL": "http://github.example"},
            2,
            "no address of GitHub",
        ),
    ],
)
def test_without_what_a_bridge_needs_no_key_is_sent(
    bridge: Run,
    tracker: RecordedTracker,
    *,
    script: Path,
    arguments: tuple[str, ...],
    environment: dict[str, str],
    exit_code: int,
    words: str,
):
    """What lacks is told; a key goes to no address that is not the tracker's own."""
    done = bridge(script, *arguments, **environment)
    assert (done.returncode, words in done.stderr) == (exit_code, True), done.stderr
    assert exit_code == 10 or tracker.asked == []


def test_a_job_that_no_issue_started_must_name_one(bridge: Run, tmp_path: Path):
    """The event of a push has no issue."""
    event = tmp_path / "event.json"
    event.write_text('{"ref": "refs/heads/main"}')
    done = bridge(GITHUB, GITHUB_EVENT_PATH=str(event))
    assert (done.returncode, "name one with --issue" in done.stderr) == (2, True)


@pytest.mark.parametrize("script", PATHS, ids=lambda path: path.stem)
def test_each_bridge_tells_its_command_and_its_exit_codes(run_script: Run, script: Path):
    """No key and no credential is an argument."""
    done = run_script(script, "--help")
    assert (done.returncode, "exit codes: 0" in done.stdout, "--json" in done.stdout) == (0, True, True)
    assert not {"--credential ", "--token ", "--key "} & {*done.stdout.replace("\n", " ").split("  ")}
    text = (script.parents[1] / "SKILL.md").read_text()
    assert f".agents/skills/{script.parents[1].name}/scripts/{script.name}" in text
