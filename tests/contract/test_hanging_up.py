"""Long calls: clients that hang up and come back, and proxies that cut a silent line."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from tests.impatient import impatient
from tests.processes import Installation, installed


GENERATIONS = "/v1/images/generations"
CUT = 2.0  # seconds of silence after which the proxy cuts, for the 100 of real ones
SLOW = 5  # seconds that the upstream takes
KEEP_ALIVE = 0.5

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def darkroom(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Installation]:
    folder = tmp_path_factory.mktemp("hanging-up")
    async with installed(folder, DARKROOM_LIMITS__KEEP_ALIVE=str(KEEP_ALIVE)) as here:
        yield here


async def calls(darkroom: Installation, prompt: str) -> int:
    """Return how often the upstream was asked for the prompt."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{darkroom.upstream_url}/_calls", params={"prompt": prompt}) as answer,
    ):
        return len(await answer.json())


async def test_a_client_that_hung_up_gets_the_finished_image(darkroom: Installation) -> None:
    prompt = "a [[slow:3]] lighthouse that was waited for twice"
    ask = {"model": "gpt-image-2", "prompt": prompt}
    headers = {"Idempotency-Key": "twice"}
    async with darkroom.client() as client:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.post(GENERATIONS, json=ask, headers=headers), 1)
        async with client.post(GENERATIONS, json=ask, headers=headers) as answer:
            assert answer.status == 200
            assert (await answer.json())["data"][0]["b64_json"]
    assert await calls(darkroom, prompt) == 1


async def test_a_silent_line_is_cut_and_a_stream_is_not(darkroom: Installation) -> None:
    ask = {"model": "gpt-image-2", "prompt": f"a [[slow:{SLOW}]] lighthouse"}
    headers = {"Authorization": f"Bearer {darkroom.key}"}
    async with (
        impatient(darkroom.url, CUT) as url,
        aiohttp.ClientSession(url, headers=headers) as client,
    ):
        with pytest.raises(aiohttp.ClientError):
            await client.post(GENERATIONS, json=ask)
        began = time.monotonic()
        async with client.post(GENERATIONS, json={**ask, "stream": True}) as answer:
            lines = [line.decode() async for line in answer.content]
        assert time.monotonic() - began > CUT
        assert lines.count(": keep-alive\n") > SLOW / KEEP_ALIVE / 2
        events = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
        assert [event["type"] for event in events] == ["image_generation.completed"]


async def test_whoever_would_wait_a_while_gets_the_job_in_time(darkroom: Installation) -> None:
    ask = {"model": "gpt-image-2", "prompt": f"a [[slow:{SLOW}]] lighthouse in time"}
    headers = {"Authorization": f"Bearer {darkroom.key}", "Prefer": "wait=1, respond-async"}
    async with (
        impatient(darkroom.url, CUT) as url,
        aiohttp.ClientSession(url, headers=headers) as client,
    ):
        async with client.post(GENERATIONS, json=ask) as answer:
            assert answer.status == 202
            where = answer.headers["Location"]
        for _ in range(2 * SLOW):
            async with client.get(where, params={"wait": "1"}) as answer:
                job = await answer.json()
            if job["status"] == "succeeded":
                break
        assert job["images"][0]["url"]
