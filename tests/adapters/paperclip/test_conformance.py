"""The adapter to Paperclip keeps the control plane's contract on a real Paperclip."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.adapters.paperclip.paperclip_company import Company, Hooks, People

from agentic_os.control_plane.conformance import ControlPlaneConformance, TrackerHarness
from agentic_os_paperclip.server import PaperclipServer


@pytest.mark.paperclip
class TestPaperclip(ControlPlaneConformance):
    @pytest_asyncio.fixture
    async def tracker(
        self, paperclip: PaperclipServer, people: People, hooks: Hooks
    ) -> AsyncIterator[TrackerHarness]:
        company = Company(paperclip, people, hooks)
        yield company
        await company.close()
