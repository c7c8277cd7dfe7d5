"""What stands in for the world in unit tests: time, Redis, upstreams."""

from arq.connections import ArqRedis
from fakeredis import FakeAsyncRedis


class Clock:
    """Unix seconds that move only when a test moves them."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def fake_redis() -> ArqRedis:
    """Return a client of a new Redis that lives inside this process."""
    return ArqRedis(FakeAsyncRedis().connection_pool)
