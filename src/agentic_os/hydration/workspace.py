"""Projecting a skill set into one workspace, and telling how a workspace differs from it."""

import contextlib
from collections.abc import Mapping
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
    LinksRefused,
    Mode,
    Place,
    Refused,
    digest_of_folder,
    discard_leftovers,
    errors_of,
    open_folder,
    put_copy,
    put_link,
    take_away,
)
from agentic_os.hydration.resolution import Skill, SkillSet
from agentic_os.hydration.sets import (
    SETS,
    leads_into_force,
    links_in_force,
    look_through,
    pointer,
    put_in_force,
)


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
    workspace: Path,
    skill_set: SkillSet,
    *,
    mode: Mode | None = None,
    prune: bool = False,
    dry_run: bool = False,
) -> Report:
    """Bring a workspace in step with a skill set; a second run changes nothing.

    Without a mode copies stay copies, and all else is linked, or copied where no link can be made. Waits for
    another run in the same workspace. Raises WorkspaceError where nothing can be done.
    """
    try:
        return _hydrate(workspace, skill_set, mode, prune=prune, dry_run=dry_run)
    except LinksRefused:
        if mode is not None:
            raise
        return _hydrate(workspace, skill_set, "copy", prune=prune, dry_run=dry_run)


def _hydrate(
    workspace: Path, skill_set: SkillSet, wanted: Mode | None, *, prune: bool, dry_run: bool
) -> Report:
    with errors_of(workspace), contextlib.ExitStack() as stack:
        home = stack.enter_context(open_folder(workspace, HOME, create=not dry_run))
        if home is not None:
            _lock(home)
        manifest = Manifest() if home is None else read_manifest(home)
        copied = any(entry.mode == "copy" for entry in manifest.entries.values())
        mode: Mode = wanted or ("copy" if copied else "link")
        run = _Run(workspace.resolve(), skill_set, mode, manifest)
        run.sets = stack.enter_context(
            open_folder(workspace, SETS, create=mode == "link" and bool(skill_set.skills) and not dry_run)
        )
        run.in_force = links_in_force(run.sets)
        for target in skill_set.targets:
            run.open(stack, target, create=not dry_run)
        for target in sorted({path.rpartition("/")[0] for path in manifest.entries} - set(skill_set.targets)):
            run.open(stack, target, create=False)
        run.plan(prune=prune)
        if home is not None and not dry_run:
            run.carry_out(home)
        return run.report()


_STANDS_AS = {"link": "link", "copy": "folder"}


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
    sets: int | None = None
    in_force: Mapping[str, str] = field(default_factory=dict)
    folders: dict[str, int | None] = field(default_factory=dict)
    made: dict[str, Entry] = field(default_factory=dict)
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
            if self._is_ours(path, entry):
                self.owned[path] = entry
        for target in self.skill_set.targets:
            if target in self.folders:
                for skill in self.skill_set.skills:
                    self._plan_place(target, self.folders[target], skill)
        wanted = {
            f"{target}/{skill.name}" for target in self.skill_set.targets for skill in self.skill_set.skills
        }
        for path, entry in self.owned.items():
            if path not in wanted and self._look(path).kind != "nothing":
                self._plan_stale(path, entry, prune=prune)

    def _plan_place(self, target: str, folder: int | None, skill: Skill) -> None:
        path, entry = f"{target}/{skill.name}", self._entry(skill)
        if (
            self.mode == "link"
            and folder is not None
            and self.in_force.get(skill.name) == entry.path
            and leads_into_force(folder, target, skill.name)
        ):  # nearly all, nearly always, so without what the rest would cost
            self.entries[path] = entry
            return
        seen = self._look(path)
        record = self.owned.get(path)
        # A link through our set is ours whoever has the record; a folder of a person's is not, however alike.
        if (record or seen.kind == "pointer") and self._is_as_left(path, entry, seen):
            self.entries[path] = entry
            return
        if seen.kind == "nothing":
            what = "link" if self.mode == "link" else "copy"
        elif seen.kind == "pointer" or (record and seen.kind == _STANDS_AS[record.mode]):
            what = f"replace the {record.mode if record else 'link'}"
        else:
            self.conflicts.append(Change(path, f"is a {seen.kind} that is not ours; move it away"))
            return
        self.steps.append(_Step(path, skill, seen))
        self.changes.append(Change(path, what))

    def _plan_stale(self, path: str, entry: Entry, *, prune: bool) -> None:
        if not prune:
            self.stale.append(path)
        elif self._is_ours(path, entry):
            self.pruned.append(path)
            self.changes.append(Change(path, "prune"))
            return
        else:
            self.conflicts.append(Change(path, "is stale, and not as it was put there; remove it by hand"))
        # One that stands in a folder that was given up goes where the set in force leads.
        now = {skill.name: self._entry(skill) for skill in self.skill_set.skills}
        self.entries[path] = (
            now.get(path.rpartition("/")[2], entry) if entry.mode == self.mode == "link" else entry
        )

    def carry_out(self, home: int) -> None:
        for folder in self.folders.values():
            if folder is not None:
                discard_leftovers(folder)
        on_disk = self.manifest
        if self.steps or self.pruned:
            # Told before it is done, so that after a crash the next run knows its own.
            planned = {step.path: self._entry(step.skill) for step in self.steps}
            on_disk = replace(self.manifest, entries=self.owned, changing=planned)
            write_manifest(home, on_disk)
            self._take_steps()
        excluded = [f"{HOME}/{NAME}", f"{SETS}/", *self.entries]
        if exclude_from_git(self.workspace, excluded, self.owned.keys() - self.entries.keys()):
            self.changes.append(Change("info/exclude", "update, in the git folder"))
        final = manifest_of(self.skill_set, self.entries)
        if final != on_disk:
            write_manifest(home, final)

    def _take_steps(self) -> None:
        # New links lead nowhere until the set is in force; all that stands changes by that one rename.
        early = [step for step in self.steps if self.mode == "link" and step.seen.kind == "nothing"]
        late = [
            step
            for step in self.steps
            if not (self.mode == "link" and step.seen.kind == "nothing") and not self._is_pointed(step)
        ]
        self._put(early)
        if self.mode == "link":
            self._switch()
        self._put(late)
        for step in self.steps:
            if self._is_pointed(step):
                self.entries[step.path] = self._entry(step.skill)
        for path in self.pruned:
            take_away(self._folder(path), path.rpartition("/")[2])

        if self.mode == "copy":
            self._switch()

    def _is_pointed(self, step: _Step) -> bool:
        return self.mode == "link" and step.seen.kind == "pointer"

    def _put(self, steps: list[_Step]) -> None:
        made: dict[str, int] = {}
        for step in steps:
            target, _, name = step.path.rpartition("/")
            try:
                if self.mode == "link":
                    text = pointer(target, name)
                    put_link(self._folder(step.path), name, text, step.seen, made.get(text))
                    made[text] = self._folder(step.path)
                else:
                    put_copy(self._folder(step.path), step.skill, step.seen)
            except Refused as refused:
                self.changes = [change for change in self.changes if change.path != step.path]
                self.conflicts.append(Change(step.path, str(refused)))
            else:
                self.entries[step.path] = self._entry(step.skill)

    def _switch(self) -> None:
        """Put the links in force that the skills now have, and those of stale places that stay."""
        stale = {
            path.rpartition("/")[2]: entry.path
            for path, entry in self.entries.items()
            if entry.mode == "link"
        }
        own = {skill.name: str(skill.path) for skill in self.skill_set.skills} if self.mode == "link" else {}
        if self.sets is not None:
            put_in_force(self.sets, stale | own)

    def report(self) -> Report:
        return Report(changes=tuple(self.changes), conflicts=tuple(self.conflicts), stale=tuple(self.stale))

    def _entry(self, skill: Skill) -> Entry:
        found = self.made.get(skill.name)
        if found is None:
            found = self.made[skill.name] = Entry(self.mode, str(skill.path), skill.digest)
        return found

    def _folder(self, path: str) -> int:
        folder = self.folders[path.rpartition("/")[0]]
        assert folder is not None, "made before anything is put into it"
        return folder

    def _look(self, path: str) -> Place:
        target, _, name = path.rpartition("/")
        folder = self.folders.get(target)
        return Place("nothing") if folder is None else look_through(folder, target, name, self.in_force)

    def _is_ours(self, path: str, entry: Entry) -> bool:
        """Tell whether a place may be removed: a run that was cut off can have left a link that leads nowhere."""
        seen = self._look(path)
        return seen.kind == "pointer" or self._is_as_left(path, entry, seen)

    def _is_as_left(self, path: str, entry: Entry, seen: Place | None = None) -> bool:
        seen = seen or self._look(path)
        if entry.mode == "link":
            return seen == Place("pointer", entry.path)
        return seen.kind == "folder" and digest_of_folder(self.workspace / path) == entry.digest


def _lock(folder: int) -> None:
    import fcntl  # noqa: PLC0415 - absent on Windows, where this package must still import

    fcntl.flock(folder, fcntl.LOCK_EX)
