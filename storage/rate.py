"""A rate: how many requests may come in a minute, and where a caller stands with it.

A whole minute's requests may come at one time; after that they come evenly. In a span of t minutes
no more than (t + 1) times the rate come through, wherever the span begins.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in a minute, at least 1.

    `name` says whose limit it is; `counter` tells those of one tenant that have one name apart.
    """

    name: str
    per_minute: int
    counter: str = ""

    @property
    def interval_us(self) -> int:
        """Return the microseconds from one request to the next when they come evenly."""
        return math.ceil(60_000_000 / self.per_minute)


@dataclass(frozen=True, slots=True)
class Standing:
    """How many more requests may come now, and the seconds until a whole minute's may."""

    rate: Rate
    remaining: int
    reset: float


@dataclass(frozen=True, slots=True)
class Ruling:
    """Whether a request may pass: `wait` is 0, or the seconds after which it may."""

    wait: float
    standings: tuple[Standing, ...]

    @property
    def policy(self) -> str:
        """Return the rates as the `RateLimit-Policy` field of the IETF's draft has them."""
        return _items(f'"{s.rate.name}";q={s.rate.per_minute};w=60' for s in self.standings)

    @property
    def state(self) -> str:
        """Return where the caller stands as the `RateLimit` field of the draft has it."""
        return _items(
            f'"{s.rate.name}";r={s.remaining};t={math.ceil(s.reset)}' for s in self.standings
        )


def _items(items: Iterable[str]) -> str:
    return ", ".join(items)
