"""How often a client address may be wrong about a credential before nothing more of it is looked at."""

from typing import Final

from starlette.types import Scope

from agentic_os.application.attempt_tokens import PREFIX
from agentic_os.application.rates import Buckets, Rates

_OURS: Final = f"bearer {PREFIX}".encode()


class Guessing:
    """Counts the 401s of each client address.

    Once an address has used them up, a credential from it is not looked at, right or wrong, so that nothing can be
    learnt. Attempt tokens are: one that is authentic was never guessed, and runs behind the same address go on.
    """

    def __init__(self, rates: Rates) -> None:
        self._buckets = Buckets(rates.refusals)
        self._clock = rates.clock

    def __bool__(self) -> bool:
        """Tell whether any address was ever wrong."""
        return bool(self._buckets)

    def note(self, scope: Scope) -> float:
        """Count a 401; return how many seconds its address must wait, 0 while it may go on."""
        return self._buckets.take(_address(scope), self._clock())

    def wait(self, scope: Scope) -> float:
        """Say how many seconds a request must wait before its credential is looked at."""
        wait = self._buckets.wait(_address(scope), self._clock())
        if not wait:
            return 0.0
        for name, value in scope["headers"]:
            if name == b"authorization":
                return 0.0 if value.lower().startswith(_OURS) else wait
        return 0.0


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""
