"""The central definition of skills (`skills.yaml`): read, and refused with file and line."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, NoReturn

import yaml

from agentic_os.domain.skill_set import InvalidSkill, check_skill_name, effective_names

PACKAGE_ROOT = "package:agentic_os"
DEFAULT_PROJECT = "default"
DEFAULT_TARGETS = (".agents/skills", ".claude/skills")
_PACKAGE_DEFAULTS = (
    "start-work",
    "submit-plan",
    "submit-result",
    "submit-review",
    "save-checkpoint",
    "report-progress",
    "escalate",
    "hand-off",
    "decline",
)
_PACKAGE_INTEGRATIONS = ("create-remediation", "bridge-paperclip", "bridge-github")
_PACKAGE = Path(__file__).resolve().parents[1]


class DefinitionError(ValueError):
    """The definition, or a skill that it names, is wrong; the message starts with the file and the line."""


@dataclass(frozen=True, slots=True)
class SourceRoot:
    """A folder of skills: as the definition writes it, and where it is."""

    label: str
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """What one project has otherwise: roots before those of all, skills it does without, targets of its own."""

    source_roots: tuple[SourceRoot, ...] = ()
    without: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What skills there are, and which of them each project has; roots in order of priority.

    `overrides` is what a project has otherwise than all: roots before the others, and skills that it does without.
    """

    origin: str
    source_roots: tuple[SourceRoot, ...]
    global_defaults: tuple[str, ...]
    shared_integrations: tuple[str, ...] = ()
    project_defaults: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    workspaces: Mapping[str, Path] = field(default_factory=lambda: MappingProxyType({}))
    workspaces_as_written: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    targets: tuple[str, ...] = DEFAULT_TARGETS
    overrides: Mapping[str, "Override"] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def projects(self) -> tuple[str, ...]:
        """List the projects that the definition knows."""
        return effective_names([DEFAULT_PROJECT], self.project_defaults, self.workspaces, self.overrides)

    def names_for(self, project: str) -> tuple[str, ...]:
        """List the skills of a project; one without an entry of its own has what all have."""
        names = effective_names(*(names for _, names in self._lists(project)))
        return tuple(name for name in names if name not in self.override(project).without)

    def roots_for(self, project: str) -> tuple[SourceRoot, ...]:
        """List the roots of a project in order of priority."""
        return (*self.override(project).source_roots, *self.source_roots)

    def targets_for(self, project: str) -> tuple[str, ...]:
        """List the folders into which the skills of a project go."""
        return self.override(project).targets or self.targets

    def lists_with(self, name: str, project: str) -> tuple[str, ...]:
        """List by their keys the lists that give a project a skill."""
        return tuple(key for key, names in self._lists(project) if name in names)

    def override(self, project: str) -> "Override":
        """Tell what a project has otherwise than all."""
        return self.overrides.get(project, Override())

    def _lists(self, project: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return (
            ("global_defaults", self.global_defaults),
            ("shared_integrations", self.shared_integrations),
            (f"project_defaults.{project}", self.project_defaults.get(project, ())),
        )


def packaged_skills() -> Path:
    """Find the skills that come with this package: in the wheel, or else in the repository."""
    installed = _PACKAGE / "_skills"
    return installed if installed.is_dir() else _PACKAGE.parents[1] / "skills"


def load_definition(path: Path | None) -> Definition:
    """Read a skills.yaml; without one the package's own definition is in force. Raises DefinitionError."""
    if path is None:
        root = SourceRoot(PACKAGE_ROOT, packaged_skills())
        return Definition(
            origin=PACKAGE_ROOT,
            source_roots=(root,),
            global_defaults=_PACKAGE_DEFAULTS,
            shared_integrations=_PACKAGE_INTEGRATIONS,
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DefinitionError(f"{path}: cannot be read: {error}") from error
    return read_definition(text, path)


def read_definition(text: str, path: Path, *, elsewhere: bool = False) -> Definition:
    """Read the text of a skills.yaml; elsewhere: its folders are on another machine. Raises DefinitionError."""
    try:
        root_node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DefinitionError(f"{path}:{line}: {error.problem or 'is not YAML'}") from error
    except yaml.YAMLError as error:
        raise DefinitionError(f"{path}: is not YAML: {error}") from error
    except RecursionError as error:
        raise DefinitionError(f"{path}:1: nests too deep") from error
    return _DefinitionReader(path, elsewhere=elsewhere).read(root_node)


class _DefinitionReader:
    """Walks the YAML nodes, which know their lines, where plain values would have lost them."""

    def __init__(self, path: Path, *, elsewhere: bool) -> None:
        self.path = path
        self.elsewhere = elsewhere
        self.folder = path.resolve().parent

    def read(self, root: yaml.Node | None) -> Definition:
        if root is None:
            raise DefinitionError(f"{self.path}:1: is empty; give source_roots and global_defaults")
        members = self.mapping(root)
        readers: dict[str, Callable[[yaml.Node], Any]] = {
            "source_roots": self.source_roots,
            "global_defaults": self.names,
            "shared_integrations": self.names,
            "project_defaults": lambda node: {
                project: self.names(item) for project, item in self.mapping(node).items()
            },
            "workspaces": lambda node: {
                project: self.folder_path(item) for project, item in self.mapping(node).items()
            },
            "targets": self.targets,
            "overrides": lambda node: {
                project: self.override(item) for project, item in self.mapping(node).items()
            },
        }
        for name, node in members.items():
            self.known(name, node, readers)
        for name in ("source_roots", "global_defaults"):
            if name not in members:
                self.refuse(root, f"the key {name!r} is missing")
        values: dict[str, Any] = {name: readers[name](node) for name, node in members.items()}
        written = self.mapping(members["workspaces"]) if "workspaces" in members else {}
        values["workspaces_as_written"] = {project: self.text(node) for project, node in written.items()}
        definition = Definition(origin=str(self.path), **values)
        for project, override in definition.overrides.items():
            named = effective_names(*(names for _, names in definition._lists(project)))  # noqa: SLF001
            if surplus := [name for name in override.without if name not in named]:
                place = self.mapping(members["overrides"])[project]
                self.refuse(place, f"the project {project!r} has no skill {surplus[0]!r} to do without")
        return definition

    def known(self, name: str, node: yaml.Node, readers: Mapping[str, object]) -> None:
        if name not in readers:
            self.refuse(node, f"unknown key {name!r} (known: {', '.join(readers)})")

    def source_roots(self, node: yaml.Node) -> tuple[SourceRoot, ...]:
        return tuple(self.source_root(item) for item in self.sequence(node))

    def targets(self, node: yaml.Node) -> tuple[str, ...]:
        return tuple(self.target(item) for item in self.sequence(node))

    def override(self, node: yaml.Node) -> Override:
        readers: dict[str, Callable[[yaml.Node], Any]] = {
            "source_roots": self.source_roots,
            "without": self.names,
            "targets": self.targets,
        }
        members = self.mapping(node)
        for name, member in members.items():
            self.known(name, member, readers)
        return Override(**{name: readers[name](member) for name, member in members.items()})

    def refuse(self, node: yaml.Node, message: str) -> NoReturn:
        raise DefinitionError(f"{self.path}:{node.start_mark.line + 1}: {message}")

    def mapping(self, node: yaml.Node) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self.refuse(node, "must be a mapping")
        members: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = self.text(key)
            if name in members:
                self.refuse(key, f"the key {name!r} comes twice")
            members[name] = value
        return members

    def sequence(self, node: yaml.Node) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            self.refuse(node, "must be a list")
        return list(node.value)

    def text(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str" or not node.value:
            self.refuse(node, "must be a text (quote it if it is one)")
        return str(node.value)

    def names(self, node: yaml.Node) -> tuple[str, ...]:
        return tuple(self.name(item) for item in self.sequence(node))

    def name(self, node: yaml.Node) -> str:
        try:
            return check_skill_name(self.text(node))
        except InvalidSkill as error:
            self.refuse(node, str(error))

    def folder_path(self, node: yaml.Node) -> Path:
        if self.elsewhere:
            return Path(self.text(node))
        try:
            return self.folder / Path(self.text(node)).expanduser()
        except RuntimeError as error:
            self.refuse(node, str(error))

    def source_root(self, node: yaml.Node) -> SourceRoot:
        label = self.text(node)
        if label == PACKAGE_ROOT:
            return SourceRoot(label, packaged_skills())
        path = self.folder_path(node)
        if not self.elsewhere and not path.is_dir():
            self.refuse(node, f"the source root {label!r} is no folder ({path})")
        return SourceRoot(label, path.resolve())

    def target(self, node: yaml.Node) -> str:
        text = self.text(node)
        if not is_target(text):
            self.refuse(node, f"the target {text!r} must be a path within the workspace, without '..'")
        return text


def is_target(text: str) -> bool:
    """Tell whether a target is a plain relative path, written in the one way it can be."""
    path = PurePosixPath(text)
    return (
        not path.is_absolute()
        and path.as_posix() == text
        and ".." not in path.parts
        and "\\" not in text
        and text.isprintable()
        and text != "."
        and path.parts[0] != ".git"
    )
