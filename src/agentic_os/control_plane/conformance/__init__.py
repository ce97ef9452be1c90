"""What every control plane must do, as tests to subclass. Importing this needs pytest and pytest-asyncio.

A tracker's author writes a TrackerHarness, gives it to the tests as the fixture `tracker`, and subclasses
`ControlPlaneConformance` in a test module of their own: see docs/how-to/new-control-plane.md.
"""

import pytest

# Before the modules are imported, so that a failed assertion shows both sides in a third party's run, too.
pytest.register_assert_rewrite(
    *(
        f"{__name__}.{module}"
        for module in (
            "harness",
            "issues",
            "notes",
            "beside",
            "assignment",
            "agents",
            "costs",
            "feed",
            "failures",
        )
    )
)

from agentic_os.control_plane.conformance.agents import Agents  # noqa: E402 - see above
from agentic_os.control_plane.conformance.assignment import Assigning  # noqa: E402
from agentic_os.control_plane.conformance.beside import Documents, StatusNote  # noqa: E402
from agentic_os.control_plane.conformance.costs import Costs  # noqa: E402
from agentic_os.control_plane.conformance.failures import Failures, Identities, Restarts  # noqa: E402
from agentic_os.control_plane.conformance.feed import Feed, Webhooks  # noqa: E402
from agentic_os.control_plane.conformance.harness import PostedComment, SpentOnIssue, TrackerHarness  # noqa: E402
from agentic_os.control_plane.conformance.issues import (  # noqa: E402
    ChangingIssues,
    CreatingIssues,
    ObservingIssues,
)
from agentic_os.control_plane.conformance.notes import Gates, Notes, Reactions  # noqa: E402

__all__ = ["ControlPlaneConformance", "PostedComment", "SpentOnIssue", "TrackerHarness"]


@pytest.mark.asyncio
class ControlPlaneConformance(
    CreatingIssues,
    ObservingIssues,
    ChangingIssues,
    Notes,
    Reactions,
    Gates,
    Documents,
    StatusNote,
    Assigning,
    Agents,
    Costs,
    Feed,
    Webhooks,
    Failures,
    Identities,
    Restarts,
):
    """Everything that the reconciler relies on. A subclass adds the fixture `tracker`, a TrackerHarness."""
