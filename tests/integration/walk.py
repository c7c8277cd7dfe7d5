"""The steps of a client, for tests: submit with care, wait for the end, hear of it."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any

import aiohttp

from tests.receiver import Receiver


ENDED = {"succeeded", "partial", "failed", "cancelled", "expired"}
WITHIN = 60.0


async def submit(
    client: aiohttp.ClientSession, *, key: str | None = None, tries: int = 1, **body: Any
) -> str:
    """Submit a job; with a key, as often as it takes until there is an answer. Returns its id."""
    headers = {"Idempotency-Key": key} if key else {}
    for _ in range(tries):
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with client.post("/v1/jobs", json=body, headers=headers) as answer:
                if answer.status in {200, 202}:  # 200: the key found a job that has ended
                    return str((await answer.json())["id"])
                assert answer.status in {502, 503}, await answer.text()
        await asyncio.sleep(0.1)
    raise AssertionError("the job was not accepted")


async def ended(
    client: aiohttp.ClientSession, job_id: str, within: float = WITHIN
) -> dict[str, Any]:
    """Wait until a job has ended, and return it."""
    return (await all_ended(client, [job_id], within))[0]


async def all_ended(
    client: aiohttp.ClientSession, ids: Sequence[str], within: float = WITHIN
) -> list[dict[str, Any]]:
    """Wait until every job has ended, and return them."""
    over: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + within
    while True:
        for job_id in ids:
            if job_id in over:
                continue
            with contextlib.suppress(aiohttp.ClientError):
                async with client.get(f"/v1/jobs/{job_id}") as answer:
                    job = await answer.json()
                if job.get("status") in ENDED:
                    over[job_id] = job
        if len(over) == len(set(ids)):
            return [over[job_id] for job_id in ids]
        assert time.monotonic() < deadline, f"{len(set(ids)) - len(over)} jobs without an end"
        await asyncio.sleep(0.1)


async def all_told(receiver: Receiver, ids: Sequence[str], within: float = WITHIN) -> None:
    """Wait until the receiver has heard of every job."""
    deadline = time.monotonic() + within
    while not set(ids) <= set(receiver.ids_by_job):
        missing = set(ids) - set(receiver.ids_by_job)
        assert time.monotonic() < deadline, f"{len(missing)} webhooks missing"
        await asyncio.sleep(0.1)
