"""Measure what the product adds to a client of an agent: connecting it, and the time until its first tool call.

    .venv/bin/python benchmarks/agents.py [--client claude-code] [--client codex] [--rounds N] [--json]

The clients are those of `bin/test --with agents`, which installs them; a scripted model on loopback drives them. The
client's own start, until its first tool call, is measured in the same run, in a worktree that is prepared beforehand.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.agents.clients import by_name, git, repository, surroundings
from tests.agents.model import Act, Model, Say, Shell, Turn, running_model
from tests.agents.product import Product, running_product

from agentic_os.connection import launching
from agentic_os.connection.profile import Profile, command_line, find_profile, with_scripts
from agentic_os.connection.workspace import prepare_attempt, scripts_of
from agentic_os.hydration import DEFAULT_PROJECT, load_definition, resolve

CONNECT_SECONDS, ADDED_SECONDS = 60.0, 1.5
_PATIENCE = 60.0
Row = tuple[str, float, float | None]


class Called:
    """A script whose first act is a tool call, and the instant at which the client came back with its result."""

    def __init__(self) -> None:
        self.at = 0.0
        self.seen = threading.Event()

    def script(self, turn: Turn) -> Act:
        """Call a tool that all clients have and permit, then end."""
        if not turn.results:
            return Shell("git status")
        if not self.seen.is_set():
            self.at = time.monotonic()
            self.seen.set()
        return Say("That is all.")

    def since(self, began: float) -> float:
        """Wait for the call; returns the seconds that it took. Raises TimeoutError."""
        if not self.seen.wait(_PATIENCE):
            raise TimeoutError("the client called no tool")
        return self.at - began


def main() -> int:
    """Measure, print, and exit with 1 where a target is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--client", action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows: list[Row] = []
    with (
        # Not in /tmp, which sandboxes leave open to everybody.
        tempfile.TemporaryDirectory(dir="/var/tmp") as made,
        running_model() as model,
        running_product(Path(made), model) as product,
    ):
        for client in args.client or ["claude-code", "codex"]:
            rows += measured(product, client, args.rounds)
    misses = [name for name, value, target in rows if target is not None and value > target]
    if args.json:
        print(
            json.dumps({"rows": [{"name": n, "value": v, "target": t} for n, v, t in rows], "ok": not misses})
        )
    else:
        for name, value, target in rows:
            print(f"{name:58} {value:8.2f}   target {'none' if target is None else f'≤ {target:g}'}")
    return 1 if misses else 0


def measured(product: Product, client: str, rounds: int) -> list[Row]:
    """Measure one client: connect, its own start, and the start through the product."""
    workspace = repository(product.place / "workspaces" / client)
    began = time.monotonic()
    product.connect(client, workspace, client)
    connected = time.monotonic() - began
    own = statistics.median(alone(product, client, number) for number in range(rounds))
    whole = statistics.median(assigned(product, client) for _ in range(rounds))
    return [
        (f"{client}: connect with its test wake, s", connected, CONNECT_SECONDS),
        (f"{client}: own start until its first tool call, s", own, None),
        (f"{client}: assignment to its first tool call, s", whole, None),
        (f"{client}: added by the product, s", whole - own, ADDED_SECONDS),
    ]


def alone(product: Product, client: str, number: int) -> float:
    """Start the client by itself, as the launcher would, where all is prepared."""
    profile = find_profile(client)
    workspace = repository(product.place / "alone" / f"{client}-{number}")
    folder = product.place / "alone" / f"{client}-{number}-1"
    git(workspace, "worktree", "add", "--quiet", "-b", "agentic-os/alone/1", str(folder))
    skills = resolve(load_definition(None), DEFAULT_PROJECT)
    prepared = prepare_attempt(folder, profile, skills)
    template = with_scripts(list(profile.launch), scripts_of(profile, skills))
    values = {"prompt": "Begin.", "session": launching.new_session()}
    command = command_line(template, values | launching.places_of(prepared, template))
    environment = surroundings(product.place / "person", product.model.url, by_name(client))
    return first_call(product.model, lambda: run(command, folder, environment, profile))


def run(command: list[str], folder: Path, environment: dict[str, str], profile: Profile) -> None:
    """Run a client to its end."""
    subprocess.run(
        command,
        cwd=folder,
        env=environment | profile.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )


def assigned(product: Product, client: str) -> float:
    """Create a task for the client, which is assigned at once; the attempt that reports nothing is then called off."""
    tasks: list[str] = []
    took = first_call(product.model, lambda: tasks.append(product.ask("Call a tool", client)))
    product.until_logged(tasks[0], "ended with")
    product.comment(tasks[0], "/cancel")
    product.until(tasks[0], "cancelled")
    return took


def first_call(model: Model, begin: Callable[[], None]) -> float:
    """Measure from the beginning to the first result of a tool, in seconds."""
    called = Called()
    model.script = called.script
    began = time.monotonic()
    begin()
    return called.since(began)


if __name__ == "__main__":
    sys.exit(main())
