"""The board as a person uses it: a real Chromium, a real stack."""

import hashlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.stack_process import StackProcess, running_stack

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CRITERIA = [{"id": "done", "text": "It is done."}]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[StackProcess]:
    with running_stack(tmp_path / "home") as running:
        yield running


@pytest.fixture
def page(stack: StackProcess) -> Iterator["Page"]:
    """Open the board in Chromium, signed in as the operator."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - installed with --with browser only

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        opened = browser.new_page(base_url=stack.endpoint.board_url)
        opened.goto("/")
        opened.get_by_label("Name").fill("admin")
        opened.get_by_label("Password").fill((stack.home / "board.password").read_text().strip())
        opened.get_by_role("button", name="Sign in").click()
        yield opened
        browser.close()


class Backend:
    """The API, for the operator and for an executor that is played by hand."""

    def __init__(self, stack: StackProcess) -> None:
        token = (stack.home / "admin.token").read_text().strip()
        self._admin = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=stack.endpoint.url, timeout=30, trust_env=False)
        added = {"name": "coder", "role": "developer", "skills": "not-required"}
        self._credential = self._post("/api/executors", added, self._admin)["credential"]

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def _post(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> Any:
        answer = self._http.post(path, json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json()

    def planned(self) -> dict[str, Any]:
        """Bring a task to its plan gate, with its issue on the board."""
        wanted = {
            "title": "Move the limit",
            "goal": "Into a setting.",
            "mode": "plan_first",
            "acceptance": CRITERIA,
        }
        task = self._post("/api/tasks", wanted, self._admin)
        self.until(task["id"], "dispatched")
        bearer = {"Authorization": f"Bearer {self._credential}"}
        digest = self._http.get(f"/api/tasks/{task['id']}/brief", headers=bearer).json()["digest"]
        nothing = "sha256:" + hashlib.sha256(b"").hexdigest()
        ack = {"brief_digest": digest, "skillset_digest": nothing, "runtime": {"name": "by-hand"}}
        token = self._call(task["id"], 1, "ack", ack, self._credential)["attempt_token"]
        steps = [{"id": "s1", "title": "Add the <b>setting</b>"}]
        self._call(task["id"], 2, "plan", {"summary": "A setting.", "steps": steps, "acceptance": []}, token)
        return self.until(task["id"], "plan_review")

    def _call(self, task: str, seq: int, kind: str, body: dict[str, Any], token: str) -> Any:
        document = {
            "contract": "aos.execution/1",
            "callback_id": str(uuid.uuid4()),  # noqa: TID251 - a client of its own
            "task_id": task,
            "attempt": 1,
            "seq": seq,
            "kind": kind,
            "occurred_at": "2026-01-01T00:00:00Z",
            "body": body,
        }
        return self._post("/api/executions/callback", document, {"Authorization": f"Bearer {token}"})

    def until(self, task: str, phase: str) -> dict[str, Any]:
        """Read the task until it is in the phase and on the board."""
        while True:
            found: dict[str, Any] = self._http.get(f"/api/tasks/{task}", headers=self._admin).json()
            if found["phase"] == phase and found["issue"]:
                return found


@pytest.fixture
def backend(stack: StackProcess) -> Iterator[Backend]:
    found = Backend(stack)
    yield found
    found.close()


def test_a_person_approves_a_plan_with_a_button(backend: Backend, page: "Page") -> None:
    """The operator finds the issue in the list, reads the plan, presses Approve, and the task goes on."""
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    task = backend.planned()

    page.goto("/issues")
    page.get_by_role("link", name="Move the limit").first.click()
    button = page.get_by_role("button", name="Approve")
    while not button.is_visible():
        page.reload()
    assert page.get_by_text("Add the <b>setting</b>").first.is_visible()
    button.click()

    after = backend.until(task["id"], "dispatched")
    assert (2, "approved") == (after["attempt"]["number"], after["plan"]["state"])
    assert page.get_by_text(f"/approve v1@{task['plan']['digest'][7:15]}").first.is_visible()
    assert [] == faults
