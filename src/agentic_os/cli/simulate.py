"""`agentic-os policy simulate`: what another policy would have made of the decisions that were made."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

from agentic_os.cli.client import Client, ServerRefused, add_connection
from agentic_os.cli.tables import table
from agentic_os.governance import ORGANISATION, GovernanceInvalid, documents_in

_WIDTH: Final = 30


def add_verb(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register `simulate` beside the other verbs of `policy`."""
    parser = verbs.add_parser(
        "simulate", help="replay recorded decisions under another policy", description=__doc__
    )
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="a governance folder with the other policy"
    )
    parser.add_argument("--last", type=_count, metavar="N", help="only the last N decisions")
    parser.add_argument("--since", metavar="TIME", help="only decisions from this time on, with its zone")
    parser.add_argument(
        "--fail-on", choices=("loosened", "any"), help="exit 1 when anything is loosened, or differs at all"
    )
    add_connection(parser)
    parser.set_defaults(run=_simulate)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _simulate(args: argparse.Namespace) -> int:
    try:
        body = _files(args.folder)
    except GovernanceInvalid as problem:
        print(problem, file=sys.stderr)
        return 2
    extent = {k: v for k, v in (("last", args.last), ("since", args.since)) if v is not None}
    report = _followed(Client.of(args), {**body, **extent})
    if report is None:
        print("The simulation broke off: the server ended before it did.", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        _show(report)
    counts = {None: 0, "loosened": report["loosened"], "any": report["differing"]}
    return 1 if counts[args.fail_on] else 0


def _files(folder: Path) -> dict[str, Any]:
    """Give the files of a governance folder as a simulation takes them; faults will call them by their paths."""
    files = {
        name: {"name": str(folder / name)[-300:], "text": text} for name, text in documents_in(folder).items()
    }
    organisation = files.pop(ORGANISATION, None)
    return {"policy": list(files.values())} | ({"organisation": organisation} if organisation else {})


def _followed(client: Client, body: dict[str, Any]) -> dict[str, Any] | None:
    """Follow a simulation, with a bar for whoever looks on; None for one that ended without a report."""
    seen = sys.stderr.isatty()
    report: dict[str, Any] | None = None
    for kind, data in client.stream("/api/policy/simulations", body):
        if kind == "problem":
            raise ServerRefused(data)
        if kind == "report":
            report = data
        elif seen:
            print(f"\r{bar(data['done'], data['total'])}", end="", file=sys.stderr, flush=True)
    if seen:
        print(file=sys.stderr)
    return report


def bar(done: int, total: int) -> str:
    """Draw how far it is."""
    filled = _WIDTH * done // max(total, 1)
    return f"[{'#' * filled}{' ' * (_WIDTH - filled)}] {done:,} of {total:,} decisions"


def _show(report: dict[str, Any]) -> None:
    for transition in report["transitions"]:
        print(f"{transition['direction']}: {transition['transition']} ({transition['count']})")
        rows = [_row(decision) for decision in transition["decisions"]]
        print(table(("  TASK", "HOOK", "AT", "RULES BEFORE", "RULES NOW"), rows), end="\n\n")
    if report["unlisted"]:
        print(f"{report['unlisted']:,} more are counted, and not listed.\n")
    print(
        f"{report['decisions']:,} decisions, {report['differing']:,} differ: "
        f"{report['loosened']:,} loosened, {report['tightened']:,} tightened."
    )


def _row(decision: dict[str, Any]) -> tuple[str, ...]:
    before, rules = (", ".join(decision[name]) or "the defaults" for name in ("rules_before", "rules"))
    return (f"  {decision['task_id']}", decision["hook"], decision["at"], before, rules)
