"""What a hydrator must do, learned from what others get wrong: twelve requirements, each by its name."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
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
    explain,
    hydrate,
    load_definition,
    resolve,
)

MANIFEST = ".agents/skills/.agentic-os.json"
TARGETS = (".agents/skills", ".claude/skills")
ROOT = os.geteuid() == 0
NOBODY = 65534
Make = Callable[..., Path]


@pytest.fixture
def skill_set(make_skill: Make, make_definition: Make) -> SkillSet:
    """Define the skills a and b."""
    make_skill("a")
    make_skill("b")
    return resolve(load_definition(make_definition("a", "b")), "default")


def paths_of(changes: Any) -> list[str]:
    """List the paths of changes, conflicts or differences."""
    return [change.path for change in changes]


def content_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Read all that is below a folder without following a link: mode, and bytes or the text of the link."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            os.fsencode(path.readlink())
            if path.is_symlink()
            else path.read_bytes()
            if path.is_file()
            else b"",
        )
        for path in folder.rglob("*")
    }


def test_requirement_1_roots_by_priority_and_every_shadowed_duplicate_told(
    make_skill: Make, make_definition: Make
):
    """Of three roots the first wins, both others are reported, and the explanation has all in order."""
    for root in ("one", "two", "three"):
        make_skill("a", root=root, text=root)
    definition = load_definition(make_definition("a", source_roots=["./one", "./two", "./three"]))
    (skill,) = resolve(definition, "default").skills
    assert (skill.root, skill.shadowed) == ("./one", ("./two", "./three"))
    found = explain(definition, "default", "a")
    assert [root for root, _ in found.holders] == ["./one", "./two", "./three"]
    assert found.named_by == ("global_defaults",)


def test_requirement_2_the_standard_is_enforced(make_skill: Make, make_definition: Make, workspace: Path):
    """A skill that clients would show in spite of the standard stops the hydration before it touches anything."""
    skill = make_skill("a")
    (skill / "SKILL.md").write_text("---\nname: a\ndescription: d\nmodel: m\n---\n")
    with pytest.raises(DefinitionError, match=r"SKILL\.md:4: unknown field model"):
        hydrate(workspace, resolve(load_definition(make_definition("a")), "default"))
    assert list(workspace.iterdir()) == []


def test_requirement_3_several_targets(make_skill: Make, make_definition: Make, workspace: Path):
    """Each target that is configured gets each skill, one project has its own, and both defaults are there."""
    make_skill("a")
    targets = [".agents/skills", ".codex/skills", "deep/er/skills"]
    file = make_definition("a", targets=targets, overrides={"p": {"targets": [".qwen/skills"]}})
    definition = load_definition(file)
    hydrate(workspace, resolve(definition, "default"))
    assert all((workspace / target / "a/SKILL.md").is_file() for target in targets)
    assert resolve(definition, "p").targets == (".qwen/skills",)
    assert load_definition(None).targets == TARGETS


def test_requirement_4_folders_are_linked_and_swapped_without_a_miss(
    workspace: Path, skill_set: SkillSet, make_skill: Make, make_definition: Make
):
    """A SKILL.md is never a link itself, and a reader finds the skill at each moment of many hydrations."""
    hydrate(workspace, skill_set)
    for target in TARGETS:
        assert (workspace / target / "a").is_symlink()
        assert not (workspace / target / "a/SKILL.md").is_symlink()
    for name in "ab":
        make_skill(name, root="other")
    other = resolve(load_definition(make_definition("a", "b", source_roots=["./other"])), "default")
    ended, misses = threading.Event(), []

    def read() -> None:
        while not ended.is_set():
            if not (workspace / ".claude/skills/a/SKILL.md").is_file():
                misses.append(1)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(60):
        assert hydrate(workspace, (other, skill_set)[number % 2]).changes
    ended.set()
    reader.join()
    assert misses == []


def test_requirement_5_what_the_manifest_does_not_list_is_never_touched(workspace: Path, skill_set: SkillSet):
    """A person's file, folder and link keep each byte, and where they are in the way that is a conflict."""
    for target, name in ((".agents/skills", "a"), (".claude/skills", "b"), (".claude/skills", "mine")):
        (workspace / target / name).mkdir(parents=True)
        (workspace / target / name / "SKILL.md").write_text("mine")
    (workspace / ".claude/skills/a").write_text("a file")
    (workspace / ".agents/skills/b").symlink_to(skill_set.skills[1].path)
    before = content_of(workspace)
    report = hydrate(workspace, skill_set, prune=True)
    assert sorted(paths_of(report.conflicts)) == [f"{target}/{name}" for target in TARGETS for name in "ab"]
    after = content_of(workspace)
    assert before.items() <= after.items()


def test_requirement_6_a_manifest_with_target_root_and_digest_is_written_last(
    workspace: Path, skill_set: SkillSet
):
    """It has version, targets, and for each skill root, digest and files; it is replaced, not written over."""
    hydrate(workspace, skill_set)
    manifest = json.loads((workspace / MANIFEST).read_text())
    assert (manifest["version"], tuple(manifest["targets"]), manifest["digest"]) == (
        1,
        TARGETS,
        skill_set.digest,
    )
    for skill in skill_set.skills:
        record = manifest["skills"][skill.name]
        assert (record["root"], record["digest"]) == ("./skills", skill.digest)
        assert record["files"].keys() == {file.path for file in skill.files}
    assert set(manifest["entries"]) == {f"{target}/{name}" for target in TARGETS for name in "ab"}
    inode = (workspace / MANIFEST).stat().st_ino
    with (workspace / MANIFEST).open() as held:
        hydrate(workspace, skill_set, mode="copy")
        assert json.load(held) == manifest
    assert inode != (workspace / MANIFEST).stat().st_ino


def test_requirement_7_check_names_each_kind_of_drift_and_a_second_run_does_nothing(
    workspace: Path, skill_set: SkillSet, make_skill: Make, make_definition: Make
):
    """Missing, foreign, changed, turned elsewhere and stale are each named, and after a run none is left."""
    make_skill("c")
    hydrate(workspace, resolve(load_definition(make_definition("a", "b", "c")), "default"))
    (workspace / ".agents/skills/a").unlink()
    (workspace / ".agents/skills/b").unlink()
    (workspace / ".agents/skills/b").write_text("foreign")
    (workspace / ".claude/skills/a").unlink()
    (workspace / ".claude/skills/a").symlink_to("/elsewhere")
    (skill_set.skills[1].path / "SKILL.md").write_text("---\nname: b\ndescription: e\n---\n")
    smaller = resolve(load_definition(make_definition("a", "b")), "default")
    told = {
        change.path.removeprefix(str(workspace.parent)): change.what
        for change in check(workspace, smaller).differences
    }
    for path, words in (
        (".agents/skills/a", "is missing"),
        (".agents/skills/b", "is a file that is not ours"),
        (".claude/skills/a", "leads to /elsewhere"),
        ("/skills/b/SKILL.md", "was changed"),
        (".agents/skills/c", "is stale"),
        (".claude/skills/c", "is stale"),
    ):
        assert words in told[path]
    (workspace / ".agents/skills/b").unlink()
    assert hydrate(workspace, smaller, prune=True, dry_run=True).changes
    assert hydrate(workspace, smaller, prune=True).changes
    assert check(workspace, smaller).differences == ()
    before = content_of(workspace)
    assert hydrate(workspace, smaller, prune=True).changes == ()
    assert before == content_of(workspace)


@pytest.mark.parametrize("name", ["..", "a/b", "a\\b", "a\x00b", "/a", "."])
def test_requirement_8_names_are_single_and_nothing_leads_out(name: str, make_definition: Make):
    """A name with a separator, `..` or NUL is refused; links out of a root have a test of their own."""
    with pytest.raises(DefinitionError, match="no skill name"):
        load_definition(make_definition(name))


@pytest.mark.parametrize("parent", [".agents/.agentic-os", ".claude", ".claude/skills"])
def test_requirement_8_no_parent_is_a_link(workspace: Path, skill_set: SkillSet, tmp_path: Path, parent: str):
    """Whichever folder on the way is a link, nothing is written beyond it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (workspace / parent).parent.mkdir(exist_ok=True)
    (workspace / parent).symlink_to(outside)
    try:
        assert hydrate(workspace, skill_set).conflicts
    except WorkspaceError as error:
        assert "is a link" in str(error)  # noqa: PT017 - one of the parents stops all
    assert list(outside.iterdir()) == []


def test_requirement_9_only_own_stale_links_are_pruned(
    workspace: Path, skill_set: SkillSet, make_definition: Make
):
    """A stale link of ours goes when asked; one of a person's, of that name or another, stays."""
    hydrate(workspace, skill_set)
    (workspace / ".claude/skills/b").unlink()
    (workspace / ".claude/skills/b").symlink_to("/mine")
    (workspace / ".agents/skills/mine").symlink_to("/mine")
    smaller = resolve(load_definition(make_definition("a")), "default")
    assert paths_of(hydrate(workspace, smaller, prune=True).conflicts) == [".claude/skills/b"]
    assert not (workspace / ".agents/skills/b").is_symlink()
    assert (workspace / ".claude/skills/b").is_symlink()
    assert (workspace / ".agents/skills/mine").is_symlink()


def test_requirement_10_a_run_waits_for_another(workspace: Path, skill_set: SkillSet, make_definition: Make):
    """While one process holds the workspace another waits; crashes at each step are tested beside this."""
    hydrate(workspace, skill_set)
    fcntl = pytest.importorskip("fcntl")
    held = os.open(workspace / ".agents/skills", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    code = (
        "import sys; from pathlib import Path; from agentic_os.hydration import *\n"
        "skills = resolve(load_definition(Path(sys.argv[2])), 'default'); print('ready', flush=True)\n"
        "hydrate(Path(sys.argv[1]), skills, prune=True); print('done', flush=True)"
    )
    command = [sys.executable, "-c", code, str(workspace), str(make_definition("a"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        assert (workspace / ".claude/skills/b").is_symlink()
        os.close(held)
        assert process.stdout.readline() == "done\n"
    assert not (workspace / ".claude/skills/b").is_symlink()


NO_LINKS = """
import sys
from pathlib import Path
from agentic_os.hydration import hydrate, load_definition, resolve

def refuse(event, arguments):
    if event == "os.symlink":
        raise PermissionError(1, "Operation not permitted")

sys.addaudithook(refuse)
skill_set = resolve(load_definition(Path(sys.argv[2])), "default")
for _ in range(2):
    report = hydrate(Path(sys.argv[1]), skill_set)
    print(len(report.changes), len(report.conflicts))
"""


def test_requirement_11_where_links_do_not_work_copies_are_made_and_recorded(
    workspace: Path, make_skill: Make, make_definition: Make
):
    """On a system that refuses links the skills are copied, the manifest says so, and a check compares the copies."""
    make_skill("a")
    definition = make_definition("a")
    command = [sys.executable, "-c", NO_LINKS, str(workspace), str(definition)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["2 0", "0 0"]
    manifest = json.loads((workspace / MANIFEST).read_text())
    assert {entry["mode"] for entry in manifest["entries"].values()} == {"copy"}
    skill_set = resolve(load_definition(definition), "default")
    assert check(workspace, skill_set).differences == ()
    (workspace / ".claude/skills/a/SKILL.md").write_text("tampered")
    assert paths_of(check(workspace, skill_set).differences) == [".claude/skills/a/SKILL.md"]


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


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_requirement_12_git_sees_nothing(
    workspace: Path, skill_set: SkillSet, make_definition: Make, mode: Any
):
    """In a repository that has a person's own skill committed, the status stays clean through all that is done."""
    git(workspace, "init", "-q")
    (workspace / ".claude/skills/mine").mkdir(parents=True)
    (workspace / ".claude/skills/mine/SKILL.md").write_text("mine")
    git(workspace, "add", ".")
    git(workspace, "-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "mine")
    smaller = resolve(load_definition(make_definition("a")), "default")
    for one in (skill_set, smaller, skill_set):
        hydrate(workspace, one, mode=mode, prune=True)
        assert git(workspace, "status", "--porcelain", "--untracked-files=all") == ""


def as_user(uid: int, command: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a command as another user, who may read what the tests wrote."""
    code = (
        "import os, sys; from agentic_os.cli.skills import hydrate_main\n"
        "os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))\n"
        "sys.exit(hydrate_main(sys.argv[2:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", code, str(uid), *command],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "AGENTIC_OS_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(not ROOT, reason="only root can be somebody else")
@pytest.mark.parametrize("uid", [0, NOBODY])
def test_an_ordinary_user_and_root_both_hydrate(skill_set: SkillSet, uid: int):
    """What is made belongs to whoever ran it; a workspace of another's is refused with words and a code."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)
        shutil.copytree(skill_set.skills[0].path.parent, folder / "skills")
        (folder / "skills.yaml").write_text("source_roots: [./skills]\nglobal_defaults: [a, b]\n")
        current = resolve(load_definition(folder / "skills.yaml"), "default")
        (folder / "theirs").mkdir()
        os.chown(folder / "theirs", uid, uid)
        done = as_user(uid, ["--workspace", "theirs", "--definition", "skills.yaml"], folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert {path.lstat().st_uid for path in (folder / "theirs").rglob("*")} == {uid}
        assert check(folder / "theirs", current).differences == ()
        (folder / "roots").mkdir(mode=0o755)
        other = as_user(NOBODY, ["--workspace", "roots", "--definition", "skills.yaml"], folder)
        assert (other.returncode, "Permission denied" in other.stderr) == (3, True), other.stderr
        assert "Traceback" not in other.stderr


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_one_changed_byte_of_any_file_is_named(workspace: Path, skill_set: SkillSet, mode: Any):
    """Whichever file of a hydrated skill differs in one byte, the check names it, and only it."""
    hydrate(workspace, skill_set, mode=mode)
    for skill in skill_set.skills:
        for file in skill.files:
            place = (workspace / ".agents/skills" / skill.name / file.path).resolve()
            content = place.read_bytes()
            place.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
            current = resolve(load_definition(workspace.parent / "skills.yaml"), "default")
            assert paths_of(check(workspace, current).differences) == [
                str(place) if mode == "link" else str(place.relative_to(workspace))
            ]
            place.write_bytes(content)
    assert check(workspace, skill_set).differences == ()
