"""Batches through real processes, some of which are killed on the way."""

import asyncio
import base64
import time
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from tests import images
from tests.processes import installed
from tests.receiver import receiving


SIZE = {"size": "64x64"}


def lines(count: int, **body: Any) -> list[dict[str, Any]]:
    return [
        {
            "custom_id": f"r{n}",
            "method": "POST",
            "url": "/v1/images/generations",
            "body": {"prompt": f"fox {n}", **SIZE, **body},
        }
        for n in range(count)
    ]


async def uploaded(client: aiohttp.ClientSession, requests: list[Any]) -> str:
    form = aiohttp.FormData()
    form.add_field("purpose", "batch")
    text = b"\n".join(one if isinstance(one, bytes) else orjson.dumps(one) for one in requests)
    form.add_field("file", text, filename="requests.jsonl", content_type="application/jsonl")
    async with client.post("/v1/files", data=form) as answer:
        document = await answer.json()
        assert answer.status == 200, document
        assert (document["purpose"], document["bytes"]) == ("batch", len(text))
        return str(document["id"])


async def begun(client: aiohttp.ClientSession, file_id: str, **more: Any) -> dict[str, Any]:
    asked = {
        "input_file_id": file_id,
        "endpoint": "/v1/images/generations",
        "completion_window": "24h",
        **more,
    }
    async with client.post("/v1/batches", json=asked) as answer:
        document: dict[str, Any] = await answer.json()
        assert answer.status == 200, document
        return document


async def over(client: aiohttp.ClientSession, batch_id: str, within: float = 60) -> dict[str, Any]:
    end = time.monotonic() + within
    document: dict[str, Any] = {}
    while time.monotonic() < end:
        async with client.get(f"/v1/batches/{batch_id}") as answer:
            document = await answer.json()
        if document["status"] in {"completed", "cancelled", "expired"}:
            return document
        await asyncio.sleep(0.1)
    raise AssertionError(document)


async def answers(client: aiohttp.ClientSession, file_id: str | None) -> dict[str, dict[str, Any]]:
    if file_id is None:
        return {}
    async with client.get(f"/v1/files/{file_id}/content") as answer:
        assert answer.status == 200
        found = [orjson.loads(line) for line in (await answer.read()).splitlines()]
    assert len({one["custom_id"] for one in found}) == len(found)
    return {one["custom_id"]: one for one in found}


async def test_a_batch_survives_its_worker_and_its_service_and_is_told_once(
    tmp_path: Path,
) -> None:
    async with (
        installed(
            tmp_path,
            DARKROOM_WORKER__LEASE="2",
            DARKROOM_WORKER__SLOTS="4",
            DARKROOM_WORKER__HEARTBEAT="0.5",
        ) as here,
        here.client() as client,
        receiving() as receiver,
    ):
        async with client.get("/v1/webhook-secret") as answer:
            receiver.secret = (await answer.json())["secret"]
        bad = {"custom_id": "bad", "url": "/v1/images/generations", "body": {"prompt": ""}}
        odd = {"custom_id": "odd", "url": "/v1/elsewhere", "body": {"prompt": "a fox"}}
        file_id = await uploaded(client, [*lines(120), bad, b"{not json", odd])
        batch = await begun(client, file_id, webhook_url=receiver.url, metadata={"a": "b"})
        assert batch["request_counts"]["total"] == 123
        await asyncio.sleep(0.3)
        await here.workers[0].kill()
        await here.service.kill()
        await here.service.start()
        await here.wait_ready()
        await here.workers[0].start()
        ended = await over(client, batch["id"])
        assert ended["request_counts"] == {"total": 123, "completed": 120, "failed": 3}
        made = await answers(client, ended["output_file_id"])
        assert set(made) == {f"r{n}" for n in range(120)}
        body = made["r7"]["response"]["body"]
        async with client.get(body["data"][0]["url"]) as answer:
            assert (answer.status, answer.content_type) == (200, "image/png")
        refused = await answers(client, ended["error_file_id"])
        assert set(refused) == {"bad", "line-122", "odd"}
        assert refused["bad"]["error"]["code"] == "invalid_value"
        async with client.get("/v1/jobs?limit=100") as answer:
            first = await answer.json()
        async with client.get(f"/v1/jobs?limit=100&cursor={first['next']}") as answer:
            second = await answer.json()
        assert len({job["id"] for job in first["data"] + second["data"]}) == 120
        for _ in range(100):
            if receiver.messages:
                break
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        ((_, message),) = receiver.messages
        assert (message["type"], message["data"]["id"]) == ("batch.completed", batch["id"])
        assert message["data"]["request_counts"]["completed"] == 120


async def test_a_cancelled_batch_answers_what_it_made_and_the_rest_can_be_resumed(
    tmp_path: Path,
) -> None:
    async with (
        installed(tmp_path, DARKROOM_WORKER__SLOTS="2") as here,
        here.client() as client,
    ):
        batch = await begun(client, await uploaded(client, lines(80, size="512x512")))
        await asyncio.sleep(0.5)
        async with client.post(f"/v1/batches/{batch['id']}/retry") as answer:
            assert answer.status == 409
        async with client.post(f"/v1/batches/{batch['id']}/cancel") as answer:
            assert (await answer.json())["status"] == "cancelling"
        ended = await over(client, batch["id"])
        counts = ended["request_counts"]
        assert ended["status"] == "cancelled"
        assert counts["completed"] + counts["failed"] == 80
        assert counts["failed"] > 0
        made = await answers(client, ended["output_file_id"])
        lost = await answers(client, ended["error_file_id"])
        assert (len(made), len(lost)) == (counts["completed"], counts["failed"])
        async with client.post(f"/v1/batches/{batch['id']}/retry") as answer:
            again = await answer.json()
            assert answer.status == 200
        assert again["retry_of"] == batch["id"]
        assert again["request_counts"]["total"] == counts["failed"]
        resumed = await over(client, again["id"])
        assert resumed["request_counts"]["completed"] == counts["failed"]
        assert set(await answers(client, resumed["output_file_id"])) == set(lost)
        async with client.get("/v1/batches") as answer:
            listed = await answer.json()
        assert [one["id"] for one in listed["data"]] == [again["id"], batch["id"]]


async def test_a_batch_of_edits_starts_from_the_images_of_its_lines(tmp_path: Path) -> None:
    picture = "data:image/png;base64," + base64.b64encode(images.picture(size=(64, 64))).decode()
    edit = {
        "custom_id": "night",
        "method": "POST",
        "url": "/v1/images/edits",
        "body": {"prompt": "at night", "images": [picture], "renditions": ["thumbnail"]},
    }
    async with installed(tmp_path) as here, here.client() as client:
        batch = await begun(client, await uploaded(client, [edit]), endpoint="/v1/images/edits")
        ended = await over(client, batch["id"])
        assert ended["request_counts"]["completed"] == 1
        made = await answers(client, ended["output_file_id"])
        job_id = made["night"]["response"]["body"]["job_id"]
        async with client.get(f"/v1/jobs/{job_id}") as answer:
            job = await answer.json()
        assert (job["type"], job["batch"]) == ("edit", batch["id"])
        assert [one["name"] for one in job["images"][0]["renditions"]] == ["thumbnail"]
