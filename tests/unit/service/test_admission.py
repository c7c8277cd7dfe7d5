import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import pytest
from fakeredis import FakeAsyncRedis, FakeServer

from service.admission import AMPLE, BELIEVED, BELIEVED_FAR_OFF, Admission
from service.settings import LimitSettings
from storage import redis_keys
from storage.errors import TooMany, Unavailable
from storage.jobs import Jobs, Seating
from storage.line import Argument
from storage.rates import Rates
from storage.redis_client import Commands
from storage.settings import RetentionSettings
from storage.tenant import Tenant, new_key
from tests.samples import NOW, a_job
from tests.unit.service.conftest import Front, Start


ACME = Tenant(id="acme", created_at=NOW)
KEY, _ = new_key("acme", NOW)
ASK = {"prompt": "a lighthouse"}


@pytest.fixture
def jobs(commands: Commands) -> Jobs:
    return Jobs(commands, RetentionSettings())


@pytest.fixture
def admission(commands: Commands, jobs: Jobs) -> Admission:
    return Admission(jobs, Rates(commands), most=3)


async def limit(front: Front, **limits: Any) -> None:
    await front.context.tenants.change("alice", lambda tenant: replace(tenant, **limits))


class TestTheBoundOfAll:
    async def test_at_the_bound_nobody_comes_in(self, admission: Admission, jobs: Jobs) -> None:
        for at in range(3):
            await admission.admit(ACME, KEY, NOW + at * 2)
            await jobs.add(a_job(f"job_{at}"))
        with pytest.raises(Unavailable) as refused:
            await admission.admit(ACME, KEY, NOW + 10)
        assert (refused.value.code, refused.value.retry_after) == ("overloaded", 5.0)

    async def test_the_count_is_believed_for_a_second(
        self, admission: Admission, jobs: Jobs
    ) -> None:
        await admission.admit(ACME, KEY, NOW)
        for at in range(3):
            await jobs.add(a_job(f"job_{at}"))
        await admission.admit(ACME, KEY, NOW + BELIEVED - 0.01)
        with pytest.raises(Unavailable):
            await admission.admit(ACME, KEY, NOW + BELIEVED)

    async def test_with_ample_room_it_is_believed_for_longer_and_near_the_bound_it_is_not(
        self, jobs: Jobs, commands: Commands
    ) -> None:
        admission = Admission(jobs, Rates(commands), most=AMPLE + 1)
        await admission.admit(ACME, KEY, NOW)
        members = [part for at in range(AMPLE + 1) for part in (at, f"job_{at}")]
        await commands.execute("ZADD", redis_keys.IMAGE_QUEUE, *members)
        await admission.admit(ACME, KEY, NOW + BELIEVED_FAR_OFF - 0.01)
        for later in (0.0, BELIEVED + 0.01):
            with pytest.raises(Unavailable):
                await admission.admit(ACME, KEY, NOW + BELIEVED_FAR_OFF + later)
        await commands.execute("ZREM", redis_keys.IMAGE_QUEUE, "job_0", "job_1")
        with pytest.raises(Unavailable):
            await admission.admit(ACME, KEY, NOW + BELIEVED_FAR_OFF + BELIEVED + 0.5)
        await admission.admit(ACME, KEY, NOW + BELIEVED_FAR_OFF + 2 * BELIEVED + 0.1)

    async def test_what_was_taken_in_meanwhile_counts(self, admission: Admission) -> None:
        await admission.admit(ACME, KEY, NOW)
        for _ in range(3):
            admission.took_in(ACME)
        with pytest.raises(Unavailable):
            await admission.admit(ACME, KEY, NOW + 0.1)

    async def test_those_that_stand_count(
        self, admission: Admission, jobs: Jobs, commands: Commands
    ) -> None:
        await commands.execute("SET", redis_keys.seats("acme")[0], 1)
        for at in range(3):
            await jobs.add(a_job(f"job_{at}"), seating=Seating())
        with pytest.raises(Unavailable):
            await admission.admit(ACME, KEY, NOW)


class TestTheBoundOfATenant:
    async def test_at_its_bound_a_tenant_waits_and_others_do_not(
        self, admission: Admission, jobs: Jobs
    ) -> None:
        bounded = replace(ACME, max_queued=1)
        await jobs.add(a_job(), seating=Seating(1))
        with pytest.raises(TooMany) as refused:
            await admission.admit(bounded, KEY, NOW)
        assert refused.value.code == "queue_full"
        await admission.admit(Tenant(id="globex", created_at=NOW), KEY, NOW)

    async def test_a_tenant_may_be_stopped(self, admission: Admission) -> None:
        with pytest.raises(TooMany):
            await admission.admit(replace(ACME, max_queued=0), KEY, NOW)


class TestWithoutLimits:
    async def test_a_second_of_requests_asks_redis_once(self, commands: Commands) -> None:
        asked: list[tuple[Argument, ...]] = []

        class Watched(Commands):
            def issue(self, *command: Argument) -> Awaitable[Any]:
                asked.append(command)
                return super().issue(*command)

            async def execute(self, *command: Argument) -> Any:
                asked.append(command)
                return await super().execute(*command)

        watched = Watched(commands.redis)
        jobs = Jobs(watched, RetentionSettings())
        admission = Admission(jobs, Rates(watched), most=3)
        for at in range(50):
            await admission.admit(ACME, KEY, NOW + at / 100)
        assert asked == [("ZCARD", redis_keys.IMAGE_QUEUE), ("GET", redis_keys.STANDING)]


class TestDoors:
    async def test_a_rate_is_told_on_every_answer_of_a_door(self, front: Front) -> None:
        await limit(front, requests_per_minute=3)
        answers = [await front.post("/v1/jobs", ASK), await front.post("/v1/jobs", {})]
        assert [answer.status for answer in answers] == [202, 400]
        assert [answer.headers["RateLimit-Policy"] for answer in answers] == [
            '"tenant";q=3;w=60'
        ] * 2
        assert [answer.headers["RateLimit"][:12] for answer in answers] == [
            '"tenant";r=2',
            '"tenant";r=1',
        ]

    async def test_beyond_the_rate_it_is_told_when_to_come_again(self, front: Front) -> None:
        await limit(front, requests_per_minute=2)
        for _ in range(2):
            await front.post("/v1/jobs", ASK)
        answer = await front.post("/v1/jobs", ASK)
        assert answer.status == 429
        assert 1 <= int(answer.headers["Retry-After"]) <= 30
        assert answer.headers["RateLimit"].startswith('"tenant";r=0;t=')
        error = (await answer.json())["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert await front.queued() == 2

    async def test_a_key_may_have_a_rate_of_its_own(self, front: Front) -> None:
        key, text = new_key("alice", NOW, requests_per_minute=1)
        await front.context.tenants.add_key(key)
        headers = {"Authorization": f"Bearer {text}"}
        statuses = [(await front.post("/v1/jobs", ASK, headers=headers)).status for _ in range(2)]
        assert statuses == [202, 429]
        assert (await front.post("/v1/jobs", ASK)).status == 202

    async def test_who_has_no_rate_is_told_none(self, front: Front) -> None:
        answer = await front.post("/v1/jobs", ASK)
        assert "RateLimit" not in answer.headers
        assert not await front.redis.keys("*rate*")

    async def test_reading_uses_up_no_rate(self, front: Front) -> None:
        await limit(front, requests_per_minute=1)
        for _ in range(5):
            assert (await front.get("/v1/jobs")).status == 200
        assert (await front.post("/v1/jobs", ASK)).status == 202

    async def test_a_full_queue_is_told_before_the_body_is_read(self, start: Start) -> None:
        front = await start(limits=LimitSettings(queued=1, body_idle=5))
        assert (await front.post("/v1/jobs", ASK)).status == 202
        head = (
            f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {front.key}\r\n"
            "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection(front.client.host, front.client.port)
        writer.write(head.encode())
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 2)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"Retry-After: 5" in answer

    @pytest.mark.parametrize("limits", [{"max_queued": 1}, {"requests_per_minute": 1}])
    async def test_no_body_is_asked_for_that_would_be_refused(
        self, front: Front, limits: dict[str, int]
    ) -> None:
        await limit(front, **limits)
        assert (await front.post("/v1/jobs", ASK)).status == 202
        front.context.admission.took_in(Tenant(id="alice", created_at=NOW))
        answer = await front.post("/v1/jobs", ASK, expect100=True)
        assert answer.status == 429

    async def test_a_body_that_was_asked_for_uses_the_rate_up_once(self, front: Front) -> None:
        await limit(front, requests_per_minute=2)
        for _ in range(2):
            assert (await front.post("/v1/jobs", ASK, expect100=True)).status == 202

    async def test_while_redis_is_away_doors_say_so(self, start: Start) -> None:
        server = FakeServer()
        front = await start(redis=FakeAsyncRedis(server=server))
        await limit(front, requests_per_minute=5, max_queued=5)
        assert (await front.get("/v1/jobs")).status == 200  # the key is believed for a while
        server.connected = False
        answer = await front.post("/v1/jobs", ASK)
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
