"""Skill sets: which skills a project has, what a skill is called, and the digests that tell drift."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_MAX_NAME = 64
_TEXT_LIMITS = {"description": 1024, "compatibility": 500}
_FIELDS = frozenset({"name", "description", "license", "compatibility", "metadata", "allowed-tools"})


class InvalidSkill(ValueError):
    """A skill's name or front matter breaks the Agent Skills standard; `field` is the one that does, if one does."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True, order=True)
class SkillFile:
    """One file of a skill: its path below the skill's folder with `/`, and the SHA-256 of its bytes in hex."""

    path: str
    executable: bool
    sha256: str


def check_skill_name(name: str) -> str:
    """Return the name; raises InvalidSkill unless it is lower-case words joined by hyphens, at most 64."""
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME:
        raise InvalidSkill(
            f"{name!r} is no skill name: write lower-case letters and digits, joined by hyphens, at most {_MAX_NAME}"
        )
    return name


def check_front_matter(folder: str, fields: Mapping[str, object]) -> None:
    """Hold the front matter of a SKILL.md to the standard; raises InvalidSkill."""
    check_skill_name(folder)
    if surplus := sorted(str(name) for name in fields if name not in _FIELDS):
        raise InvalidSkill(
            f"unknown field {', '.join(surplus)} (known: {', '.join(sorted(_FIELDS))}); put it below metadata",
            surplus[0],
        )
    if "name" not in fields:
        raise InvalidSkill(f"the field name is missing; it must be that of the folder, {folder!r}", "name")
    if fields["name"] != folder:
        raise InvalidSkill(f"the name must be that of its folder, {folder!r}, got {fields['name']!r}", "name")
    for name, limit in _TEXT_LIMITS.items():
        text = fields.get(name, "" if name == "description" else "-")
        if not isinstance(text, str) or not 1 <= len(text.strip()) <= len(text) <= limit:
            found = f"has {len(text)}" if isinstance(text, str) and text.strip() else "has none"
            raise InvalidSkill(f"{name} must be a text of 1 to {limit} characters, {found}", name)


def effective_names(*lists: Iterable[str]) -> tuple[str, ...]:
    """Join lists of skill names in order, each name once."""
    return tuple(dict.fromkeys(name for names in lists for name in names))


def tree_digest(files: Iterable[SkillFile]) -> str:
    """Digest the files of one skill: `sha256:<hex>` over path, executable bit and content of each."""
    fields = (
        field
        for file in sorted(files, key=lambda file: file.path.encode())
        for field in (file.path, "x" if file.executable else "-", file.sha256)
    )
    return _digest(fields)


def skill_set_digest(digests: Mapping[str, str]) -> str:
    """Digest a skill set from the tree digests of its skills by name; an empty set has that of nothing."""
    return _digest(field for name in sorted(digests) for field in (name, digests[name]))


def _digest(fields: Iterable[str]) -> str:
    # NUL ends each field: it is in no path, name or digest, so that no two lists read alike.
    return "sha256:" + hashlib.sha256(b"".join(field.encode() + b"\0" for field in fields)).hexdigest()
