"""Projecting a skill set into one workspace, and telling how a workspace differs from it."""

import contextlib
from dataclasses import dataclass, field, replace
from pathlib import Path

from agentic_os.hydration.git_exclude import exclude_from_git
from agentic_os.hydration.manifest import (
    HOME,
    NAME,
    Entry,
    Manifest,
    manifest_of,
    read_manifest,
    write_manifest,
)
from agentic_os.hydration.places import (
    Mode,
    Place,
    Refused,
    digest_of_folder,
    discard_leftovers,
    errors_of,
    look,
    open_folder,
    put_skill,
    remove,
)
from agentic_os.hydration.resolution import Skill, SkillSet


@dataclass(frozen=True, slots=True)
class Change:
    """One path of a workspace, and what is said of it."""

    path: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The outcome of a hydration; `conflicts` and `stale` places were left as they are."""

    changes: tuple[Change, ...]
    conflicts: tuple[Change, ...]
    stale: tuple[str, ...]


def hydrate(
    workspace: Path, skill_set: SkillSet, *, mode: Mode = "link", prune: bool = False, dry_run: bool = False
) -> Report:
    """Bring a workspace in step with a skill set; a second run changes nothing.

    Waits for another run in the same workspace. Raises WorkspaceError where nothing can be done.
    """
    with errors_of(workspace), contextlib.ExitStack() as stack:
        home = stack.enter_context(open_folder(workspace, HOME, create=not dry_run))
        if home is not None:
            _lock(home)
        manifest = Manifest() if home is None else read_manifest(home)
        run = _Run(workspace.resolve(), skill_set, mode, manifest)
        for target in skill_set.targets:
            run.open(stack, target, create=not dry_run)
        for target in sorted({path.rpartition("/")[0] for path in manifest.entries} - set(skill_set.targets)):
            run.open(stack, target, create=False)
        run.plan(prune=prune)
        if home is not None and not dry_run:
            run.carry_out(home)
        return run.report()


@dataclass(frozen=True, slots=True)
class _Step:
    path: str
    skill: Skill
    seen: Place


@dataclass(slots=True)
class _Run:
    """One hydration: first a plan from what stands in the workspace, then its steps."""

    workspace: Path
    skill_set: SkillSet
    mode: Mode
    manifest: Manifest
    folders: dict[str, int | None] = field(default_factory=dict)
    owned: dict[str, Entry] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    steps: list[_Step] = field(default_factory=list)
    pruned: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    conflicts: list[Change] = field(default_factory=list)

    def open(self, stack: contextlib.ExitStack, target: str, *, create: bool) -> None:
        try:
            folder = stack.enter_context(open_folder(self.workspace, target, create=create))
        except Refused as refused:
            self.conflicts.append(Change(target, str(refused)))
        else:
            self.folders[target] = folder

    def plan(self, *, prune: bool) -> None:
        self.owned = {**self.manifest.entries}
        for path, entry in self.manifest.changing.items():
            if self._is_as_left(path, entry):
                self.owned[path] = entry
        for target in self.skill_set.targets:
            if target in self.folders:
                for skill in self.skill_set.skills:
                    self._plan_place(f"{target}/{skill.name}", skill)
        wanted = {
            f"{target}/{skill.name}" for target in self.skill_set.targets for skill in self.skill_set.skills
        }
        for path, entry in self.owned.items():
            if path not in wanted and self._look(path).kind != "nothing":
                self._plan_stale(path, entry, prune=prune)

    def _plan_place(self, path: str, skill: Skill) -> None:
        seen = self._look(path)
        entry = self._entry(skill)
        record = self.owned.get(path)
        # A link to the very skill is as good as ours; a folder of a person's is not, however alike.
        if (record or self.mode == "link") and self._is_as_left(path, entry, seen):
            self.entries[path] = entry
            return
        if seen.kind == "nothing":
            what = "link" if self.mode == "link" else "copy"
        elif record and seen.kind == {"link": "link", "copy": "folder"}[record.mode]:
            what = f"replace the {record.mode}"
        else:
            self.conflicts.append(Change(path, f"is a {seen.kind} that is not ours; move it away"))
            return
        self.steps.append(_Step(path, skill, seen))
        self.changes.append(Change(path, what))

    def _plan_stale(self, path: str, entry: Entry, *, prune: bool) -> None:
        if not prune:
            self.stale.append(path)
        elif self._is_as_left(path, entry):
            self.pruned.append(path)
            self.changes.append(Change(path, "prune"))
            return
        else:
            self.conflicts.append(Change(path, "is stale, and not as it was put there; remove it by hand"))
        self.entries[path] = entry

    def carry_out(self, home: int) -> None:
        on_disk = self.manifest
        if self.steps or self.pruned:
            # Told before it is done, so that after a crash the next run knows its own.
            planned = {step.path: self._entry(step.skill) for step in self.steps}
            on_disk = replace(self.manifest, entries=self.owned, changing=planned)
            write_manifest(home, on_disk)
            self._take_steps()
        excluded = [f"{HOME}/{NAME}", *self.entries]
        if exclude_from_git(self.workspace, excluded, self.owned.keys() - self.entries.keys()):
            self.changes.append(Change("info/exclude", "update, in the git folder"))
        final = manifest_of(self.skill_set, self.entries)
        if final != on_disk:
            write_manifest(home, final)

    def _take_steps(self) -> None:
        for folder in self.folders.values():
            if folder is not None:
                discard_leftovers(folder)
        for step in self.steps:
            try:
                put_skill(self._folder(step.path), step.skill, self.mode, step.seen)
            except Refused as refused:
                self.changes = [change for change in self.changes if change.path != step.path]
                self.conflicts.append(Change(step.path, str(refused)))
            else:
                self.entries[step.path] = self._entry(step.skill)
        for path in self.pruned:
            remove(self._folder(path), path.rpartition("/")[2])

    def report(self) -> Report:
        return Report(changes=tuple(self.changes), conflicts=tuple(self.conflicts), stale=tuple(self.stale))

    def _entry(self, skill: Skill) -> Entry:
        return Entry(self.mode, str(skill.path), skill.digest)

    def _folder(self, path: str) -> int:
        folder = self.folders[path.rpartition("/")[0]]
        assert folder is not None, "made before anything is put into it"
        return folder

    def _look(self, path: str) -> Place:
        target, _, name = path.rpartition("/")
        folder = self.folders.get(target)
        return Place("nothing") if folder is None else look(folder, name)

    def _is_as_left(self, path: str, entry: Entry, seen: Place | None = None) -> bool:
        seen = seen or self._look(path)
        if entry.mode == "link":
            return seen == Place("link", entry.path)
        return seen.kind == "folder" and digest_of_folder(self.workspace / path) == entry.digest


def _lock(folder: int) -> None:
    import fcntl  # noqa: PLC0415 - absent on Windows, where this package must still import

    fcntl.flock(folder, fcntl.LOCK_EX)
