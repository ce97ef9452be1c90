"""The steps of a connection: what each will do, doing it, and undoing it when a later one fails."""

import contextlib
import difflib
import json
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from agentic_os.cli.agents.board import Board
from agentic_os.cli.agents.trial import Trial, try_wake
from agentic_os.cli.client import Client, ServerRefused, ServerUnavailable
from agentic_os.cli.workspaces import report_one
from agentic_os.connection import workspace as places
from agentic_os.connection.launching import CERTIFICATES, PROXIES
from agentic_os.connection.profile import Profile
from agentic_os.connection.record import CREDENTIAL, FILE, Changes, Connection, Connections, write_private
from agentic_os.connection.repository import Repository, WorkspaceUnfit
from agentic_os.connection.workspace import FilePlan, WorkspacePlan
from agentic_os.home import Home
from agentic_os.hydration import WorkspaceError

_DIFF_LINES: Final = 40
_TIME_LIMIT: Final = 3600
Status = Literal["planned", "done", "unchanged", "skipped", "failed", "undone"]


class NotConnected(Exception):
    """A connection cannot be made, or not as asked; nothing was changed, or it was undone."""


@dataclass
class Step:
    """One step, as a person is told of it."""

    name: str
    detail: list[str]
    status: Status = "planned"

    def as_json(self) -> dict[str, Any]:
        """Write it down for programs."""
        return {"step": self.name, "status": self.status, "detail": self.detail}


@dataclass
class Connecting:
    """A connection that is to be made."""

    home: Home
    client: Client
    connection: Connection
    profile: Profile | None
    planned: WorkspacePlan | None
    repository: Repository | None
    board: Board | None
    url: str
    test: bool = True
    before: Connection | None = None
    steps: list[Step] = field(default_factory=list)
    trial: Trial | None = None
    told: Callable[[Step], None] = lambda _: None

    @property
    def store(self) -> Connections:
        """Where connections are kept."""
        return Connections(self.home.path)

    def plan(self) -> None:
        """Write down the steps."""
        name, connection = self.connection.name, self.connection
        files, planned = self.store.at(name), self.planned
        if self.profile is not None:
            found = f"{self.profile.title} {connection.client_version}, {connection.client}"
            self.steps.append(
                Step("client", [found, *_unknown_version(self.profile, connection.client_version)])
            )
        else:
            made = [f"makes {output}" for output in connection.outputs]
            needs = [f"needs {path}" for path in connection.inputs]
            self.steps.append(Step("command", [" ".join(connection.command), *needs, *made]))
        if planned is not None:
            self.steps.append(Step("skills", _of_skills(planned)))
            for file in planned.files:
                self.steps.append(
                    Step("settings" if file.part else "file", _of_file(planned.workspace, file))
                )
            self.steps += [Step("settings", self._of_committed(file)) for file in planned.left]
        if self.before is None:
            capacity = "" if connection.worktree else ", one attempt at a time"
            self.steps.append(
                Step(
                    "executor",
                    [
                        f"{name} is registered, role {connection.role}{capacity}",
                        f"its credential goes to {files / CREDENTIAL} (0600)",
                    ],
                )
            )
        self.steps.append(Step("agent", self._of_agent()))
        if self.test:
            self.steps.append(
                Step(
                    "test wake",
                    [
                        f"a task wakes {name}, which acknowledges it without calling a model;",
                        "it is cancelled, and stays as one closed issue",
                    ],
                )
            )

    def _of_committed(self, file: str) -> list[str]:
        if self.connection.worktree:
            return [f"{file} is committed, and left alone: attempts get the settings in their worktrees"]
        wanted = (
            next(part.merge for part in self.profile.settings if part.file == file) if self.profile else {}
        )
        return [
            f"{file} is committed, and left alone; it needs, by your own hand:",
            *json.dumps(wanted, indent=2).splitlines(),
        ]

    def _of_agent(self) -> list[str]:
        name, command = self.connection.name, " ".join(self.command())
        if self.board is None:
            return [f"{self.connection.plane} wakes it: {command}"]
        where = (
            "a git worktree for each attempt"
            if self.connection.worktree
            else "one attempt at a time, in the folder itself"
        )
        sharing = self.board.sharing()
        what = "is woken" if self.before is None else "is woken from now on"
        return [f"{name} on the board {what} by: {command}", where, *([sharing] if sharing else [])]

    def command(self, word: str | None = None) -> list[str]:
        """Compose what the control plane runs; with a word, a brief that has it is a test."""
        test = ["--test", word] if word else []
        home = ["--home", str(self.home.path)]
        return [
            sys.executable,
            "-m",
            "agentic_os.cli",
            "executor",
            "launch",
            self.connection.name,
            *home,
            *test,
        ]

    def wake(self, word: str | None = None) -> dict[str, Any]:
        """Compose how the board wakes the agent."""
        files = self.store.at(self.connection.name)
        passes = (*(self.profile.passes if self.profile else ()), *PROXIES, *CERTIFICATES)
        return {
            "kind": "command",
            "command": self.command(word),
            "workspace": self.connection.workspace,
            "environment": {"AGENTIC_OS_URL": self.url, **dict.fromkeys(passes)},
            "secret_files": {
                "AGENTIC_OS_CREDENTIAL_FILE": str(files / CREDENTIAL),
                "AGENTIC_OS_CONNECTION_FILE": str(files / FILE),
            },
            "worktree": self.connection.worktree,
            "exclusive": not self.connection.worktree,
            "time_limit_seconds": _TIME_LIMIT,
        }

    def carry_out(self) -> None:
        """Do the steps; when one fails, undo those before it. Raises NotConnected."""
        with contextlib.ExitStack() as undo:
            try:
                self._do(undo)
            except (KeyboardInterrupt, Exception) as problem:
                self._failed(str(problem))
                _undone(undo)
                if isinstance(problem, KeyboardInterrupt):
                    raise
                raise NotConnected(
                    "It was undone: whatever was done before that step is as it was."
                ) from problem
            undo.pop_all()

    def _do(self, undo: contextlib.ExitStack) -> None:
        self._done("client", "command")
        self._workspace(undo)
        self._done("skills", "settings", "file")
        if self.before is None:
            self._register(undo)
        self._done("executor")
        word = f"test-{secrets.token_hex(4)}" if self.test and self.board else None
        if self.board is not None:
            self._agent(self.board, undo, word)
        self._done("agent")
        if word is not None:
            self._try(word)
        self.connection.complete = True
        self.store.write(self.connection)
        if self.board is not None and word is not None:
            self.board.change(self.connection.name, self.wake())

    def _workspace(self, undo: contextlib.ExitStack) -> None:
        """Write the record first: whatever a crash leaves half done, `disconnect` can take back by it."""
        since = Changes() if self.planned is None else places.changes_of(self.planned, self.repository)
        if self.before is None:
            self.connection.changes = since
            undo.callback(self.store.forget, self.connection.name)
        else:
            self.connection.changes = places.changes_in_all(self.before.changes, since)
            undo.callback(self.store.write, self.before)
        self.store.write(self.connection)
        if self.planned is not None:
            undo.callback(places.take_back, self.planned.workspace, since, self.repository)
            places.carry_out(self.planned)
            standing = report_one(self.client, self.planned.workspace, self.planned.skill_set)
            if standing["state"] != "in_step":
                raise NotConnected(
                    f"its skills are not those in force: {standing['problem'] or standing['state']}"
                )

    def _register(self, undo: contextlib.ExitStack) -> None:
        name = self.connection.name
        body = {
            "name": name,
            "role": self.connection.role,
            "skills": "required" if self.profile else "not-required",
            "capacity": None if self.connection.worktree else 1,
            "workspace": str(Path(self.connection.workspace).resolve()) if self.profile else None,
        }
        made = self.client.post("/api/executors", body)
        undo.callback(self.client.delete, f"/api/executors/{name}")
        write_private(self.store.at(name) / CREDENTIAL, made["credential"] + "\n")

    def _agent(self, board: Board, undo: contextlib.ExitStack, word: str | None) -> None:
        name = self.connection.name
        if self.before is not None:
            known = board.agent(name)
            if known is not None:
                undo.callback(board.change, name, known["wake"])
            board.change(name, self.wake(word))
            return
        self.connection.agent = board.add(name, self.wake(word))
        undo.callback(board.deactivate, name)
        account = {"control_plane": "board", "account": self.connection.agent}
        self.client.put(f"/api/principals/{name}/accounts", account)
        self.store.write(self.connection)

    def _try(self, word: str) -> None:
        self.trial = try_wake(self.client, self.connection.name, self.connection.project, word)
        if not self.trial.passed:
            log = f"\nThe log of its run ends:\n{self.trial.log}" if self.trial.log else ""
            raise NotConnected(f"The test wake failed: {self.trial.said}.{log}")
        self._done("test wake", said=f"{self.trial.said} ({self.trial.seconds} s)")

    def _done(self, *names: str, said: str = "") -> None:
        for step in self.steps:
            if step.name in names and step.status == "planned":
                step.status = "done"
                step.detail = [said] if said else step.detail
                self.told(step)

    def _failed(self, why: str) -> None:
        step = next((step for step in self.steps if step.status == "planned"), None)
        if step is not None:
            step.status, step.detail = "failed", why.splitlines()
            self.told(step)


def _undone(undo: contextlib.ExitStack) -> None:
    """Undo what can be; what cannot is told, and does not keep the rest from it."""
    try:
        undo.close()
    except (OSError, ServerRefused, ServerUnavailable, WorkspaceError, WorkspaceUnfit) as problem:
        print(f"agentic-os: one step could not be undone: {problem}", file=sys.stderr)


def _unknown_version(profile: Profile, version: str) -> list[str]:
    known = profile.client.known
    if not known or version in known:
        return []
    return [f"warning: {version} was not tested with agentic-os; {', '.join(known)} were"]


def _of_skills(planned: WorkspacePlan) -> list[str]:
    names, targets = len(planned.skill_set.skills), ", ".join(planned.skill_set.targets)
    if not planned.skills:
        return [f"{names} skills are in {targets} already"]
    hidden = ["git's status shows none of it (.git/info/exclude)"] if planned.exclude else []
    return [f"{names} skills go into {targets}: {len(planned.skills)} changes", *hidden]


def _of_file(workspace: Path, file: FilePlan) -> list[str]:
    if not file.changes:
        return [f"{workspace / file.file} has all of it already"]
    before = (file.before or b"").decode(errors="replace").splitlines()
    after = file.after.decode(errors="replace").splitlines()
    lines = list(difflib.unified_diff(before, after, lineterm="", n=1))[2:]
    more = [f"... and {len(lines) - _DIFF_LINES} lines more"] if len(lines) > _DIFF_LINES else []
    new = "a new file" if file.before is None else "what is there stays"
    return [f"{workspace / file.file} ({new})", *lines[:_DIFF_LINES], *more]
