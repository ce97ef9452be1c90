#!/usr/bin/env python3
"""Tell the backend how far the work has come; this also keeps the lease alive."""

from __future__ import annotations

import sys
from pathlib import Path

sys.dont_write_bytecode = True  # bytecode beside a skill's files would look like drift
sys.path.insert(0, str(Path(__file__).absolute().parents[2] / "start-work" / "scripts"))

try:
    from agentic_os_attempt import run_script
    from agentic_os_report import make_parser, report
except ModuleNotFoundError:
    print(
        "The skill start-work is missing beside this one. Ask for this workspace to be hydrated.",
        file=sys.stderr,
    )
    sys.exit(5)


def main() -> int:
    """Send one line of progress; returns the exit code."""
    parser = make_parser(__doc__)
    parser.add_argument("message", help="what was done since the last report, in one sentence")
    parser.add_argument("--step", help="the id of the plan's step that this is about")
    parser.add_argument("--fraction", type=float, help="how much of the work is done, from 0 to 1")
    args = parser.parse_args()
    body = {"message": args.message, "step_id": args.step, "fraction": args.fraction}
    report("progress", body, args, told="The progress was accepted. Go on.")
    return 0


if __name__ == "__main__":
    run_script(main)
