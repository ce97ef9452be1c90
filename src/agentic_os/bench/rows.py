"""A measurement and its target."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure. limit: the limit line of the same run, in the same unit. target: what ratio (or value) is asked.

    at_most: whether the ratio (or value) is to stay below the target, rather than above it.
    """

    name: str
    value: float
    unit: str
    target: float
    limit: float | None = None
    at_most: bool = False

    @property
    def ratio(self) -> float | None:
        """Divide by the limit line."""
        return None if self.limit is None else round(self.value / self.limit, 3)

    @property
    def ok(self) -> bool:
        """Tell whether the target is met."""
        measured = self.value if self.ratio is None else self.ratio
        return measured <= self.target if self.at_most else measured >= self.target

    def as_json(self) -> dict[str, object]:
        """Describe the row for programs."""
        return {
            "name": self.name,
            "value": round(self.value, 3),
            "unit": self.unit,
            "limit": None if self.limit is None else round(self.limit, 3),
            "ratio": self.ratio,
            "target": self.target,
            "ok": self.ok,
        }


def machine() -> str:
    """Describe the machine in a few words."""
    return f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}"


def median(values: Sequence[float]) -> float:
    """Take the middle value."""
    return sorted(values)[len(values) // 2]


def percentile(values: Sequence[float], share: float) -> float:
    """Take the value below which this share of the values lies."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]
