"""The outbox: deliveries as the scripts write them, in the step of the change that they tell of.

So a message can neither be missed nor invented. How they are laid out for `owe.lua` is said here,
once for everything that owes.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter, ValidationError

from storage import queue, redis_keys
from storage.delivery import Delivery, DeliveryId, DeliveryStatus
from storage.errors import Error
from storage.line import Argument


DELIVERY_LIFE_MS: Final = 34 * 86_400_000

_DELIVERY: Final[TypeAdapter[Delivery]] = TypeAdapter(Delivery)


def new_delivery_id() -> DeliveryId:
    """Return a new message id; it holds no dot, which the signature's format forbids."""
    return DeliveryId("msg_" + secrets.token_hex(16))


@dataclass(frozen=True, slots=True)
class Owing:
    """The keys and arguments of deliveries that are owed together, all of one tenant."""

    keys: tuple[str, ...] = ()
    args: tuple[Argument, ...] = ()


def owing(tenant: str, deliveries: Sequence[Delivery]) -> Owing:
    """Return what `owe.lua` takes; nothing at all when nothing is owed."""
    if not deliveries:
        return Owing()
    keys = [
        redis_keys.WEBHOOK_QUEUE,
        redis_keys.wake(redis_keys.WEBHOOK_QUEUE),
        redis_keys.deliveries_of(tenant, DeliveryStatus.PENDING),
        redis_keys.deliveries_of(tenant, DeliveryStatus.SKIPPED),
        redis_keys.FULL_LANES,
    ]
    args: list[Argument] = [DELIVERY_LIFE_MS, redis_keys.DELIVERY_PREFIX, redis_keys.LANE_PREFIX]
    for delivery in deliveries:
        keys += [redis_keys.delivery(delivery.id), redis_keys.payload(delivery.id)]
        args += [
            delivery.id,
            dump(delivery),
            queue.payload(queue.DELIVER, delivery.id, delivery.created_at),
            delivery.lane,
            delivery.receiver,
            created_us(delivery),
            entry(delivery),
            int(delivery.is_ended),
        ]
    return Owing(tuple(keys), tuple(args))


def dump(delivery: Delivery) -> bytes:
    """Return a delivery as it is kept."""
    return _DELIVERY.dump_json(delivery, exclude_none=True)


def load(document: bytes) -> Delivery:
    """Read a delivery as it is kept."""
    try:
        return _DELIVERY.validate_json(document)
    except ValidationError:  # its text repeats what it could not read
        message = "The record of a delivery cannot be read."
        raise Error(message, code="record_unreadable") from None


def created_us(delivery: Delivery) -> int:
    """Return when a delivery was created, in microseconds: its place in the log."""
    return int(delivery.created_at * 1_000_000)


def entry(delivery: Delivery) -> str:
    """Return what the log says of a delivery without its record: id, type, endpoint and job."""
    return " ".join(
        (delivery.id, delivery.type, delivery.endpoint_id or "-", delivery.job_id or "-")
    )
