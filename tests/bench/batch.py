"""A batch of thousands through real processes: that all end, what it weighs, how it is told."""

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from tests.bench.table import Row
from tests.processes import Installation, installed
from tests.receiver import receiving


COUNT = int(os.environ.get("DARKROOM_BENCH_BATCH", "5000"))
LONGEST = 1200.0


async def run() -> list[Row]:
    """Have the built-in model make a picture for each line of one file."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            installed(Path(folder), workers=1) as here,
            here.client() as client,
            receiving() as receiver,
        ):
            async with client.get("/v1/webhook-secret") as answer:
                receiver.secret = (await answer.json())["secret"]
            await _warm_up(client)
            before = _rss(here)
            started = time.monotonic()
            batch = await _begin(client, receiver.url)
            taken_in = time.monotonic() - started
            ended, peak = await _followed(here, client, batch["id"], before)
            seconds = time.monotonic() - started
            output = await _output(client, ended["output_file_id"])
            for _ in range(100):
                if receiver.messages:
                    break
                await asyncio.sleep(0.1)
            await asyncio.sleep(2)
            return _rows(ended, output, len(receiver.messages), peak - before, taken_in, seconds)


def _rows(
    ended: dict[str, Any],
    output: list[str],
    told: int,
    growth: int,
    taken_in: float,
    seconds: float,
) -> list[Row]:
    made = ended["request_counts"]["completed"]
    complete = sorted(output) == sorted(f"r{n}" for n in range(COUNT))
    mib = growth / 2**20
    return [
        Row(
            what=f"batch of {COUNT}: requests that ended with their image",
            ours=f"{made} ({ended['status']})",
            bar=f"= {COUNT}",
            good=made == COUNT,
        ),
        Row(
            what="batch: answers in the output file, each once",
            ours=str(len(output)),
            bar="complete",
            good=complete,
        ),
        Row(what="batch: webhooks", ours=str(told), bar="= 1", good=told == 1),
        Row(
            what="batch: growth of the service's RSS at its highest, MiB",
            ours=f"{mib:.1f}",
            bar="<= 64",
            good=mib <= 64,
        ),
        Row(what="batch: seconds to be taken in", ours=f"{taken_in:.1f}"),
        Row(
            what="batch: seconds to its end (jobs/s)", ours=f"{seconds:.0f} ({COUNT / seconds:.0f})"
        ),
    ]


def _rss(here: Installation) -> int:
    return here.service.usage()[1]


async def _warm_up(client: aiohttp.ClientSession) -> None:
    for _ in range(3):
        async with client.post(
            "/v1/images/generations", json={"prompt": "a fox", "size": "64x64"}
        ) as answer:
            await answer.read()


async def _begin(client: aiohttp.ClientSession, hook: str) -> dict[str, Any]:
    lines = b"\n".join(
        orjson.dumps(
            {
                "custom_id": f"r{n}",
                "method": "POST",
                "url": "/v1/images/generations",
                "body": {"prompt": f"a fox in the snow, number {n}", "size": "64x64"},
            }
        )
        for n in range(COUNT)
    )
    form = aiohttp.FormData()
    form.add_field("purpose", "batch")
    form.add_field("file", lines, filename="requests.jsonl", content_type="application/jsonl")
    async with client.post("/v1/files", data=form) as answer:
        file = await answer.json()
    asked = {
        "input_file_id": file["id"],
        "endpoint": "/v1/images/generations",
        "completion_window": "24h",
        "webhook_url": hook,
    }
    async with client.post("/v1/batches", json=asked) as answer:
        document: dict[str, Any] = await answer.json()
        assert answer.status == 200, document
        return document


async def _followed(
    here: Installation, client: aiohttp.ClientSession, batch_id: str, before: int
) -> tuple[dict[str, Any], int]:
    """Return the batch when it has ended, and the most that the service weighed meanwhile."""
    peak, end = before, time.monotonic() + LONGEST
    document: dict[str, Any] = {}
    while time.monotonic() < end:
        peak = max(peak, _rss(here))
        async with client.get(f"/v1/batches/{batch_id}") as answer:
            document = await answer.json()
        if document["status"] in {"completed", "expired", "cancelled"}:
            break
        await asyncio.sleep(0.5)
    return document, max(peak, _rss(here))


async def _output(client: aiohttp.ClientSession, file_id: str | None) -> list[str]:
    if file_id is None:
        return []
    async with client.get(f"/v1/files/{file_id}/content") as answer:
        return [orjson.loads(line)["custom_id"] for line in (await answer.read()).splitlines()]
