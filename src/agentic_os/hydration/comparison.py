"""How a skill set differs from another one, skill by skill and file by file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agentic_os.hydration.manifest import HOME, NAME, Manifest, describe, read_manifest
from agentic_os.hydration.places import WorkspaceError, errors_of, open_folder
from agentic_os.hydration.resolution import SkillSet


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillDifference:
    """One skill that one set has and the other has not, or not alike.

    `files` are those that make the difference, by path: `added`, `removed` or `changed`.
    """

    name: str
    what: Literal["added", "removed", "changed"]
    root: str
    files: Mapping[str, str]


def described(skill_set: SkillSet) -> dict[str, dict[str, Any]]:
    """Write down the skills of a set by name, as a workspace's manifest does."""
    return {skill.name: describe(skill) for skill in skill_set.skills}


def hydrated_skills(workspace: Path) -> Mapping[str, dict[str, Any]]:
    """Read which skills a workspace got when it was last hydrated; raises WorkspaceError."""
    with errors_of(workspace), open_folder(workspace, HOME, create=False) as home:
        manifest = Manifest() if home is None else read_manifest(home)
        if not manifest.digest:
            raise WorkspaceError(f"{workspace}: {HOME}/{NAME} is missing: this workspace was not hydrated")
        return manifest.skills


def compare_skills(
    before: Mapping[str, dict[str, Any]], after: Mapping[str, dict[str, Any]]
) -> tuple[SkillDifference, ...]:
    """Tell which skills were added, removed or changed, in the order of their names."""
    return tuple(
        SkillDifference(
            name=name,
            what="added" if name not in before else "removed" if name not in after else "changed",
            root=(after.get(name) or before[name])["root"],
            files=_files(before.get(name, {}).get("files", {}), after.get(name, {}).get("files", {})),
        )
        for name in sorted(before.keys() | after.keys())
        if before.get(name, {}).get("digest") != after.get(name, {}).get("digest")
    )


def _files(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    return {
        path: "added" if path not in before else "removed" if path not in after else "changed"
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    }
