"""Who may come in, in which role, and how sessions end; and the chart of who reports to whom."""

import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tests.adapters.board.test_pages import csrf_of, open_issue, sign_in

from agentic_os_board.testing import OPERATOR, PASSWORD, BoardProcess


@pytest.fixture
async def admin(board: BoardProcess) -> AsyncIterator[httpx.AsyncClient]:
    """Sign an administrator of this test alone in."""
    name = f"admin-{secrets.token_hex(4)}"
    await board.add_person(name, admin=True)
    async with board.client() as client:
        await sign_in(client, name, PASSWORD)
        yield client


async def send(browser: httpx.AsyncClient, path: str, **fields: str) -> httpx.Response:
    csrf = csrf_of((await browser.get("/me")).text)
    return await browser.post(path, data={"csrf": csrf, **fields})


async def add(admin: httpx.AsyncClient, board: BoardProcess, role: str) -> tuple[str, str]:
    """Add a person through the page; return their name and account."""
    name = f"{role}-{secrets.token_hex(4)}"
    assert (await send(admin, "/people", name=name, password=PASSWORD, role=role)).status_code == 303
    async with board.backend() as backend:
        found = (await backend.get("/api/accounts/lookup", params={"name": name})).json()
    assert (role, True) == (found["role"], found["active"])
    return name, found["id"]


async def test_a_viewer_reads_and_no_more(board: BoardProcess, admin: httpx.AsyncClient) -> None:
    """A viewer must find every page, no working button, the reason why, and a refusal by every other door."""
    name, _ = await add(admin, board, "viewer")
    path = await open_issue(admin, "Count the beans")
    review = {"subject": "plan", "version": 1, "document": "# Plan", "directives": {"approve": "/approve v1"}}
    async with board.backend() as backend:
        await backend.put(f"/api{path}/reviews/sha256:00", json=review)
    async with board.client() as viewer:
        await sign_in(viewer, name, PASSWORD)
        page = (await viewer.get(path)).text
        assert re.search(r"<button[^>]*disabled[^>]*>Approve</button>", page)
        assert "your role is viewer" in page
        assert "New issue" not in (await viewer.get("/issues")).text
        for form, fields in {
            "/issues": {"title": "Mine"},
            f"{path}/comments": {"body": "Hello"},
            f"{path}/edit": {"title": "Mine", "body_shown": "x"},
            f"{path}/close": {"closed": "completed"},
            f"{path}/reviews/sha256:00": {"verb": "approve"},
            "/people": {"name": "friend", "password": PASSWORD, "role": "admin"},
        }.items():
            assert (await send(viewer, form, **fields)).status_code == 403, form
    async with await board.acting(name) as tool:
        assert (await tool.post(f"/api{path}/comments", json={"body": "/approve v1"})).status_code == 403
        assert (await tool.patch(f"/api{path}", json={"title": "Mine"})).status_code == 403
        assert (await tool.post("/api/issues", json={"title": "Mine"})).status_code == 403


async def test_only_an_administrator_looks_after_accounts(
    board: BoardProcess, admin: httpx.AsyncClient
) -> None:
    """A member must be refused whatever the page does not show them."""
    name, account = await add(admin, board, "member")
    async with board.client() as member:
        await sign_in(member, name, PASSWORD)
        assert "Add a person" not in (await member.get("/people")).text
        for form, fields in {
            "/people": {"name": "friend", "password": PASSWORD, "role": "admin"},
            f"/people/{account}/role": {"role": "admin"},
            f"/people/{account}/active": {"active": "no"},
            f"/people/{account}/password": {"password": "mine from now on"},
            f"/organisation/{account}": {"duty": "Everything"},
        }.items():
            assert (await send(member, form, **fields)).status_code == 403, form


async def test_a_deactivated_person_is_out_at_once(board: BoardProcess, admin: httpx.AsyncClient) -> None:
    """Session, token and password must stop working together, and the person may come back."""
    name, account = await add(admin, board, "member")
    async with board.client() as person, await board.acting(name) as tool:
        await sign_in(person, name, PASSWORD)
        assert (await send(admin, f"/people/{account}/active", active="no")).status_code == 303
        assert (await person.get("/issues")).status_code == 303
        assert (await tool.get("/api/me")).status_code == 401
        assert (await sign_in(person, name, PASSWORD)).status_code == 401
        assert (await send(admin, f"/people/{account}/active", active="yes")).status_code == 303
        assert (await sign_in(person, name, PASSWORD)).status_code == 303
        assert (await tool.get("/api/me")).status_code == 401


async def test_somebody_stays_administrator(new_board: object, board: BoardProcess) -> None:
    """The last administrator must not be able to dismiss themselves."""
    assert callable(new_board)
    alone: BoardProcess = new_board()
    async with alone.client() as operator:
        await sign_in(operator, OPERATOR, PASSWORD)
        account = re.search(r"/people/([0-9a-f-]{36})/role", (await operator.get("/people")).text)
        assert account
        assert (await send(operator, f"/people/{account[1]}/role", role="member")).status_code == 409
        assert (await send(operator, f"/people/{account[1]}/active", active="no")).status_code == 409
        assert (await operator.get("/people")).status_code == 200


async def test_a_taken_name_is_said_on_the_form(board: BoardProcess, admin: httpx.AsyncClient) -> None:
    """The page must come back with the reason, and nobody be added."""
    name, _ = await add(admin, board, "member")
    answer = await send(admin, "/people", name=name, password=PASSWORD, role="admin")
    assert (409, True) == (answer.status_code, "Choose another name" in answer.text)


async def test_signing_in_again_ends_the_session_of_before(
    board: BoardProcess, admin: httpx.AsyncClient
) -> None:
    """The cookie of before must be worth nothing after its browser signed in anew."""
    name, _ = await add(admin, board, "member")
    async with board.client() as person, board.client() as other:
        await sign_in(person, name, PASSWORD)
        other.cookies.update(dict(person.cookies))
        assert (await other.get("/issues")).status_code == 200
        await sign_in(person, name, PASSWORD)
        assert (await person.get("/issues")).status_code == 200
        assert (await other.get("/issues")).status_code == 303


async def test_signing_out_everywhere_ends_every_session(
    board: BoardProcess, admin: httpx.AsyncClient
) -> None:
    """All browsers of the account must have to sign in again."""
    name, _ = await add(admin, board, "member")
    async with board.client() as desk, board.client() as phone:
        await sign_in(desk, name, PASSWORD)
        await sign_in(phone, name, PASSWORD)
        assert (await send(desk, "/me/sign-out-everywhere")).headers["location"] == "/sign-in"
        for browser in (desk, phone):
            assert (await browser.get("/issues")).status_code == 303


async def test_people_change_their_own_password(board: BoardProcess, admin: httpx.AsyncClient) -> None:
    """The present password must be asked for, other sessions end, and this browser go on in a new session."""
    name, _ = await add(admin, board, "member")
    async with board.client() as desk, board.client() as phone:
        await sign_in(desk, name, PASSWORD)
        await sign_in(phone, name, PASSWORD)
        wrong = await send(desk, "/me/password", current="not it", password="a new password")
        assert (401, True) == (wrong.status_code, "not your present password" in wrong.text)
        before = dict(desk.cookies)
        right = await send(desk, "/me/password", current=PASSWORD, password="a new password")
        assert right.status_code == 303
        assert before != dict(desk.cookies)
        assert (await desk.get("/issues")).status_code == 200
        assert (await phone.get("/issues")).status_code == 303
        assert (await sign_in(phone, name, PASSWORD)).status_code == 401
        assert (await sign_in(phone, name, "a new password")).status_code == 303


async def test_the_chart_hangs_everybody_below_their_head(
    board: BoardProcess, admin: httpx.AsyncClient, tmp_path: Path
) -> None:
    """Agents must stand below whom they report to, and circles be refused."""
    _, head = await add(admin, board, "member")
    agent = await board.add_agent(f"worker-{secrets.token_hex(4)}", ["true"], tmp_path)
    answer = await send(admin, f"/organisation/{agent}", duty="Counts <b>beans</b>", reports_to=head)
    assert answer.status_code == 303
    page = (await admin.get("/organisation")).text
    assert "Counts &lt;b&gt;beans&lt;/b&gt;" in page
    below = page.partition(f"/organisation/{head}")[2].partition('<ul class="chart">')
    assert f"/organisation/{agent}" in below[2]
    assert f"/organisation/{agent}" not in below[0]
    assert "Counts &lt;b&gt;" in (await admin.get("/agents")).text
    for place, head_of in ((head, agent), (agent, agent), (head, "00000000-0000-7000-8000-000000000000")):
        assert (await send(admin, f"/organisation/{place}", reports_to=head_of)).status_code == 422
