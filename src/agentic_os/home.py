"""The home folder: secrets, made once and readable by nobody else, and where a running stack can be found."""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

_SECRET_BYTES: Final = 32


class HomeUnusable(Exception):
    """The home folder cannot be used as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a running stack answers."""

    url: str
    board_url: str | None
    pid: int


class Home:
    """A folder that holds one installation's state."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - links stay as they were given

    def prepare(self) -> None:
        """Make the folder. Raises HomeUnusable."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            probe = self.path / f".probe-{secrets.token_hex(4)}"
            probe.touch(mode=0o600)
            probe.unlink()
        except OSError as problem:
            raise HomeUnusable(
                f"{self.path} cannot be written ({problem.strerror}): choose another folder with --home."
            ) from problem

    def secret(self, name: str) -> str:
        """Read a secret, drawing it on first use."""
        path = self.path / name
        if not path.exists():
            self.write_secret(name, secrets.token_urlsafe(_SECRET_BYTES))
        return path.read_text(encoding="utf-8").strip()

    def write_secret(self, name: str, value: str) -> None:
        """Write a secret whole, in a file of mode 0600 from the start."""
        target = self.path / name
        partial = self.path / f".{name}.{secrets.token_hex(4)}"
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(value + "\n")
        partial.replace(target)

    def has(self, name: str) -> bool:
        """Tell whether there is such a file."""
        return (self.path / name).exists()

    def announce(self, endpoint: Endpoint) -> None:
        """Say where the stack answers."""
        self.write_secret("endpoint.json", json.dumps(asdict(endpoint)))

    def withdraw(self) -> None:
        """Say that it answers no more."""
        (self.path / "endpoint.json").unlink(missing_ok=True)

    def endpoint(self) -> Endpoint | None:
        """Find a running stack; None when none was announced."""
        try:
            return Endpoint(**json.loads((self.path / "endpoint.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
