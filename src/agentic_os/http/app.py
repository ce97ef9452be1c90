"""The API as an ASGI application."""

from fastapi import FastAPI

from agentic_os import __version__
from agentic_os.application.backend import Backend
from agentic_os.http import (
    administration,
    artifacts,
    callbacks,
    credentials,
    decisions,
    evidence,
    governing,
    history,
    observations,
    reconciliation,
    skills,
    tasks,
)
from agentic_os.http.door import Api
from agentic_os.http.guessing import Guessing
from agentic_os.http.problems import install


def create_app(backend: Backend) -> FastAPI:
    """Put the API together over a backend."""
    app = Api(
        title="agentic-os",
        version=__version__,
        summary="The backend that governs AI agents: agents execute, the backend decides.",
        redirect_slashes=False,
    )
    app.state.backend = backend
    app.state.guessing = Guessing(backend.rates)
    install(app)
    for module in (
        callbacks,
        tasks,
        history,
        artifacts,
        administration,
        credentials,
        evidence,
        decisions,
        governing,
        reconciliation,
        observations,
        skills,
    ):
        app.include_router(module.router)
    return app
