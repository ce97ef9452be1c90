"""The governance folder: YAML into policy, each fault with its file and line."""

import contextlib
import json
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentic_os.contracts.canonical import digest_of
from agentic_os.domain.budgets import Amounts, Ceiling
from agentic_os.domain.conditions import Condition, Group
from agentic_os.domain.hooks import CLOSED, FIELDS, HOOKS, UNASKED
from agentic_os.domain.policy import (
    ASKABLE,
    NONE,
    THENS,
    Breaker,
    Breakers,
    FreezeWindow,
    Obligations,
    RateBreaker,
    Reviewers,
    Rule,
)
from agentic_os.governance import GovernanceInvalid, load_governance, recorded_policy
from agentic_os.governance.difference import differences

FREEZE = "freezes:\n  - id: a\n    projects: ['*']\n    from: 2030-01-01T00:00:00Z\n"
RECURS = "freezes:\n  - id: a\n    projects: ['*']\n    time_zone: Europe/Berlin\n"
"""Four lines, so that what follows begins on line 5."""

HEAD = "rules:\n  - id: a\n    on: task.received\n"
"""Three lines, so that what follows begins on line 4."""


def load(folder: Path, text: str):
    """Load a policy file."""
    (folder / "policy.yaml").write_text(text, encoding="utf-8")
    return load_governance(folder)


def refusal(folder: Path, text: str) -> tuple[int | None, str]:
    """Load a policy file that must be refused; give the line and the message."""
    with pytest.raises(GovernanceInvalid) as caught:
        load(folder, text)
    name, _, rest = str(caught.value).removeprefix(f"{folder}{os.sep}").partition(":")
    assert "policy.yaml" == name
    line, _, message = rest.partition(": ")
    return (int(line), message) if line.isdecimal() else (None, rest.strip())


def test_a_policy_is_read(tmp_path: Path):
    """Every part of a rule and of the defaults arrives as it was written."""
    governance = load(
        tmp_path,
        """
defaults: { mode: plan_first, deadline: 2d, on_timeout: escalate, bare_approve: true, result_review: true }
rules:
  - id: prod
    on: task.received
    when:
      all:
        - { field: task.project, eq: payments }
        - { field: task.paths, any_glob: ["deploy/**"] }
        - { field: task.requester, in: [rita, omar] }
        - { field: task.risk, gte: high }
    require:
      mode: plan_first
      reviewers: { role: admin, quorum: 2 }
      deadline: 4h
      on_timeout: block
      evidence: { tests: independent, "*": observed }
      independent_human: true
    reason: Changes to deployment reach customers.
  - id: not-ada
    on: dispatch
    when: { all: [ { field: executor.name, eq: ada } ] }
    deny: true
""",
    )
    prod, not_ada = governance.policy.rules
    assert (
        Rule(
            id="prod",
            on="task.received",
            when=(
                Condition(field="task.project", operator="eq", value="payments"),
                Condition(field="task.paths", operator="any_glob", value=["deploy/**"]),
                Condition(field="task.requester", operator="in", value=["rita", "omar"]),
                Condition(field="task.risk", operator="gte", value="high"),
            ),
            obligations=Obligations(
                mode="plan_first",
                reviewers=Reviewers(role="admin", quorum=2, by="people"),
                deadline_seconds=14400,
                on_timeout="block",
                evidence={"*": "observed", "tests": "independent"},
                independent_human=True,
            ),
            reason="Changes to deployment reach customers.",
        )
        == prod
    )
    assert ("not-ada", "dispatch", "deny", NONE) == (
        not_ada.id,
        not_ada.on,
        not_ada.effect,
        not_ada.obligations,
    )
    assert (
        Obligations(
            mode="plan_first",
            deadline_seconds=172_800,
            on_timeout="escalate",
            bare_approve=True,
            result_review=True,
        )
        == governance.policy.defaults
    )
    assert digest_of(governance.document) == governance.policy.bundle


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        # unknown fields
        ("rule: []\n", 1, "unknown field 'rule'; expected one of: defaults, rules"),
        ("defaults:\n  mode: direct\n  quorum: 2\n", 3, "unknown field 'quorum'"),
        (HEAD + "    deny: true\n    unless: x\n", 5, "unknown field 'unless'"),
        (HEAD + "    require: { reviewers: { roles: x } }\n", 4, "unknown field 'roles'"),
        (HEAD + "    when: { any: [] }\n    deny: true\n", 4, "any joins at least one condition"),
        (
            HEAD + "    when:\n      all:\n        - field: task.colour\n          eq: red\n    deny: true\n",
            6,
            "'task.colour'",
        ),
        (
            HEAD + "    when: { all: [ { field: task.risk, below: low } ] }\n    deny: true\n",
            4,
            "unknown field 'below'",
        ),
        (HEAD + "    deny: true\n    <<: { reason: x }\n", 5, "expected str, got what is no value"),
        # wrong types
        (HEAD + "    deny: true\n    reason: 2030-13-45\n", 5, "no value"),
        (HEAD + "    deny: !!bool maybe\n", 4, "no value"),
        (HEAD + "    deny: trueish\n", 4, "expected bool, got 'trueish'"),
        (HEAD + "    deny: yes\n", 4, "expected bool, got 'yes'"),
        ("[]\n", 1, "expected a mapping"),
        ("just text\n", 1, "expected a mapping"),
        ("rules: {}\n", 1, "expected a list"),
        ("rules:\n  - a\n", 2, "expected a mapping"),
        ("defaults:\n  bare_approve: 'yes'\n", 2, "expected bool, got 'yes'"),
        ("defaults:\n  mode: 1\n", 2, "expected str, got 1"),
        ("defaults:\n  mode: sometimes\n", 2, "'sometimes' is none of: direct, plan_first"),
        ("defaults:\n  reviewers: { quorum: true }\n", 2, "expected int, got True"),
        ("defaults:\n  reviewers: { quorum: 0 }\n", 2, "quorum is between 1 and 20"),
        ("defaults:\n  reviewers: { role: tech-lead }\n", 2, "'tech-lead' is none of: reviewer, admin"),
        ("defaults:\n  reviewers: { role: qa, by: people }\n", 2, "executors of any role need `by: anyone`"),
        ("defaults:\n  reviewers: { role: qa, by: robots }\n", 2, "'robots' is none of: people, anyone"),
        ("defaults:\n  reviewers: { role: 'a b', by: anyone }\n", 2, "'a b' is no role"),
        ("defaults:\n  evidence: { tests: proven }\n", 2, "'proven' is none of: self_reported"),
        ("defaults:\n  evidence: { 1: observed }\n", 2, "expected str, got 1"),
        (HEAD + "    deny: 1\n", 4, "expected bool, got 1"),
        (HEAD + "    deny: true\n    reason: 2030-01-01\n", 5, "expected str"),
        ("rules:\n  - id: a\n    on: birth\n    deny: true\n", 3, "'birth' is none of"),
        (
            HEAD + "    when: { all: [ { field: task.project, eq: 7 } ] }\n    deny: true\n",
            4,
            "expected str, got 7",
        ),
        (
            HEAD + "    when: { all: [ { field: task.project, eq: 2030-01-01 } ] }\n    deny: true\n",
            4,
            "expected str",
        ),
        (
            HEAD + "    when: { all: [ { field: task.project, in: web } ] }\n    deny: true\n",
            4,
            "expected a list",
        ),
        (
            HEAD + "    when: { all: [ { field: task.paths, any_glob: [7] } ] }\n    deny: true\n",
            4,
            "expected str, got 7",
        ),
        (
            HEAD + "    when: { all: [ { field: task.risk, gte: .nan } ] }\n    deny: true\n",
            4,
            "expected str",
        ),
        (
            HEAD + "    when: { all: [ { field: task.risk, gte: severe } ] }\n    deny: true\n",
            4,
            "'severe' is none of: low",
        ),
        # expressions
        (HEAD + "    when: task.colour == 'red'\n    deny: true\n", 4, "unknown field 'task.colour'"),
        (HEAD + "    when: colour == 'red'\n    deny: true\n", 4, "unknown field 'colour'"),
        (
            HEAD + "    when: attempt.count > 1\n    deny: true\n",
            4,
            "attempt.count is known on attempt.ended only",
        ),
        (HEAD + "    when: task.risk ==\n    deny: true\n", 4, "no expression of CEL: <input>:1:"),
        (HEAD + "    when: now() > 1\n    deny: true\n", 4, "unknown function 'now'"),
        (HEAD + "    when: task['risk'] == 'low'\n    deny: true\n", 4, "unknown field 'task'"),
        (HEAD + "    when: task.risk == 'low' // all\n    deny: true\n", 4, "no comments"),
        (HEAD + '    when: "true\\n|| false"\n    deny: true\n', 4, "one line"),
        (HEAD + f"    when: task.risk == '{'x' * 500}'\n    deny: true\n", 4, "at most 500 characters"),
        (HEAD + "    when: true\n    deny: true\n", 4, "expected str, got True"),
        (
            HEAD
            + "    when: task.paths.all(a, task.paths.all(b, task.paths.exists(c, a == c)))\n    deny: true\n",
            4,
            "at most 2 times",
        ),
        (
            HEAD + "    when: task.paths.all(task, task == 'x')\n    deny: true\n",
            4,
            "bind another name",
        ),
        # what a hook does not take
        (
            "rules:\n  - id: a\n    on: attempt.ended\n    deny: true\n",
            4,
            "has nothing to deny; it requires then",
        ),
        ("rules:\n  - id: a\n    on: escalation.raised\n    deny: true\n", 4, "it requires ask"),
        (
            "rules:\n  - id: a\n    on: attempt.ended\n    require: {then: hope}\n",
            4,
            "'hope' is none of: default",
        ),
        (
            "rules:\n  - id: a\n    on: attempt.ended\n    require: {mode: direct}\n",
            4,
            "unknown field 'mode'",
        ),
        ("rules:\n  - id: a\n    on: attempt.ended\n    require: {}\n", 4, "the field 'then' is missing"),
        (
            "rules:\n  - id: a\n    on: escalation.raised\n    require: {ask: qa}\n",
            4,
            "'qa' is none of: operator",
        ),
        (
            "rules:\n  - id: a\n    on: plan.submitted\n    require: {mode: direct}\n",
            4,
            "unknown field 'mode'",
        ),
        (
            "rules:\n  - id: a\n    on: plan.submitted\n    require: {on_due: notify}\n",
            4,
            "unknown field 'on_due'",
        ),
        (
            "rules:\n  - id: a\n    on: plan.submitted\n    require: {evidence: {}}\n",
            4,
            "unknown field 'evidence'",
        ),
        (
            "rules:\n  - id: a\n    on: directive\n    require: {mode: direct}\n",
            4,
            "a rule on directive can only allow or deny",
        ),
        (HEAD + "    require: { then: retry }\n", 4, "unknown field 'then'"),
        # what could never hold, or never matter
        (
            HEAD + "    when: { all: [ { field: task.paths, eq: a } ] }\n    deny: true\n",
            4,
            "task.paths is a list: use any_glob",
        ),
        (
            HEAD + "    when: { all: [ { field: task.project, gte: high } ] }\n    deny: true\n",
            4,
            "gte is for risks and numbers",
        ),
        (
            HEAD + "    when: { all: [ { field: executor.name, eq: a } ] }\n    deny: true\n",
            4,
            "is known on dispatch, plan.submitted",
        ),
        (
            HEAD + "    when: { all: [ { field: attempt.step, eq: review } ] }\n    deny: true\n",
            4,
            "is known on dispatch, plan.submitted",
        ),
        (
            "rules:\n  - id: a\n    on: dispatch\n    require: { mode: plan_first }\n",
            4,
            "a rule on dispatch can only allow or deny",
        ),
        # what is missing, or there twice
        ("rules:\n  - on: task.received\n    deny: true\n", 2, "a rule needs 'id'"),
        ("rules:\n  - id: a\n    deny: true\n", 2, "a rule needs 'on'"),
        (HEAD, 2, "a rule has exactly one of 'require', 'allow' and 'deny'"),
        (
            HEAD + "    deny: true\n    require: {}\n",
            2,
            "a rule has exactly one of 'require', 'allow' and 'deny'",
        ),
        (HEAD + "    when: {}\n    deny: true\n", 4, "joined by exactly one of all, any, not"),
        (HEAD + "    when: { all: [ { eq: a } ] }\n    deny: true\n", 4, "the field 'field' is missing"),
        (
            HEAD + "    when: { all: [ { field: task.project } ] }\n    deny: true\n",
            4,
            "exactly one of eq, in",
        ),
        (
            HEAD + "    when: { all: [ { field: task.project, eq: a, in: [a] } ] }\n    deny: true\n",
            4,
            "exactly one of",
        ),
        ("rules: []\nrules: []\n", 2, "'rules' is given twice"),
        ("defaults:\n  mode: direct\n  mode: plan_first\n", 3, "'mode' is given twice"),
        (
            HEAD + "    deny: true\n  - id: a\n    on: dispatch\n    deny: true\n",
            5,
            "the rule id 'a' is used twice",
        ),
        # when nothing may begin, and how often something may
        (FREEZE, 2, "the field 'until' is missing"),
        (FREEZE + "    until: 2030-01-01T00:00:00Z\n", 5, "a freeze ends after it begins"),
        (FREEZE + "    until: 2030-01-02T00:00:00\n", 5, "needs its offset"),
        (FREEZE + "    until: 2030-01-02\n", 5, "needs its offset"),
        (FREEZE + "    until: tomorrow\n", 5, "'tomorrow' is not a time"),
        (FREEZE + "    until: 7\n", 5, "expected str, got 7"),
        (FREEZE + "    until: 2030-02-30T00:00:00Z\n", 5, "is not a time"),
        (FREEZE + "    until: 2031-01-01T00:00:00Z\n    cron: x\n", 4, "unknown field 'from'"),
        (FREEZE + "    for: 1h\n", 5, "unknown field 'for'"),
        (RECURS + "    cron: 0 18 * * 5\n", 2, "the field 'for' is missing"),
        (RECURS + "    cron: 0 18 * *\n    for: 1h\n", 5, "is not a cron expression of five fields"),
        (RECURS + "    cron: 0 25 * * *\n    for: 1h\n", 5, "Bad hour"),
        (RECURS + "    cron: 0 0 30 2 *\n    for: 1h\n", 5, "a day that never comes"),
        (RECURS + "    cron: 7\n    for: 1h\n", 5, "expected str, got 7"),
        (RECURS + "    cron: 0 18 * * *\n    for: 24h\n", 6, "would begin again before it ends"),
        (RECURS + "    cron: 0 0 1 * *\n    for: 28d\n", 6, "the next may come 28 days"),
        (RECURS + "    cron: 0 0 1 * *\n    for: 0h\n", 6, "is not a duration"),
        (
            RECURS.replace("Europe/Berlin", "Mars/Base") + "    cron: 0 18 * * 5\n    for: 1h\n",
            4,
            "'Mars/Base' is no time zone",
        ),
        (
            "freezes:\n  - {id: a, from: 2030-01-01T00:00:00Z, until: 2031-01-01T00:00:00Z, projects: []}\n",
            2,
            "no project is named",
        ),
        (
            "freezes:\n"
            + 2 * "  - {id: a, from: 2030-01-01T00:00:00Z, until: 2031-01-01T00:00:00Z, projects: [a]}\n",
            3,
            "the freeze id 'a' is used twice",
        ),
        (
            "breakers: { project: {} }\n",
            1,
            "unknown field 'project'; expected one of: task, executor, adoption",
        ),
        ("breakers:\n  adoption: { attempts: 3, within: 1h }\n", 2, "unknown field 'attempts'"),
        ("breakers:\n  routine: { count: 3 }\n", 2, "the field 'within' is missing"),
        ("breakers:\n  task_request: { count: 0, within: 1h }\n", 2, "count is between 1 and 100000"),
        ("breakers:\n  task: { attempts: 3 }\n", 2, "the field 'within' is missing"),
        ("breakers:\n  task: { attempts: 0, within: 10m }\n", 2, "attempts is between 1 and 100000"),
        ("breakers:\n  task: { attempts: 3, within: soon }\n", 2, "is not a duration"),
        ("defaults: { on_due: cancel }\n", 1, "'cancel' is none of: notify, escalate"),
        # no YAML
        # budgets
        (
            "budgets:\n  week: {}\n",
            2,
            "unknown field 'week'; expected one of: project, executor, day, attempt",
        ),
        (
            "budgets:\n  day:\n    cost: 5\n",
            3,
            "unknown field 'cost'; expected one of: cost_microusd, tokens",
        ),
        ("budgets:\n  project:\n    lab:\n      tokens: -1\n", 4, "tokens is between 0 and 9007199254740991"),
        ("budgets:\n  attempt: {tokens: 1.5}\n", 2, "expected int"),
        ("budgets:\n  attempt: {tokens: true}\n", 2, "expected int"),
        ("budgets:\n  project:\n    lab: {}\n", 3, "a budget says cost_microusd, tokens or both"),
        ("budgets:\n  project: [lab]\n", 2, "expected a mapping"),
        (HEAD + "    deny: false\n", 4, "deny is true; without the rule it is not so"),
        (HEAD + "    allow: false\n", 4, "allow is true; without the rule it is not so"),
        (HEAD + "    allow: true\n    deny: true\n", 2, "a rule has exactly one of"),
        ("rules:\n  - id: a\n    on: attempt.ended\n    allow: true\n", 4, "has nothing to allow"),
        ("defaults: {deny: true}\n", 1, "expected a list"),
        ("defaults:\n  deny: [task.done]\n", 2, "'task.done' is none of"),
        ("defaults:\n  deny: [attempt.ended]\n", 2, "'attempt.ended' is none of"),
        ("rules: [\n  }\n", 2, "not YAML"),
        ("a: 1\n b: 2\n", 2, "not YAML"),
        ("rules: !python/object:os.system []\n", 1, "not YAML"),
        ("--- 1\n--- 2\n", 2, "not YAML"),
        ("rules: *nowhere\n", 1, "not YAML"),
        ("rules: \x01\n", None, "not YAML"),
        ("? [a]\n: b\n", 1, ""),
    ],
)
def test_a_fault_is_named_with_its_file_and_line(tmp_path: Path, text: str, line: int | None, words: str):
    """Whatever is wrong with the file, the answer says where, and what was expected instead."""
    found, message = refusal(tmp_path, text)
    assert (line, True) == (found, words in message), message


def test_freezes_and_breakers_are_read(tmp_path: Path):
    """Instants with their offsets, patterns and spans arrive as written; the document stays what JSON can hold."""
    governance = load(
        tmp_path,
        """
freezes:
  - { id: year-end, from: 2030-12-24T12:00:00Z, until: "2031-01-02T08:00:00+01:00", projects: [pay*], reason: Closed. }
breakers:
  task: { attempts: 3, within: 10m }
  executor: { attempts: 50, within: 1h }
  adoption: { count: 5, within: 1h }
  task_request: { count: 20, within: 10m }
  routine: { count: 9, within: 1d }
""",
    )
    (freeze,) = governance.policy.freezes
    start, end = datetime(2030, 12, 24, 12, tzinfo=UTC), datetime(2031, 1, 2, 7, tzinfo=UTC)
    assert ("year-end", start, end, ("pay*",), "Closed.") == (
        freeze.id,
        freeze.start,
        freeze.until,
        freeze.projects,
        freeze.reason,
    )
    assert governance.policy.breakers == Breakers(
        task=Breaker(attempts=3, within=timedelta(minutes=10)),
        executor=Breaker(attempts=50, within=timedelta(hours=1)),
        adoption=RateBreaker(count=5, within=timedelta(hours=1)),
        task_request=RateBreaker(count=20, within=timedelta(minutes=10)),
        routine=RateBreaker(count=9, within=timedelta(days=1)),
    )
    assert "2030-12-24T12:00:00Z" == governance.document["freezes"][0]["from"]
    assert digest_of(governance.document) == governance.policy.bundle


def test_recurring_freezes_are_read(tmp_path: Path):
    """Each occurrence is a window of its own, beside those that come once, and the bundle is read again as it was."""
    text = """
freezes:
  - { id: weekend, cron: "0 18 * * 5", time_zone: Europe/Berlin, for: 62h, projects: [pay*], reason: Quiet. }
  - { id: once, from: 2030-01-05T00:00:00Z, until: 2030-01-06T00:00:00Z, projects: ["*"] }
"""
    governance = load(tmp_path, text)
    policy, friday = governance.policy, datetime(2030, 1, 4, 17, tzinfo=UTC)
    for week in range(2):
        start = friday + timedelta(weeks=week)
        window = policy.frozen("payments", start + timedelta(hours=20))
        assert window == FreezeWindow(
            id="weekend", start=start, until=start + timedelta(hours=62), projects=("pay*",), reason="Quiet."
        )
        assert None is policy.frozen("payments", start + timedelta(hours=62))
    assert "once" == getattr(policy.frozen("shop", friday + timedelta(hours=20)), "id", None)
    assert None is policy.frozen("shop", friday)
    document = json.loads(json.dumps(governance.document))
    assert policy == recorded_policy(policy.bundle, document)
    later = load(tmp_path, text.replace("62h", "60h"))
    (change,) = differences(governance.document, later.document)
    assert ("freeze", "weekend", "changed", "for") == (
        change.kind,
        change.name,
        change.change,
        change.parts[0].path,
    )


@pytest.mark.parametrize(
    ("project", "moment", "expected"),
    [
        ("payments", datetime(2030, 1, 1, tzinfo=UTC), "short"),
        ("payments", datetime(2030, 1, 2, tzinfo=UTC), "long"),
        ("payments", datetime(2030, 1, 3, tzinfo=UTC), "long"),
        ("payments", datetime(2030, 1, 5, tzinfo=UTC), None),
        ("website", datetime(2030, 1, 2, tzinfo=UTC), None),
    ],
)
def test_of_several_freezes_the_last_to_end_holds(
    tmp_path: Path, project: str, moment: datetime, expected: str | None
):
    """A freeze holds from its start to just before its end, for the projects that it names."""
    policy = load(
        tmp_path,
        """
freezes:
  - { id: long, from: 2030-01-02T00:00:00Z, until: 2030-01-05T00:00:00Z, projects: [pay*] }
  - { id: short, from: 2030-01-01T00:00:00Z, until: 2030-01-03T00:00:00Z, projects: [payments] }
""",
    ).policy
    found = policy.frozen(project, moment)
    assert expected == (found and found.id)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("defaults: { on_due: escalate }\n", "escalate"),
        (HEAD + "    require: { on_due: escalate }\n", "escalate"),
        (HEAD + "    require: { on_due: notify }\n", "notify"),
        (HEAD + "    require: { mode: direct }\n", "notify"),
    ],
)
def test_what_happens_to_late_work_is_policys(tmp_path: Path, text: str, expected: str):
    """Escalation wins over notification, whichever rule or default asks for it."""
    verdict = load(tmp_path, text).policy.decide("task.received", {"task.mode": "direct"})
    assert expected == verdict.on_due


@pytest.mark.parametrize(
    ("written", "seconds"), [("1s", 1), ("30m", 1800), ("4h", 14400), ("2d", 172_800), ("366d", 31_622_400)]
)
def test_durations_have_a_number_and_a_unit(tmp_path: Path, written: str, seconds: int):
    """A deadline is written like 30m, 4h or 2d."""
    assert seconds == load(tmp_path, f"defaults: {{ deadline: {written} }}").policy.defaults.deadline_seconds


@pytest.mark.parametrize(
    "written",
    [
        "'4'",
        "4",
        "h",
        "''",
        "4 h",
        "-4h",
        "0h",
        "1.5h",
        "4w",
        "4H",
        "1h30m",
        "367d",
        "9" * 5000 + "d",
        "\u0664h",
        "null",
    ],
)
def test_bad_durations_are_refused(tmp_path: Path, written: str):
    """What is no duration, none at all, or longer than a year is refused with its line."""
    line, message = refusal(tmp_path, f"defaults:\n  mode: direct\n  deadline: {written}\n")
    assert (3, True) == (line, "duration" in message or "expected str" in message or "year" in message)


def test_a_deadline_without_an_outcome_does_what_the_defaults_say(tmp_path: Path):
    """A rule that only sets a deadline lets nothing proceed that the defaults do not let proceed."""
    rule = HEAD + "    require: { mode: plan_first, deadline: 4h }\n"
    facts = {"task.mode": "direct"}
    for defaults, expected in (("", "block"), ("defaults: { on_timeout: escalate }\n", "escalate")):
        policy = load(tmp_path, defaults + rule).policy
        assert expected == policy.decide("task.received", facts).obligations.on_timeout


def test_budgets_are_read_and_part_of_the_bundle(tmp_path: Path):
    """Projects and executors by name, the day and an attempt arrive as written, and name the accounts of an attempt."""
    text = (
        "budgets: {project: {lab: {tokens: 7}, '*': {cost_microusd: 1_000}}, executor: {coder: {tokens: 8}}, "
        "day: {tokens: 9}, attempt: {tokens: 2}}"
    )
    policy = load(tmp_path, text).policy
    at = datetime(2030, 1, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    day = Ceiling(account="tokens:day:2029-12-31", limit=9)
    lab, coder = (
        Ceiling(account=a, limit=n) for a, n in (("tokens:project:lab", 7), ("tokens:executor:coder", 8))
    )
    assert (lab, coder, day) == policy.budgets.ceilings("lab", "coder", at)
    assert (Ceiling(account="cost:project:x", limit=1000), day) == policy.budgets.ceilings("x", "bob", at)
    assert Amounts(tokens=2) == policy.budgets.attempt
    assert policy.bundle != load(tmp_path, text.replace("7", "6")).policy.bundle
    assert () == load(tmp_path, "rules: []").policy.budgets.ceilings("lab", "coder", at)


def test_without_a_folder_the_blank_policy_is_in_force():
    """No folder is no rule: everything is allowed under defaults that ask for a digest in an approval."""
    governance = load_governance(None)
    assert ((), Obligations(bare_approve=False)) == (governance.policy.rules, governance.policy.defaults)
    expected = "sha256:ee56c0951b15dd1232307768a2dfee69a51be3ae7d2a402953a78ea94329b926"
    assert expected == governance.policy.bundle == digest_of({"defaults": {}, "rules": []})


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}\n"])
def test_an_empty_file_is_a_policy_without_rules(tmp_path: Path, text: str):
    """A file that says nothing is no fault."""
    policy = load(tmp_path, text).policy
    assert ((), digest_of({})) == (policy.rules, policy.bundle)


def test_a_bundle_is_named_by_its_content_and_not_by_its_form(tmp_path: Path):
    """Comments, order of keys and style do not change a bundle's digest; any other word does."""
    first = load(tmp_path, "defaults: {mode: direct, result_review: true}\n").policy.bundle
    assert first == load(tmp_path, "# why\ndefaults:\n  result_review: true\n  mode: direct\n").policy.bundle
    assert first != load(tmp_path, "defaults: {mode: plan_first, result_review: true}\n").policy.bundle


def test_a_folder_without_a_policy_is_refused(tmp_path: Path):
    """A folder that was named but cannot be read is an error, never a blank policy."""
    with pytest.raises(GovernanceInvalid, match=r"policy\.yaml: cannot be read"):
        load_governance(tmp_path)
    (tmp_path / "policy.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GovernanceInvalid, match=r"policy\.yaml"):
        load_governance(tmp_path)


@settings(max_examples=200)
@given(text=st.text(alphabet="rulesdfatp:-[]{}&*!#'\"<|>%@ \n\t12\u2028", max_size=80))
def test_no_file_makes_the_loader_fail_otherwise(tmp_path_factory: pytest.TempPathFactory, text: str):
    """Any text is read, or refused in our own words."""
    with contextlib.suppress(GovernanceInvalid):
        load(tmp_path_factory.getbasetemp(), text)


def test_rules_within_rules_are_refused(tmp_path: Path):
    """A document that holds itself, or is nested without end, is refused and not followed."""
    refusal(tmp_path, HEAD + "    when: { all: &x [ *x ] }\n    deny: true\n")
    refusal(
        tmp_path, HEAD + "    when: { all: [ { field: task.project, in: &x [ *x ] } ] }\n    deny: true\n"
    )
    refusal(tmp_path, "rules: " + "[" * 5000 + "]" * 5000)


# Proposals


def test_a_rule_on_proposals_sees_the_parent(tmp_path: Path):
    """The parent's fields are known at task.proposed, compared as what they are; a rule there may oblige or deny."""
    (rule,) = load(
        tmp_path,
        """
rules:
  - id: shallow
    on: task.proposed
    when:
      all:
        - { field: parent.depth, gte: 2 }
        - { field: parent.risk, gte: high }
        - { field: parent.executor, in: [ada] }
    require: { mode: plan_first }
""",
    ).policy.rules
    deep = {"parent.depth": 2, "parent.risk": "critical", "parent.executor": "ada"}
    assert all(condition.holds(deep) for condition in rule.when)
    for name, other in (("parent.depth", 1), ("parent.risk", "medium"), ("parent.executor", "bob")):
        assert not all(condition.holds(deep | {name: other}) for condition in rule.when)


@pytest.mark.parametrize(
    ("hook", "condition", "words"),
    [
        ("task.received", "field: parent.depth, gte: 2", "parent.depth is known on task.proposed only"),
        (
            "task.proposed",
            "field: executor.name, eq: ada",
            "executor.name is known on dispatch, plan.submitted",
        ),
        ("task.proposed", "field: parent.depth, in: [two]", "parent.depth is a number: use eq, gte or lte"),
        ("task.proposed", "field: parent.depth, gte: two", "expected int, got 'two'"),
        ("task.proposed", "field: parent.project, gte: high", "gte is for risks and numbers"),
    ],
)
def test_a_comparison_that_never_holds_is_a_fault(tmp_path: Path, hook: str, condition: str, words: str):
    """What a rule on proposals compares is checked when it is read."""
    text = f"rules:\n  - id: a\n    on: {hook}\n    when: {{ all: [ {{ {condition} }} ] }}\n    deny: true\n"
    line, message = refusal(tmp_path, text)
    assert 4 == line
    assert words in message


# The organisation

ORGANISATION = """
roles:
  qa:
    charter: |
      Test what was built.
    handoff_schema:
      type: object
      required: [branch]
      properties: { branch: { type: string } }
  writer:
"""


def organised(folder: Path, text: str):
    """Load a folder with an organisation beside a policy."""
    (folder / "organisation.yaml").write_text(text, encoding="utf-8")
    return load(folder, "rules: []\n")


def test_an_organisation_is_read(tmp_path: Path):
    """Each role arrives with its charter and its schema; a role of which nothing is said is fine too."""
    found = organised(tmp_path, ORGANISATION).organisation
    assert ["qa", "writer"] == list(found.roles)
    assert "Test what was built." == found.charter(["unknown", "qa", "writer"])
    assert ["branch"] == (found.handoff_schema("qa") or {})["required"]
    assert [None, None] == [found.handoff_schema(name) for name in ("writer", "unknown")]


def test_the_organisation_is_part_of_the_bundle(tmp_path: Path):
    """With it the bundle has another digest, any word of it counts, and without it the digest is as it was."""
    bare = load(tmp_path, "rules: []\n")
    first, second = (organised(tmp_path, text) for text in (ORGANISATION, ORGANISATION.replace("was", "is")))
    assert 3 == len({g.policy.bundle for g in (bare, first, second)})
    assert digest_of({"rules": []}) == bare.policy.bundle
    assert digest_of(first.document) == first.policy.bundle
    assert "qa" in first.document["organisation"]["roles"]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("rolls: {}\n", 1, "unknown field 'rolls'; expected one of: roles"),
        ("roles:\n  qa:\n    chart: x\n", 3, "unknown field 'chart'"),
        ("roles:\n  qa: {}\n  Not A Role: {}\n", 3, "'Not A Role' is no role"),
        ("roles:\n  qa:\n    charter: 3\n", 3, "expected str"),
        ("roles:\n  qa:\n    charter: '" + "x" * 20_001 + "'\n", 3, "at most 20000 characters"),
        ("roles:\n  qa:\n    handoff_schema: text\n", 3, "expected a mapping"),
        ("roles:\n  qa:\n    handoff_schema: { type: 3 }\n", 3, "no usable JSON Schema"),
        ("roles:\n  qa:\n    handoff_schema: { const: 2020-01-01 }\n", 3, "no usable JSON Schema"),
        ("roles:\n  qa:\n    handoff_schema: &x { not: *x }\n", 3, "what is no value"),
        ("roles: [qa]\n", 1, "expected a mapping"),
        ("roles:\n  qa: {\n", 3, "not YAML as it is read here"),
    ],
)
def test_a_fault_of_the_organisation_has_its_line(tmp_path: Path, text: str, line: int, words: str):
    """It stops the start as a fault of the policy does."""
    with pytest.raises(GovernanceInvalid) as caught:
        organised(tmp_path, text)
    place, _, message = str(caught.value).partition(": ")
    assert f"{tmp_path / 'organisation.yaml'}:{line}" == place
    assert words in message


@pytest.mark.parametrize("text", ["", "# nobody yet\n", "roles: {}\n"])
def test_an_organisation_of_nobody_is_no_fault(tmp_path: Path, text: str):
    """A file that names no role declares none."""
    assert {} == organised(tmp_path, text).organisation.roles


def test_every_hook_takes_a_rule_and_decides_it(tmp_path: Path):
    """Also those that nothing asks yet; each field is known somewhere, and each hook knows the task."""
    assert set(HOOKS) == {hook for field in FIELDS.values() for hook in field.hooks}
    assert UNASKED == {"deadline", "delivery", "tool.call", "memory.proposed"}
    text = "rules:\n"
    for hook in HOOKS:
        effect = {"attempt.ended": "require: {then: person}", "escalation.raised": "require: {ask: admin}"}
        text += f"  - id: {hook}\n    on: {hook}\n    when: task.project == 'p'\n    {effect.get(hook, 'deny: true')}\n"
    policy = load(tmp_path, text).policy
    for hook in HOOKS:
        found = policy.decide(hook, {"task.project": "p"})
        assert ((hook,), "deny" if hook not in ("attempt.ended", "escalation.raised") else "allow") == (
            found.rules,
            found.decision,
        )
        closed = hook in CLOSED
        assert (("default-deny",) if closed else ()) == policy.decide(hook, {"task.project": "q"}).rules


def test_where_the_defaults_deny_only_rules_let_in(tmp_path: Path):
    """A denial overrides what lets in; what obliges lets in too; hooks that nobody closed stay open."""
    text = """
defaults: {deny: [task.received, dispatch], result_review: true}
rules:
  - {id: shop, on: task.received, when: "task.project == 'shop'", allow: true, reason: The shop is ours.}
  - {id: books, on: task.received, when: "task.project == 'books'", require: {mode: plan_first}}
  - {id: no-critical, on: task.received, when: "task.risk == 'critical'", deny: true}
  - {id: any-tool-of-the-shop, on: tool.call, when: "task.project == 'shop'", allow: true}
"""
    policy = load(tmp_path, text).policy
    for project, risk, decision, rules in (
        ("shop", "low", "allow", ("shop",)),
        ("books", "low", "allow", ("books",)),
        ("shop", "critical", "deny", ("no-critical",)),
        ("garden", "low", "deny", ("default-deny",)),
        ("garden", "critical", "deny", ("no-critical",)),
    ):
        found = policy.decide("task.received", {"task.project": project, "task.risk": risk})
        assert (decision, rules) == (found.decision, found.rules)
    shop = policy.decide("task.received", {"task.project": "shop", "task.risk": "low"})
    assert (True, "direct", ("The shop is ours.",)) == (
        shop.obligations.result_review,
        shop.obligations.mode,
        shop.reasons,
    )
    assert "deny" == policy.decide("dispatch", {"task.project": "shop"}).decision
    assert "allow" == policy.decide("task.proposed", {"task.project": "garden"}).decision
    assert "allow" == policy.decide("tool.call", {"task.project": "shop"}).decision
    assert "deny" == policy.decide("tool.call", {"task.project": "garden"}).decision


@pytest.mark.parametrize(
    ("text", "facts", "decision"),
    [
        (
            "task.risk == 'high' && size(task.paths) > 1",
            {"task.risk": "high", "task.paths": ["a", "b"]},
            "deny",
        ),
        ("task.risk == 'high' && size(task.paths) > 1", {"task.risk": "high", "task.paths": ["a"]}, "allow"),
        ("task.paths.exists(p, p.startsWith('deploy/'))", {"task.paths": ["src/a", "deploy/b"]}, "deny"),
        ("task.paths.exists(p, p.startsWith('deploy/'))", {"task.paths": []}, "allow"),
        ("task.assignee == null", {}, "deny"),
        ("task.assignee != null && task.assignee.startsWith('role:')", {"task.assignee": None}, "allow"),
        (
            "'urgent' in task.labels || task.requester == 'rita'",
            {"task.labels": [], "task.requester": "rita"},
            "deny",
        ),
        ("task.project == 'task.colour'", {"task.project": "p"}, "allow"),
    ],
)
def test_a_condition_may_be_an_expression(tmp_path: Path, text: str, facts: dict[str, object], decision: str):
    """What CEL says of the declared facts counts, absent ones being null."""
    written = json.dumps(text)
    policy = load(tmp_path, HEAD + f"    when: {written}\n    deny: true\n").policy
    assert decision == policy.decide("task.received", facts).decision


@pytest.mark.parametrize(
    "text",
    [
        "size(task.assignee) > 1",
        "size(task.paths)",
        "task.project",
        "task.assignee",
        "size(task.paths) > 'a'",
    ],
)
def test_an_expression_that_is_neither_true_nor_false_shuts_the_gate(tmp_path: Path, text: str):
    """What cannot be evaluated, and what comes out as no boolean, denies, whatever the rule would have asked for."""
    rules = HEAD + f"    when: {json.dumps(text)}\n    require: {{mode: direct}}\n"
    facts = {"task.project": "p", "task.paths": []}
    found = load(tmp_path, rules).policy.decide("task.received", facts)
    assert ("deny", ("rule-error",)) == (found.decision, found.rules)


def test_an_expression_is_examined_with_what_it_looked_at(tmp_path: Path):
    """The finding names the fields and what they were; the same text is the same condition."""
    text = HEAD + "    when: task.risk == 'high' || task.project == 'p'\n    deny: true\n"
    policy = load(tmp_path, text).policy
    (examined,) = policy.examine("task.received", {"task.risk": "low", "task.project": "p"})
    assert examined.matched
    assert {"task.risk": "low", "task.project": "p"} == examined.findings[0].actual
    assert policy.rules == load(tmp_path, text).policy.rules


def test_flags_numbers_and_actions_are_read(tmp_path: Path):
    """The rules of the further hooks arrive as they were written."""
    policy = load(
        tmp_path,
        """
rules:
  - id: a
    on: attempt.ended
    when: {all: [{field: attempt.class, in: [tool, internal]}, {field: attempt.count, gte: 2}]}
    require: {then: other_executor}
  - id: b
    on: escalation.raised
    when: {all: [{field: question.blocking, eq: true}]}
    require: {ask: reviewer}
  - id: c
    on: result.submitted
    require: {bar_requester: true, deadline: 1h, evidence: {"*": observed}}
""",
    ).policy
    a, b, c = policy.rules
    assert ("other_executor", "reviewer") == (a.then, b.ask)
    assert (True, 3600, "block") == (
        c.obligations.bar_requester,
        c.obligations.deadline_seconds,
        c.obligations.on_timeout,
    )
    ended = {"attempt.class": "tool", "attempt.count": 2}
    assert "other_executor" == policy.decide("attempt.ended", ended).then
    assert policy.decide("attempt.ended", ended | {"attempt.count": 1}).then is None
    assert "reviewer" == policy.decide("escalation.raised", {"question.blocking": True}).ask


@pytest.mark.parametrize(
    ("require", "words"),
    [
        ("{tier: 101}", "tier is between 0 and 100"),
        ("{tier: strong}", "expected int, got 'strong'"),
        ("{capabilities: gpu}", "expected a list"),
        ("{capabilities: ['']}", "a capability is 1 to 60 characters"),
        (f"{{capabilities: [{'x' * 61}]}}", "a capability is 1 to 60 characters"),
    ],
)
def test_what_no_executor_can_be_asked_for_is_refused(tmp_path: Path, require: str, words: str):
    """Each fault has its line; what is in order arrives sorted, each capability once, also from the defaults."""
    line, message = refusal(tmp_path, f"{HEAD}    require: {require}\n")
    assert (4, True) == (line, words in message), message
    policy = load(tmp_path, f"defaults: {{tier: 1}}\n{HEAD}    require: {{capabilities: [b, a, b]}}\n").policy
    assert (("a", "b"), 1) == (policy.rules[0].obligations.capabilities, policy.defaults.tier)
    assert ("a", "b") == policy.decide("task.received", {}).obligations.capabilities
    for hook in ("plan.submitted", "dispatch"):
        refusal(tmp_path, f"{HEAD.replace('task.received', hook)}    require: {{tier: 1}}\n")


def test_the_reference_names_every_hook_field_and_action():
    """What a rule may look at and ask for is all in docs/reference/policy.md, with where it is known."""
    reference = (Path(__file__).parents[2] / "docs" / "reference" / "policy.md").read_text()
    rows = {line.split("`")[1]: line for line in reference.splitlines() if line.startswith("| `")}
    for name, field in FIELDS.items():
        assert f"| {field.kind} |" in rows[name], name
        shown = rows[name].rpartition("| ")[0].rpartition("| ")[2] + rows[name].rpartition("| ")[2]
        few = len(field.hooks) < 4
        assert not few or all(f"`{hook}`" in shown for hook in field.hooks), name
    for word in (*HOOKS, *THENS, *ASKABLE):
        assert f"`{word}`" in reference, word


def test_the_operators_of_lists_are_read(tmp_path: Path):
    """`any` and `all` beside a field compare a list, and without a field they join conditions."""
    (tmp_path / "policy.yaml").write_text(
        HEAD
        + "    when: {any: [{field: task.labels, any: [a]}, {field: task.tools, all: [b, c]}, "
        + "{all: [{field: task.risk, eq: low}]}]}\n"
        + "    deny: true\n",
        encoding="utf-8",
    )
    ((group,),) = [rule.when for rule in load_governance(tmp_path).policy.rules]
    low = Condition(field="task.risk", operator="eq", value="low")
    assert (
        Group(
            kind="any",
            of=(
                Condition(field="task.labels", operator="any", value=["a"]),
                Condition(field="task.tools", operator="all", value=["b", "c"]),
                Group(kind="all", of=(low,)),
            ),
        )
        == group
    )
