"""The log of what was sent, and sending it once more."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from storage import redis_keys
from storage.delivery import Delivery, DeliveryStatus, Try, message_to
from storage.endpoint import WebhookEndpoint
from storage.endpoints import new_endpoint_id
from storage.event import TEST
from storage.job import JobId
from storage.outbox import new_delivery_id
from storage.replay import ReplayStatus
from storage.replays import MOST_RUNNING
from storage.tenant import Scope
from tests.samples import an_endpoint
from tests.unit.service.conftest import Front


DAY = 86_400.0
PATH = "/v1/deliveries"


async def shown(front: Front, path: str) -> Any:
    answer = await front.get(path)
    assert answer.status == 200, await answer.text()
    return await answer.json()


async def listed(front: Front, **query: Any) -> list[str]:
    """Return the ids of one page."""
    answer = await front.get(PATH, params={name: str(value) for name, value in query.items()})
    assert answer.status == 200, await answer.text()
    return [one["id"] for one in (await answer.json())["data"]]


async def complaint(front: Front, method: str, path: str, **options: Any) -> tuple[int, Any]:
    answer = await front.request(method, path, **options)
    error = (await answer.json())["error"]
    return answer.status, error["param"] or error["code"]


class Log:
    """A tenant's log, to be filled."""

    def __init__(self, front: Front) -> None:
        self.front = front

    async def endpoint(self, **fields: Any) -> WebhookEndpoint:
        endpoint = an_endpoint(new_endpoint_id(), **{"tenant": "alice", **fields})
        return await self.front.context.endpoints.add(endpoint)

    async def owe(
        self,
        endpoint: WebhookEndpoint,
        event: str = "job.succeeded",
        *,
        ago: float = 0.0,
        **fields: Any,
    ) -> Delivery:
        at = time.time() - ago
        delivery = replace(message_to(endpoint, event, new_delivery_id(), at, data="{}"), **fields)
        await self.front.context.deliveries.owe(endpoint.tenant, [delivery])
        return delivery

    async def tried(self, delivery: Delivery, status: int, *, times: int = 1) -> Delivery:
        for number in range(times):
            outcome = Try(
                at=delivery.created_at + number,
                latency=0.25,
                status=status,
                error=None if status == 200 else "The receiver answered.",
                reply="<b>no</b>",
            )
            after = delivery.tried(outcome, jitter=0)
            written = await self.front.context.deliveries.swap(delivery, after, time.time())
            assert written is not None
            delivery = written
        return delivery


@pytest.fixture
def log(front: Front) -> Log:
    return Log(front)


# -- the log ---------------------------------------------------------------------------------------


async def test_deliveries_are_listed_the_newest_first_page_by_page(front: Front, log: Log) -> None:
    endpoint = await log.endpoint()
    made = [(await log.owe(endpoint, ago=10 - n)).id for n in range(7)]
    seen: list[str] = []
    query = "?limit=3"
    for more in (True, True, False):
        page = await shown(front, PATH + query)
        assert (page["object"], page["has_more"], page["next"] is not None) == ("list", more, more)
        seen += [one["id"] for one in page["data"]]
        query = f"?limit=3&cursor={page['next']}"
    assert seen == made[::-1]


async def test_each_filter_finds_its_own_and_they_hold_together(front: Front, log: Log) -> None:
    shop, desk = await log.endpoint(), await log.endpoint()
    old = await log.tried(await log.owe(shop, ago=7200), 200)
    new = await log.owe(shop, "job.failed", job_id=JobId("job_7"))
    other = await log.tried(await log.owe(desk, "job.failed", ago=3600), 500, times=10)
    hour_ago = int(time.time()) - 3700
    assert await listed(front, endpoint=shop.id) == [new.id, old.id]
    assert await listed(front, type="job.failed") == [new.id, other.id]
    assert await listed(front, status="delivered") == [old.id]
    assert await listed(front, status="failed") == [other.id]
    assert await listed(front, status="pending") == [new.id]
    assert await listed(front, job="job_7") == [new.id]
    assert await listed(front, created_after=hour_ago) == [new.id, other.id]
    assert await listed(front, created_before=hour_ago) == [old.id]
    assert await listed(front, endpoint=shop.id, type="job.failed", status="delivered") == []
    assert await listed(front, endpoint="we_nobodys") == []
    assert await listed(front, type=TEST) == []


async def test_a_log_goes_thirty_days_back(front: Front, log: Log) -> None:
    endpoint = await log.endpoint()
    kept = await log.owe(endpoint, ago=30 * DAY - 60)
    await log.owe(endpoint, ago=30 * DAY + 60)
    assert await listed(front) == [kept.id]
    assert await listed(front, created_after=0) == [kept.id]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"status": "lost"}, "status"),
        ({"type": "job.*"}, "type"),
        ({"type": "job.done"}, "type"),
        ({"type": ""}, "type"),
        ({"created_after": "yesterday"}, "created_after"),
        ({"created_before": "nan"}, "created_before"),
        ({"created_before": "-1"}, "created_before"),
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "٣"}, "limit"),
        ({"cursor": "!"}, "cursor"),
        ({"cursor": "x" * 5000}, "cursor"),
        ({"tenant": "bob"}, "tenant"),
    ],
)
async def test_what_is_wrong_in_a_query_is_named(
    front: Front, query: dict[str, str], param: str
) -> None:
    assert await complaint(front, "GET", PATH, params=query) == (400, param)


async def test_a_delivery_shows_every_try_and_lists_keep_the_replies(
    front: Front, log: Log
) -> None:
    endpoint = await log.endpoint()
    delivery = await log.tried(await log.owe(endpoint), 503, times=2)
    one = await shown(front, f"{PATH}/{delivery.id}")
    assert [(t["status"], t["latency"], t["reply"]) for t in one["tries"]] == [
        (503, 0.25, "<b>no</b>")
    ] * 2
    assert one["tries"][0]["at"] == pytest.approx(delivery.created_at, abs=0.01)
    assert (one["status"], one["url"], one["endpoint"]) == ("pending", endpoint.url, endpoint.id)
    assert one["next_try_at"] > one["created_at"]
    (in_list,) = (await shown(front, PATH))["data"]
    assert all("reply" not in t for t in in_list["tries"])


async def test_there_is_no_delivery_by_a_wrong_name(front: Front) -> None:
    for name in ("msg_0", "x", "%00", "we_1"):
        assert await complaint(front, "GET", f"{PATH}/{name}") == (404, "delivery_not_found")


# -- once more -------------------------------------------------------------------------------------


async def test_a_delivery_is_sent_again_under_its_id(front: Front, log: Log) -> None:
    delivery = await log.tried(await log.owe(await log.endpoint()), 500, times=10)
    assert delivery.status is DeliveryStatus.FAILED
    answer = await front.post(f"{PATH}/{delivery.id}/redeliver", {})
    again = await answer.json()
    assert answer.status == 202
    assert (again["id"], again["status"]) == (delivery.id, "pending")
    assert len(again["tries"]) == 10, "what was tried stays on record"
    assert await front.redis.zscore(redis_keys.WEBHOOK_QUEUE, delivery.id) is not None


async def test_of_many_who_send_it_again_at_once_it_is_sent_once_more(
    front: Front, log: Log
) -> None:
    delivery = await log.tried(await log.owe(await log.endpoint()), 200)
    path = f"{PATH}/{delivery.id}/redeliver"
    answers = await asyncio.gather(*(front.post(path, {}) for _ in range(10)))
    assert {answer.status for answer in answers} <= {202, 409}
    queued = await front.redis.zrange(redis_keys.WEBHOOK_QUEUE, 0, -1)
    assert queued == [delivery.id.encode()]


async def test_what_is_being_tried_is_not_sent_again(front: Front, log: Log) -> None:
    delivery = await log.owe(await log.endpoint())
    await front.redis.set(redis_keys.in_progress(delivery.id), 1)
    refused = await complaint(front, "POST", f"{PATH}/{delivery.id}/redeliver")
    assert refused == (409, "delivery_in_progress")


async def disable(front: Front, endpoint: WebhookEndpoint) -> None:
    await front.post(f"/v1/webhook-endpoints/{endpoint.id}/disable", {})


async def forget(front: Front, endpoint: WebhookEndpoint) -> None:
    await front.request("DELETE", f"/v1/webhook-endpoints/{endpoint.id}")


@pytest.mark.parametrize(
    ("act", "status", "code"),
    [(disable, 409, "endpoint_disabled"), (forget, 404, "endpoint_not_found")],
)
async def test_nothing_is_sent_again_to_an_endpoint_that_takes_nothing(
    front: Front,
    log: Log,
    act: Callable[[Front, WebhookEndpoint], Awaitable[None]],
    status: int,
    code: str,
) -> None:
    endpoint = await log.endpoint()
    delivery = await log.tried(await log.owe(endpoint), 200)
    await act(front, endpoint)
    one = await front.post(f"{PATH}/{delivery.id}/redeliver", {})
    many = await front.post(f"{PATH}/replay", {"endpoint": endpoint.id})
    for answer in (one, many):
        assert (answer.status, (await answer.json())["error"]["code"]) == (status, code)
    found = await front.context.deliveries.get("alice", delivery.id)
    assert found is not None
    assert found.status is DeliveryStatus.DELIVERED


# -- replays ---------------------------------------------------------------------------------------


async def test_a_replay_is_queued_as_it_was_asked_and_can_be_watched(
    front: Front, log: Log
) -> None:
    endpoint = await log.endpoint()
    since = int(time.time()) - 3600
    asked = {
        "endpoint": endpoint.id,
        "type": "job.failed",
        "only": "all",
        "created_after": since,
        "created_before": since + 600,
    }
    answer = await front.post(f"{PATH}/replay", asked)
    replay = await answer.json()
    assert answer.status == 202
    assert {name: replay[name] for name in asked} == asked
    assert (replay["status"], replay["replayed"], replay["truncated"]) == ("running", 0, False)
    assert await front.redis.zscore(redis_keys.WEBHOOK_QUEUE, replay["id"]) is not None
    assert await shown(front, answer.headers["Location"]) == replay
    record = await front.context.replays.find(replay["id"])
    assert record is not None
    await front.context.replays.put(record.advanced(3, None, time.time()))
    done = await shown(front, answer.headers["Location"])
    assert (done["status"], done["replayed"]) == ("done", 3)
    assert done["finished_at"] is not None


async def test_a_replay_of_nothing_named_is_of_all_that_failed_in_thirty_days(
    front: Front,
) -> None:
    replay = await (await front.post(f"{PATH}/replay")).json()
    now = time.time()
    assert (replay["only"], replay["endpoint"], replay["type"]) == ("failed", None, None)
    assert replay["created_after"] == pytest.approx(now - 30 * DAY, abs=5)
    assert replay["created_before"] == pytest.approx(now, abs=5)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"only": "some"}, "only"),
        ({"type": "job.*"}, "type"),
        ({"type": "job.done"}, "type"),
        ({"created_after": "yesterday"}, "created_after"),
        ({"created_after": -1}, "created_after"),
        ({"created_before": 1}, "created_before"),
        ({"created_after": 9e11}, "created_before"),
        ({"endpoint": ""}, "endpoint"),
        ({"endpoint": 7}, "endpoint"),
        ({"status": "failed"}, "status"),
    ],
)
async def test_what_is_wrong_in_a_replay_is_named(
    front: Front, asked: dict[str, Any], param: str
) -> None:
    assert await complaint(front, "POST", f"{PATH}/replay", json=asked) == (400, param)


async def test_a_tenant_has_so_many_replays_running_and_no_more(front: Front) -> None:
    first = await (await front.post(f"{PATH}/replay")).json()
    for _ in range(MOST_RUNNING - 1):
        assert (await front.post(f"{PATH}/replay")).status == 202
    refused = await front.post(f"{PATH}/replay")
    assert refused.status == 429
    assert int(refused.headers["Retry-After"]) > 0
    record = await front.context.replays.find(first["id"])
    assert record is not None
    await front.context.replays.put(record.advanced(0, None, time.time()))
    assert (await front.post(f"{PATH}/replay")).status == 202
    ended = await front.context.replays.find(first["id"])
    assert ended is not None
    assert ended.status is ReplayStatus.DONE


async def test_a_key_that_only_reads_sends_nothing_again(front: Front, log: Log) -> None:
    delivery = await log.tried(await log.owe(await log.endpoint()), 200)
    reader = {"Authorization": f"Bearer {await front.new_key('alice', Scope.READ)}"}
    assert (await front.get(f"{PATH}/{delivery.id}", headers=reader)).status == 200
    for path in (f"{PATH}/{delivery.id}/redeliver", f"{PATH}/replay"):
        assert (await front.post(path, {}, headers=reader)).status == 403
