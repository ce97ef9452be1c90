"""`agentic-os db`: the schema, with the server started for it when none runs."""

import argparse
import json
import sys
from pathlib import Path

from agentic_os.home import Home
from agentic_os.postgres.databases import DatabaseUnavailable, open_databases
from agentic_os.postgres.migrations import MigrationError, migrate, status
from agentic_os.settings import Settings


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register `db migrate` and `db status`."""
    verbs = commands.add_parser("db", help="the database", description=__doc__).add_subparsers(
        metavar="VERB", required=True
    )
    for name, text in (("migrate", "apply the migrations that are missing"), ("status", "list migrations")):
        parser = verbs.add_parser(name, help=text)
        parser.add_argument("--home", type=Path, help="home of the embedded database")
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.set_defaults(run=_run, verb=name)


def _run(args: argparse.Namespace) -> int:
    settings = Settings()
    home = Home(args.home or settings.home)
    url, app, board = (
        v.get_secret_value() if v is not None else None
        for v in (settings.database_url, settings.database_app_url, settings.database_board_url)
    )
    try:
        with open_databases(
            home.path, url, say=lambda _: None, database_app_url=app, database_board_url=board
        ) as databases:
            if args.verb == "migrate":
                applied = migrate(databases.owner, databases.app)
                text = "\n".join(f"applied {name}" for name in applied) or "nothing to apply"
                print(json.dumps({"applied": applied}) if args.json else text)
                return 0
            found = status(databases.owner)
    except (DatabaseUnavailable, MigrationError) as problem:
        print(f"agentic-os: {problem}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps([{"number": m.number, "name": m.name, "applied": m.applied} for m in found]))
    else:
        print("\n".join(f"{'applied' if m.applied else 'missing'}  {m.name}" for m in found))
    return 0 if all(m.applied for m in found) else 1
