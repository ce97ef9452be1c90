"""A server in a process of its own, and what the system says of that process."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A server that answers on a port of this machine."""

    port: int
    pid: int


@asynccontextmanager
async def served(wanted: Mapping[str, str]) -> AsyncIterator[Process]:
    """Run agentic_os.bench.serving with this description, until the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agentic_os.bench.serving", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(wanted).encode() + b"\n")
        yield Process(port=int(await process.stdout.readline()), pid=process.pid)
    finally:
        process.stdin.close()
        await process.wait()
