"""Batches through OpenAI's own client, unmodified."""

import asyncio
from pathlib import Path

import openai
import orjson

from tests.processes import installed


async def test_a_batch_is_uploaded_made_read_and_listed(tmp_path: Path) -> None:
    lines = b"\n".join(
        orjson.dumps(
            {
                "custom_id": f"r{n}",
                "method": "POST",
                "url": "/v1/images/generations",
                "body": {"model": "sketch", "prompt": f"fox {n}", "size": "64x64"},
            }
        )
        for n in range(5)
    )
    async with (
        installed(tmp_path) as here,
        openai.AsyncOpenAI(base_url=f"{here.url}/v1", api_key=here.key, max_retries=0) as client,
    ):
        file = await client.files.create(file=("in.jsonl", lines), purpose="batch")
        assert (file.purpose, file.bytes) == ("batch", len(lines))
        batch = await client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/images/generations",
            completion_window="24h",
            metadata={"order": "7"},
        )
        for _ in range(300):
            batch = await client.batches.retrieve(batch.id)
            if batch.status == "completed":
                break
            await asyncio.sleep(0.1)
        assert batch.request_counts is not None
        assert (batch.request_counts.total, batch.request_counts.completed) == (5, 5)
        assert batch.metadata == {"order": "7"}
        content = await client.files.content(batch.output_file_id or "")
        answers = [orjson.loads(line) for line in content.content.splitlines()]
        assert {one["custom_id"] for one in answers} == {f"r{n}" for n in range(5)}
        assert all(one["response"]["status_code"] == 200 for one in answers)
        assert [one.id async for one in client.batches.list(limit=1)] == [batch.id]
