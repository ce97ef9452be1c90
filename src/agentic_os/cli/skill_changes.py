"""`agentic-os skills add` and `diff`: give projects another skill, and tell how definitions differ."""

import argparse
import difflib
import json
import sys
from dataclasses import asdict
from pathlib import Path

from agentic_os.cli.skill_selection import (
    CONFLICT,
    DRIFT,
    IN_STEP,
    add_selection,
    definition_in_force,
    known,
    refuse,
    select,
)
from agentic_os.hydration import (
    Addition,
    AdditionConflict,
    Definition,
    DefinitionError,
    SkillDifference,
    WorkspaceError,
    carry_out,
    compare_skills,
    described,
    hydrated_skills,
    load_definition,
    plan_addition,
    resolve,
    resolve_all,
)


def register_diff(parser: argparse.ArgumentParser) -> None:
    """Add the options of `skills diff`."""
    add_selection(parser, workspace=False)
    against = parser.add_mutually_exclusive_group()
    against.add_argument(
        "--against", type=Path, metavar="FILE", help="a skills.yaml (default: the one in force)"
    )
    against.add_argument(
        "--workspace", type=Path, metavar="DIR", help="what this folder got when it was last hydrated"
    )
    parser.set_defaults(run=_run_diff)


def register_add(parser: argparse.ArgumentParser) -> None:
    """Add the options of `skills add`."""
    parser.add_argument("name", help="the skill, which is also the name of its folder")
    parser.add_argument(
        "--from", type=Path, required=True, dest="source", metavar="FOLDER", help="the folder"
    )
    parser.add_argument("--project", help="give it to one project (default: to all)")
    parser.add_argument(
        "--into", type=Path, metavar="FILE", help="the skills.yaml (default: that of the governance folder)"
    )
    parser.add_argument("--yes", action="store_true", help="write without asking")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_run_add)


def _run_diff(args: argparse.Namespace) -> int:
    try:
        definition = load_definition(args.definition or definition_in_force())
        found = _differences_from(definition, args)
    except (DefinitionError, WorkspaceError) as error:
        return refuse(str(error))
    if args.json:
        projects = {name: [asdict(d) for d in differences] for name, differences in found.items()}
        print(json.dumps({"projects": projects}, indent=2))
    else:
        for project, differences in found.items():
            print(f"project {project}: {len(differences) or 'no'} skills differ")
            for difference in differences:
                print(f"  {difference.what}: {difference.name}  {difference.root}")
                if difference.what == "changed":
                    print(*(f"    {what}: {path}" for path, what in difference.files.items()), sep="\n")
    return DRIFT if any(found.values()) else IN_STEP


def _differences_from(
    definition: Definition, args: argparse.Namespace
) -> dict[str, tuple[SkillDifference, ...]]:
    if args.workspace:
        ((_, project),) = select(definition, args.project, args.workspace)
        before = hydrated_skills(args.workspace)
        return {project: compare_skills(before, described(resolve(definition, project)))}
    other = load_definition(args.against or definition_in_force())
    projects = tuple(dict.fromkeys([*definition.projects, *other.projects]))
    if args.project:
        projects = (known(definition if args.project in definition.projects else other, args.project),)
    after, earlier = resolve_all(definition, projects), resolve_all(other, projects)
    return {name: compare_skills(described(earlier[name]), described(after[name])) for name in projects}


def _run_add(args: argparse.Namespace) -> int:
    file = args.into or definition_in_force()
    if file is None:
        return refuse("there is no skills.yaml in force; name one with --into FILE")
    try:
        addition = plan_addition(args.name, args.source, file, args.project)
        missing = addition.copied or addition.text != addition.new_text
        written = bool(missing and (args.yes or _agreed(args, addition)))
        if written:
            carry_out(addition)
    except AdditionConflict as error:
        print(f"agentic-os skills: {error}", file=sys.stderr)
        return CONFLICT
    except DefinitionError as error:
        return refuse(str(error))
    except OSError as error:
        return refuse(f"{error.filename or file}: {error.strerror}")
    if args.json:
        document = {
            "name": addition.name,
            "digest": addition.digest,
            "folder": str(addition.place),
            "copy": addition.copied,
            "definition": str(addition.definition),
            "list": addition.listed_in,
            "change": _text_difference(addition),
            "written": written,
        }
        print(json.dumps(document, indent=2))
    elif written:
        print(
            f"{addition.name} is in {addition.place}, and in {addition.listed_in} of {addition.definition}."
        )
        print("  next: agentic-os skills hydrate; a server that runs takes it with `agentic-os apply`")
    elif not missing:
        print(f"{addition.name} is in {addition.place}, and in {addition.listed_in}: nothing to do.")
    if missing and not written:
        print("Nothing was written; --yes writes it.", file=sys.stderr)
        return DRIFT
    return IN_STEP


def _agreed(args: argparse.Namespace, addition: Addition) -> bool:
    """Show what would be written, and ask where somebody is there to answer."""
    if args.json:
        return False
    if addition.copied:
        print(f"copy {addition.source} to {addition.place}")
    print(_text_difference(addition), end="")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    return input("Write this? [y/N] ").strip().lower() in ("y", "yes")


def _text_difference(addition: Addition) -> str:
    before, after = (text.splitlines(keepends=True) for text in (addition.text, addition.new_text))
    name = str(addition.definition)
    return "".join(difflib.unified_diff(before, after, name, name, n=1))
