"""`agentic-os skills`: project the central skill set into workspaces, and tell where they drifted."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agentic_os.cli.skill_changes import register_add, register_diff
from agentic_os.cli.skill_selection import (
    CONFLICT,
    DRIFT,
    EXIT_CODES,
    IN_STEP,
    UNREPORTED,
    USAGE,
    add_selection,
    definition_in_force,
    governance_folder,
    known,
    refuse,
    select,
)
from agentic_os.cli.workspaces import add_report, report
from agentic_os.governance import GovernanceInvalid, load_governance
from agentic_os.hydration import (
    DEFAULT_PROJECT,
    Change,
    DefinitionError,
    SkillSet,
    WorkspaceError,
    check,
    coverage,
    explain,
    hydrate,
    load_definition,
    resolve,
    resolve_all,
    validate_skill,
)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of one workspace."""

    workspace: Path
    skill_set: SkillSet
    exit_code: int
    changes: tuple[Change, ...] = ()
    conflicts: tuple[Change, ...] = ()
    differences: tuple[Change, ...] = ()
    stale: tuple[str, ...] = ()
    error: str = ""


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register `skills hydrate|check|list|explain|validate|coverage|diff|add`."""
    skills = subparsers.add_parser("skills", help="the skills of projects and their workspaces")
    commands = skills.add_subparsers(metavar="COMMAND", required=True)
    for name, text, register in (
        ("hydrate", "bring workspaces in step with the definition", _register_hydrate),
        ("check", "tell how workspaces differ from the definition", _register_check),
        ("list", "list the skills of a project", _register_list),
        ("explain", "tell which root a skill comes from, and why", _register_explain),
        ("coverage", "tell which workspaces have the skills that each role requires", _register_coverage),
        ("diff", "tell which skills differ from another definition, or from a workspace", register_diff),
        ("add", "copy a skill into the definition's own source root, and list it", register_add),
        ("validate", "hold folders of skills to the Agent Skills standard", _register_validate),
    ):
        register(commands.add_parser(name, help=text, description=text, epilog=EXIT_CODES))


def hydrate_main(argv: list[str]) -> int:
    """Run `skills hydrate` with the arguments of bin/hydrate-runtime-skills."""
    parser = argparse.ArgumentParser(prog="hydrate-runtime-skills", epilog=EXIT_CODES)
    _register_hydrate(parser)
    args = parser.parse_args(argv)
    run: Callable[[argparse.Namespace], int] = args.run
    return run(args)


def _register_hydrate(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 on drift")
    parser.add_argument("--dry-run", action="store_true", help="change nothing; print what would be done")
    parser.add_argument(
        "--prune", action="store_true", help="remove skills of ours that are no longer defined"
    )
    parser.add_argument(
        "--mode",
        choices=["link", "copy"],
        help="how to project (default: as it was, else links, and copies where no link can be made)",
    )
    add_report(parser)
    parser.set_defaults(run=_run_hydrate)


def _register_check(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)
    add_report(parser)
    parser.set_defaults(run=_run_hydrate, check=True)


def _register_list(parser: argparse.ArgumentParser) -> None:
    add_selection(parser, workspace=False)
    parser.set_defaults(run=_run_list)


def _register_explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="the skill")
    add_selection(parser, workspace=False)
    parser.set_defaults(run=_run_explain)


def _register_coverage(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)
    parser.add_argument(
        "--governance", type=Path, help="the folder with organisation.yaml (default: the one of this home)"
    )
    parser.set_defaults(run=_run_coverage)


def _register_validate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="the folder of a skill")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_run_validate)


def _run_hydrate(args: argparse.Namespace) -> int:
    try:
        definition = load_definition(args.definition or definition_in_force(args.home))
        selected = select(definition, args.project, args.workspace)
        sets = resolve_all(definition, [project for _, project in selected])
    except DefinitionError as error:
        return refuse(str(error))
    outcomes = [_handle(workspace, sets[project], args) for workspace, project in selected]
    told = True
    if args.report:
        told = report(args, [(each.workspace, each.skill_set, each.error) for each in outcomes])
    if args.json:
        print(json.dumps({"workspaces": [_as_json(outcome) for outcome in outcomes]}, indent=2))
    else:
        _print(outcomes)
    return max((outcome.exit_code for outcome in outcomes), default=IN_STEP) if told else UNREPORTED


def _run_list(args: argparse.Namespace) -> int:
    try:
        definition = load_definition(args.definition or definition_in_force())
        project = known(definition, args.project or DEFAULT_PROJECT)
        skill_set = resolve(definition, project)
    except DefinitionError as error:
        return refuse(str(error))
    if args.json:
        print(json.dumps(_describe_set(skill_set), indent=2))
        return IN_STEP
    print(f"project {project}  {skill_set.digest}")
    width = max((len(skill.name) for skill in skill_set.skills), default=0)
    for skill in skill_set.skills:
        shadowed = f"  (shadows {', '.join(skill.shadowed)})" if skill.shadowed else ""
        print(f"{skill.name:{width}}  {skill.digest[:19]}  {skill.root}{shadowed}")
    return IN_STEP


def _run_explain(args: argparse.Namespace) -> int:
    try:
        definition = load_definition(args.definition or definition_in_force())
        project = known(definition, args.project or DEFAULT_PROJECT)
        found = explain(definition, project, args.name)
    except DefinitionError as error:
        return refuse(str(error))
    skill = found.skill
    if args.json:
        document = {
            "name": skill.name,
            "project": project,
            "in_project": bool(found.named_by) and not found.left_out,
            "named_by": list(found.named_by),
            "root": skill.root,
            "digest": skill.digest,
            "holders": [{"root": root, "path": str(path)} for root, path in found.holders],
        }
        print(json.dumps(document, indent=2))
        return IN_STEP
    if found.left_out:
        why = "left out by its override" if found.named_by else "named by none of its lists"
        print(f"{skill.name}: the project {project} does not have it: {why}")
    else:
        print(f"{skill.name}: the project {project} has it through {', '.join(found.named_by)}")
    for number, (root, path) in enumerate(found.holders):
        print(f"  {'wins' if number == 0 else 'shadowed'}: {root}  {path}")
    print("  the first root in the order of source_roots that has it wins")
    print(f"  {skill.digest}")
    return IN_STEP


def _run_coverage(args: argparse.Namespace) -> int:
    try:
        definition = load_definition(args.definition or definition_in_force())
        selected = select(definition, args.project, args.workspace)
        sets = resolve_all(definition, [project for _, project in selected])
        roles = load_governance(args.governance or governance_folder()).organisation.roles
        rows = [
            row
            for workspace, project in selected
            for row in coverage(workspace, sets[project], {name: role.skills for name, role in roles.items()})
        ]
    except (DefinitionError, GovernanceInvalid) as error:
        return refuse(str(error))
    if args.json:
        print(
            json.dumps(
                {"coverage": [asdict(row) | {"workspace": str(row.workspace)} for row in rows]}, indent=2
            )
        )
    elif not rows:
        print("No role requires a skill, or the definition names no workspace (see --workspace).")
    else:
        for row in rows:
            print(f"{row.role}  {row.skill}  {row.project}  {row.workspace}: {row.state}")
    return DRIFT if any(row.state != "covered" for row in rows) else IN_STEP


def _run_validate(args: argparse.Namespace) -> int:
    errors: dict[str, str] = {}
    for folder in args.folders:
        try:
            validate_skill(folder.resolve())
        except DefinitionError as error:
            errors[str(folder)] = str(error)
    if args.json:
        told = [{"folder": str(f), "error": errors.get(str(f))} for f in args.folders]
        print(json.dumps({"skills": told}, indent=2))
    else:
        for folder in args.folders:
            print(errors.get(str(folder)) or f"{folder}: keeps to the standard")
    return USAGE if errors else IN_STEP


def _handle(workspace: Path, skill_set: SkillSet, args: argparse.Namespace) -> _Outcome:
    if not workspace.is_dir():
        return _Outcome(workspace, skill_set, USAGE, error="is no folder")
    try:
        if args.check:
            drift = check(workspace, skill_set)
            code = DRIFT if drift.differences else IN_STEP
            return _Outcome(workspace, skill_set, code, differences=drift.differences)
        report = hydrate(workspace, skill_set, mode=args.mode, prune=args.prune, dry_run=args.dry_run)
    except WorkspaceError as error:
        return _Outcome(workspace, skill_set, CONFLICT, error=str(error))
    return _Outcome(
        workspace,
        skill_set,
        CONFLICT if report.conflicts else IN_STEP,
        changes=report.changes,
        conflicts=report.conflicts,
        stale=report.stale,
    )


def _print(outcomes: list[_Outcome]) -> None:
    if not outcomes:
        print("The definition names no workspace to hydrate; name one with --workspace DIR.")
    for outcome in outcomes:
        skill_set = outcome.skill_set
        print(
            f"{outcome.workspace}: project {skill_set.project}, {len(skill_set.skills)} skills, {skill_set.digest}"
        )
        for change in outcome.changes:
            print(f"  {change.what}: {change.path}")
        for path in outcome.stale:
            print(f"  stale, left in place (see --prune): {path}")
        for difference in outcome.differences:
            print(f"  drift: {difference.path} {difference.what}")
        for conflict in outcome.conflicts:
            print(f"  conflict: {conflict.path} {conflict.what}", file=sys.stderr)
        if outcome.error:
            print(f"  error: {outcome.error}", file=sys.stderr)
        elif not (outcome.changes or outcome.conflicts or outcome.differences or outcome.stale):
            print("  in step")


def _as_json(outcome: _Outcome) -> dict[str, Any]:
    return {
        "workspace": str(outcome.workspace),
        **_describe_set(outcome.skill_set),
        "exit_code": outcome.exit_code,
        "changes": [asdict(change) for change in outcome.changes],
        "conflicts": [asdict(change) for change in outcome.conflicts],
        "differences": [asdict(change) for change in outcome.differences],
        "stale": list(outcome.stale),
        "error": outcome.error or None,
    }


def _describe_set(skill_set: SkillSet) -> dict[str, Any]:
    return {
        "project": skill_set.project,
        "digest": skill_set.digest,
        "skills": [
            {"name": skill.name, "root": skill.root, "digest": skill.digest, "shadowed": list(skill.shadowed)}
            for skill in skill_set.skills
        ],
    }
