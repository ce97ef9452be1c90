"""What a launcher that Paperclip started reads of its issue."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from agentic_os.cli.paperclip_wake import NoBrief, find_brief, woken_by_paperclip

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
            known = self.headers["Authorization"] == "Bearer key" and self.path in answers
            content = json.dumps(answers[self.path] if known else {"error": "no"}).encode()
            self.send_response(200 if known else 404)
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
    given: dict[str, str], comments: list[tuple[str, str, str]]
) -> None:
    """Others of the run are passed over; a comment of the run keeps Paperclip from waking the agent again."""
    assert woken_by_paperclip(given)
    assert ("t-1", "2", BRIEF) == find_brief(given)
    assert [("/api/issues/i1/comments", "r/1")] == [comment[:2] for comment in comments]


def test_a_run_without_issues_has_those_of_the_inbox(given: dict[str, str], answers: dict[str, Any]) -> None:
    """A run may begin before its issue is noted with it."""
    answers["/api/heartbeat-runs/r%2F1/issues"] = []
    assert ("t-1", "2") == find_brief(given)[:2]


def test_no_brief_and_two_are_refused(
    given: dict[str, str], answers: dict[str, Any], comments: list[tuple[str, str, str]]
) -> None:
    """The launcher guesses at nothing, and says nothing."""
    answers["/api/issues/i2"] = {"description": BRIEF}
    with pytest.raises(NoBrief, match=r"i1, i2\), 2 hold a brief"):
        find_brief(given)
    answers["/api/heartbeat-runs/r%2F1/issues"] = answers["/api/agents/me/inbox-lite"] = []
    with pytest.raises(NoBrief, match=r"none\), 0 hold"):
        find_brief(given)
    assert [] == comments


def test_a_paperclip_that_refuses_is_told(given: dict[str, str]) -> None:
    """Its words come with it."""
    with pytest.raises(NoBrief, match="does not say what it woke us for"):
        find_brief(given | {"PAPERCLIP_API_KEY": "other"})
    assert not woken_by_paperclip({})
