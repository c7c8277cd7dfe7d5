"""A process is killed with SIGKILL at each line of the walk, and nothing is lost.

What is judged at the end, over all jobs: each that was accepted has reached exactly one terminal
state and told its receiver of it under one message id; a key never made two jobs; every image of a
job that says it succeeded can be fetched.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from tests.integration.walk import all_ended, all_told, submit
from tests.processes import Installation, Program, installed
from tests.receiver import Receiver, receiving


JOBS = 60
WORKER_POINTS = ("begin", "call", "answered", "kept", "settled", "send", "sent")
SERVICE_POINTS = ("add", "added")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def darkroom(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    folder = tmp_path_factory.mktemp("crashes")
    async with installed(
        folder,
        workers=0,
        DARKROOM_WORKER__LEASE="2",
        DARKROOM_WORKER__HEARTBEAT="0.5",
        DARKROOM_WORKER__SLOTS="2",
        DARKROOM_WORKER__WEBHOOK_SLOTS="4",
        DARKROOM_WORKER__WEBHOOK_SCALE="0.01",
        DARKROOM_WORKER__IMAGE_CHILDREN="1",
    ) as here:
        yield here


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def receiver(darkroom: Installation) -> AsyncIterator[Receiver]:
    async with receiving() as receiver, darkroom.client() as client:
        async with client.get("/v1/webhook-secret") as answer:
            receiver.secret = (await answer.json())["secret"]
        yield receiver


@contextlib.asynccontextmanager
async def kept_running(program: Program) -> AsyncIterator[Counter[int]]:
    """Start the program again whenever it dies; counts its exit codes."""
    ends: Counter[int] = Counter()

    async def keep() -> None:
        while True:
            assert program.process is not None
            ends[await program.process.wait()] += 1
            await program.start()

    keeper = asyncio.create_task(keep())
    try:
        yield ends
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)


async def submitted(client: aiohttp.ClientSession, number: int, hook: str) -> str:
    """Submit one job as a careful client does: the same key until there is an answer."""
    return await submit(
        client,
        key=f"{hook}-{number}",
        tries=100,
        model="gpt-image-2" if number % 2 else "sketch",
        prompt=f"picture {number}",
        size="1024x1024" if number % 2 else "256x256",
        webhook_url=hook,
    )


async def judge(client: aiohttp.ClientSession, receiver: Receiver, ids: list[str]) -> Counter[str]:
    """Check the invariants over all jobs and return how many ended in which way."""
    assert len(set(ids)) == len(ids)
    jobs = await all_ended(client, ids)
    await all_told(receiver, ids)
    for job in jobs:
        assert len(receiver.ids_by_job[str(job["id"])]) == 1, "a job ended twice"
        for image in job["images"]:
            if image["status"] == "succeeded":
                async with client.get(image["url"]) as answer:
                    assert answer.status == 200
                    assert len(await answer.read()) == image["bytes"]
    again = await all_ended(client, ids)
    unmoved = ("status", "finished_at", "attempts", "error")
    assert [[job[f] for f in unmoved] for job in again] == [
        [job[f] for f in unmoved] for job in jobs
    ]
    assert receiver.forged == 0
    return Counter(str(job["status"]) for job in jobs)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("point", WORKER_POINTS)
async def test_a_worker_killed_at_this_line_loses_nothing(
    darkroom: Installation, receiver: Receiver, point: str
) -> None:
    worker = await darkroom.add_worker(DARKROOM_CRASH_AT=f"{point}:14")
    async with darkroom.client() as client, kept_running(worker) as ends:
        hook = f"{receiver.url}?{point}"
        ids = [await submitted(client, number, hook) for number in range(JOBS)]
        outcomes = await judge(client, receiver, ids)
    await worker.kill()
    assert ends[-9] >= 3, "the worker was not killed"
    assert outcomes["succeeded"] >= 0.8 * JOBS, outcomes


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("point", SERVICE_POINTS)
async def test_a_service_killed_at_this_line_loses_nothing_and_doubles_nothing(
    darkroom: Installation, receiver: Receiver, point: str
) -> None:
    worker = await darkroom.add_worker()
    await darkroom.service.end()
    whole = darkroom.service.environment
    darkroom.service.environment = {**whole, "DARKROOM_CRASH_AT": f"{point}:14"}
    await darkroom.service.start()
    await darkroom.wait_ready()
    async with darkroom.client() as client:
        hook = f"{receiver.url}?{point}"
        async with kept_running(darkroom.service) as ends:
            ids = [await submitted(client, number, hook) for number in range(JOBS)]
        assert ends[-9] >= 3, "the service was not killed"
        outcomes = await judge(client, receiver, ids)
        async with client.get("/v1/jobs?limit=100") as answer:
            listed = (await answer.json())["data"]
    ours = [job["id"] for job in listed if job["webhook_url"] == hook]
    assert sorted(ours) == sorted(ids), "a key made two jobs"
    assert outcomes == {"succeeded": JOBS}
    darkroom.service.environment = whole
    await darkroom.service.end()
    await darkroom.service.start()
    await darkroom.wait_ready()
    await worker.end()
