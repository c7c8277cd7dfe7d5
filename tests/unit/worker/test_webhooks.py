"""What is owed to receivers: signed, sent, recorded, and sent again in time."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from standardwebhooks import Webhook

from storage import redis_keys
from storage.address import Allowance
from storage.attempt import Cost
from storage.deliveries import Beginning, Begun, Deliveries, LaneLimits
from storage.delivery import SCHEDULE, Delivery, DeliveryStatus, message_to
from storage.endpoint import DisabledReason, WebhookEndpoint
from storage.endpoints import Endpoints
from storage.event import TEST
from storage.job import Job
from storage.jobs import Jobs
from storage.outbox import new_delivery_id
from storage.queue import Queue, holds
from storage.redis_client import Commands, stopped
from storage.settings import RetentionSettings
from storage.vault import Secrets, Vault
from tests.doubles import Clock, FailingObjects
from tests.owed import owed
from tests.samples import NOW, a_job, a_picture, an_endpoint
from tests.unit.worker.loopback import Behaviour, Loopback, answer, say
from worker.addressee import Addressees
from worker.outcome import Again, Lost, Nothing, Outcome, Settled
from worker.web import Web
from worker.webhooks import DeliveryTerms, WebhookSender


VAULT = Vault(b"a secret of thirty-two letters or more")
WEBHOOK_QUEUE = redis_keys.WEBHOOK_QUEUE


@dataclass
class Post:
    """What stands around a sender."""

    commands: Commands
    clock: Clock
    jobs: Jobs
    deliveries: Deliveries
    endpoints: Endpoints
    sender: WebhookSender

    async def owe(self, url: str | None, job_id: str = "job_1") -> Delivery:
        """Let a job with one image end, and return the delivery that it owes."""
        await self.live(a_job(job_id, webhook_url=url))
        (delivery,) = [one for one in await owed(self.commands) if one.job_id == job_id]
        return delivery

    async def live(self, job: Job) -> None:
        """Let a job with one image be added, start and end."""
        await self.jobs.add(job)
        run = job.claimed("f", NOW).attempting("first", "sketch", "f", NOW)
        ended = run.progressed("f", [a_picture()], Cost(0.05)).settled("f", self.clock())
        assert await self.jobs.swap(job, ended) is not None

    async def register(self, url: str, name: str = "we_1", **fields: Any) -> Secrets:
        """Register an endpoint and return its secret."""
        keyring, made = VAULT.new_keyring(NOW)
        await self.endpoints.add(an_endpoint(name, url=url, keyring=keyring, **fields))
        return made

    async def endpoint(self, name: str = "we_1") -> WebhookEndpoint:
        found = await self.endpoints.get("acme", name)
        assert found is not None
        return found

    async def wait(self, delivery: Delivery, outcome: Outcome) -> None:
        """Let the time pass until the next try, for us and for Redis."""
        assert isinstance(outcome, Again)
        self.clock.advance(outcome.after)
        await self.commands.execute("HDEL", redis_keys.delivery(delivery.id), "due")

    async def found(self, delivery: Delivery) -> Delivery:
        found = await self.deliveries.find(delivery.id)
        assert found is not None
        return found

    async def job(self) -> Job:
        found = await self.jobs.find("job_1")
        assert found is not None
        return found

    def sending(self, web: Web, objects: FailingObjects, **terms: float) -> WebhookSender:
        return WebhookSender(
            self.deliveries,
            addressees(self.endpoints, self.clock, **terms),
            self.jobs,
            objects,
            web,
            clock=self.clock,
            terms=replace(DeliveryTerms(timeout=2.0, patience=5.0), **terms),  # type: ignore[arg-type]  # floats
        )


def addressees(endpoints: Endpoints, clock: Clock, *, scale: float = 1.0, **_: float) -> Addressees:
    return Addressees(endpoints, VAULT, clock=clock, scale=scale, patience=5.0)


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with Web(allowance=Allowance.parse("127.0.0.0/8")) as web:
        yield web


@pytest.fixture
def objects(tmp_path: Path) -> FailingObjects:
    return FailingObjects(tmp_path)


@pytest.fixture
def post(commands: Commands, clock: Clock, web: Web, objects: FailingObjects) -> Post:
    jobs = Jobs(commands, RetentionSettings(), clock=clock)
    deliveries, endpoints = Deliveries(commands), Endpoints(commands)
    sender = WebhookSender(
        deliveries,
        addressees(endpoints, clock),
        jobs,
        objects,
        web,
        clock=clock,
        terms=DeliveryTerms(timeout=2.0, patience=5.0),
    )
    return Post(commands, clock, jobs, deliveries, endpoints, sender)


def replying(status: str, headers: str = "", body: bytes = b"") -> Behaviour:
    return say(answer(body, status=status, headers=headers), then="go on")


def fields_of(head: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in head.lower().splitlines()[1:] if line)


# -- a message -------------------------------------------------------------------------------------


async def test_a_receiver_that_takes_the_message_ends_it(post: Post) -> None:
    async with Loopback(replying("204 No Content")) as server:
        delivery = await post.owe(server.url + "/hook")
        assert await post.sender.run(delivery.id) == Settled()
    done = await post.found(delivery)
    assert (done.status, [one.status for one in done.tries]) == (DeliveryStatus.DELIVERED, [204])
    assert not await holds(post.commands, WEBHOOK_QUEUE, delivery.id)


async def test_a_message_verifies_with_the_public_library(post: Post) -> None:
    async with Loopback(replying("200 OK")) as server:
        delivery = await post.owe(server.url + "/hook")
        await post.sender.run(delivery.id)
    head, body = server.requests[0]
    own = await post.endpoints.own("acme")
    assert own is not None
    secret = VAULT.open(own.keyring.current).text
    fields = fields_of(head)
    assert (fields["webhook-id"], fields["webhook-timestamp"]) == (delivery.id, str(int(NOW)))
    assert fields["content-type"] == "application/json"
    signature = Webhook(secret).sign(delivery.id, datetime.fromtimestamp(NOW, UTC), body.decode())
    sent = next(line for line in head.splitlines() if line.lower().startswith("webhook-signature"))
    assert sent.split(": ", 1)[1].split(" ")[0] == signature


async def test_a_message_shows_the_job_with_fresh_links_and_without_its_prompt(
    post: Post,
) -> None:
    message, body = await sent_after(post, 3600.0)
    assert (message["type"], message["timestamp"]) == ("job.succeeded", "2027-01-15T08:00:00.000Z")
    data = message["data"]
    assert (data["id"], data["status"], data["cost"]["amount"]) == ("job_1", "succeeded", 0.05)
    assert data["images"][0]["url_expires_at"] == int(NOW) + 3600 + 900
    assert b"lighthouse" not in body


async def test_a_job_that_was_deleted_is_said_to_be(post: Post) -> None:
    async with Loopback(replying("200 OK")) as server:
        delivery = await post.owe(server.url)
        await post.jobs.remove(await post.job())
        assert await post.sender.run(delivery.id) == Settled()
    message = orjson.loads(server.requests[0][1])
    assert message["data"] == {"id": "job_1", "object": "job", "deleted": True}


async def sent_after(post: Post, seconds: float) -> tuple[dict[str, Any], bytes]:
    """Return the message, as JSON and as bytes, when it is sent so late."""
    async with Loopback(replying("200 OK")) as server:
        delivery = await post.owe(server.url)
        post.clock.advance(seconds)
        await post.sender.run(delivery.id)
    body = server.requests[0][1]
    return orjson.loads(body), body


# -- trying again ----------------------------------------------------------------------------------


async def test_a_receiver_in_trouble_is_tried_again_by_the_schedule(post: Post) -> None:
    async with Loopback(replying("500 Oops")) as server:
        delivery = await post.owe(server.url)
        for wait in SCHEDULE[1:]:
            outcome = await post.sender.run(delivery.id)
            assert isinstance(outcome, Again)
            assert 0.79 * wait <= outcome.after <= 1.21 * wait + 1
            await post.wait(delivery, outcome)
        assert await post.sender.run(delivery.id) == Settled()
    failed = await post.found(delivery)
    assert (failed.status, len(failed.tries)) == (DeliveryStatus.FAILED, 10)
    assert not await holds(post.commands, WEBHOOK_QUEUE, delivery.id)


async def test_every_try_carries_the_same_id_and_a_time_of_its_own(post: Post) -> None:
    async with Loopback(replying("503 Later")) as server:
        delivery = await post.owe(server.url)
        for _ in range(3):
            await post.wait(delivery, await post.sender.run(delivery.id))
    heads = [fields_of(head) for head, _ in server.requests]
    assert {head["webhook-id"] for head in heads} == {delivery.id}
    assert len({head["webhook-timestamp"] for head in heads}) == 3
    assert len({head["webhook-signature"] for head in heads}) == 3


async def test_a_receiver_that_is_gone_is_left_alone(post: Post) -> None:
    async with Loopback(replying("410 Gone")) as server:
        delivery = await post.owe(server.url)
        assert await post.sender.run(delivery.id) == Settled()
        assert await post.sender.run(delivery.id) == Nothing()
    assert (await post.found(delivery)).status is DeliveryStatus.GONE
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("hint", "after"),
    [
        ("120", 120.0),
        ("1", None),
        ("999999999", 3600.0),
        (format_datetime(datetime.fromtimestamp(NOW + 200, UTC), usegmt=True), 200.0),
        (format_datetime(datetime.fromtimestamp(NOW - 200, UTC), usegmt=True), None),
        ("soon", None),
        ("-5", None),
        ("9" * 400, None),
        ("Mon, 01 Jan 0001 00:00:00 -0000", None),
        ("Mon, 01 Jan 2030 00:00:00 +99999999999999999999", None),
    ],
)
async def test_a_receivers_hint_is_kept_within_reason(
    post: Post, hint: str, after: float | None
) -> None:
    async with Loopback(replying("429 Too Many", f"Retry-After: {hint}\r\n")) as server:
        outcome = await post.sender.run((await post.owe(server.url)).id)
    assert isinstance(outcome, Again)
    if after is None:
        assert 4.0 <= outcome.after <= 6.0
    else:
        assert outcome.after == pytest.approx(after, abs=1)


async def test_a_receiver_that_hangs_is_left_in_time(
    post: Post, web: Web, objects: FailingObjects
) -> None:
    async with Loopback(say(then="hang")) as server:
        delivery = await post.owe(server.url)
        outcome = await post.sending(web, objects, timeout=0.05).run(delivery.id)
    assert isinstance(outcome, Again)
    (one,) = (await post.found(delivery)).tries
    assert (one.status, one.error is not None) == (None, True)


async def test_a_receiver_that_is_not_there_is_a_failed_try(post: Post) -> None:
    async with Loopback(replying("200 OK")) as server:
        delivery = await post.owe(server.url)
    assert isinstance(await post.sender.run(delivery.id), Again)
    assert (await post.found(delivery)).tries[0].status is None


async def test_a_redirect_is_not_followed(post: Post) -> None:
    async with Loopback(replying("200 OK")) as inside:
        moved = replying("302 Found", f"Location: {inside.url}/\r\n")
        async with Loopback(moved) as server:
            delivery = await post.owe(server.url)
            assert isinstance(await post.sender.run(delivery.id), Again)
    assert (await post.found(delivery)).tries[0].status == 302
    assert inside.connections == 0


async def test_a_receiver_inside_the_house_is_never_reached(
    post: Post, objects: FailingObjects
) -> None:
    async with Web() as strict, Loopback(replying("200 OK")) as server:
        delivery = await post.owe(server.url.replace("http:", "https:"))
        outcome = await post.sending(strict, objects).run(delivery.id)
    assert isinstance(outcome, Again)
    assert server.connections == 0


async def test_the_schedule_can_be_stretched(post: Post, web: Web, objects: FailingObjects) -> None:
    async with Loopback(replying("500 Oops")) as server:
        outcome = await post.sending(web, objects, scale=0.01).run((await post.owe(server.url)).id)
    assert isinstance(outcome, Again)
    assert outcome.after < 0.07


async def test_the_beginning_of_the_reply_is_kept_for_its_owner(post: Post) -> None:
    async with Loopback(replying("500 Oops", body=b"\xff" + b"x" * 5000)) as server:
        delivery = await post.owe(server.url)
        await post.sender.run(delivery.id)
    reply = (await post.found(delivery)).tries[0].reply
    assert len(reply) == 1024
    assert reply.startswith("\ufffdxxx")


# -- never too often -------------------------------------------------------------------------------


async def test_there_is_nothing_to_do_for_a_delivery_that_never_was(post: Post) -> None:
    assert await post.sender.run("msg_0") == Nothing()


async def test_a_delivery_claimed_before_its_time_is_put_back_and_not_sent(post: Post) -> None:
    async with Loopback(replying("500 Oops")) as server:
        delivery = await post.owe(server.url)
        first = await post.sender.run(delivery.id)
        again = await post.sender.run(delivery.id)
    assert isinstance(first, Again)
    assert isinstance(again, Again)
    assert again.after == pytest.approx(first.after, abs=0.5)
    assert len(server.requests) == 1


async def test_a_try_that_somebody_else_recorded_first_is_not_recorded_twice(post: Post) -> None:
    async with Loopback(replying("200 OK")) as server:
        delivery = await post.owe(server.url)

        class Slow(Deliveries):
            async def begin(self, delivery_id: str, *, slack: float = 0.5) -> Beginning:
                begun = await super().begin(delivery_id, slack=slack)
                assert isinstance(begun, Begun)
                assert await post.sender.run(delivery_id) == Settled()
                post.clock.advance(1)
                return begun

        slow = WebhookSender(
            Slow(post.commands),
            addressees(post.endpoints, post.clock),
            post.jobs,
            post.sender._objects,
            post.sender._web,
            clock=post.clock,
            terms=DeliveryTerms(timeout=2.0),
        )
        assert await slow.run(delivery.id) == Lost()
    assert len((await post.found(delivery)).tries) == 1


# -- endpoints -------------------------------------------------------------------------------------


async def test_an_endpoint_is_sent_what_its_own_secret_signs(post: Post) -> None:
    async with Loopback(replying("200 OK")) as server:
        made = await post.register(server.url)
        delivery = await post.owe(None)
        assert await post.sender.run(delivery.id) == Settled()
    head, body = server.requests[0]
    expected = Webhook(made.hmac).sign(delivery.id, datetime.fromtimestamp(NOW, UTC), body.decode())
    assert expected in head


async def test_a_message_goes_where_the_endpoint_is_now(post: Post) -> None:
    async with Loopback(replying("200 OK")) as server:
        await post.register("https://192.0.2.1/old")
        delivery = await post.owe(None)
        endpoint = await post.endpoint()
        await post.endpoints.swap(endpoint, replace(endpoint, url=server.url))
        assert await post.sender.run(delivery.id) == Settled()
    done = await post.found(delivery)
    assert (done.status, done.url) == (DeliveryStatus.DELIVERED, server.url)


@pytest.mark.parametrize("opted_in", [True, False])
async def test_prompts_are_shown_only_to_an_endpoint_that_asked_for_them(
    post: Post, opted_in: bool
) -> None:
    async with Loopback(replying("200 OK")) as server:
        await post.register(server.url, include_prompt=opted_in)
        await post.sender.run((await post.owe(None)).id)
    assert (b"lighthouse" in server.requests[0][1]) is opted_in


async def test_nothing_is_sent_to_an_endpoint_that_was_deleted(post: Post) -> None:
    async with Loopback(replying("200 OK")) as server:
        await post.register(server.url)
        delivery = await post.owe(None)
        await post.endpoints.remove(await post.endpoint())
        assert await post.sender.run(delivery.id) == Settled()
        assert server.connections == 0
    skipped = await post.found(delivery)
    assert (skipped.status, skipped.note) == (DeliveryStatus.SKIPPED, "The endpoint was deleted.")


async def test_nothing_is_sent_to_an_endpoint_that_was_disabled(post: Post) -> None:
    async with Loopback(replying("200 OK")) as server:
        await post.register(server.url)
        delivery = await post.owe(None)
        endpoint = await post.endpoint()
        await post.endpoints.swap(endpoint, endpoint.disabled(DisabledReason.OWNER, NOW))
        assert await post.sender.run(delivery.id) == Settled()
        assert server.connections == 0
    assert (await post.found(delivery)).note == "The endpoint is disabled."


async def test_an_endpoint_that_is_gone_is_disabled_and_the_others_are_told(post: Post) -> None:
    async with Loopback(replying("410 Gone")) as server, Loopback(replying("200 OK")) as other:
        await post.register(server.url + "/hook?token=pass")
        delivery = await post.owe(None)
        await post.register(other.url, "we_2", events=("webhook_endpoint.disabled",))
        assert await post.sender.run(delivery.id) == Settled()
        gone = await post.endpoint()
        (notice,) = [one for one in await owed(post.commands) if one.endpoint_id == "we_2"]
        await post.sender.run(notice.id)
    assert (gone.disabled_reason, gone.disabled_at) == (DisabledReason.GONE, NOW)
    message = orjson.loads(other.requests[0][1])
    assert message["type"] == "webhook_endpoint.disabled"
    assert (message["data"]["id"], message["data"]["disabled_reason"]) == ("we_1", "gone")
    assert message["data"]["url"] == server.url + "/hook", "its query may be a password"
    assert "secret" not in message["data"]


async def test_days_of_failures_disable_an_endpoint_and_a_success_forgets_them(
    post: Post, web: Web, objects: FailingObjects
) -> None:
    status = "500 Oops"
    sender = post.sending(web, objects, scale=0.001)

    async def failing(name: str) -> None:
        async with Loopback(replying(status)) as server:
            endpoint = await post.endpoint()
            await post.endpoints.swap(endpoint, replace(endpoint, url=server.url))
            await sender.run((await post.owe(None, name)).id)

    await post.register("https://192.0.2.1/")
    for at in range(3):
        await failing(f"job_{at}")
        post.clock.advance(200)
    assert (await post.endpoint()).failing_since == NOW
    status = "200 OK"
    await failing("job_3")
    assert (await post.endpoint()).failing_since is None
    status = "500 Oops"
    for at in range(4, 7):
        await failing(f"job_{at}")
        post.clock.advance(300)
    assert (await post.endpoint()).disabled_reason is DisabledReason.FAILING


async def test_a_change_by_its_owner_does_not_hide_what_a_try_says(post: Post) -> None:
    async with Loopback(replying("410 Gone")) as server:
        await post.register(server.url)
        delivery = await post.owe(None)

        class Meddled(Endpoints):
            async def get(self, tenant: str, endpoint_id: str) -> WebhookEndpoint | None:
                found = await super().get(tenant, endpoint_id)
                if found is not None and not found.description:
                    await self.swap(found, replace(found, description="meddled"))
                return found

        endpoints = Meddled(post.commands)
        await WebhookSender(
            post.deliveries,
            addressees(endpoints, post.clock),
            post.jobs,
            post.sender._objects,
            post.sender._web,
            clock=post.clock,
            terms=DeliveryTerms(timeout=2.0),
        ).run(delivery.id)
    after = await post.endpoint()
    assert (after.description, after.disabled_reason) == ("meddled", DisabledReason.GONE)


async def test_a_secret_that_cannot_be_opened_is_a_failed_try_that_says_so(post: Post) -> None:
    async with Loopback(replying("200 OK")) as server:
        keyring, _ = Vault(b"another secret of thirty-two letters").new_keyring(NOW)
        await post.endpoints.add(an_endpoint(url=server.url, keyring=keyring))
        delivery = await post.owe(None)
        assert isinstance(await post.sender.run(delivery.id), Again)
        assert server.connections == 0
    (one,) = (await post.found(delivery)).tries
    assert "rotate" in str(one.error)


async def test_a_message_to_a_full_lane_leaves_the_queue_and_is_not_sent(post: Post) -> None:
    async with Loopback(replying("200 OK")) as server:
        await post.register(server.url)
        owing = [await post.owe(None, f"job_{at}") for at in range(5)]
        for one in owing[:4]:
            assert isinstance(await post.deliveries.begin(one.id), Begun)
        assert await post.sender.run(owing[4].id) == Settled()
        assert not await holds(post.commands, WEBHOOK_QUEUE, owing[4].id)
        assert await post.sender.run(owing[0].id) == Settled()
        assert await holds(post.commands, WEBHOOK_QUEUE, owing[4].id)
    assert len(server.requests) == 1


async def test_a_message_of_its_own_words_is_sent_as_it_is(post: Post) -> None:
    async with Loopback(replying("200 OK")) as server:
        await post.register(server.url)
        endpoint = await post.endpoint()
        words = message_to(endpoint, TEST, new_delivery_id(), NOW, data='{"id": "we_1"}')
        await post.deliveries.owe("acme", [words])
        await post.sender.run(words.id)
    message = orjson.loads(server.requests[0][1])
    assert message["type"] == "webhook_endpoint.test"
    assert message["data"] == {"id": "we_1"}


# -- a receiver in trouble and everybody else ------------------------------------------------------

STEPS = ["job.queued", "job.started", "job.image_ready", "job.succeeded"]


class Door:
    """A receiver that is away while `closed` says so; notes what it took, and how many at once."""

    def __init__(self, closed: Callable[[], bool]) -> None:
        self.taken: list[dict[str, Any]] = []
        self.most_at_once = 0
        self._at_once = 0
        self._closed = closed

    async def behave(
        self, server: Loopback, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            _, body = await server.request(reader)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            await asyncio.sleep(0)
            self._at_once -= 1
            if not self._closed():
                self.taken.append(orjson.loads(body))
            writer.write(answer(status="503 Away" if self._closed() else "200 OK"))


async def delivered(post: Post, queue: Queue) -> None:
    """Make every try that is due; when none is, let the time pass until the next one."""
    due: dict[str, float] = {}
    for _ in range(1000):
        ids = [task_id for task_id, _ in (await queue.claim(100)).tasks]
        outcomes = await asyncio.gather(*(post.sender.run(one) for one in ids))
        for one, outcome in zip(ids, outcomes, strict=True):
            if isinstance(outcome, Again):
                due[one] = post.clock() + outcome.after
                await queue.put_back(one, 1000.0)
        if not ids and not due:
            return
        if not ids:
            first = min(due, key=lambda one: due[one])
            post.clock.now = due.pop(first)
            await post.commands.execute("HDEL", redis_keys.delivery(first), "due")
            await post.commands.execute("ZADD", WEBHOOK_QUEUE, redis_keys.FIRST_MOMENT, first)
    raise AssertionError("some deliveries never end")


async def test_an_hour_without_a_receiver_loses_nothing_and_keeps_the_order_of_each_job(
    post: Post,
) -> None:
    door = Door(closed=lambda: post.clock() < NOW + 3600)
    jobs = [f"job_{at}" for at in range(6)]
    async with Loopback(door.behave) as server:
        await post.register(server.url, events=("*",))
        for job_id in jobs:
            await post.live(a_job(job_id))
        await delivered(post, Queue(post.commands, WEBHOOK_QUEUE, token="one", lease=60))
    told = {job_id: [m["type"] for m in door.taken if m["data"]["id"] == job_id] for job_id in jobs}
    assert told == dict.fromkeys(jobs, STEPS)
    assert 1 < door.most_at_once <= LaneLimits().receiver
    log = await owed(post.commands)
    assert {one.status for one in log} == {DeliveryStatus.DELIVERED}
    assert Counter(len(one.tries) for one in log) == {5: 6, 1: 18}
    for one in log:
        waits = [b.at - a.at - a.latency for a, b in itertools.pairwise(one.tries)]
        assert all(
            0.8 * planned - 1e-6 <= wait <= 1.2 * planned + 1e-6
            for wait, planned in zip(waits, SCHEDULE[1:], strict=False)
        )


async def test_a_receiver_that_hangs_holds_its_few_places_and_nobody_elses(post: Post) -> None:
    async with Loopback(say(then="hang")) as hanging, Loopback(replying("200 OK")) as healthy:
        await post.register(hanging.url)
        await post.register(healthy.url, "we_2", tenant="globex")
        for name, tenant, count in (("we_1", "acme", 40), ("we_2", "globex", 10)):
            endpoint = await post.endpoints.get(tenant, name)
            assert endpoint is not None
            owing = [
                message_to(endpoint, TEST, new_delivery_id(), NOW, data="{}") for _ in range(count)
            ]
            await post.deliveries.owe(tenant, owing)
        queue = Queue(post.commands, WEBHOOK_QUEUE, token="one", lease=60)
        begun: list[asyncio.Task[Outcome]] = []
        async with asyncio.timeout(5):
            while len(healthy.requests) < 10:
                claim = await queue.claim(100)
                begun += [asyncio.create_task(post.sender.run(one)) for one, _ in claim.tasks]
                await asyncio.sleep(0.01)
        assert hanging.connections <= LaneLimits().receiver
        under_way = [task for task in begun if not task.done()]
        assert len(under_way) <= LaneLimits().receiver
        await stopped(*under_way)
