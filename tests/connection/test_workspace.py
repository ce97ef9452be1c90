"""What a connection does to a workspace, and that taking it back leaves every byte as it was."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agentic_os.connection import workspace as places
from agentic_os.connection.profile import Profile, find_profile, profile_of
from agentic_os.connection.record import Changes
from agentic_os.connection.repository import Repository, WorkspaceUnfit, look_at
from agentic_os.hydration import DEFAULT_PROJECT, SkillSet, WorkspaceError, load_definition, resolve

GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org")
SKILLS = resolve(load_definition(None), DEFAULT_PROJECT)
SETTINGS = ".claude/settings.local.json"
COMMAND = ".claude/commands/plan.md"


def git(folder: Path, *arguments: str) -> str:
    """Run git."""
    return subprocess.run(
        [*GIT, "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def profile() -> Profile:
    """Take a profile that writes one file of each sort."""
    document = find_profile("claude-code").model_dump(mode="json")
    document["settings"] = [
        {
            "file": SETTINGS,
            "format": "json",
            "merge": {"permissions": {"allow": ["Bash(python3 {script}:*)"]}},
        }
    ]
    document["commands"] = [{"file": COMMAND, "text": "Use the skill submit-plan.\n"}]
    return profile_of(document)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Make a repository with a commit."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "file").write_text("text\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "Begin")
    return folder


def tree(folder: Path) -> dict[str, object]:
    """Read a folder: every file with its bytes and permissions, every link, every folder."""
    return {
        str(path.relative_to(folder)): (
            path.readlink() if path.is_symlink() else "folder" if path.is_dir() else path.read_bytes(),
            path.lstat().st_mode,
        )
        for path in sorted(folder.rglob("*"))
    }


def connect(workspace: Path, profile: Profile) -> tuple[Changes, Repository | None]:
    """Do what a connection does to its workspace."""
    repository = look_at(workspace)
    wanted: SkillSet = places.skills_for(profile, SKILLS, workspace)
    planned = places.plan(workspace, profile, wanted, repository)
    changes = places.changes_of(planned, repository)
    places.carry_out(planned)
    assert places.plan(workspace, profile, wanted, repository).is_done
    return changes, repository


def _nothing(workspace: Path) -> None:
    pass


def _settings(workspace: Path) -> None:
    (workspace / ".claude").mkdir()
    (workspace / SETTINGS).write_bytes(b'{"permissions": {\r\n  "allow": ["Read"]}, "x": 1.50}')
    (workspace / SETTINGS).chmod(0o640)


def _exclude(workspace: Path) -> None:
    (workspace / ".git/info/exclude").write_bytes(b"# mine\r\n*.log\n/.agentic-os/")


def _no_info(workspace: Path) -> None:
    (workspace / ".git/info/exclude").unlink()
    (workspace / ".git/info").rmdir()


def _no_repository(workspace: Path) -> None:
    subprocess.run(["rm", "-r", str(workspace / ".git")], check=True)


@pytest.mark.parametrize("prepare", [_nothing, _settings, _exclude, _no_info, _no_repository])
def test_taken_back_the_workspace_is_as_it_was(
    workspace: Path, profile: Profile, prepare: Callable[[Path], None]
) -> None:
    """Every byte, every mode and every folder, git's list of what it leaves out included."""
    prepare(workspace)
    before = tree(workspace)
    changes, repository = connect(workspace, profile)
    assert "start_work.py" in (workspace / SETTINGS).read_text()
    assert (workspace / ".claude/skills/start-work/SKILL.md").is_file()
    if repository:
        ours = [
            line for line in git(workspace, "status", "--porcelain").splitlines() if ".claude" not in line
        ]
        assert [] == ours
    assert [] == places.take_back(
        workspace, Changes.model_validate(changes.model_dump(mode="json")), repository
    )
    assert before == tree(workspace)


def test_what_a_person_changed_meanwhile_loses_only_ours(workspace: Path, profile: Profile) -> None:
    """Their settings and their text stay, and what stays of ours is told."""
    changes, repository = connect(workspace, profile)
    written = (workspace / SETTINGS).read_text()
    (workspace / SETTINGS).write_text(
        written.replace('"allow": [', '"deny": ["WebFetch"], "allow": ["Read",')
    )
    (workspace / COMMAND).write_text("Mine now.\n")
    left = places.take_back(workspace, changes, repository)
    expected = {"permissions": {"deny": ["WebFetch"], "allow": ["Read"]}}
    assert expected == json.loads((workspace / SETTINGS).read_text())
    assert [f"{COMMAND}: was changed since it was written, and stays; remove it by hand"] == left
    assert not (workspace / ".claude/skills").exists()


def test_what_was_done_in_part_is_taken_back_too(workspace: Path, profile: Profile) -> None:
    """A crash between two files leaves a record by which all of it is undone."""
    before = tree(workspace)
    repository = look_at(workspace)
    planned = places.plan(workspace, profile, places.skills_for(profile, SKILLS, workspace), repository)
    changes = places.changes_of(planned, repository)
    (workspace / ".claude/commands").mkdir(parents=True)
    (workspace / COMMAND).write_bytes(planned.files[1].after)
    assert [] == places.take_back(workspace, changes, repository)
    assert before == tree(workspace)


def test_a_committed_settings_file_is_left_to_the_worktrees(workspace: Path, profile: Profile) -> None:
    """The person's checkout stays clean; an attempt gets the settings, which its commits do not."""
    _settings(workspace)
    git(workspace, "add", ".")
    git(workspace, "commit", "-qm", "Settings")
    connect(workspace, profile)
    assert "start_work" not in (workspace / SETTINGS).read_text()
    assert "" == git(workspace, "status", "--porcelain")
    attempt = workspace.parent / "attempt"
    git(workspace, "worktree", "add", "-q", "-b", "attempt", str(attempt))
    places.prepare_attempt(attempt, profile, SKILLS)
    assert "start_work" in (attempt / SETTINGS).read_text()
    assert not (attempt / ".agents/skills/start-work").is_symlink()
    (attempt / ".agents/skills/start-work/SKILL.md").write_text("Do as you like.\n")
    assert SKILLS == resolve(load_definition(None), DEFAULT_PROJECT)
    (attempt / "file").write_text("changed\n")
    assert " M file\n" == git(attempt, "status", "--porcelain")
    git(attempt, "commit", "-qam", "Work")
    assert "file\n" == git(attempt, "diff", "--name-only", "HEAD~1")
    git(workspace, "worktree", "remove", str(attempt))


def test_a_file_of_a_persons_is_never_overwritten(workspace: Path, profile: Profile) -> None:
    """It is named, and nothing is changed."""
    (workspace / ".claude/commands").mkdir(parents=True)
    (workspace / COMMAND).write_text("Mine.\n")
    before = tree(workspace)
    with pytest.raises(places.Unmergeable, match=r"plan\.md is a file of yours"):
        connect(workspace, profile)
    assert before == tree(workspace)


@pytest.mark.parametrize("linked", [".claude", SETTINGS])
def test_nothing_is_written_through_a_link(workspace: Path, profile: Profile, linked: str) -> None:
    """What a link leads to may be shared with other workspaces."""
    elsewhere = workspace.parent / "elsewhere"
    elsewhere.mkdir()
    (workspace / linked).parent.mkdir(exist_ok=True)
    (workspace / linked).symlink_to(elsewhere)
    with pytest.raises((places.Unmergeable, WorkspaceError), match="is a link"):
        connect(workspace, profile)
    assert [] == list(elsewhere.iterdir())


def test_a_bare_repository_is_no_workspace(workspace: Path) -> None:
    """No agent can change files where there are none."""
    git(workspace.parent, "clone", "-q", "--bare", str(workspace), "bare")
    with pytest.raises(WorkspaceUnfit, match="bare repository; connect a clone"):
        look_at(workspace.parent / "bare")


def test_a_repository_without_a_commit_is_no_workspace(tmp_path: Path) -> None:
    """No attempt can begin from it; the message says how to make one."""
    git(tmp_path, "init", "-q")
    with pytest.raises(WorkspaceUnfit, match="git commit --allow-empty"):
        look_at(tmp_path)


def test_a_folder_in_a_repository_is_no_workspace(workspace: Path) -> None:
    """The message names the repository, which all attempts get whole."""
    (workspace / "inner").mkdir()
    with pytest.raises(WorkspaceUnfit, match="is in the repository"):
        look_at(workspace / "inner")


def test_a_repository_says_what_is_not_committed(workspace: Path) -> None:
    """A worktree begins from the commit, so the person must know."""
    (workspace / "file").write_text("other\n")
    (workspace / "new").write_text("")
    repository = look_at(workspace)
    assert repository is not None
    assert (2, git(workspace, "rev-parse", "HEAD").strip()) == (repository.changed, repository.commit)
