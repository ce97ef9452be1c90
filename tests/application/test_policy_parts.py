"""Policies in several files: joined as one, each fault with the file that it is in, and never read in part."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agentic_os.cli import main
from agentic_os.governance import (
    Governance,
    GovernanceInvalid,
    documents_in,
    load_documents,
    load_governance,
    load_stored,
)
from agentic_os.governance.difference import described, shadow_differences
from agentic_os.governance.lint import lint
from agentic_os.governance.policy_parts import MOST_PARTS

BASE = """\
defaults: {mode: direct, on_timeout: escalate}
rules:
  - id: deploys
    on: task.received
    when: {all: [{field: task.paths, any_glob: ["deploy/**"]}]}
    require: {mode: plan_first, reviewers: {role: lead, by: people}, deadline: 4h}
"""
MONEY = """\
budgets: {day: {tokens: 1000}}
breakers: {task: {attempts: 5, within: 1h}}
freezes:
  - {id: year-end, from: 2026-12-24T12:00:00Z, until: 2027-01-02T08:00:00Z, projects: ["*"]}
"""
MORE = """\
freezes:
  - {id: easter, from: 2027-03-26T00:00:00Z, until: 2027-03-30T00:00:00Z, projects: [shop]}
rules:
  - id: no-databases
    on: dispatch
    when: {all: [{field: task.tools, any_glob: ["psql*"]}]}
    deny: true
"""
PARTS = {"policy/10-base.yaml": BASE, "policy/20-money.yaml": MONEY, "policy/30-more.yaml": MORE}
ORGANISATION = "roles: {lead: {charter: Look.}}\nmembers:\n  rita: {roles: [lead]}\n"
ONE = (
    BASE
    + MORE[MORE.index("  - id: no-databases") :]
    + MONEY
    + "  - "
    + MORE.splitlines()[1].removeprefix("  - ")
    + "\n"
)
"""The same policy in one file."""

AT = datetime(2026, 6, 1, tzinfo=UTC)


def written(folder: Path, files: Mapping[str, str]) -> Path:
    """Write the files of a governance folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def faults(folder: Path) -> list[str]:
    """Lint a folder; give its faults with the names of files within it."""
    found = [str(r).replace(f"{folder}/", "") for r in lint(folder, AT) if r.level == "fault"]
    with pytest.raises(GovernanceInvalid) as caught:
        load_governance(folder)
    said = str(caught.value).replace(f"{folder}/", "")
    assert said in [f.replace(": fault " + f.split(": fault ")[1].split(":")[0], "", 1) for f in found]
    return found


def in_force(governance: Governance) -> tuple[object, object]:
    """Give what is in force, whatever it was read from."""
    return governance.policy, governance.organisation


def test_several_files_are_the_policy_that_one_would_be(tmp_path: Path) -> None:
    """Rules and freezes are joined in the order of the names, and the bundle's digest is that of the joined policy."""
    files = {"organisation.yaml": ORGANISATION}
    one = load_governance(written(tmp_path / "one", files | {"policy.yaml": ONE}))
    backwards = dict(reversed([*(files | PARTS).items()]))
    folder = written(tmp_path / "several", backwards)
    several = load_governance(folder)
    assert one == several
    assert ["deploys", "no-databases"] == [rule.id for rule in several.policy.rules]
    assert ["year-end", "easter"] == [freeze.id for freeze in several.policy.freezes]
    assert "escalate" == several.policy.rules[0].obligations.on_timeout
    assert one == load_documents(documents_in(folder)) == load_documents(backwards)
    assert [*PARTS, "organisation.yaml"] == [*documents_in(folder)]
    assert in_force(one) == in_force(load_stored(json.loads(json.dumps(several.document))))
    assert [] == [r for r in lint(folder, AT) if r.level == "fault"]


def test_what_says_nothing_may_stand_among_the_files(tmp_path: Path) -> None:
    """Empty files, and what is no YAML by its name or is hidden, change nothing; all empty is the empty policy."""
    files = PARTS | {"organisation.yaml": ORGANISATION}
    folder = written(tmp_path, files | {"policy/40.yaml": "# Later.\n", "policy/README.md": "Rules."})
    (folder / "policy" / ".10-base.yaml.swp").write_bytes(b"\xff")
    assert load_documents(files) == load_governance(folder)
    empty = load_documents({"policy/a.yaml": "", "policy/b.yaml": ""})
    assert load_documents({"policy.yaml": ""}) == empty


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        (
            {"policy/40-late.yaml": "rules: []\ndefaults: {mode: plan_first}\n"},
            "policy/40-late.yaml:2: fault one_file_only: 'defaults' is in policy/10-base.yaml:1 already",
        ),
        (
            {"policy/15.yaml": "budgets: {}\n"},
            "policy/20-money.yaml:1: fault one_file_only: 'budgets' is in policy/15.yaml:1 already",
        ),
        (
            {"policy/40-late.yaml": "\n\nbreakers: {}\n"},
            "policy/40-late.yaml:3: fault one_file_only: 'breakers' is in policy/20-money.yaml:2 already",
        ),
        (
            {"policy/40-late.yaml": "rules:\n  - {id: deploys, on: delivery, deny: true}\n"},
            "policy/40-late.yaml:2: fault duplicate_id: the rule id 'deploys' is used twice, first in policy/10",
        ),
        (
            {"policy/40-late.yaml": MORE[: MORE.index("rules")]},
            "policy/40-late.yaml:2: fault duplicate_id: the freeze id 'easter' is used twice, first in policy/30",
        ),
        (
            {"policy/40-late.yaml": "rules:\n  - {id: a, on: never, deny: true}\n"},
            "policy/40-late.yaml:2: fault invalid: 'never' is none of",
        ),
        ({"policy/40-late.yaml": "rules: {}\n"}, "policy/40-late.yaml:1: fault invalid: expected a list"),
        ({"policy/40-late.yaml": "- rules\n"}, "policy/40-late.yaml:1: fault invalid: expected a mapping"),
        ({"policy/40-late.yaml": "rulez: []\n"}, "policy/40-late.yaml:1: fault unknown_field: unknown field"),
        (
            {"policy/40-late.yaml": "rules: []\nrules: []\n"},
            "policy/40-late.yaml:2: fault invalid: 'rules' is",
        ),
        ({"policy/40-late.yaml": "\nrules: [\n"}, "policy/40-late.yaml:3: fault invalid: not YAML"),
        (
            {"policy.yaml": ""},
            "policy.yaml: fault invalid: is beside policy/10-base.yaml; a policy is in one file",
        ),
        (
            {"policy/40-late.yml": ""},
            "policy/40-late.yml: fault invalid: a policy in several files is read from",
        ),
        (
            {"policy/40 late.yaml": ""},
            "policy/40 late.yaml: fault invalid: a policy in several files is read from",
        ),
        ({"policy/deep/40.yaml": ""}, "policy/deep: fault invalid: a policy in several files is read from"),
        (
            {f"policy/x{n:02}.yaml": "" for n in range(MOST_PARTS)},
            "policy: fault invalid: has 67 files; a policy is in at most 64",
        ),
    ],
)
def test_a_fault_names_its_own_file(tmp_path: Path, files: dict[str, str], fault: str) -> None:
    """Whatever cannot be joined, or stands wrong in one file, is told with the file and the line that it is in."""
    (found,) = faults(written(tmp_path, PARTS | {"organisation.yaml": ORGANISATION} | files))
    assert found.startswith(fault)


def test_the_lint_goes_on_in_the_other_files(tmp_path: Path) -> None:
    """One file that is no YAML hides no fault of another, and rules are compared across files."""
    same = BASE[BASE.index("rules:") :].replace("id: deploys", "id: again")
    same = same[: same.index("    require")] + "    require: {mode: plan_first}\n"
    files = {
        "policy/10-base.yaml": BASE.replace("role: lead", "role: admin"),
        "policy/20.yaml": "rules: [",
        "policy/30.yaml": same,
        "policy/40.yaml": "rules:\n  - {id: b, on: never, deny: true}\n",
    }
    assert [
        "policy/20.yaml:1: fault invalid",
        "policy/30.yaml:2: fault shadowed",
        "policy/40.yaml:2: fault invalid",
    ] == [": ".join(f.split(": ")[:2]) for f in faults(written(tmp_path, files))]
    (shadowed,) = [r for r in lint(tmp_path, AT) if r.code == "shadowed"]
    assert f"'deploys' in {tmp_path}/policy/10-base.yaml:3 asks for at least as much" in shadowed.message


@pytest.mark.parametrize(
    ("documents", "words"),
    [
        ({**PARTS, "policy.yaml": ""}, "policy.yaml: is beside policy/10-base.yaml"),
        ({"policy/../../etc/passwd.yaml": ""}, "policy/../../etc/passwd.yaml: is no part of a bundle"),
        ({"policy/a.yaml\n": ""}, "policy/a.yaml\n: is no part of a bundle"),
        ({"policy/.yaml": ""}, "policy/.yaml: is no part of a bundle"),
        ({f"policy/{n}.yaml": "" for n in range(MOST_PARTS + 1)}, "policy: has 65 files"),
        (
            {"organisation.yaml": ""},
            "policy.yaml: is missing. A governance folder holds policy.yaml, or files",
        ),
    ],
)
def test_texts_are_read_by_the_names_that_a_folder_may_have(documents: dict[str, str], words: str) -> None:
    """What a folder could not hold is refused among texts too."""
    with pytest.raises(GovernanceInvalid) as caught:
        load_documents(documents)
    assert str(caught.value).startswith(words)


def test_a_policy_on_trial_may_be_in_several_files(tmp_path: Path) -> None:
    """The shadow is read as the policy in force is; a folder that holds none is no shadow."""
    files = {
        "policy/10.yaml": "rules: []\n",
        "shadow/policy/10.yaml": BASE.replace("role: lead", "role: admin"),
    }
    found = load_governance(written(tmp_path, files | {"shadow/policy/20.yaml": MONEY}))
    assert found.shadow is not None
    assert (["deploys"], 1) == (
        [rule.id for rule in found.shadow.policy.rules],
        len(found.shadow.policy.freezes),
    )
    written(tmp_path, {"shadow/policy.yaml": ""})
    with pytest.raises(GovernanceInvalid, match=r"shadow/policy\.yaml: is beside"):
        load_governance(tmp_path)


def test_the_commands_take_such_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`lint`, `test` and `explain` read it as they read one file, and say so where there is neither."""
    monkeypatch.chdir(tmp_path)
    cases = "- {name: a, hook: dispatch, facts: {task.tools: [psql]}, expect: {decision: deny}}\n"
    files = PARTS | {"organisation.yaml": ORGANISATION, "policy_tests.yaml": cases}
    written(tmp_path / "governance", files)
    (tmp_path / "facts.json").write_text('{"task.paths": ["deploy/a"]}')
    assert 0 == main(["policy", "lint"])
    assert 0 == main(["policy", "test"])
    assert "1 cases, 0 failed; 50 % of 2 rules covered" in capsys.readouterr().out
    assert 0 == main(["policy", "explain", "facts.json", "--hook", "task.received"])
    assert "allowed, with a plan first, by rule deploys" in capsys.readouterr().out
    (tmp_path / "empty" / "policy").mkdir(parents=True)
    for verb in ("lint", "test"):
        assert 2 == main(["policy", verb, "empty"])
        assert "empty has no policy.yaml, nor files in empty/policy" in capsys.readouterr().err


def test_what_changes_on_trial_is_told_apart() -> None:
    """A trial begins and ends as one change, and within it each thing is called the shadow's."""
    before, after = {"rules": [{"id": "a"}]}, {"rules": [{"id": "a"}, {"id": "b"}]}
    assert [] == shadow_differences(None, None)
    assert ["+ shadow policy"] == described(shadow_differences(None, before)).splitlines()
    assert ["- shadow policy"] == described(shadow_differences(before, None)).splitlines()
    assert ["+ shadow rule b"] == described(shadow_differences(before, after)).splitlines()
