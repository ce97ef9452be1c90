"""Two servers, a real board and a network with every fault: in the end each issue is as its task says."""

import asyncio
import hashlib
import json
import secrets
import signal
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.conftest import Database, Server
from tests.desk import bearer, token
from tests.faults.network import Network

from agentic_os_board.testing import BACKEND_TOKEN, OPERATOR, WEBHOOK_SECRET, BoardProcess

TASKS = 4
_SCRIPT = Path(__file__).with_name("tracked_server.py")
_UNHEARD = """
exists (select from board.activities a where not a.own and a.kind in ('comment.created', 'issue.changed',
    'issue.deleted') and not exists (select from es.inbox i where i.delivery = a.delivery::text))
"""
_BUSY = (
    f"({_UNHEARD} or exists (select from es.inbox where done_at is null) or exists (select from es.stale))"
)


@dataclass
class ServerProcess:
    """A server with its worker, that is killed and started again on the same port."""

    configuration: dict[str, Any]
    process: subprocess.Popen[str] = field(init=False)
    port: int = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """Say where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it serves."""
        self.process = subprocess.Popen(
            [sys.executable, str(_SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(self.configuration | {"port": self.port}) + "\n")
        self.process.stdin.flush()
        heard = self.process.stdout.readline()
        assert heard, "the server ended"
        self.port = int(heard)

    def kill(self) -> None:
        """End it where it stands."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()


@dataclass
class Storm:
    """All of it together: the store past everybody's rights, the board, the network, and two servers."""

    store: psycopg.Connection
    board: BoardProcess
    network: Network
    servers: tuple[ServerProcess, ServerProcess]

    def until(self, condition: str, *values: object) -> None:
        """Wait, in the database, until a condition holds."""
        self.store.execute("set statement_timeout = '40s'")
        statement = f"do $$ begin while not ({condition}) loop perform pg_sleep(0.01); end loop; end $$"
        self.store.execute(statement.encode(), values or None)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the database."""
        return self.store.execute(query.encode(), values or None).fetchall()


def hire(store: psycopg.Connection, name: str, kind: str, role: str, account: str) -> None:
    """Register somebody who has an account on the board."""
    store.execute(
        "insert into es.principal (id, name, kind, roles, skills) values (%s, %s, %s, %s, 'not-required')",
        (name, name, kind, [role]),
    )
    digest = hashlib.sha256(token(name).encode()).digest()
    store.execute("insert into es.credential (hash, principal) values (%s, %s)", (digest, name))
    store.execute("insert into es.external_account values ('board', %s, %s)", (account, name))


@pytest.fixture
def stage(database: Database, server: Server, tmp_path: Path) -> Any:
    """Give the parts that a storm is made of."""
    return database, make_conninfo(server.superuser, dbname=database.name), tmp_path


@pytest.mark.parametrize("seed", [1, 2])
def test_a_storm_leaves_every_issue_as_its_task_says(stage: Any, seed: int) -> None:
    """Whatever is lost, doubled, reordered, refused or killed: one issue, one wake an attempt, one act a comment."""
    database, superuser, folder = stage
    with ExitStack() as stack:
        store = stack.enter_context(psycopg.connect(superuser, autocommit=True))
        board = BoardProcess(database.board, folder / "board")
        network = stack.enter_context(Network(board="", seed=seed))
        board.configuration["webhook_url"] = f"{network.url}/api/webhooks/board"
        stack.enter_context(board)
        network.board = board.url
        configuration = {
            "dsn": database.app,
            "artifacts": str(folder / "artifacts"),
            "board": network.url,
            "token": BACKEND_TOKEN,
            "webhook_secret": WEBHOOK_SECRET,
        }
        accounts = asyncio.run(_accounts(board, folder))
        for name, kind, role in (
            (OPERATOR, "person", "admin"),
            ("ada", "executor", "developer"),
            ("bob", "executor", "developer"),
        ):
            hire(store, name, kind, role, accounts[name])
        servers = (ServerProcess(configuration), ServerProcess(configuration))
        for each in servers:
            stack.enter_context(each)
            network.servers.append(each.url)
        asyncio.run(_play(Storm(store, board, network, servers), accounts))


async def _accounts(board: BoardProcess, folder: Path) -> dict[str, str]:
    """Give two agents an account each, whose runs do nothing, and a visitor; find the operator's."""
    (folder / "work").mkdir()
    await board.add_person("visitor")
    agents = {name: await board.add_agent(name, ["true"], folder / "work") for name in ("ada", "bob")}
    async with board.backend() as client:
        found = await client.get("/api/accounts/lookup", params={"name": OPERATOR})
    return agents | {OPERATOR: found.raise_for_status().json()["id"]}


async def _play(storm: Storm, accounts: dict[str, str]) -> None:
    one, two = storm.servers
    tasks = []
    for n in range(TASKS):
        wanted = {"title": f"Task {n}", "goal": "G", "project": "default", "assignee": "ada"}
        url = f"{storm.servers[n % 2].url}/api/tasks"
        headers = bearer(token(OPERATOR)) | {"Idempotency-Key": secrets.token_hex(8)}
        answer = await asyncio.to_thread(httpx.post, url, json=wanted, headers=headers, timeout=30)
        tasks.append(answer.raise_for_status().json()["id"])
    storm.until("(select count(*) from es.issue) >= 2")
    await asyncio.to_thread(one.kill)
    await asyncio.to_thread(one.start)
    _let_claims_lapse(storm)
    storm.until(f"(select count(*) from es.issue) = {TASKS}")
    keys = dict(storm.rows("select task_id, key from es.issue"))

    async with await storm.board.operator() as operator, await storm.board.acting("visitor") as visitor:
        for n, task_id in enumerate(tasks):
            path = f"/api/issues/{keys[task_id]}"
            await _done(operator.post(f"{path}/comments", json={"body": f"/hold reason {n}"}))
            await _done(visitor.patch(path, json={"closed": "completed"}))
            if n == 2:
                await asyncio.to_thread(two.kill)
            await _done(operator.post(f"{path}/comments", json={"body": f"Fine.\n\n/unhold go on {n}"}))
            await _done(operator.patch(path, json={"title": f"Better {n}"}))
            await _done(operator.post(f"{path}/comments", json={"body": "/reassign @bob"}))
        await _done(operator.delete(f"/api/issues/{keys[tasks[-1]]}"))
    await asyncio.to_thread(one.kill)
    for server in storm.servers:
        if server.process.poll() is not None:
            await asyncio.to_thread(server.start)
    _let_claims_lapse(storm)
    storm.network.stormy = False
    storm.store.execute("update es.stale set not_before = null")
    await asyncio.to_thread(storm.until, f"not {_BUSY}")
    await _assert_right(storm, tasks, accounts)
    assert {"lost", "doubled", "held", "before", "after"} <= storm.network.counted.keys()


def _let_claims_lapse(storm: Storm) -> None:
    """Let the time pass for which dead workers hold what they took."""
    storm.store.execute("update es.stale set claimed_until = now(), not_before = null")
    storm.store.execute("update es.inbox set claimed_until = now() where done_at is null")


async def _done(request: Any) -> None:
    (await request).raise_for_status()


async def _assert_right(storm: Storm, tasks: list[str], accounts: dict[str, str]) -> None:
    keys = dict(storm.rows("select task_id, key from es.issue"))
    async with storm.board.backend() as client:
        found = await client.get("/api/issues/lookup", params={"key": list(keys.values())})
        issues = {i["key"]: i for i in found.raise_for_status().json()["items"]}
        everything = (await client.get("/api/issues")).raise_for_status().json()["items"]
    assert TASKS == len(everything) == len(issues), "an issue was made twice, or is missing"
    for n, task_id in enumerate(tasks):
        issue = issues[keys[task_id]]
        ((phase, title),) = storm.rows("select phase, title from es.task where task_id = %s", task_id)
        assert ("dispatched", f"Better {n}") == (phase, title)
        assert ("dispatched", None) == (issue["state"], issue["closed"])
        assert {"account": accounts["bob"], "task_id": task_id, "attempt": 2} == issue["assignment"]
        markers = [note["marker"] for note in issue["notes"]]
        assert 1 == markers.count("status")
        assert len(markers) == len(set(markers))
        assert "attempt=2" in issue["body"]
        types = [t for (t,) in storm.rows("select type from es.event where stream_id = %s", task_id)]
        counts = {
            t: types.count(t) for t in ("task.held", "hold.released", "task.reassigned", "field.adopted")
        }
        assert {"task.held": 1, "hold.released": 1, "task.reassigned": 1, "field.adopted": 1} == counts
        verbs = storm.rows("select verb, outcome from es.directive where task_id = %s order by verb", task_id)
        assert [("hold", "done"), ("reassign", "done"), ("unhold", "done")] == verbs
    runs = [(task, attempt) for task, attempt in storm.rows(_RUNS)]
    assert len(runs) == len(set(runs)), "an attempt woke twice"
    assert {(task_id, 2) for task_id in tasks} <= set(runs)


_RUNS = "select task_id, attempt from board.runs"
