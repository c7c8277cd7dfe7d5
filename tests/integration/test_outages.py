"""What we stand on goes away and comes back: a worker in mid-call, and Redis under load."""

import asyncio
import contextlib
import signal
import time
from pathlib import Path

import aiohttp

from tests.integration.walk import all_ended, all_told, ended, submit
from tests.processes import installed
from tests.receiver import receiving


async def test_a_job_whose_worker_is_killed_in_mid_call_runs_again_within_15_seconds(
    tmp_path: Path,
) -> None:
    async with installed(tmp_path, workers=1) as here, here.client() as client:
        job_id = await submit(client, prompt="a lighthouse [[slow:3]]", model="gpt-image-2")
        await calls_at_the_upstream(client, here.upstream_url, 1)
        await here.workers[0].kill()
        killed = time.monotonic()
        await here.add_worker()
        calls = await calls_at_the_upstream(client, here.upstream_url, 2)
        restarted_after = time.monotonic() - killed
        [job] = await all_ended(client, [job_id])
        await asyncio.sleep(1)
        assert restarted_after <= 15
        assert job["status"] == "succeeded"
        assert [a["status"] for a in job["attempts"]] == ["outcome_unknown", "succeeded"]
        assert len(calls) == 2, "the upstream saw one call more than the crash explains"
        assert job["cost"]["source"] == "unknown", "the call that was cut off may have been paid"


async def test_a_redis_that_is_killed_under_load_loses_no_accepted_job(tmp_path: Path) -> None:
    async with (
        installed(tmp_path, workers=2) as here,
        here.client() as client,
        receiving() as receiver,
    ):
        async with client.get("/v1/webhook-secret") as answer:
            receiver.secret = (await answer.json())["secret"]
        accepted: list[str] = []
        stop = asyncio.Event()

        async def load(number: int) -> None:
            while not stop.is_set():
                with contextlib.suppress(aiohttp.ClientError, TimeoutError, AssertionError):
                    accepted.append(
                        await submit(
                            client,
                            prompt=f"picture {number} [[slow:1]]",
                            model="gpt-image-2",
                            webhook_url=receiver.url,
                        )
                    )
                await asyncio.sleep(0.1)

        clients = [asyncio.create_task(load(number)) for number in range(8)]
        pids = {program.pid for program in (here.service, *here.workers)}
        for _ in range(2):
            await asyncio.sleep(2)
            await here.redis.kill()
            await asyncio.sleep(2)
            await here.redis.start()
        back = time.monotonic()
        await asyncio.sleep(3)
        stop.set()
        await asyncio.gather(*clients)
        jobs = await all_ended(client, accepted)
        recovered = time.monotonic() - back
        await all_told(receiver, accepted)
        assert len(accepted) > 50
        assert recovered <= 15
        assert {job["status"] for job in jobs} == {"succeeded"}
        assert all(len(ids) == 1 for ids in receiver.ids_by_job.values())
        living = {p.pid for p in (here.service, *here.workers) if p.is_alive}
        assert living == pids, "a process did not outlive the outage"


async def test_the_service_says_503_while_redis_is_away_and_soon(tmp_path: Path) -> None:
    async with installed(tmp_path, workers=0) as here, here.client() as client:
        here.redis.process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]  # it runs
        try:
            begun = time.monotonic()
            body = {"model": "sketch", "prompt": "a lighthouse"}
            async with client.post("/v1/jobs", json=body) as answer:
                took = time.monotonic() - begun
                assert answer.status == 503
                assert "Retry-After" in answer.headers
                assert took <= 3
        finally:
            here.redis.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]  # as above
        async with client.post("/v1/jobs", json=body) as answer:
            assert answer.status == 202


async def test_a_worker_that_is_asked_to_stop_ends_what_it_runs_first(tmp_path: Path) -> None:
    async with installed(tmp_path, workers=1) as here, here.client() as client:
        job_id = await submit(client, prompt="a lighthouse [[slow:2]]", model="gpt-image-2")
        await calls_at_the_upstream(client, here.upstream_url, 1)
        assert await here.workers[0].end() == 0
        job = await ended(client, job_id, within=1)
        assert job["status"] == "succeeded"
        assert len(job["attempts"]) == 1


async def test_a_worker_that_may_not_wait_gives_its_jobs_back_at_once(tmp_path: Path) -> None:
    async with installed(tmp_path, workers=0) as here, here.client() as client:
        first = await here.add_worker(DARKROOM_WORKER__DRAIN="0.2")
        job_id = await submit(client, prompt="a lighthouse [[slow:3]]", model="gpt-image-2")
        await calls_at_the_upstream(client, here.upstream_url, 1)
        await here.add_worker()
        await asyncio.sleep(2)
        stopped = time.monotonic()
        assert await first.end() == 0
        await calls_at_the_upstream(client, here.upstream_url, 2)
        assert time.monotonic() - stopped <= 3, "the next worker waited for the lease"
        assert (await ended(client, job_id))["status"] == "succeeded"


async def calls_at_the_upstream(
    client: aiohttp.ClientSession, upstream: str, count: int
) -> list[dict[str, object]]:
    """Wait until the upstream has seen so many calls, and return them."""
    calls: list[dict[str, object]] = []
    for _ in range(300):
        async with client.get(f"{upstream}/_calls") as answer:
            calls = await answer.json()
        if len(calls) >= count:
            return calls
        await asyncio.sleep(0.1)
    raise AssertionError(f"the upstream saw {len(calls)} calls, not {count}")
