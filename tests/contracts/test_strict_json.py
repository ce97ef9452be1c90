"""Reading JSON strictly."""

import contextlib
import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentic_os.contracts.canonical import MAX_INTEGER, canonical_json
from agentic_os.contracts.strict_json import MAX_DEPTH, parse_canonical, parse_json
from agentic_os.contracts.violation import Malformed, SchemaInvalid

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(-1e9, 1e9, allow_nan=False)
    | TEXT,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(TEXT, children, max_size=4),
    max_leaves=20,
)


@given(VALUE, st.sampled_from([json.dumps, partial(json.dumps, ensure_ascii=False)]))
def test_whatever_the_contract_allows_reads_back(value: Any, write: Callable[[Any], str]):
    """An allowed value written by any writer, escaped or not, reads back equal."""
    assert value == parse_json(write(value).encode())


ODD = st.text(alphabet='{}[]",:\\\\u0/ d8a1eE.-tn', max_size=40).map(str.encode)
"""What is nearly JSON, with every escape that it knows."""
PAIRS = st.lists(st.tuples(st.sampled_from(["a", "b", '"', "\\", "é"]), VALUE), max_size=4).map(
    lambda pairs: ("{" + ",".join(f"{json.dumps(k)}:{json.dumps(v)}" for k, v in pairs) + "}").encode()
)
"""Objects in which a key may come twice."""


@given(VALUE.map(json.dumps).map(str.encode) | st.binary(max_size=40) | ODD | PAIRS)
@example(b'{"a":1,"a":1}')
@example(b'{"a":"\\"","a":""}')
@example(b'{"a":1,"\\u0061":2}')
@example(b'{"n":9007199254740993}')
@example(b'{"n":1.0}')
@example(b"-0")
@example(b"[" * 65 + b"]" * 65)
def test_the_quick_reading_reads_as_the_careful_one(raw: bytes):
    """Both read the same values, refuse the same documents by the same code, and write the same canonical form."""
    try:
        value = parse_json(raw)
    except (Malformed, SchemaInvalid) as refusal:
        with pytest.raises(type(refusal), match=re.escape(str(refusal))):
            parse_canonical(raw)
        return
    again, canonical = parse_canonical(raw)
    assert repr(value) == repr(again)
    assert canonical_json(value) == canonical


@given(st.binary(max_size=40) | st.text(alphabet='{}[]",:\\u0 d8a1eE.-tn', max_size=40).map(str.encode))
def test_arbitrary_bytes_are_read_or_refused_by_code(raw: bytes):
    """No input gets any other error than a violation of the contract."""
    with contextlib.suppress(Malformed, SchemaInvalid):
        parse_json(raw)


@pytest.mark.parametrize(
    ("raw", "offset"),
    [
        (b"", 0),
        (b"{", 1),
        (b'{"a":1}x', 7),
        (b'["\xff"]', 2),
        (b'"\xed\xa0\x80"', 1),
        (b'"\x00"', 1),
        (b"\xef\xbb\xbf{}", 0),
        (b'{"a":1,"a":2', 12),
    ],
)
def test_what_is_not_json_is_malformed_with_its_offset(raw: bytes, offset: int):
    """Bytes that are no JSON, or no UTF-8, are malformed, and the error says where."""
    with pytest.raises(Malformed) as caught:
        parse_json(raw)
    assert ("malformed", offset) == (caught.value.code, caught.value.offset)


@pytest.mark.parametrize(
    ("raw", "pointer", "word"),
    [
        (b'{"x":{"a":1,"a":2}}', "/x", "'a' twice"),
        (b'[{"a/b":"\\u0000"}]', "/0/a~1b", "NUL"),
        (b'{"a\\u0000":1}', "", "NUL"),
        (b'["\\ud800"]', "/0", "surrogate"),
        (b'["\\udc00\\ud800"]', "/0", "surrogate"),
        (b'{"n":9007199254740992}', "/n", "2^53-1"),
        (b'{"n":-9007199254740992}', "/n", "2^53-1"),
        (b'{"n":1e300}', "/n", "2^53-1"),
        (b'{"n":1e999}', "/n", "double"),
        (b'{"n":[NaN]}', "/n/0", "NaN"),
        (b'{"n":-Infinity}', "/n", "Infinity"),
        (b"[" + b"1" * 100_000 + b"]", "/0", "2^53-1"),
        (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), "/a" * MAX_DEPTH, "deeper"),
        (b"[" * 300_000, "", "deeper"),
    ],
)
def test_json_that_the_contract_forbids_is_invalid_with_its_pointer(raw: bytes, pointer: str, word: str):
    """A forbidden value gets `schema_invalid`, the pointer to it, and what is wrong with it."""
    with pytest.raises(SchemaInvalid, match=word.replace("^", "\\^")) as caught:
        parse_json(raw)
    assert ("schema_invalid", (pointer,)) == (caught.value.code, caught.value.pointers)


def test_the_deepest_allowed_nesting_is_read():
    """The bound on nesting is inclusive."""
    assert parse_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)


@pytest.mark.parametrize(("raw", "value"), [(b"1.0", 1), (b"-0.0", 0), (b"1e3", 1000), (b"0.5", 0.5)])
def test_a_whole_number_is_an_integer_however_it_is_written(raw: bytes, value: Any):
    """`1.0` reads as the integer 1, so that equal documents are equal."""
    read = parse_json(raw)
    assert (value, type(value)) == (read, type(read))
