"""Ten minutes behind a proxy that cuts what is silent for 100 s, at full length.

The tests of the check do the same in seconds. This takes as long as it says, so it runs only when
it is named.
"""

import asyncio
import tempfile
import time
from pathlib import Path

import aiohttp
import orjson

from tests.bench.table import Row
from tests.impatient import impatient
from tests.processes import CATALOG, installed


CUT = 100.0
SLOW = 600
GENERATIONS = "/v1/images/generations"
PATIENT = CATALOG.replace("timeout = 30", f"timeout = {2 * SLOW}")


async def run() -> list[Row]:
    """Hold a plain call, a streamed one and one that would rather have a job, side by side."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            installed(Path(folder), catalog=PATIENT) as here,
            impatient(here.url, CUT) as url,
            aiohttp.ClientSession(
                url,
                headers={"Authorization": f"Bearer {here.key}"},
                timeout=aiohttp.ClientTimeout(total=2 * SLOW),
            ) as client,
        ):
            rows = await asyncio.gather(_streamed(client), _deferred(client), _plain(client))
    *ours, plain = rows
    return [
        Row(what=what, ours=seen, baseline=f"plain call: {plain}", bar=bar, good=good)
        for what, seen, bar, good in ours
    ]


async def _plain(client: aiohttp.ClientSession) -> str:
    begun = time.monotonic()
    try:
        async with client.post(GENERATIONS, json=_asked("a plain call")) as answer:
            return f"{answer.status}"
    except aiohttp.ClientError:
        return f"cut after {time.monotonic() - begun:.0f} s"


async def _streamed(client: aiohttp.ClientSession) -> tuple[str, str, str, bool]:
    begun = time.monotonic()
    async with client.post(GENERATIONS, json={**_asked("a stream"), "stream": True}) as answer:
        lines = [line.decode() async for line in answer.content]
    seconds = time.monotonic() - begun
    kept = lines.count(": keep-alive\n")
    events = [orjson.loads(line[6:])["type"] for line in lines if line.startswith("data: ")]
    good = events == ["image_generation.completed"] and seconds >= SLOW
    seen = f"{seconds:.0f} s, {kept} keep-alives"
    return f"streamed call of {SLOW} s: ends with its image", seen, "survives", good


async def _deferred(client: aiohttp.ClientSession) -> tuple[str, str, str, bool]:
    begun = time.monotonic()
    prefer = {"Prefer": "wait=50, respond-async"}
    async with client.post(GENERATIONS, json=_asked("a job"), headers=prefer) as answer:
        status, where = answer.status, answer.headers.get("Location", "")
    waited = time.monotonic() - begun
    job = {"status": "unknown"}
    while status == 202 and time.monotonic() - begun < SLOW + 60:
        async with client.get(where, params={"wait": "50"}) as answer:
            job = await answer.json()
        if job["status"] not in {"queued", "running"}:
            break
    good = status == 202 and waited < CUT and job["status"] == "succeeded"
    seen = f"{status} after {waited:.0f} s, {job['status']}"
    return f"call of {SLOW} s with Prefer: wait=50, respond-async", seen, "202", good


def _asked(what: str) -> dict[str, str]:
    return {"model": "gpt-image-2", "prompt": f"{what} [[slow:{SLOW}]]"}
