"""Deliveries: where webhook messages are kept until their receiver has taken them, and their log.

A delivery is born in the same step that ends its job (`Jobs.swap`), or changes its endpoint, so it
can neither be missed nor invented; here it is begun, written over, sent again and listed.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from storage import outbox, queue, redis_keys, scripts
from storage.delivery import ENDPOINT_DELETED, TENANT_REMOVED, Delivery, DeliveryId, DeliveryStatus
from storage.delivery_log import DeliveryLog, Wanted
from storage.errors import Conflict, Error, Unavailable
from storage.line import Argument
from storage.redis_client import Commands


LANE_LEASE_MS: Final = 120_000
_QUIET_MS: Final = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneLimits:
    """How many tries may be under way at one time: to one receiver, and of one tenant."""

    receiver: int = 4
    tenant: int = 24


@dataclass(frozen=True, slots=True)
class Begun:
    """The delivery is in its lanes; a try may be made now."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Queueing:
    """Its lane is full: it has left the queue and is put back when there is room."""


@dataclass(frozen=True, slots=True)
class Early:
    """Its next try is due only in `after` seconds."""

    after: float


Beginning: TypeAlias = Begun | Queueing | Early | None


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a tenant's deliveries, in the order asked; `next` is where the next page begins."""

    deliveries: tuple[Delivery, ...]
    next: str | None


class Deliveries:
    """The records of all deliveries. Every method may raise `storage.errors.Unavailable`."""

    def __init__(self, commands: Commands, *, limits: LaneLimits | None = None) -> None:
        self._commands = commands
        self._limits = limits or LaneLimits()
        self._log = DeliveryLog(commands)

    async def find(self, delivery_id: str) -> Delivery | None:
        """Return a delivery by its id alone, for those who serve all tenants."""
        document = await self._commands.execute(
            "HGET", redis_keys.delivery(delivery_id), "document"
        )
        return None if document is None else outbox.load(document)

    async def get(self, tenant: str, delivery_id: str) -> Delivery | None:
        """Return a tenant's delivery; another tenant's is None, as is one that never was."""
        delivery = await self.find(delivery_id)
        return delivery if delivery is not None and delivery.tenant == tenant else None

    async def owe(self, tenant: str, deliveries: Sequence[Delivery]) -> None:
        """Owe messages that tell of no change of a record."""
        owing = outbox.owing(tenant, deliveries)
        if owing.keys:
            await self._commands.eval(scripts.OWE, list(owing.keys), list(owing.args))

    async def begin(self, delivery_id: str, *, slack: float = 0.5) -> Beginning:
        """Let a claimed delivery into its lanes; None when there is nothing to try any more.

        `slack` is how many seconds before its time a try may be made. Saying it twice is harmless.
        """
        keys = [
            redis_keys.delivery(delivery_id),
            redis_keys.payload(delivery_id),
            redis_keys.in_progress(delivery_id),
            redis_keys.WEBHOOK_QUEUE,
            redis_keys.wake(redis_keys.WEBHOOK_QUEUE),
            redis_keys.FULL_LANES,
        ]
        code, *rest = await self._commands.eval(
            scripts.BEGIN,
            keys,
            [delivery_id, *self._lane_args, LANE_LEASE_MS, int(slack * 1000)],
        )
        match code:
            case 1:
                return Begun(outbox.load(rest[0]))
            case 2:
                return Queueing()
            case 3:
                return Early(rest[0] / 1000)
        return None

    async def swap(self, old: Delivery, new: Delivery, now: float) -> Delivery | None:
        """Write `new` over `old` and return it as written; None when somebody else wrote first.

        The delivery leaves its lanes, whatever became of it.
        """
        written = replace(new, version=old.version + 1)
        keys = [
            redis_keys.delivery(old.id),
            redis_keys.payload(old.id),
            redis_keys.in_progress(old.id),
            redis_keys.WEBHOOK_QUEUE,
            redis_keys.wake(redis_keys.WEBHOOK_QUEUE),
            redis_keys.FULL_LANES,
            redis_keys.deliveries_of(old.tenant, old.status),
            redis_keys.deliveries_of(old.tenant, written.status),
            redis_keys.endpoint_counts(old.endpoint_id or ""),
        ]
        done = await self._commands.eval(
            scripts.WRITE,
            keys,
            [
                old.version,
                outbox.dump(written),
                old.id,
                int(written.is_ended),
                int(written.lets_go),
                max(int(((written.next_at or now) - now) * 1000), 0),
                old.lane,
                *self._lane_args,
                outbox.created_us(old),
                outbox.entry(old),
                outbox.DELIVERY_LIFE_MS,
                _count_of(written),
            ],
        )
        return written if done else None

    async def again(
        self, delivery: Delivery, now: float, *, after: DeliveryId | None = None
    ) -> Delivery | None:
        """Send a delivery on its way anew and return it; None when somebody else wrote first.

        It is not sent before the delivery `after` has been. Raises `Conflict` while a try is under
        way.
        """
        anew = replace(delivery.again(now), version=delivery.version + 1)
        keys = [
            redis_keys.delivery(delivery.id),
            redis_keys.payload(delivery.id),
            redis_keys.in_progress(delivery.id),
            redis_keys.WEBHOOK_QUEUE,
            redis_keys.wake(redis_keys.WEBHOOK_QUEUE),
            redis_keys.deliveries_of(delivery.tenant, delivery.status),
            redis_keys.deliveries_of(delivery.tenant, anew.status),
        ]
        done = await self._commands.eval(
            scripts.AGAIN,
            keys,
            [
                delivery.version,
                outbox.dump(anew),
                delivery.id,
                queue.payload(queue.DELIVER, delivery.id, now),
                delivery.lane,
                redis_keys.LANE_PREFIX,
                outbox.created_us(delivery),
                outbox.entry(delivery),
                outbox.DELIVERY_LIFE_MS,
                "" if after is None else redis_keys.delivery(after),
            ],
        )
        if done == -1:
            raise Conflict("A try of this delivery is under way.", code="delivery_in_progress")
        return anew if done == 1 else None

    async def mend(self) -> int:
        """Call on deliveries that wait for a lane which nobody is in; return how many."""
        called: int = await self._commands.eval(
            scripts.MEND,
            [
                redis_keys.WEBHOOK_QUEUE,
                redis_keys.wake(redis_keys.WEBHOOK_QUEUE),
                redis_keys.FULL_LANES,
            ],
            [*self._lane_args, _QUIET_MS, 100],
        )
        return called

    async def forget_of(self, tenant: str, now: float, most: int) -> int:
        """Forget up to `most` of a tenant's deliveries of each status, and return how many.

        Those that are still to be sent are first written off, so that they leave their lanes.
        """
        count = 0
        for status in DeliveryStatus:
            key = redis_keys.deliveries_of(tenant, status)
            entries: list[bytes] = await self._commands.execute("ZRANGE", key, 0, most - 1)
            for entry in entries:
                delivery_id = entry.decode().split(" ", 1)[0]
                found = await self._readable(delivery_id)
                if found is not None and not found.is_ended:
                    await self.swap(found, found.skipped(TENANT_REMOVED), now)
                    continue  # it is in another list now
                await self._commands.execute("DEL", redis_keys.delivery(delivery_id))
                await self._commands.execute("ZREM", key, entry)
            count += len(entries)
        return count

    async def _readable(self, delivery_id: str) -> Delivery | None:
        try:
            return await self.find(delivery_id)
        except Unavailable:
            raise
        except Error:
            return None

    # -- the log -----------------------------------------------------------------------------------

    async def page(
        self,
        tenant: str,
        wanted: Wanted,
        *,
        limit: int,
        after: str | None = None,
        newest_first: bool = True,
    ) -> Page:
        """Return up to `limit` of a tenant's deliveries, from the cursor `after` on.

        Raises `Invalid` for a cursor that no page ever gave. A page may be short, or empty, and
        still have a next one: only so many entries are looked at for one page.
        """
        ids, following = await self._log.page(
            tenant, wanted, limit=limit, after=after, newest_first=newest_first
        )
        documents = await asyncio.gather(
            *(self._commands.issue("HGET", redis_keys.delivery(one), "document") for one in ids)
        )
        deliveries = tuple(outbox.load(document) for document in documents if document is not None)
        return Page(deliveries, following)

    @property
    def _lane_args(self) -> tuple[Argument, ...]:
        return (redis_keys.LANE_PREFIX, self._limits.receiver, self._limits.tenant)


def _count_of(delivery: Delivery) -> str:
    """Return which count of its endpoint a delivery that was written adds to."""
    if delivery.endpoint_id is None or delivery.note in {ENDPOINT_DELETED, TENANT_REMOVED}:
        return ""  # the counts have gone with the endpoint
    if delivery.status is DeliveryStatus.DELIVERED:
        return "delivered"
    return "undelivered" if delivery.is_ended else "failed_tries"
