"""What a connection is to be: what was asked for, held against what there is, before anything is changed."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentic_os.cli.agents.board import Board
from agentic_os.cli.agents.steps import Connecting, NotConnected
from agentic_os.cli.client import Client
from agentic_os.connection import workspace as places
from agentic_os.connection.launching import VersionAsked, find_client
from agentic_os.connection.profile import Profile, ProfileUnknown, find_profile, profile_names
from agentic_os.connection.record import Connection, Connections, ConnectionUnknown
from agentic_os.connection.repository import Repository, look_at
from agentic_os.home import Home
from agentic_os.hydration import DEFAULT_PROJECT, SkillSet, load_definition, resolve
from agentic_os.settings import Settings

COMMAND: Final = "command"
_FIXED: Final = ("workspace", "role", "plane", "client_name")
_FREE: Final = (
    "project",
    "sessions",
    "definition",
    "skills",
    "client",
    "client_version",
    "profile",
    "command",
    "outputs",
    "inputs",
)


class Usage(Exception):
    """Something is missing on the command line."""


@dataclass
class _Choices:
    """What was asked for, and what was found of it."""

    args: argparse.Namespace
    settings: Settings
    home: Home
    workspace: Path
    profile: Profile | None
    before: Connection | None
    client: Client
    plane: str
    board: Board | None
    repository: Repository | None


def prepare(args: argparse.Namespace) -> tuple[Connecting, list[str]]:
    """Look at everything that can be wrong, and write down the steps and the differences; nothing is changed.

    Raises Usage, NotConnected, and what the parts raise.
    """
    settings = Settings()
    home = Home(args.home or settings.home)
    workspace = _workspace(args, home)
    profile = _profile(args, home)
    before = _before(args, Connections(home.path), profile, workspace)
    client = _server(args)
    plane, board = _plane(args, home, client)
    choices = _Choices(
        args=args,
        settings=settings,
        home=home,
        workspace=workspace,
        profile=profile,
        before=before,
        client=client,
        plane=plane,
        board=board,
        repository=look_at(workspace),
    )
    connection = _wanted(choices)
    planned = None if profile is None else _planned(choices, profile, connection)
    differences = _differences(before, connection)
    connecting = Connecting(
        home=home,
        client=client,
        connection=connection,
        profile=profile,
        planned=planned,
        repository=choices.repository,
        board=board,
        url=client.url,
        test=not args.no_test and board is not None,
        before=before,
    )
    connecting.plan()
    return connecting, differences


def _workspace(args: argparse.Namespace, home: Home) -> Path:
    if args.client is None:
        raise Usage("name a client: " + ", ".join([*profile_names(home.path / "profiles"), COMMAND]))
    if args.workspace is None:
        raise Usage("--workspace DIR is missing: the folder that it works in")
    workspace = Path(os.path.abspath(args.workspace.expanduser()))  # noqa: PTH100 - links stay as they were given
    if not workspace.is_dir():
        raise NotConnected(f"the workspace {workspace} is no folder")
    real, inside = workspace.resolve(), home.path.resolve()
    if real.is_relative_to(inside):
        raise NotConnected(
            f"the workspace {workspace} is inside the home {home.path}, which holds secrets; choose another"
        )
    if inside.is_relative_to(real):
        raise NotConnected(
            f"the home {home.path} is inside the workspace {workspace}, so agents would find its secrets"
        )
    if not os.access(workspace, os.W_OK | os.X_OK):
        raise NotConnected(f"the workspace {workspace} cannot be written")
    return workspace


def _profile(args: argparse.Namespace, home: Home) -> Profile | None:
    if (args.client == COMMAND) != bool(args.command):
        raise Usage("connect command ... -- COMMAND: what it runs comes after --, and for `command` only")
    if args.client == COMMAND:
        return None
    if args.output or args.input:
        raise Usage("--output and --input are for `command`")
    try:
        return find_profile(args.client, home.path / "profiles")
    except ProfileUnknown:
        known = ", ".join([*profile_names(home.path / "profiles"), COMMAND])
        raise Usage(
            f"there is no client {args.client!r} (known: {known}); a profile of your own goes into "
            f"{home.path / 'profiles'}"
        ) from None


def _before(
    args: argparse.Namespace, store: Connections, profile: Profile | None, workspace: Path
) -> Connection | None:
    """Find the connection that is meant: by name, else by client, workspace and role."""
    if args.name:
        try:
            found = store.read(args.name)
        except ConnectionUnknown:
            return None
    else:
        name = profile.name if profile else COMMAND
        alike = [
            known
            for known in store.all()
            if (known.client_name, known.workspace) == (name, str(workspace))
            and args.role in {None, known.role}
            and known.command == args.command
        ]
        if not alike:
            return None
        found = alike[0]
    if not found.complete:
        raise NotConnected(
            f"{found.name} was begun and not finished; take it back first: agentic-os disconnect {found.name}"
        )
    return found


def _server(args: argparse.Namespace) -> Client:
    client = Client.of(args)
    client.get("/api/executors")  # may we, and does it answer
    return client


def _plane(args: argparse.Namespace, home: Home, client: Client) -> tuple[str, Board | None]:
    tracker = client.get("/api/reconcile", limit=1)["tracker"]
    plane = tracker["name"] if tracker else "none"
    if plane != "board":
        return plane, None
    endpoint = home.endpoint()
    url = endpoint.board_url if endpoint else None
    if url is None:
        raise NotConnected(
            f"{home.path} does not say where the board is; run this where `agentic-os up` runs"
        )
    token = args.board_token_file.read_text(encoding="utf-8").strip() if args.board_token_file else None
    return plane, Board.of(home, url, token)


def _wanted(choices: _Choices) -> Connection:
    """Say what is asked for; what is not said stays as it was."""
    args, before, profile, board = choices.args, choices.before, choices.profile, choices.board
    found = find_client(profile) if profile else ""
    taken = {e["name"] for e in choices.client.get("/api/executors")["items"]}
    taken |= board.names() if board else set()
    resumable = profile is not None and profile.resume is not None
    return Connection(
        name=before.name if before else _name(args, profile, taken),
        kind="client" if profile else "command",
        workspace=str(choices.workspace),
        role=args.role or (before.role if before else "worker"),
        project=args.project or (before.project if before else DEFAULT_PROJECT),
        plane=choices.plane,
        worktree=choices.repository is not None and choices.plane == "board",
        profile=profile.model_dump(mode="json") if profile else None,
        client=found,
        client_version=VersionAsked(profile, found).answer() if profile else "",
        sessions=args.sessions or (before.sessions if before else "resume" if resumable else "fresh"),
        command=list(args.command),
        outputs=list(args.output),
        inputs=list(args.input),
        agent=before.agent if before else "",
    )


def _name(args: argparse.Namespace, profile: Profile | None, taken: set[str]) -> str:
    if args.name:
        if args.name in taken:
            raise NotConnected(
                f"the name {args.name} is taken, and names are never given again; choose another --name"
            )
        try:
            Connections(Path()).at(args.name)
        except ConnectionUnknown:
            raise Usage("a name is lower case letters, digits, '.', '_' and '-', 64 at most") from None
        return str(args.name)
    plain = profile.name if profile else COMMAND
    return next(name for n in range(1, 10_000) if (name := plain if n == 1 else f"{plain}-{n}") not in taken)


def _planned(choices: _Choices, profile: Profile, connection: Connection) -> places.WorkspacePlan:
    """Plan what the client needs in the workspace, and note what it goes by."""
    if profile.resume is None and connection.sessions == "resume":
        raise Usage(f"{profile.title} cannot take up a session again: --sessions fresh")
    folder = choices.settings.governance or choices.home.path / "governance"
    file = Path(os.path.abspath(folder.expanduser() / "skills.yaml"))  # noqa: PTH100 - links stay as given
    definition = load_definition(file if file.is_file() else None)
    connection.definition = str(file) if file.is_file() else None
    if connection.project not in definition.projects:
        known = ", ".join(definition.projects)
        raise NotConnected(f"{definition.origin}: no project {connection.project!r} (known: {known})")
    skill_set = places.skills_for(profile, resolve(definition, connection.project), choices.workspace)
    connection.skills = skill_set.digest
    _require_agreement(choices.client, skill_set, definition.origin)
    before = choices.before.changes if choices.before else None
    return places.plan(choices.workspace, profile, skill_set, choices.repository, ours=before)


def _require_agreement(client: Client, skill_set: SkillSet, origin: str) -> None:
    """Refuse skills that the server would refuse at the first acknowledgement."""
    expected = client.get(f"/api/skills/{skill_set.project}")
    if expected["digest"] == skill_set.digest:
        return
    theirs = {skill["name"]: skill["digest"] for skill in expected["skills"]}
    ours = {skill.name: skill.digest for skill in skill_set.skills}
    names = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
    raise NotConnected(
        f"the skills in force are not those of {origin}: {', '.join(names)} differ.\n"
        "  next: agentic-os skills diff shows how; agentic-os apply puts a definition in force, and\n"
        "        AGENTIC_OS_GOVERNANCE names the folder of the one that is."
    )


def _differences(before: Connection | None, wanted: Connection) -> list[str]:
    """Say what is asked for otherwise than it was. Raises NotConnected for what cannot be changed."""
    if before is None:
        return []
    fixed = [
        _difference(name, before, wanted) for name in _FIXED if getattr(before, name) != getattr(wanted, name)
    ]
    if before.worktree != wanted.worktree:
        fixed.append(_difference("worktree", before, wanted))
    if fixed:
        raise NotConnected(
            f"{before.name} is connected otherwise:\n  " + "\n  ".join(fixed) + "\n"
            f"  next: choose another --name, or take it back first: agentic-os disconnect {before.name}"
        )
    return [
        _difference(name, before, wanted) for name in _FREE if getattr(before, name) != getattr(wanted, name)
    ]


def _difference(name: str, before: Connection, wanted: Connection) -> str:
    if name == "profile":
        parts = sorted(
            part
            for part, value in (wanted.profile or {}).items()
            if (before.profile or {}).get(part) != value
        )
        return f"profile: its {', '.join(parts)} changed since"
    return f"{name.replace('_', ' ')}: {getattr(before, name)} -> {getattr(wanted, name)}"
