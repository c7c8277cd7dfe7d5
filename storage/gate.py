"""A gate: what stands before a deployment, and lets no more pass than its limits allow.

The limits are those of the catalog, put into the numbers that the scripts reckon with. How the gate
stands right now (paused, tripped, full) is kept by `storage.traffic`, for all workers.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from storage.catalog import Deployment


ERRORS = "errors"


class GateState(StrEnum):
    """How a gate stands, in one word.

    One that tripped over errors is tried again after seconds, one whose credentials were refused is
    switched off for minutes.
    """

    OPEN = "open"
    PAUSED = "paused"
    TRIPPED = "tripped"
    SWITCHED_OFF = "switched_off"


@dataclass(frozen=True, slots=True)
class Gate:
    """The limits of one deployment; None where there is none."""

    name: str
    limit: int | None = None
    per_minute: int | None = None

    @classmethod
    def of(cls, deployment: Deployment) -> "Gate":
        """Return the gate of a deployment."""
        return cls(deployment.name, deployment.max_concurrency, deployment.requests_per_minute)

    @property
    def is_limited(self) -> bool:
        """Say whether calls have to be counted over all workers."""
        return self.limit is not None or self.per_minute is not None

    @property
    def numbers(self) -> tuple[float, float, float]:
        """Return calls at once, and the interval and tolerance of GCRA in ms; 0 for no limit.

        A tenth of a minute's calls may come at one time. The others come evenly, and so slowly that
        no minute sees more than its limit, wherever it begins.
        """
        if self.per_minute is None:
            return float(self.limit or 0), 0.0, 0.0
        burst = max(1, self.per_minute // 10)
        interval = 60_000 / (self.per_minute + 1 - burst)
        return float(self.limit or 0), round(interval, 3), round((burst - 1) * interval, 3)


@dataclass(frozen=True, slots=True)
class Crowd:
    """How a gate stands, how many calls are under way where they are counted, and who waits."""

    condition: "Condition"
    calls: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Who waits before which gates: its own flow, then those of its tenant that come before it.

    Whoever was taken out of the line as the `first` of it is the first again.
    """

    gates: tuple[Gate, ...]
    flows: tuple[str, ...]
    first: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """How a gate stood when it was told, in seconds from then.

    `paused` is how long the upstream asked to be left alone. `tripped` is how long until one call
    may try whether a gate that tripped can be opened again, and None while it has not tripped;
    `reason` then says why and `since` for how long.
    """

    paused: float = 0.0
    tripped: float | None = None
    since: float = 0.0
    reason: str = ""

    @property
    def state(self) -> GateState:
        """Return the one word for it."""
        if self.tripped is not None:
            return GateState.TRIPPED if self.reason == ERRORS else GateState.SWITCHED_OFF
        return GateState.PAUSED if self.paused > 0 else GateState.OPEN

    @property
    def is_shut(self) -> bool:
        """Say whether nothing may pass yet, not even to try."""
        return self.paused > 0 or (self.tripped is not None and self.tripped > 0)

    def after(self, seconds: float) -> "Condition":
        """Return the condition so many seconds later, if nothing happens meanwhile."""
        paused = max(self.paused - seconds, 0.0)
        if self.tripped is None:
            return replace(self, paused=paused)
        left = max(self.tripped - seconds, 0.0)
        return replace(self, paused=paused, tripped=left, since=self.since + seconds)
