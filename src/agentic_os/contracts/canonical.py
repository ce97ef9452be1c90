"""Canonical JSON (RFC 8785), and the digests taken over it."""

import hashlib
from typing import Any

import orjson
import rfc8785

JsonValue = Any
"""None, bool, int, float, str, a list of these, or a dict from str to these."""

MAX_INTEGER = 2**53 - 1
"""The largest integer that every JSON reader keeps exactly."""

_DEEPEST = 200


class NotCanonical(ValueError):
    """The value has no canonical form: a lone surrogate, NaN, an integer beyond 2**53 - 1, no JSON at all."""


def canonical_json(value: JsonValue) -> bytes:
    """Write a JSON value in the one form that RFC 8785 gives it; raises NotCanonical."""
    try:
        if is_plain(value):
            return plain_canonical(value)
        return rfc8785.dumps(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise NotCanonical(f"no canonical JSON: {error}") from error


def plain_canonical(value: JsonValue) -> bytes:
    """Write a value that `is_plain` in its canonical form."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def digest_of(value: JsonValue) -> str:
    """Digest the canonical form of a JSON value: `sha256:<hex>`."""
    return "sha256:" + hashlib.sha256(canonical_json(value)).hexdigest()


def document_digest(body: dict[str, JsonValue]) -> str:
    """Digest a plan's or result's body as reviews name it: without `responds_to`, which answers a review."""
    return digest_of({name: value for name, value in body.items() if name != "responds_to"})


def is_plain(value: JsonValue, depth: int = _DEEPEST) -> bool:
    """Tell whether orjson writes the value as the RFC does: no floats, no big integers, keys in ASCII.

    depth: how many levels of lists and objects there may be; what is nested deeper is not called plain.
    """
    # orjson sorts keys by UTF-8 and prints floats and big integers its own way; in all else it writes
    # what the RFC asks for, at a fortieth of the time.
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return bool(-MAX_INTEGER <= value <= MAX_INTEGER)
    depth -= 1
    if kind is dict and depth >= 0:
        for key, member in value.items():  # no generator, and texts at once: this walk is the cost
            if not (type(key) is str and key.isascii() and (type(member) is str or is_plain(member, depth))):
                return False
        return True
    if kind is list and depth >= 0:
        for member in value:  # noqa: SIM110 - the same
            if not (type(member) is str or is_plain(member, depth)):
                return False
        return True
    return False
