"""organisation.yaml with members, teams and projects; and bundles from texts, from storage, and compared."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from agentic_os.contracts.canonical import canonical_json
from agentic_os.domain.organisation import Member
from agentic_os.governance import GovernanceInvalid, load_documents, load_governance, load_stored
from agentic_os.governance.difference import Change, Part, described, differences

ORGANISATION = """\
roles:
  tech-lead: {}
  developer: {reports_to: tech-lead, skills: [git]}
members:
  rita: {roles: [tech-lead], team: core}
  coder: {roles: [developer], team: core, capabilities: [gpu], tier: 2, capacity: 3, reports_to: rita}
teams:
  core: {lead: rita}
projects:
  shop: {team: core}
"""
POLICY = """\
defaults: {bare_approve: false}
rules:
  - id: on-fridays
    on: task.received
    when: {all: [{field: task.project, eq: 'on'}, {field: task.labels, any: [no, '2030-01-01']}]}
    require: {reviewers: {role: tech-lead, quorum: 2, by: people}, deadline: 4h, evidence: {'*': observed}}
freezes:
  - {id: year-end, from: 2030-12-24T12:00:00Z, until: '2031-01-02T08:00:00+01:00', projects: ['*']}
budgets:
  project: {'123': {cost_microusd: 20_000_000}}
  day: {tokens: 5}
"""


def load(organisation: str, policy: str = "rules: []\n") -> Any:
    """Load both files from their texts."""
    return load_documents({"policy.yaml": policy, "organisation.yaml": organisation})


def fault(organisation: str, policy: str = "rules: []\n") -> tuple[str, str]:
    """Load what must be refused; give the place and the message."""
    with pytest.raises(GovernanceInvalid) as caught:
        load(organisation, policy)
    place, _, message = str(caught.value).partition(": ")
    return place, message


def test_an_organisation_is_read_whole() -> None:
    """Members, teams and projects arrive as they were written."""
    found = load(ORGANISATION).organisation
    assert ("tech-lead", ("git",)) == (found.roles["developer"].reports_to, found.roles["developer"].skills)
    assert Member(roles=("tech-lead",), team="core") == found.members["rita"]
    assert found.members["coder"] == Member(
        roles=("developer",), team="core", capabilities=("gpu",), tier=2, capacity=3, reports_to="rita"
    )
    assert ({"core": "rita"}, {"shop": "core"}) == (found.teams, found.projects)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("roles:\n  a:\n    reports_to: b\n", 3, "there is no role 'b' in this file"),
        ("roles:\n  a:\n    reports_to: b\n  b:\n    reports_to: a\n", 3, "a reports to b reports to a"),
        ("roles:\n  a: {reports_to: a}\n", 2, "a reports to a"),
        ("members:\n  rita: {reports_to: omar}\n  omar:\n    reports_to: rita\n", 2, "rita reports to omar"),
        ("members:\n  rita:\n    reports_to: ada\n", 3, "there is no member 'ada'"),
        ("members:\n  rita:\n    roles:\n      - ghost\n", 4, "the role 'ghost' is not declared"),
        ("roles:\n  admin:\nmembers:\n  rita: {roles: [admin]}\n", 4, "'admin' is what a token may do"),
        ("members:\n  rita: {team: core}\n", 2, "there is no team 'core'"),
        ("members:\n  rita: {tier: -1}\n", 2, "tier is between 0 and 100"),
        ("members:\n  rita: {capacity: 0}\n", 2, "capacity is between 1 and 10000"),
        ("members:\n  rita: {color: red}\n", 2, "unknown field 'color'"),
        ("teams:\n  core: {lead: rita}\n", 2, "there is no member 'rita'"),
        ("teams:\n  no team: {}\n", 2, "'no team' is no team"),
        ("projects:\n  shop:\n    team: core\n", 3, "there is no team 'core'"),
    ],
)
def test_a_fault_has_its_line(text: str, line: int, words: str) -> None:
    """What refers to nobody, or to itself by a detour, is named where it stands."""
    place, message = fault(text)
    assert f"organisation.yaml:{line}" == place
    assert words in message


REVIEWERS = "rules:\n  - id: a\n    on: task.received\n    require:\n      reviewers: {role: NAME, by: WHO}\n"


@pytest.mark.parametrize(
    ("role", "who", "words"),
    [
        ("qa", "anyone", "no member of organisation.yaml has the role 'qa'"),
        ("qa", "people", "'qa' is none of: reviewer, admin, superior, tech-lead, developer"),
        ("ghost", "people", "people of any members in organisation.yaml"),
    ],
)
def test_a_rule_names_no_role_that_nobody_holds(role: str, who: str, words: str) -> None:
    """Where members are declared, reviewers without one are a fault of the policy, with its line."""
    organisation = ORGANISATION.replace("roles:\n", "roles:\n  qa: {}\n", 1)
    place, message = fault(organisation, REVIEWERS.replace("NAME", role).replace("WHO", who))
    assert "policy.yaml:5" == place
    assert words in message


def test_without_members_any_role_of_executors_may_review() -> None:
    """A file that says nothing of who is there takes nobody's role."""
    policy = REVIEWERS.replace("NAME", "qa").replace("WHO", "anyone")
    assert load("roles: {qa: {}}\n", policy).policy.rules


def test_people_of_a_declared_role_may_be_asked_for() -> None:
    """A role of the organisation with members may be named for people."""
    (rule,) = load(ORGANISATION, REVIEWERS.replace("NAME", "tech-lead").replace("WHO", "people")).policy.rules
    assert ("tech-lead", "people") == (rule.obligations.reviewers.role, rule.obligations.reviewers.by)


@pytest.mark.parametrize(
    ("documents", "words"),
    [
        ({"organisation.yaml": ""}, "policy.yaml: is missing"),
        ({"policy.yaml": "", "../../etc/passwd": ""}, "../../etc/passwd: is no part of a bundle"),
    ],
)
def test_a_bundle_is_read_from_its_own_files_only(documents: dict[str, str], words: str) -> None:
    """The policy must be among the texts, and nothing else is looked at."""
    with pytest.raises(GovernanceInvalid, match=words.split(":", maxsplit=1)[0]) as caught:
        load_documents(documents)
    assert words in str(caught.value)


@pytest.mark.parametrize("policy", [POLICY, "", "{}\n", "rules: []\n"])
@pytest.mark.parametrize("organisation", [ORGANISATION, "", None])
def test_what_was_stored_means_the_same(policy: str, organisation: str | None) -> None:
    """A document that went through the store is the same bundle, with the same rules and the same people."""
    if organisation is None:
        policy = policy.replace("role: tech-lead", "role: reviewer")
    texts = {"policy.yaml": policy} | ({} if organisation is None else {"organisation.yaml": organisation})
    if not organisation:
        texts["policy.yaml"] = policy.replace("role: tech-lead", "role: reviewer")
    first = load_documents(texts)
    again = load_stored(orjson.loads(canonical_json(dict(first.document))))
    assert (first.policy, first.organisation) == (again.policy, again.organisation)


def test_a_stored_document_that_is_none_is_refused() -> None:
    """What no version of the loader wrote is refused, without a line since there is none."""
    with pytest.raises(GovernanceInvalid, match=r"^policy\.yaml: unknown field 'bundle'"):
        load_stored({"bundle": "a"})


def test_differences_are_named() -> None:
    """Each rule, freeze, budget, role and member that is added, removed or changed, with the parts that differ."""
    old = dict(load(ORGANISATION, POLICY).document)
    changed = (
        POLICY.replace("quorum: 2", "quorum: 1")
        .replace("bare_approve: false", "mode: plan_first")
        .replace("year-end", "audit")
        .replace("'123': {cost_microusd: 20_000_000}", "'123': {cost_microusd: 1}, shop: {tokens: 1}")
    )
    new = dict(load(ORGANISATION.replace("capacity: 3", "capacity: 4"), changed).document)
    found = differences(old, new)
    assert found == [
        Change(
            kind="rule",
            name="on-fridays",
            change="changed",
            parts=(Part(path="require.reviewers.quorum", before=2, after=1),),
        ),
        Change(kind="freeze", name="audit", change="added"),
        Change(kind="default", name="mode", change="added"),
        Change(
            kind="budget",
            name="project 123",
            change="changed",
            parts=(Part(path="cost_microusd", before=20_000_000, after=1),),
        ),
        Change(kind="budget", name="project shop", change="added"),
        Change(
            kind="member", name="coder", change="changed", parts=(Part(path="capacity", before=3, after=4),)
        ),
        Change(kind="freeze", name="year-end", change="removed"),
        Change(kind="default", name="bare_approve", change="removed"),
    ]
    assert "~ rule on-fridays\n    require.reviewers.quorum: 2 -> 1\n+ freeze audit" in described(found)
    assert [] == differences(new, new)


def test_what_the_comparison_does_not_know_is_a_difference_too() -> None:
    """A part of a bundle that came later than this comparison is compared as a whole."""
    assert [Change(kind="section", name="later", change="added")] == differences({}, {"later": {"a": 1}})


def test_the_order_of_rules_is_no_difference() -> None:
    """Rules have no order, so another one changes nothing that is shown."""
    rules = [{"id": name, "on": "dispatch", "deny": True} for name in "ab"]
    assert [] == differences({"rules": rules}, {"rules": rules[::-1]})


def test_long_texts_are_cut_for_people() -> None:
    """Of a charter that changed, the first line of each is shown."""
    before, after = ({"organisation": {"roles": {"qa": {"charter": f"{x}\nmore\n"}}}} for x in "ab")
    assert "~ role qa\n    charter: a ... -> b ..." == described(differences(before, after))


def test_a_folder_that_is_loaded_in_two_ways_is_one_bundle(tmp_path: Path) -> None:
    """From its folder and from its texts a bundle has the same digest."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "organisation.yaml").write_text(ORGANISATION)
    assert load_governance(tmp_path).policy == load(ORGANISATION, POLICY).policy
