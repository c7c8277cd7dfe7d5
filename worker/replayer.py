"""The replayer: carries out a replay, stretch by stretch, from the oldest delivery on.

It puts deliveries on their way and sends nothing itself; the lanes of their receivers keep a replay
of thousands from being in anybody's way.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from storage.deliveries import Deliveries
from storage.delivery import Delivery, DeliveryId
from storage.delivery_log import Wanted
from storage.endpoints import Endpoints
from storage.errors import Conflict
from storage.replay import Replay, ReplayStatus
from storage.replays import Replays
from worker.outage import outlast
from worker.outcome import Again, Nothing, Outcome


T = TypeVar("T")

_STRETCH = 100
_MOST_STRETCHES = 100  # before others have their turn

log = structlog.get_logger("worker.replayer")


class Replayer:
    """Carries out replays. `clock` gives Unix seconds."""

    def __init__(
        self,
        replays: Replays,
        deliveries: Deliveries,
        endpoints: Endpoints,
        *,
        clock: Callable[[], float],
        patience: float = 600.0,
    ) -> None:
        self._replays = replays
        self._deliveries = deliveries
        self._endpoints = endpoints
        self._clock = clock
        self._patience = patience

    async def run(self, replay_id: str) -> Outcome:
        """Send again all that the replay asks for."""
        found = await self._through(lambda: self._replays.find(replay_id))
        if found is None or found.status is ReplayStatus.DONE:
            return Nothing()
        replay = found
        last: dict[tuple[str, str], DeliveryId] = {}
        for _ in range(_MOST_STRETCHES):
            replay = await self._stretch(replay, last)
            if replay.status is ReplayStatus.DONE:
                break
        else:
            return Again(0.0)
        log.info("replayed", replay=replay.id, tenant=replay.tenant, deliveries=replay.replayed)
        return Nothing()

    async def _stretch(self, replay: Replay, last: dict[tuple[str, str], DeliveryId]) -> Replay:
        wanted = Wanted(
            statuses=replay.statuses,
            endpoint_id=replay.endpoint_id,
            type=replay.type,
            since=replay.since,
            until=replay.until,
        )
        page = await self._through(
            lambda: self._deliveries.page(
                replay.tenant,
                wanted,
                limit=min(_STRETCH, replay.left),
                after=replay.place,
                newest_first=False,
            )
        )
        endpoints = await self._through(lambda: self._endpoints.all(replay.tenant))
        enabled = {endpoint.id for endpoint in endpoints if endpoint.is_enabled}
        sent = 0
        for delivery in page.deliveries:
            if delivery.endpoint_id is None or delivery.endpoint_id in enabled:
                sent += await self._again(delivery, last)
        after = replay.advanced(sent, page.next, self._clock())
        await self._through(lambda: self._replays.put(after))
        return after

    async def _again(self, delivery: Delivery, last: dict[tuple[str, str], DeliveryId]) -> bool:
        """Send one delivery again, behind the last one of its job to the same receiver."""
        place = (delivery.receiver, delivery.job_id or delivery.id)
        try:
            anew = await self._through(
                lambda: self._deliveries.again(delivery, self._clock(), after=last.get(place))
            )
        except Conflict:  # somebody has just done it
            return False
        last[place] = delivery.id
        return anew is not None

    async def _through(self, act: Callable[[], Awaitable[T]]) -> T:
        return await outlast(act, patience=self._patience)
