"""Canonical JSON and the digests over it."""

import hashlib
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from agentic_os.contracts.canonical import (
    MAX_INTEGER,
    NotCanonical,
    canonical_json,
    digest_of,
    document_digest,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALAR = st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | TEXT
FAST = st.recursive(
    SCALAR,
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(st.characters(max_codepoint=127)), children)
    ),
)
ANY = st.recursive(
    SCALAR | st.floats(allow_nan=False, allow_infinity=False),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(TEXT, children, max_size=4),
)


@given(FAST | ANY)
def test_every_value_is_written_as_the_rfc_library_writes_it(value: Any):
    """The fast path is byte for byte what RFC 8785 asks for."""
    assert rfc8785.dumps(value) == canonical_json(value)


@pytest.mark.parametrize(
    "value",
    [
        {"\U0001f600": 1, "\ufb33": 2},
        {"\u20ac": 1, "\r": 2, "1": 3, "\u0080": 4, "\u00f6": 5},
        [1e-7, 333333333.33333329, 1e21, 4.5, 2e-3, -0.0],
        {"a": '\u007f\u001f"\\/\b\f\n\r\t\u2028'},
    ],
)
def test_corners_of_the_rfc_keep_to_it(value: Any):
    """Keys beyond ASCII, floats and escapes, where writers differ, are in the form of the RFC."""
    assert rfc8785.dumps(value) == canonical_json(value)


@pytest.mark.parametrize(
    "value",
    [
        "\ud800",
        {"\udfff": 1},
        {"\udfff": 1.5},
        [2**53],
        -(2**53),
        float("nan"),
        float("inf"),
        {1: 2},
        {"a": b"x"},
        object(),
    ],
)
def test_what_has_no_canonical_form_is_refused(value: Any):
    """A value that JSON readers do not agree on raises an error of ours, a ValueError."""
    with pytest.raises(NotCanonical):
        canonical_json(value)


def test_endless_nesting_is_refused():
    """A value nested beyond the stack raises the same error, and not a RecursionError."""
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(NotCanonical):
        canonical_json(value)


def test_a_digest_names_its_algorithm_and_ignores_the_order_of_keys():
    """Equal documents have equal digests, in the form that the contract asks for."""
    expected = "sha256:" + hashlib.sha256(b'{"a":[1,2],"b":null}').hexdigest()
    assert expected == digest_of({"b": None, "a": [1, 2]}) == digest_of({"a": [1.0, 2], "b": None})


def test_the_digest_of_a_document_leaves_out_the_answers_to_a_review():
    """A plan that differs only in `responds_to` is the same plan."""
    plan = {"summary": "s", "steps": []}
    assert digest_of(plan) == document_digest(plan | {"responds_to": [{"item_id": "a", "how": "b"}]})
    assert document_digest(plan) != document_digest(plan | {"summary": "t"})
