"""`agentic-os policy explain`, `lint` and `test` without a server: what they print, and their exit codes."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agentic_os.cli import main
from agentic_os.governance import GovernanceInvalid
from agentic_os.governance.policy_tests import read_policy_tests

Run = Callable[..., tuple[int, str]]
POLICY = """\
defaults: {mode: direct}
rules:
  - id: deploys
    on: task.received
    when: {all: [{field: task.paths, any_glob: ["deploy/**"]}]}
    require: {mode: plan_first, reviewers: {quorum: 2}, deadline: 4h, evidence: {tests: observed}, on_due: escalate}
  - id: no-databases
    on: dispatch
    when: {all: [{field: task.tools, any_glob: ["psql*"]}, {field: executor.roles, any: [developer]}]}
    deny: true
    reason: Agents have no business there.
"""
TESTS = """\
- name: a deploy needs a plan
  hook: task.received
  facts: {task.paths: [deploy/a.yaml], task.risk: low, task.assignee: null}
  expect:
    decision: allow
    rules: [deploys]
    obligations:
      mode: plan_first
      deadline: 4h
      evidence: {tests: observed}
      reviewers: {quorum: 2, role: reviewer, by: people}
      on_due: escalate
      result_review: false
- name: no databases
  hook: dispatch
  facts: {task.tools: [psql-production], executor.roles: [developer]}
  expect: {decision: deny}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a governance folder where the command looks for it."""
    monkeypatch.chdir(tmp_path)
    found = tmp_path / "governance"
    found.mkdir()
    (found / "policy.yaml").write_text(POLICY, encoding="utf-8")
    (found / "policy_tests.yaml").write_text(TESTS, encoding="utf-8")
    return found


@pytest.fixture
def policy(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `policy`; give its exit code and all that it printed."""

    def run(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        code = main(["policy", *map(str, arguments)])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


def test_a_decision_is_explained_without_a_server(
    folder: Path, policy: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Facts come from a file or from standard input, and the policy from the folder."""
    facts = {"task.tools": ["psql"], "executor.roles": ["developer"]}
    (folder.parent / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    code, text = policy("explain", "facts.json", "--hook", "dispatch")
    assert 0 == code
    assert "dispatch: denied, by rule no-databases" in text
    assert "allowed, if task.tools were []" in text
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(facts)))
    code, text = policy("explain", "-", folder, "--hook", "dispatch", "--json")
    found = json.loads(text)
    assert (0, "deny", ["no-databases"]) == (code, found["decision"], found["rules"])
    assert [{"field": "task.tools", "before": ["psql"], "after": []}] == found["flips"][0]["changes"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("facts.json",), "--hook"),
        ((), "--task"),
        (("nothing.json", "--hook", "dispatch"), "cannot be read"),
        (("list.json", "--hook", "dispatch"), "facts are a JSON object"),
        (("facts.json", "--hook", "dispatch"), "unknown task.colour; declared are: task.project"),
        (("facts.json", "--hook", "dispatch", "--task", "x"), "--task takes no FACTS"),
        (("0199f0aa-3c1e-7b52-9f0e-5d1f6f0a7c11", "--task", "x"), "--task takes no FACTS"),
        (("--task", "x", "--child", "y", "--hook", "dispatch"), "leave --hook out"),
        (("--child", "y"), "--task ID"),
        (("0199f0aa-3c1e-7b52-9f0e-5d1f6f0a7c11", "governance"), "is no decision's id"),
        (("4",), "4 is no decision's id"),
    ],
)
def test_wrong_usage_of_explain_is_told(
    folder: Path, policy: Run, arguments: tuple[str, ...], words: str
) -> None:
    """The exit code is 2, and the words say what is missing."""
    (folder.parent / "facts.json").write_text('{"task.colour": "red"}', encoding="utf-8")
    (folder.parent / "list.json").write_text("[]", encoding="utf-8")
    code, text = policy("explain", *arguments)
    assert (2, True) == (code, words in text), text


def test_lint_prints_each_fault_with_its_place(folder: Path, policy: Run) -> None:
    """A folder in order exits with 0, faults with 1, hints alone with 0, and a folder without a policy with 2."""
    assert (0, "governance: in order, 0 hints\n") == policy("lint")
    (folder / "policy.yaml").write_text(POLICY.replace("{mode: direct}", "{}"), encoding="utf-8")
    code, text = policy("lint", "governance")
    assert (0, True) == (code, "governance/policy.yaml:1: hint missing_default: " in text)
    (folder / "policy.yaml").write_text(POLICY.replace("psql*", 'psql*", 7, "x'), encoding="utf-8")
    code, text = policy("lint")
    assert (1, True) == (code, "governance/policy.yaml:9: fault invalid: expected str, got 7" in text), text
    code, text = policy("lint", "--json")
    found = json.loads(text)
    assert (1, False, 9) == (code, found["ok"], found["remarks"][0]["line"])
    assert 2 == policy("lint", "nowhere")[0]


def test_cases_pass_and_cover_the_rules(folder: Path, policy: Run) -> None:
    """Each case is named, and all rules are covered."""
    code, text = policy("test", "--require-coverage")
    assert (0, True) == (code, "2 cases, 0 failed; 100 % of 2 rules covered" in text), text
    code, text = policy("test", "--json")
    found = json.loads(text)
    assert (0, True, ["deploys"]) == (code, found["ok"], found["cases"][0]["matched"])
    assert {"rules": 2, "percent": 100.0, "unmatched": []} == found["coverage"]


def test_a_case_that_fails_shows_its_differences(folder: Path, policy: Run) -> None:
    """What was expected and what came are said on the line of the case, and the exit code is 1."""
    wrong = TESTS.replace("deadline: 4h", "deadline: null").replace("quorum: 2", "quorum: 1")
    wrong = wrong.replace("rules: [deploys]", "rules: []").replace("decision: deny", "decision: allow")
    (folder / "policy_tests.yaml").write_text(wrong, encoding="utf-8")
    code, text = policy("test")
    assert 1 == code
    assert [
        "FAIL  a deploy needs a plan",
        "      governance/policy_tests.yaml:1: rules: expected none, got deploys",
        "      governance/policy_tests.yaml:1: deadline_seconds: expected None, got 14400",
        "      governance/policy_tests.yaml:1: reviewers.quorum: expected 1, got 2",
        "FAIL  no databases",
        "      governance/policy_tests.yaml:14: decision: expected allow, got deny (Agents have no business there.)",
    ] == text.splitlines()[:6]


def test_cases_say_what_an_executor_must_have(folder: Path, policy: Run) -> None:
    """Capabilities in any order, and the tier; neither is null or empty where a rule asks for it."""
    asking = POLICY.replace("on_due: escalate}", "on_due: escalate, capabilities: [k8s, aws], tier: 2}")
    (folder / "policy.yaml").write_text(asking, encoding="utf-8")
    asked = "result_review: false\n      capabilities: [k8s, aws, k8s]\n      tier: 2"
    (folder / "policy_tests.yaml").write_text(TESTS.replace("result_review: false", asked), encoding="utf-8")
    assert 0 == policy("test")[0]
    wrong = asked.replace("[k8s, aws, k8s]", "[]").replace("tier: 2", "tier: null")
    (folder / "policy_tests.yaml").write_text(TESTS.replace("result_review: false", wrong), encoding="utf-8")
    code, text = policy("test")
    assert 1 == code
    assert "capabilities: expected [], got ['aws', 'k8s']" in text
    assert "tier: expected None, got 2" in text


def test_rules_that_no_case_matches_are_named(folder: Path, policy: Run) -> None:
    """They fail the run only where coverage is required."""
    (folder / "policy_tests.yaml").write_text(
        f"cases:\n{TESTS[: TESTS.index('- name: no')]}", encoding="utf-8"
    )
    code, text = policy("test")
    assert (0, True) == (code, "50 % of 2 rules covered\n  in no case: no-databases" in text)
    assert 1 == policy("test", "--require-coverage")[0]
    (folder / "policy_tests.yaml").unlink()
    assert 2 == policy("test")[0]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("x\n", 1, "expected a list"),
        ("tests: []\n", 1, "unknown field 'tests'"),
        ("- name: a\n  hook: dispatch\n  facts: {}\n", 1, "the field 'expect' is missing"),
        ("- name: a\n  hook: later\n  facts: {}\n  expect: {decision: deny}\n", 2, "'later' is none of"),
        (
            TESTS + "- name: no databases\n  hook: dispatch\n  facts: {}\n  expect: {decision: deny}\n",
            18,
            "twice",
        ),
        (TESTS.replace("task.risk: low", "task.risk: tiny"), 3, "'tiny' is none of: low"),
        (TESTS.replace("task.risk: low", "task.colour: red"), 3, "unknown field 'task.colour'"),
        (
            TESTS.replace("task.risk: low", "parent.depth: 1"),
            3,
            "parent.depth is known on task.proposed only",
        ),
        (TESTS.replace("[deploy/a.yaml]", "deploy"), 3, "expected a list"),
        (TESTS.replace("decision: allow", "decision: maybe"), 5, "'maybe' is none of: allow, deny"),
        (TESTS.replace("deadline: 4h", "deadline: soon"), 9, "not a duration"),
        (TESTS.replace("mode: plan_first", "quorum: 1"), 8, "unknown field 'quorum'"),
        (TESTS.replace("decision: allow", "decision: deny"), 8, "obligations are of what is allowed"),
    ],
)
def test_a_fault_in_the_cases_has_its_line(
    folder: Path, policy: Run, text: str, line: int, words: str
) -> None:
    """It is told as a fault of the policy is, and the exit code is 1."""
    path = folder / "policy_tests.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(GovernanceInvalid) as caught:
        read_policy_tests(path)
    assert f"{path}:{line}: " in str(caught.value)
    assert words in str(caught.value)
    assert 1 == policy("test")[0]


def test_an_empty_file_has_no_cases(folder: Path, policy: Run) -> None:
    """Nothing fails, and nothing is covered."""
    (folder / "policy_tests.yaml").write_text("", encoding="utf-8")
    code, text = policy("test")
    assert (0, True) == (code, text.startswith("0 cases, 0 failed; 0 %"))
