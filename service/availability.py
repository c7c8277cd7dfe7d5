"""Which deployments are on: what the workers announce, asked now and then.

Only a worker knows which keys it has. While at least one announces itself, a model that none of
them can serve is refused; while none does, jobs are taken in and wait for one.
"""

from typing import Final

from storage import redis_keys
from storage.catalog import Model
from storage.errors import Unavailable
from storage.redis_client import Commands


FRESH: Final = 60.0  # seconds; workers announce themselves every 20
BELIEVED: Final = 2.0


class Availability:
    """Knows which deployments some worker can call."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._on: frozenset[str] = frozenset()
        self._until = 0.0

    async def check(self, model: Model, now: float) -> None:
        """Raise `Unavailable` when workers are there, but none that can serve the model."""
        names = {deployment.name for deployment in model.deployments}
        on = await self.on(now)
        if on and on.isdisjoint(names):
            self._until = 0.0  # it may have come a moment ago, with a new catalog
            on = await self.on(now)
        if on and on.isdisjoint(names):
            raise Unavailable(
                f"No deployment of {model.name} is on.",
                code="model_unavailable",
                retry_after=30.0,
            )

    async def on(self, now: float) -> frozenset[str]:
        """Return the names of the deployments that are on; none when no worker is known."""
        if self._until <= now:
            names = await self._commands.execute(
                "ZRANGEBYSCORE", redis_keys.DEPLOYMENTS_ON, now - FRESH, "+inf"
            )
            self._on = frozenset(name.decode() for name in names)
            self._until = now + BELIEVED
        return self._on
