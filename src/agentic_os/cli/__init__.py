"""The command line."""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from agentic_os import __version__

_LAUNCH = ["executor", "launch"]
_Register = Callable[[Any], None]
_MODULES = {
    "up": ("up",),
    "story": ("demo",),
    "agents.connect": ("connect", "connections", "disconnect"),
    "tasks": ("task", "approve", "revise", "reject"),
    "quarantine": ("quarantine",),
    "reconcile": ("reconcile", "doctor"),
    "administration": ("executor", "token", "account", "audit", "projections"),
    "ci": ("ci",),
    "database": ("db",),
    "skills": ("skills",),
    "contract": ("contract",),
    "governance": ("init", "diff", "apply"),
    "measure": ("bench",),
    "policy": ("policy",),
}
"""The commands of each module, in the order of the help. Only those that are needed are imported: all take a second."""
_EXIT_CODES = """\
exit codes:
  0  done
  1  it did not go as asked (the message says why); for checks: what was checked is not in order
  2  wrong usage, or something is missing that only you can give
  3  the server refused (its problem is printed)
  4  no server answers
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the return value is the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:2] == _LAUNCH:
        # Each attempt begins with it, and it needs next to nothing of what the other commands import.
        from agentic_os.cli.agents.launch import launch_main  # noqa: PLC0415

        return launch_main(given[2:])
    if given[:1] == ["--version"]:
        return _run(given, [])
    return _run(given, _registering(given[0] if given else ""))


def _registering(command: str) -> list[_Register]:
    """Import the module that has the command, or all of them for the help, and for what no command is."""
    wanted = [name for name, commands in _MODULES.items() if command in commands] or list(_MODULES)
    return [import_module(f"agentic_os.cli.{name}").add_commands for name in wanted]


def _run(given: Sequence[str], registering: Sequence[_Register]) -> int:
    from agentic_os.cli.client import ServerRefused, ServerUnavailable  # noqa: PLC0415

    parser = argparse.ArgumentParser(
        prog="agentic-os",
        description="The backend that governs AI agents: agents execute, the backend decides.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"agentic-os {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    for register in registering:
        register(commands)
    args = parser.parse_args(_before_command(given))
    if hasattr(args, "command") and given[:1] == ["connect"]:
        args.command = given[len(_before_command(given)) + 1 :]
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        return run(args)
    except ServerRefused as refusal:
        print(refusal, file=sys.stderr)
        return 3
    except ServerUnavailable as problem:
        print(problem, file=sys.stderr)
        return 4
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1


def _before_command(given: Sequence[str]) -> Sequence[str]:
    """Leave out the command that `connect` is given after --, which has options of its own."""
    return given[: given.index("--")] if given[:1] == ["connect"] and "--" in given else given
