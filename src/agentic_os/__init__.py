"""The backend that governs AI agents: agents execute, the backend decides."""

__version__ = "0.1.0"
