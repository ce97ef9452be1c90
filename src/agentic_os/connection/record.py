"""What was chosen for a connection, and what it changed in its workspace: all that is needed to take it back."""

import base64
import binascii
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

FOLDER: Final = "connections"
FILE: Final = "connection.json"
CREDENTIAL: Final = "credential"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class ConnectionUnknown(LookupError):
    """There is no connection of that name."""


class ConnectionUnreadable(ValueError):
    """The record of a connection cannot be read."""


def _base64(text: str) -> str:
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("must be base64") from error
    return text


Content = Annotated[str, AfterValidator(_base64)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class FileChange(_Part):
    """One file that was written. before: what it held, None for none. after: the digest of what was written.

    added: what was merged into it; None for a file of ours alone.
    """

    file: str
    before: Content | None
    after: str
    format: Literal["json", "toml"] = "json"
    added: dict[str, Any] | None = None

    @property
    def original(self) -> bytes | None:
        """What the file held before."""
        return None if self.before is None else base64.b64decode(self.before)


class Changes(_Part):
    """What was done to a workspace. folders: those that were made, outer ones first. exclude: of git, before."""

    files: list[FileChange] = Field(default_factory=list)
    folders: list[str] = Field(default_factory=list)
    hydrated: bool = False
    exclude: Content | None = None
    excluded: list[str] = Field(default_factory=list)


class Connection(_Part):
    """One executor's agent. kind: of its launcher. profile: that of the client, as it was agreed to."""

    version: Literal[1] = 1
    name: str
    kind: Literal["client", "command"]
    workspace: str
    role: str
    project: str
    plane: str
    worktree: bool
    definition: str | None = None
    skills: str = ""
    profile: dict[str, Any] | None = None
    client: str = ""
    client_version: str = ""
    sessions: Literal["resume", "fresh"] = "fresh"
    command: list[str] = Field(default_factory=list)
    outputs: list[str] = Field(default_factory=list)
    inputs: list[str] = Field(default_factory=list)
    agent: str = ""
    complete: bool = False
    changes: Changes = Field(default_factory=Changes)

    @property
    def client_name(self) -> str:
        """The name of its profile."""
        return "command" if self.profile is None else str(self.profile["name"])


class Connections:
    """The connections of one home, each in a folder of its own that nobody else can read."""

    def __init__(self, home: Path) -> None:
        self.folder = home / FOLDER

    def at(self, name: str) -> Path:
        """Tell where a connection is kept. Raises ConnectionUnknown for what can be no name."""
        if not _NAME.fullmatch(name):
            raise ConnectionUnknown(name)
        return self.folder / name

    def read(self, name: str) -> Connection:
        """Read a connection. Raises ConnectionUnknown, ConnectionUnreadable."""
        return read_connection(self.at(name) / FILE)

    def all(self) -> Iterator[Connection]:
        """Read the connections by name. Raises ConnectionUnreadable."""
        if self.folder.is_dir():
            for file in sorted(self.folder.glob(f"*/{FILE}")):
                yield read_connection(file)

    def write(self, connection: Connection) -> None:
        """Write a connection whole, in a file of mode 0600."""
        folder = self.at(connection.name)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        text = json.dumps(connection.model_dump(mode="json"), indent=1) + "\n"
        write_private(folder / FILE, text)

    def forget(self, name: str) -> None:
        """Remove a connection with its credential and its logs."""
        shutil.rmtree(self.at(name), ignore_errors=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def read_connection(file: Path) -> Connection:
    """Read the record of a connection. Raises ConnectionUnknown, ConnectionUnreadable."""
    try:
        return Connection.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise ConnectionUnknown(file.parent.name) from None
    except OSError as error:
        raise ConnectionUnreadable(f"{file} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        told = error.errors()[0]
        raise ConnectionUnreadable(f"{file}: {'.'.join(map(str, told['loc']))}: {told['msg']}") from error


def write_private(file: Path, text: str) -> None:
    """Write a file whole or not at all, mode 0600 from the start."""
    partial = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(text)
    partial.replace(file)


def kept(content: bytes) -> str:
    """Write bytes as a record holds them."""
    return base64.b64encode(content).decode()


def digest(content: bytes) -> str:
    """Digest what was written."""
    return hashlib.sha256(content).hexdigest()
