"""The retry budget: retries are a small share of all calls, so that they cannot become a storm.

An upstream that fails half of its calls would otherwise get half as many again, just when it can
bear them least. Each worker keeps its own count, for each deployment; going elsewhere is no retry.
"""

from collections import deque


SPAN = 60.0
SHARE = 0.1
LEAST = 10


class Budget:
    """Calls and retries of the last minute, by deployment. `now` is in seconds."""

    def __init__(self) -> None:
        self._calls: dict[str, deque[float]] = {}
        self._retries: dict[str, deque[float]] = {}

    def allows(self, deployment: str, now: float) -> bool:
        """Say whether one more retry is within the budget; a few always are."""
        calls = _recent(self._calls.get(deployment), now)
        return _recent(self._retries.get(deployment), now) < max(LEAST, SHARE * calls)

    def spend(self, deployment: str, now: float, *, retry: bool) -> None:
        """Count a call."""
        self._calls.setdefault(deployment, deque()).append(now)
        if retry:
            self._retries.setdefault(deployment, deque()).append(now)


def _recent(moments: deque[float] | None, now: float) -> int:
    if moments is None:
        return 0
    while moments and moments[0] <= now - SPAN:
        moments.popleft()
    return len(moments)
