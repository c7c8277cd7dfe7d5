"""Sending a range of messages again: which, in what order, and how far."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from storage import redis_keys
from storage.deliveries import Deliveries
from storage.delivery import Delivery, DeliveryId, DeliveryStatus, Try, message_to
from storage.endpoint import DisabledReason, EndpointId, WebhookEndpoint
from storage.endpoints import Endpoints
from storage.job import JobId
from storage.queue import holds
from storage.redis_client import Commands
from storage.replay import MOST_REPLAYED, Replay, ReplayStatus
from storage.replays import Replays, new_replay_id
from tests.doubles import Clock
from tests.samples import NOW, an_endpoint
from worker.outcome import Nothing
from worker.replayer import Replayer


@dataclass
class House:
    """A tenant with a log of what was sent a while ago."""

    commands: Commands
    clock: Clock
    deliveries: Deliveries
    endpoints: Endpoints
    replays: Replays
    replayer: Replayer

    async def sent(
        self,
        name: str,
        status: int | None = 500,
        *,
        to: WebhookEndpoint | None = None,
        **fields: Any,
    ) -> Delivery:
        """Put a delivery on record that was tried to its end; without a status, skipped."""
        delivery = replace(
            message_to(
                to or SHOP, "job.failed", DeliveryId(f"msg_{name}"), self.clock(), data="{}"
            ),
            **fields,
        )
        self.clock.advance(1.0)
        await self.deliveries.owe("acme", [delivery])
        if status is None:
            return await self._put(delivery, delivery.skipped("disabled"))
        tried = delivery
        while not tried.is_ended:
            tried = tried.tried(Try(at=self.clock(), latency=0.1, status=status), jitter=0)
        return await self._put(delivery, tried)

    async def _put(self, before: Delivery, after: Delivery) -> Delivery:
        written = await self.deliveries.swap(before, after, self.clock())
        assert written is not None
        return written

    async def replay(self, **fields: Any) -> Replay:
        """Carry out a replay to its end, and return its record."""
        whole = {
            "id": new_replay_id(),
            "tenant": "acme",
            "created_at": self.clock(),
            "since": NOW - 1,
            "until": self.clock() + 1,
            **fields,
        }
        replay = Replay(**whole)
        await self.replays.add(replay)
        assert await self.replayer.run(replay.id) == Nothing()
        found = await self.replays.find(replay.id)
        assert found is not None
        return found

    async def queued(self) -> list[str]:
        """Return the messages that wait in the queue, in its order."""
        entries = await self.commands.execute("ZRANGE", redis_keys.WEBHOOK_QUEUE, 0, -1)
        return [one.decode()[4:] for one in entries if one.startswith(b"msg_")]

    async def status(self, delivery: Delivery) -> DeliveryStatus:
        found = await self.deliveries.find(delivery.id)
        assert found is not None
        return found.status


SHOP, DESK = an_endpoint("we_shop"), an_endpoint("we_desk")


@pytest.fixture
async def house(commands: Commands, clock: Clock) -> House:
    deliveries, endpoints, replays = Deliveries(commands), Endpoints(commands), Replays(commands)
    for endpoint in (SHOP, DESK):
        await endpoints.add(endpoint)
    replayer = Replayer(replays, deliveries, endpoints, clock=clock, patience=1.0)
    return House(commands, clock, deliveries, endpoints, replays, replayer)


# -- which -----------------------------------------------------------------------------------------


async def test_what_no_receiver_took_is_sent_again_and_nothing_else(house: House) -> None:
    failed, gone = await house.sent("failed"), await house.sent("gone", 410)
    skipped, taken = await house.sent("skipped", None), await house.sent("taken", 200)
    done = await house.replay()
    assert (done.status, done.replayed, done.truncated) == (ReplayStatus.DONE, 3, False)
    assert done.finished_at == house.clock()
    assert {*await house.queued()} == {"failed", "gone", "skipped"}
    for delivery in (failed, gone, skipped):
        assert await house.status(delivery) is DeliveryStatus.PENDING
    assert await house.status(taken) is DeliveryStatus.DELIVERED


async def test_what_was_taken_is_sent_again_too_where_all_is_asked_for(house: House) -> None:
    await house.sent("taken", 200)
    await house.sent("failed")
    assert (await house.replay(only_failed=False)).replayed == 2


async def test_a_replay_keeps_to_its_endpoint_its_event_and_its_time(house: House) -> None:
    await house.sent("too_early")
    since = house.clock()
    await house.sent("right")
    await house.sent("to_another", to=DESK)
    await house.sent("of_another_event", type="job.partial")
    until = house.clock()
    await house.sent("too_late")
    done = await house.replay(
        since=since, until=until, endpoint_id=EndpointId("we_shop"), type="job.failed"
    )
    assert (done.replayed, await house.queued()) == (1, ["right"])


async def test_nothing_of_another_tenant_is_sent(house: House) -> None:
    await house.sent("ours")
    assert (await house.replay(tenant="globex")).replayed == 0
    assert await house.queued() == []


@pytest.mark.parametrize("deleted", [True, False])
async def test_an_endpoint_that_takes_nothing_is_sent_nothing(house: House, deleted: bool) -> None:
    failed = await house.sent("failed")
    if deleted:
        await house.endpoints.remove(SHOP)
    else:
        await house.endpoints.swap(SHOP, SHOP.disabled(DisabledReason.GONE, NOW))
    assert (await house.replay()).replayed == 0
    assert await house.status(failed) is DeliveryStatus.FAILED


async def test_a_receiver_that_a_job_named_is_sent_its_messages_again(house: House) -> None:
    await house.sent("failed", endpoint_id=None, job_id=JobId("job_1"))
    assert (await house.replay()).replayed == 1


async def test_what_is_being_tried_is_left_alone(house: House) -> None:
    busy, idle = await house.sent("busy"), await house.sent("idle")
    await house.commands.execute("SET", redis_keys.in_progress(busy.id), 1)
    assert (await house.replay()).replayed == 1
    assert await house.status(busy) is DeliveryStatus.FAILED
    assert await holds(house.commands, redis_keys.WEBHOOK_QUEUE, idle.id)


# -- in what order, and how far --------------------------------------------------------------------


async def test_what_one_job_owes_one_receiver_goes_in_order(house: House) -> None:
    job = JobId("job_1")
    first = await house.sent("first", job_id=job)
    await house.sent("second", job_id=job)
    await house.sent("elsewhere", to=DESK, job_id=job)
    assert (await house.replay()).replayed == 3
    assert await house.queued() == ["first", "elsewhere"], "the second waits for the first"
    pending = await house.deliveries.find(first.id)
    assert pending is not None
    taken = pending.tried(Try(at=house.clock(), latency=0.1, status=200), jitter=0)
    assert await house.deliveries.swap(pending, taken, house.clock()) is not None
    assert {*await house.queued()} == {"elsewhere", "second"}


async def test_more_than_one_stretch_is_sent_again_once_each(house: House) -> None:
    names = [f"{number:03}" for number in range(130)]
    for name in names:
        await house.sent(name)
    assert (await house.replay()).replayed == 130
    assert sorted(await house.queued()) == names


async def test_a_replay_ends_at_its_limit_and_says_that_there_was_more(house: House) -> None:
    for name in "abcde":
        await house.sent(name)
    done = await house.replay(replayed=MOST_REPLAYED - 2)
    assert (done.replayed, done.truncated) == (MOST_REPLAYED, True)
    assert await house.queued() == ["a", "b"], "the oldest first"


async def test_a_replay_whose_worker_died_goes_on_where_it_was(house: House) -> None:
    for name in "abcde":
        await house.sent(name)
    half = await house.replay(replayed=MOST_REPLAYED - 2)
    assert half.place is not None
    rest = await house.replay(place=half.place)
    assert rest.replayed == 3
    assert {*await house.queued()} == {*"abcde"}


async def test_a_replay_that_is_done_or_never_was_does_nothing(house: House) -> None:
    await house.sent("failed")
    assert await house.replayer.run("rpl_0") == Nothing()
    await house.replay(status=ReplayStatus.DONE)
    assert await house.queued() == []
