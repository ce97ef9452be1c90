"""What a request asks for of something that is identified by its entity tag: whether it is needed, and which bytes."""

import re
from collections.abc import Iterable
from typing import Final

_TAG: Final = re.compile(r'(?:W/)?("[^"]*")')
_RANGE: Final = re.compile(
    r"bytes=[ \t]*(?:([0-9]{1,18})-([0-9]{1,18})?|-([0-9]{1,18}))[ \t]*", re.IGNORECASE
)


class NotSatisfiable(Exception):
    """The range begins after the last byte, or asks for none."""


def is_known(tag: str, if_none_match: Iterable[str]) -> bool:
    """Tell whether the caller has it already, by the values of If-None-Match; tags are compared weakly."""
    return any(value.strip() == "*" or tag in _TAG.findall(value) for value in if_none_match)


def read_range(value: str | None, if_range: str | None, tag: str, size: int) -> tuple[int, int] | None:
    """Read Range as (first, count); None for the whole of it. Raises NotSatisfiable.

    One range of bytes is understood. Another unit, several ranges and anything malformed mean the whole, as RFC 9110
    has it, and so does a range of something else than what If-Range names.
    """
    if value is None or (if_range is not None and if_range.strip() != tag):
        return None
    found = _RANGE.fullmatch(value)
    if found is None:
        return None
    first, last, suffix = (None if part is None else int(part) for part in found.groups())
    if first is None:
        assert suffix is not None
        count = min(suffix, size)
        if count == 0:
            raise NotSatisfiable
        return size - count, count
    if last is not None and last < first:
        return None
    if first >= size:
        raise NotSatisfiable
    return first, (size if last is None else min(last + 1, size)) - first
