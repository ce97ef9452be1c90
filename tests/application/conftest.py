"""A desk over a backend with a tracker in memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.conftest import Database, OpenBackend
from tests.desk import PEOPLE, open_client
from tests.tracked_desk import CountingTracker, RememberingPlane, TrackedDesk


@pytest.fixture
def tracker() -> CountingTracker:
    """Open a tracker."""
    return CountingTracker()


@pytest.fixture
async def desk(
    open_test_backend: OpenBackend, database: Database, tracker: CountingTracker
) -> AsyncIterator[TrackedDesk]:
    """Open the API over a backend with the tracker, with people who have accounts on it."""
    async with opened(RememberingPlane(tracker), tracker, open_test_backend, database) as found:
        yield found


@pytest.fixture
async def beside(
    open_test_backend: OpenBackend, database: Database, tracker: CountingTracker
) -> AsyncIterator[TrackedDesk]:
    """Open the same with a tracker that keeps documents, and the status note in a place of its own."""
    async with opened(RememberingPlane(tracker, beside=True), tracker, open_test_backend, database) as found:
        yield found


@asynccontextmanager
async def opened(
    plane: RememberingPlane, tracker: CountingTracker, open_test_backend: OpenBackend, database: Database
) -> AsyncIterator[TrackedDesk]:
    """Open the API over a backend with this port to the tracker."""
    async with open_test_backend(control_plane=plane) as backend, open_client(backend) as client:
        found = TrackedDesk(backend, client, database.owner)
        found.plane, found.tracker = plane, tracker
        await found.staff()
        await found.introduce(*PEOPLE)
        yield found
