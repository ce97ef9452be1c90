"""`agentic-os connections`: what is connected; and what `doctor` finds of it."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentic_os.cli.agents.board import Board, NoAdministrator
from agentic_os.cli.client import Client, ServerRefused, ServerUnavailable
from agentic_os.cli.tables import table
from agentic_os.connection.inspection import Finding, inspect
from agentic_os.connection.record import CREDENTIAL, Connection, Connections, ConnectionUnreadable
from agentic_os.home import Home
from agentic_os.settings import Settings


def add_listing(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register `connections`."""
    parser = commands.add_parser(
        "connections", help="list the clients that are connected", description=__doc__
    )
    parser.add_argument(
        "--home", type=Path, help="home of the stack (default: AGENTIC_OS_HOME, ~/.agentic-os)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=list_connections)


def home_of(args: argparse.Namespace) -> Home:
    """Find the home that is meant."""
    return Home(args.home or Settings().home)


def list_connections(args: argparse.Namespace) -> int:
    """List the connections."""
    try:
        found = list(Connections(home_of(args).path).all())
    except ConnectionUnreadable as problem:
        print(f"agentic-os connections: {problem}")
        return 1
    if args.json:
        print(json.dumps({"items": [_shown(connection) for connection in found]}))
        return 0
    rows = [
        (
            c.name,
            c.client_name,
            c.client_version,
            c.role,
            c.project,
            "worktrees" if c.worktree else "one at a time",
            c.workspace,
        )
        for c in found
    ]
    heads = ("NAME", "CLIENT", "VERSION", "ROLE", "PROJECT", "ATTEMPTS", "WORKSPACE")
    print(table(heads, rows) if rows else "Nothing is connected: agentic-os connect CLIENT --workspace DIR")
    return 0


def _shown(connection: Connection) -> dict[str, Any]:
    names = (
        "name",
        "kind",
        "client_version",
        "role",
        "project",
        "workspace",
        "worktree",
        "sessions",
        "plane",
        "complete",
    )
    document = connection.model_dump(mode="json")
    return {"client": connection.client_name, **{name: document[name] for name in names}}


def checks(args: argparse.Namespace) -> Iterator[dict[str, str]]:
    """Look at each connection, here, at the server and at the board."""
    home = home_of(args)
    store = Connections(home.path)
    try:
        found = list(store.all())
    except ConnectionUnreadable as problem:
        yield _check("connection", Finding(status="fault", detail=str(problem)))
        return
    for connection in found:
        for finding in inspect(connection, store.at(connection.name)):
            yield _check(connection.name, finding)
        yield _check(connection.name, _asked(args, connection, store.at(connection.name) / CREDENTIAL))
        if connection.plane == "board":
            yield _check(connection.name, _on_board(home, connection))


def _check(name: str, finding: Finding) -> dict[str, str]:
    return {"name": name, "status": finding.status, "detail": finding.detail, "next": finding.next}


def _asked(args: argparse.Namespace, connection: Connection, file: Path) -> Finding:
    """Ask the server with the credential itself."""
    try:
        credential = file.read_text(encoding="utf-8").strip()
        expected = Client(Client.of(args).url, credential).get(f"/api/skills/{connection.project}")
    except OSError:
        return Finding(status="fault", detail="its credential cannot be read")
    except ServerRefused as refusal:
        return Finding(
            status="fault",
            detail=f"the server does not take its credential ({refusal.problem.get('code')})",
            next=f"agentic-os disconnect {connection.name}, and connect it again.",
        )
    except ServerUnavailable:
        return Finding(
            status="warning", detail="whether its credential counts is not known: no server answers"
        )
    if connection.skills and expected["digest"] != connection.skills:
        return Finding(
            status="warning", detail="the server expects other skills by now; the next attempt gets them"
        )
    return Finding(status="ok", detail="the server takes its credential")


def _on_board(home: Home, connection: Connection) -> Finding:
    endpoint = home.endpoint()
    if endpoint is None or endpoint.board_url is None:
        return Finding(status="warning", detail="its agent cannot be looked at: no board answers")
    try:
        agent = Board.of(home, endpoint.board_url, None).agent(connection.name)
    except (NoAdministrator, ServerRefused, ServerUnavailable) as problem:
        return Finding(
            status="warning", detail=f"its agent cannot be looked at: {str(problem).splitlines()[0]}"
        )
    if agent is None or not agent["active"]:
        return Finding(
            status="fault",
            detail="its agent on the board is " + ("deactivated" if agent else "not there"),
            next=f"agentic-os disconnect {connection.name}, and connect it again.",
        )
    return Finding(status="ok", detail="its agent on the board is active")
