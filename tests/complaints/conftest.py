"""A desk over a backend without a tracker."""

from collections.abc import AsyncIterator

import pytest
from tests.conftest import Database
from tests.desk import Desk, open_client

from agentic_os.application.backend import Backend


@pytest.fixture
async def desk(backend: Backend, database: Database) -> AsyncIterator[Desk]:
    """Open the API, with an admin, an operator, a reviewer and a viewer registered."""
    async with open_client(backend) as client:
        found = Desk(backend, client, database.owner)
        await found.staff()
        yield found
