"""Large bodies: counted, lifted out of the fields, and let go of while a job is waited for."""

import asyncio
import base64
from typing import Any

from service.body import Body, _lift
from service.limits import ROOM
from tests.unit.service.conftest import Front, Start
from tests.unit.service.pictures import noise, png
from tests.unit.service.test_streams import the_job


def big(size: int = 1_500_000) -> str:
    return base64.b64encode(noise(size)).decode()


def left(front: Front) -> int:
    return front.client.app[ROOM]._left


class TestRoom:
    async def test_it_is_given_back_while_the_job_is_waited_for(self, front: Front) -> None:
        before = left(front)
        ask = {"prompt": "x", "images": [{"image_url": big()}]}
        waiting = asyncio.create_task(front.post("/v1/images/edits", ask))
        job = await the_job(front)
        assert left(front) == before
        await front.worker.finish(job)
        assert (await waiting).status == 200

    async def test_it_is_given_back_when_the_request_is_refused(self, front: Front) -> None:
        before = left(front)
        for ask in (
            {"prompt": "x", "images": [{"image_url": big()}], "n": 99},
            {"prompt": "x", "images": [{"image_url": big() + "!"}]},
            {"prompt": "x" * 2_000_000},
        ):
            assert (await front.post("/v1/images/edits", ask)).status == 400
        assert left(front) == before

    async def test_too_many_at_once_are_asked_to_come_back(self, start: Start) -> None:
        front = await start()
        room = front.client.app[ROOM]
        room.take(left(front) - 1_000_000)
        answer = await front.post("/v1/jobs", {"prompt": "x", "images": [big()]})
        assert answer.status == 503
        assert (await answer.json())["error"]["code"] == "too_many_large_bodies"
        assert (await front.post("/v1/jobs", {"prompt": "x"})).status == 202

    async def test_small_bodies_in_chunks_take_none(self, front: Front) -> None:
        async def pieces() -> Any:
            yield b'{"prompt":'
            await asyncio.sleep(0)
            yield b'"x"}'

        room = front.client.app[ROOM]
        room.take(left(front))
        answer = await front.post(
            "/v1/jobs", data=pieces(), headers={"Content-Type": "application/json"}
        )
        assert answer.status == 202


class TestLifting:
    def test_only_what_can_be_an_image_is_lifted(self) -> None:
        long = "x" * 100_000
        fields: dict[str, Any] = {
            "prompt": long,
            "images": [long, {"image_url": long}],
            "mask": long,
            "options": {"image": long},
            "metadata": {"url": long},
            "messages": [{"content": [{"text": long, "image_url": {"url": long}}]}],
        }
        marks: dict[str, str] = {}
        _lift(fields, marks)
        assert list(marks) == [long]
        assert fields["prompt"] == long
        assert fields["options"] == {"image": long}
        assert fields["metadata"] == {"url": long}
        assert fields["messages"][0]["content"][0]["text"] == long
        body = Body(fields, texts=list(marks))
        assert body.text(fields["images"][0]) == long
        assert body.text(fields["messages"][0]["content"][0]["image_url"]["url"]) == long

    def test_an_image_in_a_text_is_lifted_out_of_it(self) -> None:
        url = "data:image/png;base64," + "A" * 100_000
        fields = {"content": f"here ![image]({url}) it is", "other": f"![image]({url})"}
        marks: dict[str, str] = {}
        _lift(fields, marks)
        assert fields["content"] == f"here ![image]({marks[url]}) it is"
        assert fields["other"] == f"![image]({url})"

    def test_a_mark_that_nobody_left_is_a_text_like_any_other(self) -> None:
        assert Body().text("\0image 0") == "\0image 0"

    async def test_equal_bodies_have_equal_fingerprints(self, front: Front) -> None:
        headers = {"Idempotency-Key": "k", "Prefer": "respond-async"}
        ask = {"prompt": "x", "images": [{"image_url": big()}]}
        first = await front.post("/v1/images/edits", ask, headers=headers)
        again = await front.post("/v1/images/edits", ask, headers=headers)
        assert (await first.json())["id"] == (await again.json())["id"]
        other = {"prompt": "x", "images": [{"image_url": big(1_600_000)}]}
        assert (await front.post("/v1/images/edits", other, headers=headers)).status == 422

    async def test_every_door_finds_what_was_lifted(self, working: Front) -> None:
        url = "data:image/png;base64," + big()
        part = {"type": "image_url", "image_url": {"url": url}}
        content = [{"type": "text", "text": "x"}, part]
        small = base64.b64encode(png(alpha=True)).decode()
        for path, ask in (
            ("/v1/images/edits", {"prompt": "x", "images": [{"image_url": url}], "mask": small}),
            ("/api/images/generations", {"prompt": "x", "image": url}),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": content}]}),
            (
                "/v1/responses",
                {
                    "input": [
                        {
                            "role": "user",
                            "content": [
                                {"type": "input_text", "text": "x"},
                                {"type": "input_image", "image_url": url},
                            ],
                        }
                    ]
                },
            ),
        ):
            answer = await working.post(path, {"model": "sketch", **ask})
            assert answer.status == 200, (path, await answer.text())
            assert (working.worker.made[-1].request.images[0].bytes or 0) > 1_000_000
