import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from aiohttp import ClientResponse, FormData

from storage.failure import Failure, FailureCode
from tests.unit.service.conftest import Front, Start
from tests.unit.service.pictures import png


ASK = {"prompt": "a lighthouse", "size": "64x64", "stream": True}


class Event(NamedTuple):
    name: str | None
    data: dict[str, Any]
    mark: str | None


async def events_of(answer: ClientResponse) -> AsyncIterator[Event]:
    """Read a stream by the rules of the format, comments left out."""
    fields: dict[str, str] = {}
    async for line in answer.content:
        text = line.decode().rstrip("\n")
        if text:
            name, _, value = text.partition(": ")
            fields[name] = value
        elif "data" in fields:
            data = {"done": True} if fields["data"] == "[DONE]" else json.loads(fields["data"])
            yield Event(fields.get("event"), data, fields.get("id"))
            fields = {}


async def all_events(answer: ClientResponse) -> list[Event]:
    return [event async for event in events_of(answer)]


async def the_job(front: Front) -> Any:
    """Return the one job of the service, once it is there."""
    async with asyncio.timeout(3):
        while True:
            page = await front.context.jobs.listing.page("alice", limit=1)
            if page.jobs:
                return page.jobs[0]
            await asyncio.sleep(0.01)


class TestImages:
    async def test_each_image_comes_as_a_completed_event(self, working: Front) -> None:
        answer = await working.post("/v1/images/generations", {**ASK, "n": 2})
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["X-Request-Id"]
        events = await all_events(answer)
        assert [event.name for event in events] == ["image_generation.completed"] * 2
        for event in events:
            assert event.data["type"] == event.name
            assert base64.b64decode(event.data["b64_json"]) == png()
            assert event.data["size"] == "64x64"
            assert set(event.data["usage"]) >= {"input_tokens", "output_tokens", "total_tokens"}

    async def test_an_edit_has_names_of_its_own(self, working: Front) -> None:
        form = FormData({"prompt": "x", "stream": "true", "size": "64x64"})
        form.add_field("image", png(), filename="a.png")
        events = await all_events(await working.post("/v1/images/edits", data=form))
        assert [event.name for event in events] == ["image_edit.completed"]

    async def test_previews_are_passed_on_in_order(self, front: Front) -> None:
        asking = asyncio.create_task(
            front.post("/v1/images/generations", {**ASK, "partial_images": 2})
        )
        job = await the_job(front)
        assert job.request.partial_images == 2
        answer = await asking
        for sequence in (0, 1):
            await front.context.jobs.tell_partial(job, 0, sequence, png(value=sequence))
        await front.worker.finish(job)
        events = await all_events(answer)
        assert [event.name for event in events] == [
            "image_generation.partial_image",
            "image_generation.partial_image",
            "image_generation.completed",
        ]
        assert [event.data.get("partial_image_index") for event in events] == [0, 1, None]
        assert base64.b64decode(events[1].data["b64_json"]) == png(value=1)

    async def test_a_failure_ends_the_stream_with_an_error(self, working: Front) -> None:
        working.worker.failure = Failure(code=FailureCode.CONTENT_POLICY, message="No.")
        answer = await working.post("/v1/images/generations", ASK)
        (event,) = await all_events(answer)
        assert (answer.status, event.name) == (200, "error")
        assert event.data["error"]["code"] == "moderation_blocked"

    async def test_a_refusal_is_a_plain_error_and_no_stream(self, front: Front) -> None:
        answer = await front.post("/v1/images/generations", {**ASK, "model": "nope"})
        assert answer.status == 404
        assert (await answer.json())["error"]["param"] == "model"

    async def test_previews_are_not_made_without_a_stream(self, front: Front) -> None:
        ask = {**ASK, "stream": False, "partial_images": 3}
        await front.post("/v1/images/generations", ask, headers={"Prefer": "respond-async"})
        assert (await the_job(front)).request.partial_images is None

    async def test_whoever_would_not_wait_gets_the_job(self, front: Front) -> None:
        answer = await front.post(
            "/v1/images/generations", ASK, headers={"Prefer": "respond-async"}
        )
        assert answer.status == 202

    async def test_the_same_key_streams_the_same_job_again(self, working: Front) -> None:
        headers = {"Idempotency-Key": "k"}
        first = await all_events(await working.post("/v1/images/generations", ASK, headers=headers))
        again = await all_events(await working.post("/v1/images/generations", ASK, headers=headers))
        assert first[0].data["b64_json"] == again[0].data["b64_json"]
        assert len(working.worker.made) == 1


class TestKeepingALineOpen:
    async def test_silence_is_broken_by_comments(self, start: Start) -> None:
        limits = (await start()).context.settings.limits.model_copy(update={"keep_alive": 0.05})
        front = await start(limits=limits)
        asking = asyncio.create_task(front.post("/v1/images/generations", ASK))
        job = await the_job(front)
        answer = await asking
        for _ in range(3):
            assert await answer.content.readline() == b": keep-alive\n"
            assert await answer.content.readline() == b"\n"
        await front.worker.finish(job)
        assert [event.name for event in await all_events(answer)] == ["image_generation.completed"]

    async def test_a_stream_has_an_end_also_when_the_job_has_none(self, start: Start) -> None:
        front = await start()
        limits = front.context.settings.limits.model_copy(update={"max_stream": 0.1})
        short = await start(limits=limits)
        events = await all_events(await short.post("/v1/images/generations", ASK))
        assert [event.data["error"]["code"] for event in events] == ["still_running"]

    async def test_the_job_goes_on_when_the_client_leaves(self, front: Front) -> None:
        answer = await front.post("/v1/images/generations", ASK)
        answer.close()
        job = await the_job(front)
        assert await front.worker.finish(job) is not None
