"""Which definition of skills a command goes by, and which workspaces of it."""

import argparse
import sys
from pathlib import Path

from agentic_os.hydration import (
    DEFAULT_PROJECT,
    Definition,
    DefinitionError,
)
from agentic_os.settings import Settings

IN_STEP, DRIFT, USAGE, CONFLICT, UNREPORTED = 0, 1, 2, 3, 4
EXIT_CODES = (
    "exit codes: 0 in step, 1 drift (--check), 2 usage or a bad definition, 3 conflict with files not ours, "
    "4 the backend was not told (--report)"
)


def add_selection(parser: argparse.ArgumentParser, *, workspace: bool = True) -> None:
    """Add the options that choose a definition and a project, and a workspace too."""
    parser.add_argument("--project", help="the project (default: of the workspace, else 'default')")
    if workspace:
        parser.add_argument(
            "--workspace", type=Path, help="one folder (default: each workspace of the definition)"
        )
    parser.add_argument(
        "--definition",
        type=Path,
        help="a skills.yaml (default: that of the governance folder, else the package's own)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def definition_in_force(home: Path | None = None) -> Path | None:
    """Find the skills.yaml that the backend goes by, so that both have the same skills in mind."""
    folder = governance_folder(home)
    file = folder / "skills.yaml" if folder else None
    return file if file and file.is_file() else None


def governance_folder(home: Path | None = None) -> Path | None:
    """Find the governance folder of this home, if there is one."""
    settings = Settings()
    folder = settings.governance or (home or settings.home).expanduser() / "governance"
    return folder if folder.is_dir() else None


def known(definition: Definition, project: str) -> str:
    """Give the name of a project that the definition knows. Raises DefinitionError."""
    if project not in definition.projects:
        names = ", ".join(definition.projects)
        raise DefinitionError(f"{definition.origin}: no project {project!r} (known: {names})")
    return project


def select(definition: Definition, project: str | None, workspace: Path | None) -> list[tuple[Path, str]]:
    """Choose the workspaces to handle, each with its project."""
    if project is not None:
        known(definition, project)
    if workspace is None:
        return [(path, name) for name, path in definition.workspaces.items() if project in {None, name}]
    own = {path.resolve(): name for name, path in definition.workspaces.items()}
    return [(workspace, project or own.get(workspace.resolve(), DEFAULT_PROJECT))]


def refuse(message: str) -> int:
    """Tell what is wrong; returns the exit code."""
    print(f"agentic-os skills: {message}", file=sys.stderr)
    return USAGE
