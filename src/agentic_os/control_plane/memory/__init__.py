"""A whole tracker kept in dictionaries, and the port to it: what the other parts are tested against.

`MemoryTracker` is the far side, where people act and faults are planted; `MemoryControlPlane` is the port.
"""

from agentic_os.control_plane.memory.plane import MemoryControlPlane
from agentic_os.control_plane.memory.tracker import Delivery, MemoryComment, MemoryIssue, MemoryTracker

__all__ = ["Delivery", "MemoryComment", "MemoryControlPlane", "MemoryIssue", "MemoryTracker"]
