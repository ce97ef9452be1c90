"""Telling, file by file, how a workspace differs from its skill set; reads only."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from agentic_os.domain.skill_set import InvalidSkill
from agentic_os.hydration.manifest import HOME, NAME, Manifest, describe_files, read_manifest
from agentic_os.hydration.places import Place, Refused, errors_of, open_folder
from agentic_os.hydration.resolution import Skill, SkillSet, scan_tree
from agentic_os.hydration.sets import SETS, links_in_force, look_through
from agentic_os.hydration.workspace import Change

_WORDS = {"pointer": "link"}


@dataclass(frozen=True, slots=True)
class Drift:
    """How a workspace differs from its skill set; without differences it is in step."""

    differences: tuple[Change, ...]


def check(workspace: Path, skill_set: SkillSet) -> Drift:
    """Compare a workspace with a skill set; raises WorkspaceError where it cannot be read."""
    with errors_of(workspace):
        with open_folder(workspace, HOME, create=False) as home:
            manifest = Manifest() if home is None else read_manifest(home)
        if not manifest.digest:
            return Drift((Change(f"{HOME}/{NAME}", "is missing: this workspace was not hydrated"),))
        return Drift(tuple(_differences(workspace.resolve(), skill_set, manifest)))


def _differences(workspace: Path, skill_set: SkillSet, manifest: Manifest) -> Iterator[Change]:
    if manifest.changing:
        yield Change(f"{HOME}/{NAME}", "tells of a hydration that was cut off")
    for skill in skill_set.skills:
        if skill.name not in manifest.skills:
            yield Change(f"{HOME}/{NAME}", f"does not list {skill.name}, which the definition has by now")
        elif manifest.skills[skill.name]["digest"] != skill.digest:
            before = manifest.skills[skill.name]["files"]
            yield from _changed_files(
                str(skill.path), before, describe_files(skill.files), "since the hydration"
            )
    with open_folder(workspace, SETS, create=False) as sets:
        in_force = links_in_force(sets)
    for target in skill_set.targets:
        yield from _differences_in(workspace, target, skill_set, manifest, in_force)
    wanted = {f"{target}/{skill.name}" for target in skill_set.targets for skill in skill_set.skills}
    for path in manifest.entries:
        if path not in wanted:
            yield Change(path, "is stale: the definition no longer has it (hydrate with --prune)")


def _differences_in(
    workspace: Path, target: str, skill_set: SkillSet, manifest: Manifest, in_force: Mapping[str, str]
) -> Iterator[Change]:
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(open_folder(workspace, target, create=False))
        except Refused as refused:
            yield Change(target, str(refused))
            return
        for skill in skill_set.skills:
            path = f"{target}/{skill.name}"
            seen = Place("nothing") if folder is None else look_through(folder, target, skill.name, in_force)
            entry = manifest.entries.get(path)
            yield from _differences_at(workspace / path, path, skill, seen, entry.mode if entry else "none")


def _differences_at(place: Path, path: str, skill: Skill, seen: Place, mode: str) -> Iterator[Change]:
    if seen.kind == "nothing":
        yield Change(path, "is missing")
    elif mode == "none" or (seen.kind == "folder") != (mode == "copy") or seen.kind == "file":
        yield Change(path, f"is a {_WORDS.get(seen.kind, seen.kind)} that is not ours")
    elif mode == "link" and seen != Place("pointer", str(skill.path)):
        yield Change(path, f"leads to {seen.text or 'nowhere'} and not to {skill.path}")
    elif seen.kind == "folder":
        try:
            found = describe_files(scan_tree(place))
        except InvalidSkill as error:
            yield Change(path, str(error))
        else:
            yield from _changed_files(path, describe_files(skill.files), found, "in the copy")


def _changed_files(
    folder: str, before: Mapping[str, str], after: Mapping[str, str], when: str
) -> Iterator[Change]:
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            what = (
                "was added" if name not in before else "was removed" if name not in after else "was changed"
            )
            yield Change(f"{folder}/{name}", f"{what} {when}")
