"""A company on a real Paperclip, with people, agents whose hooks do nothing, and faults between adapter and server."""

import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

import httpx
import pytest

from agentic_os.control_plane import Assignment, ControlPlane
from agentic_os.control_plane.conformance import PostedComment, SpentOnIssue
from agentic_os_paperclip.board import Board
from agentic_os_paperclip.client import PaperclipClient
from agentic_os_paperclip.documents import cards_of, note_key, notes_of
from agentic_os_paperclip.mapping import record_of
from agentic_os_paperclip.server import PaperclipServer
from agentic_os_paperclip.text import kept
from agentic_os_paperclip.transport import Transport

PASSWORD = "correct horse battery"
PAGE = 10
_QUIET_SECONDS = 0.4
_FIELDS = {"title": "title", "body": "description", "assignee": "assigneeAgentId"}
_STATUSES = {"completed": "done", "not_planned": "cancelled", "": "todo"}


@dataclass(kw_only=True)
class Hooks:
    """Where agents are woken: each call is kept, and answered at once."""

    calls: list[Mapping[str, Any]] = field(default_factory=list)
    heard: list[Callable[[Mapping[str, Any]], None]] = field(default_factory=list)
    port: int = 0

    def __enter__(self) -> Self:
        hooks = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                hooks.calls.append(body)
                for listener in list(hooks.heard):
                    listener(body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Stay silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class People:
    """The accounts of one server: made once, and asked into each company."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.boards: dict[str, Board] = {}
        self.ids: dict[str, str] = {}
        self.keys: dict[str, str] = {}
        self.companies: dict[str, list[str]] = {}
        self.admin = self.person("founder")
        self.admin.claim()

    def close(self) -> None:
        for board in self.boards.values():
            board.close()

    def person(self, name: str) -> Board:
        if name not in self.boards:
            board = Board(self.url)
            self.ids[name] = board.sign_up(name, f"{name}@example.test", PASSWORD)
            self.boards[name] = board
        return self.boards[name]

    def admit(self, name: str, company: str) -> None:
        """Let a person into a company, as its administrator may; invitations are limited to a few a minute."""
        self.person(name)
        self.companies.setdefault(name, []).append(company)
        document = {"companyIds": self.companies[name]}
        self.admin.ask("PUT", f"/admin/users/{self.ids[name]}/company-access", document)

    def key(self, name: str) -> str:
        board = self.person(name)
        if name not in self.keys:
            self.keys[name] = board.key("test")
        return self.keys[name]


class FaultyWire(httpx.AsyncBaseTransport):
    """The way to the server, which fails when told to."""

    def __init__(self) -> None:
        self._wire = httpx.AsyncHTTPTransport()
        self.fault: Literal["", "before", "after", "limit"] = ""
        self.patience = 0.0
        self.writes = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        write = request.method != "GET"
        fault = self.fault if self.fault != "after" or write else ""
        if fault:
            self.fault = ""
        if fault == "before":
            return httpx.Response(503, json={"error": "staged"}, request=request)
        if fault == "limit":
            headers = {"retry-after": str(int(self.patience))}
            return httpx.Response(429, json={"error": "staged"}, headers=headers, request=request)
        self.writes += write
        answer = await self._wire.handle_async_request(request)
        if fault == "after":
            await answer.aread()
            return httpx.Response(502, text="staged", request=request)
        return answer

    async def aclose(self) -> None:
        await self._wire.aclose()


class Company:
    """The tracker harness: one new company on the server."""

    def __init__(self, server: PaperclipServer, people: People, hooks: Hooks) -> None:
        self.server = server
        self.people = people
        self.hooks = hooks
        self.admin = people.admin
        self.id = str(self.admin.ask("POST", "/companies", {"name": f"Lab {secrets.token_hex(4)}"})["id"])
        self._in = {"founder"}
        self._agents: dict[str, str] = {}
        self._agent_keys: dict[str, str] = {}
        self._runs: dict[str, str] = {}
        self._scratch: set[str] = set()
        self._wakes: list[tuple[str, Assignment]] = []
        people.key("agentic-os")
        self._enter("agentic-os")
        self.admin.grant(self.id, people.ids["agentic-os"])
        self.wire = FaultyWire()
        self.plane: ControlPlane = self.connect(people.keys["agentic-os"])
        hooks.heard.append(self._woken)

    def connect(self, token: str) -> PaperclipClient:
        http = httpx.AsyncClient(
            transport=self.wire,
            base_url=f"{self.server.url}/api",
            headers={"authorization": f"Bearer {token}"},
            timeout=10,
        )
        transport = Transport(self.server.url, token, self.id, http=http)
        return PaperclipClient(transport, comments_page=PAGE, feed_page=PAGE)

    async def close(self) -> None:
        self.hooks.heard.remove(self._woken)
        await self.plane.aclose()

    @property
    def project(self) -> str:
        return "Beans"

    @property
    def unknown_key(self) -> str:
        return "00000000-0000-4000-8000-000000000000"

    @property
    def page_size(self) -> int:
        return PAGE

    def board(self, name: str) -> Board:
        """Let a person act here."""
        self._enter(name)
        return self.people.person(name)

    async def person(self, name: str) -> str:
        self._enter(name)
        return self.people.ids[name]

    async def agent(self, name: str) -> str:
        if name not in self._agents:
            configuration = {"url": f"{self.hooks.origin}/{name}", "method": "POST"}
            agent = self.admin.agent(self.id, name, "http", configuration)
            self._agents[name] = agent
            self._agent_keys[agent] = self.admin.ask("POST", f"/agents/{agent}/keys", {"name": "t"})["token"]
        return self._agents[name]

    async def open_issue(
        self, author: str, title: str, body: str, project: str, labels: Sequence[str]
    ) -> str:
        projects = {each["name"]: each["id"] for each in self.admin.ask("GET", self._of("/projects"))}
        if project not in projects:
            projects[project] = self.admin.ask("POST", self._of("/projects"), {"name": project})["id"]
        document = {
            "title": title,
            "description": body,
            "projectId": projects[project],
            "labelIds": self._label_ids(labels),
            "allowDuplicate": True,
        }
        return str(self._as(author).ask("POST", self._of("/issues"), document)["id"])

    async def comment(self, key: str, author: str, body: str) -> str:
        if author in self._agent_keys:
            return self._agent_comments(key, author, body)
        return str(self._as(author).ask("POST", f"/issues/{key}/comments", {"body": body})["id"])

    async def edit_comment(self, key: str, comment_id: str, author: str, body: str) -> None:
        document = self._note_document(key, comment_id)
        if document is None:
            pytest.skip("nobody can edit a comment on Paperclip")
        written = {
            "title": document["title"],
            "format": "markdown",
            "body": body,
            "baseRevisionId": document["latestRevisionId"],
        }
        self._as(author).ask("PUT", f"/issues/{key}/documents/{document['key']}", written)

    async def delete_comment(self, key: str, comment_id: str, author: str) -> None:
        document = self._note_document(key, comment_id)
        if document is not None:
            self.admin.ask("DELETE", f"/issues/{key}/documents/{document['key']}")
            return
        ours = {
            note.marker: comment["id"]
            for comment in self.admin.ask("GET", f"/issues/{key}/comments")
            for note in notes_of([comment], [], user=self.people.ids["agentic-os"])
        }
        if comment_id in ours:
            pytest.skip("on Paperclip, nobody deletes the comments of others")
        self._as(author).ask("DELETE", f"/issues/{key}/comments/{comment_id}")

    async def change_field(self, key: str, author: str, field: str, value: str) -> None:
        document: dict[str, Any]
        match field:
            case "closed":
                document = {"status": _STATUSES[value]}
            case "labels":
                document = {"labelIds": self._label_ids([label.strip() for label in value.split(",")])}
            case _:
                document = {_FIELDS[field]: value or None}
        self._as(author).ask("PATCH", f"/issues/{key}", document)

    def _label_ids(self, names: Sequence[str]) -> list[str]:
        """Find labels by name, made when missing."""
        known = {each["name"]: each["id"] for each in self.admin.ask("GET", self._of("/labels"))}
        for name in names:
            if name not in known:
                document = {"name": name, "color": "#336699"}
                known[name] = self.admin.ask("POST", self._of("/labels"), document)["id"]
        return [known[name] for name in names]

    async def delete_issue(self, key: str, author: str) -> None:
        self._as(author).ask("DELETE", f"/issues/{key}")

    async def decide_review(
        self, key: str, digest: str, author: str, verdict: Literal["approve", "revise", "reject"]
    ) -> None:
        cards = cards_of(
            self.admin.ask("GET", f"/issues/{key}/interactions"), user=self.people.ids["agentic-os"]
        )
        (card,) = [each for each in cards if each.digest == digest and each.pending]
        path = f"/issues/{key}/interactions/{card.id}"
        if verdict == "approve":
            self._as(author).ask("POST", f"{path}/accept", {})
        else:
            self._as(author).ask("POST", f"{path}/reject", {"reason": "Count them twice."})

    async def edit_plan(self, key: str, digest: str, author: str, text: str) -> None:
        board = self._as(author)
        plan = board.ask("GET", f"/issues/{key}/documents/plan")
        assert plan["title"].endswith(digest.removeprefix("sha256:")[:8])
        written = {
            "title": plan["title"],
            "format": "markdown",
            "body": kept(text),
            "baseRevisionId": plan["latestRevisionId"],
        }
        board.ask("PUT", f"/issues/{key}/documents/plan", written)

    async def report_run(self, *_: object) -> None:
        pytest.skip("a hook's run ends before its agent's work: see test_drift.py")

    async def pause(self, account: str, author: str) -> None:
        self._let_pause(author)
        self._as(author).ask("POST", f"/agents/{account}/pause", {})

    async def resume(self, account: str, author: str) -> None:
        self._as(author).ask("POST", f"/agents/{account}/resume", {})

    async def spent(self, key: str) -> SpentOnIssue:
        whole = self.admin.ask("GET", f"/issues/{key}/cost-summary")
        below = self.admin.ask("GET", f"/issues/{key}/cost-summary?excludeRoot=true")
        cents, given, taken = (
            whole[name] - below[name] for name in ("costCents", "inputTokens", "outputTokens")
        )
        return SpentOnIssue(cents=cents, input_tokens=given, output_tokens=taken)

    async def issues(self) -> Sequence[str]:
        found = self.admin.ask("GET", self._of("/issues?limit=500"))
        return [issue["id"] for issue in found if issue["id"] not in self._scratch]

    async def comments(self, key: str) -> Sequence[PostedComment]:
        user = self.people.ids["agentic-os"]
        found = []
        for comment in self.admin.ask("GET", f"/issues/{key}/comments?order=asc&limit=500"):
            if comment["deletedAt"]:
                continue
            ours = notes_of([comment], [], user=user)
            author = comment["authorUserId"] or comment["authorAgentId"]
            name = ours[0].id if ours else comment["id"]
            found.append((comment["createdAt"], PostedComment(id=name, author=author, body=comment["body"])))
        for document in self.admin.ask("GET", f"/issues/{key}/documents"):
            for note in notes_of([], [document], user=user):
                posted = PostedComment(id=note.id, author=user, body=document["body"])
                found.append((document["createdAt"], posted))
        return [posted for _, posted in sorted(found, key=lambda each: each[0])]

    async def wakes(self) -> Sequence[Assignment]:
        self.wait_until_quiet()
        return [assignment for issue, assignment in self._wakes if issue not in self._scratch]

    async def deliveries(self) -> Sequence[tuple[Mapping[str, str], bytes]]:
        return []

    async def sign(self, *_: bytes, **__: float) -> Mapping[str, str]:
        return {}

    async def fail_next(self, *, before: bool) -> None:
        self.wire.fault = "before" if before else "after"

    async def limit_next(self, seconds: float) -> None:
        self.wire.fault, self.wire.patience = "limit", seconds

    async def stranger(self) -> ControlPlane:
        return self.connect("pcp_board_" + "0" * 48)

    async def restart(self) -> None:
        await self.plane.aclose()
        self.server.stop()
        self.server.start()
        self.wire = FaultyWire()
        self.plane = self.connect(self.people.keys["agentic-os"])

    def runs(self) -> list[dict[str, Any]]:
        """List the runs of the company's agents, the newest first."""
        return list(self.admin.ask("GET", self._of("/heartbeat-runs?limit=200")))

    def wait_until_quiet(self) -> None:
        """Wait until no run goes on, and none is about to."""
        quiet = 0
        while quiet < 2:
            going = [run for run in self.runs() if run["status"] in {"queued", "running"}]
            quiet = 0 if going else quiet + 1
            time.sleep(_QUIET_SECONDS)

    def _woken(self, body: Mapping[str, Any]) -> None:
        key = body["context"].get("issueId")
        if body["agentId"] not in self._agents.values() or not key:
            return
        if (
            body["context"]["wakeReason"] == "issue_commented"
        ):  # Paperclip's own doing, for whoever is assigned
            return
        record = record_of(self.admin.ask("GET", f"/issues/{key}"))
        given = record if record is not None and record.account == body["agentId"] else None
        self._wakes.append(
            (
                key,
                Assignment(
                    account=body["agentId"],
                    task_id=given.task if given else "",
                    attempt=given.attempt if given else 0,
                ),
            )
        )

    def _agent_comments(self, key: str, agent: str, body: str) -> str:
        """Comment as an agent, which Paperclip lets do so only in a run of its own."""
        if agent not in self._runs:
            scratch = self.admin.ask("POST", self._of("/issues"), {"title": "scratch", "status": "todo"})[
                "id"
            ]
            self._scratch.add(scratch)
            policy = {"mode": "normal", "stages": [], "monitor": {"nextCheckAt": "2099-01-01T00:00:00Z"}}
            document = {"assigneeAgentId": agent, "status": "in_progress", "executionPolicy": policy}
            self.admin.ask("PATCH", f"/issues/{scratch}", document)
            self.wait_until_quiet()
            self._runs[agent] = next(run["id"] for run in self.runs() if run["agentId"] == agent)
        headers = {
            "authorization": f"Bearer {self._agent_keys[agent]}",
            "x-paperclip-run-id": self._runs[agent],
        }
        url = f"{self.server.url}/api/issues/{key}/comments"
        answer = httpx.post(url, json={"body": body}, headers=headers, trust_env=False)
        assert answer.is_success, answer.text
        return str(answer.json()["id"])

    def _note_document(self, key: str, marker: str) -> dict[str, Any] | None:
        found = self.admin.ask("GET", f"/issues/{key}/documents")
        return next((each for each in found if each["key"] == note_key(marker)), None)

    def _let_pause(self, author: str) -> None:
        """Give a person the right that Paperclip asks for whoever pauses agents."""
        members = self.admin.ask("GET", self._of("/members"))["members"]
        member = next(each for each in members if each["principalId"] == author)
        grants = {"grants": [{"permissionKey": "agents:create"}]}
        self.admin.ask("PATCH", self._of(f"/members/{member['id']}/permissions"), grants)

    def _enter(self, name: str) -> None:
        if name not in self._in:
            self.people.admit(name, self.id)
            self._in.add(name)

    def _as(self, account: str) -> Board:
        name = next(name for name, known in self.people.ids.items() if known == account)
        return self.board(name)

    def _of(self, path: str) -> str:
        return f"/companies/{self.id}{path}"
