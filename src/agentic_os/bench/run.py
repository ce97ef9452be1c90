"""Run the measurements, one after the other."""

from collections.abc import Callable, Iterator

import uvloop

from agentic_os.bench.callbacks import callbacks
from agentic_os.bench.database import appends, bench_database, starts
from agentic_os.bench.growth import growth
from agentic_os.bench.policy import policy
from agentic_os.bench.projection import projection
from agentic_os.bench.rows import Row
from agentic_os.bench.simulation import simulation
from agentic_os.bench.uploads import uploads
from agentic_os.bench.worker import worker
from agentic_os.demo.story import run_demo


def run_bench(*, quick: bool, say: Callable[[str], None]) -> Iterator[Row]:
    """Measure everything, yielding rows as they come; `quick` measures shortly, and so less surely."""
    repeats, seconds = (1, 1) if quick else (3, 3)
    yield from policy(repeats)
    say("starting the embedded database ...")
    yield from starts(repeats)
    with bench_database(lambda _: None) as (databases, _):
        say("appending, beside bare inserts ...")
        yield from appends(databases, seconds, repeats)
    with bench_database(lambda _: None) as (databases, home):
        say("callbacks, beside an empty POST ...")
        yield from uvloop.run(callbacks(databases, home, seconds, repeats))
        say("uploads ...")
        yield from uvloop.run(uploads(databases, home, repeats))
        say("the worker ...")
        yield from uvloop.run(worker(databases, home, 50 if quick else 300))
        say("two workers and a slow tracker ...")
        yield from uvloop.run(projection(databases, home, 300 if quick else 2000, repeats))
        say("long histories, full callbacks, many deadlines ...")
        yield from uvloop.run(growth(databases, home, 20 if quick else 100, 1000 if quick else 10_000))
        say("simulating another policy ...")
        yield from uvloop.run(simulation(databases, home, 5000 if quick else 100_000))
    if not quick:
        say("the demo ...")
        outcome = run_demo(None, lambda _: None)
        yield Row(name="demo", value=outcome.seconds, unit="s", target=15, at_most=True)
