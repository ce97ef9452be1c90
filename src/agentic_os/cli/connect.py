"""`agentic-os connect`: make an executor of an agent's client, step by step, or of a command."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agentic_os.cli.board import NoAdministrator
from agentic_os.cli.choosing import COMMAND, Usage, prepare
from agentic_os.cli.connecting import Connecting, NotConnected, Step
from agentic_os.cli.connections import add_listing, list_connections
from agentic_os.cli.disconnect import add_disconnect
from agentic_os.clock import elapsed
from agentic_os.connection.launching import ClientUnusable
from agentic_os.connection.profile import ProfileInvalid, profile_names
from agentic_os.connection.record import ConnectionUnreadable
from agentic_os.connection.repository import WorkspaceUnfit
from agentic_os.connection.workspace import Unmergeable
from agentic_os.hydration import DEFAULT_PROJECT, DefinitionError, WorkspaceError


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register `connect`, `connections` and `disconnect`."""
    parser = commands.add_parser(
        "connect",
        help="make an executor of an agent's client, such as Claude Code, in a workspace",
        description="Show step by step what will be done, ask, and do it; what fails is undone.",
        epilog="Exit: 0 connected, or it was; 1 not connected, and nothing changed; 2 usage; 3 the server refused; "
        "4 no server answers.",
    )
    clients = ", ".join(profile_names())
    parser.add_argument("client", nargs="?", help=f"{clients}, one of HOME/profiles, or {COMMAND}")
    parser.add_argument("--workspace", type=Path, help="the folder it works in, best a git repository")
    parser.add_argument("--role", help="its role (default: worker)")
    parser.add_argument("--name", help="the executor's name (default: that of the client)")
    parser.add_argument("--project", help=f"whose skills it gets (default: {DEFAULT_PROJECT})")
    parser.add_argument(
        "--sessions",
        choices=("resume", "fresh"),
        help="what an attempt at a task begins with (default: resume)",
    )
    parser.add_argument(
        "--output", action="append", default=[], metavar="FILE", help="what the command makes"
    )
    parser.add_argument("--input", action="append", default=[], metavar="FILE", help="what the command needs")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--dry-run", action="store_true", help="show the steps, and do none")
    parser.add_argument("--no-test", action="store_true", help="leave out the test wake")
    parser.add_argument("--list", action="store_true", help="list what is connected")
    parser.add_argument("--board-token-file", type=Path, help="token of an administrator of the board")
    parser.add_argument(
        "--home", type=Path, help="home of the stack (default: AGENTIC_OS_HOME, ~/.agentic-os)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_run, command=[])
    add_listing(commands)
    add_disconnect(commands)


def _run(args: argparse.Namespace) -> int:
    if args.list:
        return list_connections(args)
    began = elapsed()
    try:
        connecting, differences = prepare(args)
    except (NotConnected, ClientUnusable, WorkspaceUnfit, WorkspaceError, DefinitionError) as problem:
        return _refuse(args, str(problem), 1)
    except (Unmergeable, NoAdministrator, ConnectionUnreadable, ProfileInvalid) as problem:
        return _refuse(args, str(problem), 1)
    except Usage as problem:
        return _refuse(args, str(problem), 2)
    connection = connecting.connection
    is_done = connecting.planned is None or connecting.planned.is_done
    if connecting.before is not None and not differences and is_done:
        for step in connecting.steps:
            step.status = "unchanged"
        return _tell(
            args,
            connecting,
            "unchanged",
            began,
            f"{connection.name} is connected as asked; nothing was changed.",
        )
    connecting.told = (lambda _: None) if args.json else _show_done
    if not args.json:
        _show(connecting, differences)
    if args.dry_run:
        return _tell(args, connecting, "planned", began, "Nothing was done (--dry-run).")
    if not args.yes and not _agreed(args):
        return _tell(args, connecting, "refused", began, "Nothing was done.")
    try:
        connecting.carry_out()
    except NotConnected as problem:
        _tell(args, connecting, "failed", began, str(problem))
        return 1
    return _tell(args, connecting, "connected", began, _closing(connecting))


def _show(connecting: Connecting, differences: Sequence[str]) -> None:
    connection = connecting.connection
    verb = "Connect" if connecting.before is None else "Change the connection of"
    title = connecting.profile.title if connecting.profile else "a command"
    print(f"{verb} {title} as {connection.name}, role {connection.role}, in {connection.workspace}:")
    for difference in differences:
        print(f"  {difference}")
    repository = connecting.repository
    if repository is None:
        print("  It is no git repository: attempts share the folder, and run one at a time.")
    elif not connection.worktree:
        print("  Attempts share the folder, and run one at a time: only the board makes worktrees.")
    elif repository.changed:
        print(
            f"  Not committed: {repository.changed}. Attempts begin from {repository.commit[:10]}, without that."
        )
    for number, step in enumerate(connecting.steps, 1):
        _print_step(f"{number:2}. {step.name}", step)


def _show_done(step: Step) -> None:
    short = replace(step, detail=step.detail if step.status == "failed" else step.detail[:1])
    _print_step(f"    {step.status:6} {step.name}", short, width=24)


def _print_step(label: str, step: Step, width: int = 16) -> None:
    first, *more = step.detail or [""]
    print(f"{label:{width}} {first}", flush=True)
    for line in more:
        print(f"{'':{width}} {line}", flush=True)


def _agreed(args: argparse.Namespace) -> bool:
    if args.json or not sys.stdin.isatty():
        print("agentic-os: nobody can be asked here; say --yes", file=sys.stderr)
        return False
    return input("Do this? [y/N] ").strip().lower() in {"y", "yes"}


def _closing(connecting: Connecting) -> str:
    name = connecting.connection.name
    told = [f"{name} is connected. Give it work: agentic-os task new TITLE --assignee {name}"]
    if connecting.board is None:
        told.append(woken_by_hand(connecting))
    return "\n".join(told)


def woken_by_hand(connecting: Connecting) -> str:
    """Say how another control plane is told to wake it."""
    connection, wake = connecting.connection, connecting.wake()
    environment = {
        "AGENTIC_OS_URL": connecting.url,
        "AGENTIC_OS_CREDENTIAL_FILE": wake["secret_files"]["AGENTIC_OS_CREDENTIAL_FILE"],
    }
    command, *arguments = connecting.command()
    if connection.plane == "paperclip":
        agent = {
            "name": connection.name,
            "adapterType": "process",
            "adapterConfig": {
                "command": command,
                "args": arguments,
                "cwd": connection.workspace,
                "env": environment,
                "timeoutSec": wake["time_limit_seconds"],
            },
            "runtimeConfig": {"heartbeat": {"enabled": False, "wakeOnDemand": True, "maxConcurrentRuns": 1}},
            "metadata": {"agentic_os_executor": connection.name},
        }
        return (
            "Add this agent in Paperclip (POST /api/companies/COMPANY/agents):\n"
            + json.dumps(agent, indent=2)
            + f"\nThen link its account: agentic-os account link {connection.name} paperclip AGENT_ID"
        )
    told = " ".join(f"{name}={value}" for name, value in environment.items())
    return (
        f"No tracker wakes it. Whatever does runs, with AGENTIC_OS_TASK, _ATTEMPT and _BRIEF set:\n  {told} \\\n  "
        + " ".join([command, *arguments])
    )


def _tell(args: argparse.Namespace, connecting: Connecting, status: str, began: float, words: str) -> int:
    if args.json:
        print(json.dumps(_as_json(connecting, status, began, words)))
    else:
        print(words)
    return 2 if status == "refused" else 0


def _as_json(connecting: Connecting, status: str, began: float, words: str) -> dict[str, Any]:
    trial = connecting.trial
    return {
        "name": connecting.connection.name,
        "status": status,
        "message": words,
        "steps": [step.as_json() for step in connecting.steps],
        "test": None
        if trial is None
        else {
            "passed": trial.passed,
            "task": trial.task,
            "said": trial.said,
            "log": trial.log,
            "seconds": trial.seconds,
        },
        "seconds": round(elapsed() - began, 1),
    }


def _refuse(args: argparse.Namespace, message: str, code: int) -> int:
    if args.json:
        print(
            json.dumps(
                {"name": args.name, "status": "refused", "message": message, "steps": [], "test": None}
            )
        )
    print(f"agentic-os connect: {message}", file=sys.stderr)
    return code
