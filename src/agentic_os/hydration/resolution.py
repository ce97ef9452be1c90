"""From a definition to the skills of one project: which root wins, what it shadows, what is in each."""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import yaml

from agentic_os.domain.skill_set import (
    InvalidSkill,
    SkillFile,
    check_front_matter,
    check_skill_name,
    skill_set_digest,
    tree_digest,
)
from agentic_os.hydration.definition import Definition, DefinitionError, SourceRoot

_BYTECODE = "__pycache__"
_DEEPEST: Final = 20
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, ten times as fast, where it was built in


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a skill of a project is the one it is: which lists name it, and each root that has it, the winner first."""

    skill: Skill
    named_by: tuple[str, ...]
    holders: tuple[tuple[str, Path], ...]
    left_out: bool


def resolve(definition: Definition, project: str) -> SkillSet:
    """Find and check each skill of a project; raises DefinitionError."""
    return resolve_all(definition, [project])[project]


def resolve_all(definition: Definition, projects: Iterable[str]) -> dict[str, SkillSet]:
    """Find and check the skills of several projects, each folder once; raises DefinitionError."""
    found: dict[tuple[str, tuple[SourceRoot, ...]], Skill] = {}
    sets = {}
    for project in dict.fromkeys(projects):
        names, roots = definition.names_for(project), definition.roots_for(project)
        for name in names:
            if (name, roots) not in found:
                found[name, roots] = _find(definition, name, project)
        skills = tuple(found[name, roots] for name in names)
        digest = skill_set_digest({skill.name: skill.digest for skill in skills})
        targets = definition.targets_for(project)
        sets[project] = SkillSet(project=project, digest=digest, skills=skills, targets=targets)
    return sets


def explain(definition: Definition, project: str, name: str) -> Explanation:
    """Tell which root a skill comes from and why; raises DefinitionError where there is none of that name."""
    try:
        check_skill_name(name)
    except InvalidSkill as error:
        raise DefinitionError(f"{definition.origin}: {error}") from error
    return Explanation(
        skill=_find(definition, name, project),
        named_by=definition.lists_with(name, project),
        holders=tuple((root.label, root.path / name) for root in _holders(definition, name, project)),
        left_out=name not in definition.names_for(project),
    )


def validate_skill(folder: Path) -> tuple[SkillFile, ...]:
    """Hold one folder to the standard, and list its files; raises DefinitionError with file and line."""
    _check_description(folder, folder.name)
    try:
        return scan_tree(folder)
    except (InvalidSkill, OSError) as error:
        raise DefinitionError(f"{folder}: {error}") from error


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


def _holders(definition: Definition, name: str, project: str) -> list[SourceRoot]:
    roots = definition.roots_for(project)
    holders = [root for root in roots if os.path.lexists(root.path / name)]
    if not holders:
        labels = ", ".join(root.label for root in roots)
        raise DefinitionError(
            f"{definition.origin}: the skill {name!r} is in none of the source roots ({labels})"
        )
    return holders


def _find(definition: Definition, name: str, project: str) -> Skill:
    winner, *shadowed = _holders(definition, name, project)
    folder = _folder_within(winner, name)
    if folder.name != name:
        _refuse_other_name(folder, name)
    files = validate_skill(folder)
    return Skill(
        name=name,
        root=winner.label,
        digest=tree_digest(files),
        path=folder,
        shadowed=tuple(root.label for root in shadowed),
        files=files,
    )


def _refuse_other_name(folder: Path, name: str) -> NoReturn:
    raise DefinitionError(
        f"{folder}: is linked as {name!r}, and the name of a skill must be that of its folder"
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
    if not folder.is_dir():
        raise DefinitionError(f"{folder}: is no folder")
    try:
        if "SKILL.md" not in (entry.name for entry in folder.iterdir()):
            raise DefinitionError(
                f"{file}: is missing; a skill's description is in a file of exactly this name"
            )
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"{file}: cannot be read: {error}") from error
    lines = [line.removesuffix("\r") for line in lines]
    if "---" not in lines[1:] or lines[0] != "---":
        raise DefinitionError(f"{file}:1: starts with no front matter (a line '---', fields, a line '---')")
    end = lines.index("---", 1)
    if inner := next((n for n, line in enumerate(lines[1:end], 2) if "---" in line), None):
        raise DefinitionError(
            f"{file}:{inner}: the front matter may not hold '---': some clients end it there"
        )
    # The blank line stands for the first marker, so that errors have the line of the file.
    text = "\n".join(["", *lines[1:end], ""])
    try:
        fields = _read_fields(file, text)
        check_front_matter(name, fields)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 2
        raise DefinitionError(f"{file}:{line}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise DefinitionError(f"{file}:2: {error}") from error
    except InvalidSkill as error:
        raise DefinitionError(f"{file}:{_line_of(error, lines)}: {error}") from error


def _read_fields(file: Path, text: str) -> dict[str, object]:
    """Read front matter into texts, as the standard has it: YAML of blocks, without aliases, tags or brackets."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        place = f"{file}:{event.start_mark.line + 1 if event.start_mark else 2}"
        if isinstance(event, yaml.DocumentEndEvent) and event.explicit:
            raise DefinitionError(f"{place}: the front matter ends with '---', and has no '...' before it")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:  # libyaml's composer would end the process at some thousands
            raise DefinitionError(f"{place}: the front matter nests more than {_DEEPEST} levels deep")
        if isinstance(event, yaml.NodeEvent) and (event.anchor or getattr(event, "tag", None)):
            raise DefinitionError(
                f"{place}: anchors, aliases and tags of YAML are not used here; write the value"
            )
        if isinstance(event, yaml.CollectionStartEvent) and event.flow_style:
            raise DefinitionError(f"{place}: write a list or a mapping over several lines, without brackets")
    node = yaml.compose(text, Loader=_LOADER)
    if not isinstance(node, yaml.MappingNode):
        raise DefinitionError(f"{file}:2: the front matter must have the fields name and description")
    fields = _plain(file, node)
    assert isinstance(fields, dict)
    return fields


def _plain(file: Path, node: yaml.Node) -> object:
    if isinstance(node, yaml.SequenceNode):
        return [_plain(file, item) for item in node.value]
    if not isinstance(node, yaml.MappingNode):
        return node.value
    fields: dict[str, object] = {}
    for key, value in node.value:
        place = f"{file}:{key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise DefinitionError(f"{place}: the name of a field must be a text")
        if key.value in fields:
            raise DefinitionError(f"{place}: the field {key.value!r} comes twice")
        fields[key.value] = _plain(file, value)
    return fields


def _line_of(error: InvalidSkill, lines: list[str]) -> int:
    """Find the line of the field that an error speaks of; that after the marker where the field is missing."""
    return next(
        (n for n, line in enumerate(lines, 1) if n > 1 and line.split(":")[0].strip("'\" ") == error.field), 2
    )
