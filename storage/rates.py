"""Rates: where requests are counted, for all service processes together and by Redis's clock."""

from collections.abc import Sequence

from storage import redis_keys, scripts
from storage.line import Argument
from storage.rate import Rate, Ruling, Standing
from storage.redis_client import Commands


class Rates:
    """The counts of all tenants. Every method may raise `storage.errors.Unavailable`."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def take(self, tenant: str, rates: Sequence[Rate]) -> Ruling:
        """Count one request if every rate has room for it; without rates nothing is asked.

        A request that has to wait is counted nowhere.
        """
        if not rates:
            return Ruling(0.0, ())
        keys = [redis_keys.rate(tenant, f"{rate.name}:{rate.counter}") for rate in rates]
        args: list[Argument] = []
        for rate in rates:
            args += [rate.interval_us, rate.per_minute]
        wait, *rest = await self._commands.eval(scripts.GCRA, keys, args)
        standings = (
            Standing(rate, remaining, reset / 1e6)
            for rate, remaining, reset in zip(rates, rest[::2], rest[1::2], strict=True)
        )
        return Ruling(wait / 1e6, tuple(standings))
