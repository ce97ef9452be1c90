"""`agentic-os demo`: the main job end to end, told step by step."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from agentic_os.demo.story import DemoFailed, run_demo


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register `demo`."""
    parser = commands.add_parser(
        "demo", help="see the main job end to end, on a stack of its own", description=__doc__
    )
    parser.add_argument(
        "--home", type=Path, help="keep the stack's state there (default: a folder that is removed)"
    )
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    try:
        outcome = run_demo(args.home, lambda text: print(text, flush=True))
    except DemoFailed as problem:
        print(f"agentic-os: {problem}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(asdict(outcome)), flush=True)
    else:
        print(
            f"Done in {outcome.seconds} s: {outcome.phase}, {outcome.attempts} attempts, audit {outcome.audit}."
        )
    return 0 if outcome.phase == "completed" and outcome.audit == "ok" else 1
