"""From a definition to the skills of one project: which root wins, what it shadows, what is in each."""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from agentic_os.domain.skill_set import (
    InvalidSkill,
    SkillFile,
    check_front_matter,
    skill_set_digest,
    tree_digest,
)
from agentic_os.hydration.definition import Definition, DefinitionError, SourceRoot

_BYTECODE = "__pycache__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """One skill as it was found: `root` is the label of the root that won, `shadowed` those that lost."""

    name: str
    root: str
    digest: str
    path: Path
    shadowed: tuple[str, ...]
    files: tuple[SkillFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillSet:
    """The skills of one project, and the folders of a workspace into which they are projected."""

    project: str
    digest: str
    skills: tuple[Skill, ...]
    targets: tuple[str, ...]


def resolve(definition: Definition, project: str) -> SkillSet:
    """Find and check each skill of a project; raises DefinitionError."""
    skills = tuple(_find(definition, name) for name in definition.names_for(project))
    digest = skill_set_digest({skill.name: skill.digest for skill in skills})
    return SkillSet(project=project, digest=digest, skills=skills, targets=definition.targets)


def scan_tree(folder: Path) -> tuple[SkillFile, ...]:
    """List the files of a skill's folder, Python's bytecode left out; raises InvalidSkill for links and devices."""
    return tuple(sorted(_scan(folder, "")))


def _scan(folder: Path, prefix: str) -> Iterator[SkillFile]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = prefix + entry.name
            if entry.name == _BYTECODE:
                continue
            if not path.isprintable():
                raise InvalidSkill(f"{path!r} has a name that cannot be printed")
            if entry.is_dir(follow_symlinks=False):
                yield from _scan(Path(entry.path), path + "/")
            elif entry.is_file(follow_symlinks=False):
                executable = bool(entry.stat(follow_symlinks=False).st_mode & stat.S_IXUSR)
                yield SkillFile(path, executable, hashlib.sha256(Path(entry.path).read_bytes()).hexdigest())
            else:
                raise InvalidSkill(f"{path} is no plain file; a skill has neither links nor devices")


def _find(definition: Definition, name: str) -> Skill:
    holders = [root for root in definition.source_roots if os.path.lexists(root.path / name)]
    if not holders:
        roots = ", ".join(root.label for root in definition.source_roots)
        raise DefinitionError(
            f"{definition.origin}: the skill {name!r} is in none of the source roots ({roots})"
        )
    winner, *shadowed = holders
    folder = _folder_within(winner, name)
    _check_description(folder, name)
    try:
        files = scan_tree(folder)
    except (InvalidSkill, OSError) as error:
        raise DefinitionError(f"{folder}: {error}") from error
    return Skill(
        name=name,
        root=winner.label,
        digest=tree_digest(files),
        path=folder,
        shadowed=tuple(root.label for root in shadowed),
        files=files,
    )


def _folder_within(root: SourceRoot, name: str) -> Path:
    try:
        folder = (root.path / name).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise DefinitionError(f"{root.path / name}: cannot be followed: {error}") from error
    if not folder.is_relative_to(root.path.resolve()):
        raise DefinitionError(f"{root.path / name}: leads out of its source root, to {folder}")
    if not folder.is_dir():
        raise DefinitionError(f"{folder}: is no folder")
    return folder


def _check_description(folder: Path, name: str) -> None:
    file = folder / "SKILL.md"
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"{file}: cannot be read: {error}") from error
    if "---" not in lines[1:] or lines[0] != "---":
        raise DefinitionError(f"{file}:1: starts with no front matter (a line '---', fields, a line '---')")
    try:
        # The blank line stands for the first marker, so that errors have the line of the file.
        fields = yaml.safe_load("\n".join(["", *lines[1 : lines.index("---", 1)]]))
        if not isinstance(fields, dict):
            raise DefinitionError(f"{file}:2: the front matter must have the fields name and description")
        check_front_matter(name, fields)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 2
        raise DefinitionError(f"{file}:{line}: {error.problem}") from error
    except InvalidSkill as error:
        raise DefinitionError(f"{file}:{_line_of(str(error), lines)}: {error}") from error


def _line_of(message: str, lines: list[str]) -> int:
    """Find the line of the field that a message speaks of; the first field where it names none."""
    return next((n for n, line in enumerate(lines, 1) if ":" in line and line.split(":")[0] in message), 2)
