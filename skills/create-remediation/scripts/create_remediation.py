#!/usr/bin/env python3
"""Propose tasks for what you found and may not repair within this one."""

from __future__ import annotations

import sys
from pathlib import Path

sys.dont_write_bytecode = True  # bytecode beside a skill's files would look like drift
sys.path.insert(0, str(Path(__file__).absolute().parents[2] / "start-work" / "scripts"))

try:
    from agentic_os_attempt import run_script
    from agentic_os_report import make_parser, read_json, report
except ModuleNotFoundError:
    print(
        "The skill start-work is missing beside this one. Ask for this workspace to be hydrated.",
        file=sys.stderr,
    )
    sys.exit(5)


def main() -> int:
    """Propose tasks; returns the exit code."""
    parser = make_parser(__doc__)
    parser.add_argument("tasks", help="file with a JSON object of `reason` and `tasks`; - for standard input")
    args = parser.parse_args()
    told = "The proposal was accepted; policy decides on each task. Go on with your own."
    report("task_request", read_json(args.tasks), args, told=told)
    return 0


if __name__ == "__main__":
    run_script(main)
