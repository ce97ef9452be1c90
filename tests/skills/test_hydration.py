"""Projecting a skill set into a workspace."""

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentic_os.hydration import (
    DefinitionError,
    SkillSet,
    WorkspaceError,
    check,
    hydrate,
    load_definition,
    resolve,
)

MANIFEST = ".agents/skills/.agentic-os.json"
TARGETS = (".agents/skills", ".claude/skills")


@pytest.fixture
def skill_set(make_skill: Callable[..., Path], make_definition: Callable[..., Path]) -> SkillSet:
    """Define the skills a and b."""
    make_skill("a")
    make_skill("b")
    return resolve(load_definition(make_definition("a", "b")), "default")


def snapshot(folder: Path) -> dict[str, Any]:
    """Note all that is below a folder, with the inode and time of each: a rewrite would show."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_ino, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
    }


def names_in(folder: Path) -> list[str]:
    """List what stands in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_skills_are_linked_as_folders_into_both_targets(workspace: Path, skill_set: SkillSet):
    """Each target gets a link to the folder of each skill, and the workspace is then in step."""
    report = hydrate(workspace, skill_set)
    assert [f"{target}/{name}" for target in TARGETS for name in "ab"] == [
        change.path for change in report.changes
    ]
    for skill in skill_set.skills:
        for target in TARGETS:
            assert (workspace / target / skill.name).is_symlink()
            assert skill.path == (workspace / target / skill.name).resolve()
    assert check(workspace, skill_set).differences == ()


def test_a_second_run_changes_nothing_at_all(workspace: Path, skill_set: SkillSet):
    """Hydrating a workspace that is in step writes no file."""
    hydrate(workspace, skill_set)
    before = snapshot(workspace)
    assert hydrate(workspace, skill_set).changes == ()
    assert before == snapshot(workspace)


def test_the_manifest_is_the_lock_of_the_set(workspace: Path, skill_set: SkillSet):
    """The manifest says, for each skill, the root that won, its digest and that of each file."""
    hydrate(workspace, skill_set)
    manifest = json.loads((workspace / MANIFEST).read_text())
    assert (skill_set.digest, "default", {}) == (
        manifest["digest"],
        manifest["project"],
        manifest["changing"],
    )
    assert {"root", "shadowed", "digest", "files"} == manifest["skills"]["a"].keys()
    assert ["SKILL.md", "scripts/run.py"] == sorted(manifest["skills"]["a"]["files"])
    assert manifest["skills"]["a"]["files"]["scripts/run.py"].startswith("x ")


def test_a_dry_run_tells_and_touches_nothing(workspace: Path, skill_set: SkillSet):
    """A dry run reports the changes of a real one, and leaves even empty folders unmade."""
    report = hydrate(workspace, skill_set, dry_run=True)
    assert len(report.changes) == 4
    assert list(workspace.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
@pytest.mark.parametrize("mode", ["link", "copy"])
def test_what_a_person_put_there_is_left_and_reported(
    workspace: Path, skill_set: SkillSet, kind: str, mode: Any
):
    """A file, folder or link of a person's stays as it is; the other skills are projected."""
    place = workspace / ".claude/skills/a"
    place.parent.mkdir(parents=True)
    if kind == "file":
        place.write_text("mine")
    elif kind == "folder":
        place.mkdir()
        (place / "SKILL.md").write_text("mine")
    else:
        place.symlink_to("/nowhere")
    before = place.lstat().st_ino
    for _ in range(2):
        report = hydrate(workspace, skill_set, mode=mode, prune=True)
        assert [change.path for change in report.conflicts] == [".claude/skills/a"]
    assert before == place.lstat().st_ino
    assert (workspace / ".claude/skills/b/SKILL.md").is_file()
    assert [".claude/skills/a"] == [change.path for change in check(workspace, skill_set).differences]


def test_a_link_of_ours_is_set_right(workspace: Path, skill_set: SkillSet, make_skill: Callable[..., Path]):
    """A link that was turned elsewhere is drift, and the next run turns it back."""
    hydrate(workspace, skill_set)
    link = workspace / ".agents/skills/a"
    link.unlink()
    link.symlink_to(make_skill("a", root="elsewhere"))
    (difference,) = check(workspace, skill_set).differences
    assert difference.path == ".agents/skills/a"
    assert "leads to" in difference.what
    hydrate(workspace, skill_set)
    assert check(workspace, skill_set).differences == ()


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_tampering_is_detected_and_the_file_named(workspace: Path, skill_set: SkillSet, mode: Any):
    """A changed, an added and a removed file are each named; a later hydration brings all in step."""
    hydrate(workspace, skill_set, mode=mode)
    folder = skill_set.skills[0].path if mode == "link" else workspace / ".claude/skills/a"
    (folder / "SKILL.md").write_text((folder / "SKILL.md").read_text() + "more\n")
    (folder / "added").write_text("x")
    (folder / "scripts/run.py").unlink()
    definition = load_definition(skill_set.skills[0].path.parents[1] / "skills.yaml")
    current = resolve(definition, "default")
    told = {Path(change.path).name: change.what for change in check(workspace, current).differences}
    assert {"SKILL.md", "added", "run.py"} == told.keys()
    assert [told[name].split()[1] for name in ("SKILL.md", "added", "run.py")] == [
        "changed",
        "added",
        "removed",
    ]
    hydrate(workspace, current, mode=mode)
    assert check(workspace, current).differences == ()


def test_copies_are_whole_and_keep_the_executable_bit(workspace: Path, skill_set: SkillSet):
    """In copy mode the skill is there without any link, and a second run changes nothing."""
    hydrate(workspace, skill_set, mode="copy")
    copy = workspace / ".agents/skills/a"
    assert copy.is_dir()
    assert not copy.is_symlink()
    assert os.access(copy / "scripts/run.py", os.X_OK)
    assert not os.access(copy / "SKILL.md", os.X_OK)
    before = snapshot(workspace)
    hydrate(workspace, skill_set, mode="copy")
    assert before == snapshot(workspace)


@pytest.mark.parametrize(("first", "second"), [("link", "copy"), ("copy", "link")])
def test_the_mode_can_be_changed(workspace: Path, skill_set: SkillSet, first: Any, second: Any):
    """Links of ours become copies, and copies links, and nothing is left over."""
    hydrate(workspace, skill_set, mode=first)
    hydrate(workspace, skill_set, mode=second)
    assert (workspace / ".agents/skills/a").is_symlink() == (second == "link")
    assert check(workspace, skill_set).differences == ()
    assert names_in(workspace / ".agents/skills") == [".agentic-os.json", "a", "b"]


def test_stale_skills_go_only_when_asked_and_only_ours(
    workspace: Path, skill_set: SkillSet, make_definition: Callable[..., Path]
):
    """A skill that is no longer defined is reported; pruning removes ours and nothing else."""
    hydrate(workspace, skill_set)
    mine = workspace / ".agents/skills/mine"
    mine.symlink_to("/nowhere")
    smaller = resolve(load_definition(make_definition("a")), "default")
    report = hydrate(workspace, smaller)
    assert report.stale == (".agents/skills/b", ".claude/skills/b")
    assert "stale" in check(workspace, smaller).differences[0].what
    assert len(hydrate(workspace, smaller, prune=True).changes) == 2
    assert not (workspace / ".claude/skills/b").is_symlink()
    assert mine.is_symlink()
    assert check(workspace, smaller).differences == ()


def test_a_stale_place_that_a_person_took_over_is_not_pruned(
    workspace: Path, skill_set: SkillSet, make_definition: Callable[..., Path]
):
    """Pruning removes a link only if it leads where we made it lead."""
    hydrate(workspace, skill_set)
    link = workspace / ".agents/skills/b"
    link.unlink()
    link.symlink_to("/mine")
    report = hydrate(workspace, resolve(load_definition(make_definition("a")), "default"), prune=True)
    assert [change.path for change in report.conflicts] == [".agents/skills/b"]
    assert link.is_symlink()


def test_a_target_that_the_definition_gave_up_is_pruned(
    workspace: Path, skill_set: SkillSet, make_definition: Callable[..., Path]
):
    """Links in a folder that is no longer a target are stale too."""
    hydrate(workspace, skill_set)
    one = resolve(load_definition(make_definition("a", "b", targets=[".agents/skills"])), "default")
    hydrate(workspace, one, prune=True)
    assert list((workspace / ".claude/skills").iterdir()) == []


@pytest.mark.parametrize("parent", [".claude", ".claude/skills"])
def test_a_linked_parent_is_refused(workspace: Path, skill_set: SkillSet, tmp_path: Path, parent: str):
    """Nothing is written through a link that leads out of the workspace."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (workspace / parent).parent.mkdir(exist_ok=True)
    (workspace / parent).symlink_to(outside)
    report = hydrate(workspace, skill_set)
    assert [change.path for change in report.conflicts] == [".claude/skills"]
    assert list(outside.iterdir()) == []
    assert (workspace / ".agents/skills/a").is_symlink()
    assert parent in check(workspace, skill_set).differences[0].what


def test_a_linked_home_of_the_manifest_is_refused_altogether(
    workspace: Path, skill_set: SkillSet, tmp_path: Path
):
    """Where even the manifest would land outside, nothing is done."""
    (workspace / ".agents").symlink_to(tmp_path)
    with pytest.raises(WorkspaceError, match=r"\.agents is a link"):
        hydrate(workspace, skill_set)
    assert not (workspace / ".claude").exists()


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        '{"version": 2}',
        '{"version":1,"project":"","digest":"","targets":[],"skills":{},"changing":{},"entries":{"../x/a":{}}}',
        '{"version":1,"project":"","digest":"","targets":[],"skills":{},"changing":{},"entries":{"a/..":{}}}',
    ],
)
def test_a_manifest_that_is_not_ours_stops_everything(workspace: Path, skill_set: SkillSet, text: str):
    """A manifest that we did not write, or that names places outside, is never acted upon."""
    (workspace / ".agents/skills").mkdir(parents=True)
    (workspace / MANIFEST).write_text(text)
    with pytest.raises(WorkspaceError, match=r"\.agentic-os\.json"):
        hydrate(workspace, skill_set)


def test_leftovers_of_a_killed_run_are_cleared(workspace: Path, skill_set: SkillSet):
    """What a killed run had begun under a temporary name is gone after the next one that changes something."""
    folder = workspace / ".agents/skills"
    folder.mkdir(parents=True)
    (folder / ".agentic-os.new").symlink_to("/nowhere")
    (folder / ".agentic-os.old").mkdir()
    (folder / ".agentic-os.old" / "x").write_text("x")
    hydrate(workspace, skill_set)
    assert names_in(folder) == [".agentic-os.json", "a", "b"]


def test_a_reader_never_misses_a_skill_while_links_are_swapped(
    workspace: Path, make_skill: Callable[..., Path], make_definition: Callable[..., Path]
):
    """While the winning root changes back and forth, the skill is there at every moment."""
    make_skill("a")
    make_skill("a", root="other")
    sets = [
        resolve(load_definition(make_definition("a", source_roots=[f"./{root}"])), "default")
        for root in ("skills", "other")
    ]
    hydrate(workspace, sets[0])
    file, ended, misses = workspace / ".claude/skills/a/SKILL.md", threading.Event(), []

    def read() -> None:
        while not ended.is_set():
            try:
                file.read_bytes()
            except FileNotFoundError as error:
                misses.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(100):
        assert hydrate(workspace, sets[(number + 1) % 2]).changes
    ended.set()
    reader.join()
    assert misses == []


HYDRATE_AGAIN_AND_AGAIN = """
import sys
from pathlib import Path
from agentic_os.hydration import hydrate, load_definition, resolve
skill_set = resolve(load_definition(Path(sys.argv[2])), "default")
for _ in range(25):
    report = hydrate(Path(sys.argv[1]), skill_set)
    assert not report.conflicts, report.conflicts
"""


def test_two_processes_at_once_end_in_step(
    workspace: Path, make_skill: Callable[..., Path], make_definition: Callable[..., Path]
):
    """Real processes that hydrate one workspace with different sets never conflict, and leave one set, whole."""
    names = [f"skill-{number}" for number in range(30)]
    for name in names:
        make_skill(name)
        make_skill(name, root="other")
    definitions = [make_definition(*names), workspace.parent / "second.yaml"]
    definitions[1].write_text(definitions[0].read_text().replace("./skills", "./other"))
    command = [sys.executable, "-c", HYDRATE_AGAIN_AND_AGAIN, str(workspace)]
    running = [subprocess.Popen([*command, str(definition)]) for definition in definitions]
    assert [process.wait() for process in running] == [0, 0]
    sets = [resolve(load_definition(definition), "default") for definition in definitions]
    assert [check(workspace, one).differences == () for one in sets].count(True) == 1


def git(folder: Path, *arguments: str) -> str:
    """Run git without the configuration of whoever runs the tests."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
    }
    return subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout


def test_a_folder_that_git_takes_for_no_repository_is_left_alone(workspace: Path, skill_set: SkillSet):
    """A stray `.git` somewhere above, without what makes it a repository, gets no lines of ours."""
    (workspace.parent / ".git").mkdir()
    hydrate(workspace, skill_set)
    assert [] == list((workspace.parent / ".git").iterdir())


@pytest.mark.parametrize("below", ["", "pack ages/x[1]"])
def test_links_are_kept_out_of_git(workspace: Path, skill_set: SkillSet, below: str):
    """In a repository, or in a folder of one, git sees nothing of a hydration, and the user's lines stay."""
    git(workspace, "init", "-q")
    exclude = workspace / ".git/info/exclude"
    exclude.parent.mkdir(exist_ok=True)
    exclude.write_text("# mine\n*.log")
    folder = workspace / below
    folder.mkdir(parents=True, exist_ok=True)
    hydrate(folder, skill_set)
    assert git(workspace, "status", "--porcelain", "--untracked-files=all") == ""
    assert exclude.read_text().startswith("# mine\n*.log\n")
    assert hydrate(folder, skill_set).changes == ()


def test_pruning_takes_its_lines_out_of_the_exclude_file(
    workspace: Path, skill_set: SkillSet, make_definition: Callable[..., Path]
):
    """A name that is free again is visible to git again."""
    git(workspace, "init", "-q")
    hydrate(workspace, skill_set)
    hydrate(workspace, resolve(load_definition(make_definition("a")), "default"), prune=True)
    lines = (workspace / ".git/info/exclude").read_text().splitlines()
    assert "/.agents/skills/a" in lines
    assert "/.agents/skills/b" not in lines


def test_a_worktree_uses_the_exclude_file_of_its_repository(
    workspace: Path, skill_set: SkillSet, tmp_path: Path
):
    """A linked worktree has its `.git` as a file, and shares the exclude file."""
    git(workspace, "init", "-q")
    git(workspace, "-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "--allow-empty", "-m", "first")
    tree = tmp_path / "tree"
    git(workspace, "worktree", "add", "-q", str(tree))
    hydrate(tree, skill_set)
    assert git(tree, "status", "--porcelain", "--untracked-files=all") == ""


def test_roots_have_priority_and_shadows_are_told(
    make_skill: Callable[..., Path], make_definition: Callable[..., Path]
):
    """The first root that has a skill wins, and the others are named."""
    make_skill("a")
    make_skill("a", root="local", text="Ours.")
    make_skill("b")
    definition = make_definition("b", source_roots=["./local", "./skills"], shared_integrations=["a"])
    b, a = resolve(load_definition(definition), "default").skills
    assert ("./local", ("./skills",)) == (a.root, a.shadowed)
    assert ("./skills", ()) == (b.root, b.shadowed)


def test_a_project_adds_its_own_skills(make_skill: Callable[..., Path], make_definition: Callable[..., Path]):
    """The effective set is global, shared and project's own; a project without an entry has the first two."""
    for name in "abc":
        make_skill(name)
    definition = load_definition(
        make_definition("a", shared_integrations=["b", "a"], project_defaults={"p": ["c"]})
    )
    assert [skill.name for skill in resolve(definition, "p").skills] == ["a", "b", "c"]
    assert [skill.name for skill in resolve(definition, "other").skills] == ["a", "b"]


def test_the_package_has_a_definition_of_its_own():
    """Without a skills.yaml the skills that come with the package are in force, and they are valid."""
    skill_set = resolve(load_definition(None), "default")
    assert [skill.name for skill in skill_set.skills] == [
        "start-work",
        "submit-plan",
        "submit-result",
        "submit-review",
        "save-checkpoint",
        "report-progress",
        "escalate",
        "hand-off",
        "decline",
        "create-remediation",
        "bridge-paperclip",
        "bridge-github",
    ]
    assert {skill.root for skill in skill_set.skills} == {"package:agentic_os"}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "is empty"),
        ("a: [", 1, ""),
        ("source_roots: [./skills]\nglobal_defaults: [a]\nextra: 1\n", 3, "unknown key 'extra' (known:"),
        ("source_roots: [./skills]\n", 1, "'global_defaults' is missing"),
        ("source_roots:\n  - ./skills\n  - ./none\nglobal_defaults: []\n", 3, "is no folder"),
        ("source_roots: [./skills]\nglobal_defaults:\n  - a\n  - ../b\n", 4, "no skill name"),
        ("source_roots: [./skills]\nglobal_defaults: a\n", 2, "must be a list"),
        ("source_roots: [./skills]\nglobal_defaults: [a]\nglobal_defaults: [b]\n", 3, "twice"),
        (
            "source_roots: [./skills]\nglobal_defaults: []\nproject_defaults:\n  p: {a: b}\n",
            4,
            "must be a list",
        ),
        ("source_roots: [./skills]\nglobal_defaults: []\nworkspaces:\n  p: 1\n", 4, "must be a text"),
        ("source_roots: [./skills]\nglobal_defaults: []\ntargets: [/etc]\n", 3, "within the workspace"),
        ("source_roots: [./skills]\nglobal_defaults: []\ntargets: [a/../../b]\n", 3, "within the workspace"),
        ("source_roots: [./skills]\nglobal_defaults: []\ntargets: [.git/hooks]\n", 3, "within the workspace"),
    ],
)
def test_a_bad_definition_is_refused_with_its_line(tmp_path: Path, text: str, line: int, words: str):
    """Each error names the file and the line."""
    (tmp_path / "skills").mkdir()
    file = tmp_path / "skills.yaml"
    file.write_text(text)
    with pytest.raises(DefinitionError) as caught:
        load_definition(file)
    assert str(caught.value).startswith(f"{file}:{line}: ")
    assert words in str(caught.value)


def break_front_matter(folder: Path) -> None:
    (folder / "SKILL.md").write_text("no front matter\n")


def break_name(folder: Path) -> None:
    (folder / "SKILL.md").write_text("---\nname: b\ndescription: d\n---\n")


def break_yaml(folder: Path) -> None:
    (folder / "SKILL.md").write_text("---\nname: a\ndescription: d: e: f\n---\n")


def add_link_out(folder: Path) -> None:
    (folder / "secret").symlink_to("/etc/passwd")


def add_fifo(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def lead_out_of_the_root(folder: Path) -> None:
    folder.rename(folder.parents[1] / "moved")
    folder.symlink_to(folder.parents[1] / "moved")


def lead_in_a_loop(folder: Path) -> None:
    folder.rename(folder.parents[1] / "moved")
    folder.symlink_to(folder)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (break_front_matter, "SKILL.md:1: starts with no front matter"),
        (break_name, "SKILL.md:2: the name must be that of its folder"),
        (break_yaml, "SKILL.md:3: "),
        (add_link_out, "secret is no plain file"),
        (add_fifo, "pipe is no plain file"),
        (lead_out_of_the_root, "leads out of its source root"),
        (lead_in_a_loop, "cannot be followed"),
    ],
)
def test_a_bad_skill_is_refused(
    make_skill: Callable[..., Path],
    make_definition: Callable[..., Path],
    fault: Callable[[Path], None],
    words: str,
):
    """A skill that breaks the standard, or reaches out of its folder or root, is not projected."""
    fault(make_skill("a"))
    with pytest.raises(DefinitionError) as caught:
        resolve(load_definition(make_definition("a")), "default")
    assert words in str(caught.value)


def test_a_skill_that_no_root_has_is_named(make_definition: Callable[..., Path]):
    """The error says which skill is missing, and where it was looked for."""
    with pytest.raises(DefinitionError, match=r"'a' is in none of the source roots \(\./skills\)"):
        resolve(load_definition(make_definition("a")), "default")


def test_where_a_link_has_no_second_name_another_is_made(
    workspace: Path,
    make_skill: Callable[..., Path],
    make_definition: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
):
    """Both targets have the same link under two names, which saves a disk time, or each one of its own."""
    make_skill("a")
    skill_set = resolve(load_definition(make_definition("a")), "default")
    places = [workspace / target / "a" for target in (".agents/skills", ".claude/skills")]
    hydrate(workspace, skill_set)
    shared = {place.lstat().st_ino for place in places}
    for place in places:
        place.unlink()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "not here")

    monkeypatch.setattr(os, "link", refuse)
    assert len(hydrate(workspace, skill_set).changes) == 2
    assert (len(shared), len({place.lstat().st_ino for place in places})) == (1, 2)
    assert check(workspace, skill_set).differences == ()
