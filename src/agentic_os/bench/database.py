"""The database's figures: how fast it starts, and what an append costs beside a bare insert."""

import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from agentic_os.bench.rows import Row, median
from agentic_os.postgres.databases import Databases, open_databases
from agentic_os.postgres.embedded import discard, running_server
from agentic_os.postgres.embedded_binaries import installed_programs
from agentic_os.postgres.migrations import migrate

_PAYLOAD: Final = "x" * 560
_TARGETS: Final = {1: 0.45, 8: 0.45, 32: 0.33}

_LIMIT_TABLE: Final = """
create schema if not exists bench;
create table if not exists bench.line (id bigint generated always as identity primary key, payload jsonb not null);
grant usage on schema bench to public; grant insert on bench.line to public;
"""
_LIMIT: Final = f"""\
insert into bench.line (payload) values ('{{"text": "{_PAYLOAD}"}}');\n"""
# Each client goes round over a hundred tasks of its own; event, head, chain, task row, stale mark, receipt.
_NAME: Final = "bench-' || :run || '-' || :client_id || '-' || :k || '"
_APPEND: Final = f"""\\
\\set i :i + 1
\\set k :i % 100
\\set v :i / 100
select es.append(('{{"streams": [{{"id": "{_NAME}", "kind": "task", "expected": ' || :v || ', "events": [{{'
    '"id": "' || gen_random_uuid() || '", "type": "lease.renewed", "payload": "{_PAYLOAD}"}}], '
    '"task": {{"task_id": "{_NAME}", "version": 1, "fold_version": 1, "phase": "executing", "project": "default", '
    '"title": "bench", "executor": "bench", "priority": "medium", "state": "{_PAYLOAD}", '
    '"created_at": "2026-01-01", "updated_at": "2026-01-01"}}}}], "stale": ["{_NAME}"], "receipt": {{'
    '"principal": "{_NAME}", "route": "callback", "key": "' || :v || '", "fingerprint": "00ff", '
    '"answer": "accepted"}}}}')::jsonb);
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
    """Compare the append function with one durable insert, the two taking turns."""
    with psycopg.connect(databases.owner, autocommit=True) as connection:
        connection.execute(_LIMIT_TABLE)
    pgbench = installed_programs() / "pgbench"
    rows = []
    for writers, target in _TARGETS.items():
        limits, values = [], []
        for repeat in range(repeats):
            limits.append(_pgbench(databases, pgbench, _LIMIT, writers, seconds, repeat))
            values.append(_pgbench(databases, pgbench, _APPEND, writers, seconds, repeat))
        rows.append(
            Row(
                name=f"append with chain, {writers} writer{'s' if writers > 1 else ''}",
                value=median(values),
                limit=median(limits),
                unit="1/s",
                target=target,
            )
        )
    return rows


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
