"""What a removed tenant leaves behind: nothing in the end; what is anybody else's stays."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from storage import redis_keys
from storage.batch import Batch
from storage.batches import Batches, new_batch_id
from storage.bill import day_of
from storage.bills import Bills
from storage.deliveries import Deliveries
from storage.endpoints import Endpoints
from storage.file import File, Purpose
from storage.files import Files, new_file_id
from storage.job import SCHEMA
from storage.jobs import Budget, Idempotency, Jobs, Seating
from storage.redis_client import Commands
from storage.settings import RetentionSettings
from storage.tenant import Tenant, new_key
from storage.tenants import Tenants
from storage.vault import Vault
from tests.doubles import PNG, Clock, FailingObjects
from tests.samples import NOW, a_job, an_endpoint
from worker.remover import KEPT, Remover


HOOK = "https://example.com/hook"


@dataclass
class House:
    """Everything that tenants may have, and the remover."""

    commands: Commands
    remover: Remover

    async def settle(self, tenant: str, jobs: int = 3) -> None:
        """Give a tenant some of each kind of thing."""
        remover = self.remover
        await remover.tenants.add(Tenant(id=tenant, created_at=NOW, max_running=1))
        key, _ = new_key(tenant, NOW, spend_per_day=5.0)
        await remover.tenants.add_key(key)
        await remover.tenants.note_use(key.id, NOW)
        await remover.endpoints.add(an_endpoint(f"we_{tenant}", tenant=tenant))
        keyring, _ = Vault(b"x" * 32).new_keyring(NOW)
        await remover.endpoints.own_or(tenant, lambda: keyring)
        await remover.batches.add(
            Batch(
                id=new_batch_id(tenant),
                tenant=tenant,
                endpoint="/v1/jobs",
                created_at=NOW,
                window=3600.0,
                plan="p",
            )
        )
        file = File(
            id=new_file_id(),
            tenant=tenant,
            filename="a.png",
            purpose=Purpose.VISION,
            content_type="image/png",
            bytes=len(PNG),
            created_at=NOW,
            expires_at=time.time() + 3600,
        )
        await remover.files.put(file)
        await remover.objects.put(file.key, PNG, content_type="image/png")
        for at in range(jobs):
            job = a_job(f"job_{tenant}_{at}", tenant=tenant, webhook_url=HOOK, reserved=0.1)
            await remover.jobs.add(
                job,
                idempotency=Idempotency(f"k{at}", "print"),
                budget=Budget(100.0),
                seating=Seating(1000),
            )
            object_key = f"t/{tenant}/{job.id}/in/0.png"
            await remover.objects.put(object_key, PNG, content_type="image/png")
        ended = await remover.jobs.find(f"job_{tenant}_0")
        assert ended is not None
        await remover.jobs.swap(ended, ended.cancelled(NOW))

    async def remove(self, tenant: str, now: float) -> None:
        assert await self.remover.tenants.change(tenant, lambda one: one.removed(now)) is not None

    async def take_all_steps(self) -> None:
        for _ in range(100):
            if await self.remover.step() == 0:
                return
        raise AssertionError("it never ends")

    async def named(self, tenant: str) -> list[str]:
        """Return what in Redis still names a tenant, but for what runs out by itself."""
        keys = [key for key in await self.commands.execute("KEYS", "*") if tenant.encode() in key]
        lives = [await self.commands.execute("PTTL", key) for key in keys]
        return sorted(key.decode() for key, life in zip(keys, lives, strict=True) if life < 0)

    async def objects_of(self, tenant: str) -> int:
        return len([key async for key, _ in self.remover.objects.keys(f"t/{tenant}/")])


@pytest.fixture
def house(commands: Commands, clock: Clock, tmp_path: Path) -> House:
    return House(commands, a_remover(commands, clock, FailingObjects(tmp_path)))


def a_remover(commands: Commands, clock: Callable[[], float], objects: FailingObjects) -> Remover:
    retention = RetentionSettings()
    return Remover(
        tenants=Tenants(commands),
        endpoints=Endpoints(commands),
        batches=Batches(commands, retention, clock=clock),
        jobs=Jobs(commands, retention, clock=clock),
        files=Files(commands),
        deliveries=Deliveries(commands),
        bills=Bills(commands),
        objects=objects,
        clock=clock,
    )


async def test_all_that_a_removed_tenant_has_goes_and_nothing_of_anothers(
    house: House, clock: Clock
) -> None:
    for tenant in ("acme", "globex"):
        await house.settle(tenant)
    others = await house.named("globex")
    await house.remove("acme", clock())
    await house.take_all_steps()
    assert await house.objects_of("acme") == 0
    assert await house.remover.tenants.get("acme") is not None  # its name is kept for a while
    clock.advance(KEPT)
    await house.take_all_steps()
    assert await house.remover.tenants.get("acme") is None
    assert await house.named("acme") == []
    spent = redis_keys.committed("acme", day_of(NOW))
    assert await house.commands.execute("EXISTS", spent) == 0
    assert await house.remover.tenants.removed(5) == []
    assert (await house.named("globex"), await house.objects_of("globex")) == (others, 4)
    queued = await house.commands.execute("ZRANGE", redis_keys.IMAGE_QUEUE, 0, -1)
    assert len(queued) == 2  # a job and the batch of the other
    assert not [task_id for task_id in queued if b"acme" in task_id]
    flows = await house.commands.execute("HKEYS", redis_keys.flows(redis_keys.IMAGE_QUEUE))
    assert not [flow for flow in flows if b"acme" in flow]
    assert await house.remover.jobs.open_of_all() == 3  # and one that stands


async def test_many_things_go_in_steps(house: House, clock: Clock) -> None:
    await house.settle("acme", jobs=250)
    await house.remove("acme", clock())
    steps = 0
    while went := await house.remover.step():
        assert went <= 500
        steps += 1
    assert steps >= 8
    assert await house.remover.jobs.oldest("acme", 10) == []


async def test_what_comes_late_goes_too(house: House, clock: Clock) -> None:
    await house.settle("acme")
    await house.remove("acme", clock())
    await house.take_all_steps()
    await house.remover.jobs.add(a_job("late", tenant="acme"))  # its upload took long
    clock.advance(KEPT)
    await house.take_all_steps()
    assert await house.remover.jobs.find("late") is None
    assert await house.remover.tenants.get("acme") is None


async def test_one_takes_a_step_at_a_time(house: House, clock: Clock) -> None:
    await house.settle("acme")
    await house.remove("acme", clock())
    assert await house.remover.tenants.take_removal("acme", 10)
    assert await house.remover.step() == 0
    await house.remover.tenants.leave_removal("acme")
    assert await house.remover.step() > 0


async def test_an_outage_of_the_objects_is_outlasted(
    house: House, clock: Clock, commands: Commands, tmp_path: Path
) -> None:
    class Away(FailingObjects):
        async def delete(self, keys: object) -> None:
            self._fail()
            await super().delete(keys)  # type: ignore[arg-type]  # passed on as it came

    remover = a_remover(commands, clock, Away(tmp_path, away=2))
    await house.settle("acme")
    await house.remove("acme", clock())
    running = asyncio.create_task(remover.run(0.001))
    async with asyncio.timeout(10):
        while await house.objects_of("acme"):
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_job_of_a_newer_version_is_waited_for(house: House, clock: Clock) -> None:
    await house.settle("acme")
    newer = a_job("newer", tenant="acme", schema=SCHEMA + 1)
    await house.remover.jobs.add(newer)
    await house.commands.execute("HSET", redis_keys.job("job_acme_1"), "document", "{}")
    await house.remove("acme", clock())
    await house.take_all_steps()
    clock.advance(KEPT)
    await house.take_all_steps()
    assert await house.remover.jobs.oldest("acme", 10) == [newer.id]
    assert await house.remover.tenants.get("acme") is not None
