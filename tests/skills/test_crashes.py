"""Hydration that is killed at each step that it takes, and readers of what it replaces."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import agentic_os_contract as scripts
import pytest

from agentic_os.hydration import SkillSet, check, hydrate, load_definition, resolve

TARGETS = (".agents/skills", ".claude/skills")
KILLED = """
import os, signal, sys
from pathlib import Path
from agentic_os.hydration import hydrate, load_definition, resolve

STEPS = {"os.symlink", "os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "ctypes.dlsym"}
folder, before, after, first, mode = sys.argv[1:]
old, new = (resolve(load_definition(Path(file)), "default") for file in (before, after))

def killed_at(workspace, last):
    taken = 0

    def step(event, arguments):
        nonlocal taken
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        # The exchange of two folders goes through ctypes, and is told by the look-up of its name.
        if writes or event in STEPS:
            if taken == last:
                os.kill(os.getpid(), signal.SIGKILL)
            taken += 1

    sys.addaudithook(step)
    assert not hydrate(workspace, new, mode=mode, prune=True).conflicts

for last in range(1000):
    workspace = Path(folder) / f"{last:03}"
    workspace.mkdir()
    if first:
        hydrate(workspace, old, mode=first)
    if not (child := os.fork()):
        try:
            killed_at(workspace, last)
        except BaseException:
            os._exit(1)
        os._exit(0)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ended == 0:
        break
    assert ended == -signal.SIGKILL, ended
"""
Seen = dict[str, dict[str, str]]


def what_a_reader_sees(workspace: Path) -> Seen:
    """Read each skill that is there, by target and name: its text."""
    return {
        target: {file.parent.name: file.read_text() for file in (workspace / target).glob("*/SKILL.md")}
        for target in TARGETS
    }


def made_by(skill_set: SkillSet) -> Seen:
    """Tell what a reader sees of a set once it is in force."""
    return {
        target: {s.name: (s.path / "SKILL.md").read_text() for s in skill_set.skills} for target in TARGETS
    }


@pytest.fixture
def definitions(make_skill: Callable[..., Path], make_definition: Callable[..., Path]) -> tuple[Path, Path]:
    """Define a, b and c, and then other versions of a and b, with d in the place of c."""
    for name in "abcd":
        make_skill(name)
        make_skill(name, root="other", text="Other.")
    after = make_definition("a", "b", "d", source_roots=["./other"])
    after = after.rename(after.with_name("after.yaml"))
    return make_definition("a", "b", "c"), after


def kill_at_each_step(folder: Path, definitions: tuple[Path, Path], first: str, mode: str) -> list[Path]:
    """Hydrate a workspace of its own for each step, killed there; the last one is through."""
    command = [sys.executable, "-c", KILLED, str(folder), *map(str, definitions), first, mode]
    subprocess.run(command, check=True)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("first", ["link", ""])
def test_a_run_killed_at_any_step_leaves_the_old_set_or_the_new(
    workspace: Path, definitions: tuple[Path, Path], first: str
):
    """Killed anywhere, a reader sees all skills as before or all as after, and the next run ends in step."""
    old, new = (resolve(load_definition(file), "default") for file in definitions)
    sets = [made_by(old) if first else {target: {} for target in TARGETS}, made_by(new)]
    seen_sets = []
    for place in kill_at_each_step(workspace, definitions, first, "link"):
        seen = what_a_reader_sees(place)
        # What a target no longer has goes after the rename, and leads nowhere from that on.
        assert seen in sets
        seen_sets.append(sets.index(seen))
        assert hydrate(place, new, prune=True).conflicts == ()
        assert check(place, new).differences == ()
        assert what_a_reader_sees(place) == sets[1]
        assert sorted(p.name for p in (place / ".claude/skills").iterdir()) == ["a", "b", "d"]
    assert seen_sets == sorted(seen_sets)
    assert {0, 1} == set(seen_sets)


@pytest.mark.parametrize(("first", "mode"), [("copy", "copy"), ("link", "copy"), ("copy", "link")])
def test_with_copies_each_skill_is_old_or_new_wherever_a_run_is_killed(
    workspace: Path, definitions: tuple[Path, Path], first: str, mode: Any
):
    """No skill that both sets have is ever missing or half there, and a mixture has the digest of neither set."""
    old, new = (resolve(load_definition(file), "default") for file in definitions)
    before, after = made_by(old), made_by(new)
    for place in kill_at_each_step(workspace, definitions, first, mode):
        seen = what_a_reader_sees(place)
        for target in TARGETS:
            for name in "ab":
                assert seen[target].get(name) in {before[target][name], after[target][name]}
                assert (place / target / name / "scripts/run.py").is_file()
        claimed = scripts.skill_set_digest(scripts.workspace_skills(place))
        for skill_set, whole in ((old, before), (new, after)):
            assert claimed != skill_set.digest or all(seen[t].items() >= whole[t].items() for t in TARGETS)
        assert hydrate(place, new, mode=mode, prune=True).conflicts == ()
        assert check(place, new).differences == ()
        assert sorted(p.name for p in (place / ".claude/skills").iterdir()) == ["a", "b", "d"]


def test_readers_miss_nothing_in_20000_swaps(workspace: Path, definitions: tuple[Path, Path]):
    """Two readers that open a skill over and over find it each time while its set is swapped 20,000 times."""
    from agentic_os.hydration.sets import put_in_force  # noqa: PLC0415

    sets = [resolve(load_definition(file), "default") for file in definitions]
    hydrate(workspace, sets[0])
    links = [{skill.name: str(skill.path) for skill in one.skills if skill.name != "c"} for one in sets]
    folder = os.open(workspace / ".agents/.agentic-os", os.O_RDONLY)
    ended, misses, reads = threading.Event(), [], [0, 0]

    def read(number: int) -> None:
        file = workspace / TARGETS[number] / "a/SKILL.md"
        while not ended.is_set():
            try:
                file.read_bytes()
            except OSError as error:
                misses.append(error)
            reads[number] += 1

    readers = [threading.Thread(target=read, args=(number,)) for number in (0, 1)]
    for reader in readers:
        reader.start()
    for number in range(20_000):
        put_in_force(folder, links[(number + 1) % 2])
    ended.set()
    for reader in readers:
        reader.join()
    os.close(folder)
    assert misses == []
    assert min(reads) > 1000
