"""JSON as the contract reads it: one meaning for each document, and nothing that a store cannot keep."""

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

import orjson

from agentic_os.contracts.canonical import (
    MAX_INTEGER,
    JsonValue,
    canonical_json,
    is_plain,
    plain_canonical,
)
from agentic_os.contracts.violation import Malformed, SchemaInvalid

MAX_DEPTH = 64
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"
_LONGEST_INTEGER = len(str(-MAX_INTEGER))
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def parse_json(raw: bytes) -> JsonValue:
    """Read a JSON document, integral floats as integers.

    Raises Malformed for bytes that are no JSON, and SchemaInvalid, with a pointer, for duplicate keys, NUL,
    lone surrogates, numbers beyond 2**53 - 1, NaN, infinities, and nesting deeper than MAX_DEPTH.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise Malformed(
            f"the body is not UTF-8: {error.reason} at byte {error.start}", offset=error.start
        ) from None
    try:
        value = _decode(_REFUSING, text)
    except _Forbidden:
        _check(_decode(_MARKING, text), (), 0)
        raise
    # Only an escape can write what UTF-8 cannot, and only many brackets can nest deeply.
    if "\\u" in text or text.count("{") + text.count("[") > MAX_DEPTH:
        _check(value, (), 0)
    return value


def parse_canonical(raw: bytes) -> tuple[JsonValue, bytes]:
    """Read a document as parse_json does, and write its canonical form.

    Nearly every document says plainly that nothing of what parse_json refuses is in it, and is read at a part of the
    cost: written again it has as many quotes as before, so that no key of it came twice.
    """
    if b"\\u" not in raw:
        try:
            value = orjson.loads(raw)
        except ValueError:
            value = None
        if value is not None and is_plain(value, MAX_DEPTH):
            canonical = plain_canonical(value)
            if canonical.count(b'"') == raw.count(b'"'):
                return value, canonical
    value = parse_json(raw)
    return value, canonical_json(value)


def pointer_to(*path: str | int) -> str:
    """Write a JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


class _Forbidden(Exception):
    """JSON can say it and the contract does not allow it; raised where its path is not known."""


class _Mark:
    """Stands for a forbidden value in the second reading, which knows the path."""

    def __init__(self, what: str) -> None:
        self.what = what


def _decode(decoder: json.JSONDecoder, text: str) -> JsonValue:
    try:
        return decoder.decode(text)
    except json.JSONDecodeError as error:
        raise Malformed(
            f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            offset=error.pos,
        ) from None
    except RecursionError:
        raise SchemaInvalid(f"the document is {_TOO_DEEP}", "") from None


def _check(value: JsonValue, path: tuple[str | int, ...], depth: int) -> None:
    if isinstance(value, _Mark):
        raise SchemaInvalid(f"{pointer_to(*path) or 'the document'} holds {value.what}", pointer_to(*path))
    if isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, dict | list):
        if depth == MAX_DEPTH:
            raise SchemaInvalid(f"{pointer_to(*path)} is {_TOO_DEEP}", pointer_to(*path))
        for key, member in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(key, str):
                _check_text(key, path)
            _check(member, (*path, key), depth + 1)


def _check_text(text: str, path: tuple[str | int, ...]) -> None:
    if found := _UNSTORABLE.search(text):
        what = "NUL (\\u0000)" if found[0] == "\0" else f"a lone surrogate (\\u{ord(found[0]):04x})"
        raise SchemaInvalid(f"{pointer_to(*path) or 'the document'} holds {what}", pointer_to(*path))


def _integer(text: str) -> int:
    # The length first: reading thousands of digits is slow, and Python refuses it in words of its own.
    if len(text) <= _LONGEST_INTEGER:
        value = int(text)
        if -MAX_INTEGER <= value <= MAX_INTEGER:
            return value
    raise _Forbidden("an integer beyond 2^53-1; send it as a string")


def _number(text: str) -> int | float:
    value = float(text)
    if not value.is_integer():
        if value in {float("inf"), float("-inf")}:
            raise _Forbidden("a number beyond what a double can hold")
        return value
    if -MAX_INTEGER <= value <= MAX_INTEGER:
        return int(value)
    raise _Forbidden("a whole number beyond 2^53-1; send it as a string")


def _constant(text: str) -> NoReturn:
    raise _Forbidden(f"{text}, which is no JSON number")


def _object(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    members = dict(pairs)
    if len(members) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _Forbidden(f"the key {next(key for key in keys if keys.count(key) > 1)!a} twice")
    return members


def _or_mark(read: Callable[[Any], JsonValue]) -> Callable[[Any], JsonValue]:
    def reading(text: Any) -> JsonValue:
        try:
            return read(text)
        except _Forbidden as forbidden:
            return _Mark(str(forbidden))

    return reading


_REFUSING = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant
)
_MARKING = json.JSONDecoder(
    object_pairs_hook=_or_mark(_object),
    parse_int=_or_mark(_integer),
    parse_float=_or_mark(_number),
    parse_constant=_or_mark(_constant),
)
