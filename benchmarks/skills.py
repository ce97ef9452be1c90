"""Measure hydration: 500 skills into 50 workspaces, the first time and with nothing to do, and readers during swaps.

    .venv/bin/python benchmarks/skills.py [--skills N] [--workspaces N] [--swaps N] [--json]

Each hydration is a whole command in a process of its own, less what the command takes to start, which has a row of
its own; the seconds of the processor beside it are those of our own code, without the system's. `the bare links` is
what this disk takes for the same links and nothing else, once before and once after, in the same run: the least that a
first hydration can take. With TMPDIR on a file system in memory the disk of the machine does not count. On ext4 the
three differ much: it looks long for a free place where many files were made or deleted just before, and the first to
come pays for it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from agentic_os.hydration.sets import SETS, put_in_force

COMMAND = str(Path(sys.executable).with_name("agentic-os"))
FIRST_SECONDS, AGAIN_SECONDS = 5.0, 1.0


def main() -> int:
    """Measure, print, and exit with 1 where a target is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--skills", type=int, default=500)
    parser.add_argument("--workspaces", type=int, default=50)
    parser.add_argument("--swaps", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        definition = write(folder, args.skills, args.workspaces)
        start = min(timed([COMMAND, "skills", "--help"]) for _ in range(3))
        before = bare_links(folder / "before", args.skills, args.workspaces)
        first = hydration(definition)
        after = bare_links(folder / "after", args.skills, args.workspaces)
        again = min(hydration(definition) for _ in range(3))
        rows: list[tuple[str, float, float]] = [
            ("start of the command, s", start[0], -1),
            ("the bare links before, s", before, -1),
            ("first hydration, s", first[0] - start[0], FIRST_SECONDS),
            ("  of it our own code, s", first[1] - start[1], -1),
            ("the bare links after, s", after, -1),
            ("nothing to do, s", again[0] - start[0], AGAIN_SECONDS),
            ("  of it our own code, s", again[1] - start[1], -1),
            *swaps(folder, args.swaps),
        ]
    misses = [name for name, value, target in rows if 0 <= target < value]
    if args.json:
        print(
            json.dumps({"rows": [{"name": n, "value": v, "target": t} for n, v, t in rows], "ok": not misses})
        )
    else:
        for name, value, target in rows:
            print(f"{name:32} {value:12.3f}   target {'none' if target < 0 else f'{target:g}'}")
    return 1 if misses else 0


def write(folder: Path, skills: int, workspaces: int) -> Path:
    """Write that many skills, workspaces, and their definition."""
    names = [f"skill-{number}" for number in range(skills)]
    for name in names:
        (folder / "skills" / name / "scripts").mkdir(parents=True)
        (folder / "skills" / name / "SKILL.md").write_text(
            f"---\nname: {name}\ndescription: Does it.\n---\nDo it.\n"
        )
        (folder / "skills" / name / "scripts" / "run.py").write_text("print('run')\n")
    places = {f"p{number}": f"./w/{number}" for number in range(workspaces)}
    for place in places.values():
        (folder / place).mkdir(parents=True)
    file = folder / "skills.yaml"
    document = {"source_roots": ["./skills"], "global_defaults": names, "workspaces": places}
    file.write_text(json.dumps(document, indent=1))
    return file


def hydration(definition: Path) -> tuple[float, float]:
    """Time one run over all workspaces."""
    return timed([COMMAND, "skills", "hydrate", "--definition", str(definition)])


def timed(command: list[str]) -> tuple[float, float]:
    """Time a command that must succeed: seconds, and seconds of the processor outside of the system."""
    begun, used = time.perf_counter(), os.times().children_user
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun, os.times().children_user - used


def bare_links(folder: Path, skills: int, workspaces: int) -> float:
    """Time the same links in folders of the same form, made by nothing but the system's calls."""
    begun = time.perf_counter()
    for number in range(workspaces):
        made = [folder / str(number) / name for name in ("set", "agents", "claude")]
        for place in made:
            place.mkdir(parents=True)
        links, agents, claude = map(str, made)
        for skill in range(skills):
            os.symlink(f"{folder}/skills/skill-{skill}", f"{links}/{skill}")  # noqa: PTH211 - as fast as it gets
            os.symlink(f"../../.agents/.agentic-os/current/skill-{skill}", f"{agents}/{skill}")  # noqa: PTH211
            os.link(f"{agents}/{skill}", f"{claude}/{skill}", follow_symlinks=False)
    return time.perf_counter() - begun


def swaps(folder: Path, count: int) -> list[tuple[str, float, float]]:
    """Swap the set of one workspace that often while a reader opens a skill; counts reads and misses."""
    workspace = folder / "w/0"
    there = {path.name: str(path) for path in (folder / "skills").iterdir()}
    few = [dict(list(there.items())[:5]), dict(list(there.items())[:4])]
    name = next(iter(few[1]))
    ended, counted = threading.Event(), [0, 0]

    def read() -> None:
        while not ended.is_set():
            try:
                (workspace / ".claude/skills" / name / "SKILL.md").read_bytes()
            except FileNotFoundError:
                counted[1] += 1
            counted[0] += 1

    sets = os.open(workspace / SETS, os.O_RDONLY)
    reader = threading.Thread(target=read)
    reader.start()
    for number in range(count):
        put_in_force(sets, few[number % 2])
    ended.set()
    reader.join()
    os.close(sets)
    return [(f"reads during {count} swaps", counted[0], -1), (f"misses in {count} swaps", counted[1], 0)]


if __name__ == "__main__":
    sys.exit(main())
