"""From a definition to the lock that a bundle records, and holding a lock to the definition it should be of."""

import hashlib
from pathlib import Path
from typing import Final

from agentic_os.domain.skill_lock import LockedSet, LockedSkill, SkillLock
from agentic_os.hydration.definition import (
    Definition,
    DefinitionError,
    load_definition,
    read_definition,
)
from agentic_os.hydration.resolution import SkillSet, resolve_all

SKILLS: Final = "skills.yaml"
"""The file of a governance folder that defines skills."""

_OTHERS: Final = ""
"""No project: as a key it cannot be written in a definition."""


def lock_folder(folder: Path | None) -> tuple[Definition, SkillLock]:
    """Read and resolve the definition of a governance folder, or else the package's own. Raises DefinitionError."""
    path = folder / SKILLS if folder is not None else None
    if path is None or not path.is_file():
        definition = load_definition(None)
        return definition, lock(definition)
    text = text_of(path)
    definition = read_definition(text, path)
    return definition, lock(definition, text)


def lock_text(text: str | None, path: Path) -> SkillLock:
    """Resolve the text of a skills.yaml; None for the package's own definition. Raises DefinitionError."""
    return lock(load_definition(None) if text is None else read_definition(text, path), text)


def text_of(path: Path) -> str:
    """Read a skills.yaml. Raises DefinitionError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"{path}: cannot be read: {error}") from error


def lock(definition: Definition, text: str | None = None) -> SkillLock:
    """Resolve the skills of each project. text: of the skills.yaml, None for the package's. Raises DefinitionError."""
    sets = resolve_all(definition, [*definition.projects, _OTHERS])
    return SkillLock(
        text=None if text is None else digest_of_text(text),
        others=_locked(sets[_OTHERS], None),
        projects={
            project: _locked(sets[project], definition.workspaces_as_written.get(project))
            for project in definition.projects
        },
    )


def hold_to(found: SkillLock, text: str) -> None:
    """Hold a lock to the text that it should be of, but for the trees themselves. Raises DefinitionError."""
    path = Path(SKILLS)
    definition = read_definition(text, path, elsewhere=True)
    if found.text != digest_of_text(text):
        raise DefinitionError(f"{path}: the lock is not of this text")
    if found.projects.keys() != set(definition.projects):
        raise DefinitionError(f"{path}: the lock must have the projects {', '.join(definition.projects)}")
    for project in (*definition.projects, _OTHERS):
        locked = found.of(project)
        if tuple(s.name for s in locked.skills) != definition.names_for(project):
            of = f"the project {project}" if project else "the other projects"
            raise DefinitionError(f"{path}: the lock gives {of} other skills than it")
        roots = {root.label for root in definition.roots_for(project)}
        if foreign := sorted({s.root for s in locked.skills} - roots):
            raise DefinitionError(f"{path}: the lock names {foreign[0]!r}, which is no source root here")


def digest_of_text(text: str) -> str:
    """Name the text of a skills.yaml."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _locked(skill_set: SkillSet, workspace: str | None) -> LockedSet:
    return LockedSet(
        skills=tuple(LockedSkill(name=s.name, root=s.root, digest=s.digest) for s in skill_set.skills),
        workspace=workspace,
    )
