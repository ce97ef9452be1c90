"""Routines: issues that are opened by a schedule, each time once, whatever happens to the board."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from agentic_os.control_plane import IssueOpened
from agentic_os_board.cli import main
from agentic_os_board.client import BoardClient
from agentic_os_board.server.accounts import Account, add_account
from agentic_os_board.server.database import Database, open_database
from agentic_os_board.server.problems import Contradiction, Forbidden
from agentic_os_board.server.routines import (
    Routine,
    _act_on_next,
    act_on_due,
    add_routine,
    change_routine,
    list_routines,
    list_times,
    pause_routine,
    resume_routine,
    run_now,
    upcoming,
)
from agentic_os_board.testing import BACKEND_TOKEN, OPERATOR, PASSWORD, WEBHOOK_SECRET, BoardProcess

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
WEEKLY = {
    "name": "weekly audit",
    "schedule": "0 7 * * MON",
    "zone": "Europe/Berlin",
    "title": "Audit of {date}",
    "body": "Check the logs.",
    "project": "default",
    "labels": ["agentic-os"],
    "priority": "high",
}


def routine(**fields: Any) -> Routine:
    return Routine(**({"name": "audit", "schedule": "0 * * * *", "title": "Audit"} | fields))


@pytest.fixture
def url(new_database: Callable[[], str]) -> str:
    return new_database()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with open_database(url) as opened:
        yield opened


@pytest.fixture
async def ada(database: Database) -> Account:
    async with database.read() as tx:
        return await add_account(tx, name="ada", kind="person")


async def add(database: Database, owner: Account, *, at: datetime = NOON, **fields: Any) -> int:
    async with database.write() as tx:
        return await add_routine(tx, owner, routine(**fields), at)


async def opened(database: Database) -> list[str]:
    """List the titles of all issues, oldest first."""
    async with database.read() as tx:
        cursor = await tx.execute("select title from issues order by number")
        return [row["title"] async for row in cursor]


async def outcomes(database: Database, number: int) -> list[tuple[str, datetime]]:
    """List what became of a routine's times, oldest first."""
    async with database.read() as tx:
        return sorted(
            ((row["outcome"], row["due"]) for row in await list_times(tx, number, 100)),
            key=lambda one: one[1],
        )


async def test_an_issue_is_opened_at_each_time_as_its_template_says(database: Database, ada: Account) -> None:
    """At its time, not before, the issue must be there: its owner's, with the template's fields and its priority."""
    document = WEEKLY | {"schedule": "0 7 * * *"}
    async with database.write() as tx:
        await add_routine(tx, ada, Routine(**document), NOON)
    due = datetime(2026, 5, 5, 5, tzinfo=UTC)
    assert await act_on_due(database, due - timedelta(seconds=1)) == due
    assert await opened(database) == []
    assert await act_on_due(database, due) == due + DAY
    async with database.read() as tx:
        cursor = await tx.execute("select * from issues")
        (issue,) = await cursor.fetchall()
    assert (issue["title"], issue["body"], issue["project"]) == (
        "Audit of 2026-05-05",
        "Check the logs.",
        "default",
    )
    assert (issue["labels"], issue["created_by"]) == (["agentic-os", "priority:high"], ada.id)


async def test_a_time_is_acted_on_once_by_two_servers(database: Database, ada: Account, url: str) -> None:
    """Two servers at the same time, over connections of their own, must open one issue for each time."""
    for number in range(5):
        await add(database, ada, name=f"audit {number}", title=f"Audit {number}")
    async with AsyncExitStack() as stack:
        others = [database]
        for _ in range(3):
            pool = AsyncConnectionPool(
                url,
                connection_class=AsyncConnection[dict[str, Any]],
                kwargs={"row_factory": dict_row, "options": "-c search_path=board"},
                max_size=4,
                open=False,
            )
            others.append(Database(await stack.enter_async_context(pool)))
        await asyncio.gather(*(act_on_due(one, NOON + HOUR) for one in others))
    assert sorted(await opened(database)) == [f"Audit {number}" for number in range(5)]


async def test_a_time_that_was_taken_is_not_taken_again(database: Database, ada: Account) -> None:
    """Also where the next time was set back, as by a restored row, what was opened must not be opened again."""
    number = await add(database, ada)
    await act_on_due(database, NOON + HOUR)
    async with database.read() as tx:
        await tx.execute("update routines set next_due = %s", (NOON + HOUR,))
    await act_on_due(database, NOON + HOUR)
    assert await opened(database) == ["Audit"]
    assert await outcomes(database, number) == [("opened", NOON + HOUR)]


async def test_a_crash_before_the_commit_leaves_the_time_to_the_next_start(
    database: Database, ada: Account
) -> None:
    """A server that dies between opening the issue and its commit must leave neither issue nor time behind."""
    number = await add(database, ada)
    with suppress(ZeroDivisionError):
        async with database.write() as tx:
            await _act_on_next(tx, NOON + HOUR)
            raise ZeroDivisionError
    assert (await opened(database), await outcomes(database, number)) == ([], [])
    await act_on_due(database, NOON + HOUR + timedelta(seconds=30))
    assert await opened(database) == ["Audit"]


@pytest.mark.parametrize(
    ("missed", "wanted"),
    [
        ("skip", [("missed", 20)]),
        ("one", [("missed", 19), ("opened", 20)]),
        ("all", [("missed", 10), *(("opened", hour) for hour in range(11, 21))]),
    ],
)
async def test_missed_times_are_made_up_for_as_the_routine_says(
    database: Database, ada: Account, missed: str, wanted: list[tuple[str, int]]
) -> None:
    """After a downtime: none, the newest, or all but at most ten must be opened, and the rest be said to be let go."""
    number = await add(database, ada, missed=missed)
    assert await act_on_due(database, NOON + 20 * HOUR + timedelta(minutes=30)) == NOON + 21 * HOUR
    assert [(outcome, NOON + hour * HOUR) for outcome, hour in wanted] == await outcomes(database, number)
    assert len(await opened(database)) == len([outcome for outcome, _ in wanted if outcome == "opened"])


@pytest.mark.parametrize(("missed", "count"), [("skip", 1), ("one", 1), ("all", 3)])
async def test_a_time_that_is_only_just_over_is_no_missed_one(
    database: Database, ada: Account, missed: str, count: int
) -> None:
    """The time at which the board comes back must be opened whatever the policy, and not beside an older one."""
    await add(database, ada, missed=missed)
    await act_on_due(database, NOON + 3 * HOUR + timedelta(seconds=5))
    assert len(await opened(database)) == count


async def test_a_routine_that_opens_too_much_is_held(database: Database, ada: Account) -> None:
    """Beyond its limit within an hour a routine must open nothing more, say so, and go on once it is resumed."""
    number = await add(database, ada, schedule="* * * * *", hourly_limit=3)
    for minute in range(1, 10):
        await act_on_due(database, NOON + timedelta(minutes=minute))
    assert await opened(database) == ["Audit"] * 3
    async with database.read() as tx:
        (row,) = await list_routines(tx)
    assert (row["state"], row["next_due"], row["last_outcome"]) == ("held", None, "held")
    assert "more than 3 issues within an hour" in row["reason"]
    later = NOON + 2 * HOUR
    async with database.write() as tx:
        await resume_routine(tx, ada, number, later)
    await act_on_due(database, later + timedelta(minutes=1))
    assert await opened(database) == ["Audit"] * 4


async def test_a_paused_routine_opens_nothing_and_makes_up_for_nothing(
    database: Database, ada: Account
) -> None:
    """Times that pass while it is paused must be gone; resumed, it goes on with the next one."""
    number = await add(database, ada, missed="all")
    async with database.write() as tx:
        await pause_routine(tx, ada, number)
    assert await act_on_due(database, NOON + 5 * HOUR) is None
    async with database.write() as tx:
        await resume_routine(tx, ada, number, NOON + 5 * HOUR + timedelta(minutes=1))
    assert await act_on_due(database, NOON + 5 * HOUR + timedelta(minutes=2)) == NOON + 6 * HOUR
    assert await opened(database) == []


async def test_run_now_counts_towards_the_limit(database: Database, ada: Account) -> None:
    """Running by hand must open the issue, also of a paused routine, but no more of them than the limit allows."""
    number = await add(database, ada, hourly_limit=2)
    async with database.write() as tx:
        await pause_routine(tx, ada, number)
        for second in range(2):
            await run_now(tx, ada, number, NOON + timedelta(seconds=second))
    with pytest.raises(Contradiction, match="its limit"):
        async with database.write() as tx:
            await run_now(tx, ada, number, NOON + timedelta(seconds=2))
    assert await opened(database) == ["Audit"] * 2


async def test_whoever_changes_a_routine_answers_for_it(database: Database, ada: Account) -> None:
    """What somebody else wrote must never be opened in a person's name."""
    number = await add(database, ada)
    async with database.write() as tx:
        eve = await add_account(tx, name="eve", kind="person")
        await change_routine(tx, eve, number, routine(title="Give eve the keys"), NOON)
    await act_on_due(database, NOON + HOUR)
    async with database.read() as tx:
        cursor = await tx.execute("select title, created_by from issues")
        assert await cursor.fetchall() == [{"title": "Give eve the keys", "created_by": eve.id}]


async def test_the_next_times_are_those_that_come(database: Database, ada: Account) -> None:
    """The times shown must be the ones that are then acted on, over the change of the clocks too."""
    start = datetime(2026, 10, 24, 12, tzinfo=UTC)
    await add(database, ada, schedule="30 2 * * *", zone="Europe/Berlin", at=start)
    async with database.read() as tx:
        (row,) = await list_routines(tx)
    shown = upcoming(row, start)
    came, due = [], await act_on_due(database, start)
    for _ in shown:
        assert due is not None
        came.append(due)
        due = await act_on_due(database, due)
    assert came == shown


# What the server makes of them, over HTTP.


async def test_a_routine_is_adopted_like_an_issue_of_its_owner(board: BoardProcess) -> None:
    """The backend must observe the issue as opened by the routine's owner, with the label that it adopts by."""
    async with await board.operator() as admin:
        me = (await admin.get("/api/me")).json()["id"]
        added = await admin.post("/api/routines", json=WEEKLY | {"name": "adopted"})
        assert added.status_code == 201, added.text
        assert len(added.json()["next"]) == 5
        ran = await admin.post(f"/api/routines/{added.json()['id']}/run")
        assert ran.status_code == 201
    plane = BoardClient(board.url, BACKEND_TOKEN, [WEBHOOK_SECRET])
    seen, _ = await plane.observations("")
    await plane.aclose()
    (issue,) = [one for one in seen if isinstance(one, IssueOpened) and one.key == ran.json()["key"]]
    assert (issue.author, issue.labels) == (me, ("agentic-os", "priority:high"))
    assert (issue.project, issue.routine) == ("default", "adopted")


async def test_a_time_missed_while_the_board_was_killed_is_made_up_for_once(
    new_board: Callable[..., BoardProcess],
) -> None:
    """After kill -9 and a downtime, a real board must open the newest missed issue, and one only."""
    board = new_board()
    async with await board.operator() as admin:
        added = (await admin.post("/api/routines", json=WEEKLY | {"schedule": "0 * * * *"})).json()
    board.kill()
    with psycopg.connect(board.configuration["database_url"]) as connection:
        connection.execute("update board.routines set next_due = next_due - interval '1 day'")
    for _ in range(2):
        board.start()
        await until_opened(board, added["id"])
        board.kill()
    board.start()
    async with board.backend() as backend:
        assert len((await backend.get("/api/issues")).json()["items"]) == 1


async def test_a_routine_that_comes_due_wakes_the_board(new_board: Callable[..., BoardProcess]) -> None:
    """A sleeping board must open the issue when the earliest routine is due, without being asked for anything."""
    board = new_board()
    async with await board.operator() as admin:
        added = (await admin.post("/api/routines", json=WEEKLY)).json()
        with psycopg.connect(board.configuration["database_url"]) as connection:
            connection.execute("update board.routines set next_due = clock_timestamp() + interval '1 second'")
        # Any other change makes it look again at when the next one is due.
        await admin.post("/api/routines", json=WEEKLY | {"name": "another"})
    assert (await until_opened(board, added["id"]))[0]["outcome"] == "opened"


async def until_opened(board: BoardProcess, number: int) -> list[dict[str, Any]]:
    async with board.backend() as backend, asyncio.timeout(30):
        while True:
            times: list[dict[str, Any]] = (await backend.get(f"/api/routines/{number}")).json()["times"]
            if any(time["issue"] for time in times):
                return times
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"schedule": "0 25 * * *"}, "schedule: "),
        ({"schedule": "0 0 30 2 *"}, "schedule: "),
        ({"zone": "Mars/Olympus"}, "zone: 'Mars/Olympus' is no time zone"),
        ({"missed": "some"}, "missed: "),
        ({"hourly_limit": 0}, "hourly_limit: "),
        ({"priority": "urgent"}, "priority: "),
        ({"name": " "}, "name: must not be empty"),
        ({"title": "two\nlines"}, "title: must be one line"),
        ({"labels": ["a,b"]}, "labels.0: "),
        ({"surplus": 1}, "surplus: "),
    ],
)
async def test_a_wrong_routine_is_refused_by_its_field(
    board: BoardProcess, wrong: dict[str, object], said: str
) -> None:
    """What cannot be used must be named, and nothing be stored."""
    async with await board.operator() as admin:
        answer = await admin.post("/api/routines", json=WEEKLY | {"name": "wrong"} | wrong)
        names = [one["name"] for one in (await admin.get("/api/routines")).json()["items"]]
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
    assert "wrong" not in names


async def test_who_may_do_what(board: BoardProcess, tmp_path: Path) -> None:
    """People write and pause routines, owners and administrators delete them; agents and the backend none of it."""
    await board.add_person("rita")
    await board.add_person("otto")
    await board.add_agent("bot", ["true"], tmp_path)
    async with await board.acting("rita") as rita, await board.acting("otto") as otto:
        added = (await rita.post("/api/routines", json=WEEKLY | {"name": "rita's"})).json()
        path = f"/api/routines/{added['id']}"
        assert (await rita.post("/api/routines", json=WEEKLY | {"name": "rita's"})).status_code == 409
        assert (await otto.post(f"{path}/pause")).status_code == 204
        assert (await otto.get(path)).json()["reason"] == "paused by otto"
        assert (await otto.delete(path)).status_code == 403
        for client in (await board.acting("bot"), board.backend()):
            async with client as machine:
                for verb in ("pause", "resume", "run"):
                    assert (await machine.post(f"{path}/{verb}")).status_code == 403
                assert (await machine.post("/api/routines", json=WEEKLY | {"name": "x"})).status_code == 403
                assert (await machine.put(path, json=WEEKLY)).status_code == 403
                assert (await machine.delete(path)).status_code == 403
        async with board.client() as nobody:
            assert (await nobody.get("/api/routines")).status_code == 401
        assert (
            await rita.put(path, json=WEEKLY | {"name": "rita's own", "schedule": "5 5 * * *"})
        ).status_code == 204
        assert (await rita.get(path)).json()["schedule"] == "5 5 * * *"
        assert (await rita.delete(path)).status_code == 204
        assert (await rita.get(path)).status_code == 404


# The pages.


@pytest.fixture
async def browser(board: BoardProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with board.client() as client:
        csrf = form_token((await client.get("/sign-in?next=/routines")).text)
        form = {"name": OPERATOR, "password": PASSWORD, "csrf": csrf, "next": "/routines"}
        assert (await client.post("/sign-in", data=form)).headers["location"] == "/routines"
        yield client


def form_token(text: str) -> str:
    match = re.search(r'name="csrf" value="([^"]+)"', text)
    assert match
    return match[1]


def filled(csrf: str, **fields: str) -> dict[str, str]:
    kept = {field: value for field, value in WEEKLY.items() if isinstance(value, str)}
    return kept | {"labels": "agentic-os, audit", "missed": "one", "hourly_limit": "5", "csrf": csrf} | fields


async def test_a_routine_is_made_changed_and_run_on_its_pages(browser: httpx.AsyncClient) -> None:
    """Without any script a person must be able to create, edit, pause, resume, run and delete a routine."""
    csrf = form_token((await browser.get("/routines/new")).text)
    made = await browser.post("/routines", data=filled(csrf, name="by <form>"))
    assert made.status_code == 303, made.text
    path = made.headers["location"]
    shown = (await browser.get(path)).text
    assert "by &lt;form&gt;" in shown
    assert len(re.findall(r"Mon \d\d \w+ \d{4}, 07:00 CES?T", shown)) == 5
    assert "by &lt;form&gt;" in (await browser.get("/routines")).text
    edited = filled(csrf, name="by <form>", schedule="0 8 * * TUE", title="Second")
    assert (await browser.post(f"{path}/edit", data=edited)).headers["location"] == path
    assert "08:00" in (await browser.get(path)).text
    assert 'value="Second"' in (await browser.get(f"{path}/edit")).text
    assert (await browser.post(f"{path}/pause", data={"csrf": csrf})).status_code == 303
    assert f"Paused by {OPERATOR}" in (await browser.get(path)).text
    assert (await browser.post(f"{path}/resume", data={"csrf": csrf})).status_code == 303
    ran = await browser.post(f"{path}/run", data={"csrf": csrf})
    assert ran.headers["location"].startswith("/issues/")
    assert ran.headers["location"] in (await browser.get(path)).text
    assert (await browser.post(f"{path}/delete", data={"csrf": csrf})).headers["location"] == "/routines"
    assert (await browser.get(path)).status_code == 404


async def test_a_form_that_is_wrong_is_shown_again(browser: httpx.AsyncClient) -> None:
    """What was typed must not be lost, and every field that is wrong be named."""
    csrf = form_token((await browser.get("/routines/new")).text)
    wrong = filled(
        csrf, name="kept", schedule="0 99 * * *", zone="Nowhere", hourly_limit="many", body="a\r\nb"
    )
    answer = await browser.post("/routines", data=wrong)
    assert answer.status_code == 422
    for said in ("schedule: ", "zone: ", "hourly limit: ", 'value="kept"', 'value="0 99 * * *"', ">\na\nb<"):
        assert said in answer.text, said


async def test_a_form_from_elsewhere_is_refused(browser: httpx.AsyncClient) -> None:
    """Without the token of our own pages nothing may be done."""
    answer = await browser.post("/routines", data=filled("x" * 32, name="forged"))
    assert answer.status_code == 403
    assert "forged" not in (await browser.get("/routines")).text


# The command line.


def test_a_routine_is_administered_from_the_command_line(
    board: BoardProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Adding, listing, pausing, running and removing must work by name."""
    password, body = tmp_path / "password", tmp_path / "body.md"
    password.write_text(PASSWORD)
    body.write_text("Check the logs.\n")
    signed = ["--url", board.url, "--operator", OPERATOR, "--operator-password-file", str(password)]
    when = [
        "--schedule",
        "0 7 * * MON",
        "--zone",
        "Europe/Berlin",
        "--title",
        "Audit",
        "--body-file",
        str(body),
    ]
    assert (
        main(
            [
                "routine",
                "add",
                "nightly",
                *when,
                "--label",
                "agentic-os",
                "--priority",
                "low",
                "--json",
                *signed,
            ]
        )
        == 0
    )
    added = json.loads(capsys.readouterr().out)
    assert (added["body"], added["labels"], added["priority"]) == ("Check the logs.\n", ["agentic-os"], "low")
    assert main(["routine", "pause", "nightly", *signed]) == 0
    assert "state: paused" in capsys.readouterr().out
    assert main(["routine", "list", *signed]) == 0
    assert re.search(
        r"^nightly +paused +0 7 \* \* MON +Europe/Berlin +paused by", capsys.readouterr().out, re.MULTILINE
    )
    assert main(["routine", "run", "nightly", *signed]) == 0
    assert "/issues/" in capsys.readouterr().out
    assert main(["routine", "remove", "nightly", *signed]) == 0
    assert main(["routine", "resume", "nightly", *signed]) == 1
    assert "no routine is named 'nightly'" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["role = 'viewer'", "deactivated_at = now()"])
async def test_an_owner_who_may_open_nothing_holds_the_routine_and_no_other(
    database: Database, ada: Account, change: str
) -> None:
    """The routine says why, those of others go on, and whoever changes it takes it over."""
    async with database.read() as tx:
        bob = await add_account(tx, name="bob", kind="person")
    held = await add(database, ada)
    await add(database, bob, name="other", title="Other")
    async with database.write() as tx:
        await tx.execute(f"update accounts set {change} where id = %s", (ada.id,))
    await act_on_due(database, NOON + HOUR)
    assert ["Other"] == await opened(database)
    async with database.write() as tx:
        (row,) = [r for r in await list_routines(tx) if r["id"] == held]
        assert ("held", True) == (row["state"], "its owner ada may open no issues" in row["reason"])
        with pytest.raises(Contradiction, match="ada may open no issues"):
            await run_now(tx, bob, held, NOON + HOUR)
        await change_routine(tx, bob, held, routine(), NOON + HOUR)
        await resume_routine(tx, bob, held, NOON + HOUR)
    await act_on_due(database, NOON + 2 * HOUR)
    assert ["Audit", "Other", "Other"] == sorted(await opened(database))


async def test_a_viewer_writes_no_routine(database: Database) -> None:
    """Reading is all that a viewer may do."""
    async with database.write() as tx:
        vera = await add_account(tx, name="vera", kind="person", role="viewer")
        with pytest.raises(Forbidden, match="viewer"):
            await add_routine(tx, vera, routine(), NOON)
