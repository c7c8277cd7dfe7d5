"""What the records of batches promise on any Redis."""

from dataclasses import replace

import orjson
import pytest

from storage import queue, redis_keys
from storage.batch import Batch, BatchId
from storage.batches import Batches, new_batch_id
from storage.endpoints import Endpoints
from storage.redis_client import Commands
from storage.settings import RetentionSettings
from tests.owed import owed
from tests.samples import NOW, an_endpoint


def a_batch(created_at: float = NOW, tenant: str = "acme") -> Batch:
    return Batch(
        id=new_batch_id(tenant),
        tenant=tenant,
        endpoint="/v1/jobs",
        created_at=created_at,
        window=3600.0,
        plan="p",
        total=3,
    )


class BatchesSuite:
    """Inherit, and give `commands`."""

    @pytest.fixture
    def batches(self, commands: Commands) -> Batches:
        return Batches(commands, RetentionSettings())

    async def test_a_batch_is_kept_and_queued_in_one_step(
        self, batches: Batches, commands: Commands
    ) -> None:
        batch = a_batch()
        assert await batches.add(batch)
        assert await batches.add(batch)
        assert not await batches.add(replace(batch, plan="q"))
        assert await batches.get("acme", batch.id) == batch
        assert await batches.get("other", batch.id) is None
        assert await queue.holds(commands, redis_keys.IMAGE_QUEUE, batch.id)
        payload = await commands.execute("GET", redis_keys.payload(batch.id))
        assert queue.task_of(payload) == queue.FEED

    async def test_whoever_writes_second_is_told(self, batches: Batches) -> None:
        batch = a_batch()
        await batches.add(batch)
        first = await batches.swap(batch, batch.cancelling(NOW))
        assert first is not None
        assert await batches.swap(batch, replace(batch, completed=1)) is None
        assert await batches.find(batch.id) == first
        assert await batches.swap(batch, batch.cancelling(NOW)) == first  # the reply was lost

    async def test_an_ended_batch_leaves_the_queue_and_owes_its_webhook(
        self, batches: Batches, commands: Commands
    ) -> None:
        batch = replace(a_batch(), webhook_url="https://example.com/hook")
        await batches.add(batch)
        await Endpoints(commands).add(an_endpoint(events=("batch.*",)))
        ended = batch.finalizing(NOW).ended("file-1", None, NOW)
        assert await batches.swap(batch, ended) is not None
        assert not await queue.holds(commands, redis_keys.IMAGE_QUEUE, batch.id)
        deliveries = await owed(commands)
        assert {one.receiver for one in deliveries} == {"url", "we_1"}
        for one in deliveries:
            assert one.type == f"batch.{ended.status}"
            assert await queue.holds(commands, redis_keys.WEBHOOK_QUEUE, one.id)
            assert orjson.loads(one.data or "")["output_file_id"] == "file-1"
        assert await commands.execute("PTTL", redis_keys.batch(batch.id)) > 0

    async def test_the_newest_come_first_page_by_page(self, batches: Batches) -> None:
        all_ = [a_batch(NOW + n) for n in range(5)]
        for batch in all_:
            await batches.add(batch)
        await batches.add(a_batch(NOW, tenant="other"))
        page = await batches.of_tenant("acme", limit=3, after=None)
        rest = await batches.of_tenant("acme", limit=3, after=page[-1].id)
        assert [*page, *rest] == all_[::-1]
        assert await batches.of_tenant("acme", limit=3, after=BatchId("batch_none")) == []
