"""What is found in a workspace, held against the skills in force: what the backend is told of it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from agentic_os.domain.skill_lock import LockedSet, SkillLock
from agentic_os.domain.workspaces import WorkspaceReport
from agentic_os.hydration.coverage import present
from agentic_os.hydration.definition import Definition
from agentic_os.hydration.drift import check
from agentic_os.hydration.places import WorkspaceError
from agentic_os.hydration.resolution import SkillSet, resolve_all
from agentic_os.hydration.workspace import hydrate

_TOLD: Final = 3
"""How many differences a report has in words."""
_LONGEST: Final = 1000


def hydrate_all(definition: Definition, in_force: SkillLock) -> list[WorkspaceReport]:
    """Bring every workspace of the definition in step, and report on each. Raises DefinitionError."""
    sets = resolve_all(definition, definition.workspaces)
    return [
        bring_in_step(workspace, sets[project], in_force.of(project))
        for project, workspace in definition.workspaces.items()
    ]


def against(
    reports: Sequence[WorkspaceReport], definition: Definition, in_force: SkillLock
) -> list[WorkspaceReport]:
    """Hold workspaces that were reported on against other skills than they were. Raises DefinitionError."""
    sets = resolve_all(definition, [report.project for report in reports])
    return [
        report
        if report.digest == in_force.of(report.project).digest
        else replace(report, digest=in_force.of(report.project).digest)
        if report.state == "failed"
        else survey(Path(report.path), sets[report.project], in_force.of(report.project))
        for report in reports
    ]


def bring_in_step(workspace: Path, skill_set: SkillSet, in_force: LockedSet) -> WorkspaceReport:
    """Hydrate a workspace and report on it; one that cannot be is reported too."""
    if not workspace.is_dir():
        return survey(workspace, skill_set, in_force)
    try:
        hydrate(workspace, skill_set)
    except (WorkspaceError, OSError) as error:
        return failed(workspace, skill_set, in_force, str(error))
    return survey(workspace, skill_set, in_force)


def survey(workspace: Path, skill_set: SkillSet, in_force: LockedSet) -> WorkspaceReport:
    """Look at a workspace: whether it has the skills of its definition, and whether those are the ones in force."""
    if not workspace.is_dir():
        return failed(workspace, skill_set, in_force, f"{workspace} is no folder")
    try:
        drift = check(workspace, skill_set)
        there = present(workspace, skill_set)
    except (WorkspaceError, OSError) as error:
        return failed(workspace, skill_set, in_force, str(error))
    differing = [d for d in drift.differences if not d.what.startswith("is stale")]
    found = {skill.name: skill.digest for skill in skill_set.skills}
    locked = {skill.name: skill.digest for skill in in_force.skills}
    other = sorted(name for name in found.keys() | locked.keys() if found.get(name) != locked.get(name))
    words = [f"{d.path} {d.what}" for d in differing]
    words += [f"the skill {name} is not the one in force: put it back, or agentic-os apply" for name in other]
    foreign = any("not ours" in d.what for d in differing)
    return WorkspaceReport(
        path=str(workspace.resolve()),
        project=skill_set.project,
        digest=in_force.digest,
        state="conflict" if foreign else "drift" if words else "in_step",
        problem=_joined(words),
        lacking=tuple(s.name for s in in_force.skills if s.name not in there or s.name in other),
    )


def failed(workspace: Path, skill_set: SkillSet, in_force: LockedSet, problem: str) -> WorkspaceReport:
    """Report on a workspace in which nothing could be done."""
    return WorkspaceReport(
        path=str(workspace.resolve()),
        project=skill_set.project,
        digest=in_force.digest,
        state="failed",
        problem=problem[:_LONGEST],
        lacking=tuple(skill.name for skill in in_force.skills),
    )


def _joined(words: list[str]) -> str:
    more = f"; and {len(words) - _TOLD} more" if len(words) > _TOLD else ""
    return ("; ".join(words[:_TOLD]) + more)[:_LONGEST]
