"""What OpenAI's doors answer, read with the types of its own package, required fields and all."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from openai.types import (
    FileObject,
    ImageEditCompletedEvent,
    ImageEditPartialImageEvent,
    ImageGenCompletedEvent,
    ImageGenPartialImageEvent,
    ImagesResponse,
    Model,
)
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.images import photograph
from tests.processes import Installation


PHOTO = "data:image/jpeg;base64," + base64.b64encode(photograph()).decode()
FORM = {"image": ("a.jpg", photograph(), "image/jpeg")}


@pytest.fixture
def call(darkroom: Installation) -> Any:
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {darkroom.key}"

        def ask(path: str, body: Any = None, **options: Any) -> Any:
            method = "GET" if body is None and not options else "POST"
            return session.request(
                method, f"{darkroom.url}{path}", json=body, timeout=60, **options
            )

        yield ask


def events(answer: Any) -> Iterator[dict[str, Any]]:
    for line in answer.iter_lines():
        if line.startswith(b"data: {"):
            yield json.loads(line[6:])


@pytest.mark.parametrize("model", ["sketch", "gpt-image-2"])
@pytest.mark.parametrize("form", ["url", "b64_json"])
def test_images(call: Any, model: str, form: str) -> None:
    ask = {"prompt": "a lighthouse", "model": model, "response_format": form, "n": 2}
    answer = call("/v1/images/generations", {**ask, "quality": "hd", "style": "vivid"})
    assert answer.status_code == 200, answer.text
    assert len(ImagesResponse.model_validate_json(answer.content, strict=True).data or ()) == 2
    edit = call("/v1/images/edits", data={"prompt": "at night", "model": model}, files=FORM)
    ImagesResponse.model_validate_json(edit.content, strict=True)


def test_events_of_images(call: Any) -> None:
    ask = {"prompt": "a lighthouse", "model": "sketch", "stream": True, "partial_images": 1}
    partial, completed = events(call("/v1/images/generations", ask))
    ImageGenPartialImageEvent.model_validate(partial, strict=True)
    ImageGenCompletedEvent.model_validate(completed, strict=True)
    fields = {name: str(value).lower() for name, value in ask.items()}
    partial, completed = events(call("/v1/images/edits", data=fields, files=FORM))
    ImageEditPartialImageEvent.model_validate(partial, strict=True)
    ImageEditCompletedEvent.model_validate(completed, strict=True)


def test_responses(call: Any) -> None:
    tools = [{"type": "image_generation", "partial_images": 1}]
    ask = {"model": "sketch", "input": "a lighthouse", "tools": tools}
    Response.model_validate_json(call("/v1/responses", ask).content)
    adapter: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
    for event in events(call("/v1/responses", {**ask, "stream": True})):
        adapter.validate_python(event)


@pytest.mark.parametrize("model", ["sketch", "gpt-image-2"])
@pytest.mark.parametrize(
    "content",
    [
        "a lighthouse",
        [{"type": "text", "text": "at night"}, {"type": "image_url", "image_url": {"url": PHOTO}}],
    ],
    ids=["text", "image"],
)
def test_chat(call: Any, model: str, content: Any) -> None:
    ask = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 4096}
    answer = call("/v1/chat/completions", ask)
    message = ChatCompletion.model_validate_json(answer.content, strict=True).choices[0].message
    assert (message.content or "").startswith("![image](data:image/png;base64,")
    for chunk in events(call("/v1/chat/completions", {**ask, "stream": True})):
        ChatCompletionChunk.model_validate(chunk, strict=True)


def test_models_and_files(call: Any) -> None:
    for model in call("/v1/models").json()["data"]:
        Model.model_validate(model, strict=True)
    files = {"file": ("a.jpg", photograph(), "image/jpeg")}
    file = call("/v1/files", data={"purpose": "vision"}, files=files)
    FileObject.model_validate_json(file.content, strict=True)


def test_b64_is_what_the_link_opens(call: Any) -> None:
    headers = {"Idempotency-Key": "the-same"}
    ask = {"prompt": "a lighthouse", "model": "sketch", "response_format": "b64_json"}
    inline = call("/v1/images/generations", ask, headers=headers).json()
    job = call(f"/v1/jobs/{inline['job_id']}").json()
    opened = requests.get(job["images"][0]["url"], timeout=10).content
    assert base64.b64decode(inline["data"][0]["b64_json"]) == opened
