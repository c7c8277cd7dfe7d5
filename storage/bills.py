"""Bills: where they are kept, and what a tenant has spent today."""

import asyncio
from typing import Any

from storage import redis_keys
from storage.bill import NANO, Bill
from storage.redis_client import Commands


_FIELDS = tuple(part for n in range(5) for part in ("GET", "i64", f"#{n}"))


class Bills:
    """All bills. Every method may raise `storage.errors.Unavailable`."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def between(self, tenant: str, first: str, last: str) -> list[Bill]:
        """Return a tenant's bills of the days `first` to `last`, by day and then by model."""
        bottom, top = _score(first), _score(last)
        names: list[bytes] = await self._commands.execute(
            "ZRANGEBYSCORE", redis_keys.bills_of(tenant), bottom, top
        )
        places = [name.decode().split(" ", 1) for name in names]
        rows = await asyncio.gather(
            *(
                self._commands.issue("BITFIELD", redis_keys.bill(tenant, day, model), *_FIELDS)
                for day, model in places
            )
        )
        found = [_bill(day, model, row) for (day, model), row in zip(places, rows, strict=True)]
        return sorted(found, key=lambda bill: (bill.day, bill.model))

    async def spent(self, tenant: str, day: str) -> float:
        """Return what is known of what a tenant's jobs that ended on that day cost, in USD."""
        return round(sum(bill.cost for bill in await self.between(tenant, day, day)), 9)

    async def forget_of(self, tenant: str, most: int) -> int:
        """Forget up to `most` of a tenant's bills, and return how many."""
        index = redis_keys.bills_of(tenant)
        names: list[bytes] = await self._commands.execute("ZRANGE", index, 0, most - 1)
        for name in names:
            day, model = name.decode().split(" ", 1)
            await self._commands.execute("DEL", redis_keys.bill(tenant, day, model))
            await self._commands.execute("ZREM", index, name)
        return len(names)


def _bill(day: str, model: str, row: list[Any]) -> Bill:
    jobs, images, unknown, nano, risk = row
    return Bill(
        day=day,
        model=model,
        jobs=jobs,
        images=images,
        unknown=unknown,
        cost=nano / NANO,
        at_risk=risk / NANO,
    )


def _score(day: str) -> int:
    return int(day.replace("-", ""))
