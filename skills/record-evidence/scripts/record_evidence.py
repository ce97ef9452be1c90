#!/usr/bin/env python3
"""Record what you saw of one acceptance criterion, before the result is submitted."""

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
    """Send one piece of evidence; returns the exit code."""
    parser = make_parser(__doc__)
    parser.add_argument("criterion", help="the id of the criterion in the brief")
    parser.add_argument("status", choices=["pass", "fail", "inconclusive"], help="how the check ended")
    parser.add_argument("--rank", choices=["self_reported", "observed"], default="self_reported")
    parser.add_argument("--command", help="the command that was run")
    parser.add_argument("--exit-code", type=int, help="how that command ended")
    parser.add_argument("--artifact", help="the digest that attach-artifact printed")
    args = parser.parse_args()
    body = {
        "criterion_id": args.criterion,
        "rank": args.rank,
        "status": args.status,
        "command": args.command,
        "exit_code": args.exit_code,
        "artifact": args.artifact,
    }
    report("evidence", body, args, told="The evidence was accepted. Go on.")
    return 0


if __name__ == "__main__":
    run_script(main)
