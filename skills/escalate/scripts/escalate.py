#!/usr/bin/env python3
"""Ask a person a question that you may not answer yourself."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.dont_write_bytecode = True  # bytecode beside a skill's files would look like drift
sys.path.insert(0, str(Path(__file__).absolute().parents[2] / "start-work" / "scripts"))

try:
    from agentic_os_attempt import run_script
    from agentic_os_report import make_parser, read_text, report
except ModuleNotFoundError:
    print(
        "The skill start-work is missing beside this one. Ask for this workspace to be hydrated.",
        file=sys.stderr,
    )
    sys.exit(5)


def main() -> int:
    """Send one question; returns the exit code."""
    parser = make_parser(__doc__)
    parser.add_argument("question", help="the question, answerable without reading anything else")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        type=parse_option,
        metavar="ID=TEXT",
        help="one answer to choose",
    )
    parser.add_argument("--default", help="the id of the option to take if nobody answers")
    parser.add_argument("--context", help="file with what a person should know, in markdown")
    parser.add_argument(
        "--go-on", action="store_true", help="do not wait: the attempt stays open while people think"
    )
    args = parser.parse_args()
    body = {
        "question": args.question,
        "blocking": not args.go_on,
        "options": args.option or None,
        "default_option": args.default,
        "context": read_text(args.context) if args.context else None,
    }
    told = "The question was accepted. Go on with what does not depend on the answer."
    if not args.go_on:
        told = "The question was accepted, and this attempt is closed. Stop now: the answer comes with a new brief."
    report("escalation", body, args, told=told)
    return 0


def parse_option(text: str) -> dict[str, str]:
    """Read one option."""
    name, sign, label = text.partition("=")
    if not (name and sign and label):
        raise argparse.ArgumentTypeError(f"'{text}': write ID=TEXT")
    return {"id": name, "label": label}


if __name__ == "__main__":
    run_script(main)
