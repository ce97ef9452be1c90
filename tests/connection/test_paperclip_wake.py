"""What a launcher that Paperclip started reads of its issue."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agentic_os.cli.agents.launch import NotLaunched, woken_for

BRIEF = "Hello.\n<!-- agentic-os:brief v1 task=t-1 attempt=2 digest=sha256:00 -->\n..."


@pytest.fixture
def answers() -> dict[str, Any]:
    """Say what Paperclip answers, by path."""
    return {
        "/api/heartbeat-runs/r%2F1/issues": [{"issueId": "i1"}, {"issueId": "i2"}],
        "/api/issues/i1": {"description": BRIEF},
        "/api/issues/i2": {"description": None},
        "/api/agents/me/inbox-lite": [{"id": "i1"}],
    }


@pytest.fixture
def comments() -> list[tuple[str, str, str]]:
    """Keep what is commented: where, of which run, and what."""
    return []


@pytest.fixture
def given(answers: dict[str, Any], comments: list[tuple[str, str, str]]) -> Iterator[dict[str, str]]:
    """Answer as Paperclip does, to its own key alone."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.headers["Authorization"] == "Bearer key"
            content = json.dumps(answers[self.path] if known else {"error": "Not yours"}).encode()
            self.send_response(200 if known else 403)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            comments.append((self.path, self.headers["X-Paperclip-Run-Id"], body["body"]))
            self.send_response(201)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    yield {"PAPERCLIP_API_URL": url, "PAPERCLIP_API_KEY": "key", "PAPERCLIP_RUN_ID": "r/1"}
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_issue_of_the_run_that_holds_a_brief_is_found(
    given: dict[str, str], comments: list[tuple[str, str, str]], tmp_path: Path
) -> None:
    """Others of the run are passed over; a comment of the run keeps Paperclip from waking the agent again."""
    assert ("t-1", "2", BRIEF) == woken_for(given, tmp_path)
    assert [("/api/issues/i1/comments", "r/1")] == [comment[:2] for comment in comments]


def test_the_issue_that_paperclip_names_is_taken(
    given: dict[str, str], answers: dict[str, Any], tmp_path: Path
) -> None:
    """Only its own local agents are told which one it is."""
    answers["/api/issues/i2"] = {"description": BRIEF.replace("t-1", "t-2")}
    assert ("t-2", "2") == woken_for(given | {"PAPERCLIP_TASK_ID": "i2"}, tmp_path)[:2]


def test_no_brief_and_two_are_refused(
    given: dict[str, str], answers: dict[str, Any], comments: list[tuple[str, str, str]], tmp_path: Path
) -> None:
    """The launcher guesses at nothing, and says nothing."""
    answers["/api/issues/i2"] = {"description": BRIEF}
    with pytest.raises(NotLaunched, match=r"Several issues of this run hold a brief \(i1, i2\)"):
        woken_for(given, tmp_path)
    answers["/api/heartbeat-runs/r%2F1/issues"] = answers["/api/agents/me/inbox-lite"] = []
    with pytest.raises(NotLaunched, match="has no issue for this run"):
        woken_for(given, tmp_path)
    assert [] == comments


def test_a_paperclip_that_refuses_is_told(given: dict[str, str], tmp_path: Path) -> None:
    """Its words come with it; where nobody woke us, that is said."""
    with pytest.raises(NotLaunched, match="is not known: Paperclip answered 403 Not yours"):
        woken_for(given | {"PAPERCLIP_API_KEY": "other"}, tmp_path)
    with pytest.raises(NotLaunched, match=r"AGENTIC_OS_TASK and .* not set"):
        woken_for({}, tmp_path)
