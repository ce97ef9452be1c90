"""What a connection changes in a workspace: planned first, then done, and taken back to the byte."""

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from agentic_os.connection import settings_files
from agentic_os.connection.profile import Profile, SettingsFile, lines_with_scripts, with_scripts
from agentic_os.connection.record import Changes, FileChange, digest, kept
from agentic_os.connection.repository import Repository, hide_changes, look_at, tracked
from agentic_os.connection.settings_files import ByHandOnly, SettingsConflict, SettingsUnreadable
from agentic_os.hydration import Change, Mode, SkillSet, hydrate, hydrated, withdraw
from agentic_os.hydration.git_exclude import exclude_from_git

STATE = ".agentic-os"
"""The folder, in a workspace, of the attempt's state and of what the client wrote for it."""


class Unmergeable(Exception):
    """Something of a person's is in the way; the message names the file and what to do."""


@dataclass(frozen=True, slots=True)
class FilePlan:
    """One file: what it holds, and what it is to hold. part: what is merged; None for a file of ours alone."""

    file: str
    before: bytes | None
    after: bytes
    part: SettingsFile | None
    added: settings_files.Added | None

    @property
    def changes(self) -> bool:
        """Whether there is anything to write."""
        return self.before != self.after


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspacePlan:
    """What is to be done. left: settings files that are committed, and merged in the worktrees of attempts only."""

    workspace: Path
    skill_set: SkillSet
    skills: tuple[Change, ...]
    files: tuple[FilePlan, ...]
    left: tuple[str, ...]
    exclude: tuple[str, ...]
    mode: Mode | None

    @property
    def is_done(self) -> bool:
        """Whether all of it is in the workspace already."""
        return not self.skills and not any(file.changes for file in self.files)


def skills_for(profile: Profile, found: SkillSet, workspace: Path) -> SkillSet:
    """Have skills go where the definition wants them, where the client looks, and where others already look."""
    manifest = hydrated(workspace)
    before = manifest.targets if manifest else ()
    return replace(found, targets=tuple(dict.fromkeys((*found.targets, *profile.skills, *before))))


def scripts_of(profile: Profile, skill_set: SkillSet) -> list[str]:
    """List the scripts that the client runs, as it calls them; modules that they share are none."""
    return [
        f"{profile.skills[0]}/{skill.name}/{file.path}"
        for skill in skill_set.skills
        for file in skill.files
        if file.path.startswith("scripts/")
        and file.path.endswith((".py", ".sh"))
        and not PurePosixPath(file.path).name.startswith("agentic_os_")
    ]


def plan(
    workspace: Path,
    profile: Profile,
    skill_set: SkillSet,
    repository: Repository | None,
    *,
    ours: Changes | None = None,
    attempt: bool = False,
) -> WorkspacePlan:
    """Say what is to be done in a workspace, or in an attempt's own worktree. ours: what was done to it before.

    Raises Unmergeable, WorkspaceError, WorkspaceUnfit.
    """
    written = {change.file: change.after for change in ours.files} if ours else {}
    scripts = scripts_of(profile, skill_set)
    names = [*(part.file for part in profile.settings), *(part.file for part in profile.commands)]
    committed = tracked(workspace, names) if repository else set()
    files = [
        *(
            _merged(workspace, part, scripts)
            for part in profile.settings
            if attempt or part.file not in committed
        ),
        *(
            _own(
                workspace,
                part.file,
                lines_with_scripts(part.text, scripts).encode(),
                written.get(part.file),
            )
            for part in profile.commands
        ),
    ]
    # An attempt gets copies: through a link, a client without a fence could change the skills of all workspaces.
    mode: Mode | None = "copy" if attempt else None
    report = hydrate(workspace, skill_set, mode=mode, dry_run=True)
    if report.conflicts:
        told = "; ".join(f"{change.path} {change.what}" for change in report.conflicts)
        raise Unmergeable(f"skills cannot be put into {workspace}: {told}")
    return WorkspacePlan(
        workspace=workspace,
        skill_set=skill_set,
        skills=report.changes,
        files=tuple(files),
        mode=mode,
        left=tuple(part.file for part in profile.settings if not attempt and part.file in committed),
        exclude=(f"{STATE}/", *(name for name in names if name not in committed)) if repository else (),
    )


def changes_of(planned: WorkspacePlan, repository: Repository | None) -> Changes:
    """Record what carrying out the plan will change, before it is carried out."""
    workspace = planned.workspace
    places = [*(file.file for file in planned.files if file.changes), f"{STATE}/x"]
    places += [
        f"{target}/x" for target in (*planned.skill_set.targets, ".agents/.agentic-os", ".agents/skills")
    ]
    exclude = repository.exclude if repository else None
    if exclude and exclude.is_relative_to(workspace):
        places.append(exclude.relative_to(workspace).as_posix())
    content = exclude.read_bytes() if exclude and exclude.is_file() else None
    lines = (content or b"").decode(errors="surrogateescape").splitlines()
    return Changes(
        files=[
            FileChange(
                file=file.file,
                before=None if file.before is None else kept(file.before),
                after=digest(file.after),
                format=file.part.format if file.part else "json",
                added=file.added,
            )
            for file in planned.files
            if file.changes
        ],
        folders=list(_absent_folders(workspace, places)),
        hydrated=hydrated(workspace) is None,
        exclude=None if content is None else kept(content),
        excluded=[path for path in planned.exclude if f"/{path}" not in lines],
    )


def changes_in_all(before: Changes, since: Changes) -> Changes:
    """Put together the records of what was done at two times."""
    files = {change.file: change for change in before.files}
    for change in since.files:
        first = files.get(change.file)
        if first is None:
            files[change.file] = change
            continue
        added = settings_files.added_in_all(first.added, change.added)
        files[change.file] = change.model_copy(update={"before": _theirs(first, change), "added": added})
    return Changes(
        files=list(files.values()),
        folders=list(dict.fromkeys((*before.folders, *since.folders))),
        hydrated=before.hydrated or since.hydrated,
        exclude=before.exclude if before.excluded else since.exclude,
        excluded=list(dict.fromkeys((*before.excluded, *since.excluded))),
    )


def _theirs(first: FileChange, since: FileChange) -> str | None:
    """Say what a person's file held, or holds by now, without what is ours."""
    content = since.original
    if content is None or first.added is None or digest(content) == first.after:
        return first.before
    with contextlib.suppress(SettingsUnreadable, ByHandOnly):
        content = settings_files.take_out(content, first.format, first.added)
    return None if content is None else kept(content)


def carry_out(planned: WorkspacePlan) -> None:
    """Do what was planned. Raises WorkspaceError, OSError, Unmergeable."""
    report = hydrate(planned.workspace, planned.skill_set, mode=planned.mode)
    if report.conflicts:
        raise Unmergeable("; ".join(f"{change.path} {change.what}" for change in report.conflicts))
    for file in planned.files:
        if file.changes:
            if _read(planned.workspace, file.file) != file.before:
                raise Unmergeable(f"{file.file} was changed under our hands; run again")
            _write(planned.workspace / file.file, file.after)
    if planned.exclude:
        exclude_from_git(planned.workspace.resolve(), planned.exclude)


def prepare_attempt(
    folder: Path, profile: Profile, found: SkillSet, ours: Changes | None = None
) -> Repository | None:
    """Give an attempt's folder its skills and settings, none of which comes into its commits.

    Raises Unmergeable, WorkspaceError, WorkspaceUnfit, OSError.
    """
    repository = look_at(folder)
    own = repository is not None and repository.git != repository.shared
    planned = plan(folder, profile, skills_for(profile, found, folder), repository, ours=ours, attempt=own)
    carry_out(planned)
    if own:
        committed = tracked(folder, [file.file for file in planned.files])
        hide_changes(folder, [file.file for file in planned.files if file.changes and file.file in committed])
    state = folder / STATE
    if state.is_symlink():
        raise Unmergeable(f"{state} is a link; the attempt's token would leave the workspace")
    state.mkdir(mode=0o700, exist_ok=True)
    (state / ".gitignore").write_text("*\n", encoding="utf-8")
    return repository


def take_back(workspace: Path, changes: Changes, repository: Repository | None) -> list[str]:
    """Undo what a connection changed, as far as it was done; list what had to be left. Raises WorkspaceError."""
    left = []
    for change in reversed(changes.files):
        try:
            _restore(workspace, change)
        except (Unmergeable, SettingsUnreadable, ByHandOnly, OSError) as problem:
            left.append(f"{change.file}: {problem}")
    if changes.hydrated:
        report = withdraw(workspace)
        left += [f"{change.path}: {change.what}" for change in report.conflicts]
    if STATE in changes.folders and not (workspace / STATE).is_symlink():
        shutil.rmtree(workspace / STATE, ignore_errors=True)
    if repository is not None and changes.excluded:
        _restore_exclude(workspace, repository, changes)
    for folder in reversed(changes.folders):
        with contextlib.suppress(OSError):
            (workspace / folder).rmdir()
    return left


def _merged(workspace: Path, part: SettingsFile, scripts: Sequence[str]) -> FilePlan:
    before = _read(workspace, part.file)
    try:
        merged = settings_files.merge(before, part.format, with_scripts(part.merge, scripts))
    except SettingsUnreadable as problem:
        raise Unmergeable(f"{workspace / part.file} {problem}; correct it, nothing was changed") from problem
    except SettingsConflict as conflict:
        raise Unmergeable(
            f"{workspace / part.file}: {conflict}; change it, or leave this client unconnected"
        ) from conflict
    except ByHandOnly as problem:
        raise Unmergeable(f"{workspace / part.file}: {problem}") from problem
    return FilePlan(
        part.file, before, merged.content if before is not None or merged.added else b"", part, merged.added
    )


def _own(workspace: Path, file: str, text: bytes, written: str | None) -> FilePlan:
    before = _read(workspace, file)
    if before not in {None, text} and digest(before or b"") != written:
        raise Unmergeable(f"{workspace / file} is a file of yours, which would be overwritten; move it away")
    return FilePlan(file, before, text, None, None)


def _restore(workspace: Path, change: FileChange) -> None:
    """Give one file back what it held, or take ours out of what a person made of it."""
    current, original = _read(workspace, change.file), change.original
    if current is None or current == original:
        return
    if digest(current) == change.after:
        _put(workspace / change.file, original)
        return
    if change.added is None:
        raise Unmergeable("was changed since it was written, and stays; remove it by hand")
    left = settings_files.take_out(current, change.format, change.added)
    if original is not None and settings_files.same_settings(left or b"", original, change.format):
        left = original
    _put(workspace / change.file, left)


def _restore_exclude(workspace: Path, repository: Repository, changes: Changes) -> None:
    """Take our lines out of git's list, which then is as it was, to the byte, unless others wrote to it."""
    exclude_from_git(workspace.resolve(), (), changes.excluded)
    file = repository.exclude
    before = changes.exclude
    original = None if before is None else FileChange(file="", before=before, after="").original
    now = file.read_bytes() if file.is_file() else b""
    if now.splitlines() == (original or b"").splitlines():
        _put(file, original)


def _absent_folders(workspace: Path, places: Iterable[str]) -> Iterator[str]:
    """List the folders above these places that there are not, outer ones first."""
    seen = dict.fromkeys(
        parent.as_posix()
        for place in places
        for parent in reversed(PurePosixPath(place).parents)
        if parent.as_posix() != "."
    )
    return (folder for folder in seen if not os.path.lexists(workspace / folder))


def _read(workspace: Path, file: str) -> bytes | None:
    """Read a file that is reached through no link. Raises Unmergeable."""
    place = workspace
    for part in PurePosixPath(file).parts:
        place /= part
        if place.is_symlink():
            raise Unmergeable(f"{place} is a link; what it leads to may be shared, and is not changed")
    try:
        return place.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unmergeable(f"{place} cannot be read: {error.strerror}") from error


def _put(file: Path, content: bytes | None) -> None:
    if content is None:
        file.unlink(missing_ok=True)
    else:
        _write(file, content)


def _write(file: Path, content: bytes) -> None:
    """Replace a file in one step, with the permissions that it had."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.agentic-os.tmp")
    try:
        new.write_bytes(content)
        if file.exists():
            new.chmod(file.stat().st_mode & 0o777)
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)
