"""Paperclip as a control plane: its issues, agents and confirmations, over its HTTP API."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

from agentic_os.control_plane import Companion, CompanionSettings, ControlPlane, Invalid, Settings

from .client import PaperclipClient
from .nudge import Nudge
from .transport import Transport

__all__ = ["PLUGIN", "PaperclipPlugin"]

_OPTIONS = frozenset({"company", "nudge_key_file"})


class PaperclipPlugin:
    """What the entry point names."""

    def open(self, settings: Settings) -> ControlPlane:
        """Connect to a company on a Paperclip. Raises Invalid for settings that cannot work; makes no request."""
        parts = urlsplit(settings.url)
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise Invalid(f"Paperclip's url must be like http://127.0.0.1:3100, not {settings.url!r}")
        unknown = settings.options.keys() - _OPTIONS
        if unknown:
            raise Invalid(
                f"Paperclip's options are {', '.join(sorted(_OPTIONS))}; remove {', '.join(sorted(unknown))}"
            )
        transport = Transport(settings.url, settings.token, _company(settings.options))
        return PaperclipClient(transport, nudge=Nudge(transport, _nudge_key(settings.options)))

    def companion(self, settings: CompanionSettings) -> Companion | None:  # noqa: ARG002 - the port's
        """Say that somebody else runs Paperclip."""
        return None


def _company(options: Mapping[str, str]) -> str:
    try:
        return str(UUID(options.get("company", "")))
    except ValueError:
        raise Invalid(
            'Paperclip needs the id of its company: AGENTIC_OS_CONTROL_PLANE_OPTIONS=\'{"company": "<uuid>"}\', as '
            "agentic-os-paperclip connect prints it"
        ) from None


def _nudge_key(options: Mapping[str, str]) -> str:
    path = options.get("nudge_key_file", "")
    try:
        return Path(path).read_text(encoding="ascii").strip() if path else ""
    except (OSError, ValueError) as error:
        raise Invalid(f"the file of the key that hears Paperclip's events cannot be read: {error}") from None


PLUGIN = PaperclipPlugin()
