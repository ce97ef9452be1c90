"""`agentic-os disconnect`: take a connection back, every byte of it."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentic_os.cli.agents.board import Board, NoAdministrator
from agentic_os.cli.client import Client, ServerRefused, add_connection
from agentic_os.connection import workspace as places
from agentic_os.connection.record import (
    CREDENTIAL,
    Changes,
    Connection,
    Connections,
    ConnectionUnknown,
    ConnectionUnreadable,
)
from agentic_os.connection.repository import WorkspaceUnfit, look_at
from agentic_os.home import Home
from agentic_os.hydration import WorkspaceError
from agentic_os.settings import Settings


def add_disconnect(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the command."""
    parser = commands.add_parser(
        "disconnect",
        help="take a connection back: credential, agent, skills and settings",
        description="Revoke the executor for good, and give the workspace back every byte.",
        epilog="Exit: 0 taken back, 1 not, or not all (the message says what is left), 2 usage, 3 the server refused, "
        "4 no server answers.",
    )
    parser.add_argument("name", help="the name that it was connected under")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument(
        "--force", action="store_true", help="also while it works on something, which then goes to another"
    )
    parser.add_argument("--board-token-file", type=Path, help="token of an administrator of the board")
    add_connection(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    home = Home(args.home or Settings().home)
    store = Connections(home.path)
    try:
        connection = store.read(args.name)
    except ConnectionUnknown:
        return _told(
            args, "refused", [f"nothing is connected as {args.name!r}; see: agentic-os connections"], 1
        )
    except ConnectionUnreadable as problem:
        return _told(args, "refused", [str(problem)], 1)
    client = Client.of(args)
    held = _held(client, connection.name)
    if held and not args.force:
        return _told(
            args,
            "refused",
            [
                f"{connection.name} works on {held} attempts; wait for them, or say --force: they go to another"
            ],
            1,
        )
    others = [
        other for other in store.all() if other.workspace == connection.workspace and other.name != args.name
    ]
    if not args.json:
        print("\n".join(_plan(connection, others)))
    if not args.yes and not _agreed(args):
        return _told(args, "refused", ["nothing was done"], 2)
    try:
        board = _board(args, home, connection)
        steps = [*_at_server(client, board, connection), *_here(store, connection, others)]
    except (WorkspaceError, WorkspaceUnfit, NoAdministrator, OSError) as problem:
        return _told(args, "incomplete", [str(problem), "run it again when that is out of the way"], 1)
    left = [step for step in steps if step.startswith("left: ")]
    if connection.changes.files:
        (store.at(connection.name) / CREDENTIAL).unlink(missing_ok=True)
        store.write(connection)
        steps.append(f"correct that, and run again: agentic-os disconnect {connection.name}")
    else:
        store.forget(connection.name)
    return _told(args, "incomplete" if left else "disconnected", steps, 1 if left else 0)


def _held(client: Client, name: str) -> int:
    items = client.get("/api/executors")["items"]
    return next((int(executor["load"]) for executor in items if executor["name"] == name), 0)


def _plan(connection: Connection, others: Sequence[Connection]) -> list[str]:
    files = ", ".join(change.file for change in connection.changes.files) or "none"
    shared = ", ".join(other.name for other in others)
    skills = (
        f"stay, for {shared}"
        if others
        else "go"
        if connection.changes.hydrated
        else "stay: they were there before"
    )
    return [
        f"Disconnect {connection.name} from {connection.workspace}:",
        f"  executor  {connection.name} is revoked for good, its credential removed",
        f"  agent     deactivated on the {connection.plane}" if connection.agent else "  agent     none",
        f"  settings  ours are taken out of: {files}",
        f"  skills    {skills}",
    ]


def _agreed(args: argparse.Namespace) -> bool:
    if args.json or not sys.stdin.isatty():
        print("agentic-os: nobody can be asked here; say --yes", file=sys.stderr)
        return False
    return input("Do this? [y/N] ").strip().lower() in {"y", "yes"}


def _board(args: argparse.Namespace, home: Home, connection: Connection) -> Board | None:
    endpoint = home.endpoint()
    if connection.plane != "board" or endpoint is None or endpoint.board_url is None:
        return None
    token = args.board_token_file.read_text(encoding="utf-8").strip() if args.board_token_file else None
    return Board.of(home, endpoint.board_url, token)


def _at_server(client: Client, board: Board | None, connection: Connection) -> list[str]:
    """Have nothing wake it any more, and nothing take its word."""
    told = []
    if board is not None and board.agent(connection.name) is not None:
        board.deactivate(connection.name)
        told.append(f"the agent {connection.name} is deactivated")
    try:
        revoked = client.delete(f"/api/executors/{connection.name}")
        told.append(f"the executor {connection.name} is revoked")
        told += [f"the task {task} goes to another" for task in revoked["superseded"]]
    except ServerRefused as refusal:
        if refusal.problem.get("code") != "not_found":
            raise
        told.append(f"the executor {connection.name} was revoked before")
    return told


def _here(store: Connections, connection: Connection, others: Sequence[Connection]) -> list[str]:
    """Give the workspace back, but for what other connections need there; they take over the record of it."""
    workspace = Path(connection.workspace)
    if not workspace.is_dir():
        connection.changes = Changes()
        return [f"the workspace {workspace} is gone"]
    changes = connection.changes
    for other in others:
        changes = _handed_over(store, other, changes)
    left = places.take_back(workspace, changes, look_at(workspace))
    # What could not be read yet can be taken out once it can; a file of ours that a person made theirs stays.
    again = [
        c for c in changes.files if c.added is not None and any(one.startswith(f"{c.file}: ") for one in left)
    ]
    connection.changes, connection.complete = Changes(files=again), False
    said = f"{workspace} is as it was" + (", but for" if left else "")
    return [said, *(f"left: {one}" for one in left)]


def _handed_over(store: Connections, other: Connection, changes: Changes) -> Changes:
    """Let another connection answer for what it needs; return the rest."""
    profile: dict[str, Any] = other.profile or {}
    if not profile:
        return changes
    needed = {part["file"] for part in (*profile["settings"], *profile["commands"])}
    moved = [change for change in changes.files if change.file in needed]
    given = changes.model_copy(update={"files": moved})
    other.changes = places.changes_in_all(given, other.changes)
    store.write(other)
    return Changes(files=[change for change in changes.files if change.file not in needed])


def _told(args: argparse.Namespace, status: str, words: Sequence[str], code: int) -> int:
    if args.json:
        print(json.dumps({"name": args.name, "status": status, "steps": list(words)}))
    else:
        print("\n".join(words), file=sys.stderr if code else sys.stdout)
    return code
