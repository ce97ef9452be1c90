"""Merging into a person's settings and taking out again: nothing of theirs is lost, nothing of ours is left."""

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_os.connection.settings_files import (
    ByHandOnly,
    SettingsConflict,
    SettingsUnreadable,
    added_in_all,
    merge,
    missing,
    same_settings,
    take_out,
)

NAMES = st.text(max_size=5)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
SETTINGS = st.dictionaries(NAMES, VALUES, max_size=4)
INDENTS = st.sampled_from([None, 1, 2, 4, "\t"])

TOML_SCALARS = (
    st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=5)
)
TOML_NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=4)
TOML_VALUES = TOML_SCALARS | st.lists(TOML_SCALARS, max_size=3)
TOML_SETTINGS = st.recursive(
    st.dictionaries(TOML_NAMES, TOML_VALUES, max_size=3),
    lambda inner: st.dictionaries(TOML_NAMES, TOML_VALUES | inner, max_size=3),
    max_leaves=4,
)


def parsed(content: bytes | None) -> Any:
    """Read JSON; a file that is gone says nothing."""
    return json.loads(content) if content else {}


@given(SETTINGS, SETTINGS, INDENTS)
def test_what_is_merged_in_comes_out_again(theirs: Any, ours: Any, indent: Any) -> None:
    """After both, the file says what it said before; merged twice, it is as merged once; meanwhile nothing lacks."""
    content = json.dumps(theirs, indent=indent).encode()
    try:
        merged = merge(content, "json", ours)
    except SettingsConflict:
        return
    assert [] == missing(merged.content, "json", ours)
    again = merge(merged.content, "json", ours)
    assert (merged.content, None) == (again.content, again.added)
    if merged.added is None:
        assert content == merged.content
        return
    kept = json.loads(json.dumps(merged.added))
    left = take_out(merged.content, "json", kept)
    assert same_settings(content, left if left is not None else b"", "json") or (
        left is None and not any(theirs)
    )


@given(SETTINGS, SETTINGS)
def test_nothing_of_a_persons_is_changed(theirs: Any, ours: Any) -> None:
    """Every value that was there is there, at its place; lists only grow, at their end."""

    def kept(before: Any, after: Any) -> None:
        if isinstance(before, dict):
            for name, value in before.items():
                kept(value, after[name])
        elif isinstance(before, list):
            assert before == after[: len(before)]
        else:
            assert (type(before), before) == (type(after), after)

    try:
        merged = merge(json.dumps(theirs).encode(), "json", ours)
    except SettingsConflict:
        return
    kept(theirs, json.loads(merged.content))


@given(SETTINGS, st.dictionaries(NAMES, VALUES, max_size=3))
def test_what_a_person_adds_meanwhile_stays(ours: Any, theirs: Any) -> None:
    """Taken out of a file that a person went on with, only ours goes."""
    merged = merge(None, "json", {"ours": ours})
    document = parsed(merged.content) | {f"theirs-{name}": value for name, value in theirs.items()}
    assert merged.added is not None
    left = take_out(json.dumps(document).encode(), "json", merged.added)
    assert {f"theirs-{name}": value for name, value in theirs.items()} == parsed(left)


def test_a_value_that_a_person_changed_meanwhile_stays() -> None:
    """It is theirs by now, and so is what holds it."""
    merged = merge(b"{}", "json", {"a": {"b": 1, "c": [1, 2]}})
    assert merged.added is not None
    assert {"a": {"b": 2, "c": [3]}} == parsed(
        take_out(b'{"a": {"b": 2, "c": [1, 3, 2]}}', "json", merged.added)
    )
    assert {"a": "other"} == parsed(take_out(b'{"a": "other"}', "json", merged.added))


def test_an_item_that_a_person_added_too_is_left_once() -> None:
    """Ours goes, theirs stays."""
    merged = merge(b'{"allow": ["a"]}', "json", {"allow": ["b"]})
    assert merged.added is not None
    left = take_out(b'{"allow": ["a", "b", "c", "b"]}', "json", merged.added)
    assert {"allow": ["a", "b", "c"]} == parsed(left)


def test_what_was_added_at_two_times_comes_out_at_once() -> None:
    """A connection that was changed takes back what it had put in at first, too."""
    first = merge(b'{"allow": ["a"]}', "json", {"allow": ["b"], "x": {"y": 1}})
    second = merge(first.content, "json", {"allow": ["c"], "x": {"y": 1, "z": 2}, "new": True})
    both = added_in_all(first.added, second.added)
    assert both is not None
    assert {"allow": ["a"]} == parsed(take_out(second.content, "json", both))


def test_a_setting_that_a_person_has_otherwise_is_told() -> None:
    """Where, what is there, and what would have to be; a true is no 1."""
    with pytest.raises(SettingsConflict, match=r"/a/b~1c is true, and would have to be 1"):
        merge(b'{"a": {"b/c": true}}', "json", {"a": {"b/c": 1}})


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        (b'{"a": 1,}', "json", "is not JSON: line 1, column"),
        (b'{\n// why\n"a": 1}', "json", "is not JSON: line 2, column 1"),
        (b"[1]", "json", "holds no object"),
        (b'{"a": 1, "a": 2}', "json", "the key 'a' twice"),
        (b'{"a": NaN}', "json", "NaN is no value"),
        (b"\xff", "json", "is not UTF-8 at byte 0"),
        (b"[" * 100_000, "json", "nested too deeply"),
        (b"a = ", "toml", "is not TOML: "),
    ],
)
def test_a_file_that_does_not_parse_is_refused(content: bytes, kind: Any, said: str) -> None:
    """Nothing is guessed of it."""
    with pytest.raises(SettingsUnreadable, match=said.replace("[", r"\[")):
        merge(content, kind, {"b": 1})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b'{\n\t"a": 1\n}',
        b'{\r\n    "a": 1\r\n}\r\n',
        b'\xef\xbb\xbf{"a": "\xc3\xa9"}',
        b'{"a": "\\ud800"}',
    ],
)
def test_the_manner_of_a_file_is_kept(content: bytes) -> None:
    """Indentation, line ends, mark of order, and last line are as they were."""
    merged = merge(content, "json", {"b": [1]})
    assert merged.added is not None
    left = take_out(merged.content, "json", merged.added)
    assert content.strip() == (left or b"").strip()
    assert (b"\r\n" in content) == (b"\r\n" in merged.content)


@given(TOML_SETTINGS, TOML_SETTINGS)
def test_lines_go_into_toml_and_out_again(theirs: Any, ours: Any) -> None:
    """The document then says both; taken out at once, every byte is a person's again."""
    before = merge(None, "toml", theirs).content if theirs else b""
    try:
        merged = merge(before, "toml", ours)
    except (SettingsConflict, ByHandOnly):
        return
    assert [] == missing(merged.content, "toml", ours)
    if merged.added is not None:
        left = take_out(merged.content, "toml", merged.added)
        assert tomllib.loads(before.decode()) == tomllib.loads((left or b"").decode())


TOML = b"""# mine
model = "m"   # a comment

[sandbox]
mode = "w"
roots = ["a"]
[[servers]]
name = "[sandbox]"
"""


def test_a_persons_lines_of_toml_stay_as_they_are() -> None:
    """Comments too; what is ours stands beside them."""
    merged = merge(
        TOML, "toml", {"quiet": True, "sandbox": {"network": True}, "new": {"x y": [1, {"z": "1"}]}}
    )
    text = merged.content.decode()
    for line in TOML.decode().splitlines():
        assert line in text.splitlines()
    assert {"mode": "w", "roots": ["a"], "network": True} == tomllib.loads(text)["sandbox"]
    assert merged.added is not None
    changed = merged.content.replace(b"network = true", b"network = true\nmore = 1")
    left = take_out(changed, "toml", merged.added)
    assert TOML.replace(b"[sandbox]\nmode", b"[sandbox]\nmore = 1\nmode") == left


@pytest.mark.parametrize(
    ("content", "ours"),
    [(b"roots = ['a']", {"roots": ["b"]}), (b"a = {b = 1}", {"a": {"c": 1}}), (b"a.b = 1", {"a": {"c": 1}})],
)
def test_what_no_line_can_add_is_left_to_a_person(content: bytes, ours: Any) -> None:
    """The message names what to write."""
    with pytest.raises(ByHandOnly, match="by hand: /"):
        merge(content, "toml", ours)
