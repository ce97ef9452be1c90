"""The published OpenAPI document, and whatever a generator makes of it: never a fault of the server."""

import asyncio
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.openapi import from_dict
from tests.desk import Desk, bearer, token

from agentic_os.http.app import create_app

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
"""Requests are drawn in a thread of their own, while the pool of connections draws its jitter beside it."""

EXAMPLES = 15
IGNORED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much]


async def test_every_operation_is_documented(desk: Desk) -> None:
    """Each route has a summary and a success answer, and each body that is read by hand its schema."""
    document = (await desk.client.get("/openapi.json")).json()
    assert document["paths"]
    for path, item in document["paths"].items():
        for method, operation in item.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert any(code.startswith("2") for code in operation["responses"]), where


async def test_generated_requests_cause_no_fault(desk: Desk) -> None:
    """Valid, invalid and hostile requests to every operation, as an administrator, are answered below 500."""
    await desk.executor()
    task_id = await desk.task()
    document = create_app(desk.backend).openapi()
    loop = asyncio.get_running_loop()
    faults: list[str] = []
    operations = [result.ok() for result in from_dict(document).get_all_operations()]
    assert len(operations) >= 20
    for operation in operations:
        await asyncio.to_thread(_explore, operation, desk, task_id, loop, faults)
    assert [] == faults


def _explore(
    operation: Any, desk: Desk, task_id: str, loop: asyncio.AbstractEventLoop, faults: list[str]
) -> None:
    """Draw requests for one operation, and send each on the loop that the backend lives on."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=IGNORED,
    )
    @given(case=operation.as_strategy())
    def explore(case: schemathesis.Case) -> None:
        answer = asyncio.run_coroutine_threadsafe(_send(case, desk, task_id), loop).result()
        if answer.status_code >= 500:
            faults.append(f"{case.method} {answer.request.url}: {answer.status_code} {answer.text}")

    explore()


async def _send(case: schemathesis.Case, desk: Desk, task_id: str) -> httpx.Response:
    if "task_id" in case.path_parameters and len(str(case.path_parameters["task_id"])) % 2:
        case.path_parameters["task_id"] = task_id
    parts = case.as_transport_kwargs(base_url="http://desk")
    wanted = ("method", "url", "params", "json", "data", "content")
    request = {name: parts[name] for name in wanted if parts.get(name) is not None}
    if isinstance(request.get("data"), bytes):
        request["content"] = request.pop("data")
    return await desk.client.request(**request, headers=bearer(token("ada")))
