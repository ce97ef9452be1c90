"""What differs between two outcomes of policy, and which way."""

from dataclasses import fields, replace

import pytest
from hypothesis import given
from tests.domain.documents import anything_of

from agentic_os.domain.comparison import Outcome, differences, loosened, tightened
from agentic_os.domain.policy import Obligations, Reviewers, combine, continued

STRICT = Obligations(
    mode="plan_first",
    reviewers=Reviewers(role="admin", quorum=2, by="people"),
    deadline_seconds=3600,
    on_timeout="block",
    evidence={"tests": "independent"},
    result_review=True,
    bare_approve=False,
    independent_human=True,
    capabilities=("gpu", "sql"),
    tier=2,
)


def allowed(obligations: Obligations | None = None) -> Outcome:
    """Allow under obligations."""
    return Outcome(decision="allow", obligations=obligations)


DENIED = Outcome(decision="deny")


@pytest.mark.parametrize(
    ("looser", "words"),
    [
        ({"mode": "direct"}, "plan_first -> direct"),
        ({"reviewers": Reviewers(role="admin", quorum=1, by="people")}, "reviewers.quorum 2 -> 1"),
        ({"reviewers": Reviewers(quorum=2, by="people")}, "reviewers.role admin -> reviewer"),
        ({"reviewers": Reviewers(role="admin", quorum=2, by="anyone")}, "reviewers.by people -> anyone"),
        ({"deadline_seconds": 7200}, "deadline 3600 -> 7200"),
        ({"on_timeout": "proceed"}, "on_timeout block -> proceed"),
        ({"evidence": {"tests": "observed"}}, "evidence.tests independent -> observed"),
        ({"evidence": {}}, "evidence.tests independent -> self_reported"),
        ({"result_review": False}, "result_review yes -> no"),
        ({"bare_approve": True}, "bare_approve no -> yes"),
        ({"independent_human": False}, "independent_human yes -> no"),
        ({"capabilities": ("gpu",)}, "capabilities gpu, sql -> gpu"),
        ({"capabilities": ()}, "capabilities gpu, sql -> none"),
        ({"tier": 1}, "tier 2 -> 1"),
        ({"tier": None}, "tier 2 -> none"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_obligation_can_be_loosened_and_tightened_again(looser: dict[str, object], words: str):
    """An obligation that asks for less is loosened and named, and the way back is tightened."""
    other = replace(STRICT, **looser)
    (found,) = differences(allowed(STRICT), allowed(other))
    assert words == str(found)
    assert (True, False) == (found.loosened, found.tightened)
    assert (False, True) == (
        loosened(allowed(other), allowed(STRICT)),
        tightened(allowed(other), allowed(STRICT)),
    )


def test_a_decision_outweighs_all_obligations():
    """What was denied and is allowed is loosened, the other way tightened, and nothing else is compared."""
    assert ["deny -> allow"] == [str(d) for d in differences(DENIED, allowed(STRICT))]
    assert loosened(DENIED, allowed(STRICT))
    assert tightened(allowed(STRICT), DENIED)
    assert not loosened(allowed(STRICT), DENIED)
    assert () == differences(DENIED, DENIED)
    assert () == differences(allowed(STRICT), allowed())


def test_what_cannot_be_compared_is_both():
    """Another role of executors, or more of one and less of another, is loosened and tightened at once."""
    one, other = (allowed(replace(STRICT, reviewers=Reviewers(role=role))) for role in ("qa", "security"))
    assert (True, True) == (loosened(one, other), tightened(one, other))
    abler = allowed(replace(STRICT, capabilities=("gpu", "web")))
    assert (True, True) == (loosened(allowed(STRICT), abler), tightened(allowed(STRICT), abler))
    mixed = allowed(replace(STRICT, mode="direct", deadline_seconds=60))
    assert (True, True) == (loosened(allowed(STRICT), mixed), tightened(allowed(STRICT), mixed))


def test_what_happens_at_no_deadline_is_nothing():
    """Without a deadline the time-out says nothing, and a deadline after which work proceeds loosens."""
    timeless = replace(STRICT, deadline_seconds=None)
    assert () == differences(allowed(timeless), allowed(replace(timeless, on_timeout="proceed")))
    assert loosened(allowed(timeless), allowed(replace(STRICT, on_timeout="proceed")))


@given(anything_of(Obligations), anything_of(Obligations))
def test_what_is_joined_with_more_is_never_loosened(a: Obligations, b: Obligations):
    """Joining more to obligations loosens none but what cannot be compared, and the same does not differ."""
    assert () == differences(allowed(a), allowed(a))
    joined = combine(a, b)
    named = {d.name for d in differences(allowed(a), allowed(joined)) if d.loosened}
    assert {n for n in named if not n.endswith(".role")} <= {"on_timeout"}
    assert {f.name for f in fields(a)} == {f.name for f in fields(continued(a, b))}
