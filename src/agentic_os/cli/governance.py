"""`agentic-os init`, `diff`, `apply`: a governance folder to begin with, what it changes, and putting it in force."""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentic_os.cli.client import Client, add_connection
from agentic_os.clock import now
from agentic_os.domain.skill_lock import SkillLock
from agentic_os.domain.workspaces import undefined
from agentic_os.governance import Governance, GovernanceInvalid, documents_in, load_governance
from agentic_os.governance.difference import (
    Change,
    described,
    differences,
    shadow_differences,
    skill_differences,
)
from agentic_os.governance.lint import lint
from agentic_os.governance.preset import MODELS, TEAMS, compose
from agentic_os.hydration import SKILLS, DefinitionError, lock_text, text_of


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the commands of the governance folder."""
    init = commands.add_parser("init", help="write a governance folder to begin with")
    init.add_argument("--team", required=True, choices=TEAMS, help="who is there")
    init.add_argument(
        "--operating-model", required=True, choices=MODELS, help="how tightly they are governed"
    )
    init.add_argument("--into", type=Path, default=Path("governance"), help="folder (default: governance)")
    init.add_argument("--yes", action="store_true", help="write without asking")
    init.add_argument("--force", action="store_true", help="overwrite files that are there")
    init.add_argument("--json", action="store_true", help="print JSON")
    init.set_defaults(run=_init)

    diff = commands.add_parser("diff", help="show what a governance folder would change; exit 1 if anything")
    apply = commands.add_parser("apply", help="put a governance folder in force, without a restart")
    for parser in (diff, apply):
        parser.add_argument("folder", type=Path, nargs="?", default=Path("governance"))
        add_connection(parser)
    apply.add_argument("--reason", required=True, help="why; it stands in the history")
    diff.set_defaults(run=_diff)
    apply.set_defaults(run=_apply)


def _init(args: argparse.Namespace) -> int:
    wanted = compose(args.team, args.operating_model, str(args.into))
    there = [name for name in wanted if (args.into / name).exists()]
    written = False
    if there and not args.force:
        problem = f"{args.into} has {', '.join(there)} already; --force overwrites."
    elif args.yes or _agreed(args, wanted):
        args.into.mkdir(parents=True, exist_ok=True)
        for name, text in wanted.items():
            (args.into / name).write_text(text, encoding="utf-8")
        written, problem = True, ""
    else:
        problem = "Nothing was written; --yes writes it."
    if args.json:
        print(json.dumps({"folder": str(args.into), "files": wanted, "written": written, "problem": problem}))
    elif written:
        print(f"Written: {', '.join(str(args.into / name) for name in wanted)}")
        print(f"  next: agentic-os up --governance {args.into}")
        print(f'  or, on a server that runs already: agentic-os apply {args.into} --reason "..."')
    if problem:
        print(problem, file=sys.stderr)
    return 0 if written else 1


def _agreed(args: argparse.Namespace, wanted: dict[str, str]) -> bool:
    """Show the files, and ask where somebody is there to answer."""
    if args.json:
        return False
    for name, text in wanted.items():
        print(f"--- {args.into / name}\n{text}")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    return input(f"Write these {len(wanted)} files? [y/N] ").strip().lower() in ("y", "yes")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Folder:
    """What a folder would put in force. skills: the text of its skills.yaml, None where it has none, and its lock."""

    governance: Governance
    skills: str | None
    lock: SkillLock


def _diff(args: argparse.Namespace) -> int:
    wanted = _loaded(args.folder)
    if wanted is None:
        return 2
    changes = _changes(Client.of(args), wanted)
    if args.json:
        bundle = wanted.governance.policy.bundle
        print(json.dumps({"bundle": bundle, "changes": [c.as_json() for c in changes]}))
    else:
        print(described(changes) or "No difference from what is in force.")
    return 1 if changes else 0


def _apply(args: argparse.Namespace) -> int:
    wanted = _loaded(args.folder)
    if wanted is None:
        return 2
    client = Client.of(args)
    changes = _changes(client, wanted)
    try:
        documents = documents_in(args.folder)
    except GovernanceInvalid as problem:  # a file was changed meanwhile
        print(problem, file=sys.stderr)
        return 2
    body: dict[str, Any] = {"documents": documents, "reason": args.reason}
    if wanted.skills is not None:
        documents[SKILLS] = wanted.skills
        body["skills"] = wanted.lock.as_json()
    answer = client.post("/api/governance", body)
    if args.json:
        print(json.dumps({**answer, "changes": [c.as_json() for c in changes]}))
        return 0
    if changes:
        print(described(changes))
    print(f"{'in force' if answer['applied'] else 'in force already'}: {answer['bundle']}")
    if any(change.kind.startswith("skill") for change in changes):
        definition = (args.folder / SKILLS).absolute()
        print(f"  next, where agents work: agentic-os skills hydrate --definition {definition} --report")
    return 0


def _loaded(folder: Path) -> _Folder | None:
    """Read the folder; everything that is wrong with it is said."""
    faults = [str(remark) for remark in lint(folder, now()) if remark.level == "fault"]
    path = folder / SKILLS
    text, lock = None, None
    try:
        text = text_of(path) if path.is_file() else None
        lock = lock_text(text, path)
    except DefinitionError as problem:
        faults.append(str(problem))
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults or lock is None:
        return None
    try:
        governance = load_governance(folder)
    except GovernanceInvalid as problem:  # a file was changed meanwhile
        print(problem, file=sys.stderr)
        return None
    for role, skills in undefined(governance.organisation, lock).items():
        named = ", ".join(skills)
        print(
            f"hint: no project has what the role {role} requires ({named}): it gets no work", file=sys.stderr
        )
    return _Folder(governance=governance, skills=text, lock=lock)


def _changes(client: Client, wanted: _Folder) -> list[Change]:
    in_force: Any = client.get("/api/governance")
    governance = wanted.governance
    tried = in_force["shadow"] and in_force["shadow"]["document"]
    trial = None if governance.shadow is None else governance.shadow.document
    return [
        *differences(in_force["document"], governance.document),
        *shadow_differences(tried, trial),
        *_skill_changes(in_force["skills"], wanted),
    ]


def _skill_changes(in_force: Any, wanted: _Folder) -> list[Change]:
    """Compare the skills; the package's own are those of the server's package, whatever this one has."""
    if in_force is not None and in_force["text"] is None and wanted.skills is None:
        return []
    return skill_differences(in_force, wanted.lock.as_json())
