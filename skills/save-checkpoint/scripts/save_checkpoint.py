#!/usr/bin/env python3
"""Save where the work stands, so that the next attempt can go on from there."""

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
    """Send one checkpoint; returns the exit code."""
    parser = make_parser(__doc__)
    parser.add_argument("note", help="what is done and what is next, so that somebody else could go on")
    parser.add_argument("--state", help="file with a JSON object of up to 64 KiB for whoever goes on")
    args = parser.parse_args()
    body = {"note": args.note, "state": read_json(args.state) if args.state else None}
    report("checkpoint", body, args, told="The checkpoint was accepted. Go on.")
    return 0


if __name__ == "__main__":
    run_script(main)
