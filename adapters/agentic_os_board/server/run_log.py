"""The captured output of a run, bounded: the newest part is kept."""

import asyncio
from collections.abc import Callable
from io import FileIO
from pathlib import Path

SEGMENT_BYTES = 512 * 1024
END_CHARACTERS = 1500


class RunLog:
    """Two files that take turns; together they hold the last half to one mebibyte."""

    def __init__(self, folder: Path, run: str) -> None:
        self._current = folder / f"{run}.log"
        self._older = folder / f"{run}.log.1"

    async def capture(self, output: asyncio.StreamReader, wrote: Callable[[], None] = lambda: None) -> None:
        """Write everything that comes, until it ends; wrote: called after each piece."""
        file = self._open()
        try:
            while chunk := await output.read(65_536):
                if file.tell() + len(chunk) > SEGMENT_BYTES:
                    file.close()
                    self._current.replace(self._older)
                    file = self._open()
                file.write(chunk)
                wrote()
        finally:
            file.close()

    def read(self) -> tuple[str, bool]:
        """Read what was kept, and whether there had been more before."""
        parts = [path.read_bytes() for path in (self._older, self._current) if path.exists()]
        return b"".join(parts).decode("utf-8", "replace"), len(parts) > 1

    def end(self) -> str:
        """Read the last whole lines, for people: what cannot be printed is left out."""
        text, _ = self.read()
        shown = text[-END_CHARACTERS:]
        if len(text) > len(shown):
            shown = shown.partition("\n")[2] or shown
        return "".join(char for char in shown if char.isprintable() or char in "\n\t").strip()

    def _open(self) -> FileIO:
        self._current.touch(mode=0o600)
        return FileIO(self._current, "ab")
