"""`agentic-os skills hydrate`: what it prints, and its exit codes."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentic_os.cli import main
from agentic_os.cli.skills import hydrate_main


@dataclass(frozen=True)
class Done:
    """What a run of the command left."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def hydrate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in a folder with a home of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENTIC_OS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("AGENTIC_OS_GOVERNANCE", raising=False)

    def run(*arguments: str | Path) -> Done:
        capsys.readouterr()
        try:
            code = hydrate_main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Done(code, *capsys.readouterr())

    return run


def test_the_exit_code_follows_the_state_of_the_workspace(
    hydrate: Run, workspace: Path, make_skill: Callable[..., Path], make_definition: Callable[..., Path]
):
    """1 is drift, 0 in step, and 3 a conflict with a file that is not ours."""
    skill = make_skill("a")
    common = ("--workspace", "workspace", "--definition", make_definition("a"))
    drifted = hydrate(*common, "--check")
    assert (drifted.returncode, "was not hydrated" in drifted.stdout) == (1, True)
    assert hydrate(*common, "--dry-run").returncode == 0
    assert list(workspace.iterdir()) == []
    done = hydrate(*common)
    assert (done.returncode, done.stderr) == (0, "")
    assert "link: .claude/skills/a" in done.stdout
    assert "in step" in hydrate(*common).stdout
    assert hydrate(*common, "--check").returncode == 0
    (skill / "SKILL.md").write_text((skill / "SKILL.md").read_text() + "x")
    changed = hydrate(*common, "--check")
    assert (changed.returncode, f"drift: {skill}/SKILL.md was changed" in changed.stdout) == (1, True)
    (workspace / ".claude/skills/a").unlink()
    (workspace / ".claude/skills/a").write_text("mine")
    conflict = hydrate(*common)
    assert (conflict.returncode, "conflict: .claude/skills/a" in conflict.stderr) == (3, True)


def test_usage_and_bad_definitions_exit_with_2(
    hydrate: Run, workspace: Path, make_skill: Callable[..., Path], make_definition: Callable[..., Path]
):
    """A wrong option, an unknown project, a missing folder and a bad file are all told plainly."""
    make_skill("a")
    definition = make_definition("a")
    assert hydrate("--mode", "magic").returncode == 2
    unknown = hydrate("--definition", definition, "--project", "p", "--workspace", workspace)
    assert (unknown.returncode, "no project 'p' (known: default)" in unknown.stderr) == (2, True)
    assert hydrate("--definition", definition, "--workspace", "nowhere").returncode == 2
    definition.write_text("source_roots: 1\n")
    bad = hydrate("--definition", definition, "--workspace", workspace)
    assert (bad.returncode, f"{definition}:1: the key 'global_defaults'" in bad.stderr) == (2, True)


def test_each_workspace_of_the_definition_gets_its_project(
    hydrate: Run, tmp_path: Path, make_skill: Callable[..., Path], make_definition: Callable[..., Path]
):
    """Without --workspace all are hydrated, and one given by its folder has the project of the definition."""
    for name in "ab":
        make_skill(name)
        (tmp_path / f"ws-{name}").mkdir()
    definition = make_definition(
        project_defaults={"p": ["a"], "q": ["b"]}, workspaces={"p": "./ws-a", "q": "./ws-b"}
    )
    report: Any = json.loads(hydrate("--definition", definition, "--json").stdout)
    told = [
        (entry["project"], entry["exit_code"], [skill["name"] for skill in entry["skills"]])
        for entry in report["workspaces"]
    ]
    assert told == [("p", 0, ["a"]), ("q", 0, ["b"])]
    one = json.loads(hydrate("--definition", definition, "--json", "--check", "--workspace", "ws-b").stdout)
    assert [entry["project"] for entry in one["workspaces"]] == ["q"]
    assert one["workspaces"][0]["differences"] == []


def test_the_definition_in_force_is_that_of_the_governance_folder(
    hydrate: Run, tmp_path: Path, workspace: Path, make_skill: Callable[..., Path]
):
    """The command goes by the same skills.yaml as the backend; without one, by the package's own."""
    hydrate("--workspace", workspace)
    assert (workspace / ".agents/skills/start-work/SKILL.md").is_file()
    governance = tmp_path / "home/governance"
    governance.mkdir(parents=True)
    make_skill("mine")
    (governance / "skills.yaml").write_text("source_roots: [../../skills]\nglobal_defaults: [mine]\n")
    assert hydrate("--workspace", workspace, "--prune").returncode == 0
    assert [path.name for path in (workspace / ".claude/skills").iterdir()] == ["mine"]


def test_a_definition_without_workspaces_says_so(hydrate: Run):
    """With nothing to do the command says how to name a workspace, and is content."""
    done = hydrate()
    assert (done.returncode, "--workspace DIR" in done.stdout) == (0, True)


@pytest.fixture
def skills(hydrate: Run, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `agentic-os skills` in the same folder and home."""

    def run(*arguments: str | Path) -> Done:
        capsys.readouterr()
        return Done(main(["skills", *map(str, arguments)]), *capsys.readouterr())

    return run


def test_explain_says_which_root_won_and_why(
    skills: Run, make_skill: Callable[..., Path], make_definition: Callable[..., Path]
):
    """Both holders, the list that names the skill, and a project's own root or omission are told."""
    for root in ("skills", "local"):
        make_skill("a", root=root)
    overrides = {"p": {"source_roots": ["./local"]}, "q": {"without": ["a"]}}
    definition = make_definition("a", overrides=overrides)
    for project, winner in (("default", "./skills"), ("p", "./local")):
        done = skills("explain", "a", "--project", project, "--definition", definition, "--json")
        found = json.loads(done.stdout)
        assert (done.returncode, found["root"], found["holders"][0]["root"]) == (0, winner, winner)
        assert (found["in_project"], found["named_by"]) == (True, ["global_defaults"])
    left_out = skills("explain", "a", "--project", "q", "--definition", definition)
    assert "left out by its override" in left_out.stdout
    assert skills("explain", "b", "--definition", definition).returncode == 2
    assert skills("list", "--project", "q", "--definition", definition, "--json").stdout.count('"name"') == 0


def test_validate_tells_file_and_line(skills: Run, make_skill: Callable[..., Path]):
    """A good folder passes, a bad one exits 2 with its line."""
    good, bad = make_skill("a"), make_skill("b")
    (bad / "SKILL.md").write_text("---\nname: c\ndescription: d\n---\n")
    assert skills("validate", good).returncode == 0
    done = skills("validate", good, bad)
    assert (done.returncode, f"{bad}/SKILL.md:2: the name must be" in done.stdout) == (2, True)


def test_coverage_shows_role_by_skill_by_workspace(
    skills: Run,
    hydrate: Run,
    tmp_path: Path,
    make_skill: Callable[..., Path],
    make_definition: Callable[..., Path],
):
    """Covered, absent and undefined are told apart, and all but covered exits 1."""
    for name in ("a", "b"):
        make_skill(name)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    definition = make_definition("a", project_defaults={"p": ["b"]}, workspaces={"p": "./one", "q": "./two"})
    governance = tmp_path / "governance"
    governance.mkdir()
    (governance / "policy.yaml").write_text("rules: []\n")
    (governance / "organisation.yaml").write_text("roles:\n  developer:\n    skills: [a, b]\n")
    common = ("--definition", definition, "--governance", governance, "--json")

    def states() -> list[tuple[str, str, str]]:
        rows = json.loads(skills("coverage", *common).stdout)["coverage"]
        return [(Path(row["workspace"]).name, row["skill"], row["state"]) for row in rows]

    assert states() == [
        ("one", "a", "absent"),
        ("one", "b", "absent"),
        ("two", "a", "absent"),
        ("two", "b", "undefined"),
    ]
    hydrate("--definition", definition)
    (tmp_path / "one/.claude/skills/b").unlink()
    assert states() == [
        ("one", "a", "covered"),
        ("one", "b", "absent"),
        ("two", "a", "covered"),
        ("two", "b", "undefined"),
    ]
    assert skills("coverage", *common, "--workspace", tmp_path / "one").returncode == 1
    hydrate("--definition", definition)
    assert skills("coverage", *common, "--workspace", tmp_path / "one").returncode == 0
