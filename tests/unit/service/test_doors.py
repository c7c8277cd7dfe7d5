"""The doors that others have made: chat, AIGNE Hub, variations and Responses."""

import asyncio
import base64
from typing import Any

import pytest
from aiohttp import FormData
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response
from pydantic import ValidationError

from storage.attempt import Usage
from storage.failure import Failure, FailureCode
from tests.unit.service.conftest import Front
from tests.unit.service.pictures import noise, png
from tests.unit.service.test_streams import all_events, the_job


CHAT = "/v1/chat/completions"
GATEWAY = "/api/v1/chat/completions"
TOOL = {"type": "image_generation", "image_generation": {"size": "64x64"}}
RESPONSES = "/v1/responses"


def data_url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def picture(value: int = 1) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": data_url(png(value=value))}}


def user(*parts: dict[str, Any] | str) -> dict[str, Any]:
    content = [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]
    return {"role": "user", "content": content}


def drawn(data: bytes) -> str:
    return f"![image]({data_url(data)})"


class TestChat:
    @pytest.mark.parametrize(
        ("path", "ask"),
        [
            (GATEWAY, {"max_tokens": 4096}),
            (CHAT, {"modalities": ["image", "text"]}),
            (GATEWAY, {"modalities": ["image", "text"]}),
            (CHAT, {"tools": [TOOL]}),
            (GATEWAY, {"tools": [TOOL]}),
            (CHAT, {"image_config": {"aspect_ratio": "1:1"}}),
        ],
        ids=str,
    )
    async def test_a_gateways_words_are_answered_with_parts_and_images(
        self, working: Front, path: str, ask: dict[str, Any]
    ) -> None:
        answer = await working.post(path, {"model": "sketch", "messages": [user("a boat")], **ask})
        body = await answer.json()
        assert answer.status == 200, body
        assert body["object"] == "chat.completion"
        choice = body["choices"][0]
        (part,) = choice["message"]["content"]
        (image,) = choice["message"]["images"]
        assert part == {"type": "image_url", "image_url": {"url": data_url(png())}}
        assert image == {**part, "index": 0}
        assert choice["finish_reason"] == "stop"
        calls = choice["message"].get("tool_calls", [])
        assert [call["type"] for call in calls] == ["image_generation"] * ("tools" in ask)
        assert all(call["id"] for call in calls)
        assert working.worker.made[0].request.prompt == "a boat"

    @pytest.mark.parametrize(
        "ask",
        [
            {"messages": [{"role": "user", "content": "a boat"}]},
            {"messages": [user("a boat", picture())], "max_tokens": 4096, "stream": False},
            {"messages": [user("a boat")], "modalities": ["text"], "n": 2},
        ],
        ids=["plain", "relay", "two"],
    )
    async def test_openais_words_are_answered_in_its_types(
        self, working: Front, ask: dict[str, Any]
    ) -> None:
        working.worker.text = "Here."
        answer = await working.post(CHAT, {"model": "sketch", **ask})
        said = ChatCompletion.model_validate_json(await answer.read(), strict=True)
        message: Any = said.choices[0].message
        n = ask.get("n", 1)
        assert message.content == "\n\n".join(["Here.", *[drawn(png())] * n])
        part = {"type": "image_url", "image_url": {"url": data_url(png())}}
        assert message.content_parts == [{"type": "text", "text": "Here."}, *[part] * n]
        assert message.images == [{**part, "index": at} for at in range(n)]

    async def test_a_gateways_answer_differs_from_openais_types_only_where_those_end(
        self, working: Front
    ) -> None:
        ask = {"model": "sketch", "messages": [user("a boat")], "tools": [TOOL]}
        body = await (await working.post(CHAT, ask)).read()
        with pytest.raises(ValidationError) as refused:
            ChatCompletion.model_validate_json(body, strict=True)
        message = ("choices", 0, "message")
        assert {error["loc"][:4] for error in refused.value.errors()} == {
            (*message, "content"),
            (*message, "tool_calls"),
        }

    async def test_the_tools_settings_are_applied(self, working: Front) -> None:
        settings = {
            "background": "transparent",
            "moderation": "low",
            "output_compression": 50,
            "output_format": "webp",
            "quality": "high",
            "size": "64x64",
            "watermark": True,
            "partial_images": 1,
            "input_fidelity": "high",
        }
        tool = {"type": "image_generation", "image_generation": settings}
        await working.post(CHAT, {"model": "sketch", "messages": [user("x")], "tools": [tool]})
        request = working.worker.made[0].request
        for name, value in settings.items():
            expected = None if name == "partial_images" else value
            assert getattr(request, name) == expected, name

    async def test_an_image_in_the_last_message_makes_an_edit(self, working: Front) -> None:
        messages = [user("old", picture(9)), user("make it blue", picture(5), picture(6))]
        await working.post(CHAT, {"model": "sketch", "messages": messages})
        (job,) = working.worker.made
        assert (job.type, len(job.request.images)) == ("edit", 2)
        assert job.request.prompt == "make it blue"
        assert [warning.param for warning in job.warnings] == ["messages"]

    async def test_what_the_assistant_made_is_edited_further(self, working: Front) -> None:
        first = await working.post(CHAT, {"model": "sketch", "messages": [user("a boat")]})
        said = (await first.json())["choices"][0]["message"]
        again = [user("a boat"), said, user("make it blue")]
        answer = await working.post(CHAT, {"model": "sketch", "messages": again})
        assert answer.status == 200, await answer.text()
        job = working.worker.made[-1]
        assert (job.type, len(job.request.images)) == ("edit", 1)

    @pytest.mark.parametrize("kept", [("content",), ("content_parts",), ("images",), ()], ids=str)
    @pytest.mark.parametrize("size", [100, 1_200_000], ids=["small", "large"])
    async def test_whatever_a_client_keeps_of_an_answer_holds_its_image(
        self, working: Front, kept: tuple[str, ...], size: int
    ) -> None:
        url = data_url(noise(size))
        part = {"type": "image_url", "image_url": {"url": url}}
        message = {"content": f"![image]({url})", "content_parts": [part], "images": [part]}
        said = {name: message[name] for name in kept or message}
        again = [user("a boat"), {"role": "assistant", **said}, user("make it blue")]
        answer = await working.post(CHAT, {"model": "sketch", "messages": again})
        assert answer.status == 200, await answer.text()
        (job,) = working.worker.made
        assert [image.bytes for image in job.request.images] == [len(noise(size))]

    async def test_markdown_of_a_user_is_only_text(self, working: Front) -> None:
        messages = [{"role": "user", "content": f"like this: {drawn(png())}"}]
        answer = await working.post(CHAT, {"model": "sketch", "messages": messages})
        assert answer.status == 200, await answer.text()
        assert working.worker.made[0].type == "generation"

    async def test_a_mask_comes_with_the_tool(self, working: Front) -> None:
        mask = {"image_url": data_url(png(alpha=True))}
        tool = {"type": "image_generation", "image_generation": {"input_image_mask": mask}}
        ask = {"model": "sketch", "messages": [user("x", picture())], "tools": [tool]}
        assert (await working.post(CHAT, ask)).status == 200
        assert working.worker.made[0].request.mask is not None

    async def test_words_of_the_upstream_are_passed_on(self, working: Front) -> None:
        working.worker.text = "I would rather not."
        working.worker.failure = Failure(code=FailureCode.NO_IMAGE, message="No picture came.")
        answer = await working.post(CHAT, {"model": "sketch", "messages": [user("x")]})
        assert answer.status == 200
        message = (await answer.json())["choices"][0]["message"]
        assert message == {"role": "assistant", "content": "I would rather not."}

    async def test_tokens_are_shown_as_chat_does(self, working: Front) -> None:
        working.worker.usage = Usage(input_tokens=3, output_tokens=4)
        answer = await working.post(CHAT, {"model": "sketch", "messages": [user("x")]})
        usage = (await answer.json())["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (3, 4)

    async def test_a_stream_carries_images_in_its_deltas(self, working: Front) -> None:
        ask = {
            "model": "sketch",
            "messages": [user("a boat")],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        working.worker.text = "Here."
        chunks = [event.data for event in await all_events(await working.post(CHAT, ask))]
        for chunk in chunks[:-1]:
            ChatCompletionChunk.model_validate(chunk, strict=True)
        assert chunks[-1] == {"done": True}
        assert chunks[-2]["usage"]["total_tokens"] == 0
        deltas = [chunk["choices"][0] for chunk in chunks[:-2]]
        assert deltas[0]["delta"]["role"] == "assistant"
        (image,) = deltas[1]["delta"]["images"]
        assert image["image_url"]["url"] == data_url(png())
        said = "".join(choice["delta"].get("content", "") for choice in deltas)
        assert said == f"{drawn(png())}\n\nHere."
        assert deltas[-1]["finish_reason"] == "stop"

    async def test_a_gateways_stream_has_the_images_beside_the_text(self, working: Front) -> None:
        ask = {"model": "sketch", "messages": [user("a boat")], "stream": True}
        working.worker.text = "Here."
        chunks = [event.data for event in await all_events(await working.post(GATEWAY, ask))]
        deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
        assert "".join(delta.get("content", "") for delta in deltas) == "Here."
        assert [len(delta["images"]) for delta in deltas if "images" in delta] == [1]

    async def test_a_failed_stream_says_so(self, working: Front) -> None:
        working.worker.failure = Failure(code=FailureCode.CONTENT_POLICY, message="No.")
        ask = {"model": "sketch", "messages": [user("x")], "stream": True}
        chunks = [event.data for event in await all_events(await working.post(CHAT, ask))]
        assert chunks[-2]["error"]["code"] == "moderation_blocked"

    @pytest.mark.parametrize(
        ("ask", "param"),
        [
            ({}, "messages"),
            ({"messages": []}, "messages"),
            ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
            ({"messages": [{"role": "user", "content": " "}]}, "messages"),
            ({"messages": [{"role": "user", "content": 1}]}, "messages.0.content"),
            (
                {"messages": [user("x", {"type": "image_url", "image_url": {"url": "!"}})]},
                "messages.0",
            ),
            (
                {"messages": [user("x", {"type": "image_url", "image_url": 5})]},
                "messages.0.content.1.image_url",
            ),
            ({"messages": [user("x")], "model": "nope"}, "model"),
            ({"messages": [user("x")], "n": 0}, "n"),
            ({"messages": [user("x")], "stream": "yes"}, "stream"),
            ({"messages": "x"}, "messages"),
        ],
    )
    async def test_what_is_not_right_is_named(
        self, front: Front, ask: dict[str, Any], param: str
    ) -> None:
        answer = await front.post(CHAT, {"model": "sketch", **ask})
        error = (await answer.json())["error"]
        assert answer.status in {400, 404}, error
        assert error["param"] == param
        assert await front.queued() == 0

    async def test_prefer_and_idempotency_hold_here_too(self, front: Front) -> None:
        ask = {"model": "sketch", "messages": [user("x")]}
        headers = {"Prefer": "respond-async", "Idempotency-Key": "k"}
        first = await front.post(CHAT, ask, headers=headers)
        again = await front.post(CHAT, ask, headers=headers)
        assert first.status == again.status == 202
        assert (await first.json())["id"] == (await again.json())["id"]


class TestTheHub:
    PATH = "/api/images/generations"

    async def test_links_come_by_default_and_live_an_hour(self, working: Front) -> None:
        answer = await working.post(self.PATH, {"prompt": "x", "size": "64x64"})
        body = await answer.json()
        assert answer.status == 200, body
        (image,) = body["data"]
        assert isinstance(body["created"], int)
        expires = int(image["url"].partition("expires=")[2].partition("&")[0])
        assert expires == pytest.approx(working.context.clock() + 3600, abs=5)

    @pytest.mark.parametrize("several", [False, True])
    async def test_an_image_makes_an_edit(self, working: Front, several: bool) -> None:
        image: Any = data_url(png())
        ask = {"prompt": "x", "image": [image, image] if several else image}
        answer = await working.post(self.PATH, {**ask, "response_format": "b64_json"})
        assert answer.status == 200, await answer.text()
        assert "b64_json" in (await answer.json())["data"][0]
        assert len(working.worker.made[0].request.images) == 1 + several


class TestVariations:
    async def test_a_variation_is_an_edit_that_says_so(self, working: Front) -> None:
        form = FormData({"n": "2", "size": "64x64", "response_format": "url"})
        form.add_field("image", png(), filename="a.png")
        answer = await working.post("/v1/images/variations", data=form)
        body = await answer.json()
        assert answer.status == 200, body
        assert len(body["data"]) == 2
        assert working.worker.made[0].type == "edit"
        assert [warning["param"] for warning in body["warnings"]] == ["prompt"]

    async def test_it_needs_one_image(self, front: Front) -> None:
        form = FormData({"n": "1"}, default_to_multipart=True)
        answer = await front.post("/v1/images/variations", data=form)
        assert (answer.status, (await answer.json())["error"]["param"]) == (400, "image")


TOOLS = [{"type": "image_generation", "size": "64x64"}]


class TestResponses:
    async def test_the_image_is_the_result_of_a_call(self, working: Front) -> None:
        ask = {"model": "gpt-5.6", "input": "a boat", "tools": TOOLS}
        body = await (await working.post(RESPONSES, ask)).json()
        response = Response.model_validate(body)
        (item,) = response.output
        assert item.type == "image_generation_call"
        assert base64.b64decode(item.result or "") == png()
        assert (response.status, response.model) == ("completed", "sketch")
        assert working.worker.made[0].warnings[0].requested == "gpt-5.6"

    async def test_the_tools_own_model_counts(self, front: Front) -> None:
        tools = [{"type": "image_generation", "model": "nope"}]
        answer = await front.post(RESPONSES, {"model": "m", "input": "x", "tools": tools})
        assert answer.status == 404

    async def test_in_the_background_it_is_read_later(self, front: Front) -> None:
        ask = {"input": "a boat", "tools": TOOLS, "background": True}
        body = await (await front.post(RESPONSES, ask)).json()
        begun = Response.model_validate(body)
        assert (begun.status, begun.background) == ("queued", True)
        await front.worker.finish(await the_job(front))
        shown = await (await front.get(f"{RESPONSES}/{body['id']}")).json()
        assert Response.model_validate(shown).status == "completed"
        assert shown["output"][0]["result"]

    async def test_it_can_be_cancelled_and_forgotten(self, front: Front) -> None:
        ask = {"input": "a boat", "background": True}
        body = await (await front.post(RESPONSES, ask)).json()
        path = f"{RESPONSES}/{body['id']}"
        for _ in range(2):
            answer = await front.post(f"{path}/cancel")
            assert (await answer.json())["status"] == "cancelled"
        assert (await front.request("DELETE", path)).status == 200
        assert (await front.get(path)).status == 404

    async def test_an_image_in_the_input_makes_an_edit(self, working: Front) -> None:
        content = [
            {"type": "input_text", "text": "make it blue"},
            {"type": "input_image", "image_url": data_url(png())},
        ]
        ask = {"input": [{"role": "user", "content": content}], "tools": TOOLS}
        assert (await working.post(RESPONSES, ask)).status == 200
        assert working.worker.made[0].type == "edit"

    async def test_an_earlier_response_is_edited_further(self, working: Front) -> None:
        first = await (await working.post(RESPONSES, {"input": "a boat"})).json()
        calls = [item["id"] for item in first["output"]]
        message = {"role": "user", "content": "make it blue"}
        for ask in (
            {"input": "make it blue", "previous_response_id": first["id"]},
            {"input": [{"type": "image_generation_call", "id": calls[0]}, message]},
            {"input": [first["output"][0], message]},
        ):
            answer = await working.post(RESPONSES, ask)
            assert answer.status == 200, await answer.text()
            assert working.worker.made[-1].type == "edit"

    async def test_nobody_edits_what_another_made(self, working: Front) -> None:
        first = await (await working.post(RESPONSES, {"input": "a boat"})).json()
        bob = {"Authorization": f"Bearer {await working.new_key('bob')}"}
        for ask in (
            {"input": "x", "previous_response_id": first["id"]},
            {
                "input": [
                    {"type": "image_generation_call", "id": first["output"][0]["id"]},
                    {"role": "user", "content": "x"},
                ]
            },
        ):
            assert (await working.post(RESPONSES, ask, headers=bob)).status == 400

    async def test_a_failure_is_an_error_at_once_and_a_status_later(self, working: Front) -> None:
        working.worker.failure = Failure(code=FailureCode.CONTENT_POLICY, message="No.")
        answer = await working.post(RESPONSES, {"input": "x"})
        assert answer.status == 400
        response_id = "resp_" + answer.headers["X-Job-Id"].removeprefix("job_")
        shown = await (await working.get(f"{RESPONSES}/{response_id}")).json()
        response = Response.model_validate(shown)
        assert response.status == "failed"
        assert response.error is not None
        assert response.error.code == "image_content_policy_violation"

    async def test_a_stream_tells_every_step_in_order(self, front: Front) -> None:
        tools = [{**TOOLS[0], "partial_images": 1}]
        asking = asyncio.create_task(
            front.post(RESPONSES, {"input": "x", "tools": tools, "stream": True})
        )
        job = await the_job(front)
        answer = await asking
        await front.context.jobs.tell_partial(job, 0, 0, png(value=3))
        await front.worker.finish(job)
        events = await all_events(answer)
        call = "response.image_generation_call"
        assert [event.name for event in events] == [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            f"{call}.in_progress",
            f"{call}.partial_image",
            f"{call}.generating",
            f"{call}.completed",
            "response.output_item.done",
            "response.completed",
        ]
        assert [event.data["sequence_number"] for event in events] == list(range(9))
        assert events[-2].data["item"]["result"]
        assert Response.model_validate(events[-1].data["response"]).status == "completed"

    @pytest.mark.parametrize(
        ("ask", "param"),
        [
            ({}, "input"),
            ({"input": ""}, "input"),
            ({"input": []}, "input"),
            ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input"),
            ({"input": "x", "previous_response_id": "resp_nobodys00"}, "previous_response_id"),
            ({"input": "x", "tools": [{"type": "image_generation", "action": "edit"}]}, "input"),
            (
                {"input": "x", "tools": [{"type": "image_generation", "size": "big"}]},
                "tools.0.size",
            ),
            ({"input": 5}, "input"),
        ],
    )
    async def test_what_is_not_right_is_named(
        self, front: Front, ask: dict[str, Any], param: str
    ) -> None:
        answer = await front.post(RESPONSES, ask)
        error = (await answer.json())["error"]
        assert (answer.status, error["param"]) == (400, param), error


class TestJobEvents:
    async def test_every_step_is_told(self, front: Front) -> None:
        job = await (await front.post("/v1/jobs", {"prompt": "x", "n": 2})).json()
        asking = asyncio.create_task(front.get(f"/v1/jobs/{job['id']}/events"))
        answer = await asking
        found = await the_job(front)
        await front.context.jobs.tell_partial(found, 1, 0, png())
        await front.worker.finish(found)
        events = await all_events(answer)
        names = [event.name for event in events]
        assert names == [
            "job.queued",
            "job.partial_image",
            "job.started",
            "job.image",
            "job.image",
            "job.succeeded",
        ]
        assert events[0].data["queue_position"] == 0
        assert events[3].data["url"]
        assert events[-1].data["status"] == "succeeded"

    async def test_whoever_comes_back_hears_only_what_is_new(self, working: Front) -> None:
        answer = await working.post(
            "/v1/jobs", {"prompt": "x", "n": 3}, headers={"Prefer": "wait=3"}
        )
        path = f"/v1/jobs/{(await answer.json())['id']}/events"
        everything = await all_events(await working.get(path))
        for at, event in enumerate(everything[:-1]):
            assert event.mark is not None
            rest = await working.get(path, headers={"Last-Event-ID": event.mark})
            heard = [later.mark for later in await all_events(rest)]
            assert heard == [later.mark for later in everything[at + 1 :]]
        last = everything[-1].mark or ""
        assert (await working.get(path, headers={"Last-Event-ID": last})).status == 204

    @pytest.mark.parametrize("mark", ["", "x", "ended", "running-zz", "queued-" + "f" * 99])
    async def test_an_odd_mark_means_from_the_beginning(self, working: Front, mark: str) -> None:
        answer = await working.post("/v1/jobs", {"prompt": "x"}, headers={"Prefer": "wait=3"})
        path = f"/v1/jobs/{(await answer.json())['id']}/events"
        events = await all_events(await working.get(path, headers={"Last-Event-ID": mark}))
        assert events[0].name == "job.queued"
