"""`agentic-os skills add` and `skills diff`: what they write, what they say, and their exit codes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentic_os.cli import main
from agentic_os.hydration import hydrate, load_definition, resolve

Run = Callable[..., tuple[int, str, str]]
COMMENTED = """# Our skills.
source_roots: [./skills, package:agentic_os]   # ours first

global_defaults:
  - start-work   # always
  # what plans
  - submit-plan  # and submits
# The end of the list.
shared_integrations: []
"""


@pytest.fixture
def skills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `agentic-os skills` with a home of its own, and nobody at the terminal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENTIC_OS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("AGENTIC_OS_GOVERNANCE", raising=False)
    (tmp_path / "skills").mkdir()

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["skills", *map(str, arguments)])
        return (code, *capsys.readouterr())

    return run


@pytest.fixture
def definition(tmp_path: Path) -> Path:
    """Write a definition with comments."""
    file = tmp_path / "skills.yaml"
    file.write_text(COMMENTED)
    return file


def test_a_skill_is_shown_then_added_with_every_comment_kept(
    skills: Run, tmp_path: Path, definition: Path, make_skill: Callable[..., Path]
):
    """Without --yes nothing is written; with it the folder is copied whole, and one line is new."""
    source = make_skill("a", root="made")
    (source / "scripts/__pycache__").mkdir()
    (source / "scripts/__pycache__/run.pyc").write_bytes(b"x")
    arguments = ("add", "a", "--from", source, "--into", definition)
    code, shown, said = skills(*arguments)
    assert (code, "--yes writes it" in said, definition.read_text()) == (1, True, COMMENTED)
    assert f"copy {source} to {tmp_path}/skills/a" in shown
    assert "+  - a\n" in shown
    assert skills(*arguments, "--yes")[0] == 0
    assert definition.read_text() == COMMENTED.replace("# and submits\n", "# and submits\n  - a\n")
    assert sorted(path.name for path in (tmp_path / "skills/a").rglob("*")) == [
        "SKILL.md",
        "run.py",
        "scripts",
    ]
    assert "a" in [skill.name for skill in resolve(load_definition(definition), "default").skills]
    code, shown, _ = skills(*arguments, "--json")
    document = json.loads(shown)
    assert (code, document["copy"], document["change"], document["written"]) == (0, False, "", False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "skills", "skills.yaml"]


@pytest.mark.parametrize(
    ("text", "project", "after"),
    [
        ("[x]", None, "[x, a]"),
        ("[ ]", None, "[a ]"),
        ("[\n  x,  # one\n  ]", None, None),
        ("\n- x", None, "\n- x\n- a\n"),
        ("[x]", "p", "[x]\n\nproject_defaults:\n  p: [a]\n"),
        ("[x]", "yes", '[x]\n\nproject_defaults:\n  "yes": [a]\n'),
        ("[x]\nproject_defaults: {}", "p", "[x]\nproject_defaults: {p: [a]}"),
        ("[x]\nproject_defaults: {q: [x]}", "p", "[x]\nproject_defaults: {q: [x], p: [a]}"),
        (
            "[x]\nproject_defaults:\n  q:\n    - x # q\ntargets: [t]",
            "p",
            "[x]\nproject_defaults:\n  q:\n    - x # q\n  p: [a]\ntargets: [t]",
        ),
        ("[x]\nproject_defaults:\n  p: [x]\n", "p", "[x]\nproject_defaults:\n  p: [x, a]\n"),
    ],
)
def test_a_name_goes_into_a_list_of_whatever_form(
    skills: Run,
    tmp_path: Path,
    make_skill: Callable[..., Path],
    *,
    text: str,
    project: str | None,
    after: str | None,
):
    """Each form of YAML keeps its form, or, where that is not certain, the file is left as it is with exit code 2."""
    make_skill("x")
    source = make_skill("a", root="made")
    file = tmp_path / "skills.yaml"
    before = f"source_roots: [./skills]\nglobal_defaults: {text}"
    file.write_text(before)
    more = ("--project", project) if project else ()
    code, _, said = skills("add", "a", "--from", source, "--into", file, "--yes", *more)
    if after is None:
        assert (code, "by hand" in said, file.read_text()) == (2, True, before)
        assert not (tmp_path / "skills/a").exists()
        return
    assert (code, file.read_text()) == (0, f"source_roots: [./skills]\nglobal_defaults: {after}"), said
    assert "a" in load_definition(file).names_for(project or "default")


def test_nothing_is_overwritten_or_shadowed(
    skills: Run, tmp_path: Path, definition: Path, make_skill: Callable[..., Path]
):
    """Another skill of that name, in the root or before it, is a conflict; the same one there is only listed."""
    source = make_skill("a", root="made")
    make_skill("a", text="Another.")
    arguments = ("add", "a", "--from", source, "--into", definition, "--yes")
    code, _, said = skills(*arguments)
    assert (code, "nothing is overwritten" in said) == (3, True)
    assert "Another." in (tmp_path / "skills/a/SKILL.md").read_text()
    make_skill("a")
    assert skills(*arguments)[0] == 0
    definition.write_text(COMMENTED.replace("./skills, package:agentic_os", "package:agentic_os, ./skills"))
    mine = make_skill("escalate", root="made")
    code, _, said = skills("add", "escalate", "--from", mine, "--into", definition, "--yes")
    assert (code, "comes before ./skills" in said) == (3, True)


@pytest.mark.parametrize(
    ("name", "folder", "words"),
    [
        ("A", "made/a", "no skill name"),
        ("b", "made/a", "must have its name"),
        ("none", "made/none", "is no folder"),
        ("bad", "made/bad", "SKILL.md:1"),
    ],
)
def test_what_is_no_skill_is_not_added(
    skills: Run,
    tmp_path: Path,
    definition: Path,
    make_skill: Callable[..., Path],
    *,
    name: str,
    folder: str,
    words: str,
):
    """The standard is held before anything is written."""
    make_skill("a", root="made")
    (make_skill("bad", root="made") / "SKILL.md").write_text("nothing")
    code, _, said = skills("add", name, "--from", folder, "--into", definition, "--yes")
    assert (code, words in said) == (2, True), said
    assert list((tmp_path / "skills").iterdir()) == []


def test_a_definition_that_has_no_root_of_its_own_is_told_what_to_write(
    skills: Run, definition: Path, make_skill: Callable[..., Path]
):
    """The package is not written to; and without any definition one must be named."""
    source = make_skill("a", root="made")
    definition.write_text("source_roots: [package:agentic_os]\nglobal_defaults: []\n")
    code, _, said = skills("add", "a", "--from", source, "--into", definition, "--yes")
    assert (code, "source_roots: [./skills, package:agentic_os]" in said) == (2, True)
    code, _, said = skills("add", "a", "--from", source, "--yes")
    assert (code, "--into FILE" in said) == (2, True)


def test_definitions_are_compared_skill_by_skill(
    skills: Run, tmp_path: Path, make_skill: Callable[..., Path], make_definition: Callable[..., Path]
):
    """Added, removed and changed skills are told for each project, a changed one with its files; alike exits 0."""
    for name in "abc":
        make_skill(name)
    changed = make_skill("b", root="other", text="Otherwise.")
    (changed / "more.md").write_text("more")
    (changed / "scripts/run.py").unlink()
    old = make_definition("a", "b", project_defaults={"p": ["c"]}).rename(tmp_path / "old.yaml")
    new = make_definition("b", "c", source_roots=["./other", "./skills"])
    code, shown, _ = skills("diff", "--definition", new, "--against", old, "--json")
    assert code == 1
    projects: dict[str, Any] = json.loads(shown)["projects"]
    assert {p: [(d["name"], d["what"]) for d in found] for p, found in projects.items()} == {
        "default": [("a", "removed"), ("b", "changed"), ("c", "added")],
        "p": [("a", "removed"), ("b", "changed")],
    }
    assert projects["p"][1]["files"] == {
        "SKILL.md": "changed",
        "more.md": "added",
        "scripts/run.py": "removed",
    }
    code, shown, _ = skills("diff", "--definition", new, "--against", old, "--project", "p")
    assert "  changed: b  ./other\n    changed: SKILL.md\n    added: more.md\n" in shown
    code, shown, _ = skills("diff", "--definition", old, "--against", old)
    assert (code, "project default: no skills differ" in shown) == (0, True)
    assert skills("diff", "--definition", old, "--against", old, "--project", "q")[0] == 2


def test_a_workspace_is_compared_by_what_it_got(
    skills: Run, workspace: Path, make_skill: Callable[..., Path], make_definition: Callable[..., Path]
):
    """What changed in the root since, and what the definition has besides; a workspace that got nothing is refused."""
    skill = make_skill("a")
    make_skill("b")
    arguments = ("diff", "--definition", make_definition("a"), "--workspace", workspace)
    code, _, said = skills(*arguments)
    assert (code, "was not hydrated" in said) == (2, True)
    hydrate(workspace, resolve(load_definition(make_definition("a")), "default"))
    assert skills(*arguments)[0] == 0
    (skill / "SKILL.md").write_text((skill / "SKILL.md").read_text() + "More.\n")
    make_definition("a", "b")
    code, shown, _ = skills(*arguments)
    assert (code, "changed: a" in shown, "added: b" in shown) == (1, True, True)
