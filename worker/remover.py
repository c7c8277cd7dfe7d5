"""The remover: takes away what a removed tenant has, a bounded step at a time.

Its endpoints go first, so that nobody is told of what follows; then its batches, so that no more
jobs come of them, its jobs, its files, its deliveries, its bills and all its objects. Who was
let in before the removal may still add something for a while, so the tenant's name is kept until
nothing has been found for some time; until then nobody else can be of that name. Each step is safe
to take twice, and one worker takes it at a time.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from storage.batches import Batches
from storage.bills import Bills
from storage.deliveries import Deliveries
from storage.endpoints import Endpoints
from storage.errors import Error, Unavailable
from storage.files import Files
from storage.job import JobId, Newer
from storage.jobs import Jobs
from storage.objects import Objects
from storage.tenant import Tenant
from storage.tenants import Tenants


KEPT: Final = 900.0  # seconds; longer than any request that was let in may take
_AT_ONCE: Final = 100
_OBJECTS_AT_ONCE: Final = 500
_TENANTS: Final = 5
_MOST_STEPS: Final = 1000
_LONGEST_STEP: Final = 60.0

log = structlog.get_logger("worker.remover")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remover:
    """Takes removed tenants away. `clock` gives Unix seconds."""

    tenants: Tenants
    endpoints: Endpoints
    batches: Batches
    jobs: Jobs
    files: Files
    deliveries: Deliveries
    bills: Bills
    objects: Objects
    clock: Callable[[], float]

    async def run(self, every: float) -> None:
        """Take steps again and again until cancelled; a fault ends one round, never the remover."""
        while True:
            await asyncio.sleep(every * random.uniform(0.7, 1.3))  # noqa: S311 — jitter
            try:
                for _ in range(_MOST_STEPS):
                    if not await self.step():
                        break
            except Unavailable as error:
                log.warning("remover_waits", reason=error.message)
            except Exception as fault:
                log.exception("remover_fault", fault=type(fault).__name__)

    async def step(self) -> int:
        """Take one step for each of some tenants, and return how many things went."""
        went = 0
        for tenant in await self.tenants.removed(_TENANTS):
            if await self.tenants.take_removal(tenant.id, 2 * _LONGEST_STEP):
                try:
                    async with asyncio.timeout(_LONGEST_STEP):
                        went += await self._step(tenant)
                finally:
                    await self.tenants.leave_removal(tenant.id)
        return went

    async def _step(self, tenant: Tenant) -> int:
        """Take away the first kind of thing that is left; when there is none, forget the tenant."""
        kinds: tuple[Callable[[], Awaitable[int]], ...] = (
            lambda: self.tenants.forget_keys(tenant.id),
            lambda: self.endpoints.forget_of(tenant.id),
            lambda: self.batches.forget_of(tenant.id, _AT_ONCE),
            lambda: self._jobs_of(tenant.id),
            lambda: self.files.forget_of(tenant.id, _AT_ONCE),
            lambda: self.deliveries.forget_of(tenant.id, self.clock(), _AT_ONCE),
            lambda: self.bills.forget_of(tenant.id, _AT_ONCE),
            lambda: self._objects_of(tenant.id),
        )
        for remove in kinds:
            if went := await remove():
                return went
        left = await self.jobs.oldest(tenant.id, 1)
        if not left and self.clock() >= (tenant.removed_at or 0.0) + KEPT:
            await self.jobs.forget_flows(tenant.id)
            await self.tenants.forget(tenant.id, self.clock())
            log.info("tenant_removed", tenant=tenant.id)
        return 0

    async def _jobs_of(self, tenant: str) -> int:
        ids = await self.jobs.oldest(tenant, _AT_ONCE)
        gone = [await self._end(tenant, job_id) for job_id in ids]
        return sum(gone)

    async def _end(self, tenant: str, job_id: JobId) -> bool:
        """End a job and forget it; False when it is to be tried again."""
        try:
            if not await self._has_ended(job_id):
                return False
        except Unavailable:
            raise
        except Newer:  # one of its own version sees to it
            return False
        except Error as fault:  # nobody can read it
            log.warning("job_unreadable", job=job_id, reason=fault.message)
        await self.jobs.drop(tenant, job_id)
        return True

    async def _has_ended(self, job_id: JobId) -> bool:
        """Cancel a job that is open; False when its worker wrote first."""
        job = await self.jobs.find(job_id)
        if job is None or job.is_ended:
            return True
        written = await self.jobs.swap(job, job.cancelled(self.clock()))
        if written is None:
            return False
        await self.jobs.tell_cancelled(written)
        return True

    async def _objects_of(self, tenant: str) -> int:
        keys: list[str] = []
        async for key, _ in self.objects.keys(f"t/{tenant}/"):
            keys.append(key)
            if len(keys) >= _OBJECTS_AT_ONCE:
                break
        await self.objects.delete(keys)
        return len(keys)
