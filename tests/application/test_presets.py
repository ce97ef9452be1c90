"""Presets: each team under each operating model loads, decides what its cases say, and says so in its table."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentic_os.governance import Governance, load_documents
from agentic_os.governance.nodes import plain
from agentic_os.governance.preset import MODELS, TEAMS, compose
from agentic_os.hydration import load_definition, resolve

EVERY = [(team, model) for team in TEAMS for model in MODELS]


def loaded(files: Mapping[str, str]) -> Governance:
    """Load the files of a preset as a server does."""
    return load_documents({name: files[name] for name in ("policy.yaml", "organisation.yaml")})


def assert_contains(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Hold a part of the obligations to what is expected of it."""
    for name, value in expected.items():
        if isinstance(value, Mapping):
            assert_contains(found[name], value)
        else:
            assert value == found[name], name


@pytest.mark.parametrize(("team", "model"), EVERY)
def test_a_preset_decides_what_its_cases_say(team: str, model: str) -> None:
    """Each case gets its decision by exactly its rules with at least its obligations, and each rule has a case."""
    files = compose(team, model)
    policy = loaded(files).policy
    seen = set()
    cases = plain(files["policy_tests.yaml"])["cases"]
    for case in cases:
        verdict = policy.decide(case["hook"], case["facts"])
        expected = case["expect"]
        assert expected["decision"] == verdict.decision, case["name"]
        assert expected["rules"] == list(verdict.rules), case["name"]
        assert_contains(asdict(verdict.obligations), expected.get("obligations", {}))
        seen.update(verdict.rules)
    assert {rule.id for rule in policy.rules} == seen
    assert len(cases) == len({case["name"] for case in cases})


@pytest.mark.parametrize(("team", "model"), EVERY)
def test_a_preset_says_what_each_kind_gets(team: str, model: str) -> None:
    """The table has a row for each kind of task, with the mode that policy gives it."""
    files = compose(team, model)
    policy = loaded(files).policy
    rows = [row.split("|") for row in files["README.md"].splitlines() if row.startswith("| ")]
    kinds = {row[2].strip(" `"): row for row in rows if "`" in row[2]}
    assert {r.id for r in policy.rules if "labels" in str(r.when)} == kinds.keys()
    for label, row in kinds.items():
        found = policy.decide("task.received", {"task.risk": "low", "task.labels": [label]}).obligations
        assert ("a plan" if found.mode == "plan_first" else "the work") == row[3].strip()
        looked_at = found.mode == "plan_first" or found.result_review
        assert (f"role {found.reviewers.role}" if looked_at else "nobody") in row[4]


@pytest.mark.parametrize("team", TEAMS)
def test_the_roles_of_a_team_are_charted(team: str) -> None:
    """Every role has a charter, one is above all others, and whoever checks is among them."""
    roles = loaded(compose(team, "balanced")).organisation.roles
    assert all(role.charter for role in roles.values())
    assert team == "blank" or 1 == sum(role.reports_to is None for role in roles.values())
    reviewed = {r.obligations.reviewers.role for r in loaded(compose(team, "trusting")).policy.rules}
    assert reviewed - {"reviewer"} <= roles.keys()
    assert reviewed - {"reviewer"}


@pytest.mark.parametrize("team", TEAMS)
def test_models_differ_and_teams_do_not_follow_from_them(team: str) -> None:
    """The organisation is the team's alone, and each model gives it another policy."""
    made = [compose(team, model) for model in MODELS]
    assert 1 == len({files["organisation.yaml"] for files in made})
    assert len(MODELS) == len({files["policy.yaml"] for files in made})


def test_a_strict_model_never_asks_for_less() -> None:
    """Of each kind, what balanced plans first strict plans first too, and so on down to trusting."""
    for team in TEAMS:
        kinds = [c["facts"] for c in plain(compose(team, "strict")["policy_tests.yaml"])["cases"][:-1]]
        for facts in kinds:
            modes = [
                loaded(compose(team, model)).policy.decide("task.received", facts).obligations.mode
                for model in MODELS
            ]
            assert modes == sorted(modes, reverse=True)


def test_what_is_written_reads_the_same_everywhere() -> None:
    """The word `on` stands without quotes, and a reader of our own takes it for the word."""
    text = compose("blank", "strict")["policy.yaml"]
    assert "\n    on: task.received\n" in text
    assert "on" in plain(text)["rules"][0]
    assert yaml.safe_load(text)["defaults"] == plain(text)["defaults"]


@pytest.mark.parametrize("team", TEAMS)
def test_the_skills_of_a_preset_are_there(tmp_path: Path, team: str) -> None:
    """They are those that the package gives everybody, and what stands there as a comment is right too."""
    text = compose(team, "balanced")["skills.yaml"]
    path = tmp_path / "skills.yaml"
    path.write_text(text, encoding="utf-8")
    found = load_definition(path)
    assert load_definition(None).global_defaults == found.global_defaults
    assert load_definition(None).shared_integrations == found.shared_integrations
    assert resolve(load_definition(None), "default").digest == resolve(found, "default").digest

    commented = re.sub(r"(?m)^source_roots.*\n", "", text)
    path.write_text(re.sub(r"(?m)^# (?=[a-z_]+: )", "", commented), encoding="utf-8")
    (tmp_path / "skills").mkdir()
    ((project, (own,)),) = load_definition(path).project_defaults.items()
    skill = tmp_path / "skills" / own
    skill.mkdir()
    (skill / "SKILL.md").write_text(f"---\nname: {own}\ndescription: What we do.\n---\n", encoding="utf-8")
    assert {*found.global_defaults, *found.shared_integrations, own} == {
        s.name for s in resolve(load_definition(path), project).skills
    }
    assert Path("~", project).expanduser() == load_definition(path).workspaces[project]
