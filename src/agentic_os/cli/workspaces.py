"""`--report` of `agentic-os skills`: tell the backend how workspaces stand to the skills in force."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from agentic_os.cli.client import Client, ServerRefused, ServerUnavailable
from agentic_os.domain.skill_lock import LockedSet, LockedSkill
from agentic_os.domain.workspaces import WorkspaceReport
from agentic_os.hydration import SkillSet, failed, survey


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the option, and where to find the backend."""
    parser.add_argument(
        "--home", type=Path, help="home of a local stack (default: AGENTIC_OS_HOME, ~/.agentic-os)"
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="tell the backend how each workspace stands; executors that it kept from work get it again",
    )


def report(args: argparse.Namespace, outcomes: Sequence[tuple[Path, SkillSet, str]]) -> bool:
    """Tell the backend of workspaces, each with its skills and what was in their way; False where it fails."""
    try:
        _report(Client.of(args), outcomes)
    except (ServerRefused, ServerUnavailable) as problem:
        print(f"nothing was reported: {problem}", file=sys.stderr)
        return False
    return True


def _report(client: Client, outcomes: Sequence[tuple[Path, SkillSet, str]]) -> None:
    for workspace, skill_set, error in outcomes:
        standing = report_one(client, workspace, skill_set, error)
        problem = f": {standing['problem']}" if standing["problem"] else ""
        print(f"reported: {standing['path']} is {standing['state']}{problem}", file=sys.stderr)


def report_one(client: Client, workspace: Path, skill_set: SkillSet, error: str = "") -> dict[str, Any]:
    """Tell the backend of one workspace; return how it stands. Raises ServerRefused, ServerUnavailable."""
    path = f"/api/skills/{quote(skill_set.project, safe='')}"
    skills = tuple(LockedSkill(**skill) for skill in client.get(path)["skills"])
    found = _look(workspace, skill_set, LockedSet(skills=skills), error)
    body = {
        "path": found.path,
        "digest": found.digest,
        "state": found.state,
        "problem": found.problem,
        "lacking": list(found.lacking),
    }
    return {"path": found.path, **client.post(f"{path}/workspaces", body)}


def _look(workspace: Path, skill_set: SkillSet, in_force: LockedSet, error: str) -> WorkspaceReport:
    if error:
        return failed(workspace, skill_set, in_force, error)
    return survey(workspace, skill_set, in_force)
