"""The API with the door of executors ahead of the framework's routing.

What agents call most spends its time on the decision: the framework's layers around one endpoint cost as much as
the whole of it. The route of the same address stays, for the published description and for other methods.
"""

from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.types import Receive, Scope, Send

from agentic_os.http.callbacks import PATH, answer
from agentic_os.http.description import describe
from agentic_os.http.problems import answer_exception, too_fast


class Api(FastAPI):
    """A FastAPI application that answers callbacks before it looks for a route."""

    def openapi(self) -> dict[str, Any]:
        """Describe the API, with what the framework does not know of it."""
        if self.openapi_schema is None:
            self.openapi_schema = describe(super().openapi())
        return self.openapi_schema

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a callback, or pass the request on."""
        if scope["type"] == "http" and self.state.guessing and (wait := self.state.guessing.wait(scope)):
            await too_fast(wait)(scope, receive, send)
            return
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await super().__call__(scope, receive, send)
            return
        scope["app"], scope["door"] = self, PATH
        request = Request(scope, receive)
        response: Response
        try:
            response = await answer(request)
        except Exception as problem:  # noqa: BLE001 - every exception has its problem document
            response = await answer_exception(request, problem)
        await response(scope, receive, send)
