"""What each client lets its model do under the profile's settings: our scripts and edits, and nothing besides."""

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.agents.clients import CLIENTS, Client, git, repository, surroundings
from tests.agents.model import Act, Model, Say, Shell, Turn, Write, running_model
from tests.agents.network import may_isolate

from agentic_os.connection import launching
from agentic_os.connection.profile import Profile, command_line, find_profile, with_scripts
from agentic_os.connection.repository import Repository
from agentic_os.connection.workspace import prepare_attempt, scripts_of
from agentic_os.hydration import DEFAULT_PROJECT, SkillSet, load_definition, resolve

pytestmark = [pytest.mark.agents, pytest.mark.timeout(120)]
UNFENCED = ("qwen",)
"""Clients that nothing keeps from writing among the skills; start-work then refuses to begin."""


@dataclass(frozen=True)
class Attempt:
    """A worktree as an attempt finds it, and a client that can be started there."""

    client: Client
    profile: Profile
    model: Model
    folder: Path
    repository: Repository | None
    skills: SkillSet
    environment: dict[str, str]

    def obey(self, *acts: Act) -> tuple[str, ...]:
        """Have the client do one act after the other; returns what its tools said to each."""
        seen: dict[int, tuple[str, ...]] = {}

        def script(turn: Turn) -> Act:
            seen[0] = turn.results
            return acts[len(turn.results)] if len(turn.results) < len(acts) else Say("That is all.")

        self.model.script = script
        values = {
            "prompt": self.profile.told(brief=".agentic-os/brief.md"),
            "session": launching.new_session(),
        }
        template = with_scripts(list(self.profile.launch), scripts_of(self.profile, self.skills))
        done = subprocess.run(
            command_line(template, values | launching.places_of(self.repository, template)),
            cwd=self.folder,
            env=self.environment | self.profile.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert 0 == done.returncode, done.stdout + done.stderr
        assert len(acts) == len(seen[0]), done.stdout + done.stderr
        return seen[0]


@pytest.fixture(params=CLIENTS, ids=str)
def attempt(request: pytest.FixtureRequest, place: Path, loopback_only: None) -> Iterator[Attempt]:
    """Prepare what the launcher prepares: a worktree on a branch, hydrated, with the profile's files in it."""
    profile = find_profile(request.param.name)
    workspace = repository(place / "workspace")
    folder = place / "worktrees" / "t-1"
    git(workspace, "worktree", "add", "--quiet", "-b", "agentic-os/t/1", str(folder))
    skills = resolve(load_definition(None), DEFAULT_PROJECT)
    prepared = prepare_attempt(folder, profile, skills)
    with running_model() as model:
        environment = surroundings(place / "home", model.url, request.param)
        yield Attempt(request.param, profile, model, folder, prepared, skills, environment)


def test_our_scripts_edits_and_commits_are_allowed(attempt: Attempt) -> None:
    """The model sees our skills, runs their scripts, writes files in its folder, and commits them on its branch."""
    script = f"{attempt.profile.skills[0]}/start-work/scripts/start_work.py"
    started, *_ = attempt.obey(
        Shell(f"python3 {script} --help"),
        Write("beans.txt", "41 beans\n"),
        Write(".agentic-os/plan.md", "a plan\n"),
        Shell("git add beans.txt"),
        Shell('git commit -m "Count the beans"'),
    )
    assert "acknowledge it to the backend" in started
    assert "submit-result" in attempt.model.requests[0].text
    assert "Count the beans" == git(attempt.folder, "log", "-1", "--format=%s").strip()
    assert "41 beans\n" == git(attempt.folder, "show", "agentic-os/t/1:beans.txt")
    assert "a plan" == (attempt.folder / ".agentic-os/plan.md").read_text().strip()


def test_what_is_not_ours_is_refused(attempt: Attempt) -> None:
    """No script outside of the skills runs, by no way around; the repository's hooks, main and others' files stay."""
    workspace = attempt.folder.parents[1] / "workspace"
    skills = attempt.profile.skills[0]
    new = f"{skills}/start-work/scripts/new.py"
    hook, around = (
        workspace / ".git/hooks/pre-commit",
        f"python3 {skills}/start-work/scripts/../../../../evil.py now",
    )
    (attempt.folder / "evil.py").write_text(f"open({str(hook)!r}, 'w').write('evil')")
    attempt.obey(
        Shell(around),
        Shell(f"echo evil > {hook}"),
        Shell("git update-ref refs/heads/main HEAD"),
        Write(new, "evil"),
    )
    assert not hook.exists()
    assert attempt.client.name in UNFENCED or not (attempt.folder / new).exists()
    assert "" == git(workspace, "status", "--short")


def test_the_network_ends_at_this_machine() -> None:
    """A client that calls home, or looks a name up, reaches nothing."""
    if not may_isolate():
        pytest.skip("this user may not make a network namespace; run as root to see it")
    devices = Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]
    assert ["lo"] == [device.partition(":")[0].strip() for device in devices]
    with socket.socket() as caller, pytest.raises(OSError, match="unreachable"):
        caller.connect(("192.0.2.1", 443))
