"""What is in order with a connection, as far as its own machine knows."""

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agentic_os.connection import settings_files
from agentic_os.connection.launching import ClientUnusable, VersionAsked, find_client
from agentic_os.connection.profile import Profile, lines_with_scripts, profile_of, with_scripts
from agentic_os.connection.record import CREDENTIAL, Connection
from agentic_os.connection.repository import WorkspaceUnfit, look_at, tracked
from agentic_os.connection.workspace import scripts_of, skills_for
from agentic_os.hydration import DefinitionError, WorkspaceError, check, load_definition, resolve


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at, how it is, and what to do about it."""

    status: Literal["ok", "warning", "fault"]
    detail: str
    next: str = ""


def inspect(connection: Connection, folder: Path) -> Iterator[Finding]:
    """Look at client, workspace, settings, skills and credential. folder: where the connection is kept."""
    if not connection.complete:
        yield Finding(
            status="fault",
            detail="was begun and not finished",
            next=f"agentic-os disconnect {connection.name} takes it back.",
        )
    yield _credential(folder / CREDENTIAL, connection.name)
    workspace = Path(connection.workspace)
    if not workspace.is_dir():
        yield Finding(status="fault", detail=f"its workspace {workspace} is gone", next=_back(connection))
        return
    yield _repository(connection, workspace)
    if connection.profile is None:
        return
    profile = profile_of(connection.profile)
    yield _client(connection, profile)
    yield from _projected(connection, profile, workspace)


def _back(connection: Connection) -> str:
    return f"agentic-os disconnect {connection.name}, and connect it again."


def _again(connection: Connection) -> str:
    return f"agentic-os connect {connection.client_name} --workspace {connection.workspace} --name {connection.name}"


def _credential(file: Path, name: str) -> Finding:
    try:
        mode = file.stat().st_mode
    except OSError as problem:
        return Finding(
            status="fault",
            detail=f"its credential cannot be read: {problem.strerror}",
            next=f"agentic-os disconnect {name}",
        )
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return Finding(
            status="fault",
            detail=f"others can read its credential {file}",
            next=f"chmod 600 it, and take it for known: agentic-os executor rotate {name}",
        )
    return Finding(status="ok", detail="its credential is readable by its owner only")


def _repository(connection: Connection, workspace: Path) -> Finding:
    try:
        found = look_at(workspace)
    except WorkspaceUnfit as problem:
        return Finding(status="fault", detail=str(problem))
    if connection.plane == "board" and connection.worktree != (found is not None):
        now = "a git repository by now" if found else "no git repository any more"
        return Finding(status="fault", detail=f"its workspace is {now}", next=_back(connection))
    how = "each attempt has a worktree of its own" if connection.worktree else "attempts run one at a time"
    return Finding(status="ok", detail=f"{workspace}: {how}")


def _client(connection: Connection, profile: Profile) -> Finding:
    try:
        version = VersionAsked(profile, find_client(profile, connection.client)).answer()
    except ClientUnusable as problem:
        return Finding(status="fault", detail=str(problem), next=profile.client.install)
    known = profile.client.known
    if known and version not in known:
        return Finding(
            status="warning",
            detail=f"{profile.title} {version} was not tested; {', '.join(known)} were",
            next=profile.client.install,
        )
    return Finding(status="ok", detail=f"{profile.title} {version}")


def _projected(connection: Connection, profile: Profile, workspace: Path) -> Iterator[Finding]:
    try:
        definition = load_definition(Path(connection.definition) if connection.definition else None)
        skill_set = skills_for(profile, resolve(definition, connection.project), workspace)
        drift = check(workspace, skill_set).differences
    except (DefinitionError, WorkspaceError) as problem:
        yield Finding(status="fault", detail=f"its skills: {problem}")
        return
    if drift:
        first = drift[0]
        yield Finding(
            status="fault",
            detail=f"its skills are out of step: {first.path} {first.what} ({len(drift)} in all)",
            next=_again(connection),
        )
    else:
        yield Finding(status="ok", detail=f"{len(skill_set.skills)} skills are in step")
    repository = look_at(workspace)
    committed = tracked(workspace, [part.file for part in profile.settings]) if repository else set()
    scripts = scripts_of(profile, skill_set)
    for part in profile.settings:
        if part.file in committed:
            continue
        file = workspace / part.file
        try:
            lacking = settings_files.missing(
                file.read_bytes() if file.is_file() else None, part.format, with_scripts(part.merge, scripts)
            )
        except settings_files.SettingsUnreadable as problem:
            yield Finding(status="fault", detail=f"{file} {problem}")
            continue
        yield _lacking(connection, file, lacking)
    for own in profile.commands:
        file = workspace / own.file
        if not file.is_file() or file.read_text(encoding="utf-8", errors="replace") != lines_with_scripts(
            own.text, scripts
        ):
            yield _lacking(connection, file, ["what was written"])


def _lacking(connection: Connection, file: Path, lacking: list[str]) -> Finding:
    if not lacking:
        return Finding(status="ok", detail=f"{file} has its settings")
    more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
    return Finding(status="fault", detail=f"{file} lacks {lacking[0]}{more}", next=_again(connection))
