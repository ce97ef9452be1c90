"""The skills in force: for each project its skills and their digests, as they were when the definition was applied."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agentic_os.domain.documents import JsonObject
from agentic_os.domain.skill_set import InvalidSkill, check_skill_name, skill_set_digest

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_LABEL: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedSkill:
    """One skill: the label of the root that it came from, and the digest of its tree."""

    name: str
    root: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedSet:
    """The skills of a project, and the digest of them all. workspace: as the definition writes it."""

    skills: tuple[LockedSkill, ...] = ()
    workspace: str | None = None
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        """Digest them."""
        object.__setattr__(self, "digest", skill_set_digest({s.name: s.digest for s in self.skills}))

    @property
    def names(self) -> frozenset[str]:
        """List what there is."""
        return frozenset(skill.name for skill in self.skills)


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillLock:
    """What a definition amounted to. text: the digest of skills.yaml, None for the package's own definition.

    others: the skills of every project that has nothing of its own.
    """

    text: str | None
    others: LockedSet
    projects: Mapping[str, LockedSet]

    def of(self, project: str) -> LockedSet:
        """Give the skills of a project."""
        return self.projects.get(project, self.others)

    def sets(self) -> Iterable[LockedSet]:
        """List the sets that there are."""
        return (self.others, *self.projects.values())

    def as_json(self) -> dict[str, Any]:
        """Write it as it is stored."""
        return {
            "text": self.text,
            "others": _as_json(self.others),
            "projects": {name: _as_json(self.projects[name]) for name in sorted(self.projects)},
        }


def read_lock(document: JsonObject) -> SkillLock:
    """Read what as_json wrote. Raises InvalidSkill for anything else, with the way to it."""
    parts = _members(document, "", ("text", "others", "projects"))
    text = parts["text"]
    if text is not None:
        _digest(text, "text")
    projects = parts["projects"]
    if not isinstance(projects, Mapping):
        raise InvalidSkill("projects: must be an object")
    return SkillLock(
        text=text,
        others=_read_set(parts["others"], "others"),
        projects={str(name): _read_set(each, f"projects.{name}") for name, each in projects.items()},
    )


def follow_roots(held: SkillLock, found: SkillLock, labels: frozenset[str]) -> SkillLock:
    """Keep each skill as it was locked, but those of these roots, which may change with what they are part of."""
    return SkillLock(
        text=held.text,
        others=_followed(held.others, found.others, labels),
        projects={name: _followed(each, found.of(name), labels) for name, each in held.projects.items()},
    )


def _followed(held: LockedSet, found: LockedSet, labels: frozenset[str]) -> LockedSet:
    now = {skill.name: skill for skill in found.skills if skill.root in labels}
    skills = tuple(now.get(s.name, s) if s.root in labels else s for s in held.skills)
    return LockedSet(skills=skills, workspace=held.workspace)


def _as_json(each: LockedSet) -> dict[str, Any]:
    return {
        "digest": each.digest,
        "workspace": each.workspace,
        "skills": [{"name": s.name, "root": s.root, "digest": s.digest} for s in each.skills],
    }


def _read_set(value: Any, where: str) -> LockedSet:
    parts = _members(value, where, ("digest", "workspace", "skills"))
    if not isinstance(parts["skills"], list | tuple):
        raise InvalidSkill(f"{where}.skills: must be a list")
    workspace = parts["workspace"]
    if workspace is not None:
        _text(workspace, f"{where}.workspace")
    skills = tuple(_read_skill(each, f"{where}.skills.{n}") for n, each in enumerate(parts["skills"]))
    if len({skill.name for skill in skills}) != len(skills):
        raise InvalidSkill(f"{where}.skills: names a skill twice")
    found = LockedSet(skills=skills, workspace=workspace)
    if found.digest != parts["digest"]:
        raise InvalidSkill(f"{where}.digest: is not that of its skills, {found.digest}")
    return found


def _read_skill(value: Any, where: str) -> LockedSkill:
    parts = _members(value, where, ("name", "root", "digest"))
    return LockedSkill(
        name=check_skill_name(_text(parts["name"], f"{where}.name")),
        root=_text(parts["root"], f"{where}.root"),
        digest=_digest(parts["digest"], f"{where}.digest"),
    )


def _members(value: Any, where: str, names: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or value.keys() != set(names):
        raise InvalidSkill(f"{where or 'the lock'}: must be an object with exactly {', '.join(names)}")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= _LABEL or not value.isprintable():
        raise InvalidSkill(f"{where}: must be a text of 1 to {_LABEL} characters")
    return value


def _digest(value: Any, where: str) -> str:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise InvalidSkill(f"{where}: must be a digest, sha256:<hex>")
    return value
