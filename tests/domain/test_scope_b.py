"""Paths within paths: whatever a narrower pattern reaches, the wider one reaches too."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentic_os.domain.scope import outside

PARTS = st.sampled_from(["a", "b", "ab", "*", "?", "a*", "*b", "**", "[ab]", ".."])
PATTERNS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
FILES = st.lists(st.sampled_from(["a", "b", "ab", "abb"]), min_size=1, max_size=5).map("/".join)


def reaches(pattern: str, file: str) -> bool:
    """Tell whether a pattern reaches a file, by an expression of its own: a name alone is a folder too."""
    parts = []
    for part in pattern.split("/"):
        plain = re.escape(part).replace(r"\*", "[^/]*").replace(r"\?", "[^/]").replace(r"\[ab\]", "[ab]")
        parts.append("(?:[^/]+(?:/[^/]+)*)?" if part == "**" else plain)
    expression = "/".join(parts).replace("(?:[^/]+(?:/[^/]+)*)?/", "(?:[^/]+/)*")
    expression = re.sub(r"/\(\?:\[\^/\]\+\(\?:/\[\^/\]\+\)\*\)\?$", "(?:/.*)?", expression)
    below = "" if re.search(r"[*?\[]", pattern) else "(?:/.*)?"
    return re.fullmatch(expression + below, file) is not None


@given(narrow=PATTERNS, wide=PATTERNS, file=FILES)
@example(narrow="a/b", wide="a/**", file="a/b/ab")
@example(narrow="a/ab", wide="*/**/ab", file="a/ab")
def test_what_lies_within_reaches_nothing_more(narrow: str, wide: str, file: str):
    """No file that the narrower pattern names is out of the wider one's reach, unless both are the same words."""
    file_itself = (
        narrow == file
    )  # of a name alone, what is below it counts only where the wider one has it too
    if not outside([narrow], [wide]) and ".." not in wide:
        below = not re.search(r"[*?\[]", narrow) and re.search(r"[*?\[]", wide) and not wide.endswith("/**")
        assert not reaches(narrow, file) or reaches(wide, file) or (below and not file_itself)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("src/settings.py", ["src/**"]),
        ("src/settings.py", ["src"]),
        ("src/settings.py", ["src/"]),
        ("./src/settings.py", ["src/**"]),
        ("src/deep/**", ["docs/**", "src/**"]),
        ("src", ["src/**"]),
        ("anything/at/all", ["**"]),
        ("src/*.py", ["src/*.py"]),
        ("src/a.py", ["src/*.py"]),
        ("src/x/test/a.py", ["src/*/test/*.py"]),
        ("src/x/y/a.py", ["src/**/*.py"]),
        ("/srv/data/x", ["/srv/data/**"]),
    ],
)
def test_what_lies_within(path: str, allowed: list[str]):
    """A path within a folder, or of the shape of a pattern, may be passed on."""
    assert [] == outside([path], allowed)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("secrets/key", ["src/**"]),
        ("srcs/a.py", ["src"]),
        ("src/../secrets", ["src/**"]),
        ("src/..", ["**"]),
        ("src/{a,..}/x", ["src/**"]),
        ("src\\..\\x", ["src/**"]),
        ("**", ["src/**"]),
        ("*", ["src/**"]),
        ("src/**", ["src/*.py"]),
        ("src/*", ["src/*.py"]),
        ("src/deep/a.py", ["src/*.py"]),
        ("src/a/b/test/x", ["src/*/test/*"]),
        ("/etc/passwd", ["**"]),
        ("~/x", ["**"]),
        ("C:/x", ["**"]),
        ("etc", ["/etc"]),
        (".", ["src/**"]),
        ("src/x", []),
        ("Src/x", ["src/**"]),
    ],
)
def test_what_does_not_lie_within(path: str, allowed: list[str]):
    """A path elsewhere, one that climbs out, and one that cannot be told, may not be passed on."""
    assert [0] == outside([path], allowed)


def test_the_offending_entries_are_named_by_their_place():
    """Of several paths only those outside are named."""
    assert [1, 3] == outside(["src/a", "x", "src/b", "y"], ["src/**"])
