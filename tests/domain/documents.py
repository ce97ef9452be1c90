"""Values of any content, as far as the contract lets them in: drawn from the types of the domain itself."""

import types
from collections.abc import Mapping
from dataclasses import is_dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from agentic_os.contracts.canonical import MAX_INTEGER

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
INTEGERS = st.integers(-MAX_INTEGER, MAX_INTEGER)
FLOATS = st.floats(min_value=-1e15, max_value=1e15)
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=-9, minutes=-30)), timezone(timedelta(hours=14))])
INSTANTS = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=ZONES)  # noqa: DTZ001 - drawn beside
SIMPLE: Mapping[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: INTEGERS,
    bool: st.booleans(),
    Any: JSON,
    datetime: INSTANTS,
    type(None): st.none(),
}


def anything_of(hint: Any) -> st.SearchStrategy[Any]:
    """Draw values of a type: of a dataclass, from the types of its fields."""
    if hint in SIMPLE:
        return SIMPLE[hint]
    if is_dataclass(hint):
        return st.builds(hint, **{name: anything_of(field) for name, field in get_type_hints(hint).items()})
    arguments = get_args(hint)
    match get_origin(hint):
        case origin if origin is Literal:
            return st.sampled_from(arguments)
        case origin if origin in (Union, types.UnionType):
            return st.one_of([anything_of(argument) for argument in arguments])
        case origin if origin is tuple and arguments[-1] is ...:
            return st.lists(anything_of(arguments[0]), max_size=3).map(tuple)
        case origin if origin is tuple:
            return st.tuples(*(anything_of(argument) for argument in arguments))
        case _:
            return st.dictionaries(anything_of(arguments[0]), anything_of(arguments[1]), max_size=3)
