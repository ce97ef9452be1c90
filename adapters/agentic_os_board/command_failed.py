"""How a command of `agentic-os-board` says that it did not work."""


class CommandFailed(Exception):
    """The command did not work; the message says what to do."""
