"""The board as a person uses it: a real Chromium, a real stack."""

import hashlib
import itertools
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tests.stack_process import StackProcess, running_stack

from agentic_os.hydration import DEFAULT_PROJECT, hydrate, load_definition, resolve

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

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
CONTRAST = """() => {
  // The contrast of each text with what is behind it, as WCAG 2 measures it; 4.5 is asked, 3 for large text.
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = numbers(getComputedStyle(each).backgroundColor);
      if (colour.length === 3 || colour[3] > 0.99) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement, style = getComputedStyle(element);
    if (!texts.currentNode.data.trim() || !element.checkVisibility() || element.closest(":disabled, option")) continue;
    const [a, b] = [light(numbers(style.color)), light(behind(element))].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.7 && Number(style.fontWeight) >= 700);
    if ((a + 0.05) / (b + 0.05) < (large ? 3 : 4.5)) faint.push(texts.currentNode.data.trim().slice(0, 40));
  }
  return faint;
}"""
CRITERIA = [{"id": "done", "text": "It is done."}]


POLICY = """rules:
  - id: plans-first
    on: task.received
    require: {mode: plan_first}
    reason: Somebody reads the plan first.
"""
AGENT = Path(__file__).parent / "executors" / "reviewed.py"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[StackProcess]:
    governance = tmp_path / "governance"
    governance.mkdir()
    (governance / "policy.yaml").write_text(POLICY)
    with running_stack(tmp_path / "home", "--governance", governance) as running:
        yield running


@pytest.fixture
def browser() -> Iterator["Browser"]:
    """Run a Chromium."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - installed with --with browser only

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield running
        running.close()


def signed_in(browser: "Browser", stack: StackProcess, **options: Any) -> "Page":
    """Open the board in a browser of its own, signed in as the operator."""
    opened = browser.new_page(base_url=stack.endpoint.board_url, **options)
    opened.set_default_timeout(60_000)
    opened.goto("/")
    opened.get_by_label("Name").fill("admin")
    opened.get_by_label("Password").fill((stack.home / "board.password").read_text().strip())
    opened.get_by_role("button", name="Sign in").click()
    return opened


@pytest.fixture
def page(browser: "Browser", stack: StackProcess) -> "Page":
    return signed_in(browser, stack)


@pytest.fixture
def faults(page: "Page") -> Iterator[list[str]]:
    """Collect what goes wrong in the page, which must be nothing."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
    yield found
    assert [] == found


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

    def direct(self, task: str, text: str) -> None:
        """Give a directive as the operator, past the board."""
        self._post(f"/api/tasks/{task}/directives", {"text": text}, self._admin)

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


def add_agent(stack: StackProcess, workspace: Path) -> None:
    """Register an executor, and on the board the agent that is woken for it."""
    token = (stack.home / "admin.token").read_text().strip()
    password = (stack.home / "board.password").read_text().strip()
    workspace.mkdir()
    skills = resolve(load_definition(None), DEFAULT_PROJECT)
    hydrate(workspace, skills, mode="link", prune=True, dry_run=False)
    with (
        httpx.Client(base_url=stack.endpoint.url, trust_env=False) as api,
        httpx.Client(base_url=stack.endpoint.board_url or "", trust_env=False) as board,
    ):
        api.headers["Authorization"] = f"Bearer {token}"
        made = api.post("/api/executors", json={"name": "counter", "role": "developer"}).raise_for_status()
        credential = workspace.with_suffix(".credential")
        credential.write_text(made.json()["credential"])
        credential.chmod(0o600)
        signed = board.post("/api/sign-in", json={"name": "admin", "password": password}).raise_for_status()
        board.headers["Authorization"] = f"Bearer {signed.json()['token']}"
        wake = {
            "kind": "command",
            "command": [sys.executable, str(AGENT)],
            "workspace": str(workspace),
            "environment": {"AGENTIC_OS_URL": stack.endpoint.url},
            "secret_files": {"AGENTIC_OS_CREDENTIAL_FILE": str(credential)},
        }
        agent = board.post("/api/agents", json={"name": "counter", "wake": wake}).raise_for_status().json()
        account = {"control_plane": "board", "account": agent["id"]}
        api.put("/api/principals/counter/accounts", json=account).raise_for_status()


@pytest.mark.timeout(300)
def test_an_issue_becomes_work_that_is_revised_approved_and_done(
    stack: StackProcess, page: "Page", faults: list[str], tmp_path: Path
) -> None:
    """From the operator's issue to the result, without one reload: plan, two wishes, the difference, approval."""
    add_agent(stack, tmp_path / "workspace")
    page.goto("/issues/new")
    page.get_by_label("Title").fill("Count the beans")
    page.get_by_label("What is to be done").fill("All of them.")
    page.get_by_label("Labels").fill("agentic-os")
    page.get_by_role("button", name="Open issue").click()

    page.get_by_role("heading", name="Decision needed: plan version 1").wait_for()
    assert page.get_by_text("Count the <b>beans</b>").first.is_visible()

    # What is being typed stays, and stays focused, whatever comes in meanwhile.
    comment = page.get_by_label("Comment", exact=True)
    comment.fill("half a sentence")
    page.locator("summary", has_text="Ask for changes").click()
    wishes = page.get_by_label("What should change")
    wishes.fill("Count them twice\nWrite down who counted")
    assert "half a sentence" == comment.input_value()
    comment.fill("")
    page.get_by_role("button", name="Send").click()

    page.get_by_role("heading", name="Decision needed: plan version 2").wait_for()
    difference = page.get_by_role("region", name="What changed since version 1")
    assert difference.get_by_text("Added").first.is_visible()
    for wish in ("Count them twice", "Write down who counted"):
        assert difference.get_by_text(f"Also: {wish}").is_visible()
    assert page.get_by_text("How each review item was answered").first.is_visible()
    with page.expect_navigation():
        page.get_by_role("button", name="Approve").click()
    page.evaluate("window.loadedOnce = true")

    page.get_by_text("Closed: completed").wait_for()
    page.get_by_text("There are 41 beans.").first.wait_for()  # the note at the end comes after the closing
    page.get_by_role("link", name="report.md").wait_for()
    assert page.evaluate("window.loadedOnce"), "the page was loaded again"

    page.get_by_role("link", name="Attempt 1: log").click()
    assert page.get_by_text("woken for attempt 1").is_visible()


def test_a_plan_that_a_person_edits_is_the_next_version_and_the_one_that_is_done(
    stack: StackProcess, page: "Page", faults: list[str], tmp_path: Path
) -> None:
    """Edited on its card, shown anew with its author and difference, approved, and executed; nonsense is answered."""
    add_agent(stack, tmp_path / "workspace")
    page.goto("/issues/new")
    page.get_by_label("Title").fill("Count the beans")
    page.get_by_label("What is to be done").fill("All of them.")
    page.get_by_label("Labels").fill("agentic-os")
    page.get_by_role("button", name="Open issue").click()

    page.get_by_role("heading", name="Decision needed: plan version 1").wait_for()
    page.locator("summary", has_text="Edit the plan").click()
    text = page.get_by_label("The plan as text")
    written = text.input_value()
    text.fill("nonsense")
    with page.expect_navigation():
        page.get_by_role("button", name="Send the edited plan").click()
    page.get_by_text("was refused").first.wait_for()

    page.locator("summary", has_text="Edit the plan").click()
    page.get_by_label("The plan as text").fill(
        written.replace("Count the <b>beans</b>", "Count them by hand")
    )
    with page.expect_navigation():
        page.get_by_role("button", name="Send the edited plan").click()
    page.get_by_role("heading", name="Decision needed: plan version 2").wait_for()
    page.get_by_text("edited by admin").first.wait_for()
    difference = page.get_by_role("region", name="What changed since version 1")
    assert difference.get_by_text("Count them by hand").is_visible()
    with page.expect_navigation():
        page.get_by_role("button", name="Approve").click()
    page.get_by_text("Closed: completed").wait_for()


def test_a_list_and_an_issue_follow_what_happens(backend: Backend, page: "Page", faults: list[str]) -> None:
    """A new issue must come into an open list; a comment being written must survive what comes in."""
    page.goto("/issues")
    page.get_by_role("link", name="Open one").wait_for()
    task = backend.planned()
    page.get_by_role("link", name="Move the limit").click()
    page.get_by_role("heading", name="Decision needed").wait_for()
    comment = page.get_by_label("Comment", exact=True)
    comment.focus()
    page.keyboard.type("I think that")
    before = page.locator(".timeline article").count()
    backend.direct(task["id"], "/cancel nobody needs it")
    page.get_by_text("Closed: not planned").wait_for()
    assert "I think that" == comment.input_value()
    assert comment.evaluate("field => field === document.activeElement")
    page.get_by_text("The task is cancelled.").first.wait_for()
    assert before < page.locator(".timeline article").count()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_scrolls_sideways_on_a_phone(
    backend: Backend, page: "Page", faults: list[str], scheme: Any
) -> None:
    """At 390 pixels every page must fit, name all its fields, and have headings in order."""
    task = backend.planned()
    number = task["issue"]["key"]
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 390, "height": 844})
    paths = ("/issues", "/issues/new", "/agents", "/organisation", "/people", "/me")
    for path in (*paths, f"/issues/{number}", f"/issues/{number}/edit"):
        page.goto(path)
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert 0 == page.evaluate(wide), path
        nameless = page.evaluate(
            "[...document.querySelectorAll('input:not([type=hidden]), textarea, select')]"
            ".filter(field => !field.labels.length).map(field => field.name)"
        )
        assert [] == nameless, path
        levels = page.evaluate(
            "[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].filter(each => !each.closest('.prose'))"
            ".map(each => Number(each.tagName[1]))"
        )
        assert 1 == levels[0], path
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), path
        assert [] == page.evaluate(CONTRAST), (path, scheme)


def test_everything_can_be_reached_by_keyboard(page: "Page", faults: list[str]) -> None:
    """The first stop must skip to the content, a slash go to the search, and Tab leave every field again."""
    page.goto("/issues")
    page.keyboard.press("Tab")
    assert "Skip to content" == page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    assert "content" == page.evaluate("document.activeElement.id")
    page.keyboard.press("/")
    assert "q" == page.evaluate("document.activeElement.id")
    page.keyboard.type("beans/peas")
    assert "beans/peas" == page.get_by_label("Search").input_value()
    page.goto("/issues/new")
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        focused = (
            "document.activeElement === document.body ? '' : document.activeElement.outerHTML.slice(0, 200)"
        )
        seen.add(page.evaluate(focused))
        outlined = "getComputedStyle(document.activeElement).outlineStyle !== 'none'"
        assert page.evaluate(outlined) or page.evaluate("document.activeElement === document.body")
    assert any("Sign out" in each for each in seen) or any("plain" in each for each in seen)
    assert any('id="labels"' in each for each in seen)


def test_without_scripts_everything_reads_and_every_form_works(
    backend: Backend, stack: StackProcess, browser: "Browser"
) -> None:
    """A person whose browser runs no scripts must find the issue, read the plan, ask for changes and see it posted."""
    backend.planned()
    page = signed_in(browser, stack, java_script_enabled=False)
    page.get_by_label("Search").fill("limit")
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("link", name="Move the limit").click()
    while not page.get_by_role("heading", name="Decision needed").is_visible():
        page.reload()
    assert page.get_by_text("Add the <b>setting</b>").first.is_visible()
    page.locator("summary", has_text="Ask for changes").click()
    page.get_by_label("What should change").fill("Name the setting")
    page.get_by_role("button", name="Send").click()
    assert page.get_by_role("listitem").get_by_text("Name the setting").first.is_visible()


def test_a_person_approves_a_plan_with_a_button(backend: Backend, page: "Page", faults: list[str]) -> None:
    """The operator finds the issue in the list, reads the plan, presses Approve, and the task goes on."""
    task = backend.planned()

    page.goto("/issues")
    page.get_by_role("link", name="Move the limit").first.click()
    button = page.get_by_role("button", name="Approve")
    button.wait_for()
    assert page.get_by_text("Add the <b>setting</b>").first.is_visible()
    button.click()

    after = backend.until(task["id"], "dispatched")
    assert (2, "approved") == (after["attempt"]["number"], after["plan"]["state"])
    assert page.get_by_text(f"/approve v1@{task['plan']['digest'][7:15]}").first.is_visible()
