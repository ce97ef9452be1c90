"""The profiles of clients: those that come with the package, and what is refused of others."""

from pathlib import Path

import pytest

from agentic_os.connection.profile import (
    PROFILES,
    ProfileInvalid,
    ProfileUnknown,
    command_line,
    find_profile,
    lines_with_scripts,
    load_profile,
    profile_names,
    profile_of,
    with_scripts,
)

PLAIN = """\
name: plain
title: Plain
client: {command: plain, version: [--version], known: ["1.2.3"], install: "pip install plain"}
skills: [.agents/skills]
launch: [plain, "{prompt}"]
prompt: Read {brief}.
"""


def written(folder: Path, text: str) -> Path:
    """Write a profile."""
    file = folder / "plain.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_of_the_package_is_one(name: str) -> None:
    """It loads under its name, and reads the same again from what a connection keeps of it."""
    profile = find_profile(name)
    assert profile.name == name
    assert profile_of(profile.model_dump(mode="json")) == profile


def test_a_persons_own_profile_goes_before_that_of_the_package(tmp_path: Path) -> None:
    """Whoever has a newer client need not wait for us."""
    own = (PROFILES / "codex.yaml").read_text().replace("title: Codex", "title: My Codex")
    (tmp_path / "codex.yaml").write_text(own)
    assert "My Codex" == find_profile("codex", tmp_path).title
    assert {"codex", "claude-code"} <= set(profile_names(tmp_path))


@pytest.mark.parametrize("name", ["none", "../profile", ""])
def test_an_unknown_profile_is_told(tmp_path: Path, name: str) -> None:
    """A name leads to no file outside of the folders of profiles."""
    with pytest.raises(ProfileUnknown):
        find_profile(name, tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ":1: is empty"),
        ("name: [", ":1: "),
        (PLAIN + "surplus: 1\n", ":7: surplus: unknown key"),
        (PLAIN + "title: Again\n", ":7: the key 'title' comes twice"),
        (PLAIN.replace("name: plain", "name: other"), ":1: the name must be that of the file"),
        (
            PLAIN.replace("[.agents/skills]", "[../skills]"),
            ":4: skills.0: must be a path within the workspace",
        ),
        (PLAIN.replace("[.agents/skills]", "[.git/skills]"), ":4: skills.0: must not be in .git"),
        (PLAIN.replace('"{prompt}"', '"{session}"'), ":5: {session} is known only"),
        (PLAIN + 'resume: [plain, "{prompt}"]\n', ":7: {session} must be in it"),
        (PLAIN + 'resume: [plain, "{session}"]\n', ":7: nothing says what the session's id is"),
        (PLAIN + "session: {chosen: true}\n", ":5: the session's id is chosen by us"),
        (PLAIN.replace('"1.2.3"', '"latest"'), ":3: client.known.0: "),
        (PLAIN + "commands: [{file: a, text: b}, {file: a, text: c}]\n", "the file 'a' comes twice"),
    ],
)
def test_a_profile_that_cannot_be_followed_is_refused_with_its_line(
    tmp_path: Path, text: str, said: str
) -> None:
    """The message names the file and the line of what is wrong."""
    file = written(tmp_path, text)
    with pytest.raises(ProfileInvalid) as refused:
        load_profile(file)
    assert str(refused.value).startswith(str(file))
    assert said in str(refused.value)


def test_what_is_filled_in_is_no_template(tmp_path: Path) -> None:
    """A prompt that holds braces is passed as it is."""
    profile = load_profile(written(tmp_path, PLAIN))
    told = profile.told(brief="/x/{skills}.md")
    assert "Read /x/{skills}.md." == told
    assert ["plain", "a {prompt} b"] == command_line(profile.launch, {"prompt": "a {prompt} b"})


def test_an_argument_about_a_repository_is_left_out_where_there_is_none() -> None:
    """The others stay."""
    template = ("x", "--roots={git},{repository}", "{prompt}")
    assert ["x", "p"] == command_line(template, {"prompt": "p", "git": None, "repository": None})
    assert ["x", "--roots=/g,/r", "p"] == command_line(
        template, {"prompt": "p", "git": "/g", "repository": "/r"}
    )


def test_a_permission_is_written_for_every_script() -> None:
    """Only the items of lists that ask for it are repeated."""
    wanted = {"allow": ["Run({script}:*)", "Read", 1], "{script}": "{script}"}
    expected = {"allow": ["Run(a:*)", "Run(b:*)", "Read", 1], "{script}": "{script}"}
    assert expected == with_scripts(wanted, ["a", "b"])


def test_a_session_is_found_where_the_profile_says() -> None:
    """Only in the line that it describes."""
    session = find_profile("codex").session
    assert "t1" == session.in_line({"type": "thread.started", "thread_id": "t1"})
    assert session.in_line({"type": "turn.started", "thread_id": "t1"}) is None
    assert session.in_line({"type": "thread.started", "thread_id": 1}) is None
    assert session.in_line([1]) is None


def test_a_line_of_a_file_of_ours_is_repeated_for_every_script() -> None:
    """What a client reads from a file of ours names each script too, and the other lines come once."""
    text = '{"deny": "*",\n  "run {script} *": 1,\n  "git": 2}\n'
    expected = '{"deny": "*",\n  "run a *": 1,\n  "run b *": 1,\n  "git": 2}\n'
    assert expected == lines_with_scripts(text, ["a", "b"])
    assert '{"deny": "*",\n  "git": 2}\n' == lines_with_scripts(text, [])
