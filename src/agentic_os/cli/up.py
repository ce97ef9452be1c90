"""`agentic-os up`: the whole stack in the foreground."""

import argparse
import sys
from pathlib import Path

import structlog

from agentic_os.home import Home
from agentic_os.settings import Settings


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register `up`."""
    parser = commands.add_parser("up", help="run the stack in the foreground", description=__doc__)
    parser.add_argument(
        "--home", type=Path, help="folder of all state (default: AGENTIC_OS_HOME, ~/.agentic-os)"
    )
    parser.add_argument("--port", type=int, default=8700, help="API (default 8700; 0 takes a free one)")
    parser.add_argument(
        "--board-port", type=int, default=8701, help="board (default 8701; 0 takes a free one)"
    )
    parser.add_argument(
        "--governance",
        type=Path,
        help="governance folder to apply at the start (default: HOME/governance, else what was applied last)",
    )
    parser.add_argument(
        "--public-url", help="what links and briefs are built from (default: the API's own address)"
    )
    parser.add_argument(
        "--control-plane", help="which tracker tasks are shown on (default board; none leaves them unshown)"
    )
    parser.add_argument("--run-as", help="system user for agents' processes, when started as root")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="start nothing (exit 3) unless every workspace of skills.yaml could be brought in step; else only the "
        "executors of one that could not be get no work",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from agentic_os.stack import CannotStart, Choices, serve  # noqa: PLC0415 - the help needs no server

    settings = Settings()
    choices = Choices(
        home=Home(args.home or settings.home),
        port=args.port,
        board_port=args.board_port,
        governance=args.governance or settings.governance,
        public_url=args.public_url or settings.public_url,
        control_plane=args.control_plane or settings.control_plane,
        run_as=args.run_as or settings.run_as,
        strict=args.strict,
    )
    log_to_stderr()
    try:
        serve(choices, settings)
    except CannotStart as problem:
        print(f"agentic-os: {problem}", file=sys.stderr)
        return problem.exit_code
    return 0


def log_to_stderr() -> None:
    """Write the log for people."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
