#!/usr/bin/env python3
"""Submit the review of the attempt that was started in this workspace; the attempt then closes."""

from __future__ import annotations

import sys
from pathlib import Path

sys.dont_write_bytecode = True  # bytecode beside a skill's files would look like drift
sys.path.insert(0, str(Path(__file__).absolute().parents[2] / "start-work" / "scripts"))

try:
    from agentic_os_attempt import run_script, tell_directive
    from agentic_os_submission import make_parser, open_attempt, read_body, submit
except ModuleNotFoundError:
    print(
        "The skill start-work is missing beside this one. Ask for this workspace to be hydrated.",
        file=sys.stderr,
    )
    sys.exit(5)


def main() -> int:
    """Submit one review; returns the exit code."""
    args = make_parser("review", __doc__).parse_args()
    attempt = open_attempt(args)
    answer = submit("review", read_body("review", args.document, attempt), attempt, args)
    print("The review was accepted, and this attempt is closed. Stop now: change nothing.")
    tell_directive(answer, expected="stop")
    return 0


if __name__ == "__main__":
    run_script(main)
