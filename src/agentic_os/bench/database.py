"""The database's figures: how fast it starts, and what an append costs beside a bare insert."""

import asyncio
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
import uvloop
from psycopg.conninfo import conninfo_to_dict

from agentic_os.bench.rows import Row, median
from agentic_os.postgres.appender import Appender
from agentic_os.postgres.databases import Databases, open_databases
from agentic_os.postgres.embedded import discard, running_server
from agentic_os.postgres.embedded_binaries import installed_programs
from agentic_os.postgres.migrations import migrate
from agentic_os.postgres.pool import Pool

_PAYLOAD: Final = "x" * 560
_EVENT_ID: Final = "00000000-0000-7000-8000-000000000000"
_TARGETS: Final = {1: 0.45, 8: 0.45}
_WRITERS: Final = 32

_LIMIT_TABLE: Final = """
create schema if not exists bench;
create table if not exists bench.line (id bigint generated always as identity primary key, payload jsonb not null);
grant usage on schema bench to public; grant insert on bench.line to public;
"""
_LIMIT: Final = f"""\
insert into bench.line (payload) values ('{{"text": "{_PAYLOAD}"}}');\n"""
# Each client goes round over a hundred tasks of its own; event, head, chain, task row, stale mark, receipt.
_APPEND: Final = f"""\\
\\set i :i + 1
\\set task (:run * 100 + :client_id) * 100 + :i % 100
\\set version :i / 100
select outcome, answer from es.append(:task, 'task', :version, '{{{_EVENT_ID}}}',
    '{{lease.renewed}}', '{{{_PAYLOAD}}}', 1, 'executing', 'default', 'bench', 'bench', 'medium', '{_PAYLOAD}',
    '2026-01-01', '2026-01-01', true, null, null, null, :task, 'callback', :version, '\\x00ff', 'accepted',
    null, 1, 1, :version, null);
"""
_TPS: Final = re.compile(r"tps = ([0-9.]+)")


@contextmanager
def bench_database(say: Callable[[str], None]) -> Iterator[tuple[Databases, Path]]:
    """Run a migrated database of its own in a folder that is removed; also give that folder."""
    with tempfile.TemporaryDirectory(prefix="agentic-os-bench-") as folder:
        Path(folder).chmod(0o711)  # as root, the database's own user must be able to pass through
        home = Path(folder) / "home"
        with open_databases(home, None, say=say) as databases:
            migrate(databases.owner, databases.app)
            yield databases, home
        discard(home)


def starts(runs: int) -> list[Row]:
    """Time the embedded server from nothing, and again on its data."""
    cold, warm = [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory(prefix="agentic-os-bench-") as folder:
            Path(folder).chmod(0o711)
            home = Path(folder) / "home"
            cold.append(_start(home))
            warm.append(_start(home))
            discard(home)
    return [
        Row(name="embedded cold start", value=median(cold), unit="s", target=1.5, at_most=True),
        Row(name="embedded warm start", value=median(warm), unit="s", target=0.3, at_most=True),
    ]


def _start(home: Path) -> float:
    began = time.perf_counter()
    with running_server(home, say=lambda _: None):
        return time.perf_counter() - began


def appends(databases: Databases, seconds: int, repeats: int) -> list[Row]:
    """Compare appending with one durable insert, the two taking turns.

    A few writers are connections of their own, each calling the append function. Many are what one process of ours
    makes of them: all wait for the same appender, which shares its transactions among them.
    """
    with psycopg.connect(databases.owner, autocommit=True) as connection:
        connection.execute(_LIMIT_TABLE)
    pgbench = installed_programs() / "pgbench"
    rows = []
    for writers, target in _TARGETS.items():

        def alone(repeat: int, writers: int = writers) -> float:
            return _pgbench(databases, pgbench, _APPEND, writers, seconds, repeat)

        def limit(repeat: int, writers: int = writers) -> float:
            return _pgbench(databases, pgbench, _LIMIT, writers, seconds, repeat)

        name = f"append with chain, {writers} connection{'s' if writers > 1 else ''}"
        rows.append(_compared(name, target, limit, alone, repeats))
    rows.append(
        _compared(
            f"append with chain, {_WRITERS} writers of one process",
            0.33,
            lambda repeat: _pgbench(databases, pgbench, _LIMIT, _WRITERS, seconds, repeat),
            lambda repeat: uvloop.run(_together(databases.app, seconds, repeat)),
            repeats,
        )
    )
    return rows


def _compared(
    name: str, target: float, limit: Callable[[int], float], measured: Callable[[int], float], repeats: int
) -> Row:
    limits, values = [], []
    for repeat in range(repeats):
        limits.append(limit(repeat))
        values.append(measured(repeat))
    return Row(name=name, value=median(values), limit=median(limits), unit="1/s", target=target)


async def _together(dsn: str, seconds: int, repeat: int) -> float:
    pool = Pool(dsn)
    await pool.open()
    try:
        appender = Appender(pool)
        began = time.perf_counter()
        writers = (_writer(appender, f"{repeat}-{n}", began + seconds) for n in range(_WRITERS))
        return sum(await asyncio.gather(*writers)) / (time.perf_counter() - began)
    finally:
        await pool.close()


async def _writer(appender: Appender, name: str, until: float) -> int:
    """Append what _APPEND appends, one event after the other."""
    at = "2026-01-01T00:00:00Z"
    count = 0
    while time.perf_counter() < until:
        task, version = f"together-{name}-{count % 100}", count // 100
        part = {"stream": task, "kind": "task", "expected": version, "stale": True}
        part |= {"event_ids": [_EVENT_ID], "types": ["lease.renewed"], "payloads": [_PAYLOAD]}
        part |= {"fold_version": 1, "phase": "executing", "project": "default", "title": "bench"}
        part |= {
            "executor": "bench",
            "priority": "medium",
            "state": _PAYLOAD,
            "created_at": at,
            "updated_at": at,
        }
        part |= {"principal": task, "route": "callback", "key": str(version), "fingerprint": "\\x00ff"}
        part |= {"answer": "accepted", "attempt": 1, "generation": 1, "seq": version + 1}
        outcome = await appender.append([part])
        if outcome.name != "appended":
            raise RuntimeError(f"an append of the benchmark was not accepted: {outcome.name}")
        count += 1
    return count


def _pgbench(
    databases: Databases, pgbench: Path, script: str, writers: int, seconds: int, repeat: int
) -> float:
    parts = conninfo_to_dict(databases.app)
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        command = [str(pgbench), "-n", "-M", "prepared", "-c", str(writers), "-j", "2", "-T", str(seconds)]
        command += ["-D", "i=-1", "-D", f"run={writers}{repeat}", "-f", file.name]
        environment = {
            "PGHOST": str(parts["host"]),
            "PGPORT": str(parts["port"]),
            "PGUSER": str(parts["user"]),
            "PGPASSWORD": str(parts["password"]),
            "PGDATABASE": str(parts["dbname"]),
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    match = _TPS.search(done.stdout)
    if done.returncode != 0 or match is None:
        raise RuntimeError(f"pgbench failed: {done.stderr[-2000:]}")
    return float(match[1])
