r"""Texts through Paperclip, which makes a line break of each `\n` and `\r` that is written in one: kept as they are.

In the sealed line of a brief, which is JSON, another way to write the same is used, so that whoever reads it there gets
what was sealed. Anywhere else an invisible character (U+2060, word joiner) parts the two.
"""

import re
from typing import Final

_SEALED: Final = re.compile(r'^\{".*\}$', re.MULTILINE)
"""A line of canonical JSON, as briefs are sealed: `json.loads` reads back the same from each way to write it."""
_ESCAPE: Final = re.compile(r"\\(.)")
_PLAIN: Final = {"n": r"\u000a", "r": r"\u000d", "\\": r"\u005c"}
_CODES: Final = {code: f"\\{letter}" for letter, code in _PLAIN.items()}
_CODE: Final = re.compile("|".join(map(re.escape, _CODES)))
_LOST: Final = re.compile(r"\\(?=[nr])")
_PARTED: Final = re.compile("\\\\\u2060(?=[nr])")


def kept(text: str) -> str:
    """Write a text so that Paperclip leaves it as it is."""
    whole = _SEALED.sub(lambda line: _ESCAPE.sub(lambda m: _PLAIN.get(m[1], m[0]), line[0]), text)
    return _LOST.sub("\\\\\u2060", whole)


def told(text: str) -> str:
    """Read a text that we wrote, or somebody else."""
    whole = _SEALED.sub(lambda line: _CODE.sub(lambda m: _CODES[m[0]], line[0]), text)
    return _PARTED.sub(lambda _: "\\", whole)
