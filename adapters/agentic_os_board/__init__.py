"""The built-in issue tracker: a small server of its own, and the adapter to it."""

import sys
from urllib.parse import urlsplit

from agentic_os.control_plane import Companion, CompanionSettings, ControlPlane, Invalid, Settings

from .addresses import local_url
from .client import BoardClient

__all__ = ["PLUGIN", "BoardPlugin"]


class BoardPlugin:
    """What the entry point names."""

    def open(self, settings: Settings) -> ControlPlane:
        """Connect to a board. Raises Invalid for settings that cannot work; makes no request."""
        if urlsplit(settings.url).scheme not in {"http", "https"} or not urlsplit(settings.url).netloc:
            raise Invalid(f"the board's url must be like http://127.0.0.1:8701, not {settings.url!r}")
        if settings.options:
            raise Invalid(f"the board has no options; remove {', '.join(sorted(settings.options))}")
        return BoardClient(settings.url, settings.token, settings.webhook_secrets)

    def companion(self, settings: CompanionSettings) -> Companion:
        """Say how `up` runs the board's server."""
        return Companion(
            argv=(sys.executable, "-m", "agentic_os_board", "serve"),
            configuration={
                "host": settings.host,
                "port": settings.port,
                "public_url": settings.public_url,
                "database_url": settings.database_url,
                "home": settings.home,
                "backend_token": settings.backend_token,
                "webhook_url": settings.webhook_url or None,
                "webhook_secret": settings.webhook_secret,
                "operator_name": settings.operator_name,
                "operator_password": settings.operator_password,
                "run_as": settings.run_as,
            },
            ready_url=f"{local_url(settings.host, settings.port)}/healthz",
        )


PLUGIN = BoardPlugin()
