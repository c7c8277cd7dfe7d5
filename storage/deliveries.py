"""Deliveries: where webhook messages are kept until their receiver has taken them.

A delivery is born in the same step that ends its job (`Jobs.swap`), so it can neither be missed nor
invented; here it is only read and written over.
"""

import asyncio
import secrets
from dataclasses import replace

from pydantic import TypeAdapter

from storage import redis_keys, scripts
from storage.delivery import Delivery, DeliveryId
from storage.redis_client import Commands


_DELIVERY: TypeAdapter[Delivery] = TypeAdapter(Delivery)


def new_delivery_id() -> DeliveryId:
    """Return a new message id; it holds no dot, which the signature's format forbids."""
    return DeliveryId("msg_" + secrets.token_hex(16))


class Deliveries:
    """The records of all deliveries. Every method may raise `storage.errors.Unavailable`."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def find(self, delivery_id: str) -> Delivery | None:
        """Return a delivery by its id."""
        document = await self._commands.execute(
            "HGET", redis_keys.delivery(delivery_id), "document"
        )
        return None if document is None else _DELIVERY.validate_json(document)

    async def swap(self, old: Delivery, new: Delivery) -> Delivery | None:
        """Write `new` over `old` and return it as written; None when somebody else wrote first."""
        written = replace(new, version=old.version + 1)
        keys = [
            redis_keys.delivery(old.id),
            redis_keys.payload(old.id),
            redis_keys.in_progress(old.id),
            redis_keys.WEBHOOK_QUEUE,
        ]
        document = _DELIVERY.dump_json(written, exclude_none=True)
        done = await self._commands.eval(
            scripts.WRITE, keys, [old.version, document, old.id, int(written.is_ended)]
        )
        return written if done else None

    async def of_tenant(self, tenant: str, *, limit: int) -> list[Delivery]:
        """Return a tenant's latest deliveries, the newest first."""
        ids = await self._commands.execute(
            "ZREVRANGE", redis_keys.deliveries_of(tenant), 0, limit - 1
        )
        found = await asyncio.gather(*(self.find(delivery_id.decode()) for delivery_id in ids))
        return [delivery for delivery in found if delivery is not None]
