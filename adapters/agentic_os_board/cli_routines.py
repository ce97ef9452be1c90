"""The verbs `agentic-os-board routine …`: issues that are opened by a schedule."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from .command_failed import CommandFailed


class Asks(Protocol):
    """The board's API, for whoever signed in."""

    def ask(self, method: str, path: str, document: Any = None) -> Any:
        """Make a request. Raises CommandFailed."""
        ...


def add_routine_verbs(
    verbs: Any, add_connection_options: Callable[[argparse.ArgumentParser, object], None]
) -> None:
    """Declare the verbs and their options."""
    routine = verbs.add_parser("routine", help="issues that are opened by a schedule")
    routine_verbs = routine.add_subparsers(dest="routine_verb", required=True)
    add = routine_verbs.add_parser("add", help="add a routine of your own")
    add.add_argument("name")
    add.add_argument("--schedule", required=True, help="cron, five fields: '0 7 * * MON-FRI'")
    add.add_argument("--zone", default="UTC", help="time zone, such as Europe/Berlin (default: %(default)s)")
    add.add_argument("--title", required=True, help="of the issue; {date} stands for the day")
    add.add_argument("--body-file", type=Path, help="the issue's text, in markdown")
    add.add_argument("--project", default="")
    add.add_argument(
        "--label",
        action="append",
        default=[],
        help="with agentic-os, each issue becomes a task; may be repeated",
    )
    add.add_argument("--priority", default="", choices=["low", "medium", "high", "critical"])
    add.add_argument(
        "--missed",
        default="one",
        choices=["skip", "one", "all"],
        help="which of the times at which the board did not run are made up for (default: %(default)s)",
    )
    add.add_argument(
        "--hourly-limit", type=int, default=10, help="beyond it, the routine is held (default: %(default)s)"
    )
    add_connection_options(add, _add)
    listing = routine_verbs.add_parser("list", help="list the routines and when they are due")
    add_connection_options(listing, _list)
    for verb, words in (
        ("pause", "open no more issues until it is resumed"),
        ("resume", "go on, after a pause or a hold"),
        ("run", "open its issue now"),
        ("remove", "delete it; its issues stay"),
    ):
        parser = routine_verbs.add_parser(verb, help=words)
        parser.add_argument("name")
        add_connection_options(parser, _act)


def show_routine(routine: Any) -> str:
    """Write a routine as one line."""
    following = routine["next"][0] if routine["next"] else routine["reason"]
    return f"{routine['name']:<24} {routine['state']:<8} {routine['schedule']:<16} {routine['zone']:<16} {following}"


def _add(board: Asks, options: argparse.Namespace, _: Sequence[str]) -> Any:
    body = ""
    if options.body_file:
        try:
            body = options.body_file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandFailed(f"{options.body_file} cannot be read: {error}") from None
    document = {
        "name": options.name,
        "schedule": options.schedule,
        "zone": options.zone,
        "missed": options.missed,
        "hourly_limit": options.hourly_limit,
        "title": options.title,
        "body": body,
        "project": options.project,
        "labels": options.label,
        "priority": options.priority,
    }
    return board.ask("POST", "/api/routines", document)


def _list(board: Asks, _: argparse.Namespace, __: Sequence[str]) -> Any:
    return board.ask("GET", "/api/routines")["items"]


def _act(board: Asks, options: argparse.Namespace, _: Sequence[str]) -> Any:
    found = [one for one in board.ask("GET", "/api/routines")["items"] if one["name"] == options.name]
    if not found:
        raise CommandFailed(f"no routine is named {options.name!r}; see agentic-os-board routine list")
    path = f"/api/routines/{found[0]['id']}"
    if options.routine_verb == "remove":
        board.ask("DELETE", path)
        return {"name": options.name, "state": "removed"}
    if options.routine_verb == "run":
        return board.ask("POST", f"{path}/run")
    board.ask("POST", f"{path}/{options.routine_verb}")
    return {"name": options.name, "state": board.ask("GET", path)["state"]}
