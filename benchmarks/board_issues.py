"""Measure the board's list of 20,000 issues: every filter, over HTTP, beside a page that reads nothing.

    .venv/bin/python benchmarks/board_issues.py [--issues N] [--rounds N] [--json]

A server process of its own over an embedded PostgreSQL of its own; both are gone afterwards. p50 and p99 are of whole
requests, one after the other; the limit line is GET /me in the same run, a page that reads a session and nothing else.
cpu is what the server and PostgreSQL spend on a request: what remains to be said on a machine that is busy otherwise.
"""

import argparse
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from agentic_os.bench.rows import machine, median, percentile
from agentic_os.postgres.embedded import running_server
from agentic_os_board.testing import OPERATOR, PASSWORD, BoardProcess

TARGET_MS = 50.0
FILTERS = (
    {},
    {"page": 300},
    {"show": "decision"},
    {"show": "closed"},
    {"show": "all", "sort": "priority"},
    {"show": "all", "sort": "oldest", "page": 400},
    {"state": "executing"},
    {"state": "input_required"},
    {"project": "rare"},
    {"project": "project-3", "priority": "high", "sort": "priority"},
    {"label": "label-7"},
    {"label": "rare"},
    {"priority": "critical"},
    {"assignee": "nobody"},
    {"q": "beans"},
    {"q": "needle"},
    {"q": "bea nee"},
    {"q": "17123"},
    {"q": "beans", "label": "label-7", "state": "executing", "sort": "priority", "show": "all"},
)
SEED = """
insert into issues (title, body, project, state, labels, priority, closed, assignee, created_by, updated_at)
select 'Count the beans of shelf ' || n,
       (select string_agg(md5((n * 40 + k)::text), ' ') from generate_series(1, 40) as k)
           || case when n %% 2000 = 0 then ' needle' else ' haystack' end,
       case when n %% 5000 = 0 then 'rare' else 'project-' || n %% 12 end,
       (array['ready', 'executing', 'plan_review', 'completed'])[1 + n %% 4] || '',
       case when n %% 4000 = 0 then array['rare'] else array['label-' || n %% 20, 'label-' || (n + 5) %% 20] end,
       (array['low', 'medium', 'high', 'critical', ''])[1 + n %% 5],
       case when n %% 3 = 0 then 'completed' end,
       case when n %% 4 > 0 then (select id from accounts where kind = 'person' limit 1) end,
       (select id from accounts where kind = 'system'),
       now() - n * interval '1 minute'
from generate_series(1, %(issues)s) as n
"""
REVIEWS = """
insert into reviews (issue, digest, subject, version, document, directives)
select number, 'sha256:' || number, 'plan', 1, '# Plan', '{}' from issues where number %% 50 = 0
"""


def main() -> None:
    """Seed, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--issues", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="aos-board-bench-"))
    try:
        with (
            running_server(home / "server", say=lambda _: None) as server,
            BoardProcess(_database(server.superuser), home / "board") as board,
        ):
            rows = _measure(board, options.issues, options.rounds, (board.process.pid, server.pid))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if options.json:
        print(json.dumps({"machine": machine(), "issues": options.issues, "rows": rows}))
        return
    print(f"{options.issues} issues; {machine()}")
    for row in rows:
        ok = "ok" if row["ok"] else "MISSED"
        times = f"p50 {row['p50']:7.1f}  p99 {row['p99']:7.1f}  cpu {row['cpu']:6.1f} ms"
        print(f"{times}  x{row['ratio']:5.1f}  {ok:6} {row['name']}")


def _database(superuser: object) -> str:
    assert callable(superuser)
    password = secrets.token_hex(16)
    with psycopg.connect(superuser("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("create role board login password {}").format(sql.Literal(password)))
        connection.execute("create schema board authorization board")
    return make_conninfo(superuser("postgres"), user="board", password=password)


def _measure(board: BoardProcess, issues: int, rounds: int, processes: Sequence[int]) -> list[dict[str, Any]]:
    with psycopg.connect(str(board.configuration["database_url"]), options="-c search_path=board") as tx:
        tx.execute(SEED, {"issues": issues})
        tx.execute(REVIEWS, {})
        tx.commit()
        tx.autocommit = True
        tx.execute("vacuum analyze issues")
        tx.execute("analyze reviews")
    with httpx.Client(base_url=board.url, timeout=30, trust_env=False) as browser:
        _sign_in(browser)
        limit = _measured(browser, "/me", rounds, processes)
        rows = [{"name": "/me", **limit, "ratio": 1.0, "ok": True}]
        for wanted in FILTERS:
            path = f"/issues?{urlencode(wanted)}"
            found = _measured(browser, path, rounds, processes)
            ratio = round(found["p99"] / limit["p99"], 1)
            rows.append({"name": path, **found, "ratio": ratio, "ok": found["p99"] < TARGET_MS})
    return rows


def _sign_in(browser: httpx.Client) -> None:
    text = browser.get("/sign-in").text
    csrf = text.partition('name="csrf" value="')[2].partition('"')[0]
    form = {"csrf": csrf, "name": OPERATOR, "password": PASSWORD}
    assert browser.post("/sign-in", data=form).status_code == httpx.codes.SEE_OTHER


def _measured(browser: httpx.Client, path: str, rounds: int, processes: Sequence[int]) -> dict[str, float]:
    browser.get(path)
    taken, before = [], _cpu_seconds(processes)
    for _ in range(rounds):
        began = time.perf_counter()
        browser.get(path).raise_for_status()
        taken.append((time.perf_counter() - began) * 1000)
    cpu = (_cpu_seconds(processes) - before) * 1000 / rounds
    return {"p50": round(median(taken), 2), "p99": round(percentile(taken, 0.99), 2), "cpu": round(cpu, 2)}


def _cpu_seconds(processes: Sequence[int]) -> float:
    """Add up what the server and PostgreSQL, with the backends that it forked, have spent so far (on Linux)."""
    total = 0
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(entry.parent.name) in processes or int(fields[1]) in processes:
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
