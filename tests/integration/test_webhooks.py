"""Webhooks as their receiver sees them, verified with the public library."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from tests.integration.walk import all_told, ended, submit
from tests.processes import installed
from tests.receiver import receiving


async def test_a_receiver_that_answers_500_twice_gets_the_third_try_with_links_that_open(
    tmp_path: Path,
) -> None:
    async with (
        installed(tmp_path, DARKROOM_WORKER__WEBHOOK_SCALE="0.005") as here,
        here.client() as client,
        receiving() as receiver,
    ):
        async with client.get("/v1/webhook-secret") as answer:
            receiver.secret = (await answer.json())["secret"]
        seen: Counter[str] = Counter()

        def third_time_lucky(message_id: str) -> int:
            seen[message_id] += 1
            return 200 if seen[message_id] >= 3 else 500

        receiver.status = third_time_lucky
        ids = [
            await submit(client, prompt=f"fox {n}", size="256x256", webhook_url=receiver.url)
            for n in range(5)
        ]
        await all_told(receiver, ids)
        for _ in range(200):
            if len(receiver.messages) >= 15:
                break
            await asyncio.sleep(0.1)
        assert set(receiver.tries.values()) == {3}
        assert receiver.forged == 0
        assert all(len(messages) == 1 for messages in receiver.ids_by_job.values())
        _, last = receiver.messages[-1]
        assert last["type"] == "job.succeeded"
        assert "prompt" not in last["data"]["request"]
        async with client.get(last["data"]["images"][0]["url"]) as answer:
            assert answer.status == 200
            assert answer.content_type == "image/png"


async def test_fifty_posts_with_one_key_make_one_job_and_another_body_is_refused(
    tmp_path: Path,
) -> None:
    async with installed(tmp_path) as here, here.client() as client:
        body: dict[str, Any] = {"prompt": "a lighthouse", "size": "256x256"}
        ids = await asyncio.gather(*(submit(client, key="order-7", **body) for _ in range(50)))
        headers = {"Idempotency-Key": "order-7"}
        other = {**body, "prompt": "a windmill"}
        async with client.post("/v1/jobs", json=other, headers=headers) as answer:
            assert answer.status == 422
            assert (await answer.json())["error"]["code"] == "idempotency_key_reused"
        async with client.get("/v1/jobs") as answer:
            listed = (await answer.json())["data"]
        assert len(set(ids)) == 1
        assert [job["id"] for job in listed] == ids[:1]
        assert (await ended(client, ids[0]))["status"] == "succeeded"
