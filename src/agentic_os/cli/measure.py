"""`agentic-os bench`: measure this machine, each figure beside its limit in the same run."""

import argparse
import json
import sys

from agentic_os.cli.tables import table


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register `bench`."""
    parser = commands.add_parser(
        "bench", help="measure this machine against the targets", description=__doc__
    )
    parser.add_argument("--quick", action="store_true", help="measure shortly: a look, not a verdict")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from agentic_os.bench.rows import machine  # noqa: PLC0415 - the help needs no server
    from agentic_os.bench.run import run_bench  # noqa: PLC0415

    rows = list(run_bench(quick=args.quick, say=lambda text: print(text, file=sys.stderr, flush=True)))
    shown = [(r.name, f"{r.value:,.2f}", r.unit, r.ratio, r.target, "ok" if r.ok else "MISSED") for r in rows]
    print(table(("WHAT", "VALUE", "UNIT", "OF THE LIMIT", "TARGET", ""), shown))
    if args.json:
        print(json.dumps({"machine": machine(), "rows": [r.as_json() for r in rows]}))
    return 0 if all(r.ok for r in rows) else 1
