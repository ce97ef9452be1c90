"""How much may come in how short a time: token buckets, kept in this process alone."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

from agentic_os.clock import elapsed

_KEPT: Final = 10_000
"""How many keys are remembered; who is forgotten begins anew with a full bucket."""


class RateLimited(Exception):
    """Too much came in too short a time; `wait` in seconds. message: of what, where that is known."""

    def __init__(self, wait: float, message: str = "Too much was sent in too short a time.") -> None:
        super().__init__(f"wait {wait:.1f} s")
        self.wait = wait
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So many a second in the long run, and so many at once."""

    per_second: float
    burst: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What an API process lets in; None is no limit.

    callbacks: of one attempt, or of one executor's own credential. refusals: 401s of one client address.
    clock: seconds since some fixed point.
    """

    callbacks: Rate | None = Rate(per_second=200, burst=2000)
    refusals: Rate | None = Rate(per_second=30 / 60, burst=100)
    clock: Callable[[], float] = elapsed


class Buckets:
    """A bucket of one rate for each key. The time is an argument, in seconds."""

    def __init__(self, rate: Rate | None) -> None:
        self._rate = rate
        self._levels: dict[Hashable, tuple[float, float]] = {}

    def __bool__(self) -> bool:
        """Tell whether anything was ever taken."""
        return bool(self._levels)

    def take(self, key: Hashable, at: float) -> float:
        """Take one; return 0, or how many seconds to wait where there is none, and then nothing is taken."""
        rate = self._rate
        if rate is None:
            return 0.0
        found = self._levels.get(key)
        if found is None:
            level = rate.burst
            if len(self._levels) >= _KEPT:
                del self._levels[next(iter(self._levels))]
        else:
            level = min(rate.burst, found[0] + (at - found[1]) * rate.per_second)
        if level < 1:
            return (1 - level) / rate.per_second
        self._levels[key] = (level - 1, at)
        return 0.0

    def wait(self, key: Hashable, at: float) -> float:
        """Say how many seconds there are to wait until one can be taken."""
        found = self._levels.get(key)
        if found is None or self._rate is None:
            return 0.0
        level = found[0] + (at - found[1]) * self._rate.per_second
        return 0.0 if level >= 1 else (1 - level) / self._rate.per_second
