"""A result names what was done in git: in a real worktree, as the board makes one."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentic_os.contracts.callback import parse_callback
from agentic_os.contracts.canonical import canonical_json, digest_of
from agentic_os.hydration import packaged_skills

Run = Callable[..., Any]
START, RESULT = (
    packaged_skills() / f"{verb}/scripts/{verb.replace('-', '_')}.py"
    for verb in ("start-work", "submit-result")
)
TASK = "0199f0aa-3c1e-7b52-9f0e-5d1f6f0a7c11"
IDENTITY = {
    f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
}


def git(folder: Path, *arguments: str) -> str:
    """Run git as somebody without settings of their own."""
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        env={"PATH": os.defpath, "HOME": "/nonexistent", **IDENTITY},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def base(tmp_path: Path, workspace: Path) -> str:
    """Make the workspace a worktree on a branch of its own; returns the commit that it begins from."""
    repository = tmp_path / "repository"
    git(tmp_path, "init", "--quiet", "--initial-branch=main", str(repository))
    (repository / "a.txt").write_text("a")
    git(repository, "add", "a.txt")
    git(repository, "commit", "--quiet", "--message", "Begin")
    git(repository, "worktree", "add", "--quiet", "-b", "task/1", str(workspace))
    return git(repository, "rev-parse", "HEAD")


def begun(tmp_path: Path, backend: Any) -> tuple[str, ...]:
    """Write a brief and a credential; returns how start-work is told of them."""
    (tmp_path / "credential").write_text("executor-secret\n")
    (tmp_path / "credential").chmod(0o600)
    brief = {
        "contract": "aos.execution/1",
        "task_id": TASK,
        "attempt": 2,
        "step": "execute",
        "callback_url": f"{backend.url}/api/executions/callback",
    }
    heading = f"task={TASK} attempt=2 digest={digest_of(brief)}"
    line = canonical_json(brief).decode()
    (tmp_path / "brief.md").write_text(
        f"<!-- agentic-os:brief v1 {heading} -->\n{line}\n<!-- agentic-os:end -->"
    )
    return ("--brief", str(tmp_path / "brief.md"), "--credential-file", str(tmp_path / "credential"))


@pytest.fixture
def submit(run_script: Run, workspace: Path, tmp_path: Path, backend: Any, base: str) -> Run:
    """Start work, and submit a result from the worktree; returns what was sent, and what was said."""
    backend.accept(attempt_token="attempt-secret")
    assert run_script(START, *begun(tmp_path, backend)).returncode == 0

    def run(document: Any = None, **environment: str) -> tuple[dict[str, Any], str]:
        given = {"AGENTIC_OS_BASE_COMMIT": base} | environment
        result = {"outcome": "success", "summary": "Done."}
        text = document if isinstance(document, str) else json.dumps(result | (document or {}))
        done = run_script(RESULT, "-", stdin=text, **{k: v for k, v in given.items() if v})
        assert (done.returncode, done.stderr) == (0, "")
        return parse_callback(json.dumps(backend.requests[-1]["body"]).encode()).body, done.stdout

    return run


def commit(workspace: Path) -> str:
    """Commit a change; returns its id."""
    (workspace / "a.txt").write_text("b")
    git(workspace, "commit", "--quiet", "--all", "--message", "Change")
    return git(workspace, "rev-parse", "HEAD")


def test_a_result_names_its_branch_and_its_commit(submit: Run, workspace: Path, tmp_path: Path):
    """Without a remote they are those of the repository's folder, and nothing is said to be uncommitted."""
    head = commit(workspace)
    body, said = submit()
    uri = (tmp_path / "repository/.git").as_uri()
    assert body["references"] == [
        {"name": "task/1", "kind": "branch", "uri": uri, "revision": head},
        {"name": head[:12], "kind": "commit", "uri": uri, "revision": head},
    ]
    assert f"The result names branch task/1, commit {head[:12]}." in said
    assert "Not committed" not in said


@pytest.mark.parametrize(
    ("remote", "uri"),
    [
        ("https://x-access-token:hidden@github.example/a/b.git", "https://github.example/a/b.git"),
        ("git@github.example:a/b.git", "git@github.example:a/b.git"),
    ],
)
def test_a_remote_is_named_without_its_token(submit: Run, workspace: Path, *, remote: str, uri: str):
    """What people can open is named, and no password with it."""
    git(workspace, "remote", "add", "origin", remote)
    commit(workspace)
    body, said = submit()
    assert {reference["uri"] for reference in body["references"]} == {uri}
    assert "hidden" not in json.dumps(body) + said


def test_what_is_given_is_left_as_it_is(submit: Run, workspace: Path):
    """An agent that names its commit itself gets the branch added, and nothing twice."""
    given = {"name": "mine", "kind": "commit", "uri": "https://example.org/c", "revision": "1"}
    commit(workspace)
    body, _ = submit({"references": [given]})
    assert [reference["name"] for reference in body["references"]] == ["mine", "task/1"]


def test_changes_that_are_not_committed_are_told(submit: Run, workspace: Path):
    """Changed, renamed and new files are listed, up to five of them; ignored ones and our own folder are not."""
    (workspace / ".gitignore").write_text("ignored\n")
    for name in ("ignored", "n1", "n2", "n3", "n 4"):
        (workspace / name).write_text("x")
    git(workspace, "mv", "a.txt", "b.txt")
    body, said = submit()
    assert "references" not in body
    assert "Not committed: b.txt, .gitignore, n 4, n1, n2 and 1 more." in said
    assert "the result does not name them" in said


def test_on_no_branch_the_commit_alone_is_named(submit: Run, workspace: Path):
    """A detached work tree has a commit."""
    git(workspace, "checkout", "--quiet", "--detach")
    head = commit(workspace)
    body, _ = submit()
    assert [(r["kind"], r["revision"]) for r in body["references"]] == [("commit", head)]


TEXT = """## Summary
Done.

## Outcome
success

## Changes
none

## Evidence
none

## Deviations
none

## Follow-ups
none
"""


@pytest.mark.parametrize(
    ("document", "environment"),
    [
        (None, {"AGENTIC_OS_BASE_COMMIT": ""}),
        (None, {"PATH": "/nonexistent"}),
        (TEXT, {}),
    ],
)
def test_elsewhere_a_result_is_sent_as_it_is(
    submit: Run, workspace: Path, *, document: Any, environment: dict[str, str]
):
    """Without a base commit or git, or as text, which has no place for it, nothing is named."""
    commit(workspace)
    body, said = submit(document, **environment)
    assert "references" not in body
    assert "The result names" not in said


def test_what_earlier_attempts_left_is_named_at_the_start(
    run_script: Run, workspace: Path, tmp_path: Path, backend: Any, base: str
):
    """Who is to rework something is told where it is, since a worktree begins without it; empty ones are not."""
    repository = tmp_path / "repository"
    for attempt, message in ((1, "Half of it"), (2, None)):
        git(repository, "checkout", "--quiet", "-b", f"agentic-os/{TASK}/{attempt}", base)
        if message:
            git(repository, "commit", "--quiet", "--allow-empty", "--message", message)
    backend.accept(attempt_token="attempt-secret")
    told = run_script(START, *begun(tmp_path, backend), AGENTIC_OS_BASE_COMMIT=base).stdout
    assert f"left (git merge BRANCH, to go on from one)\n- agentic-os/{TASK}/1: Half of it\n" in told
    assert f"agentic-os/{TASK}/2" not in told
    assert "Branches" not in run_script(START, *begun(tmp_path, backend)).stdout
