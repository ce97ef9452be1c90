"""Which workspaces have the skills that roles require."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agentic_os.hydration.drift import check
from agentic_os.hydration.manifest import HOME, NAME
from agentic_os.hydration.places import WorkspaceError
from agentic_os.hydration.resolution import SkillSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Whether one workspace has one skill that a role requires.

    `undefined`: the project's definition does not give it. `absent`: defined, and not as it should be in the workspace.
    """

    role: str
    skill: str
    project: str
    workspace: Path
    state: Literal["covered", "undefined", "absent"]


def coverage(
    workspace: Path, skill_set: SkillSet, required: Mapping[str, tuple[str, ...]]
) -> Iterator[Coverage]:
    """Compare a workspace with what roles require, by role; one that cannot be read has no skill."""
    there = present(workspace, skill_set)
    defined = {skill.name for skill in skill_set.skills}
    for role, skills in sorted(required.items()):
        for skill in skills:
            yield Coverage(
                role=role,
                skill=skill,
                project=skill_set.project,
                workspace=workspace,
                state="undefined" if skill not in defined else "covered" if skill in there else "absent",
            )


def present(workspace: Path, skill_set: SkillSet) -> set[str]:
    """List the skills that are in a workspace as they should be; one that cannot be read has none."""
    names = {skill.name for skill in skill_set.skills}
    try:
        drift = check(workspace, skill_set)
    except (WorkspaceError, OSError):
        return set()
    if any(told.path == f"{HOME}/{NAME}" and "is missing" in told.what for told in drift.differences):
        return set()
    # A difference is told at a file or a folder below the one of its skill, in a target or in its root.
    differing = {
        skill.name
        for skill in skill_set.skills
        for difference in drift.differences
        if any(
            f"{difference.path}/".startswith(f"{place}/")
            for place in (str(skill.path), *(f"{target}/{skill.name}" for target in skill_set.targets))
        )
        or (f"not list {skill.name}," in difference.what)
        or difference.path in skill_set.targets
    }
    return names - differing
