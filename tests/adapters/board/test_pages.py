"""The board's pages: signing in, forms that only our pages can send, and text that cannot act."""

import re
import secrets
from collections.abc import AsyncIterator
from html import unescape

import httpx
import pytest

from agentic_os_board.testing import OPERATOR, PASSWORD, BoardProcess

ANYBODY = "00000000-0000-7000-8000-000000000000"
ATTACKS = """<script>alert(1)</script>
<img src=x onerror=alert(2)>
[click](javascript:alert(3)) ![image](https://example.org/pixel.png "t")
<a href="javascript:alert(4)" onclick="alert(5)">here</a> <style>body{display:none}</style>
[data](data:text/html;base64,PHNjcmlwdD4=) <iframe src="https://example.org"></iframe>
<!-- a hidden word -->
"><svg/onload=alert(6)> `<b>code</b>`

[fine](https://example.org/) [click](javascript:alert(8)) **<b onclick="alert(9)">bold</b>** <!-- a hidden word -->
"""


def csrf_of(text: str) -> str:
    match = re.search(r'name="csrf" value="([^"]+)"', text)
    assert match
    return match[1]


async def sign_in(browser: httpx.AsyncClient, name: str, password: str) -> httpx.Response:
    form = {"csrf": csrf_of((await browser.get("/sign-in")).text), "name": name, "password": password}
    return await browser.post("/sign-in", data=form)


@pytest.fixture
async def browser(board: BoardProcess) -> AsyncIterator[httpx.AsyncClient]:
    """Sign a new person in, so that no test counts towards another's attempts."""
    async with board.backend() as backend:
        count = len((await backend.get("/api/accounts")).json()["items"])
    name = f"person-{count}"
    await board.add_person(name)
    async with board.client() as client:
        assert (await sign_in(client, name, PASSWORD)).status_code == 303
        yield client


async def open_issue(browser: httpx.AsyncClient, title: str, body: str = "") -> str:
    csrf = csrf_of((await browser.get("/issues/new")).text)
    answer = await browser.post("/issues", data={"csrf": csrf, "title": title, "body": body})
    assert answer.status_code == 303
    return answer.headers["location"]


async def test_pages_ask_to_sign_in_first(board: BoardProcess) -> None:
    """Nobody may read anything without an account, and is led back to where they wanted to go."""
    async with board.client() as nobody:
        for path in ("/issues", "/issues/1", "/agents", "/issues/new", "/people", "/me", "/organisation"):
            answer = await nobody.get(path)
            assert (answer.status_code, answer.headers["location"]) == (303, f"/sign-in?next={path}")


async def test_a_wrong_password_opens_no_session(board: BoardProcess) -> None:
    """Known and unknown names must be refused alike."""
    await board.add_person("typo")
    async with board.client() as browser:
        for name in ("typo", "nobody-of-this-name", "agentic-os"):
            answer = await sign_in(browser, name, "not the password")
            assert answer.status_code == 401
            assert "do not belong together" in answer.text
        assert (await browser.get("/issues")).status_code == 303


async def test_guessing_is_slowed_down(board: BoardProcess) -> None:
    """The sixth attempt in a minute must be refused, even with the right password."""
    await board.add_person("guessed")
    async with board.client() as browser:
        codes = [(await sign_in(browser, "guessed", f"guess {number}")).status_code for number in range(11)]
        assert set(codes[:5]) == {401}
        assert 429 in codes


async def test_a_session_s_cookie_is_out_of_reach(board: BoardProcess) -> None:
    """The cookie must be hidden from scripts and other sites, and the session end on the server."""
    await board.add_person("leaving")
    async with board.client() as browser:
        answer = await sign_in(browser, "leaving", PASSWORD)
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        stolen = dict(browser.cookies)
        csrf = csrf_of((await browser.get("/issues")).text)
        assert (await browser.post("/sign-out", data={"csrf": csrf})).status_code == 303
    async with board.client() as thief:
        thief.cookies.update(stolen)
        assert (await thief.get("/issues")).status_code == 303


async def test_after_signing_in_nobody_is_sent_elsewhere(board: BoardProcess) -> None:
    """The way back must be a page of ours, whatever a link said."""
    await board.add_person("traveller")
    async with board.client() as browser:
        form = {"name": "traveller", "password": PASSWORD}
        for after, wanted in (
            ("//example.org", "/issues"),
            ("/issues/7", "/issues/7"),
            ("/\\x.org", "/issues"),
        ):
            csrf = csrf_of((await browser.get("/sign-in", params={"next": after})).text)
            answer = await browser.post("/sign-in", data=form | {"csrf": csrf, "next": after})
            assert wanted == answer.headers["location"]


async def test_a_form_of_another_page_is_refused(browser: httpx.AsyncClient) -> None:
    """Without the session's form token nothing may change, for every form that there is."""
    path = await open_issue(browser, "Count the beans")
    for form, data in {
        "/issues": {"title": "Forged"},
        f"{path}/comments": {"body": "/approve"},
        f"{path}/close": {"closed": "completed"},
        f"{path}/delete": {},
        f"{path}/edit": {"title": "Forged", "body_shown": ""},
        f"{path}/reviews/sha256:00": {"verb": "approve"},
        f"{path}/reviews/sha256:00/edit": {"text": "Forged"},
        "/sign-out": {},
        "/people": {"name": "forged", "password": PASSWORD, "role": "admin"},
        f"/people/{ANYBODY}/role": {"role": "admin"},
        f"/people/{ANYBODY}/active": {"active": "no"},
        f"/people/{ANYBODY}/password": {"password": PASSWORD},
        f"/organisation/{ANYBODY}": {"duty": "Forged"},
        "/me/password": {"current": PASSWORD, "password": "another password"},
        "/me/sign-out-everywhere": {},
    }.items():
        for csrf in ("", "guessed"):
            answer = await browser.post(form, data=data | {"csrf": csrf})
            assert answer.status_code in {403, 422}, form
    assert "Forged" not in (await browser.get("/issues")).text


async def test_another_site_cannot_act(browser: httpx.AsyncClient) -> None:
    """A request that a page of another origin sends must be refused, with or without the form token."""
    path = await open_issue(browser, "Count the beans")
    csrf = csrf_of((await browser.get(path)).text)
    for origin in ("https://example.org", "null", "http://127.0.0.1:1", "http://localhost"):
        answer = await browser.post(
            f"{path}/comments", data={"csrf": csrf, "body": "Hi"}, headers={"origin": origin}
        )
        assert answer.status_code == 403
    own = {"origin": str(browser.base_url).rstrip("/")}
    answer = await browser.post(f"{path}/comments", data={"csrf": csrf, "body": "Hi"}, headers=own)
    assert answer.status_code == 303


async def test_another_name_is_not_ours(board: BoardProcess) -> None:
    """A name that somebody else's DNS points at us must reach nothing."""
    async with board.client() as browser:
        for host in ("example.org", "127.0.0.1", f"127.0.0.1.example.org:{browser.base_url.port}"):
            assert (await browser.get("/sign-in", headers={"host": host})).status_code == 421
        own = f"localhost:{browser.base_url.port}"
        assert (await browser.get("/sign-in", headers={"host": own})).status_code == 200


@pytest.mark.parametrize("path", ["/sign-in", "/nowhere", "/static/board.css", "/api/me"])
async def test_no_answer_lets_a_script_in(board: BoardProcess, path: str) -> None:
    """No answer, refusals included, may let a script run but the board's own file, or another site frame it."""
    async with board.client() as browser:
        headers = (await browser.get(path)).headers
    policy = dict(part.split(maxsplit=1) for part in headers["content-security-policy"].split("; "))
    assert {"'none'"} == {policy["default-src"], policy["base-uri"], policy["frame-ancestors"]}
    assert {"'self'"} == {policy["script-src"], policy["connect-src"], policy["style-src"]}
    assert headers["x-content-type-options"] == "nosniff"


async def test_what_people_write_cannot_act(browser: httpx.AsyncClient, board: BoardProcess) -> None:
    """Text must stay text wherever it is shown: body, comment, title, note, plan and labels."""
    path = await open_issue(browser, "<script>alert(7)</script>", ATTACKS)
    csrf = csrf_of((await browser.get(path)).text)
    await browser.post(f"{path}/comments", data={"csrf": csrf, "body": ATTACKS})
    async with board.backend() as backend:
        await backend.put(f"/api{path}/notes", json={"marker": "status", "body": ATTACKS})
        review = {
            "subject": "plan",
            "version": 1,
            "document": ATTACKS,
            "directives": {"approve": ATTACKS[:25]},
        }
        assert (await backend.put(f"/api{path}/reviews/sha256:00", json=review)).status_code == 204
        await backend.patch(f"/api{path}", json={"labels": ["<b>x</b>"], "state": "<i>x</i>"})
    for shown in (await browser.get(path), await browser.get("/issues"), await browser.get(f"{path}/edit")):
        assert shown.status_code == 200
        tags = re.findall(r"<(script|style|iframe|svg|b|i)[\s>/]", shown.text)
        assert tags == ["script"]
        assert shown.text.count('<script src="/static/board.js" defer></script>') == 1
        assert not re.search(r"<[^>]*\son\w+\s*=", shown.text)
        assert not re.search(r"<img(?! src=\"/static/)", shown.text)
        assert not re.search(r"<[^>]*\shref=\"(?!https?:|/|#)", shown.text)
    page = (await browser.get(path)).text
    assert "a hidden word" not in page
    assert '<a href="https://example.org/" rel="noopener nofollow">fine</a>' in page
    assert "&lt;script&gt;alert(1)" in page


async def test_the_brief_s_data_is_folded(browser: httpx.AsyncClient) -> None:
    """Canonical JSON is for programs: it must be there, closed; other code must stay as it is."""
    brief = '```json\n{"a":1}\n```\n'
    body = f"{brief}\n<!-- agentic-os:brief v1 task=t -->\n{brief}\n<!-- agentic-os:end -->\n\n{brief}"
    page = (await browser.get(await open_issue(browser, "Count", body))).text
    assert page.count("<summary>Brief as data</summary>") == 1
    assert page.count("{&quot;a&quot;:1}") + page.count('{"a":1}') == 3


async def test_a_button_posts_the_line_of_exactly_this_document(
    browser: httpx.AsyncClient, board: BoardProcess
) -> None:
    """A decision must be the person's own comment with the review's line, and fail when the gate is gone."""
    path, digest = await open_issue(browser, "Count the beans"), "sha256:" + "9f" * 32
    lines = {"approve": "/approve v2@9f9f9f9f", "revise": "/revise v2@9f9f9f9f"}
    review = {"subject": "plan", "version": 2, "document": "# Plan", "directives": lines}
    async with board.backend() as backend:
        await backend.put(f"/api{path}/reviews/{digest}", json=review)
        form = {"csrf": csrf_of((await browser.get(path)).text)}
        gate = f"{path}/reviews/{digest}"
        assert (await browser.post(gate, data=form | {"verb": "revise", "text": " "})).status_code == 422
        assert (await browser.post(gate, data=form | {"verb": "reject"})).status_code == 422
        forged = {"verb": "revise", "text": "- weigh them\r\n/approve v2@9f9f9f9f"}
        assert (await browser.post(gate, data=form | forged)).status_code == 422
        text = {"verb": "revise", "text": "weigh them\r\n\r\n twice "}
        assert (await browser.post(gate, data=form | text)).status_code == 303
        assert (await browser.post(gate, data=form | {"verb": "approve"})).status_code == 303
        await backend.post(f"/api{path}/reviews/{digest}/close", json={"outcome": "withdrawn"})
        assert (await browser.post(gate, data=form | {"verb": "approve"})).status_code == 409
        comments = (await backend.get(f"/api{path}/comments")).json()["items"]
    assert ["/revise v2@9f9f9f9f\n\n- weigh them\n- twice", "/approve v2@9f9f9f9f"] == [
        comment["body"] for comment in comments
    ]


async def test_a_plan_is_edited_without_scripts(browser: httpx.AsyncClient, board: BoardProcess) -> None:
    """The form holds the whole text; what comes back is told to the backend word for word, and what is moot is not."""
    path, digest = await open_issue(browser, "Count the beans"), "sha256:" + "8e" * 32
    text = "AOS:PLAN v1 task=t attempt=1\n\n## Summary\nCount <b> & </textarea> weigh.\n\nAOS:END\n"
    review = {"subject": "plan", "version": 1, "document": "# Plan", "directives": {"approve": "/approve v1"}}
    async with board.backend() as backend:
        await backend.put(f"/api{path}/reviews/{digest}", json=review | {"editable": text})
        page = (await browser.get(path)).text
        found = re.search(r'<textarea id="plan-1"[^>]*>(.*?)</textarea>', page, re.DOTALL)
        assert found is not None
        assert text == unescape(found[1])
        form, edit = {"csrf": csrf_of(page)}, f"{path}/reviews/{digest}/edit"
        same = form | {"text": text.replace("\n", "\r\n")}
        assert (await browser.post(edit, data=same)).status_code == 422
        mine = form | {"text": text.replace("Count", "Weigh").replace("\n", "\r\n")}
        assert (await browser.post(edit, data=mine)).status_code == 303
        assert "edited plan version 1" in (await browser.get(path)).text
        feed = (await backend.get("/api/feed", params={"limit": 500})).json()["items"]
        (seen,) = [
            item
            for item in feed
            if item["kind"] == "plan.edited" and item["issue"] == path.rpartition("/")[2]
        ]
        assert (digest, text.replace("Count", "Weigh")) == (seen["data"]["digest"], seen["data"]["text"])
        assert not seen["own"]

        await backend.post(f"/api{path}/reviews/{digest}/close", json={"outcome": "withdrawn"})
        assert (await browser.post(edit, data=mine)).status_code == 409
        plain = "sha256:" + "8f" * 32
        await backend.put(f"/api{path}/reviews/{plain}", json=review)
        page = (await browser.get(path)).text
        assert "Edit the plan" not in page
        assert (await browser.post(f"{path}/reviews/{plain}/edit", data=mine)).status_code == 422


async def test_a_plan_edited_back_is_a_later_version(browser: httpx.AsyncClient, board: BoardProcess) -> None:
    """The third version may have the digest of the first: its card names the third."""
    path = await open_issue(browser, "Count the beans")
    async with board.backend() as backend:
        for version, digest in (
            (1, "sha256:" + "71" * 32),
            (2, "sha256:" + "72" * 32),
            (3, "sha256:" + "71" * 32),
        ):
            review = {
                "subject": "plan",
                "version": version,
                "document": f"# Plan {digest}",
                "directives": {"approve": f"/approve v{version}"},
            }
            await backend.put(f"/api{path}/reviews/{digest}", json=review)
            if version < 3:
                await backend.post(f"/api{path}/reviews/{digest}/close", json={"outcome": "withdrawn"})
    page = (await browser.get(path)).text
    assert "Decision needed: plan version 3" in page
    assert "/approve v3" in page


async def test_a_viewer_is_not_offered_to_edit_a_plan(
    board: BoardProcess, browser: httpx.AsyncClient
) -> None:
    """Who may only read sees no form, and what they post is refused."""
    path, digest = await open_issue(browser, "Count the beans"), "sha256:" + "8d" * 32
    review = {"subject": "plan", "version": 1, "document": "# Plan", "directives": {}, "editable": "AOS:PLAN"}
    async with board.backend() as backend, await board.operator() as admin, board.client() as reader:
        await backend.put(f"/api{path}/reviews/{digest}", json=review)
        added = await admin.post(
            "/api/accounts", json={"name": "onlooker", "password": PASSWORD, "role": "viewer"}
        )
        assert added.is_success, added.text
        csrf = csrf_of((await reader.get("/sign-in")).text)
        await reader.post("/sign-in", data={"name": "onlooker", "password": PASSWORD, "csrf": csrf})
        page = (await reader.get(path)).text
        assert "Decision needed" in page
        assert "Edit the plan" not in page
        form = {"csrf": csrf_of(page), "text": "AOS:PLAN changed"}
        assert (await reader.post(f"{path}/reviews/{digest}/edit", data=form)).status_code == 403


async def test_comments_are_edited_and_deleted_by_their_author(
    browser: httpx.AsyncClient, board: BoardProcess
) -> None:
    """A person must be able to mend and take back their own words, and only those."""
    path = await open_issue(browser, "Count the beans")
    csrf = csrf_of((await browser.get(path)).text)
    added = await browser.post(f"{path}/comments", data={"csrf": csrf, "body": "Helo"})
    comment = f"/comments/{added.headers['location'].rpartition('-')[2]}"
    async with board.client() as other:
        await sign_in(other, OPERATOR, PASSWORD)
        assert (await other.get(f"{comment}/edit")).status_code == 403
        theirs = {"csrf": csrf_of((await other.get(path)).text), "body": "/approve"}
        assert (await other.post(f"{comment}/edit", data=theirs)).status_code == 403
        assert (await other.post(f"{comment}/delete", data={"csrf": theirs["csrf"]})).status_code == 403
    assert "Helo" in (await browser.get(f"{comment}/edit")).text
    await browser.post(f"{comment}/edit", data={"csrf": csrf, "body": "Hello"})
    assert "Hello" in (await browser.get(path)).text
    await browser.post(f"{comment}/delete", data={"csrf": csrf})
    assert "deleted by its author" in (await browser.get(path)).text


async def test_an_edited_title_puts_no_old_text_back(browser: httpx.AsyncClient, board: BoardProcess) -> None:
    """A brief that the backend wrote while somebody edited the title must stay."""
    path = await open_issue(browser, "Count", "old\ntext\n")
    text = (await browser.get(f"{path}/edit")).text
    shown = re.search(r'name="body_shown" value="([^"]+)"', text)
    assert shown
    async with board.backend() as backend:
        await backend.patch(f"/api{path}", json={"body": "new brief"})
        form = {"csrf": csrf_of(text), "title": "Count!", "body": "old\r\ntext\r\n", "body_shown": shown[1]}
        assert (await browser.post(f"{path}/edit", data=form)).status_code == 303
        issue = (await backend.get(f"/api{path}")).json()
    assert (issue["title"], issue["body"]) == ("Count!", "new brief")


async def test_issues_are_found(browser: httpx.AsyncClient) -> None:
    """Each word must begin a word of the issue; signs separate words, and filters are combined."""
    await open_issue(browser, "Sale of 100% wool_socks")
    await open_issue(browser, "Something else")
    for q, found in (
        ("100%", True),
        ("wool_s", True),
        ("WOOL", True),
        ("socks sale", True),
        ("ocks", False),
        ("socks else", False),
        ("\\", False),
        ("' | '", False),
    ):
        page = (await browser.get("/issues", params={"q": q})).text
        assert found is ("wool_socks</a>" in page), q
    page = (await browser.get("/issues", params={"q": "wool", "show": "closed"})).text
    assert "No issue matches these filters" in page


async def test_issues_are_filtered_ordered_and_counted(
    browser: httpx.AsyncClient, board: BoardProcess
) -> None:
    """Every filter must narrow the list and its counts, and orders be as they say."""
    account = await board.add_person(f"assignee-{secrets.token_hex(4)}")
    async with board.backend() as backend:
        for number, (priority, state) in enumerate(
            (("low", "ready"), ("critical", "ready"), ("high", "executing"))
        ):
            draft = {
                "title": f"Shelf {number}",
                "body": "",
                "project": "cellar",
                "state": state,
                "labels": ["beans", f"shelf-{number}"],
                "priority": priority,
            }
            key = (await backend.put(f"/api/tasks/cellar-{number}/issue", json=draft)).json()["key"]
            if number == 2:
                await backend.patch(f"/api/issues/{key}", json={"closed": "completed"})
            if number == 1:
                assigned = {"account": account, "task_id": "cellar-1", "attempt": 1}
                assert (await backend.put(f"/api/issues/{key}/assignment", json=assigned)).is_success

    async def titles(**wanted: str) -> list[str]:
        page = (await browser.get("/issues", params={"project": "cellar", **wanted})).text
        return re.findall(r">(Shelf \d)</a>", page)

    assert await titles(sort="oldest") == ["Shelf 0", "Shelf 1"]
    assert await titles(sort="newest") == ["Shelf 1", "Shelf 0"]
    assert await titles(show="all", sort="priority") == ["Shelf 1", "Shelf 2", "Shelf 0"]
    assert await titles(show="closed") == ["Shelf 2"]
    assert await titles(label="shelf-0") == ["Shelf 0"]
    assert await titles(priority="critical") == ["Shelf 1"]
    assert await titles(assignee=account) == ["Shelf 1"]
    assert await titles(assignee="nobody") == ["Shelf 0"]
    assert await titles(state="executing") == []
    assert await titles(label="nothing'; --") == []
    page = (await browser.get("/issues", params={"project": "cellar", "show": "closed"})).text
    assert re.findall(r'class="count[^"]*">(\d+)<', page) == ["2", "0", "1", "3"]
    assert "ends before this page" in (await browser.get("/issues?project=cellar&page=9")).text


async def test_an_issue_shows_its_family(browser: httpx.AsyncClient, board: BoardProcess) -> None:
    """Parent and children must link to each other, a circle be refused, and a deleted parent leave children."""
    draft = {"title": "Harvest", "body": "", "project": "", "state": "ready", "priority": "high"}
    async with board.backend() as backend, await board.operator() as admin:
        parent = (await backend.put("/api/tasks/family-0/issue", json=draft)).json()["key"]
        draft |= {"title": "Pick the peas", "parent": int(parent)}
        child = (await backend.put("/api/tasks/family-1/issue", json=draft)).json()["key"]
        assert "Pick the peas" in (await browser.get(f"/issues/{parent}")).text
        page = (await browser.get(f"/issues/{child}")).text
        assert f'<a href="/issues/{parent}">#{parent} Harvest</a>' in page
        assert "high" in page
        assert (await backend.patch(f"/api/issues/{parent}", json={"parent": int(child)})).status_code == 422
        assert (await backend.patch(f"/api/issues/{parent}", json={"parent": int(parent)})).status_code == 422
        assert (await backend.patch(f"/api/issues/{parent}", json={"parent": 10**9})).status_code == 422
        await admin.delete(f"/api/issues/{parent}")
        assert (await backend.get(f"/api/issues/{child}")).json()["parent"] is None


async def test_a_new_version_shows_what_it_changed(browser: httpx.AsyncClient, board: BoardProcess) -> None:
    """The card of version 2 must say in words what went and what came, and lead to version 1."""
    path = await open_issue(browser, "Count the beans")
    first, second = "sha256:" + "11" * 32, "sha256:" + "22" * 32
    async with board.backend() as backend:
        for digest, version, step in ((first, 1, "Count by hand"), (second, 2, "Count by <scale>")):
            review = {
                "subject": "plan",
                "version": version,
                "document": f"Count.\n\n**Steps**\n\n1. `a` {step}\n",
                "directives": {"approve": f"/approve v{version}"},
            }
            await backend.put(f"/api{path}/reviews/{digest}", json=review)
            if version == 1:
                await backend.post(f"/api{path}/reviews/{digest}/close", json={"outcome": "revised"})
    page = (await browser.get(path)).text
    assert "1 line added, 1 removed" in page
    assert re.search(r"Removed</span> <del>a Count by <mark>hand</mark></del>", page)
    assert "<mark>&lt;scale&gt;</mark></ins>" in page
    earlier = (await browser.get(f"{path}/reviews/{first}")).text
    assert "Count by hand" in earlier
    assert "revised" in earlier
    assert (await browser.get(f"{path}/reviews/sha256:33")).status_code == 404
