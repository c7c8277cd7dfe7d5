"""Batches: where their records are kept, and the one step that changes them.

A batch that is taken in is queued in the same step; one that ends leaves the queue and owes its
webhook in the same step.
"""

import asyncio
import hashlib
import secrets
from dataclasses import replace

from pydantic import TypeAdapter

from storage import queue, redis_keys, scripts
from storage.batch import PREFIX, Batch, BatchId
from storage.delivery import Delivery
from storage.line import Argument
from storage.redis_client import Commands
from storage.settings import RetentionSettings


_BATCH: TypeAdapter[Batch] = TypeAdapter(Batch)
_DELIVERY: TypeAdapter[Delivery] = TypeAdapter(Delivery)
_DELIVERY_LIFE_MS = 34 * 86_400_000


def new_batch_id(tenant: str, idempotency_key: str | None = None) -> BatchId:
    """Return a new id of 128 random bits, or with a key always the same one of the tenant's."""
    if idempotency_key is None:
        return BatchId(PREFIX + secrets.token_hex(16))
    digest = hashlib.sha256(f"{tenant}\n{idempotency_key}".encode()).hexdigest()
    return BatchId(PREFIX + digest[:32])


class Batches:
    """The records of all batches. Every method may raise `storage.errors.Unavailable`."""

    def __init__(self, commands: Commands, retention: RetentionSettings) -> None:
        self._commands = commands
        self._life_ms = int(retention.days * 86_400_000)

    async def add(self, batch: Batch) -> bool:
        """Take in a new batch and queue it; False when another has its id. Harmless to repeat."""
        return await self._write(replace(batch, version=-1), replace(batch, version=0))

    async def get(self, tenant: str, batch_id: str) -> Batch | None:
        """Return a tenant's batch; another tenant's is None, as is one that never was."""
        batch = await self.find(batch_id)
        return batch if batch is not None and batch.tenant == tenant else None

    async def find(self, batch_id: str) -> Batch | None:
        """Return a batch by its id alone, for those who serve all tenants."""
        document = await self._commands.execute("HGET", redis_keys.batch(batch_id), "document")
        return None if document is None else _BATCH.validate_json(document)

    async def swap(self, old: Batch, new: Batch, *, owing: Delivery | None = None) -> Batch | None:
        """Write `new` over `old` and return it as written; None when somebody else wrote first."""
        written = replace(new, version=old.version + 1)
        return written if await self._write(old, written, owing) else None

    async def of_tenant(self, tenant: str, *, limit: int, after: str | None) -> list[Batch]:
        """Return a tenant's batches, the newest first, those behind the batch `after`."""
        key = redis_keys.batches_of(tenant)
        start = 0
        if after is not None:
            rank = await self._commands.execute("ZREVRANK", key, after)
            if rank is None:
                return []
            start = rank + 1
        ids = await self._commands.execute("ZREVRANGE", key, start, start + limit - 1)
        found = await asyncio.gather(*(self.find(batch_id.decode()) for batch_id in ids))
        over = [batch_id for batch_id, one in zip(ids, found, strict=True) if one is None]
        if over:
            await self._commands.execute("ZREM", key, *over)
        return [batch for batch in found if batch is not None]

    async def is_queued(self, batch: Batch) -> bool:
        """Say whether the queue knows of the batch."""
        return await queue.holds(self._commands, redis_keys.IMAGE_QUEUE, batch.id)

    async def stir(self, batch: Batch, now: float) -> None:
        """Have an open batch looked at soon, also when its queue entry was lost."""
        await queue.put(self._commands, redis_keys.IMAGE_QUEUE, queue.FEED, batch.id, now)

    async def _write(self, old: Batch, new: Batch, owing: Delivery | None = None) -> bool:
        keys = [
            redis_keys.batch(new.id),
            redis_keys.batches_of(new.tenant),
            redis_keys.payload(new.id),
            redis_keys.in_progress(new.id),
            redis_keys.IMAGE_QUEUE,
            redis_keys.wake(redis_keys.IMAGE_QUEUE),
        ]
        args: list[Argument] = [
            old.version,
            _BATCH.dump_json(new, exclude_none=True),
            new.id,
            int(new.is_ended),
            self._life_ms,
            int(new.created_at * 1_000_000),
            queue.payload(queue.FEED, new.id, new.created_at),
            int(new.created_at * 1000),
        ]
        if owing is not None:
            keys += [
                redis_keys.delivery(owing.id),
                redis_keys.payload(owing.id),
                redis_keys.WEBHOOK_QUEUE,
                redis_keys.wake(redis_keys.WEBHOOK_QUEUE),
                redis_keys.deliveries_of(owing.tenant),
            ]
            args += [
                owing.id,
                _DELIVERY.dump_json(owing, exclude_none=True),
                queue.payload(queue.DELIVER, owing.id, owing.created_at),
                int(owing.created_at * 1_000_000),
                int((owing.next_at or 0.0) * 1000),
                _DELIVERY_LIFE_MS,
            ]
        return bool(await self._commands.eval(scripts.BATCH, keys, args))
