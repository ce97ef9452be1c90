"""Taking out of a workspace all that hydration put into it."""

import contextlib
import os
from dataclasses import replace
from pathlib import Path

from agentic_os.hydration.git_exclude import exclude_from_git
from agentic_os.hydration.manifest import HOME, NAME, Manifest, read_manifest
from agentic_os.hydration.places import errors_of, open_folder, remove
from agentic_os.hydration.resolution import SkillSet
from agentic_os.hydration.sets import SETS
from agentic_os.hydration.workspace import Report, hydrate


def hydrated(workspace: Path) -> Manifest | None:
    """Read what a workspace got; None for one that was never hydrated. Raises WorkspaceError."""
    with errors_of(workspace), open_folder(workspace, HOME, create=False) as home:
        manifest = Manifest() if home is None else read_manifest(home)
    return None if manifest == Manifest() else manifest


def withdraw(workspace: Path) -> Report:
    """Remove the skills, their set, and the record of them; what a person changed stays, and is reported.

    Folders stay, also those that are empty then. Raises WorkspaceError.
    """
    manifest = hydrated(workspace)
    if manifest is None:
        return Report(changes=(), conflicts=(), stale=())
    nothing = SkillSet(project=manifest.project, digest="", skills=(), targets=manifest.targets)
    report = hydrate(workspace, nothing, prune=True)
    if not report.conflicts:
        with errors_of(workspace), contextlib.ExitStack() as stack:
            home = stack.enter_context(open_folder(workspace, HOME, create=False))
            sets = stack.enter_context(open_folder(workspace, SETS, create=False))
            for name in os.listdir(sets) if sets is not None else ():  # noqa: PTH208 - a descriptor has no path
                assert sets is not None
                remove(sets, name)
            if home is not None:
                remove(home, NAME)
            exclude_from_git(workspace.resolve(), (), [f"{HOME}/{NAME}", f"{SETS}/", *manifest.entries])
    return replace(report, changes=tuple(c for c in report.changes if c.what == "prune"))
