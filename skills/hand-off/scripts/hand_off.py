#!/usr/bin/env python3
"""Hand data to the next role; it comes into that role's brief."""

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
    """Send one hand-off; returns the exit code."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "payload", help="file with a JSON object that fits what the role takes; - for standard input"
    )
    parser.add_argument("--to", required=True, metavar="ROLE", help="the role that goes on")
    parser.add_argument("--reason", required=True, help="why, in one sentence")
    args = parser.parse_args()
    body = {"to_role": args.to, "reason": args.reason, "payload": read_json(args.payload)}
    report("handoff", body, args, told="The hand-off was accepted. Submit your result, too.")
    return 0


if __name__ == "__main__":
    run_script(main)
