"""Small artifacts whose text is shown with the result, where operators read."""

from collections.abc import Mapping
from typing import Any, Final

from agentic_os.application.ports import ArtifactStore

LARGEST: Final = 16 * 1024
TOGETHER: Final = 32 * 1024
"""Bytes of one artifact, and of all that are shown: a note stays well within what trackers take (65,536 characters)."""

_TEXTUAL: Final = frozenset({"application/json", "application/yaml", "application/xml", "application/toml"})


async def inline_texts(artifacts: ArtifactStore, result: Mapping[str, Any]) -> Mapping[str, str]:
    """Read the artifacts of a result that are small and text, in their order while there is room: digest -> text.

    What is not held, or is no text although it says so, is left to its link.
    """
    found: dict[str, str] = {}
    left = TOGETHER
    for artifact in result.get("artifacts", ()):
        digest, size = artifact["digest"], artifacts.size(artifact["digest"])
        if digest in found or size is None or not 0 < size <= min(LARGEST, left) or not _textual(artifact):
            continue
        chunks = artifacts.open(digest)
        if chunks is None:
            continue
        text = _text(b"".join([chunk async for chunk in chunks]))
        if text is not None:
            found[digest] = text
            left -= size
    return found


def _textual(artifact: Mapping[str, Any]) -> bool:
    kind = str(artifact.get("media_type", "")).partition(";")[0].strip().lower()
    return kind.startswith("text/") or kind in _TEXTUAL or kind.endswith(("+json", "+xml"))


def _text(content: bytes) -> str | None:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    # Trackers refuse control characters, and a note that is refused is a task that is never shown to have ended.
    # Nor is anything shown that a reader would not see, such as a change of the direction of writing.
    return text if all(c.isprintable() or c in "\n\r\t\xa0" for c in text) else None
