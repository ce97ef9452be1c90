"""Starting a client: what it gets of the environment, what is kept of it, and how its end is seen."""

import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from agentic_os.connection.launching import (
    ClientUnusable,
    State,
    VersionAsked,
    environment_of,
    find_client,
    new_session,
    places_of,
    run_client,
)
from agentic_os.connection.profile import Profile, profile_of
from agentic_os.connection.repository import Repository

DOCUMENT: dict[str, Any] = {
    "name": "plain",
    "title": "Plain",
    "client": {"command": "plain", "version": ["--version"], "install": "write it"},
    "skills": [".agents/skills"],
    "environment": {"QUIET": "1"},
    "passes": ["PLAIN_KEY", "PLAIN_MODEL"],
    "launch": ["plain"],
    "prompt": "Work.",
}


@pytest.fixture
def profile() -> Profile:
    """Take a profile with one key of its own."""
    return profile_of(DOCUMENT)


def program(folder: Path, script: str) -> str:
    """Write a program."""
    file = folder / "plain"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return str(file)


def test_a_client_gets_what_is_named_and_nothing_else(profile: Profile) -> None:
    """No secret of the stack's reaches it, and what is ours goes before what was there."""
    given = {
        "PATH": "/usr/bin",
        "HOME": "/home/x",
        "PLAIN_KEY": "k",
        "HTTPS_PROXY": "p",
        "QUIET": "0",
        "AGENTIC_OS_BOARD_TOKEN_FILE": "secret",
        "AGENTIC_OS_CONNECTION_FILE": "secret",
        "DATABASE_URL": "secret",
        "OTHER_KEY": "secret",
    }
    expected = {
        "PATH": f"/usr/bin{os.pathsep}/opt/plain",
        "HOME": "/home/x",
        "PLAIN_KEY": "k",
        "HTTPS_PROXY": "p",
        "QUIET": "1",
        "AGENTIC_OS_TASK": "t",
    }
    assert expected == environment_of(profile, "/opt/plain/plain", {"AGENTIC_OS_TASK": "t"}, given)


def test_a_client_is_found_where_it_was_when_it_was_connected(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stack's own PATH may lack it; a client that is gone is told with how to get it."""
    here = program(tmp_path, "true")
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert here == find_client(profile, here)
    with pytest.raises(ClientUnusable, match=r"Plain is not on PATH .*install it: write it"):
        find_client(profile, str(tmp_path / "gone"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert here == find_client(profile)


def test_the_first_version_that_a_client_prints_is_its_version(profile: Profile, tmp_path: Path) -> None:
    """Words around it do not matter; a client that says none cannot be used."""
    assert "2.1.197" == VersionAsked(profile, program(tmp_path, "echo plain v2.1.197-beta of 3.0.0")).answer()
    with pytest.raises(ClientUnusable, match=r"does not say its version \(exit 3\): no licence"):
        VersionAsked(profile, program(tmp_path, "echo no licence; exit 3")).answer()
    with pytest.raises(ClientUnusable, match=r"\(exit 0\): nothing"):
        VersionAsked(profile, program(tmp_path, "true")).answer()
    with pytest.raises(ClientUnusable, match="cannot be started"):
        VersionAsked(profile, str(tmp_path / "gone"))


def test_sessions_are_kept_by_task(tmp_path: Path) -> None:
    """Privately, the newest of a task, whoever else is at work meanwhile."""
    state, other = State(tmp_path / "state"), State(tmp_path / "state")
    assert state.session_of("t") is None
    state.keep_session("t", "one")
    other.keep_session("u", "two")
    state.keep_session("t", "three")
    assert ("three", "two") == (other.session_of("t"), state.session_of("u"))
    (kept,) = [file for file in (tmp_path / "state/sessions").iterdir() if file.name == "t"]
    assert 0o600 == kept.stat().st_mode & 0o777
    kept.write_text("")
    assert state.session_of("t") is None
    assert "4" == new_session()[14]


def test_the_logs_of_a_client_are_private_and_bounded(tmp_path: Path) -> None:
    """An attempt that goes on is added to; the oldest go."""
    state = State(tmp_path)
    for n in range(60):
        with state.open_log("../t", str(n)) as log:
            log.write(b"x")
    logs = list((tmp_path / "logs").iterdir())
    assert 51 >= len(logs)
    assert {0o600} == {file.stat().st_mode & 0o777 for file in logs}


def test_a_client_is_seen_to_its_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its words are passed on and kept, its last ones are told, its lines of JSON are looked at."""
    seen: list[Any] = []
    log = io.BytesIO()
    script = "echo '{\"a\": 1}'; echo '{broken'; yes word | head -c 10000; echo; echo last >&2; exit 7"
    run = run_client([program(tmp_path, script)], tmp_path, {"PATH": os.defpath}, log, seen.append)
    assert (7, False, [{"a": 1}]) == (run.code, run.stopped, seen)
    assert run.tail.endswith(b"last\n")
    assert 4000 <= len(run.tail) <= 8100
    assert log.getvalue().startswith(b'{"a": 1}\n{broken\nword\n')
    assert capfd.readouterr().out.endswith("last\n")


def test_our_tokens_are_taken_out_of_what_a_client_says(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An agent that was talked into printing its tokens leaves none in the log, the output or the last words."""
    secrets = (
        "aosx_CFyikum9celw38ocibThHQugG2i_U7BlrzApeirv0oA",
        "aoso_o2P0vGzn2CFyikum9celw38ocibThHQugG2i_0Q",
        "aosa_01a21560-0089-7234-83d7-e0b784c8e02f.1.2." + "x" * 43,
    )
    log = io.BytesIO()
    script = "".join(f'echo \'{{"said": "{secret}"}}\'; ' for secret in secrets)
    run = run_client([program(tmp_path, script)], tmp_path, {"PATH": os.defpath}, log, lambda _: None)
    said = (log.getvalue().decode(), run.tail.decode(), capfd.readouterr().out)
    assert [] == [secret for secret in secrets for text in said if secret[5:] in text]
    assert all('{"said": "aosx_(taken out)"}' in text for text in said)


def test_a_client_that_was_killed_is_told_from_one_that_ended(tmp_path: Path) -> None:
    """A signal is no exit code; what cannot be started says so."""
    run = run_client(
        [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], tmp_path, {}, io.BytesIO(), print
    )
    assert -9 == run.code
    with pytest.raises(ClientUnusable, match="cannot be started: No such file"):
        run_client([str(tmp_path / "gone")], tmp_path, {}, io.BytesIO(), print)


def test_folders_of_git_that_a_command_line_names_are_there(tmp_path: Path) -> None:
    """A sandbox opens only what exists; outside of a repository there are none."""
    repository = Repository(
        top=tmp_path, git=tmp_path / "own", shared=tmp_path / "shared", commit="0", changed=0
    )
    arguments = ('roots=["{git}","{repository}/objects","{repository}/refs/heads/agentic-os"]',)
    assert {"git": str(tmp_path / "own"), "repository": str(tmp_path / "shared")} == places_of(
        repository, arguments
    )
    assert (tmp_path / "shared/refs/heads/agentic-os").is_dir()
    assert {"git": None, "repository": None} == places_of(None, arguments)
