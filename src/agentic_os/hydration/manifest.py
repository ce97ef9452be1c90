"""The record, in a workspace, of what was projected into it: `.agents/skills/.agentic-os.json`."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentic_os.domain.skill_set import SkillFile, check_skill_name
from agentic_os.hydration.definition import is_target
from agentic_os.hydration.places import MANIFEST_BEGUN, Refused
from agentic_os.hydration.resolution import Skill, SkillSet

HOME = ".agents/skills"
NAME = ".agentic-os.json"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands at one place: a link to `path`, or a copy of it whose tree had `digest`."""

    mode: str
    path: str
    digest: str

    def to_json(self) -> dict[str, str]:
        """Write it down."""
        return {"mode": self.mode, "path": self.path, "digest": self.digest}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a workspace got.

    `entries` are the places that are ours, by path in the workspace; `changing` are those that a run was
    about to make ours when it wrote this, and is empty once it has ended.
    """

    project: str = ""
    digest: str = ""
    targets: tuple[str, ...] = ()
    skills: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    entries: Mapping[str, Entry] = field(default_factory=dict)
    changing: Mapping[str, Entry] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Write the manifest, the same bytes for the same content: one line for each skill and each place."""
        lines = [
            f' "project": {json.dumps(self.project)},\n "digest": {json.dumps(self.digest)},',
            f' "targets": {json.dumps(self.targets)},\n "version": {VERSION}',
        ]
        places = [
            (key, {path: entry.to_json() for path, entry in entries.items()})
            for key, entries in (("entries", self.entries), ("changing", self.changing))
        ]
        for key, members in (("skills", self.skills), *places):
            told = ",\n".join(
                f"  {json.dumps(name)}: {json.dumps(members[name], sort_keys=True)}"
                for name in sorted(members)
            )
            lines[-1] += f',\n "{key}": {{' + (f"\n{told}\n }}" if told else "}")
        return ("{\n" + "\n".join(lines) + "\n}\n").encode()


def describe(skill: Skill) -> dict[str, Any]:
    """Write down a skill: the root that won, what it shadowed, its digest and that of each file."""
    return {
        "root": skill.root,
        "shadowed": list(skill.shadowed),
        "digest": skill.digest,
        "files": describe_files(skill.files),
    }


def describe_files(files: Iterable[SkillFile]) -> dict[str, str]:
    """Write down files by path: `x` for an executable one or `-`, and the SHA-256 of the bytes."""
    return {file.path: f"{'x' if file.executable else '-'} {file.sha256}" for file in files}


def manifest_of(skill_set: SkillSet, entries: Mapping[str, Entry]) -> Manifest:
    """Make the manifest of a workspace that has a skill set."""
    return Manifest(
        project=skill_set.project,
        digest=skill_set.digest,
        targets=skill_set.targets,
        skills={skill.name: describe(skill) for skill in skill_set.skills},
        entries=entries,
    )


def read_manifest(folder: int) -> Manifest:
    """Read the manifest from its open folder; an absent one is empty; raises Refused for one that is not ours."""
    try:
        descriptor = os.open(NAME, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
    except FileNotFoundError:
        return Manifest()
    except OSError as error:
        raise Refused(f"{HOME}/{NAME} cannot be read ({error.strerror})") from error
    with os.fdopen(descriptor, "rb") as file:
        raw = file.read()
    try:
        return _parse(json.loads(raw))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Refused(f"{HOME}/{NAME} is not one that agentic-os wrote ({error})") from error


def write_manifest(folder: int, manifest: Manifest) -> None:
    """Replace the manifest atomically."""
    descriptor = os.open(
        MANIFEST_BEGUN, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644, dir_fd=folder
    )
    with os.fdopen(descriptor, "wb") as file:
        file.write(manifest.to_bytes())
        file.flush()
        os.fsync(file.fileno())
    os.replace(MANIFEST_BEGUN, NAME, src_dir_fd=folder, dst_dir_fd=folder)


def _parse(document: dict[str, Any]) -> Manifest:
    if document["version"] != VERSION:
        raise ValueError("of another version")
    return Manifest(
        project=document["project"],
        digest=document["digest"],
        targets=tuple(document["targets"]),
        skills=document["skills"],
        entries=_parse_entries(document["entries"]),
        changing=_parse_entries(document["changing"]),
    )


def _parse_entries(document: dict[str, dict[str, str]]) -> dict[str, Entry]:
    # A path from here is one that a run may remove, so it must be one that a run can have made.
    places = [path.rpartition("/") for path in document]
    for _, _, name in places:
        check_skill_name(name)
    if foreign := [target for target in {target for target, _, _ in places} if not is_target(target)]:
        raise ValueError(f"{foreign[0]!r} is no folder of skills")
    return {path: Entry(**entry) for path, entry in document.items()}
