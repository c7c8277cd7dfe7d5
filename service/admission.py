"""Admission: whether a request that submits may come in, decided before its body is read.

What is refused here costs next to nothing, so that being overrun does not slow down what was taken
in. How many jobs there are is asked once a second at most and believed meanwhile, for longer while
there is ample room; a tenant's own bound holds exactly all the same, since the step that adds a job
counts again.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from storage.errors import Error, TooMany, Unavailable
from storage.jobs import Jobs
from storage.rate import Rate, Ruling
from storage.rates import Rates
from storage.tenant import ApiKey, Tenant, rates_of


BELIEVED: Final = 1.0  # seconds
BELIEVED_FAR_OFF: Final = 5.0  # seconds, in which a process takes in fewer jobs than are ample
AMPLE: Final = 10_000  # jobs
RETRY_AFTER: Final = 5.0  # seconds
MOST_REMEMBERED: Final = 10_000
FEW: Final = 60  # a minute, of what leaves a record and is no job


class TooFast(TooMany):
    """A rate has no room for the request; `ruling` says where the caller stands."""

    def __init__(self, ruling: Ruling) -> None:
        super().__init__("Too many requests.", retry_after=ruling.wait, code="rate_limit_exceeded")
        self.ruling = ruling


@dataclass(slots=True)
class _Count:
    open: int = 0
    until: float = 0.0


class Admission:
    """Lets submitting requests in, while at most `most` jobs are open over all tenants."""

    def __init__(self, jobs: Jobs, rates: Rates, *, most: int) -> None:
        self._jobs = jobs
        self._rates = rates
        self._most = most
        self._all = _Count()
        self._counts: OrderedDict[str, _Count] = OrderedDict()

    async def admit(self, tenant: Tenant, key: ApiKey, now: float) -> Ruling:
        """Return where the caller stands with its rates, after this request.

        Raises `Unavailable` while too many jobs are open or Redis does not answer, `TooMany` while
        the tenant has too many, and `TooFast`. What is refused uses up no rate.
        """
        if await self._open_of_all(now) >= self._most:
            raise Unavailable(
                "Too many jobs are waiting.", retry_after=RETRY_AFTER, code="overloaded"
            )
        most = tenant.max_queued
        if most is not None and await self._open_of(tenant, now) >= most:
            raise TooMany(
                "As many jobs are open as the tenant may have.",
                retry_after=RETRY_AFTER,
                code="queue_full",
            )
        ruling = await self._rates.take(tenant.id, rates_of(tenant, key))
        if ruling.wait > 0:
            raise TooFast(ruling)
        return ruling

    async def pace(self, tenant: Tenant, what: str) -> None:
        """Count one thing that a tenant may ask for `FEW` times a minute; raises `TooFast`."""
        ruling = await self._rates.take(tenant.id, [Rate(what, FEW)])
        if ruling.wait > 0:
            raise TooFast(ruling)

    def took_in(self, tenant: Tenant) -> None:
        """Count a job that was added after the counts were asked."""
        self._all.open += 1
        if (count := self._counts.get(tenant.id)) is not None:
            count.open += 1

    async def _open_of_all(self, now: float) -> int:
        if self._all.until <= now:
            await self._ask(self._all, None, now)
            if self._most - self._all.open >= AMPLE:
                self._all.until = now + BELIEVED_FAR_OFF
        return self._all.open

    async def _open_of(self, tenant: Tenant, now: float) -> int:
        count = self._counts.get(tenant.id)
        if count is None:
            count = self._counts[tenant.id] = _Count()
            if len(self._counts) > MOST_REMEMBERED:
                self._counts.popitem(last=False)
        if count.until <= now:
            await self._ask(count, tenant.id, now)
        return count.open

    async def _ask(self, count: _Count, tenant: str | None, now: float) -> None:
        """Ask for a count; whoever comes meanwhile goes by the old one."""
        count.until = now + BELIEVED
        try:
            if tenant is None:
                count.open = await self._jobs.open_of_all()
            else:
                count.open = await self._jobs.open_of(tenant)
        except Error:
            count.until = 0.0
            raise
