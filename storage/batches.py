"""Batches: where their records are kept, and the one step that changes them.

A batch that is taken in is queued in the same step; one that ends leaves the queue and owes its
webhook in the same step. While it is open it has an appointment beside those of jobs, so that one
whose queue entry was lost is found.
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import orjson
from pydantic import TypeAdapter

from storage import queue, redis_keys, scripts
from storage.batch import PREFIX, Batch, BatchId
from storage.batch_document import batch_document
from storage.delivery import owed_by_batch
from storage.endpoints import KnownReceivers
from storage.line import Argument
from storage.outbox import Owing, new_delivery_id, owing
from storage.redis_client import Commands
from storage.settings import RetentionSettings


LOOK_EVERY: Final = 60.0  # seconds between two looks at an open batch
_BATCH: TypeAdapter[Batch] = TypeAdapter(Batch)


def new_batch_id(tenant: str, idempotency_key: str | None = None) -> BatchId:
    """Return a new id of 128 random bits, or with a key always the same one of the tenant's."""
    if idempotency_key is None:
        return BatchId(PREFIX + secrets.token_hex(16))
    digest = hashlib.sha256(f"{tenant}\n{idempotency_key}".encode()).hexdigest()
    return BatchId(PREFIX + digest[:32])


class Batches:
    """The records of all batches. Every method may raise `storage.errors.Unavailable`."""

    def __init__(
        self,
        commands: Commands,
        retention: RetentionSettings,
        *,
        receivers: KnownReceivers | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._commands = commands
        self._receivers = receivers or KnownReceivers(commands)
        self._clock = clock
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

    async def swap(self, old: Batch, new: Batch) -> Batch | None:
        """Write `new` over `old` and return it as written; None when somebody else wrote first.

        A batch that ends owes its receivers a message in the same step.
        """
        written = replace(new, version=old.version + 1)
        return written if await self._write(old, written) else None

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

    async def forget_of(self, tenant: str, most: int) -> int:
        """Forget up to `most` of a tenant's batches, open or not, and return how many.

        Their jobs and objects are somebody else's business.
        """
        ids = await self._commands.execute("ZRANGE", redis_keys.batches_of(tenant), 0, most - 1)
        for batch_id in (found.decode() for found in ids):
            await self._commands.execute("ZREM", redis_keys.IMAGE_QUEUE, batch_id)
            await self._commands.execute(
                *("DEL", redis_keys.batch(batch_id)),
                *(redis_keys.payload(batch_id), redis_keys.in_progress(batch_id)),
            )
            await self._commands.execute("ZREM", redis_keys.APPOINTMENTS, batch_id)
            await self._commands.execute("ZREM", redis_keys.batches_of(tenant), batch_id)
        return len(ids)

    async def is_queued(self, batch: Batch) -> bool:
        """Say whether the queue knows of the batch."""
        return await queue.holds(self._commands, redis_keys.IMAGE_QUEUE, batch.id)

    async def stir(self, batch: Batch, now: float) -> None:
        """Have an open batch looked at soon, also when its queue entry was lost."""
        await queue.put(self._commands, redis_keys.IMAGE_QUEUE, queue.FEED, batch.id, now)

    async def _owed(self, old: Batch, new: Batch) -> Owing:
        """Return what is told of a step of a batch: its end, and nothing else."""
        if old.is_ended or not new.is_ended:
            return Owing()
        receivers = await self._receivers.of(new.tenant)
        data = orjson.dumps(batch_document(new)).decode()
        deliveries = owed_by_batch(new, receivers.endpoints, data, new_delivery_id, self._clock())
        return owing(new.tenant, deliveries)

    async def _write(self, old: Batch, new: Batch) -> bool:
        owed = await self._owed(old, new)
        keys = [
            redis_keys.batch(new.id),
            redis_keys.batches_of(new.tenant),
            redis_keys.payload(new.id),
            redis_keys.in_progress(new.id),
            redis_keys.IMAGE_QUEUE,
            redis_keys.wake(redis_keys.IMAGE_QUEUE),
            redis_keys.APPOINTMENTS,
            *owed.keys,
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
            self._clock() + LOOK_EVERY,
            *owed.args,
        ]
        script = scripts.BATCH_AND_OWE if owed.keys else scripts.BATCH
        return bool(await self._commands.eval(script, keys, args))
