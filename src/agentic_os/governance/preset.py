"""Governance folders to begin with: who is there, and how tightly they are governed, chosen apart and joined here."""

from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any, Final

from agentic_os.domain.documents import JsonObject
from agentic_os.governance.nodes import plain, written

TEAMS: Final = ("software", "marketing", "research", "executive-office", "blank")
MODELS: Final = ("strict", "balanced", "trusting")

_CHECKER: Final = "CHECKER"
"""What a model calls the role of agents that check others' work; each team has its own."""

_POLICY: Final = """\
# Which work may run directly, which is planned first, and who looks at it: {model} rules for the {team} preset.
# {says}
# The kind of a task is its label. A task without one falls under the defaults.
"""
_TESTS: Final = "# What policy.yaml must decide; a change of it that is not meant fails here.\n"
_SKILLS: Final = """\
# Which skills executors find in their workspaces. It comes into force with the policy, by `agentic-os apply`;
# bin/hydrate-runtime-skills brings the workspaces in step.

# Where skills lie; of two with one name, that of the first root counts. Skills of your own go into a folder before:
# source_roots: [./skills, package:agentic_os]
source_roots: [package:agentic_os]

# What everybody needs: to take up work or decline it, to plan it, to tell how it goes, to ask, to hand it in or over,
# and to review what others handed in. There are also attach-artifact and record-evidence.
global_defaults:
  - start-work
  - submit-plan
  - submit-result
  - submit-review
  - save-checkpoint
  - report-progress
  - escalate
  - hand-off
  - decline

# What joins them to other systems: to propose tasks, and to start work where Paperclip or GitHub woke them.
shared_integrations: [create-remediation, bridge-paperclip, bridge-github]

# What the executors of one project need besides, for instance {example}:
# project_defaults: {{{project}: [{skill}]}}

# Where the executors of a project work:
# workspaces: {{{project}: ~/{project}}}
"""
_README: Final = """\
# Governance

{title} team, {model} operating model.
{says}

- `organisation.yaml`: the roles, their charters and who reports to whom. Name your members there.
- `policy.yaml`: which work may run directly, which is planned first, and who looks at it.
- `policy_tests.yaml`: what the policy must decide, case by case. `agentic-os policy test {folder}` runs them, and
  `agentic-os policy lint {folder}` looks for faults.
- `skills.yaml`: the skills that executors find in their workspaces.

Start a server with it: `agentic-os up --governance {folder}`. On one that runs already, `agentic-os diff {folder}`
shows what would change, and `agentic-os apply {folder} --reason "..."` puts it in force. After a change of skills, run
`agentic-os skills hydrate --report` where the agents work.

## What each kind of task gets

| kind of task | label | begins with | plan and result are reviewed by |
|---|---|---|---|
{rows}

What falls under several rows gets the stricter of each.

- A task says its kind by its label: `agentic-os task new "TITLE" --label {label}`.
- An executor has a role: `agentic-os executor add NAME --role {checker}`. As long as no other executor has the
  role that reviews, people do.
- Whoever is to review needs a token for it: `agentic-os token add NAME --role reviewer`.
"""


def compose(team: str, model: str, folder: str = "governance") -> dict[str, str]:
    """Give the files of a preset: file name -> text. Raises FileNotFoundError for a team or model that is none."""
    who, how = _data("teams", team), _data("models", model)
    kinds = [_kind(kind, who["checker"], how["weights"]) for kind in who["kinds"]]
    policy = {**how["policy"], "rules": [*(rule for rule, _ in kinds), *how["policy"]["rules"]]}
    cases = [*(case for _, case in kinds), *how["cases"]]
    labels = {kind["what"]: f"`{kind['label']}`" for kind in who["kinds"]}
    header = _POLICY.format(team=team, model=model, says=how["says"])
    return {
        "organisation.yaml": who["organisation"],
        "policy.yaml": header + written(policy),
        "policy_tests.yaml": _TESTS + written({"cases": cases}),
        "skills.yaml": _SKILLS.format(**who["own_skill"]),
        "README.md": _README.format(
            title=who["title"].removesuffix(" team"),
            model=model,
            says=how["says"],
            folder=folder,
            label=who["kinds"][0]["label"],
            checker=who["checker"],
            rows="\n".join(_rows(cases, labels)),
        ),
    }


def _data(kind: str, name: str) -> Any:
    text = (files("agentic_os.governance") / "presets" / kind / f"{name}.yaml").read_text(encoding="utf-8")
    return plain(text)


def _kind(kind: JsonObject, checker: str, weights: JsonObject) -> tuple[JsonObject, JsonObject]:
    """Give the rule for a kind of task, and the case that holds it to what the model says of such work."""
    weight = _filled(weights[kind["weight"]], checker)
    rule = {
        "id": kind["label"],
        "on": "task.received",
        "when": {"all": [{"field": "task.labels", "any": [kind["label"]]}]},
        "require": weight["require"],
        "reason": weight["reason"],
    }
    case = {
        "name": kind["what"],
        "hook": "task.received",
        "facts": {"task.risk": "low", "task.labels": [kind["label"]]},
        "expect": {"decision": "allow", "rules": [kind["label"]], "obligations": weight["expect"]},
    }
    return rule, case


def _filled(value: Any, checker: str) -> Any:
    """Copy a part of a model with the team's own checker in it."""
    if isinstance(value, Mapping):
        return {name: _filled(part, checker) for name, part in value.items()}
    return checker if value == _CHECKER else value


def _rows(cases: list[JsonObject], labels: Mapping[str, str]) -> Iterator[str]:
    for case in cases:
        if case["expect"]["decision"] == "deny":
            yield f"| {case['name']} | | is refused | |"
            continue
        expected = case["expect"]["obligations"]
        begins = "a plan" if expected["mode"] == "plan_first" else "the work"
        label = labels.get(case["name"])
        yield f"| {case['name']} | {f'{label} ' if label else ''}| {begins} | {_review(expected)} |"


def _review(expected: JsonObject) -> str:
    reviewed = {"plan": expected["mode"] == "plan_first", "result": expected["result_review"]}
    what = [name for name, wanted in reviewed.items() if wanted]
    if not what:
        return "nobody"
    stages = expected["reviewers"]
    stages = stages if isinstance(stages, list) else [stages]
    return f"{' and '.join(what)}: {', then '.join(map(_who, stages))}"


def _who(reviewers: JsonObject) -> str:
    who = "a person" if reviewers["quorum"] == 1 else f"{reviewers['quorum']} people"
    if reviewers["by"] == "anyone":
        who = "an executor"
    return f"{who} with the role {reviewers['role']}"
