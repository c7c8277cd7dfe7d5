"""The `openai` SDK for Python beyond plain images: streams, chat, Responses, files."""

import base64
import io
import time

import openai
import pytest
from openai import OpenAI
from openai.types.responses.tool_param import ImageGeneration
from PIL import Image

from tests.images import photograph
from tests.processes import Installation


TOOL: ImageGeneration = {"type": "image_generation", "size": "512x512"}


@pytest.fixture
def client(darkroom: Installation) -> OpenAI:
    return OpenAI(base_url=f"{darkroom.url}/v1", api_key=darkroom.key, max_retries=0)


def opened(text: str | None) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text or "")))


def data_url(data: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


class TestStreams:
    def test_previews_come_before_the_image(self, client: OpenAI) -> None:
        stream = client.images.generate(
            model="sketch", prompt="a lighthouse", size="512x512", stream=True, partial_images=2
        )
        events = list(stream)
        kinds = [event.type for event in events]
        assert kinds[-1] == "image_generation.completed"
        assert kinds[:-1] == ["image_generation.partial_image"] * 2
        for event in events:
            assert opened(event.b64_json).size == (512, 512)

    def test_previews_of_the_upstream_are_passed_on(self, client: OpenAI) -> None:
        stream = client.images.generate(
            model="gpt-image-2",
            prompt="a lighthouse",
            size="1024x1024",
            stream=True,
            partial_images=2,
        )
        events = list(stream)
        assert events[-1].type == "image_generation.completed"
        assert events[-1].usage.total_tokens > 0
        assert len(events) > 1

    def test_an_edit_streams_too(self, client: OpenAI) -> None:
        stream = client.images.edit(
            model="sketch",
            image=("a.jpg", photograph(), "image/jpeg"),
            prompt="at night",
            stream=True,
            partial_images=1,
        )
        assert [event.type for event in stream] == [
            "image_edit.partial_image",
            "image_edit.completed",
        ]

    def test_a_refusal_ends_the_stream_as_an_error(self, client: OpenAI) -> None:
        stream = client.images.generate(
            model="gpt-image-2", prompt="a [[refuse:input]] picture", stream=True
        )
        with pytest.raises(openai.APIError, match=r"."):
            list(stream)


class TestVariations:
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")  # OpenAI's own, of its SDK
    def test_a_variation_of_a_photograph(self, client: OpenAI) -> None:
        answer = client.images.create_variation(
            model="sketch", image=("a.jpg", photograph(), "image/jpeg"), n=2, size="512x512"
        )
        assert answer.data is not None
        assert len(answer.data) == 2


class TestChat:
    def test_the_image_is_in_the_message(self, client: OpenAI) -> None:
        answer = client.chat.completions.create(
            model="sketch", messages=[{"role": "user", "content": "a lighthouse"}]
        )
        message = answer.choices[0].message
        [image] = message.images  # type: ignore[attr-defined]  # not OpenAI's own
        assert opened(image["image_url"]["url"].partition(",")[2]).format == "PNG"
        [part] = message.content_parts  # type: ignore[attr-defined]  # of stored messages
        assert part["image_url"] == image["image_url"]
        assert message.content == f"![image]({image['image_url']['url']})"

    def test_it_can_be_asked_to_go_on(self, client: OpenAI) -> None:
        first = client.chat.completions.create(
            model="sketch", messages=[{"role": "user", "content": "a lighthouse"}]
        )
        said = first.choices[0].message.model_dump()
        again = client.chat.completions.create(
            model="sketch",
            messages=[
                {"role": "user", "content": "a lighthouse"},
                said,  # type: ignore[list-item]  # as it came
                {"role": "user", "content": "make it blue"},
            ],
        )
        assert again.choices[0].message.images  # type: ignore[attr-defined]  # not OpenAI's own

    def test_a_stream_carries_the_image(self, client: OpenAI) -> None:
        stream = client.chat.completions.create(
            model="sketch",
            messages=[{"role": "user", "content": "a lighthouse"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
        found = [
            image
            for chunk in chunks
            if chunk.choices
            for image in getattr(chunk.choices[0].delta, "images", None) or ()
        ]
        assert len(found) == 1
        assert chunks[-1].usage is not None
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"


class TestResponses:
    def test_the_tool_makes_an_image(self, client: OpenAI) -> None:
        response = client.responses.create(
            model="gpt-5.6", input="a lighthouse", tools=[TOOL], tool_choice="auto"
        )
        [call] = [item for item in response.output if item.type == "image_generation_call"]
        assert (call.status, response.status) == ("completed", "completed")
        assert opened(call.result).size == (512, 512)

    def test_an_image_is_edited_further(self, client: OpenAI) -> None:
        first = client.responses.create(
            model="sketch",
            input=[
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "at night"},
                        {
                            "type": "input_image",
                            "image_url": data_url(photograph()),
                            "detail": "auto",
                        },
                    ],
                }
            ],
            tools=[TOOL],
        )
        second = client.responses.create(
            model="sketch", input="make it blue", previous_response_id=first.id, tools=[TOOL]
        )
        [call] = second.output
        assert call.type == "image_generation_call"
        assert call.action == "edit"

    def test_in_the_background_it_is_polled_and_can_be_cancelled(self, client: OpenAI) -> None:
        response = client.responses.create(
            model="gpt-image-2", input="a [[slow:1]] lighthouse", background=True, tools=[TOOL]
        )
        assert response.status == "queued"
        for _ in range(200):
            time.sleep(0.05)
            response = client.responses.retrieve(response.id)
            if response.status not in {"queued", "in_progress"}:
                break
        assert response.status == "completed"
        slow = client.responses.create(
            model="gpt-image-2", input="a [[slow:20]] lighthouse", background=True, tools=[TOOL]
        )
        assert client.responses.cancel(slow.id).status == "cancelled"

    def test_a_stream_tells_the_tools_steps(self, client: OpenAI) -> None:
        stream = client.responses.create(
            model="sketch",
            input="a lighthouse",
            stream=True,
            tools=[{**TOOL, "partial_images": 2}],
        )
        events = list(stream)
        kinds = [event.type for event in events]
        assert kinds[0] == "response.created"
        assert kinds[-1] == "response.completed"
        assert kinds.count("response.image_generation_call.partial_image") == 2
        last = events[-1]
        assert last.type == "response.completed"
        assert last.response.output[0].type == "image_generation_call"
        assert [event.sequence_number for event in events] == list(range(len(events)))


class TestFiles:
    def test_a_file_is_uploaded_named_and_forgotten(self, client: OpenAI) -> None:
        file = client.files.create(
            file=("photo.jpg", photograph(), "image/jpeg"),
            purpose="vision",
            expires_after={"anchor": "created_at", "seconds": 7200},
        )
        assert file.status == "processed"
        assert client.files.content(file.id).read() == photograph()
        response = client.responses.create(
            model="sketch",
            input=[
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "at night"},
                        {"type": "input_image", "file_id": file.id, "detail": "auto"},
                    ],
                }
            ],
            tools=[TOOL],
        )
        assert response.output[0].type == "image_generation_call"
        assert file.id in {found.id for found in client.files.list()}
        assert client.files.delete(file.id).deleted
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(file.id)
