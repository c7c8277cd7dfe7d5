"""What the records of deliveries must show on every Redis; a subclass gives `commands`."""

import asyncio
from dataclasses import replace

import pytest

from storage import redis_keys
from storage.deliveries import Begun, Deliveries, Early, LaneLimits, Queueing
from storage.delivery import Delivery, DeliveryId, DeliveryStatus, Try
from storage.delivery_log import Wanted
from storage.endpoint import EndpointId
from storage.endpoints import Endpoints
from storage.errors import Conflict, Invalid
from storage.job import JobId
from storage.jobs import Jobs
from storage.outbox import new_delivery_id
from storage.queue import DELIVER, Queue, holds
from storage.redis_client import Commands
from storage.settings import RetentionSettings
from tests.owed import owed as owed_to
from tests.samples import NOW, a_job, an_endpoint


HOOKS = redis_keys.WEBHOOK_QUEUE
TAKEN = Try(at=1.0, latency=0.1, status=200)
NOT_TAKEN = Try(at=1.0, latency=0.1, status=500)
DAY = 86_400.0


def a_delivery(name: str = "", **fields: object) -> Delivery:
    whole = {
        "id": DeliveryId(f"msg_{name}") if name else new_delivery_id(),
        "tenant": "acme",
        "type": "job.succeeded",
        "url": "https://example.com/hook",
        "created_at": NOW,
        "job_id": JobId("job_1"),
        "endpoint_id": EndpointId("we_1"),
        "next_at": NOW,
        **fields,
    }
    return Delivery(**whole)  # type: ignore[arg-type]  # a sample is put together by name


class DeliveriesSuite:
    @pytest.fixture
    def deliveries(self, commands: Commands) -> Deliveries:
        return Deliveries(commands, limits=LaneLimits(receiver=2, tenant=3))

    @pytest.fixture
    def queue(self, commands: Commands) -> Queue:
        return Queue(commands, HOOKS, token="worker", lease=10)

    # -- owing and beginning -----------------------------------------------------------------------

    async def test_what_was_never_owed_is_not_found(self, deliveries: Deliveries) -> None:
        assert await deliveries.find("msg_0") is None
        assert await deliveries.begin("msg_0") is None

    async def test_a_delivery_is_due_at_once(self, deliveries: Deliveries, queue: Queue) -> None:
        delivery = await owe(deliveries, a_delivery())
        assert await deliveries.find(delivery.id) == delivery
        assert await claimed(queue) == [delivery.id]
        assert await deliveries.begin(delivery.id) == Begun(delivery)

    async def test_only_its_own_tenant_gets_a_delivery(self, deliveries: Deliveries) -> None:
        delivery = await owe(deliveries, a_delivery())
        assert await deliveries.get("acme", delivery.id) == delivery
        assert await deliveries.get("globex", delivery.id) is None

    async def test_a_skipped_delivery_is_kept_and_not_queued(
        self, deliveries: Deliveries, queue: Queue
    ) -> None:
        delivery = await owe(deliveries, a_delivery().skipped("The endpoint is disabled."))
        assert await claimed(queue) == []
        assert await listed(deliveries, statuses=(DeliveryStatus.SKIPPED,)) == [delivery]

    async def test_beginning_twice_is_harmless(self, deliveries: Deliveries) -> None:
        delivery = await owe(deliveries, a_delivery())
        for _ in range(5):
            assert await deliveries.begin(delivery.id) == Begun(delivery)

    async def test_a_try_before_its_time_is_not_made(self, deliveries: Deliveries) -> None:
        delivery = await owe(deliveries, a_delivery())
        tried = replace(delivery.tried(NOT_TAKEN, jitter=0), next_at=NOW + 60)
        assert await deliveries.swap(delivery, tried, NOW) is not None
        beginning = await deliveries.begin(delivery.id)
        assert isinstance(beginning, Early)
        assert 58 < beginning.after <= 60

    # -- writing -----------------------------------------------------------------------------------

    async def test_a_swap_is_read_back(self, deliveries: Deliveries) -> None:
        delivery = await owe(deliveries, a_delivery())
        written = await tried(deliveries, delivery, NOT_TAKEN)
        assert written is not None
        assert written.version == 1
        assert await deliveries.find(delivery.id) == written

    async def test_of_many_swaps_one_wins(self, deliveries: Deliveries) -> None:
        delivery = await owe(deliveries, a_delivery())
        ways = [delivery.tried(NOT_TAKEN, jitter=at / 20) for at in range(20)]
        written = await asyncio.gather(*(deliveries.swap(delivery, one, NOW) for one in ways))
        assert sum(one is not None for one in written) == 1

    async def test_saying_a_swap_twice_is_harmless(self, deliveries: Deliveries) -> None:
        delivery = await owe(deliveries, a_delivery())
        after = delivery.tried(NOT_TAKEN, jitter=0)
        first = await deliveries.swap(delivery, after, NOW)
        assert first is not None
        assert await deliveries.swap(delivery, after, NOW) == first

    async def test_a_delivery_still_owed_stays_in_the_queue(
        self, deliveries: Deliveries, commands: Commands
    ) -> None:
        delivery = await owe(deliveries, a_delivery())
        await tried(deliveries, delivery, NOT_TAKEN)
        assert await holds(commands, HOOKS, delivery.id)

    async def test_a_delivery_that_has_ended_leaves_the_queue(
        self, deliveries: Deliveries, queue: Queue, commands: Commands
    ) -> None:
        delivery = await owe(deliveries, a_delivery())
        await claimed(queue)
        await tried(deliveries, delivery, TAKEN)
        assert not await holds(commands, HOOKS, delivery.id)
        assert await commands.execute("EXISTS", redis_keys.payload(delivery.id)) == 0
        assert await queue.renew([delivery.id]) == {delivery.id}
        assert await deliveries.begin(delivery.id) is None

    async def test_a_swap_that_loses_leaves_the_queue_alone(
        self, deliveries: Deliveries, commands: Commands
    ) -> None:
        delivery = await owe(deliveries, a_delivery())
        await tried(deliveries, delivery, NOT_TAKEN)
        assert await tried(deliveries, delivery, TAKEN) is None
        assert await holds(commands, HOOKS, delivery.id)

    async def test_a_record_is_kept_for_a_month_and_no_longer(
        self, deliveries: Deliveries, commands: Commands
    ) -> None:
        delivery = await owe(deliveries, a_delivery())
        await tried(deliveries, delivery, NOT_TAKEN)
        life = await commands.execute("PTTL", redis_keys.delivery(delivery.id))
        assert 30 * DAY * 1000 < life <= 34 * DAY * 1000

    async def test_what_became_of_messages_is_counted_for_their_endpoint(
        self, deliveries: Deliveries, commands: Commands
    ) -> None:
        for outcome in (TAKEN, TAKEN, NOT_TAKEN, replace(TAKEN, status=410)):
            await tried(deliveries, await owe(deliveries, a_delivery()), outcome)
        counts = await Endpoints(commands).counts("we_1")
        assert (counts.delivered, counts.undelivered, counts.failed_tries) == (2, 1, 1)

    # -- lanes -------------------------------------------------------------------------------------

    async def test_no_more_messages_to_one_receiver_are_under_way_than_may_be(
        self, deliveries: Deliveries, commands: Commands
    ) -> None:
        owed = [await owe(deliveries, a_delivery(job_id=JobId(f"job_{at}"))) for at in range(5)]
        begun = [await deliveries.begin(one.id) for one in owed]
        assert begun == [Begun(owed[0]), Begun(owed[1]), *[Queueing()] * 3]
        assert [await holds(commands, HOOKS, one.id) for one in owed] == [True] * 2 + [False] * 3

    async def test_who_leaves_a_lane_calls_the_one_that_has_waited_longest(
        self, deliveries: Deliveries, commands: Commands
    ) -> None:
        owed = [await owe(deliveries, a_delivery(job_id=JobId(f"job_{at}"))) for at in range(5)]
        for one in owed:
            await deliveries.begin(one.id)
            await asyncio.sleep(0.002)  # who waits is told apart by the millisecond
        await tried(deliveries, owed[1], NOT_TAKEN)
        assert [await holds(commands, HOOKS, one.id) for one in owed[2:]] == [True, False, False]
        assert await deliveries.begin(owed[2].id) == Begun(owed[2])
        assert await deliveries.begin(owed[3].id) == Queueing()

    @pytest.mark.parametrize("outcome", [TAKEN, NOT_TAKEN])
    async def test_everything_that_waits_has_its_turn_and_nothing_is_left(
        self, deliveries: Deliveries, queue: Queue, commands: Commands, outcome: Try
    ) -> None:
        endpoints = [EndpointId(f"we_{at}") for at in range(3)]
        owed = {
            one.id: one
            for at in range(30)
            for one in [a_delivery(job_id=JobId(f"job_{at}"), endpoint_id=endpoints[at % 3])]
        }
        await deliveries.owe("acme", list(owed.values()))
        seen: list[str] = []
        for _ in range(60):
            ids = await claimed(queue)
            begun = [await deliveries.begin(one) for one in ids]
            under_way = [one.delivery for one in begun if isinstance(one, Begun)]
            assert len(under_way) <= 3
            assert all(sum(o.lane == u.lane for o in under_way) <= 2 for u in under_way)
            seen += [one.id for one in under_way]
            for one in under_way:
                await tried(deliveries, one, outcome)
                await queue.put_back(one.id, 60)
        assert sorted(seen) == sorted(owed)
        assert await commands.execute("KEYS", redis_keys.LANE_PREFIX + "*") == []
        assert await commands.execute("EXISTS", redis_keys.FULL_LANES) == 0

    async def test_a_receiver_that_is_full_leaves_room_for_others(
        self, deliveries: Deliveries
    ) -> None:
        for at in range(2):
            one = await owe(deliveries, a_delivery(job_id=JobId(f"job_{at}")))
            assert isinstance(await deliveries.begin(one.id), Begun)
        other = await owe(deliveries, a_delivery(endpoint_id=EndpointId("we_2")))
        assert isinstance(await deliveries.begin(other.id), Begun)
        one_more = await owe(deliveries, a_delivery(endpoint_id=EndpointId("we_3")))
        assert await deliveries.begin(one_more.id) == Queueing(), "the tenant has three under way"
        theirs = await owe(deliveries, a_delivery(tenant="globex"))
        assert isinstance(await deliveries.begin(theirs.id), Begun)

    async def test_a_new_message_waits_behind_those_that_wait_already(
        self, deliveries: Deliveries, queue: Queue
    ) -> None:
        owed = [await owe(deliveries, a_delivery(job_id=JobId(f"job_{at}"))) for at in range(3)]
        await claimed(queue)
        for one in owed:
            await deliveries.begin(one.id)
        await asyncio.sleep(0.002)  # who waits is told apart by the millisecond
        late = await owe(deliveries, a_delivery(job_id=JobId("job_9")))
        assert await claimed(queue) == []
        await tried(deliveries, owed[0], TAKEN)
        assert await claimed(queue) == [owed[2].id]
        await tried(deliveries, owed[1], TAKEN)
        assert await claimed(queue) == [late.id]

    async def test_a_place_that_a_dead_worker_held_is_free_after_its_lease(
        self, deliveries: Deliveries, commands: Commands
    ) -> None:
        owed = [await owe(deliveries, a_delivery(job_id=JobId(f"job_{at}"))) for at in range(3)]
        for one in owed[:2]:
            await deliveries.begin(one.id)
        active = redis_keys.LANE_PREFIX + owed[0].lane + ":active"
        await commands.execute("ZADD", active, 1, owed[0].id)
        assert isinstance(await deliveries.begin(owed[2].id), Begun)

    async def test_a_message_that_is_written_off_while_it_waits_is_not_called(
        self, deliveries: Deliveries, commands: Commands, queue: Queue
    ) -> None:
        first, second, waiting = [await owe(deliveries, a_delivery(name)) for name in "abc"]
        assert len(await claimed(queue)) == 3
        for delivery in (first, second):
            assert await deliveries.begin(delivery.id) == Begun(delivery)
        assert await deliveries.begin(waiting.id) == Queueing()
        await deliveries.swap(waiting, waiting.skipped("The tenant was removed."), NOW)
        await tried(deliveries, first, TAKEN)
        assert await claimed(queue) == []
        assert await commands.execute("ZCARD", redis_keys.FULL_LANES) == 0

    async def test_a_lane_that_nobody_is_in_is_mended(
        self, deliveries: Deliveries, commands: Commands, queue: Queue
    ) -> None:
        owed = [await owe(deliveries, a_delivery(job_id=JobId(f"job_{at}"))) for at in range(3)]
        await claimed(queue)
        for one in owed:
            await deliveries.begin(one.id)
        assert await deliveries.mend() == 0
        lane = redis_keys.LANE_PREFIX + owed[0].lane + ":active"
        await commands.execute("DEL", lane)
        await commands.execute("ZADD", redis_keys.FULL_LANES, 1, owed[0].lane)
        assert await deliveries.mend() == 1
        assert await claimed(queue) == [owed[2].id]

    # -- order -------------------------------------------------------------------------------------

    async def test_a_message_waits_for_the_one_before_it(
        self, deliveries: Deliveries, commands: Commands, queue: Queue
    ) -> None:
        first, second, third = await told_of_a_job(commands)
        assert await claimed(queue) == [first.id]
        failed = await tried(deliveries, first, NOT_TAKEN)
        assert await claimed(queue) == []
        assert failed is not None
        await tried(deliveries, failed, TAKEN)
        assert await claimed(queue) == [second.id]
        await tried(deliveries, second, replace(TAKEN, status=410))
        assert await claimed(queue) == [third.id]

    async def test_a_message_that_was_skipped_holds_nothing_up(
        self, deliveries: Deliveries, commands: Commands, queue: Queue
    ) -> None:
        first, second, _ = await told_of_a_job(commands)
        await claimed(queue)
        await deliveries.swap(first, first.skipped("The endpoint is disabled."), NOW)
        assert await claimed(queue) == [second.id]

    async def test_a_message_that_was_refused_holds_nothing_up_and_is_tried_again(
        self, deliveries: Deliveries, commands: Commands, queue: Queue
    ) -> None:
        first, second, _ = await told_of_a_job(commands)
        await claimed(queue)
        await tried(deliveries, first, replace(NOT_TAKEN, status=422))
        assert await claimed(queue) == [second.id]
        assert await holds(commands, HOOKS, first.id)

    async def test_a_message_whose_forerunner_has_ended_goes_at_once(
        self, deliveries: Deliveries, commands: Commands, queue: Queue
    ) -> None:
        jobs = Jobs(commands, RetentionSettings())
        job = a_job(webhook_url="https://example.com/", webhook_events=("*",))
        await jobs.add(job)
        (first,) = await owed_to(commands)
        await claimed(queue)
        await tried(deliveries, first, TAKEN)
        await jobs.swap(job, job.cancelled(NOW))
        (second,) = (one for one in await owed_to(commands) if one.id != first.id)
        assert await claimed(queue) == [second.id]

    async def test_each_receiver_of_a_job_has_an_order_of_its_own(
        self, deliveries: Deliveries, commands: Commands, queue: Queue
    ) -> None:
        for name in ("we_1", "we_2"):
            await Endpoints(commands).add(an_endpoint(name, events=("*",)))
        first, *_ = await told_of_a_job(commands)
        assert len(await claimed(queue)) == 3
        await tried(deliveries, first, TAKEN)
        (second,) = [await deliveries.find(one) for one in await claimed(queue)]
        assert second is not None
        assert (second.receiver, second.type) == (first.receiver, "job.started")

    # -- again -------------------------------------------------------------------------------------

    async def test_a_delivery_that_failed_can_be_sent_again(
        self, deliveries: Deliveries, queue: Queue
    ) -> None:
        delivery = await owe(deliveries, a_delivery())
        await claimed(queue)
        gone = await tried(deliveries, delivery, replace(TAKEN, status=410))
        assert gone is not None
        anew = await deliveries.again(gone, NOW + 9)
        assert anew is not None
        assert (anew.status, len(anew.tries)) == (DeliveryStatus.PENDING, 1)
        assert await claimed(queue) == [delivery.id]
        assert await deliveries.begin(delivery.id) == Begun(anew)
        assert await listed(deliveries, statuses=(DeliveryStatus.GONE,)) == []
        assert await listed(deliveries, statuses=(DeliveryStatus.PENDING,)) == [anew]

    async def test_a_delivery_that_waits_for_its_next_try_can_be_sent_at_once(
        self, deliveries: Deliveries, queue: Queue
    ) -> None:
        delivery = await owe(deliveries, a_delivery())
        await claimed(queue)
        failed = await tried(deliveries, delivery, NOT_TAKEN)
        assert failed is not None
        await queue.put_back(delivery.id, 60)
        assert await deliveries.again(failed, NOW + 1) is not None
        assert await claimed(queue) == [delivery.id]

    async def test_a_delivery_is_not_sent_again_while_a_try_is_under_way(
        self, deliveries: Deliveries, queue: Queue
    ) -> None:
        delivery = await owe(deliveries, a_delivery())
        await claimed(queue)
        with pytest.raises(Conflict):
            await deliveries.again(delivery, NOW)

    async def test_an_older_version_is_not_sent_again(self, deliveries: Deliveries) -> None:
        delivery = await owe(deliveries, a_delivery())
        await tried(deliveries, delivery, TAKEN)
        assert await deliveries.again(delivery, NOW) is None

    async def test_what_is_sent_again_can_wait_for_another_that_is(
        self, deliveries: Deliveries, queue: Queue
    ) -> None:
        ended = []
        for _ in range(2):
            delivery = await owe(deliveries, a_delivery())
            await claimed(queue)
            done = await tried(deliveries, delivery, TAKEN)
            assert done is not None
            ended.append(done)
        first = await deliveries.again(ended[0], NOW)
        second = await deliveries.again(ended[1], NOW, after=ended[0].id)
        assert first is not None
        assert second is not None
        assert await claimed(queue) == [first.id]
        await tried(deliveries, first, TAKEN)
        assert await claimed(queue) == [second.id]

    async def test_a_message_that_was_sent_out_of_turn_is_not_called_when_its_turn_comes(
        self, deliveries: Deliveries, commands: Commands, queue: Queue
    ) -> None:
        first, second, _ = await told_of_a_job(commands)
        await claimed(queue)
        failed = await tried(deliveries, first, NOT_TAKEN)
        anew = await deliveries.again(second, NOW)
        assert await claimed(queue) == [second.id]
        assert anew is not None
        await tried(deliveries, anew, TAKEN)
        assert failed is not None
        await tried(deliveries, failed, TAKEN)
        assert not await holds(commands, HOOKS, second.id)

    # -- the log -----------------------------------------------------------------------------------

    async def test_deliveries_are_listed_the_newest_first_and_to_their_tenant_only(
        self, deliveries: Deliveries
    ) -> None:
        owed = [await owe(deliveries, a_delivery(created_at=NOW + at)) for at in range(4)]
        await owe(deliveries, a_delivery(tenant="globex"))
        assert await listed(deliveries) == owed[::-1]

    async def test_a_log_is_listed_as_one_whatever_became_of_its_deliveries(
        self, deliveries: Deliveries
    ) -> None:
        owed = [await owe(deliveries, a_delivery(created_at=NOW + at)) for at in range(6)]
        await tried(deliveries, owed[1], TAKEN)
        await tried(deliveries, owed[4], replace(TAKEN, status=410))
        assert [one.id for one in await listed(deliveries)] == [one.id for one in owed[::-1]]

    @pytest.mark.parametrize("limit", [1, 2, 3, 7])
    @pytest.mark.parametrize("newest_first", [True, False])
    async def test_pages_show_every_delivery_once(
        self, deliveries: Deliveries, limit: int, newest_first: bool
    ) -> None:
        owed = [
            await owe(deliveries, a_delivery(f"{at}", created_at=NOW + at // 3)) for at in range(7)
        ]
        for one in owed[::2]:
            await tried(deliveries, one, TAKEN)
        seen: list[str] = []
        cursor = None
        for _ in range(8):
            page = await deliveries.page(
                "acme", Wanted(), limit=limit, after=cursor, newest_first=newest_first
            )
            seen += [one.id for one in page.deliveries]
            if (cursor := page.next) is None:
                break
        expected = [one.id for one in owed]
        assert seen == (expected[::-1] if newest_first else expected)

    async def test_many_of_one_moment_are_all_listed(self, deliveries: Deliveries) -> None:
        await deliveries.owe("acme", [a_delivery(f"{at:03}") for at in range(90)])
        seen: list[str] = []
        cursor = None
        for _ in range(10):
            page = await deliveries.page("acme", Wanted(), limit=10, after=cursor)
            seen += [one.id for one in page.deliveries]
            if (cursor := page.next) is None:
                break
        assert (len(seen), len(set(seen)), cursor) == (90, 90, None)

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            (Wanted(endpoint_id="we_2"), ["d"]),
            (Wanted(job_id="job_2"), ["c", "b"]),
            (Wanted(type="job.failed"), ["b"]),
            (Wanted(job_id="job_2", type="job.failed"), ["b"]),
            (Wanted(statuses=(DeliveryStatus.DELIVERED,)), ["c", "a"]),
            (Wanted(statuses=(DeliveryStatus.DELIVERED,), job_id="job_2"), ["c"]),
            (Wanted(since=NOW + 1), ["d", "c", "b"]),
            (Wanted(until=NOW + 1), ["a"]),
            (Wanted(since=NOW + 1, until=NOW + 3), ["c", "b"]),
            (Wanted(endpoint_id="we_9"), []),
        ],
    )
    async def test_a_page_holds_only_what_is_wanted(
        self, deliveries: Deliveries, wanted: Wanted, expected: list[str]
    ) -> None:
        owed = [
            a_delivery("a"),
            a_delivery("b", created_at=NOW + 1, job_id=JobId("job_2"), type="job.failed"),
            a_delivery("c", created_at=NOW + 2, job_id=JobId("job_2")),
            a_delivery("d", created_at=NOW + 3, endpoint_id=EndpointId("we_2")),
        ]
        for one in owed:
            await owe(deliveries, one)
        for one in owed[::2]:
            await tried(deliveries, one, TAKEN)
        page = await deliveries.page("acme", wanted, limit=10)
        assert [one.id.removeprefix("msg_") for one in page.deliveries] == expected
        assert page.next is None

    async def test_a_page_that_was_filtered_goes_on_where_it_ended(
        self, deliveries: Deliveries
    ) -> None:
        for at in range(9):
            event = "job.failed" if at % 3 == 0 else "job.succeeded"
            await owe(deliveries, a_delivery(f"{at}", created_at=NOW + at, type=event))
        wanted = Wanted(type="job.failed")
        first = await deliveries.page("acme", wanted, limit=2)
        rest = await deliveries.page("acme", wanted, limit=2, after=first.next)
        assert [one.id for one in (*first.deliveries, *rest.deliveries)] == [
            "msg_6",
            "msg_3",
            "msg_0",
        ]
        assert rest.next is None

    async def test_a_rare_entry_is_found_behind_thousands_of_others(
        self, deliveries: Deliveries
    ) -> None:
        rare = [a_delivery("rare", job_id=JobId("job_2")), a_delivery("0", job_id=JobId("job_22"))]
        for first in range(0, 1200, 100):
            others = [a_delivery(created_at=NOW + first + at) for at in range(1, 101)]
            await deliveries.owe("acme", [*rare, *others] if first == 0 else others)
        wanted = Wanted(job_id="job_2", type="job.succeeded")
        page = await deliveries.page("acme", wanted, limit=1)
        assert ([one.id for one in page.deliveries], page.next) == (["msg_rare"], None)

    @pytest.mark.parametrize("newest_first", [True, False])
    async def test_pages_of_a_filter_lose_and_repeat_nothing_where_many_are_of_one_moment(
        self, deliveries: Deliveries, newest_first: bool
    ) -> None:
        owed = [
            a_delivery(f"{at:03}", job_id=JobId(f"job_{at % 2}"), created_at=NOW + at // 40)
            for at in range(120)
        ]
        for first in range(0, 120, 40):
            await deliveries.owe("acme", owed[first : first + 40])
        for one in owed[::3]:
            await tried(deliveries, one, TAKEN)
        seen: list[str] = []
        cursor = None
        for _ in range(21):
            page = await deliveries.page(
                "acme", Wanted(job_id="job_1"), limit=3, after=cursor, newest_first=newest_first
            )
            seen += [one.id for one in page.deliveries]
            if (cursor := page.next) is None:
                break
        expected = [one.id for one in owed if one.job_id == "job_1"]
        assert seen == (expected[::-1] if newest_first else expected)

    async def test_a_delivery_whose_record_is_gone_is_left_out(
        self, deliveries: Deliveries, commands: Commands
    ) -> None:
        owed = [await owe(deliveries, a_delivery(created_at=NOW + at)) for at in range(3)]
        await commands.execute("DEL", redis_keys.delivery(owed[1].id))
        assert await listed(deliveries) == [owed[2], owed[0]]

    @pytest.mark.parametrize("cursor", ["", "x", "!!!!", "AAAA", "Og", "é", "_" * 5000])
    async def test_a_cursor_that_no_list_gave_is_refused(
        self, deliveries: Deliveries, cursor: str
    ) -> None:
        with pytest.raises(Invalid) as refusal:
            await deliveries.page("acme", Wanted(), limit=1, after=cursor)
        assert refusal.value.code == "invalid_cursor"

    def test_ids_do_not_repeat_and_hold_no_dot(self) -> None:
        made = {new_delivery_id() for _ in range(1000)}
        assert len(made) == 1000
        assert not any("." in one for one in made)


async def owe(deliveries: Deliveries, delivery: Delivery) -> Delivery:
    await deliveries.owe(delivery.tenant, [delivery])
    return delivery


async def told_of_a_job(commands: Commands) -> list[Delivery]:
    """Let a job be added, start and end; return what its own receiver is owed, in order."""
    jobs = Jobs(commands, RetentionSettings())
    job = a_job(webhook_url="https://example.com/", webhook_events=("*",))
    await jobs.add(job)
    started = job.claimed("f", NOW).attempting("first", "sketch", "f", NOW)
    running = await jobs.swap(job, started)
    assert running is not None
    await jobs.swap(running, running.cancelled(NOW))
    owed = [one for one in await owed_to(commands) if one.endpoint_id is None]
    order = ["job.queued", "job.started", "job.cancelled"]
    return sorted(owed, key=lambda one: order.index(one.type))


async def tried(deliveries: Deliveries, delivery: Delivery, outcome: Try) -> Delivery | None:
    return await deliveries.swap(delivery, delivery.tried(outcome, jitter=0), NOW)


async def claimed(queue: Queue) -> list[str]:
    """Claim all that is due."""
    claim = await queue.claim(100)
    assert all(kind == DELIVER for _, kind in claim.tasks)
    return [task_id for task_id, _ in claim.tasks]


async def listed(
    deliveries: Deliveries, *, statuses: tuple[DeliveryStatus, ...] = tuple(DeliveryStatus)
) -> list[Delivery]:
    page = await deliveries.page("acme", Wanted(statuses=statuses), limit=50)
    return list(page.deliveries)
