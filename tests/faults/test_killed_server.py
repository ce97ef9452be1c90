"""A server that is killed at the worst moment, on real processes: what was stored is answered, and stored once."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.desk import NO_SKILLS, bearer, callback
from tests.stack_process import StackProcess, folders_of, run, running_stack

from agentic_os.postgres.databases import DATABASE
from agentic_os.postgres.embedded import discard
from agentic_os.postgres.embedded_postmaster import SUPERUSER


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """Give a home of one's own, whose database is removed at the end."""
    folder = tmp_path / "home"
    yield folder
    discard(folder)


def client_of(stack: StackProcess) -> httpx.Client:
    """Speak to the stack as its administrator."""
    token = (stack.home / "admin.token").read_text().strip()
    return httpx.Client(base_url=stack.endpoint.url, headers=bearer(token), timeout=60)


def superuser(home: Path) -> psycopg.Connection:
    """Connect to the stack's database past all its rights."""
    *_, folder = folders_of(home)
    data = folder / "data" if (folder / "data").is_dir() else folder / "postgres" / "data"
    socket = (data / "postmaster.pid").read_text().splitlines()[4]
    password = (home / "secrets" / SUPERUSER).read_text().strip()
    conninfo = make_conninfo(host=socket, port=5432, dbname=DATABASE, user=SUPERUSER, password=password)
    return psycopg.connect(conninfo, autocommit=True)


def at_work(home: Path, client: httpx.Client) -> tuple[str, str]:
    """Have an executor at work on a task; return the task's id and the attempt token."""
    added = run(
        "executor", "add", "coder", "--role", "dev", "--skills", "not-required", "--home", home, "--json"
    )
    assert 0 == added.returncode, added.stderr
    credential = httpx.Response(200, text=added.stdout).json()["credential"]
    wanted = {"title": "T", "goal": "G", "project": "default", "assignee": "coder"}
    task_id = client.post("/api/tasks", json=wanted).raise_for_status().json()["id"]
    brief: Any = None
    while brief is None or brief.status_code != 200:
        brief = client.get(f"/api/tasks/{task_id}/brief", headers=bearer(credential))
    body = {"brief_digest": brief.json()["digest"], "skillset_digest": NO_SKILLS, "runtime": {"name": "t"}}
    door = "/api/executions/callback"
    acked = client.post(door, json=callback("ack", task_id, 1, 1, body), headers=bearer(credential))
    return task_id, acked.raise_for_status().json()["attempt_token"]


def wait_for(connection: psycopg.Connection, condition: str, *values: object) -> None:
    """Wait, in the database, until a condition holds."""
    statement = f"do $$ begin while not ({condition}) loop perform pg_sleep(0.002); end loop; end $$"
    connection.execute(statement.encode(), values or None)


def governed(folder: Path) -> Path:
    """Write a governance folder in which a role has a charter."""
    folder.mkdir()
    (folder / "policy.yaml").write_text("rules: []\n")
    (folder / "organisation.yaml").write_text("roles: { dev: { charter: Develop. } }\n")
    return folder


@pytest.mark.parametrize("kind", ["result", "task_request"])
def test_a_callback_whose_answer_was_lost_is_stored_once(home: Path, kind: str):
    """Killed between append and answer, a server answers when the same callback comes again, and stores no second."""
    options = ("--control-plane", "none", "--governance", governed(home.parent / "governance"))
    with running_stack(home, *options) as stack, client_of(stack) as client:
        task_id, token = at_work(home, client)
        document = callback(kind, task_id, 1, 2)
        lost: list[object] = []

        def send() -> None:
            try:
                lost.append(client.post("/api/executions/callback", json=document, headers=bearer(token)))
            except httpx.HTTPError as problem:
                lost.append(problem)

        sending = threading.Thread(target=send)
        with superuser(home) as holder, superuser(home) as watcher:
            holder.execute("begin")
            holder.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (task_id,))
            sending.start()
            wait_for(watcher, "exists (select from pg_locks where locktype = 'advisory' and not granted)")
            os.kill(stack.process.pid, signal.SIGSTOP)  # the append waits; from here on nobody can answer
            holder.execute("commit")
            wait_for(watcher, f"exists (select from es.receipt where key = '{document['callback_id']}')")
        os.kill(stack.process.pid, signal.SIGKILL)
        stack.process.wait()
        sending.join()
        assert isinstance(lost[0], httpx.HTTPError)

    with running_stack(home, *options) as stack, client_of(stack) as client:
        again = [
            client.post("/api/executions/callback", json=document, headers=bearer(token)) for _ in range(2)
        ]
        events = client.get(f"/api/tasks/{task_id}/events").raise_for_status().json()["items"]
        children = client.get(f"/api/tasks?parent={task_id}").raise_for_status().json()["items"]
        shown = run("task", "show", task_id, "--home", home).stdout
        brief = client.get(f"/api/tasks/{task_id}/brief").raise_for_status().json()["brief"]

    assert "Develop." == brief["charter"]
    assert (1 if kind == "task_request" else 0) == len(children) == shown.count("fix-flaky: open")
    assert [(202, "true")] * 2 == [(a.status_code, a.headers.get("idempotent-replayed")) for a in again]
    assert again[0].content == again[1].content
    (stored,) = [e for e in events if e["type"] in ("result.submitted", "report.recorded")]
    assert document["callback_id"] == stored["data"]["callback_id"]
    assert again[0].json()["phase"] in ("completed", "result_review", "executing")
    assert list(range(1, len(events) + 1)) == [e["version"] for e in events]


def test_a_lease_that_lapsed_while_the_server_was_dead_is_extended_before_it_serves(home: Path):
    """Who was at work while nobody served is heard at the next start, though the lease had lapsed long ago."""
    options = ("--control-plane", "none")
    with running_stack(home, *options) as stack, client_of(stack) as client:
        task_id, token = at_work(home, client)
        os.kill(stack.process.pid, signal.SIGSTOP)  # from here on nobody serves
        with superuser(
            home
        ) as past:  # let an hour go by: all that is stored of the time lies that much further back
            past.execute("update es.served set at = at - interval '1 hour'")
            past.execute("update es.deadline set at = at - interval '40 minutes' where kind = 'lease'")
            past.execute(
                "update es.task set state = jsonb_set(state::jsonb, '{attempt,lease_expires_at}', "
                "(select to_jsonb(d.at) from es.deadline d where d.kind = 'lease'))::text"
            )
        os.kill(stack.process.pid, signal.SIGKILL)
        stack.process.wait()

    with running_stack(home, *options) as stack, client_of(stack) as client:
        door = "/api/executions/callback"
        answer = client.post(door, json=callback("heartbeat", task_id, 1, 2, {}), headers=bearer(token))
        events = client.get(f"/api/tasks/{task_id}/events").raise_for_status().json()["items"]

    assert 202 == answer.status_code, answer.text
    assert ["lease.extended", "lease.renewed"] == [e["type"] for e in events][-2:]
    assert "system" == events[-2]["actor"]
    assert any("one lease more" in line for line in stack.lines)
