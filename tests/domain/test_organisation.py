"""The organisation: who holds what, and that nobody is above himself."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_os.domain.organisation import Member, Organisation, circle

ORGANISATION = Organisation(
    members={"coder": Member(roles=("developer", "qa"), capacity=2), "rita": Member(roles=("tech-lead",))}
)


def test_roles_of_the_file_come_after_the_registered_ones():
    """What an executor was registered with stays, and each role is there once."""
    assert ("qa", "developer") == ORGANISATION.roles_of("coder", ("qa",))
    assert ("qa",) == ORGANISATION.roles_of("nobody", ("qa",))
    assert ("rita",) == ORGANISATION.holders("tech-lead")
    assert () == ORGANISATION.holders("ghost")


def test_the_capacity_of_the_file_goes_before_the_registered_one():
    """Where the file says nothing, what was registered holds."""
    found = [ORGANISATION.capacity_of(*asked) for asked in (("coder", 9), ("rita", 9), ("nobody", None))]
    assert [2, 9, None] == found


@pytest.mark.parametrize(
    ("reports_to", "expected"),
    [
        ({}, ()),
        ({"a": None, "b": "a", "c": "a", "d": "b"}, ()),
        ({"a": "a"}, ("a", "a")),
        ({"x": "a", "a": "b", "b": "c", "c": "a"}, ("a", "b", "c", "a")),
        ({"a": None, "b": "c", "c": "b"}, ("b", "c", "b")),
        ({"a": "not there"}, ()),
    ],
)
def test_a_circle_is_found_with_its_way(reports_to: dict[str, str | None], expected: tuple[str, ...]):
    """It is given from the first that is met to the same again, without those who only lead to it."""
    assert expected == circle(reports_to)


@given(st.dictionaries(st.integers(0, 12).map(str), st.none() | st.integers(0, 12).map(str)))
def test_there_is_a_circle_exactly_where_somebody_is_above_himself(reports_to: dict[str, str | None]):
    """Whoever is followed upwards from anybody ends at somebody without anybody above, or there is a circle."""
    found = circle(reports_to)
    ends = []
    for start in reports_to:
        name: str | None = start
        for _ in range(len(reports_to) + 1):
            name = None if name is None else reports_to.get(name)
        ends.append(name is None)
    assert all(ends) == (found == ())
    assert all(reports_to[below] == above for below, above in pairwise(found))
