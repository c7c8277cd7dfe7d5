"""A batch's plan, followed in steps: what a crash repeats, what time and money end."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from storage import redis_keys
from storage.batch import Batch, BatchStatus
from storage.batches import Batches, new_batch_id
from storage.bills import Bills
from storage.failure import Failure, FailureCode
from storage.files import Files
from storage.image import Image, ImageStatus
from storage.job import Job, JobId
from storage.jobs import Jobs
from storage.plans import error_line, job_line
from storage.redis_client import Commands
from storage.settings import RetentionSettings
from storage.tenant import Tenant
from storage.tenants import Tenants
from tests.doubles import Clock, FailingObjects
from tests.samples import NOW, a_job
from worker.batching import AT_ONCE, WINDOW, Batching
from worker.outcome import Again, Nothing, Settled


@dataclass
class Desk:
    """What a batch is followed with, and a stand-in for the workers that end its jobs."""

    batching: Batching
    commands: Commands
    clock: Clock

    async def begun(self, count: int, *, bad: int = 0, **job: Any) -> Batch:
        batch = Batch(
            id=new_batch_id("acme"),
            tenant="acme",
            endpoint="/v1/jobs",
            created_at=self.clock(),
            window=3600.0,
            plan="p",
            total=count + bad,
            webhook_url="https://example.com/hook",
        )
        lines = [
            job_line(f"r{n}", a_job(f"job_{n}", batch=batch.id, start_by=batch.expires_at, **job))
            for n in range(count)
        ]
        lines += [error_line(f"bad{n}", "invalid_value", "no") for n in range(bad)]
        await self.batching.objects.put(
            batch.plan_key, b"".join(lines), content_type="application/octet-stream"
        )
        await self.batching.batches.add(batch)
        return batch

    async def found(self, batch: Batch) -> Batch:
        found = await self.batching.batches.find(batch.id)
        assert found is not None
        return found

    async def queued(self) -> int:
        rows: list[bytes] = await self.commands.execute("ZRANGE", redis_keys.IMAGE_QUEUE, 0, -1)
        return sum(row.startswith(b"job_") for row in rows)

    async def end(self, *numbers: int, failing: bool = False) -> None:
        for number in numbers:
            job = await self.batching.jobs.find(f"job_{number}")
            assert job is not None
            await self.batching.jobs.swap(job, self._ended(job, failing=failing))

    def _ended(self, job: Job, *, failing: bool) -> Job:
        running = job.claimed("f", self.clock())
        made = Image(index=0, status=ImageStatus.SUCCEEDED, key="k/0.png", sha256="a" * 64)
        failure = Failure(code=FailureCode.CONTENT_POLICY, message="Refused.")
        images = job.images if failing else (made,)
        return replace(running, images=images).settled("f", self.clock(), failure)

    async def answers(self, file_id: str | None) -> dict[str, Any]:
        file = await self.batching.files.get("acme", file_id or "")
        assert file is not None
        data = await self.batching.objects.get(file.key, limit=1_000_000)
        lines = [orjson.loads(line) for line in (data or b"").splitlines()]
        return {line["custom_id"]: line for line in lines}


@pytest.fixture
async def desk(commands: Commands, clock: Clock, tmp_path: Path) -> Desk:
    retention = RetentionSettings()
    tenants = Tenants(commands)
    await tenants.add(Tenant(id="acme", created_at=NOW))
    batching = Batching(
        batches=Batches(commands, retention, clock=clock),
        jobs=Jobs(commands, retention),
        bills=Bills(commands),
        tenants=tenants,
        files=Files(commands),
        objects=FailingObjects(tmp_path),
        public_url="https://darkroom.example",
        life=10**9,  # a file's life is measured by Redis's own time
        clock=clock,
    )
    return Desk(batching, commands, clock)


async def test_every_line_is_answered_once(desk: Desk) -> None:
    batch = await desk.begun(3, bad=1)
    assert isinstance(await desk.batching.run(batch.id), Again)
    assert await desk.queued() == 3
    await desk.end(0, 2)
    await desk.end(1, failing=True)
    assert await desk.batching.run(batch.id) == Settled()
    ended = await desk.found(batch)
    assert (ended.status, ended.completed, ended.failed) == (BatchStatus.COMPLETED, 2, 2)
    made = await desk.answers(ended.output_file_id)
    assert set(made) == {"r0", "r2"}
    body = made["r2"]["response"]["body"]
    assert body["data"][0]["url"] == "https://darkroom.example/v1/jobs/job_2/images/0"
    refused = await desk.answers(ended.error_file_id)
    assert refused["r1"]["error"] == {"code": "content_policy", "message": "Refused."}
    assert refused["bad0"]["error"]["code"] == "invalid_value"
    assert await desk.batching.run(batch.id) == Nothing()


async def test_a_step_that_is_repeated_changes_nothing(desk: Desk) -> None:
    batch = await desk.begun(5)
    await desk.batching.run(batch.id)
    before = await desk.found(batch)
    # What a worker leaves that dies after it took the jobs in, before it wrote how far it came.
    key = redis_keys.batch(batch.id)
    started = orjson.dumps({**orjson.loads(await _document(desk, key)), "fed": {}, "settled": {}})
    await desk.commands.execute("HSET", key, "document", started)
    await desk.end(0)
    await desk.batching.run(batch.id)
    after = await desk.found(batch)
    assert (after.fed, after.settled.lines, after.completed) == (before.fed, 1, 1)
    assert await desk.queued() == 4


async def _document(desk: Desk, key: str) -> bytes:
    document: bytes = await desk.commands.execute("HGET", key, "document")
    return document


async def test_only_so_many_jobs_of_a_batch_wait_at_one_time(desk: Desk) -> None:
    batch = await desk.begun(WINDOW + 3 * AT_ONCE)
    for _ in range(3):
        await desk.batching.run(batch.id)
    assert await desk.queued() == WINDOW
    await desk.end(*range(AT_ONCE))
    await desk.batching.run(batch.id)
    assert await desk.queued() == WINDOW


async def test_what_has_not_begun_in_time_is_answered_as_expired(desk: Desk) -> None:
    batch = await desk.begun(WINDOW + 1)
    for _ in range(3):
        await desk.batching.run(batch.id)
    await desk.end(*range(WINDOW))
    desk.clock.advance(3601)
    outcome: object = None
    for _ in range(3):
        outcome = await desk.batching.run(batch.id)
    assert outcome in {Settled(), Nothing()}
    ended = await desk.found(batch)
    assert (ended.status, ended.completed, ended.failed) == (BatchStatus.EXPIRED, WINDOW, 1)
    lost = await desk.answers(ended.error_file_id)
    assert lost[f"r{WINDOW}"]["error"]["code"] == "batch_expired"


async def test_cancelling_ends_its_jobs_and_answers_what_was_made(desk: Desk) -> None:
    batch = await desk.begun(3)
    await desk.batching.run(batch.id)
    await desk.end(1)
    fed = await desk.found(batch)
    await desk.batching.batches.swap(fed, fed.cancelling(desk.clock()))
    outcomes = [await desk.batching.run(batch.id) for _ in range(2)]
    assert Settled() in outcomes
    ended = await desk.found(batch)
    assert (ended.status, ended.completed, ended.failed) == (BatchStatus.CANCELLED, 1, 2)
    assert (await desk.answers(ended.error_file_id))["r0"]["error"]["code"] == "cancelled"
    assert await desk.queued() == 0


async def test_a_tenant_whose_day_is_spent_goes_on_later(desk: Desk) -> None:
    tenants = desk.batching.tenants
    tenant = await tenants.get("acme")
    assert tenant is not None
    await tenants.add(replace(tenant, id="poor", spend_per_day=0.1))
    batch = await desk.begun(3, tenant="poor", reserved=0.05)
    moved = replace(batch, tenant="poor")
    await desk.batching.objects.put(
        moved.plan_key,
        await desk.batching.objects.get(batch.plan_key, limit=10**6) or b"",
        content_type="application/octet-stream",
    )
    assert await desk.batching.batches.swap(batch, moved) is not None
    outcome = await desk.batching.run(batch.id)
    assert isinstance(outcome, Again)
    assert outcome.after > 10
    assert await desk.queued() == 2
    assert await desk.batching.jobs.find(JobId("job_2")) is None


async def test_a_batch_without_its_plan_ends(desk: Desk) -> None:
    batch = await desk.begun(2)
    await desk.batching.objects.delete([batch.plan_key])
    assert await desk.batching.run(batch.id) == Settled()
    assert (await desk.found(batch)).failed == 2


async def test_objects_that_are_away_are_asked_again(desk: Desk) -> None:
    batch = await desk.begun(2)
    await desk.batching.run(batch.id)
    await desk.end(0, 1)
    objects = desk.batching.objects
    assert isinstance(objects, FailingObjects)
    objects.away = 1
    assert isinstance(await desk.batching.run(batch.id), Again)
    assert await desk.batching.run(batch.id) == Settled()
