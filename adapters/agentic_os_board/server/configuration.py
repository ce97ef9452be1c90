"""What the server is told when it starts: one JSON line on standard input."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from agentic_os_board.addresses import local_url

from .fields import AccountName


class BadConfiguration(Exception):
    """The configuration cannot be used; the message says which field and why, and shows no value."""


def _web_address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment:
        raise ValueError("must be an address like http://127.0.0.1:8701")
    return text.rstrip("/")


Address = Annotated[str, AfterValidator(_web_address)]


class Configuration(BaseModel):
    """The server's settings: those of the port's CompanionSettings, and its timing.

    linger_seconds: how long a run may end by itself after its work was taken away.
    alive_seconds: how often a running run is reported as alive.
    hook_seconds: how long a hook that does not take its run is called again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    host: str = Field(min_length=1)
    port: int = Field(ge=0, le=65535)
    public_url: Address | None = None
    database_url: SecretStr
    home: Path
    backend_token: SecretStr = Field(min_length=16)
    webhook_url: Address | None
    webhook_secret: SecretStr = Field(min_length=16)
    operator_name: AccountName
    operator_password: SecretStr = Field(min_length=8)
    run_as: str = ""
    linger_seconds: float = Field(default=3.0, ge=0, le=60)
    alive_seconds: float = Field(default=300.0, gt=0)
    hook_seconds: float = Field(default=300.0, ge=0, le=3600)

    @property
    def address(self) -> str:
        """What links are built from."""
        return self.public_url or self.local_url

    @property
    def local_url(self) -> str:
        """Where this machine reaches the server."""
        return local_url(self.host, self.port)


def read_configuration(line: bytes) -> Configuration:
    """Read the JSON line. Raises BadConfiguration."""
    try:
        return Configuration.model_validate_json(line)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in each['loc']) or 'line'}: {each['msg']}"
            for each in error.errors(include_input=False, include_url=False)
        )
        raise BadConfiguration(f"configuration on standard input: {problems}") from None
