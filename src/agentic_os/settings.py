"""The only reader of the environment."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """What the environment says; the command line goes before it. A rate of 0 is no limit.

    control_plane_*: a tracker that somebody else runs. Lists and mappings are JSON; webhook secrets are the live ones,
    the newest first. adopt_*: which issues of people become tasks.
    """

    model_config = SettingsConfigDict(env_prefix="AGENTIC_OS_", frozen=True, extra="ignore")

    home: Path = Path("~/.agentic-os")
    url: str | None = None
    token: SecretStr | None = None
    task: str | None = None
    credential_file: Path | None = None
    governance: Path | None = None
    public_url: str | None = None
    run_as: str = ""
    control_plane: str = "board"
    control_plane_url: str = ""
    control_plane_token_file: Path | None = None
    control_plane_webhook_secret_files: tuple[Path, ...] = ()
    control_plane_options: dict[str, str] = Field(default_factory=dict)
    adopt_label: str = Field(default="agentic-os", min_length=1)
    adopt_projects: frozenset[str] = frozenset()
    callbacks_per_second: float = Field(default=200, ge=0)
    callback_burst: int = Field(default=2000, ge=1)
    refusals_per_minute: float = Field(default=30, ge=0)
    refusal_burst: int = Field(default=100, ge=1)
    database_url: SecretStr | None = Field(default=None, validation_alias="DATABASE_URL")
    database_app_url: SecretStr | None = Field(default=None, validation_alias="DATABASE_APP_URL")
    database_board_url: SecretStr | None = Field(default=None, validation_alias="DATABASE_BOARD_URL")
    database_direct_url: SecretStr | None = Field(default=None, validation_alias="DATABASE_DIRECT_URL")
