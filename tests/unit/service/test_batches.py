"""The doors of batches: what is taken in, and what is refused."""

import asyncio
import base64
from typing import Any

import aiohttp
import orjson
import pytest

from storage import redis_keys
from storage.batch import PREFIX
from storage.plans import lines, taken_up
from tests.samples import NOW, a_job
from tests.unit.service.conftest import Front
from tests.unit.service.pictures import png


GENERATIONS = "/v1/images/generations"


def line(custom_id: str, **body: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "url": GENERATIONS, "body": {"prompt": "a fox", **body}}


async def uploaded(front: Front, *requests: Any) -> str:
    form = aiohttp.FormData()
    form.add_field("purpose", "batch")
    text = b"\n".join(one if isinstance(one, bytes) else orjson.dumps(one) for one in requests)
    form.add_field("file", text, filename="in.jsonl", content_type="text/plain")
    answer = await front.request("POST", "/v1/files", data=form)
    assert answer.status == 200, await answer.text()
    return str((await answer.json())["id"])


async def begun(front: Front, *requests: Any, **asked: Any) -> dict[str, Any]:
    file_id = await uploaded(front, *requests)
    answer = await front.post(
        "/v1/batches", {"input_file_id": file_id, "endpoint": GENERATIONS, **asked}
    )
    document: dict[str, Any] = await answer.json()
    return {"http": answer.status, **document}


async def test_each_line_becomes_a_job_or_the_reason_why_not(front: Front) -> None:
    batch = await begun(
        front,
        line("a"),
        line("a"),
        line("b", model="no-such-model"),
        b"[]",
        b"",
        {"custom_id": "c", "url": "/v1/jobs", "body": {}},
        line("d", size="huge"),
        line("e", n=2),
    )
    assert batch["http"] == 200
    assert batch["request_counts"] == {"total": 7, "completed": 0, "failed": 0}
    assert batch["status"] == "in_progress"
    record = await front.context.batches.find(batch["id"])
    assert record is not None
    plan = await lines(front.context.objects, record.plan_key, record.fed, 100)
    assert [(one.custom_id, one.error and one.error[0]) for one in plan] == [
        ("a", None),
        ("a", "invalid_request"),
        ("b", "model_not_found"),
        ("line-4", "invalid_json"),
        ("c", "invalid_request"),
        ("d", "invalid_value"),
        ("e", None),
    ]
    job = plan[-1].job
    assert job is not None
    assert (job.priority, job.request.n, len(job.images)) == (-1, 2, 2)
    assert (job.start_by, job.batch) == (record.expires_at, record.id)


async def test_a_batch_of_edits_keeps_its_images(front: Front) -> None:
    picture = "data:image/png;base64," + base64.b64encode(png()).decode()
    one = {
        "custom_id": "a",
        "url": "/v1/images/edits",
        "body": {"prompt": "x", "images": [picture]},
    }
    batch = await begun(front, one, endpoint="/v1/images/edits")
    assert batch["http"] == 200
    record = await front.context.batches.find(batch["id"])
    assert record is not None
    (planned,) = await lines(front.context.objects, record.plan_key, record.fed, 100)
    assert planned.job is not None
    key = planned.job.request.images[0].key
    assert key == f"{record.folder}{planned.job.id}/in/0.png"
    assert key in await front.kept()


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"input_file_id": "file-nowhere"}, 404),
        ({"endpoint": "/v1/chat/completions"}, 400),
        ({"completion_window": "24d"}, 400),
        ({"completion_window": "169h"}, 400),
        ({"webhook_url": "http://10.0.0.1/"}, 400),
        ({"surprise": 1}, 400),
    ],
)
async def test_what_no_batch_can_be_is_refused(
    front: Front, changes: dict[str, Any], status: int
) -> None:
    asked = {"input_file_id": await uploaded(front, line("a")), "endpoint": GENERATIONS, **changes}
    assert (await front.post("/v1/batches", asked)).status == status


async def test_a_batch_of_nothing_is_refused(front: Front) -> None:
    batch = await begun(front, line("a", model="none"), b"", b"x")
    assert (batch["http"], batch["error"]["code"]) == (400, "empty_batch")
    assert await front.kept(f"t/alice/{PREFIX}") == []


async def test_a_batch_is_its_tenants_alone(front: Front) -> None:
    batch = await begun(front, line("a"))
    stranger = {"Authorization": f"Bearer {await front.new_key('bob')}"}
    assert (await front.get(f"/v1/batches/{batch['id']}", headers=stranger)).status == 404
    assert (await front.post(f"/v1/batches/{batch['id']}/cancel", headers=stranger)).status == 404
    listed = await (await front.get("/v1/batches", headers=stranger)).json()
    assert listed["data"] == []


async def test_requests_of_a_batch_are_no_picture(front: Front) -> None:
    file_id = await uploaded(front, line("a"))
    answer = await front.post("/v1/jobs", {"prompt": "x", "images": [{"file_id": file_id}]})
    assert answer.status in {400, 404}


async def test_cancelling_is_on_record_at_once(front: Front) -> None:
    batch = await begun(front, line("a"))
    answer = await front.post(f"/v1/batches/{batch['id']}/cancel")
    assert (await answer.json())["status"] == "cancelling"
    assert (await front.post(f"/v1/batches/{batch['id']}/retry")).status == 409


async def test_the_same_key_finds_the_same_batch_and_plans_nothing_twice(front: Front) -> None:
    file_id = await uploaded(front, line("a"))
    asked = {"input_file_id": file_id, "endpoint": GENERATIONS}
    headers = {"Idempotency-Key": "order-7"}
    answers = await asyncio.gather(
        *(front.post("/v1/batches", asked, headers=headers) for _ in range(5))
    )
    assert len({(await answer.json())["id"] for answer in answers}) == 1
    assert len(await front.kept(f"t/alice/{PREFIX}")) == 1
    other = {**asked, "completion_window": "1h"}
    assert (await front.post("/v1/batches", other, headers=headers)).status == 422


async def test_an_open_batch_that_the_queue_lost_is_queued_again(front: Front) -> None:
    batch = await begun(front, line("a"))
    await front.redis.delete(redis_keys.IMAGE_QUEUE)
    await front.get(f"/v1/batches/{batch['id']}")
    assert await front.queued() == 1


async def test_the_file_may_come_before_its_purpose(front: Front) -> None:
    form = aiohttp.FormData()
    form.add_field("file", orjson.dumps(line("a")), filename="in.jsonl")
    form.add_field("purpose", "batch")
    answer = await front.request("POST", "/v1/files", data=form)
    assert (answer.status, (await answer.json())["purpose"]) == (200, "batch")


def test_what_a_job_was_given_to_end_counts_from_when_it_is_made() -> None:
    job = taken_up(a_job(deadline=NOW + 50, created_at=NOW), NOW + 1000)
    assert (job.created_at, job.deadline) == (NOW + 1000, NOW + 1050)
